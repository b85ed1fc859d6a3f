/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How often each page was written: the guest's own state, outside its memory.
 *
 * The code is a list of runs: pages skipped since the last run, pages in the run, each page's count; numbers are
 * LEB128. It is made while the guest stands still, so only groups that the summary names are walked.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "perf/counts.h"

/* A run of one page after one skipped page is the dearest: 1 + 1 + 5 bytes; longer skips take less a page. */
#define CODE_BYTES_PER_PAGE 7
#define CODE_SLACK 64

static void *sparse(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static size_t summary_size(const struct counts *counts)
{
	return (counts->pages / COUNTS_GROUP / 64 + 1) * sizeof(uint64_t);
}

int counts_init(struct counts *counts, uint64_t pages)
{
	counts->pages = pages;
	counts->count = sparse(pages * sizeof(*counts->count));
	counts->summary = sparse(summary_size(counts));
	if (counts->count && counts->summary)
		return 0;
	counts_fini(counts);
	return -ENOMEM;
}

void counts_fini(struct counts *counts)
{
	if (counts->count)
		munmap(counts->count, counts->pages * sizeof(*counts->count));
	if (counts->summary)
		munmap(counts->summary, summary_size(counts));
	memset(counts, 0, sizeof(*counts));
}

/* The first page at or after `page` that was written; counts->pages if none. */
static uint64_t next_written(const struct counts *counts, uint64_t page)
{
	while (page < counts->pages) {
		uint64_t group = page / COUNTS_GROUP;
		uint64_t word = atomic_load_explicit(&counts->summary[group / 64], memory_order_relaxed) >> (group % 64);
		uint64_t end;

		if (!word) {
			page = (group / 64 + 1) * 64 * COUNTS_GROUP;
			continue;
		}
		if (!(word & 1)) {
			page = (group + (unsigned)__builtin_ctzll(word)) * COUNTS_GROUP;
			continue;
		}
		end = (group + 1) * COUNTS_GROUP;
		if (end > counts->pages)
			end = counts->pages;
		while (page < end && !counts->count[page])
			page++;
		if (page < end)
			return page;
	}
	return counts->pages;
}

uint64_t counts_sum(const struct counts *counts)
{
	uint64_t sum = 0;

	for (uint64_t page = 0; (page = next_written(counts, page)) < counts->pages; page++)
		sum += counts->count[page];
	return sum;
}

static uint8_t *put(uint8_t *to, uint64_t value)
{
	while (value >= 0x80) {
		*to++ = (uint8_t)value | 0x80;
		value >>= 7;
	}
	*to++ = (uint8_t)value;
	return to;
}

int counts_encode(const struct counts *counts, void **ret_code, size_t *ret_length, size_t *ret_mapped)
{
	size_t mapped = counts->pages * CODE_BYTES_PER_PAGE + CODE_SLACK;
	uint64_t page, last = 0;
	uint8_t *code = sparse(mapped), *to = code;

	if (!code)
		return -ENOMEM;
	for (page = next_written(counts, 0); page < counts->pages; page = next_written(counts, last)) {
		uint64_t end = page + 1;

		while (end < counts->pages && counts->count[end])
			end++;
		to = put(put(to, page - last), end - page);
		for (; page < end; page++)
			to = put(to, counts->count[page]);
		last = end;
	}
	*ret_code = code;
	*ret_length = (size_t)(to - code);
	*ret_mapped = mapped;
	return 0;
}

void counts_free_code(void *code, size_t mapped)
{
	if (code)
		munmap(code, mapped);
}

/* A number of at most `max`; NULL: there is none. */
static const uint8_t *get(const uint8_t *from, const uint8_t *end, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned shift = 0; from < end && shift < 63; shift += 7) {
		value |= (uint64_t)(*from & 0x7f) << shift;
		if (!(*from++ & 0x80)) {
			*ret = value;
			return value <= max ? from : NULL;
		}
	}
	return NULL;
}

int counts_decode(struct counts *counts, const void *code, size_t length)
{
	const uint8_t *from = code, *end = from + length;
	uint64_t page = 0, skip, run, count;

	while (from < end) {
		from = get(from, end, counts->pages - page, &skip);
		if (!from)
			return -EBADMSG;
		page += skip;
		from = get(from, end, counts->pages - page, &run);
		if (!from || !run)
			return -EBADMSG;
		while (run--) {
			from = get(from, end, UINT32_MAX, &count);
			if (!from || !count)
				return -EBADMSG;
			counts_set(counts, page++, (uint32_t)count);
		}
	}
	return 0;
}
