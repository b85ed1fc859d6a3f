/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_sweep.c: each word is claimed exactly once a round, below the frontier, and never across a granule's border. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "core/memory/regions.h"
#include "core/memory/sweep.h"
#include "tests/unit/harness.h"

static void one_sender_walks_it_all(void)
{
	struct sweep sweep;
	uint64_t word;
	uint32_t n;

	sweep_init(&sweep, 20);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_WAIT);
	sweep_open(&sweep, 1, 0);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_WAIT);
	sweep_advance(&sweep, 8);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_CLAIMED);
	CU_ASSERT(word == 0 && n == 8);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_WAIT);
	sweep_advance(&sweep, 11);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_CLAIMED);
	CU_ASSERT(word == 8 && n == 3);
	sweep_advance(&sweep, 20);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_CLAIMED);
	CU_ASSERT(word == 11 && n == 5); /* up to the border */
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_CLAIMED);
	CU_ASSERT(word == 16 && n == 4);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_OVER);
	sweep_open(&sweep, 2, 20);
	for (uint64_t want = 0, steps[] = { 8, 8, 4 }, i = 0; i < 3; want += steps[i++]) {
		CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_CLAIMED);
		CU_ASSERT(word == want && n == steps[i]);
	}
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_OVER);
}

static void cut_it_is_over(void)
{
	struct sweep sweep;
	uint64_t word;
	uint32_t n;

	sweep_init(&sweep, 80);
	for (uint32_t round = 1; round < 4; round++) {
		sweep_open(&sweep, round, 40);
		CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_CLAIMED);
		CU_ASSERT_EQUAL(word, 0);
		sweep_cut(&sweep);
		CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_OVER);
		sweep_advance(&sweep, 64); /* sync was about to */
		CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_OVER);
	}
}

static void no_memory_is_over_at_once(void)
{
	struct sweep sweep;
	uint64_t word;
	uint32_t n;

	sweep_init(&sweep, 0);
	sweep_open(&sweep, 1, 0);
	CU_ASSERT_EQUAL(sweep_claim(&sweep, NULL, &word, &n), SWEEP_OVER);
}

enum { SENDERS = 4, ROUNDS = 50, WORDS = 8 * 500 + 3 };
struct shared {
	struct sweep sweep;
	unsigned char claimed[WORDS]; /* plain: the claim is what orders it */
	pthread_barrier_t barrier;
	_Atomic int wrong;
};

static void *send_rounds(void *argument)
{
	struct shared *shared = argument;

	for (int round = 1; round <= ROUNDS; round++) {
		uint64_t word;
		uint32_t n;
		enum sweep_result result;
		pthread_barrier_wait(&shared->barrier);
		while ((result = sweep_claim(&shared->sweep, NULL, &word, &n)) != SWEEP_OVER) {
			if (result == SWEEP_WAIT) {
				sched_yield();
				continue;
			}
			shared->wrong += !n || word / GRANULE_WORDS != (word + n - 1) / GRANULE_WORDS;
			for (uint32_t i = 0; i < n; i++)
				shared->wrong += ++shared->claimed[word + i] != round;
		}
		pthread_barrier_wait(&shared->barrier);
	}
	return NULL;
}

static void many_senders_claim_each_word_once(void)
{
	struct shared *shared = calloc(1, sizeof(*shared));
	pthread_t threads[SENDERS];
	int missed = 0;

	sweep_init(&shared->sweep, WORDS);
	pthread_barrier_init(&shared->barrier, NULL, SENDERS + 1);
	for (int i = 0; i < SENDERS; i++)
		pthread_create(&threads[i], NULL, send_rounds, shared);
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		sweep_open(&shared->sweep, round, 0);
		pthread_barrier_wait(&shared->barrier);
		for (uint64_t frontier = 0; frontier < WORDS; frontier += 64)
			sweep_advance(&shared->sweep, frontier);
		sweep_advance(&shared->sweep, WORDS);
		pthread_barrier_wait(&shared->barrier);
	}
	for (int i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < WORDS; i++)
		missed += shared->claimed[i] != ROUNDS;
	CU_ASSERT_EQUAL(missed, 0);
	CU_ASSERT_EQUAL(shared->wrong, 0);
	pthread_barrier_destroy(&shared->barrier);
	free(shared);
}

SUITE("sweep", TEST(one_sender_walks_it_all), TEST(cut_it_is_over), TEST(no_memory_is_over_at_once),
      TEST(many_senders_claim_each_word_once))
