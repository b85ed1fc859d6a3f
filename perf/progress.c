/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a user sees while a migration runs: a live line on a terminal, and interval lines. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "perf/progress.h"
#include "perf/units.h"

#define WIPE "\r\033[K"
#define SHORTEST_S 0.05 /* of a last interval worth a line */

void progress_init(struct progress *progress, double interval_s, bool json, uint64_t memory_bytes)
{
	memset(progress, 0, sizeof(*progress));
	progress->lines = !json && interval_s > 0;
	progress->live = isatty(STDERR_FILENO);
	progress->interval_s = progress->next_s = interval_s;
	progress->memory_bytes = memory_bytes;
}

static void wipe(const struct progress *progress)
{
	if (progress->live)
		fputs(WIPE, stderr);
}

static void print_line(struct progress *progress, double at_s, const struct sluice_stats *stats)
{
	char moved[UNITS_TEXT], rate[UNITS_TEXT], left[UNITS_TEXT], dirty[UNITS_TEXT];
	uint64_t bytes = stats->guest_bytes - progress->last_bytes;

	wipe(progress);
	if (!progress->printed++)
		printf("   seconds             moved       speed       still dirty   guest dirties   phase\n");
	printf("%6.2f-%-6.2f  %12s  %10s  %16s  %14s   %s\n", progress->last_s, at_s, units_size(bytes, moved),
	       units_rate((double)bytes / (at_s - progress->last_s), rate), units_size(stats->remaining_bytes, left),
	       units_rate((double)stats->dirty_bytes_per_s, dirty), sluice_phase_name(stats->phase));
	fflush(stdout);
	progress->last_s = at_s;
	while (progress->next_s <= at_s) /* on the grid, as looks do not fall on it */
		progress->next_s += progress->interval_s;
	progress->last_bytes = stats->guest_bytes;
}

void progress_show(struct progress *progress, double at_s, const struct sluice_stats *stats)
{
	char moved[UNITS_TEXT], rate[UNITS_TEXT], left[UNITS_TEXT];

	if (progress->lines && at_s >= progress->next_s)
		print_line(progress, at_s, stats);
	if (!progress->live)
		return;
	fprintf(stderr, WIPE "%.1f s  %s  round %u  %s moved, %s to go, %s", at_s, sluice_phase_name(stats->phase),
		stats->rounds + 1, units_size(stats->guest_bytes, moved), units_size(stats->remaining_bytes, left),
		units_rate((double)stats->throughput_bytes_per_s, rate));
	fflush(stderr);
}

void progress_end(struct progress *progress, double at_s, const struct sluice_stats *last)
{
	wipe(progress);
	if (progress->lines && (at_s >= progress->last_s + SHORTEST_S || !progress->printed) && at_s > progress->last_s)
		print_line(progress, at_s, last);
}

void progress_say(struct progress *progress, const char *format, ...)
{
	char line[640];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	wipe(progress);
	fprintf(stderr, "migperf: %s\n", line); /* one write: outside scripts stamp it by their own clock */
}
