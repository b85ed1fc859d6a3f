/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coverage.h: phase x fault x message: what a side's deciding code was in the middle of when something went wrong.
 *
 * A spot is a phase with the last message that the deciding code gave to the link and the last one that it took from it (and acted
 * upon). A fault that strikes there is met in two cells, one for each of the two. Heartbeats, embedders' messages and the
 * destination's reports are the link threads' affair, and decide nothing: talk. Where such a frame is the last one that went over the side's
 * link, either way, and every word before it was heeded or has gone out, a third cell is met, the frame's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/decide/message.h"
#include "core/sluice.h"
#include "tests/sim/faults.h"
#include "tests/sim/sim.h"

enum {
	COVERAGE_PHASES = SLUICE_IN_DOUBT + 1,
	COVERAGE_CELLS = 2 * COVERAGE_PHASES * FAULTS * MESSAGE_TYPES,
	COVERAGE_NAME = 80, /* a cell's, with its final NUL */
};

struct spot {
	bool on;              /* it has a session, and that has begun */
	uint8_t phase;        /* enum sluice_phase */
	uint8_t given, taken; /* enum message_type, 0: none yet */
	uint8_t talk;         /* enum message_type; 0: a word was the last, or nothing */
	uint8_t words;        /* read and not taken yet, or given and not written yet */
	bool link, streams;   /* what becomes of them matters to it */
};

struct cell {
	enum sim_side side;
	enum sluice_phase phase;
	enum fault fault;
	uint32_t message; /* 0: nothing was given yet, or nothing was taken */
};

/* Where a side is, and where it was when it asked its embedder for something last. */
extern struct spot coverage_spots[2], coverage_asked_at[2];

/* A side begins anew, or its session is gone. */
void coverage_reset(enum sim_side side);
/* Bits of sides: both; those to which it matters what becomes of a connection. */
enum { COVERAGE_BOTH = 3 };
uint32_t coverage_whose(const struct wire *w);
/* A fault takes effect, now, on those sides; one that harms a frame; one of what a side has asked its embedder for, at that spot. */
void coverage_met(enum fault fault, uint32_t sides);
void coverage_met_harm(const struct wire *w, enum wire_harm harm);
void coverage_met_request(enum sim_side side, const struct spot *asked_at, enum fault fault);
/* A frame has gone over a side's link, either way. */
void coverage_frame(enum sim_side side, const struct wire *w, uint32_t message, bool given);
bool coverage_spot_is(enum sim_side side, const struct spot *spot, enum sluice_phase phase, uint32_t message);
/* How often it was, so far. */
uint64_t coverage_count(const struct cell *cell);
/* All cells that can be. Returns how many. */
uint32_t coverage_cells(struct cell ret[COVERAGE_CELLS]);
/* A cell that is met breaks the run where it is held to be impossible. */
extern bool coverage_strict;
/* All of it. Returns whether every cell that can be was met, and none that cannot. */
bool coverage_print(void);

/* coverage_rules.c */
/* Why a cell cannot be, in a line; NULL: it can. */
const char *coverage_why_not(const struct cell *cell);
bool coverage_has_phase(enum sim_side side, enum sluice_phase phase);
/* Something is said on a link that the side has there. */
bool coverage_has_link(const struct cell *cell);
/* What link threads say by themselves. */
bool coverage_is_talk(enum sim_side side, uint32_t message);
