/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* heap.h: where the library's malloc() and mmap() go: one arena a simulation, thrown away with it. What a crashed side
 * held costs nothing that way, and how much is held is known at any time (Law 8). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim.h"

void heap_reset(void);
void *heap_alloc(enum sim_side side, size_t size, bool zeroed);
/* Returns whether it was one of ours. */
bool heap_free(void *p);
/* Its process is gone, and with it all that it held. */
void heap_side_gone(enum sim_side side);
/* Bytes that a side holds, and the most it has held. */
uint64_t heap_held(enum sim_side side);
uint64_t heap_peak(enum sim_side side);
