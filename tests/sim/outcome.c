/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* outcome.c: see outcome.h. */
#include "tests/sim/outcome.h"

#include <string.h>

#include "tests/sim/disk.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/guest.h"
#include "tests/sim/knobs.h"
#include "tests/sim/pace.h"
#include "tests/sim/pipe.h"
#include "tests/sim/promises.h"
#include "tests/sim/wire.h"

/* Beyond SLUICE_REMEMBER_MS there is a dead-peer time; what is told then needs a new link, which is dialled after 250 ms. */
enum { REMEMBER_ENOUGH_MS = 1000, EVER_MS = 1000000 };

#define BIT(x) (1ull << (x))
static const uint64_t of_wires = BIT(FAULT_STRAY) - 1, of_cancels = BIT(FAULT_CANCEL_SOURCE) | BIT(FAULT_CANCEL_DESTINATION),
		      of_callbacks = BIT(FAULT_CALLBACK_FAILS);

static struct {
	enum sluice_phase phase; /* its last */
	uint64_t over_at;        /* since when it is completed, failed or cancelled */
	bool ran;                /* its guest, by then */
	bool resolved;
} ends[2];

static uint64_t fine_at; /* the destination was not in doubt with a link */

void outcome_reset(void)
{
	fine_at = sim_now;
	memset(ends, 0, sizeof ends);
}

static bool remembers(void)
{
	return embedder_habits.param[SLUICE_REMEMBER_MS] >= REMEMBER_ENOUGH_MS;
}

/* Nothing but faults of these kinds; and embedders that answer, in time, and well. */
static bool only(uint64_t kinds)
{
	const struct embedder_habits *h = &embedder_habits;

	return !(faults_struck() & ~kinds) && !(disk_there() && knobs_ever(SLUICE_DRAIN_FAIL)) &&
	       (!h->fails || kinds & BIT(FAULT_CALLBACK_FAILS)) && !h->hangs && !h->log_fails && !h->never_continues &&
	       !guest.never_still && !knobs_ever(SLUICE_TIMEOUT_MS) &&
	       knobs_least(SLUICE_CALLBACK_MS, EVER_MS) >= OUTCOME_CALLBACK_MS && h->callback_ms[1] >= OUTCOME_CALLBACK_MS;
}

bool outcome_untroubled(void)
{
	return only(0);
}

bool outcome_wires_sound(void)
{
	return only(of_callbacks | of_cancels);
}

bool outcome_calm_since(uint64_t when)
{
	return only(of_wires) && faults_last_struck() + 2 * embedder_habits.param[SLUICE_DEAD_PEER_MS] * SIM_MS < when;
}

/* Neither side has closed a session that had something to tell. */
static bool closed_early(void)
{
	return embedders[SIM_SOURCE].closed || embedders[SIM_DESTINATION].closed || embedders[SIM_DESTINATION].closed_before;
}

void outcome_phase(enum sim_side side, enum sluice_phase phase)
{
	bool over = phase == SLUICE_COMPLETED || phase == SLUICE_FAILED || phase == SLUICE_CANCELLED;

	if (side == SIM_DESTINATION && embedders[side].migration != embedders[SIM_SOURCE].migration)
		return; /* it waits for a guest, or this is another's */
	ends[side].phase = phase;
	if (!over)
		ends[side].over_at = 0;
	else if (!ends[side].over_at)
		ends[side].over_at = sim_now, ends[side].ran = guest.running[side];
}

/* The source's guest runs here and the destination may have become ready: it is told, unless there was no time for that. */
static void has_let_know(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];
	uint32_t m = s->migration;
	bool over = d->phase == SLUICE_FAILED || d->phase == SLUICE_CANCELLED || d->phase == SLUICE_COMPLETED;

	if (!ends[SIM_SOURCE].ran || !remembers() || s->closed || d->migration != m || !d->up || over)
		return;
	bool knows = promises_was_read(m, SIM_DESTINATION, MESSAGE_CANCEL) || promises_was_read(m, SIM_DESTINATION, MESSAGE_GO);
	if (promises_was_given(m, SIM_DESTINATION, MESSAGE_READY) && !knows && !d->resolved && d->resolve < 0 &&
	    faults_last_struck() <= ends[SIM_SOURCE].over_at)
		sim_violation("Law 6: the source is over, and has left the destination in doubt though nothing was in its way");
}

/* Nothing was wrong with its connections, or the destination's process. */
static void has_heard(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE];

	/* A session that loses its source ends, and lets go of those whom it is showing out: they may have read half of the word, or
	 * none, where it ends just then. */
	if (only((of_callbacks | of_cancels) & ~BIT(FAULT_CANCEL_SOURCE)) &&
	    promises_was_written(s->migration, SIM_DESTINATION, MESSAGE_REFUSE) &&
	    !promises_was_read(s->migration, SIM_SOURCE, MESSAGE_REFUSE))
		sim_violation("Law 9: the source was refused, and is not told so");
	/* A destination that gave up while it landed or loaded ends without waiting for BYE. A source that beats on until it hears NEVER
	 * may meet a closed socket, which takes NEVER along; then a tombstone tells it. */
	if (only(of_callbacks | of_cancels) && !closed_early() && !guest.lost && !promises_never_went(s->migration) &&
	    wires_links_of(s->migration) > 1)
		sim_violation("Law 9: the source had to dial again, and nothing was wrong with its link");
	/* Who is loading answers nobody until that is over. */
	if (only(of_wires) && embedders[SIM_DESTINATION].migration == s->migration && embedders[SIM_DESTINATION].up &&
	    !embedder_habits.loads_long && !s->resolved && wires_links_of(s->migration) > 1 + faults_strikes())
		sim_violation("Law 9: the source had to dial %u times, and only %u times something was wrong",
			      wires_links_of(s->migration), faults_strikes());
}

void outcome_look(void)
{
	const struct embedder *d = &embedders[SIM_DESTINATION];
	uint64_t apart_ns;

	if (!d->up || !d->doubt || !wires_link_of(SIM_DESTINATION, &apart_ns))
		fine_at = sim_now;
	if (sim_now - fine_at > SIM_S / 2) /* a new link ends the doubt, and it is told so soon */
		sim_violation("Law 5: the destination is in doubt, and keeps the link by which GO may come");
}

void outcome_ended(enum sim_side side)
{
	ends[side].resolved |= embedders[side].resolved;
	if (side != SIM_SOURCE)
		return;
	has_let_know();
	has_heard();
}

/* Who has said RUNNING or NEVER stays until the source is known to know it, or has not been heard of for long enough. */
static void has_stayed(const struct input *in)
{
	const struct embedder *d = &embedders[SIM_DESTINATION];
	uint32_t m = d->migration;
	bool said = promises_was_given(m, SIM_DESTINATION, MESSAGE_READY) || promises_was_read(m, SIM_DESTINATION, MESSAGE_GO);
	bool known = promises_was_read(m, SIM_DESTINATION, MESSAGE_DONE) || promises_was_read(m, SIM_DESTINATION, MESSAGE_BYE);
	uint64_t apart_ns;

	if (!said || known || in->type == INPUT_CLOSE || in->type == INPUT_MESSAGE || wires_link_of(SIM_DESTINATION, &apart_ns))
		return;
	enum { DROPPED_MS = 250 }; /* from the word to let go of a link until that is done: threads may hesitate */
	uint64_t remember_ms = embedder_habits.param[SLUICE_REMEMBER_MS];
	remember_ms += remember_ms ? embedder_habits.param[SLUICE_DEAD_PEER_MS] : 0;
	if (apart_ns / SIM_MS + DROPPED_MS < remember_ms)
		sim_violation("Law 6: the destination forgets a migration %lu ms after the link was lost, not %lu",
			      apart_ns / SIM_MS, remember_ms);
}

void outcome_step(enum sim_side side, const struct input *in, const struct actions *out, bool late, const char *awaited)
{
	if (!out->n)
		return;
	if (late && (only(0) || (only(of_cancels | of_callbacks) && remembers() && !closed_early() && !guest.lost)))
		sim_violation("Law 6: the %s waits for %s, in vain, and nothing was in its way",
			      side == SIM_SOURCE ? "source" : "destination", awaited);
	if (side == SIM_DESTINATION && out->list[out->n - 1].type == ACTION_END)
		has_stayed(in);
}

static void must_complete(const char *given)
{
	for (int side = 0; side < 2; side++)
		if (ends[side].phase != SLUICE_COMPLETED)
			sim_violation("Law 9: %s, but the source is %s and the destination %s", given,
				      sluice_phase_name(ends[0].phase), sluice_phase_name(ends[1].phase));
}

void outcome_of_attempt(void)
{
	bool go = promises_was_given(embedders[SIM_SOURCE].migration, SIM_SOURCE, MESSAGE_GO);
	bool resolved = ends[0].resolved || ends[1].resolved;

	if (only(0))
		must_complete("nothing went wrong");
	if (only(of_wires) && go && !resolved)
		must_complete("GO was given and only connections were lost");
	if (only(BIT(FAULT_CANCEL_SOURCE)) && ends[SIM_SOURCE].phase != SLUICE_CANCELLED)
		must_complete("the source was not cancelled");
	if (only(BIT(FAULT_CANCEL_SOURCE)) && ends[SIM_SOURCE].phase == SLUICE_CANCELLED &&
	    promises_was_given(embedders[SIM_DESTINATION].migration, SIM_DESTINATION, MESSAGE_WELCOME) &&
	    ends[SIM_DESTINATION].phase != SLUICE_CANCELLED)
		sim_violation("Law 9: the source was cancelled, and the destination is %s",
			      sluice_phase_name(ends[SIM_DESTINATION].phase));
}
