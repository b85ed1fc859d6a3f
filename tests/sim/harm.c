/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* harm.c: frames and batches that are damaged, or right in all but their epoch. */
#include <string.h>
#include <xxhash.h>

#include "core/decide/message.h"
#include "tests/sim/pipe.h"

const char *const harm_names[] = { "", "damaged", "doubled", "of another epoch", "cut in two" };

static void seal(unsigned char *frame, uint32_t length)
{
	uint32_t check = (uint32_t)XXH3_64bits_withSeed(frame + MESSAGE_HEAD, length - MESSAGE_HEAD, XXH3_64bits(frame, 20));
	memcpy(frame + 20, &check, sizeof check);
}

/* A link frame or batch as an old connection would have left it: right in all but the epoch. */
void harm_old_frame(unsigned char *frame, uint32_t length)
{
	uint32_t epoch;

	memcpy(&epoch, frame + 12, sizeof epoch);
	epoch = epoch > 1 && sim_one_in(2) ? epoch - 1 : epoch + 1;
	memcpy(frame + 12, &epoch, sizeof epoch);
	seal(frame, length);
}

/* Another round or attempt; or LANDED leaves out a stream. */
uint32_t harm_number(unsigned char *frame, uint32_t length)
{
	enum { STREAM_BYTES = 17 };
	uint32_t number, payload;
	uint16_t type;

	memcpy(&type, frame + 4, sizeof type);
	bool fewer = type == MESSAGE_LANDED && sim_one_in(2);
	unsigned char *at = frame + MESSAGE_HEAD + (fewer ? sizeof number : 0);
	memcpy(&number, at, sizeof number);
	/* Of SWITCHOVER any number but 0 is news, and nothing says otherwise. */
	number = type == MESSAGE_SWITCHOVER ? 0
		 : fewer || sim_one_in(4)   ? number - 1
		 : sim_one_in(4)            ? 0
					    : number + 1 + (uint32_t)sim_below(3);
	memcpy(at, &number, sizeof number);
	if (fewer) {
		length -= STREAM_BYTES;
		payload = length - MESSAGE_HEAD;
		memcpy(frame + 8, &payload, sizeof payload);
	}
	seal(frame, length);
	return length;
}

void harm_old_batch(struct batch_frame *f)
{
	f->head.epoch += f->head.epoch > 1 ? -1u : 1u;
	f->head.check = 0;
	f->head.check = XXH3_64bits(f, batch_frame_size(&f->head));
}

void harm_flip(unsigned char *bytes, uint32_t n)
{
	bytes[sim_below(n)] ^= (unsigned char)(1u << sim_below(8));
}
