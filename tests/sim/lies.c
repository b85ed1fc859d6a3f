/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lies.c: see lies.h. Layouts are those of docs/protocol.md. */
#include "tests/sim/lies.h"

#include <string.h>
#include <xxhash.h>

#include "core/decide/message.h"
#include "tests/sim/embedder.h"

enum { REGION_BYTES = SLUICE_NAME_MAX + 12, SECTION_BYTES = SLUICE_NAME_MAX + 12, FEATURE_BYTES = MESSAGE_FEATURE_NAME + 3 };
enum { HELLO_FEATURES = 24, SWITCHOVER_COUNT = 4, UNKNOWN_TYPE = 99 };

#define MOST UINT64_MAX

/* Numbers at a fixed place. */
static const struct field {
	uint8_t type, at, bytes, n;
	enum lie lie;
	uint64_t values[3];
} fields[] = {
	{ MESSAGE_HELLO, 0, 2, 1, LIE_MATTERS, { MESSAGE_VERSION + 1 } },
	{ MESSAGE_HELLO, 4, 4, 3, LIE_MATTERS, { 0, 2 * SLUICE_PAGE_SIZE, MOST } },
	{ MESSAGE_HELLO, 8, 4, 3, LIE_MATTERS, { 0, MESSAGE_DEAD_PEER_MIN_MS - 1, MOST } },
	{ MESSAGE_HELLO, 12, 2, 3, LIE_MATTERS, { 0, SLUICE_MAX_STREAMS + 1, MOST } },
	{ MESSAGE_HELLO, 24, 4, 2, LIE_SHOWS, { MESSAGE_FEATURES + 1, MOST } },
	{ MESSAGE_WELCOME, 0, 2, 2, LIE_MATTERS, { 0, MESSAGE_VERSION + 1 } },
	{ MESSAGE_WELCOME, 2, 4, 3, LIE_MATTERS, { 0, MESSAGE_DEAD_PEER_MIN_MS - 1, MOST } },
	{ MESSAGE_WELCOME, 10, 2, 3, LIE_MATTERS, { 0, SLUICE_MAX_STREAMS + 1, MOST } },
	{ MESSAGE_WELCOME, 12, 2, 2, LIE_MATTERS, { 1, MOST } },
	{ MESSAGE_WELCOME, 54, 4, 2, LIE_SHOWS, { MESSAGE_FEATURES + 1, MOST } },
	{ MESSAGE_STREAMS_UP, 0, 4, 3, LIE_MATTERS, { 0, SLUICE_MAX_STREAMS + 1, MOST } },
	{ MESSAGE_LANDED, 4, 4, 2, LIE_SHOWS, { SLUICE_MAX_STREAMS + 1, MOST } },
	{ MESSAGE_LANDED, 16, 8, 1, LIE_HARMLESS, { MOST / 128 } },
	{ MESSAGE_SWITCHOVER, SWITCHOVER_COUNT, 4, 2, LIE_SHOWS, { SLUICE_MAX_SECTIONS + 1, MOST } },
	{ MESSAGE_READY, 4, 8, 2, LIE_HARMLESS, { 0, MOST } },
	{ MESSAGE_GO, 4, 8, 3, LIE_HARMLESS, { 0, MOST / 4, MOST } },
	{ MESSAGE_RUNNING, 4, 8, 3, LIE_HARMLESS, { 0, MOST / 4, MOST } },
	{ MESSAGE_DONE, 4, 8, 2, LIE_HARMLESS, { 0, MOST } },
	{ MESSAGE_EMBEDDER, 0, 4, 2, LIE_SHOWS, { SLUICE_MESSAGE_MAX + 1, MOST } },
	{ MESSAGE_HEARTBEAT, 8, 8, 2, LIE_HARMLESS, { 1, MOST } },
	{ MESSAGE_HEARTBEAT, 16, 8, 1, LIE_HARMLESS, { MOST } },
	{ MESSAGE_HEARTBEAT, 24, 8, 1, LIE_HARMLESS, { MOST } },
};

static uint32_t get32(const unsigned char *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof v);
	return v;
}

static void put32(unsigned char *at, uint32_t v)
{
	memcpy(at, &v, sizeof v);
}

void lies_seal(unsigned char *frame, uint32_t length)
{
	put32(frame + 8, length - MESSAGE_HEAD);
	put32(frame + 20, (uint32_t)XXH3_64bits_withSeed(frame + MESSAGE_HEAD, length - MESSAGE_HEAD, XXH3_64bits(frame, 20)));
}

void lies_renumber(unsigned char *frame, uint32_t length, uint32_t by)
{
	put32(frame + 16, get32(frame + 16) + by);
	lies_seal(frame, length);
}

/* ---------------------------------------------------------------- what is said */

/* A gap of zeroes, `at` an offset in the payload. */
static uint32_t widen(unsigned char *frame, uint32_t length, uint32_t at, uint32_t by)
{
	unsigned char *hole = frame + MESSAGE_HEAD + at;

	memmove(hole + by, hole, length - MESSAGE_HEAD - at);
	memset(hole, 0, by);
	return length + by;
}

static uint32_t lie_of_field(unsigned char *frame, uint32_t length, uint32_t type, enum lie *ret)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < sizeof fields / sizeof *fields; i++)
		n += fields[i].type == type;
	uint64_t k = sim_below(n);
	for (uint32_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		const struct field *f = &fields[i];
		if (f->type != type || k--)
			continue;
		memcpy(frame + MESSAGE_HEAD + f->at, &f->values[sim_below(f->n)], f->bytes);
		*ret = f->lie;
		break;
	}
	return length;
}

/* One more entry of a table than there are, or than there may be: a copy of the first, called otherwise. */
static uint32_t add_entries(unsigned char *frame, uint32_t length, uint32_t count_at, uint32_t bytes, uint32_t n)
{
	unsigned char *p = frame + MESSAGE_HEAD + count_at;
	uint32_t has = get32(p);

	put32(p, has + n);
	length = widen(frame, length, count_at + 4 + has * bytes, n * bytes);
	for (uint32_t i = has; i < has + n; i++) {
		memcpy(p + 4 + i * bytes, p + 4, bytes);
		p[4 + i * bytes] = (unsigned char)('A' + i % 26);
	}
	return length;
}

/* A feature that nobody knows. */
static uint32_t add_feature(unsigned char *frame, uint32_t length, bool required)
{
	unsigned char *p = frame + MESSAGE_HEAD + HELLO_FEATURES;

	put32(p, get32(p) + 1);
	length = widen(frame, length, HELLO_FEATURES + 4, FEATURE_BYTES);
	p[4] = 'x';
	p[4 + MESSAGE_FEATURE_NAME] = required;
	return length;
}

static uint32_t lie_of_offer(unsigned char *frame, uint32_t length, enum lie *ret)
{
	uint32_t at = HELLO_FEATURES + 4 + get32(frame + MESSAGE_HEAD + HELLO_FEATURES) * FEATURE_BYTES;
	uint32_t has = get32(frame + MESSAGE_HEAD + at);
	unsigned char *region = frame + MESSAGE_HEAD + at + 4 + sim_below(has) * REGION_BYTES;

	*ret = LIE_MATTERS;
	switch (sim_below(8)) {
	case 0:
	case 1: put32(region + SLUICE_NAME_MAX, get32(region + SLUICE_NAME_MAX) + SLUICE_PAGE_SIZE); break;
	case 2: put32(region + SLUICE_NAME_MAX + 8, 2 * SLUICE_PAGE_SIZE); break;
	case 3: region[0] ^= 1; break;
	case 4: length = add_entries(frame, length, at, REGION_BYTES, 1); break;
	case 5: length = add_feature(frame, length, true); break;
	case 6:
		length = add_feature(frame, length, false);
		*ret = LIE_HARMLESS;
		break;
	default:
		*ret = LIE_SHOWS;
		if (sim_one_in(2))
			region[0] = sim_one_in(2) ? 0 : '\n';
		else
			length = add_entries(frame, length, at, REGION_BYTES, SLUICE_MAX_REGIONS + 1 - has);
		break;
	}
	return length;
}

/* Of device state: sections of which nothing comes, or not so much; names. */
static uint32_t lie_of_sections(unsigned char *frame, uint32_t length, enum lie *ret)
{
	uint32_t n = get32(frame + MESSAGE_HEAD + SWITCHOVER_COUNT);
	unsigned char *section = frame + MESSAGE_HEAD + SWITCHOVER_COUNT + 4 + (n ? sim_below(n) : 0) * SECTION_BYTES;

	*ret = LIE_MATTERS;
	if (!n || sim_one_in(2)) {
		put32(frame + MESSAGE_HEAD + SWITCHOVER_COUNT, n + 1);
		length = widen(frame, length, SWITCHOVER_COUNT + 4 + n * SECTION_BYTES, SECTION_BYTES);
		section = frame + MESSAGE_HEAD + SWITCHOVER_COUNT + 4 + n * SECTION_BYTES;
		section[0] = 'x';
		put32(section + SLUICE_NAME_MAX + 4, 1 + (uint32_t)sim_below(5000));
		put32(section + SLUICE_NAME_MAX + 8, sim_one_in(4)); /* 4 GiB more */
	} else if (sim_one_in(2)) {
		put32(section + SLUICE_NAME_MAX + 4, get32(section + SLUICE_NAME_MAX + 4) + 1);
	} else {
		section[0] = sim_one_in(2) ? 0 : '\n';
		*ret = LIE_SHOWS;
	}
	return length;
}

static bool has_text(uint32_t type, uint32_t length)
{
	return (type == MESSAGE_REFUSE || type == MESSAGE_NEVER || type == MESSAGE_CANCEL) && length > MESSAGE_HEAD + 16;
}

static uint32_t lie_of_word(unsigned char *frame, uint32_t length, enum lie *ret)
{
	static const uint32_t codes[] = { 0, 1, 0x80000000 };

	*ret = LIE_HARMLESS;
	switch (sim_below(3)) {
	case 0: put32(frame + MESSAGE_HEAD + 8, codes[sim_below(3)]); break;
	case 1: frame[MESSAGE_HEAD + 16 + sim_below(length - MESSAGE_HEAD - 16)] = '\033'; break;
	default: /* longer than any */
		length = widen(frame, length, length - MESSAGE_HEAD, MESSAGE_HEAD + 16 + SLUICE_ERROR_MAX - length);
		memset(frame + MESSAGE_HEAD + 16, 'x', SLUICE_ERROR_MAX);
		put32(frame + MESSAGE_HEAD + 12, SLUICE_ERROR_MAX);
		*ret = LIE_SHOWS;
		break;
	}
	return length;
}

/* Of a later version: who does not know it passes it by, or must not. */
static uint32_t lie_of_type(unsigned char *frame, uint32_t length, enum lie *ret)
{
	uint16_t type = UNKNOWN_TYPE, flags = sim_one_in(3) ? MESSAGE_REQUIRED : 0;

	memcpy(frame + 4, &type, sizeof type);
	memcpy(frame + 6, &flags, sizeof flags);
	*ret = flags ? LIE_SHOWS : LIE_HARMLESS;
	return length;
}

uint32_t lies_tell(unsigned char *frame, uint32_t length, enum lie *ret)
{
	uint16_t type;

	memcpy(&type, frame + 4, sizeof type);
	*ret = LIE_NONE;
	if (sim_one_in(8)) {
		length = widen(frame, length, length - MESSAGE_HEAD, 1);
		*ret = LIE_SHOWS;
	} else if (type == MESSAGE_HELLO && !sim_one_in(3)) {
		length = lie_of_offer(frame, length, ret);
	} else if (type == MESSAGE_SWITCHOVER && !sim_one_in(4)) {
		length = lie_of_sections(frame, length, ret);
	} else if (has_text(type, length)) {
		length = lie_of_word(frame, length, ret);
	} else if (type == MESSAGE_HEARTBEAT && sim_one_in(2)) {
		length = lie_of_type(frame, length, ret);
	} else {
		length = lie_of_field(frame, length, type, ret);
	}
	if (*ret)
		lies_seal(frame, length);
	return length;
}

/* ---------------------------------------------------------------- what comes of it */

static uint32_t were_read[2]; /* bit per type */

void lies_begin(enum sim_side side)
{
	were_read[side] = 0;
}

void lies_read(enum sim_side side, uint32_t type)
{
	were_read[side] |= 1u << type;
}

bool lies_were_read(enum sim_side side, uint32_t type)
{
	return were_read[side] & 1u << type;
}

/* Who believes a frame goes on with this. */
static uint32_t believed(const struct action *a)
{
	switch (a->type) {
	case ACTION_SEND: return a->message_type == MESSAGE_WELCOME ? MESSAGE_HELLO : 0;
	case ACTION_ADOPT: return MESSAGE_WELCOME;
	case ACTION_ARM: return MESSAGE_STREAMS_UP;
	case ACTION_REQUEST: return a->request == SLUICE_LOAD ? MESSAGE_SWITCHOVER : 0;
	default: return 0;
	}
}

void lies_step(enum sim_side side, const struct actions *out)
{
	for (uint32_t i = 0; were_read[side] && i < out->n; i++) {
		uint32_t type = believed(&out->list[i]);
		if (type && lies_were_read(side, type))
			sim_violation("Law 7: the %s goes on with %s, and that was a lie", embedder_names[side],
				      message_name(type));
	}
}
