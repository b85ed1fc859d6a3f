/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pipe.c: one direction of a connection: segments, in order, each with the time from which it may be read. */
#include "tests/sim/pipe.h"

#include <errno.h>
#include <string.h>

#include "core/sluice.h"
#include "tests/sim/fiber.h"
#include "tests/sim/heap.h"

struct pipe *pipe_in(struct end *e)
{
	return &e->wire->pipe[!e->side];
}

struct pipe *pipe_out(struct end *e)
{
	return &e->wire->pipe[e->side];
}

void end_tell(struct end *e)
{
	fiber_wake(e);
	if (e->open)
		fiber_wake_pollers(e->fd);
}

void wire_tell(struct wire *w)
{
	end_tell(&w->end[0]);
	end_tell(&w->end[1]);
}

void pipe_drop(struct pipe *p)
{
	for (struct seg *s = p->first; s; s = p->first) {
		p->first = s->next;
		heap_free(s);
	}
	p->last = &p->first;
	p->queued = 0;
}

/* The first segment that may be read now; else when that may change goes to *until. */
struct seg *pipe_readable(struct pipe *p, uint64_t *until)
{
	uint64_t at = p->first ? p->first->ready_at : FIBER_FOREVER;

	if (at < p->stalled_until)
		at = p->stalled_until;
	if (p->reset_at <= sim_now) {
		if (p->first)
			pipe_drop(p);
		return NULL;
	}
	if (p->first && at <= sim_now)
		return p->first;
	if (p->reset_at < at)
		at = p->reset_at;
	if (at < *until)
		*until = at;
	return NULL;
}

bool pipe_has_room(const struct pipe *p, uint64_t *until)
{
	if (p->full && p->silent)
		return false;
	if (p->full && p->stalled_until > sim_now) {
		*until = p->stalled_until < *until ? p->stalled_until : *until;
		return false;
	}
	return p->queued < wire_habits_now.window;
}

struct seg *pipe_push(struct end *e, const void *data, uint32_t bytes, uint32_t length)
{
	struct pipe *p = pipe_out(e);
	struct seg *s = heap_alloc(SIM_WORLD, sizeof *s + bytes, false);

	*s = (struct seg){ .length = length };
	if (data)
		memcpy(s->data, data, bytes);
	if (p->last_ready < sim_now)
		p->last_ready = sim_now;
	p->last_ready += (uint64_t)length * wire_habits_now.ps_per_byte / 1000;
	s->ready_at = p->silent ? FIBER_FOREVER : p->last_ready + sim_below(wire_habits_now.latency_ns + 1);
	if (p->last != &p->first) { /* in order */
		struct seg *before = (struct seg *)((char *)p->last - offsetof(struct seg, next));
		if (s->ready_at < before->ready_at)
			s->ready_at = before->ready_at;
	}
	*p->last = s;
	p->last = &s->next;
	p->queued += length;
	/* Nobody is there to take it: that comes back as a reset. */
	struct end *peer = &e->wire->end[!e->side];
	if (!peer->open && !p->silent && pipe_in(e)->reset_at == FIBER_FOREVER)
		pipe_in(e)->reset_at = sim_now + 2 * wire_habits_now.latency_ns;
	end_tell(peer);
	return s;
}

static uint32_t kept(const struct seg *s)
{
	return s->pages ? s->length / SLUICE_PAGE_SIZE * 8 : s->length;
}

struct seg *pipe_copy(const struct seg *s)
{
	struct seg *copy = heap_alloc(SIM_WORLD, sizeof *s + kept(s), false);

	memcpy(copy, s, sizeof *s + kept(s));
	copy->next = NULL;
	copy->taken = 0;
	return copy;
}

void pipe_push_again(struct end *e, const struct seg *s)
{
	struct seg *again = pipe_push(e, s->data, kept(s), s->length);

	again->frame = s->frame;
	again->pages = s->pages;
	again->poison = s->frame && !e->garbled;
}

void pipe_take(struct end *e, struct seg *s, uint32_t n)
{
	struct pipe *p = pipe_in(e);

	e->heard_at = sim_now;
	s->taken += n;
	p->queued -= n;
	if (s->taken < s->length)
		return;
	if (e->wire->stray) /* it has greeted */
		e->accepted_at = sim_now;
	e->poisoned |= s->poison; /* not before: what is wrong with it may be in its last byte */
	e->wire->greeted |= e->side == SIM_DESTINATION && !e->wire->stray && !e->poisoned && !e->wire->half_greeting;
	p->first = s->next;
	if (!p->first)
		p->last = &p->first;
	heap_free(s);
	end_tell(&e->wire->end[!e->side]);
}

/* 0, or why nothing more goes out. */
int end_broken(struct end *e)
{
	if (e->shut)
		return -ECANCELED;
	if (pipe_in(e)->reset_at <= sim_now)
		return -ECONNRESET;
	return 0;
}
