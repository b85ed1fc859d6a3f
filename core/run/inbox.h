/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* inbox.h: what has happened, in order, on its way to the control thread. Bounded, never allocates.
 *
 * Posting never fails for what must not be lost: the link thread reads neither frames nor greetings while a quarter of the box is full, of the
 * rounds that landed, of reports of it and of surveys only the newest is kept, and all else that posts does so a bounded number of times. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "core/decide/step.h"
#include "streams/bell.h"

#ifndef INBOX_SIZE
#define INBOX_SIZE 256 /* fewer in the simulator, which would never fill it else */
#endif

struct letter {
	struct input input; /* its text points to `text` */
	char text[SLUICE_ERROR_MAX];
};

struct inbox {
	pthread_mutex_t lock; /* innermost: nothing is taken under it */
	struct bell bell;
	uint32_t first, n; /* under lock */
	struct letter letters[INBOX_SIZE];
};

void inbox_init(struct inbox *inbox);
void inbox_fini(struct inbox *inbox);
/* Copies input and its text; takes over input->message (malloc'ed). Any thread. */
void inbox_post(struct inbox *inbox, const struct input *input);
/* Should frames be left unread for a while? */
bool inbox_busy(struct inbox *inbox);
/* The oldest letter, or false when none came until deadline_ns. Control thread. */
bool inbox_take(struct inbox *inbox, struct letter *ret, uint64_t deadline_ns, struct waiter *waiter, const char *what);
