/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* promises.h: who has promised what to whom, by migration: what each side's deciding code gave to its link, what was written, what was
 * read; and the laws about these words (Laws 5 and 9). A migration is one session of the source; what a destination does belongs to the
 * migration whose offer it has read, and what is said on a connection to whose connection that is. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/decide/step.h"
#include "core/sluice.h"
#include "tests/sim/sim.h"

enum { PROMISES_MIGRATIONS = 32 };

void promises_reset(void);
/* The source begins another one. Returns its number, from 1. */
uint32_t promises_begin(void);
/* A word's way; type: enum message_type. */
void promises_given(uint32_t migration, enum sim_side by, uint32_t type);
/* `number`: of the round or attempt that it speaks of, where it is numbered. */
void promises_written(uint32_t migration, enum sim_side by, uint32_t type, uint32_t number);
void promises_read(uint32_t migration, enum sim_side by, uint32_t type);
bool promises_was_given(uint32_t migration, enum sim_side by, uint32_t type);
bool promises_was_written(uint32_t migration, enum sim_side by, uint32_t type);
/* NEVER was on its way when the source dialled again. */
bool promises_never_went(uint32_t migration);
bool promises_was_read(uint32_t migration, enum sim_side by, uint32_t type);
/* Does a word say which attempt it is about, which must be the right one? */
bool promises_numbered(uint32_t type);
/* A side's deciding code has seen a word, perhaps one about another attempt. `current`: it came on a link that was not given up meanwhile. */
void promises_taken(enum sim_side by, const struct input *in, const struct actions *out, bool current, bool gives_up);
/* A word is about another attempt. */
bool promises_wrong(enum sim_side by, const struct message *m);
/* The source dials, to tell somebody; and who is it to tell, where nobody listens? */
void promises_dials(uint32_t migration);
void promises_nobody_there(uint32_t migration);
/* A side's guest is about to run; what a side tells its embedder. */
void promises_guest_runs(enum sim_side side);
void promises_phase(enum sim_side side, enum sluice_phase phase);
