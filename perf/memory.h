/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guest memory of the chosen backing, as one or two regions. */
#ifndef PERF_MEMORY_H
#define PERF_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <sluice.h>

#define MEMORY_REGIONS 2
#define MEMORY_GRANULE 512u /* pages, 2 MiB: what presence is looked up for at once */
#define MEMORY_ERROR 200

enum backing { BACKING_ANON, BACKING_MEMFD, BACKING_HUGETLB };

struct memory_spec {
	uint64_t bytes;
	enum backing backing;
	uint32_t host_page_size;
};

struct memory_region {
	uint8_t *address;
	uint64_t size;
	int fd; /* -1: anonymous */
};

/* Set once by memory_create(); the pages themselves are the guest's. */
struct memory {
	struct memory_spec spec;
	struct memory_region region[MEMORY_REGIONS];
	unsigned regions;
	uint64_t pages;
	uint64_t split_page; /* where the second region begins */
	int pagemap_fd;
	bool populated;
};

/* Reserve address space; nothing is populated. On error `error` says what to do. 0 or negative errno. */
int memory_create(struct memory *memory, const struct memory_spec *spec, char error[MEMORY_ERROR]);
void memory_destroy(struct memory *memory);

static inline bool memory_same(const struct memory_spec *a, const struct memory_spec *b)
{
	return a->bytes == b->bytes && a->backing == b->backing && a->host_page_size == b->host_page_size;
}

static inline void *memory_page(const struct memory *memory, uint64_t page)
{
	if (page < memory->split_page)
		return memory->region[0].address + page * SLUICE_PAGE_SIZE;
	return memory->region[1].address + (page - memory->split_page) * SLUICE_PAGE_SIZE;
}

/* Say that these pages, all in one region, were written: as guests do whose tracker is SLUICE_TRACKER_MARKS, and devices always. */
static inline void memory_mark(const struct memory *memory, struct sluice *session, uint64_t page, uint64_t pages)
{
	bool second = page >= memory->split_page;

	sluice_mark_dirty(session, second, (second ? page - memory->split_page : page) * SLUICE_PAGE_SIZE,
			  pages * SLUICE_PAGE_SIZE);
}

/* Make all pages exist, with a thread per CPU. -ECANCELED when *cancel was set, or what the kernel said. */
int memory_populate(struct memory *memory, _Atomic bool *cancel);

/* Which of the up to MEMORY_GRANULE pages from `page` (a multiple of it) on exist, as bits, without making any. Pages
 * that do not exist read as zeroes. Any thread. 0 or negative errno. */
int memory_present(const struct memory *memory, uint64_t page, uint64_t bits[MEMORY_GRANULE / 64]);

/* Whether this host has `bytes` for it. -ENOMEM with a sentence that says what to do. */
int memory_check_room(const struct memory_spec *spec, uint64_t bytes, char error[MEMORY_ERROR]);

/* flags: SLUICE_REGION_*. */
int memory_add_regions(const struct memory *memory, struct sluice *session, uint32_t flags);

const char *memory_backing_name(const struct memory_spec *spec);

#endif
