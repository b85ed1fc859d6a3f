/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A histogram of durations, of fixed size: quantiles to within 1.6 %, extremes exact. Not thread-safe. */
#ifndef PERF_HISTOGRAM_H
#define PERF_HISTOGRAM_H

#include <stdint.h>

#include <sluice.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t count, min, max;
	double sum;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);

/* The figures in units of `unit_ns`. */
void histogram_summary(const struct histogram *histogram, double unit_ns, struct sluice_hist *ret);

#endif
