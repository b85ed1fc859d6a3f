/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* heed.h: what somebody asked for, or the other side asks by coming back, is done at once, where it can be done at all. */
#pragma once

#include "core/decide/step.h"
#include "tests/sim/sim.h"

/* A step is over. `cancellable`: its side could be cancelled before it. `phase`: it is in, or ends in as soon as its embedder has answered. */
/* A session begins. */
void heed_begin(enum sim_side side);
void heed_step(enum sim_side side, const struct input *input, const struct actions *actions, bool cancellable,
	       enum sluice_phase phase);
/* Somebody is let in at the door. */
void heed_let_in(void);
/* Now and then. */
void heed_look(void);
