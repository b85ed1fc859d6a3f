/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that plays an embedder's event loop, and its big lock.
 *
 * As a VMM's main loop does, it wakes for its own timer and for the library's descriptor, and does its work under the big
 * lock; what could make it wait there (waking a thread, another lock) it does once the lock is dropped. How late its timer
 * fires, and how long it waits for the lock, is what a migration costs an embedder. The timer is judged as the ticker of
 * shared/peers/raw_copy.c judges its own, so that the figures compare.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "perf/iothread.h"
#include "perf/os.h"

#define TICK_NS OS_MS
#define STATS_EVERY 16 /* ticks */

int iothread_lock(struct iothread *io, uint64_t until_ns)
{
	struct timespec until;
	uint64_t now = os_now_ns(), left = until_ns > now ? until_ns - now : 0;
	int error;

	/* By CLOCK_REALTIME, because ThreadSanitizer does not know pthread_mutex_clocklock(). */
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(left / OS_S);
	until.tv_nsec += (long)(left % OS_S);
	if (until.tv_nsec >= (long)OS_S) {
		until.tv_nsec -= (long)OS_S;
		until.tv_sec++;
	}
	error = pthread_mutex_timedlock(&io->big_lock, &until);
	return -error;
}

void iothread_unlock(struct iothread *io)
{
	pthread_mutex_unlock(&io->big_lock);
}

/* Take the big lock as the loop does, noting how long that took. */
static void lock_measured(struct iothread *io)
{
	uint64_t before = os_now_ns();

	pthread_mutex_lock(&io->big_lock);
	if (atomic_load_explicit(&io->measuring, memory_order_relaxed))
		histogram_add(&io->waited, os_now_ns() - before);
}

/* A little work with what the big lock protects. */
static void tick(struct iothread *io, uint64_t n)
{
	lock_measured(io);
	io->work += n;
	if (n % STATS_EVERY == 0)
		sluice_get_stats(io->session, &io->stats);
	iothread_unlock(io);
}

void iothread_after(struct iothread *io, void (*run)(void *arg), void *arg)
{
	assert(io->afters < IOTHREAD_AFTER);
	io->after[io->afters].run = run;
	io->after[io->afters++].arg = arg;
}

/* One callback, and then what it left to do without the lock. */
static void dispatch(struct iothread *io)
{
	lock_measured(io);
	sluice_dispatch(io->session);
	iothread_unlock(io);
	for (unsigned i = 0; i < io->afters; i++)
		io->after[i].run(io->after[i].arg);
	io->afters = 0;
}

static void *iothread_body(void *arg)
{
	struct iothread *io = arg;
	struct pollfd event = { .fd = sluice_event_fd(io->session), .events = POLLIN };
	uint64_t next = os_now_ns() + TICK_NS, n = 0, now;

	while (!atomic_load_explicit(&io->stop, memory_order_acquire)) {
		struct timespec left = { 0, 0 };

		now = os_now_ns();
		if (now < next)
			left.tv_nsec = (long)(next - now);
		if (ppoll(&event, 1, &left, NULL) > 0)
			dispatch(io);
		now = os_now_ns();
		if (now < next)
			continue;
		if (atomic_load_explicit(&io->measuring, memory_order_relaxed))
			histogram_add(&io->late, now - next);
		if (now - next > TICK_NS)
			next = now;
		next += TICK_NS;
		tick(io, n++);
	}
	return NULL;
}

int iothread_start(struct iothread *io, struct sluice *session)
{
	int error;

	memset(io, 0, sizeof(*io));
	io->session = session;
	io->stats.size_of = sizeof(io->stats);
	pthread_mutex_init(&io->big_lock, NULL);
	error = os_thread_start(&io->thread, "iothread", iothread_body, io);
	io->started = !error;
	return error;
}

void iothread_stop(struct iothread *io)
{
	if (!io->started)
		return;
	atomic_store_explicit(&io->stop, true, memory_order_release);
	pthread_join(io->thread, NULL);
	pthread_mutex_destroy(&io->big_lock);
	io->started = false;
}

void iothread_measure(struct iothread *io, bool on)
{
	atomic_store_explicit(&io->measuring, on, memory_order_relaxed);
}
