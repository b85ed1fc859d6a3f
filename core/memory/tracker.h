/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tracker.h: where dirty bits come from. One interface, five kinds: pagemap scan, the embedder's log, marks alone, KVM's log, KVM's rings. Thread: sync,
 * which may be another one at the end than at the beginning, but never two at once.
 *
 * tracker_fetch() brings what was written since the last fetch of those pages into the bitmap, and re-arms exactly that, before a
 * sender can see the bits. The first fetch of a piece reports all pages that are no hole, after arming it: arming, hole scan
 * and first fetch are one operation (Law 3: armed before anything is read). Where the destination's memory is not fresh, the
 * first fetch reports holes too, as discarded: they must become zero there. */
#pragma once

#include <stdint.h>

#include "core/memory/bitmap.h"
#include "core/memory/regions.h"

struct tracker;

struct tracker_config {
	enum sluice_tracker kind; /* AUTO: KVM's if given, else the log if given, else pagemap */
	const struct memory *memory;
	struct bitmap *dirty;
	struct bitmap *discarded; /* bits of written pages are cleared here */
	struct bitmap *written;   /* and set here, where it was not the first fetch that found them; NULL: nobody wants to know */
	const struct sluice_ops *ops; /* for the log */
	void *opaque;
	/* Around ops.dirty_log_* where they need the big lock. 0 or -ETIMEDOUT. */
	int (*lock)(void *session);
	void (*unlock)(void *session);
	void *session;
	struct kvm *kvm; /* NULL: none was given. Outlives the tracker */
};

/* `config` is copied, what it points to is borrowed. Regions must be complete, mapped, and their `fresh` known. Returns 0; -ENOTSUP
 * with one line in error (kind not available: says which, why, and what to use instead). */
int tracker_create(const struct tracker_config *config, struct tracker **ret_tracker, char error[SLUICE_ERROR_MAX]);
/* Can this kernel, and may this process, track by pagemap scan? 0 or -ENOTSUP. */
int tracker_pagemap_works(void);
/* "pagemap", "log", "marks", "kvm-log", "kvm-ring". */
const char *tracker_name(const struct tracker *tracker);
/* Note writes from now on, to all of memory. Does not look at pages. -EBUSY (pagemap): another userfaultfd has the memory. */
int tracker_start(struct tracker *tracker);
/* Pages [first, first + n) of a region; first is a multiple of 512. Adds the number of newly set bits to *ret_found. Host pages
 * larger than 4 KiB are fetched whole, beyond the range if need be. -ETIMEDOUT (log): the big lock was not to be had in
 * time; nothing is lost, fetch the same pages again. Other errors are the session's end. */
int tracker_fetch(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, uint64_t *ret_found);
/* As tracker_fetch(), but only count, and leave all as it is: adds the pages that were written since their last fetch and are not dirty yet
 * to *ret_written, and those that were never fetched to *ret_unseen. -ENOTSUP: this tracker cannot tell without re-arming. */
int tracker_peek(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, uint64_t *ret_written,
		 uint64_t *ret_unseen);
/* Pages that first fetches have found so far. */
uint64_t tracker_discovered(const struct tracker *tracker);
/* Stop tracking; no fetch follows, a new start may not either. -ETIMEDOUT (log): as tracker_fetch(), call it again. */
int tracker_stop(struct tracker *tracker);
/* Stop, where that was not done, and free. A log whose lock cannot be had even now is left running: never without the lock. */
void tracker_destroy(struct tracker *tracker);
/* Heap and bits of its own, without page tables. */
uint64_t tracker_bytes(const struct tracker *tracker);
