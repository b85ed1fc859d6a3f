/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A thread for what an event loop's callbacks may only begin. */
#include <errno.h>
#include <string.h>

#include "perf/os.h"
#include "perf/worker.h"

static void *worker_body(void *arg)
{
	struct worker *worker = arg;

	pthread_mutex_lock(&worker->lock);
	for (;;) {
		void (*run)(void *);
		void *job_arg;

		if (!worker->count) {
			if (worker->stop)
				break;
			pthread_cond_wait(&worker->changed, &worker->lock);
			continue;
		}
		run = worker->job[worker->first].run;
		job_arg = worker->job[worker->first].arg;
		worker->first = (worker->first + 1) % WORKER_JOBS;
		worker->count--;
		pthread_mutex_unlock(&worker->lock);
		run(job_arg);
		pthread_mutex_lock(&worker->lock);
	}
	pthread_mutex_unlock(&worker->lock);
	return NULL;
}

int worker_start(struct worker *worker)
{
	int error;

	memset(worker, 0, sizeof(*worker));
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->changed, NULL);
	error = os_thread_start(&worker->thread, "worker", worker_body, worker);
	worker->started = !error;
	return error;
}

void worker_stop(struct worker *worker)
{
	if (!worker->started)
		return;
	pthread_mutex_lock(&worker->lock);
	worker->stop = true;
	pthread_cond_signal(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
	pthread_join(worker->thread, NULL);
	pthread_cond_destroy(&worker->changed);
	pthread_mutex_destroy(&worker->lock);
	worker->started = false;
}

int worker_ask(struct worker *worker, void (*run)(void *arg), void *arg)
{
	int error = -EBUSY;

	pthread_mutex_lock(&worker->lock);
	if (worker->count < WORKER_JOBS) {
		unsigned at = (worker->first + worker->count++) % WORKER_JOBS;

		worker->job[at].run = run;
		worker->job[at].arg = arg;
		pthread_cond_signal(&worker->changed);
		error = 0;
	}
	pthread_mutex_unlock(&worker->lock);
	return error;
}
