/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* converge.c: estimates and the verdict.
 *
 * With r = dirty rate / sending rate, a round of n pages leaves about r * n dirty. While r is well under 1, each round more costs
 * little and divides the downtime; so the guest is not stopped as soon as the limit allows it but when another round would not
 * buy much. */
#include "core/decide/converge.h"

enum {
	PAGE = 4096,
	FEW_PAGES = 1024, /* a sample of fewer says little about rates */
	EXTRA_ROUNDS = 8, /* beyond what the limit asks for, at most */
};
static const double prior_pages_per_s = 100e3; /* 0.4 GB/s, until something was measured */
static const double zero_pages_per_s = 250e3;  /* 1 GB/s */
static const double prior_overhead_ms = 3;
static const double worthwhile = 0.75; /* a round that leaves more than this of what there was is not worth it */
static const double negligible_ms = 2; /* of downtime for pages: not worth another round */
static const double margin = 0.8;      /* of the limit is planned for; the rest is for what cannot be planned */

void converge_init(struct converge *c)
{
	*c = (struct converge){ .overhead_ms = prior_overhead_ms };
}

void converge_open(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages)
{
	c->opened_ns = now_ns;
	c->pages_before = pages;
	c->nonzero_before = nonzero_pages;
	if (!c->fetched_ns)
		c->fetched_ns = now_ns;
}

/* The newer measurement counts more, but one odd round does not overturn all before. */
static void blend(double *estimate, double measured)
{
	*estimate = *estimate > 0 ? 0.3 * *estimate + 0.7 * measured : measured;
}

void converge_sent(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages)
{
	double s = (double)(now_ns - c->opened_ns) * 1e-9;
	uint64_t sent = nonzero_pages - c->nonzero_before;
	c->last_round_ms = s * 1e3;
	/* Of a round with few pages the time is mostly latency: it only ever proves that it can go at least so fast. */
	if (s > 0 && sent >= FEW_PAGES)
		blend(&c->pages_per_s, (double)sent / s);
	else if (s > 0 && pages - c->pages_before >= FEW_PAGES && c->pages_per_s < zero_pages_per_s)
		/* All but zero pages: they go faster than data would, so they count for no more than data surely reaches. */
		c->pages_per_s = (double)(pages - c->pages_before) / s < zero_pages_per_s ? (double)(pages - c->pages_before) / s
											  : zero_pages_per_s;
}

void converge_found(struct converge *c, uint64_t now_ns, uint64_t found)
{
	double s = (double)(now_ns - c->fetched_ns) * 1e-9;
	c->fetched_ns = now_ns;
	if (s > 0)
		blend(&c->dirty_pages_per_s, (double)found / s + 1e-3); /* known, even if zero */
}

double converge_pages_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes)
{
	double rate = c->pages_per_s > 0 ? c->pages_per_s : prior_pages_per_s;
	return ((double)pages + (double)state_bytes / PAGE) / rate * 1e3;
}

double converge_expected_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes)
{
	return converge_pages_ms(c, pages, state_bytes) + c->overhead_ms;
}

bool converge_near(const struct converge *c, uint64_t limit_ms)
{
	if (c->dirty_pages_per_s <= 0)
		return true;
	/* Of the overhead no round takes anything away: it must not keep us from finding out that nothing is dirty any more. */
	double dirty = c->dirty_pages_per_s * c->last_round_ms * 1e-3;
	return dirty < 1e18 && converge_pages_ms(c, (uint64_t)dirty, 0) <= 2 * (double)limit_ms;
}

/* Of what a round sends, this share is dirty again at its end. */
static double leaves(const struct converge *c)
{
	return c->dirty_pages_per_s / (c->pages_per_s > 0 ? c->pages_per_s : prior_pages_per_s);
}

bool converge_struggles(const struct converge *c)
{
	return c->pages_per_s > 0 && leaves(c) >= worthwhile;
}

enum verdict converge_judge(struct converge *c, uint64_t remaining, uint64_t state_bytes, uint64_t limit_ms)
{
	double expected = converge_expected_ms(c, remaining, 0);
	/* Each stop in vain asks for more certainty. */
	double planned = (double)limit_ms * margin / (1.0 + c->tries);
	if (converge_expected_ms(c, remaining, state_bytes) > planned && remaining)
		return VERDICT_ROUND;
	if (leaves(c) < worthwhile && expected - c->overhead_ms > negligible_ms && c->extra_rounds < EXTRA_ROUNDS) {
		c->extra_rounds++;
		return VERDICT_ROUND;
	}
	return VERDICT_SWITCHOVER;
}
