/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_compress.c: when lz4 is switched on and off by itself. A sender is played with a clock of our own: the wire
 * takes so much, lz4 so much, data shrinks to so much. */
#include <string.h>

#include "streams/compress_auto.h"
#include "tests/unit/harness.h"

#define MS 1000000ull

enum { BATCH = 512 << 10, BLOCK = 64 << 10 };

struct world {
	struct compress_auto a;
	uint64_t now;
	double wire, lz4; /* bytes per second */
	double copy;      /* bytes per second of handing over, where the wire does not limit */
	double ratio;
	double crowd; /* how much slower lz4 is when it is on for all than in one sample */
	uint64_t guest_bytes, lz4_bytes, flips, sample_ns;
};

static double block(struct world *w, double crowd)
{
	double took = BLOCK / w->lz4 * crowd * 1e9;

	compress_auto_block(&w->a, w->now, BLOCK, (uint32_t)(BLOCK * w->ratio), (uint64_t)took);
	w->lz4_bytes += BLOCK;
	return took;
}

/* One batch, prepared while the one before it is on the wire. */
static void step(struct world *w)
{
	bool on = compress_auto_on(&w->a), before = w->a.on;
	double prepare = 20000, out = BATCH, wire;

	if (!on && compress_auto_wants_sample(&w->a, w->now)) {
		double took = block(w, 1);

		prepare += took;
		w->sample_ns += (uint64_t)took;
	}
	for (int i = 0; on && i < BATCH / BLOCK; i++)
		prepare += block(w, w->crowd);
	if (on)
		out = BATCH * w->ratio;
	wire = out / (w->wire < w->copy ? w->wire : w->copy) * 1e9;
	double took = wire > prepare ? wire : prepare;

	w->now += (uint64_t)took;
	w->guest_bytes += BATCH;
	compress_auto_sent(&w->a, w->now, !on, (uint64_t)out, (uint64_t)took,
			   (uint64_t)(wire > prepare ? wire - prepare : out / w->copy * 1e9));
	w->flips += w->a.on != before;
}

static double run(struct world *w, uint64_t ms)
{
	uint64_t until = w->now + ms * MS, began = w->now, bytes = w->guest_bytes;

	while (w->now < until)
		step(w);
	return (double)(w->guest_bytes - bytes) / ((double)(w->now - began) / 1e9);
}

static struct world world(double wire, double lz4, double ratio)
{
	struct world w = { .now = 1000000 * MS, .wire = wire, .lz4 = lz4, .ratio = ratio, .copy = 4e9, .crowd = 1 };

	compress_auto_init(&w.a, w.now);
	return w;
}

static void slow_wire_and_text_switch_it_on(void)
{
	struct world w = world(100e6, 600e6, 0.3);

	run(&w, 1000);
	CU_ASSERT(w.a.on);
	/* 3.3 times as fast, and it stays that way. */
	CU_ASSERT(run(&w, 60000) > 320e6);
	CU_ASSERT_EQUAL(w.flips, 1);
}

static void fast_wire_leaves_it_off(void)
{
	struct world w = world(1e9, 600e6, 0.3);

	run(&w, 60000);
	CU_ASSERT_EQUAL(w.flips, 0);
	CU_ASSERT(w.sample_ns * 200 < 60000 * MS);
	/* No wire at all in the way, and lz4 as good as it gets: still the copying limits. */
	w = world(1e12, 3e9, 0.05);
	run(&w, 60000);
	CU_ASSERT_EQUAL(w.flips, 0);
}

static void random_data_leave_it_off(void)
{
	struct world w = world(50e6, 600e6, 1);

	run(&w, 60000);
	CU_ASSERT_EQUAL(w.flips, 0);
	CU_ASSERT(w.sample_ns * 200 < 60000 * MS);
	/* Samples become rare: no more than one every 1.6 s in the end. */
	uint64_t before = w.lz4_bytes;

	run(&w, 32000);
	CU_ASSERT(w.lz4_bytes - before <= 21 * BLOCK);
}

static void close_calls_do_not_flap(void)
{
	for (double lz4 = 90e6; lz4 < 150e6; lz4 += 5e6) {
		struct world w = world(100e6, lz4, 0.5);

		run(&w, 60000);
		CU_ASSERT(w.flips <= 1);
	}
}

static void data_that_change_are_noticed(void)
{
	struct world w = world(100e6, 600e6, 1);

	run(&w, 20000);
	CU_ASSERT(!w.a.on);
	w.ratio = 0.3;
	run(&w, 5000);
	CU_ASSERT(w.a.on);
	w.ratio = 1;
	run(&w, 500);
	CU_ASSERT(!w.a.on);
}

static void a_wire_that_changes_is_noticed(void)
{
	struct world w = world(2e9, 600e6, 0.3);

	run(&w, 20000);
	CU_ASSERT(!w.a.on);
	/* Somebody sets a bandwidth limit... */
	w.wire = 50e6;
	run(&w, 3000);
	CU_ASSERT(w.a.on);
	/* ...and lifts it: lz4 is what limits now, which only raw batches can tell. */
	w.wire = 2e9;
	run(&w, 11000);
	CU_ASSERT(!w.a.on);
	CU_ASSERT(run(&w, 10000) > 1.9e9);
}

/* Found on two cores with 16 streams: a sample alone ran at 900 MB/s, lz4 in all senders at 70. */
static void lz4_that_is_slower_than_its_samples_is_given_up(void)
{
	struct world w = world(200e6, 900e6, 0.3);

	w.crowd = 12;
	run(&w, 20000);
	uint64_t before = w.guest_bytes;
	double rate = run(&w, 60000);

	CU_ASSERT(rate > 0.97 * 200e6);
	CU_ASSERT(w.flips < 60);
	CU_ASSERT(w.guest_bytes > before);
}

SUITE("compress", TEST(slow_wire_and_text_switch_it_on), TEST(fast_wire_leaves_it_off), TEST(random_data_leave_it_off),
      TEST(close_calls_do_not_flap), TEST(data_that_change_are_noticed), TEST(a_wire_that_changes_is_noticed),
      TEST(lz4_that_is_slower_than_its_samples_is_given_up))
