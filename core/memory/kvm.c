/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kvm.c: the embedder's slots and rings. Threads: sync; for rings also vCPUs', see kvm_harvest().
 *
 * A ring's entries are copied out, given back to KVM, which protects their pages again, and only then reported (Law 3: no page is
 * read before it is re-armed). The copy is of bounded size, so a harvest takes several turns where there is more. Under the lock
 * all that was taken is reported before it is let go: who comes next finds either the entry in the ring or the bit set.
 *
 * KVM stops a vCPU while some entries are still free. A KVM that emulates whole stretches of guest code was seen not to look for
 * thousands of writes (Linux 6.18: a warning in kvm_dirty_ring_push(), and entries overwritten). Then writes are lost, and that
 * must not pass unnoticed: a ring without a free entry, or fewer entries re-armed than were taken, fails with -EOVERFLOW.
 *
 * Where in a ring KVM writes next is known to KVM alone; we count along. A session that begins does not know, so it looks for the
 * first entry: one that is dirty behind one that is not. */
#include "core/memory/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
enum {
	BATCH = 4096,
	PAGES_A_WORD = 64,
	REARM_TRIES = 1000, /* in a row, each with a signal of its own */
};

struct kvm_page {
	const struct kvm_slot *slot;
	uint64_t page; /* of the slot */
};

static size_t seen_bytes(const struct kvm_slot *slot)
{
	return (slot->pages + PAGES_A_WORD - 1) / PAGES_A_WORD * sizeof(*slot->seen);
}

/* ---------------------------------------------------------------- what the embedder said */

static const char *bad_slot(const struct sluice_kvm_slot *slot, const struct memory *memory)
{
	if (slot->region >= memory->n)
		return "names a region that was not added: add regions first";
	const struct region *region = &memory->regions[slot->region];
	if (!slot->size || slot->size % SLUICE_PAGE_SIZE || slot->offset % SLUICE_PAGE_SIZE ||
	    slot->guest_address % SLUICE_PAGE_SIZE)
		return "has no page alignment: size, offset and guest address are multiples of 4 KiB";
	if (slot->offset > region->size || slot->size > region->size - slot->offset)
		return "is larger than what its region has from that offset on";
	if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
		return "has KVM_MEM_LOG_DIRTY_PAGES: give its other flags, this one is sluice's while it migrates";
	return NULL;
}

static int add_slots(struct kvm *kvm, const struct sluice_kvm *from, const struct memory *memory, char error[SLUICE_ERROR_MAX])
{
	kvm->slots = calloc(from->n_slots, sizeof(*kvm->slots));
	if (!kvm->slots)
		return -ENOMEM;
	for (; kvm->n_slots < from->n_slots; kvm->n_slots++) {
		struct kvm_slot *slot = &kvm->slots[kvm->n_slots];
		const char *bad = bad_slot(&from->slots[kvm->n_slots], memory);
		if (bad) {
			snprintf(error, SLUICE_ERROR_MAX, "KVM slot %u %s", from->slots[kvm->n_slots].slot, bad);
			return -EINVAL;
		}
		slot->is = from->slots[kvm->n_slots];
		slot->first = slot->is.offset / SLUICE_PAGE_SIZE;
		slot->pages = slot->is.size / SLUICE_PAGE_SIZE;
		slot->next = UINT64_MAX;
		slot->seen =
			mmap(NULL, seen_bytes(slot), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (slot->seen == MAP_FAILED) {
			slot->seen = NULL;
			return -ENOMEM;
		}
	}
	return 0;
}

static int add_rings(struct kvm *kvm, const struct sluice_kvm *from, char error[SLUICE_ERROR_MAX])
{
	uint32_t entries = from->ring_bytes / (uint32_t)sizeof(struct kvm_dirty_gfn);

	if (!from->ring_bytes)
		return 0;
	if (from->ring_bytes < SLUICE_PAGE_SIZE || from->ring_bytes & (from->ring_bytes - 1) || !from->n_vcpus ||
	    !from->vcpu_fds) {
		snprintf(error, SLUICE_ERROR_MAX,
			 "KVM dirty rings of %u bytes for %u vCPUs: give the size that was enabled, a power of two, and every "
			 "vCPU",
			 from->ring_bytes, from->n_vcpus);
		return -EINVAL;
	}
	kvm->ring_entries = entries;
	kvm->rings = calloc(from->n_vcpus, sizeof(*kvm->rings));
	kvm->batch = calloc(BATCH, sizeof(*kvm->batch));
	if (!kvm->rings || !kvm->batch)
		return -ENOMEM;
	for (; kvm->n_rings < from->n_vcpus; kvm->n_rings++) {
		void *entry = mmap(NULL, from->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, from->vcpu_fds[kvm->n_rings],
				   KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)SLUICE_PAGE_SIZE);
		if (entry == MAP_FAILED) {
			int rc = -errno;
			snprintf(error, SLUICE_ERROR_MAX,
				 "the dirty ring of vCPU %u cannot be mapped: %s: enable "
				 "KVM_CAP_DIRTY_LOG_RING_ACQ_REL before the first vCPU, and give its size",
				 kvm->n_rings, strerror(-rc));
			return rc;
		}
		/* Not enabled, or smaller: mapping works, touching is SIGBUS. A kernel before 5.14 does not know. */
		if (madvise(entry, from->ring_bytes, MADV_POPULATE_READ) && errno == EFAULT) {
			munmap(entry, from->ring_bytes);
			snprintf(error, SLUICE_ERROR_MAX,
				 "the dirty ring of vCPU %u is not %u bytes long: enable KVM_CAP_DIRTY_LOG_RING_ACQ_REL before "
				 "the first "
				 "vCPU, and give the same size",
				 kvm->n_rings, from->ring_bytes);
			return -EINVAL;
		}
		kvm->rings[kvm->n_rings].entry = entry;
		kvm->rings[kvm->n_rings].next = UINT64_MAX;
	}
	return 0;
}

int kvm_create(const struct sluice_kvm *from, const struct memory *memory, struct kvm **ret_kvm, char error[SLUICE_ERROR_MAX])
{
	struct kvm *kvm = calloc(1, sizeof(*kvm));
	int rc = -ENOMEM;

	snprintf(error, SLUICE_ERROR_MAX, "no memory for what there is to know about KVM");
	if (!kvm)
		return rc;
	pthread_mutex_init(&kvm->lock, NULL);
	kvm->vm_fd = from->vm_fd;
	kvm->flags = from->flags;
	rc = add_slots(kvm, from, memory, error);
	if (!rc)
		rc = add_rings(kvm, from, error);
	if (rc)
		kvm_destroy(kvm);
	else
		*ret_kvm = kvm;
	return rc;
}

void kvm_destroy(struct kvm *kvm)
{
	if (!kvm)
		return;
	for (uint32_t i = 0; i < kvm->n_rings; i++)
		munmap((void *)kvm->rings[i].entry, kvm->ring_entries * sizeof(struct kvm_dirty_gfn));
	for (uint32_t i = 0; i < kvm->n_slots; i++) {
		if (kvm->slots[i].seen)
			munmap(kvm->slots[i].seen, seen_bytes(&kvm->slots[i]));
	}
	pthread_mutex_destroy(&kvm->lock);
	free(kvm->batch);
	free(kvm->rings);
	free(kvm->slots);
	free(kvm);
}

int kvm_works(bool ring)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), works = fd >= 0;

	if (works && ring)
		works = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0 ||
			ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING) > 0;
	if (fd >= 0)
		close(fd);
	return works ? 0 : -ENOTSUP;
}

/* ---------------------------------------------------------------- slots */

static int set_flags(struct kvm *kvm, const struct memory *memory, const struct kvm_slot *slot, bool log)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot->is.slot,
		.flags = slot->is.flags | (log ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = slot->is.guest_address,
		.memory_size = slot->is.size,
		.userspace_addr = (uintptr_t)memory->regions[slot->is.region].address + slot->is.offset,
	};

	return ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

int kvm_logging(struct kvm *kvm, const struct memory *memory, bool on)
{
	int rc = 0;

	for (uint32_t i = 0; i < kvm->n_slots; i++) {
		rc = set_flags(kvm, memory, &kvm->slots[i], on);
		while (rc && on && i--)
			(void)set_flags(kvm, memory, &kvm->slots[i], false);
		if (rc && on)
			return rc;
	}
	return rc;
}

/* ---------------------------------------------------------------- rings */

static uint32_t flags_of(volatile struct kvm_dirty_gfn *entry)
{
	return __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE); /* pairs with KVM's release: slot and offset are there */
}

/* The first entry that is dirty: 1; 0: none is; -EOVERFLOW: all are. While we look, the vCPU adds entries behind those there are. */
static int find_first(const struct kvm *kvm, struct kvm_ring *ring)
{
	uint32_t last = kvm->ring_entries - 1, back = 0;

	for (uint32_t i = 0; i <= last; i++) {
		if (!(flags_of(&ring->entry[i]) & KVM_DIRTY_GFN_F_DIRTY))
			continue;
		/* Those before it may have become dirty since we passed them. */
		for (; flags_of(&ring->entry[(i - 1) & last]) & KVM_DIRTY_GFN_F_DIRTY; i = (i - 1) & last) {
			if (back++ > last)
				return -EOVERFLOW;
		}
		ring->next = i;
		return 1;
	}
	return 0;
}

static const struct kvm_slot *slot_of(const struct kvm *kvm, uint32_t id)
{
	for (uint32_t i = 0; i < kvm->n_slots; i++) {
		if (kvm->slots[i].is.slot == id)
			return &kvm->slots[i];
	}
	return NULL; /* one that the embedder logs for itself */
}

/* Take entries off a ring into the batch, up to its end. *n: entries in it; *taken: those too that are not ours to report. */
static int take(struct kvm *kvm, struct kvm_ring *ring, uint32_t *n, int *taken)
{
	int found = ring->next == UINT64_MAX ? find_first(kvm, ring) : 1;

	if (found <= 0)
		return found;
	if (flags_of(&ring->entry[(ring->next - 1) & (kvm->ring_entries - 1)]) & KVM_DIRTY_GFN_F_DIRTY)
		return -EOVERFLOW;
	while (*n < BATCH) {
		volatile struct kvm_dirty_gfn *entry = &ring->entry[ring->next & (kvm->ring_entries - 1)];
		if (!(flags_of(entry) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		const struct kvm_slot *slot = slot_of(kvm, entry->slot);
		uint64_t page = entry->offset;
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET,
				 __ATOMIC_RELEASE); /* pairs with KVM's acquire: it was read */
		ring->next++;
		++*taken;
		if (slot && page < slot->pages)
			kvm->batch[(*n)++] = (struct kvm_page){ slot, page };
	}
	return 0;
}

static void report(struct kvm *kvm, const struct kvm_page *page)
{
	uint64_t bit = memory_bit(&kvm->memory->regions[page->slot->is.region], page->slot->first + page->page);

	/* In this order, as tracker_report(). */
	bitmap_clear(kvm->discarded, bit, 1);
	if (kvm->written)
		bitmap_set(kvm->written, bit, 1);
	kvm->found += bitmap_set(kvm->dirty, bit, 1);
}

/* Have KVM protect the pages of all entries that were taken. Linux 6.16 and later stop where a signal is pending, and vCPUs are kicked by
 * signals: what is left is done by the next call, before which the signal is handled. */
static int rearm(const struct kvm *kvm, int taken)
{
	int tries = REARM_TRIES;

	while (taken > 0 && tries) {
		int n = ioctl(kvm->vm_fd, KVM_RESET_DIRTY_RINGS, 0);
		if (n < 0)
			return -errno;
		taken -= n;
		tries = n ? REARM_TRIES : tries - 1;
	}
	return taken > 0 ? -EOVERFLOW : 0;
}

/* One turn: take, re-arm, report. *ret_taken: entries. */
static int turn(struct kvm *kvm, int *ret_taken)
{
	int rc = 0, taken = 0, rearmed;
	uint32_t n = 0;

	for (uint32_t i = 0; i < kvm->n_rings && n < BATCH && !rc; i++)
		rc = take(kvm, &kvm->rings[i], &n, &taken);
	rearmed = rearm(kvm, taken);
	/* Even if that failed: they are in no ring any more. */
	for (uint32_t i = 0; i < n && kvm->memory; i++)
		report(kvm, &kvm->batch[i]);
	*ret_taken = taken;
	return rearmed ? rearmed : rc;
}

/* A ring ran over: what its entries say is worthless, but its vCPU runs again only when KVM has them back. Nothing that comes from the
 * rings is relied upon any more. */
static void give_back(struct kvm *kvm)
{
	int given = 0;

	for (uint32_t i = 0; i < kvm->n_rings; i++) {
		for (uint32_t j = 0; j < kvm->ring_entries; j++) {
			volatile struct kvm_dirty_gfn *entry = &kvm->rings[i].entry[j];
			if (!(flags_of(entry) & KVM_DIRTY_GFN_F_DIRTY))
				continue;
			__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
			given++;
		}
	}
	(void)rearm(kvm, given);
}

static int harvest_locked(struct kvm *kvm)
{
	/* As often as all rings can be full: the vCPUs may fill them again while we empty them. */
	uint64_t turns = (uint64_t)kvm->n_rings * kvm->ring_entries / BATCH + 2;
	int taken = 1;

	for (; taken && turns && !kvm->broken; turns--)
		kvm->broken = turn(kvm, &taken);
	if (kvm->broken)
		give_back(kvm);
	return kvm->broken;
}

int kvm_harvest(struct kvm *kvm, uint64_t *ret_found)
{
	pthread_mutex_lock(&kvm->lock);
	int rc = harvest_locked(kvm);
	if (ret_found) {
		*ret_found = kvm->found;
		kvm->found = 0;
	}
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}

int kvm_ring_report_to(struct kvm *kvm, const struct memory *memory, struct bitmap *dirty, struct bitmap *discarded,
		       struct bitmap *written)
{
	pthread_mutex_lock(&kvm->lock);
	int rc = harvest_locked(kvm); /* for who was told so far */
	kvm->memory = memory;
	kvm->dirty = dirty;
	kvm->discarded = discarded;
	kvm->written = written;
	kvm->found = 0;
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}
