/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_drain.c: the source's step function and a model of a guest's disk, in virtual time: what the drain costs the guest, and
 * what becomes of a disk that is slow, hangs, or whose callbacks talk nonsense. */
#include <errno.h>

#include "core/decide/source.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

enum { TICK_US = 100, QUEUE = 32, STUCK_MS = 100, TODO = 64 };
static const uint64_t forever = UINT64_MAX;

/* A disk: so many requests at a time are in flight, and the guest wants QUEUE of them always. */
struct disk {
	uint64_t done_ns[QUEUE], began_ns[QUEUE]; /* of those in flight */
	uint32_t in_flight, depth;
	uint64_t takes_ns;
	uint64_t hangs_until_ns; /* the first request */
	bool knows_stuck;        /* says -EBUSY for a request that hangs */
	int nonsense;            /* what drain_try returns instead */
	bool fails;              /* io_depth */
};

struct rig {
	struct source s;
	struct params params;
	struct disk disk;
	uint64_t now, started, round_ends;
	bool running, over, drain_asked;
	uint64_t late_ns;                    /* the embedder's loop answers so much later */
	uint64_t answers_ns;                 /* when it does */
	uint64_t quiet_ns, longest_quiet_ns; /* the guest runs and nothing is picked up */
	uint64_t quiet_since;
	uint64_t stopped_ns, shallow_ns;
	unsigned pauses, busy_pauses, warnings, phases_draining, tries_when_far;
	uint64_t dirty;
	struct message message;
	struct action todo[TODO];
	uint32_t first, last;
	bool acting;
};

static void step(struct rig *r, struct input in);

static int drain_try(struct rig *r)
{
	if (r->disk.nonsense)
		return r->disk.nonsense;
	if (!r->disk.in_flight)
		return 0;
	for (uint32_t i = 0; i < r->disk.in_flight; i++)
		if (r->disk.knows_stuck && r->now - r->disk.began_ns[i] > STUCK_MS * (uint64_t)MS)
			return -EBUSY;
	return -EAGAIN;
}

static void set_depth(struct rig *r, uint32_t depth)
{
	if (r->disk.fails) {
		step(r, (struct input){ .type = INPUT_IO_DEPTH, .code = -EIO, .stream = -1 });
		return;
	}
	if (!r->disk.depth && depth)
		r->quiet_since = 0;
	if (r->disk.depth && !depth)
		r->quiet_since = r->now;
	r->disk.depth = depth;
}

static void hear(struct rig *r, enum message_type type)
{
	memset(&r->message, 0, sizeof r->message);
	r->message.type = type;
	if (type == MESSAGE_LANDED)
		r->message.u.landed.round = r->s.round;
	else
		r->message.u.handoff.attempt = r->s.round;
	step(r, (struct input){ .type = INPUT_MESSAGE, .message = &r->message, .stream = -1, .link = r->s.dials });
}

static void done(struct rig *r, enum sluice_request request)
{
	if (request == SLUICE_PAUSE) {
		r->pauses++;
		r->busy_pauses += r->disk.in_flight != 0;
		r->running = false;
	}
	if (request == SLUICE_RESUME) {
		/* Not into silence. */
		CU_ASSERT(r->disk.depth);
		r->running = true;
	}
	step(r, (struct input){ .type = INPUT_DONE, .request = request, .state_bytes = 4096, .stream = -1 });
}

static void sync_done(struct rig *r)
{
	uint64_t left = r->s.state == SOURCE_LAST_ROUND ? 0 : r->dirty; /* nobody writes any more */
	step(r, (struct input){ .type = INPUT_SYNCED, .remaining = left, .found = left, .pages = 100000, .stream = -1 });
}

static void act(struct rig *r, const struct action *a)
{
	switch (a->type) {
	case ACTION_IO_DEPTH:
		if (a->depth == 0 && r->dirty > 3000000)
			r->tries_when_far++;
		set_depth(r, a->depth);
		break;
	case ACTION_DRAIN_TRY:
		CU_ASSERT(!r->drain_asked); /* one question at a time */
		r->drain_asked = true;
		r->answers_ns = r->now + r->late_ns;
		break;
	case ACTION_ROUND: r->round_ends = r->now + (a->last ? 5 : 20) * (uint64_t)MS; break;
	case ACTION_ROUND_CUT: r->round_ends = r->now; break;
	case ACTION_SYNC: sync_done(r); break;
	case ACTION_REQUEST: done(r, a->request); break;
	case ACTION_PHASE: r->phases_draining += a->phase == SLUICE_DRAINING; break;
	case ACTION_WARN: r->warnings++; break;
	case ACTION_SEND:
		if (a->message_type == MESSAGE_SWITCHOVER)
			hear(r, MESSAGE_READY);
		else if (a->message_type == MESSAGE_GO)
			hear(r, MESSAGE_RUNNING);
		break;
	case ACTION_STREAMS_START: hear(r, MESSAGE_STREAMS_UP); break;
	case ACTION_ARM: step(r, (struct input){ .type = INPUT_ARMED, .stream = -1 }); break;
	case ACTION_END: r->over = true; break;
	default: break;
	}
}

/* Answers make steps of their own: not before all that a step asked for was taken. */
static void step(struct rig *r, struct input in)
{
	struct actions out = { 0 };

	in.now_ns = r->now;
	in.params = r->params;
	in.text = "as the test says";
	source_step(&r->s, &in, &out);
	for (uint32_t i = 0; i < out.n; i++) {
		CU_ASSERT_FATAL(r->last - r->first < TODO);
		r->todo[r->last++ % TODO] = out.list[i];
	}
	if (r->acting)
		return;
	r->acting = true;
	while (r->first != r->last) {
		struct action a = r->todo[r->first++ % TODO];
		act(r, &a);
	}
	r->acting = false;
}

static void work_disk(struct rig *r)
{
	struct disk *d = &r->disk;

	for (uint32_t i = 0; i < d->in_flight;) {
		if (d->done_ns[i] > r->now) {
			i++;
			continue;
		}
		d->in_flight--;
		d->done_ns[i] = d->done_ns[d->in_flight];
		d->began_ns[i] = d->began_ns[d->in_flight];
	}
	while (r->running && d->in_flight < QUEUE && d->in_flight < d->depth) {
		d->began_ns[d->in_flight] = r->now;
		/* Not all in step. */
		d->done_ns[d->in_flight] = r->now + d->takes_ns + d->takes_ns / QUEUE * d->in_flight;
		if (d->hangs_until_ns > r->now) {
			d->done_ns[d->in_flight] = d->hangs_until_ns;
			d->hangs_until_ns = 0;
		}
		d->in_flight++;
	}
}

static void begin(struct rig *r)
{
	*r = (struct rig){
		.params = usual_params,
		.now = 1000 * (uint64_t)MS,
		.running = true,
		.round_ends = forever,
		.answers_ns = forever,
		.dirty = 3000,
		.disk = { .depth = SLUICE_IO_DEPTH_USUAL, .takes_ns = MS / 2, .knows_stuck = true },
	};
	r->params.drain = (struct drain_params){ .given = true, .depth = 1, .window_ms = 500, .share = 5, .tries = 10 };
	r->started = r->now;
	source_init(&r->s);
	step(r, (struct input){ .type = INPUT_START, .stream = -1 });
	step(r, (struct input){ .type = INPUT_LINK_UP, .link = 1, .stream = -1 });
	hear(r, MESSAGE_WELCOME);
	CU_ASSERT_EQUAL(r->s.state, SOURCE_ROUND);
}

/* Until the guest runs there, or it failed, or so much time went by. */
static void go_on(struct rig *r, uint64_t ms)
{
	uint64_t until = r->now + ms * MS;

	while (r->now < until && r->s.state != SOURCE_LINGERING && !r->over) {
		r->now += TICK_US * 1000;
		work_disk(r);
		if (r->running && !r->disk.depth) {
			r->quiet_ns += TICK_US * 1000;
			if (r->now - r->quiet_since > r->longest_quiet_ns)
				r->longest_quiet_ns = r->now - r->quiet_since;
		}
		r->shallow_ns += (r->disk.depth == 1) * TICK_US * 1000;
		r->stopped_ns += !r->running * TICK_US * 1000;
		if (r->now >= r->answers_ns) {
			r->answers_ns = forever;
			r->drain_asked = false;
			step(r, (struct input){ .type = INPUT_DRAINED, .code = drain_try(r), .stream = -1 });
		}
		if (r->now >= r->round_ends) {
			r->round_ends = forever;
			step(r, (struct input){ .type = INPUT_ROUND_SENT,
						.round = r->s.round,
						.pages = r->s.round * 100000ull,
						.nonzero_pages = r->s.round * 100000ull,
						.moved_bytes = r->now,
						.found = r->dirty,
						.stream = -1 });
			hear(r, MESSAGE_LANDED);
		}
		if (source_wake_ns(&r->s) <= r->now || r->now % (100 * (uint64_t)MS) == 0)
			step(r, (struct input){ .type = INPUT_TICK, .stream = -1 });
	}
}

static void busy_healthy_disk(void)
{
	struct rig r;

	begin(&r);
	go_on(&r, 5000);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
	CU_ASSERT_EQUAL(r.pauses, 1);
	CU_ASSERT_EQUAL(r.busy_pauses, 0); /* vCPUs stop after the I/O did */
	CU_ASSERT_EQUAL(r.s.drain.tries, 1);
	CU_ASSERT_EQUAL(r.s.drain.busy, 0);
	CU_ASSERT(r.longest_quiet_ns < 30 * (uint64_t)MS);
	CU_ASSERT_EQUAL(r.disk.depth, 0); /* nothing is picked up where the guest does not run */
	CU_ASSERT_EQUAL(r.phases_draining, 1);
	CU_ASSERT_EQUAL(r.warnings, 0);
}

static void nobody_drains_without_callbacks(void)
{
	struct rig r;

	begin(&r);
	r.params.drain.given = false;
	go_on(&r, 5000);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
	CU_ASSERT_EQUAL(r.disk.depth, SLUICE_IO_DEPTH_USUAL);
	CU_ASSERT_EQUAL(r.phases_draining, 0);
}

static void hanging_request(void)
{
	for (int knows = 0; knows < 2; knows++) {
		struct rig r;

		begin(&r);
		r.disk.knows_stuck = knows;
		r.disk.hangs_until_ns = r.now + 10000 * (uint64_t)MS;
		go_on(&r, 10000);
		CU_ASSERT(r.s.state < SOURCE_PAUSING); /* it goes on with rounds, */
		CU_ASSERT_EQUAL(r.pauses, 0);
		CU_ASSERT(r.quiet_ns <= 10000 * (uint64_t)MS / 20 + 30 * (uint64_t)MS); /* in which the guest keeps its disk */
		CU_ASSERT(r.s.drain.busy >= 3);
		CU_ASSERT(r.shallow_ns <= 10000 * (uint64_t)MS / 5); /* and not with short queues all the time */
		uint64_t back = r.now;
		go_on(&r, 30000);
		CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
		CU_ASSERT_EQUAL(r.busy_pauses, 0);
		if (knows)
			CU_ASSERT(r.now - back < 2000 * (uint64_t)MS);
	}
}

static void hangs_for_ever(void)
{
	struct rig r;

	begin(&r); /* by default it is tried on and on */
	r.disk.hangs_until_ns = forever;
	go_on(&r, 60000);
	CU_ASSERT(r.running && r.s.state < SOURCE_PAUSING && r.s.drain.busy > 10);

	begin(&r);
	r.disk.hangs_until_ns = forever;
	r.params.drain.fails = true;
	go_on(&r, 60000);
	CU_ASSERT(r.over && r.running);
	CU_ASSERT_EQUAL(r.s.error_code, -EBUSY);
	CU_ASSERT_EQUAL(r.s.drain.busy, 10);
	CU_ASSERT_EQUAL(r.disk.depth, SLUICE_IO_DEPTH_USUAL);

	begin(&r);
	r.disk.hangs_until_ns = forever;
	r.params.drain.fails = true;
	r.params.drain.tries = 0;
	r.params.drain.limit_ms = 3000;
	go_on(&r, 60000);
	CU_ASSERT(r.over && r.running);
	CU_ASSERT(r.now - r.s.drain.first_ns < 4200 * (uint64_t)MS);
	CU_ASSERT(r.s.drain.gave_up);
}

/* Windows must get long enough for it. */
static void slow_disk(void)
{
	struct rig r;

	begin(&r);
	r.disk.knows_stuck = false;
	r.disk.takes_ns = 120 * (uint64_t)MS;
	go_on(&r, 60000);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
	CU_ASSERT(r.s.drain.busy >= 2 && r.s.drain.busy <= 6);
	CU_ASSERT(r.quiet_ns <= (r.now - r.started) / 20 + 30 * (uint64_t)MS);
}

/* A window is no longer than it may be, and the disk works as usual right after it, whatever the embedder says or does not. */
static void windows_end(void)
{
	static const uint64_t windows[] = { 1, 10, 500, 30000 };

	for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
		struct rig r;

		begin(&r);
		r.disk.knows_stuck = false;
		r.disk.hangs_until_ns = forever;
		r.params.drain.window_ms = windows[i];
		r.params.drain.share = 100;
		r.late_ns = i % 2 ? 0 : forever - 10000 * (uint64_t)MS; /* an embedder that does not answer */
		go_on(&r, 200000);
		CU_ASSERT(r.running);
		CU_ASSERT(r.longest_quiet_ns <= windows[i] * MS + 2 * TICK_US * 1000);
		if (i % 2) {
			CU_ASSERT(r.longest_quiet_ns + MS >= windows[i] * MS);
		} else { /* no second window while the first question is open */
			CU_ASSERT_EQUAL(r.s.drain.tries, 1);
		}
	}
}

static void nonsense(void)
{
	static const int codes[] = { 17, -EIO, -EINVAL, INT32_MIN };

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		struct rig r;

		begin(&r);
		r.disk.nonsense = codes[i];
		go_on(&r, 20000);
		CU_ASSERT(r.running && r.s.state < SOURCE_PAUSING);
		CU_ASSERT_EQUAL(r.warnings, 1);
		CU_ASSERT(r.disk.depth != 0 || r.s.drain.state == DRAIN_QUIET);
	}
}

static void depth_callback_fails(void)
{
	struct rig r;

	begin(&r);
	r.disk.fails = true;
	go_on(&r, 20000);
	CU_ASSERT(r.running && r.s.state < SOURCE_PAUSING);
	CU_ASSERT_EQUAL(r.warnings, 1);
}

/* Some I/O came in between the last answer and the stop. */
static void in_between(void)
{
	struct rig r;

	begin(&r);
	r.late_ns = 3 * MS;
	while (!r.over && r.s.state < SOURCE_CHECKING && r.now < 10000 * (uint64_t)MS)
		go_on(&r, 1);
	CU_ASSERT_EQUAL_FATAL(r.s.state, SOURCE_CHECKING);
	r.disk.in_flight = 1;
	r.disk.began_ns[0] = r.now;
	r.disk.done_ns[0] = r.now + 30 * (uint64_t)MS;
	uint32_t busy = r.s.drain.busy;
	go_on(&r, 5);
	CU_ASSERT(r.running);
	CU_ASSERT_EQUAL(r.s.drain.busy, busy + 1);
	CU_ASSERT_EQUAL(r.disk.depth, SLUICE_IO_DEPTH_USUAL);
	go_on(&r, 5000);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
	CU_ASSERT_EQUAL(r.pauses, 2);
}

/* Whatever ends it, and whenever: the guest runs, and its disk works. */
static void every_way_back(void)
{
	static const enum input_type ends[] = { INPUT_CANCEL, INPUT_LINK_LOST, INPUT_STREAM_LOST };

	for (size_t how = 0; how < sizeof ends / sizeof *ends; how++)
		for (uint64_t at_us = 0; at_us < 120000; at_us += 700) {
			struct rig r;

			begin(&r);
			r.late_ns = 3 * MS;
			while (r.now < r.started + at_us * 1000)
				go_on(&r, 1);
			if (r.s.state >= SOURCE_WAIT_READY)
				break;
			bool lost = ends[how] != INPUT_CANCEL;
			step(&r, (struct input){ .type = ends[how], .code = lost ? -EPIPE : 0, .stream = lost - 1 });
			go_on(&r, 1000);
			if (ends[how] == INPUT_STREAM_LOST && r.s.state == SOURCE_LINGERING)
				continue; /* all had been sent */
			CU_ASSERT(r.running && r.over);
			CU_ASSERT_EQUAL(r.disk.depth, SLUICE_IO_DEPTH_USUAL);
		}
}

static void not_while_much_is_dirty(void)
{
	struct rig r;

	begin(&r);
	r.dirty = 5000000;
	go_on(&r, 5000);
	CU_ASSERT_EQUAL(r.s.drain.tries, 0);
	CU_ASSERT_EQUAL(r.disk.depth, SLUICE_IO_DEPTH_USUAL);
	r.dirty = 3000;
	go_on(&r, 5000);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
	CU_ASSERT_EQUAL(r.tries_when_far, 0);
}

SUITE("drain", TEST(busy_healthy_disk), TEST(nobody_drains_without_callbacks), TEST(hanging_request), TEST(hangs_for_ever),
      TEST(slow_disk), TEST(windows_end), TEST(nonsense), TEST(depth_callback_fails), TEST(in_between), TEST(every_way_back),
      TEST(not_while_much_is_dirty))
