/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* promises.c: see promises.h. */
#include "tests/sim/promises.h"

#include <errno.h>
#include <string.h>

#include "core/decide/message.h"
#include "core/run/session.h"
#include "tests/sim/embedder.h"
#include "tests/sim/guest.h"
#include "tests/sim/laws.h"

/* What became of each kind of word, bit by bit; [migration][side that did it]. */
static struct {
	uint32_t given, written, read;
	uint32_t last;     /* word that was read */
	uint32_t round;    /* that SWITCHOVER named: the attempt */
	bool tells, alone; /* dials though it is over; and nobody listens there */
	bool never_went;   /* it dials again, and NEVER was said to it before */
	uint32_t dials;
	uint64_t dialled_at;
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

bool promises_never_went(uint32_t migration)
{
	return words[migration][SIM_SOURCE].never_went;
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

bool promises_numbered(uint32_t type)
{
	switch (type) {
	case MESSAGE_LANDED:
	case MESSAGE_SWITCHOVER:
	case MESSAGE_READY:
	case MESSAGE_GO:
	case MESSAGE_RUNNING:
	case MESSAGE_NEVER: return true;
	default: return false;
	}
}

static uint32_t attempt_of(uint32_t migration)
{
	return words[migration][SIM_SOURCE].round;
}

/* Who has not heard of an attempt can only say that it never will be. */
static void must_be_of_attempt(uint32_t migration, uint32_t type, uint32_t number)
{
	bool heard = promises_was_given(migration, SIM_DESTINATION, MESSAGE_READY);

	if (!promises_numbered(type) || type == MESSAGE_LANDED || type == MESSAGE_SWITCHOVER || number == attempt_of(migration))
		return;
	if (type != MESSAGE_NEVER || number || heard)
		sim_violation("Law 7: %s is said of attempt %u, and it is number %u", message_name(type), number,
			      attempt_of(migration));
}

/* A destination's word may also be a later session's, about one that is over. */
void promises_written(uint32_t migration, enum sim_side by, uint32_t type, uint32_t number)
{
	bool runs = guest.running[SIM_DESTINATION] && embedders[SIM_DESTINATION].ran == migration;

	words[migration][by].written |= BIT(type);
	if (by == SIM_SOURCE && type == MESSAGE_SWITCHOVER)
		words[migration][by].round = number;
	must_be_of_attempt(migration, type, number);
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

static bool orders(const struct actions *out, enum action_type type, uint32_t what)
{
	for (uint32_t i = 0; i < out->n; i++) {
		const struct action *a = &out->list[i];
		if (a->type == type && what == (type == ACTION_REQUEST ? a->request
						: type == ACTION_SEND  ? a->message_type
								       : a->phase))
			return true;
	}
	return false;
}

/* The number of a word that was taken, and which it should have. */
bool promises_wrong(enum sim_side by, const struct message *m)
{
	uint32_t attempt = attempt_of(embedders[by].migration);

	switch (m->type) {
	case MESSAGE_READY:
	case MESSAGE_GO:
	case MESSAGE_RUNNING: return m->u.handoff.attempt != attempt;
	case MESSAGE_SWITCHOVER: return m->u.switchover.round != attempt;
	case MESSAGE_NEVER: return m->u.word.attempt != attempt;
	default: return false;
	}
}

void promises_taken(enum sim_side by, const struct input *in, const struct actions *out, bool current, bool gives_up)
{
	const struct message *m = in->message;
	uint32_t migration = embedders[by].migration;

	if (in->type != INPUT_MESSAGE)
		return;
	const struct sluice *s = embedders[by].session;
	/* That a greeting came damaged, say, is no word about the session. */
	bool of_session = m->type != MESSAGE_REFUSE || m->u.word.code == -ENOENT || m->u.word.code == -EBUSY;
	if (current && of_session && m->type != MESSAGE_HEARTBEAT && m->type != MESSAGE_EMBEDDER)
		words[migration][by].last = m->type;
	if (by == SIM_SOURCE && m->type == MESSAGE_LANDED && !gives_up &&
	    (m->u.landed.n != s->welcome.streams || m->u.landed.round > s->decide.source.round))
		sim_violation("Law 7: LANDED speaks of %u streams and round %u, and the source goes on", m->u.landed.n,
			      m->u.landed.round);
	if (!promises_wrong(by, m))
		return;
	bool given = promises_was_given(migration, SIM_SOURCE, MESSAGE_GO);
	if (orders(out, ACTION_SEND, MESSAGE_GO) || orders(out, ACTION_REQUEST, SLUICE_RELEASE) ||
	    orders(out, ACTION_REQUEST, SLUICE_ACQUIRE) || orders(out, ACTION_REQUEST, SLUICE_LOAD) ||
	    orders(out, ACTION_PHASE, SLUICE_COMPLETED) || (given && orders(out, ACTION_REQUEST, SLUICE_RESUME)))
		sim_violation("Law 7: the %s acts upon %s of another attempt", embedder_names[by], message_name(m->type));
}

void promises_dials(uint32_t migration)
{
	enum sluice_phase phase = embedders[SIM_SOURCE].phase;
	uint32_t last = words[migration][SIM_SOURCE].last;

	/* The second time at once; from then on it rests. */
	enum { REST_MS = 250 };
	uint64_t rested = sim_now - words[migration][SIM_SOURCE].dialled_at;
	if (++words[migration][SIM_SOURCE].dials > 2 && rested < REST_MS * SIM_MS && !embedders[SIM_SOURCE].resolved)
		sim_violation("Law 6: the source dials for the %uth time, %lu ms after the last",
			      words[migration][SIM_SOURCE].dials, rested / SIM_MS);
	words[migration][SIM_SOURCE].dialled_at = sim_now;
	words[migration][SIM_SOURCE].never_went |= promises_was_written(migration, SIM_DESTINATION, MESSAGE_NEVER);
	words[migration][SIM_SOURCE].tells = phase == SLUICE_FAILED || phase == SLUICE_CANCELLED;
	if (!words[migration][SIM_SOURCE].tells ||
	    embedders[SIM_SOURCE].resolved) /* what came after an operator's word is late */
		return;
	if (last == MESSAGE_REFUSE || last == MESSAGE_NEVER || last == MESSAGE_CANCEL || words[migration][SIM_SOURCE].alone)
		sim_violation("Law 6: the source is over and dials again, and %s",
			      words[migration][SIM_SOURCE].alone ? "nobody listens there" : "there is nobody to tell");
}

void promises_nobody_there(uint32_t migration)
{
	words[migration][SIM_SOURCE].alone = words[migration][SIM_SOURCE].tells;
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
	/* It says that the guest is here. */
	if (over && s->resolved && s->let_go && !s->resume_failed && !guest.running[SIM_SOURCE])
		sim_violation("Law 5: the operator lets the guest go, and the source says %s", sluice_phase_name(phase));
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
