/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sim.h: what the parts of the simulator share: the seed's random numbers, virtual time, the trace, and how a law that was
 * broken is reported. One simulation at a time, so all of it is plain globals. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { US = 1000, SIM_MS = 1000 * 1000 };
#define SIM_S 1000000000ull

enum sim_side { SIM_SOURCE, SIM_DESTINATION, SIM_WORLD, SIM_SIDES };

/* Virtual time, ns. */
extern uint64_t sim_now;
extern bool sim_verbose;
extern char sim_broken[512]; /* what was broken, "": nothing */

/* Random numbers, all from the seed. */
void sim_seed(uint64_t seed);
extern uint64_t sim_state[4];
/* xoshiro256**. Inline, as some 50,000 are drawn a seed. */
static inline uint64_t sim_random(void)
{
	uint64_t *state = sim_state, x = state[1] * 5, r = (x << 7 | x >> 57) * 9, t = state[1] << 17;

	state[2] ^= state[0];
	state[3] ^= state[1];
	state[1] ^= state[2];
	state[0] ^= state[3];
	state[2] ^= t;
	state[3] = state[3] << 45 | state[3] >> 19;
	return r;
}
/* In [0, n). */
static inline uint64_t sim_below(uint64_t n)
{
	return n ? (uint64_t)((unsigned __int128)sim_random() * n >> 64) : 0;
}
/* In [low, high], as many in each octave. */
uint64_t sim_spread(uint64_t low, uint64_t high);
/* One time in n. */
bool sim_one_in(uint64_t n);

__attribute__((format(printf, 1, 2))) void sim_trace_line(const char *format, ...);
#define sim_trace(...)                               \
	do {                                         \
		if (sim_verbose)                     \
			sim_trace_line(__VA_ARGS__); \
	} while (0)

/* A law is broken: the simulation ends here. Does not return within a fiber. */
__attribute__((format(printf, 1, 2))) void sim_violation(const char *format, ...);
