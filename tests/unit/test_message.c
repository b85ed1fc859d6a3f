/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_message.c: every frame there and back with extreme values; every truncation and every damaged byte refused. Frames to
 * be decoded lie in heap blocks of exactly their size, so that ASan sees a read beyond. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/decide/message.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

static uint8_t frame[MESSAGE_HEAD + MESSAGE_PAYLOAD];
static struct message in, out;
static char error[SLUICE_ERROR_MAX];

static void name_it(char *name, size_t size, uint32_t i)
{
	memset(name, 'n', size - 1); /* as long as it may be */
	for (int at = 5; at >= 0; at--, i /= 10)
		name[at] = (char)('0' + i % 10);
}

static void fill_features(uint32_t n, struct message_feature *features)
{
	for (uint32_t i = 0; i < n; i++) {
		name_it(features[i].name, MESSAGE_FEATURE_NAME, i);
		features[i].required = i % 2;
		features[i].length = (uint16_t)(i % 3 ? i : MESSAGE_FEATURE_VALUE);
		memset(features[i].value, (int)i, features[i].length);
	}
}

/* A message of that type; `most`: as much of everything as the limits allow, else a little. */
static void fill(struct message *m, enum message_type type, bool most)
{
	memset(m, 0, sizeof *m);
	m->type = type;
	switch (type) {
	case MESSAGE_HELLO:
		m->u.hello.version_min = m->u.hello.version_max = UINT16_MAX;
		m->u.hello.page_size = m->u.hello.dead_peer_ms = UINT32_MAX;
		m->u.hello.streams = m->u.hello.urgent = UINT16_MAX;
		m->u.hello.session_id = UINT64_MAX;
		m->u.hello.n_features = most ? MESSAGE_FEATURES : 2;
		m->u.hello.n_regions = most ? SLUICE_MAX_REGIONS : 2;
		m->u.hello.cookie_length = most ? SLUICE_MESSAGE_MAX : 5;
		fill_features(m->u.hello.n_features, m->u.hello.features);
		for (uint32_t i = 0; i < m->u.hello.n_regions; i++) {
			name_it(m->u.hello.regions[i].name, SLUICE_NAME_MAX, i);
			m->u.hello.regions[i].size = UINT64_MAX - i;
			m->u.hello.regions[i].host_page_size = 1u << 30;
		}
		memset(m->u.hello.cookie, 0xa5, m->u.hello.cookie_length);
		break;
	case MESSAGE_WELCOME:
		m->u.welcome.version = UINT16_MAX;
		m->u.welcome.dead_peer_ms = m->u.welcome.epoch = UINT32_MAX;
		m->u.welcome.streams = m->u.welcome.urgent = UINT16_MAX;
		m->u.welcome.max_state = UINT64_MAX;
		memset(m->u.welcome.link_token, 0xff, MESSAGE_TOKEN);
		memset(m->u.welcome.stream_token, 0x7f, MESSAGE_TOKEN);
		m->u.welcome.n_features = most ? MESSAGE_FEATURES : 1;
		fill_features(m->u.welcome.n_features, m->u.welcome.features);
		m->u.welcome.n_regions = most ? SLUICE_MAX_REGIONS : 3;
		memset(m->u.welcome.fresh, 1, m->u.welcome.n_regions);
		break;
	case MESSAGE_REFUSE:
	case MESSAGE_NEVER:
	case MESSAGE_CANCEL:
		m->u.word.attempt = m->u.word.flags = UINT32_MAX;
		m->u.word.code = most ? -4095 : -1;
		memset(m->u.word.text, 'w', most ? SLUICE_ERROR_MAX - 1 : 3);
		break;
	case MESSAGE_STREAMS_UP: m->u.streams_up.streams = UINT32_MAX; break;
	case MESSAGE_HEARTBEAT:
		m->u.heartbeat.clock_ns = m->u.heartbeat.echo_ns = m->u.heartbeat.held_ns = m->u.heartbeat.delivered = UINT64_MAX;
		break;
	case MESSAGE_LANDED:
		m->u.landed.round = UINT32_MAX;
		m->u.landed.n = most ? SLUICE_MAX_STREAMS : 2;
		for (uint32_t i = 0; i < m->u.landed.n; i++) {
			m->u.landed.streams[i].batches = UINT64_MAX - i;
			m->u.landed.streams[i].bytes = UINT64_MAX / 2;
			m->u.landed.streams[i].state = STREAM_LANDING;
		}
		break;
	case MESSAGE_SWITCHOVER:
		m->u.switchover.round = UINT32_MAX;
		m->u.switchover.n = most ? SLUICE_MAX_SECTIONS : 2;
		for (uint32_t i = 0; i < m->u.switchover.n; i++) {
			name_it(m->u.switchover.sections[i].name, SLUICE_NAME_MAX, i);
			m->u.switchover.sections[i].version = UINT32_MAX;
			m->u.switchover.sections[i].length = UINT64_MAX;
		}
		break;
	case MESSAGE_READY:
	case MESSAGE_GO:
	case MESSAGE_RUNNING:
	case MESSAGE_DONE:
		m->u.handoff.attempt = UINT32_MAX;
		m->u.handoff.ns = UINT64_MAX;
		break;
	case MESSAGE_ANSWER:
		m->u.answer.epoch = most ? UINT32_MAX : 2;
		for (int i = 0; i < MESSAGE_TOKEN; i++)
			m->u.answer.stream_token[i] = (uint8_t)(most ? 0xff - i : i);
		break;
	case MESSAGE_EMBEDDER:
		m->u.embedder.length = most ? SLUICE_MESSAGE_MAX : 1;
		memset(m->u.embedder.bytes, 0x5a, m->u.embedder.length);
		break;
	default: break;
	}
}

/* As the sender would have made it, had it meant this payload. */
static void reseal(uint8_t *bytes, size_t length)
{
	uint32_t size = (uint32_t)(length - MESSAGE_HEAD), check;

	memcpy(bytes + 8, &size, sizeof size);
	check = (uint32_t)XXH3_64bits_withSeed(bytes + MESSAGE_HEAD, size, XXH3_64bits(bytes, MESSAGE_HEAD - 4));
	memcpy(bytes + 20, &check, sizeof check);
}

/* Read it as the link does: head, then exactly as many bytes as it says. The result of the first of both that refuses. */
static int receive(const uint8_t *bytes, size_t length)
{
	struct message_head head;
	error[0] = 0;
	int rc = message_read_head(bytes, &head, error);
	if (!rc) {
		uint8_t *block = malloc(MESSAGE_HEAD + head.length); /* what is missing of it came from the next frame */
		size_t n = length < MESSAGE_HEAD + head.length ? length : MESSAGE_HEAD + head.length;

		memset(block, 0x77, MESSAGE_HEAD + head.length);
		memcpy(block, bytes, n);
		memset(&out, 0, sizeof out);
		rc = message_decode(block, &head, &out, error);
		free(block);
	}
	if (rc == -EPROTO && !one_line(error))
		CU_FAIL("the error is not one line");
	return rc;
}

static void there_and_back(void)
{
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++)
		for (int most = 0; most < 2; most++) {
			struct message_head head;

			fill(&in, (enum message_type)type, most);
			int length = message_encode(&in, 0xfffffffe, 0xfffffffd, frame);
			CU_ASSERT_FATAL(length >= MESSAGE_HEAD);
			CU_ASSERT_EQUAL(message_read_head(frame, &head, error), 0);
			CU_ASSERT_EQUAL(head.type, type);
			CU_ASSERT_EQUAL(head.epoch, 0xfffffffe);
			CU_ASSERT_EQUAL(head.seq, 0xfffffffd);
			CU_ASSERT_EQUAL(head.length, (uint32_t)length - MESSAGE_HEAD);
			CU_ASSERT_EQUAL(receive(frame, (size_t)length), 0);
			CU_ASSERT(!memcmp(&in, &out, sizeof in));
			CU_ASSERT(strcmp(message_name((uint32_t)type), "unknown"));
		}
	CU_ASSERT_STRING_EQUAL(message_name(0), "unknown");
	CU_ASSERT_STRING_EQUAL(message_name(UINT32_MAX), "unknown");
}

/* Cut short: as it came from a wire that broke, and as a peer would send it that means it. */
static void truncations(void)
{
	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++)
		for (int most = 0; most < 2; most++) {
			fill(&in, (enum message_type)type, most);
			int length = message_encode(&in, 1, 2, frame);
			int stride = length > 4000 ? 61 : 1;
			uint8_t *block = malloc((size_t)length);

			for (int n = MESSAGE_HEAD; n < length; n += stride) {
				uint32_t size = (uint32_t)(n - MESSAGE_HEAD);

				memcpy(block, frame, (size_t)length);
				memcpy(block + 8, &size, sizeof size);
				if (receive(block, (size_t)n) != -EPROTO)
					CU_FAIL("cut short by the wire, and taken");
				reseal(block, (size_t)n);
				if (receive(block, (size_t)n) != -EPROTO)
					CU_FAIL("cut short by the sender, and taken");
			}
			free(block);
			/* And one byte too many. */
			frame[length] = 0;
			if (length < MESSAGE_HEAD + MESSAGE_PAYLOAD) {
				reseal(frame, (size_t)length + 1);
				CU_ASSERT_EQUAL(receive(frame, (size_t)length + 1), -EPROTO);
			}
		}
}

static void damaged_bytes(void)
{
	static const uint8_t damage[] = { 0x01, 0x80, 0xff };

	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++)
		for (int most = 0; most < 2; most++) {
			fill(&in, (enum message_type)type, most);
			int length = message_encode(&in, 1, 2, frame);
			int stride = length > 4000 ? 37 : 1;

			for (int at = 0; at < length; at += at < 600 ? 1 : stride)
				for (size_t d = 0; d < sizeof damage; d++) {
					frame[at] ^= damage[d];
					if (receive(frame, (size_t)length) != -EPROTO)
						CU_FAIL("a damaged byte was taken");
					frame[at] ^= damage[d];
				}
			CU_ASSERT_EQUAL(receive(frame, (size_t)length), 0);
		}
}

/* What was decoded is within its limits, so it can be coded again. */
static void sane(void)
{
	CU_ASSERT(out.type >= MESSAGE_HELLO && out.type < MESSAGE_TYPES);
	CU_ASSERT(message_encode(&out, 0, 0, frame) >= MESSAGE_HEAD);
	if (out.type == MESSAGE_HELLO)
		CU_ASSERT(out.u.hello.n_features <= MESSAGE_FEATURES && out.u.hello.n_regions <= SLUICE_MAX_REGIONS &&
			  out.u.hello.cookie_length <= SLUICE_MESSAGE_MAX);
	if (out.type == MESSAGE_WELCOME)
		CU_ASSERT(out.u.welcome.n_features <= MESSAGE_FEATURES && out.u.welcome.n_regions <= SLUICE_MAX_REGIONS);
	if (out.type == MESSAGE_LANDED)
		CU_ASSERT(out.u.landed.n <= SLUICE_MAX_STREAMS);
	if (out.type == MESSAGE_SWITCHOVER)
		CU_ASSERT(out.u.switchover.n <= SLUICE_MAX_SECTIONS);
	if (out.type == MESSAGE_REFUSE || out.type == MESSAGE_NEVER || out.type == MESSAGE_CANCEL)
		CU_ASSERT(out.u.word.code < 0 && out.u.word.code >= -4095 &&
			  strnlen(out.u.word.text, SLUICE_ERROR_MAX) < SLUICE_ERROR_MAX);
}

/* A peer that seals whatever it likes. */
static void hostile_payloads(void)
{
	uint64_t seed = 0x9e3779b97f4a7c15u;
	unsigned taken = 0;

	for (int type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++)
		for (int n = 0; n < 1500; n++) {
			fill(&in, (enum message_type)type, false);
			int length = message_encode(&in, 1, 2, frame);
			uint8_t *block = malloc((size_t)length);

			memcpy(block, frame, (size_t)length);
			for (int hits = 0; hits < 1 + n % 3 && length > MESSAGE_HEAD; hits++) {
				seed = seed * 6364136223846793005u + 1442695040888963407u;
				block[MESSAGE_HEAD + (seed >> 33) % (uint64_t)(length - MESSAGE_HEAD)] = (uint8_t)(seed >> 25);
			}
			reseal(block, (size_t)length);
			int rc = receive(block, (size_t)length);
			CU_ASSERT(rc == 0 || rc == -EPROTO);
			if (!rc) {
				taken++;
				sane();
			}
			free(block);
		}
	CU_ASSERT(taken > 1000);
}

static void counts_beyond_limits(void)
{
	/* Where the first count of a type lies, and what it may be at most. */
	static const struct {
		enum message_type type;
		int at;
		uint32_t most;
	} cases[] = {
		{ MESSAGE_HELLO, 24, MESSAGE_FEATURES },        { MESSAGE_WELCOME, 54, MESSAGE_FEATURES },
		{ MESSAGE_REFUSE, 12, SLUICE_ERROR_MAX - 1 },   { MESSAGE_NEVER, 12, SLUICE_ERROR_MAX - 1 },
		{ MESSAGE_CANCEL, 12, SLUICE_ERROR_MAX - 1 },   { MESSAGE_LANDED, 4, SLUICE_MAX_STREAMS },
		{ MESSAGE_SWITCHOVER, 4, SLUICE_MAX_SECTIONS }, { MESSAGE_EMBEDDER, 0, SLUICE_MESSAGE_MAX },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const uint32_t values[] = { cases[i].most + 1, cases[i].most * 2, INT32_MAX, UINT32_MAX };
		uint32_t count;

		fill(&in, cases[i].type, true);
		int length = message_encode(&in, 0, 0, frame);
		memcpy(&count, frame + MESSAGE_HEAD + cases[i].at, sizeof count);
		CU_ASSERT_EQUAL(count, cases[i].most); /* else this test looks in the wrong place */
		for (int v = 0; v < 4; v++)
			for (int padded = 0; padded < 2; padded++) {
				size_t size = padded ? sizeof frame : (size_t)length;

				memcpy(frame + MESSAGE_HEAD + cases[i].at, &values[v], sizeof count);
				reseal(frame, size);
				CU_ASSERT_EQUAL(receive(frame, size), -EPROTO);
			}
	}
	/* A feature's value that is longer than there is room for. */
	fill(&in, MESSAGE_HELLO, false);
	message_encode(&in, 0, 0, frame);
	uint16_t long_value = MESSAGE_FEATURE_VALUE + 1;
	memcpy(frame + MESSAGE_HEAD + 28 + MESSAGE_FEATURE_NAME + 1, &long_value, sizeof long_value);
	reseal(frame, sizeof frame);
	CU_ASSERT_EQUAL(receive(frame, sizeof frame), -EPROTO);
	/* A frame that is longer than frames are. */
	uint32_t length = MESSAGE_PAYLOAD + 1;
	memcpy(frame + 8, &length, sizeof length);
	struct message_head head;
	CU_ASSERT_EQUAL(message_read_head(frame, &head, error), -EPROTO);
	length = UINT32_MAX;
	memcpy(frame + 8, &length, sizeof length);
	CU_ASSERT_EQUAL(message_read_head(frame, &head, error), -EPROTO);
}

/* What every version is to agree on: the place of each byte. */
static void answer_as_it_is_written(void)
{
	static const uint8_t payload[] = { 0x04, 0x03, 0x02, 0x01, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15,
					   0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f };
	struct message_head head;

	memset(&in, 0, sizeof in);
	in.type = MESSAGE_ANSWER;
	in.u.answer.epoch = 0x01020304;
	for (int i = 0; i < MESSAGE_TOKEN; i++)
		in.u.answer.stream_token[i] = (uint8_t)(0x10 + i);
	CU_ASSERT_EQUAL(message_encode(&in, 0, 0, frame), (int)(MESSAGE_HEAD + sizeof payload));
	CU_ASSERT(!memcmp(frame + MESSAGE_HEAD, payload, sizeof payload));
	CU_ASSERT_EQUAL(message_read_head(frame, &head, error), 0);
	CU_ASSERT_EQUAL(head.type, 16);
	CU_ASSERT(head.flags & MESSAGE_REQUIRED); /* who does not know it cannot go on without */
	CU_ASSERT_STRING_EQUAL(message_name(16), "ANSWER");
	/* Nothing missing, nothing more, and any epoch and token are as good as another. */
	for (size_t size = 0; size < 64; size++) {
		memset(frame + MESSAGE_HEAD, (int)size, 64);
		reseal(frame, MESSAGE_HEAD + size);
		CU_ASSERT_EQUAL(receive(frame, MESSAGE_HEAD + size), size == sizeof payload ? 0 : -EPROTO);
	}
}

static int with_name(const char *bytes, size_t n)
{
	fill(&in, MESSAGE_SWITCHOVER, false);
	int length = message_encode(&in, 0, 0, frame);
	memset(frame + MESSAGE_HEAD + 8, 0, SLUICE_NAME_MAX);
	memcpy(frame + MESSAGE_HEAD + 8, bytes, n);
	reseal(frame, (size_t)length);
	return receive(frame, (size_t)length);
}

static void names(void)
{
	char whole[SLUICE_NAME_MAX];

	memset(whole, 'a', sizeof whole);
	CU_ASSERT_EQUAL(with_name(whole, SLUICE_NAME_MAX - 1), 0);
	CU_ASSERT_EQUAL(with_name(whole, SLUICE_NAME_MAX), -EPROTO); /* no NUL */
	CU_ASSERT_EQUAL(with_name("", 0), -EPROTO);
	CU_ASSERT_EQUAL(with_name("a\nb", 3), -EPROTO);
	CU_ASSERT_EQUAL(with_name("a\x1b[2J", 5), -EPROTO);
	CU_ASSERT_EQUAL(with_name("a\x7f", 2), -EPROTO);
	CU_ASSERT_EQUAL(with_name("a\xc2\x9b", 3), -EPROTO); /* CSI as one character */
	CU_ASSERT_EQUAL(with_name("a\x9b", 2), -EPROTO);
	CU_ASSERT_EQUAL(with_name("\xc3\xa4", 2), 0);
	CU_ASSERT_EQUAL(with_name("\xc3", 1), -EPROTO);
}

static const char *with_text(const char *text, size_t n)
{
	fill(&in, MESSAGE_CANCEL, false);
	memset(in.u.word.text, 'w', n);
	int length = message_encode(&in, 0, 0, frame);
	memcpy(frame + MESSAGE_HEAD + 16, text, n);
	reseal(frame, (size_t)length);
	CU_ASSERT_EQUAL(receive(frame, (size_t)length), 0);
	return out.u.word.text;
}

static void texts_are_made_printable(void)
{
	CU_ASSERT_STRING_EQUAL(with_text("a\nb\tc\x1b[31m\x7f", 11), "a?b?c?[31m?");
	CU_ASSERT_STRING_EQUAL(with_text("a\0b", 3), "a?b");
	CU_ASSERT_STRING_EQUAL(with_text("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80", 15),
			       "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
	/* Control characters that UTF-8 hides: NEL, CSI; bytes that are no UTF-8: JSON would choke on them. */
	CU_ASSERT_STRING_EQUAL(with_text("a\xc2\x85\xc2\x9bz", 6), "a????z");
	CU_ASSERT_STRING_EQUAL(with_text("\x9b\xff\xc0\xaf\xe2\x82", 6), "??????");
	CU_ASSERT_STRING_EQUAL(with_text("\xed\xa0\x80.\xf4\x90\x80\x80.\xe0\x80\x8a", 12), "???.????.???");
}

static void codes_are_errors(void)
{
	static const int32_t codes[] = { 0, 1, 5, INT32_MAX, INT32_MIN, -4096 };

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		fill(&in, MESSAGE_NEVER, false);
		in.u.word.code = codes[i];
		int length = message_encode(&in, 0, 0, frame);
		CU_ASSERT_EQUAL(receive(frame, (size_t)length), 0);
		CU_ASSERT_EQUAL(out.u.word.code, -EPROTO);
	}
}

static void unknown_types(void)
{
	static const uint16_t types[] = { 0, MESSAGE_TYPES, 32, 43, 0x7fff, 0xffff };

	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		for (uint16_t flags = 0; flags < 4; flags++) {
			fill(&in, MESSAGE_BYE, false);
			message_encode(&in, 0, 0, frame);
			memcpy(frame + 4, &types[i], sizeof types[i]);
			memcpy(frame + 6, &flags, sizeof flags);
			memset(frame + MESSAGE_HEAD, 'x', 100);
			reseal(frame, MESSAGE_HEAD + 100);
			CU_ASSERT_EQUAL(receive(frame, MESSAGE_HEAD + 100), flags & MESSAGE_REQUIRED ? -EPROTO : -ENOMSG);
			if (flags & MESSAGE_REQUIRED)
				CU_ASSERT_PTR_NOT_NULL(strstr(error, "version"));
		}
}

static void what_it_looks_like(void)
{
	static const struct {
		const char *bytes, *what;
	} cases[] = {
		{ "HTTP/1.1 400 Bad Request\r\n", "HTTP" },
		{ "SSH-2.0-OpenSSH_9.2p1 Debian", "SSH" },
		{ "\x15\x03\x03\x00\x02\x02\x46 and what follows it is not", "TLS" },
		{ "220 mail.example ESMTP Postfix\r\n", "text" },
		{ "\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef",
		  "something else" },
	};
	struct message_head head;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t *bytes = malloc(MESSAGE_HEAD);

		memcpy(bytes, cases[i].bytes, MESSAGE_HEAD);
		CU_ASSERT_EQUAL(message_read_head(bytes, &head, error), -EPROTO);
		CU_ASSERT_PTR_NOT_NULL(strstr(error, cases[i].what));
		CU_ASSERT(one_line(error));
		free(bytes);
	}
	uint8_t nothing;
	CU_ASSERT_STRING_EQUAL(message_looks_like(&nothing, 0), "something else");
}

/* A length that no frame of that type has shows before anything of the frame is waited for. */
static void lengths_have_bounds_by_type(void)
{
	static struct message m;
	struct message_head head;
	char error[SLUICE_ERROR_MAX];

	for (uint32_t type = MESSAGE_HELLO; type < MESSAGE_TYPES; type++) {
		memset(&m, 0, sizeof m);
		m.type = (enum message_type)type;
		int length = message_encode(&m, 1, 2, frame);
		CU_ASSERT_FATAL(length >= MESSAGE_HEAD);
		CU_ASSERT_EQUAL(message_read_head(frame, &head, error), 0); /* the least that it can be */
		for (int damage = 0; damage < 3; damage++) {
			uint32_t wrong = damage == 0 ? MESSAGE_PAYLOAD : damage == 1 ? head.length - 1 : UINT32_MAX;
			uint8_t copy[MESSAGE_HEAD];
			memcpy(copy, frame, sizeof copy);
			memcpy(copy + 8, &wrong, sizeof wrong);
			CU_ASSERT_EQUAL(message_read_head(copy, &head, error), -EPROTO);
			CU_ASSERT_EQUAL(message_read_head(frame, &head, error), 0);
		}
	}
}

/* A connection that ended early: a frame of ours that was cut is not taken for another protocol ("SLNK" is text, too). */
static void a_cut_frame_is_ours(void)
{
	struct message m = { .type = MESSAGE_BYE };
	uint8_t frame[MESSAGE_HEAD + 64], other[4];

	CU_ASSERT(message_encode(&m, 1, 0, frame) >= MESSAGE_HEAD);
	for (size_t n = 1; n < MESSAGE_HEAD; n++)
		CU_ASSERT(message_begins(frame, n));
	for (size_t at = 0; at < sizeof other; at++) {
		memcpy(other, frame, sizeof other);
		other[at] ^= 0x20;
		CU_ASSERT(!message_begins(other, sizeof other));
	}
	CU_ASSERT(!message_begins((const uint8_t *)"SSH-", 4));
}

SUITE("message", TEST(there_and_back), TEST(truncations), TEST(damaged_bytes), TEST(hostile_payloads), TEST(counts_beyond_limits),
      TEST(answer_as_it_is_written), TEST(names), TEST(texts_are_made_printable), TEST(codes_are_errors), TEST(unknown_types),
      TEST(what_it_looks_like), TEST(a_cut_frame_is_ours), TEST(lengths_have_bounds_by_type))
