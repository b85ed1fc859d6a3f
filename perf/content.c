/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a page of guest memory must hold: a function of (seed, page, how often it was written).
 *
 * The guest rewrites whole pages while migration threads compete for the same cores, so this has to run near the
 * speed of memory: eight xorshift64 generators side by side in one vector, which gcc splits into what the machine
 * has. Each page begins with a stamp that names it, so that a wrong page can say where it comes from.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "perf/content.h"

typedef uint64_t vector __attribute__((vector_size(64)));

#define VECTORS (CONTENT_PAGE / sizeof(vector))
#define STAMPS 4 /* in a page that is otherwise zero */
/* Guest memory is read while it is written, by design. */
#ifdef __clang__
#define HOT __attribute__((no_sanitize("thread")))
#else
#define HOT __attribute__((optimize("O3"), no_sanitize("thread")))
#endif

struct stamp {
	uint64_t page;
	uint32_t count;
	uint32_t check; /* of the other two and the seed */
};
_Static_assert(sizeof(struct stamp) == 16, "a stamp is two words of a vector");

static const char phrase[sizeof(vector) + 1] = "  the quick brown fox jumps over the lazy dog, once and again. \n";

static uint64_t key_of(const struct content *content, uint64_t page, uint32_t count)
{
	return content_mix(content_mix(content->seed + page * 0x9e3779b97f4a7c15u) + count);
}

static uint32_t check_of(uint64_t key)
{
	return (uint32_t)content_mix(key ^ 0x736c75696365u);
}

/* Vectors pass by address: by value their ABI would depend on the target. All are inlined into HOT functions. */
#define INLINE static inline __attribute__((always_inline))

INLINE void seed_lanes(vector *lanes, uint64_t key)
{
	for (unsigned i = 0; i < 8; i++)
		(*lanes)[i] = content_mix(key + i * 0x9e3779b97f4a7c15u) | 1; /* xorshift must not start at 0 */
}

INLINE void next_lanes(vector *lanes)
{
	vector x = *lanes;

	x ^= x << 13;
	x ^= x >> 7;
	*lanes = x ^ x << 17;
}

INLINE void put_stamp(vector *at, uint64_t page, uint32_t count, uint64_t key)
{
	(*at)[0] = page;
	(*at)[1] = count | (uint64_t)check_of(key) << 32;
}

HOT static void write_random(vector *to, uint64_t page, uint32_t count, uint64_t key)
{
	vector lanes, first;

	seed_lanes(&lanes, key);
	first = lanes;
	put_stamp(&first, page, count, key);
	to[0] = first;
	for (unsigned i = 1; i < VECTORS; i++) {
		next_lanes(&lanes);
		to[i] = lanes;
	}
}

/* Two vectors of random letters, then two of a fixed phrase: lz4 finds the phrase and nothing else, about 2:1. */
HOT static void write_text(vector *to, uint64_t page, uint32_t count, uint64_t key)
{
	vector lanes, letters, same;

	memcpy(&same, phrase, sizeof(same));
	seed_lanes(&lanes, key);
	for (unsigned i = 0; i < VECTORS; i++) {
		if (i & 2) {
			to[i] = same;
			continue;
		}
		next_lanes(&lanes);
		letters = (lanes & 0x3f3f3f3f3f3f3f3fu) + 0x2020202020202020u;
		if (!i)
			put_stamp(&letters, page, count, key);
		to[i] = letters;
	}
}

HOT static void write_zero(vector *to, uint64_t page, uint32_t count, uint64_t key)
{
	vector zero = { 0 }, stamp = { 0 };

	put_stamp(&stamp, page, count, key);
	for (unsigned i = 0; i < VECTORS; i++)
		to[i] = !count || i % (VECTORS / STAMPS) ? zero : stamp;
}

HOT void content_write(const struct content *content, uint64_t page, uint32_t count, void *to)
{
	uint64_t key = key_of(content, page, count);

	if (content->fill == FILL_ZERO || content_is_zero(content, page, count))
		write_zero(to, page, count, key);
	else if (content->fill == FILL_TEXT)
		write_text(to, page, count, key);
	else
		write_random(to, page, count, key);
}

HOT static bool same_page(const vector *a, const vector *b)
{
	vector differ = { 0 };

	for (unsigned i = 0; i < VECTORS; i++)
		differ |= a[i] ^ b[i];
	for (unsigned i = 0; i < 8; i++) {
		if (differ[i])
			return false;
	}
	return true;
}

bool content_matches(const struct content *content, uint64_t page, uint32_t count, const void *memory)
{
	vector expected[VECTORS];

	content_write(content, page, count, expected);
	return same_page(memory, expected);
}

static bool all_zero(const uint8_t *memory)
{
	return !memory[0] && !memcmp(memory, memory + 1, CONTENT_PAGE - 1);
}

void content_describe(const struct content *content, uint64_t page, uint32_t count, const void *memory, char text[CONTENT_TEXT])
{
	_Alignas(64) uint8_t expected[CONTENT_PAGE];
	const uint8_t *found = memory;
	unsigned at = 0;
	struct stamp stamp;

	if (!memory || all_zero(memory)) {
		snprintf(text, CONTENT_TEXT, "page %" PRIu64 " is %s, expected write %" PRIu32, page,
			 memory ? "all zero" : "missing", count);
		return;
	}
	memcpy(&stamp, memory, sizeof(stamp));
	if (stamp.check != check_of(key_of(content, stamp.page, stamp.count))) {
		snprintf(text, CONTENT_TEXT, "page %" PRIu64 " holds what no page ever held, expected %s %" PRIu32, page,
			 content_is_zero(content, page, count) ? "zeroes, write" : "write", count);
	} else if (stamp.page != page) {
		snprintf(text, CONTENT_TEXT,
			 "page %" PRIu64 " holds page %" PRIu64 " (its write %" PRIu32 "), expected write %" PRIu32, page,
			 stamp.page, stamp.count, count);
	} else if (stamp.count != count) {
		snprintf(text, CONTENT_TEXT, "page %" PRIu64 " holds write %" PRIu32 ", expected %" PRIu32, page, stamp.count,
			 count);
	} else {
		content_write(content, page, count, expected);
		while (at < CONTENT_PAGE - 1 && found[at] == expected[at])
			at++;
		snprintf(text, CONTENT_TEXT,
			 "page %" PRIu64 " is torn: it carries the stamp of write %" PRIu32 " and differs from byte %u on", page,
			 count, at);
	}
}
