/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_admit.c: links that come back: a flood of them, one that is gone again before control has looked, and those of a session
 * that is over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/admit.h"
#include "core/run/frames.h"
#include "core/run/session.h"
#include "streams/greeting.h"
#include "tests/unit/harness.h"

/* A connection that has sent a greeting and then nothing. */
struct caller {
	struct conn conn; /* first */
	struct greeting greeting;
	bool greeted, closed, told;
};

static ssize_t caller_read(struct conn *conn, void *buffer, size_t size)
{
	struct caller *c = (struct caller *)conn;
	if (c->greeted)
		return -EAGAIN;
	CU_ASSERT_EQUAL(size, sizeof c->greeting);
	memcpy(buffer, &c->greeting, sizeof c->greeting);
	c->greeted = true;
	return sizeof c->greeting;
}

static void caller_shutdown(struct conn *conn)
{
	(void)conn;
}

static void caller_close(struct conn *conn)
{
	((struct caller *)conn)->closed = true;
}

static ssize_t caller_write(struct conn *conn, const void *bytes, size_t size)
{
	((struct caller *)conn)->told |= size > 0;
	(void)bytes;
	return (ssize_t)size;
}

static const struct transport transport = {
	.read = caller_read, .write = caller_write, .shutdown = caller_shutdown, .close = caller_close
};

static struct sluice *session;

static void nothing(void *opaque)
{
	(void)opaque;
}

/* A destination in the midst of a migration, without threads. */
static void begin(void)
{
	static const struct sluice_ops ops = { .size_of = sizeof ops, .resume = nothing };
	CU_ASSERT_EQUAL_FATAL(sluice_create(&ops, NULL, &session), 0);
	session->side = SIDE_DESTINATION;
	memset(session->welcome.link_token, 7, WIRE_TOKEN);
	session->welcome.epoch = 1;
	session->link.offered = true;
	session->link.dial = 1;
	session->link.number = 1;
	atomic_store(&session->link.adopted, true);
}

static void end(void)
{
	link_forget(&session->link);
	CU_ASSERT_EQUAL(sluice_destroy(session), 0);
}

static void call(struct caller *c, uint32_t dial)
{
	*c = (struct caller){ .conn.transport = &transport, .greeting = { .kind = GREETING_LINK, .epoch = 1, .dial = dial } };
	memset(c->greeting.token, 7, WIRE_TOKEN);
	greeting_seal(&c->greeting);
	session->link.greetings.guests[session->link.greetings.n++] =
		(struct greeting_guest){ .conn = &c->conn, .deadline_ns = UINT64_MAX };
}

/* Control does not get to look: whoever knows the token must not be able to fill its inbox. */
static void a_flood_does_not_fill_the_inbox(void)
{
	enum { CALLS = 640 };
	static struct caller callers[CALLS];
	struct pollfd readable[GREETINGS_MAX];
	uint32_t calls = 0;
	begin();
	for (int i = 0; i < GREETINGS_MAX; i++)
		readable[i].revents = POLLIN;
	for (int pass = 0; pass < 20; pass++) {
		while (session->link.greetings.n < GREETINGS_MAX && calls < CALLS) {
			call(&callers[calls], 2 * calls + 3);
			calls++;
		}
		admit_serve(session, false, readable, now_ns());
	}
	CU_ASSERT(session->inbox.n > 0 && session->inbox.n <= INBOX_SIZE / 4);
	end();
}

static void gone_before_it_was_admitted(void)
{
	struct caller c;
	struct pollfd readable = { .revents = POLLIN };
	const struct message m = { .type = MESSAGE_BYE };
	for (int gone = 0; gone < 2; gone++) {
		begin();
		call(&c, 3);
		admit_serve(session, false, &readable, now_ns());
		CU_ASSERT_EQUAL(session->inbox.n, 1);
		CU_ASSERT_EQUAL(session->link.number, 2);
		CU_ASSERT_EQUAL(link_send(session, &m), -ENOTCONN); /* ANSWER comes first */
		if (gone)
			link_broke(session, 0);
		CU_ASSERT_EQUAL(link_admit(session, 1), 0); /* overtaken */
		CU_ASSERT_EQUAL(link_send(session, &m), -ENOTCONN);
		CU_ASSERT_EQUAL(link_admit(session, 2), 0);
		CU_ASSERT_EQUAL(link_send(session, &m), gone ? -ENOTCONN : 0);
		CU_ASSERT_EQUAL(session->link.queued, gone ? 0 : 2);
		CU_ASSERT_EQUAL(c.closed, gone);
		end();
	}
}

/* A session that is over answers once for each dial, and to no epoch that it never gave. */
static void over(void)
{
	static const struct {
		uint32_t dial, epoch;
		bool told;
	} cases[] = {
		{ 5, 2, true }, { 3, 2, false }, { 5, 1, true }, { 5, 0, true }, { 5, 3, false }, { 5, UINT32_MAX, false }
	};
	struct caller c, again;
	struct pollfd readable[2];
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sluice_listener listener = { .tombstones.n = 0 };
		struct tombstone t = { .epoch = 2, .dial = 3 };
		begin();
		session->listener = &listener;
		atomic_store(&session->link.adopted, false);
		memset(t.token, 7, sizeof t.token);
		tombstones_add(&listener.tombstones, &t);
		memset(readable, 0, sizeof readable);
		readable[0].revents = POLLIN;
		call(&c, cases[i].dial);
		c.greeting.epoch = cases[i].epoch;
		greeting_seal(&c.greeting);
		admit_serve(session, false, readable, now_ns());
		CU_ASSERT_EQUAL(c.told, cases[i].told);
		CU_ASSERT_EQUAL(c.closed, !cases[i].told);
		call(&again, cases[i].dial); /* and the first is being shown out, if it was told */
		readable[0].revents = 0;
		readable[session->link.greetings.n - 1].revents = POLLIN;
		admit_serve(session, false, readable, now_ns());
		CU_ASSERT_EQUAL(again.told, !cases[i].told && cases[i].dial == 5); /* its epoch is right now */
		session->listener = NULL;
		end();
	}
}

/* Control may be slow to say HELLO, or ANSWER: no heartbeat is the first frame where one of these must be. */
static void nothing_comes_before_the_first_word(void)
{
	for (enum side side = SIDE_SOURCE; side <= SIDE_DESTINATION; side++) {
		for (uint32_t number = 1; number <= 2; number++) {
			struct caller c;
			struct message m = { .type = MESSAGE_HEARTBEAT };
			bool owes = (number > 1) == (side == SIDE_DESTINATION);
			begin();
			call(&c, 3);
			session->link.greetings.n = 0;
			session->side = side;
			session->link.conn = &c.conn;
			session->link.up = true;
			session->link.number = number;
			CU_ASSERT_EQUAL(frames_beat_at(session) == UINT64_MAX, owes);
			pthread_mutex_lock(&session->link.lock);
			CU_ASSERT_EQUAL(frames_queue(&session->link, &m), 0); /* whatever it is */
			pthread_mutex_unlock(&session->link.lock);
			CU_ASSERT(frames_beat_at(session) != UINT64_MAX);
			session->side = SIDE_DESTINATION;
			end();
		}
	}
}

SUITE("admit", TEST(a_flood_does_not_fill_the_inbox), TEST(gone_before_it_was_admitted), TEST(over),
      TEST(nothing_comes_before_the_first_word))
