/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stream_end.c: batches on a data stream.
 *
 * Guest pages travel as their versions. They are read from the guest's memory when a segment is made, a few at a time, as
 * a kernel would that is still sending while the guest writes; and land one by one. */
#include <errno.h>
#include <string.h>

#include "tests/sim/contracts.h"
#include "tests/sim/coverage.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/heap.h"
#include "tests/sim/knobs.h"
#include "tests/sim/laws.h"
#include "tests/sim/pipe.h"
#include "tests/sim/told.h"
#include "tests/sim/world.h"
#include "tests/sim/yield.h"

int stream_begin(struct conn *conn, bool uring, bool sends)
{
	(void)uring, (void)sends;
	((struct end *)conn)->stream = true;
	return 0;
}

/* Any byte of a batch, but for raw pages: these have no check of ours, so damage to them is TCP's or TLS's to find. */
static void damage(struct end *e, struct seg *head, const struct batch_head *batch)
{
	uint32_t payload = batch->flags & BATCH_PAYLOAD_CHECK ? batch->payload : 0;

	if (payload && (e->picky || sim_one_in(2))) {
		e->damage_at = (uint32_t)sim_below(payload) + 1;
		return;
	}
	if (batch->extents && sim_one_in(2)) /* nothing but the check protects the lower bits of a page's number */
		harm_flip(head->data + sizeof *batch + sim_below(batch->extents) * sizeof(struct extent), 2);
	else
		harm_flip(head->data, head->length);
	/* More extents than there are: what follows, damaged or not, is read as such before the check can tell. */
	e->garbled |= ((const struct batch_head *)(const void *)head->data)->extents > batch->extents;
	head->poison = !e->garbled;
}

static void keep_for_echo(struct end *e, const struct seg *s)
{
	if (!e->echo_last)
		return;
	*e->echo_last = pipe_copy(s);
	e->echo_last = &(*e->echo_last)->next;
}

/* All of the batch is out. Does it come again? */
static void echo(struct end *e)
{
	for (struct seg *s = e->echo; s; s = e->echo) {
		e->echo = s->next;
		pipe_push_again(e, s);
		heap_free(s);
	}
	e->echo_last = NULL;
}

/* The head with its extents, and what is wrong with it. Returns whether it goes out at all. */
static bool push_batch_head(struct end *e, const struct iovec *iov)
{
	const struct batch_head *batch = iov->iov_base;
	if (!e->harm)
		e->harm = faults_harm(e->wire);
	enum wire_harm harm = e->harm;

	if (harm == HARM_DAMAGE && e->picky && !(batch->flags & BATCH_PAYLOAD_CHECK))
		harm = HARM_NONE;
	else if (harm != HARM_DAMAGE || sim_one_in(4)) /* damage seldom comes alone */
		e->harm = HARM_NONE;
	bool lost = harm == HARM_DOUBLE && sim_one_in(4), whole = harm == HARM_DOUBLE && sim_one_in(2);
	if (harm) {
		coverage_met_harm(e->wire, harm);
		sim_trace("wire %u: this batch (type %u, round %u) is %s", e->wire->id, batch->type, batch->round,
			  lost ? "left out" : harm_names[harm]);
	}
	e->gap |= lost;
	if (lost)
		return false;
	e->sent = *batch;
	e->wrong |= harm != HARM_NONE;
	struct seg *s = pipe_push(e, iov->iov_base, (uint32_t)iov->iov_len, (uint32_t)iov->iov_len);
	s->frame = batch->type;
	s->poison = e->gap && !e->garbled;
	if (!harm)
		return true;
	if (harm == HARM_DAMAGE) {
		damage(e, s, batch);
	} else if (harm == HARM_OLD) {
		s->lie_of_head = harm_old_batch((struct batch_frame *)(void *)s->data) && !e->garbled;
		s->poison = !e->garbled;
		e->stale = true;
	} else if (whole) {
		e->echo_last = &e->echo;
		keep_for_echo(e, s);
	} else if (harm == HARM_DOUBLE) {
		struct seg *twice = pipe_push(e, iov->iov_base, (uint32_t)iov->iov_len, (uint32_t)iov->iov_len);
		twice->frame = batch->type;
		twice->poison = !e->garbled;
	} else {
		wire_cut(e->wire);
	}
	return true;
}

/* Some of what is left of a batch. Pages are read here. */
static void push_some(struct end *e)
{
	const struct iovec *iov = e->iov;
	const unsigned char *at = (const unsigned char *)iov->iov_base + e->offset;
	size_t left = iov->iov_len - e->offset;
	enum sim_side side;
	uint32_t page;

	if (guest_page_of(at, &side, &page)) {
		uint32_t n = (uint32_t)(left / WIRE_PAGE), most = 1 + (uint32_t)sim_below(16);
		n = n < most ? n : most;
		struct seg *s = pipe_push(e, NULL, n * 8, n * WIRE_PAGE);
		s->pages = true;
		for (uint32_t i = 0; i < n; i++) {
			uint64_t version = *guest_page(side, page + i);
			contracts_page_read(page + i);
			if (e->stale && version > VERSION_OLD)
				version = VERSION_OLD;
			memcpy(s->data + 8 * i, &version, 8);
		}
		keep_for_echo(e, s);
		left = (size_t)n * WIRE_PAGE;
	} else {
		if (left > 65536)
			left = 65536;
		struct seg *s = pipe_push(e, at, (uint32_t)left, (uint32_t)left);
		bool here = e->damage_at && e->damage_at <= left;
		keep_for_echo(e, s);
		s->poison = here && !e->garbled;
		if (here)
			harm_flip(s->data + e->damage_at - 1, 1);
		e->damage_at = e->damage_at > left ? e->damage_at - (uint32_t)left : 0;
	}
	e->offset += left;
	if (e->offset == iov->iov_len) {
		e->iov++;
		e->iovs--;
		e->offset = 0;
	}
}

/* What a batch that is left out would have carried: its sender does not know. */
static void read_in_vain(const struct iovec *iov, int n)
{
	enum sim_side side;
	uint32_t page;

	for (int i = 0; i < n; i++)
		if (guest_page_of(iov[i].iov_base, &side, &page))
			for (uint32_t p = 0; p < iov[i].iov_len / WIRE_PAGE; p++)
				contracts_page_read(page + p);
}

int stream_send_start(struct conn *conn, const struct iovec *iov, int n)
{
	struct end *e = (struct end *)conn;

	if (e->under_way)
		sim_violation("Law 8: a batch is sent while the one before is on its way: it would tear the stream");
	sim_yield();
	if (end_broken(e))
		return end_broken(e);
	world_batch(e->side, ((const struct batch_head *)iov->iov_base)->type);
	if (end_broken(e))
		return end_broken(e);
	e->under_way = true;
	e->batch_bytes = 0;
	for (int i = 0; i < n; i++)
		e->batch_bytes += iov[i].iov_len;
	knobs_batch(iov->iov_base, e->batch_bytes);
	e->stale = false;
	e->damage_at = 0;
	bool goes = push_batch_head(e, iov);
	e->iov = iov + 1;
	e->iovs = goes ? n - 1 : 0;
	if (!goes)
		read_in_vain(iov + 1, n - 1);
	e->offset = 0;
	uint64_t later = FIBER_FOREVER;
	while (e->iovs && pipe_has_room(pipe_out(e), &later) && !sim_one_in(4))
		push_some(e);
	if (!e->iovs)
		echo(e);
	return 0;
}

int stream_send_wait(struct conn *conn, struct waiter *waiter)
{
	struct end *e = (struct end *)conn;
	int rc;

	wait_begin(waiter, "the wire to take a batch");
	while (!(rc = end_broken(e)) && e->iovs) {
		uint64_t until = pipe_in(e)->reset_at;
		if (pipe_has_room(pipe_out(e), &until)) {
			push_some(e);
			if (!e->iovs)
				echo(e);
			sim_yield();
		} else {
			(void)fiber_block(e, until, "the wire to take a batch");
		}
	}
	wait_end(waiter);
	e->under_way = false;
	if (!rc)
		told_sent(e->batch_bytes);
	return rc;
}

/* To where the reader wants it, of what a segment has. Returns the bytes. */
static uint32_t deliver(struct end *e, const struct seg *s, unsigned char *to, size_t room)
{
	uint32_t n = s->length - s->taken, page;
	enum sim_side side;
	uint64_t version = 0;

	n = n < room ? n : (uint32_t)room;
	if (!guest_page_of(to, &side, &page)) {
		if (s->pages)
			memset(to, 0, n);
		else
			memcpy(to, s->data + s->taken, n);
		return n;
	}
	/* Whole pages, one at a time: a landing is not atomic. Other bytes than pages only come here where a check was missed, or behind a
	 * head that came twice, which raw pages have no check against: rubbish, until the next head shows it. */
	n = n < WIRE_PAGE ? n : WIRE_PAGE;
	if (s->late)
		late_lands();
	if (s->pages && s->taken % WIRE_PAGE == 0 && !e->poisoned)
		memcpy(&version, s->data + s->taken / WIRE_PAGE * 8, 8);
	laws_page_lands(e->side, page, version);
	*guest_page(side, page) = version;
	return n;
}

static int recv_some(struct end *e, struct iovec *iov)
{
	uint64_t until = FIBER_FOREVER;

	if (e->shut)
		return -ECANCELED;
	struct seg *s = pipe_readable(pipe_in(e), &until);
	if (!s && pipe_in(e)->reset_at <= sim_now)
		return -ECONNRESET;
	if (!s) {
		(void)fiber_block(e, until, "bytes");
		return 0;
	}
	if (s->fin)
		return -ENODATA;
	if (s->lie_of_head && s->taken >= sizeof(struct batch_head))
		sim_violation("Law 7: a receiver read on behind the head of a batch that lies");
	if (s->frame && !s->taken && e->poisoned)
		sim_violation("Law 7: a receiver read on behind a damaged batch");
	uint32_t n = deliver(e, s, iov->iov_base, iov->iov_len);
	pipe_take(e, s, n);
	iov->iov_base = (char *)iov->iov_base + n;
	iov->iov_len -= n;
	return (int)n;
}

int stream_recv(struct conn *conn, struct iovec *iov, int n, struct waiter *waiter)
{
	struct end *e = (struct end *)conn;
	bool any = false;
	int rc = 0;

	if (e->wire->stray)
		sim_violation("Law 7: a stranger's connection is taken for a stream");
	wait_begin(waiter, "the wire to bring a batch");
	while (n && rc >= 0) {
		sim_yield();
		rc = recv_some(e, iov);
		any |= rc > 0;
		if (!iov->iov_len) {
			iov++;
			n--;
		}
	}
	wait_end(waiter);
	if (rc == -ENODATA && any)
		return -ECONNRESET;
	if (rc < 0)
		return rc;
	wire_brought(e);
	return 0;
}
