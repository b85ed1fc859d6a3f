/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* receiver.h: what receivers.c and receiver.c share. Nobody else includes it. */
#pragma once

#include <pthread.h>

#include "numa/nodes.h"
#include "streams/batch.h"
#include "streams/gate.h"
#include "streams/receivers.h"

struct receiver {
	/* Set once. */
	struct receivers *owner;
	uint32_t stream;
	pthread_t thread;
	bool started; /* thread is one to join: receivers_add's, receivers_destroy's */
	_Atomic bool taken;
	_Atomic(struct conn *) conn; /* NULL until added, then for good; closed by receivers_destroy */

	/* Written by the thread, read by any. */
	_Atomic uint32_t landing; /* the round of the batch that it is about to land, or lands; 0: none */
	struct receiver_stats stats;
	struct waiter waiter;

	/* Owned by the thread. */
	const struct transport *transport;
	struct batch_place place;
	uint32_t round;
	struct batch_frame frame;
	void *address[WIRE_BATCH_EXTENTS]; /* where each extent goes */
	struct iovec iov[WIRE_BATCH_EXTENTS];
	unsigned char *scratch; /* lz4 blocks of a batch, NULL: not agreed on */
	char wrong[BATCH_ERROR];
};

struct receivers {
	/* Set once. */
	struct receivers_config config;
	struct node_map map;
	uint64_t bytes;

	struct gate gate;
	_Atomic uint32_t last; /* round, after which nothing may come; 0: not known yet */
	_Atomic bool cancel;
	struct receiver receiver[];
};

void *receiver_run(void *arg);
