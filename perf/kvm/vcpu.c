/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vCPU and its thread.
 *
 * Kicking: the machine's word is changed first, then the thread gets a signal whose handler sets immediate_exit. Inside KVM_RUN the
 * signal ends it; before KVM_RUN the flag does, so there is no moment at which a kick gets lost. The thread itself clears the flag,
 * before it looks at the word. An exit for port input is finished (entered again with the flag set, which runs nothing)
 * before the thread parks: until then the registers are not those of any moment between two instructions.
 *
 * Throttling: before it enters the guest the thread sets a timer of its own to when the vCPU's share of time is over, which kicks it out;
 * and it sleeps for the rest. The guest's pace and the size of a grant know nothing of that time.
 *
 * Pace: the guest asks how much it may write. It is told as much as takes a quarter of a millisecond or so, or what its rate allows by now;
 * where that is nothing, the thread sleeps as a halted CPU does, and wakes with every tick.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "perf/kvm/drivers.h"
#include "perf/kvm/machine.h"
#include "perf/os.h"
#include "perf/throttle.h"

#define BUDGET_PORT 0x10u
#define FILLED_PORT 0x14u
#define WRONG_PORT 0x18u
#define CHECK 0x80000000u
#define CHECK_FROM_FIRST 0x40000000u

#define TICK_NS OS_MS
#define CATCH_UP_NS (50 * OS_MS) /* a vCPU that was held up longer does not make up for the rest */
/* A batch under way when the guest is paused is ended at the destination, where its pages are touched for the first time. */
#define BEAT_SHORT_NS (OS_MS / 8)
#define BEAT_LONG_NS (OS_MS / 2)
#define FIRST_BATCH 16u /* writes of the smallest kind */
#define MAX_BATCH (1u << 20)
/* With a dirty ring: KVM looks whether it is full when a vCPU is entered, and where it emulates all, not before the next exit. It keeps
 * 64 entries free; a write is at most two, a check none. */
#define RING_BATCH 16u
#define KICK SIGRTMIN
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid /* glibc has it so, and no name for it */
#endif

static _Thread_local struct kvm_run *kicked_run;

static void on_kick(int number)
{
	(void)number;
	if (kicked_run)
		*(volatile uint8_t *)&kicked_run->immediate_exit = 1;
}

void vcpu_kick(struct vcpu *vcpu)
{
	pthread_kill(vcpu->thread, KICK);
}

static void crash(struct vcpu *vcpu, const char *why)
{
	atomic_store(&vcpu->crashed, why);
	atomic_fetch_add(&vcpu->machine->filled, 1); /* nobody waits for it */
	os_futex_wake_all(&vcpu->machine->filled);
}

/* ---------------------------------------------------------------- heartbeats */

static void raise_to(_Atomic uint64_t *to, uint64_t value)
{
	uint64_t now = atomic_load_explicit(to, memory_order_relaxed);

	while (now < value && !atomic_compare_exchange_weak_explicit(to, &now, value, memory_order_relaxed, memory_order_relaxed))
		;
}

/* The guest's heart beats when any of its vCPUs' does. */
static void beat(struct vcpu *vcpu, uint64_t now)
{
	struct machine *machine = vcpu->machine;
	uint64_t last = atomic_load_explicit(&vcpu->last_beat_ns, memory_order_relaxed);

	if (last && now > last)
		raise_to(&vcpu->gap_ns, now - last);
	atomic_store_explicit(&vcpu->last_beat_ns, now, memory_order_relaxed);

	last = atomic_load_explicit(&machine->last_beat_ns, memory_order_relaxed);
	while (last < now && !atomic_compare_exchange_weak_explicit(&machine->last_beat_ns, &last, now, memory_order_relaxed,
								    memory_order_relaxed))
		;
	if (last && last < now)
		raise_to(&machine->gap_ns, now - last);
	atomic_fetch_add_explicit(&machine->beats, 1, memory_order_relaxed);
	if (atomic_load_explicit(&machine->beat_due, memory_order_relaxed) && atomic_exchange(&machine->beat_due, false))
		machine->beaten(machine->beaten_opaque, now);
}

/* ---------------------------------------------------------------- the guest asks what to do */

static void adapt_batch(struct vcpu *vcpu, uint64_t now)
{
	uint64_t took = now - vcpu->granted_at_ns;
	uint32_t most = vcpu->machine->vm.ring_bytes ? RING_BATCH / layout_unit(&vcpu->machine->layout) : MAX_BATCH;

	if (vcpu->batch > most)
		vcpu->batch = most;
	if (!vcpu->granted_at_ns)
		return;
	if (took > BEAT_LONG_NS && vcpu->batch > 1)
		vcpu->batch /= 2;
	else if (took < BEAT_SHORT_NS && vcpu->batch < most && vcpu->granted_now == vcpu->batch)
		vcpu->batch *= 2;
}

/* It asked while it is to come to rest: let it check itself first, where that is wanted and there is time. */
static uint32_t grant_check(struct vcpu *vcpu, uint64_t now)
{
	struct machine *machine = vcpu->machine;
	uint32_t unit = layout_unit(&machine->layout);
	uint64_t left = machine->layout.items / unit - vcpu->check_next;
	uint32_t n = vcpu->batch < left ? vcpu->batch : (uint32_t)left, first = vcpu->check_next ? 0 : CHECK_FROM_FIRST;

	if (!machine->checking || !left || now >= vcpu->check_until_ns) {
		vcpu->at_rest = true;
		return 0;
	}
	vcpu->check_next += n;
	vcpu->granted_at_ns = now;
	vcpu->granted_now = n;
	return CHECK | first | n;
}

/* Writes due by the vCPU's share of the rate, and when the next one will be. */
static uint64_t due_writes(struct vcpu *vcpu, uint64_t now, uint64_t *ret_next_ns)
{
	const struct machine *machine = vcpu->machine;
	uint32_t unit = layout_unit(&machine->layout);
	double per_ns = (double)machine->base.settings.dirty_rate / machine->base.settings.vcpus / SLUICE_PAGE_SIZE / unit / 1e9;
	uint64_t most = (uint64_t)(per_ns * CATCH_UP_NS) + 1, due;

	if (per_ns <= 0) {
		*ret_next_ns = now + TICK_NS;
		return 0;
	}
	due = (uint64_t)((double)(now - vcpu->began_ns) * per_ns) - vcpu->done;
	if (due > most) {
		vcpu->began_ns = now - (uint64_t)((double)most / per_ns);
		vcpu->done = 0;
		due = most;
	}
	*ret_next_ns = vcpu->began_ns + (uint64_t)((double)(vcpu->done + 1) / per_ns);
	return due;
}

static uint32_t grant(struct vcpu *vcpu)
{
	struct machine *machine = vcpu->machine;
	uint64_t now = os_now_ns(), due, next;
	uint32_t word = machine_word(machine), n;

	beat(vcpu, now);
	adapt_batch(vcpu, now);
	vcpu->granted_at_ns = 0;
	if (word % MACHINE_MODES == MACHINE_QUIET)
		return grant_check(vcpu, now);
	if (word % MACHINE_MODES != MACHINE_RUNNING)
		return 0;
	due = due_writes(vcpu, now, &next);
	if (!due) {
		os_futex_wait(&machine->word, word, next > now + TICK_NS ? next : now + TICK_NS);
		return 0;
	}
	n = due < vcpu->batch ? (uint32_t)due : vcpu->batch;
	vcpu->done += n;
	vcpu->granted_at_ns = now;
	vcpu->granted_now = n;
	atomic_store_explicit(&vcpu->granted,
			      atomic_load_explicit(&vcpu->granted, memory_order_relaxed) +
				      (uint64_t)n * layout_unit(&machine->layout),
			      memory_order_relaxed);
	return n;
}

/* ---------------------------------------------------------------- exits */

static void handle_port(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct machine *machine = vcpu->machine;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool in = run->io.direction == KVM_EXIT_IO_IN;
	uint32_t value = 0;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (!in)
			memcpy(&value, data, run->io.size);
		if (run->io.port == BUDGET_PORT && in) {
			value = grant(vcpu);
		} else if (run->io.port >= DRIVERS_IDLE && run->io.port <= DRIVERS_OFFERED && in && machine_is_driver(vcpu)) {
			value = machine_answer_driver(vcpu, run->io.port);
		} else if (run->io.port == FILLED_PORT && !in) {
			atomic_fetch_add(&machine->filled, 1);
			os_futex_wake_all(&machine->filled);
		} else if (run->io.port == WRONG_PORT && !in) {
			atomic_store(&machine->first_wrong, value);
			atomic_fetch_add(&machine->wrong, 1);
		} else if (run->io.port / SERIAL_REGISTERS == SERIAL_PORT / SERIAL_REGISTERS) {
			if (in)
				value = serial_read(&machine->serial, run->io.port);
			else
				serial_write(&machine->serial, run->io.port, (uint8_t)value);
		}
		if (in)
			memcpy(data, &value, run->io.size);
	}
	vcpu->unfinished = true;
}

/* After a KVM_RUN that was not interrupted. */
static void handle_exit(struct vcpu *vcpu)
{
	int rc;

	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO: handle_port(vcpu); break;
	case KVM_EXIT_INTR: break;
	case KVM_EXIT_DIRTY_RING_FULL:
		atomic_fetch_add_explicit(&vcpu->machine->rings_full, 1, memory_order_relaxed);
		rc = sluice_kvm_ring_full(vcpu->machine->tracked_by);
		if (rc && rc != -EOVERFLOW) /* then the migration fails, and the guest runs on */
			crash(vcpu, "its dirty ring cannot be emptied");
		break;
	case KVM_EXIT_SHUTDOWN: crash(vcpu, "the guest shut itself down"); break;
	case KVM_EXIT_MMIO: crash(vcpu, "the guest touched memory that is not there"); break;
	case KVM_EXIT_INTERNAL_ERROR: crash(vcpu, "KVM could not run an instruction"); break;
	case KVM_EXIT_FAIL_ENTRY: crash(vcpu, "the CPU refused the guest's state"); break;
	default: crash(vcpu, "KVM gave up the guest for an unknown reason"); break;
	}
}

/* Have KVM take over the result of the last exit; runs nothing. */
static void finish_exit(struct vcpu *vcpu)
{
	if (!vcpu->unfinished)
		return;
	*(volatile uint8_t *)&vcpu->run->immediate_exit = 1;
	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0 || errno != EINTR)
		crash(vcpu, "KVM did not finish an exit");
	vcpu->unfinished = false;
}

static void set_kicker(struct vcpu *vcpu, uint64_t at_ns)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(at_ns / OS_S), .tv_nsec = (long)(at_ns % OS_S) } };

	if (!vcpu->has_kicker || vcpu->kick_at_ns == at_ns)
		return;
	vcpu->kick_at_ns = at_ns;
	timer_settime(vcpu->kicker, TIMER_ABSTIME, &at, NULL);
}

/* Whether its time was over and it has slept. */
static bool hold_off(struct vcpu *vcpu, uint32_t word)
{
	struct machine *machine = vcpu->machine;
	uint32_t percent = atomic_load_explicit(&machine->base.throttle, memory_order_relaxed);
	uint64_t now, until, since;

	if (!percent) {
		vcpu->seen_ns = 0;
		return false;
	}
	now = os_now_ns();
	since = vcpu->seen_ns ? vcpu->seen_ns : now;
	vcpu->seen_ns = now;
	vcpu->began_ns += throttle_stood_ns(percent, since, now);
	if (vcpu->granted_at_ns)
		vcpu->granted_at_ns += throttle_stood_ns(percent, vcpu->granted_at_ns > since ? vcpu->granted_at_ns : since, now);
	until = throttle_until(percent, now);
	if (until)
		os_futex_wait(&machine->word, word, until);
	else
		set_kicker(vcpu, throttle_from(percent, now));
	return until != 0;
}

/* Until the word says otherwise. */
static void run(struct vcpu *vcpu)
{
	vcpu->seen_ns = 0;
	vcpu->began_ns = os_now_ns();
	vcpu->done = 0;
	vcpu->granted_at_ns = 0;
	if (machine_is_driver(vcpu))
		machine_forget_bell(vcpu);
	for (;;) {
		uint32_t word, mode;
		int error;

		*(volatile uint8_t *)&vcpu->run->immediate_exit = 0;
		atomic_signal_fence(memory_order_seq_cst);
		word = machine_word(vcpu->machine);
		mode = word % MACHINE_MODES;
		if (mode == MACHINE_RUNNING)
			vcpu->at_rest = false;
		if (atomic_load(&vcpu->crashed)) {
			if (mode == MACHINE_RUNNING)
				os_futex_wait(&vcpu->machine->word, word, OS_FOREVER);
			return;
		}
		if (mode == MACHINE_STOPPED || mode == MACHINE_QUITTING || (mode == MACHINE_QUIET && vcpu->at_rest))
			break;
		if (mode == MACHINE_RUNNING && hold_off(vcpu, word))
			continue;
		error = ioctl(vcpu->fd, KVM_RUN, 0) ? errno : 0;
		vcpu->unfinished = false; /* it began with that */
		if (!error)
			handle_exit(vcpu);
		else if (error != EINTR && error != EAGAIN)
			crash(vcpu, "KVM_RUN failed");
	}
	finish_exit(vcpu);
}

/* ---------------------------------------------------------------- standing still */

static void park(struct vcpu *vcpu, uint32_t word)
{
	struct machine *machine = vcpu->machine;
	void (*parked)(void *) = machine->parked;
	void *opaque = machine->parked_opaque;

	vcpu->parked_for = word;
	if (word % MACHINE_MODES == MACHINE_QUIET && ioctl(vcpu->fd, KVM_GET_REGS, &vcpu->at_rest_registers))
		crash(vcpu, "KVM did not give the registers");
	if (atomic_fetch_sub_explicit(&machine->running, 1, memory_order_acq_rel) == 1) {
		guest_end_run(&machine->base);
		parked(opaque);
	}
}

/* Stand still until there is something to run. false: quit. */
static bool stand_still(struct vcpu *vcpu)
{
	struct machine *machine = vcpu->machine;
	uint32_t word, mode;

	for (;;) {
		word = machine_word(machine);
		mode = word % MACHINE_MODES;
		if (mode == MACHINE_QUITTING)
			return false;
		if (mode == MACHINE_RUNNING)
			return true;
		if (word == vcpu->parked_for) { /* what is the thread's is anyone's now */
			os_futex_wait(&machine->word, word, OS_FOREVER);
			continue;
		}
		if (mode == MACHINE_QUIET && !vcpu->at_rest && !atomic_load(&vcpu->crashed))
			return true;
		park(vcpu, word);
	}
}

static void *body(void *arg)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KICK };
	struct vcpu *vcpu = arg;
	sigset_t kick;

	kicked_run = vcpu->run;
	sigemptyset(&kick);
	sigaddset(&kick, KICK);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	/* Without one a throttled vCPU runs on until it next asks what to do, for a millisecond at most. */
	event.sigev_notify_thread_id = gettid();
	vcpu->has_kicker = !timer_create(CLOCK_MONOTONIC, &event, &vcpu->kicker);
	while (stand_still(vcpu))
		run(vcpu);
	if (vcpu->has_kicker)
		timer_delete(vcpu->kicker);
	return NULL;
}

/* ---------------------------------------------------------------- making one */

int vcpu_create(struct machine *machine, uint32_t id)
{
	struct vcpu *vcpu = &machine->vcpu[id];
	struct sigaction action = { .sa_handler = on_kick };
	char name[16];
	int error;

	vcpu->machine = machine;
	vcpu->id = id;
	vcpu->batch = FIRST_BATCH;
	vcpu->parked_for = MACHINE_STOPPED;
	vcpu->fd = ioctl(machine->vm.fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (vcpu->fd < 0)
		return -errno;
	vcpu->run = mmap(NULL, machine->vm.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		error = -errno;
		vcpu->run = NULL;
		goto close;
	}
	error = machine_reset_vcpu(vcpu);
	if (error)
		goto close;
	sigaction(KICK, &action, NULL); /* the process's; every vCPU says the same */
	snprintf(name, sizeof(name), "vcpu%03u", (unsigned)id);
	error = os_thread_start(&vcpu->thread, name, body, vcpu);
	vcpu->started = !error;
	if (!error)
		return 0;
close:
	vcpu_destroy(vcpu);
	return error;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (vcpu->started)
		pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
	if (vcpu->run)
		munmap(vcpu->run, vcpu->machine->vm.run_bytes);
	close(vcpu->fd);
}
