/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pool.c: the sender threads of one session: started and stopped by the control thread.
 *
 * A connection once made stays until pool_stop has joined its thread, so pool_cancel may shut it down at any time. The
 * order of stores keeps one from slipping through: a sender publishes its connection and then looks at `cancel`;
 * pool_cancel sets `cancel` and then looks for connections. */
#include "streams/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "streams/sender.h"
#include "streams/thread.h"

static int sender_init(struct sender *s, struct pool *pool, uint32_t index)
{
	int r;

	s->pool = pool;
	s->index = index;
	s->place = (struct batch_place){ .epoch = pool->config.greeting.epoch, .stream = index };
	snprintf(s->waiter.thread, sizeof(s->waiter.thread), "sender %u", index % 1000);
	atomic_store_explicit(&s->stats.node, -1, memory_order_relaxed);
	for (int i = 0; i < 2; i++)
		s->parcel[i].batch.frame = &s->parcel[i].frame;
	if (pool->config.compress == COMPRESS_NONE)
		return 0;
	r = codec_create(&s->codec);
	if (r)
		return r;
	pool->bytes += codec_bytes();
	for (int i = 0; i < 2; i++) {
		s->parcel[i].blocks = malloc(WIRE_BATCH_PAYLOAD);
		if (!s->parcel[i].blocks)
			return -ENOMEM;
		pool->bytes += WIRE_BATCH_PAYLOAD;
	}
	return 0;
}

int pool_start(const struct pool_config *config, struct pool **ret_pool)
{
	size_t size = sizeof(struct pool) + (size_t)config->streams * sizeof(struct sender);
	struct pool *pool = calloc(1, size);
	int r;

	if (!pool)
		return -ENOMEM;
	pool->config = *config;
	pool->bytes = size;
	r = node_map_init(&pool->map, config->numa, config->cpus, NULL);
	if (r)
		goto fail;
	pool->config.cpus = NULL;
	for (uint32_t i = 0; i < config->streams; i++) {
		r = sender_init(&pool->sender[i], pool, i);
		if (r)
			goto fail;
	}
	/* The threads' callbacks may ask for the pool's statistics. */
	*ret_pool = pool;
	for (; pool->started < config->streams; pool->started++) {
		struct sender *s = &pool->sender[pool->started];

		r = thread_start(&s->thread, s->waiter.thread, sender_run, s);
		if (r)
			goto fail;
	}
	return 0;
fail:
	pool_destroy(pool);
	*ret_pool = NULL;
	return r;
}

void pool_cancel(struct pool *pool)
{
	atomic_store_explicit(&pool->cancel, true, memory_order_seq_cst); /* pairs with the senders' looks */
	bell_ring(&pool->cancelled);
	for (uint32_t i = 0; i < pool->config.streams; i++) {
		struct conn *conn = atomic_load_explicit(&pool->sender[i].conn, memory_order_seq_cst); /* pairs with dial */

		if (conn)
			conn->transport->shutdown(conn);
	}
}

void pool_stop(struct pool *pool)
{
	pool_cancel(pool);
	for (; pool->started; pool->started--)
		pthread_join(pool->sender[pool->started - 1].thread, NULL);
	for (uint32_t i = 0; i < pool->config.streams; i++) {
		struct conn *conn = atomic_exchange_explicit(&pool->sender[i].conn, NULL, memory_order_relaxed);

		if (conn)
			conn->transport->close(conn);
	}
}

void pool_destroy(struct pool *pool)
{
	pool_stop(pool);
	for (uint32_t i = 0; i < pool->config.streams; i++) {
		struct sender *s = &pool->sender[i];

		codec_destroy(s->codec);
		free(s->parcel[0].blocks);
		free(s->parcel[1].blocks);
	}
	free(pool);
}

uint32_t pool_streams(const struct pool *pool)
{
	return pool->config.streams;
}

const struct sender_stats *pool_stats(const struct pool *pool, uint32_t sender)
{
	return &pool->sender[sender].stats;
}

const struct waiter *pool_waiter(const struct pool *pool, uint32_t sender)
{
	return &pool->sender[sender].waiter;
}

uint64_t pool_bytes(const struct pool *pool)
{
	return pool->bytes;
}
