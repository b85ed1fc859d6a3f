/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* door.h: connections that have been accepted and have not said yet who they are, or were told that they are not wanted. Destination's
 * link thread. */
#pragma once

#include "streams/greeting.h"
#include "streams/transport.h"

enum { GREETINGS_MAX = 64 };

struct greeting_guest {
	struct conn *conn;
	uint64_t deadline_ns;
	uint32_t got;
	bool parting; /* it was told something, and is only kept until it has read that */
	struct greeting greeting;
};

struct greetings {
	struct greeting_guest guests[GREETINGS_MAX];
	uint32_t n;
};

/* Accept what waits at the door; where there is no room, the oldest makes way. 0, or why the door cannot be served now (-EMFILE). */
int greetings_accept(struct greetings *greetings, struct door *door, uint64_t now);
/* Read on from guest i. 0: not complete yet. 1: it greeted well; the caller takes *ret_conn. -EPROTONOSUPPORT: as 1, but of another
 * version. Other errors: it was dropped. In all but the first case the guest is removed and the last one takes its place. */
int greetings_read(struct greetings *greetings, uint32_t i, struct greeting *ret_greeting, struct conn **ret_conn);
/* Keep a connection that was told its last until it closes, 2 s at most: closing one with unread bytes resets it, which may destroy
 * what we said on its way. */
void greetings_part(struct greetings *greetings, struct conn *conn, uint64_t now);
/* Drop those that took too long. Returns the next deadline, UINT64_MAX: none. */
uint64_t greetings_expire(struct greetings *greetings, uint64_t now);
void greetings_drop_all(struct greetings *greetings);

/* In constant time: how much of it was right must not show. */
bool token_equal(const uint8_t *a, const uint8_t *b);
