/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_source.c: the source's phase machine, driven by hand: the straight path with its exact actions, and every fault in every
 * state. Before GO the end is always the same: the guest runs, one FAILED or CANCELLED, one END. After GO only NEVER or an
 * operator lets the source run its guest; until one of them speaks it asks, on one link after the other. */
#include <errno.h>

#include "core/decide/source.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

/* A source with what its embedder and the world would know of it. */
struct rig {
	struct source s;
	struct actions out;
	struct params params;
	struct message message;
	uint64_t now;
	enum sluice_request pending; /* the embedder's side of it */
	unsigned pauses, resumes, ends, after_end, go, early;
	bool running, never, operator_said, closed;
	bool dialling; /* the network is at it */
	bool resume_fails;
	uint32_t link; /* dialled last */
	int error;     /* the first that has not mended */
};

static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof *r);
	source_init(&r->s);
	r->params = usual_params;
	r->now = 1000 * (uint64_t)MS;
	r->running = true;
}

static void look_at(struct rig *r, const struct action *a)
{
	if (a->type == ACTION_END)
		r->ends++;
	if (a->type == ACTION_MENDED)
		r->error = 0;
	if (a->type == ACTION_ERROR && !r->error)
		r->error = a->code;
	if (a->type == ACTION_ERROR)
		CU_ASSERT(a->code < 0 && (one_line(a->text) || a->code == -ECANCELED)); /* "cancelled" is short */
	r->closed |= a->type == ACTION_LINK_CLOSE;
	if (a->type == ACTION_SEND)
		CU_ASSERT(!r->closed && !r->dialling);
	if (a->type == ACTION_DIAL) {
		CU_ASSERT_EQUAL(a->link, r->link + 1);
		r->link = a->link;
		r->dialling = true;
	}
	if (a->type == ACTION_LINK_DROP) {
		CU_ASSERT_EQUAL(a->link, r->link);
		r->dialling = false;
	}
	r->go += a->type == ACTION_SEND && a->message_type == MESSAGE_GO;
	if (a->type != ACTION_REQUEST)
		return;
	/* A request on top of one that is unanswered is allowed only as the last resort: resume after a deadline. */
	r->early += r->pending && (a->request != SLUICE_RESUME || r->pending == SLUICE_RESUME);
	r->pending = a->request;
	r->pauses += a->request == SLUICE_PAUSE;
	r->resumes += a->request == SLUICE_RESUME;
	if (a->request == SLUICE_RESUME && r->go)
		CU_ASSERT(r->never || r->operator_said); /* Law 5 */
}

static void step(struct rig *r, struct input in)
{
	bool over = r->ends;

	in.now_ns = r->now;
	in.params = r->params;
	if (!in.text)
		in.text = "as the test says";
	if (in.type == INPUT_LINK_UP || in.type == INPUT_LINK_LOST || in.type == INPUT_MESSAGE)
		in.link = in.link ? in.link : r->link;
	if ((in.type == INPUT_LINK_UP || in.type == INPUT_LINK_LOST) && in.link == r->link)
		r->dialling = false;
	r->out.n = 0;
	source_step(&r->s, &in, &r->out);
	CU_ASSERT(r->out.n <= ACTIONS_MAX);
	r->after_end += over ? r->out.n : 0;
	for (uint32_t i = 0; i < r->out.n; i++)
		look_at(r, &r->out.list[i]);
	if (r->ends && !over)
		CU_ASSERT_EQUAL(r->out.list[r->out.n - 1].type, ACTION_END);
	/* What the embedder is told, and what its operator may decide, are one. */
	CU_ASSERT_EQUAL(source_in_doubt(&r->s), r->s.phase == SLUICE_IN_DOUBT && r->s.state != SOURCE_RECLAIMING);
	/* No wait without an end, but for the dial, which has its own, and a doubt that lasts. */
	if (r->s.tell_until_ns && r->s.state != SOURCE_ENDED)
		CU_ASSERT(r->s.deadline.at_ns <= r->s.tell_until_ns);
}

static void happens(struct rig *r, enum input_type type)
{
	step(r, (struct input){ .type = type, .stream = -1 });
}

static void fails(struct rig *r, enum input_type type, int code)
{
	step(r, (struct input){ .type = type, .stream = -1, .code = code });
}

/* The message as it would come: about the attempt under way. */
static void hears(struct rig *r, enum message_type type)
{
	memset(&r->message, 0, sizeof r->message);
	r->message.type = type;
	r->never |= type == MESSAGE_NEVER;
	if (type == MESSAGE_REFUSE || type == MESSAGE_CANCEL || type == MESSAGE_NEVER) {
		r->message.u.word.attempt = r->s.round;
		r->message.u.word.code = type == MESSAGE_REFUSE && r->s.state == SOURCE_ASKING ? -ENOENT : -EIO;
		strcpy(r->message.u.word.text, "the other side says so");
	} else if (type == MESSAGE_LANDED) {
		r->message.u.landed.round = r->s.round;
	} else {
		r->message.u.handoff.attempt = r->s.round;
	}
	step(r, (struct input){ .type = INPUT_MESSAGE, .message = &r->message, .stream = -1 });
}

/* RUNNING, after the guest stood still for so long by the destination's word. */
static void hears_running(struct rig *r, uint64_t stood_ns)
{
	memset(&r->message, 0, sizeof r->message);
	r->message.type = MESSAGE_RUNNING;
	r->message.u.handoff.attempt = r->s.round;
	r->message.u.handoff.ns = stood_ns;
	step(r, (struct input){ .type = INPUT_MESSAGE, .message = &r->message, .stream = -1 });
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
	if (request == SLUICE_PAUSE && !code)
		r->running = false;
	if (request == SLUICE_RESUME && !code)
		r->running = true;
	step(r, (struct input){ .type = INPUT_DONE, .request = request, .code = code, .state_bytes = 4096, .stream = -1 });
}

static void round_sent(struct rig *r, uint64_t found)
{
	r->now += 100 * (uint64_t)MS;
	step(r, (struct input){ .type = INPUT_ROUND_SENT,
				.round = r->s.round,
				.pages = 20000,
				.nonzero_pages = 20000,
				.found = found,
				.stream = -1 });
}

static void synced(struct rig *r, uint64_t remaining)
{
	r->now += MS;
	step(r, (struct input){ .type = INPUT_SYNCED,
				.remaining = remaining,
				.found = remaining / 20,
				.pages = 20000,
				.nonzero_pages = 20000,
				.stream = -1 });
}

/* Along the straight path until `state`; branches off it where the state lies beside. */
static void reach(struct rig *r, enum source_state state)
{
	rig_init(r);
	while (r->s.state != state) {
		r->now += MS;
		switch (r->s.state) {
		case SOURCE_NEW: happens(r, INPUT_START); break;
		case SOURCE_DIALLING: happens(r, INPUT_LINK_UP); break;
		case SOURCE_OFFERED: hears(r, MESSAGE_WELCOME); break;
		case SOURCE_GATHERING: hears(r, MESSAGE_STREAMS_UP); break;
		case SOURCE_ARMING: happens(r, INPUT_ARMED); break;
		case SOURCE_ROUND: round_sent(r, 0); break;
		case SOURCE_COUNTING:
			if (state == SOURCE_RESTING)
				r->params.downtime_limit_ms = 1;
			if (state != SOURCE_SETTLING && state != SOURCE_RESTING)
				hears(r, MESSAGE_LANDED);
			synced(r, 10);
			break;
		case SOURCE_SETTLING: hears(r, MESSAGE_LANDED); break;
		case SOURCE_FINAL_SYNC: synced(r, state == SOURCE_TURNING_BACK ? 1000000 : 10); break;
		case SOURCE_LAST_ROUND:
			round_sent(r, 0);
			synced(r, 0);
			break;
		case SOURCE_WAIT_READY: hears(r, MESSAGE_READY); break;
		case SOURCE_WAIT_RUNNING:
			if (state == SOURCE_LINGERING)
				hears(r, MESSAGE_RUNNING);
			else
				fails(r, INPUT_LINK_LOST, -ECONNRESET);
			break;
		case SOURCE_REDIALLING:
			if (state == SOURCE_APART)
				fails(r, INPUT_LINK_LOST, -ETIMEDOUT);
			else if (state == SOURCE_ASKING)
				happens(r, INPUT_LINK_UP);
			else
				resolves(r, 1);
			break;
		case SOURCE_PAUSING:
		case SOURCE_SAVING:
		case SOURCE_RELEASING: answers(r, 0); break;
		default: CU_FAIL_FATAL("no way there"); return;
		}
	}
}

/* A source that gave up after SWITCHOVER: its guest runs, and the destination is to know. */
static void reach_telling(struct rig *r, enum source_state state)
{
	reach(r, SOURCE_WAIT_READY);
	if (state == SOURCE_TELLING)
		happens(r, INPUT_CANCEL);
	else
		fails(r, INPUT_LINK_LOST, -ECONNRESET);
	answers(r, 0);
	if (state == SOURCE_APART)
		fails(r, INPUT_LINK_LOST, -ETIMEDOUT);
	else if (state == SOURCE_ASKING)
		happens(r, INPUT_LINK_UP);
	CU_ASSERT_EQUAL_FATAL(r->s.state, state);
	CU_ASSERT(r->s.tell_until_ns > r->now && r->running && !r->ends);
}

/* On a link of its own, which the destination has answered; the words come next. */
static void asks_anew(struct rig *r)
{
	if (r->s.state == SOURCE_APART) {
		CU_ASSERT(r->s.deadline.at_ns > r->now);
		r->now = r->s.deadline.at_ns;
		happens(r, INPUT_TICK);
	}
	CU_ASSERT_EQUAL_FATAL(r->s.state, SOURCE_REDIALLING);
	CU_ASSERT(r->dialling);
	happens(r, INPUT_LINK_UP);
	CU_ASSERT_EQUAL(r->out.n, 0);
	hears(r, MESSAGE_ANSWER);
}

/* Nothing more happens but the embedder's answers and the time. `patience`: how many requests it answers before it falls silent. */
static void wind_up(struct rig *r, unsigned patience)
{
	uint64_t told_ns = r->s.tell_until_ns;

	for (int i = 0; i < 40 && !r->ends; i++) {
		if (r->pending && patience) {
			patience--;
			answers(r, r->pending == SLUICE_RESUME && r->resume_fails ? -EIO : 0);
		} else if (r->dialling && r->now + r->params.connect_ms * MS < r->s.deadline.at_ns) {
			r->now += r->params.connect_ms * MS;
			fails(r, INPUT_LINK_LOST, -ETIMEDOUT);
		} else if (r->s.deadline.at_ns != UINT64_MAX) {
			r->now = r->s.deadline.at_ns;
			happens(r, INPUT_TICK);
		} else {
			break;
		}
		if (!told_ns && (told_ns = r->s.tell_until_ns))
			CU_ASSERT_EQUAL(told_ns, r->now + r->params.remember_ms * MS);
	}
	if (told_ns)
		CU_ASSERT(r->now <= told_ns);
}

static const enum source_state before_go[] = {
	SOURCE_DIALLING,   SOURCE_OFFERED,    SOURCE_GATHERING,  SOURCE_ARMING,    SOURCE_ROUND,
	SOURCE_COUNTING,   SOURCE_RESTING,    SOURCE_SETTLING,   SOURCE_PAUSING,   SOURCE_SAVING,
	SOURCE_FINAL_SYNC, SOURCE_LAST_ROUND, SOURCE_WAIT_READY, SOURCE_RELEASING, SOURCE_TURNING_BACK,
};
enum { BEFORE_GO = sizeof before_go / sizeof *before_go };

/* The session gave up: what must hold whatever it was, with an embedder that answers. */
static void gave_up(const struct rig *r, enum sluice_phase phase)
{
	CU_ASSERT_EQUAL(r->ends, 1);
	CU_ASSERT_EQUAL(r->after_end, 0);
	CU_ASSERT_EQUAL(r->early, 0);
	CU_ASSERT_EQUAL(r->go, 0);
	CU_ASSERT_EQUAL(r->resumes, r->pauses);
	CU_ASSERT(r->running);
	CU_ASSERT_EQUAL(r->s.phase, phase);
	CU_ASSERT_EQUAL(r->s.state, SOURCE_ENDED);
	if (r->s.phase != phase || r->resumes != r->pauses || !r->running || r->ends != 1 || r->early)
		printf("  ended in %s, %u pauses, %u resumes, %u ends, %u early\n", sluice_phase_name(r->s.phase), r->pauses,
		       r->resumes, r->ends, r->early);
}

/* What comes after END changes nothing. */
static void prod(struct rig *r)
{
	for (int type = INPUT_START; type <= INPUT_TICK; type++)
		if (type != INPUT_MESSAGE)
			fails(r, (enum input_type)type, -EIO);
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++)
		hears(r, (enum message_type)type);
	CU_ASSERT_EQUAL(r->after_end, 0);
	CU_ASSERT_EQUAL(r->ends, 1);
}

#define SAYS(rig, text)                                            \
	do {                                                       \
		CU_ASSERT_STRING_EQUAL(said(&(rig)->out), text);   \
		if (strcmp(said(&(rig)->out), text))               \
			printf("  said: %s\n", said(&(rig)->out)); \
	} while (0)

static void straight_path(void)
{
	struct rig rig, *r = &rig;

	rig_init(r);
	happens(r, INPUT_START);
	SAYS(r, "phase:setup dial");
	happens(r, INPUT_LINK_UP);
	SAYS(r, "HELLO");
	hears(r, MESSAGE_WELCOME);
	SAYS(r, "adopt streams+");
	hears(r, MESSAGE_STREAMS_UP);
	SAYS(r, "arm");
	happens(r, INPUT_ARMED);
	SAYS(r, "phase:active round:1");
	round_sent(r, 0);
	SAYS(r, "told:1 sync");
	synced(r, 200000); /* far more than fits the limit */
	SAYS(r, "round:2:fetched");
	round_sent(r, 0);
	SAYS(r, "told:2 sync");
	synced(r, 10);
	SAYS(r, "");
	CU_ASSERT_EQUAL(r->s.state, SOURCE_SETTLING);
	hears(r, MESSAGE_LANDED);
	SAYS(r, "phase:device ask:pause");
	answers(r, 0);
	SAYS(r, "ask:save");
	answers(r, 0);
	SAYS(r, "sync");
	synced(r, 10);
	SAYS(r, "round:3:fetched:last");
	round_sent(r, 0);
	SAYS(r, "told:3:final sync");
	synced(r, 0);
	SAYS(r, "SWITCHOVER");
	hears(r, MESSAGE_READY);
	SAYS(r, "ask:release");
	answers(r, 0);
	SAYS(r, "GO");
	hears(r, MESSAGE_RUNNING);
	SAYS(r, "DONE streams- untrack phase:completed");
	CU_ASSERT_EQUAL(r->s.ended_ns, r->now);
	uint64_t over = r->now;
	r->now += 1000 * (uint64_t)MS;
	happens(r, INPUT_CLOSE);
	/* Told once that it is completed, and the total time ends with the migration, not with the chat after it. */
	SAYS(r, "BYE untrack link- end");
	CU_ASSERT_EQUAL(r->s.ended_ns, over);
	CU_ASSERT(!r->running);
	prod(r);
}

static void downtime_guard_goes_on(void)
{
	struct rig rig, *r = &rig;

	reach(r, SOURCE_TURNING_BACK);
	SAYS(r, "ask:resume");
	answers(r, 0);
	SAYS(r, "phase:active round:2");
	CU_ASSERT(!r->s.guest_stopped);
	CU_ASSERT_EQUAL(r->s.converge.tries, 1);
	/* And the next try begins from nothing. */
	while (r->s.state != SOURCE_WAIT_RUNNING) {
		if (r->pending)
			answers(r, 0);
		else if (r->s.state == SOURCE_ROUND || (r->s.state == SOURCE_LAST_ROUND && !r->s.last_sent))
			round_sent(r, 0);
		else if (r->s.state == SOURCE_COUNTING || r->s.state == SOURCE_LAST_ROUND || r->s.state == SOURCE_FINAL_SYNC)
			synced(r, 0);
		else if (r->s.state == SOURCE_SETTLING)
			hears(r, MESSAGE_LANDED);
		else if (r->s.state == SOURCE_WAIT_READY)
			hears(r, MESSAGE_READY);
		else
			CU_FAIL_FATAL("not on its way");
	}
	CU_ASSERT_EQUAL(r->s.device_tries, 2);
	CU_ASSERT_EQUAL(r->resumes, 1);
}

/* The closing sync begins when the last round was sent: a sync that ends before does not count for it. */
static void closing_sync_must_be_empty(void)
{
	struct rig rig, *r = &rig;
	unsigned rounds = 0;

	reach(r, SOURCE_LAST_ROUND);
	synced(r, 0);
	SAYS(r, "");
	CU_ASSERT_EQUAL(r->s.state, SOURCE_LAST_ROUND);
	round_sent(r, 0);
	SAYS(r, "told:2:final sync");
	synced(r, 0);
	SAYS(r, "SWITCHOVER");
	CU_ASSERT_EQUAL(r->s.state, SOURCE_WAIT_READY);

	reach(r, SOURCE_LAST_ROUND);
	while (!r->ends && rounds < 100) { /* a guest that writes though it is paused */
		round_sent(r, 0);
		synced(r, 1);
		if (r->s.state == SOURCE_LAST_ROUND)
			rounds++;
		else
			wind_up(r, 8);
	}
	CU_ASSERT(rounds > 0 && rounds < 10);
	gave_up(r, SLUICE_FAILED);
	CU_ASSERT_EQUAL(r->error, -EBUSY);
}

static void cancel_in_every_state(void)
{
	for (int i = 0; i < BEFORE_GO; i++) {
		struct rig r;

		reach(&r, before_go[i]);
		CU_ASSERT(source_cancellable(&r.s));
		happens(&r, INPUT_CANCEL);
		/* After SWITCHOVER it waits until the guest runs here: the destination destroys its copy. */
		bool later = before_go[i] == SOURCE_WAIT_READY || before_go[i] == SOURCE_RELEASING;
		CU_ASSERT_EQUAL(sent(&r.out, MESSAGE_CANCEL), before_go[i] != SOURCE_DIALLING && !later);
		happens(&r, INPUT_CANCEL); /* impatience changes nothing */
		CU_ASSERT(r.ends || !r.out.n);
		wind_up(&r, 8);
		gave_up(&r, SLUICE_CANCELLED);
		CU_ASSERT_EQUAL(r.error, -ECANCELED);
		prod(&r);
	}
}

static void loss_in_every_state(void)
{
	for (int i = 0; i < BEFORE_GO; i++) {
		struct rig r;

		reach(&r, before_go[i]);
		fails(&r, INPUT_LINK_LOST, -ECONNRESET);
		CU_ASSERT_EQUAL(count_of(&r.out, ACTION_SEND), 0); /* to whom? */
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -ECONNRESET);

		/* Of a lost stream the link mostly says why, and a moment later: so that is waited for. */
		reach(&r, before_go[i]);
		step(&r, (struct input){ .type = INPUT_STREAM_LOST, .stream = 3, .code = -EPIPE });
		CU_ASSERT_EQUAL(r.out.n, 0);
		r.now += (uint64_t)STREAM_LOSS_MS * MS;
		if (before_go[i] == SOURCE_RESTING)
			r.s.deadline.at_ns = UINT64_MAX;
		happens(&r, INPUT_TICK);
		if (before_go[i] == SOURCE_WAIT_READY || before_go[i] == SOURCE_RELEASING) {
			CU_ASSERT_EQUAL(r.out.n, 0); /* nothing more is to be carried */
			continue;
		}
		CU_ASSERT_EQUAL(r.out.list[0].stream, 3);
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -EPIPE);

		reach(&r, before_go[i]);
		if (before_go[i] == SOURCE_DIALLING)
			continue;
		step(&r, (struct input){ .type = INPUT_STREAM_LOST, .stream = 3, .code = -EPIPE });
		hears(&r, MESSAGE_CANCEL);
		CU_ASSERT_PTR_NOT_NULL(strstr(r.out.list[0].text, "the other side says so"));
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -EIO);
	}
}

/* The guest's first moments there hold up the word that it runs, or the link is lost before it is heard: the downtime is what the word says,
 * within what the source knows itself. */
static void downtime_ends_when_the_guest_runs(void)
{
	static const struct {
		uint64_t says_ms, counts_ms;
	} cases[] = { { 40, 40 }, { 0, 500 }, { 500, 500 }, { 501, 500 }, { UINT64_MAX / (uint64_t)MS, 500 },
		      { 29, 30 }, { 30, 30 }, { 31, 31 } };

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct rig r;
		reach(&r, SOURCE_WAIT_RUNNING);
		r.s.pause_ns = r.now;
		r.s.paused_ns = r.now + 5 * MS;
		r.s.ready_ns = r.now + 35 * MS;
		r.now += 505 * MS;
		hears_running(&r, cases[i].says_ms * MS);
		CU_ASSERT_EQUAL(r.s.running_ns - r.s.paused_ns, cases[i].counts_ms * MS);
		CU_ASSERT_EQUAL(r.s.ended_ns, r.now);
		CU_ASSERT_EQUAL(r.s.phase, SLUICE_COMPLETED);
	}
}

/* Losing the link and the streams one after the other, as it happens, in the midst of giving up. */
static void losses_while_giving_up(void)
{
	for (int i = 0; i < BEFORE_GO; i++) {
		struct rig r;

		reach(&r, before_go[i]);
		happens(&r, INPUT_CANCEL);
		fails(&r, INPUT_STREAM_LOST, -EPIPE);
		fails(&r, INPUT_SYNCED, -EIO);
		fails(&r, INPUT_ARMED, -EIO);
		hears(&r, MESSAGE_CANCEL);
		hears(&r, MESSAGE_READY);
		hears(&r, MESSAGE_BYE);
		fails(&r, INPUT_LINK_LOST, -EPIPE);
		CU_ASSERT(r.ends || !r.out.n);
		wind_up(&r, 8);
		gave_up(&r, SLUICE_CANCELLED);
		CU_ASSERT_EQUAL(r.error, -ECANCELED);
	}
}

static bool belongs(enum source_state state, enum message_type type)
{
	return type == MESSAGE_LANDED || (state == SOURCE_OFFERED && type == MESSAGE_WELCOME) ||
	       (state == SOURCE_GATHERING && type == MESSAGE_STREAMS_UP) || (state == SOURCE_WAIT_READY && type == MESSAGE_READY);
}

static void wrong_message_in_every_state(void)
{
	for (int i = 0; i < BEFORE_GO; i++)
		for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
			struct rig r;

			reach(&r, before_go[i]);
			if (before_go[i] == SOURCE_DIALLING || belongs(before_go[i], (enum message_type)type))
				continue;
			bool expected = type == MESSAGE_NEVER && r.s.may_be_ready; /* first of all it is let go */
			hears(&r, (enum message_type)type);
			CU_ASSERT_EQUAL(r.out.list[expected].type, ACTION_ERROR);
			CU_ASSERT_EQUAL(sent(&r.out, MESSAGE_BYE), expected);
			CU_ASSERT(one_line(r.out.list[expected].text));
			wind_up(&r, 8);
			gave_up(&r, SLUICE_FAILED);
		}
}

static void word_about_another_attempt(void)
{
	static const struct {
		enum source_state state;
		enum message_type type;
	} cases[] = {
		{ SOURCE_WAIT_READY, MESSAGE_READY },   { SOURCE_WAIT_READY, MESSAGE_NEVER },
		{ SOURCE_RELEASING, MESSAGE_NEVER },    { SOURCE_WAIT_RUNNING, MESSAGE_RUNNING },
		{ SOURCE_WAIT_RUNNING, MESSAGE_NEVER },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int off = -1; off <= 1; off += 2) {
			struct rig r;

			reach(&r, cases[i].state);
			memset(&r.message, 0, sizeof r.message);
			r.message.type = cases[i].type;
			r.message.u.word.attempt = r.s.round + (uint32_t)off;
			CU_ASSERT_EQUAL(r.message.u.handoff.attempt, r.s.round + (uint32_t)off);
			step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .stream = -1 });
			wind_up(&r, 8);
			if (cases[i].state != SOURCE_WAIT_RUNNING)
				gave_up(&r, SLUICE_FAILED);
			CU_ASSERT_EQUAL(source_in_doubt(&r.s), cases[i].state == SOURCE_WAIT_RUNNING);
			CU_ASSERT(!source_in_doubt(&r.s) || !r.resumes);
		}
}

static void landed_must_be_possible(void)
{
	struct rig r;

	reach(&r, SOURCE_ROUND);
	r.message = (struct message){ .type = MESSAGE_LANDED, .u.landed = { .round = 2 } }; /* round 1 is open */
	step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .stream = -1 });
	gave_up(&r, SLUICE_FAILED);
	reach(&r, SOURCE_PAUSING);
	CU_ASSERT_EQUAL(r.s.landed, 1);
	r.message = (struct message){ .type = MESSAGE_LANDED, .u.landed = { .round = 0 } }; /* it said 1 before */
	step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .stream = -1 });
	wind_up(&r, 8);
	gave_up(&r, SLUICE_FAILED);
}

static void deadline_in_every_state(void)
{
	for (int i = 0; i < BEFORE_GO; i++) {
		struct rig r;

		reach(&r, before_go[i]);
		if (before_go[i] == SOURCE_DIALLING) { /* the dial has a deadline of its own and ends in LINK_UP or LINK_LOST */
			CU_ASSERT_EQUAL(r.s.deadline.at_ns, UINT64_MAX);
			continue;
		}
		CU_ASSERT_NOT_EQUAL(r.s.deadline.at_ns, UINT64_MAX);
		CU_ASSERT(strlen(r.s.deadline.what) > 3);
		if (before_go[i] == SOURCE_RESTING)
			continue;
		r.now = r.s.deadline.at_ns - 1;
		happens(&r, INPUT_TICK);
		CU_ASSERT_EQUAL(r.out.n, 0);
		r.now++;
		happens(&r, INPUT_TICK);
		CU_ASSERT(r.out.n > 0 && one_line(r.out.list[0].text));
		wind_up(&r, 8); /* a late answer is still waited for before the guest is resumed */
		gave_up(&r, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -ETIMEDOUT);
	}
}

static void timeout_in_every_state(void)
{
	for (int i = 0; i < BEFORE_GO; i++) {
		struct rig r;

		reach(&r, before_go[i]);
		r.params.timeout_ms = 20000;
		r.now = r.s.started_ns + 20000ull * MS - 1;
		if (before_go[i] == SOURCE_GATHERING || before_go[i] == SOURCE_RESTING ||
		    (before_go[i] >= SOURCE_FINAL_SYNC && before_go[i] <= SOURCE_WAIT_READY))
			r.s.deadline.at_ns = UINT64_MAX; /* theirs come first */
		happens(&r, INPUT_TICK);
		CU_ASSERT_EQUAL(r.out.n, 0);
		r.now++;
		happens(&r, INPUT_TICK);
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -ETIMEDOUT);
	}
}

static void callback_fails(void)
{
	static const enum source_state asking[] = { SOURCE_PAUSING, SOURCE_SAVING, SOURCE_RELEASING };

	for (int i = 0; i < 3; i++) {
		struct rig r;

		reach(&r, asking[i]);
		answers(&r, -EIO);
		CU_ASSERT(r.out.n > 0 && one_line(r.out.list[0].text));
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -EIO);
	}
	static const enum input_type types[] = { INPUT_SYNCED, INPUT_SYNCED, INPUT_SYNCED, INPUT_SYNCED, INPUT_ARMED };
	static const enum source_state states[] = { SOURCE_ROUND, SOURCE_COUNTING, SOURCE_FINAL_SYNC, SOURCE_LAST_ROUND,
						    SOURCE_ARMING };
	for (int i = 0; i < 5; i++) {
		struct rig r;

		reach(&r, states[i]);
		fails(&r, types[i], -EFAULT);
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -EFAULT);
	}
}

/* Told that the source's guest runs only where it does. */
static void resume_that_fails_is_no_success(void)
{
	for (int i = 0; i < BEFORE_GO; i++) {
		struct rig r;

		reach(&r, before_go[i]);
		r.resume_fails = true;
		happens(&r, INPUT_CANCEL);
		wind_up(&r, 8);
		CU_ASSERT_EQUAL(r.ends, 1);
		CU_ASSERT(r.s.phase != SLUICE_CANCELLED || r.running);
	}
}

/* An embedder that does not answer cannot hold the session for ever, however many answers it gave before. */
static void silent_embedder(void)
{
	for (unsigned patience = 0; patience < 3; patience++)
		for (int i = 0; i < BEFORE_GO; i++) {
			struct rig r;

			reach(&r, before_go[i]);
			happens(&r, INPUT_CANCEL);
			wind_up(&r, patience);
			CU_ASSERT_EQUAL(r.ends, 1);
			CU_ASSERT_EQUAL(r.early, 0);
			CU_ASSERT_EQUAL(r.resumes, r.pauses); /* asked for, even if nobody listens */
			CU_ASSERT(r.s.phase == SLUICE_FAILED || (r.s.phase == SLUICE_CANCELLED && r.running));
		}
}

/* A request that has failed by its deadline may still be at work: what it does to a guest is not mixed with a resume until it has answered, or
 * has had as long again. */
static void a_late_answer_has_as_long_again(void)
{
	static const enum source_state asked[] = { SOURCE_PAUSING, SOURCE_SAVING, SOURCE_RELEASING };

	for (size_t i = 0; i < 2 * sizeof asked / sizeof *asked; i++) {
		struct rig r;

		reach(&r, asked[i / 2]);
		r.now = r.s.deadline.at_ns;
		happens(&r, INPUT_TICK);
		CU_ASSERT_EQUAL(r.s.state, SOURCE_GIVING_UP);
		CU_ASSERT_EQUAL(r.s.deadline.at_ns, r.now + r.params.callback_ms * MS);
		r.now = r.s.deadline.at_ns - 1;
		happens(&r, INPUT_TICK);
		CU_ASSERT_EQUAL(asked_for(&r.out, SLUICE_RESUME), 0);
		if (i % 2) {
			answers(&r, 0);
		} else {
			r.now++;
			happens(&r, INPUT_TICK);
		}
		CU_ASSERT_EQUAL(asked_for(&r.out, SLUICE_RESUME), 1);
	}
}

static void after_go_only_a_word_decides(void)
{
	static const enum input_type types[] = { INPUT_CANCEL, INPUT_STREAM_LOST, INPUT_SYNCED, INPUT_ARMED,  INPUT_ROUND_SENT,
						 INPUT_CLOSE,  INPUT_RESOLVE,     INPUT_DONE,   INPUT_LINK_UP };
	struct rig r;

	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		reach(&r, SOURCE_WAIT_RUNNING);
		CU_ASSERT(!source_cancellable(&r.s));
		fails(&r, types[i], -EIO);
		CU_ASSERT_EQUAL(r.out.n, 0);
		CU_ASSERT_EQUAL(r.s.state, SOURCE_WAIT_RUNNING);
		if (r.s.state != SOURCE_WAIT_RUNNING)
			printf("  by input %d: %s\n", types[i], said(&r.out));
	}
	reach(&r, SOURCE_WAIT_RUNNING);
	r.params.timeout_ms = 1;
	r.now += 1000 * (uint64_t)MS;
	happens(&r, INPUT_TICK);
	CU_ASSERT_EQUAL(r.out.n, 0);
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
		reach(&r, SOURCE_WAIT_RUNNING);
		hears(&r, (enum message_type)type);
		switch (type) {
		case MESSAGE_RUNNING: CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING); break;
		case MESSAGE_NEVER:
			CU_ASSERT_EQUAL(asked_for(&r.out, SLUICE_RESUME), 1);
			wind_up(&r, 8);
			CU_ASSERT(r.running && r.ends == 1 && r.s.phase == SLUICE_FAILED);
			break;
		case MESSAGE_LANDED: CU_ASSERT_EQUAL(r.s.state, SOURCE_WAIT_RUNNING); break;
		default: SAYS(&r, "error streams- phase:in-doubt dial"); break; /* READY too: it said that before GO */
		}
	}
}

static const enum source_state doubts[] = { SOURCE_APART, SOURCE_REDIALLING, SOURCE_ASKING };
enum { DOUBTS = sizeof doubts / sizeof *doubts };

static void doubt_keeps_everything(void)
{
	struct rig r;

	for (int by_time = 0; by_time < 2; by_time++) {
		reach(&r, SOURCE_WAIT_RUNNING);
		if (by_time) {
			r.now = r.s.deadline.at_ns;
			happens(&r, INPUT_TICK);
		} else {
			fails(&r, INPUT_LINK_LOST, -ETIMEDOUT);
		}
		SAYS(&r, "error streams- phase:in-doubt dial");
		CU_ASSERT_EQUAL(r.error, -EINPROGRESS);
		CU_ASSERT_EQUAL(r.s.deadline.at_ns, UINT64_MAX); /* the dial's own */
	}
	/* Whatever happens: it asks on, and nothing else. */
	for (int i = 0; i < DOUBTS; i++) {
		for (int type = INPUT_START + 1; type <= INPUT_TICK; type++) {
			if (type == INPUT_MESSAGE || type == INPUT_RESOLVE)
				continue;
			reach(&r, doubts[i]);
			r.now += 1000000 * (uint64_t)MS;
			fails(&r, (enum input_type)type, -EIO);
			CU_ASSERT(source_in_doubt(&r.s) && !r.pending && !source_cancellable(&r.s));
			CU_ASSERT_EQUAL(r.out.n, count_of(&r.out, ACTION_DIAL) + count_of(&r.out, ACTION_LINK_DROP));
			if (type != INPUT_TICK && type != INPUT_LINK_UP && type != INPUT_LINK_LOST)
				CU_ASSERT_EQUAL(r.s.state, doubts[i]);
		}
		for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
			reach(&r, doubts[i]);
			if (doubts[i] == SOURCE_ASKING && type == MESSAGE_ANSWER)
				continue;
			hears(&r, (enum message_type)type);
			CU_ASSERT(source_in_doubt(&r.s) && !r.pending);
			/* Before ANSWER nothing is an answer. */
			if (doubts[i] == SOURCE_ASKING) {
				SAYS(&r, "drop");
				CU_ASSERT_EQUAL(r.s.state, SOURCE_APART);
			} else {
				SAYS(&r, "");
			}
		}
	}
	reach(&r, SOURCE_RECLAIMING);
	CU_ASSERT_NOT_EQUAL(r.s.deadline.at_ns, UINT64_MAX);
	wind_up(&r, 0);
	CU_ASSERT_EQUAL(r.ends, 1);
	CU_ASSERT_EQUAL(r.s.phase, SLUICE_FAILED);
}

static void word_on_a_later_link(void)
{
	for (int how = 0; how < 3; how++)
		for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
			struct rig r;

			reach(&r, how ? SOURCE_ASKING : SOURCE_APART);
			if (how == 2)
				hears(&r, MESSAGE_REFUSE); /* something else was at that address for a while */
			if (how == 1)
				hears(&r, MESSAGE_ANSWER);
			else
				asks_anew(&r);
			SAYS(&r, "mended phase:device");
			CU_ASSERT_EQUAL(r.s.state, SOURCE_WAIT_RUNNING);
			CU_ASSERT(!source_in_doubt(&r.s) && !source_cancellable(&r.s));
			CU_ASSERT_EQUAL(r.error, 0);
			CU_ASSERT(r.s.deadline.at_ns > r.now && r.s.deadline.at_ns < UINT64_MAX);
			hears(&r, (enum message_type)type);
			switch (type) {
			case MESSAGE_READY: /* the old GO is void */
				SAYS(&r, "GO");
				CU_ASSERT_EQUAL(r.s.state, SOURCE_WAIT_RUNNING);
				CU_ASSERT(r.s.deadline.at_ns > r.now && r.s.deadline.at_ns < UINT64_MAX);
				hears(&r, MESSAGE_RUNNING);
				CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
				break;
			case MESSAGE_RUNNING:
				SAYS(&r, "DONE streams- untrack phase:completed");
				CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
				fails(&r, INPUT_LINK_LOST, -ECONNRESET); /* as after a tombstone's word */
				SAYS(&r, "untrack link- end");
				CU_ASSERT_EQUAL(r.s.phase, SLUICE_COMPLETED);
				prod(&r);
				break;
			case MESSAGE_NEVER:
				SAYS(&r, "BYE error streams- ask:resume");
				CU_ASSERT_EQUAL(r.error, -EIO);
				fails(&r, INPUT_LINK_LOST, -ECONNRESET);
				answers(&r, 0);
				SAYS(&r, "untrack phase:failed link- end"); /* it knows: there is nothing to tell */
				CU_ASSERT(r.running);
				prod(&r);
				break;
			case MESSAGE_LANDED:
				SAYS(&r, "");
				CU_ASSERT_EQUAL(r.s.state, SOURCE_WAIT_RUNNING);
				break;
			default:
				CU_ASSERT_EQUAL(sent(&r.out, MESSAGE_BYE) + sent(&r.out, MESSAGE_CANCEL), 0);
				SAYS(&r, "error streams- phase:in-doubt drop");
				break;
			}
			CU_ASSERT(r.resumes == (type == MESSAGE_NEVER));
		}
	/* Silence after ANSWER: the destination is still deciding, but not for ever. */
	struct rig r;
	reach(&r, SOURCE_ASKING);
	hears(&r, MESSAGE_ANSWER);
	r.now = r.s.deadline.at_ns - 1;
	happens(&r, INPUT_TICK);
	CU_ASSERT_EQUAL(r.out.n, 0);
	r.now++;
	happens(&r, INPUT_TICK);
	SAYS(&r, "error streams- phase:in-doubt drop");
	CU_ASSERT_EQUAL(r.error, -EINPROGRESS);
	/* And silence before it. */
	reach(&r, SOURCE_ASKING);
	CU_ASSERT_EQUAL(r.s.deadline.at_ns, r.now + r.params.connect_ms * MS);
	r.now = r.s.deadline.at_ns;
	happens(&r, INPUT_TICK);
	SAYS(&r, "drop");
	CU_ASSERT_EQUAL(r.s.state, SOURCE_APART);
}

static void go_again_as_often_as_it_takes(void)
{
	for (int never = 0; never < 2; never++) {
		struct rig r;

		reach(&r, SOURCE_REDIALLING);
		for (unsigned n = 2; n < 200; n++) {
			asks_anew(&r);
			hears(&r, MESSAGE_READY);
			SAYS(&r, "GO");
			CU_ASSERT_EQUAL(r.go, n);
			if (n % 2) {
				hears(&r, MESSAGE_READY); /* on the link that GO went by it is no answer */
				CU_ASSERT_EQUAL(r.go, n);
			} else {
				fails(&r, INPUT_LINK_LOST, -ECONNRESET);
			}
			CU_ASSERT(source_in_doubt(&r.s) && !r.resumes && !r.ends);
		}
		asks_anew(&r);
		hears(&r, never ? MESSAGE_NEVER : MESSAGE_RUNNING);
		wind_up(&r, 8);
		CU_ASSERT_EQUAL(r.running, never);
		CU_ASSERT_EQUAL(r.s.phase, never ? SLUICE_FAILED : SLUICE_COMPLETED);
		CU_ASSERT_EQUAL(r.ends, (unsigned)never);
	}
}

/* 250 ms, doubling to 4 s, for as long as it takes. */
static void rests_between_tries(void)
{
	for (int how = 0; how < 4; how++) {
		struct rig r;
		uint64_t rest_ms = 250;

		reach(&r, SOURCE_REDIALLING);
		for (int n = 0; n < 50; n++) {
			CU_ASSERT(r.dialling);
			if (how)
				happens(&r, INPUT_LINK_UP);
			if (how == 1) {
				hears(&r, MESSAGE_REFUSE); /* not NEVER: it may have run before it was started again */
			} else if (how == 2) {
				r.now = r.s.deadline.at_ns;
				happens(&r, INPUT_TICK);
			} else {
				fails(&r, INPUT_LINK_LOST, n % 2 ? -ECONNREFUSED : -ETIMEDOUT);
			}
			CU_ASSERT_EQUAL(r.s.state, SOURCE_APART);
			CU_ASSERT_EQUAL(count_of(&r.out, ACTION_LINK_DROP), how == 1 || how == 2);
			CU_ASSERT_EQUAL(r.s.deadline.at_ns, r.now + rest_ms * MS);
			CU_ASSERT(strlen(r.s.deadline.what) > 3);
			r.now = r.s.deadline.at_ns - 1;
			happens(&r, INPUT_TICK);
			SAYS(&r, "");
			r.now++;
			happens(&r, INPUT_TICK);
			SAYS(&r, "dial");
			rest_ms = rest_ms < 2000 ? 2 * rest_ms : 4000;
		}
		CU_ASSERT(source_in_doubt(&r.s) && !r.resumes && !r.ends && !r.pending);
		asks_anew(&r);
		hears(&r, MESSAGE_RUNNING);
		CU_ASSERT_EQUAL(r.s.state, SOURCE_LINGERING);
	}
}

/* However quickly a destination answers with what makes no sense: it is asked once in a while. */
static void no_hot_loop(void)
{
	for (int how = 0; how < 5; how++) {
		struct rig r;
		unsigned dials = 0;

		reach(&r, SOURCE_WAIT_RUNNING);
		uint64_t until = r.now + 60000ull * MS;
		fails(&r, INPUT_LINK_LOST, -ECONNRESET);
		while (r.now < until && dials < 1000) {
			if (r.s.state == SOURCE_APART) {
				CU_ASSERT(r.s.deadline.at_ns > r.now);
				r.now = r.s.deadline.at_ns;
				happens(&r, INPUT_TICK);
			}
			dials++;
			happens(&r, INPUT_LINK_UP);
			if (how)
				hears(&r, MESSAGE_ANSWER);
			if (how == 2) {
				hears(&r, MESSAGE_BYE);
			} else if (how == 3) {
				hears(&r, MESSAGE_READY);
				hears(&r, MESSAGE_READY);
			} else {
				if (how == 4)
					hears(&r, MESSAGE_READY);
				fails(&r, INPUT_LINK_LOST, -ECONNRESET);
			}
			CU_ASSERT(source_in_doubt(&r.s));
		}
		CU_ASSERT(dials > 10 && dials < 25);
		if (dials >= 25)
			printf("  kind %d: %u dials in %.1f s\n", how, dials, (double)(r.now + 60000ull * MS - until) * 1e-9);
	}
}

static const enum source_state all_states[] = {
	SOURCE_DIALLING,   SOURCE_OFFERED,    SOURCE_GATHERING,    SOURCE_ARMING,       SOURCE_ROUND,      SOURCE_COUNTING,
	SOURCE_RESTING,    SOURCE_SETTLING,   SOURCE_PAUSING,      SOURCE_SAVING,       SOURCE_FINAL_SYNC, SOURCE_LAST_ROUND,
	SOURCE_WAIT_READY, SOURCE_RELEASING,  SOURCE_WAIT_RUNNING, SOURCE_TURNING_BACK, SOURCE_LINGERING,  SOURCE_RECLAIMING,
	SOURCE_APART,      SOURCE_REDIALLING, SOURCE_ASKING,
};
static const enum source_state telling[] = { SOURCE_TELLING, SOURCE_APART, SOURCE_REDIALLING, SOURCE_ASKING };
enum { ALL_STATES = sizeof all_states / sizeof *all_states, TELLINGS = sizeof telling / sizeof *telling };

/* Whatever still comes of a link that was given up. */
static void old_links_change_nothing(void)
{
	for (int i = 0; i < ALL_STATES + TELLINGS; i++)
		for (int what = 0; what < MESSAGE_TYPES + 2; what++)
			for (int off = -1; off <= 1; off += 2) {
				struct rig r;
				struct source before;
				struct input in = { .type = INPUT_LINK_UP, .stream = -1, .code = -EPIPE };

				if (i < ALL_STATES)
					reach(&r, all_states[i]);
				else
					reach_telling(&r, telling[i - ALL_STATES]);
				in.link = r.link + (uint32_t)off;
				if (!in.link)
					continue; /* there was none before the first */
				if (what && what < MESSAGE_TYPES) {
					memset(&r.message, 0, sizeof r.message);
					r.message.type = (enum message_type)what;
					r.message.u.handoff.attempt = r.s.round;
					in.type = INPUT_MESSAGE;
					in.code = 0;
					in.message = &r.message;
				} else if (what) {
					in.type = INPUT_LINK_LOST;
					in.code = what == MESSAGE_TYPES ? -ECONNREFUSED : -EPIPE;
				}
				r.now += 100000000ull * MS;
				before = r.s;
				step(&r, in);
				SAYS(&r, "");
				CU_ASSERT(!memcmp(&before, &r.s, sizeof before));
			}
}

/* An operator's word counts while it is asked for, and not a moment longer. */
static void operator_at_any_time(void)
{
	struct rig r;

	for (int i = 0; i < DOUBTS; i++) {
		reach(&r, doubts[i]);
		resolves(&r, 0);
		SAYS(&r, "mended untrack phase:completed link- end");
		CU_ASSERT(!r.running);
		CU_ASSERT_EQUAL(r.error, 0);
		prod(&r);

		reach(&r, doubts[i]);
		resolves(&r, 1);
		SAYS(&r, "mended drop ask:resume");
		CU_ASSERT(!source_in_doubt(&r.s));
		resolves(&r, 0); /* said twice, or another way: too late */
		SAYS(&r, "");
		/* The dial came through after all, and the destination says something: too late too. */
		happens(&r, INPUT_LINK_UP);
		SAYS(&r, "");
		for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
			if (type == MESSAGE_NEVER)
				continue;
			hears(&r, (enum message_type)type);
			SAYS(&r, "");
		}
		fails(&r, INPUT_LINK_LOST, -EPIPE);
		SAYS(&r, "");
		answers(&r, 0);
		/* The destination, which may be ready and in doubt, is to know. */
		SAYS(&r, "error untrack phase:failed dial");
		CU_ASSERT(r.running && !r.ends);
		CU_ASSERT_EQUAL(r.error, -ECANCELED);
		asks_anew(&r);
		hears(&r, MESSAGE_READY);
		SAYS(&r, "CANCEL");
		hears(&r, MESSAGE_NEVER);
		SAYS(&r, "BYE untrack link- end");
		prod(&r);

		/* Its guest does not come back: not a second of silence more than for any other. */
		reach(&r, doubts[i]);
		resolves(&r, 1);
		answers(&r, -EIO);
		CU_ASSERT_EQUAL(r.s.phase, SLUICE_FAILED);
		CU_ASSERT_EQUAL(r.error, -EIO); /* it does not look as if it had come back */
		wind_up(&r, 0);
		CU_ASSERT_EQUAL(r.ends, 1);
	}
	/* Not known there: there is nobody to be told. */
	reach(&r, SOURCE_ASKING);
	hears(&r, MESSAGE_REFUSE);
	CU_ASSERT(source_in_doubt(&r.s));
	resolves(&r, 1);
	SAYS(&r, "mended drop ask:resume");
	answers(&r, 0);
	SAYS(&r, "error untrack phase:failed link- end");
	CU_ASSERT(r.running);
	/* Not known at first, for another listened there; and then it was. */
	reach(&r, SOURCE_ASKING);
	hears(&r, MESSAGE_REFUSE);
	asks_anew(&r);
	hears(&r, MESSAGE_READY);
	fails(&r, INPUT_LINK_LOST, -EPIPE);
	resolves(&r, 1);
	answers(&r, 0);
	SAYS(&r, "error untrack phase:failed dial");
	/* Anywhere else, and after the doubt was left, the word comes to nothing. */
	for (int i = 0; i < ALL_STATES + TELLINGS + 1; i++)
		for (uint32_t run = 0; run < 2; run++) {
			if (i < ALL_STATES)
				reach(&r, all_states[i]);
			else if (i < ALL_STATES + TELLINGS)
				reach_telling(&r, telling[i - ALL_STATES]);
			else
				reach(&r, SOURCE_REDIALLING), asks_anew(&r);
			if (source_in_doubt(&r.s))
				continue;
			enum source_state state = r.s.state;
			bool before = r.operator_said;
			resolves(&r, run);
			r.operator_said = before;
			SAYS(&r, "");
			CU_ASSERT_EQUAL(r.s.state, state);
		}
}

/* Gave up after SWITCHOVER: the destination may be ready, or about to be, and must not be left in doubt. */
static void gives_up_and_tells(void)
{
	static const enum source_state states[] = { SOURCE_WAIT_READY, SOURCE_RELEASING };

	for (int i = 0; i < 2; i++)
		for (int how = 0; how < 5; how++)
			for (int early = 0; early < 2; early++) {
				struct rig r;
				enum sluice_phase phase = how ? SLUICE_FAILED : SLUICE_CANCELLED;

				reach(&r, states[i]);
				r.params.timeout_ms = how == 2 ? 100 : 0;
				switch (how) {
				case 0: happens(&r, INPUT_CANCEL); break;
				case 1:
					r.now = r.s.deadline.at_ns;
					happens(&r, INPUT_TICK);
					break;
				case 2:
					r.now = r.s.started_ns + 100000ull * MS;
					happens(&r, INPUT_TICK);
					break;
				case 3: hears(&r, MESSAGE_HELLO); break;
				default: fails(&r, INPUT_SYNCED, -EIO); break;
				}
				CU_ASSERT_EQUAL(sent(&r.out, MESSAGE_CANCEL), 0);
				CU_ASSERT_EQUAL(r.s.state, SOURCE_GIVING_UP);
				if (r.pending == SLUICE_RELEASE)
					answers(&r, 0);
				CU_ASSERT_EQUAL(r.pending, SLUICE_RESUME);
				if (early) { /* it knows before our guest runs */
					hears(&r, MESSAGE_NEVER);
					SAYS(&r, "BYE");
					answers(&r, 0);
					CU_ASSERT_EQUAL(count_of(&r.out, ACTION_DIAL) + count_of(&r.out, ACTION_SEND), 0);
				} else {
					answers(&r, 0);
					/* Who watches is told at once; only END waits. */
					CU_ASSERT_STRING_EQUAL(said(&r.out), how ? "untrack phase:failed CANCEL"
										 : "untrack phase:cancelled CANCEL");
					CU_ASSERT_EQUAL(r.s.state, SOURCE_TELLING);
					CU_ASSERT_EQUAL(r.s.deadline.at_ns, r.now + r.params.remember_ms * MS);
					CU_ASSERT_EQUAL(r.s.ended_ns, r.now);
					uint64_t over = r.now;
					r.now += MS;
					hears(&r, MESSAGE_NEVER);
					SAYS(&r, "BYE untrack link- end");
					CU_ASSERT_EQUAL(r.s.ended_ns, over);
				}
				gave_up(&r, phase);
				prod(&r);
			}
	/* Nobody wants to be remembered. */
	struct rig r;
	for (int i = 0; i < 4; i++) {
		reach(&r, i < 2 ? SOURCE_WAIT_READY : SOURCE_RELEASING);
		r.params.remember_ms = 0;
		if (i % 2)
			happens(&r, INPUT_CANCEL);
		else
			fails(&r, INPUT_LINK_LOST, -EPIPE);
		if (r.pending == SLUICE_RELEASE)
			answers(&r, 0);
		answers(&r, 0);
		gave_up(&r, i % 2 ? SLUICE_CANCELLED : SLUICE_FAILED);
	}
	/* Before SWITCHOVER there is nothing to tell: cancel_in_every_state() ends there at once. */
	for (int i = 0; i < BEFORE_GO; i++) {
		reach(&r, before_go[i]);
		uint64_t now = r.now;
		bool tells = before_go[i] == SOURCE_WAIT_READY || before_go[i] == SOURCE_RELEASING;
		happens(&r, INPUT_CANCEL);
		while (r.pending)
			answers(&r, 0);
		CU_ASSERT_EQUAL(r.ends, !tells);
		CU_ASSERT_EQUAL(r.now, now);
	}
}

/* Its guest runs: whatever the destination says, nothing takes that back, and nothing ends it early but NEVER, or that the destination
 * has given up by itself. */
static void word_while_telling(void)
{
	for (int i = 0; i < TELLINGS; i++) {
		struct rig r;

		for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
			reach_telling(&r, telling[i]);
			enum sluice_phase phase = r.s.phase;
			uint64_t until = r.s.tell_until_ns;
			bool up = telling[i] == SOURCE_TELLING, asking = telling[i] == SOURCE_ASKING;

			if (!up && !asking)
				continue; /* nothing can come: there is no link */
			hears(&r, (enum message_type)type);
			CU_ASSERT(r.running && !r.pending);
			CU_ASSERT_EQUAL(r.s.phase, phase);
			CU_ASSERT_EQUAL(r.s.tell_until_ns, until); /* no word buys time */
			bool over = type == MESSAGE_NEVER || type == MESSAGE_CANCEL;
			CU_ASSERT_EQUAL(r.ends, (up && over) || (asking && type == MESSAGE_REFUSE));
			if (up && type == MESSAGE_READY)
				SAYS(&r, r.s.asked_anew ? "CANCEL" : ""); /* on the first link it is on its way */
			else if (up && type == MESSAGE_NEVER)
				SAYS(&r, "BYE untrack link- end");
			else if ((up && type == MESSAGE_CANCEL) || (asking && type == MESSAGE_REFUSE))
				SAYS(&r, "untrack link- end");
			else if (asking && type != MESSAGE_ANSWER)
				SAYS(&r, "drop");
			else
				SAYS(&r, "");
			wind_up(&r, 0);
			gave_up(&r, phase);
		}
		/* Nor does anything else. */
		for (int type = INPUT_START + 1; type <= INPUT_TICK; type++) {
			reach_telling(&r, telling[i]);
			enum sluice_phase phase = r.s.phase;

			if (type == INPUT_MESSAGE || type == INPUT_LINK_UP || type == INPUT_LINK_LOST || type == INPUT_CLOSE)
				continue;
			step(&r, (struct input){ .type = (enum input_type)type, .code = -EIO, .value = 1, .stream = -1 });
			SAYS(&r, "");
			CU_ASSERT_EQUAL(r.s.state, telling[i]);
			wind_up(&r, 0);
			gave_up(&r, phase);
		}
	}
}

/* A greeting that was damaged under way is refused, too: that is no word about our session, and it is told at the next try. */
static void refused_for_a_damaged_greeting(void)
{
	struct rig r;

	for (int i = 0; i < TELLINGS; i++) {
		if (telling[i] != SOURCE_ASKING)
			continue;
		reach_telling(&r, telling[i]);
		enum sluice_phase phase = r.s.phase;
		memset(&r.message, 0, sizeof r.message);
		r.message.type = MESSAGE_REFUSE;
		r.message.u.word.code = -EPROTO;
		step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .stream = -1 });
		SAYS(&r, "drop");
		CU_ASSERT(!r.ends);
		asks_anew(&r);
		CU_ASSERT_EQUAL(r.s.state, SOURCE_TELLING);
		wind_up(&r, 0);
		gave_up(&r, phase);
	}
}

/* By its deadline, by an embedder that does not care, and where nobody is there any more. */
static void telling_ends(void)
{
	for (int i = 0; i < TELLINGS; i++) {
		struct rig r;

		reach_telling(&r, telling[i]);
		enum sluice_phase phase = r.s.phase;
		happens(&r, INPUT_CLOSE);
		SAYS(&r, "untrack link- end");
		gave_up(&r, phase);

		reach_telling(&r, telling[i]);
		fails(&r, INPUT_LINK_LOST, -ECONNREFUSED);
		SAYS(&r, "untrack link- end");
		gave_up(&r, phase);

		for (int early = 1; early >= 0; early--) {
			reach_telling(&r, telling[i]);
			r.now = r.s.tell_until_ns - (unsigned)early;
			happens(&r, INPUT_TICK);
			CU_ASSERT_EQUAL(r.ends, !early);
		}
		gave_up(&r, phase);

		/* A link that is lost again and again: the rests do not outlast the deadline either. */
		reach_telling(&r, telling[i]);
		uint64_t until = r.s.tell_until_ns;
		unsigned dials = 0;
		while (!r.ends && dials < 1000) {
			dials += r.dialling;
			if (r.s.state == SOURCE_APART) {
				CU_ASSERT(r.s.deadline.at_ns > r.now);
				r.now = r.s.deadline.at_ns;
				happens(&r, INPUT_TICK);
			} else if (r.dialling) {
				happens(&r, INPUT_LINK_UP);
			} else {
				fails(&r, INPUT_LINK_LOST, -EPIPE);
			}
		}
		CU_ASSERT(dials > 3 && dials < 12);
		CU_ASSERT_EQUAL(r.now, until);
		gave_up(&r, phase);

		/* Stuck in the dial: nobody waits for that either. */
		reach_telling(&r, telling[i]);
		wind_up(&r, 0);
		CU_ASSERT(r.now <= until);
		gave_up(&r, phase);
	}
}

static void told_on_a_later_link(void)
{
	static const enum message_type words[] = { MESSAGE_NEVER, MESSAGE_READY };

	for (int lost = 0; lost < 2; lost++) /* before or after the guest runs here again */
		for (int w = 0; w < 2; w++) {
			struct rig r;

			reach(&r, SOURCE_WAIT_READY);
			happens(&r, INPUT_CANCEL);
			if (!lost)
				fails(&r, INPUT_LINK_LOST, -EPIPE);
			answers(&r, 0);
			if (lost) {
				CU_ASSERT_EQUAL(r.s.state, SOURCE_TELLING);
				fails(&r, INPUT_LINK_LOST, -EPIPE);
				SAYS(&r, "");
			} else {
				SAYS(&r, "untrack phase:cancelled dial");
			}
			asks_anew(&r);
			SAYS(&r, ""); /* cancelled it is, and stays: no phase, no error */
			CU_ASSERT_EQUAL(r.s.state, SOURCE_TELLING);
			hears(&r, words[w]);
			if (words[w] == MESSAGE_READY) {
				SAYS(&r, "CANCEL");
				CU_ASSERT_EQUAL(r.out.list[0].code, -ECANCELED); /* so that it is cancelled there too */
				hears(&r, MESSAGE_NEVER);
			}
			SAYS(&r, "BYE untrack link- end");
			gave_up(&r, SLUICE_CANCELLED);
			CU_ASSERT_EQUAL(r.error, -ECANCELED);
			prod(&r);
		}
}

/* Completed is completed: nothing makes it a failure, and nothing resumes the guest here. */
static void lingering_until_closed(void)
{
	for (int type = INPUT_START + 1; type <= INPUT_TICK; type++) {
		struct rig r;

		reach(&r, SOURCE_LINGERING);
		CU_ASSERT_EQUAL(r.s.deadline.at_ns, UINT64_MAX);
		if (type == INPUT_MESSAGE)
			hears(&r, MESSAGE_BYE);
		else
			fails(&r, (enum input_type)type, -EIO);
		CU_ASSERT_EQUAL(r.ends, type == INPUT_LINK_LOST || type == INPUT_CLOSE || type == INPUT_MESSAGE);
		CU_ASSERT_EQUAL(r.s.phase, SLUICE_COMPLETED);
		if (r.s.phase != SLUICE_COMPLETED)
			printf("  by input %d: %s\n", type, said(&r.out));
	}
}

/* A slow wire is not a dead one; one that carries nothing is. */
static void slow_is_not_dead(void)
{
	static const enum source_state moving[] = { SOURCE_ROUND, SOURCE_SETTLING };

	for (int i = 0; i < 2; i++) {
		struct rig r;
		uint64_t bytes = 1;

		reach(&r, moving[i]);
		for (int n = 0; n < 100; n++) {
			r.now += 50000ull * MS;
			step(&r, (struct input){ .type = INPUT_TICK, .moved_bytes = bytes++, .stream = -1 });
			CU_ASSERT_EQUAL(r.out.n, 0);
		}
		uint64_t last = r.now;
		for (int n = 0; n < 100 && !r.out.n; n++) {
			r.now += 1000ull * MS;
			step(&r, (struct input){ .type = INPUT_TICK, .moved_bytes = bytes - 1, .stream = -1 });
		}
		CU_ASSERT_EQUAL(r.now - last, 60000ull * MS);
		r.s.moved_bytes = 0; /* the rig's inputs carry no counter */
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
	}
}

/* One stream stops carrying while the link lives: the guest is not left stopped for a minute on account of that. */
static void a_stopped_guest_is_not_left_waiting(void)
{
	static const enum source_state stopped[] = { SOURCE_FINAL_SYNC, SOURCE_LAST_ROUND, SOURCE_WAIT_READY };

	for (int i = 0; i < 3; i++) {
		struct rig r;

		reach(&r, stopped[i]);
		CU_ASSERT(r.s.guest_stopped);
		CU_ASSERT_EQUAL(r.s.deadline.at_ns, r.s.saved_ns + (2 * r.params.downtime_limit_ms + 3000) * MS);
		wind_up(&r, 8);
		gave_up(&r, SLUICE_FAILED);
	}
	/* What the embedder takes is not theirs: whether the guest is to stand still for so long, the downtime guard says. */
	struct rig r;
	reach(&r, SOURCE_SAVING);
	r.now += 10000ull * MS;
	answers(&r, 0);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_FINAL_SYNC);
	CU_ASSERT_EQUAL(r.s.deadline.at_ns, r.now + (2 * r.params.downtime_limit_ms + 3000) * MS);
	/* All has landed: now it is a device that takes its time, and that may be long. */
	reach(&r, SOURCE_WAIT_READY);
	memset(&r.message, 0, sizeof r.message);
	r.message.type = MESSAGE_LANDED;
	r.message.u.landed.round = r.s.round;
	for (int n = 0; n < 3; n++)
		step(&r, (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .stream = -1 });
	CU_ASSERT_EQUAL(r.s.deadline.at_ns, r.now + (r.params.callback_ms + 5000) * MS);
}

/* Steady dirtying must be seen as what it is, whichever kind of round and sync found it. */
static void dirty_rate_is_not_inflated(void)
{
	const double rate = 400e3; /* pages per second, of which each round's sync finds what was written since the last */
	struct rig r;
	uint64_t pages = 0, counted = 0;

	reach(&r, SOURCE_ARMING);
	happens(&r, INPUT_ARMED);
	uint64_t fetched = r.now; /* when pages were fetched last, on average */
	for (int i = 0; i < 12 && (r.s.state == SOURCE_ROUND || r.s.state == SOURCE_COUNTING); i++) {
		uint64_t opened = r.now;
		bool ahead = !r.s.round_dirty;

		/* Near enough for a count of everything, or not. */
		r.params.downtime_limit_ms = i % 3 ? 300 : 2000;
		r.now += 1000ull * MS;
		pages += 500000;
		uint64_t middle = opened + (r.now - opened) / 2;
		uint64_t found = r.s.round == 1 ? 4000000 : ahead ? (uint64_t)(rate * (double)(middle - fetched) * 1e-9) : 0;
		if (ahead)
			fetched = middle; /* sync keeps just ahead of the senders, all through the round */
		step(&r, (struct input){ .type = INPUT_ROUND_SENT,
					 .round = r.s.round,
					 .pages = pages,
					 .nonzero_pages = pages,
					 .found = found,
					 .stream = -1 });
		if (r.s.state == SOURCE_COUNTING) {
			r.now += 2 * MS;
			found = (uint64_t)(rate * (double)(r.now - fetched) * 1e-9);
			fetched = r.now;
			r.params.downtime_limit_ms = 1; /* so that it goes on */
			step(&r, (struct input){ .type = INPUT_SYNCED,
						 .found = found,
						 .remaining = found,
						 .pages = pages,
						 .nonzero_pages = pages,
						 .stream = -1 });
			counted++;
			CU_ASSERT(r.s.converge.dirty_pages_per_s < 2 * rate && r.s.converge.dirty_pages_per_s > rate / 3);
		}
	}
	CU_ASSERT(counted > 1);
}

/* libvirt's pause-before-switchover: the guest stands still until somebody says go on, and that time is not the guest's downtime. */
static void holds_before_switchover(void)
{
	for (int how = 0; how < 4; how++) {
		struct rig r;

		reach(&r, SOURCE_SETTLING);
		r.params.hold = true;
		hears(&r, MESSAGE_LANDED);
		SAYS(&r, "ask:pause"); /* not told of before it stands still */
		happens(&r, INPUT_CONTINUE);
		SAYS(&r, "");
		answers(&r, 0);
		SAYS(&r, "phase:pre-switchover");
		CU_ASSERT(source_cancellable(&r.s));
		r.now += 20000ull * MS; /* far beyond the limit */
		happens(&r, INPUT_TICK);
		CU_ASSERT_EQUAL(r.s.state, SOURCE_HOLDING);
		if (how == 1 || how == 2) {
			if (how == 2)
				r.now = r.s.deadline.at_ns;
			happens(&r, how == 1 ? INPUT_CANCEL : INPUT_TICK);
			CU_ASSERT_EQUAL(r.pending, SLUICE_RESUME);
			wind_up(&r, 8);
			gave_up(&r, how == 1 ? SLUICE_CANCELLED : SLUICE_FAILED);
			continue;
		}
		happens(&r, INPUT_CONTINUE);
		SAYS(&r, "phase:device ask:save");
		happens(&r, INPUT_CONTINUE);
		SAYS(&r, "");
		answers(&r, 0);
		synced(&r, how ? 1000000 : 10); /* the guard judges without the hold */
		CU_ASSERT_EQUAL(r.s.state, how ? SOURCE_TURNING_BACK : SOURCE_LAST_ROUND);
		if (how) { /* the next try holds anew */
			answers(&r, 0);
			CU_ASSERT_EQUAL(r.s.phase, SLUICE_ACTIVE);
		} else {
			CU_ASSERT(r.s.deadline.at_ns > r.now + r.params.downtime_limit_ms * MS);
		}
	}
}

/* Whether to hold may be said while the guest is being stopped: no phase goes back, and none says that a stopped guest runs. */
static void hold_changes_while_stopping(void)
{
	for (int hold = 0; hold < 2; hold++) {
		struct rig r;

		reach(&r, SOURCE_SETTLING);
		r.params.hold = hold;
		hears(&r, MESSAGE_LANDED);
		SAYS(&r, hold ? "ask:pause" : "phase:device ask:pause");
		r.params.hold = !hold;
		answers(&r, 0);
		SAYS(&r, hold ? "phase:device ask:save" : "ask:save");
	}
}

/* A round that takes a second for 100,000 pages, of which as many are dirty again. */
static void round_in_vain(struct rig *r)
{
	struct input in = { .type = INPUT_ROUND_SENT, .found = 100000, .remaining = 100000, .stream = -1 };

	r->now += 1000ull * MS;
	in.round = r->s.round;
	in.pages = in.nonzero_pages = in.moved_bytes = r->s.round * 100000ull;
	step(r, in);
	if (r->s.state != SOURCE_COUNTING)
		return;
	in.type = INPUT_SYNCED; /* the first time nothing is known yet */
	step(r, in);
}

static void throttles_in_steps_and_lets_go(void)
{
	static const uint32_t steps[] = { 20, 30, 40, 45, 45 };

	for (int ends = 0; ends < 2; ends++) {
		struct rig r;
		unsigned warnings = 0, step_n = 0;

		reach(&r, SOURCE_ROUND);
		r.params.throttle_max = 45;
		for (int i = 0; i < 20; i++) {
			round_in_vain(&r);
			CU_ASSERT_EQUAL(r.s.state, SOURCE_ROUND); /* it goes on, whatever comes of it */
			warnings += count_of(&r.out, ACTION_WARN);
			for (uint32_t k = 0; k < r.out.n; k++)
				if (r.out.list[k].type == ACTION_THROTTLE)
					CU_ASSERT_EQUAL(r.out.list[k].percent, steps[step_n++]);
		}
		CU_ASSERT_EQUAL(warnings, 1);
		CU_ASSERT_EQUAL(step_n, 4);
		CU_ASSERT(r.s.expected_ms > 900);
		if (ends) {
			fails(&r, INPUT_LINK_LOST, -EPIPE);
		} else {
			happens(&r, INPUT_CANCEL);
		}
		CU_ASSERT_EQUAL(count_of(&r.out, ACTION_THROTTLE), 1);
		CU_ASSERT_EQUAL(r.s.throttle, 0);
		CU_ASSERT_EQUAL(r.s.throttle_most, 45);
	}
	/* Only when asked for. */
	struct rig r;
	reach(&r, SOURCE_ROUND);
	for (int i = 0; i < 20; i++) {
		round_in_vain(&r);
		CU_ASSERT_EQUAL(count_of(&r.out, ACTION_THROTTLE), 0);
	}
}

/* Half a second into the round, or half a second after the last survey: so much is dirty, and so much was sent by now. */
static void surveyed(struct rig *r, uint64_t dirty, uint64_t unseen, uint64_t pages)
{
	r->now += 500ull * MS;
	step(r, (struct input){ .type = INPUT_SURVEYED,
				.round = r->s.round,
				.remaining = dirty,
				.unseen = unseen,
				.pages = pages,
				.nonzero_pages = pages,
				.stream = -1 });
}

/* In the midst of the second round: 100,000 pages a second get through, and the guest dirties as many. */
static uint64_t reach_hard_round(struct rig *r, uint64_t limit_ms)
{
	reach(r, SOURCE_ROUND);
	r->params.downtime_limit_ms = limit_ms;
	round_in_vain(r);
	CU_ASSERT_EQUAL(r->s.state, SOURCE_ROUND);
	CU_ASSERT_EQUAL(r->s.round, 2);
	return 100000;
}

/* A limit that is changed, or a guest that comes to fit: that is seen in the midst of a round, and ends it. */
static void cuts_a_round_that_buys_nothing(void)
{
	for (int how = 0; how < 4; how++) {
		struct rig r;
		uint64_t pages = reach_hard_round(&r, 50);

		for (int i = 0; i < 4; i++) {
			surveyed(&r, 60000, 0, pages += 50000);
			CU_ASSERT_EQUAL(count_of(&r.out, ACTION_ROUND_CUT), 0);
		}
		CU_ASSERT(r.s.expected_ms > 500 && r.s.expected_ms < 800);
		if (how == 0)
			r.params.downtime_limit_ms = 1000;
		else if (how == 1)
			r.params.switchover_bytes_per_s = 8ull
							  << 30; /* the last round is exempt from the limit that this one feels */
		surveyed(&r, how == 2 ? 1000 : 60000, how == 3 ? 1000000 : 0, pages += 50000);
		if (how == 3) {
			SAYS(&r, ""); /* what nobody has looked at yet counts as dirty */
			continue;
		}
		if (how == 2) { /* it writes hardly anything now: the round gets done with what is left */
			SAYS(&r, "");
			continue;
		}
		SAYS(&r, ""); /* once is no proof */
		surveyed(&r, 60000, 0, pages += 50000);
		SAYS(&r, "cut");
		surveyed(&r, 60000, 0, pages += 50000);
		SAYS(&r, "");
		step(&r, (struct input){ .type = INPUT_ROUND_SENT,
					 .round = 2,
					 .pages = pages,
					 .nonzero_pages = pages,
					 .found = 1,
					 .stream = -1 });
		SAYS(&r, "told:2 sync");
		r.now += 10 * MS;
		step(&r, (struct input){ .type = INPUT_SYNCED,
					 .remaining = 60000,
					 .found = 60000,
					 .pages = pages,
					 .nonzero_pages = pages,
					 .stream = -1 });
		CU_ASSERT_EQUAL(r.s.state, SOURCE_SETTLING);
	}
}

/* However a round ended: the guest is stopped when its I/O is at rest, and not before. And a round that was cut may be counted more than
 * once, for that: each time by what was found since the last. */
static void a_cut_round_does_not_skip_the_drain(void)
{
	struct rig r;
	uint64_t pages = reach_hard_round(&r, 50);
	struct input in = {
		.type = INPUT_ROUND_SENT, .round = 2, .pages = pages, .nonzero_pages = pages, .found = 1, .stream = -1
	};

	r.params.drain = (struct drain_params){ .given = true, .depth = 1, .window_ms = 500, .share = 5, .tries = 10 };
	r.params.downtime_limit_ms = 1000;
	while (!r.s.cut && r.s.state == SOURCE_ROUND && pages < 1000000)
		surveyed(&r, 60000, 0, pages += 50000);
	SAYS(&r, "cut");
	in.pages = in.nonzero_pages = pages;
	step(&r, in);
	SAYS(&r, "told:2 sync");
	r.now += 10 * MS;
	in.type = INPUT_SYNCED, in.remaining = in.found = 500;
	double surveys = r.s.converge.dirty_pages_per_s;
	step(&r, in);
	SAYS(&r, "depth:1");
	CU_ASSERT_EQUAL(r.s.state, SOURCE_RESTING);
	CU_ASSERT_DOUBLE_EQUAL(r.s.converge.dirty_pages_per_s, surveys, 1);
	r.now += 5 * MS;
	step(&r, (struct input){ .type = INPUT_TICK, .pages = pages, .nonzero_pages = pages, .stream = -1 });
	SAYS(&r, "round:3");
	r.now += 5 * MS;
	step(&r,
	     (struct input){
		     .type = INPUT_ROUND_SENT, .round = 3, .pages = pages, .nonzero_pages = pages, .found = 250, .stream = -1 });
	SAYS(&r, "told:3 sync");
	step(&r, in);
	SAYS(&r, "depth:0 drain? phase:draining");
	CU_ASSERT_EQUAL(r.s.state, SOURCE_RESTING);
	surveys = r.s.converge.dirty_pages_per_s;
	r.now += 3 * MS;
	step(&r, (struct input){ .type = INPUT_DRAINED, .pages = pages, .nonzero_pages = pages, .stream = -1 });
	SAYS(&r, "sync");
	in.found = 2000; /* in 3 ms: several times as fast */
	step(&r, in);
	SAYS(&r, "");
	CU_ASSERT_EQUAL(r.s.state, SOURCE_SETTLING);
	CU_ASSERT(r.s.converge.dirty_pages_per_s > 1.4 * surveys);
	CU_ASSERT_EQUAL(r.pauses, 0);
	hears(&r, MESSAGE_LANDED);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_PAUSING);
	CU_ASSERT_EQUAL(r.pauses, 1);
}

static void late_surveys_change_nothing(void)
{
	struct rig r;
	uint64_t pages = reach_hard_round(&r, 5000);

	r.s.round++; /* as if another had begun since */
	for (int i = 0; i < 4; i++) {
		step(&r, (struct input){ .type = INPUT_SURVEYED, .round = 2, .remaining = 10, .pages = pages, .stream = -1 });
		SAYS(&r, "");
	}
	reach(&r, SOURCE_COUNTING);
	surveyed(&r, 10, 0, 20000);
	SAYS(&r, "");
	CU_ASSERT_EQUAL(r.s.state, SOURCE_COUNTING);
}

/* A round of a large guest lasts minutes: that it leads nowhere is told, and acted on, within seconds. And limits that are changed count at
 * once. */
static void struggles_within_a_round(void)
{
	struct rig r;
	uint64_t pages = reach_hard_round(&r, 300);
	unsigned warnings = 0;

	r.params.throttle_max = 45;
	for (int i = 0; i < 40 && r.s.throttle < 40; i++) {
		surveyed(&r, 1000000, 0, pages += 50000);
		warnings += count_of(&r.out, ACTION_WARN);
		for (uint32_t k = 0; k < r.out.n; k++) {
			if (r.out.list[k].type != ACTION_WARN)
				continue;
			/* That less is dirtied than gets through, or not much more, is no contradiction: what is expected is told beside the limit. */
			CU_ASSERT_PTR_NOT_NULL(strstr(r.out.list[k].text, "stand still for 1"));
			CU_ASSERT_PTR_NOT_NULL(strstr(r.out.list[k].text, "the limit is 300 ms; "));
			CU_ASSERT(one_line(r.out.list[k].text));
		}
		CU_ASSERT_EQUAL(count_of(&r.out, ACTION_ROUND), 0);
	}
	CU_ASSERT_EQUAL(warnings, 1);
	CU_ASSERT_EQUAL(r.s.throttle, 40);
	/* Two looks of a second each for a step. */
	CU_ASSERT(r.now < 1000ull * MS + 12000ull * MS);
	r.params.throttle_max = 25;
	happens(&r, INPUT_TICK);
	SAYS(&r, "throttle:25");
	r.params.throttle_max = 0;
	happens(&r, INPUT_TICK);
	SAYS(&r, "throttle:0");
	r.params.timeout_ms = 1;
	happens(&r, INPUT_TICK);
	CU_ASSERT_EQUAL(r.s.phase, SLUICE_FAILED);
}

/* Nor does it need much that is dirty: on a slow wire a few pages are enough, and rounds of them are over at once. */
static void struggles_with_few_pages(void)
{
	struct rig r;
	unsigned warnings = 0;
	uint64_t pages = 0, n = 20000;

	reach(&r, SOURCE_ROUND);
	r.params.throttle_max = 45;
	/* A page takes a millisecond. After the first round 500 are dirty, and then always 500 again. */
	for (unsigned i = 0; i < 10; i++, n = 500) {
		struct input in = { .type = INPUT_ROUND_SENT, .found = 250, .remaining = 500, .stream = -1, .round = r.s.round };
		r.now += n * MS;
		in.pages = in.nonzero_pages = in.moved_bytes = pages += n;
		step(&r, in);
		warnings += count_of(&r.out, ACTION_WARN);
		if (r.s.state == SOURCE_COUNTING) {
			in.type = INPUT_SYNCED;
			step(&r, in);
			warnings += count_of(&r.out, ACTION_WARN);
		}
		if (r.s.state == SOURCE_RESTING) {
			r.now = r.s.deadline.at_ns;
			in.type = INPUT_TICK;
			step(&r, in);
		}
		CU_ASSERT_EQUAL(r.s.state, SOURCE_ROUND);
	}
	CU_ASSERT_EQUAL(warnings, 1);
	CU_ASSERT(r.s.warned_fast && !r.s.warned_heavy);
	CU_ASSERT(r.s.throttle >= 30);
}

/* What is told is what the guest was stopped by: with what it wrote since it was counted, and the ways of the last words; not what is known
 * once it stands still, which nobody can act upon any more but the downtime guard. */
static void tells_what_was_expected_when_it_stopped(void)
{
	for (int fits = 0; fits < 2; fits++) {
		struct rig r;
		reach(&r, SOURCE_SETTLING);
		CU_ASSERT_EQUAL(r.s.counted, 10);
		r.s.converge.pages_per_s = 100000;
		r.s.converge.dirty_pages_per_s = 50000;
		r.now += 40ull * MS;
		r.message = (struct message){ .type = MESSAGE_LANDED, .u.landed.round = r.s.round };
		step(&r,
		     (struct input){ .type = INPUT_MESSAGE, .message = &r.message, .round_trip_ns = 20ull * MS, .stream = -1 });
		CU_ASSERT_EQUAL(r.s.state, SOURCE_PAUSING);
		double expected = r.s.expected_ms, most = (10 + 42 * 50) / 100.0 + 30 + r.s.converge.overhead_ms;
		CU_ASSERT(expected > most - 2 && expected <= most + 0.01);
		r.now += 30ull * MS;
		answers(&r, 0);
		answers(&r, 0);
		synced(&r, fits ? 10000 : 30000);
		CU_ASSERT_EQUAL(r.s.state, fits ? SOURCE_LAST_ROUND : SOURCE_TURNING_BACK);
		CU_ASSERT((r.s.expected_ms == expected) == fits);
		CU_ASSERT(fits || r.s.expected_ms > 300); /* it runs on, and that is why */
	}
}

/* What pausing and saving take no round makes less of. That is told: where it keeps the guest from moving, and where nothing does but the
 * limit. */
static void tells_of_stops_that_take_too_long(void)
{
	struct rig r;

	reach(&r, SOURCE_SAVING);
	r.now += 400ull * MS;
	answers(&r, 0);
	synced(&r, 0);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_LAST_ROUND);
	CU_ASSERT_EQUAL(count_of(&r.out, ACTION_WARN), 1);
	/* Loading takes as long as saving. */
	CU_ASSERT_PTR_NOT_NULL(strstr(r.out.list[0].text, "take 80"));

	reach(&r, SOURCE_SAVING);
	r.now += 400ull * MS;
	answers(&r, 0);
	synced(&r, 10);
	CU_ASSERT_EQUAL(r.s.state, SOURCE_TURNING_BACK);
	CU_ASSERT_EQUAL(count_of(&r.out, ACTION_WARN), 0);
	answers(&r, 0);
	unsigned warnings = 0;
	for (int i = 0; i < 100 && !warnings; i++) {
		if (r.s.state == SOURCE_ROUND) {
			round_sent(&r, 10);
		} else if (r.s.state == SOURCE_COUNTING) {
			synced(&r, 10);
			warnings += count_of(&r.out, ACTION_WARN);
		} else {
			CU_ASSERT_EQUAL(r.s.state, SOURCE_RESTING);
			r.now = r.s.deadline.at_ns;
			happens(&r, INPUT_TICK);
		}
	}
	CU_ASSERT_EQUAL(warnings, 1);
	CU_ASSERT(r.s.warned_heavy && !r.s.warned_fast);
	CU_ASSERT_EQUAL(r.s.throttle, 0);
}

SUITE("source", TEST(straight_path), TEST(downtime_guard_goes_on), TEST(closing_sync_must_be_empty), TEST(cancel_in_every_state),
      TEST(loss_in_every_state), TEST(losses_while_giving_up), TEST(wrong_message_in_every_state),
      TEST(word_about_another_attempt), TEST(landed_must_be_possible), TEST(deadline_in_every_state),
      TEST(a_stopped_guest_is_not_left_waiting), TEST(downtime_ends_when_the_guest_runs), TEST(timeout_in_every_state),
      TEST(callback_fails), TEST(resume_that_fails_is_no_success), TEST(silent_embedder), TEST(a_late_answer_has_as_long_again),
      TEST(after_go_only_a_word_decides), TEST(doubt_keeps_everything), TEST(word_on_a_later_link),
      TEST(go_again_as_often_as_it_takes), TEST(rests_between_tries), TEST(no_hot_loop), TEST(old_links_change_nothing),
      TEST(operator_at_any_time), TEST(gives_up_and_tells), TEST(word_while_telling), TEST(refused_for_a_damaged_greeting),
      TEST(telling_ends), TEST(told_on_a_later_link), TEST(lingering_until_closed), TEST(slow_is_not_dead),
      TEST(dirty_rate_is_not_inflated), TEST(holds_before_switchover), TEST(hold_changes_while_stopping),
      TEST(throttles_in_steps_and_lets_go), TEST(cuts_a_round_that_buys_nothing), TEST(a_cut_round_does_not_skip_the_drain),
      TEST(late_surveys_change_nothing), TEST(struggles_within_a_round), TEST(struggles_with_few_pages),
      TEST(tells_what_was_expected_when_it_stopped), TEST(tells_of_stops_that_take_too_long))
