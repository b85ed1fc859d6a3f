/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* landing.c: see landing.h. Called by receivers, through the core's land_ops; several at once, never two for one page (a granule is
 * claimed once a round, and the gate keeps rounds apart).
 *
 * Bytes are received into place. Memory that does not exist yet is populated a run at a time just before: that runs in parallel
 * on all receivers, needs no second copy, and says "no memory" as an error instead of a SIGBUS. What else was measured, and why
 * it was not chosen: docs/landing.md.
 *
 * Law 3, destination side: a received bit is set after the page is in place. */
#include "core/memory/landing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "core/memory/uffd_abi.h"
#include "streams/zero.h"

int landing_init(struct landing *landing, const struct memory *memory)
{
	uint64_t words = memory->granules * GRANULE_WORDS;

	*landing = (struct landing){ .memory = memory };
	int rc = bitmap_init(&landing->landing, words);
	if (rc)
		return rc;
	rc = bitmap_init(&landing->received, words);
	if (rc)
		goto fini_landing;
	rc = bitmap_init(&landing->touched, words);
	if (rc)
		goto fini_received;
	rc = holes_init(&landing->holes, memory);
	if (rc)
		goto fini_touched;
	/* The advice is looked at before the length: of no bytes, it only asks whether the kernel knows it. */
	landing->can_populate = memory->n && !madvise(memory->regions[0].address, 0, MADV_POPULATE_WRITE);
	return 0;
fini_touched:
	bitmap_fini(&landing->touched);
fini_received:
	bitmap_fini(&landing->received);
fini_landing:
	bitmap_fini(&landing->landing);
	return rc;
}

void landing_fini(struct landing *landing)
{
	holes_fini(&landing->holes);
	bitmap_fini(&landing->touched);
	bitmap_fini(&landing->received);
	bitmap_fini(&landing->landing);
}

uint64_t landing_bytes(const struct landing *landing)
{
	return bitmap_bytes(&landing->landing) + bitmap_bytes(&landing->received) + bitmap_bytes(&landing->touched);
}

/* NULL: not ours. What the peer sent is checked here, whoever may have done so before. */
static const struct region *check(const struct landing *landing, const struct extent *extent)
{
	if (extent->region >= landing->memory->n)
		return NULL;
	const struct region *region = &landing->memory->regions[extent->region];
	if (!extent->count || extent->page >= region->pages || extent->count > region->pages - extent->page)
		return NULL;
	if (extent->count > WIRE_GRANULE_PAGES - extent->page % WIRE_GRANULE_PAGES)
		return NULL;
	return region;
}

/* For kernels without MADV_POPULATE_WRITE. Changes nothing: the bytes may be somebody's already. */
__attribute__((no_sanitize("thread"))) static void touch(unsigned char *address, uint64_t length, uint64_t step)
{
	for (uint64_t at = 0; at < length; at += step)
		__atomic_fetch_or(address + at, 0, __ATOMIC_RELAXED);
}

static int populate(const struct landing *landing, const struct region *region, uint64_t first, uint64_t n)
{
	unsigned char *address = region->address + (first << WIRE_PAGE_SHIFT);
	uint64_t length = n << WIRE_PAGE_SHIFT;

	if (!landing->can_populate) {
		/* A file that cannot grow is an error here, and a SIGBUS in touch(). */
		if (region->fd >= 0 && fallocate(region->fd, FALLOC_FL_KEEP_SIZE,
						 (off_t)(region->fd_offset + (first << WIRE_PAGE_SHIFT)), (off_t)length))
			return errno == ENOSPC || errno == ENOMEM ? -ENOMEM : -errno;
		touch(address, length, region->host_page_size);
		return 0;
	}
	while (madvise(address, length, MADV_POPULATE_WRITE)) {
		if (errno == EINTR || errno == EAGAIN)
			continue;
		/* EFAULT: what would have been a SIGBUS, the file or the pool of huge pages has no more. */
		return errno == EFAULT ? -ENOMEM : -errno;
	}
	return 0;
}

/* The pages of [first, first + n) exist after this. */
static int make_exist(struct landing *landing, const struct region *region, uint64_t first, uint64_t n)
{
	uint64_t host_pages = region->host_page_size >> WIRE_PAGE_SHIFT;

	if (bitmap_all(&landing->touched, memory_bit(region, first), n))
		return 0;
	if (!(region->flags & SLUICE_REGION_POPULATED)) {
		uint64_t end = first + n;
		first -= first % host_pages;
		end += (host_pages - end % host_pages) % host_pages;
		n = end - first;
		int rc = populate(landing, region, first, n);
		if (rc)
			return rc;
	}
	bitmap_set(&landing->touched, memory_bit(region, first), n);
	return 0;
}

int landing_place(struct landing *landing, const struct extent *extent, void **ret_address)
{
	const struct region *region = check(landing, extent);

	if (!region)
		return -EINVAL;
	int rc = make_exist(landing, region, extent->page, extent->count);
	if (rc)
		return rc;
	bitmap_set(&landing->landing, memory_bit(region, extent->page), extent->count);
	*ret_address = region->address + (extent->page << WIRE_PAGE_SHIFT);
	return 0;
}

void landing_placed(struct landing *landing, const struct extent *extent)
{
	uint64_t bit = memory_bit(&landing->memory->regions[extent->region], extent->page);

	/* In this order, so that at no moment the page is neither. bitmap_set() is a release: the bytes come before the bit. */
	bitmap_set(&landing->received, bit, extent->count);
	bitmap_clear(&landing->landing, bit, extent->count);
}

/* Not memset(): the thread sanitizer would see it write guest memory, where races are by design. */
__attribute__((no_sanitize("thread"))) static void clear_page(unsigned char *page)
{
	volatile uint64_t *words = (volatile uint64_t *)(void *)page;

	for (uint32_t i = 0; i < WIRE_PAGE / sizeof(*words); i++)
		words[i] = 0;
}

/* page_run_fn: pages that exist and may hold something. */
static int clear_run(void *argument, uint64_t first, uint64_t n)
{
	const struct region *region = argument;

	for (uint64_t i = first; i < first + n; i++) {
		unsigned char *page = region->address + (i << WIRE_PAGE_SHIFT);
		if (!page_is_zero(page))
			clear_page(page);
	}
	return 0;
}

/* Fresh memory holds something only where bytes came. Used memory may anywhere but in holes, which must not be read: that would
 * allocate them. */
static int clear_extent(const struct landing *landing, const struct region *region, const struct extent *extent)
{
	if (region->flags & SLUICE_REGION_USED)
		return holes_data(&landing->holes, extent->region, extent->page, extent->count, clear_run,
				  (void *)(uintptr_t)region);
	for (uint64_t i = extent->page; i < extent->page + extent->count; i++)
		if (bitmap_test(&landing->touched, memory_bit(region, i)))
			(void)clear_run((void *)(uintptr_t)region, i, 1);
	return 0;
}

int landing_zero(struct landing *landing, const struct extent *extent)
{
	const struct region *region = check(landing, extent);

	if (!region)
		return -EINVAL;
	int rc = clear_extent(landing, region, extent);
	if (!rc)
		bitmap_set(&landing->received, memory_bit(region, extent->page), extent->count);
	return rc;
}
