/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* still.c: see still.h. What embedders take to answer is their own affair, and so is a hold. All else of a stop is bounded: what the wire
 * and the tracker may take, by the downtime limit; what a destination may that has all, by its heartbeats. */
#include "tests/sim/still.h"

#include "core/run/session.h"
#include "tests/sim/contracts.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/guest.h"
#include "tests/sim/knobs.h"
#include "tests/sim/promises.h"

/* Twice the limit and 3 s, it says (architecture.md); time is looked at ten times a second, and loops and threads may be late. */
enum { PATIENCE_MS = 3000, LATE_MS = 700, LOAD_SLACK_MS = 5000, LAST_ROUNDS = 1 + 4, FOREVER_MS = 1000000 };

static struct {
	uint64_t seen_at;
	uint64_t wire_ns, other_ns;          /* it stood still for these */
	uint64_t asked_at, held_at, held_ns; /* to stop; to wait, 0: not now; so long */
	uint32_t last_rounds;
} stop;

void still_begin(void)
{
	stop.wire_ns = stop.other_ns = 0;
	stop.seen_at = sim_now;
}

static bool answers(const struct answer *a, uint64_t most_ms)
{
	return a->due && sim_now - a->since < (most_ms + LATE_MS) * SIM_MS;
}

/* It is for somebody else to go on. A request that is given up is waited for once more, before the guest may be resumed. */
static bool waits_for_embedders(const struct embedder *e)
{
	uint64_t callback_ms = knobs_most(SLUICE_CALLBACK_MS, FOREVER_MS);
	const struct embedder *d = &embedders[SIM_DESTINATION];

	for (int r = 1; r <= SLUICE_RESUME; r++)
		if (answers(&e->answers[r], 2 * callback_ms))
			return true;
	return answers(&d->answers[SLUICE_LOAD], callback_ms + LOAD_SLACK_MS) ||
	       (stop.held_at && sim_now - stop.held_at < (callback_ms + LATE_MS) * SIM_MS);
}

void still_look(void)
{
	const struct embedder *e = &embedders[SIM_SOURCE];
	const uint64_t *param = embedder_habits.param, limit_ms = knobs_most(SLUICE_DOWNTIME_LIMIT_MS, FOREVER_MS);
	uint64_t passed = sim_now - stop.seen_at;

	stop.seen_at = sim_now;
	/* Who is over has given it up: a resume that takes too long is for the embedder to see to. */
	bool over = !e->session || e->phase == SLUICE_FAILED || e->phase == SLUICE_CANCELLED;
	if (over || guest.running[SIM_SOURCE] || guest.lost || promises_was_given(e->migration, SIM_SOURCE, MESSAGE_GO)) {
		stop.wire_ns = stop.other_ns = 0;
		return;
	}
	if (waits_for_embedders(e))
		return;
	const struct source *s = &e->session->decide.source;
	bool sending = s->state < SOURCE_WAIT_READY || (s->state == SOURCE_WAIT_READY && s->landed < s->round);
	*(sending ? &stop.wire_ns : &stop.other_ns) += passed;
	/* A report of what landed may be a lie: then a destination that has all, by its word, gets the time that its embedder may take. */
	uint64_t lied_ms =
		faults_struck() & 1ull << FAULT_OLD_LINK ? knobs_most(SLUICE_CALLBACK_MS, FOREVER_MS) + LOAD_SLACK_MS : 0;
	if (stop.wire_ns > (2 * limit_ms + PATIENCE_MS + LATE_MS) * SIM_MS ||
	    stop.other_ns > (3 * param[SLUICE_DEAD_PEER_MS] + LATE_MS + lied_ms) * SIM_MS)
		sim_violation("Law 9: the guest stands still for %lu ms, and nobody asked for that; the downtime limit is %lu ms",
			      (stop.wire_ns + stop.other_ns) / SIM_MS, limit_ms);
}

/* The downtime guard, where all that is dirty is known: what will not fit the limit is not gone on with, unless nothing is left to send;
 * and what fits is. A hold is somebody's wish, and device state is part of it. */
static void check_guard(const struct source *source, const struct input *in, bool goes_on)
{
	enum { TAIL_MS = 2 }; /* core/decide/converge.c */
	double stood_ms = (double)(in->now_ns - stop.asked_at - stop.held_ns) / SIM_MS,
	       save_ms = (double)(source->saved_ns - source->continued_ns) / SIM_MS,
	       expected_ms =
		       stood_ms + save_ms + TAIL_MS + converge_pages_ms(&source->converge, in->remaining, source->state_bytes);
	bool fits = expected_ms <= (double)in->params.downtime_limit_ms + (goes_on ? 0.01 : -0.01);

	if (in->remaining && fits != goes_on)
		sim_violation("Law 9: the guest has stood still for %.1f ms of %lu, %.1f are expected with the %lu pages that "
			      "are to go, "
			      "and it is %s",
			      stood_ms, in->params.downtime_limit_ms, expected_ms, in->remaining,
			      goes_on ? "gone on with" : "resumed");
}

/* The last thing on the wire before a guest is stopped would keep it waiting. */
static void check_wire_empty(const struct source *source)
{
	bool lied = faults_struck() & (1ull << FAULT_OLD_LINK | 1ull << FAULT_DOUBLE_LINK);

	if (!lied && !contracts_has_landed(source->round))
		sim_violation("Law 9: the guest is to stop, and round %u has not landed yet", source->round);
}

void still_step(const struct source *source, const struct input *in, const struct actions *out)
{
	if (stop.held_at && source->state != SOURCE_HOLDING) {
		stop.held_ns += in->now_ns - stop.held_at;
		stop.held_at = 0;
	}
	if (!stop.held_at && source->state == SOURCE_HOLDING)
		stop.held_at = in->now_ns;
	for (uint32_t i = 0; i < out->n; i++) {
		const struct action *a = &out->list[i];
		if (a->type == ACTION_REQUEST && a->request == SLUICE_RESUME && source->state == SOURCE_TURNING_BACK &&
		    in->type == INPUT_SYNCED)
			check_guard(source, in, false);
		if (a->type == ACTION_REQUEST && a->request == SLUICE_PAUSE) {
			check_wire_empty(source);
			stop.asked_at = in->now_ns;
			stop.held_ns = stop.last_rounds = 0;
		}
		if (a->type != ACTION_ROUND || !a->last)
			continue;
		if (++stop.last_rounds == 1)
			check_guard(source, in, true);
		if (stop.last_rounds > LAST_ROUNDS)
			sim_violation("Law 9: the guest stands still for its last round number %u", stop.last_rounds);
	}
}
