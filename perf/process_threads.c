/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process guest's threads: those that write memory at a given pace, the drivers of its disk, and a heartbeat.
 *
 * Each looks at the process's word between any two things it does, and parks once for each pause. Sleeping ones wait on the
 * word, with their pace's timeout; a driver sleeps on its queue's bell, which rings for every change of the word too.
 */
#include <string.h>

#include "perf/os.h"
#include "perf/process.h"
#include "perf/throttle.h"

#define TICK_NS OS_MS            /* of the heartbeat, and of pacing */
#define CATCH_UP_NS (50 * OS_MS) /* a thread that was held up longer does not make up for the rest */

/* Stand still until the guest runs. *parked_for: the word this thread last parked for. false: quit. */
static bool stand_still(struct process *process, uint32_t *parked_for)
{
	uint32_t word;

	while ((word = process_word(process)) % PROCESS_MODES != PROCESS_RUNNING) {
		if (word % PROCESS_MODES == PROCESS_QUITTING)
			return false;
		if (word != *parked_for) {
			void (*parked)(void *) = process->parked;
			void *opaque = process->parked_opaque;

			*parked_for = word;
			if (atomic_fetch_sub_explicit(&process->running, 1, memory_order_acq_rel) == 1) {
				guest_end_run(&process->base);
				parked(opaque);
			}
			continue;
		}
		os_futex_wait(&process->word, word, OS_FOREVER);
	}
	return true;
}

void process_wake(struct process *process)
{
	os_futex_wake_all(&process->word);
	if (process->base.disk)
		disk_wake(process->base.disk);
}

/* ---------------------------------------------------------------- the heartbeat */

static void beat(struct process *process, uint64_t now)
{
	uint64_t last = atomic_load_explicit(&process->last_beat_ns, memory_order_relaxed);

	if (last && now - last > atomic_load_explicit(&process->gap_ns, memory_order_relaxed))
		atomic_store_explicit(&process->gap_ns, now - last, memory_order_relaxed);
	atomic_store_explicit(&process->last_beat_ns, now, memory_order_relaxed);
	atomic_fetch_add_explicit(&process->beats, 1, memory_order_relaxed);
}

static void *heartbeat_body(void *arg)
{
	struct process *process = arg;
	uint32_t parked_for = PROCESS_STOPPED;
	uint64_t now, next;

	while (stand_still(process, &parked_for)) {
		uint32_t word = process_word(process);

		if (word % PROCESS_MODES != PROCESS_RUNNING)
			continue;
		next = now = os_now_ns();
		beat(process, now);
		if (process->beaten)
			process->beaten(process->beaten_opaque, now);
		while (process_word(process) == word) {
			now = os_now_ns();
			if (now < next) {
				os_futex_wait(&process->word, word, next);
				continue;
			}
			beat(process, now);
			next += TICK_NS;
			if (next <= now)
				next = now + TICK_NS;
		}
	}
	return NULL;
}

/* ---------------------------------------------------------------- writing */

static void write_page(struct vcpu *vcpu)
{
	struct process *process = vcpu->process;
	uint64_t page = pattern_next(&vcpu->pattern, &vcpu->state) * process->base.settings.vcpus + vcpu->id;
	uint32_t count = process->counts.count[page] + 1;

	content_write(&process->base.settings.content, page, count, memory_page(&process->base.memory, page));
	if (process->marked)
		memory_mark(&process->base.memory, process->marked, page, 1);
	counts_set(&process->counts, page, count);
	atomic_store_explicit(&vcpu->written, atomic_load_explicit(&vcpu->written, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static uint32_t throttle_of(struct process *process)
{
	return atomic_load_explicit(&process->base.throttle, memory_order_relaxed);
}

/* Whether a throttled guest's writers stand still now. */
static bool held_off(struct process *process)
{
	uint32_t percent = throttle_of(process);

	return percent && throttle_until(percent, os_now_ns());
}

/* Write at the thread's share of the dirty rate until the word changes. Time in which it is held off is not made up for. */
static void run_paced(struct vcpu *vcpu, uint32_t word)
{
	struct process *process = vcpu->process;
	double pages_per_ns = (double)process->base.settings.dirty_rate / process->base.settings.vcpus / SLUICE_PAGE_SIZE / 1e9;
	uint64_t began = os_now_ns(), seen = began, done = 0, most = (uint64_t)(pages_per_ns * CATCH_UP_NS) + 1;

	while (process_word(process) == word) {
		uint32_t percent = throttle_of(process);
		uint64_t now = os_now_ns(), held_until = throttle_until(percent, now), due, next;

		began += throttle_stood_ns(percent, seen, now);
		seen = now;
		if (held_until) {
			os_futex_wait(&process->word, word, held_until);
			continue;
		}

		if (pages_per_ns <= 0) {
			os_futex_wait(&process->word, word, OS_FOREVER);
			continue;
		}
		due = (uint64_t)((double)(now - began) * pages_per_ns) - done;
		if (due > most) {
			began = now - (uint64_t)((double)most / pages_per_ns);
			done = 0;
			due = most;
		}
		if (!due) {
			next = began + (uint64_t)((double)(done + 1) / pages_per_ns);
			os_futex_wait(&process->word, word, next > now + TICK_NS ? next : now + TICK_NS);
			continue;
		}
		for (; due && atomic_load_explicit(&process->word, memory_order_relaxed) == word && !held_off(process);
		     due--, done++)
			write_page(vcpu);
	}
}

static void *vcpu_body(void *arg)
{
	struct vcpu *vcpu = arg;
	uint32_t parked_for = PROCESS_STOPPED, word;

	while (stand_still(vcpu->process, &parked_for)) {
		word = process_word(vcpu->process);
		if (word % PROCESS_MODES == PROCESS_RUNNING)
			run_paced(vcpu, word);
	}
	return NULL;
}

/* ---------------------------------------------------------------- the disk */

/* Keep a queue busy until the word changes. */
static void drive(struct driving *driving, uint32_t word)
{
	struct process *process = driving->process;
	struct disk *disk = process->base.disk;

	for (;;) {
		uint32_t bell = disk_bell(disk, driving->queue);

		if (process_word(process) != word)
			return;
		if (!disk_step(disk, driving->queue, process->marked))
			disk_wait(disk, driving->queue, bell);
	}
}

static void *driving_body(void *arg)
{
	struct driving *driving = arg;
	uint32_t parked_for = PROCESS_STOPPED, word;

	while (stand_still(driving->process, &parked_for)) {
		word = process_word(driving->process);
		if (word % PROCESS_MODES == PROCESS_RUNNING)
			drive(driving, word);
	}
	return NULL;
}

/* ---------------------------------------------------------------- starting and ending them */

static int start_drivers(struct process *process)
{
	uint32_t queues = process->base.disk ? disk_queues(process->base.disk) : 0;

	for (uint32_t q = 0; q < queues; q++) {
		struct driving *driving = &process->driving[q];
		char name[16] = "driver";
		int error;

		driving->process = process;
		driving->queue = q;
		name[6] = (char)('0' + q);
		error = os_thread_start(&driving->thread, name, driving_body, driving);
		if (error)
			return error;
		process->drivers++;
		process->threads++;
	}
	return 0;
}

int process_start_threads(struct process *process)
{
	int error = os_thread_start(&process->heartbeat, "heartbeat", heartbeat_body, process);

	if (error)
		return error;
	process->threads = 1;
	error = start_drivers(process);
	if (error)
		return error;
	for (uint32_t i = 0; i < process->base.settings.vcpus; i++) {
		char name[16] = "vcpu";

		name[4] = (char)('0' + i / 100);
		name[5] = (char)('0' + i / 10 % 10);
		name[6] = (char)('0' + i % 10);
		error = os_thread_start(&process->vcpu[i].thread, name, vcpu_body, &process->vcpu[i]);
		if (error)
			return error;
		process->threads++;
	}
	return 0;
}

void process_stop_threads(struct process *process)
{
	atomic_store_explicit(&process->word, PROCESS_QUITTING, memory_order_release);
	process_wake(process);
	for (uint32_t i = 0; i + 1 + process->drivers < process->threads; i++)
		pthread_join(process->vcpu[i].thread, NULL);
	for (uint32_t q = 0; q < process->drivers; q++)
		pthread_join(process->driving[q].thread, NULL);
	if (process->threads)
		pthread_join(process->heartbeat, NULL);
	process->threads = 0;
}
