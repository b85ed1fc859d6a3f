/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A histogram of durations, of fixed size: 64 buckets for each power of two. */
#include <math.h>
#include <string.h>

#include "perf/histogram.h"

static unsigned bucket_of(uint64_t ns)
{
	unsigned top;

	if (ns >> HISTOGRAM_SUB_BITS == 0)
		return (unsigned)ns;
	top = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_SUB_BITS;
	return ((top + 1) << HISTOGRAM_SUB_BITS) + (unsigned)((ns >> top) - (1u << HISTOGRAM_SUB_BITS));
}

/* The middle of a bucket. */
static double value_of(unsigned bucket)
{
	unsigned group = bucket >> HISTOGRAM_SUB_BITS, sub = bucket & ((1u << HISTOGRAM_SUB_BITS) - 1);

	if (!group)
		return sub;
	return ldexp((1u << HISTOGRAM_SUB_BITS) + sub + 0.5, (int)group - 1);
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
	if (!histogram->count || ns < histogram->min)
		histogram->min = ns;
	if (ns > histogram->max)
		histogram->max = ns;
	histogram->count++;
	histogram->sum += (double)ns;
	histogram->bucket[bucket_of(ns)]++;
}

static double quantile(const struct histogram *histogram, double q)
{
	uint64_t want = (uint64_t)((double)histogram->count * q), seen = 0;
	double value;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->bucket[i];
		if (seen > want) {
			value = value_of(i);
			return fmin(fmax(value, (double)histogram->min), (double)histogram->max);
		}
	}
	return (double)histogram->max;
}

void histogram_summary(const struct histogram *histogram, double unit_ns, struct sluice_hist *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!histogram->count)
		return;
	ret->count = histogram->count;
	ret->min = (double)histogram->min / unit_ns;
	ret->max = (double)histogram->max / unit_ns;
	ret->mean = histogram->sum / (double)histogram->count / unit_ns;
	ret->p50 = quantile(histogram, 0.5) / unit_ns;
	ret->p90 = quantile(histogram, 0.9) / unit_ns;
	ret->p99 = quantile(histogram, 0.99) / unit_ns;
	ret->p999 = quantile(histogram, 0.999) / unit_ns;
}
