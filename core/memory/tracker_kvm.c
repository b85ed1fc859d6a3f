/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tracker_kvm.c: KVM's dirty log and KVM's dirty rings, on the embedder's own VM. Thread: sync; the big lock is not wanted, KVM has
 * locks of its own.
 *
 * The log. KVM tells of a slot's writes only as a whole, 2 MiB of bits for 64 GiB, and we fetch piece by piece. So a slot is asked
 * about once a pass (whenever the piece wanted is not behind the one before), and pieces are answered from the copy, `seen`. Law 3
 * holds: with manual protection asking changes nothing; what is cleared is what the copy had, just before its bits are set in
 * ours. A page written after the copy was made keeps its bit in KVM, unless the copy has it too: then it is read after the clear.
 * Without manual protection KVM protects at once all it tells of, and clearing is ours alone; so the copy collects, also where an embedder
 * says that there is manual protection, and there is none.
 * Where KVM sets all bits initially, starting protects nothing, and the first pass protects piece by piece, ahead of the senders.
 *
 * The rings. Whoever comes empties all of them, and reports everything, wherever it is: behind the senders' cursor it is for the
 * next round. Starting protects all memory at once, for KVM knows no other way with rings. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/memory/kvm.h"
#include "core/memory/tracker_kinds.h"

enum {
	WORD_PAGES = 64,
	PIECE_PAGES = 4096,
	PIECE_WORDS = PIECE_PAGES / WORD_PAGES + 1
}; /* a slot need not begin where a piece does */

static int need_kvm(struct tracker *tracker, const char *name, char error[SLUICE_ERROR_MAX])
{
	if (tracker->config.kvm)
		return 0;
	snprintf(error, SLUICE_ERROR_MAX,
		 "tracker %s: sluice was not told of a KVM virtual machine: call sluice_set_kvm(), or use another tracker", name);
	return -ENOTSUP;
}

/* ---------------------------------------------------------------- the log */

static int kvm_log_create(struct tracker *tracker, char error[SLUICE_ERROR_MAX])
{
	int rc = need_kvm(tracker, "kvm-log", error);

	if (rc)
		return rc;
	if (tracker->config.kvm->n_rings) {
		snprintf(error, SLUICE_ERROR_MAX,
			 "tracker kvm-log: this VM has dirty rings, so it has no dirty log: use tracker kvm-ring");
		return -ENOTSUP;
	}
	tracker->log_bits = calloc(PIECE_WORDS, sizeof(*tracker->log_bits));
	return tracker->log_bits ? 0 : -ENOMEM;
}

static int kvm_log_start(struct tracker *tracker)
{
	struct kvm *kvm = tracker->config.kvm;

	for (uint32_t i = 0; i < kvm->n_slots; i++)
		kvm->slots[i].next = UINT64_MAX;
	return kvm_logging(kvm, tracker->config.memory, true);
}

static int ask(struct kvm *kvm, struct kvm_slot *slot)
{
	uint64_t words = (slot->pages + WORD_PAGES - 1) / WORD_PAGES;
	uint64_t *bits = malloc(words * sizeof(*bits));
	struct kvm_dirty_log log = { .slot = slot->is.slot, .dirty_bitmap = bits };

	if (!bits)
		return -ENOMEM;
	int rc = ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) ? -errno : 0;
	for (uint64_t i = 0; !rc && i < words; i++)
		slot->seen[i] |= bits[i];
	free(bits);
	return rc;
}

/* Copy what was seen of [from, to) of a slot, whole words, nothing beside the range; returns whether there is anything. */
static bool copy_seen(const struct kvm_slot *slot, uint64_t from, uint64_t to, uint64_t *bits)
{
	uint64_t first = from / WORD_PAGES, words = (to + WORD_PAGES - 1) / WORD_PAGES - first, any = 0;

	memcpy(bits, slot->seen + first, words * sizeof(*bits));
	bits[0] &= ~UINT64_C(0) << from % WORD_PAGES;
	if (to % WORD_PAGES)
		bits[words - 1] &= (UINT64_C(1) << to % WORD_PAGES) - 1;
	for (uint64_t i = 0; i < words; i++)
		any |= bits[i];
	return any;
}

/* Re-arm [from, to) of a slot where it was seen written; its bits are in tracker->log_bits then. KVM wants whole words but at
 * the slot's end; those beside the range are 0. */
static int clear_seen(struct kvm *kvm, struct kvm_slot *slot, uint64_t from, uint64_t to, uint64_t *bits)
{
	uint64_t first = from / WORD_PAGES, end = (to + WORD_PAGES - 1) / WORD_PAGES;
	uint64_t last_page = end * WORD_PAGES < slot->pages ? end * WORD_PAGES : slot->pages;
	struct kvm_clear_dirty_log clear = {
		.slot = slot->is.slot,
		.num_pages = (uint32_t)(last_page - first * WORD_PAGES),
		.first_page = first * WORD_PAGES,
		.dirty_bitmap = bits,
	};

	for (uint64_t i = first; i < end; i++)
		slot->seen[i] &= ~bits[i - first];
	if (!(kvm->flags & SLUICE_KVM_MANUAL_PROTECT))
		return 0;
	return ioctl(kvm->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) ? -errno : 0;
}

static void each_run(struct tracker *tracker, const struct kvm_slot *slot, uint64_t from, uint64_t to,
		     void (*what)(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n))
{
	uint64_t first = from / WORD_PAGES, end = (to + WORD_PAGES - 1) / WORD_PAGES;

	for (uint64_t i = first; i < end; i++) {
		uint64_t bits = tracker->log_bits[i - first];
		while (bits) {
			int at = __builtin_ctzll(bits);
			uint64_t shifted = ~(bits >> at);
			int run = shifted ? __builtin_ctzll(shifted) : WORD_PAGES;
			what(tracker, slot->is.region, slot->first + i * WORD_PAGES + (uint64_t)at, (uint64_t)run);
			bits = at + run < WORD_PAGES ? bits & (~UINT64_C(0) << (at + run)) : 0;
		}
	}
}

/* Pages [from, to) of a slot. */
static int fetch_slot(struct tracker *tracker, struct kvm_slot *slot, uint64_t from, uint64_t to, bool tell)
{
	struct kvm *kvm = tracker->config.kvm;
	int rc = 0;

	if (slot->next == UINT64_MAX || from < slot->next)
		rc = ask(kvm, slot);
	if (rc)
		return rc;
	slot->next = to;
	for (; from < to && !rc; from += PIECE_PAGES) {
		uint64_t end = to - from < PIECE_PAGES ? to : from + PIECE_PAGES;
		if (!copy_seen(slot, from, end, tracker->log_bits))
			continue;
		rc = clear_seen(kvm, slot, from, end, tracker->log_bits);
		/* Also when it failed: it may have cleared some of them. */
		if (tell)
			each_run(tracker, slot, from, end, tracker_report);
	}
	return rc;
}

/* Asking changes nothing, with manual protection: what it tells of is still KVM's to tell. */
static int peek_slot(struct tracker *tracker, struct kvm_slot *slot, uint64_t from, uint64_t to, bool tell)
{
	struct kvm *kvm = tracker->config.kvm;
	int rc = kvm->flags & SLUICE_KVM_MANUAL_PROTECT ? 0 : -ENOTSUP;

	(void)tell;
	if (!rc && !from)
		rc = ask(kvm, slot);
	for (; from < to && !rc; from += PIECE_PAGES) {
		uint64_t end = to - from < PIECE_PAGES ? to : from + PIECE_PAGES;
		if (copy_seen(slot, from, end, tracker->log_bits))
			each_run(tracker, slot, from, end, tracker_count);
	}
	return rc;
}

static int each_slot(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, bool tell,
		     int (*what)(struct tracker *tracker, struct kvm_slot *slot, uint64_t from, uint64_t to, bool tell))
{
	struct kvm *kvm = tracker->config.kvm;
	int rc = 0;

	for (uint32_t i = 0; i < kvm->n_slots && !rc; i++) {
		struct kvm_slot *slot = &kvm->slots[i];
		uint64_t from = first > slot->first ? first : slot->first, to = first + n;
		if (to > slot->first + slot->pages)
			to = slot->first + slot->pages;
		if (slot->is.region == region && from < to)
			rc = what(tracker, slot, from - slot->first, to - slot->first, tell);
	}
	return rc;
}

static int kvm_log_again(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	return each_slot(tracker, region, first, n, true, fetch_slot);
}

static int kvm_log_peek(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	return each_slot(tracker, region, first, n, false, peek_slot);
}

/* As log_first(): that it is cleared before we look for holes is what matters. */
static int kvm_log_first(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	int rc = each_slot(tracker, region, first, n, false, fetch_slot);

	return rc ? rc : tracker_report_data(tracker, region, first, n);
}

static int kvm_log_stop(struct tracker *tracker)
{
	return kvm_logging(tracker->config.kvm, tracker->config.memory, false);
}

static void kvm_log_destroy(struct tracker *tracker)
{
	free(tracker->log_bits);
}

const struct tracker_kind tracker_kvm_log = {
	.name = "kvm-log",
	.create = kvm_log_create,
	.start = kvm_log_start,
	.first = kvm_log_first,
	.again = kvm_log_again,
	.peek = kvm_log_peek,
	.stop = kvm_log_stop,
	.destroy = kvm_log_destroy,
};

/* ---------------------------------------------------------------- the rings */

static int kvm_ring_create(struct tracker *tracker, char error[SLUICE_ERROR_MAX])
{
	int rc = need_kvm(tracker, "kvm-ring", error);

	if (rc || tracker->config.kvm->n_rings)
		return rc;
	snprintf(error, SLUICE_ERROR_MAX,
		 "tracker kvm-ring: the VM has no dirty rings: enable KVM_CAP_DIRTY_LOG_RING_ACQ_REL before its first vCPU, or "
		 "use kvm-log");
	return -ENOTSUP;
}

static int kvm_ring_start(struct tracker *tracker)
{
	const struct tracker_config *config = &tracker->config;
	int rc = kvm_ring_report_to(config->kvm, config->memory, config->dirty, config->discarded, config->written);

	if (!rc)
		rc = kvm_logging(config->kvm, config->memory, true);
	if (rc)
		(void)kvm_ring_report_to(config->kvm, NULL, NULL, NULL, NULL);
	return rc;
}

static int kvm_ring_again(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	uint64_t found = 0;
	int rc = kvm_harvest(tracker->config.kvm, &found);

	(void)region, (void)first, (void)n;
	tracker->found += found;
	return rc;
}

/* Rings can only be emptied; what is found counts with the next fetch, and is dirty by now. */
static int kvm_ring_peek(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	(void)region, (void)first, (void)n;
	return kvm_harvest(tracker->config.kvm, NULL);
}

static int kvm_ring_stop(struct tracker *tracker)
{
	struct kvm *kvm = tracker->config.kvm;
	int rc = kvm_logging(kvm, tracker->config.memory, false), emptied = kvm_ring_report_to(kvm, NULL, NULL, NULL, NULL);

	return rc ? rc : emptied;
}

const struct tracker_kind tracker_kvm_ring = {
	.name = "kvm-ring",
	.create = kvm_ring_create,
	.start = kvm_ring_start,
	.first = tracker_report_data,
	.again = kvm_ring_again,
	.peek = kvm_ring_peek,
	.stop = kvm_ring_stop,
};
