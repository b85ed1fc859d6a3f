/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* backing.h: guest memory of each kind for the tests of core/memory, and access to it that no thread sanitizer sees: that several
 * threads touch guest memory without order is what the tests are about. */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/memory/regions.h"
#include "core/memory/uffd_abi.h"

#define UNSEEN __attribute__((no_sanitize("thread"), noinline, unused))

enum backing { BACKING_ANONYMOUS, BACKING_THP, BACKING_MEMFD, BACKING_HUGETLB };

static const char *const backing_names[] = { "anonymous", "anonymous, huge pages", "memfd", "hugetlb" };

enum { HUGE_SIZE = 2 << 20 };

/* Huge pages, kept for one test at a time on this machine. */
struct huge_pool {
	int lock;
	long before;
};

__attribute__((unused)) static long huge_pool_size(long set)
{
	long now = -1;
	FILE *file = fopen("/proc/sys/vm/nr_hugepages", set < 0 ? "re" : "r+e");

	if (!file)
		return -1;
	if (set >= 0) {
		fprintf(file, "%ld\n", set);
		fflush(file);
		rewind(file);
	}
	if (fscanf(file, "%ld", &now) != 1)
		now = -1;
	fclose(file);
	return now;
}

__attribute__((unused)) static void huge_pool_give(struct huge_pool *pool)
{
	if (pool->before >= 0)
		huge_pool_size(pool->before);
	if (pool->lock >= 0)
		close(pool->lock);
}

/* So many 2 MiB pages more. False: not to be had (not root, memory too scattered), and nothing to give back. */
__attribute__((unused)) static bool huge_pool_take(struct huge_pool *pool, long pages)
{
	*pool = (struct huge_pool){ .lock = open("/tmp/.sluice-test-huge-pages", O_RDWR | O_CREAT | O_CLOEXEC, 0666) };
	if (pool->lock >= 0)
		flock(pool->lock, LOCK_EX);
	pool->before = huge_pool_size(-1);
	if (pool->before >= 0 && huge_pool_size(pool->before + pages) >= pool->before + pages)
		return true;
	huge_pool_give(pool);
	return false;
}

/* Adds a region. -1: cannot be had here. *ret_fd is -1 for anonymous memory. */
__attribute__((unused)) static int backing_add(struct memory *memory, enum backing kind, uint64_t size, uint32_t flags,
					       int *ret_fd)
{
	int share = MAP_PRIVATE | MAP_ANONYMOUS;
	char name[16], error[SLUICE_ERROR_MAX];
	unsigned char *address = NULL;

	*ret_fd = -1;
	if (kind == BACKING_MEMFD || kind == BACKING_HUGETLB) {
		*ret_fd = memfd_create("backing", MFD_CLOEXEC | (kind == BACKING_HUGETLB ? MFD_HUGETLB : 0));
		if (*ret_fd < 0 || ftruncate(*ret_fd, (off_t)size))
			return -1;
		share = MAP_SHARED;
	}
	/* On a huge page's border, so that transparent ones are to be had. */
	unsigned char *space = mmap(NULL, size + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (space == MAP_FAILED)
		return -1;
	address = space + (HUGE_SIZE - (uintptr_t)space % HUGE_SIZE) % HUGE_SIZE;
	if (mmap(address, size, PROT_READ | PROT_WRITE, share | MAP_NORESERVE | MAP_FIXED, *ret_fd, 0) == MAP_FAILED)
		return -1;
	if (kind != BACKING_HUGETLB)
		madvise(address, size, kind == BACKING_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	snprintf(name, sizeof(name), "region%u", memory->n);
	struct sluice_region region = {
		.size_of = sizeof(region),
		.name = name,
		.address = address,
		.size = size,
		.host_page_size = kind == BACKING_HUGETLB ? HUGE_SIZE : WIRE_PAGE,
		.node = -1,
		.fd = *ret_fd,
		.flags = flags,
	};
	return memory_add(memory, &region, NULL, error);
}

__attribute__((unused)) static void backing_free(struct memory *memory)
{
	for (uint32_t i = 0; i < memory->n; i++) {
		munmap(memory->regions[i].address, memory->regions[i].size);
		if (memory->regions[i].fd >= 0)
			close(memory->regions[i].fd);
	}
	free(memory);
}

/* volatile: or the compiler makes memcpy and memset of these loops, which the sanitizer does see. */
UNSEEN static void poke(void *at, uint64_t value)
{
	*(volatile uint64_t *)at = value;
}

UNSEEN static uint64_t peek(const void *at)
{
	return *(const volatile uint64_t *)at;
}

UNSEEN static void copy_page(void *to, const void *from)
{
	for (unsigned i = 0; i < WIRE_PAGE / 8; i++)
		((volatile uint64_t *)to)[i] = ((const volatile uint64_t *)from)[i];
}

UNSEEN static int same_page(const void *a, const void *b)
{
	for (unsigned i = 0; i < WIRE_PAGE / 8; i++)
		if (((const volatile uint64_t *)a)[i] != ((const volatile uint64_t *)b)[i])
			return 0;
	return 1;
}

/* A line of /proc/self/status in KiB. */
__attribute__((unused)) static long status_kib(const char *key)
{
	char line[256];
	long value = -1;
	FILE *file = fopen("/proc/self/status", "re");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			value = strtol(line + strlen(key) + 1, NULL, 10);
	if (file)
		fclose(file);
	return value;
}
