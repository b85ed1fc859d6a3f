/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* race.h: seeds that set out for races: small migrations in which much happens at once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/fiber.h"
#include "tests/sim/wire.h"

/* Is this seed one? */
bool race_is(uint64_t seed);
/* Its habits in place of others. */
void race_pace(struct fiber_habits *fibers, struct wire_habits *wires);
/* Its guest and embedders; and what ends it early, if anything. */
void race_plan(void);
/* An embedder's loop looks by itself after so long. */
uint64_t race_loop_ns(void);
/* The source's deciding code has something new, and is it over: it takes no longer than it must. */
void race_moved(bool over);
