/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* heed.c: see heed.h. */
#include "tests/sim/heed.h"

#include "core/run/session.h"
#include "tests/sim/embedder.h"
#include "tests/sim/promises.h"
#include "tests/sim/world.h"

static bool says(const struct actions *actions, enum message_type type)
{
	for (uint32_t i = 0; i < actions->n; i++)
		if (actions->list[i].type == ACTION_SEND && actions->list[i].message_type == type)
			return true;
	return false;
}

/* Whoever comes back is told the last word again (docs/protocol.md, A later link). */
static void repeats_last_word(const struct actions *actions)
{
	static const enum message_type words[] = { MESSAGE_RUNNING, MESSAGE_NEVER };
	uint32_t migration = embedders[SIM_DESTINATION].migration;

	for (int i = 0; i < 2; i++)
		if (promises_was_given(migration, SIM_DESTINATION, words[i]) && !says(actions, words[i]))
			sim_violation("Law 5: the source comes back, and %s is not said again", message_name(words[i]));
}

void heed_step(enum sim_side side, const struct input *in, const struct actions *actions, bool cancellable,
	       enum sluice_phase phase)
{
	if (in->type == INPUT_CANCEL && cancellable && phase != SLUICE_CANCELLING && phase != SLUICE_CANCELLED)
		sim_violation("Law 9: the %s is cancelled in time, and is %s", embedder_names[side], sluice_phase_name(phase));
	if (in->type == INPUT_LINK_BACK && side == SIM_DESTINATION && actions->n)
		repeats_last_word(actions);
}

/* A migration does not last longer than it may. */
void heed_look(void)
{
	enum { LATE_MS = 300 };
	const struct sluice *s = world_session(SIM_SOURCE);
	uint64_t timeout_ms = embedder_habits.param[SLUICE_TIMEOUT_MS];

	if (!s || !timeout_ms)
		return;
	const struct source *d = &s->decide.source;
	if (d->state != SOURCE_NEW && source_cancellable(d) && sim_now > d->started_ns + (timeout_ms + LATE_MS) * SIM_MS)
		sim_violation("Law 6: the migration may last %lu ms, and goes on for %lu", timeout_ms,
			      (sim_now - d->started_ns) / SIM_MS);
}
