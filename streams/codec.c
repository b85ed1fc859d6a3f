/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* codec.c: lz4 from a private copy.
 *
 * The guest writes its pages while we read them, and lz4 reads its input more than once: compressed in place, a block
 * would inflate to bytes that never stood where they come out. So pages are copied first, and what is compressed is the
 * copy. */
#include "streams/codec.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "streams/wire.h"

struct codec {
	char copy[CODEC_PAGES * WIRE_PAGE];
	char state[]; /* LZ4_sizeofState() bytes, aligned as the struct is */
};

uint64_t codec_bytes(void)
{
	return sizeof(struct codec) + (size_t)LZ4_sizeofState();
}

int codec_create(struct codec **ret_codec)
{
	struct codec *codec = calloc(1, codec_bytes());

	if (!codec)
		return -ENOMEM;
	*ret_codec = codec;
	return 0;
}

void codec_destroy(struct codec *codec)
{
	free(codec);
}

/* A function of its own: the one place where a race with the guest's writers is meant (tests/tsan.supp names it). */
__attribute__((noinline)) static void codec_copy(struct codec *codec, const void *pages, size_t bytes)
{
	memcpy(codec->copy, pages, bytes);
}

uint32_t codec_compress(struct codec *codec, const void *pages, uint32_t count, void *out)
{
	int bytes = (int)count * WIRE_PAGE, worth = bytes - bytes / 16;

	assert(count && count <= CODEC_PAGES);
	codec_copy(codec, pages, (size_t)bytes);
	/* lz4 gives up, with 0, as soon as the output would be longer than `worth`. */
	return (uint32_t)LZ4_compress_fast_extState(codec->state, codec->copy, out, bytes, worth, 1);
}

int codec_decompress(const void *in, uint32_t bytes, void *pages, uint32_t count)
{
	int inflated = (int)count * WIRE_PAGE;

	return LZ4_decompress_safe(in, pages, (int)bytes, inflated) == inflated ? 0 : -EBADMSG;
}
