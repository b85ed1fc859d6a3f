/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rate.h: one bandwidth limit over all streams: a virtual clock of when the wire is free again. Lock-free. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* All zeroes to begin with. */
struct rate {
	_Atomic uint64_t free_at_ns; /* CLOCK_MONOTONIC time until which the limit is used up */
	_Atomic uint64_t limit;      /* that free_at_ns was counted with */
};

/* Take `bytes` at `bytes_per_s` (0: unlimited) at time `now`. Returns the time at which they may be sent (<= now: at
 * once). At most 50 ms of unused limit is kept for a burst. When the limit changes, what was taken under the old one is
 * forgotten: who still waits for its time takes again. */
uint64_t rate_take(struct rate *rate, uint64_t bytes, uint64_t bytes_per_s, uint64_t now);
