/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bell.c: a futex behind a counter.
 *
 * Who rings adds to `rings` and then looks at `waiting`; who waits adds to `waiting` and then looks at `rings`. Both in
 * the one order of seq_cst: at least one of them sees the other, so either the ringer wakes or the waiter does not
 * sleep. */
#include "streams/bell.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void bell_ring(struct bell *bell)
{
	atomic_fetch_add_explicit(&bell->rings, 1, memory_order_seq_cst); /* pairs with bell_key, bell_wait */
	if (atomic_load_explicit(&bell->waiting, memory_order_seq_cst))   /* pairs with bell_wait's add */
		syscall(SYS_futex, &bell->rings, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int bell_wait(struct bell *bell, uint32_t key, uint64_t deadline_ns, struct waiter *waiter, const char *what)
{
	struct timespec until = { .tv_sec = (time_t)(deadline_ns / 1000000000u), .tv_nsec = (long)(deadline_ns % 1000000000u) };
	int r = 0;

	if (bell_key(bell) != key)
		return 0;
	if (waiter)
		wait_begin(waiter, what);
	atomic_fetch_add_explicit(&bell->waiting, 1, memory_order_seq_cst); /* pairs with bell_ring's load */
	while (atomic_load_explicit(&bell->rings, memory_order_seq_cst) == key) {
		/* _BITSET: the deadline is a point in time of CLOCK_MONOTONIC, so being woken in vain does not prolong
		 * it. */
		if (syscall(SYS_futex, &bell->rings, FUTEX_WAIT_BITSET_PRIVATE, key, deadline_ns == UINT64_MAX ? NULL : &until,
			    NULL, FUTEX_BITSET_MATCH_ANY) < 0 &&
		    errno == ETIMEDOUT) {
			r = -ETIMEDOUT;
			break;
		}
	}
	atomic_fetch_sub_explicit(&bell->waiting, 1, memory_order_relaxed);
	if (waiter)
		wait_end(waiter);
	return r;
}
