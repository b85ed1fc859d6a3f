/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lies.h: link frames of a peer that means harm, or is another version: right in all but what they say. */
#pragma once

#include <stdint.h>

#include "core/decide/step.h"
#include "tests/sim/sim.h"

enum lie {
	LIE_NONE,
	LIE_SHOWS,    /* in the frame alone: nobody reads on behind it */
	LIE_MATTERS,  /* it does not fit what is known otherwise: nothing may come of it */
	LIE_HARMLESS, /* nothing may come of it, good or bad */
};

/* A frame has room for MESSAGE_HEAD + MESSAGE_PAYLOAD bytes. Returns its length now; LIE_NONE: it is as it was. */
uint32_t lies_tell(unsigned char *frame, uint32_t length, enum lie *ret_lie);
/* Its check again, and another sequence number. */
void lies_seal(unsigned char *frame, uint32_t length);
void lies_renumber(unsigned char *frame, uint32_t length, uint32_t by);

/* A session begins; it has read a frame that matters and is a lie; and what it does then. */
void lies_begin(enum sim_side side);
void lies_read(enum sim_side side, uint32_t type);
/* Has it read such a frame? */
bool lies_were_read(enum sim_side side, uint32_t type);
void lies_step(enum sim_side side, const struct actions *actions);
