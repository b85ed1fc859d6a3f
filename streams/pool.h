/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pool.h: the sender threads. Each owns one stream, pulls claims, scans for zero pages, encodes and sends. */
#pragma once

#include "streams/rate.h"
#include "streams/transport.h"
#include "streams/work.h"

enum compress { COMPRESS_NONE, COMPRESS_LZ4, COMPRESS_AUTO };

struct pool_config {
	const struct work_ops *ops;
	void *core;
	struct uri uri;           /* where to connect */
	struct greeting greeting; /* a stream's number is filled in by its sender */
	uint32_t streams;
	uint32_t connect_ms;
	enum compress compress; /* what the handshake allowed */
	bool uring;
	bool numa;
	const char *cpus;            /* "" all; borrowed during pool_start */
	_Atomic uint64_t *bandwidth; /* bytes per second, 0: unlimited; read at every batch */
};

/* Counters of one sender; written by it, read by any thread. */
struct sender_stats {
	_Atomic uint64_t batches, bytes; /* on the wire, marks included */
	_Atomic uint64_t pages, zero_pages, lz4_in, lz4_out;
	_Atomic uint64_t stalled_ns; /* waiting for the wire */
	_Atomic uint64_t cpu_ns;     /* of the thread, renewed at every mark and at its end */
	_Atomic int32_t node;
	_Atomic bool uring;
};

struct pool;

/* Start the threads; they connect by themselves and tell by ops->up or ops->lost. */
int pool_start(const struct pool_config *config, struct pool **ret_pool);
/* Make every wait in the pool end but those in ops->wait, which the core ends after this call; any thread, does not
 * block. No lost() is called for what ends this way. */
void pool_cancel(struct pool *pool);
/* pool_cancel, join and close: no callback afterwards; statistics and waiters stay readable. May block for the 100 ms
 * of a connect. By now ops->wait returns at once. Again: does nothing. */
void pool_stop(struct pool *pool);
/* pool_stop and free. */
void pool_destroy(struct pool *pool);
uint32_t pool_streams(const struct pool *pool);
const struct sender_stats *pool_stats(const struct pool *pool, uint32_t sender);
const struct waiter *pool_waiter(const struct pool *pool, uint32_t sender);
/* Bytes allocated. */
uint64_t pool_bytes(const struct pool *pool);
