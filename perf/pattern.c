/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In which order a guest thread writes its pages.
 *
 * Zipf numbers come from rejection-inversion: W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates
 * from monotone discrete distributions", ACM TOMACS 6 (1996). The exponent is YCSB's.
 */
#include <math.h>

#include "perf/content.h"
#include "perf/pattern.h"

#define ZIPF_EXPONENT 0.99
#define GC_BURSTS 8u           /* that allocate all items */
#define GC_STRIDE 17u          /* of a sweep: prime to the number of items mostly, so that each sweep hits others */
#define SCATTER 1099511627791u /* a prime over 2^40, so coprime to any number of pages that fits an address space */

/* Integral of x^-e, in a form that stays exact where e is near 1. */
static double integral(double x)
{
	double l = log(x), t = (1 - ZIPF_EXPONENT) * l;

	return (fabs(t) > 1e-8 ? expm1(t) / t : 1 + t / 2) * l;
}

static double integral_inverse(double y)
{
	double t = fmax(y * (1 - ZIPF_EXPONENT), -1);

	return exp((fabs(t) > 1e-8 ? log1p(t) / t : 1 - t / 2) * y);
}

static double density(double x)
{
	return exp(-ZIPF_EXPONENT * log(x));
}

/* Writes in one burst, and in one sweep. */
static uint64_t gc_burst(uint64_t items)
{
	return (items + GC_BURSTS - 1) / GC_BURSTS;
}

static uint64_t gc_sweep(uint64_t items)
{
	return (items + GC_STRIDE - 1) / GC_STRIDE;
}

void pattern_init(struct pattern *pattern, enum pattern_kind kind, uint64_t items)
{
	pattern->kind = kind;
	pattern->items = items;
	pattern->period = kind == PATTERN_GC ? GC_BURSTS * (gc_burst(items) + gc_sweep(items)) : items;
	pattern->integral_first = integral(1.5) - 1;
	pattern->integral_last = integral((double)items + 0.5);
	pattern->shortcut = 2 - integral_inverse(integral(2.5) - density(2));
}

static uint64_t draw(struct pattern_state *state)
{
	return content_mix(state->rng += 0x9e3779b97f4a7c15u);
}

/* A rank in [1, items]. */
static uint64_t draw_zipf(const struct pattern *pattern, struct pattern_state *state)
{
	for (;;) {
		double unit = (double)(draw(state) >> 11) * 0x1p-53;
		double u = pattern->integral_last + unit * (pattern->integral_first - pattern->integral_last);
		double x = integral_inverse(u), k = fmin(fmax(floor(x + 0.5), 1), (double)pattern->items);

		if (k - x <= pattern->shortcut || u >= integral(k + 0.5) - density(k))
			return (uint64_t)k;
	}
}

uint64_t pattern_next(const struct pattern *pattern, struct pattern_state *state)
{
	uint64_t item, burst, in_cycle;

	switch (pattern->kind) {
	case PATTERN_SEQ:
		item = state->position;
		state->position = item + 1 < pattern->items ? item + 1 : 0;
		return item;
	case PATTERN_ZIPF:
		/* Popular pages lie scattered, as they do in a heap. */
		return (uint64_t)((unsigned __int128)(draw_zipf(pattern, state) - 1) * SCATTER % pattern->items);
	case PATTERN_GC:
		item = state->position;
		state->position = item + 1 < pattern->period ? item + 1 : 0;
		burst = gc_burst(pattern->items);
		in_cycle = item % (burst + gc_sweep(pattern->items));
		if (in_cycle < burst)
			return (item / (burst + gc_sweep(pattern->items)) * burst + in_cycle) % pattern->items;
		return (in_cycle - burst) * GC_STRIDE % pattern->items;
	default: return (uint64_t)((unsigned __int128)draw(state) * pattern->items >> 64);
	}
}
