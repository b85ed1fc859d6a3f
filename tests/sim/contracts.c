/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* contracts.c: see contracts.h. By --wrap, as laws.c. */
#include "tests/sim/contracts.h"

#include <string.h>

#include "core/memory/tracker_kinds.h"
#include "core/run/inbox.h"
#include "core/run/session.h"
#include "streams/batch.h"
#include "streams/codec.h"
#include "streams/gate.h"
#include "streams/receiver.h"
#include "tests/sim/embedder.h"
#include "tests/sim/guest.h"
#include "tests/sim/told.h"
#include "tests/sim/world.h"

/* ---------------------------------------------------------------- the round gate */

/* What has been seen of the newest round that came to a gate. */
static struct {
	const struct gate *gate;
	uint32_t round, arrived;
	uint32_t rung; /* for that round */
	bool landed;
} at_gate;

static uint32_t newest_landed; /* of this migration's rounds */

bool contracts_has_landed(uint32_t round)
{
	return newest_landed >= round;
}

struct landed {
	void (*landed)(void *arg, uint32_t round);
	void *arg;
};

void __real_gate_init(struct gate *gate, uint32_t streams);
void __wrap_gate_init(struct gate *gate, uint32_t streams)
{
	__real_gate_init(gate, streams);
	memset(&at_gate, 0, sizeof at_gate);
	at_gate.gate = gate;
}

/* Who waits at the gate is woken when there is something to see: who looks too early waits on, and is not woken again. */
void __real_bell_ring(struct bell *bell);
void __wrap_bell_ring(struct bell *bell)
{
	const struct sluice *s = at_gate.gate && bell == &at_gate.gate->bell ? world_session(SIM_DESTINATION) : NULL;
	const volatile struct gate *gate = (const volatile struct gate *)at_gate.gate;

	if (s && s->receivers && &s->receivers->gate == at_gate.gate) {
		if (gate->passed == at_gate.rung && !gate->cancelled)
			sim_violation(
				"Law 6: those who wait at the gate are woken, and it has neither opened nor been cancelled");
		at_gate.rung = gate->passed;
	}
	__real_bell_ring(bell);
}

static void round_landed(void *arg, uint32_t round)
{
	const struct landed *to = arg;

	if (round != at_gate.round || at_gate.arrived != at_gate.gate->streams || at_gate.landed)
		sim_violation("Law 4: round %u counts as landed when %u of %u streams have come to the gate of round %u", round,
			      at_gate.arrived, at_gate.gate->streams, at_gate.round);
	newest_landed = round;
	to->landed(to->arg, round);
	at_gate.landed = true;
}

int __real_gate_pass(struct gate *gate, uint32_t round, void (*landed)(void *arg, uint32_t round), void *arg,
		     struct waiter *waiter, uint64_t *ret_held_ns);
int __wrap_gate_pass(struct gate *gate, uint32_t round, void (*landed)(void *arg, uint32_t round), void *arg,
		     struct waiter *waiter, uint64_t *ret_held_ns)
{
	struct landed to = { landed, arg };

	if (round > at_gate.round) {
		at_gate.round = round;
		at_gate.arrived = 0;
		at_gate.landed = false;
	}
	at_gate.arrived++;
	int rc = __real_gate_pass(gate, round, round_landed, &to, waiter, ret_held_ns);
	if (!rc && round == at_gate.round && at_gate.arrived < gate->streams)
		sim_violation("Law 4: the gate lets a stream pass round %u when %u of %u have come", round, at_gate.arrived,
			      gate->streams);
	if (!rc && round == at_gate.round && !at_gate.landed)
		sim_violation("Law 4: the gate lets a stream pass round %u before that counts as landed", round);
	return rc;
}

/* ---------------------------------------------------------------- what is sent: at most once a round, and as it was read */

static uint32_t sent_in[GUEST_PAGES];  /* the last round a page went in */
static uint64_t sent[GUEST_PAGES];     /* and its version */
static uint64_t ordered_at, opened_at; /* a sync, a round: how many writes there were then */
static uint32_t opened;                /* that round, */
static uint64_t may_put_off;           /* and so many pages of it need not go */
static bool fetches, last;             /* for itself; it is one */

bool contracts_is_last(uint32_t round)
{
	return last && round == opened;
}

bool contracts_in_last_round(void)
{
	return last;
}

static uint8_t due[GUEST_PAGES]; /* to go in the open round */

static const uint64_t nothing_yet = UINT64_MAX;

void contracts_attempt(void)
{
	memset(sent_in, 0, sizeof sent_in);
	for (uint32_t p = 0; p < GUEST_PAGES; p++)
		sent[p] = embedder_habits.used ? nothing_yet : 0;
	memset(due, 0, sizeof due);
	newest_landed = 0;
	ordered_at = opened_at = 0;
	last = false;
}

void contracts_page_read(uint32_t page)
{
	sent[page] = *guest_page(SIM_SOURCE, page);
}

static uint32_t goes(const struct batch *batch, uint16_t region, uint64_t page, uint32_t count)
{
	uint32_t first = guest.region[region].first + (uint32_t)page;

	told_pages(count, 0);
	for (uint32_t p = first; p < first + count; p++) {
		if (sent_in[p] >= batch->round)
			sim_violation("Law 4: page %u goes in round %u, and it went in round %u", p, batch->round, sent_in[p]);
		sent_in[p] = batch->round;
	}
	return first;
}

void __real_batch_add_zero(struct batch *batch, uint16_t region, uint64_t page, uint32_t count);
void __wrap_batch_add_zero(struct batch *batch, uint16_t region, uint64_t page, uint32_t count)
{
	uint32_t first = goes(batch, region, page, count);

	told_pages(0, count);
	for (uint32_t p = first; p < first + count; p++)
		sent[p] = 0;
	__real_batch_add_zero(batch, region, page, count);
}

void __real_batch_add_raw(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data);
void __wrap_batch_add_raw(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data)
{
	(void)goes(batch, region, page, count);
	__real_batch_add_raw(batch, region, page, count, data);
}

void __real_batch_add_lz4(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data, uint32_t bytes);
void __wrap_batch_add_lz4(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data, uint32_t bytes)
{
	(void)goes(batch, region, page, count);
	__real_batch_add_lz4(batch, region, page, count, data, bytes);
}

uint32_t __real_codec_compress(struct codec *codec, const void *pages, uint32_t count, void *out);
uint32_t __wrap_codec_compress(struct codec *codec, const void *pages, uint32_t count, void *out)
{
	enum sim_side side;
	uint32_t page;

	if (guest_page_of(pages, &side, &page))
		for (uint32_t i = 0; i < count; i++)
			contracts_page_read(page + i);
	return __real_codec_compress(codec, pages, count, out);
}

/* Whoever sees a round finds all that belongs to it, so that is there before. */
void __real_sweep_open(struct sweep *sweep, uint32_t round, uint64_t frontier);
void __wrap_sweep_open(struct sweep *sweep, uint32_t round, uint64_t frontier)
{
	const struct sluice *s = world_session(SIM_SOURCE);

	if (s && (s->marks || s->last_round != last))
		sim_violation("Law 4: round %u is opened with %u marks of the one before, as %s last round", round, s->marks,
			      s->last_round ? "a" : "no");
	if (s && last && (s->last_cursor || s->state_out.next))
		sim_violation("Law 3: the last round %u is opened where the one before ended", round);
	__real_sweep_open(sweep, round, frontier);
}

/* A last round is claimed page by page: who took a granule of it might take a page again that somebody else has sent already. */
void contracts_claimed(const struct sluice *s)
{
	uint32_t round = *(const volatile uint32_t *)(const volatile void *)&s->sweep.round;

	if (last && round == opened)
		sim_violation("Law 4: a granule of round %u is claimed, and that is a last round", round);
}

/* ---------------------------------------------------------------- what is known to be dirty */

static bool is_dirty(const struct sluice *s, uint32_t region, uint32_t page)
{
	uint64_t bit = memory_bit(&s->memory.regions[region], page - guest.region[region].first);

	return ((const volatile uint64_t *)(const volatile void *)s->dirty.words)[bit / 64] >> bit % 64 & 1;
}

/* Law 3: all that differs from what was sent is known to be dirty. No sender has a claim in its hand, sync has nothing. */
static void check_none_lost(const struct sluice *s)
{
	for (uint32_t r = 0; r < guest.regions; r++)
		for (uint32_t p = guest.region[r].first; p < guest.region[r].first + guest.region[r].pages; p++)
			if (*guest_page(SIM_SOURCE, p) != sent[p] && !guest.logged[p] && !guest.unmarked[p] && !is_dirty(s, r, p))
				sim_violation("Law 3: page %u has version %lu, what was sent is %lu, and no bit knows", p,
					      *guest_page(SIM_SOURCE, p), sent[p]);
}

/* Law 3: what the log had when a sync began is in the bitmap, or sent, when it is over. */
static void check_all_fetched(uint64_t since, const char *what)
{
	for (uint32_t p = 0; !guest.marks_only && p < guest.pages; p++)
		if (guest.logged[p] && guest.logged_at[p] <= since)
			sim_violation("Law 3: %s is over, and page %u, written before it began, is in the log still", what, p);
}

/* What was known to be dirty when a round was opened goes in that round, or is dirty still: what the round has put off, or where it was
 * cut. A last round is shared out among the senders by how much there was: a late writer's page may take the place of another, which is
 * left for one more round. */
static void check_all_sent(const struct sluice *s, uint32_t round, uint64_t may_wait)
{
	for (uint32_t r = 0; r < guest.regions; r++)
		for (uint32_t p = guest.region[r].first; p < guest.region[r].first + guest.region[r].pages; p++)
			if (due[p] && sent_in[p] != round && (!is_dirty(s, r, p) || !may_wait--))
				sim_violation("Law 3: page %u was dirty when round %u was opened, and did not go in it", p,
					      round);
}

static void note_due(const struct sluice *s)
{
	for (uint32_t r = 0; r < guest.regions; r++)
		for (uint32_t p = guest.region[r].first; p < guest.region[r].first + guest.region[r].pages; p++)
			due[p] = is_dirty(s, r, p);
}

void contracts_told(const struct source *source, const struct input *in)
{
	const struct sluice *s = world_session(SIM_SOURCE);
	bool sent_all = in->type == INPUT_ROUND_SENT && in->round == source->round &&
			(source->state == SOURCE_ROUND || source->state == SOURCE_LAST_ROUND);
	bool synced = in->type == INPUT_SYNCED && !in->code &&
		      (source->state == SOURCE_COUNTING || source->state == SOURCE_FINAL_SYNC ||
		       (source->state == SOURCE_LAST_ROUND && source->last_sent));

	if (!s || (!sent_all && !synced))
		return;
	/* A round that was cut leaves what was never looked at, and sync at work: the count that follows has it all. */
	if (synced || !source->cut)
		check_none_lost(s);
	if (sent_all && in->put_off > may_put_off)
		sim_violation("Law 9: %lu pages were put off in round %u, %lu may be", in->put_off, in->round, may_put_off);
	if (sent_all && (source->state == SOURCE_ROUND || guest.writes == opened_at))
		check_all_sent(s, in->round, source->cut ? guest.pages : in->put_off);
	if (synced)
		check_all_fetched(ordered_at, "a sync");
	else if (fetches && !source->cut)
		check_all_fetched(opened_at, "a round");
}

void contracts_ordered(const struct actions *actions)
{
	const struct sluice *s = world_session(SIM_SOURCE);

	for (uint32_t i = 0; s && i < actions->n; i++) {
		const struct action *a = &actions->list[i];
		if (a->type == ACTION_SYNC)
			ordered_at = guest.writes;
		if (a->type != ACTION_ROUND)
			continue;
		opened_at = guest.writes;
		opened = a->round;
		last = a->last;
		may_put_off = a->put_off;
		fetches = !a->fetched;
		note_due(s);
		sim_trace("source: round %u%s%s", a->round, a->fetched ? ", all is fetched" : "", a->last ? ", the last" : "");
	}
}

/* A survey looks, and changes nothing: what it took for fetched would never be armed. */
int __real_tracker_peek(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, uint64_t *ret_written,
			uint64_t *ret_unseen);
int __wrap_tracker_peek(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, uint64_t *ret_written,
			uint64_t *ret_unseen)
{
	uint64_t before[GUEST_PAGES / WIRE_GRANULE_PAGES + GUEST_REGIONS];

	memcpy(before, tracker->fetched, tracker->fetched_words * sizeof *before);
	guest.peeked = true;
	int rc = __real_tracker_peek(tracker, region, first, n, ret_written, ret_unseen);
	guest.peeked = false;
	if (memcmp(before, tracker->fetched, tracker->fetched_words * sizeof *before))
		sim_violation("Law 3: a survey takes pages for fetched");
	return rc;
}

/* ---------------------------------------------------------------- where rings wrap */

void __real_inbox_init(struct inbox *inbox);
void __wrap_inbox_init(struct inbox *inbox)
{
	__real_inbox_init(inbox);
	inbox->first = (uint32_t)sim_below(INBOX_SIZE);
}
