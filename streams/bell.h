/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bell.h: wake those who wait for "something changed" without losing a change. A waiter takes the key, looks, and waits
 * for the bell to ring past that key; who changes something changes it first and rings then. Ringing with nobody
 * waiting is one atomic. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "streams/wait.h"

struct bell {
	_Atomic uint32_t rings; /* futex word */
	_Atomic uint32_t waiting;
};

static inline uint32_t bell_key(struct bell *bell)
{
	return atomic_load_explicit(&bell->rings, memory_order_acquire); /* pairs with bell_ring's add */
}

void bell_ring(struct bell *bell);
/* Until rung since `key`, or until `deadline_ns` (CLOCK_MONOTONIC; UINT64_MAX: none). Returns 0 or -ETIMEDOUT. */
int bell_wait(struct bell *bell, uint32_t key, uint64_t deadline_ns, struct waiter *waiter, const char *what);
