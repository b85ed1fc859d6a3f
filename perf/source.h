/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source's side of migperf. */
#ifndef PERF_SOURCE_H
#define PERF_SOURCE_H

#include "perf/loop.h"
#include "perf/options.h"

struct source;

/* Make the guest and fill its memory. EXIT_COMPLETED, or what to exit with (one line was said). */
enum exit_status source_prepare(const struct options *options, struct loop *loop, struct source **ret_source);

/* Migrate it to `uri` options->count times; the status of the last one. */
enum exit_status source_run(struct source *source, const char *uri);

/* NULL is allowed. */
void source_destroy(struct source *source);

#endif
