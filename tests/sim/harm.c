/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* harm.c: frames and batches that are damaged, or right in all but their epoch. */
#include <string.h>
#include <xxhash.h>

#include "core/decide/message.h"
#include "tests/sim/pipe.h"

const char *const harm_names[] = { "", "damaged", "doubled", "of another epoch", "cut in two" };

/* A link frame or batch as an old connection would have left it: right in all but the epoch. */
void harm_old_frame(unsigned char *frame, uint32_t length)
{
	uint32_t epoch;

	memcpy(&epoch, frame + 12, sizeof epoch);
	epoch = epoch > 1 && sim_one_in(2) ? epoch - 1 : epoch + 1;
	memcpy(frame + 12, &epoch, sizeof epoch);
	uint32_t check = (uint32_t)XXH3_64bits_withSeed(frame + MESSAGE_HEAD, length - MESSAGE_HEAD, XXH3_64bits(frame, 20));
	memcpy(frame + 20, &check, sizeof check);
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
