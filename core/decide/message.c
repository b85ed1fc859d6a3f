/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* message.c: coding and checking of the link's frames. */
#include "core/decide/message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* A bounded walk over bytes, for writing and for reading. `bad` sticks: checked once at the end. */
struct walk {
	uint8_t *at, *end;
	bool bad;
};

static void put(struct walk *w, const void *bytes, size_t n)
{
	if (w->bad || (size_t)(w->end - w->at) < n) {
		w->bad = true;
		return;
	}
	memcpy(w->at, bytes, n);
	w->at += n;
}

static void put8(struct walk *w, uint8_t v)
{
	put(w, &v, sizeof v);
}
static void put16(struct walk *w, uint16_t v)
{
	put(w, &v, sizeof v);
}
static void put32(struct walk *w, uint32_t v)
{
	put(w, &v, sizeof v);
}
static void put64(struct walk *w, uint64_t v)
{
	put(w, &v, sizeof v);
}

static void get(struct walk *w, void *bytes, size_t n)
{
	if (w->bad || (size_t)(w->end - w->at) < n) {
		w->bad = true;
		memset(bytes, 0, n);
		return;
	}
	memcpy(bytes, w->at, n);
	w->at += n;
}

static uint8_t get8(struct walk *w)
{
	uint8_t v;
	get(w, &v, sizeof v);
	return v;
}
static uint16_t get16(struct walk *w)
{
	uint16_t v;
	get(w, &v, sizeof v);
	return v;
}
static uint32_t get32(struct walk *w)
{
	uint32_t v;
	get(w, &v, sizeof v);
	return v;
}
static uint64_t get64(struct walk *w)
{
	uint64_t v;
	get(w, &v, sizeof v);
	return v;
}

/* A count that must not exceed `most`. */
static uint32_t get_count(struct walk *w, uint32_t most)
{
	uint32_t n = get32(w);
	if (n > most) {
		w->bad = true;
		n = 0;
	}
	return n;
}

/* How many bytes the printable character of well-formed UTF-8 has that begins here; 0: there is none. */
static size_t printable(const uint8_t *s, size_t n)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || length > n)
		return 0;
	uint32_t c = s[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	/* C1 controls steer terminals as escapes do; overlong forms and surrogates are no UTF-8, and JSON cannot carry them. */
	return c >= 0xa0 && c >= least[length] && (c < 0xd800 || c > 0xdfff) && c <= 0x10ffff ? length : 0;
}

/* A fixed-size name: NUL-terminated, not empty, printable. */
static void get_name(struct walk *w, char *name, size_t size)
{
	get(w, name, size);
	size_t n = strnlen(name, size);
	if (!n || n == size)
		w->bad = true;
	for (size_t i = 0, c; i < n && !w->bad; i += c) {
		c = printable((const uint8_t *)name + i, n - i);
		w->bad |= !c;
	}
	name[size - 1] = 0;
}

/* Text of the other side goes to terminals, logs and JSON: what is not printable becomes '?'. */
static void get_text(struct walk *w, char text[SLUICE_ERROR_MAX])
{
	uint32_t n = get_count(w, SLUICE_ERROR_MAX - 1);
	get(w, text, n);
	text[n] = 0;
	for (size_t i = 0, c; i < n; i += c ? c : 1) {
		c = printable((const uint8_t *)text + i, n - i);
		if (!c)
			text[i] = '?';
	}
}

static const char *const names[MESSAGE_TYPES] = {
	[MESSAGE_HELLO] = "HELLO",           [MESSAGE_WELCOME] = "WELCOME",     [MESSAGE_REFUSE] = "REFUSE",
	[MESSAGE_STREAMS_UP] = "STREAMS_UP", [MESSAGE_HEARTBEAT] = "HEARTBEAT", [MESSAGE_LANDED] = "LANDED",
	[MESSAGE_SWITCHOVER] = "SWITCHOVER", [MESSAGE_READY] = "READY",         [MESSAGE_GO] = "GO",
	[MESSAGE_RUNNING] = "RUNNING",       [MESSAGE_NEVER] = "NEVER",         [MESSAGE_DONE] = "DONE",
	[MESSAGE_CANCEL] = "CANCEL",         [MESSAGE_EMBEDDER] = "MESSAGE",    [MESSAGE_BYE] = "BYE",
	[MESSAGE_ANSWER] = "ANSWER",
};

/* Bytes of payload: so a damaged length mostly shows at once, and not when all that follows has been taken for a part of it. */
static const struct {
	uint32_t least, most;
} bounds[MESSAGE_TYPES] = {
	[MESSAGE_HELLO] = { 36, 36 + MESSAGE_FEATURES *(MESSAGE_FEATURE_NAME + 3 + MESSAGE_FEATURE_VALUE) +
					SLUICE_MAX_REGIONS *(SLUICE_NAME_MAX + 12) + SLUICE_MESSAGE_MAX },
	[MESSAGE_WELCOME] = { 62,
			      62 + MESSAGE_FEATURES *(MESSAGE_FEATURE_NAME + 3 + MESSAGE_FEATURE_VALUE) + SLUICE_MAX_REGIONS },
	[MESSAGE_REFUSE] = { 16, 16 + SLUICE_ERROR_MAX },
	[MESSAGE_STREAMS_UP] = { 4, 4 },
	[MESSAGE_HEARTBEAT] = { 32, 32 },
	[MESSAGE_LANDED] = { 8, 8 + SLUICE_MAX_STREAMS * 17 },
	[MESSAGE_SWITCHOVER] = { 8, 8 + SLUICE_MAX_SECTIONS *(SLUICE_NAME_MAX + 12) },
	[MESSAGE_READY] = { 12, 12 },
	[MESSAGE_GO] = { 12, 12 },
	[MESSAGE_RUNNING] = { 12, 12 },
	[MESSAGE_NEVER] = { 16, 16 + SLUICE_ERROR_MAX },
	[MESSAGE_DONE] = { 12, 12 },
	[MESSAGE_CANCEL] = { 16, 16 + SLUICE_ERROR_MAX },
	[MESSAGE_EMBEDDER] = { 4, 4 + SLUICE_MESSAGE_MAX },
	[MESSAGE_BYE] = { 0, 0 },
	[MESSAGE_ANSWER] = { 4 + MESSAGE_TOKEN, 4 + MESSAGE_TOKEN },
};

const char *message_name(uint32_t type)
{
	return type < MESSAGE_TYPES && names[type] ? names[type] : "unknown";
}

static void put_features(struct walk *w, uint32_t n, const struct message_feature *features)
{
	put32(w, n);
	for (uint32_t i = 0; i < n; i++) {
		put(w, features[i].name, MESSAGE_FEATURE_NAME);
		put8(w, features[i].required);
		put16(w, features[i].length);
		put(w, features[i].value, features[i].length);
	}
}

static uint32_t get_features(struct walk *w, struct message_feature *features)
{
	uint32_t n = get_count(w, MESSAGE_FEATURES);
	for (uint32_t i = 0; i < n; i++) {
		get_name(w, features[i].name, MESSAGE_FEATURE_NAME);
		features[i].required = get8(w);
		features[i].length = get16(w);
		if (features[i].length > MESSAGE_FEATURE_VALUE) {
			w->bad = true;
			return 0;
		}
		get(w, features[i].value, features[i].length);
	}
	return n;
}

static void put_hello(struct walk *w, const struct hello *h)
{
	put16(w, h->version_min);
	put16(w, h->version_max);
	put32(w, h->page_size);
	put32(w, h->dead_peer_ms);
	put16(w, h->streams);
	put16(w, h->urgent);
	put64(w, h->session_id);
	put_features(w, h->n_features, h->features);
	put32(w, h->n_regions);
	for (uint32_t i = 0; i < h->n_regions; i++) {
		put(w, h->regions[i].name, SLUICE_NAME_MAX);
		put64(w, h->regions[i].size);
		put32(w, h->regions[i].host_page_size);
	}
	put32(w, h->cookie_length);
	put(w, h->cookie, h->cookie_length);
}

static void get_hello(struct walk *w, struct hello *h)
{
	h->version_min = get16(w);
	h->version_max = get16(w);
	h->page_size = get32(w);
	h->dead_peer_ms = get32(w);
	h->streams = get16(w);
	h->urgent = get16(w);
	h->session_id = get64(w);
	h->n_features = get_features(w, h->features);
	h->n_regions = get_count(w, SLUICE_MAX_REGIONS);
	for (uint32_t i = 0; i < h->n_regions; i++) {
		get_name(w, h->regions[i].name, SLUICE_NAME_MAX);
		h->regions[i].size = get64(w);
		h->regions[i].host_page_size = get32(w);
	}
	h->cookie_length = get_count(w, SLUICE_MESSAGE_MAX);
	get(w, h->cookie, h->cookie_length);
}

static void put_welcome(struct walk *w, const struct welcome *m)
{
	put16(w, m->version);
	put32(w, m->dead_peer_ms);
	put32(w, m->epoch);
	put16(w, m->streams);
	put16(w, m->urgent);
	put64(w, m->max_state);
	put(w, m->link_token, MESSAGE_TOKEN);
	put(w, m->stream_token, MESSAGE_TOKEN);
	put_features(w, m->n_features, m->features);
	put32(w, m->n_regions);
	put(w, m->fresh, m->n_regions);
}

static void get_welcome(struct walk *w, struct welcome *m)
{
	m->version = get16(w);
	m->dead_peer_ms = get32(w);
	m->epoch = get32(w);
	m->streams = get16(w);
	m->urgent = get16(w);
	m->max_state = get64(w);
	get(w, m->link_token, MESSAGE_TOKEN);
	get(w, m->stream_token, MESSAGE_TOKEN);
	m->n_features = get_features(w, m->features);
	m->n_regions = get_count(w, SLUICE_MAX_REGIONS);
	get(w, m->fresh, m->n_regions);
}

static void put_payload(struct walk *w, const struct message *m)
{
	switch (m->type) {
	case MESSAGE_HELLO: put_hello(w, &m->u.hello); break;
	case MESSAGE_WELCOME: put_welcome(w, &m->u.welcome); break;
	case MESSAGE_REFUSE:
	case MESSAGE_NEVER:
	case MESSAGE_CANCEL: {
		uint32_t n = (uint32_t)strnlen(m->u.word.text, SLUICE_ERROR_MAX - 1);
		put32(w, m->u.word.attempt);
		put32(w, m->u.word.flags);
		put32(w, (uint32_t)m->u.word.code);
		put32(w, n);
		put(w, m->u.word.text, n);
		break;
	}
	case MESSAGE_STREAMS_UP: put32(w, m->u.streams_up.streams); break;
	case MESSAGE_HEARTBEAT:
		put64(w, m->u.heartbeat.clock_ns);
		put64(w, m->u.heartbeat.echo_ns);
		put64(w, m->u.heartbeat.held_ns);
		put64(w, m->u.heartbeat.delivered);
		break;
	case MESSAGE_LANDED:
		put32(w, m->u.landed.round);
		put32(w, m->u.landed.n);
		for (uint32_t i = 0; i < m->u.landed.n; i++) {
			put64(w, m->u.landed.streams[i].batches);
			put64(w, m->u.landed.streams[i].bytes);
			put8(w, m->u.landed.streams[i].state);
		}
		break;
	case MESSAGE_SWITCHOVER:
		put32(w, m->u.switchover.round);
		put32(w, m->u.switchover.n);
		for (uint32_t i = 0; i < m->u.switchover.n; i++) {
			const struct message_section *s = &m->u.switchover.sections[i];
			put(w, s->name, SLUICE_NAME_MAX);
			put32(w, s->version);
			put64(w, s->length);
		}
		break;
	case MESSAGE_READY:
	case MESSAGE_GO:
	case MESSAGE_RUNNING:
	case MESSAGE_DONE:
		put32(w, m->u.handoff.attempt);
		put64(w, m->u.handoff.ns);
		break;
	case MESSAGE_EMBEDDER:
		put32(w, m->u.embedder.length);
		put(w, m->u.embedder.bytes, m->u.embedder.length);
		break;
	case MESSAGE_ANSWER:
		put32(w, m->u.answer.epoch);
		put(w, m->u.answer.stream_token, MESSAGE_TOKEN);
		break;
	default: /* BYE: its arrival is all it says */ break;
	}
}

static void get_payload(struct walk *w, struct message *m)
{
	switch (m->type) {
	case MESSAGE_HELLO: get_hello(w, &m->u.hello); break;
	case MESSAGE_WELCOME: get_welcome(w, &m->u.welcome); break;
	case MESSAGE_REFUSE:
	case MESSAGE_NEVER:
	case MESSAGE_CANCEL:
		m->u.word.attempt = get32(w);
		m->u.word.flags = get32(w);
		m->u.word.code = (int32_t)get32(w);
		if (m->u.word.code >= 0 || m->u.word.code < -4095) /* Linux's MAX_ERRNO */
			m->u.word.code = -EPROTO;
		get_text(w, m->u.word.text);
		break;
	case MESSAGE_STREAMS_UP: m->u.streams_up.streams = get32(w); break;
	case MESSAGE_HEARTBEAT:
		m->u.heartbeat.clock_ns = get64(w);
		m->u.heartbeat.echo_ns = get64(w);
		m->u.heartbeat.held_ns = get64(w);
		m->u.heartbeat.delivered = get64(w);
		break;
	case MESSAGE_LANDED:
		m->u.landed.round = get32(w);
		m->u.landed.n = get_count(w, SLUICE_MAX_STREAMS);
		for (uint32_t i = 0; i < m->u.landed.n; i++) {
			m->u.landed.streams[i].batches = get64(w);
			m->u.landed.streams[i].bytes = get64(w);
			m->u.landed.streams[i].state = get8(w);
		}
		break;
	case MESSAGE_SWITCHOVER:
		m->u.switchover.round = get32(w);
		m->u.switchover.n = get_count(w, SLUICE_MAX_SECTIONS);
		for (uint32_t i = 0; i < m->u.switchover.n; i++) {
			struct message_section *s = &m->u.switchover.sections[i];
			get_name(w, s->name, SLUICE_NAME_MAX);
			s->version = get32(w);
			s->length = get64(w);
		}
		break;
	case MESSAGE_READY:
	case MESSAGE_GO:
	case MESSAGE_RUNNING:
	case MESSAGE_DONE:
		m->u.handoff.attempt = get32(w);
		m->u.handoff.ns = get64(w);
		break;
	case MESSAGE_EMBEDDER:
		m->u.embedder.length = get_count(w, SLUICE_MESSAGE_MAX);
		get(w, m->u.embedder.bytes, m->u.embedder.length);
		break;
	case MESSAGE_ANSWER:
		m->u.answer.epoch = get32(w);
		get(w, m->u.answer.stream_token, MESSAGE_TOKEN);
		break;
	default: break;
	}
}

/* Low half of XXH3-64 over the payload, seeded with XXH3-64 over the head up to its check field. */
static uint32_t frame_check(const uint8_t *frame, size_t length)
{
	return (uint32_t)XXH3_64bits_withSeed(frame + MESSAGE_HEAD, length, XXH3_64bits(frame, MESSAGE_HEAD - 4));
}

int message_encode(const struct message *message, uint32_t epoch, uint32_t seq, uint8_t *buffer)
{
	struct walk body = { buffer + MESSAGE_HEAD, buffer + MESSAGE_HEAD + MESSAGE_PAYLOAD, false };
	put_payload(&body, message);
	if (body.bad)
		return -EMSGSIZE;
	uint32_t length = (uint32_t)(body.at - (buffer + MESSAGE_HEAD));
	struct walk head = { buffer, buffer + MESSAGE_HEAD, false };
	put32(&head, MESSAGE_MAGIC);
	put16(&head, (uint16_t)message->type);
	put16(&head, message->type == MESSAGE_HEARTBEAT || message->type == MESSAGE_LANDED ? 0 : MESSAGE_REQUIRED);
	put32(&head, length);
	put32(&head, epoch);
	put32(&head, seq);
	put32(&head, 0);
	uint32_t check = frame_check(buffer, length);
	memcpy(buffer + 20, &check, sizeof check);
	return (int)(MESSAGE_HEAD + length);
}

bool message_begins(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n && i < 4; i++)
		if (bytes[i] != (uint8_t)(MESSAGE_MAGIC >> 8 * i))
			return false;
	return true;
}

const char *message_looks_like(const uint8_t *bytes, size_t n)
{
	if (n >= 4 && !memcmp(bytes, "HTTP", 4))
		return "an HTTP server";
	if (n >= 4 && !memcmp(bytes, "SSH-", 4))
		return "an SSH server";
	if (n >= 3 && bytes[0] >= 0x14 && bytes[0] <= 0x17 && bytes[1] == 3)
		return "a TLS server";
	size_t text = 0;
	for (size_t i = 0; i < n; i++)
		text += (bytes[i] >= 0x20 && bytes[i] < 0x7f) || bytes[i] == '\r' || bytes[i] == '\n';
	return n && text == n ? "a text protocol" : "something else";
}

int message_read_head(const uint8_t head[MESSAGE_HEAD], struct message_head *ret, char error[SLUICE_ERROR_MAX])
{
	struct walk w = { (uint8_t *)head, (uint8_t *)head + MESSAGE_HEAD, false };
	uint32_t magic = get32(&w);
	ret->type = get16(&w);
	ret->flags = get16(&w);
	ret->length = get32(&w);
	ret->epoch = get32(&w);
	ret->seq = get32(&w);
	ret->check = get32(&w);
	if (magic != MESSAGE_MAGIC) {
		snprintf(error, SLUICE_ERROR_MAX,
			 "the other side does not speak sluice's protocol, it looks like %s: check address "
			 "and port",
			 message_looks_like(head, MESSAGE_HEAD));
		return -EPROTO;
	}
	uint32_t least = ret->type < MESSAGE_TYPES ? bounds[ret->type].least : 0;
	uint32_t most = ret->type && ret->type < MESSAGE_TYPES ? bounds[ret->type].most : MESSAGE_PAYLOAD;
	if (ret->length < least || ret->length > most) {
		snprintf(error, SLUICE_ERROR_MAX, "damaged link: a %s frame of %u bytes, %u to %u are allowed; try again",
			 message_name(ret->type), ret->length, least, most);
		return -EPROTO;
	}
	return 0;
}

int message_decode(const uint8_t *frame, const struct message_head *head, struct message *ret, char error[SLUICE_ERROR_MAX])
{
	if (frame_check(frame, head->length) != head->check) {
		snprintf(error, SLUICE_ERROR_MAX, "damaged link: a %s frame has a wrong check sum; try again",
			 message_name(head->type));
		return -EPROTO;
	}
	if (!head->type || head->type >= MESSAGE_TYPES) {
		if (!(head->flags & MESSAGE_REQUIRED))
			return -ENOMSG;
		snprintf(error, SLUICE_ERROR_MAX,
			 "the other side sent frame type %u, which this version does not know: use the same "
			 "version on both sides",
			 head->type);
		return -EPROTO;
	}
	struct walk w = { (uint8_t *)frame + MESSAGE_HEAD, (uint8_t *)frame + MESSAGE_HEAD + head->length, false };
	ret->type = head->type;
	get_payload(&w, ret);
	if (w.bad || w.at != w.end) {
		snprintf(error, SLUICE_ERROR_MAX, "damaged link: a %s frame with a field out of range; try again",
			 message_name(head->type));
		return -EPROTO;
	}
	return 0;
}
