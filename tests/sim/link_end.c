/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* link_end.c: the link's bytes: frames go in whole or in parts, and come out so. */
#include <errno.h>
#include <string.h>

#include "core/decide/message.h"
#include "tests/sim/coverage.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/lies.h"
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
	bool whole = s->taken + n == s->length;
	uint8_t frame = whole ? s->frame : 0, lie = whole && heeded ? s->lie : 0;
	pipe_take(e, s, n);
	if (lie)
		lies_read(e->side, lie);
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

static struct seg *push_whole(struct end *e, const unsigned char *frame, uint32_t n, uint8_t type)
{
	struct seg *s = pipe_push(e, frame, n, n);

	s->poison = e->gap && !e->garbled;
	s->frame = e->gap || e->garbled ? 0 : type; /* behind a wrong length it is no frame to anybody */
	return s;
}

static void push_damaged(struct end *e, const unsigned char *frame, uint32_t n)
{
	struct seg *s = pipe_push(e, frame, n, n);

	if (e->picky) /* its length, by much: what follows is taken for a part of it for long */
		s->data[9] ^= (unsigned char)(4u << sim_below(3));
	else
		harm_flip(s->data, n);
	/* Where the length is damaged, the reader takes what follows for a part of it. */
	e->garbled |= memcmp(s->data + 8, frame + 8, 4) != 0;
	e->garbled_at = e->garbled && !e->garbled_at ? sim_now : e->garbled_at;
	s->poison = !e->garbled;
}

/* Of an old connection, another attempt, or a peer that means harm. */
static void push_lie(struct end *e, const unsigned char *frame, uint32_t n, uint8_t type)
{
	static unsigned char buffer[2 * (MESSAGE_HEAD + MESSAGE_PAYLOAD)];
	enum lie lie = LIE_NONE;
	bool numbered = promises_numbered(type) && sim_one_in(2);

	memcpy(buffer, frame, n);
	if (numbered) {
		sim_trace("wire %u: or rather of another attempt", e->wire->id);
		n = harm_number(buffer, n);
	} else if (!sim_one_in(4)) {
		n = lies_tell(buffer, n, &lie);
	}
	if (lie)
		sim_trace("wire %u: or rather it lies%s", e->wire->id, lie == LIE_HARMLESS ? ", which is of no account" : "");
	else if (!numbered)
		harm_old_frame(buffer, n);
	struct seg *s = pipe_push(e, buffer, n, n);
	e->wrong |= lie != LIE_HARMLESS;
	s->poison = (lie == LIE_SHOWS || (!lie && !numbered && epoch_matters(frame))) && !e->garbled;
	s->lie = lie == LIE_MATTERS && !e->garbled ? type : 0;
	s->frame = s->poison || numbered || (lie == LIE_MATTERS && type != MESSAGE_HELLO) ? 0 : type;
}

/* Once more and once more, as its sender might. It counts them in. */
static void push_repeated(struct end *e, const unsigned char *frame, uint32_t n, uint8_t type)
{
	static unsigned char buffer[MESSAGE_HEAD + MESSAGE_PAYLOAD];
	uint32_t times = sim_one_in(2) ? 1 : 1 + (uint32_t)sim_below(64);

	push_whole(e, frame, n, type);
	if (n <= sizeof e->again && e->picky) {
		sim_trace("wire %u: or rather it is said again later", e->wire->id);
		memcpy(e->again, frame, n);
		e->again_bytes = n;
		return;
	}
	sim_trace("wire %u: or rather it is said %u times more", e->wire->id, times);
	memcpy(buffer, frame, n);
	for (uint32_t i = 0; i < times; i++) {
		lies_renumber(buffer, n, 1);
		push_whole(e, buffer, n, type);
	}
	e->more += times;
}

static bool may_be_repeated(uint8_t type)
{
	return type != MESSAGE_EMBEDDER && type != MESSAGE_HELLO && type != MESSAGE_WELCOME && type != MESSAGE_ANSWER;
}

static void push_doubled(struct end *e, const unsigned char *frame, uint32_t n, uint8_t type)
{
	if (e->wire->greeting.dial == 1 && !e->picky && sim_one_in(2)) { /* later links have ANSWER and a word, in one go */
		sim_trace("wire %u: or rather left out", e->wire->id);
		e->gap = true;
	} else if (may_be_repeated(type) && (e->picky || sim_one_in(2))) {
		push_repeated(e, frame, n, type);
	} else {
		push_whole(e, frame, n, type);
		pipe_push(e, frame, n, n)->poison = !e->garbled;
	}
}

/* The whole frame, with something wrong. */
static ssize_t write_harmed(struct end *e, const unsigned char *frame, uint32_t n)
{
	enum wire_harm harm = e->harm;
	uint8_t type = (uint8_t)frame_type(frame);

	e->harm = HARM_NONE;
	coverage_met_harm(e->wire, harm);
	sim_trace("wire %u: this %s is %s", e->wire->id, message_name(type), harm_names[harm]);
	e->wrong |= harm != HARM_OLD;
	if (harm == HARM_CUT_WITHIN) {
		(void)pipe_push(e, frame, n / 2, n / 2);
		wire_cut(e->wire);
		return -ECONNRESET;
	}
	if (harm == HARM_DAMAGE)
		push_damaged(e, frame, n);
	else if (harm == HARM_OLD)
		push_lie(e, frame, n, type);
	else
		push_doubled(e, frame, n, type);
	world_frame_written(e->wire, e->side, type);
	return n;
}

static void push_again(struct end *e, const unsigned char *next)
{
	uint32_t n = e->again_bytes;

	e->again_bytes = 0;
	memcpy(e->again + 16, next + 16, 4); /* its number, */
	memcpy(e->again + 12, next + 12, 4); /* and its epoch */
	lies_renumber(e->again, n, e->more++);
	push_whole(e, e->again, n, (uint8_t)frame_type(e->again));
}

/* Behind frames that its side does not know of. */
static ssize_t write_renumbered(struct end *e, const unsigned char *frame, uint32_t n)
{
	static unsigned char buffer[MESSAGE_HEAD + MESSAGE_PAYLOAD];

	memcpy(buffer, frame, n);
	lies_renumber(buffer, n, e->more);
	push_whole(e, buffer, n, e->out_type);
	world_frame_written(e->wire, e->side, e->out_type);
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
		if (e->again_bytes && !sim_one_in(4))
			push_again(e, buffer);
		if (e->more)
			return write_renumbered(e, buffer, n);
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
	world_frame_written(e->wire, e->side, e->out_type);
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
