/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest's driver of one of a disk's queues: keeps requests outstanding, and checks every completion against its own record. */
#ifndef PERF_DISK_DRIVER_H
#define PERF_DISK_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/disk/area.h"
#include "perf/disk/block.h"
#include "perf/disk/record.h"
#include "perf/histogram.h"
#include "perf/memory.h"

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
	enum block_kind kind;
	_Atomic uint32_t wants; /* so many it is to keep outstanding; anyone writes. 0: offer nothing new */
	_Atomic bool rests;     /* it has seen that 0, and will offer nothing */
	bool offered;           /* since driver_rest() */
};

void driver_init(struct driver *driver, const struct memory *memory, const struct disk_settings *settings, uint32_t queue,
		 enum block_kind kind, struct driver_gaps *gaps);
/* Begin anew, as a guest that boots does. `run`: of blocks' content. */
void driver_reset(struct driver *driver, uint64_t run);

/* ---------------------------------------------------------------- the driver of a process guest */

/* Take one completion, or offer one request. False: there is nothing to do before the device has done something. Marks what it writes
 * for `marked` (NULL: for none). */
bool driver_step(struct driver *driver, struct sluice *marked);
/* Whether the device is to be kicked: something was offered since this was last asked. */
bool driver_rest(struct driver *driver);

/* ---------------------------------------------------------------- of any guest */

/* The guest has taken one completion. */
void driver_note_gap(struct driver *driver);
/* How many it is to keep outstanding now; whoever asks for it obeys. */
uint32_t driver_wants(struct driver *driver);

/* While it runs too. Any thread. */
void driver_look(const struct driver *driver, struct driver_counts *ret);

/* Where in the file. */
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
