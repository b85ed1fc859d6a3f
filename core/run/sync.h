/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sync.h: the sync thread: fetches dirty bits into the bitmap, piece by piece, just ahead of the senders' cursor in a round, or all
 * at once when control wants to count. In a round that has been fetched it surveys what is being written meanwhile. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/memory/tracker.h"
#include "streams/bell.h"

enum sync_order { SYNC_NOTHING, SYNC_ARM, SYNC_AHEAD, SYNC_WATCH, SYNC_ALL };

struct sluice;

/* A count of all dirty pages that is made beside a round, when sync has nothing better to do: piece by piece, and nothing is re-armed. */
struct survey {
	uint64_t due_ns;  /* when the next begins or goes on; UINT64_MAX: this tracker cannot */
	uint64_t granule; /* where it is */
	uint32_t round;
	uint64_t took_ns, written, unseen; /* so far */
};

struct sync {
	pthread_t thread;
	bool started; /* control's */
	struct bell bell;
	_Atomic uint32_t order; /* enum sync_order; taken by the thread */
	_Atomic bool stop;
	_Atomic uint64_t arm_began_ns, arm_ns; /* written by control, by the thread; numbers */
	_Atomic uint64_t wanted;               /* wake when the cursor has passed this word; UINT64_MAX: no */
	struct waiter waiter;
	/* Owned by the thread. */
	struct tracker *tracker;
	uint64_t piece_pages;
	uint64_t lock_taken_ns; /* biglock.c */
	struct survey survey;
};

int sync_start(struct sluice *s);
void sync_order(struct sluice *s, enum sync_order order);
/* A sender's cursor is at `word`. */
void sync_cursor(struct sluice *s, uint64_t word);
/* Have the thread stop tracking and leave. Does not wait: stopping KVM's log waits for every vCPU to come out of KVM. */
void sync_leave(struct sluice *s);
/* The same, and wait until it has. */
void sync_stop(struct sluice *s);
