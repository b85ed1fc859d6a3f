/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pace.c: see pace.h. */
#include "tests/sim/pace.h"

#include "tests/sim/embedder.h"
#include "tests/sim/wire.h"

/* Last words have 500 ms to be written and as much to be read, and sync wants the big lock for a second at most; threads and loops may be
 * late. */
static const uint64_t leaves_ms = 1500, ends_ms = 3000;

static struct {
	bool closes;      /* has let go of its link for good */
	uint64_t over_at; /* nothing is left to decide; 0: not yet */
} paces[2];

void pace_begin(enum sim_side side)
{
	paces[side].closes = false;
	paces[side].over_at = 0;
}

void pace_step(enum sim_side side, const struct actions *out)
{
	for (uint32_t i = 0; i < out->n; i++) {
		paces[side].closes |= out->list[i].type == ACTION_LINK_CLOSE;
		if (out->list[i].type == ACTION_END)
			paces[side].over_at = sim_now;
	}
}

/* Whichever side takes the other for dead the sooner: it hears something twice in that time at least. */
static void check_beat(enum sim_side side)
{
	enum { LATE_MS = 150 };
	const struct embedder *e = &embedders[side];
	const uint64_t *dead_ms = embedder_habits.dead_peer_ms;
	uint64_t most_ms = (dead_ms[0] < dead_ms[1] ? dead_ms[0] : dead_ms[1]) / 2 + LATE_MS;

	if (!e->session || paces[side].closes)
		return;
	uint64_t ms = wires_mute_for(side) / SIM_MS;
	if (ms > most_ms)
		sim_violation("Law 6: the %s has said nothing for %lu ms; after %lu ms it may be taken for dead",
			      embedder_names[side], ms, dead_ms[!side]);
}

bool pace_closes(enum sim_side side)
{
	return paces[side].closes;
}

void pace_look(void)
{
	for (int side = 0; side < 2; side++) {
		check_beat((enum sim_side)side);
		if (embedders[side].session && !embedders[side].ended && paces[side].over_at &&
		    sim_now - paces[side].over_at > ends_ms * SIM_MS)
			sim_violation("Law 6: the %s has had nothing left to do for %lu ms, and has not ended",
				      embedder_names[side], ends_ms);
	}
}

void pace_joined(const char *name, uint64_t since)
{
	if (sim_now - since > leaves_ms * SIM_MS)
		sim_violation("Law 6: %s was told to leave, and took %lu ms", name, (sim_now - since) / SIM_MS);
}
