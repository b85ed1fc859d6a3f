/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* message.h: the link's frames and their coding. Pure. docs/protocol.md says what each means. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/sluice.h"

enum {
	MESSAGE_HEAD = 24,
	MESSAGE_PAYLOAD = 65536, /* of one frame at most */
	MESSAGE_VERSION = 1,     /* the only protocol version this code speaks */
	MESSAGE_TOKEN = 16,
	MESSAGE_FEATURES = 32,
	MESSAGE_FEATURE_NAME = 32,
	MESSAGE_FEATURE_VALUE = 256,
	MESSAGE_UNDELIVERED = 16, /* embedders' messages under way on a link at most */
	MESSAGE_UNTAKEN = 64,     /* that an embedder has not taken, of all links of a session */
	MESSAGE_DEAD_PEER_MIN_MS = 500,
	MESSAGE_DEAD_PEER_MAX_MS = 60000,
	MESSAGE_REQUIRED = 1, /* frame flag: an unknown type ends the link */
};

#define MESSAGE_MAGIC 0x4b4e4c53u /* "SLNK" */

enum message_type {
	MESSAGE_HELLO = 1,
	MESSAGE_WELCOME,
	MESSAGE_REFUSE,
	MESSAGE_STREAMS_UP,
	MESSAGE_HEARTBEAT,
	MESSAGE_LANDED,
	MESSAGE_SWITCHOVER,
	MESSAGE_READY,
	MESSAGE_GO,
	MESSAGE_RUNNING,
	MESSAGE_NEVER,
	MESSAGE_DONE,
	MESSAGE_CANCEL,
	MESSAGE_EMBEDDER,
	MESSAGE_BYE,
	MESSAGE_ANSWER,
	MESSAGE_TYPES,
};

struct message_feature {
	char name[MESSAGE_FEATURE_NAME];
	bool required;
	uint16_t length; /* of value, whose meaning is the feature's */
	uint8_t value[MESSAGE_FEATURE_VALUE];
};
struct message_region {
	char name[SLUICE_NAME_MAX];
	uint64_t size;
	uint32_t host_page_size;
};
struct message_section {
	char name[SLUICE_NAME_MAX];
	uint32_t version;
	uint64_t length;
};
enum message_stream_state { STREAM_STARVED, STREAM_AT_GATE, STREAM_LANDING };
struct message_landed {
	uint64_t batches, bytes;
	uint8_t state;
};

struct hello {
	uint16_t version_min, version_max;
	uint32_t page_size, dead_peer_ms;
	uint16_t streams, urgent; /* wanted; numbered bulk first */
	uint64_t session_id;
	uint32_t n_features, n_regions, cookie_length;
	struct message_feature features[MESSAGE_FEATURES];
	struct message_region regions[SLUICE_MAX_REGIONS];
	uint8_t cookie[SLUICE_MESSAGE_MAX];
};

struct welcome {
	uint16_t version;
	uint32_t dead_peer_ms, epoch;
	uint16_t streams, urgent; /* granted */
	uint64_t max_state;
	uint32_t n_features, n_regions;
	uint8_t link_token[MESSAGE_TOKEN];   /* for a later link of this session; never on a stream */
	uint8_t stream_token[MESSAGE_TOKEN]; /* for streams of this epoch */
	struct message_feature features[MESSAGE_FEATURES];
	uint8_t fresh[SLUICE_MAX_REGIONS]; /* 1: reads as zero */
};

struct message {
	enum message_type type;
	union {
		struct hello hello;
		struct welcome welcome;
		struct {
			uint32_t attempt, flags;
			int32_t code;
			char text[SLUICE_ERROR_MAX];
		} word; /* REFUSE, NEVER, CANCEL */
		struct {
			uint32_t streams;
		} streams_up;
		/* sender's clock; last one received; how long ago; embedders' messages delivered so far */
		struct {
			uint64_t clock_ns, echo_ns, held_ns, delivered;
		} heartbeat;
		struct {
			uint32_t round, n;
			struct message_landed streams[SLUICE_MAX_STREAMS];
		} landed;
		struct {
			uint32_t round, n;
			struct message_section sections[SLUICE_MAX_SECTIONS];
		} switchover;
		struct {
			uint32_t attempt;
			uint64_t ns; /* own clock; GO: for how long the guest has stood still */
		} handoff;           /* READY, GO, RUNNING, DONE */
		/* to a later link: what holds from here on */
		struct {
			uint32_t epoch;
			uint8_t stream_token[MESSAGE_TOKEN];
		} answer;
		struct {
			uint32_t length;
			uint8_t bytes[SLUICE_MESSAGE_MAX];
		} embedder;
	} u;
};

/* A frame's head as read. */
struct message_head {
	uint16_t type, flags;
	uint32_t length, epoch, seq, check;
};

const char *message_name(uint32_t type);

/* Code into `buffer` (MESSAGE_HEAD + MESSAGE_PAYLOAD bytes). Returns the frame's length, or -EMSGSIZE. */
int message_encode(const struct message *message, uint32_t epoch, uint32_t seq, uint8_t *buffer);

/* Read a frame's head. 0, or -EPROTO with one line in `error`. */
int message_read_head(const uint8_t head[MESSAGE_HEAD], struct message_head *ret, char error[SLUICE_ERROR_MAX]);

/* Check and decode a whole frame. 0; -ENOMSG: unknown and not required, skip it; -EPROTO with one line in `error`. Never trusts a
 * length, index or count; texts are made printable. */
int message_decode(const uint8_t *frame, const struct message_head *head, struct message *ret, char error[SLUICE_ERROR_MAX]);

/* May these first bytes of a connection be those of a frame that was cut short? */
bool message_begins(const uint8_t *bytes, size_t n);

/* What bytes that are no frame look like, for an error: "HTTP", "TLS", ... */
const char *message_looks_like(const uint8_t *bytes, size_t n);
