/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest's disk: the file, the device that serves it and the guest's drivers, as the rest of migperf sees them. */
#ifndef PERF_DISK_DISK_H
#define PERF_DISK_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice.h>

#include "perf/content.h"
#include "perf/disk/area.h"
#include "perf/disk/block.h"
#include "perf/disk/image.h"
#include "perf/memory.h"

struct disk;

/* What it looks like from outside. Of the guest's counts: since it first ran, wherever that was. */
struct disk_view {
	uint64_t reads, writes, blocks; /* done, as the guest saw */
	uint64_t failed;                /* with an error, likewise; each was asked for again */
	uint64_t first_ns, last_ns;     /* completion here, CLOCK_MONOTONIC of this host; 0: none */
	uint64_t gap_ns;                /* longest time between two here */
	struct sluice_hist gap_ms;
	struct sluice_hist quiet_ms; /* times in which nothing was picked, as they ended here */
	uint32_t in_flight, hanging;
	bool direct; /* O_DIRECT */
	bool pinned; /* buffers are registered with io_uring */
};

/* What was found by looking at all of it. */
struct disk_verdict {
	uint64_t blocks;      /* of the file, that were compared */
	uint64_t kept_blocks; /* in buffers, likewise */
	uint64_t wrong;       /* blocks, buffers, completions and counts, by the guest too */
	char first[CONTENT_TEXT];
};

/* Open the file; settings->id says which it must be, 0: it is made if it is not there. `memory` is borrowed. `kind`: of what
 * the guest's drivers write. */
int disk_create(const struct disk_settings *settings, const struct memory *memory, enum block_kind kind, struct disk **ret_disk,
		char error[IMAGE_ERROR]);
/* The guest must not use it any more. NULL is allowed. */
void disk_destroy(struct disk *disk);
uint64_t disk_id(const struct disk *disk);

/* ---------------------------------------------------------------- whose it is */

/* Have the device's thread and its io_uring ready, at depth 0, before the disk is this end's: taking it is quick then. The guest's
 * memory must be as it will be when it runs, for buffers are pinned. 0 or negative errno. */
int disk_prepare(struct disk *disk);
/* Take it; -EBUSY: another process has it. anew: its guest begins anew if another had it in between. Nothing to do where this
 * end has it already. It comes at rest, at depth 0. */
int disk_acquire(struct disk *disk, bool anew);
bool disk_is_here(const struct disk *disk);
/* Let it go: nothing is picked any more, what the kernel has is waited for, and all that is written is on the disk. */
int disk_release(struct disk *disk);

/* ---------------------------------------------------------------- coming to rest: none of these waits. Any thread */

/* Have at most so many requests in flight, 0: pick none up; SLUICE_IO_DEPTH_USUAL: as many as the guest wants. To be followed by
 * disk_kick(), which may wake a thread. */
void disk_set_depth(struct disk *disk, uint32_t requests);
void disk_kick(struct disk *disk);
/* 0: nothing is in flight; -EAGAIN: something is; -EBUSY: and has been for so long that waiting is of no use. */
int disk_try(struct disk *disk);

/* ---------------------------------------------------------------- the guest's side */

uint32_t disk_queues(const struct disk *disk);
/* A queue's driver does one thing; false: it should wait. disk_bell() first, then whether to stand still, then this, then
 * disk_wait(): no completion and no disk_wake() is missed. A thread a queue. */
bool disk_step(struct disk *disk, uint32_t queue, struct sluice *marked);
uint32_t disk_bell(struct disk *disk, uint32_t queue);
void disk_wait(struct disk *disk, uint32_t queue, uint32_t bell);
/* Have all drivers return from disk_wait(). */
void disk_wake(struct disk *disk);

/* The same for drivers that are not ours to step, but a machine's own code: */
uint64_t disk_queue_page(const struct disk *disk, uint32_t queue); /* the ring's first; the record follows it */
int disk_doorbell(const struct disk *disk);             /* an eventfd that a guest rings when it has offered something */
void disk_seen(struct disk *disk, uint32_t queue);      /* the guest has taken one completion */
uint32_t disk_wants(struct disk *disk, uint32_t queue); /* how many the guest is to keep outstanding; it will do so */
/* Sleep until the bell is another, as disk_wait() does. */
void disk_sleep(struct disk *disk, uint32_t queue, uint32_t bell);

/* ---------------------------------------------------------------- else */

/* A migration begins: have the next request hang, or the guest be calm until the end is near, where --io-fault says so. */
void disk_arm(struct disk *disk);
/* Whose session hears of writes into guest memory, NULL: none. */
void disk_mark_for(struct disk *disk, struct sluice *session);
void disk_look(struct disk *disk, struct disk_view *ret);
void disk_reset_gaps(struct disk *disk);
/* One that was measured from outside: across the switchover. */
void disk_add_gap(struct disk *disk, uint64_t ns);

/* The guest is about to run, with the disk at its usual depth. */
void disk_go_on(struct disk *disk);
/* Have the running guest offer nothing new until disk_go_on(), and wait until all is done but what hangs, for some seconds at
 * most. */
void disk_settle(struct disk *disk);
/* Compare all of it with the guest's record. The guest must stand still since disk_settle(), the disk be this end's. */
int disk_verify(struct disk *disk, struct disk_verdict *ret);

/* Device state, valid until the next save. The guest must stand still, nothing be in flight. */
void disk_save(struct disk *disk, struct sluice_section *ret);
/* From a peer: -EBADMSG. */
int disk_load(struct disk *disk, const struct sluice_section *section);

#endif
