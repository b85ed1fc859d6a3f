/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* laws.h: what is checked at every step: the Laws of the design, as far as a step can show that one is broken. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim.h"

void laws_reset(void);
/* A new attempt: nothing has landed, nothing was promised. */
void laws_attempt(void);
/* A page is about to be overwritten in place. */
void laws_page_lands(enum sim_side side, uint32_t page, uint64_t version);
/* The destination's embedder was asked to load: all must be here. */
void laws_all_landed(const char *when);
void laws_guest_runs(enum sim_side side);
/* Words as they are written, and read. */
void laws_switchover_sent(void);
void laws_ready_sent(void);
void laws_cancel_sent(void);
void laws_cancel_came(void);
void laws_go_sent(void);
void laws_never_came(void);
void laws_go_came(void);
bool laws_go_has_come(void);
void laws_running_came(void);
/* The destination is about to say that its guest runs; that it never will. */
void laws_running_sent(void);
void laws_never_sent(void);
void laws_phase(enum sim_side side, int phase);
/* Between steps. */
void laws_memory_bounded(void);
void laws_dead_peers_noticed(uint64_t dead_peer_ms);
