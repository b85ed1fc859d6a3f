/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* thread.h: start a thread as all of ours are: named, with every signal blocked from its first instruction on. */
#pragma once

#include <pthread.h>
#include <stdint.h>

/* `name`: at most 15 bytes. Returns 0 or negative errno. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*body)(void *arg), void *arg);
/* CPU time of the calling thread. */
uint64_t thread_cpu_ns(void);
