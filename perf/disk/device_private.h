/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What device.c and control.c share. */
#ifndef PERF_DISK_DEVICE_PRIVATE_H
#define PERF_DISK_DEVICE_PRIVATE_H

#include "perf/disk/device.h"

/* The thread. */
void *device_body(void *arg);
/* The device has it no more. Thread: the device's, or while there is none. */
void device_free_flight(struct device *device, struct flight *flight);

#endif
