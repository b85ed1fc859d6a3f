/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* told.h: what an embedder is told: errors, that say what happened; phases and rounds, each once and in order; warnings; and figures,
 * which are those of what was seen to happen. */
#pragma once

#include "core/decide/step.h"
#include "core/sluice.h"
#include "tests/sim/sim.h"

struct sluice;

/* A session begins. */
void told_begin(enum sim_side side);
void told_step(enum sim_side side, const struct input *input, const struct actions *actions);
void told_event(enum sim_side side, const struct sluice_event *event);
/* The guest is slowed down: that is not done behind anybody's back. */
void told_throttle(uint32_t percent);
/* An embedder's loop has dispatched something; sync has given the big lock back, `held_ns` after it got it. */
void told_dispatched(enum sim_side side);
void told_unlocked(enum sim_side side, uint64_t held_ns);
/* Bytes of a batch are out, pages are in one. */
void told_sent(uint64_t bytes);
void told_pages(uint32_t pages, uint32_t zero);
/* The session has ended, all its threads have, and its figures are final. */
void told_end(enum sim_side side, struct sluice *session);
