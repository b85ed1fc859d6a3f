/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pair.h: both sessions of a migration in one process, with an embedder of a few lines whose loop dispatches both ends. */
#pragma once

#include <errno.h>
#include <poll.h>
#include <sluice.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "streams/wait.h"
#include "tests/unit/harness.h"

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
	int depth_error, restore_error; /* of io_depth, for fewer than usual and for as many */
	int answer;                     /* of drain_try, whatever is in flight; 0: the truth */
	unsigned depth_ms;              /* that io_depth takes, once a window is to be opened */
	char warning[SLUICE_ERROR_MAX]; /* the last */
	unsigned pauses, resumes, rounds, doubts;
	enum sluice_phase last;
	char message[64];
};

static const char state[] = "device state of the guest";

static inline void on_event(void *opaque, const struct sluice_event *event)
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

static inline void done(struct side *side, enum sluice_request request, int error)
{
	struct pollfd none = { .fd = -1 };

	if (side->slow_ms && (!side->slow || side->slow == request))
		poll(&none, 1, (int)side->slow_ms);
	if (side->errors[request] && side->refusal)
		sluice_refuse_because(side->session, side->refusal);
	sluice_done(side->session, request, error ? error : side->errors[request]);
}

static inline int add_memory(struct side *side)
{
	struct sluice_region region = {
		.size_of = sizeof(region), .name = "ram", .address = side->memory, .size = BYTES, .node = -1, .fd = -1
	};
	uint32_t id;

	return sluice_add_region(side->session, &region, &id);
}

static inline void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	struct side *side = opaque;
	bool fits = n == 1 && !strcmp(offers[0].name, "ram") && offers[0].size == BYTES && length == 6 &&
		    !memcmp(cookie, "cookie", 6);

	if (!fits)
		sluice_refuse_because(side->session, "not what the test offers");
	done(side, SLUICE_INCOMING_GUEST, fits ? add_memory(side) : -EINVAL);
}

static inline void on_pause(void *opaque)
{
	struct side *side = opaque;

	side->pauses++;
	side->running = side->errors[SLUICE_PAUSE];
	done(side, SLUICE_PAUSE, 0);
	side->paused_ns = now_ns();
}

static inline void on_resume(void *opaque)
{
	struct side *side = opaque;

	side->resumes++;
	side->running = !side->errors[SLUICE_RESUME];
	side->stopped_ns = sluice_stopped_ns(side->session);
	side->resumed_ns = now_ns();
	done(side, SLUICE_RESUME, 0);
}

static inline void on_save(void *opaque)
{
	struct side *side = opaque;
	struct sluice_section section = { "device", 7, state, sizeof(state) }, empty = { "empty", 1, NULL, 0 };
	int error = sluice_save_section(side->session, &section);

	error = error ? error : sluice_save_section(side->session, &empty);
	done(side, SLUICE_SAVE, error);
}

static inline void on_load(void *opaque, const struct sluice_section *sections, size_t n)
{
	struct side *side = opaque;

	side->sections = sections;
	side->n_sections = n;
	if (!side->lazy)
		done(side, SLUICE_LOAD, 0);
}

static inline void on_acquire(void *opaque)
{
	done(opaque, SLUICE_ACQUIRE, 0);
}

static inline void on_release(void *opaque)
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

static inline int on_io_depth(void *opaque, uint32_t requests)
{
	struct side *side = opaque;

	if (!requests && side->depth_ms)
		poll(NULL, 0, (int)side->depth_ms);
	side->windows += !requests && side->depth;
	side->depth = requests;
	return requests == SLUICE_IO_DEPTH_USUAL ? side->restore_error : side->depth_error;
}

static inline int on_drain_try(void *opaque)
{
	struct side *side = opaque;

	side->tries++;
	if (side->answer)
		return side->answer;
	return side->in_flight ? -EAGAIN : 0;
}

static inline void side_init(struct side *side)
{
	memset(side, 0, sizeof(*side));
	side->depth = SLUICE_IO_DEPTH_USUAL;
	side->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(side->memory != MAP_FAILED);
	CU_ASSERT_EQUAL_FATAL(sluice_create(&ops, side, &side->session), 0);
}

/* `dead_peer_ms`: the destination's; 0: as it is. */
static inline void pair_start_with(struct pair *p, uint64_t dead_peer_ms)
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

static inline void pair_start(struct pair *p)
{
	pair_start_with(p, 0);
}

/* Dispatch both ends until `until` says so; false: it did not come to that. */
static inline bool loop(struct pair *p, bool (*until)(const struct pair *))
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

static inline void loop_for(struct pair *p, int ms)
{
	struct pollfd none = { .fd = -1 };

	poll(&none, 1, ms);
	while (sluice_dispatch(p->source.session) || sluice_dispatch(p->destination.session))
		;
}

static inline bool both_completed(const struct pair *p)
{
	return p->source.last == SLUICE_COMPLETED && p->destination.last == SLUICE_COMPLETED;
}

static inline bool both_ended(const struct pair *p)
{
	return p->source.ended && p->destination.ended;
}

static inline bool loading(const struct pair *p)
{
	return p->destination.sections;
}

static inline bool told(const struct pair *p)
{
	return p->source.message[0];
}

static inline bool active(const struct pair *p)
{
	return p->source.last == SLUICE_ACTIVE;
}

static inline void pair_stop(struct pair *p)
{
	CU_ASSERT(loop(p, both_ended));
	CU_ASSERT_EQUAL(sluice_destroy(p->source.session), 0);
	CU_ASSERT_EQUAL(sluice_destroy(p->destination.session), 0);
	sluice_listener_close(p->listener);
	munmap(p->source.memory, BYTES);
	munmap(p->destination.memory, BYTES);
}

static inline void start(struct pair *p)
{
	CU_ASSERT_EQUAL_FATAL(sluice_source_start(p->source.session, sluice_listener_uri(p->listener)), 0);
}

static inline struct sluice_stats source_stats(const struct pair *p)
{
	struct sluice_stats stats = { .size_of = sizeof(stats) };

	CU_ASSERT_EQUAL(sluice_get_stats(p->source.session, &stats), 0);
	return stats;
}
