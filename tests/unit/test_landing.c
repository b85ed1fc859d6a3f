/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_landing.c: what an extent may name, and that memory holds what came, is populated where bytes come and nowhere else. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory/landing.h"
#include "tests/unit/backing.h"
#include "tests/unit/harness.h"

static struct extent extent_of(uint16_t region, uint64_t page, uint32_t count)
{
	return (struct extent){ .region = region, .page = page, .count = count };
}

static void extents_are_checked(void)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	struct landing landing;
	void *address;
	int fd;

	CU_ASSERT_EQUAL_FATAL(backing_add(memory, BACKING_ANONYMOUS, 1000 * WIRE_PAGE, 0, &fd), 0);
	CU_ASSERT_EQUAL_FATAL(landing_init(&landing, memory), 0);
	CU_ASSERT_EQUAL(landing_bytes(&landing), 2 * 3 * 64);
	struct extent bad[] = {
		extent_of(1, 0, 1),
		extent_of(UINT16_MAX, 0, 1),
		extent_of(0, 0, 0),
		extent_of(0, 1000, 1),
		extent_of(0, 999, 2),
		extent_of(0, 0, 513),
		extent_of(0, 511, 2),
		extent_of(0, 0, UINT32_MAX),
		extent_of(0, UINT64_MAX, 1),
		extent_of(0, UINT64_MAX, 2),
		extent_of(0, UINT64_MAX - 1, 512),
		extent_of(0, UINT64_C(1) << 52, 1),
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CU_ASSERT_EQUAL(landing_place(&landing, &bad[i], &address), -EINVAL);
		CU_ASSERT_EQUAL(landing_zero(&landing, &bad[i]), -EINVAL);
	}
	struct extent good = extent_of(0, 512, 488);
	CU_ASSERT_EQUAL(landing_place(&landing, &good, &address), 0);
	CU_ASSERT_PTR_EQUAL(address, memory->regions[0].address + 512 * WIRE_PAGE);
	CU_ASSERT(bitmap_all(&landing.landing, 512, 488) && !bitmap_test(&landing.received, 512));
	landing_placed(&landing, &good);
	CU_ASSERT(bitmap_all(&landing.received, 512, 488) && !bitmap_count(&landing.landing));
	CU_ASSERT_EQUAL(bitmap_count(&landing.received), 488);
	landing_fini(&landing);
	backing_free(memory);
}

static uint64_t blocks(int fd)
{
	struct stat status;

	return fstat(fd, &status) ? 0 : (uint64_t)status.st_blocks / 8;
}

/* Data, zero over data, zero over nothing, data over that zero; `fallback`: as on a kernel without MADV_POPULATE_WRITE. */
static void land(enum backing backing, uint32_t flags, bool fallback)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	struct landing landing;
	struct extent data = extent_of(0, 512 + 3, 20), zero = extent_of(0, 512 + 13, 490 - 13),
		      over = extent_of(0, 512 + 100, 2);
	void *address;
	int fd;

	CU_ASSERT_EQUAL_FATAL(backing_add(memory, backing, 2048 * WIRE_PAGE, flags, &fd), 0);
	unsigned char *base = memory->regions[0].address;
	if (flags & SLUICE_REGION_USED)
		poke(base + (512 + 400) * WIRE_PAGE, 77);
	CU_ASSERT_EQUAL_FATAL(landing_init(&landing, memory), 0);
	landing.can_populate &= !fallback;
	CU_ASSERT_EQUAL_FATAL(landing_place(&landing, &data, &address), 0);
	if (backing == BACKING_MEMFD)
		CU_ASSERT_EQUAL(blocks(fd), 20 + !!(flags & SLUICE_REGION_USED));
	for (unsigned i = 0; i < 20; i++)
		poke((char *)address + i * WIRE_PAGE, i + 1);
	landing_placed(&landing, &data);
	CU_ASSERT_EQUAL(landing_zero(&landing, &zero), 0);
	CU_ASSERT(bitmap_all(&landing.received, 512 + 3, 487));
	CU_ASSERT_EQUAL(bitmap_count(&landing.received), 487);
	if (backing == BACKING_MEMFD)
		CU_ASSERT_EQUAL(blocks(fd), 20 + !!(flags & SLUICE_REGION_USED)); /* a zero makes no page */
	if (flags & SLUICE_REGION_USED) /* else it is a hole, and looking would make a page of it */
		CU_ASSERT_EQUAL(peek(base + (512 + 400) * WIRE_PAGE), 0);
	for (unsigned i = 0; i < 20; i++)
		CU_ASSERT_EQUAL(peek(base + (512 + 3 + i) * WIRE_PAGE), i < 10 ? i + 1 : 0);
	/* A received zero was never populated: it must be before bytes come. */
	CU_ASSERT_EQUAL_FATAL(landing_place(&landing, &over, &address), 0);
	if (backing == BACKING_MEMFD)
		CU_ASSERT_EQUAL(blocks(fd), 22 + !!(flags & SLUICE_REGION_USED));
	poke(address, 5);
	landing_placed(&landing, &over);
	CU_ASSERT_EQUAL(landing_zero(&landing, &over), 0);
	CU_ASSERT_EQUAL(peek(address), 0);
	landing_fini(&landing);
	backing_free(memory);
}

static void lands_in_fresh_memory(void)
{
	land(BACKING_ANONYMOUS, 0, false);
	land(BACKING_THP, 0, false);
	land(BACKING_MEMFD, 0, false);
}

static void lands_in_used_memory(void)
{
	land(BACKING_ANONYMOUS, SLUICE_REGION_USED, false);
	land(BACKING_MEMFD, SLUICE_REGION_USED, false);
}

static void lands_without_populate(void)
{
	land(BACKING_ANONYMOUS, 0, true);
	land(BACKING_MEMFD, SLUICE_REGION_USED, true);
}

static void lands_in_hugetlb(void)
{
	struct huge_pool pool;

	if (!huge_pool_take(&pool, 4)) {
		harness_skip("no huge pages to be had");
		return;
	}
	land(BACKING_HUGETLB, 0, false);
	land(BACKING_HUGETLB, SLUICE_REGION_USED, false);
	land(BACKING_HUGETLB, 0, true);
	huge_pool_give(&pool);
}

/* A pool of huge pages that is used up, a file that is too short: an error, where a fault would be a SIGBUS. */
static void no_memory_is_an_error(void)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	struct landing landing;
	void *address;
	int fd;

	CU_ASSERT_EQUAL_FATAL(backing_add(memory, BACKING_MEMFD, 1024 * WIRE_PAGE, 0, &fd), 0);
	CU_ASSERT_EQUAL_FATAL(ftruncate(fd, 512 * WIRE_PAGE), 0);
	CU_ASSERT_EQUAL_FATAL(landing_init(&landing, memory), 0);
	struct extent extent = extent_of(0, 512, 8);
	if (landing.can_populate)
		CU_ASSERT_EQUAL(landing_place(&landing, &extent, &address), -ENOMEM);
	CU_ASSERT_EQUAL(bitmap_count(&landing.landing), 0);
	landing_fini(&landing);
	backing_free(memory);
}

/* 64 GiB used: its holes must not be read. */
static void zeroes_on_a_sparse_used_region_allocate_nothing(void)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	const uint64_t pages = (UINT64_C(64) << 30) / WIRE_PAGE;
	struct landing landing;
	int fd, failed = 0;

	CU_ASSERT_EQUAL_FATAL(backing_add(memory, BACKING_MEMFD, pages * WIRE_PAGE, SLUICE_REGION_USED, &fd), 0);
	poke(memory->regions[0].address + 777 * WIRE_PAGE, 1);
	CU_ASSERT_EQUAL_FATAL(landing_init(&landing, memory), 0);
	for (uint64_t page = 0; page < pages; page += 512) {
		struct extent extent = extent_of(0, page, 512);
		failed += landing_zero(&landing, &extent) != 0;
	}
	CU_ASSERT_EQUAL(failed, 0);
	CU_ASSERT_EQUAL(blocks(fd), 1);
	CU_ASSERT_EQUAL(peek(memory->regions[0].address + 777 * WIRE_PAGE), 0);
	CU_ASSERT_EQUAL(bitmap_count(&landing.received), pages);
	landing_fini(&landing);
	backing_free(memory);
}

enum { RECEIVERS = 4, GRANULES = 16 };
struct crowd {
	struct memory *memory;
	struct landing landing;
	_Atomic uint32_t next;
	_Atomic int failed;
};

static void *receive(void *argument)
{
	struct crowd *crowd = argument;
	uint32_t granule;
	void *address;

	while ((granule = atomic_fetch_add(&crowd->next, 1)) < GRANULES) {
		/* 300 pages: words are shared, host pages too on hugetlb. */
		for (uint32_t page = 0; page < 512; page += 300) {
			struct extent extent = extent_of(0, granule * UINT64_C(512) + page, page ? 212 : 300);
			crowd->failed += landing_place(&crowd->landing, &extent, &address) != 0;
			for (uint32_t i = 0; i < extent.count; i++)
				poke((char *)address + i * WIRE_PAGE, extent.page + i);
			landing_placed(&crowd->landing, &extent);
		}
	}
	return NULL;
}

static void many_receivers_land_at_once(void)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	pthread_t threads[RECEIVERS];
	int fd, wrong = 0;

	crowd->memory = calloc(1, sizeof(*crowd->memory));
	CU_ASSERT_EQUAL_FATAL(backing_add(crowd->memory, BACKING_MEMFD, GRANULES * 512 * WIRE_PAGE, 0, &fd), 0);
	CU_ASSERT_EQUAL_FATAL(landing_init(&crowd->landing, crowd->memory), 0);
	for (int i = 0; i < RECEIVERS; i++)
		pthread_create(&threads[i], NULL, receive, crowd);
	for (int i = 0; i < RECEIVERS; i++)
		pthread_join(threads[i], NULL);
	for (uint64_t page = 0; page < GRANULES * 512; page++)
		wrong += peek(crowd->memory->regions[0].address + page * WIRE_PAGE) != page;
	CU_ASSERT_EQUAL(wrong + crowd->failed, 0);
	CU_ASSERT(bitmap_all(&crowd->landing.received, 0, GRANULES * 512));
	CU_ASSERT_EQUAL(bitmap_count(&crowd->landing.landing), 0);
	landing_fini(&crowd->landing);
	backing_free(crowd->memory);
	free(crowd);
}

SUITE("landing", TEST(extents_are_checked), TEST(lands_in_fresh_memory), TEST(lands_in_used_memory), TEST(lands_without_populate),
      TEST(lands_in_hugetlb), TEST(no_memory_is_an_error), TEST(zeroes_on_a_sparse_used_region_allocate_nothing),
      TEST(many_receivers_land_at_once))
