/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state of the KVM guest's devices: sections "machine", "serial" and "vcpu-0" to "vcpu-35".
 *
 * Registers travel as KVM's own structures: both ends are this program on x86-64, and the section's version says which. What a
 * peer sends is checked for its size; whether registers make sense is KVM's to judge, and what the guest is allowed with them
 * is no more than what any guest is.
 *
 * The guest's code uses general registers only. So that the others are seen to travel, each vCPU begins with numbers of its own in
 * its SSE registers and in one model-specific register, and verification looks whether they are still there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "perf/kvm/machine.h"

#define MACHINE_VERSION 2
#define SERIAL_VERSION 1
#define VCPU_VERSION 2
#define MSRS 16u
#define XMM_WORDS 32u /* 16 SSE registers of two */

#define MSR_KERNEL_GS_BASE 0xc0000102u

/* Those that operating systems set. What this KVM does not have is left out. */
static const uint32_t msrs[] = {
	MACHINE_MSR_TSC,          0x174 /* SYSENTER_CS */, 0x175 /* SYSENTER_ESP */,      0x176 /* SYSENTER_EIP */,
	0x1a0 /* MISC_ENABLE */,  0x277 /* PAT */,         0x2ff /* MTRR_DEF_TYPE */,     0xc0000081 /* STAR */,
	0xc0000082 /* LSTAR */,   0xc0000083 /* CSTAR */,  0xc0000084 /* SYSCALL_MASK */, MSR_KERNEL_GS_BASE,
	0xc0000103 /* TSC_AUX */,
};
_Static_assert(sizeof(msrs) / sizeof(*msrs) <= MSRS, "they fit");

struct wire_machine {
	uint64_t seed, beats, wrong;
	uint32_t vcpus, cpuids;
	uint64_t clock, stood_ns,
		host_ns; /* kvmclock; when it was read: since the guest stopped, and by the host's CLOCK_MONOTONIC */
	struct kvm_cpuid_entry2 cpuid[VM_CPUID];
};

struct wire_vcpu {
	uint64_t granted;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint32_t xsave[1024]; /* struct kvm_xsave */
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_mp_state mp_state;
	uint64_t stood_ns, host_ns; /* when the TSC was read */
	uint32_t tsc_khz, msrs;
	struct kvm_msr_entry msr[MSRS];
};

_Static_assert(sizeof(struct kvm_xsave) == 4096, "xsave's size");

struct wire {
	struct wire_machine machine;
	struct serial_state serial;
	char name[GUEST_SECTIONS][16];
	struct wire_vcpu vcpu[];
};

/* ---------------------------------------------------------------- beginning */

static uint64_t mark_of(const struct vcpu *vcpu, unsigned i)
{
	return content_mix(vcpu->machine->base.settings.content.seed + vcpu->id * 256u + i + 1);
}

/* What KERNEL_GS_BASE holds: an address, so it must be canonical. */
static uint64_t msr_mark_of(const struct vcpu *vcpu)
{
	return mark_of(vcpu, 255) >> 20;
}

/* 64-bit mode, flat, paging on; there is no descriptor table, for nothing loads a segment or takes an interrupt. */
static void set_long_mode(struct kvm_sregs *s, uint64_t page_tables)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1 /* accessed, execute, read */
	};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 /* accessed, read, write */
	};

	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->cr3 = page_tables;
	s->cr4 = 0x620;      /* PAE, OSFXSR, OSXMMEXCPT */
	s->cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	s->efer = 0x500;     /* LMA, LME */
}

/* Where the SSE registers are in XSAVE's area, and the bit that says they are (Intel SDM, volume 1, chapter 13). */
#define XSAVE_XMM 160u
#define XSAVE_PRESENT 512u
#define XSAVE_SSE 2u

static void mark_xmm(const struct vcpu *vcpu, struct kvm_xsave *to)
{
	uint8_t *area = (uint8_t *)to->region;
	uint64_t present;

	for (unsigned i = 0; i < XMM_WORDS; i++) {
		uint64_t value = mark_of(vcpu, i);

		memcpy(area + XSAVE_XMM + i * sizeof(value), &value, sizeof(value));
	}
	memcpy(&present, area + XSAVE_PRESENT, sizeof(present));
	present |= XSAVE_SSE;
	memcpy(area + XSAVE_PRESENT, &present, sizeof(present));
}

int machine_reset_vcpu(struct vcpu *vcpu)
{
	struct machine *machine = vcpu->machine;
	struct kvm_msr_entry gs = { .index = MSR_KERNEL_GS_BASE, .data = msr_mark_of(vcpu) };
	struct kvm_xsave xsave;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (ioctl(vcpu->fd, KVM_SET_CPUID2, vm_cpuid(&machine->vm)) || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) ||
	    ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave))
		return -errno;
	set_long_mode(&sregs, layout_page_tables(&machine->layout));
	layout_registers(&machine->layout, vcpu->id, &regs);
	mark_xmm(vcpu, &xsave);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) || ioctl(vcpu->fd, KVM_SET_REGS, &regs) ||
	    ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave))
		return -errno;
	return machine_msr(vcpu->fd, KVM_SET_MSRS, &gs) ? 0 : -ENOTSUP;
}

bool machine_registers_kept(const struct vcpu *vcpu)
{
	struct kvm_msr_entry gs = { .index = MSR_KERNEL_GS_BASE };
	struct kvm_xsave is, expected;

	if (ioctl(vcpu->fd, KVM_GET_XSAVE, &is) || !machine_msr(vcpu->fd, KVM_GET_MSRS, &gs))
		return false;
	expected = is;
	mark_xmm(vcpu, &expected);
	return !memcmp(&is, &expected, sizeof(is)) && gs.data == msr_mark_of(vcpu);
}

/* ---------------------------------------------------------------- saving */

static uint64_t stopped_at(const struct machine *machine)
{
	return machine->base.run[machine->base.runs - 1].to_ns;
}

static int save_vcpu(const struct vcpu *vcpu, struct wire_vcpu *to)
{
	int fd = vcpu->fd, khz = ioctl(fd, KVM_GET_TSC_KHZ);
	uint64_t tsc;

	to->granted = atomic_load(&vcpu->granted);
	if (ioctl(fd, KVM_GET_REGS, &to->regs) || ioctl(fd, KVM_GET_SREGS, &to->sregs) || ioctl(fd, KVM_GET_XSAVE, to->xsave) ||
	    ioctl(fd, KVM_GET_XCRS, &to->xcrs) || ioctl(fd, KVM_GET_VCPU_EVENTS, &to->events) ||
	    ioctl(fd, KVM_GET_DEBUGREGS, &to->debugregs) || ioctl(fd, KVM_GET_MP_STATE, &to->mp_state))
		return -errno;
	for (unsigned i = 0; i < sizeof(msrs) / sizeof(*msrs); i++) {
		struct kvm_msr_entry msr = { .index = msrs[i] };

		bool has = machine_msr(fd, KVM_GET_MSRS, &msr);

		if (has && msrs[i] == MACHINE_MSR_TSC) {
			has = !machine_read_tsc(vcpu, &tsc, &to->host_ns);
			msr.data = tsc;
		}
		if (has)
			to->msr[to->msrs++] = msr;
	}
	to->stood_ns = to->host_ns - stopped_at(vcpu->machine);
	to->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	return 0;
}

static void release(struct guest_state *state)
{
	free(state->data);
}

int machine_save(const struct guest *guest, struct guest_state *ret_state)
{
	struct machine *machine = machine_of(guest);
	struct wire *wire = calloc(1, sizeof(*wire) + machine->vcpus * sizeof(wire->vcpu[0]));
	struct sluice_section *section = ret_state->section;
	uint64_t clock = 0;
	int error;

	if (!wire)
		return -ENOMEM;
	wire->machine.seed = guest->settings.content.seed;
	wire->machine.beats = atomic_load(&machine->beats);
	wire->machine.wrong = atomic_load(&machine->wrong);
	wire->machine.vcpus = machine->vcpus;
	wire->machine.cpuids = vm_cpuid(&machine->vm)->nent;
	memcpy(wire->machine.cpuid, vm_cpuid(&machine->vm)->entries, sizeof(wire->machine.cpuid));
	error = machine_read_clock(machine, &clock, &wire->machine.host_ns);
	wire->machine.clock = clock;
	wire->machine.stood_ns = wire->machine.host_ns - stopped_at(machine);
	wire->serial = machine->serial.state;
	*section++ = (struct sluice_section){ "machine", MACHINE_VERSION, &wire->machine, sizeof(wire->machine) };
	*section++ = (struct sluice_section){ "serial", SERIAL_VERSION, &wire->serial, sizeof(wire->serial) };
	for (uint32_t i = 0; i < machine->vcpus && !error; i++) {
		error = save_vcpu(&machine->vcpu[i], &wire->vcpu[i]);
		snprintf(wire->name[i], sizeof(wire->name[i]), "vcpu-%u", (unsigned)i);
		*section++ = (struct sluice_section){ wire->name[i], VCPU_VERSION, &wire->vcpu[i], sizeof(wire->vcpu[i]) };
	}
	if (error) {
		free(wire);
		return error;
	}
	ret_state->n = 2 + machine->vcpus;
	ret_state->data = wire;
	ret_state->release = release;
	return 0;
}
_Static_assert(SETTINGS_MAX_KVM_VCPUS + AREA_QUEUES + 2 <= GUEST_SECTIONS && GUEST_SECTIONS <= SLUICE_MAX_SECTIONS,
	       "sections suffice");

/* ---------------------------------------------------------------- loading */

static const char *load_machine(struct machine *machine, const struct wire_machine *from)
{
	struct kvm_clock_data clock = { .clock = from->clock };

	if (from->vcpus != machine->vcpus)
		return "the guest has more or fewer vCPUs than the machine that was made for it: make one with as many";
	if (from->seed != machine->base.settings.content.seed || from->cpuids > VM_CPUID)
		return "section machine is not this guest's";
	vm_cpuid(&machine->vm)->nent = from->cpuids;
	memcpy(vm_cpuid(&machine->vm)->entries, from->cpuid, sizeof(from->cpuid));
	for (uint32_t i = 0; i < machine->vcpus; i++) {
		if (ioctl(machine->vcpu[i].fd, KVM_SET_CPUID2, vm_cpuid(&machine->vm)))
			return "this host's KVM refuses the guest's CPU features: migrate to a host with the same kind of CPU";
	}
	if (ioctl(machine->vm.fd, KVM_SET_CLOCK, &clock))
		return "this host's KVM refuses the guest's clock";
	machine->clock = from->clock;
	machine->clock_stood_ns = from->stood_ns;
	machine->clock_host_ns = from->host_ns;
	atomic_store(&machine->beats, from->beats);
	atomic_store(&machine->wrong, from->wrong);
	return NULL;
}

static const char *load_vcpu(struct vcpu *vcpu, const struct wire_vcpu *from)
{
	int fd = vcpu->fd;

	if (from->msrs > MSRS)
		return "section vcpu is damaged";
	if (from->tsc_khz && (uint32_t)ioctl(fd, KVM_GET_TSC_KHZ) != from->tsc_khz &&
	    ioctl(fd, KVM_SET_TSC_KHZ, (unsigned long)from->tsc_khz))
		return "this host's CPU has no TSC of the guest's frequency: migrate to a host with the same kind of CPU";
	vcpu->tsc_khz = from->tsc_khz;
	vcpu->tsc_stood_ns = from->stood_ns;
	vcpu->tsc_host_ns = from->host_ns;
	if (ioctl(fd, KVM_SET_SREGS, &from->sregs) || ioctl(fd, KVM_SET_REGS, &from->regs) ||
	    ioctl(fd, KVM_SET_XCRS, &from->xcrs) || ioctl(fd, KVM_SET_XSAVE, from->xsave) ||
	    ioctl(fd, KVM_SET_DEBUGREGS, &from->debugregs) || ioctl(fd, KVM_SET_VCPU_EVENTS, &from->events) ||
	    ioctl(fd, KVM_SET_MP_STATE, &from->mp_state))
		return "this host's KVM refuses a vCPU's registers: migrate to a host with the same kind of CPU";
	for (uint32_t i = 0; i < from->msrs; i++) {
		struct kvm_msr_entry msr = from->msr[i];

		if (msr.index == MACHINE_MSR_TSC)
			vcpu->tsc = msr.data;
		else if (!machine_msr(fd, KVM_SET_MSRS, &msr))
			return "this host's KVM refuses one of a vCPU's model-specific registers";
	}
	atomic_store(&vcpu->granted, from->granted);
	return NULL;
}

/* Which vCPU a section is of, -1: none of ours. */
static int vcpu_named(const struct machine *machine, const char *name)
{
	char expected[16];

	for (uint32_t i = 0; i < machine->vcpus; i++) {
		snprintf(expected, sizeof(expected), "vcpu-%u", (unsigned)i);
		if (!strcmp(name, expected))
			return (int)i;
	}
	return -1;
}

/* Where the library put it need not be aligned: a copy. NULL: its length or version is not what we know. */
static const void *copy(const struct sluice_section *section, uint32_t version, void *to, size_t length)
{
	return section->version == version && section->length == length ? memcpy(to, section->data, length) : NULL;
}

static const char *load_section(struct machine *machine, const struct sluice_section *section, struct wire *wire, uint64_t *seen)
{
	int id = vcpu_named(machine, section->name);
	const char *unlike = "the guest's state has another form: use the same migperf at both ends";

	if (!strcmp(section->name, "machine")) {
		*seen |= 1;
		return copy(section, MACHINE_VERSION, &wire->machine, sizeof(wire->machine))
			       ? load_machine(machine, &wire->machine)
			       : unlike;
	}
	if (!strcmp(section->name, "serial")) {
		*seen |= 2;
		return copy(section, SERIAL_VERSION, &machine->serial.state, sizeof(machine->serial.state)) ? NULL : unlike;
	}
	if (id < 0)
		return "the guest's state has a section that this migperf does not know";
	if (!(*seen & 1)) /* CPU features come before what they allow */
		return "the guest's state is out of order";
	*seen |= 4ull << id;
	return copy(section, VCPU_VERSION, &wire->vcpu[0], sizeof(wire->vcpu[0])) ? load_vcpu(&machine->vcpu[id], &wire->vcpu[0])
										  : unlike;
}

int machine_load(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR])
{
	struct machine *machine = machine_of(guest);
	struct wire *wire = calloc(1, sizeof(*wire) + sizeof(wire->vcpu[0]));
	const char *wrong = wire ? NULL : "no memory to load the guest's state";
	uint64_t seen = 0, all = (4ull << machine->vcpus) - 1;

	for (size_t i = 0; i < n && !wrong; i++)
		wrong = load_section(machine, &sections[i], wire, &seen);
	if (!wrong && seen != all)
		wrong = "the guest's state lacks a section";
	free(wire);
	if (!wrong)
		return 0;
	snprintf(error, SETTINGS_ERROR, "%s", wrong);
	return -EBADMSG;
}
