/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* regions.c: see regions.h. Called by whoever adds regions, before any thread of the session reads them. */
#include "core/memory/regions.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static int refuse(char error[SLUICE_ERROR_MAX], int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, SLUICE_ERROR_MAX, format, arguments);
	va_end(arguments);
	return code;
}

/* What can be said of a region without looking at the others. */
static int check(const struct sluice_region *given, uint32_t host_page, char error[SLUICE_ERROR_MAX])
{
	uintptr_t address = (uintptr_t)given->address;
	const char *name = given->name;

	if (host_page < WIRE_PAGE || (host_page & (host_page - 1)))
		return refuse(error, -EINVAL, "region \"%s\": host page size %u is no power of two from %u on", name, host_page,
			      WIRE_PAGE);
	if (!address || address % host_page)
		return refuse(error, -EINVAL, "region \"%s\": address %p is not aligned to its host page size %u", name,
			      given->address, host_page);
	if (!given->size || given->size % host_page)
		return refuse(error, -EINVAL, "region \"%s\": size %llu is not a multiple of its host page size %u", name,
			      (unsigned long long)given->size, host_page);
	if (given->size > UINTPTR_MAX - address)
		return refuse(error, -EINVAL, "region \"%s\": its end is beyond the address space", name);
	if (given->flags & ~(SLUICE_REGION_USED | SLUICE_REGION_POPULATED))
		return refuse(error, -EINVAL, "region \"%s\": flags 0x%x are not all known", name, given->flags);
	if (given->fd < -1 || given->node < -1)
		return refuse(error, -EINVAL, "region \"%s\": fd and node are -1 where there is none", name);
	if (given->fd >= 0 && (given->fd_offset % host_page || given->fd_offset > (uint64_t)INT64_MAX - given->size))
		return refuse(error, -EINVAL, "region \"%s\": fd_offset %llu is not aligned to its host page size %u, or too far",
			      name, (unsigned long long)given->fd_offset, host_page);
	return 0;
}

int memory_add(struct memory *memory, const struct sluice_region *given, uint32_t *ret_id, char error[SLUICE_ERROR_MAX])
{
	if (given->size_of != sizeof(*given))
		return refuse(error, -EINVAL, "region: size_of is %zu, not sizeof (struct sluice_region)", given->size_of);
	if (!given->name || !*given->name || strnlen(given->name, SLUICE_NAME_MAX) == SLUICE_NAME_MAX)
		return refuse(error, -EINVAL, "region: it needs a name of 1 to %u characters", SLUICE_NAME_MAX - 1);
	if (memory->n == SLUICE_MAX_REGIONS)
		return refuse(error, -ENOSPC, "region \"%s\": there are %u already", given->name, SLUICE_MAX_REGIONS);

	uint32_t host_page = given->host_page_size ? given->host_page_size : WIRE_PAGE;
	int rc = check(given, host_page, error);
	if (rc)
		return rc;
	unsigned char *address = given->address;
	for (uint32_t i = 0; i < memory->n; i++) {
		const struct region *other = &memory->regions[i];
		if (!strcmp(other->name, given->name))
			return refuse(error, -EINVAL, "region \"%s\": the name is taken", given->name);
		if (address < other->address + other->size && other->address < address + given->size)
			return refuse(error, -EINVAL, "region \"%s\": it overlaps region \"%s\"", given->name, other->name);
	}

	struct region *region = &memory->regions[memory->n];
	*region = (struct region){
		.address = address,
		.size = given->size,
		.pages = given->size >> WIRE_PAGE_SHIFT,
		.first_granule = memory->granules,
		.host_page_size = host_page,
		.fd = given->fd,
		.fd_offset = given->fd_offset,
		.node = given->node,
		.flags = given->flags,
		.fresh = !(given->flags & SLUICE_REGION_USED),
	};
	region->granules = (region->pages + WIRE_GRANULE_PAGES - 1) / WIRE_GRANULE_PAGES;
	strcpy(region->name, given->name); /* fits: checked above */
	memory->granules += region->granules;
	memory->bytes += region->size;
	if (ret_id)
		*ret_id = memory->n;
	memory->n++;
	return 0;
}

const struct region *memory_region_of(const struct memory *memory, uint64_t granule)
{
	uint32_t low = 0, high = memory->n;

	/* The last region that begins at the granule or before it. */
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (memory->regions[middle].first_granule <= granule)
			low = middle;
		else
			high = middle;
	}
	return &memory->regions[low];
}

uint32_t memory_granule_pages(const struct region *region, uint64_t granule)
{
	uint64_t left = region->pages - (granule - region->first_granule) * WIRE_GRANULE_PAGES;

	return left < WIRE_GRANULE_PAGES ? (uint32_t)left : WIRE_GRANULE_PAGES;
}
