/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The result as JSON. Its keys are a contract: scripts read them. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include <jansson.h>

#include "perf/os.h"
#include "perf/result.h"

static json_t *hist_json(const struct sluice_hist *h)
{
	return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)h->count, "min", h->min, "mean",
			 h->mean, "p50", h->p50, "p90", h->p90, "p99", h->p99, "p999", h->p999, "max", h->max);
}

static json_t *seconds_json(double s)
{
	return s < 0 ? json_null() : json_real(s);
}

static json_t *time_json(const struct result *r)
{
	const struct sluice_stats *s = &r->stats;

	return json_pack("{s:f, s:f, s:f, s:f, s:I, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f}}", "setup_ms", s->setup_ms, "arm_ms",
			 s->arm_ms, "total_ms", s->total_ms, "downtime_ms", s->downtime_ms, "downtime_limit_ms",
			 (json_int_t)r->options->downtime_ms, "downtime_expected_ms", s->downtime_expected_ms,
			 "downtime_parts_ms", "pause", s->downtime_parts_ms.pause, "hold", s->downtime_parts_ms.hold, "save",
			 s->downtime_parts_ms.save, "last_round", s->downtime_parts_ms.last_round, "state",
			 s->downtime_parts_ms.state, "handoff", s->downtime_parts_ms.handoff);
}

static json_t *rounds_json(const struct result *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->rounds; i++) {
		const struct sluice_round *round = &r->round[i];

		json_array_append_new(list,
				      json_pack("{s:i, s:I, s:I, s:I, s:f, s:b}", "n", (int)round->n, "ms", (json_int_t)round->ms,
						"pages", (json_int_t)round->pages, "dirty_pages", (json_int_t)round->dirty_pages,
						"sync_ms", round->sync_ms, "final", (int)round->final_round));
	}
	return list;
}

static json_t *streams_json(const struct result *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->streams; i++) {
		const struct sluice_stream_stats *s = &r->stream[i];

		json_t *stream = json_pack("{s:i, s:I, s:f, s:f}", "node", (int)s->node, "bytes", (json_int_t)s->bytes,
					   "stalled_ms", s->stalled_ms, "cpu_s", s->cpu_s);

		if (r->source)
			json_object_set_new(stream, "io_uring", json_boolean(s->uring));
		json_array_append_new(list, stream);
	}
	return list;
}

static json_t *host_json(void)
{
	struct utsname name;

	uname(&name);
	return json_pack("{s:i, s:s, s:s}", "cpus", (int)os_cpus(), "kernel", name.release, "machine", name.machine);
}

/* In ns of CLOCK_MONOTONIC: of two sides on one host it shows that they never ran at once. */
static json_t *ran_json(const struct result *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->runs; i++)
		json_array_append_new(list, json_pack("[I, I]", (json_int_t)r->ran[i].from_ns, (json_int_t)r->ran[i].to_ns));
	return list;
}

/* By how much the guest's clocks are wrong; two hosts' clocks cannot tell. */
static json_t *clock_errors_json(const struct result *r)
{
	if (!r->has_clocks || !r->one_clock)
		return json_null();
	return json_pack("{s:f, s:f}", "kvmclock", (double)r->clocks.kvmclock_ns * 1e-6, "tsc", (double)r->clocks.tsc_ns * 1e-6);
}

static json_t *guest_json(const struct result *r)
{
	json_t *json = json_pack("{s:f, s:o, s:f, s:b, s:I, s:i, s:o, s:o}", "gap_ms", r->gap_ms, "switchover_gap_ms",
				 seconds_json(r->switchover_gap_ms), "stopped_ms", r->stopped_ms, "one_clock", (int)r->one_clock,
				 "pages_written", (json_int_t)r->pages_written, "throttle_max_percent",
				 (int)r->stats.throttle_max_percent, "run_on_pages_per_s", seconds_json(r->run_on_pages_per_s),
				 "ran_ns", ran_json(r));

	if (r->source)
		json_object_set_new(json, "source_gap_ms", json_real(r->source_gap_ms));
	if (!r->settings || r->settings->type != GUEST_KVM)
		return json;
	json_object_set_new(json, "vcpu_gap_ms", json_real(r->vcpu_gap_ms));
	json_object_set_new(json, "rings_full", json_integer((json_int_t)r->rings_full));
	json_object_set_new(json, "checked_pages", json_integer((json_int_t)r->guest_checked));
	json_object_set_new(json, "clock_errors_ms", clock_errors_json(r));
	return json;
}

static json_t *disk_json(const struct result *r)
{
	const struct disk_result *d = &r->disk;
	const struct disk_settings *s = &r->settings->disk;
	json_t *json = json_pack("{s:s, s:i, s:s, s:I, s:b, s:b, s:I, s:I, s:I, s:i, s:f, s:o, s:I, s:I}", "file", s->path,
				 "depth", (int)s->depth, "fault", fault_names[s->fault.kind], "fault_value",
				 (json_int_t)s->fault.value, "direct", (int)d->view.direct, "pinned", (int)d->view.pinned,
				 "requests", (json_int_t)d->requests, "bytes", (json_int_t)(d->blocks * SLUICE_PAGE_SIZE),
				 "errors", (json_int_t)d->failed, "hanging", (int)d->view.hanging, "gap_ms", d->gap_ms,
				 "switchover_gap_ms", seconds_json(d->switchover_gap_ms), "checked_blocks",
				 (json_int_t)r->verify.disk_blocks, "checked_buffer_blocks", (json_int_t)r->verify.kept_blocks);

	json_object_set_new(json, "quiet_ms", hist_json(&d->view.quiet_ms));
	if (r->source)
		json_object_set_new(json, "run_on_requests", json_integer((json_int_t)d->run_on_requests));
	return json;
}

static json_t *drain_json(const struct result *r)
{
	const struct sluice_stats *s = &r->stats;

	return json_pack("{s:i, s:i, s:f, s:f, s:i, s:i, s:o}", "tries", (int)s->drain.tries, "busy", (int)s->drain.busy,
			 "quiesced_ms", s->drain.quiesced_ms, "delay_ms", s->drain.delay_ms, "delay_rounds",
			 (int)s->drain.delay_rounds, "gave_up", (int)s->drain.gave_up, "io_gap_ms",
			 hist_json(&r->disk.view.gap_ms));
}

static double throughput(const struct sluice_stats *s)
{
	double ms = s->total_ms - s->setup_ms;

	return ms > 0 ? (double)s->guest_bytes / ms * 1e3 : 0;
}

static void put_run(json_t *json, const struct result *r)
{
	const struct sluice_stats *s = &r->stats;

	json_object_set_new(json, "status", json_string(r->status));
	json_object_set_new(json, "error", r->error[0] ? json_string(r->error) : json_null());
	json_object_set_new(json, "uri", json_string(r->uri));
	json_object_set_new(json, "streams", json_integer(s->streams ? s->streams : (json_int_t)r->options->streams));
	json_object_set_new(json, "memory_bytes", json_integer(r->settings ? (json_int_t)r->settings->memory.bytes : 0));
	if (r->source)
		json_object_set_new(json, "touched_bytes", json_integer((json_int_t)r->touched_bytes));
	json_object_set_new(json, "mode", json_string("precopy"));
	json_object_set_new(json, "time", time_json(r));
	json_object_set_new(json, "bytes",
			    json_pack("{s:I, s:I, s:I, s:I, s:I}", "guest", (json_int_t)s->guest_bytes, "wire",
				      (json_int_t)s->wire_bytes, "zero", (json_int_t)s->zero_bytes, "lz4_in",
				      (json_int_t)s->lz4_in_bytes, "lz4_out", (json_int_t)s->lz4_out_bytes));
	json_object_set_new(json, "throughput_bytes_per_s", json_integer((json_int_t)throughput(s)));
	if (r->source)
		json_object_set_new(json, "rounds", rounds_json(r));
}

/* "io" is what carried this run, by what every stream says; "asked" what --io-engine wanted. */
static json_t *engine_json(const struct result *r)
{
	const char *engine = result_engine(r);

	return json_pack("{s:s, s:s, s:o, s:o}", "version", sluice_version(), "asked", r->options->io_engine, "io",
			 engine ? json_string(engine) : json_null(), "io_uring",
			 engine ? json_boolean(!strcmp(engine, "io_uring")) : json_null());
}

void result_print_json(const struct result *r)
{
	const struct sluice_stats *s = &r->stats;
	json_t *json = json_object();

	put_run(json, r);
	json_object_set_new(json, "cpu",
			    json_pack("{s:o, s:o}", "source_s", seconds_json(r->cpu_source_s), "destination_s",
				      seconds_json(r->cpu_destination_s)));
	json_object_set_new(json, "guest", guest_json(r));
	json_object_set_new(json, "big_lock",
			    json_pack("{s:o, s:o, s:o}", "held_us", hist_json(&s->lock_held_us), "waited_us",
				      hist_json(&r->waited_us), "late_us", hist_json(&r->late_us)));
	json_object_set_new(json, "sync", json_pack("{s:o}", "ms", hist_json(&s->sync_ms)));
	if (r->disk.has && r->settings) {
		json_object_set_new(json, "disk", disk_json(r));
		if (r->source)
			json_object_set_new(json, "drain", drain_json(r));
	}
	json_object_set_new(json, "steps_ms", hist_json(&s->steps_ms));
	json_object_set_new(json, "per_stream", streams_json(r));
	json_object_set_new(json, "memory",
			    json_pack("{s:I, s:I, s:I, s:I}", "sluice_bytes", (json_int_t)r->sluice_bytes, "page_tables_bytes",
				      (json_int_t)r->page_tables_bytes, "destination_sluice_bytes",
				      (json_int_t)r->peer_sluice_bytes, "destination_page_tables_bytes",
				      (json_int_t)r->peer_page_tables_bytes));
	json_object_set_new(json, "host", host_json());
	json_object_set_new(json, "engine", engine_json(r));
	if (r->settings)
		json_object_set_new(json, "seed", json_integer((json_int_t)r->settings->content.seed));
	json_object_set_new(json, "verify", json_string(verify_names[r->verify.status]));
	json_object_set_new(json, "verify_mismatches", json_integer((json_int_t)r->verify.mismatches));
	json_object_set_new(json, "verify_first", r->verify.first[0] ? json_string(r->verify.first) : json_null());
	json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	fflush(stdout);
	json_decref(json);
}
