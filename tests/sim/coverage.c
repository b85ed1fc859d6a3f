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
bool coverage_strict;
static uint64_t met[2][COVERAGE_PHASES][FAULTS][MESSAGE_TYPES];

#define BIT(x) (1u << (x))

static bool among(uint32_t i, uint32_t bits)
{
	return bits & BIT(i);
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
		if (!coverage_why_not(&c))
			ret[n++] = c;
	}
	return n;
}

/* ---------------------------------------------------------------- where the deciding code is */

void coverage_reset(enum sim_side side)
{
	coverage_spots[side] = coverage_asked_at[side] = (struct spot){ 0 };
}

static void name(const struct cell *c, char text[COVERAGE_NAME])
{
	snprintf(text, COVERAGE_NAME, "%s, %s, %s, %s", c->side == SIM_SOURCE ? "source" : "destination",
		 sluice_phase_name(c->phase), fault_name(c->fault), c->message ? message_name(c->message) : "nothing");
}

static void met_cell(enum sim_side side, const struct spot *spot, enum fault fault, uint32_t message)
{
	struct cell c = { side, (enum sluice_phase)spot->phase, fault, message };
	char text[COVERAGE_NAME];
	const char *why = coverage_strict ? coverage_why_not(&c) : NULL;

	met[side][spot->phase][fault][message]++;
	if (!why)
		return;
	name(&c, text);
	sim_violation("coverage: met (%s), which is held to be impossible: %s", text, why);
}

/* What was met. */
static void met_at(enum sim_side side, const struct spot *spot, enum fault fault)
{
	if (!spot->on)
		return;
	met_cell(side, spot, fault, spot->given);
	if (spot->taken != spot->given)
		met_cell(side, spot, fault, spot->taken);
	if (spot->talk)
		met_cell(side, spot, fault, spot->talk);
}

void coverage_frame(enum sim_side side, const struct wire *w, uint32_t message, bool given)
{
	struct spot *spot = &coverage_spots[side];

	if (!wire_is_newest(w, side))
		return;
	bool talk = coverage_is_talk(side, message);
	if (!talk && !given)
		spot->words++;
	else if (!talk && spot->words)
		spot->words--;
	spot->talk = talk && spot->on && spot->link && !spot->words ? (uint8_t)message : 0;
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
	if (in->type == INPUT_MESSAGE && spot->words)
		spot->words--;
	if (in->type == INPUT_MESSAGE && news && !promises_wrong(side, in->message))
		spot->taken = (uint8_t)in->message->type;
	if (in->type == INPUT_RESOLVE && out->n) {
		embedders[side].resolved = true;
		embedders[side].let_go = !in->value;
	}
	for (uint32_t i = 0; i < out->n; i++) {
		const struct action *a = &out->list[i];
		if (among(a->type, BIT(ACTION_ADMIT) | BIT(ACTION_DIAL) | BIT(ACTION_LINK_DROP)))
			spot->words = 0; /* those of the old link will never be */
		if (among(a->type, BIT(ACTION_ADMIT) | BIT(ACTION_SEND))) {
			spot->given = (uint8_t)(a->type == ACTION_ADMIT ? MESSAGE_ANSWER : a->message_type);
			spot->words++;
		}
		if (among(a->type, BIT(ACTION_ADMIT) | BIT(ACTION_DIAL) | BIT(ACTION_LINK_DROP) | BIT(ACTION_SEND)))
			spot->talk = 0;
		if (a->type == ACTION_SEND)
			world_given(side, spot->given);
		stopped |= among(a->type, BIT(ACTION_STREAMS_STOP) | BIT(ACTION_UNTRACK) | BIT(ACTION_ADMIT));
	}
	if (!link)
		spot->talk = spot->words = 0;
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
	knobs_step(source, input, actions);
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

bool coverage_spot_is(enum sim_side side, const struct spot *spot, enum sluice_phase phase, uint32_t message)
{
	return spot->on && spot->phase == phase &&
	       (coverage_is_talk(side, message) ? spot->talk == message : spot->given == message || spot->taken == message);
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
		printf(" %10s", m ? message_name(m) : "nothing");
	printf("\n");
	for (uint32_t f = 0; f < FAULTS; f++) {
		printf("%-16s", fault_name((enum fault)f));
		for (uint32_t m = 0; m < MESSAGE_TYPES; m++) {
			struct cell c = { side, phase, (enum fault)f, m };
			if (!coverage_why_not(&c) || coverage_count(&c))
				printf(" %10lu", coverage_count(&c));
			else
				printf(" %10s", "-");
		}
		printf("\n");
	}
}

/* Returns how many cells are as `wanted`: met and not possible, or possible and not met. */
static uint32_t list(bool possible)
{
	char text[COVERAGE_NAME];
	uint32_t n = 0;

	for (uint32_t i = 0; i < COVERAGE_CELLS; i++) {
		struct cell c = cell_at(i);
		const char *why = coverage_why_not(&c);
		if (!why != possible || !coverage_count(&c) != possible)
			continue;
		n++;
		name(&c, text);
		printf("  %s%s%s\n", text, why ? ": " : "", why ? why : "");
	}
	return n;
}

bool coverage_print(void)
{
	uint32_t can = 0;

	for (int side = 0; side < 2; side++)
		for (uint32_t phase = 0; phase < COVERAGE_PHASES; phase++)
			if (coverage_has_phase((enum sim_side)side, (enum sluice_phase)phase))
				print_phase((enum sim_side)side, (enum sluice_phase)phase);
	for (uint32_t i = 0; i < COVERAGE_CELLS; i++) {
		struct cell c = cell_at(i);
		can += !coverage_why_not(&c);
	}
	printf("\nnever met:\n");
	uint32_t empty = list(true);
	printf("met, and held to be impossible:\n");
	uint32_t wrong = list(false);
	printf("%u cells can happen, %u met, %u empty\n", can, can - empty, empty);
	return !empty && !wrong;
}
