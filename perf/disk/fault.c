/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What goes wrong with a disk, on purpose. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "perf/disk/fault.h"

const char *const fault_names[] = { "none", "hang", "fail", "slow", "burst", NULL };

bool fault_is_valid(const struct fault *fault)
{
	switch (fault->kind) {
	case FAULT_NONE: return !fault->value;
	case FAULT_HANG: return fault->value <= FAULT_MAX_MS;
	case FAULT_FAIL: return fault->value >= 2 && fault->value <= FAULT_MAX_EVERY; /* every one: nothing would ever be done */
	case FAULT_SLOW: return fault->value && fault->value <= FAULT_MAX_MS;
	default: return fault->value && fault->value <= FAULT_MAX_BURST;
	}
}

int fault_parse(const char *text, struct fault *ret)
{
	const char *colon = strchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0, digits = colon ? strspn(colon + 1, "0123456789") : 0;

	if (!digits || digits > 9 || colon[1 + digits])
		return -EINVAL;
	for (int kind = FAULT_HANG; fault_names[kind]; kind++) {
		if (strlen(fault_names[kind]) == length && !strncmp(text, fault_names[kind], length)) {
			*ret = (struct fault){ (enum fault_kind)kind, strtoull(colon + 1, NULL, 10) };
			return fault_is_valid(ret) ? 0 : -EINVAL;
		}
	}
	return -EINVAL;
}
