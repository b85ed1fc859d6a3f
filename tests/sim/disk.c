/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* disk.c: see disk.h. */
#include "tests/sim/disk.h"

#include <errno.h>
#include <string.h>

#include "core/run/session.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/knobs.h"
#include "tests/sim/world.h"

enum {
	QUEUE = 8,
	DRAIN_S = 90, /* more than the slowest disk, the longest window and the least share need together */
	STUCK_MS = 60,
	LATE_MS = 60,
};

static struct {
	bool there;
	uint32_t depth;        /* as told */
	uint32_t wanted, left; /* requests at a time, and altogether */
	struct {
		uint64_t began, done;
	} request[QUEUE];
	uint32_t in_flight;
	uint64_t takes_ns, hang_ns, loop_ns, late_again;
	uint64_t loop_most_ms;               /* until an embedder's loop that is slow has taken a depth */
	uint32_t hangs, fails, strays, lies; /* one time in so many; 0: never */
	bool knows_stuck;
	bool strayed;         /* a request came in though none was to be picked up */
	uint64_t quiet_since; /* the guest runs, and nothing is picked up; 0: not so */
	uint64_t quiet_ns, began;
	uint64_t undecided_at;        /* the last time that no window was to be decided about */
	uint64_t heals_at, ill_until; /* nothing new goes wrong; and what went wrong is over */
} disk;

void disk_make(void)
{
	memset(&disk, 0, sizeof disk);
	disk.depth = SLUICE_IO_DEPTH_USUAL;
	disk.there = sim_one_in(2);
	disk.left = (uint32_t)sim_spread(16, 4000);
	disk.wanted = 1 + (uint32_t)sim_below(QUEUE);
	disk.takes_ns = sim_spread(20 * US, sim_one_in(4) ? 60 * SIM_MS : 2 * SIM_MS);
	disk.hangs = sim_one_in(4) ? (uint32_t)sim_spread(4, 200) : 0;
	disk.hang_ns = sim_spread(20 * SIM_MS, 5 * SIM_S);
	disk.fails = sim_one_in(8) ? 3 : 0;
	disk.strays = sim_one_in(4) ? (uint32_t)sim_spread(2, 200) : 0;
	disk.lies = sim_one_in(8) ? 8 : 0;
	disk.knows_stuck = sim_one_in(2);
	disk.loop_ns = sim_one_in(4) ? sim_spread(SIM_MS, 400 * SIM_MS) : 0;
	disk.loop_most_ms = 150 + disk.loop_ns / SIM_MS;
}

void disk_must_be_slow(void)
{
	disk.there = true;
	disk.wanted = QUEUE;
	disk.takes_ns = 60 * SIM_MS;
	disk.knows_stuck = false;
}

bool disk_there(void)
{
	return disk.there;
}

uint64_t disk_window_ms(void)
{
	return sim_spread(disk.takes_ns / SIM_MS + 150, 1000);
}

void disk_heals(void)
{
	disk.loop_ns = 0;
	disk.hangs = disk.fails = disk.strays = disk.lies = 0;
}

void disk_attempt(void)
{
	disk.began = disk.undecided_at = sim_now;
	disk.ill_until = disk.heals_at = sim_now + sim_spread(10 * SIM_MS, 10 * SIM_S);
	disk.quiet_ns = disk.quiet_since = 0;
	disk.depth = SLUICE_IO_DEPTH_USUAL; /* its process is another one, perhaps */
}

bool disk_may_delay(void)
{
	return disk.there && sim_now < disk.ill_until + DRAIN_S * SIM_S;
}

/* ---------------------------------------------------------------- at work */

static void pick_up(void)
{
	if (disk.strays && !disk.depth && guest.running[SIM_SOURCE] && sim_one_in(disk.strays))
		disk.strayed = true;
	else if (!guest.running[SIM_SOURCE] || disk.in_flight >= disk.depth || disk.in_flight >= disk.wanted)
		return;
	if (disk.in_flight == QUEUE || !disk.left)
		return;
	disk.left--;
	uint64_t takes = sim_spread(10 * US, disk.takes_ns) + (disk.depth ? 0 : sim_below(30 * SIM_MS));
	if (disk.hangs && sim_one_in(disk.hangs)) {
		takes += disk.hang_ns;
		disk.ill_until = disk.ill_until > sim_now + takes ? disk.ill_until : sim_now + takes;
	}
	disk.request[disk.in_flight].began = sim_now;
	disk.request[disk.in_flight++].done = sim_now + takes;
}

static void complete(void)
{
	for (uint32_t i = 0; i < disk.in_flight; i++) {
		if (disk.request[i].done > sim_now)
			continue;
		/* Its data is in memory and marked before it is done. */
		guest_write(true);
		disk.request[i] = disk.request[--disk.in_flight];
		return;
	}
}

static uint64_t next_done(void)
{
	uint64_t idle_ns = guest.running[SIM_SOURCE] ? sim_spread(20 * US, disk.depth ? 5 * SIM_MS : SIM_MS) : 20 * SIM_MS;
	uint64_t at = sim_now + idle_ns;

	for (uint32_t i = 0; i < disk.in_flight; i++)
		at = disk.request[i].done < at ? disk.request[i].done : at;
	return at;
}

void *disk_body(void *arg)
{
	(void)arg;
	while (disk.there) {
		if (sim_now >= disk.heals_at)
			disk_heals();
		(void)fiber_block(&disk, next_done(), NULL);
		complete();
		pick_up();
	}
	return NULL;
}

/* ---------------------------------------------------------------- callbacks */

int disk_io_depth(void *opaque, uint32_t requests)
{
	(void)opaque;
	bool fails = disk.fails && sim_one_in(disk.fails);
	sim_trace("source: %u requests in flight at most%s", requests, fails ? " (fails)" : "");
	if (fails && requests != SLUICE_IO_DEPTH_USUAL)
		return -EIO;
	if (!requests && disk.depth)
		disk.quiet_since = sim_now;
	if (requests)
		disk_stopping();
	disk.depth = requests;
	fiber_wake(&disk);
	return fails ? -EIO : 0;
}

int disk_drain_try(void *opaque)
{
	(void)opaque;
	uint64_t oldest = sim_now;
	for (uint32_t i = 0; i < disk.in_flight; i++)
		oldest = disk.request[i].began < oldest ? disk.request[i].began : oldest;
	int rc = !disk.in_flight ? 0 : disk.knows_stuck && sim_now - oldest > STUCK_MS * SIM_MS ? -EBUSY : -EAGAIN;
	if (rc && disk.lies && sim_one_in(disk.lies))
		rc = sim_one_in(2) ? 17 : -EIO;
	sim_trace("source: %u requests are in flight: %d", disk.in_flight, rc);
	return rc;
}

uint64_t disk_loop_late_ns(void)
{
	if (!disk.there || !disk.loop_ns || sim_now < disk.late_again || !sim_one_in(8))
		return 0;
	disk.late_again = sim_now + SIM_S;
	return sim_below(disk.loop_ns);
}

/* ---------------------------------------------------------------- laws */

void disk_stopping(void)
{
	if (disk.quiet_since)
		disk.quiet_ns += sim_now - disk.quiet_since;
	disk.quiet_since = 0;
}

void disk_stopped(void)
{
	if (disk.there && disk.in_flight && !disk.strayed)
		sim_violation("drain: the guest is stopped with %u requests in flight", disk.in_flight);
}

void disk_resumed(void)
{
	if (disk.there && disk.depth != SLUICE_IO_DEPTH_USUAL)
		sim_violation("drain: the guest is resumed, and may have %u requests in flight only", disk.depth);
}

void disk_saved(void)
{
	if (disk.there && disk.in_flight)
		sim_violation("drain: device state is saved with %u requests in flight", disk.in_flight);
}

void disk_check(void)
{
	enum { FOREVER_MS = 1000000 };
	const struct sluice *s = world_session(SIM_SOURCE);
	const uint64_t *param = embedder_habits.param;

	if (!disk.there || !s)
		return;
	const struct drain *d = &s->decide.source.drain;
	uint64_t quiet = disk.quiet_since ? sim_now - disk.quiet_since : 0;
	if (quiet > (knobs_most(SLUICE_DRAIN_WINDOW_MS, FOREVER_MS) + disk.loop_most_ms) * SIM_MS)
		sim_violation("drain: the running guest's I/O has not been picked up for %.1f ms", (double)quiet * 1e-6);
	uint64_t share_ns = (sim_now - disk.began) / 100 * knobs_most(SLUICE_DRAIN_SHARE, FOREVER_MS);
	if (disk.quiet_ns > share_ns + (1 + d->tries * disk.loop_most_ms) * SIM_MS)
		sim_violation("drain: the running guest's I/O was not picked up for %.1f of %.1f ms",
			      (double)disk.quiet_ns * 1e-6, (double)(sim_now - disk.began) * 1e-6);
	/* As control counts it, which may be late, but not as an embedder's loop is. */
	if (d->quiesced_ns > share_ns + (1 + d->tries * LATE_MS) * SIM_MS)
		sim_violation("drain: windows took %.1f of %.1f ms", (double)d->quiesced_ns * 1e-6,
			      (double)(sim_now - disk.began) * 1e-6);
	/* While the guest is to stop, or stands still, nobody decides about windows. */
	enum sluice_phase phase = s->decide.source.phase;
	if (phase != SLUICE_ACTIVE && phase != SLUICE_DRAINING)
		disk.undecided_at = sim_now;
	bool settled = sim_now > knobs_changed_at(SLUICE_DRAIN_FAIL) + SIM_S && sim_now > disk.undecided_at + SIM_S;
	if (param[SLUICE_DRAIN_FAIL] == SLUICE_DRAIN_FAILS && settled && d->busy > knobs_most(SLUICE_DRAIN_TRIES, 1000))
		sim_violation("drain: the drain was tried in vain %u times, %lu were allowed", d->busy,
			      param[SLUICE_DRAIN_TRIES]);
}

void disk_check_end(void)
{
	if (disk.there && guest.running[SIM_SOURCE] && disk.depth != SLUICE_IO_DEPTH_USUAL)
		sim_violation("Law 9: the migration is over, and the guest may have %u requests in flight only", disk.depth);
}
