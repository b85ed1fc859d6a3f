/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_pool.c: pool and receivers together, over real sockets, with a core of our own at both ends: every page in place
 * after every round, no round before the one before it, and every wait ended at any time. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "streams/batch.h"
#include "streams/bell.h"
#include "streams/greeting.h"
#include "streams/pool.h"
#include "streams/receivers.h"
#include "streams/thread.h"
#include "tests/unit/harness.h"

enum {
	GRANULES = 12,
	PAGES = GRANULES * WIRE_GRANULE_PAGES,
	BYTES = PAGES * WIRE_PAGE,
	STREAMS_MAX = 8,
	STATE = 3 * WIRE_BATCH_PAYLOAD / 2
};

/* Both ends of it. */
struct world {
	uint32_t streams, rounds;
	unsigned char *source, *destination;
	bool sparse; /* every other round: a few pages only */

	/* Source. */
	struct bell work;
	_Atomic uint32_t round, up, ended;
	_Atomic uint32_t cursor, state_at, marks;
	_Atomic uint32_t marked[STREAMS_MAX];
	uint64_t dirty[PAGES / 64]; /* of the round, set while it is closed */
	uint64_t discarded[PAGES / 64];
	unsigned char state[STATE];
	struct pool *pool;
	_Atomic uint64_t bandwidth;

	/* Destination. */
	struct door *door;
	struct receivers *receivers;
	struct bell landed;
	_Atomic uint32_t landed_round, early, misplaced, placed_pages;
	_Atomic uint32_t holding; /* pages that were placed and are not there yet */
	unsigned char state_there[STATE];
	_Atomic uint32_t state_bytes;

	_Atomic uint32_t lost;
	_Atomic int lost_error;
	char lost_text[300];
};

static uint64_t stir(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* What the guest wrote in a page in a round: zeroes, text or noise. */
static void write_page(struct world *w, uint32_t page, uint32_t round)
{
	uint64_t seed = stir((uint64_t)round << 32 | page), *words = (uint64_t *)(w->source + (size_t)page * WIRE_PAGE);

	for (unsigned i = 0; i < WIRE_PAGE / 8; i++)
		words[i] = seed % 4 == 0 ? 0 : seed % 4 == 1 ? 0x2020202020202020ull + seed % 7 * i : stir(seed + i);
}

static void dirty_pages(struct world *w, uint32_t round)
{
	memset(w->dirty, 0, sizeof(w->dirty));
	memset(w->discarded, 0, sizeof(w->discarded));
	for (uint32_t page = 0; page < PAGES; page++) {
		uint64_t dice = stir((uint64_t)round << 40 | page >> (stir(round) % 7));

		if (round > 1 && dice % (w->sparse && round % 2 ? 300 : 2))
			continue;
		w->dirty[page / 64] |= 1ull << page % 64;
		write_page(w, page, round);
		if (dice % 61 != 1)
			continue;
		/* Given back by the guest: reads as zero there, whatever is here. */
		w->discarded[page / 64] |= 1ull << page % 64;
	}
	for (unsigned i = 0; i < STATE; i++)
		w->state[i] = (unsigned char)stir((uint64_t)round * STATE + i);
}

/* ---- the source's core */

static void open_round(struct world *w, uint32_t round)
{
	atomic_store(&w->cursor, 0);
	atomic_store(&w->state_at, 0);
	atomic_store(&w->marks, 0);
	atomic_store(&w->round, round);
	bell_ring(&w->work);
}

static bool claim_state(struct world *w, struct claim *c)
{
	uint32_t at = atomic_fetch_add(&w->state_at, WIRE_BATCH_PAYLOAD);

	if (at >= STATE)
		return false;
	c->kind = CLAIM_STATE;
	c->data = w->state + at;
	c->piece = (struct state_piece){ .offset = at,
					 .total = STATE,
					 .bytes = STATE - at < WIRE_BATCH_PAYLOAD ? STATE - at : WIRE_BATCH_PAYLOAD,
					 .section = 1 };
	return true;
}

static void claim(void *core, uint32_t sender, struct claim *c, uint32_t *ret_key)
{
	struct world *w = core;
	uint32_t granule;

	*ret_key = bell_key(&w->work);
	memset(c, 0, sizeof(*c));
	c->round = atomic_load(&w->round);
	if (atomic_load(&w->ended)) {
		c->kind = CLAIM_END;
		return;
	}
	if (!c->round || atomic_load(&w->marked[sender]) == c->round)
		return;
	if (claim_state(w, c))
		return;
	granule = atomic_fetch_add(&w->cursor, 1);
	if (granule >= GRANULES) {
		c->kind = CLAIM_MARK;
		return;
	}
	c->kind = CLAIM_PAGES;
	c->region = 4;
	c->first_page = (uint64_t)granule * WIRE_GRANULE_PAGES;
	c->base = w->source + c->first_page * WIRE_PAGE;
	memcpy(c->mask, &w->dirty[granule * 8], sizeof(c->mask));
	memcpy(c->discarded, &w->discarded[granule * 8], sizeof(c->discarded));
}

static void wait_for_work(void *core, uint32_t key, struct waiter *waiter)
{
	bell_wait(&((struct world *)core)->work, key, UINT64_MAX, waiter, "work");
}

static void marked(void *core, uint32_t sender, uint32_t round)
{
	struct world *w = core;

	atomic_store(&w->marked[sender], round);
	atomic_fetch_add(&w->marks, 1);
}

static void lost(void *core, uint32_t stream, int error, const char *text)
{
	struct world *w = core;

	(void)stream;
	if (atomic_fetch_add(&w->lost, 1))
		return;
	snprintf(w->lost_text, sizeof(w->lost_text), "%s", text);
	atomic_store(&w->lost_error, error);
	bell_ring(&w->landed);
}

static void up(void *core, uint32_t sender)
{
	(void)sender;
	atomic_fetch_add(&((struct world *)core)->up, 1);
}

static const struct work_ops work_ops = { .claim = claim, .wait = wait_for_work, .marked = marked, .lost = lost, .up = up };

/* ---- the destination's core */

static int place(void *core, const struct extent *e, void **ret_address)
{
	struct world *w = core;

	if (e->region != 4 || e->page >= PAGES || e->count > PAGES - e->page)
		return -EINVAL;
	*ret_address = w->destination + e->page * WIRE_PAGE;
	if (e->encoding == ENCODING_ZERO) {
		memset(*ret_address, 0, e->count * (size_t)WIRE_PAGE);
		atomic_fetch_add(&w->placed_pages, e->count);
	} else {
		atomic_fetch_add(&w->holding, e->count);
	}
	return 0;
}

static void placed(void *core, const struct extent *e)
{
	struct world *w = core;

	atomic_fetch_sub(&w->holding, e->count);
	atomic_fetch_add(&w->placed_pages, e->count);
}

static int state(void *core, uint32_t round, const struct state_piece *piece, void **ret_address)
{
	struct world *w = core;

	/* The gate: the round that lands is the one after the last that has landed wholly. */
	if (round != atomic_load(&w->landed_round) + 1)
		atomic_fetch_add(&w->early, 1);
	if (piece->section != 1 || piece->total != STATE)
		return -EINVAL;
	*ret_address = w->state_there + piece->offset;
	return 0;
}

static void state_placed(void *core, uint32_t round, const struct state_piece *piece)
{
	(void)round;
	atomic_fetch_add(&((struct world *)core)->state_bytes, piece->bytes);
}

/* Nothing of the next round may have been placed: all there is is as it was in this one. */
static void round_landed(void *core, uint32_t round)
{
	static const unsigned char zeroes[WIRE_PAGE];
	struct world *w = core;

	/* What the source wrote before it opened the round came here by way of the kernel; a sanitizer needs to be
	 * told. */
	if (round != atomic_load(&w->round) || round != atomic_load(&w->landed_round) + 1 || atomic_load(&w->holding))
		atomic_fetch_add(&w->early, 1);
	for (uint32_t page = 0; page < PAGES; page++) {
		bool gone = w->discarded[page / 64] >> page % 64 & 1;
		const unsigned char *here = w->source + (size_t)page * WIRE_PAGE;

		if ((w->dirty[page / 64] >> page % 64 & 1) &&
		    memcmp(gone ? zeroes : here, w->destination + (size_t)page * WIRE_PAGE, WIRE_PAGE))
			atomic_fetch_add(&w->misplaced, 1);
	}
	if (memcmp(w->state, w->state_there, STATE))
		atomic_fetch_add(&w->misplaced, 1);
	atomic_store(&w->landed_round, round);
	bell_ring(&w->landed);
}

static const struct land_ops land_ops = {
	.place = place,
	.placed = placed,
	.state = state,
	.state_placed = state_placed,
	.round_landed = round_landed,
	.lost = lost,
};

/* ---- setting up */

/* valgrind (3.19) takes io_uring_enter() for a call that never blocks: all threads stand still behind it. */
static bool uring_works_here(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return !preload || !strstr(preload, "vgpreload");
}

struct setup {
	const char *uri;
	uint32_t streams;
	bool near_uring, far_uring;
	enum compress compress;
};

static void *memory(void)
{
	void *m = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CU_ASSERT_FATAL(m != MAP_FAILED);
	return m;
}

static struct world *world_create(void)
{
	struct world *w = calloc(1, sizeof(*w));

	CU_ASSERT_PTR_NOT_NULL_FATAL(w);
	w->source = memory();
	w->destination = memory();
	return w;
}

static void world_destroy(struct world *w)
{
	munmap(w->source, BYTES);
	munmap(w->destination, BYTES);
	free(w);
}

/* Take the next connection at the door, as the link thread would. */
static struct conn *answer(struct world *w, struct greeting *ret)
{
	const struct transport *t = w->door->transport;
	struct pollfd p = { .fd = t->door_fd(w->door), .events = POLLIN };
	struct conn *conn;
	char error[100];
	size_t n = 0;

	while (t->accept(w->door, &conn) == -EAGAIN)
		CU_ASSERT_EQUAL_FATAL(poll(&p, 1, 5000), 1);
	p.fd = t->fd(conn);
	while (n < sizeof(*ret)) {
		ssize_t r = t->read(conn, (char *)ret + n, sizeof(*ret) - n);

		CU_ASSERT_FATAL(r > 0 || r == -EAGAIN);
		if (r > 0)
			n += (size_t)r;
		else
			poll(&p, 1, 5000);
	}
	CU_ASSERT_EQUAL(greeting_check(ret, error, sizeof(error)), 0);
	return conn;
}

static void listen_at(struct world *w, const char *text, struct uri *ret)
{
	struct uri uri;
	char error[200];

	CU_ASSERT_EQUAL_FATAL(uri_parse(text, &uri, error, sizeof(error)), 0);
	CU_ASSERT_EQUAL_FATAL(transport_find(&uri)->listen(&uri, &w->door, ret), 0);
}

static void make_receivers(struct world *w, const struct setup *s)
{
	const struct receivers_config config = {
		.ops = &land_ops,
		.core = w,
		.streams = s->streams,
		.epoch = 1,
		.lz4 = s->compress != COMPRESS_NONE,
		.uring = s->far_uring && uring_works_here(),
		.cpus = "",
	};

	CU_ASSERT_EQUAL_FATAL(receivers_create(&config, &w->receivers), 0);
}

static void make_pool(struct world *w, const struct setup *s, const struct uri *uri)
{
	const struct pool_config config = {
		.ops = &work_ops,
		.core = w,
		.uri = *uri,
		.greeting = { .kind = GREETING_BULK, .epoch = 1 },
		.streams = s->streams,
		.connect_ms = 3000,
		.compress = s->compress,
		.uring = s->near_uring && uring_works_here(),
		.numa = true,
		.cpus = "",
		.bandwidth = &w->bandwidth,
	};

	CU_ASSERT_EQUAL_FATAL(pool_start(&config, &w->pool), 0);
}

static void connect_all(struct world *w, const struct setup *s)
{
	struct greeting greeting;
	struct uri at;

	w->streams = s->streams;
	listen_at(w, s->uri, &at);
	make_receivers(w, s);
	make_pool(w, s, &at);
	for (uint32_t i = 0; i < s->streams; i++) {
		struct conn *conn = answer(w, &greeting);

		CU_ASSERT_EQUAL(receivers_add(w->receivers, greeting.stream, conn), 0);
	}
}

/* As the core does: cancel, ring, join. */
static void stop_pool(struct world *w)
{
	pool_cancel(w->pool);
	atomic_store(&w->ended, 1);
	bell_ring(&w->work);
	pool_destroy(w->pool);
	w->pool = NULL;
}

static void tear_down(struct world *w)
{
	if (w->receivers)
		receivers_destroy(w->receivers);
	if (w->pool)
		stop_pool(w);
	w->door->transport->door_close(w->door);
	world_destroy(w);
}

/* Until the round has landed. False: a stream was lost instead. */
static bool await_round(struct world *w, uint32_t round)
{
	for (;;) {
		uint32_t key = bell_key(&w->landed);

		if (atomic_load(&w->landed_round) >= round)
			return true;
		if (atomic_load(&w->lost_error) || bell_wait(&w->landed, key, now_ns() + 20000000000u, NULL, "") == -ETIMEDOUT)
			return false;
	}
}

static void migrate(const struct setup *s, uint32_t rounds)
{
	struct world *w = world_create();
	uint64_t bytes = 0, landed_bytes = 0, pages = 0, dirty = 0;

	w->sparse = true;
	connect_all(w, s);
	for (uint32_t round = 1; round <= rounds; round++) {
		/* Senders have all marked and wait; receivers are past the gate: nobody looks at the bitmaps now. */
		while (round > 1 && atomic_load(&w->marks) < s->streams)
			usleep(100);
		dirty_pages(w, round);
		for (int i = 0; i < PAGES / 64; i++)
			dirty += (uint64_t)__builtin_popcountll(w->dirty[i]);
		open_round(w, round);
		if (!await_round(w, round)) {
			puts(w->lost_text);
			CU_FAIL("a round did not land");
			break;
		}
	}
	/* round_landed() is called before the gate opens. */
	while (atomic_load(&w->marks) < s->streams || (!w->lost && receivers_passed(w->receivers) < rounds))
		usleep(100);
	CU_ASSERT_EQUAL(w->early, 0);
	CU_ASSERT_EQUAL(w->misplaced, 0);
	CU_ASSERT_EQUAL(w->lost, 0);
	CU_ASSERT_EQUAL(w->up, s->streams);
	CU_ASSERT_EQUAL(w->state_bytes, STATE * rounds);
	CU_ASSERT_EQUAL(receivers_passed(w->receivers), rounds);
	for (uint32_t i = 0; i < s->streams; i++) {
		bytes += pool_stats(w->pool, i)->bytes;
		pages += pool_stats(w->pool, i)->pages;
		landed_bytes += receivers_stats(w->receivers, i)->bytes;
		CU_ASSERT_EQUAL(pool_stats(w->pool, i)->batches, receivers_stats(w->receivers, i)->batches);
		CU_ASSERT(pool_stats(w->pool, i)->cpu_ns > 0 && receivers_stats(w->receivers, i)->cpu_ns > 0);
		CU_ASSERT(s->near_uring || !pool_stats(w->pool, i)->uring);
		CU_ASSERT(s->compress != COMPRESS_LZ4 || pool_stats(w->pool, i)->lz4_in >= pool_stats(w->pool, i)->lz4_out);
	}
	CU_ASSERT_EQUAL(bytes, landed_bytes);
	CU_ASSERT_EQUAL(pages, dirty);
	CU_ASSERT_EQUAL(w->placed_pages, dirty);
	CU_ASSERT(pool_bytes(w->pool) < s->streams * (4ull << 20) && receivers_bytes(w->receivers) < s->streams * (4ull << 20));
	tear_down(w);
}

#define TCP "tcp:127.0.0.1:0"
#define UNIX "unix:/tmp/sluice-test-pool.sock"

static void rounds_land_over_tcp(void)
{
	for (int i = 0; i < 4; i++)
		migrate(&(struct setup){ TCP, 4, i & 1, i & 2, COMPRESS_NONE }, 12);
}

static void rounds_land_over_unix(void)
{
	migrate(&(struct setup){ UNIX, 3, true, true, COMPRESS_NONE }, 8);
	migrate(&(struct setup){ UNIX, 3, false, false, COMPRESS_LZ4 }, 8);
}

static void rounds_land_compressed(void)
{
	migrate(&(struct setup){ TCP, 2, true, true, COMPRESS_LZ4 }, 8);
	migrate(&(struct setup){ TCP, 4, false, true, COMPRESS_AUTO }, 8);
}

static void one_stream_and_eight(void)
{
	migrate(&(struct setup){ TCP, 1, true, true, COMPRESS_NONE }, 8);
	migrate(&(struct setup){ TCP, 8, true, false, COMPRESS_NONE }, 8);
}

/* ---- ending at any time */

/* All of it, wherever it is, within 100 ms (three times that here: test machines are busy). */
static void cancel_after(const struct setup *s, unsigned us, bool source_first)
{
	struct world *w = world_create();
	uint64_t began;

	connect_all(w, s);
	dirty_pages(w, 1);
	open_round(w, 1);
	usleep(us);
	began = now_ns();
	if (source_first) {
		stop_pool(w);
		CU_ASSERT(now_ns() - began < 300000000);
		began = now_ns();
	}
	receivers_cancel(w->receivers);
	receivers_destroy(w->receivers);
	w->receivers = NULL;
	CU_ASSERT(now_ns() - began < 300000000);
	tear_down(w);
}

static void cancel_at_any_time(void)
{
	for (unsigned i = 0; i < 60; i++)
		cancel_after(&(struct setup){ i % 5 ? TCP : UNIX, 1 + i % 4, i & 1, i & 2, i % 3 ? COMPRESS_NONE : COMPRESS_LZ4 },
			     i * i * 8, i & 4);
}

static void cancel_ends_the_bandwidth_limit(void)
{
	const struct setup s = { TCP, 4, true, true, COMPRESS_NONE };
	struct world *w = world_create();
	uint64_t began;
	int held = 0;

	atomic_store(&w->bandwidth, 1000);
	connect_all(w, &s);
	dirty_pages(w, 1);
	open_round(w, 1);
	usleep(100000);
	for (uint32_t i = 0; i < 4; i++) {
		const char *what = atomic_load(&pool_waiter(w->pool, i)->what);

		held += what && strstr(what, "limit");
	}
	CU_ASSERT(held >= 3);
	began = now_ns();
	stop_pool(w);
	CU_ASSERT(now_ns() - began < 300000000);
	CU_ASSERT_EQUAL(w->lost > 4, 0);
	tear_down(w);
}

/* At 1,000 bytes a second a batch would have to wait for nine minutes. */
static void a_lifted_limit_lets_senders_go(void)
{
	const struct setup s = { TCP, 4, true, true, COMPRESS_NONE };
	struct world *w = world_create();

	atomic_store(&w->bandwidth, 1000);
	connect_all(w, &s);
	dirty_pages(w, 1);
	open_round(w, 1);
	usleep(50000);
	atomic_store(&w->bandwidth, 100000000);
	CU_ASSERT(await_round(w, 1));
	CU_ASSERT_EQUAL(w->misplaced, 0);
	tear_down(w);
}

static void the_limit_is_kept(void)
{
	const struct setup s = { TCP, 4, true, true, COMPRESS_NONE };
	struct world *w = world_create();
	uint64_t bytes = 0, took;

	atomic_store(&w->bandwidth, 40000000);
	connect_all(w, &s);
	dirty_pages(w, 1);
	took = now_ns();
	open_round(w, 1);
	CU_ASSERT(await_round(w, 1));
	took = now_ns() - took;
	for (uint32_t i = 0; i < 4; i++)
		bytes += receivers_stats(w->receivers, i)->bytes;
	/* 50 ms of burst, and the last batch of each may be early. */
	CU_ASSERT((double)took / 1e9 > (double)bytes / 40e6 - 0.15);
	CU_ASSERT((double)took / 1e9 < (double)bytes / 40e6 + 0.5);
	tear_down(w);
}

static void nobody_listens(void)
{
	struct world *w = world_create();
	const struct setup s = { TCP, 3, true, true, COMPRESS_NONE };
	struct uri at;

	listen_at(w, TCP, &at);
	w->door->transport->door_close(w->door);
	make_pool(w, &s, &at);
	while (atomic_load(&w->lost) < 3)
		usleep(1000);
	CU_ASSERT_EQUAL(w->up, 0);
	CU_ASSERT_EQUAL(w->lost_error, -ECONNREFUSED);
	CU_ASSERT(strstr(w->lost_text, "stream ") && strstr(w->lost_text, "cannot connect to 127.0.0.1:"));
	stop_pool(w);
	world_destroy(w);
}

static void receivers_that_die_are_noticed(void)
{
	for (int uring = 0; uring < 2; uring++) {
		const struct setup s = { TCP, 3, uring, uring, COMPRESS_NONE };
		struct world *w = world_create();

		connect_all(w, &s);
		dirty_pages(w, 1);
		receivers_destroy(w->receivers);
		w->receivers = NULL;
		open_round(w, 1);
		while (atomic_load(&w->lost) < 3)
			usleep(1000);
		CU_ASSERT(w->lost_error == -EPIPE || w->lost_error == -ECONNRESET);
		CU_ASSERT(strstr(w->lost_text, "closed the connection") != NULL);
		tear_down(w);
	}
}

/* ---- a source that lies */

struct liar {
	struct world *w;
	struct conn *conn;
	struct batch_frame frame;
	struct batch batch;
	struct batch_place place;
	unsigned char *pages;
};

static void liar_meets(struct liar *l, uint32_t streams, enum compress compress, bool uring)
{
	const struct setup s = { TCP, streams, true, uring, compress };
	struct greeting greeting = { .kind = GREETING_BULK, .epoch = 1 };
	static _Atomic bool never;
	struct waiter waiter = { 0 };
	struct uri at;
	struct dial d = {
		.uri = &at, .greeting = &greeting, .deadline_ns = now_ns() + 2000000000u, .cancel = &never, .waiter = &waiter
	};

	memset(l, 0, sizeof(*l));
	l->w = world_create();
	l->pages = l->w->source;
	listen_at(l->w, TCP, &at);
	make_receivers(l->w, &s);
	greeting_seal(&greeting);
	CU_ASSERT_EQUAL_FATAL(transport_find(&at)->connect(&d, &l->conn), 0);
	CU_ASSERT_EQUAL(receivers_add(l->w->receivers, 0, answer(l->w, &greeting)), 0);
	l->place = (struct batch_place){ .epoch = 1 };
	l->batch.frame = &l->frame;
	batch_reset(&l->batch, 1);
}

static void liar_sends(struct liar *l)
{
	for (int i = 0; i < l->batch.iovs; i++)
		l->conn->transport->write(l->conn, l->batch.iov[i].iov_base, l->batch.iov[i].iov_len);
}

static void liar_is_caught(struct liar *l, int error, const char *says)
{
	while (!atomic_load(&l->w->lost_error))
		if (bell_wait(&l->w->landed, 0, now_ns() + 5000000000u, NULL, "") == -ETIMEDOUT)
			break;
	if (l->w->lost_error != error || !strstr(l->w->lost_text, says) || !strstr(l->w->lost_text, "stream 0 from 127.0.0.1:")) {
		printf("expected \"%s\", got %d \"%s\"\n", says, l->w->lost_error, l->w->lost_text);
		CU_FAIL("a liar was not caught");
	}
	CU_ASSERT_EQUAL(l->w->landed_round, 0);
	l->conn->transport->close(l->conn);
	tear_down(l->w);
}

static void each_damaged_field_ends_the_stream(void)
{
	static const struct {
		size_t at;
		const char *says;
	} fields[] = {
		{ offsetof(struct batch_head, magic), "no batch begins" },
		{ offsetof(struct batch_head, type), "batch type" },
		{ offsetof(struct batch_head, flags), "reserved" },
		{ offsetof(struct batch_head, extents) + 1, "extents" },
		{ offsetof(struct batch_head, epoch), "epoch" },
		{ offsetof(struct batch_head, stream), "stream" },
		{ offsetof(struct batch_head, round), "round" },
		{ offsetof(struct batch_head, payload) + 3, "payload" },
		{ offsetof(struct batch_head, seq), "batch" },
		{ offsetof(struct batch_head, bytes), "byte count" },
		{ offsetof(struct batch_head, payload_check), "check" },
		{ offsetof(struct batch_head, reserved), "reserved" },
		{ offsetof(struct batch_head, check), "check" },
		{ sizeof(struct batch_head), "check" },
		{ sizeof(struct batch_head) + 23, "check" },
	};
	struct liar l;

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		liar_meets(&l, 1, COMPRESS_NONE, i & 1);
		batch_add_raw(&l.batch, 4, 3, 1, l.pages);
		batch_seal(&l.batch, BATCH_PAGES, &l.place);
		((unsigned char *)&l.frame)[fields[i].at] ^= 0x40;
		liar_sends(&l);
		liar_is_caught(&l, -EBADMSG, fields[i].says);
	}
}

static void rubbish_ends_the_stream(void)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: somebody.example.org\r\nUser-Agent: nothing in particular\r\n\r\n";
	struct liar l;

	liar_meets(&l, 1, COMPRESS_NONE, true);
	l.conn->transport->write(l.conn, http, sizeof(http));
	liar_is_caught(&l, -EBADMSG, "no batch begins with 0x20544547");
}

static void pages_that_do_not_exist_are_refused(void)
{
	struct liar l;

	for (int i = 0; i < 3; i++) {
		liar_meets(&l, 1, COMPRESS_NONE, true);
		batch_add_zero(&l.batch, i ? 4 : 5, i == 1 ? PAGES : i == 2 ? (1ull << 52) - 512 : 0, 1);
		batch_seal(&l.batch, BATCH_PAGES, &l.place);
		liar_sends(&l);
		liar_is_caught(&l, -EBADMSG, "have no place here");
	}
	liar_meets(&l, 1, COMPRESS_NONE, true);
	batch_set_state(&l.batch, &(struct state_piece){ .total = 10, .bytes = 10 }, l.pages);
	batch_seal(&l.batch, BATCH_STATE, &l.place);
	liar_sends(&l);
	liar_is_caught(&l, -EBADMSG, "state section 0");
}

static void lz4_is_judged(void)
{
	struct liar l;

	liar_meets(&l, 1, COMPRESS_LZ4, true);
	memset(l.pages, 0xee, 100);
	batch_add_lz4(&l.batch, 4, 0, 16, l.pages, 100);
	batch_seal(&l.batch, BATCH_PAGES, &l.place);
	liar_sends(&l);
	liar_is_caught(&l, -EBADMSG, "does not inflate");

	liar_meets(&l, 1, COMPRESS_LZ4, true);
	batch_add_lz4(&l.batch, 4, 0, 16, l.pages, 100);
	batch_seal(&l.batch, BATCH_PAGES, &l.place);
	l.pages[50] ^= 1;
	liar_sends(&l);
	liar_is_caught(&l, -EBADMSG, "check of the payload");

	liar_meets(&l, 1, COMPRESS_NONE, true);
	batch_add_lz4(&l.batch, 4, 0, 16, l.pages, 100);
	batch_seal(&l.batch, BATCH_PAGES, &l.place);
	liar_sends(&l);
	liar_is_caught(&l, -EBADMSG, "not agreed");
}

static void ends_are_told_apart(void)
{
	struct liar l;

	/* Between batches; in a head; before the payload. */
	for (int i = 0; i < 6; i++) {
		liar_meets(&l, 1, COMPRESS_NONE, i & 1);
		batch_add_raw(&l.batch, 4, 3, 1, l.pages);
		batch_seal(&l.batch, BATCH_PAGES, &l.place);
		if (i / 2)
			l.conn->transport->write(l.conn, &l.frame, i / 2 == 1 ? 10 : batch_frame_size(&l.frame.head));
		l.conn->transport->shutdown(l.conn);
		liar_is_caught(&l, i / 2 ? -ECONNRESET : -ENODATA, i / 2 ? "broke off" : "closed the connection");
	}
}

/* Two streams, one of which is a round ahead: its pages stay out until the other has marked. */
static void a_stream_ahead_waits_at_the_gate(void)
{
	struct greeting greeting = { .kind = GREETING_BULK, .epoch = 1, .stream = 1 };
	struct liar l;

	liar_meets(&l, 2, COMPRESS_NONE, true);
	batch_seal(&l.batch, BATCH_MARK, &l.place);
	liar_sends(&l);
	batch_reset(&l.batch, 2);
	batch_add_zero(&l.batch, 4, 0, 1);
	batch_seal(&l.batch, BATCH_PAGES, &l.place);
	liar_sends(&l);
	usleep(50000);
	CU_ASSERT_EQUAL(l.w->placed_pages, 0);
	CU_ASSERT_EQUAL(receivers_passed(l.w->receivers), 0);
	CU_ASSERT_PTR_NOT_NULL(atomic_load(&receivers_waiter(l.w->receivers, 0)->what));

	struct conn *first = l.conn;
	struct uri at = { .fd = -1, .host = "127.0.0.1" };
	static _Atomic bool never;
	struct waiter waiter = { 0 };
	struct dial d = {
		.uri = &at, .greeting = &greeting, .deadline_ns = now_ns() + 2000000000u, .cancel = &never, .waiter = &waiter
	};

	at.port = (uint16_t)atoi(strrchr(first->transport->peer(first), ':') + 1);
	greeting_seal(&greeting);
	CU_ASSERT_EQUAL_FATAL(transport_find(&at)->connect(&d, &l.conn), 0);
	struct conn *second = answer(l.w, &greeting);

	CU_ASSERT_EQUAL(receivers_add(l.w->receivers, 2, second), -ERANGE);
	CU_ASSERT_EQUAL(receivers_add(l.w->receivers, 0, second), -EEXIST);
	CU_ASSERT_EQUAL(receivers_add(l.w->receivers, 1, second), 0);
	l.place = (struct batch_place){ .epoch = 1, .stream = 1 };
	batch_reset(&l.batch, 1);
	batch_seal(&l.batch, BATCH_MARK, &l.place);
	liar_sends(&l);
	for (int i = 0; i < 5000 && !atomic_load(&l.w->placed_pages); i++)
		usleep(1000);
	CU_ASSERT_EQUAL(l.w->placed_pages, 1);
	CU_ASSERT_EQUAL(receivers_passed(l.w->receivers), 1);
	CU_ASSERT(receivers_stats(l.w->receivers, 0)->gate_ns >= 40000000);
	first->transport->close(first);
	l.conn->transport->close(l.conn);
	tear_down(l.w);
}

/* Once the last round is known nothing of a later one is landed, and what was being landed is told of. */
static void nothing_comes_after_the_last_round(void)
{
	for (int before = 0; before < 2; before++) {
		struct liar l;
		liar_meets(&l, 1, COMPRESS_NONE, true);
		batch_seal(&l.batch, BATCH_MARK, &l.place);
		liar_sends(&l);
		for (int i = 0; i < 5000 && receivers_passed(l.w->receivers) < 1; i++)
			usleep(1000);
		CU_ASSERT_EQUAL(l.w->landed_round, 1);
		if (before)
			CU_ASSERT_EQUAL(receivers_last(l.w->receivers, 1), 0);
		batch_reset(&l.batch, 2);
		batch_add_raw(&l.batch, 4, 0, 1, l.pages);
		batch_seal(&l.batch, BATCH_PAGES, &l.place);
		if (before) {
			liar_sends(&l);
		} else { /* all but its payload */
			l.conn->transport->write(l.conn, l.batch.iov[0].iov_base, l.batch.iov[0].iov_len);
			for (int i = 0; i < 5000 && atomic_load(&receivers_stats(l.w->receivers, 0)->state) != RECEIVER_LANDING;
			     i++)
				usleep(1000);
			usleep(100000); /* it has the extents, too */
			CU_ASSERT_EQUAL(receivers_last(l.w->receivers, 1), -EBADMSG);
			l.conn->transport->shutdown(l.conn);
		}
		for (int i = 0; i < 5000 && !atomic_load(&l.w->lost_error); i++)
			usleep(1000);
		CU_ASSERT_EQUAL(atomic_load(&l.w->placed_pages), 0);
		CU_ASSERT(strstr(l.w->lost_text,
				 before ? "a batch of round 2 came, and 1 was the last" : "broke off within a batch") != NULL);
		CU_ASSERT_EQUAL(receivers_last(l.w->receivers, 1), 0);
		l.conn->transport->close(l.conn);
		tear_down(l.w);
	}
}

SUITE("pool", TEST(rounds_land_over_tcp), TEST(rounds_land_over_unix), TEST(rounds_land_compressed), TEST(one_stream_and_eight),
      TEST(cancel_at_any_time), TEST(cancel_ends_the_bandwidth_limit), TEST(a_lifted_limit_lets_senders_go),
      TEST(the_limit_is_kept), TEST(nobody_listens), TEST(receivers_that_die_are_noticed),
      TEST(each_damaged_field_ends_the_stream), TEST(rubbish_ends_the_stream), TEST(pages_that_do_not_exist_are_refused),
      TEST(lz4_is_judged), TEST(ends_are_told_apart), TEST(a_stream_ahead_waits_at_the_gate),
      TEST(nothing_comes_after_the_last_round))
