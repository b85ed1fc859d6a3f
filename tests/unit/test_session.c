/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_session.c: whole migrations within one process: both sessions, their threads, real sockets, and an embedder of a few
 * lines whose loop dispatches both ends. */
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <sluice.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "streams/wait.h"
#include "tests/unit/harness.h"
#include "tests/unit/proxy.h"

enum { PAGES = 2048, BYTES = PAGES * SLUICE_PAGE_SIZE, PATIENCE_MS = 20000 };

struct side {
	struct sluice *session;
	unsigned char *memory;
	const struct sluice_section *sections; /* as load got them */
	size_t n_sections;
	bool running, ended, lazy;                  /* lazy: answers load only when told */
	int errors[SLUICE_RESUME + 1];              /* what requests are answered with */
	const char *refusal;                        /* what it says of an error */
	unsigned slow_ms;                           /* that each callback takes, */
	enum sluice_request slow;                   /* or only this one */
	uint64_t paused_ns, resumed_ns, stopped_ns; /* the last as sluice says when it resumes */
	uint32_t depth, in_flight;                  /* of its disk, where it has one */
	unsigned tries, windows, paused_busy;
	int depth_error, answer;        /* of io_depth; of drain_try, whatever is in flight, 0: the truth */
	unsigned depth_ms;              /* that io_depth takes, once a window is to be opened */
	char warning[SLUICE_ERROR_MAX]; /* the last */
	unsigned pauses, resumes, rounds, doubts;
	enum sluice_phase last;
	char message[64];
};

static const char state[] = "device state of the guest";

static void on_event(void *opaque, const struct sluice_event *event)
{
	struct side *side = opaque;

	switch (event->type) {
	case SLUICE_EVENT_PHASE:
		side->last = event->u.phase;
		side->doubts += side->last == SLUICE_IN_DOUBT;
		break;
	case SLUICE_EVENT_ROUND: side->rounds++; break;
	case SLUICE_EVENT_ENDED: side->ended = true; break;
	case SLUICE_EVENT_MESSAGE:
		snprintf(side->message, sizeof(side->message), "%.*s", (int)event->u.message.length,
			 (const char *)event->u.message.data);
		break;
	case SLUICE_EVENT_WARNING: snprintf(side->warning, sizeof(side->warning), "%s", event->u.text); break;
	}
}

static void done(struct side *side, enum sluice_request request, int error)
{
	struct pollfd none = { .fd = -1 };

	if (side->slow_ms && (!side->slow || side->slow == request))
		poll(&none, 1, (int)side->slow_ms);
	if (side->errors[request] && side->refusal)
		sluice_refuse_because(side->session, side->refusal);
	sluice_done(side->session, request, error ? error : side->errors[request]);
}

static int add_memory(struct side *side)
{
	struct sluice_region region = {
		.size_of = sizeof(region), .name = "ram", .address = side->memory, .size = BYTES, .node = -1, .fd = -1
	};
	uint32_t id;

	return sluice_add_region(side->session, &region, &id);
}

static void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	struct side *side = opaque;
	bool fits = n == 1 && !strcmp(offers[0].name, "ram") && offers[0].size == BYTES && length == 6 &&
		    !memcmp(cookie, "cookie", 6);

	if (!fits)
		sluice_refuse_because(side->session, "not what the test offers");
	done(side, SLUICE_INCOMING_GUEST, fits ? add_memory(side) : -EINVAL);
}

static void on_pause(void *opaque)
{
	struct side *side = opaque;

	side->pauses++;
	side->running = side->errors[SLUICE_PAUSE];
	done(side, SLUICE_PAUSE, 0);
	side->paused_ns = now_ns();
}

static void on_resume(void *opaque)
{
	struct side *side = opaque;

	side->resumes++;
	side->running = !side->errors[SLUICE_RESUME];
	side->stopped_ns = sluice_stopped_ns(side->session);
	side->resumed_ns = now_ns();
	done(side, SLUICE_RESUME, 0);
}

static void on_save(void *opaque)
{
	struct side *side = opaque;
	struct sluice_section section = { "device", 7, state, sizeof(state) }, empty = { "empty", 1, NULL, 0 };
	int error = sluice_save_section(side->session, &section);

	error = error ? error : sluice_save_section(side->session, &empty);
	done(side, SLUICE_SAVE, error);
}

static void on_load(void *opaque, const struct sluice_section *sections, size_t n)
{
	struct side *side = opaque;

	side->sections = sections;
	side->n_sections = n;
	if (!side->lazy)
		done(side, SLUICE_LOAD, 0);
}

static void on_acquire(void *opaque)
{
	done(opaque, SLUICE_ACQUIRE, 0);
}

static void on_release(void *opaque)
{
	done(opaque, SLUICE_RELEASE, 0);
}

static const struct sluice_ops ops = {
	.size_of = sizeof(ops),
	.event = on_event,
	.incoming = on_incoming,
	.pause = on_pause,
	.resume = on_resume,
	.save = on_save,
	.load = on_load,
	.release = on_release,
	.acquire = on_acquire,
};

struct pair {
	struct side source, destination;
	struct sluice_listener *listener;
};

static int on_io_depth(void *opaque, uint32_t requests)
{
	struct side *side = opaque;

	if (!requests && side->depth_ms)
		poll(NULL, 0, (int)side->depth_ms);
	side->windows += !requests && side->depth;
	side->depth = requests;
	return requests == SLUICE_IO_DEPTH_USUAL ? 0 : side->depth_error;
}

static int on_drain_try(void *opaque)
{
	struct side *side = opaque;

	side->tries++;
	if (side->answer)
		return side->answer;
	return side->in_flight ? -EAGAIN : 0;
}

static void side_init(struct side *side)
{
	memset(side, 0, sizeof(*side));
	side->depth = SLUICE_IO_DEPTH_USUAL;
	side->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(side->memory != MAP_FAILED);
	CU_ASSERT_EQUAL_FATAL(sluice_create(&ops, side, &side->session), 0);
}

/* `dead_peer_ms`: the destination's; 0: as it is. */
static void pair_start_with(struct pair *p, uint64_t dead_peer_ms)
{
	side_init(&p->source);
	side_init(&p->destination);
	p->source.running = true;
	for (unsigned i = 0; i < PAGES; i++)
		if (i % 3)
			memset(p->source.memory + (size_t)i * SLUICE_PAGE_SIZE, (int)(i % 255) + 1, SLUICE_PAGE_SIZE);
	CU_ASSERT_EQUAL_FATAL(sluice_listen("tcp:127.0.0.1:0", 0, &p->listener, NULL), 0);
	if (dead_peer_ms)
		CU_ASSERT_EQUAL(sluice_set(p->destination.session, SLUICE_DEAD_PEER_MS, dead_peer_ms), 0);
	CU_ASSERT_EQUAL_FATAL(sluice_destination_start(p->destination.session, p->listener), 0);
	CU_ASSERT_EQUAL_FATAL(add_memory(&p->source), 0);
	/* Marks work on any kernel, and nobody writes here unless a test says so. */
	CU_ASSERT_EQUAL(sluice_set(p->source.session, SLUICE_TRACKER, SLUICE_TRACKER_MARKS), 0);
	CU_ASSERT_EQUAL(sluice_set_cookie(p->source.session, "cookie", 6), 0);
}

static void pair_start(struct pair *p)
{
	pair_start_with(p, 0);
}

/* Dispatch both ends until `until` says so; false: it did not come to that. */
static bool loop(struct pair *p, bool (*until)(const struct pair *))
{
	for (int waited = 0; waited < PATIENCE_MS && !until(p); waited++) {
		struct pollfd fds[] = { { sluice_event_fd(p->source.session), POLLIN, 0 },
					{ sluice_event_fd(p->destination.session), POLLIN, 0 } };
		poll(fds, 2, 1);
		while (sluice_dispatch(p->source.session) || sluice_dispatch(p->destination.session))
			if (until(p))
				break;
	}
	return until(p);
}

static void loop_for(struct pair *p, int ms)
{
	struct pollfd none = { .fd = -1 };

	poll(&none, 1, ms);
	while (sluice_dispatch(p->source.session) || sluice_dispatch(p->destination.session))
		;
}

static bool both_completed(const struct pair *p)
{
	return p->source.last == SLUICE_COMPLETED && p->destination.last == SLUICE_COMPLETED;
}

static bool both_ended(const struct pair *p)
{
	return p->source.ended && p->destination.ended;
}

static bool loading(const struct pair *p)
{
	return p->destination.sections;
}

static bool told(const struct pair *p)
{
	return p->source.message[0];
}

static bool active(const struct pair *p)
{
	return p->source.last == SLUICE_ACTIVE;
}

static void pair_stop(struct pair *p)
{
	CU_ASSERT(loop(p, both_ended));
	CU_ASSERT_EQUAL(sluice_destroy(p->source.session), 0);
	CU_ASSERT_EQUAL(sluice_destroy(p->destination.session), 0);
	sluice_listener_close(p->listener);
	munmap(p->source.memory, BYTES);
	munmap(p->destination.memory, BYTES);
}

static void start(struct pair *p)
{
	CU_ASSERT_EQUAL_FATAL(sluice_source_start(p->source.session, sluice_listener_uri(p->listener)), 0);
}

static struct sluice_stats source_stats(const struct pair *p)
{
	struct sluice_stats stats = { .size_of = sizeof(stats) };

	CU_ASSERT_EQUAL(sluice_get_stats(p->source.session, &stats), 0);
	return stats;
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

/* Each of seven callbacks takes three times what a peer may be silent for, and blocks its side's loop meanwhile: nobody is declared
 * dead, and the migration gets through. */
/* With everything as usual, one callback takes three times as long as a dead peer is waited for. Beside the next test, in a thread. */
static void *ten_seconds_to_load(void *opaque)
{
	struct pair *p = opaque;

	p->destination.slow = SLUICE_LOAD;
	p->destination.slow_ms = 10000;
	return (void *)(uintptr_t)loop(p, both_completed);
}

static void slow_callbacks_are_not_death(void)
{
	struct pair p, usual;
	pthread_t thread;
	void *completed;

	pair_start(&usual);
	CU_ASSERT_EQUAL(sluice_set(usual.source.session, SLUICE_DOWNTIME_LIMIT_MS, 60000), 0);
	start(&usual);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, ten_seconds_to_load, &usual), 0);
	pair_start(&p);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DEAD_PEER_MS, 500), 0);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_DOWNTIME_LIMIT_MS, 60000), 0);
	p.source.slow_ms = p.destination.slow_ms = 1600;
	start(&p);
	CU_ASSERT(loop(&p, both_completed));
	CU_ASSERT_EQUAL(pthread_join(thread, &completed), 0);
	CU_ASSERT(completed != NULL);
	CU_ASSERT(source_stats(&usual).downtime_ms >= 10000);
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
	loop_writing(&p, both_completed, 500);
	CU_ASSERT(active(&p));
	CU_ASSERT(source_stats(&p).downtime_expected_ms > 10000);
	CU_ASSERT_EQUAL(sluice_set(p.source.session, SLUICE_SWITCHOVER_BANDWIDTH, 1 << 30), 0);
	CU_ASSERT(loop_writing(&p, both_completed, 2500));
	CU_ASSERT_EQUAL(memcmp(p.source.memory, p.destination.memory, BYTES), 0);
	if (sluice_cancel(p.source.session))
		CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
}

/* What writers mark in a round that was fetched before it began only its count can tell of, and does: the dirty rate that is told is that
 * at which rounds take pages off. Rounds of 40 ms are too short for surveys, which would tell, too. */
static void marks_in_a_fetched_round_are_told(void)
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
	CU_ASSERT(active(&p));
	CU_ASSERT(after.rounds - before.rounds >= 3);
	CU_ASSERT(told / looks > really / 3);
	if (sluice_cancel(p.source.session))
		CU_ASSERT_EQUAL(sluice_close(p.source.session), 0);
	pair_stop(&p);
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

/* ---- a link that is cut, and the later ones */

static struct proxy proxy;

/* As pair_start() and start(), with the proxy between them. `remember_ms`: of both. */
static void pair_start_apart(struct pair *p, const struct proxy_cut *cuts, unsigned n, uint64_t remember_ms)
{
	pair_start(p);
	CU_ASSERT_FATAL(proxy_start(&proxy, sluice_listener_uri(p->listener), cuts, n));
	CU_ASSERT_EQUAL(sluice_set(p->destination.session, SLUICE_REMEMBER_MS, remember_ms), 0);
	CU_ASSERT_EQUAL(sluice_set(p->source.session, SLUICE_REMEMBER_MS, remember_ms), 0);
	CU_ASSERT_EQUAL(sluice_set(p->source.session, SLUICE_CONNECT_MS, 1000), 0);
	CU_ASSERT_EQUAL_FATAL(sluice_source_start(p->source.session, proxy.uri), 0);
}

static bool decided(const struct side *side)
{
	return side->last == SLUICE_COMPLETED || side->last == SLUICE_CANCELLED || side->last == SLUICE_FAILED;
}

static bool both_decided(const struct pair *p)
{
	return decided(&p->source) && decided(&p->destination);
}

static bool both_in_doubt(const struct pair *p)
{
	return p->source.last == SLUICE_IN_DOUBT && p->destination.last == SLUICE_IN_DOUBT;
}

static bool source_in_doubt_only(const struct pair *p)
{
	return p->source.last == SLUICE_IN_DOUBT && p->destination.last == SLUICE_COMPLETED;
}

static bool source_over(const struct pair *p)
{
	return p->source.ended;
}

static bool destination_over(const struct pair *p)
{
	return p->destination.ended;
}

static bool destination_failed(const struct pair *p)
{
	return p->destination.last == SLUICE_FAILED;
}

static bool source_failed(const struct pair *p)
{
	return p->source.last == SLUICE_FAILED;
}

static bool source_completed(const struct pair *p)
{
	return p->source.last == SLUICE_COMPLETED;
}

static void expect_no_error(const struct side *side)
{
	struct sluice_error error;

	sluice_get_error(side->session, &error);
	CU_ASSERT_EQUAL(error.code, 0);
	if (error.code)
		printf("  %s\n", error.text);
}

/* The link is cut once, before or after each of the last frames. No operator is needed: it ends by itself, with one guest, and
 * within the time that a decided session is remembered. EITHER: what the frame is answered with may be faster than the cut
 * after it. */
static void a_cut_link_heals(void)
{
	enum where { HERE, THERE, EITHER };
	static const struct {
		struct proxy_cut cut;
		enum where runs;
	} cases[] = {
		{ { MESSAGE_SWITCHOVER, true }, HERE }, { { MESSAGE_SWITCHOVER, false }, EITHER },
		{ { MESSAGE_READY, true }, HERE },      { { MESSAGE_READY, false }, EITHER },
		{ { MESSAGE_GO, true }, THERE },        { { MESSAGE_GO, false }, THERE },
		{ { MESSAGE_RUNNING, true }, THERE },   { { MESSAGE_RUNNING, false }, THERE },
		{ { MESSAGE_DONE, true }, THERE },      { { MESSAGE_DONE, false }, THERE },
		{ { MESSAGE_NEVER, true }, HERE },      { { MESSAGE_NEVER, false }, HERE },
		{ { MESSAGE_CANCEL, true }, HERE },     { { MESSAGE_CANCEL, false }, HERE },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pair p;

		pair_start_apart(&p, &cases[i].cut, 1, 1500);
		p.destination.errors[SLUICE_ACQUIRE] = cases[i].cut.at == MESSAGE_NEVER ? -EIO : 0;
		if (cases[i].cut.at == MESSAGE_CANCEL) {
			p.destination.lazy = true;
			CU_ASSERT_FATAL(loop(&p, loading));
			CU_ASSERT_EQUAL(sluice_cancel(p.source.session), 0);
			p.destination.lazy = false;
			for (int n = 0; n < PATIENCE_MS && !atomic_load(&proxy.cut); n++)
				loop_for(&p, 1);
			loop_for(&p, 50);
			sluice_done(p.destination.session, SLUICE_LOAD, 0); /* too late */
		}
		CU_ASSERT(loop(&p, both_decided));
		CU_ASSERT_EQUAL(atomic_load(&proxy.cut), 1); /* else nothing was tested */
		CU_ASSERT_EQUAL(p.source.running + p.destination.running, 1);
		if (cases[i].runs != EITHER)
			CU_ASSERT_EQUAL(p.destination.running, cases[i].runs == THERE);
		CU_ASSERT_EQUAL(p.source.last == SLUICE_COMPLETED, p.destination.running);
		CU_ASSERT_EQUAL(p.destination.last == SLUICE_COMPLETED, p.destination.running);
		if (cases[i].cut.at == MESSAGE_GO) {
			if (cases[i].cut.before) /* else RUNNING may have been faster */
				CU_ASSERT(p.source.doubts >= 1 && atomic_load(&proxy.links) >= 2);
			expect_no_error(&p.source); /* it has mended */
			expect_no_error(&p.destination);
			CU_ASSERT_EQUAL(memcmp(p.source.memory, p.destination.memory, BYTES), 0);
		}
		if (cases[i].cut.at == MESSAGE_CANCEL)
			CU_ASSERT_EQUAL(p.source.last, SLUICE_CANCELLED);
		/* Where the last word came through, both linger until one closes. Else closing only spares the wait. */
		if (p.source.last == SLUICE_COMPLETED || !cases[i].cut.before)
			sluice_close(p.source.session);
		if (!cases[i].cut.before)
			sluice_close(p.destination.session);
		CU_ASSERT(loop(&p, both_ended));
		if (!both_ended(&p) || (cases[i].runs != EITHER && p.destination.running != (cases[i].runs == THERE)))
			printf("  cut %s %s: %s, %s\n", cases[i].cut.before ? "before" : "after", message_name(cases[i].cut.at),
			       sluice_phase_name(p.source.last), sluice_phase_name(p.destination.last));
		proxy_stop(&proxy);
		pair_stop(&p);
	}
}

/* Cut again and again: every later link is one more try. */
static void cut_again_and_again(void)
{
	static const struct proxy_cut cuts[PROXY_CUTS] = {
		{ MESSAGE_GO, true }, { MESSAGE_READY, true }, { MESSAGE_GO, true }, { MESSAGE_RUNNING, true }
	};
	struct pair p;

	pair_start_apart(&p, cuts, PROXY_CUTS, 1500);
	CU_ASSERT(loop(&p, both_decided));
	CU_ASSERT(p.destination.running && !p.source.running);
	CU_ASSERT_EQUAL(p.destination.resumes, 1);
	CU_ASSERT_EQUAL(p.source.resumes, 0);
	CU_ASSERT_EQUAL(atomic_load(&proxy.cut), PROXY_CUTS);
	CU_ASSERT_EQUAL(p.source.doubts, PROXY_CUTS);
	CU_ASSERT(atomic_load(&proxy.links) >= 1 + PROXY_CUTS);
	expect_no_error(&p.source);
	sluice_close(p.source.session);
	CU_ASSERT(loop(&p, both_ended));
	proxy_stop(&proxy);
	pair_stop(&p);
}

/* All connections are up: from here on they are the last. */
static void nobody_comes_through_anew(struct pair *p)
{
	p->destination.lazy = true;
	CU_ASSERT_FATAL(loop(p, loading));
	atomic_store(&proxy.shut, true);
	sluice_done(p->destination.session, SLUICE_LOAD, 0);
}

/* No network any more: only operators end it, and sluice_close() what remains of it. */
static void operators_end_it(void)
{
	static const struct proxy_cut at_go = { MESSAGE_GO, true };

	for (int run_there = 0; run_there < 2; run_there++) {
		struct pair p;
		struct sluice_error error;

		pair_start_apart(&p, &at_go, 1, 3600000);
		nobody_comes_through_anew(&p);
		CU_ASSERT_FATAL(loop(&p, both_in_doubt));
		CU_ASSERT_EQUAL(sluice_cancel(p.source.session), -EBUSY);
		CU_ASSERT_EQUAL(sluice_cancel(p.destination.session), -EBUSY);
		CU_ASSERT_EQUAL(sluice_close(p.source.session), -EINVAL);
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), -EINVAL);
		sluice_get_error(p.source.session, &error);
		CU_ASSERT_EQUAL(error.code, -EINPROGRESS);
		CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "in doubt"));
		CU_ASSERT_EQUAL(sluice_resolve(p.destination.session, run_there), 0);
		CU_ASSERT(loop(&p, run_there ? source_in_doubt_only : destination_failed));
		CU_ASSERT_EQUAL(sluice_resolve(p.destination.session, 1), -EINVAL);
		CU_ASSERT(!p.destination.ended); /* the source may come back within an hour */
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0);
		CU_ASSERT(loop(&p, destination_over));
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0); /* said before */
		CU_ASSERT_EQUAL(sluice_resolve(p.source.session, !run_there), 0);
		CU_ASSERT(loop(&p, run_there ? source_over : source_failed));
		CU_ASSERT_EQUAL(p.source.last, run_there ? SLUICE_COMPLETED : SLUICE_FAILED);
		CU_ASSERT_EQUAL(p.source.running, !run_there);
		CU_ASSERT_EQUAL(p.destination.running, run_there);
		CU_ASSERT_EQUAL(sluice_resolve(p.source.session, 0), -EINVAL);
		CU_ASSERT_EQUAL(sluice_close(p.source.session), run_there ? -EINVAL : 0); /* over already: nothing to close */
		CU_ASSERT(loop(&p, both_ended));
		proxy_stop(&proxy);
		pair_stop(&p);
	}
}

/* The destination's session is over before the source asks: the listener's next session knows how it ended. Another listener there
 * does not, and its word decides nothing. */
static void asks_the_next_session(void)
{
	for (int never = 0; never < 2; never++) {
		struct pair p;
		struct sluice_listener *stranger;
		const struct proxy_cut at_last = { never ? MESSAGE_NEVER : MESSAGE_RUNNING, true };

		pair_start_apart(&p, &at_last, 1, 3600000);
		p.destination.errors[SLUICE_ACQUIRE] = never ? -EIO : 0;
		nobody_comes_through_anew(&p);
		CU_ASSERT_FATAL(loop(&p, never ? destination_failed : source_in_doubt_only));
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0);
		CU_ASSERT(loop(&p, destination_over));
		CU_ASSERT_EQUAL(sluice_destroy(p.destination.session), 0);

		/* A stranger at that address. */
		CU_ASSERT_EQUAL_FATAL(sluice_listen("tcp:127.0.0.1:0", 0, &stranger, NULL), 0);
		struct side first = p.destination;
		side_init(&p.destination);
		CU_ASSERT_EQUAL_FATAL(sluice_destination_start(p.destination.session, stranger), 0);
		atomic_store(&proxy.target, proxy_port_of(sluice_listener_uri(stranger)));
		unsigned links = atomic_load(&proxy.links);
		atomic_store(&proxy.shut, false);
		for (int waited = 0; waited < PATIENCE_MS && atomic_load(&proxy.links) < links + 2; waited++)
			loop_for(&p, 1);
		CU_ASSERT(atomic_load(&proxy.links) >= links + 2); /* it was sent away, and asked again */
		CU_ASSERT_EQUAL(p.source.last, SLUICE_IN_DOUBT);
		CU_ASSERT_EQUAL(p.destination.last, SLUICE_INCOMING);
		CU_ASSERT_EQUAL(sluice_cancel(p.destination.session), 0);
		CU_ASSERT(loop(&p, destination_over));
		CU_ASSERT_EQUAL(sluice_destroy(p.destination.session), 0);
		sluice_listener_close(stranger);

		/* And the same listener again. */
		munmap(p.destination.memory, BYTES);
		side_init(&p.destination);
		CU_ASSERT_EQUAL_FATAL(sluice_destination_start(p.destination.session, p.listener), 0);
		atomic_store(&proxy.target, proxy_port_of(sluice_listener_uri(p.listener)));
		CU_ASSERT(loop(&p, never ? source_failed : source_completed));
		CU_ASSERT_EQUAL(p.source.running, never);
		CU_ASSERT_EQUAL(first.running, !never);
		CU_ASSERT(loop(&p, source_over)); /* nobody lingers after that */
		/* The new session is not disturbed by it. */
		CU_ASSERT_EQUAL(p.destination.last, SLUICE_INCOMING);
		CU_ASSERT_EQUAL(sluice_cancel(p.destination.session), 0);
		munmap(first.memory, BYTES);
		proxy_stop(&proxy);
		pair_stop(&p);
	}
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
      TEST(depth_that_is_not_taken), TEST(depth_that_takes_long), TEST(long_windows_are_warned_of),
      TEST(sections_outlive_dispatch), TEST(callbacks_that_fail), TEST(slow_callbacks_are_not_death),
      TEST(nobody_is_dead_before_times_are_agreed), TEST(a_callback_that_never_answers), TEST(the_clock_jump_is_told),
      TEST(cancels), TEST(limits_change_while_it_runs), TEST(switchover_bandwidth_changes_while_it_runs),
      TEST(marks_in_a_fetched_round_are_told), TEST(a_log_slow_to_stop_holds_nobody_up), TEST(what_is_left_falls),
      TEST(marks_and_discards_count), TEST(close_and_resolve_have_their_time), TEST(a_cut_link_heals), TEST(cut_again_and_again),
      TEST(operators_end_it), TEST(asks_the_next_session))
