/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_wire.c: batches and greetings: what is built is accepted, and every field that is wrong is refused and named. */
#define XXH_STATIC_LINKING_ONLY
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "streams/batch.h"
#include "streams/greeting.h"
#include "tests/unit/harness.h"

static unsigned char memory[WIRE_BATCH_PAYLOAD];

static const struct batch_place place = { .epoch = 3, .stream = 5, .seq = 70, .bytes = 123456 };
enum { ROUND = 9 };

static int judge(const struct batch_frame *frame, bool lz4, char error[BATCH_ERROR])
{
	int r = batch_check_head(&frame->head, &place, ROUND, error);

	return r ? r : batch_check_frame(frame, lz4, error);
}

/* As a liar would who can count: the check over head and extents is right. */
static void rehash(struct batch_frame *frame)
{
	frame->head.check = 0;
	frame->head.check = XXH3_64bits(frame, sizeof(frame->head) + frame->head.extents * sizeof(struct extent));
}

static uint64_t build(struct batch *batch, struct batch_frame *frame, enum batch_type type)
{
	struct batch_place at = place;
	const struct state_piece piece = { .offset = 0, .total = 100, .bytes = 100, .section = 2 };
	uint64_t size;

	memset(frame, 0, sizeof(*frame));
	batch->frame = frame;
	batch_reset(batch, ROUND);
	if (type == BATCH_PAGES) {
		batch_add_raw(batch, 1, 510, 2, memory);
		batch_add_zero(batch, 1, 512, 512);
		batch_add_lz4(batch, 1, 1024, 16, memory + 8192, 5000);
	} else if (type == BATCH_STATE) {
		batch_set_state(batch, &piece, memory);
	}
	size = batch_seal(batch, type, &at);
	CU_ASSERT_EQUAL(at.seq, place.seq + 1);
	CU_ASSERT_EQUAL(at.bytes, place.bytes + size);
	return size;
}

static void what_is_built_is_accepted(void)
{
	static const enum batch_type types[] = { BATCH_PAGES, BATCH_STATE, BATCH_MARK };
	struct batch_frame frame;
	struct batch batch;
	char error[BATCH_ERROR];

	for (int i = 0; i < 3; i++) {
		uint64_t size = build(&batch, &frame, types[i]), sum = 0;

		for (int k = 0; k < batch.iovs; k++)
			sum += batch.iov[k].iov_len;
		CU_ASSERT_EQUAL(sum, size);
		CU_ASSERT_EQUAL(judge(&frame, true, error), 0);
		CU_ASSERT_EQUAL(frame.head.flags, types[i] == BATCH_STATE ? BATCH_PAYLOAD_CHECK : 0);
		CU_ASSERT_EQUAL(batch_check_payload(&frame, memory, error), 0);
	}
}

static void runs_coalesce(void)
{
	struct batch_frame frame;
	struct batch batch = { .frame = &frame };

	batch_reset(&batch, ROUND);
	/* One extent and one iovec... */
	for (unsigned i = 0; i < 8; i++)
		batch_add_raw(&batch, 0, 504 + i, 1, memory + i * WIRE_PAGE);
	CU_ASSERT(batch.extents == 1 && frame.extents[0].count == 8 && frame.extents[0].bytes == 8 * WIRE_PAGE &&
		  batch.iovs == 2);
	/* ...the next granule: one more extent, the same iovec. */
	batch_add_raw(&batch, 0, 512, 1, memory + 8 * WIRE_PAGE);
	CU_ASSERT(batch.extents == 2 && batch.iovs == 2 && batch.iov[1].iov_len == 9 * WIRE_PAGE);
	/* Another region, another encoding, a gap, a neighbour from below: all new. */
	batch_add_raw(&batch, 1, 513, 1, memory);
	batch_add_zero(&batch, 1, 514, 1);
	batch_add_zero(&batch, 1, 515, 1);
	CU_ASSERT(batch.extents == 4 && frame.extents[3].count == 2);
	batch_add_zero(&batch, 1, 517, 1);
	batch_add_zero(&batch, 1, 516, 1);
	CU_ASSERT_EQUAL(batch.extents, 6);
	/* lz4 blocks never merge. */
	batch_add_lz4(&batch, 1, 600, 1, memory, 10);
	batch_add_lz4(&batch, 1, 601, 1, memory + 10, 10);
	CU_ASSERT_EQUAL(batch.extents, 8);
	CU_ASSERT_EQUAL(batch.pages, 8 + 1 + 1 + 2 + 2 + 2);
	CU_ASSERT_EQUAL(batch.payload, 10 * WIRE_PAGE + 20);
}

static void room_ends_at_the_limits(void)
{
	struct batch_frame frame;
	struct batch batch = { .frame = &frame };
	char error[BATCH_ERROR];
	struct batch_place at = place;

	batch_reset(&batch, ROUND);
	for (unsigned i = 0; i < WIRE_BATCH_EXTENTS; i++) {
		CU_ASSERT_FATAL(batch_has_room(&batch, 0));
		batch_add_zero(&batch, 0, i * 2, 1);
	}
	CU_ASSERT(!batch_has_room(&batch, 0));
	batch_seal(&batch, BATCH_PAGES, &at);
	CU_ASSERT_EQUAL(judge(&frame, false, error), 0);
	batch_reset(&batch, ROUND);
	batch_add_raw(&batch, 0, 0, 127, memory);
	CU_ASSERT(batch_has_room(&batch, WIRE_PAGE) && !batch_has_room(&batch, WIRE_PAGE + 1));
	batch_add_raw(&batch, 0, 127, 1, memory);
	CU_ASSERT(batch_has_room(&batch, 0) && !batch_has_room(&batch, 1));
}

/* A field that is not as it should be, and a word of what is said about it. */
struct lie {
	const char *says;
	void (*tell)(struct batch_frame *frame);
	enum batch_type type;
};

#define LIE(name, statement)                    \
	static void name(struct batch_frame *f) \
	{                                       \
		statement;                      \
	}

LIE(l_magic, f->head.magic ^= 1)
LIE(l_type, f->head.type = 4)
LIE(l_type0, f->head.type = 0)
LIE(l_flags, f->head.flags |= 2)
LIE(l_reserved, f->head.reserved = 1)
LIE(l_epoch, f->head.epoch--)
LIE(l_stream, f->head.stream = 0)
LIE(l_seq, f->head.seq--)
LIE(l_seq_later, f->head.seq++)
LIE(l_bytes, f->head.bytes += 1)
LIE(l_round, f->head.round++)
LIE(l_round_old, f->head.round--)
LIE(l_no_extents, f->head.extents = 0)
LIE(l_extents, f->head.extents = WIRE_BATCH_EXTENTS + 1)
LIE(l_extents_max, f->head.extents = UINT16_MAX)
LIE(l_payload, f->head.payload = WIRE_BATCH_PAYLOAD + 1)
LIE(l_payload_max, f->head.payload = UINT32_MAX)
LIE(l_payload_less, f->head.payload--)
LIE(l_payload_check, f->head.payload_check = 1)
LIE(l_false_flag, f->head.flags = BATCH_PAYLOAD_CHECK)
LIE(l_missing_flag, f->head.flags = 0)
LIE(l_two_pieces, f->head.extents = 2)
LIE(l_e_flags, f->extents[0].flags = 1)
LIE(l_e_reserved, f->extents[2].reserved = 1)
LIE(l_e_count0, f->extents[1].count = 0)
LIE(l_e_count, f->extents[1].count = 513)
LIE(l_e_count_max, f->extents[1].count = UINT32_MAX)
LIE(l_e_granule, f->extents[1].page++)
LIE(l_e_page, f->extents[1].page = UINT64_MAX & ~511ull)
LIE(l_e_zero_bytes, f->extents[1].bytes = 1)
LIE(l_e_raw_bytes, f->extents[0].bytes--)
LIE(l_e_lz4_bytes, f->extents[2].bytes = 16 * WIRE_PAGE)
LIE(l_e_lz4_none, f->extents[2].bytes = 0)
LIE(l_e_encoding, f->extents[2].encoding = 3)
LIE(l_s_reserved, f->piece.reserved = 1)
LIE(l_s_bytes, f->piece.bytes = 99)
LIE(l_s_empty, (f->piece.bytes = 0, f->head.payload = 0))
LIE(l_s_section, f->piece.section = WIRE_SECTIONS)
LIE(l_s_grid, f->piece.offset = 1)
LIE(l_s_beyond, f->piece.offset = 0xffffffffffff8000 * 16)
LIE(l_s_short, f->piece.total = 101)
LIE(l_s_long, f->piece.total = 99)
LIE(l_m_payload, f->head.payload = 1)
LIE(l_m_extents, f->head.extents = 1)

static const struct lie lies[] = {
	{ "no batch begins", l_magic, BATCH_PAGES },
	{ "type 4", l_type, BATCH_PAGES },
	{ "type 0", l_type0, BATCH_MARK },
	{ "reserved", l_flags, BATCH_PAGES },
	{ "reserved", l_reserved, BATCH_MARK },
	{ "epoch 2 instead of 3", l_epoch, BATCH_PAGES },
	{ "stream 0", l_stream, BATCH_PAGES },
	{ "batch 69 where 70 is due", l_seq, BATCH_PAGES },
	{ "batch 71 where 70 is due", l_seq_later, BATCH_PAGES },
	{ "byte count 123457", l_bytes, BATCH_MARK },
	{ "round 10 where 9 is due", l_round, BATCH_PAGES },
	{ "round 8 where 9 is due", l_round_old, BATCH_PAGES },
	{ "0 extents", l_no_extents, BATCH_PAGES },
	{ "513 extents", l_extents, BATCH_PAGES },
	{ "65535 extents", l_extents_max, BATCH_PAGES },
	{ "payload of 524289", l_payload, BATCH_PAGES },
	{ "payload of 4294967295", l_payload_max, BATCH_STATE },
	{ "add up", l_payload_less, BATCH_PAGES },
	{ "reserved", l_payload_check, BATCH_PAGES },
	{ "torn", l_false_flag, BATCH_PAGES },
	{ "missing", l_missing_flag, BATCH_STATE },
	{ "2 extents", l_two_pieces, BATCH_STATE },
	{ "reserved", l_e_flags, BATCH_PAGES },
	{ "reserved", l_e_reserved, BATCH_PAGES },
	{ "granule", l_e_count0, BATCH_PAGES },
	{ "granule", l_e_count, BATCH_PAGES },
	{ "granule", l_e_count_max, BATCH_PAGES },
	{ "granule", l_e_granule, BATCH_PAGES },
	{ "beyond any memory", l_e_page, BATCH_PAGES },
	{ "zero extent", l_e_zero_bytes, BATCH_PAGES },
	{ "raw extent", l_e_raw_bytes, BATCH_PAGES },
	{ "lz4 extent", l_e_lz4_bytes, BATCH_PAGES },
	{ "lz4 extent", l_e_lz4_none, BATCH_PAGES },
	{ "encoding 3", l_e_encoding, BATCH_PAGES },
	{ "reserved", l_s_reserved, BATCH_STATE },
	{ "99 bytes", l_s_bytes, BATCH_STATE },
	{ "0 bytes", l_s_empty, BATCH_STATE },
	{ "section 64", l_s_section, BATCH_STATE },
	{ "grid", l_s_grid, BATCH_STATE },
	{ "grid", l_s_beyond, BATCH_STATE },
	{ "grid", l_s_short, BATCH_STATE },
	{ "grid", l_s_long, BATCH_STATE },
	{ "payload of 1", l_m_payload, BATCH_MARK },
	{ "1 extents", l_m_extents, BATCH_MARK },
};

static void every_lie_is_named(void)
{
	struct batch_frame frame;
	struct batch batch;
	char error[BATCH_ERROR];

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		build(&batch, &frame, lies[i].type);
		lies[i].tell(&frame);
		if (frame.head.extents <= WIRE_BATCH_EXTENTS)
			rehash(&frame);
		strcpy(error, "(nothing)");
		if (judge(&frame, true, error) != -EBADMSG || !strstr(error, lies[i].says)) {
			printf("expected \"%s\", got \"%s\"\n", lies[i].says, error);
			CU_FAIL("a lie was not named");
		}
	}
	build(&batch, &frame, BATCH_PAGES);
	CU_ASSERT_EQUAL(judge(&frame, false, error), -EBADMSG);
	CU_ASSERT(strstr(error, "not agreed") != NULL);
}

static void every_flipped_bit_is_noticed(void)
{
	static const enum batch_type types[] = { BATCH_PAGES, BATCH_STATE, BATCH_MARK };
	struct batch_frame frame;
	struct batch batch;
	char error[BATCH_ERROR];

	for (int t = 0; t < 3; t++) {
		size_t size;

		build(&batch, &frame, types[t]);
		size = batch_frame_size(&frame.head);
		for (size_t i = 0; i < size * 8; i++) {
			((unsigned char *)&frame)[i / 8] ^= (unsigned char)(1u << i % 8);
			if (judge(&frame, true, error) != -EBADMSG)
				CU_FAIL("a flipped bit passed");
			((unsigned char *)&frame)[i / 8] ^= (unsigned char)(1u << i % 8);
		}
	}
	build(&batch, &frame, BATCH_STATE);
	memory[99] ^= 1;
	CU_ASSERT_EQUAL(batch_check_payload(&frame, memory, error), -EBADMSG);
	memory[99] ^= 1;
}

static void greetings(void)
{
	struct greeting g = { .kind = GREETING_BULK, .stream = 3, .epoch = 1, .token = { 1, 2, 3 } };
	char error[120];

	greeting_seal(&g);
	CU_ASSERT_EQUAL(greeting_check(&g, error, sizeof(error)), 0);
	for (size_t i = 0; i < sizeof(g) * 8; i++) {
		((unsigned char *)&g)[i / 8] ^= (unsigned char)(1u << i % 8);
		CU_ASSERT_NOT_EQUAL(greeting_check(&g, error, sizeof(error)), 0);
		((unsigned char *)&g)[i / 8] ^= (unsigned char)(1u << i % 8);
	}
	g.version = 2;
	CU_ASSERT_EQUAL(greeting_check(&g, error, sizeof(error)), -EPROTONOSUPPORT);
	CU_ASSERT(strstr(error, "version 2") != NULL);
	g.kind = 4;
	greeting_seal(&g);
	CU_ASSERT_EQUAL(greeting_check(&g, error, sizeof(error)), -EBADMSG);
	CU_ASSERT(strstr(error, "kind 4") != NULL);
}

SUITE("wire", TEST(what_is_built_is_accepted), TEST(runs_coalesce), TEST(room_ends_at_the_limits), TEST(every_lie_is_named),
      TEST(every_flipped_bit_is_noticed), TEST(greetings))
