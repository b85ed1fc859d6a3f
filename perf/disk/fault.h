/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What goes wrong with a disk, on purpose. */
#ifndef PERF_DISK_FAULT_H
#define PERF_DISK_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault_kind { FAULT_NONE, FAULT_HANG, FAULT_FAIL, FAULT_SLOW, FAULT_BURST };

#define FAULT_MAX_MS 3600000u
#define FAULT_MAX_EVERY 1000000u
#define FAULT_MAX_BURST 1000000u

struct fault {
	enum fault_kind kind;
	/* hang: for so many ms does one request of each migration hang, 0: for ever; fail: one of so many fails; slow: each
	 * takes so many ms longer; burst: the guest asks for little until the depth is first lowered, then for all it may, and
	 * so many are taken as if they had come before that */
	uint64_t value;
};

/* Names by kind; NULL-terminated. */
extern const char *const fault_names[];

/* "hang:MS", "fail:N", "slow:MS" or "burst:N". 0 or -EINVAL. */
int fault_parse(const char *text, struct fault *ret);
/* Whether it is one that fault_parse() could have made, or none. */
bool fault_is_valid(const struct fault *fault);

#endif
