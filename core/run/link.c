/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* link.c: the link thread: its loop, and the coming and going of links. */
#include "core/run/link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/run/admit.h"
#include "core/run/frames.h"
#include "core/run/session.h"
#include "streams/thread.h"

enum {
	REPORT_NS = 100 * 1000 * 1000,
	FLUSH_NS = 500 * 1000 * 1000, /* for the last frames of a link that is being closed */
	BUSY_POLL_MS = 2,
	OFFER_NS = 2000 * 1000 * 1000, /* from greeting to the whole of HELLO */
	FRAME_DEAD = 2,                /* dead-peer times that a frame may take from its first byte to its last */
};

int link_init(struct link *link)
{
	memset(link, 0, sizeof *link);
	link->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (link->wake < 0)
		return -errno;
	link->in = malloc(MESSAGE_HEAD + MESSAGE_PAYLOAD);
	if (!link->in) {
		close(link->wake);
		return -ENOMEM;
	}
	link->last = &link->first;
	pthread_mutex_init(&link->lock, NULL);
	snprintf(link->waiter.thread, sizeof link->waiter.thread, "link");
	return 0;
}

void link_fini(struct link *link)
{
	frames_reset(link);
	pthread_mutex_destroy(&link->lock);
	free(link->in);
	close(link->wake);
}

void link_wake(struct link *link)
{
	uint64_t one = 1;
	if (write(link->wake, &one, sizeof one) < 0) {
		/* full: it is awake already */
	}
}

int link_send(struct sluice *s, const struct message *m)
{
	struct link *link = &s->link;
	pthread_mutex_lock(&link->lock);
	int rc = 0, waiting = (int)(link->embedder_sent - link->embedder_delivered);
	if (m->type == MESSAGE_EMBEDDER && frames_open(link) && (!link->epoch_out || waiting >= MESSAGE_UNDELIVERED))
		rc = -EAGAIN;
	else
		rc = frames_queue(link, m);
	if (!rc && m->type == MESSAGE_EMBEDDER)
		link->embedder_sent++;
	pthread_mutex_unlock(&link->lock);
	if (!rc)
		link_wake(link);
	return rc;
}

/* ---------------------------------------------------------------- links come and go */

void link_came(struct link *link, struct conn *conn, uint32_t number, bool up, uint64_t now)
{
	link->conn = conn;
	link->came_ns = link->heard_ns = link->beat_ns = now;
	link->lost = false;
	pthread_mutex_lock(&link->lock);
	link->number = number;
	link->open = true;
	link->up = up;
	pthread_mutex_unlock(&link->lock);
}

static void close_conn(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	link->open = link->up = false;
	pthread_mutex_unlock(&link->lock);
	if (link->conn) {
		link->conn->transport->shutdown(link->conn);
		link->conn->transport->close(link->conn);
		link->conn = NULL;
	}
}

void link_forget(struct link *link)
{
	close_conn(link);
	frames_reset(link);
}

static void post_lost(struct sluice *s, int code, const char *text)
{
	struct link *link = &s->link;
	if (link->lost)
		return;
	link->lost = true;
	struct input in = {
		.type = INPUT_LINK_LOST, .now_ns = now_ns(), .code = code, .text = text, .stream = -1, .link = link->number
	};
	inbox_post(&s->inbox, &in);
}

void link_lose(struct sluice *s, int code, const char *text)
{
	close_conn(&s->link);
	post_lost(s, code, text);
}

void link_broke(struct sluice *s, int error)
{
	char text[SLUICE_ERROR_MAX];
	const char *who = s->side == SIDE_SOURCE ? "destination" : "source";
	if (s->side == SIDE_DESTINATION && !s->link.offered) {
		link_forget(&s->link); /* it has not offered anything: no migration. Wait for one that does */
		return;
	}
	if (error == -ECONNRESET || error == -EPIPE || !error)
		snprintf(text, sizeof text, "the %s closed the connection: see what it says, and try again", who);
	else
		snprintf(text, sizeof text, "lost the connection to the %s: %s; check the network, and try again", who,
			 strerror(-error));
	link_lose(s, error ? error : -ECONNRESET, text);
}

/* Source: link `number`, the first or a later one. */
static void dial(struct sluice *s, uint32_t number)
{
	struct link *link = &s->link;
	const struct transport *t = transport_find(&s->uri);
	/* The dials of a session rise: link n has 2n - 1, and its streams 2n. */
	struct greeting g = { .kind = GREETING_LINK, .dial = 2 * number - 1 };
	char text[SLUICE_ERROR_MAX], why[160] = "this build has no such transport";
	struct conn *conn = NULL;
	if (number > 1) {
		g.epoch = s->welcome.epoch;
		memcpy(g.token, s->welcome.link_token, WIRE_TOKEN);
	}
	greeting_seal(&g);
	link_forget(link);
	struct dial how = {
		.uri = &s->uri,
		.greeting = &g,
		.deadline_ns = now_ns() + param(s, SLUICE_CONNECT_MS) * 1000000u,
		.cancel = &link->cancel,
		.waiter = &link->waiter,
		.error = why,
		.error_size = sizeof why,
	};
	int rc = t ? t->connect(&how, &conn) : -EPROTONOSUPPORT;
	link_came(link, conn, number, !rc, now_ns());
	if (rc) {
		snprintf(text, sizeof text, "%s: start the destination there first, and check address and network", why);
		post_lost(s, rc, text);
		return;
	}
	struct input in = { .type = INPUT_LINK_UP, .now_ns = now_ns(), .stream = -1, .link = number };
	inbox_post(&s->inbox, &in);
}

/* What control has ordered meanwhile. */
static void obey(struct sluice *s)
{
	struct link *link = &s->link;
	uint32_t drop = atomic_exchange_explicit(&link->drop, 0, memory_order_acquire);
	uint32_t order = atomic_load_explicit(&link->order, memory_order_acquire); /* pairs with link_dial: welcome */
	if (drop && drop == link->number) {
		link_forget(link);
		link->lost = true; /* control knows */
	}
	if (order > link->number)
		dial(s, order);
}

/* When the frame that is being read has taken too long. */
static uint64_t frame_dead(const struct link *link)
{
	return link->frame_ns + FRAME_DEAD * link->dead_ms * 1000000ull;
}

static void watch(struct sluice *s, uint64_t now)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	bool endless = link->in_got && now >= frame_dead(link);
	bool silent = now >= link->heard_ns + link->dead_ms * 1000000ull;
	if (link->conn && s->side == SIDE_DESTINATION && !link->offered && (endless || silent || now >= link->came_ns + OFFER_NS))
		link_forget(link); /* it is no migration: wait for one */
	if (!link->conn)
		return;
	if (endless) {
		/* With a length that was damaged on its way, heartbeats would be taken for a part of it, and for signs of life. */
		link_lose(s, -EPROTO, "damaged link: a frame that does not end, or whose end the network holds back; try again");
		return;
	}
	if (!silent)
		return;
	snprintf(text, sizeof text, "nothing was heard of the %s for %.1f s: check whether it still runs, and the network",
		 s->side == SIDE_SOURCE ? "destination" : "source", link->dead_ms * 1e-3);
	link_lose(s, -ETIMEDOUT, text);
}

/* ---------------------------------------------------------------- the thread */

/* Destination: what has landed; at most ten times a second, and at once after the gate. */
static void report(struct sluice *s, uint64_t now)
{
	struct link *link = &s->link;
	struct receivers *r = atomic_load_explicit(&s->receivers, memory_order_acquire);
	if (!r || !link->conn || link->streams_up < s->welcome.streams)
		return;
	bool due = atomic_exchange_explicit(&link->report, false, memory_order_acquire); /* pairs with round_landed */
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < s->welcome.streams; i++)
		bytes += atomic_load_explicit(&receivers_stats(r, i)->bytes, memory_order_relaxed);
	atomic_store_explicit(&s->landed_bytes, bytes, memory_order_relaxed);
	if (bytes != link->reported_bytes)
		link->heard_ns = now; /* streams that move are a sign of life */
	if (!due && (now < link->reported_ns + REPORT_NS || bytes == link->reported_bytes))
		return;
	struct message m; /* large: all that is sent of it is set here */
	m.type = MESSAGE_LANDED;
	/* The round first: what the counts below contain is then at least all of it. */
	m.u.landed.round = atomic_load_explicit(&s->landed_round, memory_order_relaxed);
	m.u.landed.n = s->welcome.streams;
	for (uint32_t i = 0; i < m.u.landed.n; i++) {
		const struct receiver_stats *st = receivers_stats(r, i);
		m.u.landed.streams[i] = (struct message_landed){
			.batches = atomic_load_explicit(&st->batches, memory_order_relaxed),
			.bytes = atomic_load_explicit(&st->bytes, memory_order_relaxed),
			.state = (uint8_t)atomic_load_explicit(&st->state, memory_order_relaxed),
		};
	}
	link->reported_ns = now;
	link->reported_bytes = bytes;
	pthread_mutex_lock(&link->lock);
	frames_queue(link, &m);
	pthread_mutex_unlock(&link->lock);
}

/* `flush_until`: closing, and only that counts; 0: not. */
static int poll_timeout(struct sluice *s, uint64_t now, bool unread, uint64_t flush_until)
{
	struct link *link = &s->link;
	uint64_t at = flush_until ? flush_until : now + 1000000000ull;
	if (link->conn && !flush_until) {
		uint64_t beat_at = frames_beat_at(s);
		uint64_t dead_at = link->heard_ns + link->dead_ms * 1000000ull;
		at = beat_at < at ? beat_at : at;
		at = dead_at < at ? dead_at : at;
		if (link->in_got && frame_dead(link) < at)
			at = frame_dead(link);
		if (s->side == SIDE_DESTINATION && atomic_load_explicit(&s->receivers, memory_order_acquire) &&
		    now + REPORT_NS < at)
			at = now + REPORT_NS;
	}
	if (link->greetings.n && !flush_until && now + 100000000ull < at)
		at = now + 100000000ull;
	int ms = at > now ? (int)((at - now + 999999) / 1000000) : 0;
	return unread && ms > BUSY_POLL_MS ? BUSY_POLL_MS : ms;
}

static void loop(struct sluice *s)
{
	struct link *link = &s->link;
	uint64_t flush_until = 0, count;
	for (;;) {
		struct pollfd fds[3 + GREETINGS_MAX];
		bool closing = atomic_load_explicit(&link->closing, memory_order_acquire);
		if (!closing)
			obey(s);
		uint64_t now = now_ns(); /* after a dial, which may have taken long */
		bool accepting = s->listener && !closing && atomic_load_explicit(&link->accepting, memory_order_acquire);
		bool unread = inbox_busy(&s->inbox);
		if (closing && !flush_until)
			flush_until = now + FLUSH_NS;
		if (closing && (!frames_waiting(link) || now >= flush_until))
			return;
		fds[0] = (struct pollfd){ .fd = link->wake, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = -1 };
		if (link->conn)
			fds[1] = (struct pollfd){ .fd = link->conn->transport->fd(link->conn),
						  .events = (short)((unread || closing ? 0 : POLLIN) |
								    (frames_waiting(link) ? POLLOUT : 0)) };
		accepting = accepting && !unread && now >= link->closed_until_ns;
		fds[2] = (struct pollfd){ .fd = accepting ? s->listener->transport->door_fd(s->listener->door) : -1,
					  .events = POLLIN };
		uint32_t guests = link->greetings.n;
		for (uint32_t i = 0; i < guests; i++) {
			struct conn *conn = link->greetings.guests[i].conn;
			fds[3 + i] = (struct pollfd){ .fd = conn->transport->fd(conn), .events = unread ? 0 : POLLIN };
		}
		wait_begin(&link->waiter, link->conn               ? "frames of the other side"
					  : s->side == SIDE_SOURCE ? "a reason to dial"
								   : "a source at the door");
		int rc = poll(fds, 3 + guests, poll_timeout(s, now, unread, flush_until));
		wait_end(&link->waiter);
		now = now_ns();
		if (rc > 0 && fds[0].revents && read(link->wake, &count, sizeof count) < 0) {
			/* another wake took it */
		}
		if (s->listener && !closing)
			admit_serve(s, fds[2].revents & POLLIN, fds + 3, now);
		if (link->conn && !closing && !unread)
			frames_read(s, now);
		if (!closing) {
			report(s, now);
			frames_beat(s, now);
		}
		frames_write(s);
		if (unread) /* its frames wait for us */
			link->heard_ns = link->frame_ns = now;
		if (!closing)
			watch(s, now_ns());
	}
}

/* Closing a socket with unread bytes resets it, which may destroy our last frame on its way. So unless the other side has had the
 * last word, read until it closes. */
static void drain(struct link *link)
{
	uint64_t until = now_ns() + FLUSH_NS;
	for (uint64_t now; link->conn && !link->parted && (now = now_ns()) < until;) {
		struct pollfd p = { .fd = link->conn->transport->fd(link->conn), .events = POLLIN };
		wait_begin(&link->waiter, "the other side to close the link");
		poll(&p, 1, (int)((until - now) / 1000000) + 1);
		wait_end(&link->waiter);
		ssize_t n = link->conn->transport->read(link->conn, link->in, MESSAGE_HEAD + MESSAGE_PAYLOAD);
		if (!n || (n < 0 && n != -EAGAIN))
			return;
	}
}

static void *body(void *arg)
{
	struct sluice *s = arg;
	struct link *link = &s->link;
	loop(s);
	drain(link);
	greetings_drop_all(&link->greetings);
	close_conn(link);
	wait_over(&link->waiter);
	return NULL;
}

int link_start(struct sluice *s)
{
	s->link.dead_ms = (uint32_t)param(s, SLUICE_DEAD_PEER_MS);
	/* Until the other side has said how soon it takes us for dead (agree_on_beat), as often as any may want. */
	s->link.beat_ms = MESSAGE_DEAD_PEER_MIN_MS / 6;
	atomic_store(&s->link.accepting, s->side == SIDE_DESTINATION);
	int rc = thread_start(&s->link.thread, "sluice-link", body, s);
	s->link.started = !rc;
	return rc;
}

void link_dial(struct sluice *s, uint32_t number)
{
	atomic_store_explicit(&s->link.order, number, memory_order_release);
	link_wake(&s->link);
}

void link_drop(struct sluice *s, uint32_t number)
{
	atomic_store_explicit(&s->link.drop, number, memory_order_release);
	link_wake(&s->link);
}

int link_admit(struct sluice *s, uint32_t number)
{
	struct link *link = &s->link;
	struct message *m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	m->type = MESSAGE_ANSWER;
	m->u.answer.epoch = number;
	int rc = 0;
	pthread_mutex_lock(&link->lock);
	if (number == link->number && link->open) {
		memcpy(m->u.answer.stream_token, link->stream_token, MESSAGE_TOKEN);
		link->up = true;
		rc = frames_queue(link, m);
		link->up = !rc; /* ANSWER comes first, or nothing */
	}
	pthread_mutex_unlock(&link->lock);
	free(m);
	link_wake(link);
	return rc;
}

void link_close(struct sluice *s)
{
	atomic_store_explicit(&s->link.closing, true, memory_order_release);
	atomic_store_explicit(&s->link.cancel, true, memory_order_release);
	link_wake(&s->link);
}

void link_stop(struct sluice *s)
{
	link_close(s);
	if (s->link.started)
		pthread_join(s->link.thread, NULL);
	s->link.started = false;
}
