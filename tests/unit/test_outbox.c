/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_outbox.c: items come in order, and the descriptor is readable exactly while there are some. */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/outbox.h"
#include "tests/unit/harness.h"

enum { THREADS = 4, POSTS = 2000 };

static struct outbox outbox;

static void fresh(void)
{
	memset(&outbox, 0, sizeof outbox);
	CU_ASSERT_EQUAL_FATAL(outbox_init(&outbox), 0);
}

static bool readable(int ms)
{
	struct pollfd p = { .fd = outbox.fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static void in_order(void)
{
	struct sluice_round round = { .n = 7, .pages = 12 };
	char bytes[3000], text[] = "a warning";
	struct outbox_item *item;

	fresh();
	memset(bytes, 'b', sizeof bytes);
	outbox_phase(&outbox, SLUICE_ACTIVE);
	outbox_request(&outbox, SLUICE_PAUSE);
	outbox_round(&outbox, &round);
	outbox_text(&outbox, text);
	outbox_message(&outbox, bytes, sizeof bytes);
	outbox_message(&outbox, bytes, 0);
	outbox_ended(&outbox);
	memset(bytes, 0, sizeof bytes); /* they were copied */
	memset(text, 0, sizeof text);

	item = outbox_take(&outbox);
	CU_ASSERT(item && !item->request && item->event.type == SLUICE_EVENT_PHASE && item->event.u.phase == SLUICE_ACTIVE);
	free(item);
	item = outbox_take(&outbox);
	CU_ASSERT(item && item->request == SLUICE_PAUSE);
	free(item);
	item = outbox_take(&outbox);
	CU_ASSERT(item && item->event.type == SLUICE_EVENT_ROUND && item->event.u.round.n == 7 &&
		  item->event.u.round.pages == 12);
	free(item);
	item = outbox_take(&outbox);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL(item->event.type, SLUICE_EVENT_WARNING);
	CU_ASSERT_STRING_EQUAL(item->event.u.text, "a warning");
	free(item);
	item = outbox_take(&outbox);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL(item->event.type, SLUICE_EVENT_MESSAGE);
	CU_ASSERT_EQUAL(item->event.u.message.length, sizeof bytes);
	bool same = true;
	for (size_t i = 0; i < sizeof bytes; i++)
		same &= ((const char *)item->event.u.message.data)[i] == 'b';
	CU_ASSERT(same);
	free(item);
	item = outbox_take(&outbox);
	CU_ASSERT(item && item->event.u.message.length == 0 && item->event.u.message.data);
	free(item);
	item = outbox_take(&outbox);
	CU_ASSERT(item && item->event.type == SLUICE_EVENT_ENDED);
	free(item);
	CU_ASSERT_PTR_NULL(outbox_take(&outbox));
	outbox_fini(&outbox);
}

static void readable_exactly_while_not_empty(void)
{
	fresh();
	CU_ASSERT(!readable(0));
	for (int lap = 0; lap < 3; lap++) {
		for (int i = 0; i < 3; i++) {
			outbox_phase(&outbox, SLUICE_ACTIVE);
			CU_ASSERT(readable(0));
		}
		for (int i = 0; i < 3; i++) {
			CU_ASSERT(readable(0));
			free(outbox_take(&outbox));
		}
		CU_ASSERT(!readable(0));
		CU_ASSERT_PTR_NULL(outbox_take(&outbox));
		CU_ASSERT(!readable(0));
	}
	outbox_phase(&outbox, SLUICE_ACTIVE);
	outbox_fini(&outbox); /* with something in it: LeakSanitizer tells */
}

/* An embedder that does not look loses rounds, which are only for show, and nothing else. */
static void rounds_are_bounded(void)
{
	struct sluice_round round = { 0 };
	struct outbox_item *item;
	unsigned rounds = 0, requests = 0, last = 0;

	fresh();
	for (round.n = 1; round.n <= OUTBOX_MOST + 500; round.n++)
		outbox_round(&outbox, &round);
	outbox_request(&outbox, SLUICE_PAUSE);
	outbox_phase(&outbox, SLUICE_FAILED);
	outbox_ended(&outbox);
	for (; (item = outbox_take(&outbox)); free(item)) {
		rounds += !item->request && item->event.type == SLUICE_EVENT_ROUND;
		requests += item->request == SLUICE_PAUSE;
		last = item->event.type;
	}
	CU_ASSERT_EQUAL(rounds, OUTBOX_MOST);
	CU_ASSERT_EQUAL(requests, 1);
	CU_ASSERT_EQUAL(last, SLUICE_EVENT_ENDED);
	CU_ASSERT(!readable(0));
	outbox_fini(&outbox);
}

struct word {
	uint32_t thread, n;
};

static void *posts(void *arg)
{
	for (uint32_t i = 0; i < POSTS; i++) {
		struct word word = { (uint32_t)(uintptr_t)arg, i };

		outbox_message(&outbox, &word, sizeof word);
	}
	return NULL;
}

/* One loop takes while others post: woken by the descriptor alone, it sees all of them, in each one's order. */
static void many_threads(void)
{
	pthread_t threads[THREADS];
	uint32_t next[THREADS] = { 0 }, n = 0, wrong = 0;

	fresh();
	for (uintptr_t i = 0; i < THREADS; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, posts, (void *)i), 0);
	while (n < THREADS * POSTS && readable(20000)) {
		struct outbox_item *item = outbox_take(&outbox);
		struct word word;

		if (!item) { /* readable, and nothing there */
			wrong++;
			continue;
		}
		memcpy(&word, item->event.u.message.data, sizeof word);
		wrong += word.n != next[word.thread]++;
		free(item);
		n++;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT_EQUAL(n, THREADS * POSTS);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT(!readable(0));
	outbox_fini(&outbox);
}

SUITE("outbox", TEST(in_order), TEST(readable_exactly_while_not_empty), TEST(rounds_are_bounded), TEST(many_threads))
