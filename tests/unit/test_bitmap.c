/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_bitmap.c: ranges against a plain array, and the one promise that Law 3 rests on, with threads: what was written before a
 * bit was set is seen by who takes the bit. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory/bitmap.h"
#include "tests/unit/backing.h"
#include "tests/unit/harness.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif

enum { WORDS = 16, BITS = WORDS * 64 };

static void ranges_agree_with_a_plain_array(void)
{
	struct bitmap bitmap;
	unsigned char model[BITS] = { 0 };
	unsigned seed = 1, wrong = 0;

	CU_ASSERT_EQUAL_FATAL(bitmap_init(&bitmap, WORDS), 0);
	CU_ASSERT_EQUAL(bitmap_bytes(&bitmap), WORDS * 8);
	for (int step = 0; step < 20000; step++) {
		uint64_t first = (unsigned)rand_r(&seed) % BITS, n = (unsigned)rand_r(&seed) % (BITS - first + 1), added = 0,
			 all = 1;
		if (rand_r(&seed) % 2) {
			for (uint64_t i = first; i < first + n; i++)
				added += !model[i], model[i] = 1;
			wrong += bitmap_set(&bitmap, first, n) != added;
		} else {
			memset(model + first, 0, n);
			bitmap_clear(&bitmap, first, n);
		}
		first = (unsigned)rand_r(&seed) % BITS, n = (unsigned)rand_r(&seed) % (BITS - first + 1);
		for (uint64_t i = first; i < first + n; i++)
			all &= model[i];
		wrong += bitmap_all(&bitmap, first, n) != all;
		uint64_t count = 0;
		for (uint64_t i = 0; i < BITS; i++)
			count += model[i], wrong += bitmap_test(&bitmap, i) != model[i];
		wrong += bitmap_count(&bitmap) != count;
	}
	CU_ASSERT_EQUAL(wrong, 0);
	bitmap_fini(&bitmap);
}

static void take_empties(void)
{
	struct bitmap bitmap;
	uint64_t taken[4];

	CU_ASSERT_EQUAL_FATAL(bitmap_init(&bitmap, 8), 0);
	CU_ASSERT_FALSE(bitmap_take(&bitmap, 0, 4, taken));
	CU_ASSERT_EQUAL(bitmap_or(&bitmap, 2, 5), 2);
	CU_ASSERT_EQUAL(bitmap_or(&bitmap, 2, 7), 1);
	CU_ASSERT_EQUAL(bitmap_set(&bitmap, 4 * 64, 1), 1);
	CU_ASSERT_TRUE(bitmap_take(&bitmap, 0, 4, taken));
	CU_ASSERT(taken[0] == 0 && taken[1] == 0 && taken[2] == 7 && taken[3] == 0);
	CU_ASSERT_FALSE(bitmap_take(&bitmap, 0, 4, taken));
	CU_ASSERT_EQUAL(bitmap_count(&bitmap), 1);
	bitmap_fini(&bitmap);
}

static void no_bits_are_fine(void)
{
	struct bitmap bitmap;

	CU_ASSERT_EQUAL(bitmap_init(&bitmap, 0), 0);
	CU_ASSERT_EQUAL(bitmap_count(&bitmap), 0);
	bitmap_fini(&bitmap);
	CU_ASSERT(bitmap_init(&bitmap, UINT64_MAX / 4) < 0);
	bitmap_fini(&bitmap);
}

/* 1 TiB of guest memory: 32 MiB of bits, of which looking and clearing touch none. */
static void sparse_stays_sparse(void)
{
	struct bitmap bitmap;
	uint64_t words = (UINT64_C(1) << 40) / 4096 / 64;

	CU_ASSERT_EQUAL_FATAL(bitmap_init(&bitmap, words), 0);
	__attribute__((unused)) long before = status_kib("RssAnon");
	bitmap_clear(&bitmap, 0, words * 64);
	CU_ASSERT_FALSE(bitmap_all(&bitmap, 77777777, 1));
	bitmap_set(&bitmap, 100000000, 3);
	CU_ASSERT_EQUAL(bitmap_count(&bitmap), 3);
#ifndef __SANITIZE_THREAD__ /* which keeps notes of each word read */
	CU_ASSERT(before >= 0 && status_kib("RssAnon") - before < 4096);
#endif
	bitmap_fini(&bitmap);
}

enum { PAGES = 64, WRITES = 1000000 };
struct race {
	struct bitmap bitmap;
	_Atomic uint64_t content[PAGES]; /* relaxed: only the bitmap orders it */
	_Atomic int writers, seeds;
};

static void *write_and_mark(void *argument)
{
	struct race *race = argument;
	unsigned odd = (unsigned)atomic_fetch_add(&race->seeds, 1), seed = odd;

	for (int i = 0; i < WRITES; i++) {
		/* Pages of its own: a plain store may still sit in the store buffer when the bit is set, an addition would not. */
		unsigned page = (unsigned)rand_r(&seed) % PAGES / 2 * 2 + odd;
		atomic_store_explicit(&race->content[page], (uint64_t)i + 1, memory_order_relaxed);
		bitmap_set(&race->bitmap, page, 1);
	}
	atomic_fetch_sub(&race->writers, 1);
	return NULL;
}

static void what_is_marked_is_copied(void)
{
	static struct race race;
	uint64_t copy[PAGES] = { 0 }, taken[PAGES / 64];
	pthread_t threads[2];
	int wrong = 0, last = 0;

	CU_ASSERT_EQUAL_FATAL(bitmap_init(&race.bitmap, PAGES / 64), 0);
	atomic_store(&race.writers, 2);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, write_and_mark, &race);
	do {
		last = !atomic_load(&race.writers);
		bitmap_take(&race.bitmap, 0, PAGES / 64, taken);
		for (int page = 0; page < PAGES; page++)
			if (taken[page / 64] >> page % 64 & 1)
				copy[page] = atomic_load_explicit(&race.content[page], memory_order_relaxed);
	} while (!last);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int page = 0; page < PAGES; page++)
		wrong += copy[page] != race.content[page];
	CU_ASSERT_EQUAL(wrong, 0);
	bitmap_fini(&race.bitmap);
}

SUITE("bitmap", TEST(ranges_agree_with_a_plain_array), TEST(take_empties), TEST(no_bits_are_fine), TEST(sparse_stays_sparse),
      TEST(what_is_marked_is_copied))
