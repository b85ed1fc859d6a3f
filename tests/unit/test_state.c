/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_state.c: device state cut into pieces by several senders and put together by several receivers; pieces that are doubled,
 * off the grid, over the limit, of another try; and a peer that goes on sending when all is there. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/state.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

enum { PIECE = WIRE_BATCH_PAYLOAD, THREADS = 4 };

static struct state_out sender;
static struct state_in receiver;
static char error[SLUICE_ERROR_MAX];
static struct message_section table[SLUICE_MAX_SECTIONS];

static void fresh(uint64_t limit)
{
	memset(&sender, 0, sizeof sender);
	sender.limit = limit;
	state_in_init(&receiver, limit);
	error[0] = 0;
}

static unsigned char *filled(size_t length, unsigned char with)
{
	unsigned char *data = malloc(length ? length : 1);

	for (size_t i = 0; i < length; i++)
		data[i] = (unsigned char)(with + i / 4096 + i);
	return data;
}

static int add(const char *name, const void *data, size_t length)
{
	struct sluice_section s = { .name = name, .version = 3, .data = data, .length = length };

	return state_out_add(&sender, &s);
}

static struct state_piece piece(uint16_t section, uint64_t offset, uint64_t total, uint32_t bytes)
{
	return (struct state_piece){ .section = section, .offset = offset, .total = total, .bytes = bytes };
}

static int place(uint32_t round, struct state_piece p, void **ret)
{
	void *own;

	return state_in_place(&receiver, round, &p, ret ? ret : &own);
}

static bool placed(uint32_t round, struct state_piece p)
{
	return state_in_placed(&receiver, round, &p);
}

static void announce(uint32_t i, const char *name, uint64_t length)
{
	memset(&table[i], 0, sizeof table[i]);
	strcpy(table[i].name, name);
	table[i].length = length;
}

static int expect(uint32_t round, uint32_t n)
{
	return state_in_expect(&receiver, round, n, table, error);
}

static void sections_are_checked(void)
{
	char name[SLUICE_NAME_MAX + 1], byte = 0;

	fresh(100);
	memset(name, 'n', sizeof name);
	name[SLUICE_NAME_MAX] = 0;
	CU_ASSERT_EQUAL(add(NULL, &byte, 1), -EINVAL);
	CU_ASSERT_EQUAL(add("", &byte, 1), -EINVAL);
	CU_ASSERT_EQUAL(add(name, &byte, 1), -EINVAL);
	CU_ASSERT_EQUAL(add("a", NULL, 1), -EINVAL);
	CU_ASSERT_EQUAL(add("a", &byte, 101), -ENOSPC);
	CU_ASSERT_EQUAL(add("a", &byte, SIZE_MAX), -ENOSPC);
	CU_ASSERT_EQUAL(add("a", &byte, 60), 0);
	CU_ASSERT_EQUAL(add("a", &byte, 1), -EINVAL);
	CU_ASSERT_EQUAL(add("b", &byte, 41), -ENOSPC);
	CU_ASSERT_EQUAL(add("b", &byte, 40), 0);
	CU_ASSERT_EQUAL(add("c", NULL, 0), 0);
	name[SLUICE_NAME_MAX - 1] = 0;
	CU_ASSERT_EQUAL(add(name, NULL, 0), 0);
	for (uint32_t i = sender.n; i < SLUICE_MAX_SECTIONS; i++) {
		snprintf(name, sizeof name, "s%u", i);
		CU_ASSERT_EQUAL(add(name, NULL, 0), 0);
	}
	CU_ASSERT_EQUAL(add("one too many", NULL, 0), -ENOSPC);
	state_out_clear(&sender);
	CU_ASSERT_EQUAL(add("a", &byte, 100), 0);
	state_in_fini(&receiver);
}

/* The pieces of all sections, each byte once, none for empty sections; the same again after a rewind. */
static void claims_cover_everything(void)
{
	static const size_t lengths[] = { 0, 1, PIECE, 0, 0, PIECE + 1, 3 * PIECE - 1, 0 };
	unsigned char *data = filled(3 * PIECE, 1);
	struct state_piece p;
	const void *at;
	char name[16];

	fresh(1 << 30);
	CU_ASSERT(!state_out_claim(&sender, &p, &at));
	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof name, "s%d", i);
		CU_ASSERT_EQUAL(add(name, data, lengths[i]), 0);
	}
	for (int lap = 0; lap < 2; lap++) {
		uint64_t seen[8] = { 0 }, n = 0;

		state_out_rewind(&sender);
		for (; state_out_claim(&sender, &p, &at); n++) {
			CU_ASSERT_EQUAL(p.offset, seen[p.section]);
			CU_ASSERT_EQUAL(p.total, lengths[p.section]);
			CU_ASSERT(p.bytes > 0 && p.bytes <= PIECE && p.reserved == 0);
			CU_ASSERT_PTR_EQUAL(at, data + p.offset);
			seen[p.section] += p.bytes;
		}
		for (int i = 0; i < 8; i++)
			CU_ASSERT_EQUAL(seen[i], lengths[i]);
		CU_ASSERT_EQUAL(n, 1 + 1 + 2 + 3);
		CU_ASSERT(!state_out_claim(&sender, &p, &at));
	}
	free(data);
	state_in_fini(&receiver);
}

static unsigned completions, refused;

static void *carry(void *arg)
{
	struct state_piece p;
	const void *from;
	void *to;

	while (state_out_claim(&sender, &p, &from)) {
		if (state_in_place(&receiver, 5, &p, &to)) {
			__atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
			continue;
		}
		memcpy(to, from, p.bytes);
		if (state_in_placed(&receiver, 5, &p))
			__atomic_fetch_add(&completions, 1, __ATOMIC_RELAXED);
	}
	return arg;
}

/* Senders and receivers at once; the table before, amid or after the pieces. It is complete exactly once. */
static void by_several_threads(void)
{
	size_t lengths[] = { 2 * PIECE + 17, 0, 1, 6 * PIECE, 0 };
	unsigned char *data[5];

	for (int i = 0; i < 5; i++)
		data[i] = filled(lengths[i], (unsigned char)i);
	for (int when = 0; when < 12; when++) {
		struct sluice_section sections[SLUICE_MAX_SECTIONS];
		pthread_t threads[THREADS];
		unsigned announced = 0;
		char name[16];

		fresh(1 << 30);
		completions = refused = 0;
		for (int i = 0; i < 5; i++) {
			snprintf(name, sizeof name, "s%d", i);
			CU_ASSERT_EQUAL(add(name, data[i], lengths[i]), 0);
		}
		if (when % 3 == 0)
			announced = (unsigned)state_in_expect(&receiver, 5, sender.n, sender.sections, error);
		for (int i = 0; i < THREADS; i++)
			CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, carry, NULL), 0);
		if (when % 3 == 1)
			announced = (unsigned)state_in_expect(&receiver, 5, sender.n, sender.sections, error);
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		if (when % 3 == 2)
			announced = (unsigned)state_in_expect(&receiver, 5, sender.n, sender.sections, error);
		CU_ASSERT_EQUAL(completions + announced, 1);
		CU_ASSERT_EQUAL(refused, 0);
		CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 5);
		for (int i = 0; i < 5; i++) {
			CU_ASSERT_EQUAL(sections[i].length, lengths[i]);
			CU_ASSERT_EQUAL(sections[i].version, 3);
			CU_ASSERT(!lengths[i] || !memcmp(sections[i].data, data[i], lengths[i]));
		}
		state_in_fini(&receiver);
	}
	for (int i = 0; i < 5; i++)
		free(data[i]);
}

static void off_the_grid(void)
{
	fresh(1ull << 40);
	CU_ASSERT_EQUAL(place(1, piece(SLUICE_MAX_SECTIONS, 0, 10, 10), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(UINT16_MAX, 0, 10, 10), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(0, 1, 10, 9), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 10, 0), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 0, 0), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 10, 9), NULL), -EINVAL);  /* short, and not the last */
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 10, 11), NULL), -EINVAL); /* beyond the end */
	CU_ASSERT_EQUAL(place(1, piece(0, PIECE, 10, 10), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 2 * PIECE, PIECE + 1), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(0, UINT64_MAX - PIECE + 1, UINT64_MAX, PIECE), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, UINT64_MAX, PIECE), NULL), -ENOSPC);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 2 * PIECE, PIECE), NULL), 0);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 2 * PIECE, PIECE), NULL), -EINVAL);             /* doubled */
	CU_ASSERT_EQUAL(place(1, piece(0, PIECE, 2 * PIECE - 1, PIECE - 1), NULL), -EINVAL); /* another total */
	CU_ASSERT_EQUAL(place(1, piece(0, PIECE, 2 * PIECE, PIECE), NULL), 0);
	state_in_fini(&receiver);
}

static void beyond_the_limit(void)
{
	fresh(100);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 101, 101), NULL), -ENOSPC);
	CU_ASSERT_EQUAL(place(1, piece(0, 0, 60, 60), NULL), 0);
	CU_ASSERT_EQUAL(place(1, piece(1, 0, 41, 41), NULL), -ENOSPC);
	CU_ASSERT_EQUAL(place(1, piece(1, 0, 40, 40), NULL), 0);
	CU_ASSERT_EQUAL(place(1, piece(2, 0, 1, 1), NULL), -ENOSPC);
	CU_ASSERT_EQUAL(place(2, piece(2, 0, 100, 100), NULL), 0); /* another try begins anew */
	announce(0, "a", 101);
	CU_ASSERT_EQUAL(expect(2, 1), -EPROTO);
	announce(0, "a", 60);
	announce(1, "b", UINT64_MAX - 10);
	CU_ASSERT_EQUAL(expect(3, 2), -EPROTO);
	CU_ASSERT(one_line(error));
	state_in_fini(&receiver);
}

static void table_must_fit_the_pieces(void)
{
	fresh(1 << 20);
	CU_ASSERT_EQUAL(place(3, piece(1, 0, 50, 50), NULL), 0);
	CU_ASSERT(!placed(3, piece(1, 0, 50, 50)));
	announce(0, "a", 10);
	announce(1, "b", 51);
	CU_ASSERT_EQUAL(expect(3, 2), -EPROTO);
	CU_ASSERT(one_line(error));
	CU_ASSERT_EQUAL(expect(3, 1), -EPROTO); /* a piece of a section that it does not name */
	CU_ASSERT_EQUAL(expect(2, 2), -EPROTO); /* of an older try */
	CU_ASSERT(one_line(error));
	announce(1, "b", 50);
	CU_ASSERT_EQUAL(expect(3, 2), 0);
	/* And pieces the table. */
	CU_ASSERT_EQUAL(place(3, piece(0, 0, 11, 11), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(3, piece(2, 0, 1, 1), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(4, piece(0, 0, 10, 10), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(3, piece(0, 0, 10, 10), NULL), 0);
	struct sluice_section sections[SLUICE_MAX_SECTIONS];
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 0); /* placed, not there yet */
	CU_ASSERT(placed(3, piece(0, 0, 10, 10)));
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 2);
	state_in_fini(&receiver);
}

static void nothing_to_carry(void)
{
	struct sluice_section sections[SLUICE_MAX_SECTIONS];

	fresh(100);
	CU_ASSERT_EQUAL(expect(1, 0), 1);
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 0);
	state_in_fini(&receiver);
	fresh(100);
	announce(0, "empty", 0);
	announce(1, "empty too", 0);
	CU_ASSERT_EQUAL(expect(1, 2), 1);
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 2);
	CU_ASSERT_STRING_EQUAL(sections[1].name, "empty too");
	CU_ASSERT_EQUAL(sections[1].length, 0);
	state_in_fini(&receiver);
}

/* A try was abandoned: its pieces are dropped when the first of the next one comes, and it never counts as that one. */
static void two_tries(void)
{
	struct sluice_section sections[SLUICE_MAX_SECTIONS];
	struct state_piece p = piece(0, 0, 10, 10);
	void *at;

	fresh(100);
	CU_ASSERT_EQUAL(place(4, p, &at), 0);
	memset(at, 'o', 10);
	CU_ASSERT(!placed(4, p));
	CU_ASSERT_EQUAL(place(5, p, &at), 0);
	memset(at, 'n', 10);
	CU_ASSERT_EQUAL(place(4, piece(1, 0, 10, 10), NULL), -ESTALE);
	announce(0, "a", 10);
	CU_ASSERT_EQUAL(expect(5, 1), 0);
	CU_ASSERT(!placed(4, p)); /* late word of the old one */
	CU_ASSERT(placed(5, p));
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 1);
	CU_ASSERT(!memcmp(sections[0].data, "nnnnnnnnnn", 10));
	state_in_fini(&receiver);
}

/* SWITCHOVER comes by the link and may overtake pieces of an abandoned try, one of which is being received this very moment. */
static void table_overtakes_old_pieces(void)
{
	struct sluice_section sections[SLUICE_MAX_SECTIONS];
	void *at, *other;

	fresh(1 << 20);
	CU_ASSERT_EQUAL(place(4, piece(0, 0, 5000, 5000), &at), 0);
	announce(0, "a", 10);
	CU_ASSERT_EQUAL(expect(5, 1), 0);
	memset(at, 'o', 5000); /* still there */
	CU_ASSERT_EQUAL(place(4, piece(1, 0, 10, 10), &other), 0);
	memset(other, 'o', 10);
	CU_ASSERT(!placed(4, piece(0, 0, 5000, 5000)));
	CU_ASSERT(!placed(4, piece(1, 0, 10, 10)));
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 0);
	CU_ASSERT_EQUAL(place(5, piece(0, 0, 10, 10), &at), 0);
	memset(at, 'n', 10);
	CU_ASSERT(placed(5, piece(0, 0, 10, 10)));
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 1);
	CU_ASSERT(!memcmp(sections[0].data, "nnnnnnnnnn", 10));
	state_in_fini(&receiver);
	/* The same where the new table has nothing to carry: complete, and none of the old bytes are given out as its own. */
	fresh(1 << 20);
	CU_ASSERT_EQUAL(place(4, piece(0, 0, 5000, 5000), &at), 0);
	announce(0, "a", 0);
	CU_ASSERT_EQUAL(expect(5, 1), 1);
	memset(at, 'o', 5000);
	CU_ASSERT(!placed(4, piece(0, 0, 5000, 5000)));
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 1);
	CU_ASSERT(!sections[0].data && !sections[0].length);
	state_in_fini(&receiver);
}

/* The embedder is loading: a peer that sends on must not pull the state from under its feet. */
static void complete_stays_complete(void)
{
	struct sluice_section sections[SLUICE_MAX_SECTIONS];
	void *at;

	fresh(1 << 20);
	announce(0, "a", 5000);
	CU_ASSERT_EQUAL(expect(5, 1), 0);
	CU_ASSERT_EQUAL(place(5, piece(0, 0, 5000, 5000), &at), 0);
	memset(at, 'n', 5000);
	CU_ASSERT(placed(5, piece(0, 0, 5000, 5000)));
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 1);
	CU_ASSERT_EQUAL(place(6, piece(0, 0, 5000, 5000), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(UINT32_MAX, piece(1, 0, 10, 10), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(5, piece(0, 0, 5000, 5000), NULL), -EINVAL);
	CU_ASSERT_EQUAL(place(4, piece(0, 0, 5000, 5000), NULL), -ESTALE);
	CU_ASSERT_EQUAL(expect(6, 1), -EPROTO);
	for (int i = 0; i < 5000; i++)
		if (((const char *)sections[0].data)[i] != 'n')
			CU_FAIL("changed while it is loaded");
	CU_ASSERT_EQUAL(state_in_sections(&receiver, sections), 1);
	state_in_fini(&receiver);
}

SUITE("state", TEST(sections_are_checked), TEST(claims_cover_everything), TEST(by_several_threads), TEST(off_the_grid),
      TEST(beyond_the_limit), TEST(table_must_fit_the_pieces), TEST(nothing_to_carry), TEST(two_tries),
      TEST(table_overtakes_old_pieces), TEST(complete_stays_complete))
