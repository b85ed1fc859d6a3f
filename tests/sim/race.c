/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* race.c: see race.h. Every fourth seed. Nothing takes long here, so that several rounds are on their way at once, the guest writes what
 * is just being claimed, and a wake-up that got lost shows: whoever missed it waits for a heartbeat or the next look at the clock, and
 * these are far apart. In most of them nothing goes wrong, so that anything but success is a law broken. */
#include "tests/sim/race.h"

#include "tests/sim/disk.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/guest.h"
#include "tests/sim/wire.h"

/* Who missed being woken waits for the clock to be looked at (100 ms) or a heartbeat (500). Measured: 26 ms in 5,000 such seeds. */
enum { GAP_MS = 60 };

static bool watched; /* nothing is to go wrong */
static bool restless;
static bool at_gate;
static uint64_t moved_at;

bool race_is(uint64_t seed)
{
	watched = false;
	return seed % 4 == 2;
}

void race_pace(struct fiber_habits *f, struct wire_habits *w)
{
	f->run = (uint32_t)sim_spread(2, 32);
	f->step_ns = sim_spread(100, 2 * US);
	f->freeze = 0;
	at_gate = sim_one_in(6);
	f->gate = at_gate;
	f->hot = at_gate ? HOT_MODULE : 1 + sim_below(HOT_SITES);
	/* Where waits are over early, a wake-up that got lost does not show; so time does not matter. */
	restless = sim_one_in(2);
	f->restless = restless ? (uint32_t)sim_spread(1, 8) : 0;
	f->freeze_ns = sim_spread(10 * US, restless ? 20 * SIM_MS : 4 * SIM_MS);
	f->ambushes = (uint32_t)sim_spread(8, 256);
	w->latency_ns = sim_spread(US, 100 * US);
	w->ps_per_byte = (uint32_t)sim_spread(10, 500);
}

/* Some wait at the gate for one whose stream is stalled, and then it is over. */
static void end_at_gate(void)
{
	struct plan stall = {
		.fault = FAULT_STALL_STREAM, .when = AT_FRAME, .type = FAULTS_BATCH, .nth = (uint32_t)sim_spread(4, 64)
	};
	struct plan end = { .fault = sim_one_in(2) ? FAULT_CANCEL_SOURCE : FAULT_CANCEL_DESTINATION,
			    .at = sim_now + sim_spread(5 * SIM_MS, 200 * SIM_MS) };

	embedder_habits.param[SLUICE_STREAMS] |= 4;
	faults_add(&stall);
	faults_add(&end);
}

static void end_early(void)
{
	static const enum fault faults[] = { FAULT_CANCEL_SOURCE, FAULT_CANCEL_DESTINATION, FAULT_CUT_LINK, FAULT_CUT_STREAM,
					     FAULT_CUT_STREAM };
	struct plan p = { .fault = faults[sim_below(sizeof faults / sizeof *faults)],
			  .side = (enum sim_side)sim_below(2),
			  .when = AT_FRAME,
			  .type = FAULTS_BATCH,
			  .nth = (uint32_t)sim_spread(1, 128) };

	faults_add(&p);
}

void race_plan(void)
{
	struct embedder_habits *h = &embedder_habits;

	h->param[SLUICE_STREAMS] = sim_one_in(4) ? 1 : 2 + sim_below(7);
	h->slow_ns = sim_spread(10 * US, SIM_MS);
	h->fails = h->hangs = h->log_fails = 0;
	h->never_continues = h->holds_long = h->loads_long = false;
	h->param[SLUICE_BANDWIDTH] = 0;
	h->turns_knobs = false;
	h->param[SLUICE_TIMEOUT_MS] = 0;
	for (int side = 0; side < 2; side++) {
		h->dead_peer_ms[side] = h->param[SLUICE_DEAD_PEER_MS] = 3000;
		h->callback_ms[side] = h->param[SLUICE_CALLBACK_MS] = 4000;
	}
	h->param[SLUICE_CONNECT_MS] = 2000;
	h->param[SLUICE_DOWNTIME_LIMIT_MS] = sim_one_in(2) ? 1 : sim_spread(1, 400); /* little: many rounds */
	h->section_bytes = (uint32_t)sim_spread(1, 2000);
	guest.wait_ns = sim_spread(US, 100 * US);
	guest.writes_left = sim_spread(16, 1000);
	/* A closing round follows the last one at once: nothing else is as close. */
	guest.late_writes = sim_one_in(4) ? 0 : 1 + (uint32_t)sim_below(3);
	guest.never_still = false;
	guest.nemesis = sim_one_in(4) ? 0 : (uint32_t)sim_spread(1, 4);
	watched = at_gate ? sim_one_in(2) : !sim_one_in(3);
	moved_at = 0;
	if (!watched && at_gate)
		end_at_gate();
	else if (!watched)
		end_early();
}

uint64_t race_loop_ns(void)
{
	return watched ? SIM_S : 20 * SIM_MS;
}

void race_moved(bool over)
{
	/* Of a large guest, a round's pages may be on their way for long. */
	uint64_t brought_at = wires_brought_at(SIM_DESTINATION),
		 still_ns = sim_now - (brought_at > moved_at ? brought_at : moved_at);

	if (watched && !restless && !disk_there() && moved_at && still_ns > GAP_MS * SIM_MS)
		sim_violation("Law 6: nothing was in the way, and the source had nothing to do for %lu ms: a wake-up was lost",
			      still_ns / SIM_MS);
	moved_at = over ? 0 : sim_now;
}
