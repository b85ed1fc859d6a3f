/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_regions.c: what may be a region, and the numbering of granules across them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory/regions.h"
#include "tests/unit/harness.h"

#define BASE ((uintptr_t)0x7f0000000000)

static int add(struct memory *memory, const char *name, uintptr_t address, uint64_t size, uint32_t host_page)
{
	char error[SLUICE_ERROR_MAX] = "";
	struct sluice_region region = {
		.size_of = sizeof(region), .name = name, .size = size, .host_page_size = host_page, .node = -1, .fd = -1
	};

	region.address = (void *)address;
	int rc = memory_add(memory, &region, NULL, error);
	CU_ASSERT(!rc == !*error);
	return rc;
}

static void granules_are_numbered_across_regions(void)
{
	struct memory *memory = calloc(1, sizeof(*memory));

	CU_ASSERT_EQUAL(add(memory, "a", BASE, 3 << 20, 0), 0);           /* 768 pages: 2 granules */
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (16 << 20), 4096, 0), 0); /* 1 page */
	CU_ASSERT_EQUAL(add(memory, "c", BASE + (32 << 20), 4 << 20, 2 << 20), 0);
	CU_ASSERT_EQUAL(memory->granules, 5);
	CU_ASSERT_EQUAL(memory->bytes, (7 << 20) + 4096);
	static const struct {
		uint32_t region, pages;
	} want[5] = { { 0, 512 }, { 0, 256 }, { 1, 1 }, { 2, 512 }, { 2, 512 } };
	for (uint64_t granule = 0; granule < 5; granule++) {
		const struct region *region = memory_region_of(memory, granule);
		CU_ASSERT_PTR_EQUAL(region, &memory->regions[want[granule].region]);
		CU_ASSERT_EQUAL(memory_granule_pages(region, granule), want[granule].pages);
	}
	CU_ASSERT_EQUAL(memory_bit(&memory->regions[2], 7), 3 * 512 + 7);
	free(memory);
}

static void bad_regions_are_refused(void)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	char error[SLUICE_ERROR_MAX], longest[SLUICE_NAME_MAX + 1];

	CU_ASSERT_EQUAL(add(memory, "a", BASE, 2 << 20, 0), 0);
	CU_ASSERT_EQUAL(add(memory, "a", BASE + (8 << 20), 4096, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "", BASE + (8 << 20), 4096, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, NULL, BASE + (8 << 20), 4096, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + 4096, 4096, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE - 4096, 8192, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE - 4096, 4 << 20, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (8 << 20) + 1, 4096, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (8 << 20), 4097, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (8 << 20), 0, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (8 << 20), 4096, 2 << 20), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (8 << 20) + 4096, 2 << 20, 2 << 20), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (8 << 20), 12288, 12288), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE + (8 << 20), 4096, 1024), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", 0, 4096, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", (uintptr_t)-4096, 4096, 0), -EINVAL);
	CU_ASSERT_EQUAL(add(memory, "b", BASE, ~UINT64_C(4095), 0), -EINVAL);
	memset(longest, 'x', SLUICE_NAME_MAX);
	longest[SLUICE_NAME_MAX] = '\0';
	CU_ASSERT_EQUAL(add(memory, longest, BASE + (8 << 20), 4096, 0), -EINVAL);
	struct sluice_region region = { .size_of = sizeof(region), .name = "b", .size = 4096, .node = -1, .fd = -1 };
	region.address = (void *)(BASE + (8 << 20));
	region.flags = 1u << 31;
	CU_ASSERT_EQUAL(memory_add(memory, &region, NULL, error), -EINVAL);
	region.flags = 0;
	region.fd = 0;
	region.fd_offset = UINT64_MAX - 4095;
	CU_ASSERT_EQUAL(memory_add(memory, &region, NULL, error), -EINVAL);
	region.fd_offset = 0;
	region.size_of = 8;
	CU_ASSERT_EQUAL(memory_add(memory, &region, NULL, error), -EINVAL);
	CU_ASSERT_EQUAL(memory->n, 1);
	CU_ASSERT_EQUAL(memory->granules, 1);
	free(memory);
}

static void there_is_a_last_region(void)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	char name[16];

	for (uint32_t i = 0; i < SLUICE_MAX_REGIONS; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		CU_ASSERT_EQUAL(add(memory, name, BASE + i * 8192, 4096, 0), 0);
	}
	CU_ASSERT_EQUAL(add(memory, "more", BASE - 8192, 4096, 0), -ENOSPC);
	for (uint32_t i = 0; i < SLUICE_MAX_REGIONS; i++)
		CU_ASSERT_PTR_EQUAL(memory_region_of(memory, i), &memory->regions[i]);
	free(memory);
}

SUITE("regions", TEST(granules_are_numbered_across_regions), TEST(bad_regions_are_refused), TEST(there_is_a_last_region))
