/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* admit.c: see admit.h. */
#include "core/run/admit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/run/session.h"

enum { DOOR_PAUSE_NS = 100 * 1000 * 1000 };

/* Some frames to a connection that we do not keep. They are small and the socket is new, so they go out at once or not at all. */
static void say_and_part(struct sluice *s, struct conn *conn, const struct message *messages, const uint32_t *epochs, uint32_t n,
			 uint64_t now)
{
	uint8_t *bytes = malloc(n * (MESSAGE_HEAD + MESSAGE_PAYLOAD));
	size_t length = 0;
	for (uint32_t i = 0; bytes && i < n; i++) {
		int one = message_encode(&messages[i], epochs[i], i, bytes + length);
		length += one > 0 ? (size_t)one : 0;
	}
	if (length && conn->transport->write(conn, bytes, length) < 0) {
		/* then it is not told */
	}
	free(bytes);
	greetings_part(&s->link.greetings, conn, now);
}

static void turn_away(struct sluice *s, struct conn *conn, int code, const char *text, uint64_t now)
{
	static const uint32_t epoch = 0;
	struct message *m = calloc(1, sizeof *m);
	if (!m) {
		conn->transport->close(conn);
		return;
	}
	m->type = MESSAGE_REFUSE;
	m->u.word.code = code;
	snprintf(m->u.word.text, sizeof m->u.word.text, "%s", text);
	say_and_part(s, conn, m, &epoch, 1, now);
	free(m);
}

/* A question about a session that is over: how it ended. */
static void answer_for(struct sluice *s, struct tombstone *t, const struct greeting *g, struct conn *conn, uint64_t now)
{
	uint32_t epochs[2] = { 0, ++t->epoch };
	struct message *m = calloc(2, sizeof *m);
	if (!m) {
		conn->transport->close(conn);
		return;
	}
	t->dial = g->dial;
	m[0].type = MESSAGE_ANSWER;
	m[0].u.answer.epoch = t->epoch;
	if (t->ran) {
		m[1].type = MESSAGE_RUNNING;
		m[1].u.handoff.attempt = t->attempt;
		m[1].u.handoff.ns = 0; /* for how long it stood still is forgotten */
	} else {
		m[1].type = MESSAGE_NEVER;
		m[1].u.word.attempt = t->attempt;
		m[1].u.word.code = -ECANCELED;
		snprintf(m[1].u.word.text, sizeof m[1].u.word.text, "the guest was not run, and that migration is over");
	}
	say_and_part(s, conn, m, epochs, 2, now);
	free(m);
}

static void take_stream(struct sluice *s, const struct greeting *g, struct conn *conn)
{
	struct link *link = &s->link;
	struct receivers *r = atomic_load_explicit(&s->receivers, memory_order_acquire);
	bool ours = r && atomic_load_explicit(&link->adopted, memory_order_acquire) && g->kind == GREETING_BULK &&
		    g->epoch == link->number && g->stream < s->welcome.streams && g->dial > link->dial &&
		    token_equal(g->token, link->stream_token);
	int rc = ours ? receivers_add(r, g->stream, conn) : -EEXIST;
	if (rc == -EEXIST || rc == -ERANGE) { /* in all other cases the receivers have it */
		conn->transport->close(conn);
		return;
	}
	struct input in = { .type = INPUT_STREAM_UP, .now_ns = now_ns(), .value = ++link->streams_up, .stream = -1 };
	if (rc)
		in = (struct input){
			.type = INPUT_STREAM_LOST,
			.now_ns = now_ns(),
			.code = rc,
			.stream = (int)g->stream,
			.text = "a receiver thread could not be started: free memory or threads at the destination"
		};
	inbox_post(&s->inbox, &in);
}

/* Who comes late with a lower dial never replaces a newer one; and no source knows an epoch that it was not given. */
static bool in_order(const struct greeting *g, uint32_t dial, uint32_t epoch)
{
	return g->dial > dial && g->epoch <= epoch;
}

/* The source has lost its link, and comes with another. Whatever still sits in the old one takes no effect any more. */
static void take_back(struct sluice *s, const struct greeting *g, struct conn *conn, uint64_t now)
{
	struct link *link = &s->link;
	uint8_t token[MESSAGE_TOKEN];
	if (!in_order(g, link->dial, link->number) || getrandom(token, sizeof token, 0) != sizeof token) {
		conn->transport->close(conn);
		return;
	}
	link_forget(link);
	pthread_mutex_lock(&link->lock);
	memcpy(link->stream_token, token, sizeof token);
	pthread_mutex_unlock(&link->lock);
	link->dial = g->dial;
	link_came(link, conn, link->number + 1, false, now);
	struct input in = { .type = INPUT_LINK_BACK, .now_ns = now, .stream = -1, .link = link->number };
	inbox_post(&s->inbox, &in);
}

static void take_link(struct sluice *s, const struct greeting *g, struct conn *conn, uint64_t now)
{
	static const uint8_t none[WIRE_TOKEN];
	struct link *link = &s->link;
	bool first = !g->epoch && token_equal(g->token, none);
	bool ours = atomic_load_explicit(&link->adopted, memory_order_acquire) && token_equal(g->token, s->welcome.link_token);
	struct tombstone *t = first || ours ? NULL : tombstones_find(&s->listener->tombstones, g->token);
	if (g->stream || (t && !in_order(g, t->dial, t->epoch))) {
		conn->transport->close(conn); /* a link is no stream */
	} else if (t) {
		answer_for(s, t, g, conn, now);
	} else if (first && (link->conn || link->lost)) {
		turn_away(s, conn, -EBUSY, "another migration is under way here: try again when it is over", now);
	} else if (first) {
		link->dial = g->dial;
		link_came(link, conn, 1, true, now);
	} else if (ours) {
		take_back(s, g, conn, now);
	} else {
		turn_away(s, conn, -ENOENT, "no such session here: was it started again, or did another take its place?", now);
	}
}

void admit_serve(struct sluice *s, bool at_door, const struct pollfd *guests, uint64_t now)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	for (uint32_t i = link->greetings.n; i-- > 0;) { /* downwards: a removed one is replaced by the last, seen already */
		struct greeting g;
		struct conn *conn;
		if (!guests[i].revents)
			continue;
		if (inbox_busy(&s->inbox)) /* a flood of links that come back must not fill it */
			return;
		int rc = greetings_read(&link->greetings, i, &g, &conn);
		if (rc == -EPROTONOSUPPORT) {
			snprintf(text, sizeof text,
				 "the destination does not know version %u of the greeting, only %u: use the same version on "
				 "both sides",
				 g.version, WIRE_GREETING_VERSION);
			turn_away(s, conn, rc, text, now);
		} else if (rc == 1 && g.kind == GREETING_LINK) {
			take_link(s, &g, conn, now);
		} else if (rc == 1) {
			take_stream(s, &g, conn);
		}
	}
	int rc = at_door ? greetings_accept(&link->greetings, s->listener->door, now) : 0;
	if (rc) {
		link->closed_until_ns = now + DOOR_PAUSE_NS; /* the door stays readable, and would keep us busy */
		if (!link->warned)
			outbox_text(&s->outbox,
				    rc == -EMFILE ? "no descriptor for another connection: raise ulimit -n"
						  : "no connection can be accepted: free memory or descriptors on this host");
		link->warned = true;
	}
	greetings_expire(&link->greetings, now);
}
