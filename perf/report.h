/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the destination tells the source about the guest that arrived. */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/guest.h"
#include "perf/os.h"
#include "perf/verify.h"

enum report_kind {
	REPORT_RUNNING, /* at the first heartbeat */
	REPORT_BUSY,    /* once a second while verifying: so that the source need not guess how long to wait */
	REPORT_RESULT,  /* last */
};

struct report {
	enum report_kind kind;
	char host[OS_HOST_ID];
	uint64_t first_beat_ns; /* by the destination's CLOCK_MONOTONIC */
	uint64_t stopped_ns;    /* that the guest stood still for, as the library there says when it is about to run */
	bool has_clocks;
	struct guest_clocks clocks; /* a virtual machine's, by the destination's clock */
	struct verify_result verify;
	double cpu_s, run_on_pages_per_s;
	uint64_t gap_ns, vcpu_gap_ns, guest_checked; /* the latter two: 0: a process guest */
	uint64_t pages_written, sluice_bytes, page_tables_bytes;
	struct report_disk {               /* all 0: it has none */
		uint64_t requests, failed; /* since the guest first ran */
		uint64_t first_ns,
			gap_ns; /* first completion there, by the destination's CLOCK_MONOTONIC; longest gap after that */
	} disk;
};

/* As JSON text, malloc'ed, below SLUICE_MESSAGE_MAX. NULL: no memory. */
char *report_encode(const struct report *report);

/* From a peer: everything is checked. -EBADMSG. */
int report_decode(const void *data, size_t length, struct report *ret);

#endif
