/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* wait.h: every wait has a name (Law 6). A thread writes what it waits for into its waiter; sluice_dump() reads
 * it from any other thread without a lock. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct waiter {
	char thread[16];            /* set once: "sender 3" */
	_Atomic(const char *) what; /* a string constant, NULL: running */
	_Atomic uint64_t since_ns;
	_Atomic uint64_t waited_ns; /* all finished waits together */
	_Atomic bool ended;         /* the thread: it does nothing any more */
};

static inline uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Begin and end a wait. Owner thread. */
static inline void wait_begin(struct waiter *w, const char *what)
{
	atomic_store_explicit(&w->since_ns, now_ns(), memory_order_relaxed);
	atomic_store_explicit(&w->what, what, memory_order_release); /* pairs with the dump's acquire */
}

/* Returns the nanoseconds waited. */
static inline uint64_t wait_end(struct waiter *w)
{
	uint64_t took = now_ns() - atomic_load_explicit(&w->since_ns, memory_order_relaxed);
	atomic_store_explicit(&w->what, NULL, memory_order_release);
	atomic_fetch_add_explicit(&w->waited_ns, took, memory_order_relaxed);
	return took;
}

/* The owner thread ends. */
static inline void wait_over(struct waiter *w)
{
	atomic_store_explicit(&w->ended, true, memory_order_relaxed);
}
