/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest's driver of one of a disk's queues.
 *
 * A block holds a function of the run, its number and its version, and the driver records which version each block has by the writes
 * that are done. No two of its requests are outstanding for the same block, so a read has one right answer: a write that was
 * lost, done twice and late, overtaken or torn shows as a block of another version, or of none. A request that is done twice, or was never
 * asked for, is no slot's that is outstanding; one that is lost never comes to its end. What a slot's buffer got stays until the slot's turn
 * comes again, and is checked once more then: it was memory that a device wrote, and had to travel like any other.
 *
 * The record may come from a peer, so nothing in it is believed where that would reach beyond it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "perf/disk/driver.h"
#include "perf/os.h"

#define TRIES 16u /* at a range of blocks that no request has */

RING_RACY static uint64_t draw(struct driver_record *record)
{
	record->rng += 0x9e3779b97f4a7c15u;
	return content_mix(record->rng);
}

static uint64_t buffer_page(const struct driver *driver, uint32_t slot)
{
	return driver->buffers_page + (uint64_t)slot * AREA_REQUEST_BLOCKS;
}

static void *buffer_of(const struct driver *driver, uint32_t slot)
{
	return memory_page(driver->memory, buffer_page(driver, slot));
}

/* Whether a slot's numbers stay within what they are for. */
static bool sane(const struct driver_slot *slot)
{
	return slot->blocks && slot->blocks <= AREA_REQUEST_BLOCKS && slot->at <= AREA_REQUEST_BLOCKS - slot->blocks &&
	       slot->kept <= slot->blocks && slot->op <= RING_WRITE && slot->block < AREA_QUEUE_BLOCKS &&
	       slot->block + slot->blocks <= AREA_QUEUE_BLOCKS;
}

/* ---------------------------------------------------------------- what is wrong */

RING_RACY static void note_wrong(struct driver *driver, const char *text)
{
	if (!driver->record->counts.wrong++)
		snprintf(driver->record->first, CONTENT_TEXT, "%s", text);
}

bool driver_check(struct driver *driver, uint32_t block, uint32_t version, const void *buffer, const char *where)
{
	uint64_t run = driver->record->run, number = driver_block(driver->queue, block);
	char text[CONTENT_TEXT];

	if (block_matches(driver->kind, run, number, version, buffer))
		return true;
	block_describe(driver->kind, run, number, version, buffer, where, text);
	note_wrong(driver, text);
	return false;
}

static void check_kept(struct driver *driver, uint32_t index)
{
	const struct driver_slot *slot = &driver->record->slot[index];
	const uint8_t *buffer = buffer_of(driver, index);

	if (!sane(slot))
		return;
	buffer += slot->at * AREA_BLOCK;
	for (uint32_t i = 0; i < slot->kept; i++) {
		if (!driver_check(driver, slot->block + i, slot->version[i], buffer + i * AREA_BLOCK, "disk buffer"))
			return;
	}
}

uint64_t driver_check_kept(struct driver *driver)
{
	uint64_t checked = 0;

	for (uint32_t i = 0; i < driver->slots; i++) {
		const struct driver_slot *slot = &driver->record->slot[i];

		if (slot->state != SLOT_IDLE || !sane(slot))
			continue;
		check_kept(driver, i);
		checked += slot->kept;
	}
	return checked;
}

/* ---------------------------------------------------------------- completions */

void driver_note_gap(struct driver *driver)
{
	struct driver_gaps *gaps = driver->gaps;
	uint64_t now;

	pthread_mutex_lock(&gaps->lock);
	now = os_now_ns();
	if (gaps->last_ns)
		histogram_add(&gaps->histogram, now - gaps->last_ns);
	else
		gaps->first_ns = now;
	gaps->last_ns = now;
	pthread_mutex_unlock(&gaps->lock);
}

RING_RACY static void take_data(struct driver *driver, uint32_t index)
{
	struct driver_record *record = driver->record;
	struct driver_slot *slot = &record->slot[index];
	const uint8_t *buffer = buffer_of(driver, index);

	for (uint32_t i = 0; i < slot->blocks; i++) {
		if (slot->op == RING_WRITE)
			record->version[slot->block + i] = slot->version[i];
		else if (!driver_check(driver, slot->block + i, slot->version[i], buffer + i * AREA_BLOCK, "disk read"))
			return;
	}
	slot->kept = slot->blocks;
}

RING_RACY static void take_completion(struct driver *driver, uint32_t index, int status)
{
	struct driver_record *record = driver->record;
	struct driver_slot *slot = &record->slot[index % RING_SLOTS];
	char text[CONTENT_TEXT];

	driver_note_gap(driver);
	if (index >= driver->slots || slot->state != SLOT_OUTSTANDING || !sane(slot)) {
		snprintf(text, sizeof(text), "disk: queue %" PRIu32 "'s slot %" PRIu32 " is done, and was not outstanding",
			 driver->queue, index);
		note_wrong(driver, text);
		return;
	}
	if (status) {
		record->counts.failed++;
		if (status == -EINVAL)
			note_wrong(driver, "disk: the device calls a request invalid");
		ring_offer(driver->ring, index); /* once more: until it is done, its blocks are neither old nor new */
		driver->offered = true;
		return;
	}
	take_data(driver, index);
	slot->state = SLOT_IDLE;
	record->counts.outstanding--;
	record->counts.writes += slot->op == RING_WRITE;
	record->counts.reads += slot->op == RING_READ;
	record->counts.blocks += slot->blocks;
}

/* ---------------------------------------------------------------- requests */

static bool is_busy(const struct driver *driver, uint32_t block, uint32_t blocks)
{
	for (uint32_t i = 0; i < driver->slots; i++) {
		const struct driver_slot *slot = &driver->record->slot[i];

		if (slot->state == SLOT_OUTSTANDING && slot->block < block + blocks && block < slot->block + slot->blocks)
			return true;
	}
	return false;
}

/* Half of them reads, but of what was never written nothing can be read. */
RING_RACY static bool choose(struct driver *driver, struct driver_slot *slot)
{
	struct driver_record *record = driver->record;

	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t r = draw(record);

		slot->blocks = 1 + (uint32_t)(r % AREA_REQUEST_BLOCKS);
		slot->block = (uint32_t)((r >> 8) % (AREA_QUEUE_BLOCKS - slot->blocks + 1));
		slot->op = r >> 63 ? RING_WRITE : RING_READ;
		if (is_busy(driver, slot->block, slot->blocks))
			continue;
		for (uint32_t b = 0; b < slot->blocks; b++) {
			slot->version[b] = record->version[slot->block + b];
			if (!slot->version[b])
				slot->op = RING_WRITE;
		}
		return true;
	}
	return false;
}

RING_RACY static void write_buffer(struct driver *driver, uint32_t index, struct sluice *marked)
{
	struct driver_slot *slot = &driver->record->slot[index];
	uint8_t *buffer = buffer_of(driver, index);

	for (uint32_t i = 0; i < slot->blocks; i++)
		block_write(driver->record->run, driver_block(driver->queue, slot->block + i), ++slot->version[i],
			    buffer + i * AREA_BLOCK);
	if (marked)
		memory_mark(driver->memory, marked, buffer_page(driver, index), slot->blocks);
}

RING_RACY static bool offer_one(struct driver *driver, struct sluice *marked)
{
	struct driver_record *record = driver->record;
	uint32_t index = record->next % driver->slots;
	struct driver_slot *slot;

	for (uint32_t i = 0; i < driver->slots && record->slot[index].state != SLOT_IDLE; i++)
		index = (index + 1) % driver->slots;
	slot = &record->slot[index];
	if (slot->state != SLOT_IDLE) /* half of them are, unless the record is damaged */
		return false;
	check_kept(driver, index);
	slot->kept = 0;
	record->next = index + 1;
	if (!choose(driver, slot)) {
		slot->blocks = 0;
		return false;
	}
	if (slot->op == RING_WRITE)
		write_buffer(driver, index, marked);
	driver->ring->request[index] = (struct ring_request){
		.address = buffer_page(driver, index) * SLUICE_PAGE_SIZE,
		.block = driver_block(driver->queue, slot->block),
		.blocks = slot->blocks,
		.op = slot->op,
	};
	slot->state = SLOT_OUTSTANDING;
	record->counts.outstanding++;
	ring_offer(driver->ring, index);
	driver->offered = true;
	return true;
}

/* Whoever has it offer nothing has to know when it is so, not only asked for. */
uint32_t driver_wants(struct driver *driver)
{
	uint32_t wants = atomic_load(&driver->wants);

	if (!wants)
		atomic_store(&driver->rests, true);
	return wants;
}

RING_RACY bool driver_step(struct driver *driver, struct sluice *marked)
{
	struct driver_record *record = driver->record;
	uint32_t slot;
	bool did = true;
	int status;

	if (ring_reap(driver->ring, &record->reaped, &slot, &status))
		take_completion(driver, slot, status);
	else
		did = record->counts.outstanding < driver_wants(driver) && offer_one(driver, marked);
	if (marked) /* all that it writes but buffers; what the device writes, the device marks */
		memory_mark(driver->memory, marked, driver->page, AREA_QUEUE_PAGES);
	return did;
}

RING_RACY void driver_look(const struct driver *driver, struct driver_counts *ret)
{
	const volatile struct driver_counts *counts = &driver->record->counts;

	ret->outstanding = counts->outstanding;
	ret->reads = counts->reads;
	ret->writes = counts->writes;
	ret->blocks = counts->blocks;
	ret->failed = counts->failed;
	ret->wrong = counts->wrong;
}

bool driver_rest(struct driver *driver)
{
	bool offered = driver->offered;

	driver->offered = false;
	return offered;
}

/* ---------------------------------------------------------------- making one */

void driver_init(struct driver *driver, const struct memory *memory, const struct disk_settings *settings, uint32_t queue,
		 enum block_kind kind, struct driver_gaps *gaps)
{
	uint64_t first = memory->pages - area_pages(settings->depth), slots_before = 0;

	for (uint32_t q = 0; q < queue; q++)
		slots_before += area_slots(settings->depth, q);
	*driver = (struct driver){
		.memory = memory,
		.queue = queue,
		.depth = area_queue_depth(settings->depth, queue),
		.slots = area_slots(settings->depth, queue),
		.page = first + queue * AREA_QUEUE_PAGES,
		.buffers_page = first + area_queues(settings->depth) * AREA_QUEUE_PAGES + slots_before * AREA_REQUEST_BLOCKS,
		.kind = kind,
		.gaps = gaps,
	};
	driver->wants = driver->depth;
	driver->ring = memory_page(memory, driver->page);
	driver->record = memory_page(memory, driver->page + sizeof(struct ring) / SLUICE_PAGE_SIZE);
}

void driver_reset(struct driver *driver, uint64_t run)
{
	memset(driver->ring, 0, sizeof(*driver->ring));
	memset(driver->record, 0, sizeof(*driver->record));
	driver->record->run = run;
	driver->record->rng = content_mix(run + driver->queue);
	driver->record->buffers = driver->buffers_page * SLUICE_PAGE_SIZE;
	driver->record->first_block = driver_block(driver->queue, 0);
	driver->record->slots = driver->slots;
	driver->record->share = AREA_QUEUE_BLOCKS / driver->slots;
	driver->offered = false;
}
