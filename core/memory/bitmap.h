/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap.h: one bit a page over all of memory (memory_bit()), words touched atomically. Backed by sparse pages of its own, so
 * untouched guest memory costs nothing.
 *
 * Law 3: a writer's mark comes after its write (bitmap_set: release); a bit is cleared before its page is read (bitmap_take:
 * acquire, and nothing of the page is read before it). */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bitmap {
	_Atomic uint64_t *words;
	uint64_t n_words;
};

/* Zeroed. 0, -ENOMEM. */
int bitmap_init(struct bitmap *bitmap, uint64_t n_words);
void bitmap_fini(struct bitmap *bitmap);
/* Bytes of its words, touched or not. */
uint64_t bitmap_bytes(const struct bitmap *bitmap);
/* Set bits [first, first + n). Returns how many were newly set. */
uint64_t bitmap_set(struct bitmap *bitmap, uint64_t first, uint64_t n);
/* Clear bits [first, first + n). Words in which none is set are not written, so sparse bitmaps stay sparse. */
void bitmap_clear(struct bitmap *bitmap, uint64_t first, uint64_t n);
/* OR a word. Returns how many bits were newly set. */
uint32_t bitmap_or(struct bitmap *bitmap, uint64_t word, uint64_t bits);
/* Take and clear `n` words from `word` into `ret`; returns whether any bit was set. Words that are zero are not written. */
bool bitmap_take(struct bitmap *bitmap, uint64_t word, uint32_t n, uint64_t *ret);
/* Up to `most` of the lowest bits of the word that bit `from` is in, from that bit on. A hint, as bitmap_next(). */
uint64_t bitmap_lowest(const struct bitmap *bitmap, uint64_t from, uint32_t most);
/* Take and clear those bits of a word; returns which of them were set. */
uint64_t bitmap_take_mask(struct bitmap *bitmap, uint64_t word, uint64_t mask);
bool bitmap_test(const struct bitmap *bitmap, uint64_t bit);
/* How many bits of [first, first + n) are not set (racy, as bitmap_count()). */
uint64_t bitmap_unset(const struct bitmap *bitmap, uint64_t first, uint64_t n);
/* All n bits set? */
bool bitmap_all(const struct bitmap *bitmap, uint64_t first, uint64_t n);
/* The first word in [from, end) with a bit set, or `end`. A hint (relaxed): bitmap_take() is what takes. */
uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t from, uint64_t end);
/* How many bits are set (racy while others write). Reads every word: some 3 ms for 1 TiB of guest memory. */
uint64_t bitmap_count(const struct bitmap *bitmap);
