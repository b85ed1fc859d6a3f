/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a disk's rings, its driver's record and its buffers are: at the end of guest memory. And what is where in the file. */
#ifndef PERF_DISK_AREA_H
#define PERF_DISK_AREA_H

#include <stdint.h>

#include "perf/disk/fault.h"
#include "perf/disk/ring.h"

#define AREA_QUEUES 4u
#define AREA_MAX_DEPTH 256u                                     /* of all queues */
#define AREA_REQUEST_BLOCKS 4u                                  /* at most */
#define AREA_BLOCK 4096u                                        /* bytes */
#define AREA_QUEUE_BLOCKS 512u                                  /* of the file, each queue's own */
#define AREA_FILE_BLOCKS (1u + AREA_QUEUES * AREA_QUEUE_BLOCKS) /* the first says what the file is */
#define AREA_PATH 256
#define AREA_RECORD_PAGES 2u /* of a driver */
#define AREA_QUEUE_PAGES (sizeof(struct ring) / RING_PAGE + AREA_RECORD_PAGES)

/* What the source chooses of a disk; it travels with the guest's settings. */
struct disk_settings {
	char path[AREA_PATH]; /* empty: no disk */
	uint64_t id;          /* of the file */
	uint32_t depth;
	struct fault fault;
};

static inline uint32_t area_queues(uint32_t depth)
{
	return depth < AREA_QUEUES ? depth : AREA_QUEUES;
}

/* How many requests queue `q` keeps outstanding. */
static inline uint32_t area_queue_depth(uint32_t depth, uint32_t q)
{
	return depth / area_queues(depth) + (q < depth % area_queues(depth));
}

/* A queue's buffers: as many again as are outstanding keep what was read or written last, and are checked when it is their turn. */
static inline uint32_t area_slots(uint32_t depth, uint32_t q)
{
	return 2 * area_queue_depth(depth, q);
}
_Static_assert(2 * AREA_MAX_DEPTH / AREA_QUEUES <= RING_SLOTS, "slots suffice");

/* Pages of guest memory that a disk of this depth takes. */
static inline uint64_t area_pages(uint32_t depth)
{
	return area_queues(depth) * AREA_QUEUE_PAGES + 2 * (uint64_t)depth * AREA_REQUEST_BLOCKS;
}

#endif
