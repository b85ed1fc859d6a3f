/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap.c: see bitmap.h.
 *
 * Any thread sets, any sender takes, nobody locks. Law 3 rests on both sides doing a read-modify-write of the same word:
 * a set that comes before a take in the word's order is read by it, and with it the write to the page that came before
 * the set; a set that comes after stays in the word for the next take. That is why bitmap_set() never gets by with seeing
 * the bit set already: such a load could pass the page's write that is still in the store buffer, see the old bit, and the
 * taker would clear it and read the old page. The mirror image is harmless: a take that reads a word as zero leaves it be,
 * and what is set later stays set. */
#include "core/memory/bitmap.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

enum { WORD_BITS = 64 };

int bitmap_init(struct bitmap *bitmap, uint64_t n_words)
{
	*bitmap = (struct bitmap){ .n_words = n_words };
	if (!n_words)
		return 0;
	if (n_words > SIZE_MAX / sizeof(*bitmap->words))
		return -ENOMEM;
	size_t length = n_words * sizeof(*bitmap->words);
	void *words = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (words == MAP_FAILED)
		return -errno;
	/* A huge page of bits covers 64 GiB: one touched page of a sparse guest should not cost 2 MiB. Advice only. */
	(void)madvise(words, length, MADV_NOHUGEPAGE);
	bitmap->words = words;
	return 0;
}

void bitmap_fini(struct bitmap *bitmap)
{
	if (bitmap->words)
		munmap((void *)bitmap->words, bitmap->n_words * sizeof(*bitmap->words));
	*bitmap = (struct bitmap){ 0 };
}

uint64_t bitmap_bytes(const struct bitmap *bitmap)
{
	return bitmap->n_words * sizeof(*bitmap->words);
}

/* The part of [*first, end) that lies in one word, as a mask of it; *first moves on behind that. */
static uint64_t next_mask(uint64_t *first, uint64_t end)
{
	uint64_t bit = *first % WORD_BITS;
	uint64_t n = end - *first < WORD_BITS - bit ? end - *first : WORD_BITS - bit;

	*first += n;
	return (~UINT64_C(0) >> (WORD_BITS - n)) << bit;
}

uint64_t bitmap_set(struct bitmap *bitmap, uint64_t first, uint64_t n)
{
	uint64_t added = 0, end = first + n;

	while (first < end) {
		uint64_t word = first / WORD_BITS;
		added += bitmap_or(bitmap, word, next_mask(&first, end));
	}
	return added;
}

void bitmap_clear(struct bitmap *bitmap, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;

	while (first < end) {
		uint64_t word = first / WORD_BITS, mask = next_mask(&first, end);
		if (!(atomic_load_explicit(&bitmap->words[word], memory_order_relaxed) & mask))
			continue;
		/* Release: what was done before the clear is seen by who sees it cleared. Acquire: as in bitmap_take(). */
		atomic_fetch_and_explicit(&bitmap->words[word], ~mask, memory_order_acq_rel);
	}
}

uint32_t bitmap_or(struct bitmap *bitmap, uint64_t word, uint64_t bits)
{
	/* Release: the write to the page comes before its bit. Pairs with the exchange in bitmap_take() and with the
	 * loads in bitmap_test() and bitmap_all(). */
	uint64_t old = atomic_fetch_or_explicit(&bitmap->words[word], bits, memory_order_release);

	return (uint32_t)__builtin_popcountll(bits & ~old);
}

bool bitmap_take(struct bitmap *bitmap, uint64_t word, uint32_t n, uint64_t *ret)
{
	bool any = false;

	for (uint32_t i = 0; i < n; i++) {
		_Atomic uint64_t *from = &bitmap->words[word + i];
		/* Relaxed: a zero is not acted on, anything else is read again. */
		ret[i] = atomic_load_explicit(from, memory_order_relaxed);
		if (!ret[i])
			continue;
		/* Acquire: the page is read after its bit was cleared. Pairs with the release in bitmap_or(). */
		ret[i] = atomic_exchange_explicit(from, 0, memory_order_acquire);
		any |= ret[i] != 0;
	}
	return any;
}

uint64_t bitmap_lowest(const struct bitmap *bitmap, uint64_t from, uint32_t most)
{
	/* Relaxed: a hint, as bitmap_next(). */
	uint64_t seen = atomic_load_explicit(&bitmap->words[from / WORD_BITS], memory_order_relaxed), some = 0;

	seen &= ~UINT64_C(0) << from % WORD_BITS;
	for (uint32_t i = 0; i < most && seen; i++) {
		uint64_t lowest = seen & -seen;
		some |= lowest;
		seen ^= lowest;
	}
	return some;
}

uint64_t bitmap_take_mask(struct bitmap *bitmap, uint64_t word, uint64_t mask)
{
	/* Acquire, and before any read of the pages: pairs with bitmap_set(). */
	return atomic_fetch_and_explicit(&bitmap->words[word], ~mask, memory_order_acq_rel) & mask;
}

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit)
{
	/* Acquire: pairs with the release in bitmap_or(). */
	return atomic_load_explicit(&bitmap->words[bit / WORD_BITS], memory_order_acquire) >> bit % WORD_BITS & 1;
}

uint64_t bitmap_unset(const struct bitmap *bitmap, uint64_t first, uint64_t n)
{
	uint64_t count = 0, end = first + n;

	while (first < end) {
		uint64_t word = first / WORD_BITS, mask = next_mask(&first, end);
		uint64_t unset = ~atomic_load_explicit(&bitmap->words[word], memory_order_relaxed) & mask;
		count += (uint64_t)__builtin_popcountll(unset);
	}
	return count;
}

bool bitmap_all(const struct bitmap *bitmap, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;

	while (first < end) {
		uint64_t word = first / WORD_BITS, mask = next_mask(&first, end);
		/* Acquire: pairs with the release in bitmap_or(). */
		if (~atomic_load_explicit(&bitmap->words[word], memory_order_acquire) & mask)
			return false;
	}
	return true;
}

uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t from, uint64_t end)
{
	while (from < end && !atomic_load_explicit(&bitmap->words[from], memory_order_relaxed))
		from++;
	return from;
}

uint64_t bitmap_count(const struct bitmap *bitmap)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < bitmap->n_words; i++)
		count += (uint64_t)__builtin_popcountll(atomic_load_explicit(&bitmap->words[i], memory_order_relaxed));
	return count;
}
