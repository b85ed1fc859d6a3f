/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stopped.c: for how long the guest stands still, over both sides.
 *
 * The two hosts' clocks have nothing in common, so durations travel: GO says for how long the guest has stood still when it is sent, and
 * the destination counts on from there. For the way of GO it adds half of the shortest round trip that heartbeats have shown, or that READY
 * and GO took: a short migration on busy hosts has one or two heartbeats, which waited for a processor, and its guest's clock would jump too far. */
#include "core/run/stopped.h"

#include "core/run/session.h"
#include "streams/thread.h"

static uint64_t load(const _Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

static void store(_Atomic uint64_t *to, uint64_t value)
{
	atomic_store_explicit(to, value, memory_order_relaxed);
}

void stopped_done(struct sluice *s, enum sluice_request request)
{
	if (request == SLUICE_PAUSE) {
		store(&s->stopped.to_ns, 0);
		store(&s->stopped.from_ns, now_ns());
	} else if (load(&s->stopped.from_ns)) {
		store(&s->stopped.to_ns, now_ns());
	}
}

void stopped_there(struct sluice *s, uint64_t ns, uint64_t now)
{
	const struct destination *d = &s->decide.destination;
	uint64_t most = now - d->started_ns; /* it ran when this began, whatever the source says */
	uint64_t trip = load(&s->stopped.round_trip_ns), answer = d->ready_ns ? now - d->ready_ns : 0;

	if (answer && (!trip || answer < trip))
		trip = answer;
	ns = ns < most ? ns + trip / 2 : most;
	store(&s->stopped.from_ns, now - (ns < most ? ns : most));
}

void stopped_round_trip(struct sluice *s, uint64_t echo, uint64_t held, uint64_t now)
{
	uint64_t shortest = load(&s->stopped.round_trip_ns);

	if (!echo || echo > now || held > now - echo)
		return; /* it has not heard of us yet, or makes no sense */
	uint64_t took = now - echo - held;
	if (took && (!shortest || took < shortest))
		store(&s->stopped.round_trip_ns, took);
}

uint64_t sluice_stopped_ns(struct sluice *s)
{
	uint64_t from = load(&s->stopped.from_ns), to = load(&s->stopped.to_ns);

	if (!from)
		return 0;
	return (to > from ? to : now_ns()) - from;
}
