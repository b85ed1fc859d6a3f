/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The KVM guest's clocks, on their way.
 *
 * A guest that was stopped and runs on at the source finds that its clocks, KVM's and the TSC, have gone on meanwhile; so they have for one that
 * arrived elsewhere. Each is saved with for how long the guest had stood still when it was read; the library says for how long it has when
 * it is about to run, and what lies between is added. A TSC is written only then, once: KVM takes a value within a second of what it expects for
 * an attempt to have vCPUs agree, and ignores what it says. That is also what makes them agree here. (The other choice, clocks that stand
 * still with the guest, leaves it with a time of day that is late until somebody sets it.)
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "perf/kvm/machine.h"
#include "perf/os.h"

#define READ_TRIES 16
#define READ_NS (50 * OS_MS / 1000)

/* One register, as KVM wants it; whether it knows it. */
bool machine_msr(int fd, unsigned long request, struct kvm_msr_entry *entry)
{
	uint64_t buffer[(sizeof(struct kvm_msrs) + sizeof(*entry)) / sizeof(uint64_t)] = { 0 };
	struct kvm_msrs *msr = (struct kvm_msrs *)buffer;

	msr->nmsrs = 1;
	msr->entries[0] = *entry;
	if (ioctl(fd, request, msr) != 1)
		return false;
	*entry = msr->entries[0];
	return true;
}
_Static_assert(sizeof(struct kvm_msrs) == 8 && sizeof(struct kvm_msr_entry) == 16, "whole words");

/* A clock together with the host's: again, while a busy host lets time pass between the two. */
static int read_together(int (*read)(const void *from, uint64_t *ret), const void *from, uint64_t *ret, uint64_t *ret_host_ns)
{
	uint64_t value = 0, least = UINT64_MAX;

	*ret = *ret_host_ns = 0;
	for (int tries = 0; tries < READ_TRIES && least > READ_NS; tries++) {
		uint64_t before = os_now_ns(), after;
		int error = read(from, &value);

		if (error)
			return error;
		after = os_now_ns();
		if (after - before >= least)
			continue;
		least = after - before;
		*ret = value;
		*ret_host_ns = before + least / 2;
	}
	return 0;
}

static int read_kvmclock(const void *from, uint64_t *ret)
{
	const struct machine *machine = from;
	struct kvm_clock_data clock = { 0 };
	int error = ioctl(machine->vm.fd, KVM_GET_CLOCK, &clock) ? -errno : 0;

	*ret = clock.clock;
	return error;
}

static int read_tsc_once(const void *from, uint64_t *ret)
{
	const struct vcpu *vcpu = from;
	struct kvm_msr_entry tsc = { .index = MACHINE_MSR_TSC };
	bool read = machine_msr(vcpu->fd, KVM_GET_MSRS, &tsc);

	*ret = tsc.data;
	return read ? 0 : -ENOTSUP;
}

int machine_read_clock(const struct machine *machine, uint64_t *ret, uint64_t *ret_host_ns)
{
	return read_together(read_kvmclock, machine, ret, ret_host_ns);
}

int machine_read_tsc(const struct vcpu *vcpu, uint64_t *ret, uint64_t *ret_host_ns)
{
	return read_together(read_tsc_once, vcpu, ret, ret_host_ns);
}

/* Since `from_ns`, less what had passed when it was saved. */
static uint64_t passed(uint64_t from_ns, uint64_t stood_ns)
{
	uint64_t stopped = os_now_ns() - from_ns;

	return stopped > stood_ns ? stopped - stood_ns : 0;
}

static uint64_t cycles(const struct vcpu *vcpu, uint64_t ns)
{
	return (uint64_t)((__uint128_t)ns * vcpu->tsc_khz / 1000000);
}

int machine_advance_clocks(struct guest *guest, uint64_t stopped_ns)
{
	struct machine *machine = machine_of(guest);
	uint64_t from = os_now_ns() - stopped_ns;
	struct kvm_clock_data clock = { 0 };

	for (uint32_t i = 0; i < machine->vcpus; i++) {
		const struct vcpu *vcpu = &machine->vcpu[i];
		struct kvm_msr_entry tsc = { .index = MACHINE_MSR_TSC,
					     .data = vcpu->tsc + cycles(vcpu, passed(from, vcpu->tsc_stood_ns)) };

		if (!machine_msr(vcpu->fd, KVM_SET_MSRS, &tsc))
			return -ENOTSUP;
	}
	clock.clock = machine->clock + passed(from, machine->clock_stood_ns);
	return ioctl(machine->vm.fd, KVM_SET_CLOCK, &clock) ? -errno : 0; /* behind the TSC, which it counts by */
}

bool machine_clocks(const struct guest *guest, struct guest_clocks *ret)
{
	const struct machine *machine = machine_of(guest);
	const struct vcpu *vcpu = &machine->vcpu[machine->vcpus - 1];
	uint64_t clock, tsc, clock_host_ns, tsc_host_ns;

	if (!machine->clock_host_ns || !vcpu->tsc_khz || machine_read_clock(machine, &clock, &clock_host_ns) ||
	    machine_read_tsc(vcpu, &tsc, &tsc_host_ns))
		return false;
	ret->kvmclock_ns = (int64_t)(clock - machine->clock) - (int64_t)(clock_host_ns - machine->clock_host_ns);
	ret->tsc_ns =
		(int64_t)((__uint128_t)(tsc - vcpu->tsc) * 1000000 / vcpu->tsc_khz) - (int64_t)(tsc_host_ns - vcpu->tsc_host_ns);
	return true;
}
