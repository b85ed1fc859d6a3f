/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* destination.c: what the destination does next.
 *
 *   LISTENING, ASKING, GATHERING, ACTIVE, then SWITCHOVER: LANDING, LOADING, READY, then GO: ACQUIRING, RESUMING, RUNNING, DONE
 *
 * Before READY was handed over, whatever goes wrong makes what came void. After it only GO lets the guest run, and without GO
 * this side is in doubt. After GO it runs the guest, link or no link, unless it can say NEVER. A source that comes back on a later link
 * hears the last word again; so what was decided is remembered until the source is known to know it, or for a while. */
#include "core/decide/destination.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void await(struct destination *d, enum destination_state state, uint64_t until_ns, const char *what)
{
	d->state = state;
	d->deadline = (struct deadline){ until_ns, what };
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

static void note_error(struct destination *d, const struct input *in, struct actions *out, int code, int stream, const char *text)
{
	d->error_code = code;
	struct action *a = actions_error(out, code, d->phase);
	a->stream = stream;
	a->theirs = input_is_word(in);
	snprintf(a->text, sizeof a->text, "%s", text);
}

static void fail(struct destination *d, const struct input *in, struct actions *out, enum sluice_phase phase,
		 enum message_type say, int code, int stream, const char *text)
{
	note_error(d, in, out, code, stream, text);
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

/* What giving up before READY is called on the link. */
static enum message_type parting_word(const struct destination *d)
{
	return d->state == DESTINATION_ASKING ? MESSAGE_REFUSE : MESSAGE_CANCEL;
}

/* What is left to do once it is decided: wait until the source knows, or for a while. Without a link it may come back. */
static void remember(struct destination *d, const struct input *in, enum destination_state state)
{
	await(d, state, in_ms(in, in->params.remember_ms), "a source that may be in doubt");
}

/* The guest was loaded, and does not run and never will. The embedder has answered all that it was asked. */
static void never(struct destination *d, const struct input *in, struct actions *out, enum sluice_phase phase, int code,
		  const char *text)
{
	note_error(d, in, out, code, -1, text);
	if (d->link_up)
		actions_send_word(out, MESSAGE_NEVER, code, text);
	actions_add(out, ACTION_STREAMS_STOP);
	d->ended_ns = in->now_ns;
	enter(d, out, phase);
	remember(d, in, DESTINATION_TELLING);
}

static void doubt(struct destination *d, struct actions *out, const char *cause)
{
	d->error_code = -EINPROGRESS;
	struct action *a = actions_error(out, d->error_code, d->phase);
	snprintf(a->cause, sizeof a->cause, "%s", cause);
	snprintf(a->text, sizeof a->text,
		 "in doubt whether the source runs the guest (%.70s). If it does not come back: where it runs, resolve this side "
		 "to discard; else end it there first, then resolve this side to run",
		 cause);
	actions_add(out, ACTION_STREAMS_STOP);
	actions_add(out, ACTION_LINK_DROP)->link = d->epoch;
	d->link_up = false;
	enter(d, out, SLUICE_IN_DOUBT);
	await(d, DESTINATION_DOUBT, NEVER_NS, "the source to come back, or an operator to say who owns the guest");
}

static void ready(struct destination *d, const struct input *in, struct actions *out)
{
	actions_send(out, MESSAGE_READY);
	await(d, DESTINATION_READY, in_ms(in, 2 * in->params.callback_ms + SLACK_MS), "the source to hand over");
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
	if (d->link_up) {
		actions_send(out, MESSAGE_RUNNING);
		await(d, DESTINATION_WAIT_DONE, in_ms(in, in->params.callback_ms), "the source to let go");
	} else {
		enter(d, out, SLUICE_COMPLETED);
		remember(d, in, DESTINATION_WAIT_DONE);
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
		if (d->state == DESTINATION_ACQUIRING || d->state == DESTINATION_RESUMING)
			never(d, in, out, SLUICE_FAILED, in->code, text);
		else
			fail(d, in, out, SLUICE_FAILED, parting_word(d), in->code, -1, text);
		return;
	}
	switch (in->request) {
	case SLUICE_INCOMING_GUEST:
		d->streams = in->value;
		d->epoch = 1;
		enter(d, out, SLUICE_SETUP);
		actions_add(out, ACTION_STREAMS_START);
		actions_send(out, MESSAGE_WELCOME);
		await(d, DESTINATION_GATHERING, in_ms(in, in->params.connect_ms + SLACK_MS), "the data streams to greet");
		break;
	case SLUICE_LOAD:
		d->ready_ns = in->now_ns;
		ready(d, in, out);
		break;
	case SLUICE_ACQUIRE: ask(d, in, out, DESTINATION_RESUMING, SLUICE_RESUME, "the embedder to run the guest"); break;
	case SLUICE_RESUME: running(d, in, out); break;
	default: break;
	}
}

/* It runs the guest. Once it has said SWITCHOVER it waits for our word, because we might be in doubt otherwise. */
static void cancelled_by_source(struct destination *d, const struct input *in, struct actions *out)
{
	const struct message *m = in->message;
	char text[SLUICE_ERROR_MAX];
	enum sluice_phase phase = m->u.word.code == -ECANCELED ? SLUICE_CANCELLED : SLUICE_FAILED;
	snprintf(text, sizeof text, "the source gave up: %.230s", m->u.word.text);
	if (d->state == DESTINATION_READY) {
		never(d, in, out, phase, m->u.word.code, text);
		return;
	}
	d->link_up = d->state >= DESTINATION_LANDING;
	fail(d, in, out, phase, MESSAGE_NEVER, m->u.word.code, -1, text);
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
		if (d->phase != SLUICE_COMPLETED)
			enter(d, out, SLUICE_COMPLETED);
		actions_add(out, ACTION_DOOR_CLOSE);
		await(d, DESTINATION_LINGERING, NEVER_NS, "the embedder to close the session");
		return;
	case MESSAGE_CANCEL:
		if (d->state == DESTINATION_TELLING) {
			end(d, in, out, d->phase);
			return;
		}
		if (d->state > DESTINATION_READY)
			break;
		cancelled_by_source(d, in, out);
		return;
	case MESSAGE_BYE:
		if (d->state == DESTINATION_LINGERING || d->state == DESTINATION_TELLING) {
			end(d, in, out, d->phase);
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
		doubt(d, out, "a message out of place");
	else
		fail(d, in, out, SLUICE_FAILED, MESSAGE_CANCEL, -EPROTO, -1, text);
}

/* The guest runs here, and the source may not know. */
static void apart(struct destination *d, const struct input *in, struct actions *out)
{
	if (d->phase != SLUICE_COMPLETED)
		enter(d, out, SLUICE_COMPLETED);
	remember(d, in, DESTINATION_WAIT_DONE);
}

static void lost(struct destination *d, const struct input *in, struct actions *out)
{
	if (in->type == INPUT_STREAM_LOST) {
		if (d->state >= DESTINATION_GATHERING && d->state < DESTINATION_LOADING)
			stream_loss_note(&d->loss, in);
		return; /* with everything landed, or before and after, streams do not matter */
	}
	d->link_up = false;
	if (d->state == DESTINATION_READY) {
		doubt(d, out, link_loss_cause(in));
	} else if (d->state < DESTINATION_READY) {
		fail(d, in, out, SLUICE_FAILED, MESSAGE_CANCEL, in->code, -1, in->text);
	} else if (d->state == DESTINATION_LINGERING) {
		end(d, in, out, SLUICE_COMPLETED);
	} else if (d->state == DESTINATION_WAIT_DONE) {
		apart(d, in, out);
	} else if (d->state == DESTINATION_TELLING) {
		remember(d, in, DESTINATION_TELLING);
	}
	/* ACQUIRING, RESUMING: the guest is ours, and will run. GIVING_UP: it is over */
}

/* The source has a new link: nothing of the old one takes effect any more. It hears again what was said last. */
static void back(struct destination *d, const struct input *in, struct actions *out)
{
	if (d->state == DESTINATION_GIVING_UP)
		return; /* the link is being closed; a tombstone will answer */
	d->epoch = in->link;
	d->link_up = true;
	actions_add(out, ACTION_ADMIT)->link = d->epoch;
	switch (d->state) {
	case DESTINATION_DOUBT:
		actions_add(out, ACTION_MENDED);
		enter(d, out, SLUICE_DEVICE);
		ready(d, in, out);
		break;
	case DESTINATION_READY: ready(d, in, out); break;
	case DESTINATION_WAIT_DONE:
	case DESTINATION_LINGERING:
		actions_send(out, MESSAGE_RUNNING);
		await(d, DESTINATION_WAIT_DONE, in_ms(in, in->params.callback_ms), "the source to let go");
		break;
	case DESTINATION_TELLING:
		actions_send_word(out, MESSAGE_NEVER, d->error_code, "the guest was not run here, and never will be");
		remember(d, in, DESTINATION_TELLING);
		break;
	case DESTINATION_ACQUIRING:
	case DESTINATION_RESUMING:               /* it hears RUNNING or NEVER when we know */
		if (d->phase == SLUICE_IN_DOUBT) /* an operator was first */
			enter(d, out, SLUICE_DEVICE);
		break;
	default:
		fail(d, in, out, SLUICE_FAILED, MESSAGE_NEVER, -ECONNRESET, -1,
		     "the source lost its link before the guest was here: see what it says, and try again");
		break;
	}
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
	} else if (d->state == DESTINATION_WAIT_DONE && d->link_up) {
		/* It does not let go: the link is of no use, or was lost just now. Then it may ask on another. */
		actions_add(out, ACTION_LINK_DROP)->link = d->epoch;
		d->link_up = false;
		apart(d, in, out);
	} else if (d->state == DESTINATION_WAIT_DONE) {
		end(d, in, out, SLUICE_COMPLETED);
	} else if (d->state == DESTINATION_TELLING) {
		end(d, in, out, d->phase);
	} else if (d->state == DESTINATION_ACQUIRING || d->state == DESTINATION_RESUMING) {
		/* The embedder may still be about to run it: neither NEVER nor RUNNING would be true. */
		d->deadline.at_ns = in_ms(in, in->params.callback_ms);
	} else {
		snprintf(text, sizeof text, "waited too long for %s: see what it does, or allow more time", d->deadline.what);
		fail(d, in, out, SLUICE_FAILED, parting_word(d), -ETIMEDOUT, -1, text);
	}
}

/* An operator's word. */
static void resolve(struct destination *d, const struct input *in, struct actions *out)
{
	if (d->state != DESTINATION_DOUBT)
		return;
	actions_add(out, ACTION_MENDED);
	if (in->value)
		ask(d, in, out, DESTINATION_ACQUIRING, SLUICE_ACQUIRE, "the embedder to take the disks");
	else
		never(d, in, out, SLUICE_FAILED, -ECANCELED, "an operator said that the guest is not to run here");
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
	case INPUT_LINK_BACK: back(d, in, out); break;
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
		} else if (d->state == DESTINATION_TELLING ||
			   (d->state == DESTINATION_WAIT_DONE && d->phase == SLUICE_COMPLETED)) {
			end(d, in, out, d->phase);
		}
		break;
	case INPUT_RESOLVE: resolve(d, in, out); break;
	case INPUT_TICK: tick(d, in, out); break;
	default: break;
	}
}
