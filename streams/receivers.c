/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* receivers.c: the receiver threads of one session: made when the handshake is over, fed with connections by the link
 * thread as they come in, ended by the control thread.
 *
 * A connection once added stays until receivers_destroy has joined its thread, so receivers_cancel may shut it down at
 * any time. The order of stores keeps a connection from slipping through: add publishes it and then looks at `cancel`;
 * cancel sets `cancel` and then looks for connections. */
#include "streams/receivers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "streams/codec.h"
#include "streams/receiver.h"
#include "streams/thread.h"

int receivers_create(const struct receivers_config *config, struct receivers **ret)
{
	size_t size = sizeof(struct receivers) + (size_t)config->streams * sizeof(struct receiver);
	struct receivers *rs = calloc(1, size);
	int r;

	if (!rs)
		return -ENOMEM;
	rs->config = *config;
	rs->bytes = size;
	r = node_map_init(&rs->map, config->numa, config->cpus, NULL);
	if (r)
		goto fail;
	rs->config.cpus = NULL;
	gate_init(&rs->gate, config->streams);
	for (uint32_t i = 0; i < config->streams; i++) {
		struct receiver *receiver = &rs->receiver[i];

		receiver->owner = rs;
		receiver->stream = i;
		receiver->round = 1;
		receiver->place = (struct batch_place){ .epoch = config->epoch, .stream = i };
		snprintf(receiver->waiter.thread, sizeof(receiver->waiter.thread), "receiver %u", i % 1000);
		if (!config->lz4)
			continue;
		receiver->scratch = malloc(WIRE_BATCH_PAYLOAD);
		r = -ENOMEM;
		if (!receiver->scratch)
			goto fail;
		rs->bytes += WIRE_BATCH_PAYLOAD;
	}
	*ret = rs;
	return 0;
fail:
	receivers_destroy(rs);
	return r;
}

int receivers_add(struct receivers *rs, uint32_t stream, struct conn *conn)
{
	struct receiver *receiver;
	int r;

	if (stream >= rs->config.streams)
		return -ERANGE;
	receiver = &rs->receiver[stream];
	if (atomic_exchange_explicit(&receiver->taken, true, memory_order_relaxed))
		return -EEXIST;
	/* release: pairs with receiver_run; seq_cst: with receivers_cancel */
	atomic_store_explicit(&receiver->conn, conn, memory_order_seq_cst);
	if (atomic_load_explicit(&rs->cancel, memory_order_seq_cst))
		conn->transport->shutdown(conn);
	r = thread_start(&receiver->thread, receiver->waiter.thread, receiver_run, receiver);
	receiver->started = !r;
	return r;
}

uint32_t receivers_passed(const struct receivers *rs)
{
	return gate_passed(&rs->gate);
}

int receivers_last(struct receivers *rs, uint32_t round)
{
	/* seq_cst, and in this order: a receiver says what it is about to land, and then looks at the last round. */
	atomic_store_explicit(&rs->last, round, memory_order_seq_cst);
	for (uint32_t i = 0; i < rs->config.streams; i++)
		if (atomic_load_explicit(&rs->receiver[i].landing, memory_order_seq_cst) > round)
			return -EBADMSG;
	return 0;
}

void receivers_cancel(struct receivers *rs)
{
	atomic_store_explicit(&rs->cancel, true, memory_order_seq_cst); /* pairs with receivers_add and receiver_run */
	gate_cancel(&rs->gate);
	for (uint32_t i = 0; i < rs->config.streams; i++) {
		struct conn *conn = atomic_load_explicit(&rs->receiver[i].conn, memory_order_seq_cst);

		if (conn)
			conn->transport->shutdown(conn);
	}
}

void receivers_stop(struct receivers *rs)
{
	receivers_cancel(rs);
	for (uint32_t i = 0; i < rs->config.streams; i++) {
		struct receiver *receiver = &rs->receiver[i];
		struct conn *conn;

		if (receiver->started)
			pthread_join(receiver->thread, NULL);
		receiver->started = false;
		conn = atomic_exchange_explicit(&receiver->conn, NULL, memory_order_relaxed);
		if (conn)
			conn->transport->close(conn);
	}
}

void receivers_destroy(struct receivers *rs)
{
	receivers_stop(rs);
	for (uint32_t i = 0; i < rs->config.streams; i++)
		free(rs->receiver[i].scratch);
	free(rs);
}

uint32_t receivers_streams(const struct receivers *rs)
{
	return rs->config.streams;
}

const struct receiver_stats *receivers_stats(const struct receivers *rs, uint32_t stream)
{
	return &rs->receiver[stream].stats;
}

const struct waiter *receivers_waiter(const struct receivers *rs, uint32_t stream)
{
	return &rs->receiver[stream].waiter;
}

uint64_t receivers_bytes(const struct receivers *rs)
{
	return rs->bytes;
}
