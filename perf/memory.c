/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guest memory of the chosen backing, as one or two regions.
 *
 * Address space is reserved without commit, so that a guest of 1 TiB that touched little costs little. Large
 * guests have two regions, split where PC firmware leaves its hole, so that real migrations cross region borders.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "perf/memory.h"
#include "perf/os.h"
#include "perf/units.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

#define ONE_REGION_MAX (3ull << 30)
#define SPLIT (2ull << 30)
#define POPULATE_CHUNK (64ull << 20)
#define POPULATE_THREADS 16u
#define PAGEMAP_EXISTS (3ull << 62) /* present or swapped */

const char *memory_backing_name(const struct memory_spec *spec)
{
	switch (spec->backing) {
	case BACKING_ANON: return "anon";
	case BACKING_MEMFD: return "memfd";
	default: return spec->host_page_size == 1u << 30 ? "hugetlb:1G" : "hugetlb:2M";
	}
}

/* Huge pages of this size that nobody has or reserved. */
static uint64_t free_huge_pages(uint32_t size)
{
	static const char *const names[] = { "free_hugepages", "resv_hugepages" };
	uint64_t value[2] = { 0, 0 };
	char path[96];

	for (unsigned i = 0; i < 2; i++) {
		FILE *file;

		snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu32 "kB/%s", size >> 10, names[i]);
		file = fopen(path, "re");
		if (!file)
			return 0;
		if (fscanf(file, "%" SCNu64, &value[i]) != 1)
			value[i] = 0;
		fclose(file);
	}
	return value[0] > value[1] ? value[0] - value[1] : 0;
}

int memory_check_room(const struct memory_spec *spec, uint64_t bytes, char error[MEMORY_ERROR])
{
	char need[UNITS_TEXT], have[UNITS_TEXT];
	uint64_t available;

	if (spec->backing == BACKING_HUGETLB) {
		uint64_t pages = free_huge_pages(spec->host_page_size);

		if (spec->bytes / spec->host_page_size <= pages)
			return 0;
		snprintf(error, MEMORY_ERROR,
			 "needs %" PRIu64 " huge pages of %s, %" PRIu64 " are free: write more to "
			 "/sys/kernel/mm/hugepages/hugepages-%" PRIu32 "kB/nr_hugepages",
			 spec->bytes / spec->host_page_size, units_size(spec->host_page_size, need), pages,
			 spec->host_page_size >> 10);
		return -ENOMEM;
	}
	available = os_available_bytes();
	if (bytes <= available)
		return 0;
	snprintf(error, MEMORY_ERROR, "needs %s, %s available: free memory or choose a smaller -m or --touched",
		 units_size(bytes, need), units_size(available, have));
	return -ENOMEM;
}

static int region_create(struct memory_region *region, const struct memory_spec *spec, unsigned index)
{
	/* Huge pages are reserved, not overcommitted: a fault without one is a SIGBUS, an mmap without them an error. */
	int flags = spec->backing == BACKING_HUGETLB ? MAP_SHARED : MAP_SHARED | MAP_NORESERVE;
	unsigned memfd_flags = MFD_CLOEXEC;
	int error;

	region->fd = -1;
	if (spec->backing == BACKING_ANON) {
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	} else {
		if (spec->backing == BACKING_HUGETLB)
			memfd_flags |= MFD_HUGETLB | (unsigned)__builtin_ctz(spec->host_page_size) << MFD_HUGE_SHIFT;
		region->fd = memfd_create(index ? "ram1" : "ram0", memfd_flags);
		if (region->fd < 0)
			return -errno;
		if (ftruncate(region->fd, (off_t)region->size)) {
			error = -errno;
			close(region->fd);
			return error;
		}
	}
	region->address = mmap(NULL, region->size, PROT_READ | PROT_WRITE, flags, region->fd, 0);
	if (region->address == MAP_FAILED) {
		error = -errno;
		if (region->fd >= 0)
			close(region->fd);
		return error;
	}
	return 0;
}

int memory_create(struct memory *memory, const struct memory_spec *spec, char error[MEMORY_ERROR])
{
	char size[UNITS_TEXT];
	int result;

	memset(memory, 0, sizeof(*memory));
	memory->spec = *spec;
	memory->pages = spec->bytes / SLUICE_PAGE_SIZE;
	memory->split_page = spec->bytes > ONE_REGION_MAX ? SPLIT / SLUICE_PAGE_SIZE : memory->pages;
	memory->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < 1u + (memory->split_page < memory->pages); i++) {
		memory->region[i].size = (i ? memory->pages - memory->split_page : memory->split_page) * SLUICE_PAGE_SIZE;
		result = region_create(&memory->region[i], spec, i);
		if (result) {
			snprintf(error, MEMORY_ERROR, "cannot map %s of %s memory: %s: choose a smaller -m or another --backing",
				 units_size(spec->bytes, size), memory_backing_name(spec), strerror(-result));
			memory_destroy(memory);
			return result;
		}
		memory->regions++;
	}
	return 0;
}

void memory_destroy(struct memory *memory)
{
	for (unsigned i = 0; i < memory->regions; i++) {
		munmap(memory->region[i].address, memory->region[i].size);
		if (memory->region[i].fd >= 0)
			close(memory->region[i].fd);
	}
	if (memory->pagemap_fd >= 0)
		close(memory->pagemap_fd);
	memset(memory, 0, sizeof(*memory));
	memory->pagemap_fd = -1;
}

/* What the populating threads share. */
struct populate {
	struct memory *memory;
	_Atomic bool *cancel;
	_Atomic uint64_t next; /* bytes */
	_Atomic int error;
};

static int populate_piece(uint8_t *address, uint64_t size)
{
	if (!madvise(address, size, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL)
		return -errno;
	for (uint64_t at = 0; at < size; at += SLUICE_PAGE_SIZE) /* before Linux 5.14; the memory is fresh */
		*(volatile uint8_t *)(address + at) = 0;
	return 0;
}

static void *populate_body(void *arg)
{
	struct populate *populate = arg;
	const struct memory *memory = populate->memory;
	uint64_t chunk = POPULATE_CHUNK > memory->spec.host_page_size ? POPULATE_CHUNK : memory->spec.host_page_size;

	while (!atomic_load(&populate->error)) {
		uint64_t at = atomic_fetch_add(&populate->next, chunk), end = at + chunk;
		int error = 0;

		if (at >= memory->spec.bytes)
			break;
		if (end > memory->spec.bytes)
			end = memory->spec.bytes;
		/* The split is a multiple of every chunk, so that no chunk spans it. */
		error = *populate->cancel ? -ECANCELED : populate_piece(memory_page(memory, at / SLUICE_PAGE_SIZE), end - at);
		if (error)
			atomic_store(&populate->error, error);
	}
	return NULL;
}
_Static_assert(SPLIT % POPULATE_CHUNK == 0 && SPLIT % (1ull << 30) == 0, "chunks do not span regions");

int memory_populate(struct memory *memory, _Atomic bool *cancel)
{
	struct populate populate = { .memory = memory, .cancel = cancel };
	unsigned n = os_cpus() < POPULATE_THREADS ? os_cpus() : POPULATE_THREADS, started = 0;
	pthread_t threads[POPULATE_THREADS];

	while (started + 1 < n && !os_thread_start(&threads[started], "populate", populate_body, &populate))
		started++;
	populate_body(&populate);
	while (started)
		pthread_join(threads[--started], NULL);
	if (!populate.error)
		memory->populated = true;
	return populate.error;
}

static int present_in_pagemap(const struct memory *memory, const void *address, unsigned n, uint64_t *bits)
{
	uint64_t entry[MEMORY_GRANULE];
	off_t at = (off_t)((uintptr_t)address / SLUICE_PAGE_SIZE * sizeof(*entry));

	if (pread(memory->pagemap_fd, entry, n * sizeof(*entry), at) != (ssize_t)(n * sizeof(*entry)))
		return -EIO;
	for (unsigned i = 0; i < n; i++) {
		if (entry[i] & PAGEMAP_EXISTS)
			bits[i / 64] |= 1ull << (i % 64);
	}
	return 0;
}

static int present_in_file(int fd, uint64_t offset, unsigned n, uint64_t *bits)
{
	off_t begin = (off_t)offset, end = begin + (off_t)n * SLUICE_PAGE_SIZE, at = begin, hole;

	while (at < end) {
		at = lseek(fd, at, SEEK_DATA); /* the position that this sets is of no use to anyone */
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		if (at >= end)
			return 0;
		hole = lseek(fd, at, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		for (; at < hole && at < end; at += SLUICE_PAGE_SIZE) {
			unsigned i = (unsigned)((at - begin) / SLUICE_PAGE_SIZE);

			bits[i / 64] |= 1ull << (i % 64);
		}
	}
	return 0;
}

int memory_present(const struct memory *memory, uint64_t page, uint64_t bits[MEMORY_GRANULE / 64])
{
	bool second = page >= memory->split_page;
	const struct memory_region *region = &memory->region[second];
	uint64_t offset = (second ? page - memory->split_page : page) * SLUICE_PAGE_SIZE;
	uint64_t left = (region->size - offset) / SLUICE_PAGE_SIZE;
	unsigned n = left < MEMORY_GRANULE ? (unsigned)left : MEMORY_GRANULE;

	memset(bits, memory->populated ? 0xff : 0, MEMORY_GRANULE / 8);
	if (memory->populated)
		return 0;
	if (region->fd < 0)
		return present_in_pagemap(memory, region->address + offset, n, bits);
	return present_in_file(region->fd, offset, n, bits);
}

int memory_add_regions(const struct memory *memory, struct sluice *session, uint32_t flags)
{
	int error = 0;

	for (unsigned i = 0; i < memory->regions && !error; i++) {
		const struct memory_region *from = &memory->region[i];
		struct sluice_region region = {
			.size_of = sizeof(region),
			.name = i ? "ram1" : "ram0",
			.address = from->address,
			.size = from->size,
			.host_page_size = memory->spec.host_page_size,
			.node = -1,
			.fd = from->fd,
			.flags = flags,
		};
		uint32_t id;

		error = sluice_add_region(session, &region, &id);
	}
	return error;
}
