/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* destination.c: what the destination does next.
 *
 *   LISTENING, ASKING, GATHERING, ACTIVE, then SWITCHOVER: LANDING, LOADING, READY, then GO: ACQUIRING, RESUMING, RUNNING, DONE
 *
 * Before READY was handed over, whatever goes wrong makes what came void. After it only GO lets the guest run, and without GO
 * this side is in doubt. After GO it runs the guest, link or no link, unless it can say NEVER. */
#include "core/decide/destination.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SLACK_MS = 5000 };
#define NEVER_NS UINT64_MAX

static void await(struct destination *d, enum destination_state state, uint64_t until_ns, const char *what)
{
	d->state = state;
	d->deadline = (struct deadline){ until_ns, what };
}

static uint64_t in_ms(const struct input *in, uint64_t ms)
{
	return in->now_ns + ms * 1000000u;
}

static void enter(struct destination *d, struct actions *out, enum sluice_phase phase)
{
	d->phase = phase;
	actions_phase(out, phase);
}

static void ask(struct destination *d, const struct input *in, struct actions *out, enum destination_state state,
		enum sluice_request request, const char *what)
{
	d->pending = request;
	actions_request(out, request);
	await(d, state, in_ms(in, in->params.callback_ms), what);
}

void destination_init(struct destination *destination)
{
	*destination = (struct destination){ .deadline = { NEVER_NS, "nothing" } };
}

bool destination_cancellable(const struct destination *d)
{
	return d->state < DESTINATION_READY;
}

static void end(struct destination *d, const struct input *in, struct actions *out, enum sluice_phase phase)
{
	if (!d->ended_ns)
		d->ended_ns = in->now_ns;
	actions_add(out, ACTION_STREAMS_STOP);
	if (d->phase != phase)
		enter(d, out, phase);
	actions_add(out, ACTION_LINK_CLOSE);
	actions_add(out, ACTION_END);
	await(d, DESTINATION_ENDED, NEVER_NS, "nothing");
}

static void fail(struct destination *d, const struct input *in, struct actions *out, enum sluice_phase phase,
		 enum message_type say, int code, int stream, const char *text)
{
	d->error_code = code;
	struct action *a = actions_add(out, ACTION_ERROR);
	a->code = code;
	a->stream = stream;
	a->phase = d->phase;
	snprintf(a->text, sizeof a->text, "%s", text);
	if (d->link_up)
		actions_send_word(out, say, code, text);
	d->link_up = false;
	if (!d->pending) {
		end(d, in, out, phase);
		return;
	}
	d->ends_in = phase;
	actions_add(out, ACTION_STREAMS_STOP);
	actions_add(out, ACTION_LINK_CLOSE);
	await(d, DESTINATION_GIVING_UP, in_ms(in, in->params.callback_ms), "the embedder's answer, before ending");
}

/* What failing is called on the link depends on what was promised. */
static enum message_type parting_word(const struct destination *d)
{
	if (d->state == DESTINATION_ASKING)
		return MESSAGE_REFUSE;
	return d->state >= DESTINATION_READY ? MESSAGE_NEVER : MESSAGE_CANCEL;
}

static void doubt(struct destination *d, struct actions *out, const char *why)
{
	struct action *a = actions_add(out, ACTION_ERROR);
	a->code = -EINPROGRESS;
	a->phase = d->phase;
	snprintf(a->text, sizeof a->text,
		 "in doubt whether the source still runs the guest (%.90s): look whether it runs there; only if it "
		 "does not, resolve this side to run",
		 why);
	actions_add(out, ACTION_STREAMS_STOP);
	actions_add(out, ACTION_LINK_CLOSE);
	d->link_up = false;
	enter(d, out, SLUICE_IN_DOUBT);
	await(d, DESTINATION_DOUBT, NEVER_NS, "an operator to say who owns the guest");
}

/* SWITCHOVER came, and perhaps all that it announced. */
static void maybe_load(struct destination *d, const struct input *in, struct actions *out)
{
	if (d->state != DESTINATION_LANDING || d->landed < d->last_round || (!d->stateless && d->state_round != d->last_round))
		return;
	enter(d, out, SLUICE_DEVICE);
	ask(d, in, out, DESTINATION_LOADING, SLUICE_LOAD, "the embedder to load device state");
}

static void running(struct destination *d, const struct input *in, struct actions *out)
{
	d->running_ns = d->ended_ns = in->now_ns;
	if (d->link_up && !d->by_operator) {
		actions_send(out, MESSAGE_RUNNING);
		await(d, DESTINATION_WAIT_DONE, in_ms(in, in->params.callback_ms), "the source to let go");
	} else {
		enter(d, out, SLUICE_COMPLETED);
		end(d, in, out, SLUICE_COMPLETED);
	}
}

static void request_done(struct destination *d, const struct input *in, struct actions *out)
{
	static const char *const verbs[] = {
		[SLUICE_INCOMING_GUEST] = "incoming",
		[SLUICE_LOAD] = "load",
		[SLUICE_ACQUIRE] = "acquire",
		[SLUICE_RESUME] = "resume",
	};
	char text[SLUICE_ERROR_MAX];
	d->pending = 0;
	if (d->state == DESTINATION_GIVING_UP) {
		end(d, in, out, d->ends_in);
		return;
	}
	if (in->code) {
		if (in->text && in->text[0])
			snprintf(text, sizeof text, "%s", in->text);
		else
			snprintf(text, sizeof text, "the destination's %s callback failed: %s", verbs[in->request],
				 strerror(-in->code));
		fail(d, in, out, SLUICE_FAILED, parting_word(d), in->code, -1, text);
		return;
	}
	switch (in->request) {
	case SLUICE_INCOMING_GUEST:
		d->streams = in->value;
		enter(d, out, SLUICE_SETUP);
		actions_add(out, ACTION_STREAMS_START);
		actions_send(out, MESSAGE_WELCOME);
		await(d, DESTINATION_GATHERING, in_ms(in, in->params.connect_ms + SLACK_MS), "the data streams to greet");
		break;
	case SLUICE_LOAD:
		d->ready_ns = in->now_ns;
		actions_send(out, MESSAGE_READY);
		await(d, DESTINATION_READY, in_ms(in, 2 * in->params.callback_ms + SLACK_MS), "the source to hand over");
		break;
	case SLUICE_ACQUIRE: ask(d, in, out, DESTINATION_RESUMING, SLUICE_RESUME, "the embedder to run the guest"); break;
	case SLUICE_RESUME: running(d, in, out); break;
	default: break;
	}
}

static void message(struct destination *d, const struct input *in, struct actions *out)
{
	const struct message *m = in->message;
	char text[SLUICE_ERROR_MAX];
	switch (m->type) {
	case MESSAGE_HELLO:
		if (d->state != DESTINATION_LISTENING)
			break;
		d->link_up = true;
		d->started_ns = in->now_ns;
		if (in->code) /* the offer was checked and is not for us */
			fail(d, in, out, SLUICE_FAILED, MESSAGE_REFUSE, in->code, -1, in->text);
		else
			ask(d, in, out, DESTINATION_ASKING, SLUICE_INCOMING_GUEST, "the embedder to provide the guest");
		return;
	case MESSAGE_SWITCHOVER:
		if (d->state != DESTINATION_ACTIVE || m->u.switchover.round <= d->last_round)
			break;
		if (in->code) {
			fail(d, in, out, SLUICE_FAILED, MESSAGE_CANCEL, in->code, -1, in->text);
			return;
		}
		d->last_round = m->u.switchover.round;
		d->stateless = !m->u.switchover.n;
		await(d, DESTINATION_LANDING, in_ms(in, in->params.callback_ms), "the last round to land");
		maybe_load(d, in, out);
		return;
	case MESSAGE_GO:
		if (d->state != DESTINATION_READY || m->u.handoff.attempt != d->last_round)
			break;
		d->go_ns = in->now_ns;
		ask(d, in, out, DESTINATION_ACQUIRING, SLUICE_ACQUIRE, "the embedder to take the disks");
		return;
	case MESSAGE_DONE:
		if (d->state != DESTINATION_WAIT_DONE)
			break;
		actions_add(out, ACTION_STREAMS_STOP);
		enter(d, out, SLUICE_COMPLETED);
		await(d, DESTINATION_LINGERING, NEVER_NS, "the embedder to close the session");
		return;
	case MESSAGE_CANCEL:
		if (d->state > DESTINATION_READY)
			break;
		d->link_up = false;
		snprintf(text, sizeof text, "the source gave up: %.230s", m->u.word.text);
		fail(d, in, out, m->u.word.code == -ECANCELED ? SLUICE_CANCELLED : SLUICE_FAILED, MESSAGE_CANCEL, m->u.word.code,
		     -1, text);
		return;
	case MESSAGE_BYE:
		if (d->state == DESTINATION_LINGERING) {
			end(d, in, out, SLUICE_COMPLETED);
			return;
		}
		break;
	default: break;
	}
	if (d->state >= DESTINATION_ACQUIRING)
		return; /* over, or the guest is ours: nothing the source says takes it away */
	snprintf(text, sizeof text, "the source sent %s, which does not belong in phase %s: use the same version on both sides",
		 message_name(m->type), sluice_phase_name(d->phase));
	if (d->state == DESTINATION_READY)
		doubt(d, out, text);
	else
		fail(d, in, out, SLUICE_FAILED, MESSAGE_CANCEL, -EPROTO, -1, text);
}

static void lost(struct destination *d, const struct input *in, struct actions *out)
{
	if (in->type == INPUT_STREAM_LOST) {
		if (d->state >= DESTINATION_GATHERING && d->state < DESTINATION_LOADING)
			stream_loss_note(&d->loss, in);
		return; /* with everything landed, or before and after, streams do not matter */
	}
	d->link_up = false;
	if (d->state == DESTINATION_READY)
		doubt(d, out, in->text);
	else if (d->state < DESTINATION_READY)
		fail(d, in, out, SLUICE_FAILED, MESSAGE_CANCEL, in->code, -1, in->text);
	else if (d->state == DESTINATION_WAIT_DONE || d->state == DESTINATION_LINGERING)
		end(d, in, out, SLUICE_COMPLETED);
	/* ACQUIRING, RESUMING: the guest is ours, it will run and nobody is told. GIVING_UP: it is over */
}

static void tick(struct destination *d, const struct input *in, struct actions *out)
{
	char text[SLUICE_ERROR_MAX];
	if (d->state == DESTINATION_GIVING_UP) {
		if (in->now_ns >= d->deadline.at_ns)
			end(d, in, out, d->ends_in);
		return;
	}
	if (d->loss.until_ns && in->now_ns >= d->loss.until_ns && d->state < DESTINATION_LOADING) {
		fail(d, in, out, SLUICE_FAILED, MESSAGE_CANCEL, d->loss.code, d->loss.stream, d->loss.text);
		return;
	}
	if (in->now_ns < d->deadline.at_ns)
		return;
	if (d->state == DESTINATION_READY) {
		doubt(d, out, "it does not answer");
	} else if (d->state == DESTINATION_WAIT_DONE) {
		end(d, in, out, SLUICE_COMPLETED);
	} else if (d->state == DESTINATION_ACQUIRING || d->state == DESTINATION_RESUMING) {
		/* The embedder may still be about to run it: neither NEVER nor RUNNING would be true. */
		d->deadline.at_ns = in_ms(in, in->params.callback_ms);
	} else {
		snprintf(text, sizeof text, "waited too long for %s: see what it does, or allow more time", d->deadline.what);
		fail(d, in, out, SLUICE_FAILED, parting_word(d), -ETIMEDOUT, -1, text);
	}
}

void destination_step(struct destination *d, const struct input *in, struct actions *out)
{
	if (d->state == DESTINATION_ENDED)
		return;
	switch (in->type) {
	case INPUT_START:
		enter(d, out, SLUICE_INCOMING);
		await(d, DESTINATION_LISTENING, NEVER_NS, "a source");
		break;
	case INPUT_MESSAGE: message(d, in, out); break;
	case INPUT_STREAM_UP:
		if (d->state == DESTINATION_GATHERING && in->value == d->streams) {
			d->active_ns = in->now_ns;
			actions_send(out, MESSAGE_STREAMS_UP);
			enter(d, out, SLUICE_ACTIVE);
			await(d, DESTINATION_ACTIVE, NEVER_NS, "the source to switch over");
		}
		break;
	case INPUT_LANDED:
		d->landed = in->round;
		maybe_load(d, in, out);
		break;
	case INPUT_STATE_LANDED:
		d->state_round = in->round;
		maybe_load(d, in, out);
		break;
	case INPUT_LINK_LOST:
	case INPUT_STREAM_LOST: lost(d, in, out); break;
	case INPUT_DONE:
		if (d->pending && in->request == d->pending)
			request_done(d, in, out);
		break;
	case INPUT_CANCEL:
		if (destination_cancellable(d))
			fail(d, in, out, SLUICE_CANCELLED, parting_word(d), -ECANCELED, -1, "cancelled");
		break;
	case INPUT_CLOSE:
		if (d->state == DESTINATION_LINGERING) {
			actions_send(out, MESSAGE_BYE);
			end(d, in, out, SLUICE_COMPLETED);
		}
		break;
	case INPUT_RESOLVE:
		if (d->state == DESTINATION_DOUBT && in->value) {
			d->by_operator = true;
			ask(d, in, out, DESTINATION_ACQUIRING, SLUICE_ACQUIRE, "the embedder to take the disks");
		} else if (d->state == DESTINATION_DOUBT) {
			end(d, in, out, SLUICE_FAILED);
		}
		break;
	case INPUT_TICK: tick(d, in, out); break;
	default: break;
	}
}
