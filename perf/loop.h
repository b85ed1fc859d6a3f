/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The main thread's waiting: for signals, for a wake, for the other process, for a time. */
#ifndef PERF_LOOP_H
#define PERF_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Main thread only, except loop_wake(). */
struct loop {
	int signal_fd, wake_fd, child_fd; /* child_fd: -1: none */
	unsigned stops;                   /* SIGINT, SIGTERM and SIGHUP so far */
	unsigned claims;                  /* SIGUSR2 so far */
	bool dump;                        /* SIGUSR1 came: whoever answers clears it */
	bool child_gone;
};

/* Blocks these signals, for all threads started later. 0 or negative errno. */
int loop_init(struct loop *loop);
void loop_fini(struct loop *loop);
/* Notice the end of this child. */
int loop_watch_child(struct loop *loop, pid_t child);

/* Wait for any of them, until until_ns (CLOCK_MONOTONIC) at most. */
void loop_wait(struct loop *loop, uint64_t until_ns);

/* Have loop_wait() return. Any thread. */
void loop_wake(struct loop *loop);

/* Do run(arg) in another thread; meanwhile `idle(arg)` (may be NULL) once a second. A stop sets *cancel. Returns
 * what run did, or negative errno. */
int loop_run(struct loop *loop, int (*run)(void *arg), void (*idle)(void *arg), void *arg, _Atomic bool *cancel);

#endif
