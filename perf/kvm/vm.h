/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A KVM virtual machine: its descriptors, its memory slots and their dirty log. */
#ifndef PERF_KVM_VM_H
#define PERF_KVM_VM_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "perf/memory.h"
#include "perf/settings.h"

#define VM_CPUID 256

/* A slot is a region of guest memory: slot i is region i. */
struct vm_slot {
	uint64_t guest_address, size;
	uint8_t *address;
	/* the dirty log's: of the thread that fetches */
	uint64_t *seen; /* a bit a page: noted by KVM when it was last asked, and not cleared since */
	uint64_t next;  /* pages before it were fetched since then */
};

struct vm {
	/* set once */
	int kvm_fd, fd;
	uint32_t run_bytes; /* of a vCPU's shared page */
	uint32_t
		manual; /* KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, with KVM_DIRTY_LOG_INITIALLY_SET where the kernel has it; 0: old KVM */
	uint32_t ring_bytes; /* of each vCPU's dirty ring, 0: none */
	unsigned slots;
	struct vm_slot slot[MEMORY_REGIONS];
	uint64_t cpuid[(sizeof(struct kvm_cpuid2) + VM_CPUID * sizeof(struct kvm_cpuid_entry2)) / sizeof(uint64_t)];
};

_Static_assert(sizeof(struct kvm_cpuid2) == 8 && sizeof(struct kvm_cpuid_entry2) == 40, "whole words");

/* The CPU features of its vCPUs, VM_CPUID at most. */
static inline struct kvm_cpuid2 *vm_cpuid(struct vm *vm)
{
	return (struct kvm_cpuid2 *)vm->cpuid;
}

/* `ring_pages`: entries of a dirty ring for each vCPU, 0: none. On error one line says what to do. */
int vm_open(struct vm *vm, const struct memory *memory, uint32_t ring_pages, char error[SETTINGS_ERROR]);
void vm_close(struct vm *vm);

/* sluice_ops.dirty_log_*; `opaque` is the struct vm. Any one thread. The log starts with all of memory dirty and nothing
 * protected, where KVM can do that: then starting costs a bit a page, and the guest nothing. */
int vm_log_start(void *opaque);
int vm_log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits);
int vm_log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits);
void vm_log_stop(void *opaque);

#endif
