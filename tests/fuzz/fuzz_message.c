/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_message.c: the link's frames as a peer may send them, with check sums that are right, so that what lies behind is reached.
 * What decodes can be coded again and decodes to the same bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/decide/message.h"

enum { CHECK_AT = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *frame, uint32_t length)
{
	uint32_t check = (uint32_t)XXH3_64bits_withSeed(frame + MESSAGE_HEAD, length, XXH3_64bits(frame, CHECK_AT));

	memcpy(frame + CHECK_AT, &check, sizeof(check));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message message, again;
	static uint8_t one[MESSAGE_HEAD + MESSAGE_PAYLOAD], two[MESSAGE_HEAD + MESSAGE_PAYLOAD];
	char error[SLUICE_ERROR_MAX] = "";
	struct message_head head;

	if (size < MESSAGE_HEAD || message_read_head(data, &head, error)) {
		if (size >= MESSAGE_HEAD && (!error[0] || strchr(error, '\n')))
			abort();
		return 0;
	}
	/* A frame is read whole before it is decoded: its length is that of what is there. */
	uint32_t length = size - MESSAGE_HEAD > MESSAGE_PAYLOAD ? MESSAGE_PAYLOAD : (uint32_t)(size - MESSAGE_HEAD);
	uint8_t *frame = malloc(MESSAGE_HEAD + length);
	if (!frame)
		abort();
	memcpy(frame, data, MESSAGE_HEAD + length);
	memcpy(frame + 8, &length, sizeof(length));
	seal(frame, length);
	if (message_read_head(frame, &head, error)) { /* no frame of that type is so long, or so short */
		free(frame);
		return 0;
	}
	int result = message_decode(frame, &head, &message, error);
	if (result == -EPROTO && (!error[0] || strchr(error, '\n')))
		abort();
	if (!result) {
		int first = message_encode(&message, head.epoch, head.seq, one);
		if (first < 0 || message_read_head(one, &head, error) || message_decode(one, &head, &again, error))
			abort();
		if (message_encode(&again, head.epoch, head.seq, two) != first || memcmp(one, two, (size_t)first))
			abort();
	}
	free(frame);
	return 0;
}
