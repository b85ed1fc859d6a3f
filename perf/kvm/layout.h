/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is where in a KVM guest's memory, and what each page must hold. */
#ifndef PERF_KVM_LAYOUT_H
#define PERF_KVM_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/settings.h"

struct kvm_regs;

#define LAYOUT_HOLE_END (4ull << 30) /* guest-physical address of the second region */
#define LAYOUT_GROUP 8u              /* pages: the unit of what a vCPU owns */
#define LAYOUT_CODE_PAGE 1u
#define LAYOUT_DRIVER_PAGE 2u /* code too */

/* In pages from the beginning of guest memory; set once. First page: nothing. Then code, page tables, the zipf table where the
 * pattern needs it, the count of each page of memory, from data_page on what the guest writes and what it leaves alone, and at
 * disk_page what its disk's drivers and the device share: nothing where it has none. */
struct layout {
	struct content content;
	enum pattern_kind pattern;
	uint32_t vcpus;
	uint64_t pages, split_page;
	uint64_t tables_page, zipf_page, counts_page, data_page, disk_page;
	uint64_t items; /* pages that each vCPU owns, a multiple of LAYOUT_GROUP; vCPU i from data_page + i * items on */
	uint32_t *zipf; /* NULL: the pattern needs none */
};

/* 0, -ENOMEM, or -EINVAL: the memory is too small for this guest, in one line. */
int layout_init(struct layout *layout, const struct guest_settings *settings, uint64_t split_page, char error[SETTINGS_ERROR]);
void layout_fini(struct layout *layout);

/* General registers that vCPU `vcpu` begins with; behind those that write come the disk's drivers. */
void layout_registers(const struct layout *layout, uint32_t vcpu, struct kvm_regs *ret);

/* Page tables' address, for CR3. */
static inline uint64_t layout_page_tables(const struct layout *layout)
{
	return layout->tables_page << 12;
}

/* Whether `page` holds counts: anything may be in it. */
static inline bool layout_is_count(const struct layout *layout, uint64_t page)
{
	return page >= layout->counts_page && page < layout->data_page;
}

/* The vCPU that owns `page`, -1: none does. */
static inline int layout_owner(const struct layout *layout, uint64_t page)
{
	uint64_t owner = page >= layout->data_page ? (page - layout->data_page) / layout->items : layout->vcpus;

	return owner < layout->vcpus ? (int)owner : -1;
}

/* What vCPU `vcpu` fills with --fill guest: [*ret_first, *ret_end). */
void layout_fills(const struct layout *layout, uint32_t vcpu, uint64_t *ret_first, uint64_t *ret_end);

/* What `page` holds after `count` writes, into a whole page at `to`. Whether it is more than memory never touched. Not for
 * counts. */
bool layout_content(const struct layout *layout, uint64_t page, uint32_t count, void *to);

/* Whether all of these pages are data that is all zero before it is written. */
bool layout_zero(const struct layout *layout, uint64_t first, uint64_t end);

/* Pages written by one of the guest's writes of the smallest kind. */
static inline uint32_t layout_unit(const struct layout *layout)
{
	return layout->pattern == PATTERN_SEQ ? LAYOUT_GROUP : 1;
}

#endif
