/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is all of a disk what the guest's record says? Done while the guest stands still; thread: any.
 *
 * Three things are compared: the file, block by block; the buffers that slots keep; and what the guest counted with what the device
 * did: a request that the device never did and does not have either is lost, and one more done than the guest saw is doubled.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perf/disk/disk_private.h"

#define PIECE 64u /* blocks read at once */
_Static_assert(AREA_QUEUE_BLOCKS % PIECE == 0, "pieces do not span queues");

/* Whether a write of this block is still outstanding, as one that hangs is: it may have been done, or not. */
static bool is_being_written(const struct driver *driver, uint32_t block)
{
	for (uint32_t i = 0; i < driver->slots; i++) {
		const struct driver_slot *slot = &driver->record->slot[i];

		if (slot->state == SLOT_OUTSTANDING && slot->op == RING_WRITE && slot->block <= block &&
		    block - slot->block < slot->blocks)
			return true;
	}
	return false;
}

static void check_block(struct driver *driver, uint32_t block, const void *found, struct disk_verdict *verdict)
{
	uint32_t version = driver->record->version[block];

	if (is_being_written(driver, block) &&
	    block_matches(driver->kind, driver->record->run, driver_block(driver->queue, block), version + 1, found))
		return;
	if (!version) /* never written: whatever was there */
		return;
	driver_check(driver, block, version, found, "disk");
	verdict->blocks++;
}

static int check_file(struct driver *driver, int fd, struct disk_verdict *verdict)
{
	const size_t size = PIECE * AREA_BLOCK;
	uint8_t *piece = aligned_alloc(AREA_BLOCK, size);
	int error = piece ? 0 : -ENOMEM;

	for (uint32_t block = 0; block < AREA_QUEUE_BLOCKS && !error; block += PIECE) {
		ssize_t n = pread(fd, piece, size, (off_t)(driver_block(driver->queue, block) * AREA_BLOCK));

		if (n != (ssize_t)size)
			error = n < 0 ? -errno : -EIO;
		for (uint32_t i = 0; i < PIECE && !error; i++)
			check_block(driver, block + i, piece + i * AREA_BLOCK, verdict);
	}
	free(piece);
	return error;
}

/* What the guest says is wrong. A machine's driver cannot write sentences. */
static void tell_first(const struct driver *driver, char text[CONTENT_TEXT])
{
	const struct driver_record *record = driver->record;
	uint32_t at = record->wrong_at;

	if (record->wrong_what == RECORD_WRONG_BLOCK)
		snprintf(text, CONTENT_TEXT, "disk read: block %" PRIu64 " is not what the guest wrote, it says",
			 driver_block(driver->queue, at));
	else if (record->wrong_what == RECORD_WRONG_SLOT)
		snprintf(text, CONTENT_TEXT, "disk: queue %" PRIu32 "'s slot %" PRIu32 " is done, and was not outstanding",
			 driver->queue, at);
	else if (record->wrong_what == RECORD_WRONG_REFUSED)
		snprintf(text, CONTENT_TEXT, "disk: the device calls the request in slot %" PRIu32 " invalid", at);
	else
		snprintf(text, CONTENT_TEXT, "%.*s", CONTENT_TEXT - 1, record->first);
}

static void note(struct disk_verdict *verdict, const char *text)
{
	if (!verdict->wrong++)
		snprintf(verdict->first, CONTENT_TEXT, "%s", text);
}

/* What the guest saw against what the device did. */
static void check_counts(struct disk *disk, struct disk_verdict *verdict)
{
	const struct device *device = &disk->device;
	uint64_t seen = 0, failed = 0, outstanding = 0, has = atomic_load(&device->in_flight), unseen = 0;
	uint64_t done = atomic_load(&device->done);
	char text[CONTENT_TEXT];

	for (uint32_t q = 0; q < device->queues; q++) {
		const struct driver_record *record = disk->driver[q].record;

		seen += record->counts.reads + record->counts.writes + record->counts.failed;
		failed += record->counts.failed;
		outstanding += record->counts.outstanding;
		has += ring_waiting(device->queue[q].ring, device->queue[q].picked);
		unseen += device->queue[q].done - record->reaped;
	}
	if (seen + unseen != done) {
		snprintf(text, sizeof(text), "disk: the device did %" PRIu64 " requests, the guest saw %" PRIu64, done,
			 seen + unseen);
		note(verdict, text);
	}
	if (outstanding != has + unseen) {
		snprintf(text, sizeof(text), "disk: the guest waits for %" PRIu64 " requests, the device has %" PRIu64,
			 outstanding, has + unseen);
		note(verdict, text);
	}
	if (!unseen && failed != atomic_load(&device->failed)) {
		snprintf(text, sizeof(text), "disk: %" PRIu64 " requests failed, the guest saw %" PRIu64,
			 (uint64_t)atomic_load(&device->failed), failed);
		note(verdict, text);
	}
	if (has > atomic_load(&device->hanging) || unseen)
		note(verdict, "disk: it did not come to rest: requests that do not hang were not done in time");
}

int disk_verify(struct disk *disk, struct disk_verdict *ret)
{
	int error = 0;

	memset(ret, 0, sizeof(*ret));
	for (uint32_t q = 0; q < disk_queues(disk) && !error; q++) {
		struct driver *driver = &disk->driver[q];

		ret->kept_blocks += driver_check_kept(driver);
		error = check_file(driver, disk->image.fd, ret);
		if (driver->record->counts.wrong && !ret->wrong)
			tell_first(driver, ret->first);
		ret->wrong += driver->record->counts.wrong;
	}
	if (!error)
		check_counts(disk, ret);
	return error;
}
