/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine_uring.c: batches by io_uring, one small ring a stream. Called by the thread that owns the stream, which makes
 * the ring and is the only one to use it (SINGLE_ISSUER).
 *
 * There is never more than one operation in flight: two sends on one socket would interleave where each goes out in
 * pieces. MSG_WAITALL has the kernel go on by itself after a piece; an operation that ends early all the same is
 * submitted again for the rest. An operation is never abandoned, for the kernel uses our memory until it has completed:
 * shutdown(2) from another thread completes it at once. */
#include <errno.h>
#include <string.h>

#include "tcp/conn.h"

enum { ENTRIES = 2 };

static int uring_init(struct tcp_conn *c)
{
	/* What saves most first; older kernels refuse what they do not know. */
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
		IORING_SETUP_COOP_TASKRUN,                               /* 5.19 */
		0,
	};
	int r = -EINVAL;

	for (size_t i = 0; r == -EINVAL && i < sizeof(flags) / sizeof(*flags); i++)
		r = io_uring_queue_init(ENTRIES, &c->ring, flags[i]);
	return r;
}

static void uring_fini(struct tcp_conn *c)
{
	io_uring_queue_exit(&c->ring);
}

static int uring_submit(struct tcp_conn *c, bool send, unsigned wait)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
	int r;

	if (send)
		io_uring_prep_sendmsg(sqe, c->fd, &c->transfer.message, MSG_NOSIGNAL | MSG_WAITALL);
	else
		io_uring_prep_recvmsg(sqe, c->fd, &c->transfer.message, MSG_WAITALL);
	do
		r = io_uring_submit_and_wait(&c->ring, wait);
	while (r == -EINTR);
	return r < 0 ? r : 0;
}

/* The result of the operation in flight. */
static int uring_reap(struct tcp_conn *c)
{
	struct io_uring_cqe *cqe;
	int r;

	do
		r = io_uring_wait_cqe(&c->ring, &cqe);
	while (r == -EINTR);
	if (r)
		return r;
	r = cqe->res;
	io_uring_cqe_seen(&c->ring, cqe);
	return r;
}

static bool is_done(struct tcp_conn *c)
{
	struct io_uring_cqe *cqe;

	return !io_uring_peek_cqe(&c->ring, &cqe);
}

static int uring_start(struct tcp_conn *c)
{
	return uring_submit(c, true, 0);
}

static int uring_finish(struct tcp_conn *c, struct waiter *waiter)
{
	int r;

	for (;;) {
		if (is_done(c)) {
			r = uring_reap(c);
		} else {
			wait_begin(waiter, "room on the wire");
			r = uring_reap(c);
			wait_end(waiter);
		}
		if (r < 0 && r != -EINTR && r != -EAGAIN)
			return r;
		transfer_advance(&c->transfer, r > 0 ? (size_t)r : 0);
		if (!c->transfer.left)
			return 0;
		r = uring_submit(c, true, 0);
		if (r)
			return r;
	}
}

static ssize_t uring_receive(struct tcp_conn *c, struct waiter *waiter)
{
	int r;

	do {
		wait_begin(waiter, "bytes from the wire");
		r = uring_submit(c, false, 1);
		if (!r)
			r = uring_reap(c);
		wait_end(waiter);
	} while (r == -EINTR || r == -EAGAIN);
	return r;
}

const struct engine engine_uring = {
	.init = uring_init,
	.fini = uring_fini,
	.start = uring_start,
	.finish = uring_finish,
	.receive = uring_receive,
};
