/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* door.c: accepting, and reading greetings without ever waiting for one. */
#include "core/run/door.h"

#include <errno.h>
#include <poll.h>

static void take_out(struct greetings *g, uint32_t i)
{
	g->guests[i] = g->guests[--g->n];
}

static void drop(struct greetings *g, uint32_t i)
{
	struct conn *conn = g->guests[i].conn;
	conn->transport->close(conn);
	take_out(g, i);
}

static uint32_t oldest(const struct greetings *g)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < g->n; i++)
		if (g->guests[i].deadline_ns < g->guests[best].deadline_ns)
			best = i;
	return best;
}

/* Where there is no room, the oldest makes way. */
static void let_in(struct greetings *g, struct conn *conn, bool parting, uint64_t now)
{
	if (g->n == GREETINGS_MAX)
		drop(g, oldest(g));
	g->guests[g->n++] =
		(struct greeting_guest){ .conn = conn, .deadline_ns = now + WIRE_GREETING_MS * 1000000ull, .parting = parting };
}

void greetings_part(struct greetings *g, struct conn *conn, uint64_t now)
{
	let_in(g, conn, true, now);
}

/* Where there are no descriptors, accept says so before it looks who is there. */
static bool somebody_waits(const struct door *door)
{
	struct pollfd p = { .fd = door->transport->door_fd(door), .events = POLLIN };
	return poll(&p, 1, 0) == 1;
}

int greetings_accept(struct greetings *g, struct door *door, uint64_t now)
{
	/* As many as fit at most: a flood of connections must not keep the link thread here. */
	for (uint32_t i = 0; i < GREETINGS_MAX; i++) {
		struct conn *conn;
		int rc = door->transport->accept(door, &conn);
		if (rc == -EMFILE && g->n) { /* those who do not say who they are make way for one who may */
			if (!somebody_waits(door))
				return 0;
			drop(g, oldest(g));
			continue;
		}
		if (rc)
			return rc == -EAGAIN ? 0 : rc;
		let_in(g, conn, false, now);
	}
	return 0;
}

int greetings_read(struct greetings *g, uint32_t i, struct greeting *ret_greeting, struct conn **ret_conn)
{
	struct greeting_guest *guest = &g->guests[i];
	char why[160];
	if (guest->parting)
		guest->got = 0; /* whatever it says, over and over */
	ssize_t n = guest->conn->transport->read(guest->conn, (char *)&guest->greeting + guest->got,
						 sizeof guest->greeting - guest->got);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0) {
		drop(g, i);
		return n ? (int)n : -ECONNRESET;
	}
	guest->got += (uint32_t)n;
	if (guest->parting || guest->got < sizeof guest->greeting)
		return 0;
	int rc = greeting_check(&guest->greeting, why, sizeof why);
	if (rc && rc != -EPROTONOSUPPORT) {
		drop(g, i);
		return rc;
	}
	*ret_greeting = guest->greeting;
	*ret_conn = guest->conn;
	take_out(g, i);
	return rc ? rc : 1;
}

uint64_t greetings_expire(struct greetings *g, uint64_t now)
{
	uint64_t next = UINT64_MAX;
	for (uint32_t i = g->n; i-- > 0;) {
		if (g->guests[i].deadline_ns <= now)
			drop(g, i);
		else if (g->guests[i].deadline_ns < next)
			next = g->guests[i].deadline_ns;
	}
	return next;
}

void greetings_drop_all(struct greetings *g)
{
	while (g->n)
		drop(g, g->n - 1);
}

bool token_equal(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t difference = 0;
	for (int i = 0; i < WIRE_TOKEN; i++)
		difference |= a[i] ^ b[i];
	return !difference;
}
