/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process guest: what process.c and its threads share. Others see guest.h. */
#ifndef PERF_PROCESS_H
#define PERF_PROCESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "perf/counts.h"
#include "perf/guest_kind.h"

/* What threads are to do: the low bits of process.word, whose rest counts the changes. */
enum process_mode { PROCESS_STOPPED, PROCESS_RUNNING, PROCESS_QUITTING };
#define PROCESS_MODES 4u

struct vcpu {
	struct process *process;
	pthread_t thread;
	uint32_t id;
	struct pattern pattern;
	struct pattern_state state; /* the thread's; anyone's while the guest stands still */
	_Atomic uint64_t written;   /* likewise, but readable at any time */
} __attribute__((aligned(64)));

/* A thread that is the driver of one of the disk's queues. */
struct driving {
	struct process *process;
	pthread_t thread;
	uint32_t queue;
};

struct process {
	struct guest base;
	/* set once */
	uint32_t threads; /* the heartbeat, drivers and vCPUs, started in this order */
	uint32_t drivers;
	struct driving driving[AREA_QUEUES];
	struct counts counts; /* pages by their owners */

	/* by whoever pauses or resumes, while all stand still; the word publishes it */
	struct sluice *marked;
	void (*beaten)(void *opaque, uint64_t ns);
	void *beaten_opaque;
	void (*parked)(void *opaque);
	void *parked_opaque;

	_Atomic uint32_t word;    /* a mode and a number; store-release by resume, pairs with load-acquire by threads */
	_Atomic uint32_t running; /* threads not parked; the last decrement (acq_rel) sees all their writes */

	/* heartbeat thread writes, anyone reads */
	_Atomic uint64_t beats, last_beat_ns, gap_ns;
	pthread_t heartbeat;

	struct vcpu vcpu[];
};

static inline struct process *process_of(const struct guest *guest)
{
	return (struct process *)guest;
}

static inline uint32_t process_word(struct process *process)
{
	return atomic_load_explicit(&process->word, memory_order_acquire);
}

/* process_threads.c: start all of them, standing still; end those that were started. 0 or negative errno. */
int process_start_threads(struct process *process);
void process_stop_threads(struct process *process);
/* The word has changed. */
void process_wake(struct process *process);

#endif
