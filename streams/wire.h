/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* wire.h: what travels on data connections, and every length and limit of it. docs/protocol.md says the same in words.
 *
 * All integers are little endian. Structs are laid out so that they need no packing. */
#pragma once

#include <assert.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "sluice's wire format is little endian; big endian hosts are not supported"
#endif

enum {
	WIRE_PAGE = 4096,
	WIRE_PAGE_SHIFT = 12,
	WIRE_GRANULE_PAGES = 512,       /* what a sender claims: 2 MiB, one cache line of the dirty bitmap */
	WIRE_BATCH_PAYLOAD = 512 << 10, /* payload of one batch at most */
	WIRE_BATCH_EXTENTS = 512,       /* extents of one batch at most */
	WIRE_EXTENT_PAGES = 512,        /* pages of one extent at most: a granule, never across its border */
	WIRE_SECTIONS = 64,             /* sections of device state at most */
	WIRE_TOKEN = 16,
	WIRE_GREETING_VERSION = 1,
	WIRE_GREETING_MS = 2000, /* a connection that has not greeted by then is closed */
};

#define WIRE_GREETING_MAGIC 0x0a1a454349554c53ull /* "SLUICE" 0x1a '\n': neither text nor TLS */
#define WIRE_BATCH_MAGIC 0x54414253u              /* "SBAT" */

/* First on every connection, from the source. 48 bytes: fits an RDMA connection request's private data (56). */
enum greeting_kind { GREETING_LINK = 1, GREETING_BULK = 2, GREETING_URGENT = 3 };
struct greeting {
	uint64_t magic;
	uint16_t version;
	uint8_t kind;    /* enum greeting_kind */
	uint8_t flags;   /* 0 */
	uint32_t stream; /* data stream number, 0 for the link */
	uint32_t epoch;
	uint32_t check;            /* low half of XXH3-64 over the greeting with check 0 */
	uint8_t token[WIRE_TOKEN]; /* data stream: the destination's, from WELCOME; first link: 0; a later link: the same token */
	uint32_t dial;             /* rises over all connections of a session: a late one never replaces a newer one */
	uint32_t reserved;         /* 0 */
};
static_assert(sizeof(struct greeting) == 48, "wire layout");

enum batch_type {
	BATCH_PAGES = 1,
	BATCH_STATE = 2,
	BATCH_MARK = 3, /* all batches of `round` on this stream came before */
};

/* Batch flag: payload_check is there. Always where the payload is private to the sender (device state, lz4 only); never
 * with raw pages, which the guest may be writing. */
enum { BATCH_PAYLOAD_CHECK = 1 };

/* Before each batch. `extents` entries of 24 bytes follow, then `payload` bytes. */
struct batch_head {
	uint32_t magic;
	uint8_t type;  /* enum batch_type */
	uint8_t flags; /* BATCH_PAYLOAD_CHECK */
	uint16_t extents;
	uint32_t epoch;
	uint32_t stream;
	uint32_t round; /* the round after the last one marked on this stream */
	uint32_t payload;
	uint64_t seq;           /* batches before this one on this stream, marks included */
	uint64_t bytes;         /* wire bytes before this one on this stream, greeting left out */
	uint64_t payload_check; /* XXH3-64 over the payload, seeded with seq; 0 without BATCH_PAYLOAD_CHECK */
	uint64_t reserved;      /* 0 */
	uint64_t check;         /* XXH3-64 over the head with check 0 and the extents */
};
static_assert(sizeof(struct batch_head) == 64, "wire layout");

enum encoding {
	ENCODING_ZERO = 0, /* no payload */
	ENCODING_RAW = 1,  /* count pages */
	ENCODING_LZ4 = 2,  /* one lz4 block of `bytes` that holds count pages */
};

/* A run of pages of one region. */
struct extent {
	uint64_t page;  /* first, within the region */
	uint32_t count; /* pages */
	uint32_t bytes; /* of payload: 0, count * 4096, or the lz4 block's */
	uint16_t region;
	uint8_t encoding;  /* enum encoding */
	uint8_t flags;     /* 0 */
	uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct extent) == 24, "wire layout");

/* A piece of device state, on a grid so that what is missing or doubled shows: the only "extent" of a BATCH_STATE.
 * `round` of its head names the try it belongs to: pieces of an abandoned try are dropped. */
struct state_piece {
	uint64_t offset;   /* in the section: a multiple of WIRE_BATCH_PAYLOAD; every piece but the last is that long */
	uint64_t total;    /* bytes of the whole section */
	uint32_t bytes;    /* of payload */
	uint16_t section;  /* index into SWITCHOVER's table */
	uint16_t reserved; /* 0 */
};
static_assert(sizeof(struct state_piece) == 24, "wire layout");
