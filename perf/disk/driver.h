/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest's driver of one of a disk's queues: keeps requests outstanding, and checks every completion against its own record. */
#ifndef PERF_DISK_DRIVER_H
#define PERF_DISK_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/content.h"
#include "perf/disk/area.h"
#include "perf/histogram.h"
#include "perf/memory.h"

/* All that a driver knows is in guest memory: it travels as the guest's memory does, and a page of it that arrives stale shows. */
struct driver_record {
	uint64_t run; /* of blocks' content: one of an earlier run is never taken for this one's */
	uint64_t rng;
	uint32_t reaped; /* position in the ring */
	uint32_t next;   /* slot whose turn it is */
	struct driver_counts {
		uint64_t outstanding;
		uint64_t reads, writes, blocks; /* done */
		uint64_t failed;                /* completions with an error; the request is offered again */
		uint64_t wrong;                 /* completions or buffers that were not what they must be */
	} counts;
	char first[CONTENT_TEXT]; /* of what is wrong */
	struct driver_slot {
		enum { SLOT_IDLE, SLOT_OUTSTANDING } state;
		uint32_t op, block, blocks;            /* block: of the queue's own */
		uint32_t version[AREA_REQUEST_BLOCKS]; /* of what the buffer holds, once it is done */
		uint32_t kept;                         /* blocks that the buffer holds now; 0: not known */
		uint32_t reserved;
	} slot[RING_SLOTS];
	uint32_t version[AREA_QUEUE_BLOCKS]; /* of each block, by writes that are done; 0: none is */
};
_Static_assert(sizeof(struct driver_record) <= AREA_RECORD_PAGES * SLUICE_PAGE_SIZE, "a record fits");

/* Times between two completions, as the guest sees them, whatever the queue. */
struct driver_gaps {
	pthread_mutex_t lock;
	/* under lock */
	uint64_t first_ns, last_ns; /* completions here; 0: none */
	struct histogram histogram;
};

/* The driver's thread's; anyone's while the guest stands still. */
struct driver {
	const struct memory *memory;
	uint32_t queue, depth, slots;
	uint64_t page, buffers_page; /* of the ring and record, and of its buffers */
	struct ring *ring;
	struct driver_record *record;
	struct driver_gaps *gaps;
	_Atomic bool *quiet; /* offer nothing new */
	_Atomic bool rests;  /* it has seen that, and will offer nothing */
	bool offered;        /* since driver_rest() */
};

void driver_init(struct driver *driver, const struct memory *memory, const struct disk_settings *settings, uint32_t queue,
		 struct driver_gaps *gaps, _Atomic bool *quiet);
/* Begin anew, as a guest that boots does. `run`: of blocks' content. */
void driver_reset(struct driver *driver, uint64_t run);

/* Take one completion, or offer one request. False: there is nothing to do before the device has done something. Marks what it writes
 * for `marked` (NULL: for none). */
bool driver_step(struct driver *driver, struct sluice *marked);
/* Whether the device is to be kicked: something was offered since this was last asked. */
bool driver_rest(struct driver *driver);

/* While it runs too. Any thread. */
void driver_look(const struct driver *driver, struct driver_counts *ret);

/* What a block of the file must hold. */
struct content driver_content(uint64_t run);
static inline uint64_t driver_block(uint32_t queue, uint32_t block)
{
	return 1 + (uint64_t)queue * AREA_QUEUE_BLOCKS + block;
}

/* Whether what is in `buffer` is block `block` of the file in this version; count it and say what is wrong with it, if not.
 * `where` is a word or two. */
bool driver_check(struct driver *driver, uint32_t block, uint32_t version, const void *buffer, const char *where);
/* Check all that idle slots' buffers keep. Returns how many blocks that are. The guest must stand still. */
uint64_t driver_check_kept(struct driver *driver);

#endif
