/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* answers.c: see answers.h. */
#include "tests/sim/answers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/run/session.h"
#include "tests/sim/coverage.h"
#include "tests/sim/disk.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/knobs.h"
#include "tests/sim/promises.h"

static const char *const requests[] = { "", "incoming", "pause", "save", "release", "load", "acquire", "resume" };
static unsigned char state_data[GUEST_STATE];

void answers_given_up(struct embedder *e, struct answer *a)
{
	if (a->due && a->hangs)
		coverage_met_request(e->side, &a->asked_at, FAULT_CALLBACK_HANGS);
	a->due = false;
}

/* A destination may say more than a code does. */
static void say_why(struct embedder *e, int code)
{
	e->because[0] = 0;
	if (!code || e->side != SIM_DESTINATION || sim_one_in(2))
		return;
	snprintf(e->because, sizeof e->because, "its disk %u is another guest's", (uint32_t)sim_below(1000));
	sluice_refuse_because(e->session, e->because);
}

void answers_asked(struct embedder *e, enum sluice_request r)
{
	enum { LATE_MS = 100, SOON_MS = 1000 };
	struct answer *a = &e->answers[r];

	if (a->due)
		sim_violation("%s is asked for %s twice", embedder_names[e->side], requests[r]);
	*a = (struct answer){ .due = true, .since = sim_now, .at = sim_now, .asked_at = coverage_asked_at[e->side] };
	a->patience_ms = e->side == SIM_SOURCE ? knobs_least(SLUICE_CALLBACK_MS, SOON_MS) : embedder_habits.callback_ms[e->side];
	const uint64_t *callback_ms = embedder_habits.callback_ms, least_ms = callback_ms[callback_ms[1] < callback_ms[0]];
	bool long_load = false;
	enum fault fault = faults_of_request(e->side);
	if (fault == FAULT_CALLBACK_FAILS || (embedder_habits.fails && sim_one_in(embedder_habits.fails)))
		a->code = sim_one_in(2) ? -EIO : -EROFS;
	say_why(e, a->code);
	if (fault == FAULT_CALLBACK_HANGS || (embedder_habits.hangs && sim_one_in(embedder_habits.hangs)))
		a->at += embedder_habits.slow_ns + sim_spread(SIM_MS, 3 * embedder_habits.param[SLUICE_CALLBACK_MS] * SIM_MS) +
			 (sim_one_in(4) ? 8 * SIM_S : 0);
	else if (r == SLUICE_LOAD && embedder_habits.loads_long && !embedder_habits.turns_knobs)
		long_load = true, a->at += sim_below(least_ms * SIM_MS / 2);
	else if (!sim_one_in(3))
		a->at += sim_spread(embedder_habits.quick_ns, embedder_habits.slow_ns);
	if (a->code && e->side == SIM_DESTINATION && r >= SLUICE_ACQUIRE)
		e->may_drop = true;
	a->hangs = a->at > sim_now + embedder_habits.slow_ns && !long_load;
	if (r == SLUICE_INCOMING_GUEST && guest.running[SIM_DESTINATION]) /* one is here already */
		a->code = -EEXIST;
	faults_last_until(a->at);
	sim_trace("%s is asked: %s%s", embedder_names[e->side], requests[r], a->code ? " (will fail)" : "");
	for (int i = 1; i < SLUICE_RESUME && r == SLUICE_RESUME; i++) { /* whatever else was under way is given up */
		struct answer *other = &e->answers[i];
		/* But a guest is not resumed while it is being saved, say: the answer is waited for as long as any that is asked for now. */
		uint64_t passed_ms = (sim_now - other->since) / SIM_MS, ms = other->patience_ms;
		if (e->side == SIM_SOURCE)
			ms = knobs_least(SLUICE_CALLBACK_MS, passed_ms + SOON_MS);
		other->patience_ms = ms < other->patience_ms ? ms : other->patience_ms;
		if (other->due && sim_now + LATE_MS * SIM_MS < other->since + other->patience_ms * SIM_MS)
			sim_violation("Law 9: the %s is asked to resume while %s is under way", embedder_names[e->side],
				      requests[i]);
		answers_given_up(e, other);
	}
	if (a->at == sim_now)
		answers_give(e, r);
}

static void save_sections(struct embedder *e)
{
	guest.final_stamp++;
	memset(state_data, (int)(guest.final_stamp & 0xff), embedder_habits.section_bytes);
	guest.final_sections = embedder_habits.sections ? (uint32_t)sim_below(embedder_habits.sections + 1) : 0;
	for (uint32_t i = 0; i < guest.final_sections; i++) {
		char name[16];
		snprintf(name, sizeof name, "dev%u", i);
		guest.final_length[i] = (uint32_t)sim_below(embedder_habits.section_bytes + 1);
		struct sluice_section section = {
			.name = name, .version = i + 1, .data = state_data, .length = guest.final_length[i]
		};
		if (sluice_save_section(e->session, &section))
			sim_violation("a section of %u bytes is refused", guest.final_length[i]);
	}
	/* Saving a device may write its rings. */
	for (uint64_t n = sim_below(3); n; n--)
		guest_write(true);
}

/* At most one side holds the disks of a guest. */
static void take_disks(enum sim_side side)
{
	if (guest.disks[!side] && guest.lineage[0] == guest.lineage[1])
		sim_violation("Law 5: the %s takes the disks while the other side holds them", embedder_names[side]);
	guest.disks[side] = true;
}

static void runs(struct embedder *e)
{
	if (e->side == SIM_SOURCE) {
		take_disks(e->side); /* back */
		/* Where the guest was to be resumed before that was decided, letting it go comes behind. */
		const struct source *s = &e->session->decide.source;
		if (guest.throttle && s->throttle && s->state >= SOURCE_GIVING_UP)
			sim_violation("Law 9: the migration is given up, and the guest is resumed slowed down by %u %%",
				      guest.throttle);
		e->did = 0;
		guest.lost = false;
	} else {
		e->ran = e->migration;
	}
	promises_guest_runs(e->side);
	if (e->side == SIM_SOURCE)
		disk_resumed();
	guest.running[e->side] = true;
	sim_trace("%s: the guest runs", embedder_names[e->side]);
}

int answers_take_effect(struct embedder *e, enum sluice_request r, int code)
{
	switch (r) {
	case SLUICE_PAUSE:
		while (guest.writing)
			fiber_sleep(US);
		if (!code) {
			guest.running[SIM_SOURCE] = false;
			e->pauses++;
			disk_stopped();
			sim_trace("source: the guest stands still");
		}
		break;
	case SLUICE_SAVE:
		disk_saved();
		if (!code)
			save_sections(e);
		break;
	case SLUICE_RESUME:
		e->resume_failed = code;
		guest.lost |= code && (e->side == SIM_SOURCE || e->resolved);
		if (!code)
			runs(e);
		else if (e->side == SIM_DESTINATION) /* before it says so: the source is told at once that it may run */
			guest.disks[SIM_DESTINATION] = false;
		break;
	case SLUICE_RELEASE: guest.disks[SIM_SOURCE] &= code != 0; break;
	case SLUICE_ACQUIRE:
		if (!code)
			take_disks(SIM_DESTINATION);
		else if (e->resolved) /* no disks, no guest: its operator is told */
			e->resume_failed = guest.lost = true;
		break;
	default: break;
	}
	return code;
}

void answers_give(struct embedder *e, enum sluice_request r)
{
	struct answer *a = &e->answers[r];
	int code = answers_take_effect(e, r, a->code);
	e->did |= code || r == SLUICE_RESUME ? 0 : 1u << r;

	if (!a->due) /* given up meanwhile */
		return;
	if (code)
		coverage_met_request(e->side, &a->asked_at, FAULT_CALLBACK_FAILS);
	answers_given_up(e, a);
	sim_trace("%s says done: %s %d", embedder_names[e->side], requests[r], code);
	if (sluice_done(e->session, r, code))
		sim_violation("%s: done of %s is not taken", embedder_names[e->side], requests[r]);
}
