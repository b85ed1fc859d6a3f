/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory that a destination populated for a migration that is yet to come. */
#ifndef PERF_SPARE_H
#define PERF_SPARE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "perf/memory.h"
#include "perf/os.h"

#define SPARE_KEEP_NS (60 * OS_S) /* for a migration that does not come */

/* At most one at a time. */
struct spare {
	pthread_mutex_t lock; /* held while populating, too */
	/* under lock */
	struct memory memory; /* pages == 0: none */
	uint64_t until_ns;    /* freed then */
};

void spare_init(struct spare *spare);
void spare_fini(struct spare *spare);

/* Have memory of this kind, populated, for SPARE_KEEP_NS from the end of this call; one of another kind is freed first. Takes
 * as long as populating takes. -ECANCELED when *cancel was set; on error `why` says what to do. */
int spare_make(struct spare *spare, const struct memory_spec *spec, _Atomic bool *cancel, char why[MEMORY_ERROR]);

/* Take it if it is of this kind; spec NULL, or another kind: free it. Whether *ret is set. */
bool spare_take(struct spare *spare, const struct memory_spec *spec, struct memory *ret);

/* Free it if it was kept for too long. Does not wait while it is being made. */
void spare_expire(struct spare *spare);

#endif
