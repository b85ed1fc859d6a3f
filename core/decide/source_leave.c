/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source_leave.c: every way out but the good one.
 *
 * Before GO it ends with the guest running here. GIVING_UP: an unanswered request is waited for, and the guest resumed if it was
 * stopped. TELLING: a destination that may have become ready meanwhile is let know, so that it is not left in doubt.
 *
 * From GO on only RUNNING, NEVER or an operator (RECLAIMING) decide. A link that is lost then is dialled anew, for as long as it takes:
 * APART, REDIALLING, ASKING. The destination repeats its last word on it; READY then says that GO did not arrive, and never will: the
 * destination lets no frame of the old link in once it has taken the new one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/decide/source_steps.h"

enum {
	REDIAL_MIN_MS = 250,
	REDIAL_MAX_MS = 4000,
};

bool source_in_doubt(const struct source *s)
{
	return s->state >= SOURCE_APART && s->state <= SOURCE_ASKING && !s->tell_until_ns;
}

bool source_cancellable(const struct source *s)
{
	return s->state < SOURCE_WAIT_RUNNING;
}

void source_end(struct source *s, const struct input *in, struct actions *out, enum sluice_phase phase)
{
	source_throttle(s, out, 0);
	if (!s->ended_ns) /* completed: what follows is only talk */
		s->ended_ns = in->now_ns;
	actions_add(out, ACTION_UNTRACK);
	if (s->phase != phase)
		enter(s, out, phase);
	actions_add(out, ACTION_LINK_CLOSE);
	actions_add(out, ACTION_END);
	await(s, SOURCE_ENDED, NEVER_NS, "nothing");
}

/* ---------------------------------------------------------------- later links */

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
static void redial_later(struct source *s, const struct input *in, struct actions *out)
{
	if (s->link_up)
		actions_add(out, ACTION_LINK_DROP)->link = s->dials;
	s->link_up = false;
	s->redial_ms = s->redial_ms ? 2 * s->redial_ms : REDIAL_MIN_MS;
	if (s->redial_ms > REDIAL_MAX_MS)
		s->redial_ms = REDIAL_MAX_MS;
	await(s, SOURCE_APART, until_told(s, in_ms(in, s->redial_ms)), "the next try to reach the destination, or an operator");
}

void source_doubt(struct source *s, const struct input *in, struct actions *out, const char *cause)
{
	struct action *a = actions_error(out, -EINPROGRESS, s->phase);
	snprintf(a->cause, sizeof a->cause, "%s", cause);
	snprintf(a->text, sizeof a->text,
		 "in doubt whether the destination runs the guest (%.70s). If it cannot be asked: where it runs, resolve this "
		 "side to discard; else discard it there first, then resolve this side to run",
		 cause);
	actions_add(out, ACTION_STREAMS_STOP);
	enter(s, out, SLUICE_IN_DOUBT);
	if (s->redial_ms) { /* not for the first time: a destination that makes no sense is not asked without a rest */
		redial_later(s, in, out);
	} else {
		s->redial_ms = REDIAL_MIN_MS / 2;
		redial(s, out);
	}
}

/* ---------------------------------------------------------------- telling */

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
	drain_release(&s->drain, in, out, false);
	if (!tells || !in->params.remember_ms) {
		if (tells && s->link_up)
			actions_send_word(out, MESSAGE_CANCEL, s->error_code, s->why);
		source_end(s, in, out, phase);
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

/* ---------------------------------------------------------------- giving up, and an operator's word */

static void await_resume(struct source *s, const struct input *in, struct actions *out, enum source_state state)
{
	drain_release(&s->drain, in, out, false); /* not before: a guest that is being stopped must not begin anything */
	ask(s, in, out, state, SLUICE_RESUME, "the embedder to resume the guest");
}

void source_give_up(struct source *s, const struct input *in, struct actions *out, enum sluice_phase phase, int code, int stream,
		    const char *text)
{
	s->error_code = code;
	s->error_phase = s->phase;
	struct action *a = actions_error(out, code, s->phase);
	a->stream = stream;
	a->theirs = input_is_word(in);
	snprintf(a->text, sizeof a->text, "%s", text);
	snprintf(s->why, sizeof s->why, "%s", text);
	if (s->link_up && !s->may_be_ready)
		actions_send_word(out, MESSAGE_CANCEL, code, text);
	actions_add(out, ACTION_STREAMS_STOP);
	source_throttle(s, out, 0); /* before it is resumed */
	s->ends_in = phase;
	if (phase == SLUICE_CANCELLED)
		enter(s, out, SLUICE_CANCELLING);
	if (s->pending == SLUICE_RESUME)
		await(s, SOURCE_GIVING_UP, in_ms(in, in->params.callback_ms), "the embedder to resume the guest");
	else if (s->pending)
		await(s, SOURCE_GIVING_UP, in_ms(in, in->params.callback_ms), "the embedder's answer, before resuming the guest");
	else if (s->guest_stopped)
		await_resume(s, in, out, SOURCE_GIVING_UP);
	else
		let_know(s, in, out, phase);
}

void source_fail(struct source *s, const struct input *in, struct actions *out, int code, int stream, const char *text)
{
	source_give_up(s, in, out, SLUICE_FAILED, code, stream, text);
}

/* An operator's word. A link that is just being tried is too late. */
static void resolve(struct source *s, const struct input *in, struct actions *out)
{
	if (!source_in_doubt(s))
		return;
	actions_add(out, ACTION_MENDED);
	if (!in->value) {
		source_end(s, in, out, SLUICE_COMPLETED);
		return;
	}
	actions_add(out, ACTION_LINK_DROP)->link = s->dials;
	s->link_up = false;
	source_throttle(s, out, 0);
	await_resume(s, in, out, SOURCE_RECLAIMING);
}

/* An operator said run, and the embedder has done so, or not. */
static void reclaimed(struct source *s, const struct input *in, struct actions *out, int code)
{
	s->error_code = code ? code : -ECANCELED;
	if (code)
		snprintf(s->why, sizeof s->why, "an operator said that the guest is to run here, and resuming it failed: %.100s",
			 strerror(-code));
	else
		snprintf(s->why, sizeof s->why, "an operator said that the guest runs here: the migration is over");
	snprintf(actions_error(out, s->error_code, s->phase)->text, SLUICE_ERROR_MAX, "%s", s->why);
	let_know(s, in, out, SLUICE_FAILED);
}

/* ---------------------------------------------------------------- inputs */

/* The embedder has done what it was asked, or has not. */
static void answered(struct source *s, const struct input *in, struct actions *out)
{
	if (s->state == SOURCE_RECLAIMING)
		reclaimed(s, in, out, in->code);
	else if (s->state != SOURCE_GIVING_UP)
		return; /* too late: it is over */
	else if (in->request != SLUICE_RESUME && s->guest_stopped)
		await_resume(s, in, out, SOURCE_GIVING_UP);
	else /* CANCELLED says that the guest runs */
		let_know(s, in, out, s->guest_stopped ? SLUICE_FAILED : s->ends_in);
}

/* Of a session that is not there; a greeting that was damaged under way, say, is to be sent again. */
static bool refuses_us(const struct message *m)
{
	return m->type == MESSAGE_REFUSE && (m->u.word.code == -ENOENT || m->u.word.code == -EBUSY);
}

/* SOURCE_ASKING: who is there? */
static void greeted(struct source *s, const struct input *in, struct actions *out)
{
	if (in->message->type == MESSAGE_ANSWER) {      /* it knows us. What it said last comes next */
		s->asked_anew = s->may_be_ready = true; /* whoever said earlier that it does not know us was another */
		if (s->tell_until_ns) {
			await(s, SOURCE_TELLING, s->tell_until_ns, "the destination to let go of the guest");
			return;
		}
		actions_add(out, ACTION_MENDED);
		enter(s, out, SLUICE_DEVICE);
		source_await_running(s, in, "the destination's last word");
		return;
	}
	if (refuses_us(in->message)) { /* it was started again, or another listens there: not that it never ran the guest */
		s->may_be_ready = false;
		if (s->tell_until_ns) {
			source_end(s, in, out, s->phase);
			return;
		}
	}
	redial_later(s, in, out);
}

/* It is over there, one way or another. */
static void message(struct source *s, const struct input *in, struct actions *out)
{
	enum message_type type = in->message->type;
	if (s->state == SOURCE_ASKING) {
		greeted(s, in, out);
	} else if (s->state == SOURCE_TELLING && type == MESSAGE_READY && in->message->u.handoff.attempt == s->round) {
		if (s->asked_anew)
			tell(s, out);
	} else if ((s->state == SOURCE_TELLING || s->state == SOURCE_GIVING_UP) && type == MESSAGE_NEVER) {
		s->may_be_ready = s->link_up = false;
		actions_send(out, MESSAGE_BYE);
		if (s->state == SOURCE_TELLING)
			source_end(s, in, out, s->phase);
	} else if (s->state == SOURCE_GIVING_UP && type == MESSAGE_CANCEL) {
		s->may_be_ready = s->link_up = false;
	} else if (s->state == SOURCE_TELLING && type == MESSAGE_CANCEL) {
		source_end(s, in, out, s->phase); /* it gave up by itself, and had not become ready */
	}
	/* else: late words change nothing */
}

static void lost(struct source *s, const struct input *in, struct actions *out)
{
	s->link_up = false;
	if (s->tell_until_ns && (in->code == -ECONNREFUSED || in->code == -ENOENT || in->now_ns >= s->tell_until_ns))
		source_end(s, in, out, s->phase); /* nobody is there who could be in doubt, or it took too long */
	else if (s->state == SOURCE_TELLING || s->state == SOURCE_REDIALLING || s->state == SOURCE_ASKING)
		redial_later(s, in, out);
}

static void late(struct source *s, const struct input *in, struct actions *out)
{
	if (s->tell_until_ns && in->now_ns >= s->tell_until_ns)
		source_end(s, in, out, s->phase);
	else if (s->state == SOURCE_APART)
		redial(s, out);
	else if (s->state == SOURCE_ASKING)
		redial_later(s, in, out);
	else if (s->state == SOURCE_RECLAIMING)
		reclaimed(s, in, out, -ETIMEDOUT);
	else if (s->state == SOURCE_GIVING_UP && s->pending != SLUICE_RESUME)
		await_resume(s, in, out, SOURCE_GIVING_UP);
	else if (s->state == SOURCE_GIVING_UP)
		let_know(s, in, out, SLUICE_FAILED);
}

void source_leave_step(struct source *s, const struct input *in, struct actions *out)
{
	switch (in->type) {
	case INPUT_LINK_UP:
		s->link_up = s->state == SOURCE_REDIALLING; /* else it is not wanted any more */
		if (s->link_up)
			await(s, SOURCE_ASKING, until_told(s, in_ms(in, in->params.connect_ms)),
			      "the destination's answer on a new link");
		break;
	case INPUT_MESSAGE: message(s, in, out); break;
	case INPUT_LINK_LOST: lost(s, in, out); break;
	case INPUT_DONE: answered(s, in, out); break;
	case INPUT_CLOSE:
		if (s->tell_until_ns)
			source_end(s, in, out, s->phase);
		break;
	case INPUT_RESOLVE: resolve(s, in, out); break;
	case INPUT_TICK:
		if (in->now_ns >= s->deadline.at_ns)
			late(s, in, out);
		break;
	default: break; /* of a migration that is over */
	}
}
