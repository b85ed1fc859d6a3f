/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_tombstones.c: how migrations ended, for a source that asks late. */
#include <string.h>

#include "core/run/tombstones.h"
#include "tests/unit/harness.h"

static struct tombstone number(uint32_t n)
{
	struct tombstone t = { .epoch = n + 1, .dial = n + 2, .attempt = n + 3, .ran = n % 2 };

	memset(t.token, 0x5a, sizeof t.token);
	memcpy(t.token + 6, &n, sizeof n);
	return t;
}

static bool is_there(struct tombstones *t, uint32_t n)
{
	struct tombstone want = number(n), *found = tombstones_find(t, want.token);

	if (!found)
		return false;
	CU_ASSERT(!memcmp(found->token, want.token, sizeof want.token));
	CU_ASSERT_EQUAL(found->epoch, want.epoch);
	CU_ASSERT_EQUAL(found->dial, want.dial);
	CU_ASSERT_EQUAL(found->attempt, want.attempt);
	CU_ASSERT_EQUAL(found->ran, want.ran);
	return true;
}

static void none_at_first(void)
{
	static const uint8_t nothing[MESSAGE_TOKEN];
	struct tombstones t = { 0 };

	/* A token of zeroes is no session's: it must not find the place of one that is yet to be. */
	CU_ASSERT_PTR_NULL(tombstones_find(&t, nothing));
	CU_ASSERT(!is_there(&t, 0));
	struct tombstone one = number(3);
	tombstones_add(&t, &one);
	CU_ASSERT_PTR_NULL(tombstones_find(&t, nothing));
	CU_ASSERT(is_there(&t, 3));
}

static void the_oldest_makes_way(void)
{
	struct tombstones t = { 0 };

	for (uint32_t n = 0; n < 5 * TOMBSTONES; n++) {
		struct tombstone one = number(n);

		tombstones_add(&t, &one);
		for (uint32_t i = 0; i <= n + 2; i++)
			if (is_there(&t, i) != (i <= n && i + TOMBSTONES > n))
				CU_FAIL("not the last ones, and all of them");
	}
}

/* Every byte of a token counts. */
static void tokens_differ_anywhere(void)
{
	struct tombstones t = { 0 };
	struct tombstone one = number(7);

	tombstones_add(&t, &one);
	for (unsigned bit = 0; bit < 8 * MESSAGE_TOKEN; bit++) {
		uint8_t token[MESSAGE_TOKEN];

		memcpy(token, one.token, sizeof token);
		token[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_PTR_NULL(tombstones_find(&t, token));
	}
	CU_ASSERT_PTR_NOT_NULL(tombstones_find(&t, one.token));
}

/* Who answers for one notes so in it: the next question must come by a later dial, and gets a later epoch. */
static void found_ones_can_be_changed(void)
{
	struct tombstones t = { 0 };

	for (uint32_t n = 0; n < TOMBSTONES + 9; n++) {
		struct tombstone one = number(n);

		tombstones_add(&t, &one);
	}
	struct tombstone one = number(TOMBSTONES), *found = tombstones_find(&t, one.token);
	CU_ASSERT_PTR_NOT_NULL_FATAL(found);
	found->epoch++;
	found->dial = 99;
	found = tombstones_find(&t, one.token);
	CU_ASSERT_EQUAL(found->epoch, one.epoch + 1);
	CU_ASSERT_EQUAL(found->dial, 99);
	CU_ASSERT(is_there(&t, TOMBSTONES - 1) && is_there(&t, TOMBSTONES + 1));
}

SUITE("tombstones", TEST(none_at_first), TEST(the_oldest_makes_way), TEST(tokens_differ_anywhere),
      TEST(found_ones_can_be_changed))
