/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* world.h: one simulation: both embedders, their operator, the faults, and what the wires tell them of. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/sluice.h"
#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

/* Run a seed. Returns whether all laws held; else sim_broken says which did not. */
bool world_run(uint64_t seed);

/* The guest writes more than a slow wire carries. */
void world_is_hard(void);
/* A side's session, NULL: none now. */
struct sluice *world_session(enum sim_side side);
bool world_log_fails(void);
/* The destination's host answers nobody. */
bool world_unreachable(void);
/* The deciding code of a side has given a message to the link. */
void world_given(enum sim_side side, uint32_t type);
/* A link frame is about to be written, was written as a whole, was read as a whole by `side`. */
void world_frame_begins(const struct wire *w, enum sim_side side, uint32_t type, uint32_t number);
void world_frame_written(const struct wire *w, enum sim_side side, uint32_t type);
void world_frame_read(const struct wire *w, enum sim_side side, uint32_t type);
void world_batch(enum sim_side side, uint32_t type);
