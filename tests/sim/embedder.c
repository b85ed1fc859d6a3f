/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* embedder.c: see embedder.h. Only the public API is used, but for a look at the deciding state where a writer that comes late
 * must know whether its write can still be seen. */
#include "tests/sim/embedder.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/run/session.h"
#include "tests/sim/answers.h"
#include "tests/sim/contracts.h"
#include "tests/sim/coverage.h"
#include "tests/sim/disk.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/heap.h"
#include "tests/sim/heed.h"
#include "tests/sim/knobs.h"
#include "tests/sim/laws.h"
#include "tests/sim/lies.h"
#include "tests/sim/outcome.h"
#include "tests/sim/pace.h"
#include "tests/sim/promises.h"
#include "tests/sim/race.h"
#include "tests/sim/still.h"
#include "tests/sim/system.h"
#include "tests/sim/talk.h"
#include "tests/sim/told.h"
#include "tests/sim/wire.h"
#include "tests/sim/world.h"

struct embedder embedders[2];
struct embedder_habits embedder_habits;

const char *const embedder_names[] = { "source", "destination", "world" };
static struct {
	struct fiber *holder;
	uint64_t until, taken_at;
} big_lock[2];

/* A call of the public API: it may not block (Law 1). */
#define CALL(x)                                \
	__extension__({                        \
		fiber_current->public_calls++; \
		__auto_type call_result = (x); \
		fiber_current->public_calls--; \
		call_result;                   \
	})

/* ---------------------------------------------------------------- callbacks */

/* What it works on would be freed. An answer that took too long is nobody's; it is asked for a little before the loop hears of that. */
static void check_answered(const struct embedder *e)
{
	enum { LOOP_MS = 500 };

	for (int r = 1; r <= SLUICE_RESUME; r++)
		if (e->answers[r].due && sim_now + LOOP_MS * SIM_MS < e->answers[r].since + e->answers[r].patience_ms * SIM_MS)
			sim_violation("Law 1: the %s has ended while its embedder does what it was asked",
				      embedder_names[e->side]);
}

static void on_event(void *opaque, const struct sluice_event *event)
{
	struct embedder *e = opaque;

	told_event(e->side, event);
	if (event->type == SLUICE_EVENT_ENDED) {
		e->ended = true;
		sim_trace("%s: ended", embedder_names[e->side]);
		outcome_ended(e->side);
		check_answered(e);
	}
	if (event->type == SLUICE_EVENT_MESSAGE)
		talk_heard(e->side, event->u.message.data, event->u.message.length);
	if (event->type != SLUICE_EVENT_PHASE)
		return;
	e->phase = event->u.phase;
	e->doubt = e->phase == SLUICE_IN_DOUBT;
	e->doubt_at = sim_now;
	struct sluice_error error;
	sluice_get_error(e->session, &error);
	sim_trace("%s: phase %s%s%s", embedder_names[e->side], sluice_phase_name(e->phase), error.code ? ": " : "", error.text);
	if (e->side == SIM_SOURCE && e->phase == SLUICE_ACTIVE && !guest.running[SIM_SOURCE])
		sim_violation("Law 9: the source is active, and its guest stands still");
	if (e->side == SIM_SOURCE && (e->phase == SLUICE_FAILED || e->phase == SLUICE_CANCELLED) && guest.throttle)
		sim_violation("Law 9: the source has given up, and its guest is slowed down by %u %% still", guest.throttle);
	promises_phase(e->side, e->phase);
	outcome_phase(e->side, e->phase);
	if (e->phase == SLUICE_COMPLETED && error.code)
		sim_violation("Law 9: the %s has completed with an error: %s", embedder_names[e->side], error.text);
	if (e->phase == SLUICE_COMPLETED)
		talk_word_told(e->side);
	e->continue_at = FIBER_FOREVER;
	if (e->phase == SLUICE_PRE_SWITCHOVER && !embedder_habits.never_continues) {
		uint64_t most_ns = embedder_habits.holds_long ? embedder_habits.callback_ms[SIM_SOURCE] * SIM_MS / 2
							      : embedder_habits.slow_ns;
		e->continue_at = sim_now + sim_spread(embedder_habits.quick_ns, most_ns);
		faults_last_until(e->continue_at);
	}
	/* A session that is over may stay for a peer in doubt, or be closed soon. */
	if (e->phase == SLUICE_COMPLETED)
		e->close_at = sim_now + (talk_lasts()                             ? 12 * SIM_S
					 : e->side == SIM_SOURCE || sim_one_in(2) ? sim_spread(US, 300 * SIM_MS)
										  : 10 * SIM_S);
	else if ((e->phase == SLUICE_FAILED || e->phase == SLUICE_CANCELLED) && sim_one_in(3))
		e->close_at = sim_now + sim_spread(US, 300 * SIM_MS);
	if (e->close_at != FIBER_FOREVER)
		faults_last_until(e->close_at);
}

const char embedder_cookie[EMBEDDER_COOKIE] = "dev0 is a disk";

static void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	struct embedder *e = opaque;

	if (length != sizeof embedder_cookie || memcmp(cookie, embedder_cookie, length))
		sim_violation("Law 9: the source's cookie did not arrive as it was set");
	const bool lies = lies_were_read(SIM_DESTINATION, MESSAGE_HELLO); /* to find that out is the library's affair */
	if (!lies && n != guest.regions)
		sim_violation("Law 7: an offer of %zu regions came through", n);
	for (uint32_t i = 0; i < guest.regions; i++) {
		struct sluice_region r = {
			.size_of = sizeof r,
			.name = guest.region[i].name,
			.size = (uint64_t)guest.region[i].pages * SLUICE_PAGE_SIZE,
			.host_page_size = SLUICE_PAGE_SIZE,
			.address = guest_page(SIM_DESTINATION, guest.region[i].first),
			.node = -1,
			.fd = -1,
			.flags = SLUICE_REGION_POPULATED |
				 (embedder_habits.used || e->knows & ~(1u << e->migration) ? SLUICE_REGION_USED : 0),
		};
		if (!lies && (offers[i].size != r.size || strcmp(offers[i].name, r.name)))
			sim_violation("Law 7: an offered region has a wrong size, or name");
		sluice_add_region(e->session, &r, NULL);
	}
	answers_asked(e, SLUICE_INCOMING_GUEST);
}

static void on_pause(void *opaque)
{
	disk_stopping();
	answers_asked(opaque, SLUICE_PAUSE);
}

/* A guest's clock is moved on by so much: not to before it was offered, whatever the source says. */
static void check_stood(struct embedder *e)
{
	uint64_t stood = sluice_stopped_ns(e->session), most = sim_now - e->session->decide.destination.started_ns;

	if (stood > most)
		sim_violation("Law 7: the guest has stood still for %lu ns, it is told, and was offered %lu ns ago", stood, most);
}

static void on_resume(void *opaque)
{
	const struct embedder *e = opaque;

	if (e->side == SIM_DESTINATION)
		check_stood(opaque);
	answers_asked(opaque, SLUICE_RESUME);
}

static void on_save(void *opaque)
{
	answers_asked(opaque, SLUICE_SAVE);
}

static void on_release(void *opaque)
{
	answers_asked(opaque, SLUICE_RELEASE);
}

static void on_acquire(void *opaque)
{
	answers_asked(opaque, SLUICE_ACQUIRE);
}

static void on_load(void *opaque, const struct sluice_section *sections, size_t n)
{
	laws_all_landed("READY promises the whole guest");
	if (n != guest.final_sections)
		sim_violation("Law 5: %zu sections of device state came, %u were saved", n, guest.final_sections);
	for (uint32_t i = 0; i < n; i++) {
		const unsigned char *data = sections[i].data;
		char name[16];
		snprintf(name, sizeof name, "dev%u", i);
		if (strcmp(sections[i].name, name) || sections[i].version != i + 1)
			sim_violation("Law 5: section %u is called %s, version %u", i, sections[i].name, sections[i].version);
		if (sections[i].length != guest.final_length[i])
			sim_violation("Law 5: section %u has %zu bytes, %u were saved", i, sections[i].length,
				      guest.final_length[i]);
		for (size_t at = 0; at < sections[i].length; at += at + 64 < sections[i].length ? 64 : 1)
			if (data[at] != (guest.final_stamp & 0xff))
				sim_violation("Law 4: section %u is of another try at byte %zu", i, at);
	}
	answers_asked(opaque, SLUICE_LOAD);
}

static void on_throttle(void *opaque, uint32_t percent)
{
	(void)opaque;
	sim_trace("source: the guest is slowed down by %u %%", percent);
	uint64_t most = knobs_most(SLUICE_THROTTLE_MAX, 1000);
	if (percent > most)
		sim_violation("Law 9: the guest is slowed down by %u %%, and %lu are allowed", percent, most);
	faults_at_frame(FAULTS_THROTTLED, FRAME_BEGINS);
	told_throttle(percent);
	guest.throttle = percent;
}

static int on_lock(void *opaque, uint64_t until)
{
	struct embedder *e = opaque;

	if (until > sim_now + embedder_habits.param[SLUICE_CALLBACK_MS] * SIM_MS)
		sim_violation("Law 2: %s wants the big lock however long it takes", fiber_current->name);
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
	big_lock[e->side].taken_at = sim_now;
	fiber_current->big_lock = true;
	return 0;
}

static void on_unlock(void *opaque)
{
	struct embedder *e = opaque;

	if (big_lock[e->side].holder != fiber_current)
		sim_violation("Law 2: the big lock is given back by who does not hold it");
	big_lock[e->side].holder = NULL;
	told_unlocked(e->side, sim_now - big_lock[e->side].taken_at);
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
	at = e->side == SIM_SOURCE && knobs_due() < at ? knobs_due() : at;
	at = talk_due(e->side) < at ? talk_due(e->side) : at;
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
			(void)CALL((answers_give(e, (enum sluice_request)i), 0));
	if (e->close_at <= sim_now) {
		e->close_at = FIBER_FOREVER;
		e->closed |= e->phase != SLUICE_COMPLETED;
		(void)CALL(sluice_close(e->session));
	}
	if (e->cancel_at <= sim_now) {
		e->cancel_at = FIBER_FOREVER;
		int rc = CALL(sluice_cancel(e->session));
		sim_trace("%s: cancel: %d", embedder_names[e->side], rc);
	}
	if (e->continue_at <= sim_now) {
		e->continue_at = FIBER_FOREVER;
		int rc = CALL(sluice_continue(e->session));
		sim_trace("%s: continue: %d", embedder_names[e->side], rc);
	}
	if (e->side == SIM_SOURCE && knobs_due() <= sim_now)
		(void)CALL((knobs_turn(e->session), 0));
	if (talk_due(e->side) <= sim_now)
		(void)CALL((talk_now(e->side), 0));
	if (e->resolve >= 0) {
		sim_trace("%s: the operator says %s", embedder_names[e->side], e->resolve ? "run" : "discard");
		int rc = CALL(sluice_resolve(e->session, e->resolve));
		if (rc && rc != -EINVAL) /* it is in doubt no more */
			sim_violation("%s takes no operator's word: %d", embedder_names[e->side], rc);
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
	for (int p = 1; p < SLUICE_PARAMS; p++) {
		uint64_t value = p == SLUICE_DEAD_PEER_MS  ? embedder_habits.dead_peer_ms[e->side]
				 : p == SLUICE_CALLBACK_MS ? embedder_habits.callback_ms[e->side]
							   : embedder_habits.param[p];
		if (sluice_set(e->session, (enum sluice_param)p, value))
			sim_violation("parameter %d refuses %lu", p, value);
	}
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
	return !sluice_set_cookie(e->session, embedder_cookie, sizeof embedder_cookie) &&
	       !sluice_source_start(e->session, "tcp:127.0.0.1:4747");
}

static void close_session(struct embedder *e)
{
	struct sluice *s = e->session;

	/* A resume that took too long for the session is no less under way. */
	if (e->answers[SLUICE_RESUME].due) {
		while (sim_now < e->answers[SLUICE_RESUME].at)
			fiber_sleep(e->answers[SLUICE_RESUME].at - sim_now);
		(void)answers_take_effect(e, SLUICE_RESUME, e->answers[SLUICE_RESUME].code);
		answers_given_up(e, &e->answers[SLUICE_RESUME]);
	}
	while (e->side == SIM_SOURCE && guest.writing)
		fiber_sleep(US);
	e->session = NULL; /* nobody begins a call any more */
	told_end(e->side, s);
	coverage_reset(e->side);
	if (sluice_destroy(s))
		sim_violation("%s has ended and cannot be destroyed", embedder_names[e->side]);
	if (system_fds_of(e->side) > (e->listener ? 1 : 0))
		sim_violation("Law 8: the %s has ended and has %u descriptors open still", embedder_names[e->side],
			      system_fds_of(e->side));
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
		sim_violation("the %s does not start", embedder_names[e->side]);
	while (!e->ended) {
		struct pollfd p = { .fd = sluice_event_fd(e->session), .events = POLLIN };
		uint64_t due = next_due(e), at = sim_now + race_loop_ns();
		at = due < at ? due : at;
		poll(&p, 1, at > sim_now ? (int)((at - sim_now) / SIM_MS) + 1 : 0);
		uint64_t late = e->side == SIM_SOURCE ? disk_loop_late_ns() : 0;
		if (late)
			fiber_sleep(late);
		if (CALL(sluice_dispatch(e->session)))
			told_dispatched(e->side);
		if (!e->ended)
			do_due(e);
	}
	close_session(e);
	return NULL;
}

void embedder_start(enum sim_side side)
{
	struct embedder *e = &embedders[side];
	const struct embedder before = *e;

	*e = (struct embedder){ .side = side,
				.listener = before.listener,
				.up = true,
				.crashed_ever = before.crashed_ever,
				.closed_before = before.closed || before.closed_before,
				.knows = before.knows,
				.ran = before.ran,
				.close_at = FIBER_FOREVER,
				.cancel_at = FIBER_FOREVER,
				.continue_at = FIBER_FOREVER,
				.resolve = -1 };
	if (side == SIM_SOURCE) {
		e->migration = promises_begin();
		contracts_attempt();
		disk_attempt();
		knobs_begin();
		still_begin();
	} else {
		laws_destination_begins();
	}
	talk_begin(side);
	told_begin(side);
	heed_begin(side);
	lies_begin(side);
	pace_begin(side);
	big_lock[side].holder = NULL;
	coverage_reset(side);
	(void)fiber_start(side, embedder_names[side], embedder_body, e);
}

void embedder_cancel(enum sim_side side)
{
	embedders[side].cancel_at = sim_now;
	system_fd_ring(sluice_event_fd(embedders[side].session));
}

void embedder_crash(enum sim_side side, bool host)
{
	struct embedder *e = &embedders[side];

	sim_trace("%s: its %s dies", embedder_names[side], host ? "host" : "process");
	e->crashed = e->crashed_ever = true;
	guest.lost |= side == SIM_SOURCE || guest.running[SIM_DESTINATION];
	e->knows = e->ran = 0;
	e->host_gone = host;
	e->up = false;
	e->session = NULL;
	coverage_reset(side);
	e->listener = NULL;
	e->doubt = false;
	guest.running[side] = guest.disks[side] = false;
	if (side == SIM_SOURCE)
		guest.writing = false;
	else
		guest_prepare_destination(embedder_habits.used);
	wires_side_gone(side, host);
	system_side_gone(side);
	heap_side_gone(side);
	fiber_kill_side(side); /* at last: it may be us */
}
