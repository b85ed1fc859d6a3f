/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_heat.c: which pages a round puts off, and that none is ever lost for it. */
#include <pthread.h>
#include <string.h>

#include "core/memory/heat.h"
#include "core/memory/regions.h"
#include "tests/unit/harness.h"

enum { GRANULES = 4, WORDS = GRANULES * GRANULE_WORDS };

struct bed {
	struct heat heat;
	struct bitmap dirty;
};

static void setup(struct bed *bed)
{
	CU_ASSERT_EQUAL_FATAL(heat_init(&bed->heat, GRANULES), 0);
	CU_ASSERT_EQUAL_FATAL(bitmap_init(&bed->dirty, WORDS), 0);
}

static void fini(struct bed *bed)
{
	heat_fini(&bed->heat);
	bitmap_fini(&bed->dirty);
}

static void page_written(struct bed *bed, uint64_t page)
{
	bitmap_set(&bed->heat.written, page, 1);
	bitmap_set(&bed->dirty, page, 1);
}

/* All of a round, as senders do it: the pages that it sends, of the first 64 of each granule. */
static void sweep(struct bed *bed, uint32_t round, uint64_t allowance, uint64_t sent[GRANULES])
{
	heat_open(&bed->heat, allowance);
	for (uint64_t g = 0; g < GRANULES; g++) {
		uint64_t mask[GRANULE_WORDS], discarded[GRANULE_WORDS] = { 0 };

		sent[g] = 0;
		if (!bitmap_take(&bed->dirty, g * GRANULE_WORDS, GRANULE_WORDS, mask))
			continue; /* passed over */
		bool any = heat_claim(&bed->heat, round, g * GRANULE_WORDS, GRANULE_WORDS, &bed->dirty, mask, discarded);
		CU_ASSERT_EQUAL(any, mask[0] != 0);
		sent[g] = mask[0];
	}
}

/* Written before every round: sent by two, to have seen it twice, then put off for as long as it is written; and sent when it is not. */
static void hot_pages_wait(void)
{
	struct bed bed;
	uint64_t sent[GRANULES];

	setup(&bed);
	bitmap_set(&bed.dirty, 0, 64); /* a first fetch finds all there is, and says nothing of writes */
	sweep(&bed, 1, 100, sent);
	CU_ASSERT_EQUAL(sent[0], UINT64_MAX);
	for (uint32_t round = 2; round < 6; round++) {
		page_written(&bed, 3);
		if (round == 4)
			page_written(&bed, 5);
		sweep(&bed, round, 100, sent);
		CU_ASSERT_EQUAL(sent[0], (round == 2 ? 8u : 0) | (round == 4 ? 32u : 0));
		CU_ASSERT_EQUAL(heat_put_off(&bed.heat), round > 2);
		CU_ASSERT_EQUAL(bitmap_test(&bed.dirty, 3), round > 2); /* still to be sent, by the last round at the latest */
	}
	sweep(&bed, 6, 100, sent);
	CU_ASSERT_EQUAL(sent[0], 8);
	CU_ASSERT_EQUAL(heat_put_off(&bed.heat), 0);
	CU_ASSERT_EQUAL(bitmap_count(&bed.dirty), 0);
	fini(&bed);
}

/* Written twice, but with a round between in which it was not: also where that round did not come by. */
static void only_in_a_row(void)
{
	struct bed bed;
	uint64_t sent[GRANULES];

	setup(&bed);
	for (uint32_t round = 1; round < 12; round++) {
		if (round % 2)
			page_written(&bed, 512);
		sweep(&bed, round, 100, sent);
		CU_ASSERT_EQUAL(sent[1], round % 2);
	}
	/* The same beside a page of its granule that brings every round there. */
	for (uint32_t round = 12; round < 24; round++) {
		if (round % 2)
			page_written(&bed, 512);
		bitmap_set(&bed.dirty, 513, 1);
		sweep(&bed, round, 100, sent);
		CU_ASSERT_EQUAL(sent[1], 2 | round % 2);
	}
	fini(&bed);
}

static void no_more_than_allowed(void)
{
	struct bed bed;
	uint64_t sent[GRANULES];

	setup(&bed);
	for (uint32_t round = 1; round < 4; round++) {
		for (uint64_t g = 0; g < GRANULES; g++)
			for (uint64_t i = 0; i < 10; i++)
				page_written(&bed, g * 512 + i);
		sweep(&bed, round, round == 3 ? 25 : 0, sent);
		CU_ASSERT_EQUAL(heat_put_off(&bed.heat), round == 3 ? 20 : 0); /* a word's pages, or none of them */
		CU_ASSERT_EQUAL(bitmap_count(&bed.dirty), heat_put_off(&bed.heat));
	}
	fini(&bed);
}

/* What was discarded costs next to nothing to send, and its bit is taken: put off, it would be read. */
static void discarded_pages_go(void)
{
	struct bed bed;

	setup(&bed);
	heat_open(&bed.heat, 100);
	for (uint32_t round = 1; round < 4; round++) {
		uint64_t mask[GRANULE_WORDS] = { 3 }, discarded[GRANULE_WORDS] = { round == 3 ? 1 : 0 };

		bitmap_set(&bed.heat.written, 0, 2);
		CU_ASSERT(heat_claim(&bed.heat, round, 0, GRANULE_WORDS, &bed.dirty, mask, discarded) == (round != 2));
		CU_ASSERT_EQUAL(mask[0], round == 1 ? 3 : round == 2 ? 0 : 1);
	}
	fini(&bed);
}

/* A claim may begin in the midst of a granule: what lies before was clean. */
static void from_the_midst(void)
{
	struct bed bed;

	setup(&bed);
	heat_open(&bed.heat, 100);
	for (uint32_t round = 1; round < 3; round++) {
		uint64_t mask[GRANULE_WORDS] = { 0, 1 }, discarded[GRANULE_WORDS] = { 0 };

		bitmap_set(&bed.heat.written, (uint64_t)(GRANULE_WORDS + 3) * 64, 1);
		heat_claim(&bed.heat, round, GRANULE_WORDS + 2, GRANULE_WORDS - 2, &bed.dirty, mask, discarded);
		CU_ASSERT_EQUAL(mask[1], round == 1);
	}
	CU_ASSERT(bitmap_test(&bed.dirty, (uint64_t)(GRANULE_WORDS + 3) * 64));
	fini(&bed);
}

struct race {
	struct bed bed;
	_Atomic bool stop;
	_Atomic uint64_t version[64], arrived[64];
};

static void *writes(void *arg)
{
	struct race *race = arg;

	for (uint64_t i = 0; !atomic_load_explicit(&race->stop, memory_order_relaxed); i++) {
		uint64_t page = i * 7 % (i % 3 ? 8 : 64);

		atomic_fetch_add_explicit(&race->version[page], 1, memory_order_relaxed);
		page_written(&race->bed, page);
	}
	return NULL;
}

/* A writer beside rounds that put off: in the end what is not dirty has arrived as it was written last. */
static void loses_nothing(void)
{
	static struct race race;
	pthread_t thread;
	uint64_t put_off = 0;

	memset(&race, 0, sizeof race);
	setup(&race.bed);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, writes, &race), 0);
	for (uint32_t round = 1; put_off < 400;) {
		uint64_t mask[GRANULE_WORDS], discarded[GRANULE_WORDS] = { 0 };

		heat_open(&race.bed.heat, 40);
		if (!bitmap_take(&race.bed.dirty, 0, GRANULE_WORDS, mask))
			continue;
		heat_claim(&race.bed.heat, round++, 0, GRANULE_WORDS, &race.bed.dirty, mask, discarded);
		put_off += heat_put_off(&race.bed.heat);
		for (uint64_t bits = mask[0]; bits; bits &= bits - 1) {
			int page = __builtin_ctzll(bits);
			atomic_store(&race.arrived[page], atomic_load_explicit(&race.version[page], memory_order_relaxed));
		}
	}
	atomic_store(&race.stop, true);
	pthread_join(thread, NULL);
	for (uint64_t page = 0; page < 64; page++)
		CU_ASSERT(bitmap_test(&race.bed.dirty, page) || race.arrived[page] == race.version[page]);
	fini(&race.bed);
}

SUITE("heat", TEST(hot_pages_wait), TEST(only_in_a_row), TEST(no_more_than_allowed), TEST(discarded_pages_go),
      TEST(from_the_midst), TEST(loses_nothing))
