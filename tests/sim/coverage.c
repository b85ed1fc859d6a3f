/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coverage.c: see coverage.h. Which cells can be, and which were met, over all seeds. */
#include "tests/sim/coverage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/decide/destination.h"
#include "core/decide/source.h"
#include "tests/sim/contracts.h"
#include "tests/sim/embedder.h"
#include "tests/sim/heed.h"
#include "tests/sim/knobs.h"
#include "tests/sim/lies.h"
#include "tests/sim/outcome.h"
#include "tests/sim/pace.h"
#include "tests/sim/promises.h"
#include "tests/sim/race.h"
#include "tests/sim/still.h"
#include "tests/sim/told.h"
#include "tests/sim/waits.h"
#include "tests/sim/world.h"
#include "tests/sim/yield.h"

struct spot coverage_spots[2], coverage_asked_at[2];
static uint64_t met[2][COVERAGE_PHASES][FAULTS][MESSAGE_TYPES];

/* ---------------------------------------------------------------- which cells can be */

#define BIT(x) (1u << (x))
#define M(x) BIT(MESSAGE_##x)
enum { NOTHING = 1 };

/* The last message given or taken in a phase; all others belong to other phases. A side that gives up still waits for its embedder in
 * the phase that it was in; one that is over stays for a while for a peer that may be in doubt, on the old link or a later one. */
static const uint32_t spots_of[2][COVERAGE_PHASES] = {
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

static bool among(uint32_t message, uint32_t messages)
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
	uint32_t under_way = M(STREAMS_UP) | M(LANDED) | M(SWITCHOVER) | M(READY) | M(CANCEL);

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
	uint32_t too_late = M(GO) | M(RUNNING) | M(NEVER) | M(ANSWER) | M(BYE);

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

bool coverage_can_be(const struct cell *c)
{
	if (!(spots_of[c->side][c->phase] & BIT(c->message)))
		return false;
	switch (c->fault) {
	case FAULT_CUT_LINK:
	case FAULT_SILENT_LINK:
	case FAULT_SILENT_ONE_WAY:
	case FAULT_STALL_LINK: return has_link(c);
	case FAULT_DAMAGE_LINK:
	case FAULT_DOUBLE_LINK:
	case FAULT_OLD_LINK:
	case FAULT_TEAR_LINK: return has_frames(c);
	case FAULT_CUT_STREAM:
	case FAULT_SILENT_STREAM:
	case FAULT_STALL_STREAM: return has_streams(c);
	case FAULT_DAMAGE_STREAM:
	case FAULT_DOUBLE_STREAM:
	case FAULT_TEAR_STREAM: return has_batches(c);
	case FAULT_OLD_STREAM: return has_batches(c) || may_lie(c);
	case FAULT_CUT_SOME:
	case FAULT_CUT_ALL:
	case FAULT_SILENT_ALL:
	case FAULT_STALL_ALL: return has_link(c) || has_streams(c);
	case FAULT_CRASH_SOURCE:
	case FAULT_RESTART_SOURCE:
	case FAULT_HOST_SOURCE:
		/* An operator lets the guest run at the destination only where there is no source any more. */
		return !(c->side == SIM_DESTINATION && c->phase == SLUICE_COMPLETED && c->message == MESSAGE_SWITCHOVER);
	case FAULT_CANCEL_SOURCE: return source_cancels(c);
	case FAULT_CANCEL_DESTINATION: return destination_cancels(c);
	case FAULT_LOG_FAILS: return asks_log(c);
	case FAULT_LOCK_HELD: return asks_log(c) || stops_log(c);
	case FAULT_CALLBACK_FAILS:
	case FAULT_CALLBACK_HANGS: return asks(c);
	default: return true;
	}
}

static struct cell cell_at(uint32_t i)
{
	struct cell c = { .message = i % MESSAGE_TYPES };

	i /= MESSAGE_TYPES;
	c.fault = (enum fault)(i % FAULTS);
	i /= FAULTS;
	c.phase = (enum sluice_phase)(i % COVERAGE_PHASES);
	c.side = (enum sim_side)(i / COVERAGE_PHASES);
	return c;
}

uint32_t coverage_cells(struct cell ret[COVERAGE_CELLS])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < COVERAGE_CELLS; i++) {
		struct cell c = cell_at(i);
		if (coverage_can_be(&c))
			ret[n++] = c;
	}
	return n;
}

/* ---------------------------------------------------------------- where the deciding code is */

void coverage_reset(enum sim_side side)
{
	coverage_spots[side] = coverage_asked_at[side] = (struct spot){ 0 };
}

/* What was met. */
static void met_at(enum sim_side side, const struct spot *spot, enum fault fault)
{
	if (!spot->on)
		return;
	met[side][spot->phase][fault][spot->given]++;
	if (spot->taken != spot->given)
		met[side][spot->phase][fault][spot->taken]++;
}

void coverage_met(enum fault fault, uint32_t sides)
{
	for (int side = 0; side < 2; side++)
		if (sides & BIT(side))
			met_at((enum sim_side)side, &coverage_spots[side], fault);
}

static void note(enum sim_side side, const struct input *in, enum sluice_phase phase, bool link, bool news,
		 const struct actions *out)
{
	struct spot *spot = &coverage_spots[side];
	bool stopped = spot->on && spot->phase >= SLUICE_SETUP && !spot->streams;

	if (among(in->type, BIT(INPUT_ARMED) | BIT(INPUT_SYNCED)) && in->code == -EIO && out->n)
		coverage_met(FAULT_LOG_FAILS, BIT(side));
	if (in->type == INPUT_CANCEL && out->n) /* it is not too late for that */
		coverage_met(side == SIM_SOURCE ? FAULT_CANCEL_SOURCE : FAULT_CANCEL_DESTINATION, COVERAGE_BOTH);
	spot->on = true;
	spot->phase = (uint8_t)phase;
	spot->link = link;
	if (in->type == INPUT_MESSAGE && news && !promises_wrong(side, in->message))
		spot->taken = (uint8_t)in->message->type;
	if (in->type == INPUT_RESOLVE && out->n)
		embedders[side].resolved = true;
	for (uint32_t i = 0; i < out->n; i++) {
		if (out->list[i].type == ACTION_SEND) {
			spot->given = (uint8_t)out->list[i].message_type;
			world_given(side, spot->given);
		}
		if (out->list[i].type == ACTION_ADMIT)
			spot->given = MESSAGE_ANSWER;
		stopped |= among(out->list[i].type, BIT(ACTION_STREAMS_STOP) | BIT(ACTION_UNTRACK) | BIT(ACTION_ADMIT));
	}
	spot->streams = phase >= SLUICE_SETUP && phase <= SLUICE_DEVICE && !stopped;
	sim_countdown = 1; /* what is to strike there does so before anything comes of the step */
	for (uint32_t i = 0; i < out->n; i++)
		if (out->list[i].type == ACTION_REQUEST)
			coverage_asked_at[side] = *spot;
}

void __real_source_step(struct source *source, const struct input *input, struct actions *actions);
void __wrap_source_step(struct source *source, const struct input *input, struct actions *actions)
{
	/* Not all of it: it is large, and a step is often. */
	const struct {
		enum source_state state;
		uint32_t landed;
		struct deadline deadline;
	} before = { source->state, source->landed, source->deadline };
	bool cancellable = source_cancellable(source);

	bool current = input->link == source->dials && source->state != SOURCE_APART;
	contracts_told(source, input);
	__real_source_step(source, input, actions);
	waits_source(source);
	still_step(source, input, actions);
	pace_step(SIM_SOURCE, actions);
	knobs_step(input);
	told_step(SIM_SOURCE, input, actions);
	lies_step(SIM_SOURCE, actions);
	heed_step(SIM_SOURCE, input, actions, cancellable, source->phase);
	promises_taken(SIM_SOURCE, input, actions, current, source->state >= SOURCE_WAIT_RUNNING);
	contracts_ordered(actions);
	/* Late words change nothing; and what landed is no news after READY, though a report may come after it. */
	bool news = actions->n || source->state != before.state ||
		    (source->landed != before.landed && before.state <= SOURCE_WAIT_READY);
	if (news)
		race_moved(source->state >= SOURCE_LINGERING);
	bool link = source->link_up || source->state == SOURCE_DIALLING || source->state == SOURCE_REDIALLING;
	note(SIM_SOURCE, input, source->phase, link && source->state != SOURCE_ENDED, news, actions);
	bool rests = before.state == SOURCE_RESTING || before.state == SOURCE_APART;
	outcome_step(SIM_SOURCE, input, actions, input->type == INPUT_TICK && input->now_ns >= before.deadline.at_ns && !rests,
		     before.deadline.what);
}

void __real_destination_step(struct destination *destination, const struct input *input, struct actions *actions);
void __wrap_destination_step(struct destination *destination, const struct input *input, struct actions *actions)
{
	const struct {
		enum destination_state state;
		struct deadline deadline;
	} before = { destination->state, destination->deadline };
	bool cancellable = destination_cancellable(destination);

	__real_destination_step(destination, input, actions);
	waits_destination(destination);
	pace_step(SIM_DESTINATION, actions);
	told_step(SIM_DESTINATION, input, actions);
	lies_step(SIM_DESTINATION, actions);
	heed_step(SIM_DESTINATION, input, actions, cancellable,
		  destination->state == DESTINATION_GIVING_UP ? destination->ends_in : destination->phase);
	promises_taken(SIM_DESTINATION, input, actions, true, false);
	bool news = actions->n || destination->state != before.state;
	bool link = destination->link_up || destination->state == DESTINATION_LISTENING;
	note(SIM_DESTINATION, input, destination->phase, link && destination->state != DESTINATION_ENDED, news, actions);
	outcome_step(SIM_DESTINATION, input, actions, input->type == INPUT_TICK && input->now_ns >= before.deadline.at_ns,
		     before.deadline.what);
}

bool coverage_spot_is(const struct spot *spot, enum sluice_phase phase, uint32_t message)
{
	return spot->on && spot->phase == phase && (spot->given == message || spot->taken == message);
}

/* ---------------------------------------------------------------- what was met */

uint32_t coverage_whose(const struct wire *w)
{
	uint32_t sides = 0;

	for (int side = 0; side < 2; side++) {
		const struct spot *at = &coverage_spots[side];
		if (wire_open_at(w, (enum sim_side)side) && (wire_is_link(w) ? at->link : at->streams))
			sides |= BIT(side);
	}
	return sides;
}

void coverage_met_harm(const struct wire *w, enum wire_harm harm)
{
	faults_harmed();
	for (uint32_t f = 0; f < FAULTS; f++)
		if (fault_harm((enum fault)f) == harm && fault_of_link((enum fault)f) == wire_is_link(w))
			coverage_met((enum fault)f, coverage_whose(w));
}

void coverage_met_request(enum sim_side side, const struct spot *asked_at, enum fault fault)
{
	met_at(side, asked_at, fault);
}

uint64_t coverage_count(const struct cell *c)
{
	return met[c->side][c->phase][c->fault][c->message];
}

static void print_phase(enum sim_side side, enum sluice_phase phase)
{
	printf("\n%s, %s\n%-16s", side == SIM_SOURCE ? "source" : "destination", sluice_phase_name(phase), "");
	for (uint32_t m = 0; m < MESSAGE_TYPES; m++)
		if (m != MESSAGE_HEARTBEAT && m != MESSAGE_EMBEDDER)
			printf(" %10s", m ? message_name(m) : "nothing");
	printf("\n");
	for (uint32_t f = 0; f < FAULTS; f++) {
		printf("%-16s", fault_name((enum fault)f));
		for (uint32_t m = 0; m < MESSAGE_TYPES; m++) {
			struct cell c = { side, phase, (enum fault)f, m };
			if (m == MESSAGE_HEARTBEAT || m == MESSAGE_EMBEDDER)
				continue;
			if (coverage_can_be(&c) || met[side][phase][f][m])
				printf(" %10lu", met[side][phase][f][m]);
			else
				printf(" %10s", "-");
		}
		printf("\n");
	}
}

/* Returns how many cells are as `wanted`: met and not possible, or possible and not met. */
static uint32_t list(bool possible)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < COVERAGE_CELLS; i++) {
		struct cell c = cell_at(i);
		if (coverage_can_be(&c) != possible || !met[c.side][c.phase][c.fault][c.message] != possible)
			continue;
		n++;
		printf("  %s, %s, %s, %s\n", c.side == SIM_SOURCE ? "source" : "destination", sluice_phase_name(c.phase),
		       fault_name(c.fault), c.message ? message_name(c.message) : "nothing");
	}
	return n;
}

bool coverage_print(void)
{
	uint32_t can = 0;

	for (int side = 0; side < 2; side++)
		for (uint32_t phase = 0; phase < COVERAGE_PHASES; phase++)
			if (spots_of[side][phase])
				print_phase((enum sim_side)side, (enum sluice_phase)phase);
	for (uint32_t i = 0; i < COVERAGE_CELLS; i++) {
		struct cell c = cell_at(i);
		can += coverage_can_be(&c);
	}
	printf("\nnever met:\n");
	uint32_t empty = list(true);
	printf("met, and held to be impossible:\n");
	uint32_t wrong = list(false);
	printf("%u cells can happen, %u met, %u empty\n", can, can - empty, empty);
	return !empty && !wrong;
}
