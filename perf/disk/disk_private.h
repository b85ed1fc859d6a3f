/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a disk is made of. For perf/disk/disk.c and audit.c; others see disk.h. */
#ifndef PERF_DISK_DISK_PRIVATE_H
#define PERF_DISK_DISK_PRIVATE_H

#include "perf/disk/device.h"
#include "perf/disk/disk.h"
#include "perf/disk/driver.h"

struct disk {
	/* set once */
	struct disk_settings settings;
	struct memory memory;

	struct image image; /* by whoever acquires and releases */
	struct device device;
	struct driver driver[AREA_QUEUES];
	struct driver_gaps gaps;
	_Atomic bool calm; /* the guest's burst is still to come */

	/* under gaps.lock */
	uint64_t quiet_since_ns; /* depth 0 since then; 0: it is not */
	struct histogram quiet;  /* how long that was, where it came to an end */

	/* The section. Both ends are little-endian: sluice runs on x86-64 and arm64. */
	struct disk_wire {
		uint64_t id;
		uint32_t depth, reserved;
		struct device_state device;
	} wire;
};
_Static_assert(sizeof(struct disk_wire) == 40 + 8 * AREA_QUEUES, "no holes");

#endif
