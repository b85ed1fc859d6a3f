/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* converge.c: estimates and the verdict.
 *
 * With r = dirty rate / sending rate, a round of n pages leaves about r * n dirty. While r is well under 1, each round more costs
 * little and divides the downtime; so the guest is not stopped as soon as the limit allows it but when another round would not
 * buy much. */
#include "core/decide/converge.h"

enum {
	PAGE = 4096,
	FEW_PAGES = 1024, /* a sample of fewer says less about rates */
	EXTRA_ROUNDS = 8, /* beyond what the limit asks for, at most */
};
static const double prior_pages_per_s = 100e3; /* 0.4 GB/s, until something was measured */
static const double zero_pages_per_s = 250e3;  /* 1 GB/s */
static const double prior_overhead_ms = 3;
static const double worthwhile = 0.75;    /* a round that leaves more than this of what there was is not worth it */
static const double negligible_ms = 2;    /* of downtime for pages: not worth another round */
static const double margin = 0.8;         /* of the limit is planned for; the rest is for what cannot be planned */
static const double put_off_share = 0.75; /* of that goes to pages that are put off, at most: others are dirty then, too */
static const double newest = 0.7;         /* weight of the newest measurement */
static const double sample_s = 0.05;      /* sending is measured so often, where a round is long */
static const double short_s = 0.02, long_s = 0.2;
static const double tail_ms = 2;  /* from the last page to the guest's running, beside loading */
static const double known = 1e-3; /* added to a rate that was measured: known, even if zero */

void converge_init(struct converge *c)
{
	*c = (struct converge){ .overhead_ms = prior_overhead_ms };
}

void converge_open(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages)
{
	c->opened_ns = c->sampled_ns = now_ns;
	c->pages_before = c->pages_opened = pages;
	c->nonzero_before = nonzero_pages;
	c->surveyed_ns = 0;
	if (!c->fetched_ns)
		c->fetched_ns = now_ns;
}

/* The newer measurement counts more, but one odd round does not overturn all before. */
static void blend(double *estimate, double measured, double weight)
{
	*estimate = *estimate > 0 ? (1 - weight) * *estimate + weight * measured : measured;
}

static uint64_t whole(double pages)
{
	return pages >= 1 ? (uint64_t)(pages < 1e15 ? pages : 1e15) : 0;
}

static double sends(const struct converge *c)
{
	return c->pages_per_s > 0 ? c->pages_per_s : prior_pages_per_s;
}

static void sample(struct converge *c, double s, uint64_t pages, uint64_t nonzero_pages)
{
	uint64_t sent = nonzero_pages - c->nonzero_before, all = pages - c->pages_before;
	double rate = (double)sent / s;
	c->again |= sent && c->last_round_ms > 0;
	if (sent >= FEW_PAGES) {
		blend(&c->pages_per_s, rate, newest);
	} else if (sent && (s >= short_s || rate > sends(c))) {
		/* Of few pages in a short time the time is mostly latency: that only ever proves that it can go at least so fast. */
		double counts = (double)sent / FEW_PAGES, lasted = s / long_s;
		counts = counts > lasted ? counts : lasted;
		c->pages_per_s = sends(c);
		blend(&c->pages_per_s, rate, newest * (counts < 1 ? counts : 1));
	} else if (all >= FEW_PAGES && c->pages_per_s < zero_pages_per_s) {
		/* All but zero pages: they go faster than data would, so they count for no more than data surely reaches. */
		c->pages_per_s = (double)all / s < zero_pages_per_s ? (double)all / s : zero_pages_per_s;
	}
}

void converge_progress(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages)
{
	double s = (double)(now_ns - c->sampled_ns) * 1e-9;
	/* A pause is part of the time that the pages behind it took. */
	if (s < sample_s || (nonzero_pages == c->nonzero_before && pages - c->pages_before < FEW_PAGES))
		return;
	sample(c, s, pages, nonzero_pages);
	c->sampled_ns = now_ns;
	c->pages_before = pages;
	c->nonzero_before = nonzero_pages;
}

void converge_sent(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages)
{
	double s = (double)(now_ns - c->sampled_ns) * 1e-9;
	if (s > 0)
		sample(c, s, pages, nonzero_pages);
	c->last_round_ms = (double)(now_ns - c->opened_ns) * 1e-6;
	c->round_pages = pages - c->pages_opened;
}

void converge_found(struct converge *c, uint64_t now_ns, uint64_t found)
{
	double s = (double)(now_ns - c->fetched_ns) * 1e-9;
	c->fetched_ns = now_ns;
	if (s > 0)
		blend(&c->dirty_pages_per_s, (double)found / s + known, newest);
}

uint64_t converge_written(const struct converge *c, uint64_t now_ns)
{
	return whole(c->dirty_pages_per_s * (double)(now_ns - c->fetched_ns) * 1e-9);
}

bool converge_survey(struct converge *c, uint64_t now_ns, uint64_t dirty, uint64_t pages, uint64_t discovered)
{
	double s = (double)(now_ns - c->surveyed_ns) * 1e-9;
	bool again = c->surveyed_ns && s > 0;
	if (again) {
		/* What was written anew is what there is more of, and what went meanwhile. Counts of different moments: never less than 0. */
		double written = (double)dirty - (double)c->surveyed + (double)(pages - c->pages_surveyed) -
				 (double)(discovered - c->discovered);
		blend(&c->dirty_pages_per_s, (written > 0 ? written / s : 0) + known, newest);
	}
	c->surveyed_ns = now_ns;
	c->surveyed = dirty;
	c->pages_surveyed = pages;
	c->discovered = discovered;
	return again;
}

double converge_pages_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes)
{
	double rate = c->told_per_s > 0 ? c->told_per_s : sends(c);
	return ((double)pages + (double)state_bytes / PAGE) / rate * 1e3;
}

double converge_expected_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes)
{
	return converge_pages_ms(c, pages, state_bytes) + c->overhead_ms;
}

bool converge_near(const struct converge *c, uint64_t put_off, uint64_t limit_ms)
{
	if (c->dirty_pages_per_s <= 0)
		return true;
	/* Of the overhead no round takes anything away: it must not keep us from finding out that nothing is dirty any more. */
	double dirty = c->dirty_pages_per_s * c->last_round_ms * 1e-3 + (double)put_off;
	return dirty < 1e18 && converge_pages_ms(c, (uint64_t)dirty, 0) <= 2 * (double)limit_ms;
}

/* Of what a round sends, this share is dirty again at its end. */
static double leaves(const struct converge *c)
{
	return c->dirty_pages_per_s / sends(c);
}

bool converge_struggles(const struct converge *c)
{
	return c->pages_per_s > 0 && leaves(c) >= worthwhile;
}

bool converge_never_fits(const struct converge *c, uint64_t state_bytes, uint64_t limit_ms)
{
	return c->tries && converge_expected_ms(c, 0, state_bytes) > (double)limit_ms;
}

/* Loading there takes about as long as saving did here. */
static double overhead(double so_far_ms, double save_ms)
{
	return so_far_ms + save_ms + tail_ms;
}

double converge_stopped(const struct converge *c, double so_far_ms, double save_ms, uint64_t pages, uint64_t state_bytes)
{
	return overhead(so_far_ms, save_ms) + converge_pages_ms(c, pages, state_bytes);
}

void converge_in_vain(struct converge *c, double so_far_ms, double save_ms)
{
	c->tries++;
	c->overhead_ms = overhead(so_far_ms, save_ms);
}

/* Each stop in vain asks for more certainty. */
static double planned_ms(const struct converge *c, uint64_t limit_ms)
{
	return (double)limit_ms * margin / (1.0 + c->tries);
}

static bool fits(const struct converge *c, uint64_t remaining, uint64_t state_bytes, uint64_t limit_ms)
{
	return !remaining || converge_expected_ms(c, remaining, state_bytes) <= planned_ms(c, limit_ms);
}

/* Is there something that sending on would make noticeably less of? */
static bool improves(const struct converge *c, uint64_t remaining, uint64_t put_off)
{
	uint64_t others = remaining > put_off ? remaining - put_off : 0;
	/* The first round fills memory that the other side has never touched: how fast that goes says little of the others. */
	return (!c->again || leaves(c) < worthwhile) && converge_pages_ms(c, others, 0) > negligible_ms &&
	       c->extra_rounds < EXTRA_ROUNDS;
}

enum verdict converge_judge(struct converge *c, uint64_t remaining, uint64_t put_off, uint64_t state_bytes, uint64_t limit_ms)
{
	c->stuck |= c->again && remaining >= FEW_PAGES && (double)remaining >= worthwhile * (double)c->round_pages;
	if (!fits(c, remaining, state_bytes, limit_ms))
		return VERDICT_ROUND;
	if (improves(c, remaining, put_off)) {
		c->extra_rounds++;
		return VERDICT_ROUND;
	}
	return VERDICT_SWITCHOVER;
}

bool converge_enough(const struct converge *c, uint64_t remaining, uint64_t put_off, uint64_t state_bytes, uint64_t limit_ms)
{
	return fits(c, remaining, state_bytes, limit_ms) && !improves(c, remaining, put_off);
}

uint64_t converge_allowance(struct converge *c, uint64_t state_bytes, uint64_t limit_ms)
{
	/* Pages that are written every now and then look as if they were written all the time as long as rounds are long. Rounds that
	 * get shorter find out; where they do not, the guest has hot pages, or it must make do with a last round as long as this one. */
	c->stuck |= c->again && converge_struggles(c);
	if (!c->stuck)
		return 0;
	double spare_ms = planned_ms(c, limit_ms) * put_off_share - converge_expected_ms(c, 0, state_bytes);
	return whole(spare_ms / converge_pages_ms(c, 1, 0));
}
