/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sweep.c: see sweep.h.
 *
 * The cursor only grows within a round, so a compare-and-swap that succeeds hands out words that nobody else got. It goes
 * back only in sweep_open(), when no sender is in sweep_claim() for the round before: a sender that was told of the new
 * round (through the pool, or by loading `round`) sees its cursor and frontier. */
#include "core/memory/sweep.h"

#include <assert.h>

#include "core/memory/regions.h"

void sweep_init(struct sweep *sweep, uint64_t words)
{
	sweep->words = words;
	atomic_init(&sweep->round, 0);
	atomic_init(&sweep->cursor, 0);
	atomic_init(&sweep->frontier, 0);
}

void sweep_open(struct sweep *sweep, uint32_t round, uint64_t frontier)
{
	assert(frontier <= sweep->words);
	assert(round > atomic_load_explicit(&sweep->round, memory_order_relaxed));
	/* The frontier first: should a sender be early after all, it finds nothing to claim rather than words unfetched. */
	atomic_store_explicit(&sweep->frontier, 0, memory_order_relaxed);
	atomic_store_explicit(&sweep->cursor, 0, memory_order_release);
	atomic_store_explicit(&sweep->frontier, frontier, memory_order_release);
	/* Release: who sees the round sees the rest. Pairs with the acquire in sweep_claim(). */
	atomic_store_explicit(&sweep->round, round, memory_order_release);
}

void sweep_advance(struct sweep *sweep, uint64_t frontier)
{
	assert(frontier <= sweep->words);
	assert(frontier >= atomic_load_explicit(&sweep->frontier, memory_order_relaxed));
	/* Release: the bits below were fetched. Pairs with the acquire of the frontier in sweep_claim(). */
	atomic_store_explicit(&sweep->frontier, frontier, memory_order_release);
}

void sweep_cut(struct sweep *sweep)
{
	/* A claim that is under way has its words already, or fails its compare-and-swap. */
	atomic_store_explicit(&sweep->cursor, sweep->words, memory_order_release);
}

enum sweep_result sweep_claim(struct sweep *sweep, const struct bitmap *dirty, uint64_t *ret_word, uint32_t *ret_n)
{
	/* Acquire: pairs with the release of the round in sweep_open(). */
	if (!atomic_load_explicit(&sweep->round, memory_order_acquire))
		return SWEEP_WAIT;
	uint64_t cursor = atomic_load_explicit(&sweep->cursor, memory_order_acquire);
	for (;;) {
		if (cursor >= sweep->words)
			return SWEEP_OVER;
		/* Acquire: pairs with the release in sweep_advance(). */
		uint64_t frontier = atomic_load_explicit(&sweep->frontier, memory_order_acquire);
		if (cursor >= frontier)
			return SWEEP_WAIT;
		uint64_t word = dirty ? bitmap_next(dirty, cursor, frontier) : cursor;
		uint64_t n = GRANULE_WORDS - word % GRANULE_WORDS;
		if (n > frontier - word)
			n = frontier - word;
		/* Success needs no order of its own: the bits are ordered by the frontier and by bitmap_take(). */
		if (atomic_compare_exchange_weak_explicit(&sweep->cursor, &cursor, word + n, memory_order_relaxed,
							  memory_order_relaxed)) {
			if (!n) { /* nothing up to the frontier */
				cursor = word;
				continue;
			}
			*ret_word = word;
			*ret_n = (uint32_t)n;
			return SWEEP_CLAIMED;
		}
	}
}
