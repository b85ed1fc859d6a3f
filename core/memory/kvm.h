/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kvm.h: a KVM virtual machine of the embedder's: its slots and, where it has them, its vCPUs' dirty rings. What both KVM trackers
 * work on. It lives as long as the session, so that a vCPU may come with a full ring at any moment. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/memory/bitmap.h"
#include "core/memory/regions.h"
#include "core/sluice.h"

struct kvm_dirty_gfn;

struct kvm_slot {
	/* set once */
	struct sluice_kvm_slot is;
	uint64_t first, pages; /* in its region */
	/* sync's */
	uint64_t *seen; /* log: a bit a page, noted by KVM when it was last asked and not cleared since */
	uint64_t next;  /* log: pages of the slot that were fetched since then; UINT64_MAX: never asked */
};

struct kvm_ring {
	volatile struct kvm_dirty_gfn *entry;
	uint64_t next; /* entry that the vCPU writes next, or has; UINT64_MAX: to be found */
};

struct kvm {
	/* set once */
	int vm_fd;
	uint32_t flags; /* SLUICE_KVM_* */
	uint32_t n_slots, n_rings, ring_entries;
	struct kvm_slot *slots;

	pthread_mutex_t lock; /* innermost; held for one harvest */
	/* under lock */
	struct kvm_ring *rings;
	struct kvm_page *batch;
	const struct memory *memory; /* NULL: not tracking */
	struct bitmap *dirty, *discarded, *written;
	int broken;     /* the first error: nothing that comes from the rings can be relied upon after it */
	uint64_t found; /* bits newly set since it was last asked */
};

/* Copies what is needed; `memory` is what regions there are so far. 0, -EINVAL with one line, -ENOMEM, or what mapping a ring said. */
int kvm_create(const struct sluice_kvm *from, const struct memory *memory, struct kvm **ret_kvm, char error[SLUICE_ERROR_MAX]);
void kvm_destroy(struct kvm *kvm);

/* Have KVM note writes to all slots, or no more. Undone if it fails. Thread: sync (off: also control). */
int kvm_logging(struct kvm *kvm, const struct memory *memory, bool on);

/* From now on what the rings hold is reported to these bitmaps; memory NULL: it is dropped. Any thread. */
int kvm_ring_report_to(struct kvm *kvm, const struct memory *memory, struct bitmap *dirty, struct bitmap *discarded,
		       struct bitmap *written);
/* Empty all rings: re-arm what they hold, then report it. *ret_found (may be NULL): bits newly set since it was last asked. Any
 * thread; takes the lock for as long as that takes. */
int kvm_harvest(struct kvm *kvm, uint64_t *ret_found);

/* Is there KVM here, and has it rings? 0 or -ENOTSUP. */
int kvm_works(bool ring);
