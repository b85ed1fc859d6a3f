/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_destination.c: the destination's phase machine, driven by hand. Before READY whatever goes wrong makes what came void; from
 * READY on it is in doubt without GO; from GO on the guest is its own, link or no link, unless it says NEVER. */
#include <errno.h>

#include "core/decide/destination.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

enum { STREAMS = 4, LAST = 7 };

struct rig {
	struct destination d;
	struct actions out;
	struct message message;
	uint64_t now;
	enum sluice_request pending;
	unsigned resumes, ends, after_end, readies, nevers, runnings, doubled;
	bool running, go, operator_said, closed;
	int error;
};

static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof *r);
	destination_init(&r->d);
	r->now = 1000 * (uint64_t)MS;
}

static void look_at(struct rig *r, const struct action *a)
{
	r->ends += a->type == ACTION_END;
	if (a->type == ACTION_ERROR && !r->error)
		r->error = a->code;
	r->closed |= a->type == ACTION_LINK_CLOSE;
	if (a->type == ACTION_SEND) {
		CU_ASSERT(!r->closed);
		r->readies += a->message_type == MESSAGE_READY;
		r->nevers += a->message_type == MESSAGE_NEVER;
		r->runnings += a->message_type == MESSAGE_RUNNING;
	}
	if (a->type != ACTION_REQUEST)
		return;
	r->doubled += r->pending != 0;
	r->pending = a->request;
	if (a->request == SLUICE_RESUME || a->request == SLUICE_ACQUIRE)
		CU_ASSERT(r->go || r->operator_said); /* Law 5 */
	r->resumes += a->request == SLUICE_RESUME;
}

static void step(struct rig *r, struct input in)
{
	bool over = r->ends;

	in.now_ns = r->now;
	in.params = usual_params;
	if (!in.text)
		in.text = "as the test says";
	r->out.n = 0;
	destination_step(&r->d, &in, &r->out);
	CU_ASSERT(r->out.n <= ACTIONS_MAX);
	r->after_end += over ? r->out.n : 0;
	for (uint32_t i = 0; i < r->out.n; i++)
		look_at(r, &r->out.list[i]);
	if (r->ends && !over)
		CU_ASSERT_EQUAL(r->out.list[r->out.n - 1].type, ACTION_END);
}

static void fails(struct rig *r, enum input_type type, int code)
{
	step(r, (struct input){ .type = type, .stream = -1, .code = code });
}

static void hears_about(struct rig *r, enum message_type type, uint32_t attempt)
{
	memset(&r->message, 0, sizeof r->message);
	r->message.type = type;
	if (type == MESSAGE_SWITCHOVER) {
		r->message.u.switchover.round = attempt;
		r->message.u.switchover.n = 1;
	} else if (type == MESSAGE_CANCEL) {
		r->message.u.word.attempt = attempt;
		r->message.u.word.code = -ECANCELED;
		strcpy(r->message.u.word.text, "the other side says so");
	} else {
		r->message.u.handoff.attempt = attempt;
	}
	r->go |= type == MESSAGE_GO && attempt == LAST;
	step(r, (struct input){ .type = INPUT_MESSAGE, .message = &r->message, .stream = -1 });
}

static void hears(struct rig *r, enum message_type type)
{
	hears_about(r, type, LAST);
}

static void answers(struct rig *r, int code)
{
	enum sluice_request request = r->pending;

	r->pending = 0;
	if (request == SLUICE_RESUME && !code)
		r->running = true;
	step(r,
	     (struct input){ .type = INPUT_DONE, .request = request, .code = code, .value = STREAMS, .text = "", .stream = -1 });
}

static void lands(struct rig *r, uint32_t round)
{
	step(r, (struct input){ .type = INPUT_LANDED, .round = round, .stream = -1 });
}

static void state_lands(struct rig *r, uint32_t round)
{
	step(r, (struct input){ .type = INPUT_STATE_LANDED, .round = round, .stream = -1 });
}

static void reach(struct rig *r, enum destination_state state)
{
	rig_init(r);
	while (r->d.state != state) {
		r->now += MS;
		switch (r->d.state) {
		case DESTINATION_NEW: fails(r, INPUT_START, 0); break;
		case DESTINATION_LISTENING: hears(r, MESSAGE_HELLO); break;
		case DESTINATION_GATHERING:
			for (uint32_t i = 1; i <= STREAMS; i++)
				step(r, (struct input){ .type = INPUT_STREAM_UP, .value = i, .stream = -1 });
			break;
		case DESTINATION_ACTIVE: hears(r, MESSAGE_SWITCHOVER); break;
		case DESTINATION_LANDING:
			lands(r, LAST);
			state_lands(r, LAST);
			break;
		case DESTINATION_READY:
			if (state == DESTINATION_DOUBT)
				fails(r, INPUT_LINK_LOST, -ECONNRESET);
			else
				hears(r, MESSAGE_GO);
			break;
		case DESTINATION_WAIT_DONE: hears(r, MESSAGE_DONE); break;
		case DESTINATION_ASKING:
		case DESTINATION_LOADING:
		case DESTINATION_ACQUIRING:
		case DESTINATION_RESUMING: answers(r, 0); break;
		default: CU_FAIL_FATAL("no way there"); return;
		}
	}
}

static const enum destination_state before_ready[] = {
	DESTINATION_LISTENING, DESTINATION_ASKING,  DESTINATION_GATHERING,
	DESTINATION_ACTIVE,    DESTINATION_LANDING, DESTINATION_LOADING,
};
enum { BEFORE_READY = sizeof before_ready / sizeof *before_ready };
static const enum destination_state after_go[] = {
	DESTINATION_ACQUIRING,
	DESTINATION_RESUMING,
	DESTINATION_WAIT_DONE,
	DESTINATION_LINGERING,
};
enum { AFTER_GO = sizeof after_go / sizeof *after_go };

#define SAYS(rig, text) CU_ASSERT_STRING_EQUAL(said(&(rig)->out), text)

static void prod(struct rig *r)
{
	for (int type = INPUT_START; type <= INPUT_TICK; type++)
		if (type != INPUT_MESSAGE)
			fails(r, (enum input_type)type, -EIO);
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++)
		hears_about(r, (enum message_type)type, LAST);
	CU_ASSERT_EQUAL(r->after_end, 0);
	CU_ASSERT_EQUAL(r->ends, 1);
}

/* What came is void: over at once, or when the embedder has let go of what it works on. Nothing runs here. */
static void is_void(struct rig *r, enum sluice_phase phase)
{
	if (r->d.state == DESTINATION_GIVING_UP && r->pending) {
		answers(r, 0);
	} else if (r->d.state == DESTINATION_GIVING_UP) { /* it never answers */
		r->now = r->d.deadline.at_ns;
		fails(r, INPUT_TICK, 0);
	}
	CU_ASSERT_EQUAL(r->ends, 1);
	CU_ASSERT_EQUAL(r->d.phase, phase);
	CU_ASSERT(!r->running && !r->resumes && !r->doubled);
	if (r->d.phase != phase || r->ends != 1)
		printf("  ended in %s, %u ends: %s\n", sluice_phase_name(r->d.phase), r->ends, said(&r->out));
	prod(r);
}

static void straight_path(void)
{
	struct rig rig, *r = &rig;

	rig_init(r);
	fails(r, INPUT_START, 0);
	SAYS(r, "phase:incoming");
	hears(r, MESSAGE_HELLO);
	SAYS(r, "ask:incoming");
	answers(r, 0);
	SAYS(r, "phase:setup streams+ WELCOME");
	for (uint32_t i = 1; i < STREAMS; i++) {
		step(r, (struct input){ .type = INPUT_STREAM_UP, .value = i, .stream = -1 });
		SAYS(r, "");
	}
	step(r, (struct input){ .type = INPUT_STREAM_UP, .value = STREAMS, .stream = -1 });
	SAYS(r, "STREAMS_UP phase:active");
	for (uint32_t round = 1; round < LAST; round++) {
		lands(r, round);
		SAYS(r, "");
	}
	hears(r, MESSAGE_SWITCHOVER);
	SAYS(r, "");
	state_lands(r, LAST);
	SAYS(r, "");
	lands(r, LAST);
	SAYS(r, "phase:device ask:load");
	answers(r, 0);
	SAYS(r, "READY");
	CU_ASSERT(!destination_cancellable(&r->d));
	hears(r, MESSAGE_GO);
	SAYS(r, "ask:acquire");
	answers(r, 0);
	SAYS(r, "ask:resume");
	answers(r, 0);
	SAYS(r, "RUNNING");
	hears(r, MESSAGE_DONE);
	SAYS(r, "streams- phase:completed");
	uint64_t over = r->d.ended_ns;
	r->now += 1000 * (uint64_t)MS;
	fails(r, INPUT_CLOSE, 0);
	SAYS(r, "BYE streams- link- end");
	CU_ASSERT_EQUAL(r->d.ended_ns, over);
	CU_ASSERT(r->running);
	prod(r);
}

/* SWITCHOVER, the round and its state come in any order; only all of them make it load, and once. */
static void loads_when_all_is_there(void)
{
	for (int order = 0; order < 6; order++) {
		static const char *const orders[] = { "SLT", "STL", "LST", "LTS", "TSL", "TLS" };
		struct rig r;

		reach(&r, DESTINATION_ACTIVE);
		for (int i = 0; i < 3; i++) {
			if (orders[order][i] == 'S')
				hears(&r, MESSAGE_SWITCHOVER);
			else if (orders[order][i] == 'L')
				lands(&r, LAST);
			else
				state_lands(&r, LAST);
			CU_ASSERT_EQUAL(asked_for(&r.out, SLUICE_LOAD), i == 2);
		}
		lands(&r, LAST + 1);
		state_lands(&r, LAST);
		CU_ASSERT_EQUAL(r.out.n, 0);
	}
	struct rig r;
	reach(&r, DESTINATION_LANDING);
	lands(&r, LAST - 1);
	state_lands(&r, LAST - 1); /* of an abandoned try */
	lands(&r, LAST);
	CU_ASSERT_EQUAL(r.d.state, DESTINATION_LANDING);
	state_lands(&r, LAST);
	CU_ASSERT_EQUAL(r.d.state, DESTINATION_LOADING);
	/* No device state at all. */
	reach(&r, DESTINATION_ACTIVE);
	lands(&r, LAST);
	r.message = (struct message){ .type = MESSAGE_SWITCHOVER, .u.switchover = { .round = LAST } };
	step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .stream = -1 });
	SAYS(&r, "phase:device ask:load");
}

static void refuses_an_offer(void)
{
	struct rig r;

	reach(&r, DESTINATION_LISTENING);
	memset(&r.message, 0, sizeof r.message);
	r.message.type = MESSAGE_HELLO;
	step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .code = -EPROTO, .stream = -1 });
	SAYS(&r, "error REFUSE streams- phase:failed link- end");
	is_void(&r, SLUICE_FAILED);
	reach(&r, DESTINATION_ASKING);
	answers(&r, -ENOMEM);
	SAYS(&r, "error REFUSE streams- phase:failed link- end");
	CU_ASSERT(one_line(r.out.list[0].text));
	is_void(&r, SLUICE_FAILED);
	reach(&r, DESTINATION_ASKING);
	r.pending = 0;
	step(&r,
	     (struct input){
		     .type = INPUT_DONE, .request = SLUICE_INCOMING_GUEST, .code = -EPERM, .text = "not today", .stream = -1 });
	CU_ASSERT_STRING_EQUAL(r.out.list[1].text, "not today");
	is_void(&r, SLUICE_FAILED);
	reach(&r, DESTINATION_ACTIVE);
	r.message.type = MESSAGE_SWITCHOVER;
	r.message.u.switchover.round = LAST;
	step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .code = -EPROTO, .stream = -1 });
	SAYS(&r, "error CANCEL streams- phase:failed link- end");
	is_void(&r, SLUICE_FAILED);
}

static void ends_before_ready(void)
{
	for (int i = 0; i < BEFORE_READY; i++) {
		enum destination_state state = before_ready[i];
		struct rig r;

		reach(&r, state);
		CU_ASSERT(destination_cancellable(&r.d));
		fails(&r, INPUT_CANCEL, 0);
		CU_ASSERT_EQUAL(sent(&r.out, MESSAGE_REFUSE), state == DESTINATION_ASKING);
		CU_ASSERT_EQUAL(sent(&r.out, MESSAGE_CANCEL), state > DESTINATION_ASKING);
		CU_ASSERT_EQUAL(r.error, -ECANCELED);
		is_void(&r, SLUICE_CANCELLED);

		reach(&r, state);
		fails(&r, INPUT_LINK_LOST, -ECONNRESET);
		CU_ASSERT_EQUAL(count_of(&r.out, ACTION_SEND), 0);
		CU_ASSERT_EQUAL(r.error, -ECONNRESET);
		is_void(&r, SLUICE_FAILED);

		reach(&r, state);
		hears(&r, MESSAGE_CANCEL);
		CU_ASSERT_EQUAL(count_of(&r.out, ACTION_SEND), 0);
		is_void(&r, SLUICE_CANCELLED);

		reach(&r, state);
		step(&r, (struct input){ .type = INPUT_STREAM_LOST, .stream = 2, .code = -EPIPE });
		CU_ASSERT_EQUAL(r.out.n, 0);
		r.now += (uint64_t)STREAM_LOSS_MS * MS;
		fails(&r, INPUT_TICK, 0);
		if (state >= DESTINATION_GATHERING && state < DESTINATION_LOADING) {
			CU_ASSERT_EQUAL(r.error, -EPIPE);
			CU_ASSERT_EQUAL(sent(&r.out, MESSAGE_CANCEL), 1);
			is_void(&r, SLUICE_FAILED);
		} else {
			CU_ASSERT_EQUAL(r.out.n, 0);
		}
	}
}

static void deadlines_before_ready(void)
{
	for (int i = 0; i < BEFORE_READY; i++) {
		struct rig r;

		reach(&r, before_ready[i]);
		/* LISTENING waits for anybody; ACTIVE as long as the link lives. */
		bool bounded = before_ready[i] != DESTINATION_LISTENING && before_ready[i] != DESTINATION_ACTIVE;
		CU_ASSERT_EQUAL(r.d.deadline.at_ns != UINT64_MAX, bounded);
		if (!bounded)
			continue;
		r.now = r.d.deadline.at_ns - 1;
		fails(&r, INPUT_TICK, 0);
		CU_ASSERT_EQUAL(r.out.n, 0);
		r.now++;
		fails(&r, INPUT_TICK, 0);
		CU_ASSERT_EQUAL(r.error, -ETIMEDOUT);
		CU_ASSERT(r.out.n && one_line(r.out.list[0].text));
		r.pending = 0;
		is_void(&r, SLUICE_FAILED);
	}
}

static void wrong_messages_before_ready(void)
{
	for (int i = 0; i < BEFORE_READY; i++)
		for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
			struct rig r;

			if ((before_ready[i] == DESTINATION_LISTENING && type == MESSAGE_HELLO) ||
			    (before_ready[i] == DESTINATION_ACTIVE && type == MESSAGE_SWITCHOVER) || type == MESSAGE_CANCEL)
				continue;
			reach(&r, before_ready[i]);
			hears_about(&r, (enum message_type)type, LAST);
			r.go = false;
			CU_ASSERT(r.out.n && one_line(r.out.list[0].text));
			is_void(&r, SLUICE_FAILED);
		}
	struct rig r;
	reach(&r, DESTINATION_ACTIVE);
	hears_about(&r, MESSAGE_SWITCHOVER, 0); /* rounds begin at 1 */
	is_void(&r, SLUICE_FAILED);
	reach(&r, DESTINATION_LANDING);
	hears_about(&r, MESSAGE_SWITCHOVER, LAST + 1);
	is_void(&r, SLUICE_FAILED);
	reach(&r, DESTINATION_LOADING);
	answers(&r, -EIO);
	SAYS(&r, "error CANCEL streams- phase:failed link- end");
	is_void(&r, SLUICE_FAILED);
}

/* READY was handed over: only GO lets it run; CANCEL voids; whatever else ends the link leaves it in doubt. */
static void in_doubt_after_ready(void)
{
	static const enum input_type harmless[] = { INPUT_CANCEL,  INPUT_STREAM_LOST, INPUT_CLOSE,
						    INPUT_RESOLVE, INPUT_LANDED,      INPUT_STATE_LANDED,
						    INPUT_DONE,    INPUT_STREAM_UP,   INPUT_TICK };
	struct rig r;

	for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
		reach(&r, DESTINATION_READY);
		step(&r, (struct input){ .type = harmless[i], .value = 1, .code = -EIO, .stream = -1 });
		r.now += 1000ull * MS;
		fails(&r, INPUT_TICK, 0);
		CU_ASSERT_EQUAL(r.d.state, DESTINATION_READY);
	}
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
		reach(&r, DESTINATION_READY);
		if (type == MESSAGE_GO)
			hears_about(&r, MESSAGE_GO, LAST - 1);
		else
			hears(&r, (enum message_type)type);
		if (type != MESSAGE_CANCEL)
			SAYS(&r, "error streams- link- phase:in-doubt");
		CU_ASSERT_EQUAL(r.d.phase, type == MESSAGE_CANCEL ? SLUICE_CANCELLED : SLUICE_IN_DOUBT);
		CU_ASSERT_EQUAL(r.ends, type == MESSAGE_CANCEL);
	}
	reach(&r, DESTINATION_READY);
	CU_ASSERT_NOT_EQUAL(r.d.deadline.at_ns, UINT64_MAX);
	r.now = r.d.deadline.at_ns;
	fails(&r, INPUT_TICK, 0);
	SAYS(&r, "error streams- link- phase:in-doubt");
	CU_ASSERT(one_line(r.out.list[0].text));
	for (int type = INPUT_START + 1; type <= INPUT_TICK; type++) {
		r.now += 1000000ull * MS;
		if (type == INPUT_MESSAGE || type == INPUT_RESOLVE)
			continue;
		fails(&r, (enum input_type)type, -EIO);
		CU_ASSERT_EQUAL(r.out.n, 0);
	}
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) { /* GO among them: it was promised to nobody any more */
		hears_about(&r, (enum message_type)type, type == MESSAGE_GO ? LAST - 1 : LAST);
		CU_ASSERT_EQUAL(r.out.n, 0);
	}
	CU_ASSERT_EQUAL(r.d.state, DESTINATION_DOUBT);
}

static void operator_decides(void)
{
	struct rig r;

	reach(&r, DESTINATION_DOUBT);
	step(&r, (struct input){ .type = INPUT_RESOLVE, .value = 0, .stream = -1 });
	SAYS(&r, "streams- phase:failed link- end");
	is_void(&r, SLUICE_FAILED);
	for (int how = 0; how < 6; how++) {
		int fail_at = how % 3;

		reach(&r, how < 3 ? DESTINATION_DOUBT : DESTINATION_READY);
		if (how >= 3) {
			r.now = r.d.deadline.at_ns;
			fails(&r, INPUT_TICK, 0);
		}
		r.operator_said = true;
		step(&r, (struct input){ .type = INPUT_RESOLVE, .value = 1, .stream = -1 });
		SAYS(&r, "ask:acquire");
		answers(&r, fail_at == 1 ? -EIO : 0);
		if (r.pending)
			answers(&r, fail_at == 2 ? -EIO : 0);
		CU_ASSERT_EQUAL(r.ends, 1);
		CU_ASSERT_EQUAL(r.running, !fail_at);
		CU_ASSERT_EQUAL(r.d.phase, fail_at ? SLUICE_FAILED : SLUICE_COMPLETED);
		CU_ASSERT_EQUAL(r.runnings, 0); /* the link is long gone */
		CU_ASSERT_EQUAL(r.nevers, 0);
		r.resumes = 0;
		prod(&r);
	}
}

/* GO came: nothing but its own embedder keeps it from running. */
static void runs_regardless_after_go(void)
{
	for (int i = 0; i < AFTER_GO; i++)
		for (int what = 0; what < INPUT_TICK + MESSAGE_TYPES; what++) {
			struct rig r;

			reach(&r, after_go[i]);
			CU_ASSERT(!destination_cancellable(&r.d));
			if (what == INPUT_MESSAGE || what == INPUT_START)
				continue;
			if (what == INPUT_TICK && after_go[i] != DESTINATION_LINGERING)
				r.now = r.d.deadline.at_ns;
			if (what <= INPUT_TICK)
				step(&r, (struct input){ .type = (enum input_type)what, .code = -EIO, .stream = 1 });
			else
				hears(&r, (enum message_type)(what - INPUT_TICK));
			/* An embedder that is late is waited for: neither NEVER nor RUNNING would be true. */
			for (int n = 0; n < 20 && r.pending; n++) {
				r.now = r.d.deadline.at_ns;
				fails(&r, INPUT_TICK, 0);
				CU_ASSERT_EQUAL(r.out.n, 0);
				CU_ASSERT(r.d.deadline.at_ns > r.now);
			}
			while (r.pending)
				answers(&r, 0);
			CU_ASSERT(r.running);
			CU_ASSERT_EQUAL(r.nevers, 0);
			CU_ASSERT_EQUAL(r.resumes, 1);
			CU_ASSERT(r.ends <= 1);
			CU_ASSERT(r.d.phase == SLUICE_COMPLETED || r.d.state == DESTINATION_WAIT_DONE);
			if (r.d.state == DESTINATION_WAIT_DONE) {
				r.now = r.d.deadline.at_ns;
				fails(&r, INPUT_TICK, 0);
				CU_ASSERT_EQUAL(r.d.phase, SLUICE_COMPLETED);
				CU_ASSERT_EQUAL(r.ends, 1);
			}
		}
}

static void never_when_it_cannot_run(void)
{
	for (int at = 0; at < 2; at++)
		for (int link = 0; link < 2; link++) {
			struct rig r;

			reach(&r, at ? DESTINATION_RESUMING : DESTINATION_ACQUIRING);
			if (!link)
				fails(&r, INPUT_LINK_LOST, -EPIPE);
			answers(&r, -EIO);
			CU_ASSERT_EQUAL(r.nevers, (unsigned)link);
			CU_ASSERT_EQUAL(r.runnings, 0);
			CU_ASSERT_EQUAL(r.ends, 1);
			CU_ASSERT_EQUAL(r.d.phase, SLUICE_FAILED);
			CU_ASSERT(!r.running);
			prod(&r);
		}
}

SUITE("destination", TEST(straight_path), TEST(loads_when_all_is_there), TEST(refuses_an_offer), TEST(ends_before_ready),
      TEST(deadlines_before_ready), TEST(wrong_messages_before_ready), TEST(in_doubt_after_ready), TEST(operator_decides),
      TEST(runs_regardless_after_go), TEST(never_when_it_cannot_run))
