/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that plays an embedder's event loop, and its big lock. */
#ifndef PERF_IOTHREAD_H
#define PERF_IOTHREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <sluice.h>

#include "perf/histogram.h"

#define IOTHREAD_AFTER 4u /* a callback asks for two at most */

struct iothread {
	pthread_t thread;
	struct sluice *session; /* set once */
	bool started;
	_Atomic bool stop, measuring;
	pthread_mutex_t big_lock;

	/* under big_lock: what an event loop looks at */
	struct sluice_stats stats;
	uint64_t work;

	/* the thread's; anyone's once it is joined */
	struct histogram late, waited; /* ns, while measuring */
	struct {
		void (*run)(void *arg);
		void *arg;
	} after[IOTHREAD_AFTER];
	unsigned afters;
};

int iothread_start(struct iothread *io, struct sluice *session);
/* Stop and join it. */
void iothread_stop(struct iothread *io);
/* Whether ticks count from now on. Any thread. */
void iothread_measure(struct iothread *io, bool on);

/* From within a callback: run(arg) as soon as the big lock is dropped, in the same thread and in the order asked for. Whoever
 * wakes a thread may be put off its processor for it, and whoever takes a lock may wait for its holder: neither belongs under
 * the big lock. */
void iothread_after(struct iothread *io, void (*run)(void *arg), void *arg);

/* sluice_ops.lock and .unlock. Thread: any. */
int iothread_lock(struct iothread *io, uint64_t until_ns);
void iothread_unlock(struct iothread *io);

#endif
