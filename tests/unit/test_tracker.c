/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_tracker.c: each tracker against writers that race it, and holes.
 *
 * The race is a migration in small: threads write random pages while the tracker fetches piece by piece and a copier takes bits
 * and copies. When all writers have stopped and one last round is through, the copy must equal the memory. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/memory/tracker.h"
#include "core/memory/tracker_kinds.h"
#include "tests/unit/backing.h"
#include "tests/unit/harness.h"

struct bed {
	struct memory *memory;
	struct bitmap dirty, discarded, written;
	struct sluice_ops ops;
	struct tracker *tracker;
	struct bitmap log; /* what the embedder's log has noted */
	int locked, lock_fails;
	_Atomic int bad_calls;
};

static int log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits)
{
	struct bed *bed = opaque;
	uint64_t word = memory_bit(&bed->memory->regions[region], first) / 64;

	bed->bad_calls += !bed->locked || first % 64;
	for (uint64_t i = 0; i < (pages + 63) / 64; i++) {
		bed->bad_calls += bits[i] != 0;
		bits[i] = atomic_load(&bed->log.words[word + i]);
	}
	if (pages % 64)
		bits[pages / 64] |= UINT64_C(1) << 63; /* beyond the end: must be ignored */
	return 0;
}

static int log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits)
{
	struct bed *bed = opaque;
	uint64_t word = memory_bit(&bed->memory->regions[region], first) / 64;

	bed->bad_calls += !bed->locked || first % 64;
	for (uint64_t i = 0; i < (pages + 63) / 64; i++)
		atomic_fetch_and(&bed->log.words[word + i], ~bits[i]);
	return 0;
}

static int log_start(void *opaque)
{
	struct bed *bed = opaque;

	bed->bad_calls += !bed->locked;
	bitmap_set(&bed->log, 0, bed->log.n_words * 64);
	return 0;
}

static int take_lock(void *session)
{
	struct bed *bed = session;

	bed->bad_calls += bed->locked;
	if (bed->lock_fails && bed->lock_fails--)
		return -ETIMEDOUT;
	bed->locked = 1;
	return 0;
}

static void give_lock(void *session)
{
	((struct bed *)session)->locked = 0;
}

static void bed_init(struct bed *bed)
{
	*bed = (struct bed){ .memory = calloc(1, sizeof(*bed->memory)) };
	bed->ops = (struct sluice_ops){
		.size_of = sizeof(bed->ops),
		.needs_lock = SLUICE_LOCK_DIRTY_LOG,
		.dirty_log_start = log_start,
		.dirty_log_fetch = log_fetch,
		.dirty_log_clear = log_clear,
	};
}

static bool bed_start(struct bed *bed, enum sluice_tracker kind)
{
	uint64_t words = bed->memory->granules * GRANULE_WORDS;
	char error[SLUICE_ERROR_MAX] = "";

	bitmap_init(&bed->dirty, words);
	bitmap_init(&bed->discarded, words);
	bitmap_init(&bed->written, words);
	bitmap_init(&bed->log, words);
	struct tracker_config config = { kind,          bed->memory, &bed->dirty, &bed->discarded,
					 &bed->written, &bed->ops,   bed,         take_lock,
					 give_lock,     bed,         NULL };
	int rc = tracker_create(&config, &bed->tracker, error);
	if (rc == -ENOTSUP) {
		harness_skip(error);
		return false;
	}
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	CU_ASSERT_EQUAL_FATAL(tracker_start(bed->tracker), 0);
	return true;
}

static void bed_fini(struct bed *bed)
{
	tracker_destroy(bed->tracker);
	CU_ASSERT_EQUAL(bed->bad_calls, 0);
	bitmap_fini(&bed->dirty);
	bitmap_fini(&bed->discarded);
	bitmap_fini(&bed->written);
	bitmap_fini(&bed->log);
	backing_free(bed->memory);
}

static uint64_t fetch(struct bed *bed, uint32_t region)
{
	uint64_t found = 0;
	int rc;

	while ((rc = tracker_fetch(bed->tracker, region, 0, bed->memory->regions[region].pages, &found)) == -ETIMEDOUT)
		;
	CU_ASSERT_EQUAL(rc, 0);
	return found;
}

static void forget(struct bed *bed)
{
	bitmap_clear(&bed->dirty, 0, bed->dirty.n_words * 64);
}

static bool is_dirty(struct bed *bed, uint32_t region, uint64_t page)
{
	return bitmap_test(&bed->dirty, memory_bit(&bed->memory->regions[region], page));
}

/* ---------------------------------------------------------------- the race */

enum { RACE_PAGES = 8 * 512, WRITERS = 2, RACE_MS = 400, PIECE = 2 * 512 };

struct race {
	struct bed bed;
	unsigned char *copy;
	bool marks, log;
	_Atomic int stop, writing, seeds, fetching;
	_Atomic uint64_t writes;
};

static void *write_pages(void *argument)
{
	struct race *race = argument;
	struct bed *bed = &race->bed;
	unsigned char *memory = bed->memory->regions[0].address;
	unsigned seed = (unsigned)atomic_fetch_add(&race->seeds, 1) + 7;
	uint64_t version = 0;

	while (!atomic_load_explicit(&race->stop, memory_order_relaxed)) {
		unsigned page = (unsigned)rand_r(&seed) % RACE_PAGES, word = (unsigned)rand_r(&seed) % 512;
		poke(memory + (size_t)page * WIRE_PAGE + (size_t)word * 8, ++version << 8 | (seed & 255));
		if (race->log)
			bitmap_set(&bed->log, page, 1);
		if (race->marks) {
			bitmap_clear(&bed->discarded, page, 1);
			bitmap_set(&bed->dirty, page, 1);
		}
		atomic_fetch_add_explicit(&race->writes, 1, memory_order_relaxed);
	}
	return NULL;
}

static void copy_dirty(struct race *race)
{
	const struct region *region = &race->bed.memory->regions[0];
	uint64_t bits[GRANULE_WORDS];

	for (uint64_t granule = 0; granule < region->granules; granule++) {
		if (!bitmap_take(&race->bed.dirty, granule * GRANULE_WORDS, GRANULE_WORDS, bits))
			continue;
		for (unsigned i = 0; i < WIRE_GRANULE_PAGES; i++) {
			uint64_t page = granule * WIRE_GRANULE_PAGES + i;
			if (!(bits[i / 64] >> i % 64 & 1))
				continue;
			if (bitmap_test(&race->bed.discarded, page))
				memset(race->copy + page * WIRE_PAGE, 0, WIRE_PAGE);
			else
				copy_page(race->copy + page * WIRE_PAGE, region->address + page * WIRE_PAGE);
		}
	}
}

static void *copy_on(void *argument)
{
	struct race *race = argument;

	while (atomic_load(&race->fetching))
		copy_dirty(race);
	return NULL;
}

static void fetch_pieces(struct bed *bed)
{
	for (uint64_t first = 0; first < RACE_PAGES; first += PIECE) {
		uint64_t found = 0;
		int rc;
		while ((rc = tracker_fetch(bed->tracker, 0, first, PIECE, &found)) == -ETIMEDOUT)
			;
		if (rc)
			bed->bad_calls++;
	}
}

/* Half of the memory is there before the tracker starts, the rest are holes that the writers fill. `used`: and the destination
 * holds something else. */
static void race(enum backing backing, enum sluice_tracker kind, bool used)
{
	struct race *race = calloc(1, sizeof(*race));
	struct bed *bed = &race->bed;
	pthread_t writers[WRITERS], copier;
	struct timespec start, now;
	int fd, different = 0;

	bed_init(bed);
	if (backing_add(bed->memory, backing, (uint64_t)RACE_PAGES * WIRE_PAGE, 0, &fd)) {
		harness_skip("no memory of this kind");
		goto out;
	}
	struct region *region = &bed->memory->regions[0];
	for (uint64_t page = 0; page < RACE_PAGES / 2; page++)
		poke(region->address + page * WIRE_PAGE, page + 1);
	region->fresh = !used;
	race->copy = calloc(RACE_PAGES, WIRE_PAGE);
	if (used)
		memset(race->copy, 0x55, (size_t)RACE_PAGES * WIRE_PAGE);
	race->marks = kind == SLUICE_TRACKER_MARKS;
	race->log = kind == SLUICE_TRACKER_LOG;
	if (!bed_start(bed, kind))
		goto out;
	bed->lock_fails = 3;
	atomic_store(&race->fetching, 1);
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&writers[i], NULL, write_pages, race);
	pthread_create(&copier, NULL, copy_on, race);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		fetch_pieces(bed);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < RACE_MS);
	atomic_store(&race->stop, 1);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	fetch_pieces(bed);
	atomic_store(&race->fetching, 0);
	pthread_join(copier, NULL);
	copy_dirty(race);
	/* Nobody wrote since: what copying itself did to the page tables is no write. Comparing reads holes, too, which allocates them. */
	if (backing != BACKING_HUGETLB)
		CU_ASSERT_EQUAL(fetch(bed, 0), 0);
	for (uint64_t page = 0; page < RACE_PAGES; page++)
		different += !same_page(race->copy + page * WIRE_PAGE, region->address + page * WIRE_PAGE);
	CU_ASSERT_EQUAL(different, 0);
	CU_ASSERT(race->writes > 1000);
out:
	bed_fini(bed);
	free(race->copy);
	free(race);
}

static void pagemap_races_on_anonymous(void)
{
	race(BACKING_ANONYMOUS, SLUICE_TRACKER_PAGEMAP, false);
}

static void pagemap_races_on_huge_pages(void)
{
	race(BACKING_THP, SLUICE_TRACKER_PAGEMAP, false);
}

static void pagemap_races_on_memfd(void)
{
	race(BACKING_MEMFD, SLUICE_TRACKER_PAGEMAP, false);
}

static void pagemap_races_for_a_used_destination(void)
{
	race(BACKING_MEMFD, SLUICE_TRACKER_PAGEMAP, true);
}

static void pagemap_races_on_hugetlb(void)
{
	struct huge_pool pool;

	if (!huge_pool_take(&pool, 16)) {
		harness_skip("no huge pages to be had (/proc/sys/vm/nr_hugepages)");
		return;
	}
	race(BACKING_HUGETLB, SLUICE_TRACKER_PAGEMAP, false);
	huge_pool_give(&pool);
}

static void marks_race(void)
{
	race(BACKING_ANONYMOUS, SLUICE_TRACKER_MARKS, false);
	race(BACKING_MEMFD, SLUICE_TRACKER_MARKS, true);
}

static void log_races(void)
{
	race(BACKING_ANONYMOUS, SLUICE_TRACKER_LOG, false);
	race(BACKING_MEMFD, SLUICE_TRACKER_LOG, true);
}

/* ---------------------------------------------------------------- holes */

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* 64 GiB of each kind, three pages touched. */
static void sparse_memory_costs_nothing(void)
{
	enum { ANONYMOUS, MEMFD };
	const uint64_t size = UINT64_C(64) << 30, last = size / WIRE_PAGE - 1;
	struct bed bed;
	int fd;

	bed_init(&bed);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_ANONYMOUS, size, 0, &fd), 0);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_MEMFD, size, 0, &fd), 0);
	for (uint32_t i = 0; i < 2; i++) {
		poke(bed.memory->regions[i].address + (UINT64_C(7) << 30), 1);
		poke(bed.memory->regions[i].address + (UINT64_C(40) << 30), 1);
		poke(bed.memory->regions[i].address + last * WIRE_PAGE, 1);
	}
	/* Data that is in none of our page tables. */
	CU_ASSERT_EQUAL(pwrite(fd, "x", 1, (off_t)(UINT64_C(20) << 30)), 1);
	long tables = status_kib("VmPTE");
	double start = now_ms();
	if (!bed_start(&bed, SLUICE_TRACKER_PAGEMAP))
		goto out;
	double armed = now_ms();
	CU_ASSERT_EQUAL(fetch(&bed, ANONYMOUS), 3);
	CU_ASSERT_EQUAL(fetch(&bed, MEMFD), 4);
	double fetched = now_ms();
	CU_ASSERT(is_dirty(&bed, ANONYMOUS, last) && is_dirty(&bed, MEMFD, last));
	CU_ASSERT(is_dirty(&bed, MEMFD, (UINT64_C(20) << 30) / WIRE_PAGE));
	CU_ASSERT(status_kib("VmPTE") - tables < 256);
	printf("128 GiB sparse: armed in %.2f ms, first fetch %.2f ms ", armed - start, fetched - armed);
	/* Not the clock of a loaded machine: what it would cost to look at every page is seconds. */
	CU_ASSERT(armed - start < 100 && fetched - armed < 500);
	forget(&bed);
	CU_ASSERT_EQUAL(fetch(&bed, ANONYMOUS) + fetch(&bed, MEMFD), 0);
	/* Reading what was reported is no write, also where it had to be mapped for it. */
	CU_ASSERT_EQUAL(peek(bed.memory->regions[MEMFD].address + (UINT64_C(20) << 30)), 'x');
	CU_ASSERT_EQUAL(fetch(&bed, MEMFD), 0);
	poke(bed.memory->regions[ANONYMOUS].address + (UINT64_C(50) << 30), 1); /* first touches */
	poke(bed.memory->regions[MEMFD].address + (UINT64_C(50) << 30), 1);
	poke(bed.memory->regions[MEMFD].address + (UINT64_C(20) << 30), 1);
	CU_ASSERT_EQUAL(fetch(&bed, ANONYMOUS), 1);
	CU_ASSERT_EQUAL(fetch(&bed, MEMFD), 2);
out:
	bed_fini(&bed);
}

/* test named after the bug it keeps out: a file's page that was written and then left the page tables was never sent. Where there is
 * no swap, MADV_DONTNEED takes the mapping's entry away as swapping out would. */
static void a_written_page_may_leave_the_page_tables(void)
{
	struct bed bed;
	int fd;

	bed_init(&bed);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_MEMFD, 1024 * WIRE_PAGE, 0, &fd), 0);
	unsigned char *memory = bed.memory->regions[0].address;
	poke(memory, 1);
	poke(memory + 4 * WIRE_PAGE, 1);
	if (!bed_start(&bed, SLUICE_TRACKER_PAGEMAP))
		goto out;
	bed.tracker->remaps = true;
	CU_ASSERT_EQUAL(fetch(&bed, 0), 2);
	forget(&bed);
	poke(memory, 2);
	poke(memory + 9 * WIRE_PAGE, 2);
	CU_ASSERT_EQUAL(madvise(memory, 16 * WIRE_PAGE, MADV_DONTNEED), 0);
	CU_ASSERT_EQUAL(fetch(&bed, 0), 2);
	CU_ASSERT(is_dirty(&bed, 0, 0) && is_dirty(&bed, 0, 9) && !is_dirty(&bed, 0, 4));
	forget(&bed);
	CU_ASSERT_EQUAL(peek(memory), 2);
	CU_ASSERT_EQUAL(fetch(&bed, 0), 0);
out:
	bed_fini(&bed);
}

static void hugetlb_holes_are_known(void)
{
	struct huge_pool pool;
	struct bed bed;
	int fd;

	if (!huge_pool_take(&pool, 8)) {
		harness_skip("no huge pages to be had (/proc/sys/vm/nr_hugepages)");
		return;
	}
	bed_init(&bed);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_HUGETLB, 16 * HUGE_SIZE, 0, &fd), 0);
	unsigned char *memory = bed.memory->regions[0].address;
	unsigned char *other = mmap(NULL, 16 * HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	CU_ASSERT_FATAL(other != MAP_FAILED);
	poke(memory + 3 * HUGE_SIZE, 1);
	poke(other + 5 * HUGE_SIZE, 1); /* in the file, in none of the page tables of the region */
	munmap(other, 16 * HUGE_SIZE);
	if (!bed_start(&bed, SLUICE_TRACKER_PAGEMAP))
		goto out;
	CU_ASSERT_EQUAL(fetch(&bed, 0), 1024);
	CU_ASSERT(is_dirty(&bed, 0, 3 * 512) && is_dirty(&bed, 0, 6 * 512 - 1));
	forget(&bed);
	CU_ASSERT_EQUAL(peek(memory + 5 * HUGE_SIZE), 1);
	CU_ASSERT_EQUAL(fetch(&bed, 0), 0);
	poke(memory + 5 * HUGE_SIZE + 4096, 1);
	poke(memory + 7 * HUGE_SIZE, 1);
	CU_ASSERT_EQUAL(fetch(&bed, 0), 1024);
out:
	bed_fini(&bed);
	huge_pool_give(&pool);
}

/* A region whose memory is a private mapping of a file: its untouched pages read as the file. */
static void private_file_has_no_holes(void)
{
	char path[] = "/tmp/sluice-test-XXXXXX", error[SLUICE_ERROR_MAX];
	struct bed bed;
	int fd = mkstemp(path);

	unlink(path);
	CU_ASSERT_EQUAL_FATAL(ftruncate(fd, 600 * WIRE_PAGE), 0);
	bed_init(&bed);
	struct sluice_region region = { .size_of = sizeof(region), .name = "rom", .size = 600 * WIRE_PAGE, .node = -1, .fd = -1 };
	region.address = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CU_ASSERT_EQUAL_FATAL(memory_add(bed.memory, &region, NULL, error), 0);
	close(fd);
	if (!bed_start(&bed, SLUICE_TRACKER_PAGEMAP))
		goto out;
	CU_ASSERT_EQUAL(fetch(&bed, 0), 600);
	forget(&bed);
	CU_ASSERT_EQUAL(peek((char *)region.address + 9 * WIRE_PAGE), 0);
	CU_ASSERT_EQUAL(fetch(&bed, 0), 0);
	poke((char *)region.address + 10 * WIRE_PAGE, 1);
	CU_ASSERT_EQUAL(fetch(&bed, 0), 1);
out:
	bed_fini(&bed);
}

/* Linux before 6.7: the page map is read instead. */
static void holes_without_a_page_scan(void)
{
	struct bed bed;
	int fd;

	bed_init(&bed);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_ANONYMOUS, UINT64_C(4) << 30, 0, &fd), 0);
	for (uint64_t page = 1000; page < 1003; page++)
		poke(bed.memory->regions[0].address + page * WIRE_PAGE, 1);
	if (!bed_start(&bed, SLUICE_TRACKER_MARKS))
		goto out;
	bed.tracker->holes.can_scan = false;
	double start = now_ms();
	CU_ASSERT_EQUAL(fetch(&bed, 0), 3);
	printf("4 GiB sparse by page map: %.1f ms ", now_ms() - start);
	CU_ASSERT(is_dirty(&bed, 0, 1000) && is_dirty(&bed, 0, 1002));
	CU_ASSERT_EQUAL(fetch(&bed, 0), 0);
out:
	bed_fini(&bed);
}

static void used_destinations_get_their_zeroes(void)
{
	struct bed bed;
	int fd;

	bed_init(&bed);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_MEMFD, 700 * WIRE_PAGE, 0, &fd), 0);
	bed.memory->regions[0].fresh = false;
	poke(bed.memory->regions[0].address + 600 * WIRE_PAGE, 1);
	if (!bed_start(&bed, SLUICE_TRACKER_MARKS))
		goto out;
	CU_ASSERT_EQUAL(fetch(&bed, 0), 700);
	CU_ASSERT_EQUAL(bitmap_count(&bed.discarded), 699);
	CU_ASSERT_FALSE(bitmap_test(&bed.discarded, 600));
out:
	bed_fini(&bed);
}

/* ---------------------------------------------------------------- the log, and choosing */

static void log_is_bounded_by_its_region(void)
{
	struct bed bed;
	int fd;

	bed_init(&bed);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_ANONYMOUS, 5 * WIRE_PAGE, 0, &fd), 0);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_ANONYMOUS, 9000 * WIRE_PAGE, 0, &fd), 0);
	if (!bed_start(&bed, SLUICE_TRACKER_LOG))
		goto out;
	CU_ASSERT_STRING_EQUAL(tracker_name(bed.tracker), "log");
	CU_ASSERT_EQUAL(fetch(&bed, 0) + fetch(&bed, 1), 0); /* all noted, but never touched */
	bitmap_set(&bed.log, 2, 2);
	bitmap_set(&bed.log, 512 + 60, 70);
	bitmap_set(&bed.log, 512 + 8999, 1);
	bitmap_set(&bed.discarded, 512 + 61, 1);
	/* The lock is not to be had for the clear: the log keeps the bits, and so do we, by not having them yet. */
	uint64_t found = 0;
	CU_ASSERT_EQUAL(tracker_fetch(bed.tracker, 0, 0, 5, &found), 0);
	CU_ASSERT_EQUAL(found, 2);
	bed.lock_fails = 1;
	CU_ASSERT_EQUAL(tracker_fetch(bed.tracker, 1, 0, 9000, &found), -ETIMEDOUT);
	CU_ASSERT_EQUAL(fetch(&bed, 1), 71);
	CU_ASSERT_FALSE(bitmap_test(&bed.discarded, 512 + 61));
	CU_ASSERT_EQUAL(bitmap_count(&bed.dirty), 73);
	forget(&bed);
	CU_ASSERT_EQUAL(fetch(&bed, 0) + fetch(&bed, 1), 0);
	bed.lock_fails = 1;
	bed.ops.dirty_log_stop = NULL;
out:
	bed_fini(&bed);
}

static uint64_t looked(struct bed *bed, uint64_t *ret_unseen)
{
	uint64_t written = 0;

	*ret_unseen = 0;
	CU_ASSERT_EQUAL(tracker_peek(bed->tracker, 0, 0, bed->memory->regions[0].pages, &written, ret_unseen), 0);
	return written;
}

/* To look is not to fetch: nothing is re-armed, nothing is dirty for it, and the fetch finds all of it still. Only what was written counts as
 * such, not what was there at first. */
static void looking_changes_nothing(void)
{
	static const enum sluice_tracker kinds[] = { SLUICE_TRACKER_PAGEMAP, SLUICE_TRACKER_LOG, SLUICE_TRACKER_MARKS };

	for (int k = 0; k < 3; k++) {
		struct bed bed;
		bool log = kinds[k] == SLUICE_TRACKER_LOG, marks = kinds[k] == SLUICE_TRACKER_MARKS;
		uint64_t unseen;
		int fd;

		bed_init(&bed);
		CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_ANONYMOUS, 2048 * WIRE_PAGE, 0, &fd), 0);
		struct region *r = &bed.memory->regions[0];
		memset(r->address, 1, r->size);
		r->fresh = true;
		if (!bed_start(&bed, kinds[k]))
			return;
		CU_ASSERT_EQUAL(looked(&bed, &unseen), 0);
		CU_ASSERT_EQUAL(unseen, 2048);
		CU_ASSERT_EQUAL(fetch(&bed, 0), 2048);
		CU_ASSERT_EQUAL(tracker_discovered(bed.tracker), 2048);
		CU_ASSERT_EQUAL(bitmap_count(&bed.written), 0);
		forget(&bed);
		CU_ASSERT_EQUAL(looked(&bed, &unseen), 0);
		CU_ASSERT_EQUAL(unseen, 0);
		for (uint64_t page = 0; page < 2048 && !marks; page += 3) {
			r->address[page * WIRE_PAGE]++;
			if (log)
				bitmap_set(&bed.log, page, 1);
		}
		for (int again = 0; again < 3; again++) {
			CU_ASSERT_EQUAL(looked(&bed, &unseen), marks ? 0 : 683);
			CU_ASSERT_EQUAL(bitmap_count(&bed.dirty), 0);
		}
		bitmap_set(&bed.dirty, 0, 4); /* two of them */
		CU_ASSERT_EQUAL(looked(&bed, &unseen), marks ? 0 : 681);
		forget(&bed);
		CU_ASSERT_EQUAL(fetch(&bed, 0), marks ? 0 : 683);
		CU_ASSERT_EQUAL(bitmap_count(&bed.written), marks ? 0 : 683);
		CU_ASSERT_EQUAL(tracker_discovered(bed.tracker), 2048);
		CU_ASSERT_EQUAL(looked(&bed, &unseen), 0);
		bed_fini(&bed);
	}
}

static void the_tracker_is_chosen(void)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	struct sluice_ops ops = { .size_of = sizeof(ops) };
	struct bitmap bits;
	struct tracker *tracker;
	char error[SLUICE_ERROR_MAX] = "";
	int fd;

	CU_ASSERT_EQUAL_FATAL(backing_add(memory, BACKING_ANONYMOUS, 4096, 0, &fd), 0);
	bitmap_init(&bits, GRANULE_WORDS);
	struct tracker_config config = { SLUICE_TRACKER_LOG, memory, &bits, &bits, NULL, &ops, NULL, NULL, NULL, NULL, NULL };
	CU_ASSERT_EQUAL(tracker_create(&config, &tracker, error), -ENOTSUP);
	CU_ASSERT(strstr(error, "dirty_log_fetch") != NULL);
	config.kind = SLUICE_TRACKER_AUTO;
	/* Marks are never chosen by themselves: a guest that does not mark would lose pages without a word. */
	CU_ASSERT_EQUAL(tracker_create(&config, &tracker, error), tracker_pagemap_works());
	if (!tracker_pagemap_works()) {
		CU_ASSERT_STRING_EQUAL(tracker_name(tracker), "pagemap");
		tracker_destroy(tracker); /* never started */
	}
	ops.dirty_log_fetch = log_fetch;
	ops.dirty_log_clear = log_clear;
	CU_ASSERT_EQUAL_FATAL(tracker_create(&config, &tracker, error), 0);
	CU_ASSERT_STRING_EQUAL(tracker_name(tracker), "log");
	CU_ASSERT(tracker_bytes(tracker) > 0 && tracker_bytes(tracker) < 32768);
	tracker_destroy(tracker);
	bitmap_fini(&bits);
	backing_free(memory);
}

/* Each migration of the same memory begins afresh, and leaves nothing behind. */
static void tracking_can_start_again(void)
{
	struct bed bed;
	int fd;

	bed_init(&bed);
	CU_ASSERT_EQUAL_FATAL(backing_add(bed.memory, BACKING_MEMFD, 600 * WIRE_PAGE, 0, &fd), 0);
	for (int i = 0; i < 30; i++)
		poke(bed.memory->regions[0].address + i * WIRE_PAGE, 1);
	for (int i = 0; i < 3; i++) {
		if (!bed_start(&bed, SLUICE_TRACKER_PAGEMAP))
			break;
		CU_ASSERT_EQUAL(fetch(&bed, 0), 30);
		CU_ASSERT_EQUAL(tracker_stop(bed.tracker), 0);
		tracker_destroy(bed.tracker);
		bed.tracker = NULL;
		bitmap_fini(&bed.dirty);
		bitmap_fini(&bed.discarded);
		bitmap_fini(&bed.log);
	}
	bed_fini(&bed);
}

SUITE("tracker", TEST(pagemap_races_on_anonymous), TEST(pagemap_races_on_huge_pages), TEST(pagemap_races_on_memfd),
      TEST(pagemap_races_for_a_used_destination), TEST(pagemap_races_on_hugetlb), TEST(marks_race), TEST(log_races),
      TEST(sparse_memory_costs_nothing), TEST(a_written_page_may_leave_the_page_tables), TEST(hugetlb_holes_are_known),
      TEST(private_file_has_no_holes), TEST(holes_without_a_page_scan), TEST(used_destinations_get_their_zeroes),
      TEST(log_is_bounded_by_its_region), TEST(looking_changes_nothing), TEST(the_tracker_is_chosen),
      TEST(tracking_can_start_again))
