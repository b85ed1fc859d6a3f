/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tracker_log.c: the embedder's dirty log. Thread: sync.
 *
 * For each piece: fetch, clear exactly what was fetched, then set the bits, so that no page is read before its log is re-armed
 * (Law 3). The two callbacks go under the big lock one by one, where they ask for it, and a piece is small, so that nobody waits
 * long behind us (Law 2). Between them a write may be noted that the clear wipes out: its page is among the fetched, and
 * is read later than the clear. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory/tracker_kinds.h"

#ifndef LOG_PIECE_PAGES
#define LOG_PIECE_PAGES 4096 /* fewer in the simulator, whose guests are of one piece else */
#endif

/* 16 MiB: re-arming 4096 pages is the longest hold of the lock. */
enum { PIECE_PAGES = LOG_PIECE_PAGES, PIECE_WORDS = PIECE_PAGES / 64 };

static int lock(const struct tracker *tracker)
{
	const struct tracker_config *config = &tracker->config;

	return config->ops->needs_lock & SLUICE_LOCK_DIRTY_LOG ? config->lock(config->session) : 0;
}

static void unlock(const struct tracker *tracker)
{
	const struct tracker_config *config = &tracker->config;

	if (config->ops->needs_lock & SLUICE_LOCK_DIRTY_LOG)
		config->unlock(config->session);
}

static int log_create(struct tracker *tracker, char error[SLUICE_ERROR_MAX])
{
	const struct sluice_ops *ops = tracker->config.ops;

	if (!ops || !ops->dirty_log_fetch || !ops->dirty_log_clear) {
		snprintf(error, SLUICE_ERROR_MAX,
			 "tracker log: dirty_log_fetch and dirty_log_clear are not given; give both, or use another tracker");
		return -ENOTSUP;
	}
	tracker->log_bits = calloc(PIECE_WORDS, sizeof(*tracker->log_bits));
	return tracker->log_bits ? 0 : -ENOMEM;
}

static int log_start(struct tracker *tracker)
{
	if (!tracker->config.ops->dirty_log_start)
		return 0;
	int rc = lock(tracker);
	if (rc)
		return rc;
	rc = tracker->config.ops->dirty_log_start(tracker->config.opaque);
	unlock(tracker);
	return rc;
}

/* Fetch one piece into log_bits. */
static int fetch_bits(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	const struct tracker_config *config = &tracker->config;
	uint64_t words = (n + 63) / 64;

	memset(tracker->log_bits, 0, words * sizeof(*tracker->log_bits));
	int rc = lock(tracker);
	if (rc)
		return rc;
	rc = config->ops->dirty_log_fetch(config->opaque, region, first, n, tracker->log_bits);
	unlock(tracker);
	if (!rc && n % 64)
		tracker->log_bits[words - 1] &= (UINT64_C(1) << n % 64) - 1;
	return rc;
}

/* Fetch and clear one piece into log_bits. `ret_any`: the bits are to be reported, even where an error follows. */
static int fetch_and_clear(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, bool *ret_any)
{
	const struct tracker_config *config = &tracker->config;
	uint64_t words = (n + 63) / 64, any = 0;

	*ret_any = false;
	int rc = fetch_bits(tracker, region, first, n);
	if (rc)
		return rc;
	for (uint64_t i = 0; i < words; i++)
		any |= tracker->log_bits[i];
	if (!any)
		return 0;
	/* Not had: the log still has the bits. */
	rc = lock(tracker);
	if (rc)
		return rc;
	rc = config->ops->dirty_log_clear(config->opaque, region, first, n, tracker->log_bits);
	unlock(tracker);
	/* Also when it failed: it may have cleared some of them. */
	*ret_any = true;
	return rc;
}

static void each_run(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n,
		     void (*what)(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n))
{
	uint64_t words = (n + 63) / 64;

	for (uint64_t i = 0; i < words; i++) {
		uint64_t bits = tracker->log_bits[i];
		while (bits) {
			int from = __builtin_ctzll(bits);
			uint64_t shifted = ~(bits >> from);
			int run = shifted ? __builtin_ctzll(shifted) : 64;
			what(tracker, region, first + i * 64 + (uint64_t)from, (uint64_t)run);
			bits = from + run < 64 ? bits & (~UINT64_C(0) << (from + run)) : 0;
		}
	}
}

static int log_again(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	int rc = 0;

	for (uint64_t done = 0; done < n && !rc; done += PIECE_PAGES) {
		uint64_t piece = n - done < PIECE_PAGES ? n - done : PIECE_PAGES;
		bool any;
		rc = fetch_and_clear(tracker, region, first + done, piece, &any);
		if (any)
			each_run(tracker, region, first + done, piece, tracker_report);
	}
	return rc;
}

static int log_peek(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	int rc = 0;

	for (uint64_t done = 0; done < n && !rc; done += PIECE_PAGES) {
		uint64_t piece = n - done < PIECE_PAGES ? n - done : PIECE_PAGES;
		rc = fetch_bits(tracker, region, first + done, piece);
		if (!rc)
			each_run(tracker, region, first + done, piece, tracker_count);
	}
	return rc;
}

/* What the log says is dirty at first may be all of memory (KVM can be told so); what matters is that it is cleared before we
 * look for holes. A page it noted before is data now, or was discarded. */
static int log_first(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n)
{
	int rc = 0;

	for (uint64_t done = 0; done < n && !rc; done += PIECE_PAGES) {
		uint64_t piece = n - done < PIECE_PAGES ? n - done : PIECE_PAGES;
		bool any;
		rc = fetch_and_clear(tracker, region, first + done, piece, &any);
	}
	return rc ? rc : tracker_report_data(tracker, region, first, n);
}

static int log_stop(struct tracker *tracker)
{
	if (!tracker->config.ops->dirty_log_stop)
		return 0;
	int rc = lock(tracker);
	if (rc)
		return rc;
	tracker->config.ops->dirty_log_stop(tracker->config.opaque);
	unlock(tracker);
	return 0;
}

static void log_destroy(struct tracker *tracker)
{
	free(tracker->log_bits);
}

const struct tracker_kind tracker_log = {
	.name = "log",
	.create = log_create,
	.start = log_start,
	.first = log_first,
	.again = log_again,
	.peek = log_peek,
	.stop = log_stop,
	.destroy = log_destroy,
};
