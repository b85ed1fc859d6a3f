/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small things asked of the kernel: clocks, futexes, threads, what this host has. */
#ifndef PERF_OS_H
#define PERF_OS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define OS_FOREVER UINT64_MAX
#define OS_MS 1000000ull   /* ns */
#define OS_S 1000000000ull /* ns */
#define OS_HOST_ID 80

static inline uint64_t os_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * OS_S + (uint64_t)t.tv_nsec;
}

/* Sleep while *word == value, until a wake or until_ns (CLOCK_MONOTONIC, or OS_FOREVER). May return early. */
void os_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t until_ns);
void os_futex_wake_all(_Atomic uint32_t *word);

/* Start a thread that blocks all signals: they are the main thread's to read. 0 or negative errno. */
int os_thread_start(pthread_t *thread, const char *name, void *(*body)(void *), void *arg);

/* CPUs that this process may use, at least 1. */
unsigned os_cpus(void);

/* User and system time of this process, seconds. */
double os_cpu_seconds(void);

/* Memory that could be had without swapping: MemAvailable, or less where a cgroup says so. */
uint64_t os_available_bytes(void);

/* Page tables of this process (VmPTE), bytes; 0 if unknown. */
uint64_t os_page_table_bytes(void);

/* Equal on two processes exactly if they share CLOCK_MONOTONIC: one boot of one kernel, one time namespace. */
void os_host_id(char id[OS_HOST_ID]);

#endif
