/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Do guest memory and disk hold what they must? */
#ifndef PERF_VERIFY_H
#define PERF_VERIFY_H

#include <stdatomic.h>
#include <stdint.h>

#include "perf/guest.h"

enum verify_status { VERIFY_SKIPPED, VERIFY_OK, VERIFY_MISMATCH };

struct verify_result {
	enum verify_status status;
	uint64_t mismatches; /* pages */
	uint64_t pages;      /* looked at */
	uint64_t first_page;
	uint64_t disk_blocks, kept_blocks; /* of a disk: compared in the file, and in buffers; a wrong one counts as a page */
	char first[CONTENT_TEXT];          /* what is wrong with the lowest wrong page; in a report: also why it was skipped */
};

extern const char *const verify_names[]; /* as in the JSON, by status */

/* Recompute every byte (full) or a 64th of the pages (sample), with a thread per CPU. The guest must stand still.
 * Pages that do not exist count as zeroes and are not made. -ECANCELED when *cancel was set, or why memory could
 * not be looked at. */
int verify_guest(const struct guest *guest, enum verify_mode mode, _Atomic bool *cancel, struct verify_result *ret);

#endif
