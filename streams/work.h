/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* work.h: the two callback tables between streams and the core. Streams never see a bitmap: a sender asks for the next
 * claim, a receiver asks where an extent goes and says when it is there.
 *
 * All calls come from sender and receiver threads, which hold no lock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "streams/wait.h"
#include "streams/wire.h"

enum claim_kind {
	CLAIM_NONE, /* nothing now: wait() */
	CLAIM_PAGES,
	CLAIM_STATE,
	CLAIM_MARK, /* this sender's part of `round` is over */
	CLAIM_END,  /* the stream is over: leave */
};

/* What one sender carries next. Its bits are cleared already, so it must be sent (or the session fails). */
struct claim {
	enum claim_kind kind;
	uint32_t round;
	bool exempt; /* from the bandwidth limit: the last round */
	/* CLAIM_PAGES: bit i of mask is page first_page + i of the region, at base + i * 4096. `discarded` pages are
	 * zero unread. */
	uint16_t region;
	uint64_t first_page;
	const unsigned char *base;
	uint64_t mask[WIRE_GRANULE_PAGES / 64];
	uint64_t discarded[WIRE_GRANULE_PAGES / 64];
	/* CLAIM_STATE: at most WIRE_BATCH_PAYLOAD bytes */
	const void *data;
	struct state_piece piece;
};

struct work_ops {
	/* The next claim for this sender. Never blocks. `*ret_key` is for wait(). */
	void (*claim)(void *core, uint32_t sender, struct claim *ret_claim, uint32_t *ret_key);
	/* Until a claim taken later than `key` may differ from CLAIM_NONE. */
	void (*wait)(void *core, uint32_t key, struct waiter *waiter);
	/* The mark of `round` was handed to the transport, all before it too. */
	void (*marked)(void *core, uint32_t sender, uint32_t round);
	/* The stream failed, or cannot be had (error < 0). Called once at most; the sender thread ends. */
	void (*lost)(void *core, uint32_t sender, int error, const char *text);
	/* The stream is connected. */
	void (*up)(void *core, uint32_t sender);
};

struct land_ops {
	/* Check the extent against guest memory and claim its pages: where do its bytes go? -EINVAL: not ours.
	 * `ret_address`: host address of count pages, populated and writable. ENCODING_ZERO: done here altogether
	 * (placed() is not called). */
	int (*place)(void *core, const struct extent *extent, void **ret_address);
	/* Its bytes are there. */
	void (*placed)(void *core, const struct extent *extent);
	/* Where a piece of device state goes. -EINVAL / -ENOSPC: refused. */
	int (*state)(void *core, uint32_t round, const struct state_piece *piece, void **ret_address);
	void (*state_placed)(void *core, uint32_t round, const struct state_piece *piece);
	/* All streams have passed the mark of `round`. Called by the last of them, before any goes on:
	 * receivers_passed() does not say so yet. */
	void (*round_landed)(void *core, uint32_t round);
	void (*lost)(void *core, uint32_t stream, int error, const char *text);
};
