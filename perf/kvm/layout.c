/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is where in a KVM guest's memory, and what each page must hold.
 *
 * The guest's addresses are page number * 4096 without a hole: its page tables, of 2 MiB pages, take what lies behind the split
 * to where that is in physical memory, above 4 GiB. Their accessed and dirty bits are set from the beginning, so that they
 * never change. Everything but the counts is a function of the settings: it can be made again to compare with.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>

#include "perf/disk/block.h"
#include "perf/disk/ring.h"
#include "perf/kvm/drivers.h"
#include "perf/kvm/layout.h"
#include "perf/units.h"

#define PAGE ((uint64_t)SLUICE_PAGE_SIZE)
#define TABLE 512u           /* entries of a page table */
#define LARGE (PAGE * TABLE) /* what a last-level entry maps */
#define TABLE_FLAGS 0x23u    /* present, writable, accessed */
#define LARGE_FLAGS 0xe3u    /* likewise, and dirty, large */
#define ZIPF_ITEMS 16384u    /* code.S takes 14 bits */
#define ZIPF_PAGES (ZIPF_ITEMS * sizeof(uint32_t) / PAGE)
#define FIRST_STAMP 0u
#define LAST_STAMP (PAGE - sizeof(uint64_t))
#define LANE_STEP 584u /* seq: where in each of a group's pages it writes; the first at the beginning, the last at the end */
_Static_assert((LAYOUT_GROUP - 1) * LANE_STEP == LAST_STAMP, "the last lane's word is the page's last");

/* Knuth's MMIX generator; its high bits are good. */
#define LCG_MULTIPLIER 6364136223846793005u
#define LCG_ADDEND 1442695040888963407u

extern const uint8_t kvm_code_begin[], kvm_code_end[], kvm_code_boot[], kvm_code_fill[], kvm_code_fill_boot[], kvm_code_seq[],
	kvm_code_rand[], kvm_code_zipf[], kvm_code_gc[], kvm_driver_begin[], kvm_driver_end[], kvm_driver[];

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

static int make_zipf(struct layout *layout)
{
	struct pattern_state state = { .rng = content_mix(layout->content.seed ^ 0x7a697066) };
	struct pattern pattern;

	layout->zipf = calloc(ZIPF_ITEMS, sizeof(*layout->zipf));
	if (!layout->zipf)
		return -ENOMEM;
	pattern_init(&pattern, PATTERN_ZIPF, layout->items);
	for (uint32_t i = 0; i < ZIPF_ITEMS; i++)
		layout->zipf[i] = (uint32_t)pattern_next(&pattern, &state);
	return 0;
}

int layout_init(struct layout *layout, const struct guest_settings *settings, uint64_t split_page, char error[SETTINGS_ERROR])
{
	uint64_t pages = settings->memory.bytes / PAGE, wss = settings->wss_bytes / PAGE;
	uint64_t directories = (settings->memory.bytes + LARGE * TABLE - 1) / (LARGE * TABLE);
	char text[UNITS_TEXT];

	memset(layout, 0, sizeof(*layout));
	layout->content = settings->content;
	layout->pattern = settings->pattern;
	layout->vcpus = settings->vcpus;
	layout->pages = pages;
	layout->split_page = split_page;
	layout->disk_page = pages - settings_disk_bytes(settings) / PAGE;
	layout->tables_page = LAYOUT_DRIVER_PAGE + 1;
	layout->zipf_page = layout->tables_page + 2 + directories;
	layout->counts_page = layout->zipf_page + (layout->pattern == PATTERN_ZIPF ? ZIPF_PAGES : 0);
	layout->data_page = round_up(layout->counts_page + (pages * sizeof(uint32_t) + PAGE - 1) / PAGE, LAYOUT_GROUP);
	if (layout->data_page < layout->disk_page && wss > layout->disk_page - layout->data_page)
		wss = layout->disk_page - layout->data_page;
	layout->items = wss / settings->vcpus / LAYOUT_GROUP * LAYOUT_GROUP;
	if (layout->data_page >= layout->disk_page || layout->data_page >= split_page || !layout->items) {
		snprintf(error, SETTINGS_ERROR,
			 "-m %s is too small for --guest kvm with %" PRIu32 " vCPUs: of it, %" PRIu64
			 "K are the guest's own tables; choose a larger one, or a smaller --vcpus",
			 units_exact(settings->memory.bytes, text), settings->vcpus, layout->data_page * PAGE >> 10);
		return -EINVAL;
	}
	if (layout->pattern == PATTERN_ZIPF && make_zipf(layout)) {
		snprintf(error, SETTINGS_ERROR, "no memory for the guest's tables: free memory");
		return -ENOMEM;
	}
	return 0;
}

void layout_fini(struct layout *layout)
{
	free(layout->zipf);
	layout->zipf = NULL;
}

static uint64_t code_address(const uint8_t *at)
{
	return LAYOUT_CODE_PAGE * PAGE + (uint64_t)(at - kvm_code_begin);
}

void layout_fills(const struct layout *layout, uint32_t vcpu, uint64_t *ret_first, uint64_t *ret_end)
{
	*ret_first = layout->data_page + vcpu * layout->items;
	*ret_end = vcpu + 1 < layout->vcpus ? *ret_first + layout->items
					    : layout->disk_page; /* the last one also what nobody owns */
}

static void driver_registers(const struct layout *layout, uint32_t queue, struct kvm_regs *r)
{
	memset(r, 0, sizeof(*r));
	r->rflags = 2;
	r->rip = LAYOUT_DRIVER_PAGE * PAGE + (uint64_t)(kvm_driver - kvm_driver_begin);
	r->rbx = (layout->disk_page + queue * AREA_QUEUE_PAGES) * PAGE;
	r->rbp = r->rbx + sizeof(struct ring);
	r->rdx = DRIVERS_OFFERED; /* so that it looks before it sleeps */
	r->r12 = 1ull << BLOCK_NUMBER_SHIFT;
	r->r13 = LCG_MULTIPLIER;
	r->r14 = LCG_ADDEND;
}

void layout_registers(const struct layout *layout, uint32_t vcpu, struct kvm_regs *r)
{
	const uint8_t *const entry[] = { kvm_code_seq, kvm_code_rand, kvm_code_zipf, kvm_code_gc };
	uint64_t base = (layout->data_page + vcpu * layout->items) * PAGE, span = layout->items * PAGE, first, end;

	if (vcpu >= layout->vcpus) {
		driver_registers(layout, vcpu - layout->vcpus, r);
		return;
	}
	memset(r, 0, sizeof(*r));
	r->rflags = 2;
	r->rsp = code_address(entry[layout->pattern]);
	r->rip = vcpu ? r->rsp : code_address(kvm_code_boot);
	if (layout->content.fill == FILL_GUEST) {
		layout_fills(layout, vcpu, &first, &end);
		r->rcx = end - first;
		r->rdx = first * PAGE;
		r->rip = code_address(vcpu ? kvm_code_fill : kvm_code_fill_boot);
	}
	r->rbp = base;
	r->r10 = base;
	r->r11 = layout->counts_page * PAGE;
	switch (layout->pattern) {
	case PATTERN_SEQ:
		r->rdi = base;
		r->rsi = base + span;
		break;
	case PATTERN_GC:
		r->r9 = span;
		r->rsi = PAGE;
		r->r12 = r->rbx = (layout->items + 7) / 8;
		r->r13 = 17 * PAGE % span ? 17 * PAGE % span : PAGE;
		r->r14 = (layout->items + 16) / 17;
		break;
	case PATTERN_ZIPF: r->rbx = layout->zipf_page * PAGE; /* fallthrough */
	case PATTERN_RAND:
		r->r8 = content_mix(layout->content.seed + vcpu);
		r->r9 = layout->items;
		r->r14 = LCG_MULTIPLIER;
		r->r15 = LCG_ADDEND;
		break;
	}
}

/* The `table`th page of page tables: the topmost, the one below it, then the directories. */
static void fill_table(const struct layout *layout, uint64_t table, uint64_t *to)
{
	uint64_t directories = layout->zipf_page - layout->tables_page - 2;

	memset(to, 0, PAGE);
	if (table == 0) {
		to[0] = ((layout->tables_page + 1) * PAGE) | TABLE_FLAGS;
		return;
	}
	if (table == 1) {
		for (uint64_t i = 0; i < directories; i++)
			to[i] = ((layout->tables_page + 2 + i) * PAGE) | TABLE_FLAGS;
		return;
	}
	for (uint64_t i = 0; i < TABLE; i++) {
		uint64_t page = ((table - 2) * TABLE + i) * TABLE, address = page * PAGE;

		if (page >= layout->pages)
			break;
		if (page >= layout->split_page)
			address = LAYOUT_HOLE_END + (page - layout->split_page) * PAGE;
		to[i] = address | LARGE_FLAGS;
	}
}

static void put(uint8_t *to, uint64_t at, uint64_t value)
{
	memcpy(to + at, &value, sizeof(value));
}

static void add(uint8_t *to, uint64_t at, uint32_t count)
{
	uint64_t value;

	memcpy(&value, to + at, sizeof(value));
	put(to, at, value + count);
}

/* Words that the guest adds to: their lower halves are its, and zero at first. */
static bool fill_data(const struct layout *layout, uint64_t page, uint8_t *to)
{
	uint64_t stamp = page << 32;

	if (layout->content.fill == FILL_GUEST) {
		memset(to, 0, PAGE);
		put(to, FIRST_STAMP, stamp);
		put(to, LAST_STAMP, stamp);
		return true;
	}
	if (!content_touched(&layout->content, page)) {
		memset(to, 0, PAGE);
		return false;
	}
	content_write(&layout->content, page, 0, to);
	if (layout->content.fill == FILL_ZERO)
		return true;
	if (layout->pattern == PATTERN_SEQ) {
		put(to, page % LAYOUT_GROUP * LANE_STEP, stamp);
	} else {
		put(to, FIRST_STAMP, stamp);
		put(to, LAST_STAMP, stamp);
	}
	return true;
}

bool layout_content(const struct layout *layout, uint64_t page, uint32_t count, void *to)
{
	bool filled;

	if (page >= layout->data_page) {
		filled = fill_data(layout, page, to);
		if (!count)
			return filled;
		if (layout->pattern == PATTERN_SEQ) {
			add(to, page % LAYOUT_GROUP * LANE_STEP, count);
		} else {
			add(to, FIRST_STAMP, count);
			add(to, LAST_STAMP, count);
		}
		return true;
	}
	memset(to, 0, PAGE);
	if (page < LAYOUT_CODE_PAGE || layout_is_count(layout, page))
		return false;
	if (page == LAYOUT_CODE_PAGE)
		memcpy(to, kvm_code_begin, (size_t)(kvm_code_end - kvm_code_begin));
	else if (page == LAYOUT_DRIVER_PAGE)
		memcpy(to, kvm_driver_begin, (size_t)(kvm_driver_end - kvm_driver_begin));
	else if (page < layout->zipf_page)
		fill_table(layout, page - layout->tables_page, to);
	else
		memcpy(to, layout->zipf + (page - layout->zipf_page) * (PAGE / sizeof(uint32_t)), PAGE);
	return true;
}

bool layout_zero(const struct layout *layout, uint64_t first, uint64_t end)
{
	return first >= layout->data_page && end <= layout->disk_page &&
	       (!layout->content.touched_per_2_32 || layout->content.fill == FILL_ZERO);
}
