/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* goal.h: seeds that set out for one cell of the coverage. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Plan what leads to the cell that this seed is given, and the fault there. Returns whether it has one. */
bool goal_plan(uint64_t seed);
/* This seed has a cell, and that was not met since it was planned. */
bool goal_missed(void);
