/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tracker_kinds.h: what tracker.c and the kinds of tracker share. Nobody else includes it. */
#pragma once

#include "core/memory/holes.h"
#include "core/memory/tracker.h"

struct tracker_kind {
	const char *name;
	/* Is it to be had here? -ENOTSUP with one line in error. May make what start() needs. */
	int (*create)(struct tracker *tracker, char error[SLUICE_ERROR_MAX]);
	/* Arm what must be armed for all of memory at once. O(1) in memory size where the kernel lets us. Undone if it fails. */
	int (*start)(struct tracker *tracker);
	/* Arm [first, first + n), then report all of it that is no hole. May be called again where it failed. */
	int (*first)(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n);
	/* Report and re-arm what was written since. */
	int (*again)(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n);
	/* Count what was written since, with tracker_count(), and re-arm nothing. NULL: cannot. */
	int (*peek)(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n);
	/* Undoes start(). */
	int (*stop)(struct tracker *tracker);
	/* Undoes create(). */
	void (*destroy)(struct tracker *tracker);
};

extern const struct tracker_kind tracker_pagemap, tracker_log, tracker_marks, tracker_kvm_log, tracker_kvm_ring;

/* Owned by the sync thread after creation. */
struct tracker {
	const struct tracker_kind *kind;
	struct tracker_config config;
	struct holes holes;
	uint64_t *fetched; /* one bit a granule of all memory: the first fetch was done */
	uint64_t fetched_words;
	uint64_t found;      /* by the fetch, or the peek, going on */
	uint64_t discovered; /* by first fetches, all */
	bool first;          /* the fetch going on is the first of those pages: it reports what is there, not what was written */
	bool started;
	/* pagemap */
	int uffd;
	bool remaps; /* a file's pages may leave our page tables by themselves */
	/* log, kvm-log */
	uint64_t *log_bits; /* one piece */
};

/* Pages were written: their bits. What was discarded is no more. */
void tracker_report(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n);
/* Pages were written, as a peek finds: those that are not dirty count. */
void tracker_count(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n);
/* Report all that is no hole. */
int tracker_report_data(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n);
