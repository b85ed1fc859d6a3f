/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stopped.h: for how long the guest stands still, over both sides: the jump that its clocks make. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "core/sluice.h"

/* Atomic; numbers, nothing behind them. */
struct stopped {
	_Atomic uint64_t from_ns, to_ns; /* by this host's clock; 0: not yet */
	_Atomic uint64_t round_trip_ns;  /* of the link, the shortest seen; 0: not known. Written by the link thread */
};

/* The embedder has paused or resumed the guest. Any thread. */
void stopped_done(struct sluice *s, enum sluice_request request);
/* Destination: it has stood still for `ns` at the source when that was said. Control. */
void stopped_there(struct sluice *s, uint64_t ns, uint64_t now_ns);
/* A heartbeat came: it had heard of our clock at `echo_ns`, and answered `held_ns` later. Link. */
void stopped_round_trip(struct sluice *s, uint64_t echo_ns, uint64_t held_ns, uint64_t now_ns);
