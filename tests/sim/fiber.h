/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fiber.h: the library's threads as fibers of one thread, scheduled by the seed, in virtual time. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim.h"

enum { FIBERS = 64 };
#define FIBER_FOREVER UINT64_MAX

struct fiber {
	void *sp; /* of the machine's stack while it does not run */
	unsigned char *stack;
	void *(*body)(void *arg);
	void *arg;
	enum sim_side side;
	char name[16];
	const void *on;           /* what it waits for */
	uint64_t until;           /* or until then */
	const struct pollfd *fds; /* in poll(): wake when one of them may have changed */
	unsigned n_fds;
	bool woken;       /* rather than too late */
	int mutexes;      /* held */
	int public_calls; /* in a call of the embedder's that may not block (Law 1) */
	bool big_lock;    /* holds it */
	bool library;     /* a thread of sluice's */
};

extern struct fiber *fiber_current; /* NULL: the scheduler's own context */

/* How a seed likes to schedule. */
struct fiber_habits {
	uint32_t run;    /* atomics until another may go on, on average */
	uint32_t freeze; /* one time in so many a fiber is left alone for a while; 0: never */
	uint64_t freeze_ns;
	uint32_t lag;     /* one step in so many another one begins to lag behind; 0: never */
	uint64_t step_ns; /* a step takes up to so long */
	/* Sites (yield.h) where it holds up who comes there, so often at most: all of one small module, or some anywhere. */
	enum { HOT_NONE, HOT_MODULE, HOT_SITES } hot;
	bool gate; /* it is the round gate that it has it in for */
	uint32_t ambushes;
	uint32_t restless; /* one wait in so many is over early, as if somebody had rung for another reason; 0: none */
};
void fibers_reset(const struct fiber_habits *habits);
/* From here on fibers are left alone far more often. */
void fibers_hesitate(void);
struct fiber *fiber_start(enum sim_side side, const char *name, void *(*body)(void *arg), void *arg);
/* Give all of a side up, at once; the current fiber too, if it is one of them (then this does not return). */
void fiber_kill_side(enum sim_side side);
/* Until woken, or until `until`. Returns whether it was woken. `what` breaks a law if the fiber may not block now. */
bool fiber_block(const void *on, uint64_t until, const char *what);
/* At most so many of those who wait for it. Returns how many. */
uint32_t fiber_wake_some(const void *on, uint32_t most);
void fiber_wake(const void *on);
void fiber_wake_pollers(int fd);
void fiber_sleep(uint64_t ns);
/* Is a wait that begins now to be over early? */
bool fiber_restless(void);
void fiber_yield(void);
/* Names a fiber for good, though its slot is used again. */
uint32_t fiber_id(const struct fiber *fiber);
/* NULL: it has ended. */
const struct fiber *fiber_running(uint32_t id);
/* Run until fibers_stop() or a violation. Deadlock is one. */
void fibers_run(void);
void fibers_stop(void) __attribute__((noreturn));
uint64_t fibers_steps(void);
