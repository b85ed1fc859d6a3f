/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* drain.h: bringing the guest's device I/O to rest before it is stopped, while it runs, and without anyone waiting. Pure.
 *
 * When the end is near the devices are to have few requests in flight (SHALLOW). At a moment good enough to stop the guest they
 * pick up nothing new, for a window at most (QUIET), in which they are asked over and over whether anything is still in flight.
 * Nothing is: DRAINED, and nothing is picked up until the guest runs elsewhere. At the window's end, and on every way back,
 * they work as usual at once.
 *
 * Short queues last half a second at most, and then the guest is left alone for a while, too. Windows get longer each time, and
 * are a bounded share of the migration's time, from the first one on: a guest must not lose its disk to a migration that finds
 * no good moment, and a migration that is over in no time waits until a window is as small a part of it. */
#pragma once

#include "core/decide/step.h"

enum drain_state {
	DRAIN_FLOWING,
	DRAIN_SHALLOW,
	DRAIN_QUIET,
	DRAIN_DRAINED,
};

struct drain {
	enum drain_state state;
	bool asked;          /* drain_try: its answer is awaited */
	bool bound;          /* QUIET, DRAINED: the guest runs, so there is an end to it */
	bool warned;         /* of an embedder that does not answer as it should */
	uint64_t shallow_ns; /* SHALLOW: until then at least */
	uint64_t quiet_ns;   /* since when nothing is picked up */
	uint64_t until_ns;   /* the window's end */
	uint64_t next_ns;    /* QUIET: when to ask again; else no window before */
	uint64_t window_ms;  /* the next window */
	uint64_t rest_ms;    /* after the last one */
	uint64_t first_ns;   /* the first window; 0: none yet */
	/* As statistics give them. */
	uint32_t tries, busy; /* windows, and those that ended in vain */
	bool gave_up;         /* it was said to be enough */
	uint64_t quiesced_ns; /* windows together, the open one left out */
	uint64_t good_ns;     /* the first moment that was good but for the guest's I/O; 0: none yet */
	uint32_t good_round;
	uint64_t delay_ns; /* from then to the last such moment: what coming to rest costs */
	uint32_t delay_rounds;
};

void drain_init(struct drain *drain);

/* The migration is under way: say so if a window may be longer than guests bear. */
void drain_begin(const struct input *input, struct actions *actions);

/* How near is the end? Queues are kept short where it is, and a window may be opened soon. `since_ns`: when the migration began. */
void drain_approach(struct drain *drain, const struct input *input, struct actions *actions, bool near, uint64_t since_ns);

/* The moment is good to stop the guest, in this round. Returns whether its I/O is at rest; else a window is opened if it is
 * time for one, and precopy goes on. */
bool drain_wanted(struct drain *drain, const struct input *input, struct actions *actions, uint64_t since_ns, uint32_t round);

/* When there may be a window. It may be later. */
uint64_t drain_opens_ns(const struct drain *drain, const struct input *input, uint64_t since_ns);

/* Is I/O at rest, or nobody has any? */
bool drain_at_rest(const struct drain *drain, const struct input *input);

/* The guest is to be stopped, I/O at rest: no window ends any more. */
void drain_bind(struct drain *drain, const struct input *input);

/* The stopped guest's devices are asked a last time: something may have come in between. */
void drain_check(struct drain *drain, struct actions *actions);

/* What drain_try returned. True: at rest now, where it was not before. */
bool drain_answered(struct drain *drain, const struct input *input, struct actions *actions);

/* A queue depth was not taken: no window can work. */
void drain_failed(struct drain *drain, const struct input *input, struct actions *actions);

/* drain_next_ns() has come. */
void drain_tick(struct drain *drain, const struct input *input, struct actions *actions);

/* NEVER_NS: nothing to do by itself. */
uint64_t drain_next_ns(const struct drain *drain);

/* Another way back than the window's end: devices work as usual. `in_vain`: because the guest's I/O was not at rest. */
void drain_release(struct drain *drain, const struct input *input, struct actions *actions, bool in_vain);

/* Has it been tried as often, or for as long, as it may be? */
bool drain_spent(const struct drain *drain, const struct input *input);
