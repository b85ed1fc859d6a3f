/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_stopped.c: for how long the guest stands still, over both sides. */
#include <stdlib.h>

#include "core/run/session.h"
#include "streams/thread.h"
#include "tests/unit/harness.h"

enum { MS = 1000000 };

/* What a destination says in `resume`, in ms: GO said that the guest has stood still for so long. */
static double told(uint64_t go_ms, uint64_t round_trip_ms, uint64_t since_ready_ms, uint64_t since_started_ms)
{
	struct sluice *s = calloc(1, sizeof *s);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	uint64_t now = now_ns();

	s->decide.destination.started_ns = now - since_started_ms * MS;
	s->decide.destination.ready_ns = since_ready_ms ? now - since_ready_ms * MS : 0;
	stopped_round_trip(s, now - (round_trip_ms + 5) * MS, 5 * MS, now);
	stopped_there(s, go_ms * MS, now);
	stopped_done(s, SLUICE_RESUME);
	double ms = (double)sluice_stopped_ns(s) / MS;
	free(s);
	return ms;
}

static bool near(double is, double is_to_be)
{
	return is >= is_to_be && is < is_to_be + 50; /* the machine's pauses */
}

static void the_way_of_go_is_added(void)
{
	CU_ASSERT(near(told(1000, 400, 0, 60000), 1200));
	/* Heartbeats that were held up say nothing: GO came sooner after READY than they would have it. */
	CU_ASSERT(near(told(1000, 4000, 200, 60000), 1100));
	/* READY and GO that were (a disk took its time, a link was lost) say nothing either. */
	CU_ASSERT(near(told(1000, 400, 30000, 60000), 1200));
	/* There was no heartbeat yet. */
	CU_ASSERT(near(told(1000, 0, 200, 60000), 1100));
}

/* Whatever the source says, the guest ran when this began. */
static void no_longer_than_the_migration(void)
{
	CU_ASSERT(near(told(7200000, 400, 200, 60000), 60000));
	CU_ASSERT(near(told(UINT64_MAX / MS, 400, 200, 60000), 60000));
	CU_ASSERT(near(told(59999, 4000, 4000, 60000), 60000));
}

SUITE("stopped", TEST(the_way_of_go_is_added), TEST(no_longer_than_the_migration))
