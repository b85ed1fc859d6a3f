/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* outcome.h: what must come of an attempt, given what went wrong in it: the strongest that can be asked for. Laws forbid what must not
 * happen; a library that does nothing at all would keep most of them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/decide/step.h"
#include "tests/sim/sim.h"

/* Threads that are frozen at every other step may need half a second for one piece of the dirty log: with a deadline that short, failing
 * is right. */
enum { OUTCOME_CALLBACK_MS = 2000 };

/* An attempt begins. */
void outcome_reset(void);
/* Nothing has gone wrong in it so far that a migration need not stand. */
bool outcome_untroubled(void);
/* Nothing has happened to connections or processes: what was said is heard. */
bool outcome_wires_sound(void);
/* Since then nothing has happened to connections, and never anything else. */
bool outcome_calm_since(uint64_t when);
/* What an embedder is told; `closed`: it has closed its session by itself. */
void outcome_phase(enum sim_side side, enum sluice_phase phase);
void outcome_ended(enum sim_side side);
/* A side's deciding code has taken a step. `late`: what it waited for did not come in time. */
void outcome_step(enum sim_side side, const struct input *in, const struct actions *out, bool late, const char *awaited);
/* Now and then. */
void outcome_look(void);
void outcome_of_attempt(void);
