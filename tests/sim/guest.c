/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* guest.c: see guest.h. */
#include "tests/sim/guest.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "core/memory/holes.h"
#include "core/run/session.h"
#include "tests/sim/contracts.h"
#include "tests/sim/embedder.h"
#include "tests/sim/fiber.h"
#include "tests/sim/world.h"
#include "tests/sim/yield.h"

void *__real_mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset);

struct guest guest;
static unsigned char *memory;

enum { MEMORY_BYTES = GUEST_PAGES * SLUICE_PAGE_SIZE };

unsigned char *guest_memory(enum sim_side side)
{
	return memory + (side == SIM_SOURCE ? 0 : MEMORY_BYTES);
}

bool guest_page_of(const void *address, enum sim_side *ret_side, uint32_t *ret_page)
{
	size_t at = (size_t)((const unsigned char *)address - memory);

	if (at >= 2 * (size_t)MEMORY_BYTES)
		return false;
	*ret_side = at >= MEMORY_BYTES ? SIM_DESTINATION : SIM_SOURCE;
	*ret_page = (uint32_t)(at % MEMORY_BYTES / SLUICE_PAGE_SIZE);
	return true;
}

static void choose_regions(void)
{
	uint32_t total = (uint32_t)sim_spread(8, sim_one_in(8) ? GUEST_PAGES : 1200);

	guest.regions = 1 + (uint32_t)sim_below(GUEST_REGIONS);
	guest.pages = 0;
	for (uint32_t i = 0; i < guest.regions; i++) {
		uint32_t left = guest.regions - 1 - i,
			 pages = i + 1 == guest.regions ? total : 1 + (uint32_t)sim_below(total - left);
		guest.region[i].first = guest.pages;
		guest.region[i].pages = pages;
		snprintf(guest.region[i].name, sizeof guest.region[i].name, "ram%u", i);
		guest.pages += pages;
		total -= pages;
		if (!total) {
			guest.regions = i + 1;
			break;
		}
		if (total < left)
			guest.regions -= left - total;
	}
}

void guest_make(void)
{
	if (!memory) {
		memory = __real_mmap(NULL, 2 * (size_t)MEMORY_BYTES, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert(memory != MAP_FAILED);
	}
	memset(&guest, 0, sizeof guest);
	guest.version = VERSION_FIRST;
	choose_regions();
	uint32_t holes = sim_one_in(3) ? 2 : 0;
	for (uint32_t p = 0; p < guest.pages; p++) {
		bool hole = holes && sim_one_in(holes);
		guest.present[p] = !hole;
		*guest_page(SIM_SOURCE, p) = hole || sim_one_in(8) ? 0 : ++guest.version;
	}
	guest.marks_only = sim_one_in(4);
	guest.writes_left = sim_spread(16, 2000);
	guest.wait_ns = sim_spread(2 * US, 500 * US);
	guest.burst = 1 + (uint32_t)sim_below(4);
	guest.hot = 1 + (uint32_t)sim_below(guest.pages);
	guest.workload = (uint32_t)sim_below(3);
	guest.nemesis = sim_one_in(4) ? 0 : (uint32_t)sim_spread(1, 4);
	guest.late_writes = sim_one_in(8) ? 1 + (uint32_t)sim_below(3) : 0; /* a closing round each at most: four are allowed */
	guest.never_still = sim_one_in(32);
	if (guest.never_still)
		guest.late_writes = 1000;
	guest.discards = (uint32_t)sim_spread(1, 128);
	guest.running[SIM_SOURCE] = guest.disks[SIM_SOURCE] = true;
	guest.lineage[SIM_SOURCE] = guest.lineage[SIM_DESTINATION] = 1;
}

void guest_start_another(bool same)
{
	if (!same)
		guest.lineage[SIM_SOURCE]++;
	for (uint32_t p = 0; p < guest.pages; p++)
		if (guest.present[p])
			*guest_page(SIM_SOURCE, p) = sim_one_in(8) ? 0 : ++guest.version;
	guest.writes_left += sim_spread(16, 500);
	guest.throttle = 0;
	guest.lost = false;
	guest.running[SIM_SOURCE] = guest.disks[SIM_SOURCE] = true;
}

void guest_write_much(void)
{
	guest.writes_left = 2000;
	guest.wait_ns = 2 * US;
	guest.burst = 4;
	guest.workload = 0;
}

void guest_write_too_much(void)
{
	guest.writes_left = sim_spread(4000, 16000);
	guest.wait_ns = 8 * SIM_MS;
	guest.burst = 4;
	guest.workload = 0;
}

void guest_prepare_destination(bool used)
{
	for (uint32_t p = 0; p < guest.pages; p++)
		*guest_page(SIM_DESTINATION, p) = used ? VERSION_OLD : 0;
}

void guest_keep_final(void)
{
	for (uint32_t p = 0; p < guest.pages; p++)
		guest.final[p] = *guest_page(SIM_SOURCE, p);
}

static uint32_t region_of(uint32_t page)
{
	uint32_t r = 0;

	while (page >= guest.region[r].first + guest.region[r].pages)
		r++;
	return r;
}

static void mark(uint32_t page, uint32_t n, bool discarded)
{
	struct sluice *s = world_session(SIM_SOURCE);
	uint32_t r = region_of(page);

	if (!s)
		return;
	uint64_t at = (uint64_t)(page - guest.region[r].first) * SLUICE_PAGE_SIZE;
	if (sim_one_in(2)) /* others go on in the midst of it */
		sim_countdown = 1 + (int)sim_below(6);
	fiber_current->public_calls++;
	uint64_t end = at + (uint64_t)n * SLUICE_PAGE_SIZE, size = (uint64_t)guest.region[r].pages * SLUICE_PAGE_SIZE;
	/* Pages that are given back in part only are not. */
	if (discarded && sim_one_in(2))
		at -= at ? 100 : 0, end += end < size ? 100 : 0;
	if (discarded)
		sluice_discarded(s, r, at, end - at);
	else { /* of the first and the last page only some bytes were written */
		uint64_t lead = sim_one_in(2) ? sim_below(SLUICE_PAGE_SIZE / 2) : 0,
			 tail = sim_one_in(2) ? sim_below(SLUICE_PAGE_SIZE / 2) : 0;
		sluice_mark_dirty(s, r, at + lead, end - at - lead - tail);
	}
	fiber_current->public_calls--;
}

/* A guest does not give a page back that it has a device write to: one writer at a time. */
static void begin_writing(void)
{
	while (guest.writing)
		fiber_sleep(US);
	guest.writing = true;
}

/* A device may write some pages in one go. */
static void write_pages(uint32_t first, uint32_t n, bool by_device)
{
	uint32_t end = guest.region[region_of(first)].first + guest.region[region_of(first)].pages;

	n = n < end - first ? n : end - first;
	begin_writing();
	for (uint32_t page = first; page < first + n; page++) {
		guest.present[page] = 1;
		guest.writes++;
		if (!by_device && !guest.marks_only) { /* with the write, as the hardware does it */
			guest.logged_at[page] = guest.logged[page] ? guest.logged_at[page] : guest.writes;
			guest.logged[page] = 1;
		}
		guest.unmarked[page]++;
		*guest_page(SIM_SOURCE, page) = sim_one_in(16) ? 0 : ++guest.version;
		sim_yield();
	}
	if (by_device || guest.marks_only)
		mark(first, n, false);
	for (uint32_t page = first; page < first + n; page++)
		guest.unmarked[page]--;
	guest.writing = false;
}

static uint32_t choose_page(void)
{
	uint32_t target = guest.target;

	guest.target = 0;
	if (target)
		return target - 1;
	switch (guest.workload) {
	case 0: return (uint32_t)sim_below(guest.pages);
	case 1: return (uint32_t)sim_below(guest.hot);
	default: return guest.next++ % guest.pages;
	}
}

void guest_write(bool by_device)
{
	write_pages(choose_page(), by_device && sim_one_in(4) ? 1 + (uint32_t)sim_below(3) : 1, by_device);
}

/* The guest gives pages back. */
static void discard(uint32_t page)
{
	uint32_t r = region_of(page);
	uint32_t n = 1 + (uint32_t)sim_below(8), end = guest.region[r].first + guest.region[r].pages, first = page;
	if (n > end - first)
		n = end - first;

	begin_writing();
	for (uint32_t i = first; i < first + n; i++) {
		guest.unmarked[i]++;
		*guest_page(SIM_SOURCE, i) = 0;
		guest.present[i] = 0;
		sim_yield();
	}
	mark(first, n, true);
	for (uint32_t i = first; i < first + n; i++)
		guest.unmarked[i]--;
	guest.writing = false;
	/* And takes one of them again soon. */
	if (!sim_one_in(4))
		write_pages(first, 1, !sim_one_in(4));
}

void *guest_body(void *arg)
{
	(void)arg;
	for (;;) {
		uint64_t wait_ns = sim_spread(500, guest.wait_ns) * 100 / (100 - guest.throttle);
		bool may_write = guest.running[SIM_SOURCE] && guest.writes_left;
		guest.idle = true;
		(void)fiber_block(&guest, sim_now + (may_write ? wait_ns : guest.writes_left ? SIM_MS : SIM_S), NULL);
		guest.idle = false;
		for (uint32_t i = 0; i < guest.burst && guest.writes_left && guest.running[SIM_SOURCE]; i++) {
			guest.writes_left--;
			if (sim_one_in(guest.target ? 2 : guest.discards))
				discard(choose_page());
			else
				guest_write(sim_one_in(4));
		}
	}
	return NULL;
}

/* A sender has claimed words and takes their bits next: that is when a write of theirs shows most. */
enum sweep_result __real_sweep_claim(struct sweep *sweep, const struct bitmap *dirty, uint64_t *ret_word, uint32_t *ret_n);
enum sweep_result __wrap_sweep_claim(struct sweep *sweep, const struct bitmap *dirty, uint64_t *ret_word, uint32_t *ret_n)
{
	enum sweep_result result = __real_sweep_claim(sweep, dirty, ret_word, ret_n);
	const struct sluice *s = world_session(SIM_SOURCE);

	if (s && result != SWEEP_WAIT)
		contracts_claimed(s);
	if (result != SWEEP_CLAIMED || !s || !guest.nemesis || !sim_one_in(guest.nemesis))
		return result;
	const struct region *r = memory_region_of(&s->memory, *ret_word / GRANULE_WORDS);
	uint64_t page = (*ret_word - r->first_granule * GRANULE_WORDS) * 64 + sim_below((uint64_t)*ret_n * 64);
	enum sim_side side;
	uint32_t at;
	if (page < r->pages && guest_page_of(r->address + page * SLUICE_PAGE_SIZE, &side, &at)) {
		guest.target = at + 1;
		fiber_wake(&guest);
		sim_countdown = 1;
	}
	return result;
}

/* ---------------------------------------------------------------- the dirty log */

/* Law 2: what wants the big lock has it, and looking changes nothing. */
static void log_called(bool changes)
{
	if (embedder_habits.lock && !fiber_current->big_lock)
		sim_violation("Law 2: the dirty log is called without the big lock, which it needs");
	if (changes && guest.peeked)
		sim_violation("Law 3: a survey re-arms the log");
}

int guest_log_start(void *opaque)
{
	(void)opaque;
	log_called(true);
	guest.logging = true;
	memset(guest.logged, 1, guest.pages);
	for (uint32_t p = 0; p < guest.pages; p++)
		guest.logged_at[p] = guest.writes;
	return world_log_fails() ? -EIO : 0;
}

int guest_log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits)
{
	const uint8_t *logged = guest.logged + guest.region[region].first + first;

	(void)opaque;
	log_called(false);
	if (first % 64 || first + pages > guest.region[region].pages)
		sim_violation("Law 3: dirty_log_fetch was asked for %lu pages from %lu of %u", pages, first,
			      guest.region[region].pages);
	if (world_log_fails())
		return -EIO;
	if (embedder_habits.log_slow_ns && !region && !first && world_session(SIM_SOURCE)->decide.source.state == SOURCE_COUNTING)
		fiber_sleep(embedder_habits.log_slow_ns);
	for (uint64_t i = 0; i < pages; i++) {
		if (i % 64 == 0)
			sim_yield();
		if (logged[i])
			bits[i / 64] |= 1ull << i % 64;
	}
	if (pages % 64 && sim_one_in(4)) /* its words have bits of what lies behind */
		bits[pages / 64] |= sim_random() << pages % 64;
	return 0;
}

int guest_log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits)
{
	uint8_t *logged = guest.logged + guest.region[region].first + first;

	(void)opaque;
	log_called(true);
	if (pages % 64 && bits[pages / 64] >> pages % 64)
		sim_violation("Law 3: dirty_log_clear is asked for pages behind the end of region %u", region);
	for (uint64_t i = 0; i < pages; i++) {
		if (i % 64 == 0)
			sim_yield();
		if (bits[i / 64] >> i % 64 & 1)
			logged[i] = 0;
	}
	return world_log_fails() ? -EIO : 0;
}

void guest_log_stop(void *opaque)
{
	(void)opaque;
	log_called(true);
	guest.logging = false;
}

/* ---------------------------------------------------------------- holes, in the library's place */

int holes_init(struct holes *holes, const struct memory *of)
{
	holes->memory = of;
	return 0;
}

void holes_fini(struct holes *holes)
{
	(void)holes;
}

int holes_data(const struct holes *holes, uint32_t region, uint64_t first, uint64_t n, page_run_fn *run, void *argument)
{
	bool source = holes->memory->regions[region].address < guest_memory(SIM_DESTINATION);
	const uint8_t *present = guest.present + guest.region[region].first;

	for (uint64_t at = first; at < first + n;) {
		uint64_t from = at;
		sim_yield();
		while (at < first + n && (!source || present[at]))
			at++;
		int rc = at > from ? run(argument, from, at - from) : 0;
		if (rc)
			return rc;
		at += at < first + n;
	}
	return 0;
}
