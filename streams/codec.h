/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* codec.h: lz4 over a few pages. One codec belongs to one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	CODEC_PAGES = 16, /* pages of one block at most: 64 KiB, the reach of an lz4 match */
};

struct codec;

int codec_create(struct codec **ret_codec);
void codec_destroy(struct codec *codec);
/* Compress `count` pages (at most CODEC_PAGES) that the guest may be writing meanwhile into `out`. Returns the bytes,
 * or 0 where that would save less than a sixteenth: send them raw. `out` has room for count * 4096 bytes. */
uint32_t codec_compress(struct codec *codec, const void *pages, uint32_t count, void *out);
/* Exactly `count` pages to `pages`; else -EBADMSG, and what is there is undefined. Any thread. */
int codec_decompress(const void *in, uint32_t bytes, void *pages, uint32_t count);
uint64_t codec_bytes(void);
