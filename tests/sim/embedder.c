/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* embedder.c: see embedder.h. Only the public API is used, but for a look at the deciding state where a writer that comes late
 * must know whether its write can still be seen. */
#include "tests/sim/embedder.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/run/session.h"
#include "tests/sim/coverage.h"
#include "tests/sim/disk.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/heap.h"
#include "tests/sim/laws.h"
#include "tests/sim/system.h"
#include "tests/sim/wire.h"
#include "tests/sim/world.h"

struct embedder embedders[2];
struct embedder_habits embedder_habits;

static const char *const side_names[] = { "source", "destination", "world" };
static const char *const requests[] = { "", "incoming", "pause", "save", "release", "load", "acquire", "resume" };
static unsigned char state_data[GUEST_STATE];
static struct {
	struct fiber *holder;
	uint64_t until;
} big_lock[2];

/* A call of the public API: it may not block (Law 1). */
#define CALL(x)                                \
	__extension__({                        \
		fiber_current->public_calls++; \
		__auto_type call_result = (x); \
		fiber_current->public_calls--; \
		call_result;                   \
	})

/* ---------------------------------------------------------------- answers */

static void finish(struct embedder *e, enum sluice_request r);

/* Nobody waits for it any more, so long did it take. */
static void given_up(struct embedder *e, struct answer *a)
{
	if (a->due && a->hangs)
		coverage_met_request(e->side, &a->asked_at, FAULT_CALLBACK_HANGS);
	a->due = false;
}

static void asked(struct embedder *e, enum sluice_request r)
{
	struct answer *a = &e->answers[r];

	if (a->due)
		sim_violation("%s is asked for %s twice", side_names[e->side], requests[r]);
	*a = (struct answer){ .due = true, .at = sim_now, .asked_at = coverage_asked_at[e->side] };
	enum fault fault = faults_of_request(e->side);
	if (fault == FAULT_CALLBACK_FAILS || (embedder_habits.fails && sim_one_in(embedder_habits.fails)))
		a->code = -EIO;
	if (fault == FAULT_CALLBACK_HANGS || (embedder_habits.hangs && sim_one_in(embedder_habits.hangs)))
		a->at += embedder_habits.slow_ns + sim_spread(SIM_MS, 3 * embedder_habits.param[SLUICE_CALLBACK_MS] * SIM_MS) +
			 (sim_one_in(4) ? 8 * SIM_S : 0);
	else if (!sim_one_in(3))
		a->at += sim_spread(US, embedder_habits.slow_ns);
	if (a->code && e->side == SIM_DESTINATION && r >= SLUICE_ACQUIRE)
		e->may_drop = true;
	a->hangs = a->at > sim_now + embedder_habits.slow_ns;
	faults_last_until(a->at);
	sim_trace("%s is asked: %s%s", side_names[e->side], requests[r], a->code ? " (will fail)" : "");
	if (r == SLUICE_RESUME) /* whatever else was under way is given up */
		for (int i = 1; i < SLUICE_RESUME; i++)
			given_up(e, &e->answers[i]);
	if (a->at == sim_now)
		finish(e, r);
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
			.name = name, .version = i, .data = state_data, .length = guest.final_length[i]
		};
		if (sluice_save_section(e->session, &section))
			sim_violation("a section of %u bytes is refused", guest.final_length[i]);
	}
	/* Saving a device may write its rings. */
	for (uint64_t n = sim_below(3); n; n--)
		guest_write(true);
}

/* The effect, and then the word. */
static int take_effect(struct embedder *e, enum sluice_request r, int code)
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
		if (code) {
			e->resume_failed = true;
			break;
		}
		e->resume_failed = false;
		laws_guest_runs(e->side);
		if (e->side == SIM_SOURCE)
			disk_resumed();
		guest.running[e->side] = true;
		sim_trace("%s: the guest runs", side_names[e->side]);
		break;
	case SLUICE_ACQUIRE:
		if (code && e->resolved) /* no disks, no guest: its operator is told */
			e->resume_failed = true;
		break;
	default: break;
	}
	return code;
}

static void finish(struct embedder *e, enum sluice_request r)
{
	struct answer *a = &e->answers[r];
	int code = take_effect(e, r, a->code);
	e->did |= code ? 0 : 1u << r;

	if (!a->due) /* given up meanwhile */
		return;
	if (code)
		coverage_met_request(e->side, &a->asked_at, FAULT_CALLBACK_FAILS);
	given_up(e, a);
	sim_trace("%s says done: %s %d", side_names[e->side], requests[r], code);
	if (sluice_done(e->session, r, code))
		sim_violation("%s: done of %s is not taken", side_names[e->side], requests[r]);
}

/* ---------------------------------------------------------------- callbacks */

static void on_event(void *opaque, const struct sluice_event *event)
{
	struct embedder *e = opaque;

	if (event->type == SLUICE_EVENT_ENDED) {
		e->ended = true;
		sim_trace("%s: ended", side_names[e->side]);
	}
	if (event->type != SLUICE_EVENT_PHASE)
		return;
	e->phase = event->u.phase;
	e->doubt = e->phase == SLUICE_IN_DOUBT;
	struct sluice_error error;
	sluice_get_error(e->session, &error);
	sim_trace("%s: phase %s%s%s", side_names[e->side], sluice_phase_name(e->phase), error.code ? ": " : "", error.text);
	laws_phase(e->side, e->phase);
	e->continue_at = FIBER_FOREVER;
	if (e->phase == SLUICE_PRE_SWITCHOVER && !embedder_habits.never_continues)
		e->continue_at = sim_now + sim_spread(US, embedder_habits.slow_ns);
	/* A session that is over may stay for a peer in doubt, or be closed soon. */
	if (e->phase == SLUICE_COMPLETED)
		e->close_at = sim_now + (e->side == SIM_SOURCE || sim_one_in(2) ? sim_spread(US, 300 * SIM_MS) : 10 * SIM_S);
	else if ((e->phase == SLUICE_FAILED || e->phase == SLUICE_CANCELLED) && sim_one_in(3))
		e->close_at = sim_now + sim_spread(US, 300 * SIM_MS);
	if (e->close_at != FIBER_FOREVER)
		faults_last_until(e->close_at);
}

static void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	struct embedder *e = opaque;

	(void)cookie;
	e->met = true;
	if (n != guest.regions || length > SLUICE_MESSAGE_MAX)
		sim_violation("Law 7: an offer of %zu regions came through", n);
	for (uint32_t i = 0; i < n; i++) {
		struct sluice_region r = {
			.size_of = sizeof r,
			.name = offers[i].name,
			.size = offers[i].size,
			.host_page_size = offers[i].host_page_size,
			.address = guest_page(SIM_DESTINATION, guest.region[i].first),
			.node = -1,
			.fd = -1,
			.flags = SLUICE_REGION_POPULATED | (embedder_habits.used ? SLUICE_REGION_USED : 0),
		};
		if (r.size != (uint64_t)guest.region[i].pages * SLUICE_PAGE_SIZE)
			sim_violation("Law 7: an offered region has a wrong size");
		sluice_add_region(e->session, &r, NULL);
	}
	asked(e, SLUICE_INCOMING_GUEST);
}

static void on_pause(void *opaque)
{
	disk_stopping();
	asked(opaque, SLUICE_PAUSE);
}

static void on_resume(void *opaque)
{
	asked(opaque, SLUICE_RESUME);
}

static void on_save(void *opaque)
{
	asked(opaque, SLUICE_SAVE);
}

static void on_release(void *opaque)
{
	asked(opaque, SLUICE_RELEASE);
}

static void on_acquire(void *opaque)
{
	asked(opaque, SLUICE_ACQUIRE);
}

static void on_load(void *opaque, const struct sluice_section *sections, size_t n)
{
	laws_all_landed("READY promises the whole guest");
	if (n != guest.final_sections)
		sim_violation("%zu sections of device state came, %u were saved", n, guest.final_sections);
	for (uint32_t i = 0; i < n; i++) {
		const unsigned char *data = sections[i].data;
		if (sections[i].length != guest.final_length[i])
			sim_violation("section %u has %zu bytes, %u were saved", i, sections[i].length, guest.final_length[i]);
		for (size_t at = 0; at < sections[i].length; at += at + 64 < sections[i].length ? 64 : 1)
			if (data[at] != (guest.final_stamp & 0xff))
				sim_violation("section %u is of another try at byte %zu", i, at);
	}
	asked(opaque, SLUICE_LOAD);
}

static void on_throttle(void *opaque, uint32_t percent)
{
	(void)opaque;
	sim_trace("source: the guest is slowed down by %u %%", percent);
	guest.throttle = percent;
}

static int on_lock(void *opaque, uint64_t until)
{
	struct embedder *e = opaque;

	if (fiber_current->mutexes)
		sim_violation("Law 2: %s takes the big lock while holding an inner one", fiber_current->name);
	if (sim_now < big_lock[e->side].until)
		coverage_met(FAULT_LOCK_HELD, 1u << e->side);
	while (big_lock[e->side].holder || sim_now < big_lock[e->side].until) {
		if (sim_now >= until)
			return -ETIMEDOUT;
		uint64_t at = big_lock[e->side].holder ? until : big_lock[e->side].until;
		(void)fiber_block(&big_lock[e->side], at < until ? at : until, NULL);
	}
	big_lock[e->side].holder = fiber_current;
	fiber_current->big_lock = true;
	return 0;
}

static void on_unlock(void *opaque)
{
	struct embedder *e = opaque;

	if (big_lock[e->side].holder != fiber_current)
		sim_violation("Law 2: the big lock is given back by who does not hold it");
	big_lock[e->side].holder = NULL;
	fiber_current->big_lock = false;
	fiber_wake(&big_lock[e->side]);
}

void embedder_hold_lock(enum sim_side side, uint64_t until)
{
	big_lock[side].until = until;
}

/* ---------------------------------------------------------------- the loop */

static uint64_t next_due(const struct embedder *e)
{
	uint64_t at = e->close_at < e->cancel_at ? e->close_at : e->cancel_at;

	at = e->continue_at < at ? e->continue_at : at;
	for (int i = 1; i <= SLUICE_RESUME; i++)
		if (e->answers[i].due && e->answers[i].at < at)
			at = e->answers[i].at;
	return at;
}

/* A writer that pause has missed: it marks what it writes, and it still counts if the closing sync has not. */
void embedder_late_write(void)
{
	struct sluice *s = embedders[SIM_SOURCE].session;

	if (!guest.late_writes || !s || s->decide.source.state != SOURCE_LAST_ROUND || s->decide.source.last_sent ||
	    !sim_one_in(2))
		return;
	sim_trace("source: a device still writes");
	guest.late_writes--;
	guest_write(true);
}

static void do_due(struct embedder *e)
{
	for (int i = 1; i <= SLUICE_RESUME; i++)
		if (e->answers[i].due && e->answers[i].at <= sim_now)
			(void)CALL((finish(e, (enum sluice_request)i), 0));
	if (e->close_at <= sim_now) {
		e->close_at = FIBER_FOREVER;
		(void)CALL(sluice_close(e->session));
	}
	if (e->cancel_at <= sim_now) {
		e->cancel_at = FIBER_FOREVER;
		int rc = CALL(sluice_cancel(e->session));
		sim_trace("%s: cancel: %d", side_names[e->side], rc);
	}
	if (e->continue_at <= sim_now) {
		e->continue_at = FIBER_FOREVER;
		int rc = CALL(sluice_continue(e->session));
		sim_trace("%s: continue: %d", side_names[e->side], rc);
	}
	if (e->resolve >= 0) {
		sim_trace("%s: the operator says %s", side_names[e->side], e->resolve ? "run" : "discard");
		int rc = CALL(sluice_resolve(e->session, e->resolve));
		if (rc && rc != -EINVAL) /* it is in doubt no more */
			sim_violation("%s takes no operator's word: %d", side_names[e->side], rc);
		e->resolve = -1;
	}
}

static const struct sluice_ops ops = {
	.size_of = sizeof ops,
	.event = on_event,
	.incoming = on_incoming,
	.pause = on_pause,
	.resume = on_resume,
	.save = on_save,
	.load = on_load,
	.release = on_release,
	.acquire = on_acquire,
	.throttle = on_throttle,
};

static bool open_session(struct embedder *e)
{
	struct sluice_ops o = ops;
	char error[SLUICE_ERROR_MAX];

	if (embedder_habits.lock) {
		o.needs_lock = SLUICE_LOCK_DIRTY_LOG;
		o.lock = on_lock;
		o.unlock = on_unlock;
	}
	if (e->side == SIM_SOURCE && disk_there()) {
		o.io_depth = disk_io_depth;
		o.drain_try = disk_drain_try;
	}
	if (e->side == SIM_SOURCE && !guest.marks_only) {
		o.dirty_log_start = guest_log_start;
		o.dirty_log_fetch = guest_log_fetch;
		o.dirty_log_clear = guest_log_clear;
		o.dirty_log_stop = guest_log_stop;
	}
	if (sluice_create(&o, e, &e->session))
		return false;
	for (int p = 1; p < SLUICE_PARAMS; p++)
		if (sluice_set(e->session, (enum sluice_param)p, embedder_habits.param[p]))
			sim_violation("parameter %d refuses %lu", p, embedder_habits.param[p]);
	if (e->side == SIM_DESTINATION)
		return (e->listener || !sluice_listen("tcp:127.0.0.1:4747", 1, &e->listener, error)) &&
		       !sluice_destination_start(e->session, e->listener);
	for (uint32_t i = 0; i < guest.regions; i++) {
		struct sluice_region r = {
			.size_of = sizeof r,
			.name = guest.region[i].name,
			.size = (uint64_t)guest.region[i].pages * SLUICE_PAGE_SIZE,
			.address = guest_page(SIM_SOURCE, guest.region[i].first),
			.node = -1,
			.fd = -1,
		};
		if (sluice_add_region(e->session, &r, NULL))
			return false;
	}
	return !sluice_source_start(e->session, "tcp:127.0.0.1:4747");
}

static void close_session(struct embedder *e)
{
	struct sluice *s = e->session;

	/* A resume that took too long for the session is no less under way. */
	if (e->answers[SLUICE_RESUME].due) {
		while (sim_now < e->answers[SLUICE_RESUME].at)
			fiber_sleep(e->answers[SLUICE_RESUME].at - sim_now);
		(void)take_effect(e, SLUICE_RESUME, e->answers[SLUICE_RESUME].code);
		given_up(e, &e->answers[SLUICE_RESUME]);
	}
	while (e->side == SIM_SOURCE && guest.writing)
		fiber_sleep(US);
	e->session = NULL;
	coverage_reset(e->side);
	if (sluice_destroy(s))
		sim_violation("%s has ended and cannot be destroyed", side_names[e->side]);
	e->up = false;
}

static void *embedder_body(void *arg)
{
	struct embedder *e = arg;

	if (e->side == SIM_SOURCE)
		do
			fiber_sleep(sim_spread(US, 50 * SIM_MS));
		while (!wire_listening() && embedders[SIM_DESTINATION].up);
	if (!open_session(e))
		sim_violation("the %s does not start", side_names[e->side]);
	while (!e->ended) {
		struct pollfd p = { .fd = sluice_event_fd(e->session), .events = POLLIN };
		uint64_t due = next_due(e), at = sim_now + 20 * SIM_MS;
		at = due < at ? due : at;
		poll(&p, 1, at > sim_now ? (int)((at - sim_now) / SIM_MS) + 1 : 0);
		uint64_t late = e->side == SIM_SOURCE ? disk_loop_late_ns() : 0;
		if (late)
			fiber_sleep(late);
		(void)CALL(sluice_dispatch(e->session));
		if (!e->ended)
			do_due(e);
	}
	close_session(e);
	return NULL;
}

void embedder_start(enum sim_side side)
{
	struct embedder *e = &embedders[side];
	struct sluice_listener *listener = e->listener;
	bool crashed_ever = e->crashed_ever, forgot = e->forgot;

	*e = (struct embedder){ .side = side,
				.listener = listener,
				.up = true,
				.crashed_ever = crashed_ever,
				.forgot = forgot,
				.close_at = FIBER_FOREVER,
				.cancel_at = FIBER_FOREVER,
				.continue_at = FIBER_FOREVER,
				.resolve = -1 };
	big_lock[side].holder = NULL;
	coverage_reset(side);
	(void)fiber_start(side, side_names[side], embedder_body, e);
}

void embedder_cancel(enum sim_side side)
{
	embedders[side].cancel_at = sim_now;
	system_fd_ring(sluice_event_fd(embedders[side].session));
}

void embedder_crash(enum sim_side side, bool host)
{
	struct embedder *e = &embedders[side];

	sim_trace("%s: its %s dies", side_names[side], host ? "host" : "process");
	e->crashed = e->crashed_ever = true;
	e->forgot |= e->met;
	e->host_gone = host;
	e->up = false;
	e->session = NULL;
	coverage_reset(side);
	e->listener = NULL;
	e->doubt = false;
	guest.running[side] = false;
	if (side == SIM_SOURCE)
		guest.writing = false;
	wires_side_gone(side, host);
	heap_side_gone(side);
	fiber_kill_side(side); /* at last: it may be us */
}
