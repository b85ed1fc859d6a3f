/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_session.c: whole migrations within one process: both sessions, their threads, real sockets, and an embedder of a few
 * lines (pair.h). What a cut link leads to is test_reconnect.c's. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sluice.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/unit/pair.h"

/* Does the dump say of this thread that it has ended? */
static bool ended(const char *dump, const char *thread)
{
	const char *line = strstr(dump, thread), *end = line ? strchr(line, '\n') : NULL;
	const char *says = line ? strstr(line, " has ended") : NULL;

	return says && says < end;
}

static void migrates(void)
{
	struct pair p;
	struct sluice_error error;

	pair_start(&p);
	start(&p);
	CU_ASSERT_EQUAL(sluice_source_start(p.source.session, sluice_listener_uri(p.listener)), -EALREADY);
	CU_ASSERT_EQUAL(add_memory(&p.source), -EBUSY);
	CU_ASSERT_EQUAL(sluice_destroy(p.source.session), -EBUSY);
	CU_ASSERT_FATAL(loop(&p, active));
	CU_ASSERT_EQUAL(add_memory(&p.source), -EBUSY);
	CU_ASSERT_EQUAL(add_memory(&p.destination), -EBUSY);
	CU_ASSERT_FATAL(loop(&p, both_completed));
	CU_ASSERT(!p.source.running && p.destination.running);
	CU_ASSERT_EQUAL(memcmp(p.source.memory, p.destination.memory, BYTES), 0);
	CU_ASSERT(p.source.rounds >= 2);
	CU_ASSERT_EQUAL(sluice_cancel(p.source.session), -EBUSY);
	CU_ASSERT_EQUAL(sluice_send_message(p.destination.session, "hello back", 10), 0);
	CU_ASSERT(loop(&p, told));
	CU_ASSERT_STRING_EQUAL(p.source.message, "hello back");
	struct sluice_stats stats = { .size_of = sizeof(stats) };
	CU_ASSERT_EQUAL(sluice_get_stats(p.source.session, &stats), 0);
	CU_ASSERT(stats.guest_bytes >= BYTES / 2 && stats.downtime_ms > 0 && stats.zero_bytes < stats.guest_bytes);
	sluice_get_error(p.source.session, &error);
	CU_ASSERT_EQUAL(error.code, 0);
	char text[2048];
	CU_ASSERT(sluice_dump(p.source.session, text, sizeof(text)) > 0);
	CU_ASSERT(strstr(text, "completed") && strstr(text, "link"));
	/* Nothing is left to send, and the link is there for messages. */
	CU_ASSERT(ended(text, "sender 0") && ended(text, "sender 1") && !ended(text, "link") && !ended(text, "control"));
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

/* The session of a guest with a disk. */
static void give_disk(struct pair *p)
{
	struct sluice_ops with_disk = ops;

	with_disk.io_depth = on_io_depth;
	CU_ASSERT_EQUAL(sluice_create(&with_disk, NULL, &p->source.session), -EINVAL); /* both or neither */
	with_disk.drain_try = on_drain_try;
	sluice_destroy(p->source.session);
	CU_ASSERT_EQUAL_FATAL(sluice_create(&with_disk, &p->source, &p->source.session), 0);
	CU_ASSERT_EQUAL_FATAL(add_memory(&p->source), 0);
	CU_ASSERT_EQUAL(sluice_set(p->source.session, SLUICE_TRACKER, SLUICE_TRACKER_MARKS), 0);
	CU_ASSERT_EQUAL(sluice_set_cookie(p->source.session, "cookie", 6), 0);
}

static bool window_was(const struct pair *p)
{
	return p->source.windows && p->source.depth == SLUICE_IO_DEPTH_USUAL;
}

static bool source_ended(const struct pair *p)
{
	return p->source.ended;
}

static void drains(void)
{
	struct pair p;
	struct sluice_stats stats = { .size_of = sizeof(stats) };

	pair_start(&p);
	give_disk(&p);
	p.source.in_flight = 3; /* they hang for a while */
	start(&p);
	CU_ASSERT_FATAL(loop(&p, window_was));
	CU_ASSERT(p.source.running && !p.source.pauses);
	CU_ASSERT(p.source.tries > 1); /* it was asked all through the window */
	p.source.in_flight = 0;
	CU_ASSERT_FATAL(loop(&p, both_completed));
	CU_ASSERT_EQUAL(p.source.depth, 0);
	CU_ASSERT_EQUAL(p.source.pauses, 1);
	CU_ASSERT_EQUAL(sluice_get_stats(p.source.session, &stats), 0);
	CU_ASSERT(stats.drain.tries >= 2 && stats.drain.busy == stats.drain.tries - 1 && stats.drain.quiesced_ms > 0);
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

static void drain_that_fails(void)
{
	struct pair p;
	struct sluice_error error;

	pair_start(&p);
	give_disk(&p);
	p.source.in_flight = 1;
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DRAIN_FAIL, SLUICE_DRAIN_FAILS), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DRAIN_TRIES, 2), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DRAIN_WINDOW_MS, 30001), -EINVAL);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, source_ended));
	sluice_get_error(p.source.session, &error);
	CU_ASSERT_EQUAL(error.code, -EBUSY);
	CU_ASSERT(strstr(error.text, "2 windows") != NULL);
	CU_ASSERT(p.source.running && !p.source.pauses);
	CU_ASSERT_EQUAL(p.source.depth, SLUICE_IO_DEPTH_USUAL);
	pair_stop(&p);
}

static bool has_warned(const struct pair *p)
{
	return p->source.warning[0] && p->source.depth == SLUICE_IO_DEPTH_USUAL;
}

/* Nonsense is taken for -EBUSY: the guest runs on with its disk, and migrates once the answer makes sense. */
static void drain_answered_with_nonsense(void)
{
	static const int answers[] = { 1, -ENOSYS, INT32_MAX, INT32_MIN };

	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		struct pair p;

		pair_start(&p);
		give_disk(&p);
		p.source.answer = answers[i];
		start(&p);
		CU_ASSERT_FATAL(loop(&p, has_warned));
		CU_ASSERT_PTR_NOT_NULL(strstr(p.source.warning, "drain_try"));
		CU_ASSERT(p.source.running && !p.source.pauses);
		p.source.answer = 0;
		CU_ASSERT_FATAL(loop(&p, both_completed));
		CU_ASSERT_EQUAL(p.source.pauses, 1);
		CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
		pair_stop(&p);
	}
}

static void depth_that_is_not_taken(void)
{
	struct pair p;

	pair_start(&p);
	give_disk(&p);
	p.source.depth_error = -EIO;
	start(&p);
	CU_ASSERT_FATAL(loop(&p, has_warned));
	CU_ASSERT_PTR_NOT_NULL(strstr(p.source.warning, "io_depth"));
	CU_ASSERT(p.source.running && !p.source.pauses);
	p.source.depth_error = 0;
	CU_ASSERT_FATAL(loop(&p, both_completed));
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

/* Not even the usual depth is taken back after a window in vain: that is told, and the guest is not stopped for it. */
static void depth_that_is_not_restored(void)
{
	struct pair p;

	pair_start(&p);
	give_disk(&p);
	p.source.restore_error = -EIO;
	p.source.in_flight = 1;
	start(&p);
	CU_ASSERT_FATAL(loop(&p, has_warned));
	CU_ASSERT_PTR_NOT_NULL(strstr(p.source.warning, "io_depth"));
	CU_ASSERT(p.source.running && !p.source.pauses);
	p.source.in_flight = 0;
	p.source.restore_error = 0;
	CU_ASSERT_FATAL(loop(&p, both_completed));
	CU_ASSERT_EQUAL(p.source.pauses, 1);
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

/* An embedder that takes a second for each window to begin: nothing of it is downtime, and it comes to an end. */
static void depth_that_takes_long(void)
{
	struct sluice_stats stats = { .size_of = sizeof(stats) };
	struct pair p;

	pair_start(&p);
	give_disk(&p);
	p.source.depth_ms = 1000;
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DRAIN_SHARE, 100), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, window_was));
	CU_ASSERT(p.source.running && !p.source.pauses);
	p.source.depth_ms = 0;
	CU_ASSERT_FATAL(loop(&p, both_completed));
	CU_ASSERT_EQUAL(p.source.pauses, 1);
	CU_ASSERT_EQUAL(sluice_get_stats(p.source.session, &stats), 0);
	CU_ASSERT(stats.downtime_ms < 1000 && stats.drain.delay_ms >= 1000);
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

static void long_windows_are_warned_of(void)
{
	struct pair p;

	for (int i = 0; i < 2; i++) {
		pair_start(&p);
		give_disk(&p);
		CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DRAIN_WINDOW_MS, i ? 20000 : 19999), 0);
		start(&p);
		CU_ASSERT_FATAL(loop(&p, both_completed));
		CU_ASSERT_EQUAL(!!strstr(p.source.warning, "near the 30 s"), i);
		CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
		pair_stop(&p);
	}
}

/* What load is given stays valid until it is done, also after sluice_dispatch() has returned (it lay on its stack once). */
static void sections_outlive_dispatch(void)
{
	struct pair p;
	volatile char waste[8192];

	pair_start(&p);
	p.destination.lazy = true;
	start(&p);
	CU_ASSERT_FATAL(loop(&p, loading));
	memset((char *)waste, 0x5a, sizeof(waste));
	sluice_dispatch(p.destination.session);
	CU_ASSERT_EQUAL_FATAL(p.destination.n_sections, 2);
	CU_ASSERT_STRING_EQUAL(p.destination.sections[0].name, "device");
	CU_ASSERT_EQUAL(p.destination.sections[0].version, 7);
	CU_ASSERT_EQUAL_FATAL(p.destination.sections[0].length, sizeof(state));
	CU_ASSERT_EQUAL(memcmp(p.destination.sections[0].data, state, sizeof(state)), 0);
	CU_ASSERT_STRING_EQUAL(p.destination.sections[1].name, "empty");
	CU_ASSERT_EQUAL(p.destination.sections[1].length, 0);
	CU_ASSERT_EQUAL(sluice_done(p.destination.session, SLUICE_LOAD, 0), 0);
	CU_ASSERT(loop(&p, both_completed));
	sluice_close(p.destination.session);
	pair_stop(&p);
}

static void callbacks_that_fail(void)
{
	static const struct {
		enum sluice_request request;
		bool here; /* at the source */
		const char *says;
	} cases[] = {
		{ SLUICE_PAUSE, true, "the source's pause callback failed: Input/output error" },
		{ SLUICE_SAVE, true, "the source's save callback failed: Input/output error" },
		{ SLUICE_RELEASE, true, "the source's release callback failed: Input/output error" },
		{ SLUICE_INCOMING_GUEST, false, "the destination's incoming callback failed: Input/output error" },
		{ SLUICE_LOAD, false, "the destination's load callback failed: Input/output error" },
		{ SLUICE_ACQUIRE, false, "the destination's acquire callback failed: Input/output error" },
		{ SLUICE_RESUME, false, "the destination's resume callback failed: Input/output error" },
		{ SLUICE_INCOMING_GUEST, false, "no such device" },
		{ SLUICE_LOAD, false, "no such device" },
		{ SLUICE_ACQUIRE, false, "no such device" },
		{ SLUICE_RESUME, false, "no such device" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct pair p;
		struct sluice_error error;

		pair_start(&p);
		(cases[i].here ? &p.source : &p.destination)->errors[cases[i].request] = -EIO;
		p.destination.refusal = cases[i].says[0] == 'n' ? cases[i].says : NULL;
		start(&p);
		CU_ASSERT(loop(&p, both_ended));
		/* Failing costs nothing: the guest runs on where it was. */
		CU_ASSERT_EQUAL(p.source.last, SLUICE_FAILED);
		CU_ASSERT_EQUAL(p.destination.last, SLUICE_FAILED);
		CU_ASSERT(p.source.running && !p.destination.running);
		sluice_get_error(p.source.session, &error);
		CU_ASSERT(error.code < 0 && strstr(error.text, cases[i].says) && !strchr(error.text, '\n'));
		pair_stop(&p);
	}
}

/* With everything as usual, one callback takes longer than a dead peer is waited for. Beside the next test, in a thread. */
static void *five_seconds_to_load(void *opaque)
{
	struct pair *p = opaque;

	p->destination.slow = SLUICE_LOAD;
	p->destination.slow_ms = 5000;
	return (void *)(uintptr_t)loop(p, both_completed);
}

/* Each of seven callbacks takes longer than a peer may be silent for, and blocks its side's loop meanwhile: nobody is declared dead, and
 * the migration gets through. */
static void slow_callbacks_are_not_death(void)
{
	struct pair p, usual;
	pthread_t thread;
	void *completed;

	pair_start(&usual);
	CU_ASSERT_EQUAL(sluice_set(usual.source.session, SLUICE_DOWNTIME_LIMIT_MS, 60000), 0);
	start(&usual);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, five_seconds_to_load, &usual), 0);
	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DEAD_PEER_MS, 500), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 60000), 0);
	p.source.slow_ms = p.destination.slow_ms = 700;
	start(&p);
	CU_ASSERT(loop(&p, both_completed));
	CU_ASSERT_EQUAL(pthread_join(thread, &completed), 0);
	CU_ASSERT(completed != NULL);
	CU_ASSERT(source_stats(&usual).downtime_ms >= 5000);
	struct pair *both[] = { &p, &usual };
	for (int i = 0; i < 2; i++) {
		CU_ASSERT(!both[i]->source.running && both[i]->destination.running);
		CU_ASSERT_EQUAL(both[i]->source.pauses, 1);
		CU_ASSERT_EQUAL(both[i]->source.doubts + both[i]->destination.doubts, 0);
		CU_ASSERT_EQUAL(memcmp(both[i]->source.memory, both[i]->destination.memory, BYTES), 0);
		CU_ASSERT_EQUAL(sluice_close(both[i]->source.session), 0);
		pair_stop(both[i]);
	}
}

/* A source that is patient itself does not know yet how little its destination is, whose embedder takes its time to prepare for the guest. */
static void nobody_is_dead_before_times_are_agreed(void)
{
	struct pair p;

	pair_start_with(&p, 500);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DEAD_PEER_MS, 30000), 0);
	p.destination.slow_ms = 800;
	start(&p);
	CU_ASSERT(loop(&p, both_completed));
	CU_ASSERT(!p.source.running && p.destination.running);
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

/* The destination is told for how long the guest stood still, at both sides; so is a source that resumes it. */
static void the_clock_jump_is_told(void)
{
	enum { SLOW_MS = 100, SLACK_MS = 60 };
	struct pair p;

	for (int fails = 0; fails < 2; fails++) {
		pair_start(&p);
		CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 60000), 0);
		CU_ASSERT_EQUAL(sluice_stopped_ns(p.source.session) + sluice_stopped_ns(p.destination.session), 0);
		p.source.slow_ms = p.destination.slow_ms = SLOW_MS;
		p.destination.errors[SLUICE_LOAD] = fails ? -EIO : 0;
		start(&p);
		CU_ASSERT(fails ? loop(&p, both_ended) : loop(&p, both_completed));
		struct side *runs = fails ? &p.source : &p.destination;
		double stood_ms = (double)(runs->resumed_ns - p.source.paused_ns) * 1e-6;
		double told_ms = (double)runs->stopped_ns * 1e-6;
		CU_ASSERT(stood_ms >= (fails ? 2 : 4) * SLOW_MS); /* save, load; release, acquire */
		CU_ASSERT(told_ms > stood_ms - SLACK_MS && told_ms < stood_ms + SLACK_MS);
		struct sluice_stats st = { .size_of = sizeof st };
		CU_ASSERT_EQUAL(sluice_get_stats(p.source.session, &st), 0);
		CU_ASSERT(fails || (st.downtime_ms > told_ms &&
				    st.downtime_ms < told_ms + st.downtime_parts_ms.pause + SLOW_MS + SLACK_MS));
		/* It does not stand still any more. */
		uint64_t all = sluice_stopped_ns(runs->session);
		CU_ASSERT(all >= runs->stopped_ns && sluice_stopped_ns(runs->session) == all);
		sluice_close(p.source.session);
		pair_stop(&p);
	}
}

/* One that takes longer than it may has failed, and says which. */
static void a_callback_that_never_answers(void)
{
	struct sluice_error error;
	struct pair p;

	pair_start(&p);
	p.destination.lazy = true;
	CU_ASSERT_EQUAL(sluice_set(p.destination.session, SLUICE_CALLBACK_MS, 700), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, loading));
	CU_ASSERT(loop(&p, source_ended));
	CU_ASSERT_EQUAL(p.source.last, SLUICE_FAILED);
	CU_ASSERT(p.source.running && !p.destination.running);
	sluice_get_error(p.source.session, &error);
	CU_ASSERT(strstr(error.text, "waited too long for the embedder to load device state") != NULL);
	sluice_done(p.destination.session, SLUICE_LOAD, 0); /* too late, and harmless */
	pair_stop(&p);
}

static void cancels(void)
{
	struct pair p;

	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 64 << 10), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	CU_ASSERT_EQUAL(sluice_cancel(p.source.session), 0);
	CU_ASSERT(loop(&p, both_ended));
	CU_ASSERT_EQUAL(p.source.last, SLUICE_CANCELLED);
	CU_ASSERT_EQUAL(p.destination.last, SLUICE_CANCELLED);
	CU_ASSERT(p.source.running && !p.destination.running);
	pair_stop(&p);
}

/* A log that takes its time to stop, as KVM does where it waits for busy vCPUs: once it held up all that cancelling has to say. */
static struct {
	sem_t go_on;
	_Atomic bool stopped, in_time;
} slow_log;

static int slow_log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits)
{
	(void)opaque, (void)region, (void)first, (void)pages, (void)bits;
	return 0;
}

static int slow_log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits)
{
	(void)opaque, (void)region, (void)first, (void)pages, (void)bits;
	return 0;
}

static void slow_log_stop(void *opaque)
{
	struct timespec until;

	(void)opaque;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_MS / 2000;
	slow_log.in_time = !sem_timedwait(&slow_log.go_on, &until);
	slow_log.stopped = true;
}

static bool cancelled(const struct pair *p)
{
	return p->source.last == SLUICE_CANCELLED && p->destination.last == SLUICE_CANCELLED;
}

static void a_log_slow_to_stop_holds_nobody_up(void)
{
	struct sluice_ops slow = ops;
	struct pair p;

	slow.dirty_log_fetch = slow_log_fetch;
	slow.dirty_log_clear = slow_log_clear;
	slow.dirty_log_stop = slow_log_stop;
	sem_init(&slow_log.go_on, 0, 0);
	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_destroy(p.source.session), 0);
	CU_ASSERT_EQUAL_FATAL(sluice_create(&slow, &p.source, &p.source.session), 0);
	CU_ASSERT_EQUAL_FATAL(add_memory(&p.source), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 64 << 10), 0);
	CU_ASSERT_EQUAL(sluice_set_cookie(p.source.session, "cookie", 6), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	CU_ASSERT_EQUAL(sluice_cancel(p.source.session), 0);
	CU_ASSERT(loop(&p, cancelled));
	CU_ASSERT(!slow_log.stopped && !p.source.ended);
	sem_post(&slow_log.go_on);
	CU_ASSERT(loop(&p, both_ended));
	CU_ASSERT(slow_log.stopped && slow_log.in_time);
	pair_stop(&p);
	sem_destroy(&slow_log.go_on);
}

/* As loop(), beside a guest that says every millisecond that it wrote half of its memory, as long as it runs. (To really write
 * while a page is being read is what guests do, and what ThreadSanitizer objects to.) */
static bool loop_writing(struct pair *p, bool (*until)(const struct pair *), int ms)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	for (int64_t end = now.tv_sec * 1000 + now.tv_nsec / 1000000 + ms; !until(p);) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec * 1000 + now.tv_nsec / 1000000 >= end)
			break;
		for (size_t at = 0; at < BYTES && p->source.running; at += (size_t)2 * SLUICE_PAGE_SIZE)
			sluice_mark_dirty(p->source.session, 0, at, 1);
		loop_for(p, 1);
	}
	return until(p);
}

static bool third_round(const struct pair *p)
{
	return p->source.rounds >= 3;
}

/* All limits count from the moment they are set, in the midst of a round too. */
static void limits_change_while_it_runs(void)
{
	struct pair p;
	struct sluice_error error;

	/* Two minutes at this rate, done at once without. */
	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 64 << 10), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	loop_for(&p, 300);
	CU_ASSERT(active(&p));
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 0), 0);
	CU_ASSERT(loop(&p, both_completed));
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);

	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 64 << 10), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_TIMEOUT_MS, 1), 0);
	CU_ASSERT(loop(&p, both_ended));
	sluice_get_error(p.source.session, &error);
	CU_ASSERT_EQUAL(error.code, -ETIMEDOUT);
	CU_ASSERT(p.source.running && !p.destination.running);
	pair_stop(&p);

	/* A guest that cannot be moved in a millisecond, in rounds that take four seconds each: once it may take long, it is
	 * done at once. */
	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 1), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_STREAMS, 1),
			0); /* more would claim all of so small a guest at once */
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 20 << 20), 0);
	start(&p);
	CU_ASSERT_FATAL(loop_writing(&p, third_round, PATIENCE_MS));
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 1 << 20), 0);
	loop_writing(&p, both_completed, 500);
	CU_ASSERT(active(&p));
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 3600000), 0);
	CU_ASSERT(loop_writing(&p, both_completed, 2500));
	CU_ASSERT_EQUAL(memcmp(p.source.memory, p.destination.memory, BYTES), 0);
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

static bool expects_long(const struct pair *p)
{
	return source_stats(p).downtime_expected_ms > 10000;
}

/* Likewise what the last round is expected to get, by somebody's word: it counts for more than what rounds get, be it less or more. */
static void switchover_bandwidth_changes_while_it_runs(void)
{
	struct pair p;

	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 1), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_STREAMS, 1), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 20 << 20), 0);
	start(&p);
	CU_ASSERT_FATAL(loop_writing(&p, third_round, PATIENCE_MS));
	/* Half of the guest: 64 s by that word, and in rounds 4 s. */
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_SWITCHOVER_BANDWIDTH, 64 << 10), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 1 << 20), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 1500), 0);
	CU_ASSERT(loop_writing(&p, expects_long, PATIENCE_MS)); /* with the next survey */
	loop_writing(&p, both_completed, 500);
	CU_ASSERT(active(&p));
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_SWITCHOVER_BANDWIDTH, 1 << 30), 0);
	CU_ASSERT(loop_writing(&p, both_completed, 2500));
	CU_ASSERT_EQUAL(memcmp(p.source.memory, p.destination.memory, BYTES), 0);
	if (sluice_cancel(p.source.session))
		CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

/* What writers mark in a round that was fetched before it began only its count can tell of, and does: the dirty rate that is told is that
 * at which rounds take pages off. Rounds of 40 ms are too short for surveys, which would tell, too. Where the writer does not get to run the
 * guest fits, and it tells nothing: false. */
static bool marks_are_told(void)
{
	enum { MS_BEFORE = 300, MS_LOOKED = 700 };
	struct sluice_stats before, after;
	double told = 0, looks = 0;
	struct pair p;

	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_STREAMS, 1), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_COMPRESS, SLUICE_COMPRESS_NONE), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 100 << 20), 0);
	/* Half of the guest would take 160 ms: it never fits, but is always worth a count. */
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_SWITCHOVER_BANDWIDTH, 25 << 20), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 100), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	loop_writing(&p, both_completed, MS_BEFORE);
	before = source_stats(&p);
	uint64_t began = now_ns();
	while (now_ns() - began < MS_LOOKED * UINT64_C(1000000)) {
		loop_writing(&p, both_completed, 5);
		after = source_stats(&p);
		told += (double)after.dirty_bytes_per_s;
		looks++;
	}
	double really = (double)(after.guest_bytes - before.guest_bytes) / ((double)(now_ns() - began) * 1e-9);
	bool tells = active(&p);
	if (tells) {
		CU_ASSERT(after.rounds - before.rounds >= 3);
		CU_ASSERT(told / looks > really / 3);
	}
	if (sluice_cancel(p.source.session))
		CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
	return tells;
}

static void marks_in_a_fetched_round_are_told(void)
{
	int tries = 10;

	while (tries && !marks_are_told())
		tries--;
	CU_ASSERT(tries > 0);
}

static bool first_round(const struct pair *p)
{
	return p->source.rounds >= 1;
}

static bool second_round(const struct pair *p)
{
	return p->source.rounds >= 2;
}

/* What is left to be sent falls while it is sent, in later rounds too. */
static void what_is_left_falls(void)
{
	enum { MARKED = PAGES / 2 };
	struct pair p;
	uint64_t least = UINT64_MAX, most = 0, all = (uint64_t)MARKED * SLUICE_PAGE_SIZE;

	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 1), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 20 << 20), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	for (int waited = 0; waited < PATIENCE_MS && source_stats(&p).guest_bytes < BYTES / 2; waited++)
		loop_for(&p, 1); /* a third of the pages are holes */
	/* Slow enough to be looked at in time by a thread that does not always get to run. */
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 4 << 20), 0);
	sluice_mark_dirty(p.source.session, 0, 0, all);
	CU_ASSERT_FATAL(loop(&p, first_round));
	for (int waited = 0; waited < PATIENCE_MS && !second_round(&p); waited++) {
		struct sluice_stats stats = source_stats(&p);
		least = stats.remaining_bytes < least ? stats.remaining_bytes : least;
		most = stats.remaining_bytes > most ? stats.remaining_bytes : most;
		loop_for(&p, 1);
	}
	CU_ASSERT(most > all / 2 && most <= all);
	CU_ASSERT(least < all / 4);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 3600000), 0);
	CU_ASSERT(loop(&p, both_completed));
	CU_ASSERT_EQUAL(source_stats(&p).remaining_bytes, 0);
	CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

/* Written behind every tracker's back and marked after that; given back by the guest. */
static void marks_and_discards_count(void)
{
	struct pair p;

	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 4 << 20), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	memset(p.source.memory + 5 * SLUICE_PAGE_SIZE, 0xee, 3 * SLUICE_PAGE_SIZE);
	sluice_mark_dirty(p.source.session, 0, 5 * SLUICE_PAGE_SIZE + 17, 2 * SLUICE_PAGE_SIZE);
	/* A balloon's pages: their content does not matter any more, and may read as zero there. */
	sluice_discarded(p.source.session, 0, 1000 * SLUICE_PAGE_SIZE - 1, 2 * SLUICE_PAGE_SIZE + 1);
	sluice_mark_dirty(p.source.session, 9, 0, 1);
	sluice_mark_dirty(p.source.session, 0, BYTES, 1);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 0), 0);
	CU_ASSERT_FATAL(loop(&p, both_completed));
	for (size_t at = 1000 * SLUICE_PAGE_SIZE; at < 1002 * SLUICE_PAGE_SIZE; at++)
		if (!p.destination.memory[at])
			p.source.memory[at] = 0;
	CU_ASSERT_EQUAL(memcmp(p.source.memory, p.destination.memory, BYTES), 0);
	sluice_close(p.source.session);
	pair_stop(&p);
}

/* sluice_close() and sluice_resolve() where they have no place. */
static void close_and_resolve_have_their_time(void)
{
	struct pair p;

	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_close(p.source.session), -EINVAL);
	CU_ASSERT_EQUAL(sluice_close(p.destination.session), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 64 << 10), 0);
	start(&p);
	CU_ASSERT_FATAL(loop(&p, active));
	for (int run = 0; run < 2; run++) {
		CU_ASSERT_EQUAL(sluice_resolve(p.source.session, run), -EINVAL);
		CU_ASSERT_EQUAL(sluice_resolve(p.destination.session, run), -EINVAL);
	}
	CU_ASSERT_EQUAL(sluice_close(p.source.session), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_REMEMBER_MS, 0), 0); /* at any time */
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_BANDWIDTH, 0), 0);
	CU_ASSERT_FATAL(loop(&p, both_completed));
	CU_ASSERT_EQUAL(sluice_resolve(p.source.session, 1), -EINVAL);
	CU_ASSERT_EQUAL(sluice_resolve(p.destination.session, 0), -EINVAL);
	CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0);
	CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0); /* twice is once */
	CU_ASSERT(loop(&p, both_ended));
	CU_ASSERT_EQUAL(sluice_close(p.source.session), -EINVAL); /* it is over, and nobody had closed it here */
	CU_ASSERT_EQUAL(sluice_resolve(p.source.session, 1), -EINVAL);
	CU_ASSERT(!p.source.running && p.destination.running);
	pair_stop(&p);
}

SUITE("session", TEST(migrates), TEST(drains), TEST(drain_that_fails), TEST(drain_answered_with_nonsense),
      TEST(depth_that_is_not_taken), TEST(depth_that_is_not_restored), TEST(depth_that_takes_long),
      TEST(long_windows_are_warned_of), TEST(sections_outlive_dispatch), TEST(callbacks_that_fail),
      TEST(slow_callbacks_are_not_death), TEST(nobody_is_dead_before_times_are_agreed), TEST(a_callback_that_never_answers),
      TEST(the_clock_jump_is_told), TEST(cancels), TEST(limits_change_while_it_runs),
      TEST(switchover_bandwidth_changes_while_it_runs), TEST(marks_in_a_fetched_round_are_told),
      TEST(a_log_slow_to_stop_holds_nobody_up), TEST(what_is_left_falls), TEST(marks_and_discards_count),
      TEST(close_and_resolve_have_their_time))
