/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In which order a guest thread writes its pages. */
#ifndef PERF_PATTERN_H
#define PERF_PATTERN_H

#include <stdint.h>

enum pattern_kind { PATTERN_SEQ, PATTERN_RAND, PATTERN_ZIPF, PATTERN_GC };

/* Set once. */
struct pattern {
	enum pattern_kind kind;
	uint64_t items, period;                         /* period: of the position */
	double integral_first, integral_last, shortcut; /* zipf */
};

/* Where a thread is in its sequence: guest state, it travels. */
struct pattern_state {
	uint64_t rng;
	uint64_t position; /* below period */
};

/* gc: as garbage collectors do: a burst of allocation, page by page through an eighth of all, then a sweep over the rest that
 * writes every 17th page. items: at least 1. */
void pattern_init(struct pattern *pattern, enum pattern_kind kind, uint64_t items);

/* The next item, in [0, items). O(1). */
uint64_t pattern_next(const struct pattern *pattern, struct pattern_state *state);

#endif
