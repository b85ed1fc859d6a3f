/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* harness.c: runs one suite through CUnit and turns its outcome into an exit status. */
#include "tests/unit/harness.h"

#include <CUnit/Basic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_PASSED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_SKIPPED = 77 };

static unsigned skipped;

void harness_skip(const char *reason)
{
	skipped++;
	printf("skipped: %s\n", reason);
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

int harness_main(const char *suite, const struct test *tests, size_t n, int argc, char **argv)
{
	unsigned added = 0;
	CU_pSuite s;

	/* A test that crashes must not take the names of those before it along. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (CU_initialize_registry() != CUE_SUCCESS || !(s = CU_add_suite(suite, NULL, NULL)))
		goto broken;
	for (size_t i = 0; i < n; i++) {
		if (!wanted(tests[i].name, argc, argv))
			continue;
		if (!CU_add_test(s, tests[i].name, tests[i].run))
			goto broken;
		added++;
	}
	if (!added) {
		fprintf(stderr, "%s: no such test\n", suite);
		CU_cleanup_registry();
		return EXIT_USAGE;
	}
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	unsigned failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	if (failed)
		return EXIT_FAILED;
	return skipped == added ? EXIT_SKIPPED : EXIT_PASSED;
broken:
	fprintf(stderr, "%s: CUnit: %s\n", suite, CU_get_error_msg());
	CU_cleanup_registry();
	return EXIT_FAILED;
}
