/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_inbox.c: letters come in order, each once, from several threads; nobody can fill the box. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/inbox.h"
#include "tests/unit/harness.h"

enum { THREADS = 4, POSTS = 3000 };

static struct inbox inbox;
static struct letter letter;
static struct waiter waiter;

static void fresh(void)
{
	memset(&inbox, 0, sizeof inbox);
	inbox_init(&inbox);
}

static bool take(void)
{
	return inbox_take(&inbox, &letter, now_ns(), &waiter, "a letter");
}

static void in_order_with_texts(void)
{
	char text[SLUICE_ERROR_MAX + 50];

	fresh();
	for (int lap = 0; lap < 5; lap++) { /* more than once around the ring */
		for (uint32_t i = 0; i < 100; i++) {
			snprintf(text, sizeof text, "letter %u", i);
			struct input in = { .type = INPUT_STREAM_UP, .value = i, .text = i % 2 ? text : NULL };
			inbox_post(&inbox, &in);
		}
		memset(text, 'x', sizeof text); /* they were copied */
		for (uint32_t i = 0; i < 100; i++) {
			char want[32] = "";

			if (i % 2)
				snprintf(want, sizeof want, "letter %u", i);
			CU_ASSERT(take());
			CU_ASSERT_EQUAL(letter.input.value, i);
			CU_ASSERT_STRING_EQUAL(letter.input.text, want);
		}
		CU_ASSERT(!take());
	}
	text[sizeof text - 1] = 0;
	struct input in = { .type = INPUT_LINK_LOST, .text = text };
	inbox_post(&inbox, &in);
	CU_ASSERT(take());
	CU_ASSERT_EQUAL(strlen(letter.input.text), SLUICE_ERROR_MAX - 1); /* too long a text is cut, not lost */
	inbox_fini(&inbox);
}

static void holds_what_it_says(void)
{
	struct input in = { .type = INPUT_STREAM_UP };

	fresh();
	for (in.value = 0; in.value < INBOX_SIZE; in.value++) {
		CU_ASSERT_EQUAL(inbox_busy(&inbox), in.value >= INBOX_SIZE / 4);
		inbox_post(&inbox, &in);
	}
	for (uint32_t i = 0; i < INBOX_SIZE; i++)
		CU_ASSERT(take() && letter.input.value == i);
	CU_ASSERT(!inbox_busy(&inbox));
	inbox_fini(&inbox);
}

/* A peer marks rounds as fast as it likes: that must not fill the box, and the newest is what counts. */
static void rounds_that_landed_do_not_pile_up(void)
{
	struct input landed = { .type = INPUT_LANDED }, other = { .type = INPUT_STREAM_UP };

	fresh();
	for (landed.round = 1; landed.round <= 10000; landed.round++) {
		inbox_post(&inbox, &landed);
		if (landed.round % 100 == 0)
			inbox_post(&inbox, &other);
	}
	unsigned others = 0, newest = 0, n = 0;
	for (; take(); n++)
		if (letter.input.type == INPUT_LANDED)
			newest = letter.input.round;
		else
			others++;
	CU_ASSERT_EQUAL(newest, 10000);
	CU_ASSERT_EQUAL(others, 100);
	CU_ASSERT_EQUAL(n, 101);
	/* One that was taken is not renewed. */
	inbox_post(&inbox, &landed);
	CU_ASSERT(take());
	landed.round++;
	inbox_post(&inbox, &landed);
	CU_ASSERT(take() && letter.input.round == landed.round);
	inbox_fini(&inbox);
}

static void messages_left_behind_are_freed(void)
{
	fresh();
	for (uint32_t i = 0; i < 300; i++) { /* across the end of the ring */
		struct input in = { .type = INPUT_MESSAGE, .message = calloc(1, sizeof *in.message) };

		inbox_post(&inbox, &in);
		if (i < 200) {
			CU_ASSERT(take());
			free((void *)letter.input.message);
		}
	}
	inbox_fini(&inbox); /* LeakSanitizer tells */
}

static void waits_until_the_deadline(void)
{
	uint64_t began = now_ns();

	fresh();
	CU_ASSERT(!inbox_take(&inbox, &letter, began + 20000000, &waiter, "a letter"));
	CU_ASSERT(now_ns() - began >= 20000000);
	CU_ASSERT_PTR_NULL(waiter.what);
	inbox_fini(&inbox);
}

static void *posts(void *arg)
{
	for (uint32_t i = 0; i < POSTS; i++) {
		struct input in = { .type = INPUT_STREAM_UP, .stream = (int)(uintptr_t)arg, .value = i, .text = "from a thread" };

		while (inbox_busy(&inbox)) /* as the link thread does */
			sched_yield();
		inbox_post(&inbox, &in);
	}
	return NULL;
}

static void many_threads(void)
{
	pthread_t threads[THREADS];
	uint32_t next[THREADS] = { 0 }, n = 0, wrong = 0;

	fresh();
	for (uintptr_t i = 0; i < THREADS; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, posts, (void *)i), 0);
	for (; n < THREADS * POSTS; n++) {
		if (!inbox_take(&inbox, &letter, now_ns() + 20000000000u, &waiter, "a letter"))
			break;
		wrong += letter.input.value != next[letter.input.stream]++ || strcmp(letter.input.text, "from a thread");
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT_EQUAL(n, THREADS * POSTS);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT(!take());
	inbox_fini(&inbox);
}

static void post_landed(uint32_t link, uint32_t round)
{
	struct message *m = calloc(1, sizeof *m);

	CU_ASSERT_PTR_NOT_NULL_FATAL(m);
	m->type = MESSAGE_LANDED;
	m->u.landed.round = round;
	struct input in = { .type = INPUT_MESSAGE, .link = link, .message = m };
	inbox_post(&inbox, &in);
}

/* A link that was stalled lets go of all of them at once: hundreds of KB they were. */
static void reports_of_what_landed_do_not_pile_up(void)
{
	struct input other = { .type = INPUT_STREAM_UP };

	fresh();
	for (uint32_t i = 1; i <= 10 * INBOX_SIZE; i++) {
		post_landed(1, i);
		if (i == 5)
			inbox_post(&inbox, &other);
	}
	post_landed(2, 1); /* of a later link: another's words */
	for (uint32_t link = 1; link <= 2; link++) {
		CU_ASSERT(take());
		CU_ASSERT_EQUAL(letter.input.link, link);
		CU_ASSERT_EQUAL(letter.input.message->u.landed.round, link == 1 ? 10 * INBOX_SIZE : 1);
		free((void *)letter.input.message);
		if (link == 2)
			break;
		CU_ASSERT(take());
		CU_ASSERT_EQUAL(letter.input.type, INPUT_STREAM_UP);
	}
	CU_ASSERT(!take());
	inbox_fini(&inbox);
}

/* Sync surveys twenty times a second; control may be held up for longer than the box would last. */
static void surveys_do_not_pile_up(void)
{
	fresh();
	for (uint32_t i = 1; i <= 10 * INBOX_SIZE; i++) {
		struct input in = { .type = INPUT_SURVEYED, .round = i, .remaining = 2 * i };
		inbox_post(&inbox, &in);
	}
	CU_ASSERT(take());
	CU_ASSERT_EQUAL(letter.input.type, INPUT_SURVEYED);
	CU_ASSERT_EQUAL(letter.input.round, 10 * INBOX_SIZE);
	CU_ASSERT_EQUAL(letter.input.remaining, 20 * INBOX_SIZE);
	CU_ASSERT(!take());
	inbox_fini(&inbox);
}

SUITE("inbox", TEST(in_order_with_texts), TEST(holds_what_it_says), TEST(rounds_that_landed_do_not_pile_up),
      TEST(reports_of_what_landed_do_not_pile_up), TEST(surveys_do_not_pile_up), TEST(messages_left_behind_are_freed),
      TEST(waits_until_the_deadline), TEST(many_threads))
