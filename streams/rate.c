/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rate.c: the bandwidth limit. Pure but for its two atomics; any thread.
 *
 * Each taker moves free_at_ns on by what its bytes cost and may send at the time where it stood before: so takers queue
 * up without knowing of each other, and one that sends late is made up for by the next. */
#include "streams/rate.h"

enum { BURST_NS = 50 * 1000 * 1000 };

uint64_t rate_take(struct rate *rate, uint64_t bytes, uint64_t bytes_per_s, uint64_t now)
{
	uint64_t oldest = now > BURST_NS ? now - BURST_NS : 0, at, start, cost;

	if (!bytes_per_s)
		return now;
	/* 128 bits: 512 KiB at 1 byte per second are 5e14 ns, and products are greater still. */
	unsigned __int128 ns = (unsigned __int128)bytes * 1000000000u / bytes_per_s;

	cost = ns > INT64_MAX / 2 ? INT64_MAX / 2 : (uint64_t)ns;
	/* A limit that was raised must not have to sit out the debt of the old one. free_at_ns first: who sees the new
	 * limit sees the new clock. Two that find the change at once forget a batch of each other at worst. */
	if (atomic_load_explicit(&rate->limit, memory_order_acquire) != bytes_per_s) { /* pairs with the release below */
		atomic_store_explicit(&rate->free_at_ns, now, memory_order_relaxed);
		atomic_store_explicit(&rate->limit, bytes_per_s, memory_order_release);
	}
	at = atomic_load_explicit(&rate->free_at_ns, memory_order_relaxed);
	/* relaxed: a sum of its own, nothing else is published by it */
	do
		start = at > oldest ? at : oldest;
	while (!atomic_compare_exchange_weak_explicit(&rate->free_at_ns, &at, start + (start > INT64_MAX ? 0 : cost),
						      memory_order_relaxed, memory_order_relaxed));
	return start;
}
