/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* heed.c: see heed.h. */
#include "tests/sim/heed.h"

#include <errno.h>
#include <string.h>

#include "core/run/session.h"
#include "tests/sim/embedder.h"
#include "tests/sim/knobs.h"
#include "tests/sim/promises.h"
#include "tests/sim/wire.h"
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
	bool ready = promises_was_given(migration, SIM_DESTINATION, MESSAGE_READY);

	if (ready && !promises_was_read(migration, SIM_DESTINATION, MESSAGE_GO) && !embedders[SIM_DESTINATION].resolved &&
	    !says(actions, MESSAGE_NEVER) && !says(actions, MESSAGE_READY))
		sim_violation("Law 5: the source comes back, and READY is not said again");
	for (int i = 0; i < 2; i++)
		if (promises_was_given(migration, SIM_DESTINATION, words[i]) && !says(actions, words[i]))
			sim_violation("Law 5: the source comes back, and %s is not said again", message_name(words[i]));
}

static struct {
	uint64_t stream_lost_at; /* and that matters; 0: no */
	uint32_t go_on;          /* the link by which GO was given */
	uint64_t done_at;        /* DONE was taken: what follows is only talk */
} heeds[2];

void heed_begin(enum sim_side side)
{
	memset(&heeds[side], 0, sizeof heeds[side]);
}

#define ENDLESS "a frame that does not end" /* core/run/link.c */

/* What a link is given up for must be so. */
static void check_link_lost(enum sim_side side, const struct input *in)
{
	const uint64_t *dead_ms = embedder_habits.dead_peer_ms;

	if (side == SIM_DESTINATION && in->code == -ETIMEDOUT && !embedders[side].migration)
		sim_violation("Law 9: somebody came, said nothing, and the destination waits for no source any more");
	/* A link that stands still within a frame, while streams go on, looks like one whose length was damaged. */
	if (in->code == -EPROTO && !wires_wrong((enum sim_side) !side) &&
	    !(strstr(in->text, ENDLESS) && wires_held_back((enum sim_side) !side)))
		sim_violation("Law 7: the %s gives its link up as damaged, and nothing was wrong with it: %s",
			      embedder_names[side], in->text);
	/* What a stream brings shows with the next look, ten times a second, and when all of a batch is there. */
	if (in->code == -ETIMEDOUT && side == SIM_DESTINATION && wires_still_for(side) < dead_ms[side] / 4 * SIM_MS)
		sim_violation("Law 6: the destination takes the source for dead, of which a stream has brought pages %lu ms ago",
			      wires_still_for(side) / SIM_MS);
}

/* The next source waits for the next session, which this one would turn it away from. */
void heed_let_in(void)
{
	enum { LATE_MS = 400 };
	const struct sluice *s = world_session(SIM_DESTINATION);
	uint64_t done_at = heeds[SIM_DESTINATION].done_at;

	if (s && done_at && s->decide.destination.state == DESTINATION_LINGERING && sim_now > done_at + LATE_MS * SIM_MS)
		sim_violation("Law 9: the destination is done, and lets somebody in whom it can only turn away");
}

/* As long as something is on its way by streams. */
static bool needs_streams(enum sim_side side)
{
	const struct sluice *s = world_session(side);

	if (side == SIM_SOURCE)
		return s->decide.source.state >= SOURCE_GATHERING && s->decide.source.state < SOURCE_WAIT_READY;
	return s->decide.destination.state >= DESTINATION_GATHERING && s->decide.destination.state < DESTINATION_LOADING;
}

static void check_go(const struct actions *actions)
{
	uint32_t link = world_session(SIM_SOURCE)->decide.source.dials;

	if (!says(actions, MESSAGE_GO))
		return;
	if (heeds[SIM_SOURCE].go_on == link)
		sim_violation("Law 5: GO is given twice on one link");
	heeds[SIM_SOURCE].go_on = link;
}

void heed_step(enum sim_side side, const struct input *in, const struct actions *actions, bool cancellable,
	       enum sluice_phase phase)
{
	if (in->type == INPUT_LINK_LOST)
		check_link_lost(side, in);
	if (in->type == INPUT_STREAM_LOST && needs_streams(side) && !heeds[side].stream_lost_at)
		heeds[side].stream_lost_at = in->now_ns;
	if (side == SIM_DESTINATION && in->type == INPUT_MESSAGE && in->message->type == MESSAGE_DONE && actions->n)
		heeds[side].done_at = in->now_ns;
	if (side == SIM_SOURCE)
		check_go(actions);
	/* What was written since may be in the log still. */
	if (side == SIM_SOURCE && in->type == INPUT_SYNCED && in->code && cancellable &&
	    world_session(side)->decide.source.state < SOURCE_GIVING_UP)
		sim_violation("Law 3: a sync has failed (%d), and the source goes on", in->code);
	if (in->type == INPUT_CANCEL && cancellable && phase != SLUICE_CANCELLING && phase != SLUICE_CANCELLED)
		sim_violation("Law 9: the %s is cancelled in time, and is %s", embedder_names[side], sluice_phase_name(phase));
	if (in->type == INPUT_LINK_BACK && side == SIM_DESTINATION && actions->n)
		repeats_last_word(actions);
}

/* The other side may be about to say why. */
static void check_streams(enum sim_side side)
{
	enum { LATE_MS = 300 };
	uint64_t since = heeds[side].stream_lost_at;

	if (since && world_session(side) && !embedders[side].ended && needs_streams(side) &&
	    sim_now > since + (STREAM_LOSS_MS + LATE_MS) * SIM_MS)
		sim_violation("Law 6: the %s has known for %lu ms that a stream is lost, and goes on", embedder_names[side],
			      (sim_now - since) / SIM_MS);
}

/* A migration does not last longer than it may. */
void heed_look(void)
{
	enum { LATE_MS = 300 };
	const struct sluice *s = world_session(SIM_SOURCE);
	uint64_t timeout_ms = embedder_habits.param[SLUICE_TIMEOUT_MS], changed_at = knobs_changed_at(SLUICE_TIMEOUT_MS);

	check_streams(SIM_SOURCE);
	check_streams(SIM_DESTINATION);
	if (!s)
		return;
	const struct source *d = &s->decide.source;
	if (d->tell_until_ns && d->state != SOURCE_ENDED && sim_now > d->tell_until_ns + LATE_MS * SIM_MS)
		sim_violation("Law 6: the source was to let the destination know for so long, and tries on for %lu ms",
			      (sim_now - d->tell_until_ns) / SIM_MS);
	if (!timeout_ms)
		return;
	if (d->state != SOURCE_NEW && source_cancellable(d) && sim_now > d->started_ns + (timeout_ms + LATE_MS) * SIM_MS &&
	    sim_now > changed_at + LATE_MS * SIM_MS)
		sim_violation("Law 6: the migration may last %lu ms, and goes on for %lu", timeout_ms,
			      (sim_now - d->started_ns) / SIM_MS);
}
