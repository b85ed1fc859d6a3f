/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* promises.c: see promises.h. */
#include "tests/sim/promises.h"

#include <string.h>

#include "core/decide/message.h"
#include "tests/sim/embedder.h"
#include "tests/sim/guest.h"
#include "tests/sim/laws.h"

/* What became of each kind of word, bit by bit; [migration][side that did it]. */
static struct {
	uint32_t given, written, read;
} words[PROMISES_MIGRATIONS][2];
static uint32_t n_migrations;

#define BIT(x) (1u << (x))

void promises_reset(void)
{
	memset(words, 0, sizeof words);
	n_migrations = 0;
}

uint32_t promises_begin(void)
{
	if (++n_migrations == PROMISES_MIGRATIONS)
		sim_violation("more than %d migrations were begun", PROMISES_MIGRATIONS);
	return n_migrations;
}

bool promises_was_given(uint32_t migration, enum sim_side by, uint32_t type)
{
	return words[migration][by].given & BIT(type);
}

bool promises_was_read(uint32_t migration, enum sim_side by, uint32_t type)
{
	return words[migration][by].read & BIT(type);
}

bool promises_was_written(uint32_t migration, enum sim_side by, uint32_t type)
{
	return words[migration][by].written & BIT(type);
}

/* Nothing is promised that the embedder has not done. */
static void must_have(enum sim_side side, enum sluice_request request, const char *what)
{
	if (!(embedders[side].did & BIT(request)))
		sim_violation("Law 5: %s", what);
}

/* ---------------------------------------------------------------- words */

void promises_given(uint32_t migration, enum sim_side by, uint32_t type)
{
	words[migration][by].given |= BIT(type);
	if (by == SIM_SOURCE && (type == MESSAGE_SWITCHOVER || type == MESSAGE_GO) && guest.running[SIM_SOURCE])
		sim_violation("Law 5: %s is sent while the source runs its guest", message_name(type));
	if (by == SIM_SOURCE && type == MESSAGE_GO)
		must_have(by, SLUICE_RELEASE, "GO is sent and the disks were not released");
	if (by == SIM_SOURCE && type == MESSAGE_GO && !promises_was_read(migration, by, MESSAGE_READY))
		sim_violation("Law 5: GO is sent and the destination has not said READY");
	if (by == SIM_SOURCE && type == MESSAGE_SWITCHOVER)
		must_have(by, SLUICE_SAVE, "SWITCHOVER is sent and device state was not saved");
	if (by == SIM_DESTINATION && type == MESSAGE_READY)
		must_have(by, SLUICE_LOAD, "READY is sent and device state was not loaded");
}

/* A destination's word may also be a later session's, about one that is over. */
void promises_written(uint32_t migration, enum sim_side by, uint32_t type)
{
	bool runs = guest.running[SIM_DESTINATION] && embedders[SIM_DESTINATION].ran == migration;

	words[migration][by].written |= BIT(type);
	if (by == SIM_DESTINATION && type == MESSAGE_RUNNING && !runs)
		sim_violation("Law 5: the destination says RUNNING and its guest does not run");
	if (by == SIM_DESTINATION && type == MESSAGE_NEVER && runs)
		sim_violation("Law 5: the destination says NEVER and its guest runs");
	if (by == SIM_SOURCE && type == MESSAGE_CANCEL && promises_was_written(migration, by, MESSAGE_SWITCHOVER) &&
	    !guest.running[SIM_SOURCE])
		sim_violation("Law 5: the source makes the destination destroy its copy, and its own guest stands still");
	if (by == SIM_SOURCE && type == MESSAGE_DONE && !promises_was_read(migration, by, MESSAGE_RUNNING))
		sim_violation("Law 5: the source says DONE and the destination has not said RUNNING");
}

void promises_read(uint32_t migration, enum sim_side by, uint32_t type)
{
	words[migration][by].read |= BIT(type);
}

/* ---------------------------------------------------------------- deeds */

static void source_runs(uint32_t migration)
{
	if (promises_was_given(migration, SIM_SOURCE, MESSAGE_GO) && !promises_was_read(migration, SIM_SOURCE, MESSAGE_NEVER) &&
	    !embedders[SIM_SOURCE].resolved)
		sim_violation("Law 5: the source runs its guest after GO, without NEVER and without an operator's word");
}

static void destination_runs(uint32_t migration)
{
	if (!promises_was_read(migration, SIM_DESTINATION, MESSAGE_GO) && !embedders[SIM_DESTINATION].resolved)
		sim_violation("Law 5: the destination runs the guest without GO and without an operator's word");
	if (!promises_was_given(migration, SIM_DESTINATION, MESSAGE_READY))
		sim_violation("Law 5: the destination runs the guest and has not said READY");
	must_have(SIM_DESTINATION, SLUICE_LOAD, "the destination runs the guest without its device state");
	must_have(SIM_DESTINATION, SLUICE_ACQUIRE, "the destination runs the guest without its disks");
	if (promises_was_written(migration, SIM_DESTINATION, MESSAGE_NEVER))
		sim_violation("Law 5: the destination runs the guest after it said NEVER");
	laws_all_landed("the destination runs the guest");
}

void promises_guest_runs(enum sim_side side)
{
	uint32_t migration = embedders[side].migration;

	if (side == SIM_SOURCE)
		source_runs(migration);
	else
		destination_runs(migration);
	if (guest.running[!side] && guest.lineage[SIM_SOURCE] == guest.lineage[SIM_DESTINATION])
		sim_violation("Law 5: two guests run");
}

static void source_phase(uint32_t migration, enum sluice_phase phase)
{
	const struct embedder *s = &embedders[SIM_SOURCE];
	bool over = phase == SLUICE_CANCELLED || phase == SLUICE_FAILED;

	if (phase == SLUICE_CANCELLED && !guest.running[SIM_SOURCE])
		sim_violation("Law 9: cancelled says that the guest runs, and it stands still");
	if (phase == SLUICE_COMPLETED && !promises_was_read(migration, SIM_SOURCE, MESSAGE_RUNNING) && !s->resolved)
		sim_violation("Law 5: the source has completed without RUNNING");
	if (over && promises_was_given(migration, SIM_SOURCE, MESSAGE_GO) &&
	    !promises_was_read(migration, SIM_SOURCE, MESSAGE_NEVER) && !s->resolved)
		sim_violation("Law 5: the source says %s after GO", sluice_phase_name(phase));
}

static void destination_phase(uint32_t migration, enum sluice_phase phase)
{
	const struct embedder *d = &embedders[SIM_DESTINATION];
	bool over = phase == SLUICE_CANCELLED || phase == SLUICE_FAILED;
	bool go = promises_was_read(migration, SIM_DESTINATION, MESSAGE_GO);

	if (over && promises_was_written(migration, SIM_DESTINATION, MESSAGE_READY) && !go &&
	    !promises_was_read(migration, SIM_DESTINATION, MESSAGE_CANCEL) && !d->resolved)
		sim_violation("Law 5: the destination was ready, and destroys the guest though nobody said so");
	if (over && go && !d->may_drop && !d->resume_failed && !d->resolved)
		sim_violation("Law 5: the destination was given the guest and dropped it");
	if (phase == SLUICE_COMPLETED && !guest.running[SIM_DESTINATION])
		sim_violation("Law 5: the destination has completed, and its guest does not run");
}

void promises_phase(enum sim_side side, enum sluice_phase phase)
{
	if (side == SIM_SOURCE)
		source_phase(embedders[side].migration, phase);
	else
		destination_phase(embedders[side].migration, phase);
}
