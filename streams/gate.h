/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gate.h: the round gate at the receivers. Who has read mark r passes when all streams have: so nothing of round r + 1
 * is in place before all of round r (Law 4). */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "streams/bell.h"

struct gate {
	uint32_t streams; /* set once */
	struct bell bell;
	_Atomic uint32_t arrived; /* streams that have read mark passed + 1 */
	_Atomic uint32_t passed;  /* last round that all have */
	_Atomic bool cancelled;
};

void gate_init(struct gate *gate, uint32_t streams);
/* Called once a stream with `round` = passed + 1. The last to come calls landed(arg, round) before it lets any go on,
 * and sees all that the others did before they came. Returns 0, or -ECANCELED. `*ret_held_ns`: time spent here. */
int gate_pass(struct gate *gate, uint32_t round, void (*landed)(void *arg, uint32_t round), void *arg, struct waiter *waiter,
	      uint64_t *ret_held_ns);
/* Let all go with -ECANCELED, from now on. Any thread. */
void gate_cancel(struct gate *gate);

static inline uint32_t gate_passed(const struct gate *gate)
{
	return atomic_load_explicit(&gate->passed, memory_order_acquire); /* pairs with gate_pass's release */
}
