/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* harness.h: a CUnit suite in one file, without its registry code.
 *
 *   static void finds_first(void) { CU_ASSERT_EQUAL(...); }
 *   SUITE("bitmap", TEST(finds_first), TEST(...))
 *
 * A suite is a program, tests/unit/test_NAME.c, and one line in tests/meson.build. `test_NAME TEST...` runs only those tests.
 * Exit status: 0 all passed, 1 some failed, 77 every test was skipped. CU_ASSERT* are for the main thread: CUnit takes no
 * locks, so other threads hand their findings over. */
#pragma once

#include <CUnit/CUnit.h>
#include <stddef.h>

struct test {
	const char *name;
	void (*run)(void);
};

int harness_main(const char *suite, const struct test *tests, size_t n, int argc, char **argv);

/* This machine cannot run the test: say why, and return from it. */
void harness_skip(const char *reason);

/* clang-format takes these braces for a block. */
/* clang-format off */
#define TEST(function) { #function, function }
/* clang-format on */

#define SUITE(suite, ...)                                                                      \
	int main(int argc, char **argv)                                                        \
	{                                                                                      \
		static const struct test tests[] = { __VA_ARGS__ };                            \
		return harness_main(suite, tests, sizeof(tests) / sizeof(*tests), argc, argv); \
	}
