/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* claims.c: what senders get to carry: device state first, where a round has any, then dirty granules from the sweep, then the
 * round's mark. Threads: senders. */
#include <string.h>

#include "core/run/session.h"

/* Words taken from the bitmap, as a claim. */
static void fill(struct sluice *s, uint64_t word, struct claim *c)
{
	uint64_t granule = word / GRANULE_WORDS;
	const struct region *r = memory_region_of(&s->memory, granule);
	c->kind = CLAIM_PAGES;
	c->region = (uint16_t)(r - s->memory.regions);
	c->first_page = (word - r->first_granule * GRANULE_WORDS) * 64;
	c->base = r->address + c->first_page * WIRE_PAGE;
}

enum { FREE_CLAIM = 16 }; /* pages of a last round that are claimed at once where they are anybody's */

/* How many pages this sender may take now of a last round: first those that it has to itself, so that all streams carry some however
 * small the round is; then what is anybody's, so that a slow stream does not hold it up. */
static uint32_t last_allowance(struct sluice *s, uint32_t sender, uint32_t round)
{
	struct place *place = &s->places[sender];
	if (place->own_round != round) {
		/* Published by sweep_open. */
		uint64_t share = atomic_load_explicit(&s->last_share, memory_order_relaxed);
		place->own_round = round;
		place->own = share ? share : sender < atomic_load_explicit(&s->last_few, memory_order_relaxed);
	}
	if (place->own)
		return place->own < 64 ? (uint32_t)place->own : 64;
	uint64_t left = atomic_load_explicit(&s->last_free, memory_order_relaxed), some;
	do {
		some = left < FREE_CLAIM ? left : FREE_CLAIM;
	} while (some && !atomic_compare_exchange_weak_explicit(&s->last_free, &left, left - some, memory_order_relaxed,
								memory_order_relaxed));
	return (uint32_t)some;
}

/* Pages of a last round. They are claimed from a cursor that only moves forward, bit by bit: a page that a writer marks though the guest
 * stands still is left for another round, never claimed twice in one (the gate keeps rounds apart, not the streams of one). */
static bool claim_last(struct sluice *s, uint32_t sender, struct claim *c)
{
	struct place *place = &s->places[sender];
	uint32_t most = last_allowance(s, sender, c->round);
	while (most) {
		uint64_t from = atomic_load_explicit(&s->last_cursor, memory_order_relaxed);
		uint64_t word = bitmap_next(&s->dirty, from / 64, s->sweep.words);
		if (word == s->sweep.words)
			return false;
		uint64_t at = word > from / 64 ? word * 64 : from;
		uint64_t wanted = bitmap_lowest(&s->dirty, at, most);
		uint64_t next = wanted ? word * 64 + 64 - (uint64_t)__builtin_clzll(wanted) : word * 64 + 64;
		if (!atomic_compare_exchange_weak_explicit(&s->last_cursor, &from, next, memory_order_relaxed,
							   memory_order_relaxed) ||
		    !wanted)
			continue;
		uint64_t taken = bitmap_take_mask(&s->dirty, word, wanted);
		uint64_t n = (uint64_t)__builtin_popcountll(taken), first = word - word % GRANULE_WORDS;
		if (place->own)
			place->own -= n;
		else /* what is given back is taken by this sender's next claim, if by nobody before */
			atomic_fetch_add_explicit(&s->last_free, most - n, memory_order_relaxed);
		memset(c->mask, 0, sizeof c->mask);
		memset(c->discarded, 0, sizeof c->discarded);
		c->mask[word - first] = taken;
		c->discarded[word - first] = bitmap_take_mask(&s->discarded, word, taken);
		fill(s, first, c);
		return true;
	}
	return false;
}

/* Granules of any other round. */
static bool claim_granule(struct sluice *s, uint32_t round, struct claim *c, enum sweep_result *ret_why_not)
{
	uint64_t word;
	uint32_t n;
	while ((*ret_why_not = sweep_claim(&s->sweep, &s->dirty, &word, &n)) == SWEEP_CLAIMED) {
		sync_cursor(s, word);
		memset(c->mask, 0, sizeof c->mask);
		memset(c->discarded, 0, sizeof c->discarded);
		if (!bitmap_take(&s->dirty, word, n, c->mask))
			continue;
		bitmap_take(&s->discarded, word, n, c->discarded);
		if (!heat_claim(&s->heat, round, word, n, &s->dirty, c->mask, c->discarded))
			continue;
		fill(s, word, c);
		return true;
	}
	return false;
}

static void claim(void *core, uint32_t sender, struct claim *c, uint32_t *ret_key)
{
	struct sluice *s = core;
	struct place *place = &s->places[sender];
	enum sweep_result why_not = SWEEP_OVER;
	*ret_key = bell_key(&s->work);
	c->kind = CLAIM_NONE;
	if (atomic_load_explicit(&s->finished, memory_order_acquire)) {
		c->kind = CLAIM_END;
		return;
	}
	uint32_t round = atomic_load_explicit(&s->sweep.round, memory_order_acquire); /* pairs with sweep_open */
	if (round < place->round)
		return;
	c->round = round;
	c->exempt = atomic_load_explicit(&s->last_round, memory_order_relaxed);
	if (c->exempt && state_out_claim(&s->state_out, &c->piece, &c->data)) {
		c->kind = CLAIM_STATE;
		return;
	}
	if (c->exempt ? claim_last(s, sender, c) : claim_granule(s, round, c, &why_not))
		return;
	if (why_not == SWEEP_WAIT) {
		sync_cursor(s, atomic_load_explicit(&s->sweep.cursor, memory_order_relaxed));
		return;
	}
	c->kind = CLAIM_MARK;
	place->round = round + 1;
}

static void wait(void *core, uint32_t key, struct waiter *waiter)
{
	struct sluice *s = core;
	bell_wait(&s->work, key, UINT64_MAX, waiter, "work");
}

static void marked(void *core, uint32_t sender, uint32_t round)
{
	struct sluice *s = core;
	(void)sender;
	if (atomic_fetch_add_explicit(&s->marks, 1, memory_order_acq_rel) + 1 < s->welcome.streams)
		return;
	struct input in = { .type = INPUT_ROUND_SENT, .now_ns = now_ns(), .round = round, .stream = -1 };
	inbox_post(&s->inbox, &in);
}

static void lost(void *core, uint32_t sender, int error, const char *text)
{
	struct sluice *s = core;
	struct input in = { .type = INPUT_STREAM_LOST, .now_ns = now_ns(), .code = error, .text = text, .stream = (int)sender };
	inbox_post(&s->inbox, &in);
}

static void up(void *core, uint32_t sender)
{
	/* The destination tells when all have greeted (STREAMS_UP): that, not our end of it, is what counts. */
	(void)core;
	(void)sender;
}

const struct work_ops session_work = { .claim = claim, .wait = wait, .marked = marked, .lost = lost, .up = up };
