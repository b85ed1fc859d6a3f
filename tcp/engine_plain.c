/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine_plain.c: batches by sendmsg and recvmsg, where io_uring is forbidden. Called by the thread that owns the
 * stream.
 *
 * start() hands over what the socket takes at once; finish() hands over the rest in one blocking call. The socket is
 * blocking: one call a message instead of a poll for each piece of it. shutdown(2) from another thread ends a blocked
 * call at once. */
#include <errno.h>
#include <fcntl.h>

#include "tcp/conn.h"

static int plain_init(struct tcp_conn *c)
{
	(void)c;
	return 0;
}

static void plain_fini(struct tcp_conn *c)
{
	(void)c;
}

static int plain_send(struct tcp_conn *c, int flags)
{
	ssize_t n = sendmsg(c->fd, &c->transfer.message, MSG_NOSIGNAL | flags);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	transfer_advance(&c->transfer, (size_t)n);
	return 0;
}

static int plain_start(struct tcp_conn *c)
{
	int r = plain_send(c, MSG_DONTWAIT);

	return r == -EAGAIN ? 0 : r;
}

static int plain_finish(struct tcp_conn *c, struct waiter *waiter)
{
	int r = 0;

	while (c->transfer.left && !r) {
		wait_begin(waiter, "room on the wire");
		r = plain_send(c, 0);
		wait_end(waiter);
	}
	return r;
}

static ssize_t plain_receive(struct tcp_conn *c, struct waiter *waiter)
{
	ssize_t n;

	do {
		wait_begin(waiter, "bytes from the wire");
		n = recvmsg(c->fd, &c->transfer.message, MSG_WAITALL);
		wait_end(waiter);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

const struct engine engine_plain = {
	.init = plain_init,
	.fini = plain_fini,
	.start = plain_start,
	.finish = plain_finish,
	.receive = plain_receive,
};
