/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* link_end.c: the link's bytes: frames go in whole or in parts, and come out so. */
#include <errno.h>
#include <string.h>

#include "core/decide/message.h"
#include "tests/sim/coverage.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/pipe.h"
#include "tests/sim/promises.h"
#include "tests/sim/world.h"
#include "tests/sim/yield.h"

static uint32_t answered_epoch[PROMISES_MIGRATIONS]; /* the last one */

void links_reset(void)
{
	memset(answered_epoch, 0, sizeof answered_epoch);
}

ssize_t link_read(struct conn *conn, void *buffer, size_t size)
{
	struct end *e = (struct end *)conn;
	uint64_t until = FIBER_FOREVER;

	sim_yield();
	if (e->shut)
		return 0;
	struct seg *s = pipe_readable(pipe_in(e), &until);
	if (!s)
		return pipe_in(e)->reset_at <= sim_now ? -ECONNRESET : -EAGAIN;
	if (s->fin)
		return 0;
	bool heeded = !e->parted && size <= MESSAGE_PAYLOAD; /* more: only draining before it closes */
	if (e->poisoned && heeded)
		sim_violation("Law 7: %s read on behind a damaged frame of the link",
			      e->side == SIM_SOURCE ? "source" : "destination");
	uint32_t n = s->length - s->taken;
	if (n > size)
		n = (uint32_t)size;
	if (wire_habits_now.partial && n > 1 && sim_one_in(wire_habits_now.partial))
		n = 1 + (uint32_t)sim_below(n - 1);
	memcpy(buffer, s->data + s->taken, n);
	uint8_t frame = s->taken + n == s->length ? s->frame : 0;
	pipe_take(e, s, n);
	e->talked |= frame;
	if (frame && heeded)
		world_frame_read(e->wire, e->side, frame);
	return n;
}

static uint32_t frame_type(const unsigned char *frame)
{
	uint16_t type;

	memcpy(&type, frame + 4, sizeof type);
	return type;
}

/* What comes first in those that speak of a round or an attempt. */
static uint32_t number_of(const unsigned char *frame)
{
	uint32_t number = 0;

	if (promises_numbered(frame_type(frame)))
		memcpy(&number, frame + MESSAGE_HEAD, sizeof number);
	return number;
}

/* Until WELCOME or ANSWER has come, both 0 and its epoch are right. */
static bool epoch_matters(const unsigned char *frame)
{
	uint32_t epoch;

	memcpy(&epoch, frame + 12, sizeof epoch);
	return epoch || frame_type(frame) <= MESSAGE_REFUSE || frame_type(frame) == MESSAGE_ANSWER;
}

/* The whole frame, with something wrong. */
static ssize_t write_harmed(struct end *e, const unsigned char *frame, uint32_t n)
{
	enum wire_harm harm = e->harm;
	uint8_t type = (uint8_t)frame_type(frame);

	e->harm = HARM_NONE;
	coverage_met_harm(e->wire, harm);
	sim_trace("wire %u: this %s is %s", e->wire->id, message_name(type), harm_names[harm]);
	if (harm == HARM_CUT_WITHIN) {
		(void)pipe_push(e, frame, n / 2, n / 2);
		wire_cut(e->wire);
		return -ECONNRESET;
	}
	if (harm == HARM_DOUBLE && e->wire->greeting.dial == 1 &&
	    sim_one_in(4)) { /* later links have ANSWER and a word, in one go */
		sim_trace("wire %u: or rather left out", e->wire->id);
		e->gap = true;
		return n;
	}
	struct seg *s = pipe_push(e, frame, n, n);
	s->frame = type;
	if (harm == HARM_DAMAGE) {
		if (sim_one_in(4)) /* its length */
			harm_flip(s->data + 8, 2);
		else
			harm_flip(s->data, n);
		/* Where the length is damaged, the reader takes what follows for a part of it. */
		e->garbled |= memcmp(s->data + 8, frame + 8, 4) != 0;
		e->garbled_at = e->garbled && !e->garbled_at ? sim_now : e->garbled_at;
		s->poison = !e->garbled;
		s->frame = 0;
	} else if (harm == HARM_OLD && promises_numbered(type) && sim_one_in(2)) {
		sim_trace("wire %u: or rather of another attempt", e->wire->id);
		uint32_t less = n - harm_number(s->data, n);
		s->length -= less;
		pipe_out(e)->queued -= less;
		s->frame = 0;
	} else if (harm == HARM_OLD) {
		harm_old_frame(s->data, n);
		s->poison = epoch_matters(frame) && !e->garbled;
		s->frame = s->poison ? 0 : type;
	} else {
		struct seg *twice = pipe_push(e, frame, n, n);
		twice->poison = !e->garbled;
	}
	world_frame_written(e->side, type);
	return n;
}

/* What a destination says on a later link begins with ANSWER, which gives an epoch that rises; and nobody gets one who only says again what
 * the source has said. */
static void check_answer(const struct end *e, const unsigned char *frame)
{
	const struct wire *w = e->wire;
	uint32_t epoch, type = frame_type(frame);

	if (e->side != SIM_DESTINATION)
		return;
	if (type == MESSAGE_REFUSE && w->link && w->greeted && w->greeting.dial > 1 &&
	    embedders[SIM_DESTINATION].knows & 1u << w->migration)
		sim_violation("Law 6: the destination has forgotten a migration that came in at this listener");
	if (!e->wrote && w->greeting.dial > 1 && !w->stray && type != MESSAGE_ANSWER && type != MESSAGE_REFUSE)
		sim_violation("Law 7: a later link begins with %s", message_name(type));
	if (type != MESSAGE_ANSWER)
		return;
	memcpy(&epoch, frame + MESSAGE_HEAD, sizeof epoch);
	if (w->stray)
		sim_violation("Law 7: a stranger's connection is taken for the source's");
	for (uint32_t i = 0; i < n_wires; i++) {
		const struct end *old = &wires[i].end[SIM_DESTINATION];
		if (&wires[i] != w && wires[i].link && !wires[i].stray && wires[i].migration == w->migration && old->open &&
		    old->talked && !old->parted)
			sim_violation("Law 5: a later link is answered, and what is in an earlier one may still be read");
	}
	if (epoch <= answered_epoch[w->migration])
		sim_violation("Law 7: epoch %u is given twice", epoch);
	answered_epoch[w->migration] = epoch;
}

static uint32_t frame_length(const unsigned char *frame)
{
	uint32_t payload;

	memcpy(&payload, frame + 8, sizeof payload);
	return MESSAGE_HEAD + payload;
}

/* A frame, or the rest of one. */
static ssize_t write_frame(struct end *e, const unsigned char *buffer, size_t size)
{
	uint32_t n = (uint32_t)size;

	sim_yield();
	if (end_broken(e))
		return -EPIPE;
	uint64_t later = FIBER_FOREVER;
	if (!pipe_has_room(pipe_out(e), &later))
		return -EAGAIN;
	if (!e->offset) {
		check_answer(e, buffer);
		e->wrote = true;
		e->said_at = sim_now;
		e->out_type = (uint8_t)frame_type(buffer);
		world_frame_begins(e->wire, e->side, e->out_type, number_of(buffer));
		if (end_broken(e))
			return -ECONNRESET;
		if (!e->harm)
			e->harm = faults_harm(e->wire);
		if (e->harm)
			return write_harmed(e, buffer, n);
	}
	/* The buffer of a new socket takes a small frame as a whole. */
	if (wire_habits_now.partial && n > 1 && !e->parted && sim_one_in(wire_habits_now.partial))
		n = 1 + (uint32_t)sim_below(n - 1);
	struct seg *s = pipe_push(e, buffer, n, n);
	e->offset = n == size ? 0 : e->offset + n;
	if (e->offset)
		return n;
	s->poison = e->gap && !e->garbled;
	s->frame = e->gap || e->garbled ? 0 : e->out_type; /* behind a wrong length it is no frame to anybody */
	world_frame_written(e->side, e->out_type);
	return n;
}

/* The link thread offers a frame, or the rest of one; or several, to whom it turns away. */
ssize_t link_write(struct conn *conn, const void *buffer, size_t size)
{
	struct end *e = (struct end *)conn;
	const unsigned char *at = buffer;
	size_t done = 0;

	while (done < size) {
		size_t length = e->offset ? size - done : frame_length(at + done);
		e->parted |= !e->offset && (length < size || frame_type(at) == MESSAGE_REFUSE);
		ssize_t n = write_frame(e, at + done, length);
		if (n < 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
		if ((size_t)n < length)
			break;
	}
	return (ssize_t)done;
}
