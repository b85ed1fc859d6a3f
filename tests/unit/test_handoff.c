/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_handoff.c: both step functions wired to each other, and everything that can happen to them from SWITCHOVER on, in every
 * order: messages arrive, or are lost with the link, each side notices that when it likes; the source dials again, while the old link
 * still holds what it holds; the destination's session is over, or it was started again and knows nothing; embedders answer well, badly or
 * not before the deadline; either side is cancelled; each clock runs as it likes; an operator looks and speaks. All reachable states are
 * visited (some thousand, for any number of links), so what holds here holds without luck: never both sides run the guest; never none without one of them
 * in doubt; and from wherever the source is in doubt, a network that works again ends it without an operator. */
#include <errno.h>
#include <stdlib.h>

#include "core/decide/destination.h"
#include "core/decide/source.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

enum { QUEUE = 8, STATES_MAX = 1 << 17, LAST = 2 };

struct note {
	enum message_type type;
	int code;
};

struct wire {
	struct note notes[QUEUE];
	unsigned n;
};

struct world {
	struct source s;
	struct destination d;
	/* The link that each side is on; the destination's may be an older one, of which only to_d is left. */
	uint32_t s_link, d_link;
	struct wire to_d, to_s;
	bool dialling;             /* s_link is not up yet at the source */
	bool cut;                  /* nothing that is sent from here on arrives */
	bool s_noticed, d_noticed; /* that the link is gone, or have closed it themselves */
	bool amnesia;              /* the destination was started again after its session had ended */
	bool s_runs, d_runs;       /* may execute instructions of the guest */
	bool s_ended, d_ended;
	bool resume_failed; /* the source's embedder broke its promise */
	int parent;
	const char *by;
};

/* What makes two worlds the same. */
struct key {
	int s_state, s_phase, s_pending, s_ends_in, d_state, d_phase, d_pending;
	uint32_t s_round, d_landed, d_state_round;
	bool same_link; /* which one makes no difference, so there may be any number of them */
	bool s_stopped, s_link, d_link, dialling, amnesia, cut, s_noticed, d_noticed, s_runs, d_runs, s_ended, d_ended,
		resume_failed, s_loss, d_loss, s_tells, s_ready, s_anew, s_rested;
	struct wire to_d, to_s;
};

static struct world *worlds;
static uint64_t *seen; /* hashes of keys; 0: free */
static int n_worlds, n_bad;
static bool forging; /* the mutant: silence after GO is taken for NEVER */
static bool resume_may_fail;

static uint64_t hash_of(const struct world *w)
{
	struct key k;
	memset(&k, 0, sizeof k);
	k.s_state = (int)w->s.state, k.s_phase = (int)w->s.phase, k.s_pending = (int)w->s.pending,
	k.s_ends_in = (int)w->s.ends_in;
	k.d_state = (int)w->d.state, k.d_phase = (int)w->d.phase, k.d_pending = (int)w->d.pending;
	k.s_round = w->s.round, k.d_landed = w->d.landed, k.d_state_round = w->d.state_round;
	k.s_stopped = w->s.guest_stopped, k.s_link = w->s.link_up, k.d_link = w->d.link_up;
	k.same_link = w->s_link == w->d_link, k.dialling = w->dialling, k.amnesia = w->amnesia;
	k.s_tells = w->s.tell_until_ns, k.s_ready = w->s.may_be_ready, k.s_anew = w->s.asked_anew, k.s_rested = w->s.redial_ms;
	k.cut = w->cut, k.s_noticed = w->s_noticed, k.d_noticed = w->d_noticed, k.s_runs = w->s_runs, k.d_runs = w->d_runs;
	k.s_ended = w->s_ended, k.d_ended = w->d_ended, k.resume_failed = w->resume_failed;
	k.s_loss = w->s.loss.until_ns, k.d_loss = w->d.loss.until_ns;
	k.to_d = w->to_d, k.to_s = w->to_s;
	uint64_t h = 14695981039346656037u;
	for (size_t i = 0; i < sizeof k; i++)
		h = (h ^ ((const unsigned char *)&k)[i]) * 1099511628211u;
	return h ? h : 1;
}

static void trace(int at)
{
	const struct world *w = &worlds[at];

	if (w->parent >= 0)
		trace(w->parent);
	printf("    %-24s source state %2d %-10s%s, destination state %2d %-10s%s\n", w->by, w->s.state,
	       sluice_phase_name(w->s.phase), w->s_runs ? " runs" : "", w->d.state, sluice_phase_name(w->d.phase),
	       w->d_runs ? " runs" : "");
}

static void bad(const struct world *w, const char *what)
{
	if (n_bad++ || forging)
		return;
	worlds[n_worlds] = *w;
	printf("  %s:\n", what);
	trace(n_worlds);
}

/* Of the codes only one makes a difference to who reads them. */
static struct note note_of(const struct action *a)
{
	return (struct note){ a->message_type, a->code && a->code != -ECANCELED ? -EIO : a->code };
}

/* `there`: the link that the other side is on. */
static void transmit(struct world *w, struct wire *wire, bool closed, bool there, struct note note)
{
	if (closed && !w->cut)
		bad(w, "sent on a link that it has closed");
	if (w->cut || closed || !there)
		return;
	if (wire->n == QUEUE) {
		bad(w, "more messages than the handoff has");
		return;
	}
	wire->notes[wire->n++] = note;
}

static struct input input_of(enum input_type type)
{
	return (struct input){ .type = type, .now_ns = 1, .params = usual_params, .text = "", .stream = -1 };
}

static void step_source(struct world *w, struct input in)
{
	struct actions out = { 0 };

	source_step(&w->s, &in, &out);
	for (uint32_t i = 0; i < out.n; i++) {
		const struct action *a = &out.list[i];

		if (w->s_ended)
			bad(w, "an action after the source's END");
		if (a->type == ACTION_SEND) {
			if (w->dialling)
				bad(w, "sent on a link that is not up");
			transmit(w, &w->to_d, w->s_noticed, w->d_link == w->s_link, note_of(a));
		} else if (a->type == ACTION_DIAL) {
			w->s_link = a->link;
			w->dialling = true;
			w->s_noticed = w->cut = false;
			memset(&w->to_s, 0, sizeof w->to_s);
		} else if (a->type == ACTION_LINK_CLOSE || a->type == ACTION_LINK_DROP) {
			w->s_noticed = true;
			w->dialling = false;
		} else if (a->type == ACTION_REQUEST && a->request == SLUICE_RESUME) {
			w->s_runs = true;
		} else if (a->type == ACTION_END) {
			w->s_ended = true;
		}
	}
}

static void step_destination(struct world *w, struct input in)
{
	struct actions out = { 0 };

	destination_step(&w->d, &in, &out);
	for (uint32_t i = 0; i < out.n; i++) {
		const struct action *a = &out.list[i];

		if (w->d_ended)
			bad(w, "an action after the destination's END");
		if (a->type == ACTION_SEND)
			transmit(w, &w->to_s, w->d_noticed, w->d_link == w->s_link, note_of(a));
		else if (a->type == ACTION_ADMIT)
			transmit(w, &w->to_s, w->d_noticed, w->d_link == w->s_link, (struct note){ MESSAGE_ANSWER, 0 });
		else if (a->type == ACTION_LINK_CLOSE || a->type == ACTION_LINK_DROP)
			w->d_noticed = true;
		else if (a->type == ACTION_REQUEST && a->request == SLUICE_RESUME)
			w->d_runs = true;
		else if (a->type == ACTION_END)
			w->d_ended = true;
	}
}

static struct note take(struct wire *wire)
{
	struct note note = wire->notes[0];

	memmove(wire->notes, wire->notes + 1, sizeof wire->notes - sizeof wire->notes[0]);
	memset(&wire->notes[--wire->n], 0, sizeof wire->notes[0]);
	return note;
}

static const struct message *message_of(const struct note *note)
{
	static struct message m;

	memset(&m, 0, sizeof m);
	m.type = note->type;
	if (note->type == MESSAGE_SWITCHOVER) {
		m.u.switchover.round = LAST;
		m.u.switchover.n = 1;
	} else if (note->type == MESSAGE_NEVER || note->type == MESSAGE_CANCEL || note->type == MESSAGE_REFUSE) {
		m.u.word.attempt = LAST;
		m.u.word.code = note->code;
	} else {
		m.u.handoff.attempt = LAST;
	}
	return &m;
}

/* What can happen next. */
enum event {
	ARRIVES_AT_S,
	ARRIVES_AT_D,
	CUT,
	S_NOTICES,
	D_NOTICES,
	S_ANSWERS,
	D_ANSWERS,
	S_ANSWERS_BADLY,
	D_ANSWERS_BADLY,
	S_CANCELS,
	D_CANCELS,
	S_CLOSES,
	D_CLOSES,
	S_LATE,
	D_LATE,
	ROUND_LANDS,
	STATE_LANDS,
	S_LOSES_STREAM,
	D_LOSES_STREAM,
	S_SYNC_FAILS,
	S_CONNECTS,
	S_DIALS_IN_VAIN,
	D_IS_CALLED,
	D_FORGETS,
	OPERATOR_AT_S,
	OPERATOR_AT_D,
	EVENTS,
};
static const char *const event_names[] = {
	"arrives at source",
	"arrives at destination",
	"link cut",
	"source notices",
	"destination notices",
	"source's embedder answers",
	"destination's answers",
	"source's callback fails",
	"destination's fails",
	"source cancels",
	"destination cancels",
	"source closes",
	"destination closes",
	"source's deadline",
	"destination's deadline",
	"last round lands",
	"state lands",
	"source loses a stream",
	"destination loses one",
	"a sync fails",
	"source connects",
	"source dials in vain",
	"destination is called",
	"destination forgets",
	"operator at source",
	"operator at destination",
};

/* What an operator may say who looked at both sides: only what stays true whatever happens before it is heard. -1: nothing. */
static int word_for_source(const struct world *w)
{
	if (!source_in_doubt(&w->s))
		return -1;
	return w->d.running_ns ? 0 : w->d_ended ? 1 : -1;
}

static int word_for_destination(const struct world *w)
{
	if (w->d.state != DESTINATION_DOUBT)
		return -1;
	return w->s_runs || source_in_doubt(&w->s) ? 0 : w->s_ended ? 1 : -1;
}

static bool may_happen(const struct world *w, enum event e)
{
	bool same = w->s_link == w->d_link;

	switch (e) {
	case ARRIVES_AT_S: return w->to_s.n && !w->s_noticed && !w->dialling;
	case ARRIVES_AT_D: return w->to_d.n && !w->d_noticed;
	case CUT: return !w->cut && same;
	/* Noticed after the last message or in place of it: a reset drops what was not read. */
	case S_NOTICES: return !w->s_noticed && !w->dialling && (w->cut || (same && w->d_noticed));
	case D_NOTICES: return !w->d_noticed && (w->cut || w->s_noticed || !same);
	case S_ANSWERS: return w->s.pending && !w->s_ended;
	case D_ANSWERS: return w->d.pending && !w->d_ended;
	case S_ANSWERS_BADLY: return w->s.pending && !w->s_ended && (w->s.pending != SLUICE_RESUME || resume_may_fail);
	case D_ANSWERS_BADLY: return w->d.pending && !w->d_ended;
	case S_LATE: return w->s.deadline.at_ns != UINT64_MAX || w->s.loss.until_ns;
	case D_LATE: return w->d.deadline.at_ns != UINT64_MAX || w->d.loss.until_ns;
	case ROUND_LANDS: return w->d.landed < LAST && !w->d_ended;
	case STATE_LANDS: return w->d.state_round < w->d.landed;
	case S_LOSES_STREAM:
	case D_LOSES_STREAM:
	case S_SYNC_FAILS: return w->s_link == 1 && !w->s_ended && !w->d_ended;
	case S_CONNECTS:
	case S_DIALS_IN_VAIN: return w->dialling;
	/* Its greeting may have arrived before the source knows, or after it has given up that link. */
	case D_IS_CALLED: return !same && !w->cut;
	case D_FORGETS: return w->d_ended && !w->amnesia;
	case OPERATOR_AT_S: return word_for_source(w) >= 0;
	case OPERATOR_AT_D: return word_for_destination(w) >= 0;
	default: return true;
	}
}

/* The source's greeting on a later link is read at the door, and with that nothing more of the old link. */
static void call_destination(struct world *w)
{
	struct input in = input_of(INPUT_LINK_BACK);

	w->d_link = w->s_link;
	w->d_noticed = false;
	memset(&w->to_d, 0, sizeof w->to_d);
	if (!w->d_ended) {
		in.link = w->d.epoch + 1;
		step_destination(w, in);
		return;
	}
	if (w->amnesia) {
		transmit(w, &w->to_s, false, true, (struct note){ MESSAGE_REFUSE, -ENOENT });
	} else {
		transmit(w, &w->to_s, false, true, (struct note){ MESSAGE_ANSWER, 0 });
		transmit(w, &w->to_s, false, true, (struct note){ w->d.running_ns ? MESSAGE_RUNNING : MESSAGE_NEVER, -EIO });
	}
	w->d_noticed = true;
}

static void happen(struct world *w, enum event e)
{
	struct input in = input_of(INPUT_MESSAGE);
	struct note note;

	switch (e) {
	case ARRIVES_AT_S:
		note = take(&w->to_s);
		in.message = message_of(&note);
		in.link = w->s_link;
		step_source(w, in);
		break;
	case ARRIVES_AT_D:
		note = take(&w->to_d);
		in.message = message_of(&note);
		step_destination(w, in);
		break;
	case CUT: w->cut = true; break;
	case S_NOTICES:
		w->s_noticed = true;
		memset(&w->to_s, 0, sizeof w->to_s);
		if (forging && w->s.state == SOURCE_WAIT_RUNNING) {
			note = (struct note){ MESSAGE_NEVER, -EPIPE };
			in.message = message_of(&note);
			w->s.link_up = false;
			step_source(w, in);
			break;
		}
		in = input_of(INPUT_LINK_LOST);
		in.code = -EPIPE;
		in.link = w->s_link;
		step_source(w, in);
		break;
	case D_NOTICES:
		w->d_noticed = true;
		memset(&w->to_d, 0, sizeof w->to_d);
		in = input_of(INPUT_LINK_LOST);
		in.code = -EPIPE;
		step_destination(w, in);
		break;
	case S_ANSWERS:
	case S_ANSWERS_BADLY:
		in = input_of(INPUT_DONE);
		in.request = w->s.pending;
		in.code = e == S_ANSWERS ? 0 : -EIO;
		if (in.request == SLUICE_RESUME && in.code) {
			w->s_runs = false;
			w->resume_failed = true;
		}
		step_source(w, in);
		break;
	case D_ANSWERS:
	case D_ANSWERS_BADLY:
		in = input_of(INPUT_DONE);
		in.request = w->d.pending;
		in.code = e == D_ANSWERS ? 0 : -EIO;
		if (in.request == SLUICE_RESUME && in.code)
			w->d_runs = false;
		step_destination(w, in);
		break;
	case S_CANCELS: step_source(w, input_of(INPUT_CANCEL)); break;
	case D_CANCELS: step_destination(w, input_of(INPUT_CANCEL)); break;
	case S_CLOSES: step_source(w, input_of(INPUT_CLOSE)); break;
	case D_CLOSES: step_destination(w, input_of(INPUT_CLOSE)); break;
	case S_LATE:
	case D_LATE:
		in = input_of(INPUT_TICK);
		in.now_ns = UINT64_MAX / 4;
		if (e == S_LATE)
			step_source(w, in);
		else
			step_destination(w, in);
		/* Its clock says nothing about the next deadline. */
		if (w->s.deadline.at_ns != UINT64_MAX)
			w->s.deadline.at_ns = 1000;
		if (w->d.deadline.at_ns != UINT64_MAX)
			w->d.deadline.at_ns = 1000;
		break;
	case ROUND_LANDS:
		in = input_of(INPUT_LANDED);
		in.round = LAST;
		step_destination(w, in);
		break;
	case STATE_LANDS:
		in = input_of(INPUT_STATE_LANDED);
		in.round = LAST;
		step_destination(w, in);
		break;
	case S_LOSES_STREAM:
		in = input_of(INPUT_STREAM_LOST);
		in.code = -EPIPE;
		step_source(w, in);
		break;
	case D_LOSES_STREAM:
		in = input_of(INPUT_STREAM_LOST);
		in.code = -EPIPE;
		step_destination(w, in);
		break;
	case S_SYNC_FAILS:
		in = input_of(INPUT_SYNCED);
		in.code = -EIO;
		step_source(w, in);
		break;
	case S_CONNECTS:
		w->dialling = false;
		in = input_of(INPUT_LINK_UP);
		in.link = w->s_link;
		step_source(w, in);
		break;
	case S_DIALS_IN_VAIN:
		w->dialling = false;
		w->s_noticed = true;
		in = input_of(INPUT_LINK_LOST);
		in.code = w->d_ended ? -ECONNREFUSED : -ETIMEDOUT;
		in.link = w->s_link;
		step_source(w, in);
		break;
	case D_IS_CALLED: call_destination(w); break;
	case D_FORGETS: w->amnesia = true; break;
	case OPERATOR_AT_S:
		in = input_of(INPUT_RESOLVE);
		in.value = (uint32_t)word_for_source(w);
		step_source(w, in);
		break;
	case OPERATOR_AT_D:
		in = input_of(INPUT_RESOLVE);
		in.value = (uint32_t)word_for_destination(w);
		step_destination(w, in);
		break;
	default: break;
	}
}

static bool at_rest(const struct world *w)
{
	return (w->s_ended || source_in_doubt(&w->s) || w->s.state == SOURCE_LINGERING) &&
	       (w->d_ended || w->d.state == DESTINATION_DOUBT || w->d.state == DESTINATION_LINGERING);
}

/* Nothing goes wrong any more: does it end by itself, with one guest? */
static void heals(struct world w)
{
	static const enum event course[] = {
		S_ANSWERS, D_ANSWERS, ARRIVES_AT_D, ARRIVES_AT_S, S_NOTICES, D_IS_CALLED, S_CONNECTS
	};

	for (int steps = 0; steps < 60; steps++) {
		unsigned i = 0;

		while (i < sizeof course / sizeof *course && !may_happen(&w, course[i]))
			i++;
		if (i < sizeof course / sizeof *course)
			happen(&w, course[i]);
		else if (source_in_doubt(&w.s))
			happen(&w, S_LATE);
		else
			break;
	}
	if (source_in_doubt(&w.s) || w.d.state == DESTINATION_DOUBT)
		bad(&w, "a network that works does not end the doubt");
	if (w.s_runs == w.d_runs)
		bad(&w, "a network that works does not bring one guest back");
}

/* An operator who looks at both sides, and ends one before the other runs, can always make it right. */
static void operator_ends_it(struct world w)
{
	while (word_for_destination(&w) >= 0 || word_for_source(&w) >= 0) {
		happen(&w, word_for_destination(&w) >= 0 ? OPERATOR_AT_D : OPERATOR_AT_S);
		while (w.d.pending && !w.d_ended)
			happen(&w, D_ANSWERS);
		while (w.s.pending && !w.s_ended)
			happen(&w, S_ANSWERS);
		if (w.d.state == DESTINATION_TELLING)
			happen(&w, D_LATE);
	}
	if (w.s_runs == w.d_runs)
		bad(&w, "no operator can end this with one guest");
	if (source_in_doubt(&w.s) || w.d.state == DESTINATION_DOUBT)
		bad(&w, "still in doubt after the operator's word");
}

static void judge(const struct world *w)
{
	bool s_doubt = source_in_doubt(&w->s), d_doubt = w->d.state == DESTINATION_DOUBT;

	if (w->s_runs && w->d_runs)
		bad(w, "both sides run the guest");
	if ((s_doubt && w->s_runs) || (d_doubt && w->d_runs))
		bad(w, "a side in doubt runs");
	if (w->s.phase == SLUICE_COMPLETED && !w->d_runs)
		bad(w, "completed at the source, and it does not run at the destination");
	if (w->s_ended && w->s.phase != SLUICE_COMPLETED && !w->s_runs && !w->resume_failed)
		bad(w, "the source gave up, and its guest does not run");
	if (w->s_ended && w->resume_failed && w->s.phase == SLUICE_CANCELLED && !w->s_runs)
		bad(w, "cancelled says that the guest runs");
	if (w->d_ended && (w->d.phase == SLUICE_COMPLETED) != w->d_runs)
		bad(w, "the destination ended as something that it is not");
	if (s_doubt && !w->amnesia && !w->resume_failed)
		heals(*w);
	if (!at_rest(w) || w->resume_failed)
		return;
	if (!w->s_runs && !w->d_runs && !s_doubt && !d_doubt)
		bad(w, "none runs and nobody is in doubt");
	if (s_doubt || d_doubt)
		operator_ends_it(*w);
}

static bool is_new(const struct world *w)
{
	uint64_t h = hash_of(w), at = h % STATES_MAX;

	for (; seen[at]; at = (at + 1) % STATES_MAX)
		if (seen[at] == h)
			return false;
	seen[at] = h;
	return true;
}

/* Both sides as they are when the source sends SWITCHOVER. */
static void set_out(struct world *w)
{
	struct input in;

	memset(w, 0, sizeof *w);
	w->parent = -1;
	w->by = "";
	w->s_link = w->d_link = 1;
	source_init(&w->s);
	destination_init(&w->d);
	step_destination(w, input_of(INPUT_START));
	w->d.state = DESTINATION_ACTIVE;
	w->d.phase = SLUICE_ACTIVE;
	w->d.link_up = true;
	w->d.epoch = 1;
	w->d.landed = LAST - 1;
	w->d.deadline.at_ns = UINT64_MAX;
	w->s.state = SOURCE_LAST_ROUND;
	w->s.last_sent = true;
	w->s.phase = SLUICE_DEVICE;
	w->s.link_up = true;
	w->s.dials = 1;
	w->s.guest_stopped = true;
	w->s.round = LAST;
	w->s.landed = LAST - 1;
	w->s.deadline.at_ns = 1000;
	in = input_of(INPUT_SYNCED);
	step_source(w, in);
	CU_ASSERT_EQUAL(w->s.state, SOURCE_WAIT_READY);
}

/* What makes no difference any more, alike everywhere: there are states enough. */
static void tidy(struct world *w)
{
	if (w->d_ended) {
		memset(&w->to_d, 0, sizeof w->to_d);
		w->d.landed = w->d.state_round = LAST;
		memset(&w->d.loss, 0, sizeof w->d.loss);
	}
	if (w->d.state >= DESTINATION_LOADING)
		memset(&w->d.loss, 0, sizeof w->d.loss);
	if (w->s.state >= SOURCE_WAIT_READY && w->s.state != SOURCE_TURNING_BACK)
		memset(&w->s.loss, 0, sizeof w->s.loss);
	if (w->s_ended) {
		memset(&w->to_s, 0, sizeof w->to_s);
		w->s_noticed = true;
		w->dialling = w->amnesia = false;
		w->s.tell_until_ns = w->s.redial_ms = 0;
		w->s.may_be_ready = w->s.asked_anew = false;
	}
}

/* Visit every state that can be reached. Returns how many there are. */
static int explore(void)
{
	int rests = 0, runs_there = 0, runs_here = 0, doubts = 0;

	worlds = malloc((size_t)(STATES_MAX / 2) * sizeof *worlds);
	seen = calloc(STATES_MAX, sizeof *seen);
	if (!worlds || !seen)
		abort();
	n_bad = 0;
	set_out(&worlds[0]);
	n_worlds = 1;
	is_new(&worlds[0]);
	for (int i = 0; i < n_worlds; i++) {
		for (int e = 0; e < EVENTS; e++) {
			if ((worlds[i].s_ended && worlds[i].d_ended) || !may_happen(&worlds[i], (enum event)e))
				continue;
			struct world *w = &worlds[n_worlds];

			*w = worlds[i];
			w->parent = i;
			w->by = event_names[e];
			happen(w, (enum event)e);
			tidy(w);
			if (!is_new(w))
				continue;
			n_worlds++;
			struct world copy = *w;
			judge(&copy);
			if (at_rest(w)) {
				rests++;
				runs_there += w->d_runs;
				runs_here += w->s_runs;
				doubts += source_in_doubt(&w->s) || w->d.state == DESTINATION_DOUBT;
			}
			if (n_worlds >= STATES_MAX / 2 - 2) {
				CU_FAIL_FATAL("more states than expected");
				return n_worlds;
			}
		}
	}
	/* That the ways out are there at all. */
	CU_ASSERT(rests > 10 && runs_there > 1 && runs_here > 1 && doubts > 1);
	printf("%d states, %d at rest (%d run there, %d here, %d in doubt) ", n_worlds, rests, runs_there, runs_here, doubts);
	free(worlds);
	free(seen);
	return n_worlds;
}

static void never_both_never_none(void)
{
	forging = resume_may_fail = false;
	explore();
	CU_ASSERT_EQUAL(n_bad, 0);
}

static void nor_where_resuming_fails(void)
{
	forging = false;
	resume_may_fail = true;
	explore();
	CU_ASSERT_EQUAL(n_bad, 0);
}

/* The same search finds it where a source takes silence after GO for NEVER. */
static void finds_a_source_that_resumes_after_go(void)
{
	resume_may_fail = false;
	forging = true;
	explore();
	CU_ASSERT(n_bad > 0);
}

/* Both at their own pace but in time: each deadline of the source is longer than what the destination may take before it. */
static void slow_sides_wait_for_each_other(void)
{
	struct world w;
	uint64_t now = 1, callback = usual_params.callback_ms * MS;

	set_out(&w);
	struct input in = input_of(INPUT_MESSAGE);
	struct note note = take(&w.to_d);
	in.message = message_of(&note);
	step_destination(&w, in);
	in = input_of(INPUT_LANDED);
	in.round = LAST;
	in.now_ns = now += 500 * MS; /* a wire as slow as the guest's limit bears */
	step_destination(&w, in);
	struct message landed = { .type = MESSAGE_LANDED };
	landed.u.landed.round = LAST;
	struct input told = { .type = INPUT_MESSAGE, .message = &landed, .now_ns = now, .params = usual_params, .stream = -1 };
	step_source(&w, told);
	in.type = INPUT_STATE_LANDED;
	step_destination(&w, in);
	CU_ASSERT_EQUAL(w.d.pending, SLUICE_LOAD);
	now += callback - MS; /* a slow device */
	in = input_of(INPUT_TICK);
	in.now_ns = now;
	step_source(&w, in);
	CU_ASSERT_EQUAL(w.s.state, SOURCE_WAIT_READY);
	in = input_of(INPUT_DONE);
	in.request = SLUICE_LOAD;
	in.now_ns = now;
	step_destination(&w, in);
	note = take(&w.to_s);
	CU_ASSERT_EQUAL(note.type, MESSAGE_READY);
}

SUITE("handoff", TEST(never_both_never_none), TEST(nor_where_resuming_fails), TEST(finds_a_source_that_resumes_after_go),
      TEST(slow_sides_wait_for_each_other))
