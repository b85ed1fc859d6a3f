/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* wire.h: connections that delay, stall, break, fall silent, damage, double, and carry what an old connection would have. Each
 * direction keeps its order, as TCP does; connections know nothing of each other. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim.h"

enum { WIRES = 96 };

struct end;
struct wire;
struct wire_habits {
	uint64_t latency_ns, window;
	uint32_t ps_per_byte;
	uint32_t partial; /* one read or write in so many is cut short; 0: none */
};

/* What is done to the next frame or batch of a wire. */
enum wire_harm { HARM_NONE, HARM_DAMAGE, HARM_DOUBLE, HARM_OLD, HARM_CUT_WITHIN };

void wires_reset(const struct wire_habits *habits);
uint32_t wires_count(void);
/* The i-th open connection; all there ever were count. */
struct wire *wires_get(uint32_t i);
/* Whose it is (promises.h); 0: a stray. */
uint32_t wire_migration(const struct wire *w);
bool wire_is_link(const struct wire *w);
bool wire_open(const struct wire *w);
/* Open, and neither cut nor silent on both ways. */
bool wire_carries(const struct wire *w);
/* A side has its end of it, and has not shut it down. */
bool wire_open_at(const struct wire *w, enum sim_side side);
/* The last link that a side's session has: what goes over another is late. */
bool wire_is_newest(const struct wire *w, enum sim_side side);
/* For how long nothing has come on a link that a side still has; less `at_door_ns` where the other side has not said a word yet. */
uint64_t wires_deaf_for(enum sim_side side, uint64_t at_door_ns);
/* Nothing of what a side says comes, on a link that it still has. */
bool wires_silenced(void);
/* For how long a side has begun no frame on a link that both have, and that would take one. */
uint64_t wires_mute_for(enum sim_side side);
/* Has a side its link? Else *ret_apart_ns: since when it has none. */
bool wires_link_of(enum sim_side side, uint64_t *ret_apart_ns);
/* For how long a link that a side still has has been without sense: the other side's frames do not end where they say. */
uint64_t wires_garbled_for(enum sim_side side);
/* How many links a migration has had. */
uint32_t wires_links_of(uint32_t migration);
/* Has anybody sent frames more often than his own library knows of? The other one may have answered each. */
bool wires_repeated(void);
/* Has anything gone wrong with what a side has sent on a link? Nothing that came behind a lie need be believed. */
bool wires_wrong(enum sim_side side);
/* Does, or did until just now, a link hold back what that side has sent, in the midst of a frame perhaps? */
bool wires_held_back(enum sim_side side);
/* For how long no stream has brought a side a whole part of a batch. */
uint64_t wires_still_for(enum sim_side side);
/* When one has last brought it. */
uint64_t wires_brought_at(enum sim_side side);
/* A stream brings a part of a batch now. */
void wire_brought(struct end *e);
/* For how long the door has borne with a stray, since it came or has greeted. */
uint64_t wires_stray_for(uint64_t offered_ns);
/* Both ends are told (RST), what is on its way is lost. */
void wire_cut(struct wire *w);
/* Nothing gets through any more and nobody is told; `from`: what that side sends; SIM_WORLD: both. */
void wire_silence(struct wire *w, enum sim_side from);
void wire_stall(struct wire *w, uint64_t until);
bool wire_is_stray(const struct wire *w);
/* The next frame or batch that `from` sends on it. */
void wire_harm(struct wire *w, enum sim_side from, enum wire_harm harm);
/* The source has said which round is the last; and it sends pages all the same, on that stream. Returns whether it does. */
bool wire_is_late(void);
bool wire_late_batch(struct wire *w);
/* Another source comes, offers its guest, and is gone. */
void wire_visit(uint32_t migration);
/* The greeting of the next link, or of the next stream. */
void wire_harm_greeting(bool link, enum wire_harm harm);
/* A connection that greets and does not belong here. Returns whether it may be taken for a source at first, as none is there. */
bool wire_stray(void);
/* A link is being dialled; and it will not be answered. */
bool wire_dialling(void);
void wire_lose_dials(void);
/* Connections that nobody accepted are gone. */
void wires_empty_backlog(void);
/* The destination is at its door. */
bool wire_listening(void);
/* A process died (its host: nobody is told). */
void wires_side_gone(enum sim_side side, bool host);
/* Its host is there again, and knows nothing of its connections. */
void wires_host_back(enum sim_side side);

short wire_poll(void *conn, short events, uint64_t *until);
short wire_poll_door(void *door, short events, uint64_t *until);
