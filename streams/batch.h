/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* batch.h: making a batch at the source, checking one at the destination. Pure, and the one place where the head and
 * extents of a batch are filled in or judged. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "streams/wire.h"

/* Head and extents as they lie on the wire, one after the other. */
struct batch_frame {
	struct batch_head head;
	union {
		struct extent extents[WIRE_BATCH_EXTENTS];
		struct state_piece piece;
	};
};
static_assert(offsetof(struct batch_frame, extents) == sizeof(struct batch_head), "head and extents go out as one");

static inline size_t batch_frame_size(const struct batch_head *head)
{
	return sizeof(*head) + (size_t)head->extents * sizeof(struct extent);
}

/* What all batches of a stream have in common, and how far it is. */
struct batch_place {
	uint32_t epoch, stream;
	uint64_t seq, bytes; /* batches and wire bytes before the next one */
};

/* A batch in the making. iov[0] is the frame, the others point at the payload where it lies. */
struct batch {
	struct batch_frame *frame; /* borrowed */
	uint32_t round;
	uint32_t extents;
	uint32_t payload;
	uint32_t pages;
	int iovs;
	struct iovec iov[1 + WIRE_BATCH_EXTENTS];
};

void batch_reset(struct batch *batch, uint32_t round);
/* Does one more extent of up to `bytes` of payload fit? */
bool batch_has_room(const struct batch *batch, uint32_t bytes);
/* Add `count` pages of one granule. There is room (batch_has_room). What follows on from the extent before becomes a
 * part of it, and payload that follows on in memory a part of its iovec. `data` is borrowed until the batch is sent. */
void batch_add_zero(struct batch *batch, uint16_t region, uint64_t page, uint32_t count);
void batch_add_raw(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data);
void batch_add_lz4(struct batch *batch, uint16_t region, uint64_t page, uint32_t count, const void *data, uint32_t bytes);
/* A batch of its own. */
void batch_set_state(struct batch *batch, const struct state_piece *piece, const void *data);
/* Fill in the head and move `place` on. Returns the bytes it has on the wire. */
uint64_t batch_seal(struct batch *batch, enum batch_type type, struct batch_place *place);

/* Judge what came. Each returns 0, or -EBADMSG with half a sentence in `error`: what is wrong. */
enum { BATCH_ERROR = 120 };
/* The head alone: afterwards `extents` and `payload` are within limits. `round`: the one this stream is in. */
int batch_check_head(const struct batch_head *head, const struct batch_place *place, uint32_t round, char error[BATCH_ERROR]);
/* Then the check over head and extents, and each extent: they add up to the payload. Guest memory is not looked at:
 * whether the pages exist is for land_ops.place to say. `lz4`: it was agreed on. */
int batch_check_frame(const struct batch_frame *frame, bool lz4, char error[BATCH_ERROR]);
/* At last the payload, which lies in one piece where the head has a check of it (nothing to do where it has none). */
int batch_check_payload(const struct batch_frame *frame, const void *payload, char error[BATCH_ERROR]);
/* The batch was taken: move `place` on. */
void batch_taken(const struct batch_head *head, struct batch_place *place);
