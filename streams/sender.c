/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sender.c: the body of a sender thread: claim, look for zeroes, encode, send.
 *
 * There are two batches: while one is on the wire, the next is filled from claims. Nothing but the owner touches them,
 * nothing is allocated. A batch takes extents from claim after claim until it is full, or there is no more work, or the
 * round is over; what does not fit of a claimed granule stays in the claim's mask for the next.
 *
 * The core cleared the bits of a claim before it gave it; pages are read after that, by the zero scan, by lz4's private
 * copy and by the kernel while it sends (Law 3). A raw page may go out half old and half new: its bit is set again
 * then. */
#include "streams/sender.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "streams/greeting.h"
#include "streams/thread.h"
#include "streams/zero.h"

enum { LIMIT_LOOK_NS = 50 * 1000 * 1000 }; /* how often who is held back looks whether the limit has changed */

/* Pages that will make one extent. */
struct run {
	unsigned first, count; /* in the claim */
};

static void add(_Atomic uint64_t *counter, uint64_t by)
{
	/* relaxed: only this thread adds, readers want a number and nothing behind it */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

static bool cancelled(const struct sender *s)
{
	return atomic_load_explicit(&s->pool->cancel, memory_order_seq_cst); /* pairs with pool_cancel */
}

static struct conn *conn_of(const struct sender *s)
{
	return atomic_load_explicit(&s->conn, memory_order_relaxed); /* stored by this thread itself */
}

__attribute__((format(printf, 3, 4))) static int wrong(struct sender *s, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(s->wrong, sizeof(s->wrong), format, args);
	va_end(args);
	return error;
}

static int broke(struct sender *s, int error)
{
	if (error == -EPIPE || error == -ECONNRESET)
		return wrong(s, error, "the other side closed the connection");
	return wrong(s, error, "the connection failed: %s", strerror(-error));
}

static void note_cpu(struct sender *s)
{
	atomic_store_explicit(&s->stats.cpu_ns, thread_cpu_ns(), memory_order_relaxed);
}

/* A fresh batch to fill. */
static void begin(struct sender *s, struct parcel *p)
{
	bool automatic = s->pool->config.compress == COMPRESS_AUTO;

	batch_reset(&p->batch, 0);
	p->blocks_used = 0;
	p->exempt = false;
	p->lz4 = s->pool->config.compress == COMPRESS_LZ4 || (automatic && compress_auto_on(&s->compress));
	p->sample = automatic && !p->lz4 && compress_auto_wants_sample(&s->compress, now_ns());
	s->filling = p;
}

/* Wait for the batch in flight. */
static int settle(struct sender *s)
{
	const struct parcel *p = s->filling == &s->parcel[0] ? &s->parcel[1] : &s->parcel[0];
	uint64_t before = atomic_load_explicit(&s->waiter.waited_ns, memory_order_relaxed), began, now;
	int r;

	if (!s->in_flight)
		return 0;
	began = now_ns();
	r = s->transport->send_wait(conn_of(s), &s->waiter);
	s->in_flight = false;
	add(&s->stats.stalled_ns, atomic_load_explicit(&s->waiter.waited_ns, memory_order_relaxed) - before);
	if (r)
		return broke(s, r);
	now = now_ns();
	add(&s->stats.batches, 1);
	add(&s->stats.bytes, p->size);
	if (s->pool->config.compress == COMPRESS_AUTO)
		compress_auto_sent(&s->compress, now, !p->lz4, p->size, now - s->sent_at, s->wire_ns + (now - began));
	s->sent_at = now;
	s->wire_ns = 0;
	return 0;
}

/* Until the bandwidth limit allows `bytes` more. */
static int hold_back(struct sender *s, uint64_t bytes)
{
	struct pool *pool = s->pool;
	uint64_t now = now_ns(), limit = 0, until = 0;

	for (;;) {
		uint32_t key = bell_key(&pool->cancelled);
		uint64_t latest =
			atomic_load_explicit(pool->config.bandwidth, memory_order_relaxed); /* a number, nothing behind it */

		if (cancelled(s))
			return -ECANCELED;
		if (latest != limit || !until) {
			limit = latest;
			until = rate_take(&pool->rate, bytes, limit, now);
		}
		if (now >= until)
			return 0;
		bell_wait(&pool->cancelled, key, until - now > LIMIT_LOOK_NS ? now + LIMIT_LOOK_NS : until, &s->waiter,
			  "the bandwidth limit");
		now = now_ns();
	}
}

/* Send what was filled, if anything, and go on with the other batch. */
static int ship(struct sender *s, enum batch_type type)
{
	struct parcel *p = s->filling;
	uint64_t began;
	int r;

	p->size = batch_seal(&p->batch, type, &s->place);
	r = settle(s); /* before it waits for its turn: what was sent is to show as sent */
	if (r)
		return r;
	began = now_ns();
	if (!p->exempt) {
		r = hold_back(s, p->size);
		if (r)
			return r;
	}
	r = s->transport->send_start(conn_of(s), p->batch.iov, p->batch.iovs);
	if (r)
		return broke(s, r);
	s->wire_ns += now_ns() - began;
	s->in_flight = true;
	begin(s, p == &s->parcel[0] ? &s->parcel[1] : &s->parcel[0]);
	return 0;
}

static int flush(struct sender *s)
{
	int r = s->filling->batch.extents ? ship(s, BATCH_PAGES) : 0;

	return r ? r : settle(s);
}

/* Put the run into the batch; compressed where that is wanted and worth it. */
static void pack_run(struct sender *s, struct run *run)
{
	struct parcel *p = s->filling;
	const struct claim *c = &s->claim;
	const unsigned char *data = c->base + (size_t)run->first * WIRE_PAGE;
	uint64_t page = c->first_page + run->first, began, now;
	uint32_t bytes = run->count * WIRE_PAGE, out = 0;
	unsigned count = run->count;

	if (!count)
		return;
	run->count = 0;
	if (p->lz4 || p->sample) {
		began = now_ns();
		out = codec_compress(s->codec, data, count, p->blocks + p->blocks_used);
		now = now_ns();
		if (s->pool->config.compress == COMPRESS_AUTO)
			compress_auto_block(&s->compress, now, bytes, out ? out : bytes, now - began);
		p->sample = false;
	}
	if (!out) {
		batch_add_raw(&p->batch, c->region, page, count, data);
		return;
	}
	batch_add_lz4(&p->batch, c->region, page, count, p->blocks + p->blocks_used, out);
	p->blocks_used += out;
	add(&s->stats.lz4_in, bytes);
	add(&s->stats.lz4_out, out);
}

/* Is there room for one more page, beside a run that is not packed yet? */
static bool fits(const struct parcel *p, const struct run *run)
{
	const struct batch *b = &p->batch;

	return b->extents + (run->count > 0) < WIRE_BATCH_EXTENTS && batch_has_room(b, (run->count + 1) * WIRE_PAGE) &&
	       b->pages + run->count < (p->lz4 ? SENDER_PAGES_LZ4 : SENDER_PAGES);
}

/* Move pages from the claim into the batch. Returns false where the batch is full before the claim is empty. */
static bool pack(struct sender *s)
{
	struct parcel *p = s->filling;
	struct claim *c = &s->claim;
	struct run run = { 0 };

	p->batch.round = c->round;
	p->exempt = c->exempt;
	for (unsigned w = 0; w < WIRE_GRANULE_PAGES / 64; w++) {
		for (; c->mask[w]; c->mask[w] &= c->mask[w] - 1) {
			unsigned bit = w * 64 + (unsigned)__builtin_ctzll(c->mask[w]);
			unsigned longest = p->lz4 || p->sample ? CODEC_PAGES : WIRE_EXTENT_PAGES;

			if (!fits(p, &run)) {
				pack_run(s, &run);
				return false;
			}
			add(&s->stats.pages, 1);
			if ((c->discarded[w] >> bit % 64 & 1) || page_is_zero(c->base + (size_t)bit * WIRE_PAGE)) {
				pack_run(s, &run);
				batch_add_zero(&p->batch, c->region, c->first_page + bit, 1);
				add(&s->stats.zero_pages, 1);
				continue;
			}
			if (run.first + run.count != bit || run.count == longest ||
			    (c->first_page + bit) % WIRE_GRANULE_PAGES == 0)
				pack_run(s, &run);
			if (!run.count)
				run.first = bit;
			run.count++;
		}
	}
	pack_run(s, &run);
	return true;
}

static int send_pages(struct sender *s)
{
	int r;

	while (!pack(s)) {
		r = ship(s, BATCH_PAGES);
		if (r)
			return r;
	}
	return 0;
}

static int send_state(struct sender *s)
{
	int r = s->filling->batch.extents ? ship(s, BATCH_PAGES) : 0;

	if (r)
		return r;
	s->filling->batch.round = s->claim.round;
	s->filling->exempt = s->claim.exempt;
	batch_set_state(&s->filling->batch, &s->claim.piece, s->claim.data);
	return ship(s, BATCH_STATE);
}

static int send_mark(struct sender *s)
{
	int r = s->filling->batch.extents ? ship(s, BATCH_PAGES) : 0;

	if (r)
		return r;
	s->filling->batch.round = s->claim.round;
	s->filling->exempt = true; /* 64 bytes, and the round of all streams hangs on them */
	r = ship(s, BATCH_MARK);
	if (!r)
		r = settle(s);
	if (r)
		return r;
	note_cpu(s);
	s->pool->config.ops->marked(s->pool->config.core, s->index, s->claim.round);
	return 0;
}

/* Work until the core says that it is over, or something breaks. */
static int serve(struct sender *s)
{
	const struct work_ops *ops = s->pool->config.ops;
	void *core = s->pool->config.core;
	uint32_t key;
	int r = 0;

	s->sent_at = now_ns();
	compress_auto_init(&s->compress, s->sent_at);
	begin(s, &s->parcel[0]);
	while (!r) {
		if (cancelled(s))
			return -ECANCELED;
		ops->claim(core, s->index, &s->claim, &key);
		switch (s->claim.kind) {
		case CLAIM_PAGES: r = send_pages(s); break;
		case CLAIM_STATE: r = send_state(s); break;
		case CLAIM_MARK: r = send_mark(s); break;
		case CLAIM_END: return flush(s);
		case CLAIM_NONE:
			r = flush(s);
			if (!r && !cancelled(s))
				ops->wait(core, key, &s->waiter);
			s->sent_at = now_ns();
			break;
		}
	}
	return r;
}

static int dial(struct sender *s)
{
	struct pool *pool = s->pool;
	const struct pool_config *config = &pool->config;
	struct greeting greeting = config->greeting;
	struct dial d = {
		.uri = &config->uri,
		.greeting = &greeting,
		.deadline_ns = now_ns() + (uint64_t)config->connect_ms * 1000000u,
		.cancel = &pool->cancel,
		.waiter = &s->waiter,
		.uring = config->uring,
		.error = s->wrong,
		.error_size = sizeof(s->wrong),
	};
	struct conn *conn;
	int r;

	greeting.stream = s->index;
	greeting_seal(&greeting);
	s->transport = transport_find(&config->uri);
	if (!s->transport)
		return wrong(s, -EPROTONOSUPPORT, "this build has no such transport");
	r = s->transport->connect(&d, &conn);
	if (r)
		return r;
	atomic_store_explicit(&s->conn, conn, memory_order_seq_cst); /* pairs with pool_cancel */
	if (cancelled(s))
		return -ECANCELED;
	r = s->transport->become_stream(conn, config->uring, true);
	if (r)
		return wrong(s, r, "no memory for its buffers");
	atomic_store_explicit(&s->stats.uring, s->transport->is_uring(conn), memory_order_relaxed);
	return 0;
}

void *sender_run(void *arg)
{
	struct sender *s = arg;
	const struct pool_config *config = &s->pool->config;
	char to[URI_TEXT], text[sizeof(s->wrong) + 80];
	int r;

	atomic_store_explicit(&s->stats.node, node_place(&s->pool->map, s->index, config->streams), memory_order_relaxed);
	r = dial(s);
	if (!r) {
		config->ops->up(config->core, s->index);
		r = serve(s);
	}
	/* The kernel still reads from the batch in flight. Cut the wire so that it stops, and wait for that. */
	if (s->in_flight) {
		s->transport->shutdown(conn_of(s));
		s->transport->send_wait(conn_of(s), &s->waiter);
		s->in_flight = false;
	}
	note_cpu(s);
	if (r && r != -ECANCELED && !cancelled(s)) {
		snprintf(text, sizeof(text), "stream %u to %.60s: %s", s->index, uri_format(&config->uri, to), s->wrong);
		config->ops->lost(config->core, s->index, r, text);
	}
	wait_over(&s->waiter);
	return NULL;
}
