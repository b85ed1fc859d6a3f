/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line. */
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice.h>

#include "perf/settings.h"

enum role { ROLE_NONE, ROLE_SERVER, ROLE_CLIENT, ROLE_LOOPBACK };

/* Exit status: part of the contract. */
enum exit_status {
	EXIT_COMPLETED = 0,
	EXIT_FAILED = 1, /* the guest runs on at the source */
	EXIT_USAGE = 2,
	EXIT_DIFFERS = 3, /* memory differs, or that it does not could not be verified */
	EXIT_REFUSED = 4, /* no connection, or refused */
	EXIT_IN_DOUBT = 5,
	EXIT_CANCELLED = 6,
};

struct options {
	enum role role;
	const char *uri;
	uint64_t count; /* migrations; 0: until stopped */
	struct guest_settings guest;
	uint64_t streams, bandwidth, switchover_bandwidth, downtime_ms, timeout_s, dead_peer_ms, in_doubt_ms, throttle_max,
		hold_ms, drain_window_ms, drain_tries, warm_up_ms;
	enum sluice_drain_fail drain_fail;
	enum sluice_compress compress;
	enum sluice_tracker tracker;
	bool numa, uring, insecure, json;
	const char *tracker_name; /* as given, NULL: it was not */
	const char *io_engine;    /* "auto", "uring", "plain" */
	const char *cpus;         /* NULL: all */
	double interval_s;
	const char *report;      /* HTML file, NULL: none */
	const char *io_options;  /* an option given that needs a disk, NULL: none */
	const char *source_only; /* an option given that a destination has no use for, NULL: none */
};

/* -1: go on; else exit with this status (--help, --version, or one line was said on stderr). Strings point into
 * argv. */
int options_parse(int argc, char **argv, struct options *ret);

#endif
