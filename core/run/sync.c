/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sync.c: the sync thread.
 *
 * It takes one order at a time: arm the tracker, fetch ahead of the senders' cursor through one round, or fetch all. Between
 * it and the senders there is only the bitmap and the sweep's frontier. A piece is as large as about a millisecond of
 * fetching: long enough to be cheap, short enough that the embedder's log lock is never held for long. */
#include "core/run/sync.h"

#include <errno.h>
#include <string.h>

#include "core/run/session.h"
#include "streams/thread.h"

#ifndef SYNC_MIB_PAGES
#define SYNC_MIB_PAGES 256 /* fewer in the simulator, whose guests are of one piece else */
#endif

enum {
	PIECE_MIN = 16 * SYNC_MIB_PAGES,
	PIECE_START = 64 * SYNC_MIB_PAGES,
	PIECE_MAX = 256 * SYNC_MIB_PAGES,
	LEAD_PIECES = 2,
	SURVEY_PAUSE = 32, /* times what a survey took: it costs 3 % of a core at most */
};
static const uint64_t survey_ns = 50000000;
static const uint64_t piece_long_ns = 2000000, piece_short_ns = 500000;
static const uint64_t lock_patience_ns = 1000000000;

static bool stopped(struct sync *y)
{
	return atomic_load_explicit(&y->stop, memory_order_acquire);
}

/* Fetch one piece that begins at `granule`; returns the granule after it, or a negative errno. */
static int64_t fetch_piece(struct sluice *s, uint64_t granule)
{
	struct sync *y = &s->sync;
	const struct region *r = memory_region_of(&s->memory, granule);
	uint64_t first = (granule - r->first_granule) * WIRE_GRANULE_PAGES, n = r->pages - first, found = 0;
	uint64_t began = now_ns(), give_up = began + lock_patience_ns;
	if (n > y->piece_pages)
		n = y->piece_pages;
	int rc;
	wait_begin(&y->waiter, "the dirty log");
	while ((rc = tracker_fetch(y->tracker, (uint32_t)(r - s->memory.regions), first, n, &found)) == -ETIMEDOUT &&
	       now_ns() < give_up && !stopped(y))
		;
	wait_end(&y->waiter);
	if (rc)
		return rc;
	uint64_t took = now_ns() - began;
	hist_add(&s->sync_pieces, took);
	atomic_fetch_add_explicit(&s->sync_ns, took, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->found, found, memory_order_relaxed);
	if (took > piece_long_ns && y->piece_pages > PIECE_MIN)
		y->piece_pages /= 2;
	else if (took < piece_short_ns && y->piece_pages < PIECE_MAX)
		y->piece_pages *= 2;
	return (int64_t)(granule + (n + WIRE_GRANULE_PAGES - 1) / WIRE_GRANULE_PAGES);
}

/* A survey is over. Of what it counted some was written and some sent while it did; so be it. */
static void tell_survey(struct sluice *s)
{
	struct survey *v = &s->sync.survey;
	struct input in = {
		.type = INPUT_SURVEYED,
		.now_ns = now_ns(),
		.stream = -1,
		.round = v->round,
		.remaining = bitmap_count(&s->dirty) + v->written,
		.unseen = v->unseen,
		.discovered = tracker_discovered(s->sync.tracker),
	};
	inbox_post(&s->inbox, &in);
	uint64_t pause = v->took_ns * SURVEY_PAUSE;
	*v = (struct survey){ .due_ns = in.now_ns + (pause > survey_ns ? pause : survey_ns) };
}

/* One piece of a survey. */
static void survey(struct sluice *s)
{
	struct survey *v = &s->sync.survey;
	const struct region *r = memory_region_of(&s->memory, v->granule);
	uint64_t first = (v->granule - r->first_granule) * WIRE_GRANULE_PAGES, n = r->pages - first;
	uint64_t began = now_ns();
	if (n > PIECE_MAX)
		n = PIECE_MAX;
	if (!v->granule)
		v->round = atomic_load_explicit(&s->sweep.round, memory_order_relaxed);
	int rc = tracker_peek(s->sync.tracker, (uint32_t)(r - s->memory.regions), first, n, &v->written, &v->unseen);
	v->took_ns += now_ns() - began;
	v->granule += (n + WIRE_GRANULE_PAGES - 1) / WIRE_GRANULE_PAGES;
	if (rc == -ENOTSUP)
		v->due_ns = UINT64_MAX;
	else if (rc) /* the lock was not to be had, or worse, which the next fetch finds out */
		*v = (struct survey){ .due_ns = now_ns() + survey_ns };
	else if (v->granule == s->memory.granules)
		tell_survey(s);
}

/* Wait until the senders have come to a word, or control wants something else. */
static void wait_for_cursor(struct sluice *s, uint64_t word)
{
	struct sync *y = &s->sync;
	for (;;) {
		uint32_t key = bell_key(&y->bell); /* before all that a ring may be about */
		if (stopped(y) || atomic_load_explicit(&y->order, memory_order_relaxed) != SYNC_NOTHING)
			break;
		atomic_store_explicit(&y->wanted, word, memory_order_seq_cst); /* pairs with sync_cursor's load */
		if (atomic_load_explicit(&s->sweep.cursor, memory_order_seq_cst) >= word)
			break;
		if (now_ns() >= y->survey.due_ns)
			survey(s);
		else
			bell_wait(&y->bell, key, y->survey.due_ns, &y->waiter, "the senders to come near");
	}
	atomic_store_explicit(&y->wanted, UINT64_MAX, memory_order_relaxed);
}

/* Stay just ahead of the senders. */
static void keep_just_ahead(struct sluice *s, uint64_t frontier_word)
{
	uint64_t lead = LEAD_PIECES * s->sync.piece_pages / 64;
	wait_for_cursor(s, frontier_word > lead ? frontier_word - lead : 0);
}

void sync_cursor(struct sluice *s, uint64_t word)
{
	/* The cursor was moved before this: either we see what sync wants, or sync sees the cursor (keep_just_ahead). */
	atomic_thread_fence(memory_order_seq_cst);
	if (word >= atomic_load_explicit(&s->sync.wanted, memory_order_seq_cst))
		bell_ring(&s->sync.bell);
}

/* Until the round is over: the senders have passed the last word. */
static void watch(struct sluice *s)
{
	wait_for_cursor(s, s->sweep.words);
}

static bool over(struct sluice *s)
{
	return atomic_load_explicit(&s->sweep.cursor, memory_order_relaxed) >= s->sweep.words;
}

static int fetch_ahead(struct sluice *s)
{
	for (uint64_t g = 0; g < s->memory.granules && !stopped(&s->sync);) {
		keep_just_ahead(s, g * GRANULE_WORDS);
		if (over(s)) /* cut */
			break;
		int64_t next = fetch_piece(s, g);
		if (next < 0)
			return (int)next;
		g = (uint64_t)next;
		sweep_advance(&s->sweep, g * GRANULE_WORDS);
		bell_ring(&s->work);
	}
	return 0;
}

static int fetch_all(struct sluice *s)
{
	for (uint64_t g = 0; g < s->memory.granules && !stopped(&s->sync);) {
		int64_t next = fetch_piece(s, g);
		if (next < 0)
			return (int)next;
		g = (uint64_t)next;
	}
	return 0;
}

/* What wants the big lock is tried again for a while where it is not to be had. */
static int patiently(struct sync *y, int (*what)(struct tracker *tracker))
{
	uint64_t give_up = now_ns() + lock_patience_ns;
	int rc;
	wait_begin(&y->waiter, "the dirty tracker, or the big lock for it");
	while ((rc = what(y->tracker)) == -ETIMEDOUT && now_ns() < give_up)
		;
	wait_end(&y->waiter);
	return rc;
}

static void tell(struct sluice *s, enum input_type type, int code)
{
	struct input in = { .type = type, .now_ns = now_ns(), .code = code, .stream = -1 };
	if (code)
		in.text = type == INPUT_ARMED && code != -ETIMEDOUT ? "the dirty tracker did not start: try another --tracker"
			  : code == -ETIMEDOUT ? "the big lock was not to be had for the dirty log: see who holds it"
			  : code == -EOVERFLOW ? "a dirty ring of KVM's ran over, writes were lost: use larger rings, or a VM "
						 "without rings and tracker kvm-log"
					       : "fetching the dirty log failed: see whether the memory is still mapped";
	else if (type == INPUT_SYNCED)
		in.remaining = bitmap_count(&s->dirty), in.discovered = tracker_discovered(s->sync.tracker);
	inbox_post(&s->inbox, &in);
}

/* Of a round: what is left of the one of the round before is stale. */
static struct survey begin_survey(const struct sync *y)
{
	uint64_t never = UINT64_MAX;
	return (struct survey){ .due_ns = y->survey.due_ns == never ? never : now_ns() + survey_ns };
}

static void *body(void *arg)
{
	struct sluice *s = arg;
	struct sync *y = &s->sync;
	int rc;
	for (;;) {
		uint32_t key = bell_key(&y->bell); /* before all that a ring may be about */
		if (stopped(y))
			break;
		y->survey = begin_survey(y);
		switch ((enum sync_order)atomic_exchange_explicit(&y->order, SYNC_NOTHING, memory_order_acquire)) {
		case SYNC_ARM:
			rc = patiently(y, tracker_start);
			atomic_store_explicit(&y->arm_ns, now_ns() - atomic_load_explicit(&y->arm_began_ns, memory_order_relaxed),
					      memory_order_relaxed);
			tell(s, INPUT_ARMED, rc);
			break;
		case SYNC_AHEAD:
			rc = fetch_ahead(s);
			if (rc) /* a round that cannot be fetched cannot end */
				tell(s, INPUT_SYNCED, rc);
			else
				watch(s);
			break;
		case SYNC_WATCH: watch(s); break;
		case SYNC_ALL: tell(s, INPUT_SYNCED, fetch_all(s)); break;
		case SYNC_NOTHING: bell_wait(&y->bell, key, UINT64_MAX, &y->waiter, "an order"); break;
		}
	}
	patiently(y, tracker_stop);
	wait_over(&y->waiter);
	return NULL;
}

int sync_start(struct sluice *s)
{
	struct sync *y = &s->sync;
	y->piece_pages = PIECE_START;
	atomic_store(&y->wanted, UINT64_MAX);
	int rc = thread_start(&y->thread, "sluice-sync", body, s);
	y->started = !rc;
	return rc;
}

void sync_order(struct sluice *s, enum sync_order order)
{
	atomic_store_explicit(&s->sync.order, order, memory_order_release); /* pairs with the exchange in body */
	bell_ring(&s->sync.bell);
}

void sync_leave(struct sluice *s)
{
	struct sync *y = &s->sync;
	atomic_store_explicit(&y->stop, true, memory_order_release);
	bell_ring(&y->bell);
}

void sync_stop(struct sluice *s)
{
	struct sync *y = &s->sync;
	sync_leave(s);
	if (y->started)
		pthread_join(y->thread, NULL);
	y->started = false;
	if (y->tracker)
		tracker_destroy(y->tracker);
	y->tracker = NULL;
}
