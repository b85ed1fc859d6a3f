/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A KVM virtual machine: its descriptors, its memory slots and their dirty log.
 *
 * KVM tells of a slot's writes only as a whole: 2 MiB of bits for 64 GiB. The library asks piece by piece. So a slot is asked
 * about once a pass: whenever the piece wanted is not behind the one before, and pieces are answered from the copy. That is
 * sound because clearing is by page: what is written after the copy was made keeps its bit in KVM, unless the copy has it
 * too, and then the page is read after it was cleared.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "perf/kvm/layout.h"
#include "perf/kvm/vm.h"

#define TSS_ADDRESS 0xfffbd000u /* three pages that Intel's real mode wants, in the hole below 4 GiB */
#define WORD_BITS 64u

static size_t log_bytes(const struct vm_slot *slot)
{
	uint64_t pages = slot->size / SLUICE_PAGE_SIZE;

	return (pages + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

static int set_slot(struct vm *vm, unsigned i, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = i,
		.flags = flags,
		.guest_phys_addr = vm->slot[i].guest_address,
		.memory_size = vm->slot[i].size,
		.userspace_addr = (uintptr_t)vm->slot[i].address,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

static int check(struct vm *vm, unsigned long capability)
{
	int value = ioctl(vm->fd, KVM_CHECK_EXTENSION, capability);

	return value > 0 ? value : 0;
}

static int enable(struct vm *vm, uint32_t capability, uint64_t argument)
{
	struct kvm_enable_cap cap = { .cap = capability, .args = { argument } };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &cap) ? -errno : 0;
}

/* Before the first vCPU: a ring for each, or how the log is to work. */
static int prepare_tracking(struct vm *vm, uint32_t ring_pages)
{
	uint32_t bytes = ring_pages * (uint32_t)sizeof(struct kvm_dirty_gfn);

	if (ring_pages) {
		uint32_t capability = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;

		if (!check(vm, capability))
			capability = KVM_CAP_DIRTY_LOG_RING;
		if ((uint32_t)check(vm, capability) < bytes)
			return -ENOTSUP;
		vm->ring_bytes = bytes;
		return enable(vm, capability, bytes);
	}
	vm->manual = (uint32_t)check(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
		     (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	return vm->manual ? enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, vm->manual) : 0;
}

static int add_slots(struct vm *vm, const struct memory *memory)
{
	for (unsigned i = 0; i < memory->regions; i++) {
		struct vm_slot *slot = &vm->slot[i];
		int error;

		*slot = (struct vm_slot){ i ? LAYOUT_HOLE_END : 0, memory->region[i].size, memory->region[i].address, NULL, 0 };
		vm->slots++;
		/* Sparse, like the guest may be. */
		slot->seen =
			mmap(NULL, log_bytes(slot), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (slot->seen == MAP_FAILED) {
			slot->seen = NULL;
			return -ENOMEM;
		}
		error = set_slot(vm, i, 0);
		if (error)
			return error;
	}
	return 0;
}

static int set_up(struct vm *vm, const struct memory *memory, uint32_t ring_pages)
{
	int result = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (result <= 0)
		return -ENOTSUP;
	vm->run_bytes = (uint32_t)result;
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return -errno;
	if (!check(vm, KVM_CAP_IMMEDIATE_EXIT))
		return -ENOTSUP;
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_ADDRESS))
		return -errno;
	result = prepare_tracking(vm, ring_pages);
	if (result)
		return result;
	vm_cpuid(vm)->nent = VM_CPUID;
	if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, vm_cpuid(vm)))
		return -errno;
	return add_slots(vm, memory);
}

int vm_open(struct vm *vm, const struct memory *memory, uint32_t ring_pages, char error[SETTINGS_ERROR])
{
	int result;

	memset(vm, 0, sizeof(*vm));
	vm->fd = -1;
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0) {
		result = -errno;
		snprintf(error, SETTINGS_ERROR, "cannot open /dev/kvm: %s: %s, or use --guest process", strerror(-result),
			 result == -EACCES                        ? "join the group that owns it (kvm)"
			 : result == -EMFILE || result == -ENFILE ? "raise ulimit -n"
								  : "load KVM's module (kvm_intel, kvm_amd)");
		return result;
	}
	result = set_up(vm, memory, ring_pages);
	if (!result)
		return 0;
	snprintf(error, SETTINGS_ERROR, "KVM cannot run the guest: %s%s", strerror(-result),
		 ring_pages ? ": try --tracker kvm-log" : ": use --guest process");
	vm_close(vm);
	return result;
}

void vm_close(struct vm *vm)
{
	for (unsigned i = 0; i < vm->slots; i++) {
		if (vm->slot[i].seen)
			munmap(vm->slot[i].seen, log_bytes(&vm->slot[i]));
	}
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->slots = 0;
	vm->fd = vm->kvm_fd = -1;
}

/* ---------------------------------------------------------------- the dirty log */

int vm_log_start(void *opaque)
{
	struct vm *vm = opaque;

	for (unsigned i = 0; i < vm->slots; i++) {
		int error = set_slot(vm, i, KVM_MEM_LOG_DIRTY_PAGES);

		if (error) {
			while (i--)
				set_slot(vm, i, 0);
			return error;
		}
		/* MAP_NORESERVE memory reads as zeroes again. */
		madvise(vm->slot[i].seen, log_bytes(&vm->slot[i]), MADV_DONTNEED);
		vm->slot[i].next = UINT64_MAX;
	}
	return 0;
}

void vm_log_stop(void *opaque)
{
	struct vm *vm = opaque;

	for (unsigned i = 0; i < vm->slots; i++)
		set_slot(vm, i, 0);
}

/* Ask KVM about a slot. Without manual protection it protects at once what it tells of, and forgets it: the copy must not. */
static int ask(struct vm *vm, uint32_t region)
{
	struct vm_slot *slot = &vm->slot[region];
	size_t bytes = log_bytes(slot);
	struct kvm_dirty_log log = { .slot = region, .dirty_bitmap = slot->seen };
	uint64_t *fresh = NULL;
	int result = 0;

	if (!vm->manual) {
		log.dirty_bitmap = fresh = malloc(bytes);
		if (!fresh)
			return -ENOMEM;
	}
	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		result = -errno;
	for (size_t i = 0; fresh && !result && i < bytes / sizeof(*fresh); i++)
		slot->seen[i] |= fresh[i];
	free(fresh);
	return result;
}

int vm_log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits)
{
	struct vm *vm = opaque;
	struct vm_slot *slot = &vm->slot[region];

	if (first < slot->next || slot->next == UINT64_MAX) {
		int error = ask(vm, region);

		if (error)
			return error;
	}
	slot->next = first + pages;
	memcpy(bits, slot->seen + first / WORD_BITS, (pages + WORD_BITS - 1) / WORD_BITS * sizeof(*bits));
	return 0;
}

int vm_log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits)
{
	struct vm *vm = opaque;
	struct kvm_clear_dirty_log clear = {
		.slot = region,
		.num_pages = (uint32_t)pages,
		.first_page = first,
		.dirty_bitmap = (void *)bits,
	};

	for (uint64_t i = 0; i < (pages + WORD_BITS - 1) / WORD_BITS; i++)
		vm->slot[region].seen[first / WORD_BITS + i] &= ~bits[i];
	if (!vm->manual)
		return 0;
	return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) ? -errno : 0;
}
