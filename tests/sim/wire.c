/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* wire.c: see wire.h. All connections there ever were, and what is done to them. */
#include "tests/sim/wire.h"

#include <string.h>

#include "tests/sim/embedder.h"
#include "tests/sim/fiber.h"
#include "tests/sim/pipe.h"
#include "tests/sim/system.h"

struct wire wires[WIRES];
uint32_t n_wires;
struct wire_habits wire_habits_now;

void wires_reset(const struct wire_habits *how)
{
	memset(wires, 0, n_wires * sizeof *wires);
	n_wires = 0;
	wire_habits_now = *how;
	wire_dials_gone();
	wire_door_gone();
	links_reset();
}

struct wire *wire_new(bool link)
{
	if (n_wires == WIRES) {
		sim_violation("Law 8: more than %d connections were made", WIRES);
		return NULL;
	}
	struct wire *w = &wires[n_wires];
	*w = (struct wire){ .id = n_wires++, .link = link };
	for (int i = 0; i < 2; i++) {
		w->pipe[i].reset_at = FIBER_FOREVER;
		w->pipe[i].last = &w->pipe[i].first;
		w->end[i] = (struct end){
			.conn.transport = &sim_transport, .wire = w, .side = (enum sim_side)i, .open = true, .heard_at = sim_now
		};
	}
	return w;
}

uint32_t wires_count(void)
{
	return n_wires;
}

struct wire *wires_get(uint32_t i)
{
	return &wires[i];
}

uint32_t wire_migration(const struct wire *w)
{
	return w->migration;
}

bool wire_is_link(const struct wire *w)
{
	return w->link;
}

bool wire_is_stray(const struct wire *w)
{
	return w->stray;
}

bool wire_open(const struct wire *w)
{
	return w->end[0].open || w->end[1].open;
}

bool wire_carries(const struct wire *w)
{
	bool cut = w->pipe[0].reset_at != FIBER_FOREVER || w->pipe[1].reset_at != FIBER_FOREVER;

	return wire_open(w) && !cut && !(w->pipe[0].silent && w->pipe[1].silent);
}

bool wire_open_at(const struct wire *w, enum sim_side side)
{
	return w->end[side].open && !w->end[side].shut;
}

/* Bytes on any stream are a sign of life to the destination. */
static uint64_t heard_at(const struct end *link)
{
	uint64_t at = link->heard_at;

	for (uint32_t i = 0; link->side == SIM_DESTINATION && i < n_wires; i++)
		if (!wires[i].link && wires[i].end[SIM_DESTINATION].heard_at > at)
			at = wires[i].end[SIM_DESTINATION].heard_at;
	return at;
}

uint64_t wires_deaf_for(enum sim_side side, uint64_t at_door_ns)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < n_wires; i++) {
		struct end *e = &wires[i].end[side];
		uint64_t until = FIBER_FOREVER, since = heard_at(e);
		if (!wires[i].link || wires[i].stray || !wire_open_at(&wires[i], side) || !e->fd ||
		    pipe_readable(pipe_in(e), &until))
			continue;
		if (side == SIM_DESTINATION && (!e->talked || e->parted))
			since += at_door_ns;
		if (sim_now > since && sim_now - since > longest)
			longest = sim_now - since;
	}
	return longest;
}

bool wires_silenced(void)
{
	for (uint32_t i = 0; i < n_wires; i++)
		if (wires[i].link && !wires[i].stray && wire_open(&wires[i]) &&
		    (wires[i].pipe[0].silent || wires[i].pipe[1].silent))
			return true;
	return false;
}

uint64_t wires_mute_for(enum sim_side side)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < n_wires; i++) {
		struct end *e = &wires[i].end[side];
		uint64_t until = FIBER_FOREVER;
		if (!wires[i].link || wires[i].stray || !e->wrote || !e->fd || !wires[i].end[!side].fd ||
		    !wire_open_at(&wires[i], side) || !wire_open_at(&wires[i], !side) || e->parted || e->offset ||
		    pipe_in(e)->reset_at != FIBER_FOREVER)
			continue;
		if (!pipe_has_room(pipe_out(e), &until))
			e->said_at = sim_now; /* it cannot */
		if (sim_now - e->said_at > longest)
			longest = sim_now - e->said_at;
	}
	return longest;
}

bool wire_is_newest(const struct wire *w, enum sim_side side)
{
	for (uint32_t i = 0; i < n_wires; i++)
		if (wires[i].link && !wires[i].stray && wires[i].migration == w->migration &&
		    wires[i].greeting.dial > w->greeting.dial && (side == SIM_SOURCE || wires[i].end[side].wrote))
			return false;
	return !w->stray && w->migration == embedders[side].migration;
}

bool wires_link_of(enum sim_side side, uint64_t *ret_apart_ns)
{
	uint64_t latest = 0;

	for (uint32_t i = 0; i < n_wires; i++) {
		const struct end *e = &wires[i].end[side];
		if (!wires[i].link || wires[i].stray || !e->fd || e->parted || !(e->talked || e->wrote))
			continue;
		if (wire_open_at(&wires[i], side))
			return true;
		latest = e->closed_at > latest ? e->closed_at : latest;
	}
	*ret_apart_ns = sim_now - latest;
	return false;
}

uint64_t wires_garbled_for(enum sim_side side)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < n_wires; i++) {
		const struct wire *w = &wires[i];
		struct end *from = &wires[i].end[!side];
		if (!w->link || w->stray || !wire_open_at(w, side) || !w->end[side].fd || !from->garbled_at)
			continue;
		if (side == SIM_DESTINATION && !w->greeted)
			from->garbled_at = sim_now; /* nobody reads frames at the door, where a greeting has its own time */
		if (sim_now - from->garbled_at > longest)
			longest = sim_now - from->garbled_at;
	}
	return longest;
}

uint32_t wires_links_of(uint32_t migration)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_wires; i++)
		n += wires[i].link && !wires[i].stray && wires[i].migration == migration;
	return n;
}

bool wires_repeated(void)
{
	for (uint32_t i = 0; i < n_wires; i++)
		if (wires[i].end[SIM_SOURCE].more || wires[i].end[SIM_DESTINATION].more)
			return true;
	return false;
}

/* The link's thread looks at streams ten times a second, and may have judged before what has just come. */
enum { JUST_MS = 200 };

bool wires_wrong(enum sim_side side)
{
	for (uint32_t i = 0; i < n_wires; i++)
		if (wires[i].link && (wires[i].stray || wires[i].end[side].wrong))
			return true;
	return false;
}

bool wires_held_back(enum sim_side side)
{
	for (uint32_t i = 0; i < n_wires; i++) {
		const struct pipe *p = &wires[i].pipe[side];
		uint64_t until = p->stalled_until + wire_habits_now.latency_ns + JUST_MS * SIM_MS;
		if (wires[i].link && !wires[i].stray && (p->silent || (p->stalled_until && sim_now < until)))
			return true;
	}
	return false;
}

void wire_brought(struct end *e)
{
	if (sim_now - e->part_at > JUST_MS * SIM_MS) {
		e->before_burst = e->part_at;
		e->burst_at = sim_now;
	}
	e->part_at = sim_now;
}

uint64_t wires_brought_at(enum sim_side side)
{
	uint64_t latest = 0;

	for (uint32_t i = 0; i < n_wires; i++)
		if (!wires[i].link && wires[i].end[side].part_at > latest)
			latest = wires[i].end[side].part_at;
	return latest;
}

uint64_t wires_still_for(enum sim_side side)
{
	uint64_t latest = 0;

	for (uint32_t i = 0; i < n_wires; i++) {
		const struct end *e = &wires[i].end[side];
		uint64_t at = sim_now - e->burst_at < JUST_MS * SIM_MS ? e->before_burst : e->part_at;
		if (!wires[i].link && at > latest)
			latest = at;
	}
	return sim_now - latest;
}

uint64_t wires_stray_for(uint64_t offered_ns)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < n_wires; i++) {
		const struct end *e = &wires[i].end[SIM_DESTINATION];
		uint64_t since = e->accepted_at + (e->talked ? offered_ns : 0);
		if (wires[i].stray && e->fd && e->open && sim_now > since && sim_now - since > longest)
			longest = sim_now - since;
	}
	return longest;
}

void wire_cut(struct wire *w)
{
	/* Of a stream perhaps one end only is told: what lies between them has forgotten it. */
	int untold = !w->link && sim_one_in(4) ? (int)sim_below(2) : 2;

	for (int i = 0; i < 2; i++)
		w->pipe[i].silent |= untold < 2;
	for (int i = 0; i < 2; i++)
		if (i != untold && w->pipe[i].reset_at > sim_now)
			w->pipe[i].reset_at = sim_now + (sim_one_in(2) ? 0 : sim_below(wire_habits_now.latency_ns + 1));
	wire_tell(w);
}

void wire_silence(struct wire *w, enum sim_side from)
{
	for (int i = 0; i < 2; i++) {
		if (from != SIM_WORLD && from != (enum sim_side)i)
			continue;
		w->pipe[i].silent = true;
		w->pipe[i].full = sim_one_in(2);
		for (struct seg *s = w->pipe[i].first; s; s = s->next)
			if (s->ready_at > sim_now)
				s->ready_at = FIBER_FOREVER;
	}
	wire_tell(w);
}

void wire_stall(struct wire *w, uint64_t until)
{
	for (int i = 0; i < 2; i++) {
		w->pipe[i].stalled_until = until;
		w->pipe[i].full = sim_one_in(2);
	}
}

void wire_harm(struct wire *w, enum sim_side from, enum wire_harm harm)
{
	w->end[from].harm = harm;
	w->end[from].picky = sim_one_in(2);
}

void wires_side_gone(enum sim_side side, bool host)
{
	for (uint32_t i = 0; i < n_wires; i++) {
		struct end *e = &wires[i].end[side];
		if (!e->open)
			continue;
		e->open = false;
		if (e->fd)
			system_fd_close(e->fd);
		if (host)
			wire_silence(&wires[i], SIM_WORLD);
		else if (pipe_out(e)->reset_at == FIBER_FOREVER && !pipe_out(e)->silent)
			pipe_out(e)->reset_at = sim_now + sim_below(wire_habits_now.latency_ns + 1);
		wire_tell(&wires[i]);
	}
	if (side == SIM_DESTINATION)
		wire_door_gone();
	else
		wire_dials_gone();
}

void wires_host_back(enum sim_side side)
{
	for (uint32_t i = 0; i < n_wires; i++)
		if (!wires[i].end[side].open)
			wires[i].pipe[!side].silent = wires[i].pipe[side].silent = false;
}
