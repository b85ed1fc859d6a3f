/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_gate.c: nobody passes a round before all have come; cancel lets all go. And the bell under it. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "streams/gate.h"
#include "tests/unit/harness.h"

enum { STREAMS = 5, ROUNDS = 400 };

struct world {
	struct gate gate;
	_Atomic uint32_t in[STREAMS]; /* round that each has come to */
	uint32_t landed;              /* by the gate's own ordering */
	_Atomic uint32_t wrong;
};

struct walker {
	struct world *world;
	uint32_t stream, rounds;
	struct waiter waiter;
	int result;
};

static void landed(void *arg, uint32_t round)
{
	struct world *w = arg;

	if (++w->landed != round)
		atomic_fetch_add(&w->wrong, 1);
	for (int i = 0; i < STREAMS; i++)
		if (atomic_load(&w->in[i]) != round)
			atomic_fetch_add(&w->wrong, 1);
}

static void *walk(void *arg)
{
	struct walker *me = arg;
	struct world *w = me->world;
	uint64_t held;

	for (uint32_t round = 1; round <= me->rounds; round++) {
		atomic_store(&w->in[me->stream], round);
		me->result = gate_pass(&w->gate, round, landed, w, &me->waiter, &held);
		if (me->result)
			return NULL;
		/* Written by the last of the round, read by all after it: a race if the gate orders nothing. */
		if (w->landed < round || gate_passed(&w->gate) < round)
			atomic_fetch_add(&w->wrong, 1);
		for (int i = 0; i < STREAMS; i++)
			if (atomic_load(&w->in[i]) < round || atomic_load(&w->in[i]) > round + 1)
				atomic_fetch_add(&w->wrong, 1);
	}
	return NULL;
}

static void rounds_stay_together(void)
{
	static struct world w;
	struct walker walkers[STREAMS];
	pthread_t threads[STREAMS];

	memset(&w, 0, sizeof(w));
	memset(walkers, 0, sizeof(walkers));
	gate_init(&w.gate, STREAMS);
	for (uint32_t i = 0; i < STREAMS; i++) {
		walkers[i] = (struct walker){ .world = &w, .stream = i, .rounds = ROUNDS };
		pthread_create(&threads[i], NULL, walk, &walkers[i]);
	}
	for (int i = 0; i < STREAMS; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(walkers[i].result, 0);
	}
	CU_ASSERT_EQUAL(w.wrong, 0);
	CU_ASSERT_EQUAL(gate_passed(&w.gate), ROUNDS);
}

static void one_stream_alone_passes(void)
{
	struct waiter waiter = { 0 };
	struct world w = { 0 };
	uint64_t held;

	gate_init(&w.gate, 1);
	for (int i = 0; i < STREAMS; i++)
		w.in[i] = 1;
	CU_ASSERT_EQUAL(gate_pass(&w.gate, 1, landed, &w, &waiter, &held), 0);
	CU_ASSERT_EQUAL(w.landed, 1);
	CU_ASSERT_EQUAL(w.wrong, 0);
}

static void cancel_lets_all_go(void)
{
	static struct world w;
	struct walker walkers[STREAMS - 1];
	pthread_t threads[STREAMS - 1];
	const char *what;
	uint64_t began;

	memset(&w, 0, sizeof(w));
	gate_init(&w.gate, STREAMS);
	for (uint32_t i = 0; i < STREAMS - 1; i++) {
		walkers[i] = (struct walker){ .world = &w, .stream = i, .rounds = 1 };
		pthread_create(&threads[i], NULL, walk, &walkers[i]);
	}
	while (!(what = atomic_load(&walkers[0].waiter.what)))
		usleep(1000);
	CU_ASSERT(strstr(what, "gate") != NULL);
	CU_ASSERT_EQUAL(gate_passed(&w.gate), 0);
	began = now_ns();
	gate_cancel(&w.gate);
	for (int i = 0; i < STREAMS - 1; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(walkers[i].result, -ECANCELED);
	}
	CU_ASSERT(now_ns() - began < 1000000000u);
	CU_ASSERT_EQUAL(w.landed, 0);
	/* And whoever comes later. */
	walk(&walkers[0]);
	CU_ASSERT_EQUAL(walkers[0].result, -ECANCELED);
}

static void a_bell_has_a_deadline(void)
{
	struct bell bell = { 0 };
	struct waiter waiter = { 0 };
	uint64_t began = now_ns();

	CU_ASSERT_EQUAL(bell_wait(&bell, bell_key(&bell), began + 20000000, &waiter, "nothing"), -ETIMEDOUT);
	CU_ASSERT(now_ns() - began >= 20000000);
	CU_ASSERT(waiter.waited_ns > 0); /* less than 20 ms: it begins to count a little later than we do */
	CU_ASSERT_PTR_NULL(atomic_load(&waiter.what));
	bell_ring(&bell);
	CU_ASSERT_EQUAL(bell_wait(&bell, 0, began, &waiter, "rung already"), 0);
}

struct pingpong {
	struct bell to, from;
	_Atomic uint32_t ball;
};

static void *return_balls(void *arg)
{
	struct pingpong *p = arg;

	for (uint32_t i = 1; i <= 20000; i++) {
		for (;;) {
			uint32_t key = bell_key(&p->to);

			if (atomic_load_explicit(&p->ball, memory_order_relaxed) == 2 * i - 1)
				break;
			bell_wait(&p->to, key, UINT64_MAX, NULL, "ball");
		}
		atomic_store_explicit(&p->ball, 2 * i, memory_order_relaxed);
		bell_ring(&p->from);
	}
	return NULL;
}

/* A ring that fell between look and wait would end this in a deadlock. */
static void no_ring_is_lost(void)
{
	static struct pingpong p;
	pthread_t thread;

	memset(&p, 0, sizeof(p));
	pthread_create(&thread, NULL, return_balls, &p);
	for (uint32_t i = 1; i <= 20000; i++) {
		atomic_store_explicit(&p.ball, 2 * i - 1, memory_order_relaxed);
		bell_ring(&p.to);
		for (;;) {
			uint32_t key = bell_key(&p.from);

			if (atomic_load_explicit(&p.ball, memory_order_relaxed) == 2 * i)
				break;
			bell_wait(&p.from, key, UINT64_MAX, NULL, "ball");
		}
	}
	pthread_join(thread, NULL);
}

SUITE("gate", TEST(rounds_stay_together), TEST(one_stream_alone_passes), TEST(cancel_lets_all_go), TEST(a_bell_has_a_deadline),
      TEST(no_ring_is_lost))
