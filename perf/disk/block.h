/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a block of a disk holds: a function of the run, its number in the file, and its version, which is how often it was
 * written. */
#ifndef PERF_DISK_BLOCK_H
#define PERF_DISK_BLOCK_H

/* Stamps are at the beginning of each sector and at the end of the block: for a driver that has few instructions a block. All
 * have the same value, BLOCK_STAMP. For both compilers. */
#define BLOCK_SECTOR 512
#define BLOCK_LAST_STAMP 4088
#define BLOCK_NUMBER_SHIFT 32 /* the run + (the number << this) + the version */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

#include "perf/content.h"

enum block_kind {
	BLOCK_FILLED, /* every byte says what it is */
	BLOCK_STAMPED,
};

/* Filled ones only. `to` is 64-byte aligned. */
void block_write(uint64_t run, uint64_t number, uint32_t version, void *to);
/* Whether `memory` (64-byte aligned) is that. */
bool block_matches(enum block_kind kind, uint64_t run, uint64_t number, uint32_t version, const void *memory);
/* Say in one line what it holds instead. `where` is a word or two. */
void block_describe(enum block_kind kind, uint64_t run, uint64_t number, uint32_t version, const void *memory, const char *where,
		    char text[CONTENT_TEXT]);
#endif
#endif
