/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* batch.c: the head and extents of batches. Pure. Senders fill them in, receivers judge them; nothing of a batch
 * reaches land_ops that was not judged here. The order of checks is that of reading: a length is judged before anything
 * of that length is read. */
#include "streams/batch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* For a hash state of fixed size on the stack. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

void batch_reset(struct batch *batch, uint32_t round)
{
	batch->round = round;
	batch->extents = 0;
	batch->payload = 0;
	batch->pages = 0;
	batch->iovs = 1;
}

bool batch_has_room(const struct batch *batch, uint32_t bytes)
{
	return batch->extents < WIRE_BATCH_EXTENTS && bytes <= WIRE_BATCH_PAYLOAD - batch->payload;
}

static void add_payload(struct batch *batch, const void *data, uint32_t bytes)
{
	struct iovec *last = &batch->iov[batch->iovs - 1];

	batch->payload += bytes;
	if (batch->iovs > 1 && (const char *)last->iov_base + last->iov_len == data)
		last->iov_len += bytes;
	else
		batch->iov[batch->iovs++] = (struct iovec){ .iov_base = (void *)(uintptr_t)data, .iov_len = bytes };
}

static void add_extent(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, enum encoding encoding,
		       uint32_t bytes)
{
	struct extent *last = &batch->frame->extents[batch->extents];

	assert(count && page % WIRE_GRANULE_PAGES + count <= WIRE_GRANULE_PAGES);
	batch->pages += count;
	/* An lz4 block stands alone: it is inflated as a whole. */
	if (batch->extents && encoding != ENCODING_LZ4) {
		last--;
		if (last->encoding == encoding && last->region == region && last->page + last->count == page &&
		    page % WIRE_GRANULE_PAGES) {
			last->count += count;
			last->bytes += bytes;
			return;
		}
		last++;
	}
	assert(batch->extents < WIRE_BATCH_EXTENTS);
	batch->extents++;
	*last = (struct extent){ .page = page, .count = count, .bytes = bytes, .region = region, .encoding = (uint8_t)encoding };
}

void batch_add_zero(struct batch *batch, uint16_t region, uint64_t page, uint32_t count)
{
	add_extent(batch, region, page, count, ENCODING_ZERO, 0);
}

void batch_add_raw(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data)
{
	add_extent(batch, region, page, count, ENCODING_RAW, count * WIRE_PAGE);
	add_payload(batch, data, count * WIRE_PAGE);
}

void batch_add_lz4(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data, uint32_t bytes)
{
	add_extent(batch, region, page, count, ENCODING_LZ4, bytes);
	add_payload(batch, data, bytes);
}

void batch_set_state(struct batch *batch, const struct state_piece *piece, const void *data)
{
	assert(!batch->extents && piece->bytes && piece->bytes <= WIRE_BATCH_PAYLOAD);
	batch->frame->piece = *piece;
	batch->extents = 1;
	add_payload(batch, data, piece->bytes);
}

/* Over the head with check 0 and the extents behind it. */
static uint64_t hash(const struct batch_frame *frame)
{
	struct batch_head head = frame->head;
	XXH3_state_t state;

	head.check = 0;
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, &head, sizeof(head));
	XXH3_64bits_update(&state, frame->extents, head.extents * sizeof(struct extent));
	return XXH3_64bits_digest(&state);
}

/* Is the payload our own copy, which nobody writes? Raw pages are not. */
static bool is_private(const struct batch_frame *frame)
{
	if (frame->head.type == BATCH_STATE)
		return true;
	for (uint32_t i = 0; i < frame->head.extents; i++)
		if (frame->extents[i].encoding == ENCODING_RAW)
			return false;
	return frame->head.payload;
}

uint64_t batch_seal(struct batch *batch, enum batch_type type, struct batch_place *place)
{
	struct batch_frame *frame = batch->frame;

	assert(batch->payload <= WIRE_BATCH_PAYLOAD);
	frame->head = (struct batch_head){
		.magic = WIRE_BATCH_MAGIC,
		.type = (uint8_t)type,
		.extents = (uint16_t)batch->extents,
		.epoch = place->epoch,
		.stream = place->stream,
		.round = batch->round,
		.payload = batch->payload,
		.seq = place->seq,
		.bytes = place->bytes,
	};
	if (is_private(frame)) {
		assert(batch->iovs == 2); /* blocks lie one after the other */
		frame->head.flags = BATCH_PAYLOAD_CHECK;
		frame->head.payload_check = XXH3_64bits_withSeed(batch->iov[1].iov_base, frame->head.payload, place->seq);
	}
	frame->head.check = hash(frame);
	batch->iov[0] = (struct iovec){ .iov_base = frame, .iov_len = batch_frame_size(&frame->head) };
	batch_taken(&frame->head, place);
	return batch_frame_size(&frame->head) + batch->payload;
}

void batch_taken(const struct batch_head *head, struct batch_place *place)
{
	place->seq++;
	place->bytes += batch_frame_size(head) + head->payload;
}

__attribute__((format(printf, 2, 3))) static int bad(char error[BATCH_ERROR], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, BATCH_ERROR, format, args);
	va_end(args);
	return -EBADMSG;
}

int batch_check_head(const struct batch_head *head, const struct batch_place *place, uint32_t round, char error[BATCH_ERROR])
{
	if (head->magic != WIRE_BATCH_MAGIC)
		return bad(error, "no batch begins with 0x%08x", head->magic);
	if (head->flags & ~BATCH_PAYLOAD_CHECK || head->reserved)
		return bad(error, "reserved fields of the batch head are not 0");
	if (head->epoch != place->epoch)
		return bad(error, "epoch %u instead of %u", head->epoch, place->epoch);
	if (head->stream != place->stream)
		return bad(error, "a batch of stream %u", head->stream);
	if (head->seq != place->seq)
		return bad(error, "batch %llu where %llu is due", (unsigned long long)head->seq, (unsigned long long)place->seq);
	if (head->bytes != place->bytes)
		return bad(error, "byte count %llu instead of %llu", (unsigned long long)head->bytes,
			   (unsigned long long)place->bytes);
	if (head->round != round)
		return bad(error, "round %u where %u is due", head->round, round);

	uint32_t least = 1, most = WIRE_BATCH_EXTENTS, payload = WIRE_BATCH_PAYLOAD;

	switch (head->type) {
	case BATCH_PAGES: break;
	case BATCH_STATE: most = 1; break;
	case BATCH_MARK: least = most = payload = 0; break;
	default: return bad(error, "unknown batch type %u", head->type);
	}
	if (head->extents < least || head->extents > most)
		return bad(error, "%u extents in a batch of type %u, %u to %u are allowed", head->extents, head->type, least,
			   most);
	if (head->payload > payload)
		return bad(error, "payload of %u bytes in a batch of type %u, at most %u are allowed", head->payload, head->type,
			   payload);
	return 0;
}

static int check_extent(const struct extent *e, bool lz4, char error[BATCH_ERROR])
{
	uint32_t inflated = e->count * WIRE_PAGE;

	if (e->flags || e->reserved)
		return bad(error, "reserved fields of an extent are not 0");
	if (e->page >> (64 - WIRE_PAGE_SHIFT))
		return bad(error, "page 0x%llx is beyond any memory", (unsigned long long)e->page);
	if (!e->count || e->count > WIRE_EXTENT_PAGES || e->page % WIRE_GRANULE_PAGES + e->count > WIRE_GRANULE_PAGES)
		return bad(error, "extent of %u pages at page 0x%llx crosses its granule", e->count, (unsigned long long)e->page);
	switch (e->encoding) {
	case ENCODING_ZERO:
		if (e->bytes)
			return bad(error, "zero extent with %u bytes", e->bytes);
		return 0;
	case ENCODING_RAW:
		if (e->bytes != inflated)
			return bad(error, "raw extent of %u pages with %u bytes", e->count, e->bytes);
		return 0;
	case ENCODING_LZ4:
		if (!lz4)
			return bad(error, "lz4 extent though lz4 was not agreed on");
		if (!e->bytes || e->bytes >= inflated)
			return bad(error, "lz4 extent of %u pages with %u bytes", e->count, e->bytes);
		return 0;
	default: return bad(error, "unknown encoding %u", e->encoding);
	}
}

static int check_state(const struct batch_frame *frame, char error[BATCH_ERROR])
{
	const struct state_piece *p = &frame->piece;
	uint64_t left = p->total - p->offset;

	if (p->reserved)
		return bad(error, "reserved fields of a state piece are not 0");
	if (!p->bytes || p->bytes != frame->head.payload)
		return bad(error, "state piece of %u bytes in a payload of %u", p->bytes, frame->head.payload);
	if (p->section >= WIRE_SECTIONS)
		return bad(error, "state section %u, the last possible is %u", p->section, WIRE_SECTIONS - 1);
	if (p->offset % WIRE_BATCH_PAYLOAD || p->offset > p->total ||
	    p->bytes != (left < WIRE_BATCH_PAYLOAD ? left : WIRE_BATCH_PAYLOAD))
		return bad(error, "state piece of %u bytes at %llu of %llu is off the grid", p->bytes,
			   (unsigned long long)p->offset, (unsigned long long)p->total);
	return 0;
}

static int check_extents(const struct batch_frame *frame, bool lz4, char error[BATCH_ERROR])
{
	uint64_t payload = 0;

	for (uint32_t i = 0; i < frame->head.extents; i++) {
		int r = check_extent(&frame->extents[i], lz4, error);

		if (r)
			return r;
		payload += frame->extents[i].bytes;
	}
	if (payload != frame->head.payload)
		return bad(error, "extents add up to %llu bytes, the payload is %u", (unsigned long long)payload,
			   frame->head.payload);
	return 0;
}

int batch_check_frame(const struct batch_frame *frame, bool lz4, char error[BATCH_ERROR])
{
	int r;

	if (frame->head.check != hash(frame))
		return bad(error, "the check of head and extents does not match");
	r = frame->head.type == BATCH_STATE ? check_state(frame, error) : check_extents(frame, lz4, error);
	if (r)
		return r;
	if (!(frame->head.flags & BATCH_PAYLOAD_CHECK) != !is_private(frame))
		return bad(error, "a payload check is %s", is_private(frame) ? "missing" : "there though pages may be torn");
	if (!frame->head.flags && frame->head.payload_check)
		return bad(error, "reserved fields of the batch head are not 0");
	return 0;
}

int batch_check_payload(const struct batch_frame *frame, const void *payload, char error[BATCH_ERROR])
{
	if (frame->head.flags & BATCH_PAYLOAD_CHECK &&
	    frame->head.payload_check != XXH3_64bits_withSeed(payload, frame->head.payload, frame->head.seq))
		return bad(error, "the check of the payload does not match");
	return 0;
}
