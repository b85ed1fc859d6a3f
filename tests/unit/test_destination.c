/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_destination.c: the destination's phase machine, driven by hand. Before READY whatever goes wrong makes what came void; from
 * READY on it is in doubt without GO; from GO on the guest is its own, link or no link, unless it says NEVER. A source that is back on
 * a later link hears the last word again. */
#include <errno.h>

#include "core/decide/destination.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

enum { STREAMS = 4, LAST = 7 };

struct rig {
	struct destination d;
	struct actions out;
	struct params params;
	struct message message;
	uint64_t now;
	enum sluice_request pending;
	unsigned resumes, ends, after_end, readies, nevers, runnings, doubled;
	bool running, go, operator_said, closed;
	bool up;        /* there is a link, and it may be talked on */
	uint32_t epoch; /* of the newest link */
	int error;      /* the first that has not mended */
};

static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof *r);
	destination_init(&r->d);
	r->params = usual_params;
	r->now = 1000 * (uint64_t)MS;
}

static void look_at(struct rig *r, const struct action *a)
{
	r->ends += a->type == ACTION_END;
	if (a->type == ACTION_MENDED)
		r->error = 0;
	if (a->type == ACTION_ERROR && !r->error)
		r->error = a->code;
	if (a->type == ACTION_ERROR)
		CU_ASSERT(a->code < 0 && (one_line(a->text) || a->code == -ECANCELED)); /* "cancelled" is short */
	r->closed |= a->type == ACTION_LINK_CLOSE;
	if (a->type == ACTION_ADMIT) {
		CU_ASSERT_EQUAL(a->link, r->epoch);
		CU_ASSERT(!r->closed && !r->up);
		r->up = true;
	}
	if (a->type == ACTION_LINK_DROP) {
		CU_ASSERT_EQUAL(a->link, r->epoch);
		r->up = false;
	}
	if (a->type == ACTION_SEND) {
		CU_ASSERT(!r->closed && r->up);
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
	in.params = r->params;
	if (!in.text)
		in.text = "as the test says";
	if (in.type == INPUT_LINK_LOST || in.type == INPUT_LINK_BACK)
		r->up = false; /* a later one waits for ADMIT */
	if (in.type == INPUT_LINK_BACK)
		in.link = ++r->epoch;
	if (in.type == INPUT_MESSAGE && in.message->type == MESSAGE_HELLO && r->d.state == DESTINATION_LISTENING)
		r->up = (r->epoch = 1);
	r->out.n = 0;
	destination_step(&r->d, &in, &r->out);
	CU_ASSERT(r->out.n <= ACTIONS_MAX);
	r->after_end += over ? r->out.n : 0;
	for (uint32_t i = 0; i < r->out.n; i++)
		look_at(r, &r->out.list[i]);
	if (r->ends && !over)
		CU_ASSERT_EQUAL(r->out.list[r->out.n - 1].type, ACTION_END);
	/* Between an operator's word and what comes of it nothing is told. */
	if (r->d.state != DESTINATION_ACQUIRING && r->d.state != DESTINATION_RESUMING)
		CU_ASSERT_EQUAL(r->d.phase == SLUICE_IN_DOUBT, r->d.state == DESTINATION_DOUBT);
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
	} else if (type == MESSAGE_CANCEL || type == MESSAGE_REFUSE || type == MESSAGE_NEVER) {
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

static void resolves(struct rig *r, uint32_t run)
{
	r->operator_said |= run;
	step(r, (struct input){ .type = INPUT_RESOLVE, .value = run, .stream = -1 });
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
				hears(r, state == DESTINATION_TELLING ? MESSAGE_CANCEL : MESSAGE_GO);
			break;
		case DESTINATION_WAIT_DONE: hears(r, MESSAGE_DONE); break;
		case DESTINATION_LOADING:
			if (state == DESTINATION_GIVING_UP)
				fails(r, INPUT_CANCEL, 0);
			else
				answers(r, 0);
			break;
		case DESTINATION_ASKING:
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

#define SAYS(rig, text)                                            \
	do {                                                       \
		CU_ASSERT_STRING_EQUAL(said(&(rig)->out), text);   \
		if (strcmp(said(&(rig)->out), text))               \
			printf("  said: %s\n", said(&(rig)->out)); \
	} while (0)

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

/* What came is void: over at once, or when the embedder has let go of what it works on, or when the source knows or had time to ask.
 * Nothing runs here. */
static void is_void(struct rig *r, enum sluice_phase phase)
{
	if (r->d.state == DESTINATION_TELLING) {
		CU_ASSERT_EQUAL(r->d.phase, phase); /* who watches is told at once */
		CU_ASSERT_EQUAL(r->d.deadline.at_ns, r->now + r->params.remember_ms * MS);
		r->now = r->d.deadline.at_ns;
		fails(r, INPUT_TICK, 0);
	}
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
	SAYS(r, "streams- phase:completed door-");
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
	step(&r, (struct input){ .type = INPUT_DONE,
				 .request = SLUICE_INCOMING_GUEST,
				 .code = -EPERM,
				 .text = "not on this day",
				 .stream = -1 });
	CU_ASSERT_STRING_EQUAL(r.out.list[1].text, "not on this day");
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
		/* Once it has said SWITCHOVER the source waits for an answer. */
		CU_ASSERT_EQUAL(count_of(&r.out, ACTION_SEND), state >= DESTINATION_LANDING);
		CU_ASSERT_EQUAL(r.nevers, state >= DESTINATION_LANDING);
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
			SAYS(&r, "error streams- drop phase:in-doubt");
		else
			SAYS(&r, "error NEVER streams- phase:cancelled");
		CU_ASSERT_EQUAL(r.d.state, type == MESSAGE_CANCEL ? DESTINATION_TELLING : DESTINATION_DOUBT);
	}
	reach(&r, DESTINATION_READY);
	CU_ASSERT_NOT_EQUAL(r.d.deadline.at_ns, UINT64_MAX);
	r.now = r.d.deadline.at_ns;
	fails(&r, INPUT_TICK, 0);
	SAYS(&r, "error streams- drop phase:in-doubt");
	CU_ASSERT_EQUAL(r.error, -EINPROGRESS);
	CU_ASSERT_EQUAL(r.d.deadline.at_ns, UINT64_MAX);
	for (int type = INPUT_START + 1; type <= INPUT_TICK; type++) {
		r.now += 1000000ull * MS;
		if (type == INPUT_MESSAGE || type == INPUT_RESOLVE || type == INPUT_LINK_BACK)
			continue;
		fails(&r, (enum input_type)type, -EIO);
		SAYS(&r, "");
	}
	/* What was still read from the link that it let go of. GO among it: the source asks before it takes anything for decided. */
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
		hears(&r, (enum message_type)type);
		SAYS(&r, "");
	}
	CU_ASSERT_EQUAL(r.d.state, DESTINATION_DOUBT);
	CU_ASSERT(!r.pending && !r.running);
}

static void operator_decides(void)
{
	struct rig r;

	reach(&r, DESTINATION_DOUBT);
	resolves(&r, 0);
	SAYS(&r, "mended error streams- phase:failed");
	CU_ASSERT_EQUAL(r.error, -ECANCELED);
	is_void(&r, SLUICE_FAILED);
	/* It is decided, so a source that comes back is told. */
	reach(&r, DESTINATION_DOUBT);
	resolves(&r, 0);
	r.now += 1000ull * MS;
	fails(&r, INPUT_LINK_BACK, 0);
	SAYS(&r, "admit NEVER");
	is_void(&r, SLUICE_FAILED);
	for (int how = 0; how < 12; how++) {
		int fail_at = how % 3;
		bool back = how >= 6; /* the source, just too late */

		reach(&r, how % 6 < 3 ? DESTINATION_DOUBT : DESTINATION_READY);
		if (r.d.state == DESTINATION_READY) {
			r.now = r.d.deadline.at_ns;
			fails(&r, INPUT_TICK, 0);
		}
		resolves(&r, 1);
		SAYS(&r, "mended ask:acquire");
		resolves(&r, 0);
		SAYS(&r, "");
		if (back) {
			fails(&r, INPUT_LINK_BACK, 0);
			SAYS(&r, "admit phase:device");
			hears(&r, MESSAGE_CANCEL);
			hears(&r, MESSAGE_GO);
			SAYS(&r, "");
		}
		answers(&r, fail_at == 1 ? -EIO : 0);
		if (r.pending)
			answers(&r, fail_at == 2 ? -EIO : 0);
		CU_ASSERT_EQUAL(r.running, !fail_at);
		CU_ASSERT_EQUAL(r.runnings, back && !fail_at);
		CU_ASSERT_EQUAL(r.nevers, back && fail_at);
		if (back && !fail_at) {
			CU_ASSERT_EQUAL(r.d.state, DESTINATION_WAIT_DONE);
			hears(&r, MESSAGE_DONE);
			CU_ASSERT_EQUAL(r.d.state, DESTINATION_LINGERING);
			fails(&r, INPUT_CLOSE, 0);
		} else {
			CU_ASSERT_EQUAL(r.d.phase, fail_at ? SLUICE_FAILED : SLUICE_COMPLETED);
			CU_ASSERT_EQUAL(r.d.deadline.at_ns, r.now + r.params.remember_ms * MS);
			r.now = r.d.deadline.at_ns;
			fails(&r, INPUT_TICK, 0);
		}
		CU_ASSERT_EQUAL(r.ends, 1);
		CU_ASSERT_EQUAL(r.d.phase, fail_at ? SLUICE_FAILED : SLUICE_COMPLETED);
		r.resumes = 0;
		prod(&r);
	}
	/* Everywhere else the word comes to nothing; also where the doubt has just ended by itself. */
	for (int state = DESTINATION_LISTENING; state < DESTINATION_ENDED; state++)
		for (uint32_t run = 0; run < 2; run++) {
			if (state == DESTINATION_DOUBT) {
				reach(&r, DESTINATION_DOUBT);
				fails(&r, INPUT_LINK_BACK, 0);
			} else {
				reach(&r, (enum destination_state)state);
			}
			enum destination_state before = r.d.state;
			step(&r, (struct input){ .type = INPUT_RESOLVE, .value = run, .stream = -1 });
			SAYS(&r, "");
			CU_ASSERT_EQUAL(r.d.state, before);
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
			if (what == INPUT_LINK_LOST)
				CU_ASSERT_EQUAL(r.d.phase,
						SLUICE_COMPLETED); /* without DONE: who watches need not wait for that */
			if (r.d.state != DESTINATION_WAIT_DONE)
				continue;
			/* A link that is up and says nothing is dropped first, and then the source may ask on another for a while. */
			for (bool up = r.d.link_up;; up = false) {
				r.now = r.d.deadline.at_ns;
				fails(&r, INPUT_TICK, 0);
				CU_ASSERT_EQUAL(r.d.phase, SLUICE_COMPLETED);
				CU_ASSERT_EQUAL(r.ends, !up);
				if (!up)
					break;
				CU_ASSERT_EQUAL(r.d.deadline.at_ns, r.now + r.params.remember_ms * MS);
			}
		}
}

static void never_when_it_cannot_run(void)
{
	for (int at = 0; at < 2; at++)
		for (int link = 0; link < 3; link++) { /* none, the first, a later one */
			struct rig r;

			reach(&r, at ? DESTINATION_RESUMING : DESTINATION_ACQUIRING);
			if (link != 1)
				fails(&r, INPUT_LINK_LOST, -EPIPE);
			if (link == 2) {
				fails(&r, INPUT_LINK_BACK, 0);
				SAYS(&r, "admit"); /* as long as it decides it says nothing */
			}
			answers(&r, -EIO);
			CU_ASSERT_STRING_EQUAL(said(&r.out),
					       link ? "error NEVER streams- phase:failed" : "error streams- phase:failed");
			CU_ASSERT_EQUAL(r.runnings, 0);
			CU_ASSERT_EQUAL(r.d.state, DESTINATION_TELLING);
			CU_ASSERT_EQUAL(r.error, -EIO);
			if (!link) {
				fails(&r, INPUT_LINK_BACK, 0);
				SAYS(&r, "admit NEVER");
				CU_ASSERT_EQUAL(r.out.list[1].code, -EIO);
				CU_ASSERT(one_line(r.out.list[1].text));
			}
			hears(&r, MESSAGE_BYE);
			SAYS(&r, "streams- link- end");
			CU_ASSERT_EQUAL(r.d.phase, SLUICE_FAILED);
			CU_ASSERT(!r.running);
			prod(&r);
		}
}

/* NEVER is kept for a source that comes back from when the link was last there, not from when it was said. */
static void never_is_kept_from_the_loss(void)
{
	struct rig r;

	reach(&r, DESTINATION_TELLING);
	uint64_t kept = r.d.deadline.at_ns - r.now;
	r.now += kept / 2;
	fails(&r, INPUT_LINK_LOST, -EPIPE);
	SAYS(&r, "");
	CU_ASSERT_EQUAL(r.d.state, DESTINATION_TELLING);
	CU_ASSERT_EQUAL(r.d.deadline.at_ns, r.now + kept);
}

/* The source runs its guest, and says so between SWITCHOVER and GO: it waits for our word. */
static void cancelled_after_switchover(void)
{
	static const enum destination_state states[] = { DESTINATION_LANDING, DESTINATION_LOADING, DESTINATION_READY };

	for (int i = 0; i < 3; i++)
		for (int code = 0; code < 2; code++) {
			enum sluice_phase phase = code ? SLUICE_FAILED : SLUICE_CANCELLED;
			struct rig r;

			reach(&r, states[i]);
			memset(&r.message, 0, sizeof r.message);
			r.message.type = MESSAGE_CANCEL;
			r.message.u.word.code = code ? -ETIMEDOUT : -ECANCELED;
			strcpy(r.message.u.word.text, "it took too long");
			step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .stream = -1 });
			CU_ASSERT_EQUAL(r.nevers, 1);
			CU_ASSERT_EQUAL(r.error, code ? -ETIMEDOUT : -ECANCELED);
			CU_ASSERT_PTR_NOT_NULL(strstr(r.out.list[0].text, "it took too long"));
			if (states[i] == DESTINATION_READY) {
				CU_ASSERT_EQUAL(r.d.state, DESTINATION_TELLING);
				CU_ASSERT_EQUAL(r.d.phase, phase);
				hears(&r, MESSAGE_BYE);
				SAYS(&r, "streams- link- end");
			}
			is_void(&r, phase);
		}
	/* On a later link too, out of doubt. */
	struct rig r;
	reach(&r, DESTINATION_DOUBT);
	fails(&r, INPUT_LINK_BACK, 0);
	hears(&r, MESSAGE_CANCEL);
	SAYS(&r, "error NEVER streams- phase:cancelled");
	CU_ASSERT_EQUAL(r.error, -ECANCELED);
	hears(&r, MESSAGE_CANCEL); /* it asked twice: it knows */
	SAYS(&r, "streams- link- end");
	is_void(&r, SLUICE_CANCELLED);
}

/* It hears the last word again, and whatever it was, once on each link. */
static void back_in_every_state(void)
{
	static const struct {
		enum destination_state state, then;
		const char *says;
	} cases[] = {
		{ DESTINATION_GATHERING, DESTINATION_ENDED, "admit error NEVER streams- phase:failed link- end" },
		{ DESTINATION_ACTIVE, DESTINATION_ENDED, "admit error NEVER streams- phase:failed link- end" },
		{ DESTINATION_LANDING, DESTINATION_ENDED, "admit error NEVER streams- phase:failed link- end" },
		{ DESTINATION_LOADING, DESTINATION_GIVING_UP, "admit error NEVER streams- link-" },
		{ DESTINATION_READY, DESTINATION_READY, "admit READY" },
		{ DESTINATION_ACQUIRING, DESTINATION_ACQUIRING, "admit" },
		{ DESTINATION_RESUMING, DESTINATION_RESUMING, "admit" },
		{ DESTINATION_WAIT_DONE, DESTINATION_WAIT_DONE, "admit RUNNING" },
		{ DESTINATION_LINGERING, DESTINATION_WAIT_DONE, "admit RUNNING" },
		{ DESTINATION_DOUBT, DESTINATION_READY, "admit mended phase:device READY" },
		{ DESTINATION_TELLING, DESTINATION_TELLING, "admit NEVER" },
		{ DESTINATION_GIVING_UP, DESTINATION_GIVING_UP, "" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int lost = 0; lost < 2; lost++) { /* was it noticed first that the old one is gone? */
			enum destination_state state = cases[i].state;
			struct rig r;

			reach(&r, state);
			uint64_t deadline = r.d.deadline.at_ns;
			if (lost && state >= DESTINATION_ACQUIRING && state != DESTINATION_LINGERING &&
			    state != DESTINATION_GIVING_UP)
				fails(&r, INPUT_LINK_LOST, -ECONNRESET);
			uint64_t waits = r.d.deadline.at_ns;
			r.now += 50ull * MS;
			fails(&r, INPUT_LINK_BACK, 0);
			SAYS(&r, cases[i].says);
			CU_ASSERT_EQUAL(r.d.state, cases[i].then);
			CU_ASSERT_EQUAL(r.ends, r.d.state == DESTINATION_ENDED);
			CU_ASSERT(state == DESTINATION_GIVING_UP || r.d.epoch == r.epoch);
			switch (state) {
			case DESTINATION_READY:
			case DESTINATION_DOUBT: /* that it has time for GO begins anew */
				CU_ASSERT_EQUAL(r.d.phase, SLUICE_DEVICE);
				CU_ASSERT(r.d.deadline.at_ns > r.now && r.d.deadline.at_ns < UINT64_MAX);
				CU_ASSERT(state == DESTINATION_DOUBT || r.d.deadline.at_ns == deadline + 50ull * MS);
				CU_ASSERT_EQUAL(r.error, 0);
				hears(&r, MESSAGE_GO);
				SAYS(&r, "ask:acquire");
				break;
			case DESTINATION_ACQUIRING:
			case DESTINATION_RESUMING:
				CU_ASSERT_EQUAL(r.d.deadline.at_ns, waits);
				while (r.pending)
					answers(&r, 0);
				SAYS(&r, "RUNNING");
				break;
			case DESTINATION_WAIT_DONE:
			case DESTINATION_LINGERING:
				CU_ASSERT_EQUAL(r.d.deadline.at_ns, r.now + r.params.callback_ms * MS);
				hears(&r, MESSAGE_DONE);
				CU_ASSERT_STRING_EQUAL(said(&r.out), lost || state == DESTINATION_LINGERING
									     ? "streams- door-"
									     : "streams- phase:completed door-");
				break;
			case DESTINATION_TELLING:
				CU_ASSERT_EQUAL(r.d.deadline.at_ns, r.now + r.params.remember_ms * MS);
				is_void(&r, SLUICE_CANCELLED);
				break;
			case DESTINATION_GIVING_UP: is_void(&r, SLUICE_CANCELLED); break;
			default: is_void(&r, SLUICE_FAILED); break;
			}
			/* Law 5 is look_at()'s; and nothing that was asked is asked again. */
			CU_ASSERT_EQUAL(r.doubled, 0);
		}
}

static void back_again_and_again(void)
{
	for (int how = 0; how < 3; how++) {
		struct rig r;

		reach(&r, DESTINATION_READY);
		for (unsigned n = 1; n < 100; n++) {
			if (how == 0)
				fails(&r, INPUT_LINK_LOST, -EPIPE);
			else if (how == 1)
				hears(&r, MESSAGE_BYE);
			CU_ASSERT(!how ? r.d.state == DESTINATION_DOUBT : true);
			fails(&r, INPUT_LINK_BACK, 0);
			CU_ASSERT_EQUAL(r.d.state, DESTINATION_READY);
			CU_ASSERT_EQUAL(r.d.epoch, n + 1);
			CU_ASSERT_EQUAL(r.readies, n + 1);
		}
		hears(&r, MESSAGE_GO);
		answers(&r, 0);
		for (int n = 0; n < 10; n++) {
			fails(&r, INPUT_LINK_LOST, -EPIPE);
			SAYS(&r, "");
			fails(&r, INPUT_LINK_BACK, 0);
			SAYS(&r, "admit");
		}
		answers(&r, 0);
		for (unsigned n = 0; n < 10; n++) {
			CU_ASSERT_EQUAL(r.runnings, n + 1);
			fails(&r, INPUT_LINK_LOST, -EPIPE);
			CU_ASSERT_STRING_EQUAL(said(&r.out), n ? "" : "phase:completed");
			fails(&r, INPUT_LINK_BACK, 0);
			SAYS(&r, "admit RUNNING");
		}
		CU_ASSERT_EQUAL(r.resumes, 1);
		hears(&r, MESSAGE_DONE);
		SAYS(&r, "streams- door-");
		hears(&r, MESSAGE_BYE);
		SAYS(&r, "streams- link- end");
		prod(&r);
	}
}

/* What was decided is remembered so long, and no longer. */
static void remembers_for_a_while(void)
{
	static const uint64_t times[] = { 0, 1, 500, 10000, 3600000 };

	for (size_t t = 0; t < sizeof times / sizeof *times; t++)
		for (int how = 0; how < 6; how++) {
			struct rig r;

			reach(&r, how < 2 ? DESTINATION_READY : how < 4 ? DESTINATION_RESUMING : DESTINATION_WAIT_DONE);
			r.params.remember_ms = times[t];
			switch (how) {
			case 0: hears(&r, MESSAGE_CANCEL); break; /* NEVER, the link is up */
			case 1:
				fails(&r, INPUT_LINK_LOST, -EPIPE);
				resolves(&r, 0);
				break;
			case 2: answers(&r, -EIO); break;
			case 3:
				fails(&r, INPUT_LINK_LOST, -EPIPE);
				answers(&r, 0);
				break;
			case 4:
				r.now += 10ull * MS;
				fails(&r, INPUT_LINK_LOST, -EPIPE);
				break;
			default: /* back, and lost again: the while begins anew */
				fails(&r, INPUT_LINK_LOST, -EPIPE);
				fails(&r, INPUT_LINK_BACK, 0);
				CU_ASSERT_EQUAL(r.d.deadline.at_ns, r.now + r.params.callback_ms * MS);
				r.now += 10ull * MS;
				fails(&r, INPUT_LINK_LOST, -EPIPE);
				break;
			}
			enum sluice_phase phase = r.d.phase;
			CU_ASSERT(phase == SLUICE_CANCELLED || phase == SLUICE_FAILED || phase == SLUICE_COMPLETED);
			CU_ASSERT_EQUAL(r.d.state, how < 3 ? DESTINATION_TELLING : DESTINATION_WAIT_DONE);
			CU_ASSERT_EQUAL(r.d.deadline.at_ns, r.now + times[t] * MS);
			uint64_t over = r.d.ended_ns;
			CU_ASSERT(over && over <= r.now);
			if (how < 3)
				fails(&r, INPUT_LINK_LOST, -EPIPE); /* buys nothing */
			if (times[t]) {
				r.now = r.d.deadline.at_ns - 1;
				fails(&r, INPUT_TICK, 0);
				SAYS(&r, "");
			}
			r.now = r.d.deadline.at_ns;
			fails(&r, INPUT_TICK, 0);
			SAYS(&r, "streams- link- end");
			CU_ASSERT_EQUAL(r.d.phase, phase);
			CU_ASSERT_EQUAL(r.d.ended_ns, over);
			prod(&r);
		}
}

/* sluice_close() ends what only waits for others, and nothing else. */
static void closed_in_every_state(void)
{
	for (int state = DESTINATION_NEW; state < DESTINATION_ENDED; state++)
		for (int lost = 0; lost < 2; lost++) {
			struct rig r;

			reach(&r, (enum destination_state)state);
			if (lost && state != DESTINATION_TELLING && state != DESTINATION_WAIT_DONE)
				continue;
			if (lost)
				fails(&r, INPUT_LINK_LOST, -EPIPE);
			bool ends = state == DESTINATION_TELLING || state == DESTINATION_LINGERING ||
				    (state == DESTINATION_WAIT_DONE && lost);
			enum sluice_phase phase = r.d.phase;
			fails(&r, INPUT_CLOSE, 0);
			CU_ASSERT_EQUAL(r.ends, ends);
			CU_ASSERT_EQUAL(r.d.phase, phase);
			if (!ends)
				SAYS(&r, "");
			else if (state == DESTINATION_LINGERING)
				SAYS(&r, "BYE streams- link- end");
			else
				SAYS(&r, "streams- link- end");
		}
}

/* NEVER was said, and holds whatever comes. */
static void never_holds(void)
{
	struct rig r;

	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
		reach(&r, DESTINATION_TELLING);
		uint64_t until = r.d.deadline.at_ns;
		hears(&r, (enum message_type)type);
		if (type == MESSAGE_BYE || type == MESSAGE_CANCEL) {
			SAYS(&r, "streams- link- end");
		} else {
			SAYS(&r, "");
			CU_ASSERT_EQUAL(r.d.deadline.at_ns, until);
		}
		CU_ASSERT_EQUAL(r.d.phase, SLUICE_CANCELLED);
		r.go = false;
		CU_ASSERT(!r.pending && !r.running);
	}
	for (int type = INPUT_START + 1; type <= INPUT_TICK; type++) {
		if (type == INPUT_MESSAGE || type == INPUT_CLOSE || type == INPUT_LINK_BACK)
			continue;
		reach(&r, DESTINATION_TELLING);
		step(&r, (struct input){ .type = (enum input_type)type, .value = 1, .code = -EIO, .stream = -1 });
		SAYS(&r, "");
		CU_ASSERT_EQUAL(r.d.state, DESTINATION_TELLING);
		is_void(&r, SLUICE_CANCELLED);
	}
}

SUITE("destination", TEST(straight_path), TEST(loads_when_all_is_there), TEST(refuses_an_offer), TEST(ends_before_ready),
      TEST(deadlines_before_ready), TEST(wrong_messages_before_ready), TEST(in_doubt_after_ready), TEST(operator_decides),
      TEST(runs_regardless_after_go), TEST(never_when_it_cannot_run), TEST(never_is_kept_from_the_loss),
      TEST(cancelled_after_switchover), TEST(back_in_every_state), TEST(back_again_and_again), TEST(remembers_for_a_while),
      TEST(closed_in_every_state), TEST(never_holds))
