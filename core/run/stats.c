/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stats.c: figures for those who look. The control thread renews a snapshot after each step; counters that move between steps
 * (bytes, pages) are read live. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/session.h"

#define READ(x) atomic_load_explicit(&(x), memory_order_relaxed)

void stats_pages(struct sluice *s, uint64_t *ret_pages, uint64_t *ret_nonzero)
{
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_acquire);
	*ret_pages = *ret_nonzero = 0;
	for (uint32_t i = 0; pool && i < s->welcome.streams; i++) {
		const struct sender_stats *st = pool_stats(pool, i);
		uint64_t zero = READ(st->zero_pages), pages = READ(st->pages);
		*ret_pages += pages;
		*ret_nonzero += pages > zero ? pages - zero : 0;
	}
}

uint64_t stats_moved(struct sluice *s)
{
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_acquire);
	uint64_t bytes = READ(s->landed_bytes);
	for (uint32_t i = 0; pool && i < s->welcome.streams; i++)
		bytes += READ(pool_stats(pool, i)->bytes);
	return bytes;
}

static double ms(uint64_t from, uint64_t to)
{
	return from && to > from ? (double)(to - from) * 1e-6 : 0;
}

static void renew_source(struct sluice *s, struct sluice_stats *st)
{
	const struct source *d = &s->decide.source;
	uint64_t end = d->ended_ns ? d->ended_ns : now_ns();
	st->phase = d->phase;
	st->setup_ms = ms(d->started_ns, d->active_ns ? d->active_ns : end);
	st->total_ms = ms(d->started_ns, end);
	st->rounds = d->round;
	st->device_tries = d->device_tries;
	st->downtime_expected_ms = d->expected_ms;
	st->throttle_percent = d->throttle;
	st->throttle_max_percent = d->throttle_most;
	st->drain.tries = d->drain.tries;
	st->drain.busy = d->drain.busy;
	st->drain.gave_up = d->drain.gave_up;
	st->drain.quiesced_ms = (double)d->drain.quiesced_ns * 1e-6;
	st->drain.delay_ms = (double)d->drain.delay_ns * 1e-6;
	st->drain.delay_rounds = d->drain.delay_rounds;
	st->remaining_bytes = d->due_pages * SLUICE_PAGE_SIZE; /* less what was sent: add_live() */
	st->dirty_bytes_per_s = (uint64_t)(d->converge.dirty_pages_per_s * SLUICE_PAGE_SIZE);
	st->throughput_bytes_per_s = (uint64_t)(d->converge.pages_per_s * SLUICE_PAGE_SIZE);
	if (d->running_ns) {
		st->downtime_ms = ms(d->pause_ns, d->running_ns);
		st->downtime_parts_ms.pause = ms(d->pause_ns, d->paused_ns);
		st->downtime_parts_ms.hold = ms(d->paused_ns, d->continued_ns);
		st->downtime_parts_ms.save = ms(d->continued_ns, d->saved_ns);
		st->downtime_parts_ms.last_round = ms(d->saved_ns, d->sent_ns);
		st->downtime_parts_ms.state = ms(d->sent_ns, d->ready_ns);
		st->downtime_parts_ms.handoff = ms(d->ready_ns, d->running_ns);
	}
}

static void renew_destination(struct sluice *s, struct sluice_stats *st)
{
	const struct destination *d = &s->decide.destination;
	uint64_t end = d->ended_ns ? d->ended_ns : now_ns();
	st->phase = d->phase;
	st->setup_ms = ms(d->started_ns, d->active_ns ? d->active_ns : end);
	st->total_ms = ms(d->started_ns, end);
	st->rounds = d->landed;
}

static uint64_t own_bytes(struct sluice *s)
{
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_acquire);
	struct receivers *receivers = atomic_load_explicit(&s->receivers, memory_order_acquire);
	uint64_t bytes = sizeof *s + sizeof *s->hello + MESSAGE_HEAD + MESSAGE_PAYLOAD;
	bytes += bitmap_bytes(&s->dirty) + bitmap_bytes(&s->discarded) + heat_bytes(&s->heat) + landing_bytes(&s->landing);
	bytes += s->sync.tracker ? tracker_bytes(s->sync.tracker) : 0;
	bytes += pool ? pool_bytes(pool) : 0;
	bytes += receivers ? receivers_bytes(receivers) : 0;
	return bytes;
}

void stats_renew(struct sluice *s)
{
	struct sluice_stats st = { .size_of = sizeof st };
	if (s->side == SIDE_SOURCE)
		renew_source(s, &st);
	else
		renew_destination(s, &st);
	st.streams = s->welcome.streams;
	/* While the embedder adds regions, the table is its; acquire pairs with check_incoming() and start(). */
	st.memory_bytes = atomic_load_explicit(&s->collecting, memory_order_acquire) ? 0 : s->memory.bytes;
	st.own_bytes = own_bytes(s);
	if (st.own_bytes < s->stats.own_bytes)
		st.own_bytes = s->stats.own_bytes; /* the most that it was */
	pthread_mutex_lock(&s->look);
	s->stats = st;
	pthread_mutex_unlock(&s->look);
}

static void add_live(struct sluice *s, struct sluice_stats *st)
{
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_acquire);
	for (uint32_t i = 0; pool && i < st->streams; i++) {
		const struct sender_stats *p = pool_stats(pool, i);
		st->wire_bytes += READ(p->bytes);
		st->guest_bytes += READ(p->pages) * SLUICE_PAGE_SIZE;
		st->zero_bytes += READ(p->zero_pages) * SLUICE_PAGE_SIZE;
		st->lz4_in_bytes += READ(p->lz4_in);
		st->lz4_out_bytes += READ(p->lz4_out);
	}
	st->landed_bytes = READ(s->landed_bytes);
	st->arm_ms = (double)READ(s->sync.arm_ns) * 1e-6;
	hist_read(&s->lock_held, 1e3, &st->lock_held_us);
	hist_read(&s->sync_pieces, 1e6, &st->sync_ms);
	hist_read(&s->steps, 1e6, &st->steps_ms);
	uint64_t due = st->remaining_bytes;
	st->remaining_bytes = 0;
	/* Acquire: pairs with arm(), which makes the sweep. */
	if (!atomic_load_explicit(&s->tracking, memory_order_acquire))
		return;
	/* In the first round what the sweep has still before it, by its position: counting bits would cost too much for a glance. */
	uint64_t words = s->sweep.words, cursor = READ(s->sweep.cursor);
	if (words && cursor < words && st->rounds == 1)
		st->remaining_bytes = (uint64_t)((double)(words - cursor) * 64 * SLUICE_PAGE_SIZE);
	else if (due > st->guest_bytes)
		st->remaining_bytes = due - st->guest_bytes;
}

int sluice_get_stats(struct sluice *s, struct sluice_stats *ret)
{
	if (!ret || ret->size_of != sizeof *ret)
		return -EINVAL;
	pthread_mutex_lock(&s->look);
	*ret = s->stats;
	pthread_mutex_unlock(&s->look);
	ret->size_of = sizeof *ret;
	add_live(s, ret);
	return 0;
}

int sluice_get_stream_stats(struct sluice *s, uint32_t stream, struct sluice_stream_stats *ret)
{
	if (!ret || ret->size_of != sizeof *ret)
		return -EINVAL;
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_acquire);
	struct receivers *receivers = atomic_load_explicit(&s->receivers, memory_order_acquire);
	struct sluice_stats st = { .size_of = sizeof st };
	sluice_get_stats(s, &st);
	if (stream >= st.streams || (!pool && !receivers))
		return -ENOENT;
	if (pool) {
		const struct sender_stats *p = pool_stats(pool, stream);
		ret->node = READ(p->node);
		ret->uring = READ(p->uring);
		ret->bytes = READ(p->bytes);
		ret->stalled_ms = (double)READ(p->stalled_ns) * 1e-6;
		ret->cpu_s = (double)READ(p->cpu_ns) * 1e-9;
	} else {
		const struct receiver_stats *r = receivers_stats(receivers, stream);
		ret->node = -1;
		ret->uring = READ(r->uring);
		ret->bytes = READ(r->bytes);
		ret->stalled_ms = (double)READ(r->stalled_ns) * 1e-6;
		ret->cpu_s = (double)READ(r->cpu_ns) * 1e-9;
	}
	return 0;
}
