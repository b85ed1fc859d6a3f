/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fiber.c: see fiber.h. Any fiber that can run may be the next: which, the seed says. Time passes with each step, and
 * jumps to the next deadline when nobody can run. */
#include "tests/sim/fiber.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include "tests/sim/asan.h"
#include "tests/sim/faults.h"
#include "tests/sim/yield.h"

enum { STACK = 256 << 10, GUARD = 4096 };

void *__real_mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset);

int sim_countdown = 1;
uint8_t sim_hot[SIM_SITES];
struct fiber *fiber_current;

static struct fiber fibers[FIBERS];
static uint32_t lives[FIBERS];                    /* how many fibers a slot has seen end */
static uint64_t used, runnable, blocked, laggard; /* bit per fiber */
static uint64_t next_deadline;
static struct fiber_habits habits;
static uint64_t steps;
static bool stopping;
static void *main_sp;
static const void *main_stack; /* for the sanitizer */
static size_t main_stack_size;

#ifdef __x86_64__
/* Saves what the ABI wants saved, and goes on where the other stack was left. swapcontext() would make two system calls. */
void fiber_switch(void **save, void *load);
__asm__(".text\n.globl fiber_switch\n.type fiber_switch,@function\nfiber_switch:\n"
	"pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
	"movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
	"popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size fiber_switch,.-fiber_switch\n");
#else
static ucontext_t contexts[FIBERS + 1];
static void fiber_switch(void **save, void *load)
{
	ucontext_t *from = &contexts[save == &main_sp ? FIBERS : (size_t)((struct fiber *)(void *)save - fibers)];

	*save = from;
	swapcontext(from, load);
}
#endif

uint64_t fibers_steps(void)
{
	return steps;
}

static uint32_t slot(const struct fiber *f)
{
	return (uint32_t)(f - fibers);
}

uint32_t fiber_id(const struct fiber *f)
{
	return lives[slot(f)] * FIBERS + slot(f);
}

const struct fiber *fiber_running(uint32_t id)
{
	uint32_t i = id % FIBERS;

	return used >> i & 1 && lives[i] == id / FIBERS ? &fibers[i] : NULL;
}

/* Where small modules race: what a seed may have it in for. The first few are all that stands between the threads of a round. */
static const uint32_t modules[] = {
#define MODULE(name) SIM_FILE(name)
	MODULE("gate.c"),  MODULE("claims.c"),   MODULE("control.c"),   MODULE("sync.c"),   MODULE("landings.c"),
	MODULE("sweep.c"), MODULE("bitmap.c"),   MODULE("bell.c"),      MODULE("admit.c"),  MODULE("frames.c"),
	MODULE("inbox.c"), MODULE("landing.c"),  MODULE("link.c"),      MODULE("outbox.c"), MODULE("pool.c"),
	MODULE("rate.c"),  MODULE("receiver.c"), MODULE("receivers.c"), MODULE("sender.c"), MODULE("session.c"),
	MODULE("state.c"), MODULE("tracker.c"),
#undef MODULE
};
enum { MODULES = sizeof modules / sizeof *modules, MODULES_OF_A_ROUND = 8 };

static void choose_hot(void)
{
	uint32_t module = modules[habits.gate ? 0 : sim_below(sim_one_in(2) ? MODULES_OF_A_ROUND : MODULES)];

	memset(sim_hot, 0, sizeof sim_hot);
	if (habits.hot == HOT_MODULE)
		memset(sim_hot + (size_t)module * SIM_LINES, (int)sim_spread(1, 4), SIM_LINES);
	for (uint32_t m = 0; habits.hot == HOT_SITES && m < MODULES; m++)
		for (uint32_t i = 0; i < SIM_LINES; i++)
			if (sim_one_in(4))
				sim_hot[modules[m] * SIM_LINES + i] = (uint8_t)sim_spread(1, 4);
}

void fibers_reset(const struct fiber_habits *how)
{
	for (uint32_t i = 0; i < FIBERS; i++) {
		unsigned char *stack = fibers[i].stack;
		fibers[i] = (struct fiber){ .stack = stack };
		lives[i] = 0;
	}
	habits = *how;
	choose_hot();
	used = runnable = blocked = laggard = 0;
	next_deadline = FIBER_FOREVER;
	steps = 0;
	stopping = false;
	fiber_current = NULL;
	sim_countdown = 1;
}

void fibers_hesitate(void)
{
	habits.freeze = 8 + (uint32_t)sim_below(24);
}

static void unblock_late(void)
{
	uint64_t earliest = FIBER_FOREVER;

	for (uint64_t left = blocked; left; left &= left - 1) {
		struct fiber *f = &fibers[__builtin_ctzll(left)];
		uint64_t bit = left & -left;
		if (f->until <= sim_now) {
			blocked &= ~bit;
			runnable |= bit;
		} else if (f->until < earliest) {
			earliest = f->until;
		}
	}
	next_deadline = earliest;
}

/* Any of the bits. */
static uint64_t one_of(uint64_t bits)
{
	for (uint64_t k = sim_below((uint64_t)__builtin_popcountll(bits)); k; k--)
		bits &= bits - 1;
	return bits & -bits;
}

static struct fiber *pick(void)
{
	for (;;) {
		if (!runnable) {
			if (next_deadline == FIBER_FOREVER)
				return NULL;
			if (sim_now < next_deadline)
				sim_now = next_deadline;
		}
		if (sim_now >= next_deadline) {
			unblock_late();
			if (!runnable)
				continue;
		}
		uint64_t left = runnable;
		/* Somebody lags behind, for a while: so that all others get far between two atomics of his. */
		if (habits.lag && sim_one_in(habits.lag))
			laggard = one_of(used);
		if (left & laggard && sim_one_in(32)) {
			left &= laggard;
			sim_countdown = 1 + (int)sim_below(128);
		} else if (left & ~laggard) {
			left &= ~laggard;
		}
		left = one_of(left);
		struct fiber *f = &fibers[__builtin_ctzll(left)];
		if (!habits.freeze || !f->library || !sim_one_in(habits.freeze))
			return f;
		/* Descheduled for a while: not woken by anything but time. */
		f->on = NULL;
		f->n_fds = 0;
		f->until = sim_now + sim_spread(1 * US, habits.freeze_ns);
		runnable &= ~left;
		blocked |= left;
		if (f->until < next_deadline)
			next_deadline = f->until;
	}
}

/* Go on with whoever is next. */
static void reschedule(void)
{
	struct fiber *from = fiber_current, *to = NULL;

	steps++;
	sim_now += 50 + sim_below(habits.step_ns);
	sim_countdown = 1 + (int)sim_below(2 * habits.run);
	faults_at_step();
	if (!stopping && !sim_broken[0]) {
		to = pick();
		if (!to && from) {
			sim_violation("deadlock: nobody can go on and no wait has a deadline (Law 6)");
			return;
		}
	}
	if (to == from)
		return;
	fiber_current = to;
	asan_leave_for(to ? to->stack + GUARD : main_stack, to ? STACK - GUARD : main_stack_size);
	fiber_switch(from ? &from->sp : &main_sp, to ? to->sp : main_sp);
	asan_arrived(NULL, NULL);
}

void sim_reschedule(void)
{
	if (!fiber_current) {
		sim_countdown = 1 << 20;
		return;
	}
	reschedule();
}

void sim_reach(uint32_t site)
{
	if (fiber_current && sim_hot[site] && habits.ambushes && sim_one_in(sim_hot[site])) {
		habits.ambushes--;
		sim_hot[site] =
			sim_hot[site] < 32 ? sim_hot[site] * 2 : 64; /* rarer each time, or the busiest would have them all */
		/* For as long as somebody else takes for a few atomics, or for all there is to do. */
		fiber_sleep(sim_one_in(2) ? sim_spread(100, 64 * habits.step_ns) : sim_spread(US, habits.freeze_ns));
	} else if (sim_countdown <= 0) {
		sim_reschedule();
	}
}

static void leave(void)
{
	uint64_t bit = 1ull << slot(fiber_current);

	used &= ~bit;
	lives[slot(fiber_current)]++;
	runnable &= ~bit;
	blocked &= ~bit;
	fiber_wake(fiber_current);
	reschedule();
	__builtin_unreachable();
}

static void entry(void)
{
	/* The first of all fibers comes from the scheduler's own context. */
	asan_arrived(main_stack ? NULL : &main_stack, main_stack ? NULL : &main_stack_size);
	fiber_current->body(fiber_current->arg);
	leave();
}

static void prepare_stack(struct fiber *f)
{
	if (!f->stack) {
		f->stack = __real_mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert(f->stack != MAP_FAILED);
		mprotect(f->stack, GUARD, PROT_NONE);
	}
	asan_unpoison(f->stack + GUARD, STACK - GUARD); /* whoever had it before may have been killed in the midst of a call */
#ifdef __x86_64__
	uintptr_t *top = (uintptr_t *)(void *)(f->stack + STACK) - 3;
	*top = 0;                  /* where entry() would return to */
	*--top = (uintptr_t)entry; /* fiber_switch's ret; the stack is 8 off 16 then, as after a call */
	for (int i = 0; i < 6; i++)
		*--top = 0;
	f->sp = top;
#else
	ucontext_t *c = &contexts[f - fibers];
	getcontext(c);
	c->uc_stack.ss_sp = f->stack + GUARD;
	c->uc_stack.ss_size = STACK - GUARD;
	makecontext(c, entry, 0);
	f->sp = c;
#endif
}

struct fiber *fiber_start(enum sim_side side, const char *name, void *(*body)(void *arg), void *arg)
{
	assert(~used);
	struct fiber *f = &fibers[__builtin_ctzll(~used)];
	unsigned char *stack = f->stack;

	*f = (struct fiber){ .stack = stack, .body = body, .arg = arg, .side = side };
	snprintf(f->name, sizeof f->name, "%s", name);
	prepare_stack(f);
	used |= 1ull << slot(f);
	runnable |= 1ull << slot(f);
	return f;
}

void fiber_kill_side(enum sim_side side)
{
	bool me = false;

	for (uint64_t left = used; left; left &= left - 1) {
		struct fiber *f = &fibers[__builtin_ctzll(left)];
		if (f->side != side)
			continue;
		uint64_t bit = left & -left;
		me |= f == fiber_current;
		if (f == fiber_current)
			continue;
		used &= ~bit;
		lives[slot(f)]++;
		runnable &= ~bit;
		blocked &= ~bit;
	}
	if (me)
		leave();
}

static void may_block(const char *what)
{
	if (fiber_current->public_calls)
		sim_violation("Law 1: a public call waited for %s", what);
	else if (fiber_current->mutexes && fiber_current->library)
		sim_violation("Law 2: %s waited for %s while holding an inner lock", fiber_current->name, what);
	else if (fiber_current->big_lock)
		sim_violation("Law 2: %s waited for %s while holding the big lock", fiber_current->name, what);
}

bool fiber_block(const void *on, uint64_t until, const char *what)
{
	struct fiber *f = fiber_current;
	uint64_t bit = 1ull << slot(f);

	if (what)
		may_block(what);
	f->on = on;
	f->until = until;
	f->woken = false;
	runnable &= ~bit;
	blocked |= bit;
	if (until < next_deadline)
		next_deadline = until;
	reschedule();
	f->on = NULL;
	f->n_fds = 0;
	return f->woken;
}

static void unblock(struct fiber *f)
{
	uint64_t bit = 1ull << slot(f);

	f->woken = true;
	blocked &= ~bit;
	runnable |= bit;
}

uint32_t fiber_wake_some(const void *on, uint32_t most)
{
	uint32_t n = 0;

	for (uint64_t left = blocked; left && n < most; left &= left - 1) {
		struct fiber *f = &fibers[__builtin_ctzll(left)];
		if (f->on == on) {
			unblock(f);
			n++;
		}
	}
	return n;
}

void fiber_wake(const void *on)
{
	(void)fiber_wake_some(on, FIBERS);
}

void fiber_wake_pollers(int fd)
{
	for (uint64_t left = blocked; left; left &= left - 1) {
		struct fiber *f = &fibers[__builtin_ctzll(left)];
		for (unsigned i = 0; i < f->n_fds; i++)
			if (f->fds[i].fd == fd) {
				unblock(f);
				break;
			}
	}
}

void fiber_sleep(uint64_t ns)
{
	static const char sleeping;

	(void)fiber_block(&sleeping, sim_now + ns, NULL);
}

bool fiber_restless(void)
{
	return habits.restless && sim_one_in(habits.restless);
}

void fiber_yield(void)
{
	reschedule();
}

void fibers_run(void)
{
	reschedule();
}

void fibers_stop(void)
{
	stopping = true;
	reschedule();
	__builtin_unreachable();
}
