/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* faults.c: see faults.h. */
#include "tests/sim/faults.h"

#include <stdio.h>
#include <string.h>

#include "core/run/session.h"
#include "tests/sim/embedder.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/wire.h"
#include "tests/sim/world.h"

enum { PLANNED = 4, PHASES = SLUICE_IN_DOUBT + 1 };

struct plan {
	enum fault fault;
	uint64_t at; /* time; FIBER_FOREVER: at a message */
	enum sim_side side;
	uint32_t type, nth;
	int when; /* 0 before it is written, 1 after, 2 when it was read */
	bool done;
};

static struct plan plans[PLANNED];
static uint32_t n_plans;
static uint64_t restart_at, log_fails_until;
static bool struck;
static uint32_t last_message;
static uint64_t by_phase[FAULTS][PHASES], by_message[FAULTS][MESSAGE_TYPES], messages[MESSAGE_TYPES];

static const char *const names[FAULTS] = {
	"cut link",      "cut stream",     "cut some",       "cut all",   "silent link",   "silent one way", "silent stream",
	"silent all",    "stall link",     "stall stream",   "stall all", "damage link",   "damage stream",  "double link",
	"double stream", "old link",       "old stream",     "tear link", "tear stream",   "stray",          "crash source",
	"crash dest",    "restart dest",   "host source",    "host dest", "cancel source", "cancel dest",    "log fails",
	"lock held",     "callback fails", "callback hangs",
};

void faults_none(void)
{
	n_plans = 0;
	restart_at = FIBER_FOREVER;
	log_fails_until = 0;
	struck = false;
	last_message = 0;
	wire_harm_greeting(false, HARM_NONE);
	wire_harm_greeting(true, HARM_NONE);
}

void faults_plan(void)
{
	/* The handoff's messages are where most can be lost. */
	static const uint8_t types[] = { MESSAGE_HELLO,      MESSAGE_WELCOME,    MESSAGE_STREAMS_UP, MESSAGE_LANDED,
					 MESSAGE_SWITCHOVER, MESSAGE_SWITCHOVER, MESSAGE_READY,      MESSAGE_READY,
					 MESSAGE_GO,         MESSAGE_GO,         MESSAGE_RUNNING,    MESSAGE_RUNNING,
					 MESSAGE_NEVER,      MESSAGE_DONE,       MESSAGE_CANCEL,     MESSAGE_HEARTBEAT,
					 MESSAGE_BYE };

	faults_none();
	n_plans = sim_one_in(6) ? 0 : 1 + (uint32_t)sim_below(sim_one_in(2) ? PLANNED : 1);
	for (uint32_t i = 0; i < n_plans; i++) {
		plans[i] = (struct plan){ .fault = (enum fault)sim_below(FAULT_CALLBACK_FAILS), .at = FIBER_FOREVER };
		plans[i].side = (enum sim_side)sim_below(2);
		if (sim_one_in(4)) {
			plans[i].at = sim_now + sim_spread(10 * US, 1000 * SIM_MS);
			continue;
		}
		if (sim_one_in(2)) {
			plans[i].type = FAULTS_BATCH;
			plans[i].nth = (uint32_t)sim_spread(1, 256);
			continue;
		}
		plans[i].type = types[sim_below(sizeof types)];
		plans[i].nth =
			1 + (uint32_t)(plans[i].type == MESSAGE_LANDED || plans[i].type == MESSAGE_HEARTBEAT ? sim_below(8) : 0);
		plans[i].when = (int)sim_below(3);
	}
}

uint32_t faults_planned(void)
{
	return n_plans;
}

bool faults_struck(void)
{
	return struck;
}

bool faults_pending(void)
{
	return restart_at != FIBER_FOREVER;
}

bool faults_log_fails(void)
{
	return sim_now < log_fails_until;
}

void faults_note(enum fault fault)
{
	const struct sluice *s = world_session(SIM_SOURCE);
	uint32_t phase = s ? *(const volatile uint32_t *)(const volatile void *)&s->phase : (uint32_t)embedders[SIM_SOURCE].phase;

	struck = true;
	by_phase[fault][phase < PHASES ? phase : 0]++;
	by_message[fault][last_message]++;
}

/* One of the open links or streams; NULL: none. */
static struct wire *some_wire(bool link)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < wires_count(); i++)
		n += wire_open(wires_get(i)) && wire_is_link(wires_get(i)) == link;
	if (!n)
		return NULL;
	uint64_t k = sim_below(n);
	for (uint32_t i = 0; i < wires_count(); i++)
		if (wire_open(wires_get(i)) && wire_is_link(wires_get(i)) == link && !k--)
			return wires_get(i);
	return NULL;
}

static void all_wires(enum fault fault, uint64_t until)
{
	for (uint32_t i = 0; i < wires_count(); i++) {
		struct wire *w = wires_get(i);
		if (!wire_open(w))
			continue;
		if (fault == FAULT_CUT_ALL || (fault == FAULT_CUT_SOME && sim_one_in(2)))
			wire_cut(w);
		else if (fault == FAULT_SILENT_ALL)
			wire_silence(w, SIM_WORLD);
		else if (fault == FAULT_STALL_ALL)
			wire_stall(w, until);
	}
}

static bool touches_link(enum fault f)
{
	return f == FAULT_CUT_LINK || f == FAULT_SILENT_LINK || f == FAULT_SILENT_ONE_WAY || f == FAULT_STALL_LINK ||
	       f == FAULT_DAMAGE_LINK || f == FAULT_DOUBLE_LINK || f == FAULT_OLD_LINK || f == FAULT_TEAR_LINK;
}

static enum wire_harm harm_of(enum fault f)
{
	switch (f) {
	case FAULT_DAMAGE_LINK:
	case FAULT_DAMAGE_STREAM: return HARM_DAMAGE;
	case FAULT_DOUBLE_LINK:
	case FAULT_DOUBLE_STREAM: return HARM_DOUBLE;
	case FAULT_OLD_LINK:
	case FAULT_OLD_STREAM: return HARM_OLD;
	case FAULT_TEAR_LINK:
	case FAULT_TEAR_STREAM: return HARM_CUT_WITHIN;
	default: return HARM_NONE;
	}
}

/* What touches one wire. Returns whether there was one, or will be: what is done to a frame can be done to a greeting. */
static bool strike_wire(const struct plan *p, uint64_t until)
{
	bool link = touches_link(p->fault);
	struct wire *w = some_wire(link);

	if (!w && harm_of(p->fault))
		wire_harm_greeting(link, harm_of(p->fault));
	else if (!w)
		return false;
	else if (harm_of(p->fault))
		wire_harm(w, link ? p->side : SIM_SOURCE, harm_of(p->fault));
	else if (p->fault == FAULT_CUT_LINK || p->fault == FAULT_CUT_STREAM)
		wire_cut(w);
	else if (p->fault == FAULT_STALL_LINK || p->fault == FAULT_STALL_STREAM)
		wire_stall(w, until);
	else
		wire_silence(w, p->fault == FAULT_SILENT_ONE_WAY ? p->side : SIM_WORLD);
	return true;
}

/* Returns whether it could be done. May not return at all where a side kills itself. */
static bool strike(struct plan *p)
{
	uint64_t until = sim_now + sim_spread(SIM_MS, 8 * SIM_S);
	struct embedder *s = &embedders[SIM_SOURCE], *d = &embedders[SIM_DESTINATION];

	p->done = true;
	sim_trace("fault: %s", names[p->fault]);
	switch (p->fault) {
	case FAULT_CUT_SOME:
	case FAULT_CUT_ALL:
	case FAULT_SILENT_ALL:
	case FAULT_STALL_ALL:
		faults_note(p->fault);
		all_wires(p->fault, until);
		return true;
	case FAULT_STRAY: faults_note(p->fault); return wire_stray();
	case FAULT_RESTART_DESTINATION: restart_at = sim_now + sim_spread(SIM_MS, SIM_S); /* fallthrough */
	case FAULT_CRASH_DESTINATION:
	case FAULT_HOST_DESTINATION:
		if (!d->up) {
			restart_at = FIBER_FOREVER;
			return false;
		}
		faults_note(p->fault);
		embedder_crash(SIM_DESTINATION, p->fault == FAULT_HOST_DESTINATION);
		return true;
	case FAULT_CRASH_SOURCE:
	case FAULT_HOST_SOURCE:
		if (!s->up || !s->session)
			return false;
		faults_note(p->fault);
		embedder_crash(SIM_SOURCE, p->fault == FAULT_HOST_SOURCE);
		return true;
	case FAULT_CANCEL_SOURCE:
		faults_note(p->fault);
		s->cancel_at = s->session ? sim_now : FIBER_FOREVER;
		return true;
	case FAULT_CANCEL_DESTINATION:
		faults_note(p->fault);
		d->cancel_at = d->session ? sim_now : FIBER_FOREVER;
		return true;
	case FAULT_LOG_FAILS:
		faults_note(p->fault);
		log_fails_until = until;
		return true;
	case FAULT_LOCK_HELD:
		faults_note(p->fault);
		embedder_hold_lock(SIM_SOURCE, until);
		return true;
	default:
		if (!strike_wire(p, until))
			return false;
		faults_note(p->fault);
		return true;
	}
}

void faults_at_message(enum sim_side side, uint32_t type, int when)
{
	for (uint32_t i = 0; i < n_plans; i++) {
		struct plan *p = &plans[i];
		if (p->done || p->at != FIBER_FOREVER || p->type != type || p->when != when || --p->nth)
			continue;
		(void)side;
		(void)strike(p);
	}
}

void *faults_body(void *arg)
{
	(void)arg;
	for (;;) {
		uint64_t next = sim_now + 100 * SIM_MS;
		for (uint32_t i = 0; i < n_plans; i++) {
			if (plans[i].done || plans[i].at == FIBER_FOREVER)
				continue;
			if (plans[i].at <= sim_now)
				(void)strike(&plans[i]);
			else if (plans[i].at < next)
				next = plans[i].at;
		}
		if (restart_at <= sim_now) {
			restart_at = FIBER_FOREVER;
			sim_trace("destination: it is started again and knows nothing");
			embedder_start(SIM_DESTINATION);
		} else if (restart_at < next) {
			next = restart_at;
		}
		fiber_sleep(next > sim_now ? next - sim_now : 1);
	}
	return NULL;
}

/* ---------------------------------------------------------------- coverage */

void coverage_message(uint32_t type)
{
	messages[type]++;
	if (type != MESSAGE_HEARTBEAT)
		last_message = type;
}

void coverage_print(void)
{
	printf("%-16s", "fault \\ source");
	for (uint32_t i = 0; i < PHASES; i++)
		if (i != SLUICE_INCOMING && i != SLUICE_DRAINING && i != SLUICE_PRE_SWITCHOVER)
			printf(" %9.9s", sluice_phase_name((enum sluice_phase)i));
	printf("\n");
	for (uint32_t f = 0; f < FAULTS; f++) {
		printf("%-16s", names[f]);
		for (uint32_t i = 0; i < PHASES; i++)
			if (i != SLUICE_INCOMING && i != SLUICE_DRAINING && i != SLUICE_PRE_SWITCHOVER)
				printf(" %9lu", by_phase[f][i]);
		printf("\n");
	}
	printf("\n%-16s", "fault \\ after");
	for (uint32_t i = 0; i < MESSAGE_TYPES; i++)
		if (i != MESSAGE_HEARTBEAT && i != MESSAGE_EMBEDDER)
			printf(" %7.7s", i ? message_name(i) : "nothing");
	printf("\n");
	for (uint32_t f = 0; f < FAULTS; f++) {
		printf("%-16s", names[f]);
		for (uint32_t i = 0; i < MESSAGE_TYPES; i++)
			if (i != MESSAGE_HEARTBEAT && i != MESSAGE_EMBEDDER)
				printf(" %7lu", by_message[f][i]);
		printf("\n");
	}
	printf("\n%-16s", "messages");
	for (uint32_t i = 1; i < MESSAGE_TYPES; i++)
		printf(" %s:%lu", message_name(i), messages[i]);
	printf("\n");
}
