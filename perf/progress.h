/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a user sees while a migration runs: a live line on a terminal, and interval lines. */
#ifndef PERF_PROGRESS_H
#define PERF_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice.h>

struct progress {
	bool lines; /* interval lines on stdout */
	bool live;  /* a line on stderr that is written over */
	double interval_s, next_s;
	unsigned printed;
	double last_s;
	uint64_t last_bytes;
	uint64_t memory_bytes;
};

/* json: nothing may go to stdout. */
void progress_init(struct progress *progress, double interval_s, bool json, uint64_t memory_bytes);

/* Show how far it is, `at_s` seconds after the start. */
void progress_show(struct progress *progress, double at_s, const struct sluice_stats *stats);

/* Wipe the live line; `last`: with the last, shorter interval. */
void progress_end(struct progress *progress, double at_s, const struct sluice_stats *last);

/* A line on stderr, "migperf: ...", that does not mix with the live line. */
void progress_say(struct progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
