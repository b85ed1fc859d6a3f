/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plan.c: what goes wrong in a seed that has no goal of its own (goal.h). */
#include "core/decide/message.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/goal.h"
#include "tests/sim/pipe.h"
#include "tests/sim/race.h"
#include "tests/sim/world.h"

enum { PLANNED = 4 };

static void plan_any(uint64_t fault)
{
	/* The handoff's messages are where most can be lost. */
	static const uint8_t types[] = { MESSAGE_HELLO,      MESSAGE_WELCOME,    MESSAGE_STREAMS_UP, MESSAGE_LANDED,
					 MESSAGE_SWITCHOVER, MESSAGE_SWITCHOVER, MESSAGE_READY,      MESSAGE_READY,
					 MESSAGE_GO,         MESSAGE_GO,         MESSAGE_RUNNING,    MESSAGE_RUNNING,
					 MESSAGE_NEVER,      MESSAGE_DONE,       MESSAGE_CANCEL,     MESSAGE_HEARTBEAT,
					 MESSAGE_BYE,        MESSAGE_EMBEDDER };
	struct plan p = { .fault = (enum fault)fault, .side = (enum sim_side)sim_below(2), .nth = 1 };

	if (sim_one_in(4)) {
		p.at = sim_now + sim_spread(10 * US, 1000 * SIM_MS);
	} else if (sim_one_in(2)) {
		p.when = AT_FRAME;
		p.type = FAULTS_BATCH;
		p.nth = (uint32_t)sim_spread(1, 256);
	} else {
		p.when = AT_FRAME;
		p.type = types[sim_below(sizeof types)];
		p.stage = sim_below(3);
		if (p.type == MESSAGE_LANDED || p.type == MESSAGE_HEARTBEAT || p.type == MESSAGE_EMBEDDER)
			p.nth += (uint32_t)sim_below(8);
	}
	faults_add(&p);
}

/* A wire that lets go of one link after the other, where words are lost that count. */
static void plan_bad_wire(void)
{
	static const uint8_t kinds_of_loss[] = { FAULT_CUT_LINK, FAULT_CUT_LINK, FAULT_CUT_ALL, FAULT_SILENT_LINK };
	static const uint8_t types[] = {
		MESSAGE_READY, MESSAGE_GO, MESSAGE_RUNNING, MESSAGE_ANSWER, MESSAGE_ANSWER, MESSAGE_NEVER
	};

	for (uint32_t n = 2 + (uint32_t)sim_below(3); n; n--) {
		struct plan p = { .fault = (enum fault)kinds_of_loss[sim_below(sizeof kinds_of_loss)],
				  .side = (enum sim_side)sim_below(2),
				  .when = AT_FRAME,
				  .type = types[sim_below(sizeof types)],
				  .stage = sim_below(3),
				  .nth = 1 + (uint32_t)sim_below(2) };
		faults_add(&p);
	}
}

/* Nothing moves just when the guest stands still, and who asks for little patience does not hide it. */
static void plan_stuck(void)
{
	static const uint8_t kinds[] = { FAULT_STALL_STREAM, FAULT_STALL_STREAM, FAULT_SILENT_STREAM, FAULT_STALL_ALL };
	static const uint8_t messages[] = { MESSAGE_HELLO, MESSAGE_HELLO, MESSAGE_SWITCHOVER, MESSAGE_READY };
	struct plan p = { .fault = (enum fault)kinds[sim_below(sizeof kinds)],
			  .when = AT_SPOT,
			  .at_side = SIM_SOURCE,
			  .phase = SLUICE_DEVICE,
			  .message = messages[sim_below(sizeof messages)] };

	for (int side = 0; side < 2; side++)
		embedder_habits.callback_ms[side] = sim_spread(8000, 20000);
	embedder_habits.param[SLUICE_CALLBACK_MS] = 20000;
	faults_add(&p);
}

/* Words that are right in all but what they are about. */
static void plan_wrong_number(void)
{
	static const uint8_t types[2][4] = {
		{ MESSAGE_GO, MESSAGE_GO, MESSAGE_SWITCHOVER, MESSAGE_GO },
		{ MESSAGE_READY, MESSAGE_RUNNING, MESSAGE_NEVER, MESSAGE_LANDED },
	};
	static const struct plan fails = { .fault = FAULT_CALLBACK_FAILS,
					   .when = AT_SPOT,
					   .at_side = SIM_DESTINATION,
					   .phase = SLUICE_DEVICE,
					   .message = MESSAGE_GO };
	struct plan p = { .fault = FAULT_OLD_LINK, .side = (enum sim_side)sim_below(2), .when = AT_FRAME, .nth = 1 };

	p.type = types[p.side][sim_below(4)];
	faults_add(&p);
	if (p.type == MESSAGE_NEVER)
		faults_add(&fails);
}

/* Somebody comes before the source does. */
static void plan_first(void)
{
	struct plan p = { .fault = FAULT_STRAY, .at = sim_now + sim_spread(10 * US, 30 * SIM_MS) };

	if (sim_one_in(2)) /* that nothing else ends its stay first */
		embedder_habits.dead_peer_ms[SIM_DESTINATION] = embedder_habits.param[SLUICE_DEAD_PEER_MS] = 3000;
	faults_add(&p);
}

/* A peer that lies, where both sides believe what they are told. */
static void plan_lie(void)
{
	static const uint8_t types[2][8] = {
		{ MESSAGE_HELLO, MESSAGE_HELLO, MESSAGE_HELLO, MESSAGE_SWITCHOVER, MESSAGE_SWITCHOVER, MESSAGE_GO,
		  MESSAGE_HEARTBEAT, MESSAGE_CANCEL },
		{ MESSAGE_WELCOME, MESSAGE_WELCOME, MESSAGE_STREAMS_UP, MESSAGE_LANDED, MESSAGE_READY, MESSAGE_RUNNING,
		  MESSAGE_HEARTBEAT, MESSAGE_REFUSE },
	};
	static const uint8_t again[2][4] = {
		{ MESSAGE_GO, MESSAGE_SWITCHOVER, MESSAGE_DONE, MESSAGE_CANCEL },
		{ MESSAGE_READY, MESSAGE_READY, MESSAGE_RUNNING, MESSAGE_STREAMS_UP },
	};
	struct plan batch = {
		.fault = FAULT_OLD_STREAM, .when = AT_FRAME, .type = FAULTS_BATCH, .nth = (uint32_t)sim_spread(1, 64)
	};
	struct plan p = { .fault = sim_one_in(3) ? FAULT_DOUBLE_LINK : FAULT_OLD_LINK,
			  .side = (enum sim_side)sim_below(2),
			  .when = AT_FRAME };

	p.type = p.fault == FAULT_DOUBLE_LINK ? again[p.side][sim_below(4)] : types[p.side][sim_below(8)];
	p.nth = 1 + (p.type == MESSAGE_HEARTBEAT ? (uint32_t)sim_below(4) : 0);
	if (sim_one_in(2)) {
		batch.type = FAULTS_STATE;
		batch.nth = 1;
	}
	faults_add(sim_one_in(3) ? &batch : &p);
}

/* A link whose bytes make no sense any more, or that is silent, while all else goes on for long. */
static void plan_deaf(void)
{
	static const uint8_t long_ones[] = { MESSAGE_SWITCHOVER, MESSAGE_EMBEDDER, MESSAGE_LANDED };
	struct plan p = {
		.fault = FAULT_SILENT_ONE_WAY, .side = SIM_SOURCE, .when = AT_FRAME, .type = MESSAGE_STREAMS_UP, .nth = 1
	};
	struct embedder_habits *h = &embedder_habits;

	for (int side = 0; side < 2; side++)
		h->dead_peer_ms[side] = h->param[SLUICE_DEAD_PEER_MS] = sim_spread(500, 700);
	if (sim_one_in(2)) { /* pages get through */
		h->param[SLUICE_BANDWIDTH] = sim_spread(1 << 20, 1 << 22);
		h->param[SLUICE_COMPRESS] = SLUICE_COMPRESS_NONE;
	} else {
		h->param[SLUICE_DOWNTIME_LIMIT_MS] = 400; /* a stopped guest's source is patient for long */
		p.fault = FAULT_DAMAGE_LINK;
		p.type = long_ones[sim_below(sizeof long_ones)];
		p.side = p.type == MESSAGE_LANDED ? SIM_DESTINATION : SIM_SOURCE;
	}
	faults_add(&p);
}

static const uint8_t ends[] = { FAULT_CANCEL_SOURCE, FAULT_CUT_LINK, FAULT_CUT_STREAM, FAULT_CANCEL_DESTINATION };

/* Something goes wrong just when the guest is slowed down. */
static void plan_throttled(void)
{
	struct plan p = { .fault = (enum fault)ends[sim_below(sizeof ends)],
			  .when = AT_FRAME,
			  .type = FAULTS_THROTTLED,
			  .nth = 1 + (uint32_t)sim_below(2) };

	world_is_hard();
	embedder_habits.param[SLUICE_THROTTLE_MAX] = 1 + sim_below(99);
	embedder_habits.turns_knobs = sim_one_in(2);
	if (!embedder_habits.turns_knobs)
		faults_add(&p);
}

/* Or while many wait for their turn. */
static void plan_limited(void)
{
	struct plan p = { .fault = (enum fault)ends[sim_below(sizeof ends)], .at = sim_now + sim_spread(50 * SIM_MS, SIM_S) };

	embedder_habits.param[SLUICE_BANDWIDTH] = sim_spread(1 << 18, 1 << 21);
	embedder_habits.param[SLUICE_STREAMS] = 1 + sim_below(8);
	embedder_habits.param[SLUICE_COMPRESS] = SLUICE_COMPRESS_NONE;
	embedder_habits.turns_knobs = sim_one_in(2);
	if (!embedder_habits.turns_knobs)
		faults_add(&p);
}

/* Pages come after the last round. */
static void plan_late(void)
{
	struct plan p = {
		.fault = FAULT_OLD_STREAM, .when = AT_FRAME, .type = MESSAGE_SWITCHOVER, .nth = 1, .stage = sim_below(3)
	};

	wire_habits_now.ps_per_byte = 20000; /* so that SWITCHOVER is read in the midst of them */
	faults_add(&p);
}

void faults_plan(uint64_t seed)
{
	faults_none();
	if (goal_plan(seed)) /* first: it forgets the last seed's */
		return;
	if (race_is(seed)) {
		race_plan();
		return;
	}
	if (sim_one_in(12)) {
		plan_limited();
		return;
	}
	if (sim_one_in(12)) {
		plan_bad_wire();
		return;
	}
	if (sim_one_in(12)) {
		plan_stuck();
		return;
	}
	if (sim_one_in(12)) {
		plan_wrong_number();
		return;
	}
	if (sim_one_in(3)) {
		plan_lie();
		return;
	}
	if (sim_one_in(8)) {
		plan_late();
		return;
	}
	if (sim_one_in(12)) {
		plan_first();
		return;
	}
	if (sim_one_in(8)) {
		plan_deaf();
		return;
	}
	if (embedder_habits.hard || sim_one_in(32)) {
		plan_throttled();
		return;
	}
	uint32_t n = sim_one_in(6) ? 0 : 1 + (uint32_t)sim_below(sim_one_in(2) ? PLANNED : 1);
	bool strays = sim_one_in(8); /* and nothing else */
	for (uint32_t i = 0; i < n; i++)
		plan_any(strays          ? FAULT_STRAY
			 : sim_one_in(8) ? FAULT_DAMAGE_STREAM
			 : sim_one_in(8) ? FAULT_OLD_STREAM
					 : sim_below(FAULT_CALLBACK_FAILS));
}
