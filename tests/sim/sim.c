/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sim.c: both ends of a migration, threads and all, simulated from one seed.
 *
 *   sim --seed N          replay one, with a trace
 *   sim --seeds A..B      run many; stops at the first that breaks a law, exit status 1
 *   --coverage            what was met: faults by phase and message
 *   --seconds S           stop after S seconds */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/sim/coverage.h"
#include "tests/sim/fiber.h"
#include "tests/sim/world.h"

uint64_t sim_now;
bool sim_verbose;
char sim_broken[512];
uint64_t sim_state[4];

/* So many are enough to meet everything that can happen. */
enum { COVERAGE_SEEDS = 10000 };

static const char *program;
static uint64_t current_seed;

/* ---------------------------------------------------------------- chance: seeded by splitmix64 */

void sim_seed(uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15u;
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		sim_state[i] = z ^ z >> 31;
	}
	sim_now = SIM_S;
	sim_broken[0] = 0;
}

uint64_t sim_spread(uint64_t low, uint64_t high)
{
	uint64_t octaves = low && low < high ? (uint64_t)(__builtin_clzll(low) - __builtin_clzll(high)) : 0;

	octaves += low << octaves < high;
	uint64_t from = low << sim_below(octaves + 1), to = 2 * from - 1;
	from = from > high ? high : from;
	to = to > high ? high : to;
	return from + sim_below(to - from + 1);
}

bool sim_one_in(uint64_t n)
{
	return !sim_below(n);
}

/* ---------------------------------------------------------------- telling */

void sim_trace_line(const char *format, ...)
{
	va_list args;

	printf("%12.6f ms  ", (double)(sim_now - SIM_S) * 1e-6);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

void sim_violation(const char *format, ...)
{
	va_list args;

	if (!sim_broken[0]) {
		va_start(args, format);
		vsnprintf(sim_broken, sizeof sim_broken, format, args);
		va_end(args);
		sim_trace("BROKEN: %s", sim_broken);
	}
	if (fiber_current)
		fiber_yield(); /* to the scheduler's own context, for good */
}

void __wrap___assert_fail(const char *expression, const char *file, unsigned line, const char *function);
void __wrap___assert_fail(const char *expression, const char *file, unsigned line, const char *function)
{
	sim_violation("assertion failed: %s (%s, %s:%u)", expression, function, file, line);
	abort();
}

static void tell_broken(void)
{
	fprintf(stderr, "seed %" PRIu64 ": %s\nreplay: %s --seed %" PRIu64 "\n", current_seed, sim_broken, program, current_seed);
}

static void crashed(int signal)
{
	snprintf(sim_broken, sizeof sim_broken, "the library crashed with signal %d%s%s", signal, fiber_current ? " in " : "",
		 fiber_current ? fiber_current->name : "");
	fflush(stdout);
	tell_broken();
	_exit(1);
}

static void catch_crashes(void)
{
	static unsigned char stack[64 << 10];
	stack_t own = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_handler = crashed, .sa_flags = SA_ONSTACK };

	sigaltstack(&own, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGABRT, &action, NULL);
}

static double cpu_seconds(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static int usage(void)
{
	fprintf(stderr, "usage: %s --seed N | --seeds A..B [--coverage] [--seconds S] [--trace]\n", program);
	return 2;
}

int main(int argc, char **argv)
{
	uint64_t first = 1, last = 1000;
	bool coverage = false;
	double seconds = 0;

	program = argv[0];
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "--coverage")) {
			coverage = coverage_strict = true;
		} else if (!strcmp(argv[i], "--trace")) {
			sim_verbose = true;
		} else if (!strcmp(argv[i], "--seed") && sscanf(value, "%" SCNu64, &first) == 1) {
			last = first;
			sim_verbose = true;
			i++;
		} else if (!strcmp(argv[i], "--seeds") && sscanf(value, "%" SCNu64 "..%" SCNu64, &first, &last) == 2 &&
			   first <= last) {
			i++;
		} else if (!strcmp(argv[i], "--seconds") && sscanf(value, "%lf", &seconds) == 1) {
			i++;
		} else {
			return usage();
		}
	}
	catch_crashes();
	for (current_seed = first; current_seed <= last; current_seed++) {
		if (!world_run(current_seed)) {
			fflush(stdout);
			tell_broken();
			return 1;
		}
		if (seconds > 0 && cpu_seconds() >= seconds) {
			current_seed++;
			break;
		}
	}
	double s = cpu_seconds();
	if (!sim_verbose)
		printf("%" PRIu64 " seeds, %.0f seeds/s, %.0f in a core-minute\n", current_seed - first,
		       (double)(current_seed - first) / s, (double)(current_seed - first) / s * 60);
	if (coverage && !coverage_print() && current_seed - first >= COVERAGE_SEEDS)
		return 1;
	return 0;
}
