/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* landing.h: how bytes reach guest memory at the destination, and the state of each page there:
 * missing -> landing -> received. Threads: receivers, concurrently.
 *
 * In precopy a received page may be landed again (the guest does not run, the round gate orders it). Fresh memory is
 * populated per extent run, never by a fault a page. A stream that dies between place and placed leaves its pages landing: they
 * are not received, so they are still to be sent. */
#pragma once

#include "core/memory/bitmap.h"
#include "core/memory/holes.h"
#include "core/memory/regions.h"
#include "streams/wire.h"

struct landing {
	const struct memory *memory;
	struct bitmap landing;
	struct bitmap received;
	/* Pages that exist because bytes came for them. Not the received ones: a zero page of fresh memory is received and untouched. */
	struct bitmap touched;
	struct holes holes;
	bool can_populate; /* MADV_POPULATE_WRITE (Linux 5.14) */
};

/* Regions must be complete and mapped. */
int landing_init(struct landing *landing, const struct memory *memory);
void landing_fini(struct landing *landing);
/* Of its bits: 3 a page. */
uint64_t landing_bytes(const struct landing *landing);
/* Check against guest memory (-EINVAL: no such region, out of it, across a granule's border, count 0) and claim; returns the host
 * address to fill. Populates where the region is not said to be populated. -ENOMEM: no memory for it. */
int landing_place(struct landing *landing, const struct extent *extent, void **ret_address);
/* The bytes of an extent that was placed are there. */
void landing_placed(struct landing *landing, const struct extent *extent);
/* A zero extent, wholly: nothing is touched where the page reads as zero already (fresh and no bytes ever came, or a hole). Errors
 * as landing_place(). */
int landing_zero(struct landing *landing, const struct extent *extent);
