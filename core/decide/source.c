/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source.c: what the source does next.
 *
 *   dial, HELLO, streams, arm, then rounds: ROUND -> (COUNTING -> verdict) -> ROUND ... -> SETTLING
 *   switchover: PAUSING, SAVING, FINAL_SYNC (downtime guard), LAST_ROUND and its closing sync, WAIT_READY, RELEASING, WAIT_RUNNING
 *
 * Every way back before GO ends with the guest running: give_up() waits for an unanswered request, asks for resume if the guest was
 * stopped, and ends; a destination that may have become ready meanwhile is told first. From GO on only RUNNING, NEVER or an operator
 * decide: a link that is lost then is dialled anew, for as long as it takes, and the destination repeats its last word on it. READY says
 * that GO did not arrive, and never will: the destination lets no frame of the old link in once it has taken the new one. */
#include "core/decide/source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	REST_MS = 10,
	REST_PAGES = 1024, /* a round of so few pages is over in no time: rest first */
	SLACK_MS = 5000,   /* beyond the destination's own deadline before its silence is an error */
	CLOSING_ROUNDS_MAX = 4,
	STRUGGLING_ROUNDS = 2, /* in a row, before anything is said or done about it */
	THROTTLE_FIRST = 20,   /* percent, and the steps beyond: as QEMU's cpu-throttle-initial and cpu-throttle-increment */
	THROTTLE_STEP = 10,
	REDIAL_MIN_MS = 250,
	REDIAL_MAX_MS = 4000,
	STOPPED_SLACK_MS =
		3000, /* a guest is not left stopped for longer than twice its limit and this, while it can still resume */
};
#define NEVER_NS UINT64_MAX

static void await(struct source *s, enum source_state state, uint64_t until_ns, const char *what)
{
	s->state = state;
	s->deadline = (struct deadline){ until_ns, what };
}

static uint64_t in_ms(const struct input *in, uint64_t ms)
{
	return in->now_ns + ms * 1000000u;
}

/* The guest stood still for so long because somebody asked for it. */
static uint64_t held_ns(const struct source *s)
{
	return s->continued_ns > s->paused_ns ? s->continued_ns - s->paused_ns : 0;
}

/* Until when the wire and the tracker may take. Where the guest stands still, and can still be resumed, no longer than its limit bears. */
static uint64_t patience(const struct source *s, const struct input *in)
{
	uint64_t usual = in_ms(in, in->params.callback_ms);
	uint64_t bearable = s->pause_ns + held_ns(s) + (2 * in->params.downtime_limit_ms + STOPPED_SLACK_MS) * 1000000u;
	return s->guest_stopped && bearable < usual ? bearable : usual;
}

static double ms_between(uint64_t from, uint64_t to)
{
	return to > from ? (double)(to - from) * 1e-6 : 0;
}

static void enter(struct source *s, struct actions *out, enum sluice_phase phase)
{
	s->phase = phase;
	actions_phase(out, phase);
}

static void ask(struct source *s, const struct input *in, struct actions *out, enum source_state state,
		enum sluice_request request, const char *what)
{
	s->pending = request;
	actions_request(out, request);
	await(s, state, in_ms(in, in->params.callback_ms), what);
}

void source_init(struct source *source)
{
	*source = (struct source){ .deadline = { NEVER_NS, "nothing" } };
	converge_init(&source->converge);
}

bool source_in_doubt(const struct source *s)
{
	return s->state >= SOURCE_APART && s->state <= SOURCE_ASKING && !s->tell_until_ns;
}

bool source_cancellable(const struct source *s)
{
	return s->state < SOURCE_WAIT_RUNNING || s->state == SOURCE_TURNING_BACK;
}

static void throttle(struct source *s, struct actions *out, uint32_t percent)
{
	if (s->throttle == percent)
		return;
	s->throttle = percent;
	s->throttle_most = percent > s->throttle_most ? percent : s->throttle_most;
	actions_add(out, ACTION_THROTTLE)->percent = percent;
}

/* The session is over: tell, and let go of everything. */
static void end(struct source *s, const struct input *in, struct actions *out, enum sluice_phase phase)
{
	throttle(s, out, 0);
	if (!s->ended_ns) /* completed: what follows is only talk */
		s->ended_ns = in->now_ns;
	actions_add(out, ACTION_UNTRACK);
	if (s->phase != phase)
		enter(s, out, phase);
	actions_add(out, ACTION_LINK_CLOSE);
	actions_add(out, ACTION_END);
	await(s, SOURCE_ENDED, NEVER_NS, "nothing");
}

/* A try to tell the destination does not outlast the time there is for that. */
static uint64_t until_told(const struct source *s, uint64_t usual_ns)
{
	return s->tell_until_ns && s->tell_until_ns < usual_ns ? s->tell_until_ns : usual_ns;
}

static void redial(struct source *s, struct actions *out)
{
	s->link_up = s->asked_anew = false;
	actions_add(out, ACTION_DIAL)->link = ++s->dials;
	/* The dial has its own deadline. */
	await(s, SOURCE_REDIALLING, until_told(s, NEVER_NS), "the destination to be reached again");
}

/* No link, or one that says nothing: rest, then try another. */
static void part(struct source *s, const struct input *in, struct actions *out)
{
	if (s->link_up)
		actions_add(out, ACTION_LINK_DROP)->link = s->dials;
	s->link_up = false;
	s->redial_ms = s->redial_ms ? 2 * s->redial_ms : REDIAL_MIN_MS;
	if (s->redial_ms > REDIAL_MAX_MS)
		s->redial_ms = REDIAL_MAX_MS;
	await(s, SOURCE_APART, until_told(s, in_ms(in, s->redial_ms)), "the next try to reach the destination, or an operator");
}

static void tell(struct source *s, struct actions *out)
{
	actions_send_word(out, MESSAGE_CANCEL, s->error_code, s->why);
	await(s, SOURCE_TELLING, s->tell_until_ns, "the destination to let go of the guest");
}

/* That is decided: the guest runs here. A destination that may have become ready would be in doubt: let it know, but not before the
 * guest does run, for it destroys the only other copy. Where resuming failed it is left in doubt, and its operator has a guest to run. */
static void let_know(struct source *s, const struct input *in, struct actions *out, enum sluice_phase phase)
{
	bool tells = s->may_be_ready && !s->guest_stopped;
	if (!tells || !in->params.remember_ms) {
		if (tells && s->link_up)
			actions_send_word(out, MESSAGE_CANCEL, s->error_code, s->why);
		end(s, in, out, phase);
		return;
	}
	s->ended_ns = in->now_ns;
	s->tell_until_ns = in_ms(in, in->params.remember_ms);
	actions_add(out, ACTION_UNTRACK);
	enter(s, out, phase);
	if (s->link_up)
		tell(s, out);
	else
		redial(s, out);
}

/* Leave, with the guest running here. `phase`: FAILED or CANCELLED. */
static void give_up(struct source *s, const struct input *in, struct actions *out, enum sluice_phase phase, int code, int stream,
		    const char *text)
{
	s->error_code = code;
	s->error_phase = s->phase;
	struct action *a = actions_add(out, ACTION_ERROR);
	a->code = code;
	a->stream = stream;
	a->phase = s->phase;
	a->theirs = input_is_word(in);
	snprintf(a->text, sizeof a->text, "%s", text);
	snprintf(s->why, sizeof s->why, "%s", text);
	if (s->link_up && !s->may_be_ready)
		actions_send_word(out, MESSAGE_CANCEL, code, text);
	actions_add(out, ACTION_STREAMS_STOP);
	throttle(s, out, 0); /* before it is resumed */
	s->ends_in = phase;
	if (phase == SLUICE_CANCELLED)
		enter(s, out, SLUICE_CANCELLING);
	if (s->pending == SLUICE_RESUME)
		await(s, SOURCE_GIVING_UP, in_ms(in, in->params.callback_ms), "the embedder to resume the guest");
	else if (s->pending)
		await(s, SOURCE_GIVING_UP, in_ms(in, in->params.callback_ms), "the embedder's answer, before resuming the guest");
	else if (s->guest_stopped)
		ask(s, in, out, SOURCE_GIVING_UP, SLUICE_RESUME, "the embedder to resume the guest");
	else
		let_know(s, in, out, phase);
}

static void fail(struct source *s, const struct input *in, struct actions *out, int code, int stream, const char *text)
{
	give_up(s, in, out, SLUICE_FAILED, code, stream, text);
}

/* GO was handed over, and the link is gone, or makes no sense. Ask again, on another. */
static void doubt(struct source *s, const struct input *in, struct actions *out, const char *why)
{
	struct action *a = actions_add(out, ACTION_ERROR);
	a->code = -EINPROGRESS;
	a->phase = s->phase;
	snprintf(a->text, sizeof a->text,
		 "in doubt whether the destination runs the guest (%.70s). If it cannot be asked: where it runs, resolve this "
		 "side to "
		 "discard; else discard it there first, then resolve this side to run",
		 why);
	actions_add(out, ACTION_STREAMS_STOP);
	enter(s, out, SLUICE_IN_DOUBT);
	if (s->redial_ms) { /* not for the first time: a destination that makes no sense is not asked without a rest */
		part(s, in, out);
	} else {
		s->redial_ms = REDIAL_MIN_MS / 2;
		redial(s, out);
	}
}

static void open_round(struct source *s, const struct input *in, struct actions *out, bool fetched, bool last)
{
	s->round++;
	s->round_opened_ns = in->now_ns;
	s->round_pages_before = in->pages;
	s->round_sync_ns = fetched ? in->sync_ns : 0;
	s->round_dirty = fetched ? in->remaining : 0;
	converge_open(&s->converge, in->now_ns, in->pages, in->nonzero_pages);
	struct action *a = actions_add(out, ACTION_ROUND);
	a->round = s->round;
	a->fetched = fetched;
	a->last = last;
	s->last_sent = false;
	await(s, last ? SOURCE_LAST_ROUND : SOURCE_ROUND, patience(s, in),
	      last ? "the last round to get through" : "pages to get through");
}

static void close_round(struct source *s, const struct input *in, struct actions *out, bool last)
{
	converge_sent(&s->converge, in->now_ns, in->pages, in->nonzero_pages);
	struct sluice_round *r = &actions_add(out, ACTION_ROUND_EVENT)->round_info;
	*r = (struct sluice_round){
		.n = s->round,
		.final_round = last,
		.ms = (uint64_t)(ms_between(s->round_opened_ns, in->now_ns) + 0.5),
		.pages = in->pages - s->round_pages_before,
		.dirty_pages = s->round_dirty ? s->round_dirty : in->found,
		.sync_ms = (double)(s->round_sync_ns ? s->round_sync_ns : in->sync_ns) * 1e-6,
	};
}

static void sync(struct source *s, const struct input *in, struct actions *out, enum source_state state, const char *what)
{
	actions_add(out, ACTION_SYNC);
	await(s, state, patience(s, in), what);
}

/* Another round is to be sent. Is it any use? */
static void struggle(struct source *s, const struct input *in, struct actions *out, uint64_t remaining)
{
	s->expected_ms = converge_expected_ms(&s->converge, remaining, s->state_bytes);
	if (!converge_struggles(&s->converge) || s->expected_ms <= (double)in->params.downtime_limit_ms)
		s->struggling = 0;
	else
		s->struggling++;
	if (s->struggling < STRUGGLING_ROUNDS)
		return;
	if (!s->warned) {
		s->warned = true;
		snprintf(actions_add(out, ACTION_WARN)->text, SLUICE_ERROR_MAX,
			 "the guest does not converge: it dirties %.0f MB/s, %.0f MB/s get through, its downtime would be %.0f "
			 "ms; allow "
			 "more downtime, bandwidth or throttling",
			 s->converge.dirty_pages_per_s * 4096e-6, s->converge.pages_per_s * 4096e-6, s->expected_ms);
	}
	if (s->throttle < in->params.throttle_max) {
		uint32_t next = s->throttle ? s->throttle + THROTTLE_STEP : THROTTLE_FIRST;
		throttle(s, out, next < in->params.throttle_max ? next : in->params.throttle_max);
		s->struggling = 0; /* see what it does */
	}
}

static void round_sent(struct source *s, const struct input *in, struct actions *out)
{
	close_round(s, in, out, false);
	/* Where the round fetched for itself, that was spread over it: in the middle, on average. The first round's finds are all of
	 * memory, not what was written meanwhile. */
	uint64_t middle_ns = s->round_opened_ns + (in->now_ns - s->round_opened_ns) / 2;
	if (s->round == 1)
		s->converge.fetched_ns = middle_ns;
	else if (!s->round_dirty)
		converge_found(&s->converge, middle_ns, in->found);
	if (converge_near(&s->converge, in->params.downtime_limit_ms)) {
		sync(s, in, out, SOURCE_COUNTING, "the dirty log");
	} else {
		struggle(s, in, out, (uint64_t)(s->converge.dirty_pages_per_s * s->converge.last_round_ms * 1e-3));
		open_round(s, in, out, false, false);
	}
}

static void pause_guest(struct source *s, const struct input *in, struct actions *out)
{
	s->device_tries++;
	s->pause_ns = in->now_ns;
	s->paused_ns = s->continued_ns = 0;
	s->guest_stopped = true;
	if (!in->params.hold)
		enter(s, out, SLUICE_DEVICE);
	ask(s, in, out, SOURCE_PAUSING, SLUICE_PAUSE, "the embedder to stop the guest");
}

static void counted(struct source *s, const struct input *in, struct actions *out)
{
	converge_found(&s->converge, in->now_ns, in->found);
	if (s->loss.until_ns)
		return; /* about to fail: the guest is not stopped for that */
	s->expected_ms = converge_expected_ms(&s->converge, in->remaining, s->state_bytes);
	if (converge_judge(&s->converge, in->remaining, s->state_bytes, in->params.downtime_limit_ms) == VERDICT_SWITCHOVER) {
		if (s->landed >= s->round)
			pause_guest(s, in, out);
		else
			await(s, SOURCE_SETTLING, in_ms(in, in->params.callback_ms), "the destination to land what was sent");
	} else if (in->remaining < REST_PAGES) {
		await(s, SOURCE_RESTING, in_ms(in, REST_MS), "the guest to write more");
	} else {
		struggle(s, in, out, in->remaining);
		open_round(s, in, out, true, false);
	}
}

/* The guest is stopped and all its dirty pages are known: does what is left fit the limit? */
static void final_synced(struct source *s, const struct input *in, struct actions *out)
{
	s->synced_ns = in->now_ns;
	s->final_remaining = in->remaining;
	double so_far = ms_between(s->pause_ns + held_ns(s), in->now_ns);
	s->expected_ms = so_far + converge_pages_ms(&s->converge, in->remaining, s->state_bytes) + CONVERGE_TAIL_MS;
	if (s->expected_ms > (double)in->params.downtime_limit_ms && in->remaining) {
		s->converge.tries++;
		s->converge.overhead_ms = so_far + CONVERGE_TAIL_MS; /* what pausing, saving and counting really take here */
		ask(s, in, out, SOURCE_TURNING_BACK, SLUICE_RESUME, "the embedder to resume the guest");
		return;
	}
	open_round(s, in, out, true, true);
}

/* All of the last round is on the wire. While its tail lands, look once more. */
static void last_round_sent(struct source *s, const struct input *in, struct actions *out)
{
	close_round(s, in, out, true);
	s->last_sent = true;
	s->sent_ns = in->now_ns;
	sync(s, in, out, SOURCE_LAST_ROUND, "the closing sync");
}

/* Once all has landed it is the destination's embedder that takes its time, to load. */
static void await_load(struct source *s, const struct input *in)
{
	if (s->state == SOURCE_WAIT_READY && s->landed >= s->round)
		await(s, SOURCE_WAIT_READY, in_ms(in, in->params.callback_ms + SLACK_MS), "the destination to load device state");
}

/* What the closing sync finds is a write that nobody should have made: it is sent, and looked for again. */
static void closing_synced(struct source *s, const struct input *in, struct actions *out)
{
	if (!s->last_sent)
		return;
	if (!in->remaining) {
		actions_send(out, MESSAGE_SWITCHOVER);
		s->may_be_ready = true;
		await(s, SOURCE_WAIT_READY, patience(s, in), "the destination to land the last round");
		await_load(s, in);
	} else if (s->closing_rounds++ < CLOSING_ROUNDS_MAX) {
		open_round(s, in, out, true, true);
	} else {
		fail(s, in, out, -EBUSY, -1,
		     "guest memory is still being written though the guest was paused: pause must stop "
		     "every writer and mark what it wrote before it is done");
	}
}

static void synced(struct source *s, const struct input *in, struct actions *out)
{
	/* Late, while giving up; and after GO no dirty log may make the guest run here. */
	if (s->state >= SOURCE_WAIT_RUNNING && s->state != SOURCE_TURNING_BACK)
		return;
	if (in->code) {
		fail(s, in, out, in->code, -1, in->text ? in->text : "the dirty log failed");
		return;
	}
	switch (s->state) {
	case SOURCE_COUNTING: counted(s, in, out); break;
	case SOURCE_FINAL_SYNC: final_synced(s, in, out); break;
	case SOURCE_LAST_ROUND: closing_synced(s, in, out); break;
	default: /* of a round */ break;
	}
}

static void completed(struct source *s, const struct input *in, struct actions *out)
{
	s->running_ns = s->ended_ns = in->now_ns;
	throttle(s, out, 0);
	actions_send(out, MESSAGE_DONE);
	actions_add(out, ACTION_STREAMS_STOP);
	actions_add(out, ACTION_UNTRACK);
	enter(s, out, SLUICE_COMPLETED);
	await(s, SOURCE_LINGERING, NEVER_NS, "the embedder to close the session");
}

/* The guest stands still, and whoever wanted to do something about that has done it. */
static void save(struct source *s, const struct input *in, struct actions *out)
{
	s->continued_ns = in->now_ns;
	if (s->phase != SLUICE_DEVICE)
		enter(s, out, SLUICE_DEVICE);
	ask(s, in, out, SOURCE_SAVING, SLUICE_SAVE, "the embedder to save device state");
}

/* From here on the guest is the destination's unless it says NEVER. */
static void go(struct source *s, const struct input *in, struct actions *out)
{
	actions_send(out, MESSAGE_GO);
	await(s, SOURCE_WAIT_RUNNING, in_ms(in, 2 * in->params.callback_ms + SLACK_MS), "the destination to run the guest");
}

/* An operator said run, and the embedder has done so, or not. */
static void reclaimed(struct source *s, const struct input *in, struct actions *out, int code)
{
	struct action *a = actions_add(out, ACTION_ERROR);
	a->code = s->error_code = code ? code : -ECANCELED;
	a->phase = s->phase;
	if (code)
		snprintf(s->why, sizeof s->why, "an operator said that the guest is to run here, and resuming it failed: %.100s",
			 strerror(-code));
	else
		snprintf(s->why, sizeof s->why, "an operator said that the guest runs here: the migration is over");
	snprintf(a->text, sizeof a->text, "%s", s->why);
	let_know(s, in, out, SLUICE_FAILED);
}

static void request_done(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	s->pending = 0;
	if (in->request == SLUICE_RESUME && !in->code)
		s->guest_stopped = false;
	if (s->state == SOURCE_GIVING_UP) {
		if (in->request != SLUICE_RESUME && s->guest_stopped)
			ask(s, in, out, SOURCE_GIVING_UP, SLUICE_RESUME, "the embedder to resume the guest");
		else /* CANCELLED says that the guest runs */
			let_know(s, in, out, s->guest_stopped ? SLUICE_FAILED : s->ends_in);
		return;
	}
	if (s->tell_until_ns || s->state == SOURCE_LINGERING)
		return; /* answered too late: it is over */
	if (s->state == SOURCE_RECLAIMING) {
		reclaimed(s, in, out, in->code);
		return;
	}
	if (in->code) {
		static const char *const verbs[] = {
			[SLUICE_PAUSE] = "pause",
			[SLUICE_SAVE] = "save",
			[SLUICE_RELEASE] = "release",
			[SLUICE_RESUME] = "resume",
		};
		snprintf(text, sizeof text, "the source's %s callback failed: %s", verbs[in->request], strerror(-in->code));
		fail(s, in, out, in->code, -1, text);
		return;
	}
	switch (in->request) {
	case SLUICE_PAUSE:
		s->paused_ns = in->now_ns;
		if (in->params.hold) {
			enter(s, out, SLUICE_PRE_SWITCHOVER);
			await(s, SOURCE_HOLDING, in_ms(in, in->params.callback_ms), "the embedder to continue");
		} else {
			save(s, in, out);
		}
		break;
	case SLUICE_SAVE:
		s->saved_ns = in->now_ns;
		s->state_bytes = in->state_bytes;
		sync(s, in, out, SOURCE_FINAL_SYNC, "the dirty log, guest stopped");
		break;
	case SLUICE_RELEASE: go(s, in, out); break;
	case SLUICE_RESUME: /* turned back by the downtime guard */
		enter(s, out, SLUICE_ACTIVE);
		open_round(s, in, out, false, false);
		break;
	default: break;
	}
}

/* The destination does not have the guest, and never will. */
static void never(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	s->may_be_ready = s->link_up = false;
	actions_send(out, MESSAGE_BYE);
	if (s->state == SOURCE_GIVING_UP)
		return;
	if (s->state == SOURCE_TELLING) {
		end(s, in, out, s->phase);
		return;
	}
	snprintf(text, sizeof text, "the destination could not run the guest: %.210s", in->message->u.word.text);
	fail(s, in, out, in->message->u.word.code, -1, text);
}

/* READY: on the link that SWITCHOVER went by, or on a later one, where it means that GO did not arrive. */
static bool ready(struct source *s, const struct input *in, struct actions *out)
{
	if (s->state == SOURCE_TELLING) {
		if (s->asked_anew)
			tell(s, out);
	} else if (s->state == SOURCE_WAIT_READY) {
		s->ready_ns = in->now_ns;
		ask(s, in, out, SOURCE_RELEASING, SLUICE_RELEASE, "the embedder to release the disks");
	} else if (s->state == SOURCE_WAIT_RUNNING && s->asked_anew) {
		s->asked_anew = false;
		go(s, in, out);
	} else {
		return false;
	}
	return true;
}

/* A later link is up, and knows us. What the destination said last comes next. */
static void answered(struct source *s, const struct input *in, struct actions *out)
{
	s->asked_anew = s->may_be_ready = true; /* whoever said earlier that it does not know us was another */
	if (s->tell_until_ns) {
		await(s, SOURCE_TELLING, s->tell_until_ns, "the destination to let go of the guest");
		return;
	}
	actions_add(out, ACTION_ERROR);
	enter(s, out, SLUICE_DEVICE);
	await(s, SOURCE_WAIT_RUNNING, in_ms(in, 2 * in->params.callback_ms + SLACK_MS), "the destination's last word");
}

/* Messages that may come. Returns false for one that does not belong where we are. */
static bool expected(struct source *s, const struct input *in, struct actions *out)
{
	const struct message *m = in->message;
	char text[SLUICE_ERROR_MAX];
	switch (m->type) {
	case MESSAGE_WELCOME:
		if (s->state != SOURCE_OFFERED)
			return false;
		actions_add(out, ACTION_ADOPT);
		actions_add(out, ACTION_STREAMS_START);
		await(s, SOURCE_GATHERING, in_ms(in, in->params.connect_ms + 1000), "the data streams to connect");
		return true;
	case MESSAGE_REFUSE:
		if (s->state == SOURCE_ASKING) {
			/* It was started again, or another listens there: not that it never ran the guest. */
			s->may_be_ready = false;
			if (s->tell_until_ns)
				end(s, in, out, s->phase);
			else
				part(s, in, out);
			return true;
		}
		if (s->state != SOURCE_OFFERED)
			return false;
		s->link_up = false;
		snprintf(text, sizeof text, "the destination refused: %.230s", m->u.word.text);
		fail(s, in, out, m->u.word.code, -1, text);
		return true;
	case MESSAGE_STREAMS_UP:
		if (s->state != SOURCE_GATHERING)
			return false;
		actions_add(out, ACTION_ARM);
		await(s, SOURCE_ARMING, in_ms(in, in->params.callback_ms), "the dirty tracker to start");
		return true;
	case MESSAGE_LANDED:
		if (m->u.landed.round > s->round || m->u.landed.round < s->landed)
			return false;
		if (m->u.landed.round > s->landed) { /* a report that repeats itself does not buy time */
			s->landed = m->u.landed.round;
			await_load(s, in);
		}
		if (s->state == SOURCE_SETTLING && s->landed >= s->round && !s->loss.until_ns)
			pause_guest(s, in, out);
		return true;
	case MESSAGE_READY: return m->u.handoff.attempt == s->round && ready(s, in, out);
	case MESSAGE_RUNNING:
		if (s->state != SOURCE_WAIT_RUNNING || m->u.handoff.attempt != s->round)
			return false;
		completed(s, in, out);
		return true;
	case MESSAGE_NEVER:
		if (s->state != SOURCE_TELLING && s->state != SOURCE_GIVING_UP &&
		    ((s->state != SOURCE_WAIT_RUNNING && s->state != SOURCE_WAIT_READY && s->state != SOURCE_RELEASING) ||
		     m->u.word.attempt != s->round))
			return false;
		never(s, in, out);
		return true;
	case MESSAGE_CANCEL:
		if (s->state >= SOURCE_WAIT_RUNNING && s->state != SOURCE_TURNING_BACK && s->state != SOURCE_GIVING_UP)
			return false;
		s->may_be_ready = s->link_up = false;
		if (s->state == SOURCE_GIVING_UP)
			return true;
		snprintf(text, sizeof text, "the destination gave up: %.225s", m->u.word.text);
		fail(s, in, out, m->u.word.code, -1, text);
		return true;
	case MESSAGE_BYE:
		if (s->state != SOURCE_LINGERING)
			return false;
		end(s, in, out, SLUICE_COMPLETED);
		return true;
	case MESSAGE_ANSWER:
		if (s->state != SOURCE_ASKING)
			return false;
		answered(s, in, out);
		return true;
	default: return false;
	}
}

static void message(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	if (in->code && source_cancellable(s)) { /* it does not fit what was agreed on */
		fail(s, in, out, in->code, -1, in->text);
		return;
	}
	if (expected(s, in, out))
		return;
	snprintf(text, sizeof text,
		 "the destination sent %s, which does not belong in phase %s: use the same version on both sides",
		 message_name(in->message->type), sluice_phase_name(s->phase));
	if (s->state == SOURCE_WAIT_RUNNING)
		doubt(s, in, out, "a message out of place");
	else if (s->state == SOURCE_ASKING)
		part(s, in, out);
	else if (s->state < SOURCE_WAIT_RUNNING || s->state == SOURCE_TURNING_BACK)
		fail(s, in, out, -EPROTO, -1, text);
	/* else: late words change nothing */
}

static void lost(struct source *s, const struct input *in, struct actions *out)
{
	if (in->type == INPUT_STREAM_LOST) {
		/* Once all was sent, the destination says CANCEL if it misses something. */
		if (s->state < SOURCE_WAIT_READY || s->state == SOURCE_TURNING_BACK)
			stream_loss_note(&s->loss, in);
		return;
	}
	s->link_up = false;
	if (s->state == SOURCE_WAIT_RUNNING) {
		doubt(s, in, out, link_loss_cause(in));
	} else if (s->state == SOURCE_LINGERING) {
		end(s, in, out, SLUICE_COMPLETED);
	} else if (s->tell_until_ns && (in->code == -ECONNREFUSED || in->code == -ENOENT || in->now_ns >= s->tell_until_ns)) {
		end(s, in, out, s->phase); /* nobody is there who could be in doubt, or it took too long */
	} else if (s->state == SOURCE_TELLING || s->state == SOURCE_REDIALLING || s->state == SOURCE_ASKING) {
		part(s, in, out);
	} else if (s->state < SOURCE_WAIT_RUNNING || s->state == SOURCE_TURNING_BACK) {
		fail(s, in, out, in->code, in->stream, in->text);
	}
}

static void tick(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	bool late = in->now_ns >= s->deadline.at_ns;
	bool moving = s->state == SOURCE_ROUND || s->state == SOURCE_SETTLING;
	if (late && moving && in->now_ns - s->progress_ns < in->params.callback_ms * 1000000u) {
		/* Slow is not dead: only a wire that carried nothing at all for so long is given up. */
		s->deadline.at_ns = s->progress_ns + in->params.callback_ms * 1000000u;
		late = false;
	}
	if (s->loss.until_ns && in->now_ns >= s->loss.until_ns &&
	    (s->state < SOURCE_WAIT_READY || s->state == SOURCE_TURNING_BACK)) {
		fail(s, in, out, s->loss.code, s->loss.stream, s->loss.text);
	} else if (in->params.timeout_ms && source_cancellable(s) && s->state != SOURCE_NEW &&
		   in->now_ns - s->started_ns >= in->params.timeout_ms * 1000000u) {
		double seconds = (double)(in->now_ns - s->started_ns) * 1e-9;
		int n = snprintf(text, sizeof text, "gave up after %.1f s as asked, in round %u: %.0f MB/s got through", seconds,
				 s->round, (double)in->pages * 4096e-6 / seconds);
		if (s->converge.dirty_pages_per_s > 0) /* known */
			n += snprintf(text + n, sizeof text - (size_t)n, ", the guest dirties about %.0f MB/s",
				      s->converge.dirty_pages_per_s * 4096e-6);
		snprintf(text + n, sizeof text - (size_t)n, "; allow more time, downtime or bandwidth");
		fail(s, in, out, -ETIMEDOUT, -1, text);
	} else if (!late) {
		return;
	} else if (s->tell_until_ns && in->now_ns >= s->tell_until_ns) {
		end(s, in, out, s->phase);
	} else if (s->state == SOURCE_APART) {
		redial(s, out);
	} else if (s->state == SOURCE_ASKING) {
		part(s, in, out);
	} else if (s->state == SOURCE_RESTING) {
		open_round(s, in, out, false, false);
	} else if (s->state == SOURCE_WAIT_RUNNING) {
		doubt(s, in, out, "it does not answer");
	} else if (s->state == SOURCE_GIVING_UP && s->pending != SLUICE_RESUME) {
		ask(s, in, out, SOURCE_GIVING_UP, SLUICE_RESUME, "the embedder to resume the guest");
	} else if (s->state == SOURCE_RECLAIMING) {
		reclaimed(s, in, out, -ETIMEDOUT);
	} else if (s->state == SOURCE_GIVING_UP) {
		let_know(s, in, out, SLUICE_FAILED);
	} else if (s->state < SOURCE_WAIT_RUNNING || s->state == SOURCE_TURNING_BACK) {
		snprintf(text, sizeof text, "waited too long for %s: see what it does, or allow more time", s->deadline.what);
		fail(s, in, out, -ETIMEDOUT, -1, text);
	}
}

/* An operator's word. A link that is just being tried is too late. */
static void resolve(struct source *s, const struct input *in, struct actions *out)
{
	if (!source_in_doubt(s))
		return;
	if (!in->value) {
		actions_add(out, ACTION_ERROR);
		end(s, in, out, SLUICE_COMPLETED);
		return;
	}
	actions_add(out, ACTION_LINK_DROP)->link = s->dials;
	s->link_up = false;
	actions_add(out, ACTION_ERROR);
	throttle(s, out, 0);
	ask(s, in, out, SOURCE_RECLAIMING, SLUICE_RESUME, "the embedder to resume the guest");
}

static void start(struct source *s, const struct input *in, struct actions *out)
{
	s->started_ns = in->now_ns;
	enter(s, out, SLUICE_SETUP);
	actions_add(out, ACTION_DIAL)->link = ++s->dials;
	await(s, SOURCE_DIALLING, NEVER_NS, "the link to connect"); /* the dial has its own deadline */
}

void source_step(struct source *s, const struct input *in, struct actions *out)
{
	if (s->state == SOURCE_ENDED || (in->link && in->link != s->dials)) /* of a link that was given up */
		return;
	if (in->moved_bytes != s->moved_bytes) {
		s->moved_bytes = in->moved_bytes;
		s->progress_ns = in->now_ns;
	}
	switch (in->type) {
	case INPUT_START: start(s, in, out); break;
	case INPUT_LINK_UP:
		s->link_up = s->state == SOURCE_REDIALLING || s->state == SOURCE_DIALLING; /* else it is not wanted any more */
		if (s->state == SOURCE_REDIALLING) {
			await(s, SOURCE_ASKING, until_told(s, in_ms(in, in->params.connect_ms)),
			      "the destination's answer on a new link");
		} else if (s->state == SOURCE_DIALLING) {
			actions_send(out, MESSAGE_HELLO);
			await(s, SOURCE_OFFERED, in_ms(in, in->params.callback_ms + SLACK_MS),
			      "the destination's answer to the offer");
		}
		break;
	case INPUT_ARMED:
		if (s->state != SOURCE_ARMING)
			break;
		if (in->code) {
			fail(s, in, out, in->code, -1, in->text);
			break;
		}
		s->active_ns = in->now_ns;
		enter(s, out, SLUICE_ACTIVE);
		open_round(s, in, out, false, false);
		break;
	case INPUT_ROUND_SENT:
		if (s->state == SOURCE_ROUND && in->round == s->round) {
			round_sent(s, in, out);
		} else if (s->state == SOURCE_LAST_ROUND && in->round == s->round) {
			last_round_sent(s, in, out);
		}
		break;
	case INPUT_SYNCED: synced(s, in, out); break;
	case INPUT_MESSAGE: message(s, in, out); break;
	case INPUT_LINK_LOST:
	case INPUT_STREAM_LOST: lost(s, in, out); break;
	case INPUT_DONE:
		if (s->pending && in->request == s->pending)
			request_done(s, in, out);
		break;
	case INPUT_CANCEL:
		if (source_cancellable(s))
			give_up(s, in, out, SLUICE_CANCELLED, -ECANCELED, -1, "cancelled");
		break;
	case INPUT_CLOSE:
		if (s->state == SOURCE_LINGERING) {
			actions_send(out, MESSAGE_BYE);
			end(s, in, out, SLUICE_COMPLETED);
		} else if (s->tell_until_ns) {
			end(s, in, out, s->phase);
		}
		break;
	case INPUT_CONTINUE:
		if (s->state == SOURCE_HOLDING)
			save(s, in, out);
		break;
	case INPUT_RESOLVE: resolve(s, in, out); break;
	case INPUT_TICK: tick(s, in, out); break;
	default: break;
	}
}
