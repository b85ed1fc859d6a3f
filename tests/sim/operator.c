/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* operator.c: see operator.h. He looks at both sides, and has waited long enough. A doubt may end and begin again by itself, so only
 * what stays true counts: one side is over for good before the other one is told to run. */
#include "tests/sim/operator.h"

#include <errno.h>
#include <string.h>

#include "core/decide/message.h"
#include "tests/sim/disk.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/promises.h"
#include "tests/sim/wire.h"

static uint64_t doubt_since;

void operator_reset(void)
{
	doubt_since = 0;
}

static bool decided(const struct embedder *e)
{
	return !e->up || e->phase == SLUICE_FAILED || e->phase == SLUICE_CANCELLED;
}

/* The sessions that there are now are the two ends of one migration. */
static bool are_a_pair(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];

	return s->up && d->up && s->migration == d->migration;
}

static bool runs_at(enum sim_side side)
{
	return guest.running[side] && guest.lineage[SIM_SOURCE] == guest.lineage[SIM_DESTINATION];
}

/* He does as the error says: at the side that is in doubt, where the guest runs at the other side, or where it does not and never will. */
static int told(const struct embedder *e, bool runs_there)
{
	const char *where = runs_there ? "where it runs, resolve this side to " : "then resolve this side to ";
	struct sluice_error error;

	sluice_get_error(e->session, &error);
	if (error.code != -EINPROGRESS) /* it is over */
		return !runs_there;
	const char *at = strstr(error.text, where);
	if (!at)
		sim_violation("errors: the %s is in doubt, and does not say what to do about it: %s", embedder_names[e->side],
			      error.text);
	return !strncmp(at + strlen(where), "run", 3);
}

static void resolve_source(struct embedder *s, struct embedder *d)
{
	if (s->resolved) {
		/* he has spoken */
	} else if (runs_at(SIM_DESTINATION)) {
		s->resolve = told(s, true);
	} else if (decided(d) || !are_a_pair()) { /* whoever is there now, it is not the session that was to get the guest */
		s->resolve = told(s, false);
	} else if (d->doubt && !d->resolved) {
		if (sim_one_in(4))
			embedder_crash(SIM_SOURCE, false);
		else
			d->resolve = 0;
	}
}

static void resolve_destination(struct embedder *s, struct embedder *d)
{
	if (d->resolved)
		return;
	if (runs_at(SIM_SOURCE)) {
		d->resolve = told(d, true);
	} else if (!s->up || !are_a_pair()) {
		guest.disks[SIM_SOURCE] &= guest.lineage[0] != guest.lineage[1]; /* what is left of it there he ends first */
		d->resolve = told(d, false);
	}
}

/* Nobody is needed: both sides have all they had, and reach each other again; or whoever listens there now remembers how it ended. */
static bool ends_by_itself(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];

	if (!embedder_habits.alone || !s->up || !d->up || s->resume_failed || d->resume_failed)
		return false;
	return s->doubt ? d->knows & 1u << s->migration : s->migration == d->migration;
}

void operator_looks(void)
{
	struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];
	bool source = s->up && s->doubt, destination = d->up && d->doubt;

	if (ends_by_itself())
		return;
	if (!source && !destination) {
		doubt_since = 0;
	} else if (!doubt_since) {
		doubt_since = sim_now;
		faults_last_until(sim_now + embedder_habits.patience_ns);
	} else if (sim_now - doubt_since > embedder_habits.patience_ns) {
		if (source)
			resolve_source(s, d);
		else
			resolve_destination(s, d);
	}
}

/* May the guest that died at the source be started from its disks? Not where it runs at the destination or may still come to: it was given
 * the guest and has not lost it, nor is it waiting to be told. */
static bool may_start_it_again(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];
	bool given = promises_was_given(s->migration, SIM_SOURCE, MESSAGE_GO);

	if (guest.running[SIM_DESTINATION] || d->resolve >= 0 || d->resolved)
		return false;
	return !given || d->migration != s->migration || !d->up || (d->doubt && sim_now - d->doubt_at > SIM_S / 2);
}

void operator_restarts(enum sim_side side)
{
	sim_trace("%s: it is started again and knows nothing", side == SIM_SOURCE ? "source" : "destination");
	wires_host_back(side);
	if (side == SIM_SOURCE) {
		while (!guest.idle)
			fiber_sleep(US);
		disk_attempt();
		guest_start_another(sim_one_in(2) && may_start_it_again());
	}
	embedder_start(side);
}
