/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* receivers.h: the receiver threads. Each owns one stream, reads batches, checks them, and lands them through land_ops;
 * at a mark it waits at the round gate. */
#pragma once

#include "streams/transport.h"
#include "streams/work.h"

struct receivers_config {
	const struct land_ops *ops;
	void *core;
	uint32_t streams;
	uint32_t epoch;
	bool lz4; /* agreed in the handshake; else an lz4 extent is an error */
	bool uring;
	bool numa;
	const char *cpus;
};

struct receiver_stats {
	_Atomic uint64_t batches, bytes; /* landed, marks included */
	_Atomic uint64_t gate_ns;        /* held at the gate */
	_Atomic uint64_t stalled_ns;     /* waiting for the wire */
	_Atomic uint64_t cpu_ns;
	_Atomic uint32_t state; /* enum receiver_state */
	_Atomic uint32_t uring; /* 1: io_uring */
};

/* What a stream's receiver is doing: tells a stream that gets nothing from one that is held or busy. The values are
 * LANDED's. */
enum receiver_state { RECEIVER_STARVED, RECEIVER_AT_GATE, RECEIVER_LANDING };

struct receivers;

int receivers_create(const struct receivers_config *config, struct receivers **ret);
/* Give stream `stream` its connection (greeted) and start its thread. -EEXIST: has one, -ERANGE: then it stays the
 * caller's; in all other cases, errors too, it is taken over. One thread at a time, not beside receivers_destroy. */
int receivers_add(struct receivers *receivers, uint32_t stream, struct conn *conn);
/* The round that has passed the gate. Any thread. */
uint32_t receivers_passed(const struct receivers *receivers);
/* Nothing of a later round than this is landed any more: its stream ends. -EBADMSG: something is just being
 * landed. Any thread; does not block. */
int receivers_last(struct receivers *receivers, uint32_t round);
/* Make every wait of the receivers end; any thread, does not block. No lost() is called for what ends this way. */
void receivers_cancel(struct receivers *receivers);
/* Cancel, join and close: no callback afterwards; statistics and waiters stay readable. Again: does nothing. */
void receivers_stop(struct receivers *receivers);
/* receivers_stop and free. */
void receivers_destroy(struct receivers *receivers);
uint32_t receivers_streams(const struct receivers *receivers);
const struct receiver_stats *receivers_stats(const struct receivers *receivers, uint32_t stream);
const struct waiter *receivers_waiter(const struct receivers *receivers, uint32_t stream);
uint64_t receivers_bytes(const struct receivers *receivers);
