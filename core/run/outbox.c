/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* outbox.c: a list under one lock, and an eventfd for the embedder's loop. */
#include "core/run/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int outbox_init(struct outbox *outbox)
{
	outbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (outbox->fd < 0)
		return -errno;
	outbox->last = &outbox->first;
	pthread_mutex_init(&outbox->lock, NULL);
	return 0;
}

void outbox_fini(struct outbox *outbox)
{
	for (struct outbox_item *item; (item = outbox_take(outbox));)
		outbox_free(outbox, item);
	pthread_mutex_destroy(&outbox->lock);
	close(outbox->fd);
}

/* NULL: no memory. */
static struct outbox_item *make(enum sluice_event_type type, const void *bytes, size_t length)
{
	struct outbox_item *item = calloc(1, sizeof *item + length);
	if (!item)
		return NULL;
	item->event.type = type;
	if (length)
		memcpy(item->bytes, bytes, length);
	return item;
}

/* One that must not be lost. */
static struct outbox_item *make_sure(struct outbox *outbox, enum sluice_event_type type)
{
	struct outbox_item *item = make(type, NULL, 0);
	if (item)
		return item;
	pthread_mutex_lock(&outbox->lock);
	for (uint32_t i = 0; i < OUTBOX_RESERVE && !item; i++)
		if (!outbox->reserve[i].busy)
			item = &outbox->reserve[i];
	if (item) {
		*item = (struct outbox_item){ .reserved = true, .busy = true };
		item->event.type = type;
	}
	pthread_mutex_unlock(&outbox->lock);
	return item;
}

static void push(struct outbox *outbox, struct outbox_item *item)
{
	uint64_t one = 1;
	if (!item)
		return;
	pthread_mutex_lock(&outbox->lock);
	if (outbox->n >= OUTBOX_MOST && item->event.type == SLUICE_EVENT_ROUND) {
		pthread_mutex_unlock(&outbox->lock);
		free(item);
		return;
	}
	/* A loop that takes nothing, and a link that comes and goes: of phases beyond the bound only the newest counts. */
	struct outbox_item *newest = outbox->first ? (struct outbox_item *)outbox->last : NULL; /* `next` comes first in it */
	if (outbox->n >= OUTBOX_MOST && item->event.type == SLUICE_EVENT_PHASE && newest->event.type == SLUICE_EVENT_PHASE) {
		newest->event.u.phase = item->event.u.phase;
		pthread_mutex_unlock(&outbox->lock);
		outbox_free(outbox, item);
		return;
	}
	*outbox->last = item;
	outbox->last = &item->next;
	outbox->n++;
	pthread_mutex_unlock(&outbox->lock);
	/* After the lock, or the loop that this wakes would wait for us, with the embedder's big lock in its hand (seen: 4 ms). The item
	 * is there before, and only an empty list makes the descriptor unreadable: at worst it is once readable for nothing. */
	if (write(outbox->fd, &one, sizeof one) < 0) {
		/* only when the counter is full, and then it is readable */
	}
}

struct outbox_item *outbox_take(struct outbox *outbox)
{
	uint64_t count;
	pthread_mutex_lock(&outbox->lock);
	struct outbox_item *item = outbox->first;
	if (item) {
		outbox->first = item->next;
		if (!outbox->first)
			outbox->last = &outbox->first;
		outbox->n--;
	}
	if (!outbox->first && read(outbox->fd, &count, sizeof count) < 0) {
		/* it was not readable to begin with */
	}
	pthread_mutex_unlock(&outbox->lock);
	return item;
}

void outbox_free(struct outbox *outbox, struct outbox_item *item)
{
	if (!item->reserved) {
		free(item);
		return;
	}
	pthread_mutex_lock(&outbox->lock);
	item->busy = false;
	pthread_mutex_unlock(&outbox->lock);
}

void outbox_request(struct outbox *outbox, uint32_t request)
{
	struct outbox_item *item = make_sure(outbox, 0);
	if (item)
		item->request = request;
	push(outbox, item);
}

void outbox_phase(struct outbox *outbox, enum sluice_phase phase)
{
	struct outbox_item *item = make_sure(outbox, SLUICE_EVENT_PHASE);
	if (item)
		item->event.u.phase = phase;
	push(outbox, item);
}

void outbox_round(struct outbox *outbox, const struct sluice_round *round)
{
	struct outbox_item *item = make(SLUICE_EVENT_ROUND, NULL, 0);
	if (item)
		item->event.u.round = *round;
	push(outbox, item);
}

void outbox_text(struct outbox *outbox, const char *text)
{
	struct outbox_item *item = make(SLUICE_EVENT_WARNING, text, strlen(text) + 1);
	if (item)
		item->event.u.text = item->bytes;
	push(outbox, item);
}

int outbox_message(struct outbox *outbox, const void *data, size_t length)
{
	struct outbox_item *item = make(SLUICE_EVENT_MESSAGE, data, length);
	if (!item)
		return -ENOMEM;
	item->event.u.message.data = item->bytes;
	item->event.u.message.length = length;
	push(outbox, item);
	return 0;
}

void outbox_ended(struct outbox *outbox)
{
	push(outbox, make_sure(outbox, SLUICE_EVENT_ENDED));
}
