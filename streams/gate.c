/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gate.c: a barrier over receivers that can be cancelled and tells the round.
 *
 * `arrived` counts up to `streams`; the last one resets it before it publishes `passed`, and nobody can arrive for the
 * next round without having seen that. No lock: the counter's read-modify-writes order everything. */
#include "streams/gate.h"

#include <errno.h>

void gate_init(struct gate *gate, uint32_t streams)
{
	*gate = (struct gate){ .streams = streams };
}

static bool gate_cancelled(struct gate *gate)
{
	return atomic_load_explicit(&gate->cancelled, memory_order_acquire); /* pairs with gate_cancel */
}

int gate_pass(struct gate *gate, uint32_t round, void (*landed)(void *arg, uint32_t round), void *arg, struct waiter *waiter,
	      uint64_t *ret_held_ns)
{
	uint64_t began = now_ns();
	int r = 0;

	if (gate_cancelled(gate))
		return -ECANCELED;
	/* acq_rel: pairs with the same add of the other receivers; the last one sees what all of them have put in place */
	if (atomic_fetch_add_explicit(&gate->arrived, 1, memory_order_acq_rel) + 1 == gate->streams) {
		atomic_store_explicit(&gate->arrived, 0, memory_order_relaxed); /* published by the release of passed */
		landed(arg, round);
		atomic_store_explicit(&gate->passed, round, memory_order_release); /* pairs with gate_passed */
		bell_ring(&gate->bell);
	} else {
		for (;;) {
			uint32_t key = bell_key(&gate->bell);

			if (gate_passed(gate) == round)
				break;
			if (gate_cancelled(gate)) {
				r = -ECANCELED;
				break;
			}
			bell_wait(&gate->bell, key, UINT64_MAX, waiter, "the other streams, at the round gate");
		}
	}
	*ret_held_ns = now_ns() - began;
	return r;
}

void gate_cancel(struct gate *gate)
{
	atomic_store_explicit(&gate->cancelled, true, memory_order_release); /* pairs with gate_cancelled */
	bell_ring(&gate->bell);
}
