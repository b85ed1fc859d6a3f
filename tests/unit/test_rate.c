/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_rate.c: the bandwidth limit, with a clock of our own. */
#include <pthread.h>
#include <stdint.h>

#include "streams/rate.h"
#include "tests/unit/harness.h"

#define S 1000000000ull

static void unlimited_never_waits(void)
{
	struct rate rate = { 0 };

	for (uint64_t t = 0; t < 100; t++)
		CU_ASSERT_EQUAL(rate_take(&rate, UINT64_MAX, 0, t), t);
}

static void takers_queue_up(void)
{
	struct rate rate = { 0 };
	uint64_t now = 100 * S, at = 0;

	/* 1 MB each at 10 MB/s: the first at once, then one every 100 ms, whoever asks. */
	rate_take(&rate, 1, 10000000, now);
	for (uint64_t i = 0; i < 20; i++) {
		at = rate_take(&rate, 1000000, 10000000, now);
		CU_ASSERT(at >= now + i * S / 10 && at <= now + i * S / 10 + 1000);
	}
	/* A long run keeps the limit on average although each is late by a bit. */
	now = at;
	uint64_t began = now;
	for (int i = 0; i < 1000; i++) {
		at = rate_take(&rate, 1000000, 10000000, now);
		now = (at > now ? at : now) + 70000;
	}
	CU_ASSERT(now - began > 99 * S && now - began < 101 * S);
}

static void at_most_50_ms_are_saved_up(void)
{
	struct rate rate = { 0 };
	uint64_t now = 100 * S, sent = 0;

	rate_take(&rate, 1, 1000000, now);
	now += 60 * S;
	while (rate_take(&rate, 1000, 1000000, now) <= now)
		sent += 1000;
	CU_ASSERT(sent >= 50000 && sent <= 52000);
}

static void a_raised_limit_forgets_the_debt(void)
{
	struct rate rate = { 0 };
	uint64_t now = 100 * S;

	rate_take(&rate, 512 << 10, 1024, now);
	CU_ASSERT(rate_take(&rate, 512 << 10, 1024, now) >= now + 511 * S);
	CU_ASSERT(rate_take(&rate, 512 << 10, 1000000000, now) <= now);
	CU_ASSERT(rate_take(&rate, 512 << 10, 1000000000, now) < now + S / 1000);
	CU_ASSERT_EQUAL(rate_take(&rate, 512 << 10, 0, now), now);
}

static void extremes_do_not_overflow(void)
{
	struct rate rate = { 0 };
	uint64_t before = 0, at;

	for (int i = 0; i < 100; i++) {
		at = rate_take(&rate, UINT64_MAX, 1, S);
		CU_ASSERT(at >= before);
		before = at;
	}
	CU_ASSERT(rate_take(&rate, 1, UINT64_MAX, S) <= S);
}

static void *take_many(void *arg)
{
	uint64_t last = 0;

	for (int i = 0; i < 10000; i++) {
		uint64_t at = rate_take(arg, 1000, 1000000, 100 * S);

		last = at > last ? at : last;
	}
	return (void *)(uintptr_t)last;
}

static void no_take_is_lost_between_threads(void)
{
	struct rate rate = { 0 };
	pthread_t threads[4];
	uint64_t last = 0;

	rate_take(&rate, 0, 1000000, 100 * S);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, take_many, &rate);
	for (int i = 0; i < 4; i++) {
		void *at;

		pthread_join(threads[i], &at);
		last = (uintptr_t)at > last ? (uintptr_t)at : last;
	}
	CU_ASSERT_EQUAL(last, 100 * S + 39999 * S / 1000);
}

SUITE("rate", TEST(unlimited_never_waits), TEST(takers_queue_up), TEST(at_most_50_ms_are_saved_up),
      TEST(a_raised_limit_forgets_the_debt), TEST(extremes_do_not_overflow), TEST(no_take_is_lost_between_threads))
