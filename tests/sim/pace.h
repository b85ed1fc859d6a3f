/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pace.h: Law 6, in time: who has a link says something often enough, and who is over ends soon. */
#pragma once

#include "core/decide/step.h"
#include "tests/sim/sim.h"

/* Another session of a side's. */
void pace_begin(enum sim_side side);
/* Between steps. */
void pace_look(void);
/* Has it let go of its link for good? */
bool pace_closes(enum sim_side side);
/* A side's deciding code has taken a step. */
void pace_step(enum sim_side side, const struct actions *out);
/* A thread of the library's has waited for another one to leave. */
void pace_joined(const char *name, uint64_t since);
