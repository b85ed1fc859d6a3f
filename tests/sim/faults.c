/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* faults.c: see faults.h. */
#include "tests/sim/faults.h"

#include <stdio.h>
#include <string.h>

#include "core/decide/message.h"
#include "core/run/session.h"
#include "tests/sim/coverage.h"
#include "tests/sim/embedder.h"
#include "tests/sim/fiber.h"
#include "tests/sim/operator.h"

enum { PLANS = 16 };

static struct plan plans[PLANS];
static uint32_t n_plans, n_at_spots;
static uint64_t restart_at[2], log_fails_until, healed_at;
static uint64_t struck, struck_at;
static uint32_t strikes;

static const struct {
	const char *name;
	bool link; /* touches that alone */
	enum wire_harm harm;
} kinds[FAULTS] = {
	[FAULT_CUT_LINK] = { "cut link", true, 0 },
	[FAULT_CUT_STREAM] = { "cut stream", false, 0 },
	[FAULT_CUT_SOME] = { "cut some", false, 0 },
	[FAULT_CUT_ALL] = { "cut all", false, 0 },
	[FAULT_SILENT_LINK] = { "silent link", true, 0 },
	[FAULT_SILENT_ONE_WAY] = { "silent one way", true, 0 },
	[FAULT_SILENT_STREAM] = { "silent stream", false, 0 },
	[FAULT_SILENT_ALL] = { "silent all", false, 0 },
	[FAULT_STALL_LINK] = { "stall link", true, 0 },
	[FAULT_STALL_STREAM] = { "stall stream", false, 0 },
	[FAULT_STALL_ALL] = { "stall all", false, 0 },
	[FAULT_DAMAGE_LINK] = { "damage link", true, HARM_DAMAGE },
	[FAULT_DAMAGE_STREAM] = { "damage stream", false, HARM_DAMAGE },
	[FAULT_DOUBLE_LINK] = { "double link", true, HARM_DOUBLE },
	[FAULT_DOUBLE_STREAM] = { "double stream", false, HARM_DOUBLE },
	[FAULT_OLD_LINK] = { "old link", true, HARM_OLD },
	[FAULT_OLD_STREAM] = { "old stream", false, HARM_OLD },
	[FAULT_TEAR_LINK] = { "tear link", true, HARM_CUT_WITHIN },
	[FAULT_TEAR_STREAM] = { "tear stream", false, HARM_CUT_WITHIN },
	[FAULT_STRAY] = { "stray", false, 0 },
	[FAULT_CRASH_SOURCE] = { "crash source", false, 0 },
	[FAULT_RESTART_SOURCE] = { "restart source", false, 0 },
	[FAULT_CRASH_DESTINATION] = { "crash dest", false, 0 },
	[FAULT_RESTART_DESTINATION] = { "restart dest", false, 0 },
	[FAULT_HOST_SOURCE] = { "host source", false, 0 },
	[FAULT_HOST_DESTINATION] = { "host dest", false, 0 },
	[FAULT_CANCEL_SOURCE] = { "cancel source", false, 0 },
	[FAULT_CANCEL_DESTINATION] = { "cancel dest", false, 0 },
	[FAULT_LOG_FAILS] = { "log fails", false, 0 },
	[FAULT_LOCK_HELD] = { "lock held", false, 0 },
	[FAULT_CALLBACK_FAILS] = { "callback fails", false, 0 },
	[FAULT_CALLBACK_HANGS] = { "callback hangs", false, 0 },
};

const char *fault_name(enum fault fault)
{
	return kinds[fault].name;
}

bool fault_of_link(enum fault fault)
{
	return kinds[fault].link;
}

enum wire_harm fault_harm(enum fault fault)
{
	return kinds[fault].harm;
}

static bool lasts(enum fault fault)
{
	return fault == FAULT_STALL_LINK || fault == FAULT_STALL_STREAM || fault == FAULT_STALL_ALL || fault == FAULT_LOG_FAILS ||
	       fault == FAULT_LOCK_HELD;
}

/* ---------------------------------------------------------------- plans */

void faults_none(void)
{
	n_plans = n_at_spots = 0;
	restart_at[0] = restart_at[1] = FIBER_FOREVER;
	struck = 0;
	struck_at = 0;
	strikes = 0;
	log_fails_until = 0;
	healed_at = sim_now;
	wire_harm_greeting(false, HARM_NONE);
	wire_harm_greeting(true, HARM_NONE);
}

void faults_add(const struct plan *plan)
{
	plans[n_plans++] = *plan;
	n_at_spots += plan->when == AT_SPOT;
	if (plan->when == AT_SPOT)
		sim_trace("planned: %s where the %s is in phase %s with %s", fault_name(plan->fault),
			  plan->at_side == SIM_SOURCE ? "source" : "destination", sluice_phase_name(plan->phase),
			  plan->message ? message_name(plan->message) : "nothing");
}

uint32_t faults_planned(void)
{
	return n_plans;
}

uint64_t faults_healed_at(void)
{
	return healed_at;
}

void faults_last_until(uint64_t until)
{
	if (until > healed_at)
		healed_at = until;
}

bool faults_pending(void)
{
	return restart_at[0] != FIBER_FOREVER || restart_at[1] != FIBER_FOREVER;
}

uint64_t faults_struck(void)
{
	return struck;
}

uint32_t faults_strikes(void)
{
	return strikes;
}

uint64_t faults_last_struck(void)
{
	return struck_at;
}

void faults_harmed(void)
{
	faults_last_until(sim_now);
	struck_at = sim_now;
}

static void note_struck(enum fault fault, uint64_t until)
{
	enum { SOON_MS = 50 }; /* so many of a dead-peer time, all plans together, that it does not matter */

	struck_at = until > struck_at ? until : struck_at;
	if (fault != FAULT_STRAY && !(lasts(fault) && fault != FAULT_LOG_FAILS && until - sim_now < SOON_MS * SIM_MS)) {
		struck |= 1ull << fault;
		strikes++;
	}
}

bool faults_log_fails(void)
{
	return sim_now < log_fails_until;
}

/* ---------------------------------------------------------------- striking */

/* May this plan strike that wire? At a spot, one that matters there. */
static bool may_strike(const struct plan *p, bool link, const struct wire *w)
{
	return wire_carries(w) && !wire_is_stray(w) && wire_is_link(w) == link &&
	       (p->when != AT_SPOT || coverage_whose(w) >> p->at_side & 1);
}

/* One of the open links or streams; NULL: none. */
static struct wire *some_wire(const struct plan *p, bool link)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < wires_count(); i++)
		n += may_strike(p, link, wires_get(i));
	uint64_t k = sim_below(n);
	for (uint32_t i = 0; i < wires_count(); i++)
		if (may_strike(p, link, wires_get(i)) && !k--)
			return wires_get(i);
	return NULL;
}

/* Returns whom it touches. */
static uint32_t all_wires(const struct plan *p, uint64_t until)
{
	enum fault fault = p->fault;
	const struct wire *sure = some_wire(p, true) ? some_wire(p, true) : some_wire(p, false);
	uint32_t sides = 0;

	for (uint32_t i = 0; i < wires_count(); i++) {
		struct wire *w = wires_get(i);
		if (!wire_carries(w) || (fault == FAULT_CUT_SOME && w != sure && sim_one_in(2)))
			continue;
		sides |= coverage_whose(w);
		if (fault == FAULT_CUT_ALL || fault == FAULT_CUT_SOME)
			wire_cut(w);
		else if (fault == FAULT_SILENT_ALL)
			wire_silence(w, SIM_WORLD);
		else if (fault == FAULT_STALL_ALL)
			wire_stall(w, until);
	}
	return sides;
}

static void touch_wire(const struct plan *p, uint64_t until)
{
	struct wire *w = some_wire(p, fault_of_link(p->fault));

	if (!w) { /* it is being dialled */
		if (coverage_spots[SIM_SOURCE].link)
			coverage_met(p->fault, 1u << SIM_SOURCE);
		wire_lose_dials();
		struck_at = sim_now + embedder_habits.param[SLUICE_CONNECT_MS] * SIM_MS;
		return;
	}
	coverage_met(p->fault, coverage_whose(w));
	if (p->fault == FAULT_CUT_LINK || p->fault == FAULT_CUT_STREAM)
		wire_cut(w);
	else if (p->fault == FAULT_STALL_LINK || p->fault == FAULT_STALL_STREAM)
		wire_stall(w, until);
	else
		wire_silence(w, p->fault == FAULT_SILENT_ONE_WAY ? p->side : SIM_WORLD);
}

/* What is done to a frame is noted when one is there. A source that has nothing more to send may lie all the same. */
static void store_harm(const struct plan *p)
{
	bool link = fault_of_link(p->fault);
	struct wire *w = some_wire(p, link);

	if (p->fault == FAULT_OLD_STREAM && w && wire_late_batch(w))
		coverage_met(p->fault, coverage_whose(w));
	else if (w)
		wire_harm(w, link ? p->side : SIM_SOURCE, fault_harm(p->fault));
	else
		wire_harm_greeting(link, fault_harm(p->fault));
}

/* Else it is refused. */
static bool can_cancel(const struct embedder *e)
{
	return e->session && *(const volatile bool *)(const volatile void *)&e->session->cancellable;
}

/* Is there something to strike? */
static bool can_strike(const struct plan *p)
{
	const struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];

	switch (p->fault) {
	case FAULT_CUT_LINK:
	case FAULT_SILENT_ONE_WAY:
	case FAULT_STALL_LINK: return some_wire(p, true);
	case FAULT_SILENT_LINK:
		return some_wire(p, true) || (wire_dialling() && p->at_side == SIM_SOURCE && coverage_spots[SIM_SOURCE].link);
	case FAULT_CUT_STREAM:
	case FAULT_SILENT_STREAM:
	case FAULT_STALL_STREAM: return some_wire(p, false);
	case FAULT_CUT_SOME:
	case FAULT_CUT_ALL:
	case FAULT_SILENT_ALL:
	case FAULT_STALL_ALL: return some_wire(p, true) || some_wire(p, false);
	case FAULT_STRAY: return wire_listening();
	case FAULT_CRASH_SOURCE:
	case FAULT_RESTART_SOURCE:
	case FAULT_HOST_SOURCE: return s->session;
	case FAULT_CANCEL_SOURCE: return can_cancel(s);
	case FAULT_CRASH_DESTINATION:
	case FAULT_RESTART_DESTINATION:
	case FAULT_HOST_DESTINATION: return d->up;
	case FAULT_CANCEL_DESTINATION: return can_cancel(d);
	case FAULT_CALLBACK_FAILS: /* these strike when the embedder is asked */
	case FAULT_CALLBACK_HANGS: return false;
	default: return true;
	}
}

/* Its process dies, or its host with it, and comes back. */
static void start_again(const struct plan *p, enum sim_side side)
{
	bool host = sim_one_in(3);

	restart_at[side] = sim_now + (p->when == AT_SPOT ? sim_spread(10 * US, 10 * SIM_MS) : sim_spread(SIM_MS, SIM_S)) +
			   (host && sim_one_in(2) ? sim_spread(10 * SIM_MS, 8 * SIM_S) : 0);
	faults_last_until(restart_at[side]);
	note_struck(p->fault, restart_at[side]);
	fiber_wake(&restart_at);
	embedder_crash(side, host);
}

/* Returns whether it was done. May not return at all where a side kills itself. */
static bool strike(struct plan *p)
{
	/* Now and then it is night, and somebody comes in the morning. */
	uint64_t longest = sim_one_in(64) ? 150 * SIM_S : 8 * SIM_S;
	uint64_t until = sim_now + sim_spread(p->when == AT_SPOT ? SIM_S : SIM_MS, longest);

	if (!can_strike(p))
		return false;
	p->done = true;
	faults_last_until(lasts(p->fault) ? until : sim_now);
	note_struck(p->fault, lasts(p->fault) ? until : sim_now);
	sim_trace("fault: %s", fault_name(p->fault));
	switch (p->fault) {
	case FAULT_DAMAGE_LINK:
	case FAULT_DAMAGE_STREAM:
	case FAULT_DOUBLE_LINK:
	case FAULT_DOUBLE_STREAM:
	case FAULT_OLD_LINK:
	case FAULT_OLD_STREAM:
	case FAULT_TEAR_LINK:
	case FAULT_TEAR_STREAM: store_harm(p); return true;
	case FAULT_CUT_SOME:
	case FAULT_CUT_ALL:
	case FAULT_SILENT_ALL:
	case FAULT_STALL_ALL: coverage_met(p->fault, all_wires(p, until)); return true;
	case FAULT_CUT_LINK:
	case FAULT_CUT_STREAM:
	case FAULT_SILENT_LINK:
	case FAULT_SILENT_ONE_WAY:
	case FAULT_SILENT_STREAM:
	case FAULT_STALL_LINK:
	case FAULT_STALL_STREAM: touch_wire(p, until); return true;
	case FAULT_LOG_FAILS: /* met when somebody wants the log, the lock or to come in, or acts upon the cancel */
	case FAULT_LOCK_HELD:
	case FAULT_STRAY:
	case FAULT_CANCEL_SOURCE:
	case FAULT_CANCEL_DESTINATION: break;
	default: coverage_met(p->fault, COVERAGE_BOTH); break;
	}
	switch (p->fault) {
	case FAULT_STRAY: struck |= (uint64_t)wire_stray() << FAULT_STRAY; break;
	case FAULT_RESTART_DESTINATION: start_again(p, SIM_DESTINATION); break;
	case FAULT_RESTART_SOURCE: start_again(p, SIM_SOURCE); break;
	case FAULT_CRASH_DESTINATION:
	case FAULT_HOST_DESTINATION: embedder_crash(SIM_DESTINATION, p->fault == FAULT_HOST_DESTINATION); break;
	case FAULT_CRASH_SOURCE:
	case FAULT_HOST_SOURCE: embedder_crash(SIM_SOURCE, p->fault == FAULT_HOST_SOURCE); break;
	case FAULT_CANCEL_SOURCE: embedder_cancel(SIM_SOURCE); break;
	case FAULT_CANCEL_DESTINATION: embedder_cancel(SIM_DESTINATION); break;
	case FAULT_LOG_FAILS: log_fails_until = until; break;
	case FAULT_LOCK_HELD: embedder_hold_lock(SIM_SOURCE, until); break;
	default: break;
	}
	return true;
}

void faults_at_frame(uint32_t type, int stage)
{
	for (uint32_t i = 0; i < n_plans; i++) {
		struct plan *p = &plans[i];
		if (p->done || p->when != AT_FRAME || p->type != type || (int)p->stage != stage || --p->nth)
			continue;
		p->done = true;
		(void)strike(p);
	}
}

static bool is_there(const struct plan *p)
{
	return !p->done && p->when == AT_SPOT && coverage_spot_is(p->at_side, &coverage_spots[p->at_side], p->phase, p->message);
}

void faults_at_step(void)
{
	for (uint32_t i = 0; n_at_spots && i < n_plans; i++) {
		struct plan *p = &plans[i];
		if (is_there(p) && (!fault_harm(p->fault) || (p->fault == FAULT_OLD_STREAM && wire_is_late())))
			(void)strike(p);
	}
}

enum wire_harm faults_harm(const struct wire *w)
{
	for (uint32_t i = 0; n_at_spots && i < n_plans; i++) {
		struct plan *p = &plans[i];
		if (!is_there(p) || !fault_harm(p->fault) || !may_strike(p, fault_of_link(p->fault), w))
			continue;
		p->done = true;
		note_struck(p->fault, sim_now);
		return fault_harm(p->fault);
	}
	return HARM_NONE;
}

enum fault faults_of_request(enum sim_side side)
{
	for (uint32_t i = 0; i < n_plans; i++) {
		struct plan *p = &plans[i];
		if (p->done || p->when != AT_SPOT || p->at_side != side ||
		    (p->fault != FAULT_CALLBACK_FAILS && p->fault != FAULT_CALLBACK_HANGS) ||
		    !coverage_spot_is(side, &coverage_asked_at[side], p->phase, p->message))
			continue;
		p->done = true;
		note_struck(p->fault, sim_now);
		return p->fault;
	}
	return FAULTS;
}

void *faults_body(void *arg)
{
	(void)arg;
	for (;;) {
		uint64_t next = sim_now + 100 * SIM_MS;
		for (uint32_t i = 0; i < n_plans; i++) {
			struct plan *p = &plans[i];
			if (p->done || p->when != AT_TIME)
				continue;
			if (p->at <= sim_now) {
				p->done = true;
				(void)strike(p);
			} else if (p->at < next) {
				next = p->at;
			}
		}
		for (int side = 0; side < 2; side++) {
			if (restart_at[side] <= sim_now) {
				operator_restarts((enum sim_side)side);
				restart_at[side] = FIBER_FOREVER;
			} else if (restart_at[side] < next) {
				next = restart_at[side];
			}
		}
		(void)fiber_block(&restart_at, next > sim_now ? next : sim_now + 1, NULL);
	}
	return NULL;
}
