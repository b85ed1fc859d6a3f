/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* regions.h: the guest's memory as a session sees it: a table of regions, and one numbering of all granules across them.
 *
 * Set up before threads start, constant afterwards. A region begins at a granule border of that numbering, so a bitmap
 * over all of memory is one array of 64-bit words in which a region is contiguous. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/sluice.h"
#include "streams/wire.h"

enum { GRANULE_WORDS = WIRE_GRANULE_PAGES / 64 };

struct region {
	char name[SLUICE_NAME_MAX];
	unsigned char *address;
	uint64_t size;
	uint64_t pages;
	uint64_t first_granule; /* in the numbering of all */
	uint64_t granules;      /* the last may be partial */
	uint32_t host_page_size;
	int fd; /* -1: anonymous */
	uint64_t fd_offset;
	int node;
	uint32_t flags; /* SLUICE_REGION_* */
	bool fresh;     /* source: the destination said that it reads as zero. destination: it does */
};

struct memory {
	struct region regions[SLUICE_MAX_REGIONS];
	uint32_t n;
	uint64_t granules; /* of all regions */
	uint64_t bytes;
};

/* Errors as sluice_add_region(), with one line in `error`. */
int memory_add(struct memory *memory, const struct sluice_region *given, uint32_t *ret_id, char error[SLUICE_ERROR_MAX]);
/* The region a granule lies in; granule < memory->granules. */
const struct region *memory_region_of(const struct memory *memory, uint64_t granule);
/* Pages of this granule (512, fewer at a region's end). */
uint32_t memory_granule_pages(const struct region *region, uint64_t granule);
/* Page `page` of a region as a bit index over all of memory. */
static inline uint64_t memory_bit(const struct region *region, uint64_t page)
{
	return region->first_granule * WIRE_GRANULE_PAGES + page;
}
