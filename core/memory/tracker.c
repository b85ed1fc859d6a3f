/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tracker.c: choice of a kind, and what all kinds do alike: which pieces were fetched before, and holes of a destination
 * that is not fresh. Thread: sync.
 *
 * A piece's first fetch where the destination is not fresh: all its pages are called discarded *before* the kind arms and looks,
 * what is found to hold something is taken off again, and only then the dirty bits are set. The other order would lose a mark:
 * looked (hole), written and marked by a device, called discarded, sent as zero. */
#include "core/memory/tracker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory/kvm.h"
#include "core/memory/tracker_kinds.h"

enum { WORD_BITS = 64 };

static int marks_nothing(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	(void)tracker, (void)region, (void)first, (void)n;
	return 0;
}

/* Writers mark all they write, from before the tracker starts: there is nothing to arm and nothing to fetch but what was there. */
const struct tracker_kind tracker_marks = {
	.name = "marks", .first = tracker_report_data, .again = marks_nothing, .peek = marks_nothing
};

void tracker_report(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	uint64_t bit = memory_bit(&tracker->config.memory->regions[region], first);

	/* In this order: a sender that takes the dirty bit must not find the page discarded. bitmap_set() is a release. */
	bitmap_clear(tracker->config.discarded, bit, n);
	if (tracker->config.written && !tracker->first)
		bitmap_set(tracker->config.written, bit, n);
	tracker->found += bitmap_set(tracker->config.dirty, bit, n);
}

void tracker_count(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	uint64_t bit = memory_bit(&tracker->config.memory->regions[region], first);

	tracker->found += bitmap_unset(tracker->config.dirty, bit, n);
}

struct report {
	struct tracker *tracker;
	uint32_t region;
};

static int report_run(void *argument, uint64_t first, uint64_t n)
{
	const struct report *report = argument;

	tracker_report(report->tracker, report->region, first, n);
	return 0;
}

int tracker_report_data(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	struct report report = { tracker, region };

	return holes_data(&tracker->holes, region, first, n, report_run, &report);
}

static const struct tracker_kind *kind_named(enum sluice_tracker kind)
{
	switch (kind) {
	case SLUICE_TRACKER_LOG: return &tracker_log;
	case SLUICE_TRACKER_PAGEMAP: return &tracker_pagemap;
	case SLUICE_TRACKER_MARKS: return &tracker_marks;
	case SLUICE_TRACKER_KVM_LOG: return &tracker_kvm_log;
	case SLUICE_TRACKER_KVM_RING: return &tracker_kvm_ring;
	case SLUICE_TRACKER_AUTO: break;
	}
	return NULL;
}

static int create_kind(struct tracker *tracker, const struct tracker_kind *kind, char error[SLUICE_ERROR_MAX])
{
	int rc = kind->create ? kind->create(tracker, error) : 0;

	if (!rc)
		tracker->kind = kind;
	return rc;
}

static int choose(struct tracker *tracker, char error[SLUICE_ERROR_MAX])
{
	const struct tracker_kind *kind = kind_named(tracker->config.kind);

	if (kind)
		return create_kind(tracker, kind, error);
	if (tracker->config.kvm)
		return create_kind(tracker, tracker->config.kvm->n_rings ? &tracker_kvm_ring : &tracker_kvm_log, error);
	if (tracker->config.ops && tracker->config.ops->dirty_log_fetch)
		return create_kind(tracker, &tracker_log, error);
	/* Never marks by itself: where not every writer marks, pages would be lost without a word. */
	return create_kind(tracker, &tracker_pagemap, error);
}

int tracker_create(const struct tracker_config *config, struct tracker **ret_tracker, char error[SLUICE_ERROR_MAX])
{
	struct tracker *tracker = calloc(1, sizeof(*tracker));
	int rc = -ENOMEM;

	if (!tracker)
		goto failed;
	tracker->config = *config;
	tracker->uffd = -1;
	tracker->fetched_words = (config->memory->granules + WORD_BITS - 1) / WORD_BITS;
	tracker->fetched = calloc(tracker->fetched_words, sizeof(*tracker->fetched));
	if (!tracker->fetched)
		goto free_tracker;
	rc = holes_init(&tracker->holes, config->memory);
	if (rc)
		goto free_fetched;
	rc = choose(tracker, error);
	if (rc)
		goto fini_holes;
	*ret_tracker = tracker;
	return 0;
fini_holes:
	holes_fini(&tracker->holes);
free_fetched:
	free(tracker->fetched);
free_tracker:
	free(tracker);
failed:
	if (rc != -ENOTSUP)
		snprintf(error, SLUICE_ERROR_MAX, "tracker: %s%s", strerror(-rc), rc == -EMFILE ? ": raise ulimit -n" : "");
	return rc;
}

const char *tracker_name(const struct tracker *tracker)
{
	return tracker->kind->name;
}

int tracker_start(struct tracker *tracker)
{
	assert(!tracker->started);
	int rc = tracker->kind->start ? tracker->kind->start(tracker) : 0;
	tracker->started = !rc;
	return rc;
}

int tracker_stop(struct tracker *tracker)
{
	int rc = tracker->started && tracker->kind->stop ? tracker->kind->stop(tracker) : 0;
	if (!rc)
		tracker->started = false;
	return rc;
}

static bool was_fetched(const struct tracker *tracker, uint64_t granule)
{
	return tracker->fetched[granule / WORD_BITS] >> granule % WORD_BITS & 1;
}

static int fetch_first(struct tracker *tracker, uint32_t id, uint64_t first, uint64_t n)
{
	const struct region *region = &tracker->config.memory->regions[id];
	uint64_t bit = memory_bit(region, first);

	if (!region->fresh)
		bitmap_set(tracker->config.discarded, bit, n);
	uint64_t before = tracker->found;
	tracker->first = true;
	int rc = tracker->kind->first(tracker, id, first, n);
	tracker->first = false;
	if (rc)
		return rc;
	if (!region->fresh)
		tracker->found += bitmap_set(tracker->config.dirty, bit, n);
	tracker->discovered += tracker->found - before;
	uint64_t granule = region->first_granule + first / WIRE_GRANULE_PAGES;
	uint64_t end = region->first_granule + (first + n + WIRE_GRANULE_PAGES - 1) / WIRE_GRANULE_PAGES;
	for (; granule < end; granule++)
		tracker->fetched[granule / WORD_BITS] |= UINT64_C(1) << granule % WORD_BITS;
	return 0;
}

/* Where the pages from `first` on end that were fetched before, or that were not: `end` at most. */
static uint64_t next_run(const struct tracker *tracker, const struct region *region, uint64_t first, uint64_t end,
			 bool *ret_fetched)
{
	uint64_t to = first;

	*ret_fetched = was_fetched(tracker, region->first_granule + first / WIRE_GRANULE_PAGES);
	do
		to += WIRE_GRANULE_PAGES;
	while (to < end && was_fetched(tracker, region->first_granule + to / WIRE_GRANULE_PAGES) == *ret_fetched);
	return to < end ? to : end;
}

int tracker_fetch(struct tracker *tracker, uint32_t id, uint64_t first, uint64_t n, uint64_t *ret_found)
{
	assert(tracker->started && id < tracker->config.memory->n);
	const struct region *region = &tracker->config.memory->regions[id];
	assert(first % WIRE_GRANULE_PAGES == 0 && first <= region->pages && n <= region->pages - first);
	uint64_t host_pages = region->host_page_size >> WIRE_PAGE_SHIFT, end = first + n;
	int rc = 0;

	/* To whole granules, and to whole host pages: the kernel tracks no part of one. Both stay in the region. */
	if (host_pages < WIRE_GRANULE_PAGES)
		host_pages = WIRE_GRANULE_PAGES;
	first -= first % host_pages;
	end += (host_pages - end % host_pages) % host_pages;
	if (end > region->pages)
		end = region->pages;
	tracker->found = 0;
	while (first < end && !rc) {
		bool again;
		uint64_t to = next_run(tracker, region, first, end, &again);
		rc = again ? tracker->kind->again(tracker, id, first, to - first) : fetch_first(tracker, id, first, to - first);
		first = to;
	}
	*ret_found += tracker->found;
	return rc;
}

int tracker_peek(struct tracker *tracker, uint32_t id, uint64_t first, uint64_t n, uint64_t *ret_written, uint64_t *ret_unseen)
{
	const struct region *region = &tracker->config.memory->regions[id];
	uint64_t end = first + n;
	int rc = tracker->kind->peek ? 0 : -ENOTSUP;

	tracker->found = 0;
	while (first < end && !rc) {
		bool seen;
		uint64_t to = next_run(tracker, region, first, end, &seen);
		if (seen)
			rc = tracker->kind->peek(tracker, id, first, to - first);
		else
			*ret_unseen += to - first;
		first = to;
	}
	*ret_written += tracker->found;
	return rc;
}

uint64_t tracker_discovered(const struct tracker *tracker)
{
	return tracker->discovered;
}

void tracker_destroy(struct tracker *tracker)
{
	if (!tracker)
		return;
	(void)tracker_stop(tracker);
	if (tracker->kind->destroy)
		tracker->kind->destroy(tracker);
	holes_fini(&tracker->holes);
	free(tracker->fetched);
	free(tracker);
}

uint64_t tracker_bytes(const struct tracker *tracker)
{
	return sizeof(*tracker) + tracker->fetched_words * sizeof(*tracker->fetched);
}
