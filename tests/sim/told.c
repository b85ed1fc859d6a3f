/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* told.c: see told.h. What the deciding code orders is held against what reaches the embedder. */
#include "tests/sim/told.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/decide/message.h"
#include "core/run/session.h"
#include "tests/sim/embedder.h"

enum { PHASES = 16 }; /* on their way to an embedder whose loop is late */

static struct {
	struct sluice_error error; /* the first since the last doubt has ended */
	enum sluice_phase phases[PHASES];
	uint32_t phases_ordered, phases_told;
	uint32_t rounds_ordered, rounds_told;
	bool warned; /* that the guest does not converge */
	uint32_t pauses;
	uint64_t paused_at, ready_at, running_at; /* a pause was ordered; words were taken */
	/* For the figures. */
	uint64_t held, held_most_ns;
	uint64_t bytes, pages, zero_pages;
} told[2];

void told_begin(enum sim_side side)
{
	memset(&told[side], 0, sizeof told[side]);
}

/* ---------------------------------------------------------------- errors */

static bool is_word(uint32_t type)
{
	return type == MESSAGE_REFUSE || type == MESSAGE_NEVER || type == MESSAGE_CANCEL;
}

static bool answers_with_code(enum input_type type)
{
	return type == INPUT_DONE || type == INPUT_LINK_LOST || type == INPUT_ARMED || type == INPUT_SYNCED ||
	       type == INPUT_MESSAGE;
}

static void must_say(enum sim_side side, const struct action *a, const char *what)
{
	if (!strstr(a->text, what))
		sim_violation("errors: the %s says \"%s\", and what happened is \"%s\"", embedder_names[side], a->text, what);
}

static void must_have_code(enum sim_side side, const struct action *a, int code)
{
	if (a->code != code)
		sim_violation("errors: the %s fails with code %d, and what happened has code %d", embedder_names[side], a->code,
			      code);
}

/* What an embedder's failure is called: as the embedder itself says, or by its code. */
static void check_failed_request(enum sim_side side, const struct input *in, const struct action *a)
{
	const struct embedder *e = &embedders[side];

	if (e->answers[in->request].code) /* else it was fine, and did not fit the offer */
		must_say(side, a, e->because[0] ? e->because : strerror(-in->code));
}

static void check_error(enum sim_side side, const struct input *in, const struct action *a)
{
	const struct message *m = in->type == INPUT_MESSAGE ? in->message : NULL;
	bool word = m && is_word(m->type) && !in->code;

	if (a->code >= 0 || !a->text[0])
		sim_violation("errors: the %s fails with code %d, and says \"%s\"", embedder_names[side], a->code, a->text);
	for (const char *c = a->text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			sim_violation("errors: the %s's error has a byte %d in it", embedder_names[side], *c);
	if (a->code != -EINPROGRESS && a->theirs != (m && is_word(m->type)))
		sim_violation("errors: the %s says that its error is %s, and it is not", embedder_names[side],
			      a->theirs ? "the other side's" : "its own");
	if (a->code == -EINPROGRESS) {
		if (!a->cause[0])
			sim_violation("errors: the %s is in doubt, and does not say why", embedder_names[side]);
		must_say(side, a, a->cause);
	} else if (m && a->code == -EPROTO) {
		/* a message out of place */
	} else if (word) {
		char said[SLUICE_ERROR_MAX];
		memcpy(said, m->u.word.text, sizeof said);
		said[200] = 0; /* there is something before it */
		must_have_code(side, a, m->u.word.code);
		must_say(side, a, said);
	} else if (in->code && answers_with_code(in->type)) {
		must_have_code(side, a, in->code);
		if (in->type == INPUT_DONE)
			check_failed_request(side, in, a);
		else if (in->text && in->text[0])
			must_say(side, a, in->text);
	}
}

/* The other side is told the same. */
static void check_parting(enum sim_side side, const struct action *word, const struct action *error)
{
	if (word->code >= 0 || !word->text[0])
		sim_violation("errors: the %s says %s with code %d and \"%s\"", embedder_names[side],
			      message_name(word->message_type), word->code, word->text);
	if (error && (word->code != error->code || strcmp(word->text, error->text)))
		sim_violation("errors: the %s fails for \"%s\", and says %s for \"%s\"", embedder_names[side], error->text,
			      message_name(word->message_type), word->text);
}

static void keep_error(enum sim_side side, const struct action *a)
{
	struct sluice_error *e = &told[side].error;

	if (e->code)
		return;
	*e = (struct sluice_error){ .code = a->code, .phase = a->phase, .stream = a->stream, .theirs = a->theirs };
	memcpy(e->text, a->text, sizeof e->text);
	memcpy(e->cause, a->cause, sizeof e->cause);
}

static void check_kept(enum sim_side side, struct sluice *session)
{
	const struct sluice_error *first = &told[side].error;
	struct sluice_error e;

	sluice_get_error(session, &e);
	if (e.code != first->code || e.phase != first->phase || e.stream != first->stream || e.theirs != first->theirs ||
	    strcmp(e.text, first->text) || strcmp(e.cause, first->cause))
		sim_violation("errors: the %s's first error is \"%s\", and what it says is \"%s\"", embedder_names[side],
			      first->text, e.text);
}

/* ---------------------------------------------------------------- what is ordered */

void told_step(enum sim_side side, const struct input *in, const struct actions *out)
{
	const struct action *error = NULL;

	if (in->type == INPUT_MESSAGE && in->message->type == MESSAGE_READY && out->n &&
	    told[side].ready_at < told[side].paused_at)
		told[side].ready_at = in->now_ns;
	for (uint32_t i = 0; i < out->n; i++) {
		const struct action *a = &out->list[i];
		switch (a->type) {
		case ACTION_ERROR:
			check_error(side, in, a);
			keep_error(side, a);
			error = a;
			break;
		case ACTION_MENDED: told[side].error.code = 0; break;
		case ACTION_SEND:
			if (is_word(a->message_type))
				check_parting(side, a, error);
			break;
		case ACTION_PHASE:
			told[side].phases[told[side].phases_ordered++ % PHASES] = a->phase;
			if (a->phase == SLUICE_COMPLETED)
				told[side].running_at = in->now_ns;
			break;
		case ACTION_ROUND_EVENT: told[side].rounds_ordered++; break;
		case ACTION_REQUEST:
			if (a->request == SLUICE_PAUSE) {
				told[side].paused_at = in->now_ns;
				told[side].pauses++;
			}
			break;
		default: break;
		}
	}
	if (!told[side].error.code)
		memset(&told[side].error, 0, sizeof told[side].error);
}

/* ---------------------------------------------------------------- what is told */

static void phase_told(enum sim_side side, enum sluice_phase phase)
{
	uint32_t on_their_way = told[side].phases_ordered - told[side].phases_told;
	enum sluice_phase next = told[side].phases[told[side].phases_told++ % PHASES];

	if (!on_their_way || (on_their_way <= PHASES && next != phase))
		sim_violation("events: the %s is told of phase %s, and was %s then", embedder_names[side],
			      sluice_phase_name(phase), on_their_way ? sluice_phase_name(next) : "in no other");
}

void told_event(enum sim_side side, const struct sluice_event *event)
{
	switch (event->type) {
	case SLUICE_EVENT_PHASE: phase_told(side, event->u.phase); break;
	case SLUICE_EVENT_ROUND:
		if (event->u.round.n != ++told[side].rounds_told)
			sim_violation("events: the %s is told that round %u is over, and it is number %u", embedder_names[side],
				      event->u.round.n, told[side].rounds_told);
		break;
	case SLUICE_EVENT_WARNING: told[side].warned |= strstr(event->u.text, "does not converge") != NULL; break;
	default: break;
	}
}

void told_throttle(uint32_t percent)
{
	if (percent && !told[SIM_SOURCE].warned)
		sim_violation("events: the guest is slowed down by %u %%, and nobody was told that it does not converge",
			      percent);
}

/* ---------------------------------------------------------------- figures */

void told_dispatched(enum sim_side side)
{
	told[side].held++;
}

void told_unlocked(enum sim_side side, uint64_t held_ns)
{
	told[side].held++;
	if (held_ns > told[side].held_most_ns)
		told[side].held_most_ns = held_ns;
}

void told_sent(uint64_t bytes)
{
	told[SIM_SOURCE].bytes += bytes;
}

void told_pages(uint32_t pages, uint32_t zero)
{
	told[SIM_SOURCE].pages += pages;
	told[SIM_SOURCE].zero_pages += zero;
}

static void must_be(enum sim_side side, const char *what, uint64_t said, uint64_t seen)
{
	if (said != seen)
		sim_violation("figures: the %s says %s %lu, and seen were %lu", embedder_names[side], what, said, seen);
}

/* From when the guest was to stop to when it ran: no truer than what this side can know, whatever the other one says. */
static void check_downtime(const struct sluice_stats *st)
{
	double least = (double)(told[SIM_SOURCE].ready_at - told[SIM_SOURCE].paused_at) * 1e-6,
	       most = (double)(told[SIM_SOURCE].running_at - told[SIM_SOURCE].paused_at) * 1e-6;

	if (st->downtime_ms > 0 && (st->downtime_ms < least - 0.01 || st->downtime_ms > most + 0.01))
		sim_violation("figures: the downtime was %.3f ms, and it was between %.3f and %.3f ms", st->downtime_ms, least,
			      most);
}

void told_end(enum sim_side side, struct sluice *session)
{
	struct sluice_stats st = { .size_of = sizeof st };

	check_kept(side, session);
	must_be(side, "phases", told[side].phases_told, told[side].phases_ordered);
	must_be(side, "rounds told of", told[side].rounds_told, told[side].rounds_ordered);
	if (sluice_get_stats(session, &st))
		sim_violation("figures: the %s has none", embedder_names[side]);
	must_be(side, "holds of the big lock", st.lock_held_us.count, told[side].held);
	if (st.lock_held_us.max * 1e3 + 1 < (double)told[side].held_most_ns)
		sim_violation("Law 2: the big lock was held for %lu ns, and %.0f were measured", told[side].held_most_ns,
			      st.lock_held_us.max * 1e3);
	if (side != SIM_SOURCE)
		return;
	must_be(side, "tries to stop the guest", st.device_tries, told[side].pauses);
	must_be(side, "bytes on the wire", st.wire_bytes, told[side].bytes);
	must_be(side, "bytes of the guest's", st.guest_bytes, told[side].pages * SLUICE_PAGE_SIZE);
	must_be(side, "bytes of zeroes", st.zero_bytes, told[side].zero_pages * SLUICE_PAGE_SIZE);
	check_downtime(&st);
}
