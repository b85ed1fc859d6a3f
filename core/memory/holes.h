/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* holes.h: which pages of a region hold anything? What is a hole depends on the kind of mapping, so each region is looked up
 * in /proc/self/maps once. Used by trackers (sync thread) and by landing (receivers); holes_data() is safe in any thread.
 *
 * A page is called a hole only where it is known to read as zero. Reading one to find out would allocate it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/memory/regions.h"
#include "core/memory/uffd.h"

enum hole_kind {
	HOLES_UNKNOWN,   /* a private mapping of a file, or nothing we know: no holes */
	HOLES_ANONYMOUS, /* neither present nor swapped */
	HOLES_FILE,      /* SEEK_DATA */
	HOLES_HUGE,      /* hugetlb file: asked page by page, through a second mapping */
};

struct hole_source {
	enum hole_kind kind;
	int fd;               /* HOLES_FILE: an open file of our own, so that seeking moves nobody else's offset */
	unsigned char *alias; /* HOLES_HUGE: the second mapping */
};

struct holes {
	const struct memory *memory;
	int pagemap;
	bool can_scan; /* PAGEMAP_SCAN */
	int uffd;      /* for HOLES_HUGE, -1: none */
	struct hole_source sources[SLUICE_MAX_REGIONS];
};

/* `memory` is borrowed, complete and mapped. */
int holes_init(struct holes *holes, const struct memory *memory);
void holes_fini(struct holes *holes);
/* Call `run` for the runs of pages in [first, first + n) of a region that are no hole, page numbers within the region, ascending.
 * On hugetlb whole host pages are reported, within the range. Not 0 from `run` ends it. */
int holes_data(const struct holes *holes, uint32_t region, uint64_t first, uint64_t n, page_run_fn *run, void *argument);
