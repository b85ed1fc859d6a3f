/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* world.c: see world.h. One attempt to migrate with what the seed throws at it, an operator who resolves doubt by looking at
 * both sides, and, where the guest is still at the source, a second attempt that must succeed (Law 9). */
#include "tests/sim/world.h"

#include <stdio.h>
#include <string.h>

#include "core/run/session.h"
#include "streams/wire.h"
#include "tests/sim/disk.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/goal.h"
#include "tests/sim/guest.h"
#include "tests/sim/heap.h"
#include "tests/sim/heed.h"
#include "tests/sim/knobs.h"
#include "tests/sim/laws.h"
#include "tests/sim/operator.h"
#include "tests/sim/outcome.h"
#include "tests/sim/pace.h"
#include "tests/sim/pipe.h"
#include "tests/sim/promises.h"
#include "tests/sim/race.h"
#include "tests/sim/still.h"
#include "tests/sim/system.h"
#include "tests/sim/talk.h"
#include "tests/sim/wire.h"

static const uint64_t steps_most = 4000000, steps_a_second = 1000000; /* a disk that hangs makes for a long migration */
static const uint64_t lonely_ns = 8 * SIM_S;
enum { TRIES = 40 }; /* to get where a seed sets out for */
static bool missed;

/* What the harness knows of an attempt. */
static struct {
	bool served; /* the destination's listener has a later session now */
	uint64_t alone_since;
	uint32_t visits; /* of other sources, to come */
} watch;

/* ---------------------------------------------------------------- what others ask */

struct sluice *world_session(enum sim_side side)
{
	return embedders[side].session;
}

bool world_log_fails(void)
{
	return (embedder_habits.log_fails && sim_one_in(embedder_habits.log_fails)) || faults_log_fails();
}

bool world_unreachable(void)
{
	return embedders[SIM_DESTINATION].crashed && embedders[SIM_DESTINATION].host_gone;
}

static const char *arrow(enum sim_side side)
{
	return side == SIM_SOURCE ? "source ->" : "destination ->";
}

void world_given(enum sim_side side, uint32_t type)
{
	promises_given(embedders[side].migration, side, type);
	if (side == SIM_SOURCE && type == MESSAGE_SWITCHOVER)
		guest_keep_final();
	if (type == MESSAGE_RUNNING || type == MESSAGE_DONE)
		talk_word_given(side);
}

void world_frame_begins(const struct wire *w, enum sim_side side, uint32_t type, uint32_t number)
{
	promises_written(wire_migration(w), side, type, number);
	faults_at_frame(type, FRAME_BEGINS);
}

void world_frame_written(const struct wire *w, enum sim_side side, uint32_t type)
{
	coverage_frame(side, w, type, true);
	if (type != MESSAGE_HEARTBEAT)
		sim_trace("%s %s", arrow(side), message_name(type));
	faults_at_frame(type, FRAME_WRITTEN);
}

/* A destination has read an offer: it is of that migration now. */
static void met(struct embedder *d, uint32_t migration)
{
	d->migration = migration;
	d->knows |= 1u << migration;
	if (!guest.running[SIM_DESTINATION])
		guest.lineage[SIM_DESTINATION] = guest.lineage[SIM_SOURCE];
}

void world_frame_read(const struct wire *w, enum sim_side side, uint32_t type)
{
	if (type != MESSAGE_HEARTBEAT)
		sim_trace("%s: read %s", side == SIM_SOURCE ? "source" : "destination", message_name(type));
	if (side == SIM_DESTINATION && type == MESSAGE_HELLO)
		met(&embedders[side], wire_migration(w));
	coverage_frame(side, w, type, false);
	promises_read(wire_migration(w), side, type);
	faults_at_frame(type, FRAME_READ);
}

void world_batch(enum sim_side side, uint32_t type)
{
	if (side == SIM_SOURCE)
		embedder_late_write();
	if (type == BATCH_STATE)
		faults_at_frame(FAULTS_STATE, FRAME_BEGINS);
	faults_at_frame(FAULTS_BATCH, FRAME_BEGINS);
}

/* ---------------------------------------------------------------- the seed's choices */

static void choose_longer(struct embedder_habits *h)
{
	h->param[SLUICE_DEAD_PEER_MS] = h->dead_peer_ms[h->dead_peer_ms[0] < h->dead_peer_ms[1]];
	h->param[SLUICE_CALLBACK_MS] = h->callback_ms[h->callback_ms[0] < h->callback_ms[1]];
}

static void choose_habits(void)
{
	struct embedder_habits *h = &embedder_habits;

	memset(h, 0, sizeof *h);
	h->param[SLUICE_STREAMS] = sim_one_in(2) ? 1 + sim_below(2) : 1 + sim_below(8);
	h->param[SLUICE_BANDWIDTH] = sim_one_in(10) ? sim_spread(sim_one_in(2) ? 1 << 18 : 64 << 20, 1 << 30) : 0;
	h->param[SLUICE_DOWNTIME_LIMIT_MS] = sim_spread(1, 400);
	h->param[SLUICE_TIMEOUT_MS] = sim_one_in(10) ? sim_spread(10, 5000) : 0;
	h->param[SLUICE_COMPRESS] = !sim_one_in(5)  ? SLUICE_COMPRESS_NONE
				    : sim_one_in(3) ? SLUICE_COMPRESS_AUTO
						    : SLUICE_COMPRESS_LZ4;
	h->param[SLUICE_TRACKER] = guest.marks_only ? SLUICE_TRACKER_MARKS : SLUICE_TRACKER_AUTO;
	for (int side = 0; side < 2; side++) {
		h->dead_peer_ms[side] = sim_spread(500, 3000);
		h->callback_ms[side] = sim_spread(500, sim_one_in(8) ? 20000 : 4000);
	}
	if (sim_one_in(2)) {
		h->dead_peer_ms[SIM_DESTINATION] = h->dead_peer_ms[SIM_SOURCE];
		h->callback_ms[SIM_DESTINATION] = h->callback_ms[SIM_SOURCE];
	}
	choose_longer(h);
	h->param[SLUICE_CONNECT_MS] = sim_spread(200, 2000);
	h->param[SLUICE_MAX_STATE] = 8 << 20;
	h->param[SLUICE_THROTTLE_MAX] = sim_one_in(4) ? sim_below(100) : 0;
	h->param[SLUICE_HOLD] = sim_one_in(4);
	h->param[SLUICE_REMEMBER_MS] = sim_one_in(4) ? 0 : sim_spread(100, 10000);
	h->param[SLUICE_DRAIN_DEPTH] = 1 + sim_below(4);
	h->param[SLUICE_DRAIN_WINDOW_MS] = disk_window_ms();
	h->param[SLUICE_DRAIN_SHARE] = sim_spread(5, 100);
	h->param[SLUICE_DRAIN_TRIES] = 1 + sim_below(4);
	h->param[SLUICE_DRAIN_FAIL] = sim_one_in(4) ? SLUICE_DRAIN_FAILS : SLUICE_DRAIN_RETRY;
	h->alone = sim_one_in(2);
	h->patience_ns = sim_spread(SIM_MS, sim_one_in(2) ? 200 * SIM_MS : sim_one_in(4) ? 150 * SIM_S : 20 * SIM_S);
	h->slow_ns = sim_spread(10 * US, 100 * SIM_MS);
	h->quick_ns = US;
	h->fails = sim_one_in(8) ? 4 : 0;
	h->hangs = sim_one_in(8) ? 4 : 0;
	h->log_fails = sim_one_in(8) ? (uint32_t)sim_spread(1, 16) : 0;
	h->lock = sim_one_in(2);
	h->turns_knobs = sim_one_in(8);
	h->never_continues = h->param[SLUICE_HOLD] && sim_one_in(16);
	h->loads_long = sim_one_in(16);
	h->holds_long = h->param[SLUICE_HOLD] && sim_one_in(4);
	h->used = sim_one_in(4);
	h->sections = sim_one_in(3) ? 0 : 1 + (uint32_t)sim_below(3);
	h->section_bytes = (uint32_t)sim_spread(1, sim_one_in(40) ? GUEST_STATE : 2000);
	if (sim_one_in(24))
		world_is_hard();
}

void world_is_hard(void)
{
	struct embedder_habits *h = &embedder_habits;

	h->hard = true;
	guest_write_too_much();
	h->param[SLUICE_STREAMS] = 1;
	h->param[SLUICE_DOWNTIME_LIMIT_MS] = sim_spread(1, 8);
	h->param[SLUICE_THROTTLE_MAX] = sim_one_in(4) ? 0 : 1 + sim_below(99);
	wire_habits_now.ps_per_byte = 200000;
}

static void choose_pace(uint64_t seed)
{
	struct fiber_habits f = { .run = (uint32_t)sim_spread(2, 200),
				  .freeze = sim_one_in(2) ? 0 : (uint32_t)sim_spread(8, 2000),
				  .freeze_ns = sim_spread(10 * US, 20 * SIM_MS),
				  .lag = sim_one_in(2) ? 0 : (uint32_t)sim_spread(20, 1000),
				  .step_ns = sim_spread(100, 20 * US),
				  .hot = sim_below(HOT_SITES + 1),
				  .restless = sim_one_in(2) ? 0 : (uint32_t)sim_spread(4, 64),
				  .ambushes = (uint32_t)sim_spread(4, 64) };
	struct wire_habits w = { .latency_ns = sim_spread(US, 5 * SIM_MS),
				 .window = sim_spread(16 << 10, 4 << 20),
				 .ps_per_byte = (uint32_t)sim_spread(10, 20000),
				 .partial = sim_one_in(2) ? 0 : (uint32_t)sim_spread(2, 20) };

	if (embedder_habits.hard)
		w.ps_per_byte = 200000;
	if (race_is(seed))
		race_pace(&f, &w);
	fibers_reset(&f);
	wires_reset(&w);
}

/* ---------------------------------------------------------------- the harness */

static void dump(enum sim_side side)
{
	char text[4096];

	if (!embedders[side].session)
		return;
	sluice_dump(embedders[side].session, text, sizeof text);
	sim_trace("%s:\n%s", side == SIM_SOURCE ? "source" : "destination", text);
}

/* How long it may take until both sides have come to an end, from when nothing goes wrong any more and nobody (embedder, operator,
 * guest) has anything left to do: one wait that is not answered, a peer that turns out to be dead, and staying for one that may ask. */
static uint64_t bound_ns(void)
{
	/* Last words have 500 ms to be written and as much to be read, a lost link is dialled again after 250 ms, and time is looked at ten
	 * times a second. */
	enum { LAST_WORDS_MS = 2 * 500 + 250 + 100, SLACK_MS = 5000 /* that one side grants the other's deadlines */ };
	const uint64_t *param = embedder_habits.param;
	uint64_t wait =
		(param[SLUICE_CALLBACK_MS] > param[SLUICE_CONNECT_MS] ? param[SLUICE_CALLBACK_MS] : param[SLUICE_CONNECT_MS]) +
		SLACK_MS;
	uint64_t stays = param[SLUICE_REMEMBER_MS] ? param[SLUICE_REMEMBER_MS] + param[SLUICE_DEAD_PEER_MS] : 0;

	/* All of memory, and once more what was written meanwhile. */
	uint64_t bytes = 4ull * guest.pages * SLUICE_PAGE_SIZE, limit = param[SLUICE_BANDWIDTH];

	/* A wire carries a window in the time that a byte takes at most. */
	return (wait + param[SLUICE_DEAD_PEER_MS] + stays + LAST_WORDS_MS + (limit ? bytes * 1000 / limit : 0)) * SIM_MS +
	       bytes * wire_habits_now.ps_per_byte / 1000 + bytes / wire_habits_now.window * wire_habits_now.latency_ns;
}

static void check_progress(void)
{
	uint64_t since = faults_healed_at();

	laws_memory_bounded();
	laws_strays_shown_out();
	outcome_look();
	laws_dead_peers_noticed(embedder_habits.dead_peer_ms);
	pace_look();
	heed_look();
	knobs_look();
	still_look();
	if (fibers_steps() > steps_most + sim_now / SIM_S * steps_a_second)
		sim_violation("Law 6: %lu steps and no end: something spins", fibers_steps());
	disk_check();
	enum sluice_phase phase = embedders[SIM_SOURCE].phase;
	if ((guest.writes_left || disk_may_delay()) && (phase == SLUICE_ACTIVE || phase == SLUICE_DRAINING))
		faults_last_until(sim_now);
	if (sim_now < since + bound_ns())
		return;
	dump(SIM_SOURCE);
	dump(SIM_DESTINATION);
	sim_violation("Law 6: no progress: %.1f s after all was well the source is %s%s, the destination %s%s",
		      (double)(sim_now - since) * 1e-9, sluice_phase_name(embedders[0].phase), embedders[0].up ? "" : " (gone)",
		      sluice_phase_name(embedders[1].phase), embedders[1].up ? "" : " (gone)");
}

/* A destination that nobody calls, or calls any more, waits for ever: by design. */
static void end_the_lonely(void)
{
	struct embedder *d = &embedders[SIM_DESTINATION];

	if (embedders[SIM_SOURCE].up || !d->up || d->phase != SLUICE_INCOMING) {
		watch.alone_since = 0;
	} else if (!watch.alone_since) {
		watch.alone_since = sim_now;
		faults_last_until(sim_now + lonely_ns);
	} else if (sim_now - watch.alone_since > lonely_ns) {
		d->cancel_at = sim_now;
	}
}

/* A migration came in, and that is over: the same listener takes the next, and answers for the last. */
static void serve_again(void)
{
	struct embedder *d = &embedders[SIM_DESTINATION];

	bool ours = d->migration == embedders[SIM_SOURCE].migration; /* for another source: as often as it takes */

	if (!d->up && !d->crashed && d->migration && !(ours && watch.served) && embedders[SIM_SOURCE].up && sim_one_in(8)) {
		sim_trace("destination: waits for the next guest");
		watch.served |= ours;
		embedder_start(SIM_DESTINATION);
	}
}

/* Who comes back late may find that others were here meanwhile: what is remembered of him must outlast them. */
static void others_come(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];
	uint64_t apart_ns;
	bool late = s->up && !wires_link_of(SIM_SOURCE, &apart_ns) && d->knows & 1u << s->migration;
	bool waits = late && d->phase == SLUICE_INCOMING && !d->migration;
	bool over = d->phase == SLUICE_COMPLETED && d->close_at != FIBER_FOREVER;

	if ((!waits && !over) || !watch.visits || !d->session || !sim_one_in(waits ? 4 : 16))
		return;
	watch.visits--;
	wire_visit(promises_begin());
}

static void check_end(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE];
	bool there = guest.running[SIM_DESTINATION] && guest.lineage[SIM_SOURCE] == guest.lineage[SIM_DESTINATION];

	if (guest.running[SIM_SOURCE] && there)
		sim_violation("Law 5: two guests run");
	if (!guest.running[SIM_SOURCE] && !there && !guest.lost)
		sim_violation("Law 5: no guest runs and nobody was in doubt");
	if (guest.throttle && !s->crashed)
		sim_violation("Law 9: the migration is over and the guest is slowed down by %u %% still", guest.throttle);
	if (!s->crashed_ever && !s->resume_failed)
		disk_check_end();
	outcome_of_attempt();
	for (int side = 0; side < 2; side++) {
		bool listener = embedders[side].listener;
		uint64_t held = heap_held((enum sim_side)side);
		if (!embedders[side].crashed_ever && held > (listener ? sizeof(struct sluice_listener) : 0))
			sim_violation("Law 8: the %s has ended and holds %lu bytes still", side ? "destination" : "source", held);
	}
	if (there)
		laws_all_landed("after completion");
}

static void attempt(void)
{
	faults_last_until(sim_now);
	memset(&watch, 0, sizeof watch);
	watch.visits = sim_one_in(2) ? 0 : 1 + (uint32_t)sim_below(4);
	operator_reset();
	outcome_reset();
	embedder_start(SIM_DESTINATION);
	embedder_start(SIM_SOURCE);
	do {
		fiber_sleep(10 * SIM_MS);
		check_progress();
		serve_again();
		others_come();
		end_the_lonely();
		operator_looks();
	} while (faults_pending() || embedders[SIM_SOURCE].up || embedders[SIM_DESTINATION].up);
	check_end();
}

static void *harness_body(void *arg)
{
	(void)arg;
	attempt();
	missed = goal_missed();
	if (!missed && guest.running[SIM_SOURCE] && !guest.running[SIM_DESTINATION] && sim_one_in(2)) {
		sim_trace("once more, with nothing in the way");
		faults_none();
		embedder_hold_lock(SIM_SOURCE, 0);
		/* Who greets as a source and says no more is taken for one, for 2 s, and others are refused meanwhile. */
		wires_empty_backlog();
		embedder_habits.fails = embedder_habits.hangs = embedder_habits.log_fails = 0;
		embedder_habits.never_continues = guest.never_still = false;
		guest.late_writes = guest.late_writes < 3 ? guest.late_writes : 3;
		embedder_habits.param[SLUICE_TIMEOUT_MS] = 0;
		embedder_habits.param[SLUICE_DRAIN_FAIL] = SLUICE_DRAIN_RETRY;
		disk_heals();
		for (int side = 0; side < 2; side++)
			embedder_habits.callback_ms[side] += OUTCOME_CALLBACK_MS;
		choose_longer(&embedder_habits);
		embedder_habits.used = true;
		embedders[SIM_DESTINATION].crashed = embedders[SIM_DESTINATION].host_gone = false;
		attempt();
	}
	fibers_stop();
}

/* Returns whether the seed got to where it set out for. */
static bool run_once(uint64_t seed, uint64_t chance)
{
	sim_seed(chance);
	heap_reset();
	system_reset();
	guest_make();
	disk_make();
	choose_habits();
	choose_pace(seed);
	talk_reset();
	faults_plan(seed);
	guest_prepare_destination(embedder_habits.used);
	promises_reset();
	memset(embedders, 0, sizeof embedders);
	embedder_hold_lock(SIM_SOURCE, 0);
	sim_trace("seed %lu: %u pages in %u regions, %lu streams, %s, %u faults", seed, guest.pages, guest.regions,
		  embedder_habits.param[SLUICE_STREAMS], guest.marks_only ? "marks" : "log", faults_planned());
	sim_trace("downtime limit %lu ms, callbacks %lu ms, dead peer %lu ms, bandwidth %lu, compress %lu",
		  embedder_habits.param[SLUICE_DOWNTIME_LIMIT_MS], embedder_habits.param[SLUICE_CALLBACK_MS],
		  embedder_habits.param[SLUICE_DEAD_PEER_MS], embedder_habits.param[SLUICE_BANDWIDTH],
		  embedder_habits.param[SLUICE_COMPRESS]);
	(void)fiber_start(SIM_WORLD, "harness", harness_body, NULL);
	(void)fiber_start(SIM_WORLD, "faults", faults_body, NULL);
	(void)fiber_start(SIM_WORLD, "guest", guest_body, NULL);
	(void)fiber_start(SIM_WORLD, "disk", disk_body, NULL);
	fibers_run();
	return !missed;
}

bool world_run(uint64_t seed)
{
	uint64_t chance = seed;

	for (int tries = 0; tries < TRIES && !run_once(seed, chance) && !sim_broken[0]; tries++)
		chance = sim_random();
	return !sim_broken[0];
}
