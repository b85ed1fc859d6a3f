/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_zero.c: every single bit of a page counts, and not one byte beyond it is read. */
#include <string.h>
#include <sys/mman.h>

#include "streams/zero.h"
#include "tests/unit/harness.h"

static void check_every_byte(bool (*is_zero)(const void *page))
{
	/* Inaccessible pages on both sides. */
	unsigned char *map = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *page = map + 4096;

	CU_ASSERT_FATAL(map != MAP_FAILED && !mprotect(page, 4096, PROT_READ | PROT_WRITE));
	CU_ASSERT(is_zero(page));
	for (unsigned i = 0; i < 4096; i++) {
		page[i] = (unsigned char)(1u << i % 8);
		if (is_zero(page))
			CU_FAIL("a byte was overlooked");
		page[i] = 0;
	}
	CU_ASSERT(is_zero(page));
	memset(page, 0xff, 4096);
	CU_ASSERT(!is_zero(page));
	munmap(map, 3 * 4096);
}

static void every_byte_counts(void)
{
	check_every_byte(page_is_zero);
}

static void every_byte_counts_without_simd(void)
{
	check_every_byte(page_is_zero_portable);
}

SUITE("zero", TEST(every_byte_counts), TEST(every_byte_counts_without_simd))
