/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The result as one HTML page with plots: no scripts, nothing from a network, light and dark. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "perf/result.h"
#include "perf/units.h"

#define WIDTH 860.0
#define HEIGHT 240.0
#define LEFT 70.0
#define BOTTOM 28.0
#define TICKS 4

static const char head[] =
	"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
	"content=\"width=device-width\">\n"
	"<title>migperf</title>\n<style>\n"
	":root{color-scheme:light dark;--ink:#1b1f24;--soft:#667;--line:#ccd;--paper:#fff;--a:#0b62d6;--b:#c2410c;--c:#15803d}\n"
	"@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b2;--line:#3a4250;--paper:#14171c;--a:#6cb0ff;--b:#"
	"fb923c;"
	"--c:#4ade80}}\n"
	"body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:900px;margin:2em "
	"auto;padding:0 1em}\n"
	"svg{width:100%;height:auto}text{font-size:12px;fill:var(--soft)}.grid{stroke:var(--line);stroke-width:1}\n"
	".a,.b,.c{fill:none;stroke-width:2;stroke-linejoin:round}.a{stroke:var(--a)}.b{stroke:var(--b)}.c{stroke:var(--c)}\n"
	"i.a{color:var(--a)}i.b{color:var(--b)}i.c{color:var(--c)}i{font-style:normal}\n"
	"table{border-collapse:collapse}td{padding:.15em 1em .15em 0;border-bottom:1px solid var(--line);vertical-align:top}\n"
	"td:first-child{color:var(--soft)}\n</style></head><body>\n";

static void put_text(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", file);
		else if (*text == '&')
			fputs("&amp;", file);
		else
			fputc(*text, file);
	}
}

/* What a curve shows, at sample i. */
typedef double (*curve)(const struct result *result, unsigned i);

static double speed_at(const struct result *r, unsigned i)
{
	const struct sample *now = &r->sample[i], *before = i ? now - 1 : now;
	double s = now->at_s - before->at_s;

	return s > 0 ? (double)(now->guest_bytes - before->guest_bytes) / s : 0;
}

static double remaining_at(const struct result *r, unsigned i)
{
	return (double)r->sample[i].remaining_bytes;
}

static double dirty_at(const struct result *r, unsigned i)
{
	return (double)r->sample[i].dirty_bytes_per_s;
}

static double highest(const struct result *r, curve curve)
{
	double top = 0;

	for (unsigned i = 0; i < r->samples; i++)
		top = curve(r, i) > top ? curve(r, i) : top;
	return top;
}

static void put_curve(FILE *file, const struct result *r, const char *class, curve curve, double top, double end_s)
{
	fprintf(file, "<polyline class=\"%s\" points=\"", class);
	for (unsigned i = 0; i < r->samples; i++)
		fprintf(file, "%.1f,%.1f ", LEFT + r->sample[i].at_s / end_s * (WIDTH - LEFT),
			(HEIGHT - BOTTOM) * (1 - curve(r, i) / top));
	fputs("\"/>\n", file);
}

/* One plot of one or two curves with a common scale. */
static void put_plot(FILE *file, const struct result *r, const char *title, curve first, curve second, int is_rate)
{
	double top = highest(r, first), end_s = r->samples ? r->sample[r->samples - 1].at_s : 0;
	char label[UNITS_TEXT];

	if (second && highest(r, second) > top)
		top = highest(r, second);
	top = top > 0 ? top * 1.05 : 1;
	end_s = end_s > 0 ? end_s : 1;
	fprintf(file, "<h2>%s</h2>\n<svg viewBox=\"0 -8 %.0f %.0f\" role=\"img\">\n", title, WIDTH + 20, HEIGHT + 8);
	for (unsigned i = 0; i <= TICKS; i++) {
		double y = (HEIGHT - BOTTOM) * i / TICKS, value = top * (TICKS - i) / TICKS,
		       x = LEFT + (WIDTH - LEFT) * i / TICKS;

		fprintf(file, "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH, y, y);
		fprintf(file, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>", LEFT - 6, y + 4,
			is_rate ? units_rate(value, label) : units_size((uint64_t)value, label));
		fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.2f s</text>\n", x, HEIGHT - 8,
			end_s * i / TICKS);
	}
	put_curve(file, r, "a", first, top, end_s);
	if (second)
		put_curve(file, r, "b", second, top, end_s);
	fputs("</svg>\n", file);
}

static void put_row(FILE *file, const char *label, const char *value)
{
	fprintf(file, "<tr><td>%s</td><td>", label);
	put_text(file, value);
	fputs("</td></tr>\n", file);
}

static void put_table(FILE *file, const struct result *r)
{
	const struct sluice_stats *s = &r->stats;
	double ms = s->total_ms - s->setup_ms;
	char a[UNITS_TEXT], b[UNITS_TEXT], text[RESULT_TEXT + 64];

	fputs("<h2>Result</h2>\n<table>\n", file);
	put_row(file, "result", r->status);
	if (r->error[0])
		put_row(file, "error", r->error);
	put_row(file, "destination", r->uri);
	snprintf(text, sizeof(text), "%s, %s of it ever written", units_size(r->settings->memory.bytes, a),
		 units_size(r->touched_bytes, b));
	put_row(file, "memory", text);
	snprintf(text, sizeof(text), "%s of guest memory in %u rounds, %s on the wire", units_size(s->guest_bytes, a), s->rounds,
		 units_size(s->wire_bytes, b));
	put_row(file, "moved", text);
	snprintf(text, sizeof(text), "%.3f s, and %.1f ms to set up", ms / 1e3, s->setup_ms);
	put_row(file, "took", text);
	snprintf(text, sizeof(text), "%s over %u streams", units_rate(ms > 0 ? (double)s->guest_bytes / ms * 1e3 : 0, a),
		 s->streams);
	put_row(file, "speed", text);
	snprintf(text, sizeof(text),
		 "%.1f ms (limit %" PRIu64 " ms): pause %.1f, save %.1f, last round %.1f, state %.1f, handoff %.1f",
		 s->downtime_ms, r->options->downtime_ms, s->downtime_parts_ms.pause, s->downtime_parts_ms.save,
		 s->downtime_parts_ms.last_round, s->downtime_parts_ms.state, s->downtime_parts_ms.handoff);
	put_row(file, "downtime", text);
	snprintf(text, sizeof(text), "longest gap %.1f ms, %" PRIu64 " pages written meanwhile", r->gap_ms, r->pages_written);
	put_row(file, "guest", text);
	snprintf(text, sizeof(text), "source %.2f s, destination %.2f s", r->cpu_source_s, r->cpu_destination_s);
	put_row(file, "processor time", text);
	snprintf(text, sizeof(text), "late by %.0f us (p99.9), %.0f us at worst; big lock held for %.0f us at most",
		 r->late_us.p999, r->late_us.max, s->lock_held_us.max);
	put_row(file, "event loop", text);
	snprintf(text, sizeof(text), "%s%s%s", verify_names[r->verify.status], r->verify.first[0] ? ": " : "", r->verify.first);
	put_row(file, "verified", text);
	fputs("</table>\n", file);
}

int result_write_html(const struct result *result, const char *path)
{
	FILE *file = fopen(path, "we");
	int error = 0;

	if (!file)
		return -errno;
	fputs(head, file);
	fputs("<h1>migperf</h1>\n", file);
	put_table(file, result);
	if (result->samples > 1) {
		put_plot(file, result, "<i class=\"a\">Speed</i> and <i class=\"b\">what the guest dirties</i>", speed_at,
			 dirty_at, 1);
		put_plot(file, result, "<i class=\"a\">Still dirty</i>", remaining_at, NULL, 0);
	}
	fputs("</body></html>\n", file);
	if (ferror(file))
		error = -EIO;
	if (fclose(file) && !error)
		error = -errno;
	return error;
}
