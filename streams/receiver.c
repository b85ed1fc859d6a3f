/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* receiver.c: the body of a receiver thread: read a batch, judge it, land it; at a mark, wait at the round gate.
 *
 * A batch is read in three steps: its head, its extents, and then the payload of all extents in one vectored receive,
 * straight into guest memory. Pages are claimed (ops->place) after the extents were judged and before their bytes are
 * read, and said to be there (ops->placed) after. lz4 blocks take a detour over scratch memory and inflate in place.
 *
 * What the peer sends is never asserted. Anything wrong with it ends this stream with one line that says what, and that
 * is all a receiver does about it: what follows from that is for the core to say. */
#include "streams/receiver.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "streams/codec.h"
#include "streams/thread.h"

/* Only the owner adds; readers get a number. release: who sees the count (receivers_stats) also sees what it counts. */
static void add(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_release);
}

__attribute__((format(printf, 3, 4))) static int wrong(struct receiver *r, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->wrong, sizeof(r->wrong), format, args);
	va_end(args);
	return error;
}

/* All bytes of iov. An orderly end is one only between batches. */
static int receive(struct receiver *r, struct iovec *iov, int n, bool between)
{
	uint64_t before = atomic_load_explicit(&r->waiter.waited_ns, memory_order_relaxed);
	struct conn *conn =
		atomic_load_explicit(&r->conn, memory_order_relaxed); /* its value was passed on to us by receiver_run */
	int e = r->transport->recv(conn, iov, n, &r->waiter);

	add(&r->stats.stalled_ns, atomic_load_explicit(&r->waiter.waited_ns, memory_order_relaxed) - before);
	if (!e || e == -ECANCELED)
		return e;
	if (e == -ENODATA && between)
		return wrong(r, e, "the other side closed the connection");
	if (e == -ENODATA || e == -ECONNRESET)
		return wrong(r, -ECONNRESET, "the connection broke off%s", between ? "" : " within a batch");
	return wrong(r, e, "the connection failed: %s", strerror(-e));
}

static int receive_frame(struct receiver *r)
{
	struct batch_head *head = &r->frame.head;
	struct iovec iov = { .iov_base = head, .iov_len = sizeof(*head) };
	int e;

	atomic_store_explicit(&r->stats.state, RECEIVER_STARVED, memory_order_relaxed);
	e = receive(r, &iov, 1, true);
	if (e)
		return e;
	atomic_store_explicit(&r->stats.state, RECEIVER_LANDING, memory_order_relaxed);
	e = batch_check_head(head, &r->place, r->round, r->wrong);
	if (e)
		return e;
	if (head->extents) {
		iov = (struct iovec){ .iov_base = r->frame.extents, .iov_len = head->extents * sizeof(struct extent) };
		e = receive(r, &iov, 1, false);
		if (e)
			return e;
	}
	return batch_check_frame(&r->frame, r->owner->config.lz4, r->wrong);
}

static int inflate_and_tell(struct receiver *r)
{
	const struct land_ops *ops = r->owner->config.ops;
	const unsigned char *block = r->scratch;

	for (uint32_t i = 0; i < r->frame.head.extents; i++) {
		const struct extent *e = &r->frame.extents[i];

		if (e->encoding == ENCODING_ZERO)
			continue;
		if (e->encoding == ENCODING_LZ4) {
			if (codec_decompress(block, e->bytes, r->address[i], e->count))
				return wrong(r, -EBADMSG,
					     "the lz4 block of %u pages at page 0x%llx of region %u does not inflate", e->count,
					     (unsigned long long)e->page, e->region);
			block += e->bytes;
		}
		ops->placed(r->owner->config.core, e);
	}
	return 0;
}

static int land_pages(struct receiver *r)
{
	const struct land_ops *ops = r->owner->config.ops;
	unsigned char *scratch = r->scratch;
	int n = 0, error;

	for (uint32_t i = 0; i < r->frame.head.extents; i++) {
		const struct extent *e = &r->frame.extents[i];
		char *to;

		error = ops->place(r->owner->config.core, e, &r->address[i]);
		if (error)
			return wrong(r, error == -EINVAL ? -EBADMSG : error,
				     "%u pages at page 0x%llx of region %u have no place here: %s", e->count,
				     (unsigned long long)e->page, e->region, strerror(-error));
		if (e->encoding == ENCODING_ZERO)
			continue;
		to = r->address[i];
		if (e->encoding == ENCODING_LZ4) {
			to = (char *)scratch;
			scratch += e->bytes;
		}
		if (n && (char *)r->iov[n - 1].iov_base + r->iov[n - 1].iov_len == to)
			r->iov[n - 1].iov_len += e->bytes;
		else
			r->iov[n++] = (struct iovec){ .iov_base = to, .iov_len = e->bytes };
	}
	error = n ? receive(r, r->iov, n, false) : 0;
	if (!error)
		error = batch_check_payload(&r->frame, r->scratch, r->wrong);
	return error ? error : inflate_and_tell(r);
}

static int land_state(struct receiver *r)
{
	const struct land_ops *ops = r->owner->config.ops;
	const struct state_piece *piece = &r->frame.piece;
	void *core = r->owner->config.core;
	int e = ops->state(core, r->frame.head.round, piece, &r->address[0]);

	if (e)
		return wrong(r, e == -EINVAL ? -EBADMSG : e, "%u bytes at %llu of %llu of state section %u are refused: %s",
			     piece->bytes, (unsigned long long)piece->offset, (unsigned long long)piece->total, piece->section,
			     strerror(-e));
	r->iov[0] = (struct iovec){ .iov_base = r->address[0], .iov_len = piece->bytes };
	e = receive(r, r->iov, 1, false);
	if (!e)
		e = batch_check_payload(&r->frame, r->address[0], r->wrong);
	if (!e)
		ops->state_placed(core, r->frame.head.round, piece);
	return e;
}

static void tell_landed(void *arg, uint32_t round)
{
	const struct receivers *owner = arg;

	owner->config.ops->round_landed(owner->config.core, round);
}

/* A source that has announced its last round sends nothing after it: the guest may run here, and is the only one to write its memory. */
static int begin(struct receiver *r)
{
	/* seq_cst, and in this order: pairs with receivers_last() */
	atomic_store_explicit(&r->landing, r->round, memory_order_seq_cst);
	uint32_t last = atomic_load_explicit(&r->owner->last, memory_order_seq_cst);

	return last && r->round > last ? wrong(r, -EBADMSG, "a batch of round %u came, and %u was the last", r->round, last) : 0;
}

static int land(struct receiver *r)
{
	int e = begin(r);

	if (!e && r->frame.head.type == BATCH_PAGES)
		e = land_pages(r);
	else if (!e && r->frame.head.type == BATCH_STATE)
		e = land_state(r);
	atomic_store_explicit(&r->landing, 0,
			      memory_order_release); /* pairs with receivers_last(): nothing of it is written any more */
	return e;
}

/* The next batch, wholly. */
static int take_batch(struct receiver *r)
{
	const struct batch_head *head = &r->frame.head;
	uint64_t held;
	int e = receive_frame(r);

	if (!e)
		e = land(r);
	if (e)
		return e;
	batch_taken(head, &r->place);
	add(&r->stats.batches, 1);
	add(&r->stats.bytes, batch_frame_size(head) + head->payload);
	if (head->type != BATCH_MARK)
		return 0;
	add(&r->stats.cpu_ns, thread_cpu_ns() - atomic_load_explicit(&r->stats.cpu_ns, memory_order_relaxed));
	atomic_store_explicit(&r->stats.state, RECEIVER_AT_GATE, memory_order_relaxed);
	e = gate_pass(&r->owner->gate, r->round, tell_landed, r->owner, &r->waiter, &held);
	if (e)
		return e;
	add(&r->stats.gate_ns, held);
	r->round++;
	return 0;
}

void *receiver_run(void *arg)
{
	struct receiver *r = arg;
	struct receivers *owner = r->owner;
	struct conn *conn = atomic_load_explicit(&r->conn, memory_order_acquire); /* pairs with receivers_add */
	char text[BATCH_ERROR + 80];
	int e;

	node_place(&owner->map, r->stream, owner->config.streams);
	r->transport = conn->transport;
	e = r->transport->become_stream(conn, owner->config.uring, false);
	if (e)
		wrong(r, e, "no memory for its buffers");
	else
		atomic_store_explicit(&r->stats.uring, r->transport->is_uring(conn), memory_order_relaxed);
	/* seq_cst: pairs with receivers_cancel, which sets cancel and then shuts down what is there */
	while (!e && !atomic_load_explicit(&owner->cancel, memory_order_seq_cst))
		e = take_batch(r);
	add(&r->stats.cpu_ns, thread_cpu_ns() - atomic_load_explicit(&r->stats.cpu_ns, memory_order_relaxed));
	if (e && e != -ECANCELED && !atomic_load_explicit(&owner->cancel, memory_order_seq_cst)) {
		snprintf(text, sizeof(text), "stream %u from %.60s: %s", r->stream, r->transport->peer(conn), r->wrong);
		owner->config.ops->lost(owner->config.core, r->stream, e, text);
	}
	wait_over(&r->waiter);
	return NULL;
}
