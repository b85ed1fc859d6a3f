/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source.c: what the source does next.
 *
 *   dial, HELLO, streams, arm, then rounds: ROUND -> (COUNTING -> verdict) -> ROUND ... -> SETTLING
 *   switchover: PAUSING, SAVING, FINAL_SYNC (downtime guard), LAST_ROUND and its closing sync, WAIT_READY, RELEASING, WAIT_RUNNING
 *
 * precopy is in source_rounds.c, every way out but the good one in source_leave.c. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/decide/source_steps.h"

enum {
	CLOSING_ROUNDS_MAX = 4,
	/* A guest is not left stopped for longer than twice its limit and this, while it can still resume. */
	STOPPED_SLACK_MS = 3000,
};

/* The guest stood still for so long because somebody asked for it. */
static uint64_t held_ns(const struct source *s)
{
	return s->continued_ns > s->paused_ns ? s->continued_ns - s->paused_ns : 0;
}

/* Until when the wire and the tracker may take. Where the guest stands still, and can still be resumed, no longer than its limit bears; what
 * the embedder took to stop and to save it is not theirs. */
uint64_t source_patience(const struct source *s, const struct input *in)
{
	uint64_t usual = in_ms(in, in->params.callback_ms);
	uint64_t since_ns = s->continued_ns > s->pause_ns ? s->continued_ns : s->pause_ns;
	since_ns = s->saved_ns > since_ns ? s->saved_ns : since_ns;
	uint64_t bearable = since_ns + (2 * in->params.downtime_limit_ms + STOPPED_SLACK_MS) * 1000000u;
	return s->guest_stopped && bearable < usual ? bearable : usual;
}

void source_init(struct source *source)
{
	*source = (struct source){ .deadline = { NEVER_NS, "nothing" } };
	converge_init(&source->converge);
	drain_init(&source->drain);
}

uint64_t source_wake_ns(const struct source *s)
{
	uint64_t drain_ns = s->state < SOURCE_WAIT_RUNNING ? drain_next_ns(&s->drain) : NEVER_NS;
	return drain_ns < s->deadline.at_ns ? drain_ns : s->deadline.at_ns;
}

void source_throttle(struct source *s, struct actions *out, uint32_t percent)
{
	if (s->throttle == percent)
		return;
	s->throttle = percent;
	s->throttle_most = percent > s->throttle_most ? percent : s->throttle_most;
	actions_add(out, ACTION_THROTTLE)->percent = percent;
}

void source_sync(struct source *s, const struct input *in, struct actions *out, enum source_state state, const char *what)
{
	actions_add(out, ACTION_SYNC);
	await(s, state, source_patience(s, in), what);
}

void source_pause(struct source *s, const struct input *in, struct actions *out)
{
	s->device_tries++;
	s->pause_ns = in->now_ns;
	s->paused_ns = s->continued_ns = 0;
	s->guest_stopped = true;
	/* What was written since the count goes in the last round too. Its tail, READY and GO are on their way one after the other; no round
	 * makes less of that, so it is told, and not judged by. The figure stays, to be held against the downtime. */
	uint64_t pages = s->counted + converge_written(&s->converge, in->now_ns);
	s->expected_ms = converge_expected_ms(&s->converge, pages, s->state_bytes) + 1.5e-6 * (double)in->round_trip_ns;
	drain_bind(&s->drain, in);
	if (!in->params.hold)
		enter(s, out, SLUICE_DEVICE);
	ask(s, in, out, SOURCE_PAUSING, SLUICE_PAUSE, "the embedder to stop the guest");
}

/* Not now: the guest runs on. */
static void turn_back(struct source *s, const struct input *in, struct actions *out, bool io_in_flight)
{
	drain_release(&s->drain, in, out, io_in_flight);
	ask(s, in, out, SOURCE_TURNING_BACK, SLUICE_RESUME, "the embedder to resume the guest");
}

/* The guest is stopped and all its dirty pages are known: does what is left fit the limit? */
static void final_synced(struct source *s, const struct input *in, struct actions *out)
{
	s->synced_ns = in->now_ns;
	double so_far = ms_between(s->pause_ns + held_ns(s), in->now_ns);
	double save_ms = ms_between(s->continued_ns, s->saved_ns);
	double stands_ms = converge_stopped(&s->converge, so_far, save_ms, in->remaining, s->state_bytes);
	if (stands_ms > (double)in->params.downtime_limit_ms) {
		converge_in_vain(&s->converge, so_far, save_ms);
		if (in->remaining) {
			s->expected_ms = stands_ms;
			turn_back(s, in, out, false);
			return;
		}
		source_warn_heavy(s, in, out); /* no round will ever make it better */
	}
	source_round_open(s, in, out, true, true);
}

/* All of the last round is on the wire. While its tail lands, look once more. */
static void last_round_sent(struct source *s, const struct input *in, struct actions *out)
{
	source_round_close(s, in, out, true);
	s->last_sent = true;
	s->sent_ns = in->now_ns;
	source_sync(s, in, out, SOURCE_LAST_ROUND, "the closing sync");
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
		await(s, SOURCE_WAIT_READY, source_patience(s, in), "the destination to land the last round");
		await_load(s, in);
	} else if (s->closing_rounds++ < CLOSING_ROUNDS_MAX) {
		source_round_open(s, in, out, true, true);
	} else {
		source_fail(s, in, out, -EBUSY, -1,
			    "guest memory is still being written though the guest was paused: pause must stop "
			    "every writer and mark what it wrote before it is done");
	}
}

static void synced(struct source *s, const struct input *in, struct actions *out)
{
	/* Late, while giving up; and after GO no dirty log may make the guest run here. */
	if (s->state >= SOURCE_WAIT_RUNNING)
		return;
	if (in->code) {
		source_fail(s, in, out, in->code, -1, in->text ? in->text : "the dirty log failed");
		return;
	}
	switch (s->state) {
	case SOURCE_COUNTING: source_counted(s, in, out); break;
	case SOURCE_FINAL_SYNC: final_synced(s, in, out); break;
	case SOURCE_LAST_ROUND: closing_synced(s, in, out); break;
	default: /* of a round */ break;
	}
}

static void completed(struct source *s, const struct input *in, struct actions *out)
{
	/* The guest that runs there keeps this word waiting, so the word says for how long the guest stood still; it is no truer than what
	 * we know ourselves: that it did not run before we heard READY, and does now. */
	uint64_t stood_ns = in->message->u.handoff.ns, most_ns = in->now_ns - s->paused_ns, least_ns = s->ready_ns - s->paused_ns;
	s->running_ns = s->paused_ns + (!stood_ns || stood_ns > most_ns ? most_ns : stood_ns < least_ns ? least_ns : stood_ns);
	s->ended_ns = in->now_ns;
	source_throttle(s, out, 0);
	actions_send(out, MESSAGE_DONE);
	actions_add(out, ACTION_STREAMS_STOP);
	actions_add(out, ACTION_UNTRACK);
	enter(s, out, SLUICE_COMPLETED);
	await(s, SOURCE_LINGERING, NEVER_NS, "the embedder to close the session");
}

/* The guest stands still, and whoever wanted to do something about that has done it. */
static void save(struct source *s, const struct input *in, struct actions *out)
{
	if (s->phase != SLUICE_DEVICE)
		enter(s, out, SLUICE_DEVICE);
	ask(s, in, out, SOURCE_SAVING, SLUICE_SAVE, "the embedder to save device state");
}

/* The stopped guest's I/O was at rest, and something may have come in between. */
static void check(struct source *s, const struct input *in, struct actions *out)
{
	s->continued_ns = in->now_ns;
	if (!in->params.drain.given) {
		save(s, in, out);
		return;
	}
	drain_check(&s->drain, out);
	await(s, SOURCE_CHECKING, source_patience(s, in), "the embedder to say whether the guest's I/O is at rest");
}

static void drained(struct source *s, const struct input *in, struct actions *out)
{
	bool at_rest = drain_answered(&s->drain, in, out);
	if (s->state == SOURCE_CHECKING && !in->code)
		save(s, in, out);
	else if (s->state == SOURCE_CHECKING)
		turn_back(s, in, out, true);
	else if (s->state == SOURCE_RESTING && at_rest)
		source_count(s, in, out);
	else if (s->state == SOURCE_ROUND && at_rest)
		source_cut(s, out); /* the guest has no disk until it is over */
}

/* Windows open and end as they will: the phase says so, and there may have been enough of them. */
static void follow_drain(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	bool open = s->drain.state >= DRAIN_QUIET;
	if (s->phase == (open ? SLUICE_ACTIVE : SLUICE_DRAINING))
		enter(s, out, open ? SLUICE_DRAINING : SLUICE_ACTIVE);
	if (open || !in->params.drain.fails || !drain_spent(&s->drain, in))
		return;
	s->drain.gave_up = true;
	snprintf(text, sizeof text,
		 "the guest's I/O did not come to rest in %u windows within %.1f s: look for a slow disk, or allow longer "
		 "windows or more tries",
		 s->drain.busy, ms_between(s->drain.first_ns, in->now_ns) * 1e-3);
	source_fail(s, in, out, -EBUSY, -1, text);
}

/* From here on the guest is the destination's unless it says NEVER. */
static void go(struct source *s, const struct input *in, struct actions *out)
{
	actions_send(out, MESSAGE_GO);
	source_await_running(s, in, "the destination to run the guest");
}

void source_await_running(struct source *s, const struct input *in, const char *what)
{
	await(s, SOURCE_WAIT_RUNNING, in_ms(in, 2 * in->params.callback_ms + SLACK_MS), what);
}

static void request_done(struct source *s, const struct input *in, struct actions *out)
{
	static const char *const verbs[] = {
		[SLUICE_PAUSE] = "pause",
		[SLUICE_SAVE] = "save",
		[SLUICE_RELEASE] = "release",
		[SLUICE_RESUME] = "resume",
	};
	char text[SLUICE_ERROR_MAX];
	if (in->code) {
		snprintf(text, sizeof text, "the source's %s callback failed: %s", verbs[in->request], strerror(-in->code));
		source_fail(s, in, out, in->code, -1, text);
		return;
	}
	switch (in->request) {
	case SLUICE_PAUSE:
		s->paused_ns = in->now_ns;
		if (in->params.hold && s->phase != SLUICE_DEVICE) { /* who asks to hold from DEVICE on is too late */
			enter(s, out, SLUICE_PRE_SWITCHOVER);
			await(s, SOURCE_HOLDING, in_ms(in, in->params.callback_ms), "the embedder to continue");
			break;
		}
		if (s->phase != SLUICE_DEVICE) /* it is not to hold any more */
			enter(s, out, SLUICE_DEVICE);
		check(s, in, out);
		break;
	case SLUICE_SAVE:
		s->saved_ns = in->now_ns;
		s->state_bytes = in->state_bytes;
		source_sync(s, in, out, SOURCE_FINAL_SYNC, "the dirty log, guest stopped");
		break;
	case SLUICE_RELEASE: go(s, in, out); break;
	case SLUICE_RESUME: /* turned back by the downtime guard */
		enter(s, out, SLUICE_ACTIVE);
		source_round_open(s, in, out, false, false);
		break;
	default: break;
	}
}

static void landed(struct source *s, const struct input *in, struct actions *out)
{
	uint32_t round = in->message->u.landed.round;
	if (round > s->landed) { /* a report that repeats itself does not buy time */
		s->landed = round;
		await_load(s, in);
	}
	if (s->state != SOURCE_SETTLING || s->landed < s->round || s->loss.until_ns)
		return;
	if (drain_at_rest(&s->drain, in))
		source_pause(s, in, out);
	else /* its window has ended meanwhile */
		source_count(s, in, out);
}

/* On the link that SWITCHOVER went by, or on a later one, where it means that GO did not arrive. */
static bool ready(struct source *s, const struct input *in, struct actions *out)
{
	if (s->state == SOURCE_WAIT_READY) {
		s->ready_ns = in->now_ns;
		ask(s, in, out, SOURCE_RELEASING, SLUICE_RELEASE, "the embedder to release the disks");
		return true;
	}
	if (s->state != SOURCE_WAIT_RUNNING || !s->asked_anew)
		return false;
	s->asked_anew = false;
	go(s, in, out);
	return true;
}

/* The destination does not take the guest, and says so with REFUSE, CANCEL or NEVER. */
static void turned_down(struct source *s, const struct input *in, struct actions *out, const char *what)
{
	char text[SLUICE_ERROR_MAX];
	if (in->message->type == MESSAGE_NEVER)
		actions_send(out, MESSAGE_BYE);
	s->may_be_ready = s->link_up = false;
	snprintf(text, sizeof text, "%s: %.210s", what, in->message->u.word.text);
	source_fail(s, in, out, in->message->u.word.code, -1, text);
}

/* Messages that may come. Returns false for one that does not belong where we are. */
static bool expected(struct source *s, const struct input *in, struct actions *out)
{
	const struct message *m = in->message;
	switch (m->type) {
	case MESSAGE_WELCOME:
		if (s->state != SOURCE_OFFERED)
			return false;
		actions_add(out, ACTION_ADOPT);
		actions_add(out, ACTION_STREAMS_START);
		await(s, SOURCE_GATHERING, in_ms(in, in->params.connect_ms + 1000), "the data streams to connect");
		return true;
	case MESSAGE_REFUSE:
		if (s->state != SOURCE_OFFERED)
			return false;
		turned_down(s, in, out, "the destination refused");
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
		landed(s, in, out);
		return true;
	case MESSAGE_READY: return m->u.handoff.attempt == s->round && ready(s, in, out);
	case MESSAGE_RUNNING:
		if (s->state != SOURCE_WAIT_RUNNING || m->u.handoff.attempt != s->round)
			return false;
		completed(s, in, out);
		return true;
	case MESSAGE_NEVER:
		if (s->state < SOURCE_WAIT_READY || s->state > SOURCE_WAIT_RUNNING || m->u.word.attempt != s->round)
			return false;
		turned_down(s, in, out, "the destination could not run the guest");
		return true;
	case MESSAGE_CANCEL:
		if (s->state >= SOURCE_WAIT_RUNNING)
			return false;
		turned_down(s, in, out, "the destination gave up");
		return true;
	case MESSAGE_BYE:
		if (s->state != SOURCE_LINGERING)
			return false;
		source_end(s, in, out, SLUICE_COMPLETED);
		return true;
	default: return false;
	}
}

static void message(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	if (in->code && source_cancellable(s)) { /* it does not fit what was agreed on */
		source_fail(s, in, out, in->code, -1, in->text);
		return;
	}
	if (expected(s, in, out))
		return;
	if (s->state == SOURCE_WAIT_RUNNING) {
		source_doubt(s, in, out, "a message out of place");
	} else if (s->state < SOURCE_WAIT_RUNNING) {
		snprintf(text, sizeof text,
			 "the destination sent %s, which does not belong in phase %s: use the same version on both sides",
			 message_name(in->message->type), sluice_phase_name(s->phase));
		source_fail(s, in, out, -EPROTO, -1, text);
	}
	/* else: late words change nothing */
}

static void lost(struct source *s, const struct input *in, struct actions *out)
{
	s->link_up = false;
	if (s->state == SOURCE_WAIT_RUNNING)
		source_doubt(s, in, out, link_loss_cause(in));
	else if (s->state == SOURCE_LINGERING)
		source_end(s, in, out, SLUICE_COMPLETED);
	else
		source_fail(s, in, out, in->code, in->stream, in->text);
}

static void timed_out(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	double seconds = (double)(in->now_ns - s->started_ns) * 1e-9;
	int n = snprintf(text, sizeof text, "gave up after %.1f s as asked, in round %u: %.0f MB/s got through", seconds,
			 s->round, (double)in->pages * 4096e-6 / seconds);
	if (s->converge.dirty_pages_per_s > 0) /* known */
		n += snprintf(text + n, sizeof text - (size_t)n, ", the guest dirties about %.0f MB/s",
			      s->converge.dirty_pages_per_s * 4096e-6);
	snprintf(text + n, sizeof text - (size_t)n, "; allow more time, downtime or bandwidth");
	source_fail(s, in, out, -ETIMEDOUT, -1, text);
}

static void late(struct source *s, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	if (s->state == SOURCE_RESTING) {
		source_round_open(s, in, out, false, false);
	} else if (s->state == SOURCE_WAIT_RUNNING) {
		source_doubt(s, in, out, "it does not answer");
	} else if (s->state < SOURCE_WAIT_RUNNING) {
		snprintf(text, sizeof text, "waited too long for %s: see what it does, or allow more time", s->deadline.what);
		source_fail(s, in, out, -ETIMEDOUT, -1, text);
	}
}

static void tick(struct source *s, const struct input *in, struct actions *out)
{
	uint64_t bearable_ns = in->params.callback_ms * 1000000u;
	bool moving = s->state == SOURCE_ROUND || s->state == SOURCE_SETTLING;
	if (s->state == SOURCE_ROUND)
		converge_progress(&s->converge, in->now_ns, in->pages, in->nonzero_pages);
	if (s->throttle > in->params.throttle_max) /* that was lowered */
		source_throttle(s, out, in->params.throttle_max);
	if (s->loss.until_ns && in->now_ns >= s->loss.until_ns && s->state < SOURCE_WAIT_READY)
		source_fail(s, in, out, s->loss.code, s->loss.stream, s->loss.text);
	else if (in->params.timeout_ms && source_cancellable(s) && s->state != SOURCE_NEW &&
		 in->now_ns - s->started_ns >= in->params.timeout_ms * 1000000u)
		timed_out(s, in, out);
	else if (in->now_ns < s->deadline.at_ns)
		return;
	else if (moving && in->now_ns - s->progress_ns < bearable_ns)
		/* Slow is not dead: only a wire that carried nothing at all for so long is given up. */
		s->deadline.at_ns = s->progress_ns + bearable_ns;
	else
		late(s, in, out);
}

static void start(struct source *s, const struct input *in, struct actions *out)
{
	s->started_ns = in->now_ns;
	enter(s, out, SLUICE_SETUP);
	actions_add(out, ACTION_DIAL)->link = ++s->dials;
	await(s, SOURCE_DIALLING, NEVER_NS, "the link to connect"); /* the dial has its own deadline */
}

static void armed(struct source *s, const struct input *in, struct actions *out)
{
	if (s->state != SOURCE_ARMING)
		return;
	if (in->code) {
		source_fail(s, in, out, in->code, -1, in->text);
		return;
	}
	s->active_ns = in->now_ns;
	enter(s, out, SLUICE_ACTIVE);
	drain_begin(in, out);
	source_round_open(s, in, out, false, false);
}

static void round_sent(struct source *s, const struct input *in, struct actions *out)
{
	if (in->round != s->round)
		return;
	if (s->state == SOURCE_ROUND)
		source_round_sent(s, in, out);
	else if (s->state == SOURCE_LAST_ROUND)
		last_round_sent(s, in, out);
}

void source_step(struct source *s, const struct input *in, struct actions *out)
{
	if (s->state == SOURCE_ENDED || (in->link && in->link != s->dials)) /* of a link that was given up */
		return;
	s->converge.told_per_s = (double)in->params.switchover_bytes_per_s / SLUICE_PAGE_SIZE;
	if (in->moved_bytes != s->moved_bytes) {
		s->moved_bytes = in->moved_bytes;
		s->progress_ns = in->now_ns;
	}
	if ((in->type == INPUT_SYNCED && !in->code) || in->type == INPUT_SURVEYED)
		s->due_pages = in->pages + in->remaining + in->unseen;
	if (in->type == INPUT_DONE) {
		if (!s->pending || in->request != s->pending)
			return;
		s->pending = 0;
		if (in->request == SLUICE_RESUME && !in->code)
			s->guest_stopped = false;
	}
	if (s->state >= SOURCE_GIVING_UP) {
		source_leave_step(s, in, out);
		return;
	}
	switch (in->type) {
	case INPUT_START: start(s, in, out); break;
	case INPUT_LINK_UP:
		if (s->state != SOURCE_DIALLING)
			break;
		s->link_up = true;
		actions_send(out, MESSAGE_HELLO);
		await(s, SOURCE_OFFERED, in_ms(in, in->params.callback_ms + SLACK_MS), "the destination's answer to the offer");
		break;
	case INPUT_ARMED: armed(s, in, out); break;
	case INPUT_ROUND_SENT: round_sent(s, in, out); break;
	case INPUT_SYNCED: synced(s, in, out); break;
	case INPUT_SURVEYED: source_surveyed(s, in, out); break;
	case INPUT_MESSAGE: message(s, in, out); break;
	case INPUT_LINK_LOST: lost(s, in, out); break;
	case INPUT_STREAM_LOST:
		/* Once all was sent, the destination says CANCEL if it misses something. */
		if (s->state < SOURCE_WAIT_READY)
			stream_loss_note(&s->loss, in);
		break;
	case INPUT_DONE: request_done(s, in, out); break;
	case INPUT_CANCEL:
		if (source_cancellable(s))
			source_give_up(s, in, out, SLUICE_CANCELLED, -ECANCELED, -1, "cancelled");
		break;
	case INPUT_CLOSE:
		if (s->state == SOURCE_LINGERING) {
			actions_send(out, MESSAGE_BYE);
			source_end(s, in, out, SLUICE_COMPLETED);
		}
		break;
	case INPUT_CONTINUE:
		if (s->state == SOURCE_HOLDING)
			check(s, in, out);
		break;
	case INPUT_DRAINED: drained(s, in, out); break;
	case INPUT_IO_DEPTH: drain_failed(&s->drain, in, out); break;
	case INPUT_TICK:
		drain_tick(&s->drain, in, out);
		tick(s, in, out);
		break;
	default: break;
	}
	if (s->state > SOURCE_ARMING && s->state < SOURCE_WAIT_READY)
		follow_drain(s, in, out);
}
