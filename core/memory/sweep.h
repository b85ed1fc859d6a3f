/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sweep.h: one round's walk over the dirty bitmap, shared by all senders: the cursor they claim from and the frontier up to
 * which the sync thread has fetched. There is no dispatcher: a claim is one compare-and-swap of the cursor. A granule is
 * claimed at most once a round.
 *
 * A round is opened by the control thread when every sender has marked the one before, so a claim never races with opening. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "core/memory/bitmap.h"

struct sweep {
	uint64_t words;            /* end of the bitmap, set once */
	_Atomic uint32_t round;    /* open round, 0: none yet */
	_Atomic uint64_t cursor;   /* next word */
	_Atomic uint64_t frontier; /* words below may be claimed */
};

enum sweep_result { SWEEP_CLAIMED, SWEEP_WAIT, SWEEP_OVER };

void sweep_init(struct sweep *sweep, uint64_t words);
/* Control thread. `frontier`: 0 where the sync thread still fetches, `words` where all is fetched. */
void sweep_open(struct sweep *sweep, uint32_t round, uint64_t frontier);
/* Sync thread: never backwards within a round. */
void sweep_advance(struct sweep *sweep, uint64_t frontier);
/* Control thread: nothing more is claimed in this round, wherever the cursor is. Other threads may be claiming. */
void sweep_cut(struct sweep *sweep);
/* A sender's next words [*ret_word, + *ret_n). Never crosses a granule's border. Words without a bit in `dirty` are passed
 * over, many at a time (a bit that is set behind the cursor is the next round's); NULL: none are. */
enum sweep_result sweep_claim(struct sweep *sweep, const struct bitmap *dirty, uint64_t *ret_word, uint32_t *ret_n);
