/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When a throttled guest stands still: at the end of every period of CLOCK_MONOTONIC, for `percent` (1 to 99; 0: never) of it, and all
 * of its threads at once. A period is 10 ms, or longer where less than a millisecond of it would be left to run: a vCPU that is
 * let in for less may get nowhere at all. */
#ifndef PERF_THROTTLE_H
#define PERF_THROTTLE_H

#include <stdint.h>

#include "perf/os.h"

#define THROTTLE_PERIOD_NS (10 * OS_MS)
#define THROTTLE_RUN_NS OS_MS /* at least, of each period */

static inline uint64_t throttle_period_ns(uint32_t percent)
{
	uint64_t least = THROTTLE_RUN_NS * 100 / (100 - percent);

	return least > THROTTLE_PERIOD_NS ? least : THROTTLE_PERIOD_NS;
}

static inline uint64_t throttle_run_ns(uint32_t percent)
{
	return throttle_period_ns(percent) * (100 - percent) / 100;
}

/* Until when it stands still; 0: it may run now. */
static inline uint64_t throttle_until(uint32_t percent, uint64_t now_ns)
{
	uint64_t period = throttle_period_ns(percent), at = now_ns % period;

	return percent && at >= throttle_run_ns(percent) ? now_ns - at + period : 0;
}

/* While it may run: when that is over. */
static inline uint64_t throttle_from(uint32_t percent, uint64_t now_ns)
{
	return now_ns - now_ns % throttle_period_ns(percent) + throttle_run_ns(percent);
}

/* For how much of [from, to) it stands still. */
static inline uint64_t throttle_stood_ns(uint32_t percent, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t period = throttle_period_ns(percent), run = throttle_run_ns(percent);
	uint64_t from = from_ns % period, to = to_ns % period;

	return (to_ns / period - from_ns / period) * (period - run) + (to > run ? to - run : 0) - (from > run ? from - run : 0);
}

#endif
