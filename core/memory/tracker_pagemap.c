/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tracker_pagemap.c: process memory, by userfaultfd write protection in async mode and PAGEMAP_SCAN. Thread: sync.
 *
 * A protected page that is written is unprotected by the kernel itself, nobody is woken. A scan reports the pages that are not
 * protected and protects them again, in one step per page table: a write is either before it (and the page is read later than
 * the scan) or finds the page protected (and the next scan reports it). Law 3 needs no more.
 *
 * A scan asks for "written, and present or swapped": memory never touched counts as written, and protecting it would build
 * page tables for it. First touches are still reported, for a page that is touched is present and not protected.
 *
 * The first fetch is such a scan that asks for all that is present or swapped. Of a file, pages may be in the page cache and not
 * in our page tables: of the entries that are empty it protects what holes_data() calls data, with markers, for otherwise our own
 * first read would map a page unprotected, and it would count as written. (Asking the file about all of the piece would be wrong:
 * SEEK_HOLE walks to the end of the data however far that is, 1.8 us a page in pieces of 2 GiB.) A page that is mapped between
 * the two scans is in neither, and unprotected: the next fetch reports it.
 *
 * One thing this scan cannot see: a file's page that was written and then left our page tables (swapped out, or collapsed into a
 * huge page by khugepaged). Its entry is empty then, as that of a page never touched; had it been protected, a marker would have
 * stayed. Where that can happen (there is swap, or shmem may get huge pages), a second scan finds the empty entries, and those
 * among them that the file has data for count as written, and get markers. Anonymous pages leave a swap entry, hugetlb pages
 * stay. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "core/memory/tracker_kinds.h"
#include "core/memory/uffd_abi.h"

#define FEATURES \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC)
enum { STOP_PIECE = 64 << 20 };
#define IN_USE (PAGE_IS_PRESENT | PAGE_IS_SWAPPED)
#define PROTECT (PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC)

/* May shmem pages be collapsed? Unknown counts as yes. */
static bool shmem_may_be_huge(void)
{
	char text[128];
	int fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno != ENOENT;
	ssize_t length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return true;
	text[length] = '\0';
	return !strstr(text, "[never]") && !strstr(text, "[deny]");
}

static bool swap_is_on(void)
{
	struct sysinfo info;

	return sysinfo(&info) || info.totalswap;
}

int tracker_pagemap_works(void)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), uffd = uffd_open(FEATURES);
	struct pm_scan_arg nothing = { .size = sizeof(nothing) };
	int works = pagemap >= 0 && uffd >= 0 && !ioctl(pagemap, PAGEMAP_SCAN, &nothing);

	if (pagemap >= 0)
		close(pagemap);
	if (uffd >= 0)
		close(uffd);
	return works ? 0 : -ENOTSUP;
}

static int pagemap_create(struct tracker *tracker, char error[SLUICE_ERROR_MAX])
{
	const char *advice = "let the guest's writers mark what they write (tracker marks), or use a dirty log";

	if (!tracker->holes.can_scan) {
		snprintf(error, SLUICE_ERROR_MAX, "tracker pagemap: no PAGEMAP_SCAN (it came with Linux 6.7); %s", advice);
		return -ENOTSUP;
	}
	tracker->uffd = uffd_open(FEATURES);
	if (tracker->uffd < 0) {
		snprintf(error, SLUICE_ERROR_MAX, "tracker pagemap: userfaultfd with async write protection: %s; %s",
			 strerror(-tracker->uffd), advice);
		return -ENOTSUP;
	}
	return 0;
}

static int pagemap_start(struct tracker *tracker)
{
	const struct memory *memory = tracker->config.memory;

	tracker->remaps = shmem_may_be_huge();
	for (uint32_t i = 0; i < memory->n; i++) {
		int rc = uffd_register(tracker->uffd, memory->regions[i].address, memory->regions[i].size,
				       UFFDIO_REGISTER_MODE_WP);
		if (!rc)
			continue;
		while (i--)
			uffd_unregister(tracker->uffd, memory->regions[i].address, memory->regions[i].size);
		return rc;
	}
	return 0;
}

struct piece {
	struct tracker *tracker;
	uint32_t region;
	uint64_t first; /* added to page numbers */
};

static int report_run(void *argument, uint64_t first, uint64_t n)
{
	const struct piece *piece = argument;

	tracker_report(piece->tracker, piece->region, piece->first + first, n);
	return 0;
}

static int protect_and_report(void *argument, uint64_t first, uint64_t n)
{
	const struct piece *piece = argument;
	const struct region *region = &piece->tracker->config.memory->regions[piece->region];
	uint64_t host_pages = region->host_page_size >> WIRE_PAGE_SHIFT, end = first + n;

	first -= first % host_pages;
	end += (host_pages - end % host_pages) % host_pages;
	int rc = uffd_protect(piece->tracker->uffd, region->address + (first << WIRE_PAGE_SHIFT),
			      (end - first) << WIRE_PAGE_SHIFT);
	if (!rc)
		tracker_report(piece->tracker, piece->region, first, end - first);
	return rc;
}

/* Of empty entries, those that the file has data for. */
static int look_behind(void *argument, uint64_t first, uint64_t n)
{
	const struct piece *piece = argument;
	struct piece absolute = { piece->tracker, piece->region, 0 };

	return holes_data(&piece->tracker->holes, piece->region, piece->first + first, n, protect_and_report, &absolute);
}

static int pagemap_first(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	enum hole_kind kind = tracker->holes.sources[region].kind;
	const unsigned char *address = tracker->config.memory->regions[region].address + (first << WIRE_PAGE_SHIFT);
	struct piece piece = { tracker, region, first };
	struct page_scan mapped = { .pagemap = tracker->holes.pagemap, .flags = PROTECT, .any = IN_USE };
	struct page_scan empty = { tracker->holes.pagemap, PM_SCAN_CHECK_WPASYNC, IN_USE, 0, IN_USE };

	if (kind != HOLES_ANONYMOUS && kind != HOLES_FILE) {
		piece.first = 0;
		return holes_data(&tracker->holes, region, first, n, protect_and_report, &piece);
	}
	int rc = uffd_scan(&mapped, address, n, report_run, &piece);
	return rc || kind == HOLES_ANONYMOUS ? rc : uffd_scan(&empty, address, n, look_behind, &piece);
}

static int pagemap_again(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	const unsigned char *address = tracker->config.memory->regions[region].address + (first << WIRE_PAGE_SHIFT);
	struct piece piece = { tracker, region, first };
	struct page_scan written = { tracker->holes.pagemap, PROTECT, PAGE_IS_WRITTEN, IN_USE, 0 };

	int rc = uffd_scan(&written, address, n, report_run, &piece);
	if (rc || tracker->holes.sources[region].kind != HOLES_FILE || !(tracker->remaps || swap_is_on()))
		return rc;
	struct page_scan empty = { tracker->holes.pagemap, PM_SCAN_CHECK_WPASYNC, IN_USE, 0, IN_USE };
	return uffd_scan(&empty, address, n, look_behind, &piece);
}

static int count_run(void *argument, uint64_t first, uint64_t n)
{
	const struct piece *piece = argument;

	tracker_count(piece->tracker, piece->region, piece->first + first, n);
	return 0;
}

/* What left our page tables is missed: an estimate. */
static int pagemap_peek(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	const unsigned char *address = tracker->config.memory->regions[region].address + (first << WIRE_PAGE_SHIFT);
	struct piece piece = { tracker, region, first };
	struct page_scan written = { tracker->holes.pagemap, PM_SCAN_CHECK_WPASYNC, PAGE_IS_WRITTEN, IN_USE, 0 };

	return uffd_scan(&written, address, n, count_run, &piece);
}

/* Unregistering takes the protection off again, page by page: the guest must not go on paying for it. In pieces, for all page
 * faults of the process wait for each. */
static int pagemap_stop(struct tracker *tracker)
{
	const struct memory *memory = tracker->config.memory;

	for (uint32_t i = 0; i < memory->n; i++) {
		const struct region *region = &memory->regions[i];
		uint64_t step = region->host_page_size > STOP_PIECE ? region->host_page_size : STOP_PIECE;
		for (uint64_t at = 0; at < region->size; at += step)
			uffd_unregister(tracker->uffd, region->address + at, step < region->size - at ? step : region->size - at);
	}
	return 0;
}

static void pagemap_destroy(struct tracker *tracker)
{
	close(tracker->uffd);
}

const struct tracker_kind tracker_pagemap = {
	.name = "pagemap",
	.create = pagemap_create,
	.start = pagemap_start,
	.first = pagemap_first,
	.again = pagemap_again,
	.peek = pagemap_peek,
	.stop = pagemap_stop,
	.destroy = pagemap_destroy,
};
