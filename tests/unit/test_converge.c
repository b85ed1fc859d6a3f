/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_converge.c: when the guest is stopped, against a model of one that writes at a steady rate. */
#include <math.h>
#include <stdint.h>

#include "core/decide/converge.h"
#include "tests/unit/harness.h"

static const uint64_t second = 1000000000;

/* A guest of `pages` that dirties `dirty` pages per second of a working set, sent at `rate` pages per second. */
struct model {
	double pages, working_set, dirty, rate;
	uint64_t limit_ms;
};

struct outcome {
	unsigned rounds, stops;
	double downtime_ms; /* of the stop that was not in vain; < 0: never */
	double seconds;
};

static bool sane(const struct converge *c)
{
	return isfinite(c->pages_per_s) && c->pages_per_s >= 0 && isfinite(c->dirty_pages_per_s) && c->dirty_pages_per_s >= 0 &&
	       isfinite(c->last_round_ms) && c->last_round_ms >= 0;
}

/* Rounds with a full sync at the end of each, as the source makes them near the end. `burst`: the guest writes so many times more
 * just when it is stopped, so often. */
static struct outcome migrate(const struct model *m, unsigned bursts, double burst)
{
	struct converge c;
	struct outcome o = { .downtime_ms = -1 };
	double now = 1, left = m->pages, sent = 0;

	converge_init(&c);
	while (o.rounds < 200) {
		o.rounds++;
		converge_open(&c, (uint64_t)(now * 1e9), (uint64_t)sent, (uint64_t)sent);
		double took = left / m->rate + 20e-6;
		now += took;
		sent += left;
		converge_sent(&c, (uint64_t)(now * 1e9), (uint64_t)sent, (uint64_t)sent);
		left = m->dirty * took < m->working_set ? m->dirty * took : m->working_set;
		now += 50e-6;
		converge_found(&c, (uint64_t)(now * 1e9), (uint64_t)left);
		CU_ASSERT(sane(&c));
		if (converge_judge(&c, (uint64_t)left, 0, 0, m->limit_ms) != VERDICT_SWITCHOVER)
			continue;
		o.stops++;
		double final = left * (o.stops <= bursts ? burst : 1);
		double expected = converge_expected_ms(&c, (uint64_t) final, 0);
		CU_ASSERT(isfinite(expected) && expected >= 0);
		if (expected > (double)m->limit_ms && final >= 1) {
			c.tries++;
			left = final;
			continue;
		}
		o.downtime_ms = final / m->rate * 1e3;
		break;
	}
	o.seconds = now - 1;
	return o;
}

static void converges_geometrically(void)
{
	for (double load = 0.05; load < 0.75; load += 0.1) {
		struct model m = { .pages = 4e6, .working_set = 4e6, .dirty = load * 500e3, .rate = 500e3, .limit_ms = 300 };
		struct outcome o = migrate(&m, 0, 1);

		CU_ASSERT(o.downtime_ms >= 0 && o.downtime_ms <= 300);
		CU_ASSERT_EQUAL(o.stops, 1);
		/* More rounds only as long as they shrink what is left; in sum what the geometric series says, and a little. */
		CU_ASSERT(o.seconds < 4e6 / 500e3 / (1 - load) + 1);
		CU_ASSERT(o.rounds < 30);
	}
	/* Well under half of the rate, another round is nearly free: the downtime is far under the limit. */
	struct model light = { .pages = 4e6, .working_set = 4e6, .dirty = 50e3, .rate = 500e3, .limit_ms = 300 };
	CU_ASSERT(migrate(&light, 0, 1).downtime_ms < 10);
}

static void does_not_stop_in_vain(void)
{
	/* Dirties more than gets through, far more than the limit allows: never stopped. */
	struct model m = { .pages = 4e6, .working_set = 1e6, .dirty = 2e6, .rate = 500e3, .limit_ms = 300 };
	struct outcome o = migrate(&m, 0, 1);

	CU_ASSERT_EQUAL(o.stops, 0);
	CU_ASSERT_EQUAL(o.rounds, 200);
	/* The same with a working set that fits: stopped at once, for no round makes it less. */
	m.working_set = 50e3;
	o = migrate(&m, 0, 1);
	CU_ASSERT_EQUAL(o.stops, 1);
	CU_ASSERT(o.downtime_ms > 50 && o.downtime_ms < 240);
	CU_ASSERT(o.rounds < 4);
}

static void guest_that_writes_nothing(void)
{
	struct model m = { .pages = 4e6, .working_set = 0, .dirty = 0, .rate = 500e3, .limit_ms = 1 };
	struct outcome o = migrate(&m, 0, 1);

	CU_ASSERT_EQUAL(o.rounds, 1);
	CU_ASSERT_EQUAL(o.downtime_ms, 0);
}

/* Every page is zero, so no rate was ever measured: that must not keep it from ending. */
static void all_zero_guest(void)
{
	struct converge c;

	converge_init(&c);
	converge_open(&c, second, 0, 0);
	converge_sent(&c, 2 * second, 4000000, 0);
	converge_found(&c, 2 * second, 0);
	CU_ASSERT(sane(&c));
	CU_ASSERT(converge_near(&c, 0, 300));
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 0, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 100, 0, 0, 300), VERDICT_SWITCHOVER);
}

/* Each stop in vain asks for more certainty before the next, and in the end it gets there. */
static void guard_tries(void)
{
	struct model m = { .pages = 1e6, .working_set = 60e3, .dirty = 1e6, .rate = 500e3, .limit_ms = 300 };
	struct outcome o = migrate(&m, 1, 4);

	CU_ASSERT(o.stops >= 1);
	struct converge c;
	converge_init(&c);
	c.pages_per_s = 500e3;
	c.dirty_pages_per_s = 1e6;
	uint64_t allowed = UINT64_MAX;
	for (c.tries = 0; c.tries < 5; c.tries++) {
		uint64_t most = 0;

		for (uint64_t pages = 1; pages < 1000000; pages += pages / 20 + 1)
			if (converge_judge(&c, pages, 0, 0, 300) == VERDICT_SWITCHOVER)
				most = pages;
		CU_ASSERT(most > 0 && most < allowed);
		allowed = most;
	}
	c.tries = UINT32_MAX;
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 0, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 1, 0, 0, 300), VERDICT_ROUND);
}

/* State that by itself takes longer than the limit allows: once that is known, the guest is not stopped for it again and again. */
static void large_state(void)
{
	struct converge c;

	converge_init(&c);
	c.pages_per_s = 500e3;
	c.dirty_pages_per_s = 1e3;
	c.tries = 1;
	CU_ASSERT_EQUAL(converge_judge(&c, 10, 0, 0, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 10, 0, 1 << 20, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 10, 0, 1ull << 30, 300), VERDICT_ROUND);
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 1ull << 30, 300), VERDICT_SWITCHOVER); /* it cannot get better */
}

static void tiny_limit(void)
{
	/* What cannot be done within the limit is not begun, unless nothing at all is left to be sent. */
	struct model m = { .pages = 1e6, .working_set = 1e6, .dirty = 100, .rate = 500e3, .limit_ms = 1 };
	CU_ASSERT_EQUAL(migrate(&m, 0, 1).stops <= 1, 1);
	struct converge c;
	converge_init(&c);
	CU_ASSERT_EQUAL(converge_judge(&c, 1, 0, 0, 1), VERDICT_ROUND);
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 0, 1), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 0, 0), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 1, 0, 0, 0), VERDICT_ROUND);
}

static void extra_rounds_end(void)
{
	struct converge c;
	unsigned rounds = 0;

	converge_init(&c);
	c.pages_per_s = 1e6;
	c.dirty_pages_per_s = 1;
	while (converge_judge(&c, 100000, 0, 0, 3600000) == VERDICT_ROUND && rounds < 100)
		rounds++;
	CU_ASSERT(rounds > 0 && rounds < 20);
}

/* Sending is measured beside a long round, and slow wires count though they move few pages. */
static void rates_within_a_round(void)
{
	struct converge c;
	uint64_t now = second, pages = 0;

	converge_init(&c);
	converge_open(&c, now, 0, 0);
	for (int i = 0; i < 40; i++) {
		pages += 20000;
		converge_progress(&c, now += second / 20, pages, pages);
	}
	CU_ASSERT(c.pages_per_s > 390e3 && c.pages_per_s < 410e3);
	/* The limit is lowered to 500 pages per tick of 50 ms: known within a second. */
	for (int i = 0; i < 20; i++) {
		pages += 500;
		converge_progress(&c, now += second / 20, pages, pages);
	}
	CU_ASSERT(c.pages_per_s > 9e3 && c.pages_per_s < 11e3);
	/* Nothing at all for a second: a pause counts as part of what comes after it. */
	for (int i = 0; i < 20; i++)
		converge_progress(&c, now += second / 20, pages, pages);
	pages += 5000;
	converge_progress(&c, now += second / 20, pages, pages);
	CU_ASSERT(c.pages_per_s < 9e3);
	/* Ten pages in a millisecond are no sign of a slow wire, ten in a microsecond say little. */
	double before = c.pages_per_s = 400e3;
	converge_open(&c, now, pages, pages);
	pages += 10;
	converge_sent(&c, now += 1000000, pages, pages);
	CU_ASSERT_EQUAL(c.pages_per_s, before);
	converge_open(&c, now, pages, pages);
	pages += 10;
	converge_sent(&c, now += 1000, pages, pages);
	CU_ASSERT(c.pages_per_s > before && c.pages_per_s < 1.5 * before);
}

static void dirty_rate_by_surveys(void)
{
	struct converge c;
	uint64_t now = second, pages = 0;

	converge_init(&c);
	converge_open(&c, now, 0, 0);
	CU_ASSERT(!converge_survey(&c, now, 1000, 0, 1000)); /* the first has nothing to compare with */
	/* 30,000 pages are found for the first time, 20,000 are sent, 5,000 are written. */
	CU_ASSERT(converge_survey(&c, now += second / 10, 1000 + 30000 - 20000 + 5000, pages += 20000, 31000));
	CU_ASSERT(fabs(c.dirty_pages_per_s - 50e3) < 1);
	/* Counts that were taken one after the other may seem to say that pages were unwritten. */
	CU_ASSERT(converge_survey(&c, now += second / 10, 10000, pages, 31000));
	CU_ASSERT(c.dirty_pages_per_s >= 0 && c.dirty_pages_per_s < 50e3);
	converge_open(&c, now, pages, pages);
	CU_ASSERT(!converge_survey(&c, now += second, 0, pages, 31000)); /* another round */
}

/* As many pages are put off as the last round can take beside others, and none where it is not known what it can take. */
static void puts_off_what_fits(void)
{
	struct converge c;

	converge_init(&c);
	CU_ASSERT_EQUAL(converge_allowance(&c, 0, 300), 0);
	/* Not while rounds shrink; nor for what the first one leaves, which is slow for other reasons. */
	c.pages_per_s = 500e3;
	c.dirty_pages_per_s = 300e3;
	c.again = true;
	CU_ASSERT_EQUAL(converge_allowance(&c, 0, 300), 0);
	c.dirty_pages_per_s = 400e3;
	c.again = false;
	CU_ASSERT_EQUAL(converge_allowance(&c, 0, 300), 0);
	/* Then on, though with hot pages put off they do. */
	c.again = true;
	CU_ASSERT(converge_allowance(&c, 0, 300) > 0);
	/* Whatever the rates say: a round that leaves what it sent did not shrink anything. */
	c.stuck = false;
	c.dirty_pages_per_s = 0;
	c.round_pages = 20000;
	converge_judge(&c, 14000, 0, 0, 300);
	CU_ASSERT_EQUAL(converge_allowance(&c, 0, 300), 0);
	converge_judge(&c, 15000, 0, 0, 300);
	CU_ASSERT(converge_allowance(&c, 0, 300) > 0);
	c.round_pages = 0;
	c.dirty_pages_per_s = 0;
	for (c.tries = 0; c.tries < 3; c.tries++) {
		uint64_t pages = converge_allowance(&c, 0, 300);

		CU_ASSERT(pages > 0);
		CU_ASSERT(converge_expected_ms(&c, pages, 0) <= 300 * 0.8 * 0.75 / (1 + c.tries) + 0.01);
		CU_ASSERT(converge_allowance(&c, 64 << 20, 300) + 16000 < pages + 1000);
		/* With nothing else dirty it is good enough: more rounds would put the same off again. */
		c.again = true;
		CU_ASSERT_EQUAL(converge_judge(&c, pages, pages, 0, 300), VERDICT_SWITCHOVER);
	}
	c.tries = 0;
	c.dirty_pages_per_s = 1e3;
	CU_ASSERT_EQUAL(converge_judge(&c, 50000, 20000, 0, 300), VERDICT_ROUND); /* others there is less of by another round */
	CU_ASSERT_EQUAL(converge_allowance(&c, 1ull << 40, 300), 0);
	CU_ASSERT_EQUAL(converge_allowance(&c, 0, 1), 0);
	/* By somebody's word the last round is faster. */
	uint64_t measured = converge_allowance(&c, 0, 300);
	c.told_per_s = 1000e3;
	CU_ASSERT(converge_allowance(&c, 0, 300) > 2 * measured - 10);
	CU_ASSERT_EQUAL(converge_judge(&c, 200000, 200000, 0, 300), VERDICT_SWITCHOVER);
	c.told_per_s = 0;
	CU_ASSERT_EQUAL(converge_judge(&c, 200000, 200000, 0, 300), VERDICT_ROUND);
}

/* A guest that writes `hot` pages over and over, and others at random, to a wire that takes both but not several times over. */
static struct outcome migrate_hot(bool puts_off, double hot, double random_per_s)
{
	struct converge c;
	struct outcome o = { .downtime_ms = -1 };
	const double rate = 250e3, size = 2e6;
	double now = 1, left = size, late = 0, sent = 0;

	converge_init(&c);
	while (o.rounds < 100) {
		double allowed = puts_off && o.rounds > 1 ? (double)converge_allowance(&c, 0, 300) : 0;

		o.rounds++;
		converge_open(&c, (uint64_t)(now * 1e9), (uint64_t)sent, (uint64_t)sent);
		late = allowed < hot ? allowed : hot;
		double took = (left - late) / rate + 20e-6;
		now += took, sent += left - late;
		converge_sent(&c, (uint64_t)(now * 1e9), (uint64_t)sent, (uint64_t)sent);
		double found = hot - late + random_per_s * took;
		left = late + (found < size ? found : size);
		converge_found(&c, (uint64_t)(now * 1e9), (uint64_t)found);
		if (converge_judge(&c, (uint64_t)left, (uint64_t)late, 0, 300) != VERDICT_SWITCHOVER)
			continue;
		o.downtime_ms = left / rate * 1e3;
		break;
	}
	return o;
}

static void hot_pages_put_off_let_it_converge(void)
{
	/* 160 ms of hot pages, half of the wire for others: without, each round leaves 320 ms; with, little more than the hot ones. */
	struct outcome without = migrate_hot(false, 40e3, 125e3), with = migrate_hot(true, 40e3, 125e3);

	CU_ASSERT(without.downtime_ms < 0);
	CU_ASSERT(with.downtime_ms > 0 && with.downtime_ms < 240);
	CU_ASSERT(with.rounds < 15);
}

static void numbers_without_end(void)
{
	static const uint64_t values[] = { 0, 1, 1023, 1024, 1ull << 32, 1ull << 44, UINT64_MAX / 2, UINT64_MAX };
	enum { N = sizeof values / sizeof *values };

	/* 16 TiB, sent at 100 GB/s, in one round. */
	struct model m = { .pages = 4294967296.0, .working_set = 4294967296.0, .dirty = 1e6, .rate = 25e6, .limit_ms = 300 };
	struct outcome o = migrate(&m, 0, 1);
	CU_ASSERT(o.stops == 1 && o.downtime_ms >= 0 && o.downtime_ms < 300);
	/* Whatever is measured, in whatever time: no NaN, no infinity, no conversion that overflows (UBSan). */
	for (int a = 0; a < N; a++)
		for (int b = 0; b < N; b++)
			for (int t = 0; t < N; t++) {
				struct converge c;

				converge_init(&c);
				for (int i = 0; i < 3; i++) {
					converge_open(&c, second, 0, 0);
					converge_sent(&c, second + values[t] % (UINT64_MAX / 2), values[a], values[a]);
					converge_found(&c, second + values[t] % (UINT64_MAX / 2), values[b]);
					CU_ASSERT(sane(&c));
					CU_ASSERT(isfinite(converge_expected_ms(&c, values[a], values[b])));
					converge_near(&c, values[a], values[b]);
					converge_survey(&c, second + values[t] % (UINT64_MAX / 2), values[a], values[b],
							values[t]);
					converge_allowance(&c, values[a], values[b]);
					converge_enough(&c, values[a], values[b], values[t], values[b]);
					CU_ASSERT(sane(&c));
					converge_judge(&c, values[a], 0, values[t], values[b]);
				}
			}
}

SUITE("converge", TEST(converges_geometrically), TEST(does_not_stop_in_vain), TEST(guest_that_writes_nothing),
      TEST(all_zero_guest), TEST(guard_tries), TEST(large_state), TEST(tiny_limit), TEST(extra_rounds_end),
      TEST(rates_within_a_round), TEST(dirty_rate_by_surveys), TEST(puts_off_what_fits), TEST(hot_pages_put_off_let_it_converge),
      TEST(numbers_without_end))
