/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* holes.c: see holes.h.
 *
 * anonymous    PAGEMAP_SCAN for "present or swapped" skips what was never touched at the cost of its page tables; before
 *              Linux 6.7 the page map is read, 8 bytes a page.
 * memfd        the page cache knows, not our page tables: another process, or another mapping, may have filled a page.
 *              SEEK_DATA skips holes, mincore() tells how far the data goes.
 * hugetlbfs    as memfd, but SEEK_DATA calls all of such a file data. UFFDIO_CONTINUE on a second mapping, registered for
 *              minor faults, maps the page if the file has it and says EFAULT if not, about 1 us for a host page.
 * the rest     has no holes: an untouched page of a private file mapping reads as the file. */
#include "core/memory/holes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory/uffd_abi.h"

enum { PAGEMAP_ENTRIES = 512, INCORE_PAGES = 2048, INCORE_FIRST = 8 };
#define PAGEMAP_IN_USE (UINT64_C(3) << 62) /* present, swapped: Documentation/admin-guide/mm/pagemap.rst */

/* One line of /proc/self/maps. */
struct map_line {
	uintptr_t start, end;
	uint64_t offset, inode;
	bool shared, huge;
};

static bool parse_line(const char *line, struct map_line *ret)
{
	char permissions[5];
	int name = 0;

	*ret = (struct map_line){ 0 };
	if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %" SCNx64 " %*x:%*x %" SCNu64 " %n", &ret->start, &ret->end, permissions,
		   &ret->offset, &ret->inode, &name) != 5)
		return false;
	ret->shared = permissions[3] == 's';
	/* MAP_ANONYMOUS | MAP_HUGETLB: the kernel makes it a file that only this mapping sees. */
	ret->huge = name && !strncmp(line + name, "/anon_hugepage", strlen("/anon_hugepage"));
	return true;
}

/* What this mapping alone would make of the region. */
static enum hole_kind kind_of(const struct region *region, uint64_t inode, const struct map_line *line)
{
	if (!line->shared)
		return !line->inode || line->huge ? HOLES_ANONYMOUS : HOLES_UNKNOWN;
	/* Another file than we were given, or another part of it: its holes would not be ours. */
	if (region->fd < 0 || !inode || line->inode != inode ||
	    line->offset - line->start != region->fd_offset - (uintptr_t)region->address)
		return HOLES_UNKNOWN;
	return region->host_page_size > WIRE_PAGE ? HOLES_HUGE : HOLES_FILE;
}

/* A region may span several mappings: all must agree, and leave no gap. */
static int classify(struct holes *holes)
{
	uint64_t inodes[SLUICE_MAX_REGIONS] = { 0 }, covered[SLUICE_MAX_REGIONS] = { 0 };
	char text[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps)
		return -errno;
	for (uint32_t i = 0; i < holes->memory->n; i++) {
		struct stat status;
		if (holes->memory->regions[i].fd >= 0 && !fstat(holes->memory->regions[i].fd, &status))
			inodes[i] = status.st_ino;
	}
	bool whole = true; /* the rest of an overlong line is no line */
	while (fgets(text, sizeof(text), maps)) {
		struct map_line line;
		bool begins = whole;
		whole = strchr(text, '\n') != NULL;
		if (!begins || !parse_line(text, &line))
			continue;
		for (uint32_t i = 0; i < holes->memory->n; i++) {
			const struct region *region = &holes->memory->regions[i];
			uintptr_t start = (uintptr_t)region->address, end = start + region->size;
			if (line.start >= end || line.end <= start)
				continue;
			enum hole_kind kind = kind_of(region, inodes[i], &line);
			if (covered[i] && holes->sources[i].kind != kind)
				kind = HOLES_UNKNOWN;
			holes->sources[i].kind = kind;
			covered[i] += (line.end < end ? line.end : end) - (line.start > start ? line.start : start);
		}
	}
	fclose(maps);
	for (uint32_t i = 0; i < holes->memory->n; i++)
		if (covered[i] != holes->memory->regions[i].size)
			holes->sources[i].kind = HOLES_UNKNOWN;
	return 0;
}

/* What cannot be had makes the region one without holes: more is sent, nothing is lost. */
static void open_source(struct holes *holes, uint32_t i)
{
	const struct region *region = &holes->memory->regions[i];
	struct hole_source *source = &holes->sources[i];

	if (source->kind == HOLES_FILE) {
		char path[32];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", region->fd);
		source->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (source->fd < 0)
			source->fd = fcntl(region->fd, F_DUPFD_CLOEXEC, 0);
		if (source->fd < 0)
			source->kind = HOLES_UNKNOWN;
	} else if (source->kind == HOLES_HUGE) {
		if (holes->uffd < 0)
			holes->uffd = uffd_open(UFFD_FEATURE_MINOR_HUGETLBFS);
		void *alias = MAP_FAILED;
		if (holes->uffd >= 0)
			alias = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region->fd,
				     (off_t)region->fd_offset);
		if (alias != MAP_FAILED && uffd_register(holes->uffd, alias, region->size, UFFDIO_REGISTER_MODE_MINOR)) {
			munmap(alias, region->size);
			alias = MAP_FAILED;
		}
		if (alias == MAP_FAILED)
			source->kind = HOLES_UNKNOWN;
		else
			source->alias = alias;
	}
}

int holes_init(struct holes *holes, const struct memory *memory)
{
	*holes = (struct holes){ .memory = memory, .pagemap = -1, .uffd = -1 };
	for (uint32_t i = 0; i < SLUICE_MAX_REGIONS; i++)
		holes->sources[i].fd = -1;
	int rc = classify(holes);
	if (rc)
		return rc;
	holes->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (holes->pagemap < 0) {
		for (uint32_t i = 0; i < memory->n; i++)
			if (holes->sources[i].kind == HOLES_ANONYMOUS)
				holes->sources[i].kind = HOLES_UNKNOWN;
	} else {
		struct pm_scan_arg arg = { .size = sizeof(arg) }; /* an empty scan */
		holes->can_scan = !ioctl(holes->pagemap, PAGEMAP_SCAN, &arg);
	}
	for (uint32_t i = 0; i < memory->n; i++)
		open_source(holes, i);
	return 0;
}

void holes_fini(struct holes *holes)
{
	for (uint32_t i = 0; i < SLUICE_MAX_REGIONS; i++) {
		if (holes->sources[i].alias)
			munmap(holes->sources[i].alias, holes->memory->regions[i].size);
		if (holes->sources[i].fd >= 0)
			close(holes->sources[i].fd);
	}
	if (holes->uffd >= 0)
		close(holes->uffd);
	if (holes->pagemap >= 0)
		close(holes->pagemap);
}

/* Joins neighbouring pages to runs, and numbers them from the region's start. */
struct runs {
	page_run_fn *run;
	void *argument;
	uint64_t base;     /* added to page numbers */
	uint64_t first, n; /* the run so far */
};

static int runs_end(struct runs *runs)
{
	uint64_t n = runs->n;

	runs->n = 0;
	return n ? runs->run(runs->argument, runs->first, n) : 0;
}

static int runs_add(void *argument, uint64_t first, uint64_t n)
{
	struct runs *runs = argument;
	first += runs->base;
	if (runs->n && runs->first + runs->n == first) {
		runs->n += n;
		return 0;
	}
	int rc = runs_end(runs);
	runs->first = first;
	runs->n = n;
	return rc;
}

static int read_pagemap(const struct holes *holes, const unsigned char *address, uint64_t n, struct runs *runs)
{
	uint64_t entries[PAGEMAP_ENTRIES];

	for (uint64_t done = 0; done < n;) {
		uint64_t want = n - done < PAGEMAP_ENTRIES ? n - done : PAGEMAP_ENTRIES;
		off_t at = (off_t)((((uintptr_t)address >> WIRE_PAGE_SHIFT) + done) * sizeof(*entries));
		ssize_t got = pread(holes->pagemap, entries, want * sizeof(*entries), at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < (ssize_t)sizeof(*entries))
			return got < 0 ? -errno : -EIO;
		uint64_t read = (uint64_t)got / sizeof(*entries);
		for (uint64_t i = 0; i < read; i++) {
			int rc = entries[i] & PAGEMAP_IN_USE ? runs_add(runs, done + i, 1) : 0;
			if (rc)
				return rc;
		}
		done += read;
	}
	return 0;
}

/* How many pages from `address` are in the page cache without a gap, up to n; the first one is known to hold data. SEEK_HOLE would
 * say, but it walks to the end of the data however far that is: looked at in pieces, a populated file costs the square of its
 * size. A page that is swapped out ends the run too early, and SEEK_DATA finds it again. */
static uint64_t cached_run(unsigned char *address, uint64_t n)
{
	unsigned char present[INCORE_PAGES];
	uint64_t run = 1, step = INCORE_FIRST;

	while (run < n) {
		uint64_t ask = step < n - run ? step : n - run;
		if (mincore(address + (run << WIRE_PAGE_SHIFT), ask << WIRE_PAGE_SHIFT, present))
			return run;
		for (uint64_t i = 0; i < ask; i++)
			if (!(present[i] & 1))
				return run + i;
		run += ask;
		step = step * 2 < INCORE_PAGES ? step * 2 : INCORE_PAGES;
	}
	return run;
}

static int seek_data(const struct hole_source *source, const struct region *region, uint64_t first, uint64_t n, struct runs *runs)
{
	off_t start = (off_t)(region->fd_offset + (first << WIRE_PAGE_SHIFT));

	for (uint64_t page = 0; page < n;) {
		off_t data = lseek(source->fd, start + (off_t)(page << WIRE_PAGE_SHIFT), SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno; /* nothing from here to the end of the file */
		page = (uint64_t)(data - start) >> WIRE_PAGE_SHIFT;
		if (page >= n)
			return 0;
		uint64_t run = cached_run(region->address + ((first + page) << WIRE_PAGE_SHIFT), n - page);
		int rc = runs_add(runs, page, run);
		if (rc)
			return rc;
		page += run;
	}
	return 0;
}

static int probe_huge(const struct holes *holes, uint32_t region, uint64_t first, uint64_t n, struct runs *runs)
{
	uint64_t size = holes->memory->regions[region].host_page_size, step = size >> WIRE_PAGE_SHIFT;
	uint64_t end = first + n;

	for (uint64_t page = first - first % step; page < end; page += step) {
		int there = uffd_continue(holes->uffd, holes->sources[region].alias + (page << WIRE_PAGE_SHIFT), size);
		if (!there)
			continue;
		/* An answer we do not understand counts as data. */
		uint64_t from = page > first ? page : first, to = page + step < end ? page + step : end;
		int rc = runs_add(runs, from - first, to - from);
		if (rc)
			return rc;
	}
	return 0;
}

int holes_data(const struct holes *holes, uint32_t region, uint64_t first, uint64_t n, page_run_fn *run, void *argument)
{
	const struct region *r = &holes->memory->regions[region];
	const unsigned char *address = r->address + (first << WIRE_PAGE_SHIFT);
	struct runs runs = { run, argument, first, 0, 0 };
	int rc = 0;

	switch (holes->sources[region].kind) {
	case HOLES_UNKNOWN: rc = runs_add(&runs, 0, n); break;
	case HOLES_ANONYMOUS:
		if (holes->can_scan) {
			struct page_scan scan = { .pagemap = holes->pagemap, .any = PAGE_IS_PRESENT | PAGE_IS_SWAPPED };
			rc = uffd_scan(&scan, address, n, runs_add, &runs);
		} else {
			rc = read_pagemap(holes, address, n, &runs);
		}
		break;
	case HOLES_FILE: rc = seek_data(&holes->sources[region], r, first, n, &runs); break;
	case HOLES_HUGE: rc = probe_huge(holes, region, first, n, &runs); break;
	}
	return rc ? rc : runs_end(&runs);
}
