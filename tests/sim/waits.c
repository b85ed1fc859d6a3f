/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* waits.c: see waits.h. */
#include "tests/sim/waits.h"

#include "core/decide/destination.h"
#include "core/decide/source.h"
#include "tests/sim/embedder.h"

/* A dial has a deadline of its own; a link that carries is watched by heartbeats; the rest is for the embedder or an operator to end. */
static bool may_last(enum source_state state)
{
	return state == SOURCE_NEW || state == SOURCE_DIALLING || state == SOURCE_REDIALLING || state == SOURCE_LINGERING ||
	       state == SOURCE_ENDED;
}

static bool may_last_there(enum destination_state state)
{
	return state == DESTINATION_NEW || state == DESTINATION_LISTENING || state == DESTINATION_ACTIVE ||
	       state == DESTINATION_LINGERING || state == DESTINATION_DOUBT || state == DESTINATION_ENDED;
}

/* Twice a callback's time and the slack for the other side's, or what is remembered: nothing is waited for longer. */
static void check(const char *side, const struct deadline *deadline, bool may)
{
	const uint64_t *param = embedder_habits.param;
	uint64_t most = 2 * param[SLUICE_CALLBACK_MS] + SLACK_MS + param[SLUICE_REMEMBER_MS] + param[SLUICE_DEAD_PEER_MS] +
			param[SLUICE_CONNECT_MS];

	if (deadline->at_ns == NEVER_NS ? !may : deadline->at_ns > sim_now + most * SIM_MS)
		sim_violation("Law 6: the %s waits without end, for %s", side, deadline->what);
}

void waits_source(const struct source *source)
{
	check("source", &source->deadline, may_last(source->state));
}

void waits_destination(const struct destination *destination)
{
	check("destination", &destination->deadline, may_last_there(destination->state));
}
