/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* laws.h: what is checked at every step: the Laws of the design, as far as a step can show that one is broken. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim.h"

/* Another session of the destination's: nothing has landed. */
void laws_destination_begins(void);
/* A page is about to be overwritten in place. */
void laws_page_lands(enum sim_side side, uint32_t page, uint64_t version);
/* The destination's embedder was asked to load: all must be here. */
void laws_all_landed(const char *when);
/* Between steps. */
void laws_memory_bounded(void);
void laws_strays_shown_out(void);
void laws_dead_peers_noticed(const uint64_t dead_peer_ms[2]);
