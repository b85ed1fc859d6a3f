/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The figures of one migration, as JSON, table and page show them. */
#ifndef PERF_RESULT_H
#define PERF_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/disk/disk.h"
#include "perf/guest.h"
#include "perf/options.h"
#include "perf/verify.h"

#define RESULT_ROUNDS 1024u  /* kept; of more, the last replaces the last */
#define RESULT_SAMPLES 4096u /* kept; of more, every other is dropped and they are taken half as often */
#define RESULT_TEXT 640

/* One point of the plots. */
struct sample {
	double at_s;
	uint64_t guest_bytes, remaining_bytes, dirty_bytes_per_s;
	enum sluice_phase phase;
};

struct result {
	const struct options *options;
	const struct guest_settings *settings; /* NULL: a destination that was not told of a guest */
	bool source;
	const char *uri;
	const char *status;      /* "completed", "failed", "cancelled", "in-doubt" */
	char error[RESULT_TEXT]; /* empty: none */
	enum exit_status exit_status;
	uint64_t touched_bytes;

	struct sluice_stats stats;
	struct sluice_stream_stats stream[SLUICE_MAX_STREAMS];
	unsigned streams;
	struct sluice_round round[RESULT_ROUNDS];
	unsigned rounds;

	double cpu_source_s, cpu_destination_s; /* negative: not known */
	double gap_ms, switchover_gap_ms;       /* switchover: negative: there was none */
	double source_gap_ms;                   /* the longest on this side, until the switchover */
	double stopped_ms; /* that the guest stood still for, as its destination was told; 0: it arrived nowhere */
	bool has_clocks;   /* clocks, a virtual machine's, are worth something if one_clock */
	struct guest_clocks clocks;
	double vcpu_gap_ms;                    /* KVM guest: of the vCPU that was silent for longest */
	double run_on_pages_per_s;             /* that the guest wrote once it was over, where it then ran; negative: not known */
	bool one_clock;                        /* the switchover's gap was measured by one clock */
	uint64_t rings_full;                   /* KVM guest: times that a dirty ring was */
	uint64_t pages_written, guest_checked; /* checked: pages that the guest looked at itself */
	struct guest_run ran[GUEST_RUNS];      /* when the guest ran here */
	unsigned runs;
	struct sluice_hist late_us, waited_us;
	struct verify_result verify;
	struct disk_result {
		bool has; /* the guest has a disk; else the rest is nothing */
		struct disk_view view;
		/* Done, as the guest saw: at a source while it migrated, at a destination since it first ran. */
		uint64_t requests, blocks, failed;
		uint64_t run_on_requests;         /* once it was over, where it then ran; source only */
		double gap_ms, switchover_gap_ms; /* between completions; switchover: negative: not known */
	} disk;
	uint64_t sluice_bytes, page_tables_bytes; /* of this side; page tables: grown during the migration */
	uint64_t peer_sluice_bytes, peer_page_tables_bytes;

	struct sample sample[RESULT_SAMPLES];
	unsigned samples;
	double sample_every_s;
};

/* Take a sample if one is due. */
void result_sample(struct result *result, double at_s, const struct sluice_stats *stats);

/* Take what the session can tell at its end. */
void result_collect(struct result *result, struct sluice *session);

/* Take what the guest's disk did, `before` (NULL: at first) not counted. Also to take the gaps again. */
void result_take_disk(struct result *result, const struct disk_view *view, const struct disk_view *before);

/* What carried the data streams: "io_uring", "plain", "mixed"; NULL: nothing did, or the library does not tell. */
const char *result_engine(const struct result *result);

/* One JSON object and a newline on stdout. */
void result_print_json(const struct result *result);
/* The table, on stdout. */
void result_print_table(const struct result *result);
/* The page. 0 or negative errno. */
int result_write_html(const struct result *result, const char *path);

#endif
