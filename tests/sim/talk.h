/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* talk.h: what the two embedders say to each other by sluice_send_message(), and that it arrives: in order, whole, once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim.h"

/* The seed's choice; and another session of a side's. */
void talk_reset(void);
/* Both have something to say all the time, at that pace: 16 messages may go between two heartbeats. */
void talk_much(uint64_t pause_ns);
void talk_begin(enum sim_side side);
/* What either side may have to keep of it. */
uint64_t talk_bytes(void);
/* They have much to say, and stay for that. */
bool talk_lasts(void);
/* When a side wants to say something next; and it does. */
uint64_t talk_due(enum sim_side side);
void talk_now(enum sim_side side);
/* A message came to a side's embedder. */
void talk_heard(enum sim_side side, const void *data, size_t length);
/* The deciding code of a side gives its last word (RUNNING, DONE) to the link; the other side's embedder is told of what that said. */
void talk_word_given(enum sim_side side);
void talk_word_told(enum sim_side side);
