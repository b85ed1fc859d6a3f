/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coverage_rules.c: which cells of the coverage cannot be, and why. Each rule says so in a line, and is put to the test: a cell that it
 * forbids and that is met all the same breaks the run that meets it. */
#include "core/decide/message.h"
#include "tests/sim/coverage.h"

#define BIT(x) (1ull << (x))
#define M(x) BIT(MESSAGE_##x)
enum { NOTHING = 1 };

/* The last message given or taken in a phase; all others belong to other phases. A side that gives up still waits for its embedder in
 * the phase that it was in; one that is over stays for a while for a peer that may be in doubt, on the old link or a later one. */
static const uint64_t spots_of[2][COVERAGE_PHASES] = {
	[SIM_SOURCE] = {
		[SLUICE_SETUP] = NOTHING | M(HELLO) | M(WELCOME) | M(STREAMS_UP),
		[SLUICE_ACTIVE] = M(HELLO) | M(STREAMS_UP) | M(LANDED) | M(CANCEL),
		[SLUICE_DRAINING] = M(HELLO) | M(STREAMS_UP) | M(LANDED) | M(CANCEL),
		[SLUICE_PRE_SWITCHOVER] = M(HELLO) | M(LANDED) | M(CANCEL),
		[SLUICE_DEVICE] = M(HELLO) | M(LANDED) | M(SWITCHOVER) | M(READY) | M(GO) | M(ANSWER) | M(NEVER) | M(CANCEL) | M(BYE),
		[SLUICE_COMPLETED] = M(READY) | M(GO) | M(ANSWER) | M(RUNNING) | M(DONE) | M(BYE),
		[SLUICE_CANCELLING] = M(LANDED) | M(SWITCHOVER) | M(READY) | M(CANCEL),
		[SLUICE_CANCELLED] = NOTHING | M(WELCOME) | M(REFUSE) | M(STREAMS_UP) | M(LANDED) | M(SWITCHOVER) | M(READY) |
				     M(ANSWER) | M(NEVER) | M(CANCEL) | M(BYE),
		[SLUICE_FAILED] = NOTHING | M(HELLO) | M(WELCOME) | M(REFUSE) | M(STREAMS_UP) | M(LANDED) | M(SWITCHOVER) | M(READY) |
				  M(GO) | M(ANSWER) | M(NEVER) | M(CANCEL) | M(BYE),
		[SLUICE_IN_DOUBT] = M(READY) | M(GO) | M(ANSWER) | M(REFUSE),
	},
	[SIM_DESTINATION] = {
		[SLUICE_INCOMING] = NOTHING | M(HELLO) | M(REFUSE) | M(CANCEL),
		[SLUICE_SETUP] = M(HELLO) | M(WELCOME),
		[SLUICE_ACTIVE] = M(HELLO) | M(STREAMS_UP) | M(SWITCHOVER),
		[SLUICE_DEVICE] = M(STREAMS_UP) | M(SWITCHOVER) | M(READY) | M(GO) | M(ANSWER) | M(RUNNING) | M(NEVER) | M(CANCEL),
		[SLUICE_COMPLETED] = M(SWITCHOVER) | M(READY) | M(GO) | M(ANSWER) | M(RUNNING) | M(DONE) | M(BYE),
		[SLUICE_CANCELLED] = NOTHING | M(HELLO) | M(WELCOME) | M(REFUSE) | M(STREAMS_UP) | M(SWITCHOVER) | M(NEVER) |
				     M(CANCEL) | M(BYE),
		[SLUICE_FAILED] = NOTHING | M(HELLO) | M(WELCOME) | M(REFUSE) | M(STREAMS_UP) | M(SWITCHOVER) | M(READY) | M(GO) |
				  M(ANSWER) | M(NEVER) | M(CANCEL) | M(BYE),
		[SLUICE_IN_DOUBT] = M(SWITCHOVER) | M(READY),
	},
};

static bool among(uint32_t message, uint64_t messages)
{
	return messages & BIT(message);
}

/* Something is asked of the embedder only to begin with, once the guest is to stand still, and where an operator spoke. */
static bool asks(const struct cell *c)
{
	if (c->side == SIM_SOURCE)
		return (among(c->phase, BIT(SLUICE_ACTIVE) | BIT(SLUICE_DRAINING)) && c->message != MESSAGE_STREAMS_UP) ||
		       c->phase == SLUICE_PRE_SWITCHOVER ||
		       (c->phase == SLUICE_DEVICE && !among(c->message, M(GO) | M(ANSWER))) || c->phase == SLUICE_CANCELLING ||
		       c->phase == SLUICE_IN_DOUBT;
	return (c->phase == SLUICE_INCOMING || c->phase == SLUICE_DEVICE || c->phase == SLUICE_IN_DOUBT) &&
	       !among(c->message, M(REFUSE) | M(CANCEL) | M(NEVER) | M(RUNNING));
}

/* The tracker's log is asked while it is armed, in a round, and when all is counted. */
static bool asks_log(const struct cell *c)
{
	if (c->side != SIM_SOURCE)
		return false;
	switch (c->phase) {
	case SLUICE_SETUP: return among(c->message, M(HELLO) | M(STREAMS_UP));
	case SLUICE_ACTIVE:
	case SLUICE_DRAINING: return c->message != MESSAGE_CANCEL;
	case SLUICE_DEVICE: return among(c->message, M(HELLO) | M(LANDED));
	default: return false;
	}
}

/* And once more, to stop it: sync does, in its own time, and much may be said meanwhile. */
static bool stops_log(const struct cell *c)
{
	uint64_t under_way = M(STREAMS_UP) | M(LANDED) | M(SWITCHOVER) | M(READY) | M(CANCEL);

	if (c->side != SIM_SOURCE)
		return false;
	switch (c->phase) {
	case SLUICE_COMPLETED: return true;
	case SLUICE_CANCELLED: return among(c->message, under_way | M(NEVER) | M(BYE) | M(ANSWER));
	case SLUICE_FAILED: return among(c->message, under_way | M(HELLO) | M(GO) | M(NEVER) | M(BYE) | M(ANSWER));
	default: return false;
	}
}

/* The source's session can still be cancelled: it has not said GO, and is not over. */
static bool source_cancels(const struct cell *c)
{
	uint64_t too_late = M(GO) | M(RUNNING) | M(NEVER) | M(ANSWER) | M(BYE);

	if (c->side == SIM_SOURCE)
		return c->phase <= SLUICE_DEVICE && !among(c->message, too_late | M(CANCEL));
	switch (c->phase) { /* what the destination has heard of its end, it ended by */
	case SLUICE_COMPLETED: return false;
	case SLUICE_INCOMING: return c->message != MESSAGE_CANCEL;
	case SLUICE_CANCELLED: return !among(c->message, too_late | M(WELCOME) | M(STREAMS_UP));
	case SLUICE_FAILED: return !among(c->message, too_late | M(READY));
	default: return !among(c->message, too_late);
	}
}

/* The destination's can until it says READY; and one that was started again, whatever the source is about. */
static bool destination_cancels(const struct cell *c)
{
	if (c->side == SIM_SOURCE)
		return true;
	return c->phase <= SLUICE_DEVICE &&
	       !among(c->message, M(REFUSE) | M(CANCEL) | M(READY) | M(GO) | M(RUNNING) | M(NEVER) | M(ANSWER));
}

/* The deciding code has a link, or is about to. Who has had the last word or let it go (CANCEL before SWITCHOVER, NEVER, BYE) has none. */
static bool has_link(const struct cell *c)
{
	bool source = c->side == SIM_SOURCE;

	switch (c->phase) {
	case SLUICE_COMPLETED: return among(c->message, M(RUNNING) | M(DONE) | (source ? 0 : M(GO)));
	case SLUICE_CANCELLED:
	case SLUICE_FAILED: /* it lets the other side know */
		if (source)
			return among(c->message, M(LANDED) | M(SWITCHOVER) | M(READY) | M(ANSWER) | M(CANCEL)) ||
			       (c->phase == SLUICE_FAILED && c->message == MESSAGE_GO);
		return among(c->message, M(NEVER) | M(CANCEL)) ||
		       (c->phase == SLUICE_FAILED && among(c->message, M(SWITCHOVER) | M(GO)));
	case SLUICE_IN_DOUBT: return source; /* it is the source that dials */
	default: return !among(c->message, source ? M(NEVER) | M(BYE) : M(REFUSE) | M(NEVER) | M(CANCEL));
	}
}

/* Something is said on it after that. A source that has to let know gets its ANSWER and the last word in one go. */
static bool has_frames(const struct cell *c)
{
	return has_link(c) && !(c->message == MESSAGE_ANSWER && among(c->phase, BIT(SLUICE_FAILED) | BIT(SLUICE_CANCELLED)));
}

/* From WELCOME until the side gives up, is in doubt, or the guest has moved. */
static bool has_streams(const struct cell *c)
{
	return c->phase >= SLUICE_SETUP && c->phase <= SLUICE_DEVICE &&
	       !among(c->message, NOTHING | M(ANSWER) | M(NEVER) | M(CANCEL) | M(BYE));
}

/* Something is sent on a stream: greetings, and then batches until SWITCHOVER says that there are no more. */
static bool has_batches(const struct cell *c)
{
	if (!has_streams(c) || c->message == MESSAGE_SWITCHOVER || c->phase == SLUICE_PRE_SWITCHOVER)
		return false;
	if (c->side == SIM_DESTINATION)
		return c->phase != SLUICE_DEVICE;
	if (c->phase == SLUICE_SETUP)
		return c->message != MESSAGE_STREAMS_UP;
	return c->phase == SLUICE_ACTIVE || c->phase == SLUICE_DRAINING || among(c->message, M(HELLO) | M(LANDED));
}

/* There are no more batches, and a source that lies sends one. */
static bool may_lie(const struct cell *c)
{
	return has_streams(c) && (c->message == MESSAGE_SWITCHOVER || c->phase == SLUICE_DEVICE);
}

/* Nobody cares for a source that an operator has declared gone. */
static bool has_source(const struct cell *c)
{
	return !(c->side == SIM_DESTINATION && c->phase == SLUICE_COMPLETED && c->message == MESSAGE_SWITCHOVER);
}

static bool in_phase(const struct cell *c)
{
	return spots_of[c->side][c->phase] & BIT(c->message);
}

#define F(x) BIT(FAULT_##x)
#define OF_LINK (F(CUT_LINK) | F(SILENT_LINK) | F(SILENT_ONE_WAY) | F(STALL_LINK))
#define OF_FRAMES (F(DAMAGE_LINK) | F(DOUBLE_LINK) | F(OLD_LINK) | F(TEAR_LINK))
#define OF_STREAMS (F(CUT_STREAM) | F(SILENT_STREAM) | F(STALL_STREAM))
#define OF_BATCHES (F(DAMAGE_STREAM) | F(DOUBLE_STREAM) | F(TEAR_STREAM))
#define OF_ALL (F(CUT_SOME) | F(CUT_ALL) | F(SILENT_ALL) | F(STALL_ALL))
#define OF_SOURCE (F(CRASH_SOURCE) | F(RESTART_SOURCE) | F(HOST_SOURCE))

static bool has_wires(const struct cell *c)
{
	return has_link(c) || has_streams(c);
}

static bool has_batches_or_lies(const struct cell *c)
{
	return has_batches(c) || may_lie(c);
}

/* Who waits for the lock with the guest stopped does so for a second, though the other side has given up meanwhile. */
static bool wants_lock(const struct cell *c)
{
	return asks_log(c) || stops_log(c) ||
	       (c->side == SIM_SOURCE && c->phase == SLUICE_DEVICE && c->message == MESSAGE_CANCEL);
}

/* What a cell needs in order to be: of the deciding code's words. */
static const struct rule {
	uint64_t faults; /* that it is about */
	bool (*holds)(const struct cell *c);
	const char *else_why; /* it cannot be */
} rules[] = {
	{ BIT(FAULTS) - 1, in_phase, "the deciding code gives or takes that word in other phases only" },
	{ OF_LINK, has_link, "a side that has let go of its link, or not dialled yet, does not notice what becomes of one" },
	{ OF_FRAMES, has_frames,
	  "no frame follows that could be harmed: the link is gone, or its last word has just come with ANSWER" },
	{ OF_STREAMS, has_streams, "streams are there from WELCOME until a side gives up, is in doubt, or the guest has moved" },
	{ OF_BATCHES, has_batches,
	  "no batch follows that could be harmed: greetings are out, and SWITCHOVER says that there are no more" },
	{ F(OLD_STREAM), has_batches_or_lies, "no batch follows, and nobody would take one from a source that lies" },
	{ OF_ALL, has_wires, "there is neither a link nor a stream" },
	{ OF_SOURCE, has_source, "an operator lets the guest run there only where there is no source any more" },
	{ F(CANCEL_SOURCE), source_cancels,
	  "too late to cancel the source: it has said GO, or is over, and what came last says so" },
	{ F(CANCEL_DESTINATION), destination_cancels, "too late to cancel the destination: it has said READY, or its last word" },
	{ F(LOG_FAILS), asks_log, "the log is asked only while it is armed, in a round, and when all is counted" },
	{ F(LOCK_HELD), wants_lock, "the big lock is wanted only for the log, and to stop that" },
	{ F(CALLBACK_FAILS) | F(CALLBACK_HANGS), asks, "nothing is asked of the embedder there" },
};

static const char *forbidden(const struct cell *c)
{
	for (uint32_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (among(c->fault, rules[i].faults) && !rules[i].holds(c))
			return rules[i].else_why;
	return NULL;
}

/* ---------------------------------------------------------------- what link threads say by themselves */

bool coverage_is_talk(enum sim_side side, uint32_t message)
{
	return message == MESSAGE_HEARTBEAT || message == MESSAGE_EMBEDDER ||
	       (message == MESSAGE_LANDED && side == SIM_DESTINATION);
}

/* Until STREAMS_UP there are only heartbeats. */
static bool agreed(const struct cell *c)
{
	return c->message == MESSAGE_HEARTBEAT || (c->side == SIM_SOURCE ? c->phase >= SLUICE_SETUP : c->phase >= SLUICE_ACTIVE);
}

/* Next to a word that leaves the side its link there may be talk, and what can strike there then strikes next to that. */
static bool next_to_words(const struct cell *c)
{
	uint64_t too_early = c->message != MESSAGE_HEARTBEAT && c->phase <= SLUICE_SETUP ? NOTHING | M(HELLO) | M(WELCOME) : 0;

	for (uint32_t m = 0; m < MESSAGE_TYPES; m++) {
		struct cell word = { c->side, c->phase, c->fault, m };
		if (!coverage_is_talk(c->side, m) && !among(m, too_early) && in_phase(&word) && has_frames(&word) &&
		    !forbidden(&word))
			return true;
	}
	return false;
}

static bool reports(const struct cell *c)
{
	return c->message != MESSAGE_LANDED || c->phase == SLUICE_ACTIVE || c->phase == SLUICE_DEVICE;
}

static bool not_in_doubt(const struct cell *c)
{
	return c->message != MESSAGE_EMBEDDER || c->phase != SLUICE_IN_DOUBT;
}

static bool not_cancelled(const struct cell *c)
{
	return c->message != MESSAGE_EMBEDDER || c->side == SIM_SOURCE || c->phase != SLUICE_CANCELLED;
}

static bool not_resolved(const struct cell *c)
{
	return c->phase != SLUICE_IN_DOUBT;
}

static bool asks_later(const struct cell *c)
{
	return c->phase != SLUICE_INCOMING && c->phase != SLUICE_PRE_SWITCHOVER;
}

static bool not_told(const struct cell *c)
{
	return c->side == SIM_SOURCE || c->phase < SLUICE_COMPLETED;
}

/* As above: of talk. */
static const struct rule talk_rules[] = {
	{ BIT(FAULTS) - 1, agreed, "only heartbeats go before STREAMS_UP" },
	{ BIT(FAULTS) - 1, next_to_words, "there is no link, or the fault can strike next to no word that leaves one" },
	{ BIT(FAULTS) - 1, reports, "a report is of what has landed, and by READY all has" },
	{ BIT(FAULTS) - 1, not_in_doubt, "no message goes on a later link before ANSWER, and that ends the doubt" },
	{ BIT(FAULTS) - 1, not_cancelled,
	  "a source that has said CANCEL sends no message behind it, and who has heard it sends none" },
	{ F(CANCEL_SOURCE), not_told, "a destination that is over and has a link has heard GO or CANCEL: too late for another" },
	{ F(CALLBACK_FAILS) | F(CALLBACK_HANGS), asks_later,
	  "what is asked there is asked in the step that takes HELLO, or says CANCEL" },
	{ F(CALLBACK_FAILS) | F(CALLBACK_HANGS), not_resolved,
	  "an operator's word lets go of the link before anything is asked" },
};

const char *coverage_why_not(const struct cell *c)
{
	if (!coverage_is_talk(c->side, c->message))
		return forbidden(c);
	for (uint32_t i = 0; i < sizeof talk_rules / sizeof *talk_rules; i++)
		if (among(c->fault, talk_rules[i].faults) && !talk_rules[i].holds(c))
			return talk_rules[i].else_why;
	return NULL;
}

bool coverage_has_link(const struct cell *c)
{
	return has_frames(c);
}

bool coverage_has_phase(enum sim_side side, enum sluice_phase phase)
{
	return spots_of[side][phase];
}
