/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* inbox.c: a ring of letters under one lock, with a bell for the control thread. */
#include "core/run/inbox.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

void inbox_init(struct inbox *inbox)
{
	pthread_mutex_init(&inbox->lock, NULL);
}

void inbox_fini(struct inbox *inbox)
{
	for (; inbox->n; inbox->n--, inbox->first++)
		free((void *)inbox->letters[inbox->first % INBOX_SIZE].input.message);
	pthread_mutex_destroy(&inbox->lock);
}

/* Does a newer letter say all that an older one said? A peer may mark rounds, or report what landed, and sync survey, faster than control
 * looks. */
static bool supersedes(const struct input *input, const struct input *old)
{
	if (input->type != old->type)
		return false;
	if (input->type == INPUT_MESSAGE)
		return input->message->type == MESSAGE_LANDED && old->message->type == MESSAGE_LANDED && input->link == old->link;
	return input->type == INPUT_LANDED || input->type == INPUT_SURVEYED;
}

/* Under lock. Only the newest counts, and may be known early. */
static bool replaces(struct inbox *inbox, const struct input *input)
{
	for (uint32_t i = 0; i < inbox->n; i++) {
		struct input *old = &inbox->letters[(inbox->first + i) % INBOX_SIZE].input;
		if (!supersedes(input, old))
			continue;
		free((void *)old->message);
		*old = *input;
		return true;
	}
	return false;
}

void inbox_post(struct inbox *inbox, const struct input *input)
{
	pthread_mutex_lock(&inbox->lock);
	if (replaces(inbox, input)) {
		pthread_mutex_unlock(&inbox->lock);
		return;
	}
	assert(inbox->n < INBOX_SIZE);
	struct letter *l = &inbox->letters[(inbox->first + inbox->n) % INBOX_SIZE];
	inbox->n++;
	l->input = *input;
	snprintf(l->text, sizeof l->text, "%s", input->text ? input->text : "");
	pthread_mutex_unlock(&inbox->lock);
	bell_ring(&inbox->bell);
}

bool inbox_busy(struct inbox *inbox)
{
	pthread_mutex_lock(&inbox->lock);
	bool busy = inbox->n >= INBOX_SIZE / 4;
	pthread_mutex_unlock(&inbox->lock);
	return busy;
}

bool inbox_take(struct inbox *inbox, struct letter *ret, uint64_t deadline_ns, struct waiter *waiter, const char *what)
{
	for (;;) {
		uint32_t key = bell_key(&inbox->bell);
		pthread_mutex_lock(&inbox->lock);
		bool any = inbox->n;
		if (any) {
			*ret = inbox->letters[inbox->first % INBOX_SIZE];
			inbox->first = (inbox->first + 1) % INBOX_SIZE;
			inbox->n--;
		}
		pthread_mutex_unlock(&inbox->lock);
		if (any) {
			ret->input.text = ret->text;
			return true;
		}
		if (bell_wait(&inbox->bell, key, deadline_ns, waiter, what))
			return false;
	}
}
