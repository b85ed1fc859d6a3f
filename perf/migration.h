/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One migration, as its source sees it. */
#ifndef PERF_MIGRATION_H
#define PERF_MIGRATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/disk/disk.h"
#include "perf/end.h"
#include "perf/guest.h"
#include "perf/loop.h"
#include "perf/options.h"
#include "perf/progress.h"
#include "perf/result.h"

#define MIGRATION_LOOK_NS (100 * OS_MS) /* between two looks at what goes on */

struct migration {
	struct end end; /* first: it is the callbacks' opaque */

	/* set once */
	const struct options *options;
	struct loop *loop;
	struct guest_settings settings;
	struct guest *guest;
	struct result *result;
	struct guest_dirty_log log; /* of this session */

	struct guest_state state; /* the iothread's and the worker's, in turn as the library asks */
	_Atomic bool cancel;

	/* main thread */
	struct progress progress;
	uint64_t began_ns, written_before, full_before, tables_before;
	uint64_t held, continued; /* end_held_since() of the hold that was last told of, and ended */
	double cpu_before_s;
	struct disk_view disk_before;
	bool follows; /* the destination was reached before, and may still be ending that */
	bool again;   /* it was, so this is another try of what was said to have begun */
};

/* From beginning to verdict, into migration->result. Where --prealloc is wanted, the destination is made to populate its memory
 * first: see SETTINGS_PREPARED. The guest stands still before and after. */
void migration_run(struct migration *migration, const char *uri);

#endif
