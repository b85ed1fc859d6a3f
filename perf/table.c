/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The result as a table for people, the newcomer first: plain words, units, and what is good or bad. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "perf/result.h"
#include "perf/units.h"

#define LABEL 26

static void row(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void row(const char *label, const char *format, ...)
{
	va_list args;

	printf("  %-*s", LABEL, label);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static void print_moved(const struct result *r)
{
	const struct sluice_stats *s = &r->stats;
	char a[UNITS_TEXT], b[UNITS_TEXT];
	double ms = s->total_ms - s->setup_ms;
	const char *engine = result_engine(r);

	row("memory", "%s, %s of it ever written", units_size(r->settings->memory.bytes, a), units_size(r->touched_bytes, b));
	row("moved", "%s of guest memory in %u round%s, %s on the wire", units_size(s->guest_bytes, a), s->rounds,
	    s->rounds == 1 ? "" : "s", units_size(s->wire_bytes, b));
	if (s->zero_bytes)
		row("", "%s was zero and not sent", units_size(s->zero_bytes, a));
	if (s->lz4_in_bytes)
		row("", "lz4 made %s of %s", units_size(s->lz4_out_bytes, b), units_size(s->lz4_in_bytes, a));
	row("took", "%.3f s, and %.1f ms to set up", ms / 1e3, s->setup_ms);
	row("speed", "%s over %u stream%s%s%s", units_rate(ms > 0 ? (double)s->guest_bytes / ms * 1e3 : 0, a), s->streams,
	    s->streams == 1 ? "" : "s", engine ? ", " : "", engine ? engine : "");
}

static void print_downtime(const struct result *r)
{
	const struct sluice_stats *s = &r->stats;

	if (strcmp(r->status, "completed"))
		return;
	row("downtime", "%.1f ms (limit %" PRIu64 " ms, expected %.1f ms)", s->downtime_ms, r->options->downtime_ms,
	    s->downtime_expected_ms);
	row("", "pause %.1f, save %.1f, last round %.1f, state %.1f, handoff %.1f ms", s->downtime_parts_ms.pause,
	    s->downtime_parts_ms.save, s->downtime_parts_ms.last_round, s->downtime_parts_ms.state, s->downtime_parts_ms.handoff);
	if (r->options->hold_ms)
		row("", "for %.1f ms of that it was held, as --hold asked", s->downtime_parts_ms.hold);
	if (r->switchover_gap_ms >= 0)
		row("guest's own clock", "stood still for %.1f ms at the switchover%s", r->switchover_gap_ms,
		    r->one_clock ? "" : " at most (two hosts, two clocks)");
}

static void print_costs(const struct result *r)
{
	char a[UNITS_TEXT];

	row("guest", "wrote %" PRIu64 " pages (%s) meanwhile; longest gap %.1f ms", r->pages_written,
	    units_size(r->pages_written * SLUICE_PAGE_SIZE, a), r->gap_ms);
	if (r->stats.throttle_max_percent)
		row("", "slowed down by %" PRIu32 " percent at most, to converge", r->stats.throttle_max_percent);
	if (r->cpu_destination_s >= 0)
		row("processor time", "%.2f s at the source, %.2f s at the destination", r->cpu_source_s, r->cpu_destination_s);
	else
		row("processor time", "%.2f s at the source", r->cpu_source_s);
	if (r->disk.has)
		row("disk", "%" PRIu64 " requests (%s) meanwhile, %" PRIu64 " failed; longest gap between two %.1f ms",
		    r->disk.requests, units_size(r->disk.blocks * SLUICE_PAGE_SIZE, a), r->disk.failed, r->disk.gap_ms);
	row("event loop", "%.0f us late in 999 of 1000 ticks or less, %.0f us at worst", r->late_us.p999, r->late_us.max);
	row("", "big lock held by sluice for %.0f us at most", r->stats.lock_held_us.max);
	row("sluice's own memory", "%s", units_size(r->sluice_bytes, a));
}

static void print_verify(const struct result *r)
{
	static const char *const how[] = { "every byte recomputed", "one page in 64 recomputed", "" };
	const char *where =
		strcmp(r->status, "completed") ? "at the source, where it runs on" : "after the guest ran on at the destination";

	if (r->verify.status == VERIFY_SKIPPED)
		row("verified", "no");
	else if (r->verify.status == VERIFY_OK)
		row("verified", "ok: %s %s", how[r->settings->verify], where);
	else
		row("verified", "MEMORY DIFFERS: %" PRIu64 " pages; %s", r->verify.mismatches, r->verify.first);
	if (r->verify.status == VERIFY_OK && r->disk.has)
		row("", "and %" PRIu64 " blocks of the disk, %" PRIu64 " in its buffers", r->verify.disk_blocks,
		    r->verify.kept_blocks);
}

void result_print_table(const struct result *r)
{
	char a[UNITS_TEXT];

	putchar('\n');
	if (!r->source) {
		row("result", "%s", r->status);
		row("memory", "%s from a source at %s", units_size(r->settings->memory.bytes, a), r->uri);
		row("arrived", "%s on the wire", units_size(r->stats.landed_bytes, a));
		row("processor time", "%.2f s here", r->cpu_destination_s);
		print_verify(r);
		fflush(stdout);
		return;
	}
	row("result", "%s", r->status);
	print_moved(r);
	print_downtime(r);
	print_costs(r);
	print_verify(r);
	fflush(stdout);
}
