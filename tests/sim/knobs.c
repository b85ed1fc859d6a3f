/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* knobs.c: see knobs.h. */
#include "tests/sim/knobs.h"

#include <string.h>

#include "tests/sim/contracts.h"
#include "tests/sim/embedder.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"

enum { CHANGES = 4 };

/* That can be told apart by what the deciding code sees. */
static const enum sluice_param changeable[] = { SLUICE_BANDWIDTH, SLUICE_DOWNTIME_LIMIT_MS, SLUICE_THROTTLE_MAX,
						SLUICE_SWITCHOVER_BANDWIDTH, SLUICE_DRAIN_DEPTH };

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
	case SLUICE_DRAIN_DEPTH: return 1 + sim_below(4);
	default: return sim_one_in(2) ? 0 : sim_spread(1 << 18, 1 << 30);
	}
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
	knobs.was[knobs.n].value = embedder_habits.param[param];
	knobs.was[knobs.n++].until = sim_now;
	embedder_habits.param[param] = value;
	if (param == SLUICE_BANDWIDTH)
		knobs.level = 0; /* nobody pays for what the old one was */
	if (sluice_set(session, param, value))
		sim_violation("parameters: number %d refuses %lu", param, value);
	sim_trace("source: parameter %d is %lu now", param, value);
}

uint64_t knobs_most(enum sluice_param param, uint64_t ms)
{
	uint64_t most = embedder_habits.param[param];

	for (uint32_t i = 0; i < knobs.n; i++)
		if (knobs.was[i].param == param && knobs.was[i].value > most && sim_now < knobs.was[i].until + ms * SIM_MS)
			most = knobs.was[i].value;
	return most;
}

/* Since when it has been what it is; 0: from the beginning. */
static uint64_t changed_at(enum sluice_param param)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < knobs.n; i++)
		at = knobs.was[i].param == param ? knobs.was[i].until : at;
	return at;
}

static void must_know(enum sluice_param param, uint64_t known)
{
	enum { LATE_MS = 50 }; /* from when they are read to the step */

	if (known != embedder_habits.param[param] && changed_at(param) + LATE_MS * SIM_MS < sim_now)
		sim_violation("parameters: number %d is %lu for the source, and was set to %lu", param, known,
			      embedder_habits.param[param]);
}

void knobs_step(const struct input *in)
{
	const struct params *p = &in->params;

	if (!knobs.n)
		return;
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
	if (!embedder_habits.param[SLUICE_BANDWIDTH] && changed_at(SLUICE_BANDWIDTH) + LATE_MS * SIM_MS < sim_now)
		sim_violation("bandwidth: a sender waits for a limit that was lifted %lu ms ago",
			      (sim_now - changed_at(SLUICE_BANDWIDTH)) / SIM_MS);
}

void knobs_look(void)
{
	enum { LATE_MS = 1000 }; /* an embedder's loop, too */
	uint64_t most = knobs.n ? knobs_most(SLUICE_THROTTLE_MAX, LATE_MS) : 99;

	if (guest.throttle > most && embedders[SIM_SOURCE].session)
		sim_violation("Law 9: the guest is slowed down by %u %%, and only %lu are allowed any more", guest.throttle,
			      most);
}
