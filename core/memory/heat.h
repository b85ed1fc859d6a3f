/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* heat.h: pages that are written all the time, which a round puts off: to send them now is in vain.
 *
 * A page is hot in a round where it was written before its granule's claim, and before the claim in the round before that, too. Those
 * stay dirty and are not sent, as many as the round may put off; one that was not written again by the next round goes in that.
 * The dirty bitmap alone says what is still to be sent: what is kept here are hints, and a wrong one costs time, never a page. */
#pragma once

#include "core/memory/bitmap.h"

struct heat {
	struct bitmap written;     /* by the tracker's or a writer's word, since the granule's last claim */
	struct bitmap before;      /* likewise before its last claim */
	_Atomic uint32_t *claimed; /* for each granule: the round it was last claimed in */
	uint64_t granules;
	_Atomic uint64_t allowance; /* pages that the open round may still put off */
	_Atomic uint64_t put_off;   /* that it did */
};

/* 0, -ENOMEM. */
int heat_init(struct heat *heat, uint64_t granules);
void heat_fini(struct heat *heat);
uint64_t heat_bytes(const struct heat *heat);
/* Control thread, before the round's first claim (published by sweep_open()): it may put off so many pages. */
void heat_open(struct heat *heat, uint64_t allowance);
/* Pages that the round put off so far. */
uint64_t heat_put_off(const struct heat *heat);
/* A sender has claimed words [word, word + n) of a granule, all of it that is dirty, and taken their bits: `mask`, and of these
 * `discarded`. Takes out of `mask` what is to wait, and sets it in `dirty` again. Returns whether anything is left. */
bool heat_claim(struct heat *heat, uint32_t round, uint64_t word, uint32_t n, struct bitmap *dirty, uint64_t *mask,
		const uint64_t *discarded);
