/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A thread for what an event loop's callbacks may only begin. */
#ifndef PERF_WORKER_H
#define PERF_WORKER_H

#include <pthread.h>
#include <stdbool.h>

#define WORKER_JOBS 8u

struct worker {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	struct {
		void (*run)(void *arg);
		void *arg;
	} job[WORKER_JOBS];
	unsigned first, count;
	bool stop;
};

int worker_start(struct worker *worker);
/* Does what was asked, then ends. */
void worker_stop(struct worker *worker);
/* Have it run(arg), after what was asked earlier. Does not wait. -EBUSY: WORKER_JOBS wait already. */
int worker_ask(struct worker *worker, void (*run)(void *arg), void *arg);

#endif
