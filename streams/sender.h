/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sender.h: what pool.c and sender.c share. Nobody else includes it. */
#pragma once

#include <pthread.h>

#include "numa/nodes.h"
#include "streams/batch.h"
#include "streams/bell.h"
#include "streams/codec.h"
#include "streams/compress_auto.h"
#include "streams/pool.h"

enum {
	SENDER_PAGES = 4096,    /* pages of one batch at most: many, for zero pages cost no payload, but not without end */
	SENDER_PAGES_LZ4 = 512, /* the same where each has to be compressed first: some 4 ms */
};

/* A batch and what it is sent from. */
struct parcel {
	struct batch_frame frame;
	struct batch batch;
	uint64_t size;         /* on the wire, once sealed */
	bool exempt;           /* from the limit */
	bool lz4;              /* blocks are compressed */
	bool sample;           /* one block is, to see */
	unsigned char *blocks; /* WIRE_BATCH_PAYLOAD bytes, NULL: no lz4 */
	uint32_t blocks_used;
};

struct sender {
	/* Set once. */
	struct pool *pool;
	uint32_t index;
	pthread_t thread;
	_Atomic(struct conn *) conn; /* NULL until connected, then for good; closed by pool_stop */

	/* Written by the thread, read by any. */
	struct sender_stats stats;
	struct waiter waiter;

	/* Owned by the thread. */
	const struct transport *transport;
	struct batch_place place;
	struct parcel parcel[2];
	struct parcel *filling; /* one of the two; the other may be in flight */
	bool in_flight;
	struct claim claim;
	struct codec *codec;
	struct compress_auto compress;
	uint64_t sent_at; /* the batch before, or the end of a wait for work */
	uint64_t wire_ns; /* since then: sending, waiting for the wire or the limit */
	char wrong[160];
};

struct pool {
	/* Set once. */
	struct pool_config config;
	struct node_map map;
	uint64_t bytes;
	uint32_t started; /* threads to join */

	struct rate rate;
	struct bell cancelled; /* rung after cancel was set */
	_Atomic bool cancel;
	struct sender sender[];
};

void *sender_run(void *arg);
