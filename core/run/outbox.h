/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* outbox.h: what the embedder's loop is to be told or asked, in order; delivered by sluice_dispatch(). */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "core/sluice.h"

enum {
	OUTBOX_RESERVE = 16,
	OUTBOX_MOST = 4096
}; /* beyond, an embedder that does not listen is told no rounds, and only the newest phase */

struct outbox_item {
	struct outbox_item *next;
	uint32_t request; /* enum sluice_request or CALL_*; 0: an event */
	struct sluice_event event;
	bool reserved; /* one of outbox.reserve, not to be freed */
	bool busy;     /* of a reserved one: in the list, or with the dispatcher */
	char bytes[];  /* the event's text or message */
};

struct outbox {
	pthread_mutex_t lock; /* innermost */
	struct outbox_item *first, **last;
	uint32_t n;
	/* For requests, phases and the end, which must not be lost where memory is short. More requests than fit are never under way; phases
	 * only where a link comes and goes while nobody dispatches. */
	struct outbox_item reserve[OUTBOX_RESERVE];
	int fd; /* eventfd: readable while there is something */
};

int outbox_init(struct outbox *outbox);
void outbox_fini(struct outbox *outbox);
void outbox_request(struct outbox *outbox, uint32_t request);
void outbox_phase(struct outbox *outbox, enum sluice_phase phase);
void outbox_round(struct outbox *outbox, const struct sluice_round *round);
void outbox_text(struct outbox *outbox, const char *text);
/* -ENOMEM: not queued. */
int outbox_message(struct outbox *outbox, const void *data, size_t length);
void outbox_ended(struct outbox *outbox);
/* The oldest item, taken (outbox_free() it); NULL: none. */
struct outbox_item *outbox_take(struct outbox *outbox);
void outbox_free(struct outbox *outbox, struct outbox_item *item);
