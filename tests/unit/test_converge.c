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
		if (converge_judge(&c, (uint64_t)left, 0, m->limit_ms) != VERDICT_SWITCHOVER)
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
	CU_ASSERT(converge_near(&c, 300));
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 100, 0, 300), VERDICT_SWITCHOVER);
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
			if (converge_judge(&c, pages, 0, 300) == VERDICT_SWITCHOVER)
				most = pages;
		CU_ASSERT(most > 0 && most < allowed);
		allowed = most;
	}
	c.tries = UINT32_MAX;
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 1, 0, 300), VERDICT_ROUND);
}

/* State that by itself takes longer than the limit allows: once that is known, the guest is not stopped for it again and again. */
static void large_state(void)
{
	struct converge c;

	converge_init(&c);
	c.pages_per_s = 500e3;
	c.dirty_pages_per_s = 1e3;
	c.tries = 1;
	CU_ASSERT_EQUAL(converge_judge(&c, 10, 0, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 10, 1 << 20, 300), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 10, 1ull << 30, 300), VERDICT_ROUND);
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 1ull << 30, 300), VERDICT_SWITCHOVER); /* it cannot get better */
}

static void tiny_limit(void)
{
	/* What cannot be done within the limit is not begun, unless nothing at all is left to be sent. */
	struct model m = { .pages = 1e6, .working_set = 1e6, .dirty = 100, .rate = 500e3, .limit_ms = 1 };
	CU_ASSERT_EQUAL(migrate(&m, 0, 1).stops <= 1, 1);
	struct converge c;
	converge_init(&c);
	CU_ASSERT_EQUAL(converge_judge(&c, 1, 0, 1), VERDICT_ROUND);
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 1), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 0, 0, 0), VERDICT_SWITCHOVER);
	CU_ASSERT_EQUAL(converge_judge(&c, 1, 0, 0), VERDICT_ROUND);
}

static void extra_rounds_end(void)
{
	struct converge c;
	unsigned rounds = 0;

	converge_init(&c);
	c.pages_per_s = 1e6;
	c.dirty_pages_per_s = 1;
	while (converge_judge(&c, 100000, 0, 3600000) == VERDICT_ROUND && rounds < 100)
		rounds++;
	CU_ASSERT(rounds > 0 && rounds < 20);
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
					converge_near(&c, values[b]);
					converge_judge(&c, values[a], values[t], values[b]);
				}
			}
}

SUITE("converge", TEST(converges_geometrically), TEST(does_not_stop_in_vain), TEST(guest_that_writes_nothing),
      TEST(all_zero_guest), TEST(guard_tries), TEST(large_state), TEST(tiny_limit), TEST(extra_rounds_end),
      TEST(numbers_without_end))
