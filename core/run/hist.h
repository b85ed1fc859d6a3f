/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hist.h: a histogram of durations of constant size: 32 buckets an octave, so quantiles are within 3 %. Any thread may add and
 * read, without a lock. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "core/sluice.h"

enum { HIST_SUB = 32, HIST_OCTAVES = 42, HIST_BUCKETS = HIST_SUB * HIST_OCTAVES };

struct hist {
	_Atomic uint64_t count, sum_ns, min_ns, max_ns; /* min_ns holds min + 1; 0: none */
	_Atomic uint32_t buckets[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t ns);
/* `unit_ns`: 1e3 for microseconds, 1e6 for milliseconds. */
void hist_read(const struct hist *hist, double unit_ns, struct sluice_hist *ret);
