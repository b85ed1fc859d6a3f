/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How often each page was written: the guest's own state, outside its memory. */
#ifndef PERF_COUNTS_H
#define PERF_COUNTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTS_GROUP 512u /* pages to one bit of the summary */

struct counts {
	uint64_t pages;
	uint32_t *count;           /* sparse; each page's by the thread that owns the page */
	_Atomic uint64_t *summary; /* a bit for each group that has a count over 0; atomic */
};

int counts_init(struct counts *counts, uint64_t pages);
void counts_fini(struct counts *counts);

/* Note a write: count becomes `count`. Thread: the page's owner. */
static inline void counts_set(struct counts *counts, uint64_t page, uint32_t count)
{
	uint64_t group = page / COUNTS_GROUP, bit = 1ull << (group % 64);
	_Atomic uint64_t *word = &counts->summary[group / 64];

	counts->count[page] = count;
	if (!(atomic_load_explicit(word, memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
}

/* Whether any page of page's group was written. The rest below: nobody may be writing. */
static inline bool counts_any(const struct counts *counts, uint64_t page)
{
	uint64_t group = page / COUNTS_GROUP;

	return atomic_load_explicit(&counts->summary[group / 64], memory_order_relaxed) >> (group % 64) & 1;
}

/* Sum of all counts, modulo 2^64. */
uint64_t counts_sum(const struct counts *counts);

/* Code all counts over 0 compactly. The buffer is given back with counts_free_code(). 0 or -ENOMEM. */
int counts_encode(const struct counts *counts, void **ret_code, size_t *ret_length, size_t *ret_mapped);
void counts_free_code(void *code, size_t mapped);

/* Take counts from a peer into all-zero ones; everything is checked. -EBADMSG: not a code of so many pages. */
int counts_decode(struct counts *counts, const void *code, size_t length);

#endif
