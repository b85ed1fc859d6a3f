/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* uffd.h: the system calls of userfaultfd and of the page map, each normalised to 0 or negative errno. */
#pragma once

#include <stdint.h>

/* A descriptor with these features, or negative errno: -EINVAL, the kernel lacks one; -EPERM, userfaultfd is forbidden here;
 * -ENOSYS. Needs no privilege. */
int uffd_open(uint64_t features);
int uffd_register(int uffd, const void *address, uint64_t length, uint64_t mode);
void uffd_unregister(int uffd, const void *address, uint64_t length);
/* Write protect, pages that are not mapped too (by markers: builds page tables for them). */
int uffd_protect(int uffd, const void *address, uint64_t length);
/* Map one host page of a minor-registered mapping if its file has it: 1; if not: 0. */
int uffd_continue(int uffd, const void *address, uint64_t length);

/* What to look for in a page scan. A page matches if it has all of `all` (0: not asked for) and any of `any` (0: not asked for).
 * Categories in `none_of` must be in `all` too: there they mean the absence. */
struct page_scan {
	int pagemap;    /* /proc/self/pagemap */
	uint64_t flags; /* PM_SCAN_* */
	uint64_t all, any, none_of;
};

/* Called for each run of pages, numbered from the start of the scan. Not 0: ends the scan with that value. */
typedef int page_run_fn(void *argument, uint64_t first, uint64_t n);

/* Scan n 4 KiB pages from `address`. With PM_SCAN_WP_MATCHING a run is protected before it is reported. -ENOTTY: no such call. */
int uffd_scan(const struct page_scan *scan, const void *address, uint64_t n, page_run_fn *run, void *argument);
