/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* laws.c: see laws.h. Landing is watched by standing between the receivers and core/memory/landing.c (--wrap). */
#include "tests/sim/laws.h"

#include <errno.h>
#include <string.h>

#include "core/memory/landing.h"
#include "core/memory/tracker_kinds.h"
#include "core/run/inbox.h"
#include "core/run/session.h"
#include "streams/codec.h"
#include "streams/receiver.h"
#include "streams/sender.h"
#include "tests/sim/contracts.h"
#include "tests/sim/coverage.h"
#include "tests/sim/embedder.h"
#include "tests/sim/guest.h"
#include "tests/sim/heap.h"
#include "tests/sim/pace.h"
#include "tests/sim/talk.h"
#include "tests/sim/wire.h"
#include "tests/sim/world.h"

/* Of a page at the destination. */
enum { CLAIMED = 1, FILLED = 2, LANDED_ONCE = 4 };

static uint8_t page_state[GUEST_PAGES];

void laws_destination_begins(void)
{
	memset(page_state, 0, sizeof page_state);
}

static uint32_t page_of(const struct landing *landing, const struct extent *e)
{
	return (uint32_t)((landing->memory->regions[e->region].address - guest_memory(SIM_DESTINATION)) / WIRE_PAGE + e->page);
}

static bool has_bit(const struct bitmap *bitmap, uint64_t bit)
{
	return ((const volatile uint64_t *)(const volatile void *)bitmap->words)[bit / 64] >> bit % 64 & 1;
}

/* missing, landing, received: while bytes come a page is the second, whatever it was; and not when they have come. */
static void must_be_landing(const struct landing *landing, const struct extent *e, bool is)
{
	for (uint64_t i = 0, bit = memory_bit(&landing->memory->regions[e->region], e->page); i < e->count; i++)
		if (has_bit(&landing->landing, bit + i) != is)
			sim_violation("Law 3: page %lu of region %u is %s", e->page + i, e->region,
				      is ? "claimed, and does not count as landing" : "in place, and counts as landing still");
}

/* What is reported to have landed is in place: the batch that is being landed does not count yet. */
static void must_not_count_yet(void)
{
	const struct sluice *s = world_session(SIM_DESTINATION);

	for (uint32_t i = 0; s && s->receivers && i < s->welcome.streams; i++) {
		const volatile struct receiver *r = (const volatile struct receiver *)&s->receivers->receiver[i];
		if (r->stats.batches > r->place.seq)
			sim_violation("Law 3: stream %u has landed %lu batches, it says, and is landing number %lu", i,
				      r->stats.batches, r->place.seq + 1);
	}
}

static bool received(uint32_t page)
{
	const struct sluice *s = world_session(SIM_DESTINATION);

	for (uint32_t i = 0; s && i < s->memory.n; i++) {
		const struct region *r = &s->memory.regions[i];
		uint64_t first = (uint64_t)(r->address - guest_memory(SIM_DESTINATION)) / WIRE_PAGE;
		if (page >= first && page < first + r->pages) {
			uint64_t bit = memory_bit(r, page - first);
			return has_bit(&s->landing.received, bit);
		}
	}
	return false;
}

static void not_yet_received(uint32_t page, const char *when)
{
	if (!(page_state[page] & LANDED_ONCE) && received(page))
		sim_violation("Law 3: page %u counts as received %s, and is not in place", page, when);
}

static void must_count(const struct extent *extent, uint32_t page)
{
	for (uint32_t i = 0; i < extent->count; i++)
		if (!received(page + i))
			sim_violation("Law 3: page %u is in place, and does not count as received", page + i);
}

int __real_landing_place(struct landing *landing, const struct extent *extent, void **ret_address);
int __wrap_landing_place(struct landing *landing, const struct extent *extent, void **ret_address)
{
	int rc = __real_landing_place(landing, extent, ret_address);

	if (rc)
		return rc;
	if (guest.running[SIM_DESTINATION])
		sim_violation("Law 4: a page is landed though the guest runs");
	for (uint32_t i = 0, p = page_of(landing, extent); i < extent->count; i++, p++) {
		not_yet_received(p, "when it is claimed");
		page_state[p] = (uint8_t)((page_state[p] & LANDED_ONCE) | CLAIMED);
	}
	must_be_landing(landing, extent, true);
	return 0;
}

void __real_landing_placed(struct landing *landing, const struct extent *extent);
void __wrap_landing_placed(struct landing *landing, const struct extent *extent)
{
	for (uint32_t i = 0, p = page_of(landing, extent); i < extent->count; i++, p++) {
		if (!(page_state[p] & FILLED))
			sim_violation("Law 3: page %u is said to be in place before its bytes came", p);
		page_state[p] = LANDED_ONCE;
	}
	__real_landing_placed(landing, extent);
	must_count(extent, page_of(landing, extent));
	must_be_landing(landing, extent, false);
	must_not_count_yet();
}

int __real_landing_zero(struct landing *landing, const struct extent *extent);
int __wrap_landing_zero(struct landing *landing, const struct extent *extent)
{
	uint32_t page = extent->region < landing->memory->n ? page_of(landing, extent) : 0;
	int rc = __real_landing_zero(landing, extent);

	for (uint32_t i = 0; !rc && i < extent->count; i++) {
		page_state[page + i] |= LANDED_ONCE;
		if (*guest_page(SIM_DESTINATION, page + i))
			sim_violation("Law 3: page %u was landed as zero and is not", page + i);
	}
	if (!rc)
		must_count(extent, page);
	return rc;
}

int __real_codec_decompress(const void *in, uint32_t bytes, void *pages, uint32_t count);
int __wrap_codec_decompress(const void *in, uint32_t bytes, void *pages, uint32_t count)
{
	uint64_t before[WIRE_EXTENT_PAGES];
	enum sim_side side;
	uint32_t page;

	if (!guest_page_of(pages, &side, &page))
		return __real_codec_decompress(in, bytes, pages, count);
	for (uint32_t i = 0; i < count; i++)
		before[i] = *guest_page(side, page + i);
	int rc = __real_codec_decompress(in, bytes, pages, count);
	for (uint32_t i = 0; !rc && i < count; i++) {
		uint64_t version = *guest_page(side, page + i);
		*guest_page(side, page + i) = before[i];
		laws_page_lands(side, page + i, version);
		*guest_page(side, page + i) = version;
	}
	return rc;
}

void laws_page_lands(enum sim_side side, uint32_t page, uint64_t version)
{
	uint64_t old = *guest_page(side, page);

	if (side != SIM_DESTINATION || guest.running[SIM_DESTINATION])
		sim_violation("Law 4: page %u of a running guest is overwritten", page);
	if (!(page_state[page] & CLAIMED))
		sim_violation("Law 3: bytes come for page %u, which nobody claimed", page);
	if (version && old > version && page_state[page] & LANDED_ONCE)
		sim_violation("Law 4: page %u: version %lu overwrites %lu", page, version, old);
	not_yet_received(page, "while its bytes come");
	page_state[page] |= FILLED;
}

void laws_all_landed(const char *when)
{
	for (uint32_t p = 0; p < guest.pages; p++)
		if (*guest_page(SIM_DESTINATION, p) != guest.final[p])
			sim_violation("Law 5: %s: page %u has version %lu, the guest left %lu", when, p,
				      *guest_page(SIM_DESTINATION, p), guest.final[p]);
}

void laws_dead_peers_noticed(const uint64_t dead_peer_ms[2])
{
	/* Beyond that: a connection takes its time to be made, streams are looked at ten times a second, threads are left alone for 20 ms
	 * and do not run at once; and at the door a greeting has 2 s, whatever a dead peer is. */
	enum { SLACK_MS = 400, GREETING_MS = 2000 };

	for (int side = 0; side < 2; side++) {
		uint64_t dead_ms = dead_peer_ms[side], at_door = dead_ms < GREETING_MS ? (GREETING_MS - dead_ms) * SIM_MS : 0;
		uint64_t ms = wires_deaf_for((enum sim_side)side, at_door) / SIM_MS;
		if (coverage_spots[side].link && ms > dead_ms + SLACK_MS)
			sim_violation(
				"Law 6: the %s has heard nothing for %lu ms and has its link still; a peer is dead after %lu ms",
				side == SIM_SOURCE ? "source" : "destination", ms, dead_ms);
		/* A frame has twice that time. */
		ms = wires_garbled_for((enum sim_side)side) / SIM_MS;
		if (coverage_spots[side].link && ms > 3 * dead_ms + SLACK_MS)
			sim_violation("Law 7: the %s waits for the end of a damaged frame for %lu ms",
				      side == SIM_SOURCE ? "source" : "destination", ms);
	}
}

void laws_strays_shown_out(void)
{
	/* 2 s to greet, and then as much to offer a guest, or to read that it is not wanted. */
	enum { MOST_MS = 2000 + 300 };
	/* Who offers one, as a source did earlier, is dead when any peer is. */
	uint64_t ms = wires_stray_for(embedder_habits.dead_peer_ms[SIM_DESTINATION] * SIM_MS) / SIM_MS;

	if (embedders[SIM_DESTINATION].session && !pace_closes(SIM_DESTINATION) && ms > MOST_MS)
		sim_violation("Law 8: a stranger has neither greeted nor offered a guest for %lu ms", ms);
}

/* Of all that a session of this seed may ask for, the sizes. */
static uint64_t session_bytes(enum sim_side side)
{
	uint64_t streams = embedder_habits.param[SLUICE_STREAMS], bitmap = 0, per_stream, state = 0;
	bool lz4 = embedder_habits.param[SLUICE_COMPRESS] != SLUICE_COMPRESS_NONE;

	for (uint32_t i = 0; i < guest.regions; i++)
		bitmap += (guest.region[i].pages + WIRE_GRANULE_PAGES - 1) / WIRE_GRANULE_PAGES * (WIRE_GRANULE_PAGES / 8);
	if (side == SIM_SOURCE) {
		per_stream = sizeof(struct sender) + (lz4 ? codec_bytes() + 2 * WIRE_BATCH_PAYLOAD : 0);
		bitmap = 2 * bitmap + bitmap / 512 + 64; /* dirty, discarded; granules that were fetched; a piece of the log */
	} else {
		per_stream = sizeof(struct receiver) + (lz4 ? WIRE_BATCH_PAYLOAD : 0);
		bitmap = 3 * bitmap;
		state = (uint64_t)embedder_habits.sections * (embedder_habits.section_bytes + 64);
	}
	return sizeof(struct sluice) + sizeof(struct hello) + sizeof(struct sluice_listener) + sizeof(struct tracker) +
	       sizeof(struct pool) + sizeof(struct receivers) + MESSAGE_HEAD + MESSAGE_PAYLOAD + bitmap + streams * per_stream +
	       state + talk_bytes();
}

void laws_memory_bounded(void)
{
	/* And messages on their way between its threads and the wire. */
	enum { ON_THEIR_WAY = 5 };

	for (int side = 0; side < 2; side++) {
		/* Who says the same again and again fills the box to where no more is read. */
		uint64_t said = wires_repeated() ? INBOX_SIZE / 4 : 0;
		uint64_t most = session_bytes((enum sim_side)side) + (ON_THEIR_WAY + said) * sizeof(struct message);
		if (heap_peak((enum sim_side)side) > most)
			sim_violation("Law 8: the %s held %lu bytes, its session may have %lu",
				      side == SIM_SOURCE ? "source" : "destination", heap_peak((enum sim_side)side), most);
	}
}
