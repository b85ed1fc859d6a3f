/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's side of migperf. */
#ifndef PERF_DESTINATION_H
#define PERF_DESTINATION_H

#include <stdbool.h>

#include "perf/loop.h"
#include "perf/options.h"

/* Serve options->count migrations (0: until stopped) at options->uri. `announce` is called once, when it can be
 * reached, with the URI; quiet: nothing but errors is said. Returns what to exit with. */
enum exit_status destination_run(const struct options *options, struct loop *loop, bool quiet,
				 void (*announce)(void *opaque, const char *uri), void *opaque);

#endif
