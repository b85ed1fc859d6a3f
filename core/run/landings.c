/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* landings.c: where receivers put what they read: guest memory or device state. Threads: receivers. */
#include <errno.h>

#include "core/run/session.h"

static int place(void *core, const struct extent *extent, void **ret_address)
{
	struct sluice *s = core;
	if (extent->encoding == ENCODING_ZERO)
		return landing_zero(&s->landing, extent);
	return landing_place(&s->landing, extent, ret_address);
}

static void placed(void *core, const struct extent *extent)
{
	struct sluice *s = core;
	landing_placed(&s->landing, extent);
}

static int state(void *core, uint32_t round, const struct state_piece *piece, void **ret_address)
{
	struct sluice *s = core;
	return state_in_place(&s->state_in, round, piece, ret_address);
}

static void state_placed(void *core, uint32_t round, const struct state_piece *piece)
{
	struct sluice *s = core;
	if (!state_in_placed(&s->state_in, round, piece))
		return;
	struct input in = { .type = INPUT_STATE_LANDED, .now_ns = now_ns(), .round = round, .stream = -1 };
	inbox_post(&s->inbox, &in);
}

static void round_landed(void *core, uint32_t round)
{
	struct sluice *s = core;
	struct input in = { .type = INPUT_LANDED, .now_ns = now_ns(), .round = round, .stream = -1 };
	inbox_post(&s->inbox, &in);
	atomic_store_explicit(&s->landed_round, round, memory_order_relaxed); /* published by the next store */
	atomic_store_explicit(&s->link.report, true, memory_order_release);
	link_wake(&s->link);
}

static void lost(void *core, uint32_t stream, int error, const char *text)
{
	struct sluice *s = core;
	struct input in = { .type = INPUT_STREAM_LOST, .now_ns = now_ns(), .code = error, .text = text, .stream = (int)stream };
	inbox_post(&s->inbox, &in);
}

const struct land_ops session_land = {
	.place = place,
	.placed = placed,
	.state = state,
	.state_placed = state_placed,
	.round_landed = round_landed,
	.lost = lost,
};
