/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* frames.c: see frames.h. Decoded frames go to the control thread's inbox; while that is half full none are read, so nothing
 * piles up. */
#include "core/run/frames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/session.h"

enum { FRAMES_QUEUED_MAX = 256 };

struct link_frame {
	struct link_frame *next;
	uint32_t length, written;
	uint8_t bytes[];
};

/* ---------------------------------------------------------------- out */

bool frames_open(const struct link *link)
{
	return link->up && !atomic_load_explicit(&link->closing, memory_order_relaxed);
}

int frames_queue(struct link *link, const struct message *m)
{
	if (!frames_open(link))
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
	else if (m->type == MESSAGE_ANSWER)
		link->epoch_out = m->u.answer.epoch;
	*link->last = f;
	link->last = &f->next;
	link->queued++;
	return 0;
}

bool frames_waiting(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	bool any = link->first && link->up;
	pthread_mutex_unlock(&link->lock);
	return any;
}

void frames_reset(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	for (struct link_frame *f; (f = link->first); free(f))
		link->first = f->next;
	link->last = &link->first;
	link->queued = 0;
	link->seq_out = link->epoch_out = 0;
	link->embedder_sent = link->embedder_delivered = 0; /* what was under way went with the connection */
	pthread_mutex_unlock(&link->lock);
	link->seq_in = link->epoch_in = link->in_got = 0;
	link->messages_before += link->messages_in;
	link->messages_in = 0;
	link->parted = false;
}

void frames_write(struct sluice *s)
{
	struct link *link = &s->link;
	while (link->conn) {
		pthread_mutex_lock(&link->lock);
		struct link_frame *f = link->up ? link->first : NULL;
		pthread_mutex_unlock(&link->lock);
		if (!f)
			return;
		ssize_t n = link->conn->transport->write(link->conn, f->bytes + f->written, f->length - f->written);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			/* What the other side said last (REFUSE, CANCEL) says more than the error of a write. */
			frames_read(s, now_ns());
			if (link->conn)
				link_broke(s, (int)n);
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

/* The embedder's messages of this connection that it was given. */
static uint64_t delivered(struct sluice *s)
{
	uint64_t all = atomic_load_explicit(&s->delivered, memory_order_acquire);
	return all > s->link.messages_before ? all - s->link.messages_before : 0;
}

uint64_t frames_beat_at(struct sluice *s)
{
	struct link *link = &s->link;
	/* A first link begins with HELLO and a later one with ANSWER, which control may be slow to say: nothing comes before. */
	pthread_mutex_lock(&link->lock);
	bool owes = !link->seq_out && (link->number > 1) == (s->side == SIDE_DESTINATION);
	pthread_mutex_unlock(&link->lock);
	return !link->conn || owes ? UINT64_MAX : link->beat_ns + link->beat_ms * 1000000ull;
}

void frames_beat(struct sluice *s, uint64_t now)
{
	struct link *link = &s->link;
	if (now < frames_beat_at(s))
		return;
	link->beat_ns = now;
	struct message m; /* large: all that a heartbeat has is set here */
	m.type = MESSAGE_HEARTBEAT;
	m.u.heartbeat.clock_ns = now;
	m.u.heartbeat.echo_ns = link->peer_clock_ns;
	m.u.heartbeat.held_ns = link->peer_clock_ns ? now - link->peer_heard_ns : 0;
	m.u.heartbeat.delivered = delivered(s);
	pthread_mutex_lock(&link->lock);
	frames_queue(link, &m);
	pthread_mutex_unlock(&link->lock);
}

/* ---------------------------------------------------------------- in */

static void heartbeat(struct sluice *s, const struct message *m, uint64_t now)
{
	struct link *link = &s->link;
	link->peer_clock_ns = m->u.heartbeat.clock_ns;
	link->peer_heard_ns = now;
	stopped_round_trip(s, m->u.heartbeat.echo_ns, m->u.heartbeat.held_ns, now);
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

/* From here on both sides' frames carry this epoch. */
static void adopt_epoch(struct link *link, uint32_t epoch)
{
	pthread_mutex_lock(&link->lock);
	link->epoch_out = epoch;
	pthread_mutex_unlock(&link->lock);
	link->epoch_in = epoch;
}

/* The destination gives the epoch, by WELCOME or ANSWER. What a source sends before it knows it carries 0 and is not much. */
static bool epoch_fits(struct sluice *s, uint32_t type, uint32_t epoch)
{
	struct link *link = &s->link;
	if (s->side == SIDE_SOURCE || link->epoch_in)
		return epoch == link->epoch_in;
	if (!epoch)
		return type == MESSAGE_HELLO || type == MESSAGE_HEARTBEAT || type == MESSAGE_CANCEL;
	pthread_mutex_lock(&link->lock);
	bool given = epoch == link->epoch_out;
	pthread_mutex_unlock(&link->lock);
	return given;
}

/* Returns whether reading may go on. Takes over `m`. */
static bool take_message(struct sluice *s, struct message *m, uint64_t now)
{
	struct link *link = &s->link;
	switch (m->type) {
	case MESSAGE_HEARTBEAT:
		heartbeat(s, m, now);
		free(m);
		return true;
	case MESSAGE_EMBEDDER: {
		/* This link's, and what earlier ones brought to an embedder that does not take it. */
		if (++link->messages_in - delivered(s) > MESSAGE_UNDELIVERED ||
		    link->messages_before + link->messages_in - atomic_load_explicit(&s->delivered, memory_order_acquire) >
			    MESSAGE_UNTAKEN) {
			free(m);
			link_lose(s, -EPROTO,
				  "the other side sends more messages than were delivered: use the same version on both sides");
			return false;
		}
		int rc = outbox_message(&s->outbox, m->u.embedder.bytes, m->u.embedder.length);
		free(m);
		if (rc)
			link_lose(s, rc, "no memory for a message of the other side: free some");
		return !rc;
	}
	case MESSAGE_WELCOME:
		adopt_epoch(link, m->u.welcome.epoch);
		agree_on_beat(link, m->u.welcome.dead_peer_ms);
		break;
	case MESSAGE_ANSWER: adopt_epoch(link, m->u.answer.epoch); break;
	case MESSAGE_HELLO:
		link->offered = true;
		agree_on_beat(link, m->u.hello.dead_peer_ms);
		break;
	case MESSAGE_BYE:
	case MESSAGE_CANCEL:
	case MESSAGE_REFUSE: link->parted = true; break; /* not NEVER: who says it still beats until BYE has come */
	default: break;
	}
	struct input in = { .type = INPUT_MESSAGE, .now_ns = now, .message = m, .stream = -1, .link = link->number };
	inbox_post(&s->inbox, &in);
	return true;
}

/* The same for a whole frame, in link->in. */
static bool take_frame(struct sluice *s, const struct message_head *head, uint64_t now)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	struct message *m = malloc(sizeof *m);
	if (!m) {
		link_lose(s, -ENOMEM, "no memory for a frame of the link");
		return false;
	}
	int rc = message_decode(link->in, head, m, text);
	if (!rc && (head->seq != link->seq_in || !epoch_fits(s, head->type, head->epoch))) {
		snprintf(text, sizeof text, "damaged link: a %s frame is out of sequence; try again", message_name(head->type));
		rc = -EPROTO;
	}
	if (!rc && s->side == SIDE_DESTINATION && !link->offered &&
	    (m->type == MESSAGE_HEARTBEAT || m->type == MESSAGE_EMBEDDER)) {
		snprintf(text, sizeof text,
			 "the source talks without offering a guest first: use the same version on both sides");
		rc = -EPROTO;
	}
	link->seq_in++;
	link->heard_ns = now;
	if (rc) {
		free(m);
		if (rc != -ENOMSG) /* a frame that we need not know */
			link_lose(s, rc, text);
		return rc == -ENOMSG;
	}
	link->epoch_in = head->epoch;
	return take_message(s, m, now);
}

/* The connection ended, or broke, with `n` in place of bytes. */
static void read_ended(struct sluice *s, int n)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	if (!link->in_got || link->in_got >= MESSAGE_HEAD || link->seq_in || link->number > 1 ||
	    message_begins(link->in, link->in_got)) {
		link_broke(s, n);
		return;
	}
	snprintf(text, sizeof text, "the other side does not speak sluice's protocol, it looks like %s: check address and port",
		 message_looks_like(link->in, link->in_got));
	link_lose(s, -EPROTO, text);
}

void frames_read(struct sluice *s, uint64_t now)
{
	struct link *link = &s->link;
	char text[SLUICE_ERROR_MAX];
	while (link->conn && !inbox_busy(&s->inbox)) {
		struct message_head head;
		uint32_t want = MESSAGE_HEAD;
		if (link->in_got >= MESSAGE_HEAD) {
			int rc = message_read_head(link->in, &head, text);
			if (rc) {
				link_lose(s, rc, text);
				return;
			}
			want += head.length;
			if (link->in_got == want) {
				link->in_got = 0;
				if (!take_frame(s, &head, now))
					return;
				continue;
			}
		}
		ssize_t n = link->conn->transport->read(link->conn, link->in + link->in_got, want - link->in_got);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			read_ended(s, (int)n);
			return;
		}
		if (!link->in_got)
			link->frame_ns = now;
		link->in_got += (uint32_t)n;
		link->heard_ns = now; /* part of a large frame is a sign of life too */
	}
}
