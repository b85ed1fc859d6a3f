/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* knobs.c: see knobs.h. */
#include "tests/sim/knobs.h"

#include <string.h>

#include "tests/sim/contracts.h"
#include "tests/sim/embedder.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"

enum { CHANGES = 4, KNOWN_MS = 50 /* from when they are read to the step */, FOREVER_MS = 1000000 };

/* That can be told apart by what the deciding code sees. */
static const enum sluice_param changeable[] = {
	SLUICE_BANDWIDTH,   SLUICE_DOWNTIME_LIMIT_MS,    SLUICE_TIMEOUT_MS,  SLUICE_CALLBACK_MS,     SLUICE_THROTTLE_MAX,
	SLUICE_HOLD,        SLUICE_SWITCHOVER_BANDWIDTH, SLUICE_DRAIN_DEPTH, SLUICE_DRAIN_WINDOW_MS, SLUICE_DRAIN_SHARE,
	SLUICE_DRAIN_TRIES, SLUICE_DRAIN_LIMIT_MS,       SLUICE_DRAIN_FAIL,
};

static struct {
	uint64_t at;
	uint32_t left;
	struct {
		uint64_t until, value;
		enum sluice_param param;
	} was[CHANGES];
	uint32_t n;
	/* Of the limit: what went out that it counts, less what it has allowed since. */
	double level;
	uint64_t level_at, largest;
	uint64_t pause_at; /* the guest was asked to stop; 0: and was held since */
} knobs;

static uint64_t later(void)
{
	return sim_now + sim_spread(SIM_MS, embedder_habits.hard ? 3 * SIM_S : 200 * SIM_MS);
}

void knobs_begin(void)
{
	memset(&knobs, 0, sizeof knobs);
	knobs.left = embedder_habits.turns_knobs ? 1 + (uint32_t)sim_below(CHANGES) : 0;
	knobs.at = knobs.left ? later() : FIBER_FOREVER;
}

uint64_t knobs_due(void)
{
	return knobs.at;
}

static uint64_t choose(enum sluice_param param)
{
	switch (param) {
	case SLUICE_DOWNTIME_LIMIT_MS: return sim_spread(1, 400);
	case SLUICE_THROTTLE_MAX: return sim_below(guest.throttle ? guest.throttle : 100);
	case SLUICE_TIMEOUT_MS: return sim_one_in(2) ? 0 : sim_spread(10, 5000);
	case SLUICE_CALLBACK_MS: return sim_spread(500, 8000);
	case SLUICE_HOLD: return sim_below(2);
	case SLUICE_DRAIN_DEPTH:
	case SLUICE_DRAIN_TRIES: return 1 + sim_below(4);
	case SLUICE_DRAIN_WINDOW_MS: return sim_spread(5, 500);
	case SLUICE_DRAIN_SHARE: return sim_spread(5, 100);
	case SLUICE_DRAIN_LIMIT_MS: return sim_one_in(2) ? 0 : sim_spread(10, 2000);
	case SLUICE_DRAIN_FAIL: return sim_one_in(2) ? SLUICE_DRAIN_FAILS : SLUICE_DRAIN_RETRY;
	default: return sim_one_in(2) ? 0 : sim_spread(1 << 18, 1 << 30);
	}
}

/* The source's own. */
static uint64_t *value_of(enum sluice_param param)
{
	return param == SLUICE_CALLBACK_MS ? &embedder_habits.callback_ms[SIM_SOURCE] : &embedder_habits.param[param];
}

void knobs_turn(struct sluice *session)
{
	const uint64_t *now = embedder_habits.param;
	enum sluice_param param = changeable[sim_below(sizeof changeable / sizeof *changeable)];

	if (sim_one_in(2)) /* where it matters most */
		param = guest.throttle ? SLUICE_THROTTLE_MAX : now[SLUICE_BANDWIDTH] ? SLUICE_BANDWIDTH : param;
	uint64_t value = choose(param);

	knobs.at = --knobs.left ? later() : FIBER_FOREVER;
	knobs.was[knobs.n].param = param;
	knobs.was[knobs.n].value = *value_of(param);
	knobs.was[knobs.n++].until = sim_now;
	*value_of(param) = value;
	if (embedder_habits.param[param] < value) /* of two sides' the longer one */
		embedder_habits.param[param] = value;
	if (param == SLUICE_BANDWIDTH)
		knobs.level = 0; /* nobody pays for what the old one was */
	if (sluice_set(session, param, value))
		sim_violation("parameters: number %d refuses %lu", param, value);
	sim_trace("source: parameter %d is %lu now", param, value);
}

uint64_t knobs_most(enum sluice_param param, uint64_t ms)
{
	uint64_t most = *value_of(param);

	for (uint32_t i = 0; i < knobs.n; i++)
		if (knobs.was[i].param == param && knobs.was[i].value > most && sim_now < knobs.was[i].until + ms * SIM_MS)
			most = knobs.was[i].value;
	return most;
}

uint64_t knobs_least(enum sluice_param param, uint64_t ms)
{
	uint64_t least = *value_of(param);

	for (uint32_t i = 0; i < knobs.n; i++)
		if (knobs.was[i].param == param && knobs.was[i].value < least && sim_now < knobs.was[i].until + ms * SIM_MS)
			least = knobs.was[i].value;
	return least;
}

bool knobs_ever(enum sluice_param param)
{
	return knobs_most(param, FOREVER_MS);
}

uint64_t knobs_changed_at(enum sluice_param param)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < knobs.n; i++)
		at = knobs.was[i].param == param ? knobs.was[i].until : at;
	return at;
}

static void must_know(enum sluice_param param, uint64_t known)
{
	if (known != *value_of(param) && knobs_changed_at(param) + KNOWN_MS * SIM_MS < sim_now)
		sim_violation("parameters: number %d is %lu for the source, and was set to %lu", param, known, *value_of(param));
}

/* A guest is held where that was asked for before it was to stop, and not where nobody asks for it any more. */
static void check_hold(const struct action *a)
{
	bool settled = knobs_changed_at(SLUICE_HOLD) + KNOWN_MS * SIM_MS < sim_now;

	if (a->type == ACTION_PHASE && a->phase == SLUICE_PRE_SWITCHOVER) {
		knobs.pause_at = 0;
		if (settled && !*value_of(SLUICE_HOLD))
			sim_violation("parameters: the guest is held before the switchover, and nobody asks for that");
	}
	if (a->type != ACTION_REQUEST)
		return;
	if (a->request == SLUICE_PAUSE)
		knobs.pause_at = sim_now;
	if (a->request == SLUICE_SAVE && *value_of(SLUICE_HOLD) && knobs.pause_at &&
	    knobs_changed_at(SLUICE_HOLD) + KNOWN_MS * SIM_MS < knobs.pause_at)
		sim_violation("parameters: the guest is to be held before the switchover, and is saved");
}

/* Counted from the beginning of the migration, whenever it was set. */
static void check_timeout(const struct source *source, const struct action *a)
{
	uint64_t passed_ms = (sim_now - source->started_ns) / SIM_MS;
	bool due = false;

	if (a->type != ACTION_ERROR || !strstr(a->text, " as asked, in round "))
		return;
	for (uint32_t i = 0; i <= knobs.n; i++) {
		bool now = i == knobs.n, other = !now && knobs.was[i].param != SLUICE_TIMEOUT_MS;
		uint64_t ms = now ? *value_of(SLUICE_TIMEOUT_MS) : knobs.was[i].value;
		due |= !other && ms && ms <= passed_ms && (now || sim_now < knobs.was[i].until + KNOWN_MS * SIM_MS);
	}
	if (!due)
		sim_violation("parameters: the migration gives up after %lu ms, and may last %lu", passed_ms,
			      *value_of(SLUICE_TIMEOUT_MS));
}

/* What an embedder is asked for has as long as was said by then. */
static void check_request(const struct source *source, const struct input *in, const struct action *a)
{
	uint64_t ms = (source->deadline.at_ns - in->now_ns) / SIM_MS;

	if (a->type == ACTION_REQUEST &&
	    (ms < knobs_least(SLUICE_CALLBACK_MS, KNOWN_MS) || ms > knobs_most(SLUICE_CALLBACK_MS, KNOWN_MS)))
		sim_violation("parameters: an embedder has %lu ms to answer, and %lu are asked for", ms,
			      *value_of(SLUICE_CALLBACK_MS));
}

void knobs_step(const struct source *source, const struct input *in, const struct actions *out)
{
	const struct params *p = &in->params;

	for (uint32_t i = 0; i < out->n; i++) {
		check_hold(&out->list[i]);
		check_timeout(source, &out->list[i]);
		check_request(source, in, &out->list[i]);
	}
	if (!knobs.n)
		return;
	must_know(SLUICE_TIMEOUT_MS, p->timeout_ms);
	must_know(SLUICE_CALLBACK_MS, p->callback_ms);
	must_know(SLUICE_HOLD, p->hold);
	must_know(SLUICE_DRAIN_WINDOW_MS, p->drain.window_ms);
	must_know(SLUICE_DRAIN_SHARE, p->drain.share);
	must_know(SLUICE_DRAIN_TRIES, p->drain.tries);
	must_know(SLUICE_DRAIN_LIMIT_MS, p->drain.limit_ms);
	must_know(SLUICE_DRAIN_FAIL, p->drain.fails ? SLUICE_DRAIN_FAILS : SLUICE_DRAIN_RETRY);
	must_know(SLUICE_DOWNTIME_LIMIT_MS, p->downtime_limit_ms);
	must_know(SLUICE_THROTTLE_MAX, p->throttle_max);
	must_know(SLUICE_SWITCHOVER_BANDWIDTH, p->switchover_bytes_per_s);
	must_know(SLUICE_DRAIN_DEPTH, p->drain.depth);
}

/* ---------------------------------------------------------------- what they limit */

/* What was not used up to 50 ms ago may be made up for, threads may be late, and each stream's batch goes out as a whole. */
void knobs_batch(const struct batch_head *head, uint64_t bytes)
{
	enum { BURST_MS = 50, LATE_MS = 100 };
	uint64_t limit = embedder_habits.param[SLUICE_BANDWIDTH];

	if (!limit || head->type == BATCH_MARK || contracts_is_last(head->round))
		return;
	knobs.level -= (double)(sim_now - knobs.level_at) * (double)limit * 1e-9;
	knobs.level_at = sim_now;
	knobs.level = (knobs.level > 0 ? knobs.level : 0) + (double)bytes;
	knobs.largest = bytes > knobs.largest ? bytes : knobs.largest;
	double under_way = (double)knobs.largest * (1 + (double)embedder_habits.param[SLUICE_STREAMS]);
	if (knobs.level > (double)limit * 1e-3 * (BURST_MS + LATE_MS) + under_way)
		sim_violation("bandwidth: %.0f bytes more go out than the limit allows, of %lu a second", knobs.level, limit);
}

void knobs_wait(void)
{
	enum { LATE_MS = 200 }; /* it is looked at every 50 ms */

	if (contracts_in_last_round())
		sim_violation("bandwidth: a sender waits for the limit, and the last round is exempt from it");
	if (!embedder_habits.param[SLUICE_BANDWIDTH] && knobs_changed_at(SLUICE_BANDWIDTH) + LATE_MS * SIM_MS < sim_now)
		sim_violation("bandwidth: a sender waits for a limit that was lifted %lu ms ago",
			      (sim_now - knobs_changed_at(SLUICE_BANDWIDTH)) / SIM_MS);
}

void knobs_look(void)
{
	enum { LATE_MS = 1000 }; /* an embedder's loop, too */
	uint64_t most = knobs.n ? knobs_most(SLUICE_THROTTLE_MAX, LATE_MS) : 99;

	if (guest.throttle > most && embedders[SIM_SOURCE].session)
		sim_violation("Law 9: the guest is slowed down by %u %%, and only %lu are allowed any more", guest.throttle,
			      most);
}
