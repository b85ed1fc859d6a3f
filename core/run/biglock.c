/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* biglock.c: the embedder's big lock, taken for one bounded piece at a time and measured (Law 2). Thread: sync. */
#include <errno.h>

#include "core/run/session.h"

enum { PATIENCE_NS = 10 * 1000 * 1000 };

int biglock_take(void *session)
{
	struct sluice *s = session;
	if (!s->ops.lock)
		return 0;
	int rc = s->ops.lock(s->opaque, now_ns() + PATIENCE_NS);
	s->sync.lock_taken_ns = now_ns();
	return rc;
}

void biglock_drop(void *session)
{
	struct sluice *s = session;
	if (!s->ops.lock)
		return;
	s->ops.unlock(s->opaque);
	hist_add(&s->lock_held, now_ns() - s->sync.lock_taken_ns);
}
