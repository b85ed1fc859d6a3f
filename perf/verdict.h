/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verdict on a migration that is over. */
#ifndef PERF_VERDICT_H
#define PERF_VERDICT_H

#include "perf/migration.h"

/* Into migration->result: how it ended, and whether the guest is whole where it now runs: what its new host says, or what is
 * found here. The guest stands still here after it. The session is closed or resolved, but not ended. Main thread. */
void verdict_reach(struct migration *migration);

#endif
