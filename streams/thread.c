/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* thread.c: see thread.h. Any thread. */
#include "streams/thread.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

/* Ours nest a few calls deep. Embedders that lock all their memory (mlockall) pay for the whole of it. */
enum { STACK = 512 << 10 };

int thread_start(pthread_t *ret_thread, const char *name, void *(*body)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r;

	r = pthread_attr_init(&attr);
	if (r)
		return -r;
	r = pthread_attr_setstacksize(&attr, STACK);
	if (r)
		goto out;
	/* A new thread inherits the mask: set by itself, there would be a moment in which it takes the embedder's
	 * signals. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(ret_thread, &attr, body, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!r)
		pthread_setname_np(*ret_thread, name);
out:
	pthread_attr_destroy(&attr);
	return -r;
}

uint64_t thread_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
