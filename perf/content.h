/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a page of guest memory must hold: a function of (seed, page, how often it was written). */
#ifndef PERF_CONTENT_H
#define PERF_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_PAGE 4096u
#define CONTENT_TEXT 160 /* a description of a wrong page */

enum fill { FILL_RANDOM, FILL_ZERO, FILL_TEXT, FILL_GUEST /* KVM: the guest itself writes each page, in two places */ };

struct content {
	uint64_t seed;
	uint64_t touched_per_2_32; /* share of pages filled in the beginning; 1 << 32: all */
	enum fill fill;
};

/* splitmix64's finaliser: every bit of the result depends on every bit of x. */
static inline uint64_t content_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Whether the page was filled in the beginning: spread at random, the same on both ends. */
static inline bool content_touched(const struct content *content, uint64_t page)
{
	return (content_mix(content->seed ^ (page + 1) * 0x9e3779b97f4a7c15u) >> 32) < content->touched_per_2_32;
}

/* Whether a page written `count` times is all zeroes. */
static inline bool content_is_zero(const struct content *content, uint64_t page, uint32_t count)
{
	return !count && (content->fill == FILL_ZERO || !content_touched(content, page));
}

/* Write the whole page; `to` is 64-byte aligned. Races with the library's reads by design, so TSan does not look
 * here. */
void content_write(const struct content *content, uint64_t page, uint32_t count, void *to);

/* Whether `memory` (64-byte aligned) holds what the page must hold. */
bool content_matches(const struct content *content, uint64_t page, uint32_t count, const void *memory);

/* Say in one line what is in `memory` instead; NULL: the page is missing there. */
void content_describe(const struct content *content, uint64_t page, uint32_t count, const void *memory, char text[CONTENT_TEXT]);

#endif
