/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* goal.c: see goal.h. Most of what can happen happens by chance so rarely that 10,000 seeds would miss it: a destination that is
 * restarted in the millisecond between a failure and its end, say. Every other seed is given a cell, in turn. */
#include "tests/sim/goal.h"

#include "tests/sim/coverage.h"
#include "tests/sim/disk.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/outcome.h"
#include "tests/sim/pipe.h"
#include "tests/sim/talk.h"

enum { ANY = MESSAGE_TYPES };

/* Phases that no migration gets to by itself, and what leads there: a fault at an earlier spot. */
static const struct way {
	enum sim_side side;
	enum sluice_phase phase;
	uint32_t message; /* or ANY other */
	enum fault fault;
	enum sim_side at_side;
	enum sluice_phase at_phase;
	uint32_t at_message;
	enum fault also; /* strikes there too; 0: none (a cut link never comes second) */
} ways[] = {
/* clang-format off */
#define S SIM_SOURCE
#define D SIM_DESTINATION
#define N 0
	{ S, SLUICE_SETUP, MESSAGE_STREAMS_UP, FAULT_LOCK_HELD, S, SLUICE_SETUP, MESSAGE_WELCOME, 0 },
	{ S, SLUICE_SETUP, MESSAGE_HEARTBEAT, FAULT_LOCK_HELD, S, SLUICE_SETUP, MESSAGE_WELCOME, 0 }, /* arming takes long */
	{ S, SLUICE_ACTIVE, MESSAGE_CANCEL, FAULT_CALLBACK_FAILS, S, SLUICE_ACTIVE, MESSAGE_LANDED, 0 },
	{ S, SLUICE_ACTIVE, MESSAGE_CANCEL, FAULT_CANCEL_DESTINATION, S, SLUICE_ACTIVE, MESSAGE_LANDED, 0 },
	{ S, SLUICE_DRAINING, MESSAGE_CANCEL, FAULT_CALLBACK_FAILS, S, SLUICE_DRAINING, MESSAGE_LANDED, 0 },
	{ S, SLUICE_DRAINING, MESSAGE_CANCEL, FAULT_CANCEL_DESTINATION, S, SLUICE_DRAINING, MESSAGE_LANDED, 0 },
	{ S, SLUICE_PRE_SWITCHOVER, MESSAGE_HELLO, FAULT_CUT_LINK, S, SLUICE_PRE_SWITCHOVER, MESSAGE_LANDED, 0 },
	{ S, SLUICE_PRE_SWITCHOVER, MESSAGE_CANCEL, FAULT_CANCEL_DESTINATION, S, SLUICE_PRE_SWITCHOVER, MESSAGE_LANDED, 0 },
	{ S, SLUICE_PRE_SWITCHOVER, MESSAGE_CANCEL, FAULT_STRAY, S, SLUICE_PRE_SWITCHOVER, MESSAGE_LANDED, 0 }, /* only left to wait */
	{ S, SLUICE_DEVICE, MESSAGE_NEVER, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_DEVICE, MESSAGE_BYE, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_DEVICE, MESSAGE_CANCEL, FAULT_CALLBACK_FAILS, S, SLUICE_DEVICE, MESSAGE_LANDED, 0 },
	{ S, SLUICE_DEVICE, MESSAGE_CANCEL, FAULT_CANCEL_DESTINATION, S, SLUICE_DEVICE, MESSAGE_LANDED, 0 },
	{ S, SLUICE_DEVICE, MESSAGE_ANSWER, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_COMPLETED, MESSAGE_READY, FAULT_STALL_ALL, S, SLUICE_IN_DOUBT, MESSAGE_READY, 0 },
	{ S, SLUICE_COMPLETED, MESSAGE_GO, FAULT_STALL_ALL, S, SLUICE_IN_DOUBT, MESSAGE_GO, 0 },
	{ S, SLUICE_COMPLETED, MESSAGE_ANSWER, FAULT_STALL_ALL, S, SLUICE_IN_DOUBT, MESSAGE_ANSWER, 0 },
	{ S, SLUICE_CANCELLING, MESSAGE_LANDED, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ S, SLUICE_CANCELLING, MESSAGE_SWITCHOVER, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ S, SLUICE_CANCELLING, MESSAGE_CANCEL, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_LANDED, 0 },
	{ S, SLUICE_CANCELLING, MESSAGE_READY, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, FAULT_CALLBACK_HANGS },
	{ S, SLUICE_CANCELLING, MESSAGE_READY, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, N, FAULT_CANCEL_SOURCE, S, SLUICE_SETUP, N, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_WELCOME, FAULT_CANCEL_SOURCE, S, SLUICE_SETUP, MESSAGE_WELCOME, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_STREAMS_UP, FAULT_CANCEL_SOURCE, S, SLUICE_ACTIVE, MESSAGE_STREAMS_UP, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_LANDED, FAULT_CUT_LINK, S, SLUICE_CANCELLING, MESSAGE_LANDED, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_SWITCHOVER, FAULT_CUT_LINK, S, SLUICE_CANCELLING, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_CANCEL, FAULT_CUT_LINK, S, SLUICE_CANCELLING, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_READY, FAULT_CUT_LINK, S, SLUICE_CANCELLING, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_ANSWER, FAULT_CUT_LINK, S, SLUICE_CANCELLING, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_REFUSE, FAULT_RESTART_DESTINATION, S, SLUICE_CANCELLING, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, ANY, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_FAILED, N, FAULT_SILENT_LINK, S, SLUICE_SETUP, N, 0 },
	{ S, SLUICE_FAILED, MESSAGE_HELLO, FAULT_CUT_LINK, S, SLUICE_ACTIVE, MESSAGE_HELLO, 0 },
	{ S, SLUICE_FAILED, MESSAGE_WELCOME, FAULT_CUT_LINK, S, SLUICE_SETUP, MESSAGE_WELCOME, 0 },
	{ S, SLUICE_FAILED, MESSAGE_REFUSE, FAULT_CALLBACK_FAILS, D, SLUICE_INCOMING, MESSAGE_HELLO, 0 },
	{ S, SLUICE_FAILED, MESSAGE_STREAMS_UP, FAULT_CUT_LINK, S, SLUICE_ACTIVE, MESSAGE_STREAMS_UP, 0 },
	{ S, SLUICE_FAILED, MESSAGE_LANDED, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ S, SLUICE_FAILED, MESSAGE_SWITCHOVER, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ S, SLUICE_FAILED, MESSAGE_READY, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_FAILED, MESSAGE_ANSWER, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_FAILED, MESSAGE_CANCEL, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_FAILED, MESSAGE_GO, FAULT_STALL_ALL, S, SLUICE_IN_DOUBT, MESSAGE_GO, 0 },
	{ S, SLUICE_FAILED, MESSAGE_NEVER, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_FAILED, MESSAGE_BYE, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_READY, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_READY, FAULT_SILENT_ONE_WAY, S, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_READY, FAULT_CRASH_DESTINATION, S, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_GO, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_GO, FAULT_SILENT_ONE_WAY, S, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_ANSWER, FAULT_CRASH_DESTINATION, S, SLUICE_DEVICE, MESSAGE_ANSWER, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_ANSWER, FAULT_CUT_LINK, S, SLUICE_DEVICE, MESSAGE_ANSWER, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_REFUSE, FAULT_RESTART_DESTINATION, S, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_HEARTBEAT, FAULT_STALL_LINK, S, SLUICE_IN_DOUBT, MESSAGE_GO, 0 },
	{ S, SLUICE_IN_DOUBT, MESSAGE_HEARTBEAT, FAULT_SILENT_LINK, S, SLUICE_IN_DOUBT, MESSAGE_READY, 0 },
	/* Talk on a link that is still good while the last word is on its way. */
	{ S, SLUICE_CANCELLING, MESSAGE_HEARTBEAT, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLING, MESSAGE_EMBEDDER, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_HEARTBEAT, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_CANCELLED, MESSAGE_EMBEDDER, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_FAILED, MESSAGE_HEARTBEAT, FAULT_CALLBACK_FAILS, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ S, SLUICE_FAILED, MESSAGE_EMBEDDER, FAULT_CALLBACK_FAILS, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ D, SLUICE_CANCELLED, MESSAGE_HEARTBEAT, FAULT_CANCEL_SOURCE, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ D, SLUICE_COMPLETED, MESSAGE_HEARTBEAT, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_RUNNING, 0 }, /* the door is open until DONE */
	{ D, SLUICE_COMPLETED, MESSAGE_EMBEDDER, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_RUNNING, 0 },
	{ D, SLUICE_FAILED, MESSAGE_HEARTBEAT, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ D, SLUICE_FAILED, MESSAGE_EMBEDDER, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ D, SLUICE_INCOMING, MESSAGE_HELLO, FAULT_CALLBACK_HANGS, D, SLUICE_INCOMING, MESSAGE_HELLO, 0 },
	{ D, SLUICE_INCOMING, MESSAGE_REFUSE, FAULT_CANCEL_DESTINATION, D, SLUICE_INCOMING, MESSAGE_HELLO, 0 },
	{ D, SLUICE_INCOMING, MESSAGE_CANCEL, FAULT_CANCEL_SOURCE, D, SLUICE_INCOMING, MESSAGE_HELLO, 0 },
	{ D, SLUICE_ACTIVE, MESSAGE_SWITCHOVER, FAULT_STALL_STREAM, S, SLUICE_DEVICE, MESSAGE_LANDED, 0 },
	{ D, SLUICE_DEVICE, MESSAGE_SWITCHOVER, FAULT_CALLBACK_HANGS, D, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ D, SLUICE_DEVICE, MESSAGE_GO, FAULT_CALLBACK_HANGS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ D, SLUICE_DEVICE, MESSAGE_CANCEL, FAULT_CANCEL_DESTINATION, D, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ D, SLUICE_DEVICE, MESSAGE_CANCEL, FAULT_CANCEL_SOURCE, D, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ D, SLUICE_DEVICE, MESSAGE_NEVER, FAULT_CANCEL_SOURCE, D, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ D, SLUICE_DEVICE, MESSAGE_ANSWER, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ D, SLUICE_COMPLETED, MESSAGE_SWITCHOVER, FAULT_CRASH_SOURCE, D, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ D, SLUICE_COMPLETED, MESSAGE_READY, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ D, SLUICE_COMPLETED, MESSAGE_ANSWER, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_ANSWER, 0 },
	{ D, SLUICE_COMPLETED, MESSAGE_ANSWER, FAULT_CRASH_SOURCE, D, SLUICE_DEVICE, MESSAGE_ANSWER, 0 },
	{ D, SLUICE_COMPLETED, MESSAGE_GO, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_RUNNING, 0 },
	{ D, SLUICE_CANCELLED, N, FAULT_CANCEL_DESTINATION, D, SLUICE_INCOMING, N, 0 },
	{ D, SLUICE_CANCELLED, MESSAGE_REFUSE, FAULT_CANCEL_DESTINATION, D, SLUICE_INCOMING, MESSAGE_HELLO, 0 },
	{ D, SLUICE_CANCELLED, MESSAGE_HELLO, FAULT_CANCEL_DESTINATION, D, SLUICE_ACTIVE, MESSAGE_HELLO, 0 },
	{ D, SLUICE_CANCELLED, MESSAGE_WELCOME, FAULT_CANCEL_SOURCE, D, SLUICE_SETUP, MESSAGE_WELCOME, 0 },
	{ D, SLUICE_CANCELLED, MESSAGE_STREAMS_UP, FAULT_CANCEL_SOURCE, D, SLUICE_ACTIVE, MESSAGE_STREAMS_UP, 0 },
	{ D, SLUICE_CANCELLED, MESSAGE_SWITCHOVER, FAULT_CANCEL_DESTINATION, D, SLUICE_ACTIVE, MESSAGE_SWITCHOVER, 0 },
	{ D, SLUICE_CANCELLED, ANY, FAULT_CANCEL_SOURCE, D, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ D, SLUICE_FAILED, N, FAULT_DAMAGE_LINK, S, SLUICE_SETUP, MESSAGE_HELLO, 0 },
	{ D, SLUICE_FAILED, MESSAGE_REFUSE, FAULT_CALLBACK_FAILS, D, SLUICE_INCOMING, MESSAGE_HELLO, 0 },
	{ D, SLUICE_FAILED, MESSAGE_HELLO, FAULT_CUT_LINK, D, SLUICE_ACTIVE, MESSAGE_HELLO, 0 },
	{ D, SLUICE_FAILED, MESSAGE_WELCOME, FAULT_CUT_LINK, D, SLUICE_SETUP, MESSAGE_WELCOME, 0 },
	{ D, SLUICE_FAILED, MESSAGE_STREAMS_UP, FAULT_CUT_LINK, D, SLUICE_ACTIVE, MESSAGE_STREAMS_UP, 0 },
	{ D, SLUICE_FAILED, MESSAGE_SWITCHOVER, FAULT_STALL_ALL, S, SLUICE_IN_DOUBT, MESSAGE_GO, 0 },
	{ D, SLUICE_FAILED, MESSAGE_SWITCHOVER, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ D, SLUICE_FAILED, MESSAGE_CANCEL, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_SWITCHOVER, 0 },
	{ D, SLUICE_FAILED, MESSAGE_READY, FAULT_STALL_ALL, S, SLUICE_IN_DOUBT, MESSAGE_GO, 0 },
	{ D, SLUICE_FAILED, MESSAGE_ANSWER, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_ANSWER, FAULT_CALLBACK_FAILS },
	{ D, SLUICE_FAILED, MESSAGE_ANSWER, FAULT_CRASH_SOURCE, D, SLUICE_DEVICE, MESSAGE_ANSWER, FAULT_CALLBACK_FAILS },
	{ D, SLUICE_FAILED, MESSAGE_CANCEL, FAULT_CALLBACK_FAILS, S, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ D, SLUICE_FAILED, ANY, FAULT_CALLBACK_FAILS, D, SLUICE_DEVICE, MESSAGE_GO, 0 },
	{ D, SLUICE_IN_DOUBT, ANY, FAULT_CUT_LINK, D, SLUICE_DEVICE, MESSAGE_READY, 0 },
	{ D, SLUICE_IN_DOUBT, ANY, FAULT_CRASH_SOURCE, D, SLUICE_DEVICE, MESSAGE_READY, 0 },
#undef S
#undef D
#undef N
	/* clang-format on */
};

enum { WAYS = sizeof ways / sizeof *ways, TRIES = 16 };

static void plan_at(const struct cell *c)
{
	struct plan p = { .fault = c->fault,
			  .side = (enum sim_side)sim_below(2),
			  .when = AT_SPOT,
			  .at_side = c->side,
			  .phase = c->phase,
			  .message = c->message };

	if (c->fault == FAULT_SILENT_ONE_WAY)
		p.side = !c->side;
	faults_add(&p);
}

/* Rows for any message are for those that have none of their own. Talk may be next to any word that leaves a link. */
static bool leads_to(const struct way *w, const struct cell *c, bool any)
{
	struct cell there = { c->side, c->phase, c->fault, w->message };

	if (w->side != c->side || w->phase != c->phase)
		return false;
	if (any && coverage_is_talk(c->side, c->message))
		return w->message == ANY || (!coverage_is_talk(w->side, w->message) && coverage_has_link(&there));
	return w->message == (any ? ANY : c->message);
}

/* The k-th of the ways to a cell's spot; NULL: there are no more. */
static const struct way *way_to(const struct cell *c, uint64_t k)
{
	for (int any = 0; any < 2; any++) {
		bool found = false;
		for (uint32_t i = 0; i < WAYS; i++) {
			if (!leads_to(&ways[i], c, any))
				continue;
			found = true;
			if (!k--)
				return &ways[i];
		}
		if (found)
			return NULL;
	}
	return NULL;
}

static bool of_request(enum fault fault)
{
	return fault == FAULT_CALLBACK_FAILS || fault == FAULT_CALLBACK_HANGS;
}

/* What leads to a cell's spot, and to the spot of that, and so on. */
static void plan_way(const struct cell *c)
{
	uint64_t n = 0;

	while (way_to(c, n))
		n++;
	bool by_itself = coverage_is_talk(c->side, c->message) && c->phase <= SLUICE_COMPLETED && c->fault != FAULT_STRAY;
	if (!n || (by_itself && sim_one_in(2)))
		return;
	if (c->phase == SLUICE_PRE_SWITCHOVER && fault_of_link(c->fault)) /* what leads to HELLO alone is that there is no link */
		return;
	const struct way *w = way_to(c, sim_below(n));
	struct cell at = { w->at_side, w->at_phase, w->fault, w->at_message };
	bool same_spot = at.side == c->side && at.phase == c->phase && at.message == c->message;
	/* An embedder that hangs makes a spot last, but only one thing can become of what it was asked for. */
	if (same_spot && (of_request(c->fault) || sim_one_in(2)))
		return;
	if (!same_spot)
		plan_way(&at);
	plan_at(&at);
	at.fault = w->also;
	if (w->also)
		plan_at(&at);
}

/* How many turns the longest way to a cell has. */
static uint32_t turns(const struct cell *c)
{
	const struct way *w;
	uint32_t most = 0;

	for (uint64_t k = 0; (w = way_to(c, k)); k++) {
		struct cell at = { w->at_side, w->at_phase, w->fault, w->at_message };
		bool same_spot = at.side == c->side && at.phase == c->phase && at.message == c->message;
		uint32_t n = same_spot ? 1 : 1 + turns(&at);
		most = n > most ? n : most;
	}
	return most;
}

/* What is said next takes its place at once. */
static bool is_brief(const struct cell *c)
{
	bool over = c->phase == SLUICE_FAILED || c->phase == SLUICE_CANCELLED;

	if (c->side == SIM_DESTINATION)
		return over && c->message == MESSAGE_SWITCHOVER;
	if (c->fault == FAULT_LOCK_HELD)
		return c->phase == SLUICE_DEVICE && c->message == MESSAGE_CANCEL;
	return over && c->message == MESSAGE_EMBEDDER;
}

/* A cell gets several seeds, the more the longer its way is, for each turn may go wrong. */
static struct cell goal_of(uint64_t i)
{
	static struct cell goals[TRIES * COVERAGE_CELLS];
	static uint32_t n;
	enum { BRIEF = 4 };

	if (!n) {
		n = coverage_cells(goals);
		for (uint32_t k = n; k-- > 0;) {
			uint32_t more = turns(&goals[k]) * turns(&goals[k]) / 2 + (is_brief(&goals[k]) ? BRIEF : 0);
			for (; more; more--)
				goals[n++] = goals[k];
		}
	}
	return goals[i % n];
}

/* Heartbeats are seldom, so phases must last; embedders say nothing unless they have something to say. */
static void make_talk(const struct cell *c)
{
	struct embedder_habits *h = &embedder_habits;

	if (!coverage_is_talk(c->side, c->message) || c->message == MESSAGE_LANDED)
		return;
	h->dead_peer_ms[0] = h->dead_peer_ms[1] = h->param[SLUICE_DEAD_PEER_MS] = 500;
	if (c->phase == SLUICE_FAILED || c->phase == SLUICE_CANCELLED ||
	    c->fault == FAULT_STRAY) /* what is said last is on its way for long */
		wire_habits_now.latency_ns = 40 * SIM_MS;
	/* The guest is asked to stop before anything of the round's landing is said only where counting takes longer than landing. */
	if (of_request(c->fault) && (c->phase == SLUICE_ACTIVE || c->phase == SLUICE_DRAINING)) {
		guest.marks_only = false;
		h->param[SLUICE_TRACKER] = SLUICE_TRACKER_AUTO;
		h->log_slow_ns = 90 * SIM_MS;
		wire_habits_now.latency_ns = 10 * US;
	}
	if (c->message == MESSAGE_EMBEDDER) {
		talk_much((c->phase == SLUICE_DRAINING ? 60 : sim_one_in(4) ? 1 : 6) * SIM_MS);
		return;
	}
	h->param[SLUICE_CONNECT_MS] = 2000;
	h->quick_ns = 85 * SIM_MS; /* a sixth of that, and a little */
	h->slow_ns = 120 * SIM_MS;
	for (int side = 0; side < 2; side++)
		h->callback_ms[side] += OUTCOME_CALLBACK_MS;
	h->param[SLUICE_CALLBACK_MS] += OUTCOME_CALLBACK_MS;
	if (c->phase == SLUICE_SETUP || c->phase == SLUICE_INCOMING)
		wire_habits_now.latency_ns = 40 * SIM_MS;
	if (c->phase > SLUICE_PRE_SWITCHOVER)
		h->param[SLUICE_DOWNTIME_LIMIT_MS] = 400;
}

static struct cell goal;
static uint64_t goal_met; /* so often before; */
static bool has_goal;

bool goal_missed(void)
{
	return has_goal && coverage_count(&goal) == goal_met;
}

bool goal_plan(uint64_t seed)
{
	has_goal = seed % 2;
	if (!has_goal)
		return false;
	struct cell c = goal = goal_of(seed / 2);
	goal_met = coverage_count(&c);
	plan_way(&c);
	plan_at(&c);
	/* One that can be cancelled must be there: where the destination cannot any more, another. */
	struct cell another = { c.side, c.phase, FAULT_RESTART_DESTINATION, c.message };
	if (c.fault == FAULT_CANCEL_DESTINATION && c.side == SIM_SOURCE && sim_one_in(2))
		plan_at(&another);
	/* Sync wants the lock as soon as it is over: so late only if it has not had it since. */
	struct cell earlier = { c.side, SLUICE_DEVICE, FAULT_LOCK_HELD, MESSAGE_READY };
	bool late = c.message == MESSAGE_ANSWER || coverage_is_talk(c.side, c.message);
	if (c.fault == FAULT_LOCK_HELD && late && c.phase >= SLUICE_COMPLETED)
		plan_at(&earlier);
	struct cell in_vain = { c.side, SLUICE_DEVICE, FAULT_LOCK_HELD, MESSAGE_LANDED };
	if (c.fault == FAULT_LOCK_HELD && c.phase == SLUICE_DEVICE && c.message == MESSAGE_CANCEL)
		plan_at(&in_vain);
	/* It takes some windows until a round is open in one: by then what landed would be known. */
	struct cell unheard = { c.side, SLUICE_ACTIVE, FAULT_STALL_LINK, MESSAGE_STREAMS_UP };
	if (c.phase == SLUICE_DRAINING && c.message == MESSAGE_STREAMS_UP && fault_harm(c.fault))
		plan_at(&unheard);
	if (sim_one_in(fault_harm(c.fault) || c.fault == FAULT_LOG_FAILS
			       ? 2
			       : 4)) /* so that it may strike in the midst of what otherwise is one go */
		fibers_hesitate();
	/* Nothing else is to go wrong on the way, and who is over stays for a while. */
	embedder_habits.fails = embedder_habits.hangs = embedder_habits.log_fails = 0;
	embedder_habits.param[SLUICE_TIMEOUT_MS] = 0;
	embedder_habits.turns_knobs = false;
	embedder_habits.lock |= c.fault == FAULT_LOCK_HELD || sim_one_in(2);
	if (c.fault == FAULT_LOCK_HELD || c.fault == FAULT_LOG_FAILS) {
		guest.marks_only = false;
		embedder_habits.param[SLUICE_TRACKER] = SLUICE_TRACKER_AUTO;
	}
	if (c.phase == SLUICE_IN_DOUBT)
		embedder_habits.patience_ns |= 1ull << 32;
	/* The guest is asked to stop in phase active only where it is held then. */
	embedder_habits.param[SLUICE_HOLD] |= c.phase == SLUICE_PRE_SWITCHOVER ||
					      (c.phase == SLUICE_ACTIVE && of_request(c.fault)) ||
					      (c.phase == SLUICE_ACTIVE && c.message == MESSAGE_CANCEL);
	if (c.phase == SLUICE_ACTIVE && !embedder_habits.param[SLUICE_HOLD]) { /* make it last */
		embedder_habits.param[SLUICE_DOWNTIME_LIMIT_MS] = 1;
		guest_write_much();
	}
	if (c.phase == SLUICE_DRAINING) {
		disk_must_be_slow();
		embedder_habits.param[SLUICE_DRAIN_WINDOW_MS] |= 512;
		embedder_habits.param[SLUICE_DRAIN_SHARE] = 100; /* else the first comes late */
		if (fault_harm(c.fault)) /* rounds go on meanwhile, and it is early: what landed is not yet known */
			guest_write_much();
		if (c.message == MESSAGE_STREAMS_UP)
			wire_habits_now.latency_ns = 20 * SIM_MS;
	}
	make_talk(&c);
	embedder_habits.param[SLUICE_REMEMBER_MS] |= 1024;
	embedder_habits.never_continues =
		c.phase == SLUICE_PRE_SWITCHOVER && (c.message == MESSAGE_CANCEL || fault_harm(c.fault) || of_request(c.fault));
	return true;
}
