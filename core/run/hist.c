/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hist.c: log-linear buckets. */
#include "core/run/hist.h"

#include <string.h>

static uint32_t bucket_of(uint64_t ns)
{
	if (ns < HIST_SUB)
		return (uint32_t)ns;
	uint32_t octave = 63 - (uint32_t)__builtin_clzll(ns) - 5 + 1; /* 5: log2 HIST_SUB */
	uint32_t b = octave * HIST_SUB + (uint32_t)((ns >> (octave - 1)) & (HIST_SUB - 1));
	return b < HIST_BUCKETS ? b : HIST_BUCKETS - 1;
}

/* The middle of a bucket. */
static double value_of(uint32_t b)
{
	if (b < HIST_SUB)
		return b;
	uint32_t octave = b / HIST_SUB;
	return (double)(((uint64_t)HIST_SUB + b % HIST_SUB) << (octave - 1)) + (double)(1ull << (octave - 1)) / 2;
}

void hist_add(struct hist *h, uint64_t ns)
{
	atomic_fetch_add_explicit(&h->buckets[bucket_of(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
	uint64_t seen = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
	while (ns > seen &&
	       !atomic_compare_exchange_weak_explicit(&h->max_ns, &seen, ns, memory_order_relaxed, memory_order_relaxed))
		;
	seen = atomic_load_explicit(&h->min_ns, memory_order_relaxed);
	while ((!seen || ns + 1 < seen) &&
	       !atomic_compare_exchange_weak_explicit(&h->min_ns, &seen, ns + 1, memory_order_relaxed, memory_order_relaxed))
		;
	atomic_fetch_add_explicit(&h->count, 1, memory_order_release);
}

void hist_read(const struct hist *h, double unit_ns, struct sluice_hist *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->count = atomic_load_explicit(&h->count, memory_order_acquire);
	if (!ret->count)
		return;
	double max = (double)atomic_load_explicit(&h->max_ns, memory_order_relaxed);
	double min = (double)(atomic_load_explicit(&h->min_ns, memory_order_relaxed) - 1);
	ret->min = min / unit_ns;
	ret->max = max / unit_ns;
	ret->mean = (double)atomic_load_explicit(&h->sum_ns, memory_order_relaxed) / (double)ret->count / unit_ns;
	struct {
		double q;
		double *ret;
	} at[] = {
		{ 0.5, &ret->p50 },
		{ 0.9, &ret->p90 },
		{ 0.99, &ret->p99 },
		{ 0.999, &ret->p999 },
	};
	uint64_t below = 0;
	uint32_t next = 0;
	for (uint32_t b = 0; b < HIST_BUCKETS && next < 4; b++) {
		below += atomic_load_explicit(&h->buckets[b], memory_order_relaxed);
		while (next < 4 && (double)below > at[next].q * (double)(ret->count - 1)) {
			double v = value_of(b);
			v = v < min ? min : v; /* the middle of a bucket may lie beyond what was seen */
			*at[next++].ret = (v < max ? v : max) / unit_ns;
		}
	}
	while (next < 4)
		*at[next++].ret = ret->max;
}
