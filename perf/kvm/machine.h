/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The KVM guest: a machine of vCPUs and a serial port. For the files of perf/kvm; others see guest.h. */
#ifndef PERF_KVM_MACHINE_H
#define PERF_KVM_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "perf/guest_kind.h"
#include "perf/kvm/layout.h"
#include "perf/kvm/serial.h"
#include "perf/kvm/vm.h"

/* What vCPUs are to do: the low bits of machine.word, whose rest counts the changes. */
enum machine_mode {
	MACHINE_STOPPED, /* leave the guest at once, wherever it is */
	MACHINE_RUNNING,
	MACHINE_QUITTING, /* the threads end */
	MACHINE_QUIET,    /* leave the guest when it next asks what to do: between two writes */
};
#define MACHINE_MODES 4u

struct machine;

struct vcpu {
	/* set once */
	struct machine *machine;
	uint32_t id;
	int fd;
	struct kvm_run *run; /* immediate_exit also by the signal's handler */
	pthread_t thread;
	bool started;

	/* the thread's; anyone's while the machine stands still */
	bool at_rest;            /* the guest asked what to do, and was told: nothing */
	bool unfinished;         /* an exit whose result KVM has not taken over yet */
	uint64_t began_ns, done; /* pace: since when, and writes granted since */
	uint64_t seen_ns;        /* held off until then is counted in began_ns */
	timer_t kicker;          /* kicks the thread itself, when a throttled vCPU's time is over */
	bool has_kicker;
	uint64_t kick_at_ns;    /* that it was last set to */
	uint64_t granted_at_ns; /* 0: not since it began to run */
	uint32_t granted_now;   /* then */
	uint32_t batch;         /* most that is granted at once, for a beat every half millisecond */
	uint32_t parked_for;
	uint64_t tsc, tsc_stood_ns, tsc_host_ns; /* as it was saved: see state.c */
	uint32_t tsc_khz;
	uint32_t bell;                       /* a driver's: as it was when it was last answered */
	uint64_t check_next, check_until_ns; /* next group or page to be checked; items: all were */
	struct kvm_regs at_rest_registers;   /* of the last time it parked while QUIET */

	_Atomic uint64_t granted; /* pages, in all. Readable at any time */
	_Atomic uint64_t last_beat_ns, gap_ns;
	_Atomic(const char *) crashed; /* why this vCPU runs no more; NULL: it does */
} __attribute__((aligned(64)));

struct machine {
	struct guest base;
	/* set once */
	struct vm vm;
	struct layout layout;
	struct serial serial;

	/* by whoever pauses or resumes, while all stand still; the word publishes it */
	void (*beaten)(void *opaque, uint64_t ns);
	void *beaten_opaque;
	void (*parked)(void *opaque);
	void *parked_opaque;
	bool checking;
	uint64_t clock, clock_stood_ns, clock_host_ns; /* kvmclock as it was saved: likewise */
	struct sluice *tracked_by;                     /* whose trackers empty full rings */

	_Atomic uint32_t word;    /* store-release by who changes it, pairs with load-acquire by vCPU threads */
	_Atomic uint32_t running; /* vCPUs not parked; the last decrement (acq_rel) sees all they did */
	_Atomic uint32_t filled;  /* those that write and have filled what is theirs, with --fill guest */
	_Atomic bool beat_due;    /* `beaten` is to be called */
	_Atomic uint64_t beats, last_beat_ns, gap_ns;
	_Atomic uint64_t rings_full;         /* exits for it */
	_Atomic uint64_t wrong, first_wrong; /* pages that the guest found wrong itself; first_wrong: one of them */

	/* under tally_lock: which pages of counts exist, made when first asked about after the machine stood still */
	pthread_mutex_t tally_lock;
	uint64_t *counts_present;  /* a bit a page of counts */
	_Atomic bool counts_known; /* store-release under the lock, pairs with load-acquire without it */

	uint32_t vcpus; /* that were made: those that write, and the disk's drivers */
	struct vcpu vcpu[];
};

static inline struct machine *machine_of(const struct guest *guest)
{
	return (struct machine *)guest;
}

static inline uint32_t machine_word(struct machine *machine)
{
	return atomic_load_explicit(&machine->word, memory_order_acquire);
}

/* vcpu.c: make vCPU `id` with its thread, which stands still; end it. */
int vcpu_create(struct machine *machine, uint32_t id);
void vcpu_destroy(struct vcpu *vcpu);
/* Have it leave the guest and look at the word. Any thread. */
void vcpu_kick(struct vcpu *vcpu);

/* drivers.c: the disk's drivers. A driver's vCPU: what it is told that asks at this port; it is about to run; whether it is one. */
uint32_t machine_answer_driver(struct vcpu *vcpu, unsigned port);
void machine_forget_bell(struct vcpu *vcpu);
bool machine_is_driver(const struct vcpu *vcpu);
/* Have KVM ring the device's bell. 0 or negative errno. */
int machine_ring_doorbell(struct machine *machine);
/* struct guest_kind's. */
int machine_boot_drivers(struct guest *guest);

/* state.c: what the guest's state is made of. The machine must stand still. */
int machine_save(const struct guest *guest, struct guest_state *ret_state);
int machine_load(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR]);
/* clock.c: one model-specific register, as KVM wants it; whether it knows it. */
#define MACHINE_MSR_TSC 0x10u
bool machine_msr(int fd, unsigned long request, struct kvm_msr_entry *entry);
/* A clock, and the host's CLOCK_MONOTONIC at that moment. */
int machine_read_clock(const struct machine *machine, uint64_t *ret, uint64_t *ret_host_ns);
int machine_read_tsc(const struct vcpu *vcpu, uint64_t *ret, uint64_t *ret_host_ns);
int machine_advance_clocks(struct guest *guest, uint64_t stopped_ns);
bool machine_clocks(const struct guest *guest, struct guest_clocks *ret);
/* What a vCPU begins with, and whether registers that the guest never touches are still what they were then. */
int machine_reset_vcpu(struct vcpu *vcpu);
bool machine_registers_kept(const struct vcpu *vcpu);

#endif
