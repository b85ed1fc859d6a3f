/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_batch.c: heads and extents of batches as a peer may send them, with check sums that are right. What is accepted keeps every
 * limit that the code behind relies on. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "streams/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool good)
{
	if (!good)
		abort();
}

static void accepted(const struct batch_frame *frame)
{
	const struct batch_head *head = &frame->head;
	uint64_t payload = 0;

	need(head->payload <= WIRE_BATCH_PAYLOAD && head->extents <= WIRE_BATCH_EXTENTS);
	if (head->type == BATCH_STATE) {
		need(head->extents == 1 && frame->piece.bytes == head->payload && head->payload);
		need(frame->piece.offset <= frame->piece.total && frame->piece.bytes <= frame->piece.total - frame->piece.offset);
		return;
	}
	for (uint32_t i = 0; i < head->extents; i++) {
		const struct extent *e = &frame->extents[i];

		need(e->count && e->count <= WIRE_EXTENT_PAGES);
		need(e->page % WIRE_GRANULE_PAGES + e->count <= WIRE_GRANULE_PAGES);
		need(e->encoding != ENCODING_RAW || e->bytes == e->count * WIRE_PAGE);
		need(e->encoding != ENCODING_ZERO || !e->bytes);
		need(e->encoding != ENCODING_LZ4 || (e->bytes && e->bytes < e->count * WIRE_PAGE));
		payload += e->bytes;
	}
	need(payload == head->payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct batch_frame frame;
	struct batch_place place = { 0 };
	char error[BATCH_ERROR] = "";

	memset(&frame, 0, sizeof(frame));
	if (size < sizeof(frame.head))
		return 0;
	memcpy(&frame, data, size < sizeof(frame) ? size : sizeof(frame));
	/* What this stream would be at: else nearly nothing gets further. */
	place = (struct batch_place){ frame.head.epoch, frame.head.stream, frame.head.seq, frame.head.bytes };
	if (batch_check_head(&frame.head, &place, frame.head.round, error)) {
		need(error[0] && !strchr(error, '\n'));
		return 0;
	}
	frame.head.check = 0;
	frame.head.check = XXH3_64bits(&frame, batch_frame_size(&frame.head));
	if (batch_check_frame(&frame, true, error))
		need(error[0] && !strchr(error, '\n'));
	else
		accepted(&frame);
	return 0;
}
