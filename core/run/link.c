/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* link.c: the link thread.
 *
 * Source: dials, then reads and writes frames. Destination: waits at the door, takes the first link that greets, goes on taking data
 * streams, and reports what they have landed. Both: heartbeats, and noticing that the other side is dead.
 *
 * Decoded frames go to the control thread's inbox; while that is half full none are read, so nothing piles up. */
#include "core/run/link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/run/session.h"
#include "streams/thread.h"

enum {
	REPORT_NS = 100 * 1000 * 1000,
	FLUSH_NS = 500 * 1000 * 1000, /* for the last frames of a link that is being closed */
	BUSY_POLL_MS = 2,
	OFFER_NS = 2000 * 1000 * 1000, /* from greeting to the whole of HELLO */
	DOOR_PAUSE_NS = 100 * 1000 * 1000,
	FRAMES_QUEUED_MAX = 256,
};

struct link_frame {
	struct link_frame *next;
	uint32_t length, written;
	uint8_t bytes[];
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
	while (link->first) {
		struct link_frame *f = link->first;
		link->first = f->next;
		free(f);
	}
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

/* Under lock. */
static int queue(struct link *link, const struct message *m)
{
	if (!link->up || atomic_load_explicit(&link->closing, memory_order_relaxed))
		return -ENOTCONN;
	if (link->queued >= FRAMES_QUEUED_MAX)
		return -ENOBUFS;
	uint8_t *bytes = malloc(MESSAGE_HEAD + MESSAGE_PAYLOAD);
	if (!bytes)
		return -ENOMEM;
	int length = message_encode(m, link->epoch_out, link->seq_out, bytes);
	struct link_frame *f = length < 0 ? NULL : malloc(sizeof *f + (size_t)length);
	if (!f) {
		free(bytes);
		return length < 0 ? length : -ENOMEM;
	}
	*f = (struct link_frame){ .length = (uint32_t)length };
	memcpy(f->bytes, bytes, (size_t)length);
	free(bytes);
	link->seq_out++;
	if (m->type == MESSAGE_WELCOME)
		link->epoch_out = m->u.welcome.epoch;
	*link->last = f;
	link->last = &f->next;
	link->queued++;
	return 0;
}

int link_send(struct sluice *s, const struct message *m)
{
	struct link *link = &s->link;
	pthread_mutex_lock(&link->lock);
	int rc = 0;
	if (m->type == MESSAGE_EMBEDDER && link->embedder_sent - link->embedder_delivered >= MESSAGE_UNDELIVERED)
		rc = -EAGAIN;
	else
		rc = queue(link, m);
	if (!rc && m->type == MESSAGE_EMBEDDER)
		link->embedder_sent++;
	pthread_mutex_unlock(&link->lock);
	if (!rc)
		link_wake(link);
	return rc;
}

static void post_lost(struct sluice *s, int code, const char *text)
{
	if (s->link.lost)
		return;
	s->link.lost = true;
	struct input in = { .type = INPUT_LINK_LOST, .now_ns = now_ns(), .code = code, .text = text, .stream = -1 };
	inbox_post(&s->inbox, &in);
}

static void close_conn(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	link->up = false;
	pthread_mutex_unlock(&link->lock);
	if (link->conn) {
		link->conn->transport->shutdown(link->conn);
		link->conn->transport->close(link->conn);
		link->conn = NULL;
	}
}

/* The link is gone and that is an error, unless it is being closed anyway. */
/* A connection that has not offered anything is no migration: forget it, and wait for one that does. */
static void forget_visitor(struct link *link)
{
	close_conn(link);
	pthread_mutex_lock(&link->lock);
	for (struct link_frame *f; (f = link->first); free(f))
		link->first = f->next;
	link->last = &link->first;
	link->queued = 0;
	link->seq_out = 0;
	pthread_mutex_unlock(&link->lock);
	link->seq_in = link->in_got = 0;
}

static void fail(struct sluice *s, int code, const char *text)
{
	close_conn(&s->link);
	post_lost(s, code, text);
}

static void fail_errno(struct sluice *s, int code)
{
	char text[SLUICE_ERROR_MAX];
	const char *who = s->side == SIDE_SOURCE ? "destination" : "source";
	if (s->side == SIDE_DESTINATION && !s->link.offered) {
		forget_visitor(&s->link);
		return;
	}
	if (code == -ECONNRESET || code == -EPIPE || !code)
		snprintf(text, sizeof text, "the %s closed the connection: see what it says, and try again", who);
	else
		snprintf(text, sizeof text, "lost the connection to the %s: %s; check the network, and try again", who,
			 strerror(-code));
	fail(s, code ? code : -ECONNRESET, text);
}

static void came_up(struct link *link, struct conn *conn, uint64_t now)
{
	link->conn = conn;
	link->came_ns = now;
	link->heard_ns = now;
	link->beat_ns = now;
	pthread_mutex_lock(&link->lock);
	link->up = true;
	pthread_mutex_unlock(&link->lock);
}

/* ---------------------------------------------------------------- frames in */

static void heartbeat(struct sluice *s, const struct message *m, uint64_t now)
{
	struct link *link = &s->link;
	link->peer_clock_ns = m->u.heartbeat.clock_ns;
	link->peer_heard_ns = now;
	pthread_mutex_lock(&link->lock);
	if (m->u.heartbeat.delivered <= link->embedder_sent)
		link->embedder_delivered = m->u.heartbeat.delivered;
	pthread_mutex_unlock(&link->lock);
}

/* A dead-peer time was agreed on: both sides judge by their own, and beat often enough for the shorter. */
static void agree_on_beat(struct link *link, uint32_t theirs_ms)
{
	uint32_t shorter = theirs_ms < link->dead_ms ? theirs_ms : link->dead_ms;
	if (shorter < MESSAGE_DEAD_PEER_MIN_MS)
		shorter = MESSAGE_DEAD_PEER_MIN_MS; /* the offer is about to be refused for it */
	link->beat_ms = shorter / 6;
}

static int take_frame(struct sluice *s, const struct message_head *head, uint64_t now)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	struct message *m = malloc(sizeof *m);
	if (!m) {
		fail(s, -ENOMEM, "no memory for a frame of the link");
		return -ENOMEM;
	}
	int rc = message_decode(link->in, head, m, text);
	bool epoch_fits = head->epoch == link->epoch_in ||
			  (s->side == SIDE_DESTINATION && !link->epoch_in && head->epoch == link->epoch_out);
	if (!rc && (head->seq != link->seq_in || !epoch_fits)) {
		snprintf(text, sizeof text, "damaged link: a %s frame is out of sequence; try again", message_name(head->type));
		rc = -EPROTO;
	}
	link->seq_in++;
	link->heard_ns = now;
	if (rc) {
		free(m);
		if (rc != -ENOMSG)
			fail(s, rc, text);
		return rc == -ENOMSG ? 0 : rc;
	}
	if (s->side == SIDE_DESTINATION && !link->offered && (m->type == MESSAGE_HEARTBEAT || m->type == MESSAGE_EMBEDDER)) {
		free(m);
		fail(s, -EPROTO, "the source talks without offering a guest first: use the same version on both sides");
		return -EPROTO;
	}
	link->epoch_in = head->epoch;
	link->parted |=
		m->type == MESSAGE_BYE || m->type == MESSAGE_CANCEL || m->type == MESSAGE_REFUSE || m->type == MESSAGE_NEVER;
	if (m->type == MESSAGE_WELCOME) {
		pthread_mutex_lock(&link->lock);
		link->epoch_out = m->u.welcome.epoch;
		pthread_mutex_unlock(&link->lock);
		link->epoch_in = m->u.welcome.epoch;
		agree_on_beat(link, m->u.welcome.dead_peer_ms);
	} else if (m->type == MESSAGE_HELLO) {
		link->offered = true;
		agree_on_beat(link, m->u.hello.dead_peer_ms);
	} else if (m->type == MESSAGE_HEARTBEAT) {
		heartbeat(s, m, now);
		free(m);
		return 0;
	} else if (m->type == MESSAGE_EMBEDDER) {
		if (++link->messages_in - atomic_load_explicit(&s->delivered, memory_order_acquire) > MESSAGE_UNDELIVERED) {
			free(m);
			fail(s, -EPROTO,
			     "the other side sends more messages than were delivered: use the same version on both sides");
			return -EPROTO;
		}
		rc = outbox_message(&s->outbox, m->u.embedder.bytes, m->u.embedder.length);
		free(m);
		if (rc)
			fail(s, rc, "no memory for a message of the other side: free some");
		return rc;
	}
	struct input in = { .type = INPUT_MESSAGE, .now_ns = now, .message = m, .stream = -1 };
	inbox_post(&s->inbox, &in);
	return 0;
}

/* Read what is there, frame by frame, until the socket is empty or control has enough to do. */
static void read_frames(struct sluice *s, uint64_t now)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	while (link->conn && !inbox_busy(&s->inbox)) {
		struct message_head head;
		uint32_t want = MESSAGE_HEAD;
		if (link->in_got >= MESSAGE_HEAD) {
			int rc = message_read_head(link->in, &head, text);
			if (rc) {
				fail(s, rc, text);
				return;
			}
			want += head.length;
			if (link->in_got == want) {
				link->in_got = 0;
				if (take_frame(s, &head, now))
					return;
				continue;
			}
		}
		ssize_t n = link->conn->transport->read(link->conn, link->in + link->in_got, want - link->in_got);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			if (link->in_got && link->in_got < MESSAGE_HEAD && !link->seq_in) {
				snprintf(text, sizeof text,
					 "the other side does not speak sluice's protocol, it looks like %s: check "
					 "address and port",
					 message_looks_like(link->in, link->in_got));
				fail(s, -EPROTO, text);
			} else {
				fail_errno(s, (int)n);
			}
			return;
		}
		link->in_got += (uint32_t)n;
		link->heard_ns = now; /* part of a large frame is a sign of life too */
	}
}

/* ---------------------------------------------------------------- frames out */

static void write_frames(struct sluice *s)
{
	struct link *link = &s->link;
	while (link->conn) {
		pthread_mutex_lock(&link->lock);
		struct link_frame *f = link->first;
		pthread_mutex_unlock(&link->lock);
		if (!f)
			return;
		ssize_t n = link->conn->transport->write(link->conn, f->bytes + f->written, f->length - f->written);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			/* What the other side said last (REFUSE, CANCEL) says more than the error of a write. */
			read_frames(s, now_ns());
			if (link->conn)
				fail_errno(s, (int)n);
			return;
		}
		f->written += (uint32_t)n;
		if (f->written < f->length)
			continue;
		pthread_mutex_lock(&link->lock);
		link->first = f->next;
		if (!link->first)
			link->last = &link->first;
		link->queued--;
		pthread_mutex_unlock(&link->lock);
		free(f);
	}
}

static bool has_output(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	bool any = link->first && link->up;
	pthread_mutex_unlock(&link->lock);
	return any;
}

static void beat(struct sluice *s, uint64_t now)
{
	struct link *link = &s->link;
	if (!link->conn || now < link->beat_ns + link->beat_ms * 1000000ull)
		return;
	link->beat_ns = now;
	struct message m = { .type = MESSAGE_HEARTBEAT };
	m.u.heartbeat.clock_ns = now;
	m.u.heartbeat.echo_ns = link->peer_clock_ns;
	m.u.heartbeat.held_ns = link->peer_clock_ns ? now - link->peer_heard_ns : 0;
	m.u.heartbeat.delivered = atomic_load_explicit(&s->delivered, memory_order_acquire);
	pthread_mutex_lock(&link->lock);
	queue(link, &m);
	pthread_mutex_unlock(&link->lock);
}

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
	struct message m = { .type = MESSAGE_LANDED };
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
	queue(link, &m);
	pthread_mutex_unlock(&link->lock);
}

static void watch(struct sluice *s, uint64_t now)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	if (link->conn && s->side == SIDE_DESTINATION && !link->offered && now >= link->came_ns + OFFER_NS)
		forget_visitor(link);
	if (!link->conn || now < link->heard_ns + link->dead_ms * 1000000ull)
		return;
	snprintf(text, sizeof text, "nothing was heard of the %s for %.1f s: check whether it still runs, and the network",
		 s->side == SIDE_SOURCE ? "destination" : "source", link->dead_ms * 1e-3);
	fail(s, -ETIMEDOUT, text);
}

/* ---------------------------------------------------------------- the door */

/* One frame to a connection that we do not keep; it is small and the socket is new, so it goes out at once or not at all. */
static void turn_away(struct conn *conn, int code, const char *text)
{
	struct message m = { .type = MESSAGE_REFUSE };
	m.u.word.code = code;
	snprintf(m.u.word.text, sizeof m.u.word.text, "%s", text);
	uint8_t *bytes = malloc(MESSAGE_HEAD + MESSAGE_PAYLOAD);
	int length = bytes ? message_encode(&m, 0, 0, bytes) : 0;
	if (length > 0 && conn->transport->write(conn, bytes, (size_t)length) < 0) {
		/* then it is not told why */
	}
	free(bytes);
	conn->transport->close(conn);
}

static void take_stream(struct sluice *s, const struct greeting *g, struct conn *conn)
{
	struct link *link = &s->link;
	struct receivers *r = atomic_load_explicit(&s->receivers, memory_order_acquire);
	bool ours = r && atomic_load_explicit(&link->adopted, memory_order_acquire) && g->kind == GREETING_BULK &&
		    g->epoch == s->welcome.epoch && g->stream < s->welcome.streams && g->dial > link->dial &&
		    token_equal(g->token, s->welcome.stream_token);
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

static void take_guest(struct sluice *s, int rc, const struct greeting *g, struct conn *conn, uint64_t now)
{
	static const uint8_t none[WIRE_TOKEN];
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	if (g->kind != GREETING_LINK && !rc) {
		take_stream(s, g, conn);
	} else if (!rc && g->stream) {
		conn->transport->close(conn); /* a link is no stream */
	} else if (rc) {
		snprintf(text, sizeof text,
			 "the destination does not know version %u of the greeting, only %u: use the same version on "
			 "both sides",
			 g->version, WIRE_GREETING_VERSION);
		turn_away(conn, -EPROTONOSUPPORT, text);
	} else if (link->conn || link->lost) {
		turn_away(conn, -EBUSY, "another migration is under way here: try again when it is over");
	} else if (g->epoch || !token_equal(g->token, none)) {
		turn_away(conn, -ENOENT, "no such session here: start a new migration");
	} else {
		link->dial = g->dial;
		came_up(link, conn, now);
	}
}

static void serve_door(struct sluice *s, bool at_door, const struct pollfd *guests, uint64_t now)
{
	struct link *link = &s->link;
	for (uint32_t i = link->greetings.n; i-- > 0;) { /* downwards: a removed one is replaced by the last, seen already */
		struct greeting g;
		struct conn *conn;
		if (!guests[i].revents)
			continue;
		int rc = greetings_read(&link->greetings, i, &g, &conn);
		if (rc == 1 || rc == -EPROTONOSUPPORT)
			take_guest(s, rc == 1 ? 0 : rc, &g, conn, now);
	}
	if (at_door && greetings_accept(&link->greetings, s->listener->door, now))
		link->closed_until_ns =
			now + DOOR_PAUSE_NS; /* no descriptors, say: the door stays readable and would keep us busy */
	greetings_expire(&link->greetings, now);
}

/* ---------------------------------------------------------------- the thread */

static int poll_timeout(struct sluice *s, uint64_t now, bool unread)
{
	struct link *link = &s->link;
	uint64_t at = now + 1000000000ull;
	if (link->conn) {
		uint64_t beat_at = link->beat_ns + link->beat_ms * 1000000ull;
		uint64_t dead_at = link->heard_ns + link->dead_ms * 1000000ull;
		at = beat_at < at ? beat_at : at;
		at = dead_at < at ? dead_at : at;
		if (s->side == SIDE_DESTINATION && atomic_load_explicit(&s->receivers, memory_order_acquire) &&
		    now + REPORT_NS < at)
			at = now + REPORT_NS;
	}
	if (link->greetings.n && now + 100000000ull < at)
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
		uint64_t now = now_ns();
		bool closing = atomic_load_explicit(&link->closing, memory_order_acquire);
		bool accepting = s->listener && !closing && atomic_load_explicit(&link->accepting, memory_order_acquire);
		bool unread = inbox_busy(&s->inbox);
		if (closing && !flush_until)
			flush_until = now + FLUSH_NS;
		if (closing && (!has_output(link) || now >= flush_until))
			return;
		fds[0] = (struct pollfd){ .fd = link->wake, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = -1 };
		if (link->conn)
			fds[1] = (struct pollfd){ .fd = link->conn->transport->fd(link->conn),
						  .events = (short)((unread || closing ? 0 : POLLIN) |
								    (has_output(link) ? POLLOUT : 0)) };
		accepting = accepting && now >= link->closed_until_ns;
		fds[2] = (struct pollfd){ .fd = accepting ? s->listener->transport->door_fd(s->listener->door) : -1,
					  .events = POLLIN };
		uint32_t guests = link->greetings.n;
		for (uint32_t i = 0; i < guests; i++) {
			struct conn *conn = link->greetings.guests[i].conn;
			fds[3 + i] = (struct pollfd){ .fd = conn->transport->fd(conn), .events = POLLIN };
		}
		wait_begin(&link->waiter, link->conn ? "frames of the other side" : "a source at the door");
		int rc = poll(fds, 3 + guests, poll_timeout(s, now, unread));
		wait_end(&link->waiter);
		now = now_ns();
		if (rc > 0 && fds[0].revents && read(link->wake, &count, sizeof count) < 0) {
			/* another wake took it */
		}
		if (s->listener && !closing)
			serve_door(s, fds[2].revents & POLLIN, fds + 3, now);
		if (link->conn && !closing && !unread)
			read_frames(s, now);
		if (!closing) {
			report(s, now);
			beat(s, now);
		}
		write_frames(s);
		if (unread) /* its frames wait for us */
			link->heard_ns = now;
		if (!closing)
			watch(s, now_ns());
	}
}

static bool dial(struct sluice *s)
{
	struct link *link = &s->link;
	const struct transport *t = transport_find(&s->uri);
	struct greeting g = { .kind = GREETING_LINK, .dial = 1 };
	char text[SLUICE_ERROR_MAX], why[160] = "this build has no such transport";
	struct conn *conn = NULL;
	greeting_seal(&g);
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
	if (rc) {
		snprintf(text, sizeof text, "%s: start the destination there first, and check address and network", why);
		post_lost(s, rc, text);
		return false;
	}
	came_up(link, conn, now_ns());
	struct input in = { .type = INPUT_LINK_UP, .now_ns = now_ns(), .stream = -1 };
	inbox_post(&s->inbox, &in);
	return true;
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
	if (s->side == SIDE_DESTINATION || dial(s))
		loop(s);
	drain(link);
	greetings_drop_all(&link->greetings);
	close_conn(link);
	return NULL;
}

int link_start(struct sluice *s)
{
	s->link.dead_ms = (uint32_t)param(s, SLUICE_DEAD_PEER_MS);
	s->link.beat_ms = s->link.dead_ms / 6;
	atomic_store(&s->link.accepting, s->side == SIDE_DESTINATION);
	int rc = thread_start(&s->link.thread, "sluice-link", body, s);
	s->link.started = !rc;
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
