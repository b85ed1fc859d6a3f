/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a block of a disk holds: a function of the run, its number in the file, and its version. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "perf/disk/area.h"
#include "perf/disk/block.h"

#define STAMPS (AREA_BLOCK / BLOCK_SECTOR + 1)

static struct content content_of(uint64_t run)
{
	return (struct content){ .seed = run, .touched_per_2_32 = 1ull << 32, .fill = FILL_RANDOM };
}

void block_write(uint64_t run, uint64_t number, uint32_t version, void *to)
{
	struct content content = content_of(run);

	content_write(&content, number, version, to);
}

/* ---------------------------------------------------------------- stamps */

/* What the `i`th stamp is, less the run: the number and the version. */
RING_RACY static uint64_t stamp(const void *memory, unsigned i, uint64_t run)
{
	uint64_t value;

	memcpy(&value, (const uint8_t *)memory + (i + 1 < STAMPS ? i * BLOCK_SECTOR : BLOCK_LAST_STAMP), sizeof(value));
	return value - run;
}

/* The first stamp that is not as it must be, STAMPS: all are. */
static unsigned first_wrong(uint64_t run, uint64_t number, uint32_t version, const void *memory)
{
	unsigned i = 0;

	while (i < STAMPS && stamp(memory, i, run) == (number << BLOCK_NUMBER_SHIFT) + version)
		i++;
	return i;
}

static void describe_stamps(uint64_t run, uint64_t number, uint32_t version, const void *memory, const char *where,
			    char text[CONTENT_TEXT])
{
	unsigned i = first_wrong(run, number, version, memory);
	uint64_t found = i < STAMPS ? stamp(memory, i, run) : 0;

	if (found >> BLOCK_NUMBER_SHIFT && found >> BLOCK_NUMBER_SHIFT < AREA_FILE_BLOCKS)
		snprintf(text, CONTENT_TEXT,
			 "%s: block %" PRIu64 " holds block %" PRIu64 " (its write %" PRIu32
			 ") from byte %u on, expected write %" PRIu32,
			 where, number, found >> BLOCK_NUMBER_SHIFT, (uint32_t)found, i * BLOCK_SECTOR, version);
	else
		snprintf(text, CONTENT_TEXT,
			 "%s: block %" PRIu64 " holds nothing of this run from byte %u on, expected write %" PRIu32, where,
			 number, i * BLOCK_SECTOR, version);
}

/* ---------------------------------------------------------------- both */

bool block_matches(enum block_kind kind, uint64_t run, uint64_t number, uint32_t version, const void *memory)
{
	struct content content = content_of(run);

	return kind == BLOCK_STAMPED ? first_wrong(run, number, version, memory) == STAMPS
				     : content_matches(&content, number, version, memory);
}

/* content_describe() speaks of pages: "page 7 holds page 9 (its write 3), expected write 4". */
static void describe_content(const struct content *content, uint64_t number, uint32_t version, const void *memory,
			     const char *where, char text[CONTENT_TEXT])
{
	int length = snprintf(text, CONTENT_TEXT, "%s: ", where);
	char said[CONTENT_TEXT];
	const char *found = said, *page;

	content_describe(content, number, version, memory, said);
	while ((page = strstr(found, "page")) && length < (int)CONTENT_TEXT) {
		length += snprintf(text + length, CONTENT_TEXT - (size_t)length, "%.*sblock", (int)(page - found), found);
		found = page + strlen("page");
	}
	if (length < (int)CONTENT_TEXT)
		snprintf(text + length, CONTENT_TEXT - (size_t)length, "%s", found);
}

void block_describe(enum block_kind kind, uint64_t run, uint64_t number, uint32_t version, const void *memory, const char *where,
		    char text[CONTENT_TEXT])
{
	struct content content = content_of(run);

	if (kind == BLOCK_STAMPED)
		describe_stamps(run, number, version, memory, where, text);
	else
		describe_content(&content, number, version, memory, where, text);
}
