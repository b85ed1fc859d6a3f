/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a driver keeps in guest memory, for drivers in C and in a virtual machine's own code: this header is for both compilers. */
#ifndef PERF_DISK_RECORD_H
#define PERF_DISK_RECORD_H

#define RECORD_SLOTS 128
#define RECORD_QUEUE_BLOCKS 512
#define RECORD_REQUEST_BLOCKS 4
#define RECORD_IDLE 0
#define RECORD_OUTSTANDING 1

/* Where things are, for those who cannot ask the structure. */
#define RECORD_RUN 0
#define RECORD_RNG 8
#define RECORD_REAPED 16
#define RECORD_NEXT 20
#define RECORD_COUNT_OUTSTANDING 24
#define RECORD_COUNT_READS 32
#define RECORD_COUNT_WRITES 40
#define RECORD_COUNT_BLOCKS 48
#define RECORD_COUNT_FAILED 56
#define RECORD_COUNT_WRONG 64
#define RECORD_BUFFERS 72
#define RECORD_FIRST_BLOCK 80
#define RECORD_USED_SLOTS 88
#define RECORD_SHARE 92
#define RECORD_WRONG_WHAT 96
#define RECORD_WRONG_AT 100
#define RECORD_SLOT 264
#define RECORD_SLOT_BYTES 40
#define RECORD_SLOT_STATE 0
#define RECORD_SLOT_OP 4
#define RECORD_SLOT_BLOCK 8
#define RECORD_SLOT_BLOCKS 12
#define RECORD_SLOT_VERSION 16
#define RECORD_SLOT_KEPT 32
#define RECORD_SLOT_AT 36
#define RECORD_VERSION 5384

/* What the machine's driver found wrong. */
#define RECORD_WRONG_BLOCK 1 /* read, or in a buffer: a block of the queue's own */
#define RECORD_WRONG_SLOT 2  /* done, and was not outstanding */
#define RECORD_WRONG_REFUSED 3

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

#include "perf/content.h"
#include "perf/disk/area.h"

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
	/* for a driver that has nothing else to learn it from */
	uint64_t buffers, first_block; /* the buffers' address; the queue's first block of the file */
	uint32_t slots, share;         /* blocks of each slot's own */
	/* one of what is wrong: as numbers or as text */
	uint32_t wrong_what, wrong_at;
	char first[CONTENT_TEXT];
	struct driver_slot {
		enum { SLOT_IDLE, SLOT_OUTSTANDING } state;
		uint32_t op, block, blocks;            /* block: of the queue's own */
		uint32_t version[AREA_REQUEST_BLOCKS]; /* of what the buffer holds, once it is done */
		uint32_t kept;                         /* blocks that the buffer holds now; 0: not known */
		uint32_t at;                           /* its first page of the buffer */
	} slot[RING_SLOTS];
	uint32_t version[AREA_QUEUE_BLOCKS]; /* of each block, by writes that are done; 0: none is */
};
_Static_assert(sizeof(struct driver_record) <= AREA_RECORD_PAGES * RING_PAGE, "a record fits");

#define RECORD_IS(at, member) _Static_assert((at) == offsetof(struct driver_record, member), "both compilers agree")
RECORD_IS(RECORD_RUN, run);
RECORD_IS(RECORD_RNG, rng);
RECORD_IS(RECORD_REAPED, reaped);
RECORD_IS(RECORD_NEXT, next);
RECORD_IS(RECORD_COUNT_OUTSTANDING, counts.outstanding);
RECORD_IS(RECORD_COUNT_READS, counts.reads);
RECORD_IS(RECORD_COUNT_WRITES, counts.writes);
RECORD_IS(RECORD_COUNT_BLOCKS, counts.blocks);
RECORD_IS(RECORD_COUNT_FAILED, counts.failed);
RECORD_IS(RECORD_COUNT_WRONG, counts.wrong);
RECORD_IS(RECORD_BUFFERS, buffers);
RECORD_IS(RECORD_FIRST_BLOCK, first_block);
RECORD_IS(RECORD_USED_SLOTS, slots);
RECORD_IS(RECORD_SHARE, share);
RECORD_IS(RECORD_WRONG_WHAT, wrong_what);
RECORD_IS(RECORD_WRONG_AT, wrong_at);
RECORD_IS(RECORD_SLOT, slot);
RECORD_IS(RECORD_SLOT + RECORD_SLOT_OP, slot[0].op);
RECORD_IS(RECORD_SLOT + RECORD_SLOT_BLOCK, slot[0].block);
RECORD_IS(RECORD_SLOT + RECORD_SLOT_BLOCKS, slot[0].blocks);
RECORD_IS(RECORD_SLOT + RECORD_SLOT_VERSION, slot[0].version);
RECORD_IS(RECORD_SLOT + RECORD_SLOT_KEPT, slot[0].kept);
RECORD_IS(RECORD_SLOT + RECORD_SLOT_AT, slot[0].at);
RECORD_IS(RECORD_SLOT + RECORD_SLOT_BYTES, slot[1]);
RECORD_IS(RECORD_VERSION, version);
_Static_assert(RECORD_SLOTS == RING_SLOTS && RECORD_IDLE == SLOT_IDLE && RECORD_OUTSTANDING == SLOT_OUTSTANDING &&
		       RECORD_QUEUE_BLOCKS == AREA_QUEUE_BLOCKS && RECORD_REQUEST_BLOCKS == AREA_REQUEST_BLOCKS,
	       "both compilers agree");
#endif
#endif
