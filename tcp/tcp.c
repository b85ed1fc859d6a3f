/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tcp.c: connections over stream sockets, and the tables of the three transports that share them: tcp, unix, and a
 * listening socket handed in (fd). They differ in how a connection comes about and in nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tcp/conn.h"

extern const struct transport tcp_transport, unix_transport, fd_transport; /* for transports.c alone */

void transfer_begin(struct transfer *t, struct iovec *iov, int n)
{
	memset(&t->message, 0, sizeof(t->message));
	t->message.msg_iov = iov;
	t->message.msg_iovlen = (size_t)n;
	t->left = 0;
	for (int i = 0; i < n; i++)
		t->left += iov[i].iov_len;
}

void transfer_advance(struct transfer *t, size_t bytes)
{
	t->left -= bytes;
	while (t->message.msg_iovlen) {
		struct iovec *v = t->message.msg_iov;

		if (bytes < v->iov_len) {
			v->iov_base = (char *)v->iov_base + bytes;
			v->iov_len -= bytes;
			return;
		}
		bytes -= v->iov_len;
		t->message.msg_iov++;
		t->message.msg_iovlen--;
	}
}

static struct tcp_conn *of(const struct conn *conn)
{
	return (struct tcp_conn *)(uintptr_t)conn;
}

int tcp_conn_create(const struct transport *transport, int fd, const char *peer, struct conn **ret_conn)
{
	struct tcp_conn *c = calloc(1, sizeof(*c));
	const int on = 1;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->conn.transport = transport;
	c->fd = fd;
	snprintf(c->peer, sizeof(c->peer), "%s", peer);
	/* A unix socket has no such option and no need of it. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*ret_conn = &c->conn;
	return 0;
}

static bool is_shut(const struct tcp_conn *c)
{
	return atomic_load_explicit(&c->shut, memory_order_acquire); /* pairs with conn_shutdown */
}

static int conn_fd(const struct conn *conn)
{
	return of(conn)->fd;
}

static ssize_t conn_read(struct conn *conn, void *buffer, size_t size)
{
	ssize_t n;

	do
		n = recv(of(conn)->fd, buffer, size, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t conn_write(struct conn *conn, const void *buffer, size_t size)
{
	ssize_t n;

	do
		n = send(of(conn)->fd, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* To a near peer, a send buffer of one batch. What waits in a larger one has left the cache by the time that it is
 * sent: measured on loopback (4 streams, two cores), 0.29 s of CPU a GB and 6.9 GB/s instead of 0.32 to 0.36 and 6.2
 * where the kernel lets the buffer grow. Farther away it must grow with the round trip; at 0.5 ms this much still
 * carries over 1 GB/s a stream. */
static void limit_send_buffer(const struct tcp_conn *c)
{
	enum { BYTES = 512 << 10, NEAR_US = 500 };
	struct sockaddr_storage at = { 0 };
	socklen_t length = sizeof(at), size;
	struct tcp_info info = { 0 };
	const int bytes = BYTES;

	if (getpeername(c->fd, (struct sockaddr *)&at, &length))
		return;
	size = sizeof(info);
	if (!address_is_local(&at) && (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) || info.tcpi_rtt > NEAR_US))
		return;
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static int conn_become_stream(struct conn *conn, bool uring, bool sends)
{
	struct tcp_conn *c = of(conn);
	int flags = fcntl(c->fd, F_GETFL);

	/* Engines block in the kernel (shutdown ends it); io_uring would give -EAGAIN instead of waiting. */
	if (flags < 0 || fcntl(c->fd, F_SETFL, flags & ~O_NONBLOCK))
		return -errno;
	if (sends) {
		c->iov = malloc(CONN_IOVS * sizeof(*c->iov));
		if (!c->iov)
			return -ENOMEM;
		limit_send_buffer(c);
	}
	/* Containers forbid io_uring in many ways (EPERM, ENOSYS, EACCES), some leave no memory for it. Plain sockets
	 * always do. */
	c->engine = &engine_uring;
	if (!uring || engine_uring.init(c)) {
		c->engine = &engine_plain;
		return engine_plain.init(c);
	}
	return 0;
}

static int conn_send_start(struct conn *conn, const struct iovec *iov, int n)
{
	struct tcp_conn *c = of(conn);
	int r;

	if (n > CONN_IOVS)
		return -EMSGSIZE;
	memcpy(c->iov, iov, (size_t)n * sizeof(*iov));
	transfer_begin(&c->transfer, c->iov, n);
	r = c->engine->start(c);
	return r && is_shut(c) ? -ECANCELED : r;
}

static int conn_send_wait(struct conn *conn, struct waiter *waiter)
{
	struct tcp_conn *c = of(conn);
	int r = c->engine->finish(c, waiter);

	return r && is_shut(c) ? -ECANCELED : r;
}

static int conn_recv(struct conn *conn, struct iovec *iov, int n, struct waiter *waiter)
{
	struct tcp_conn *c = of(conn);
	bool begun = false;

	transfer_begin(&c->transfer, iov, n);
	while (c->transfer.left) {
		ssize_t got = c->engine->receive(c, waiter);

		if (got <= 0 && is_shut(c))
			return -ECANCELED;
		if (got < 0)
			return (int)got;
		if (!got)
			return begun ? -ECONNRESET : -ENODATA;
		transfer_advance(&c->transfer, (size_t)got);
		begun = true;
	}
	return 0;
}

static void conn_shutdown(struct conn *conn)
{
	struct tcp_conn *c = of(conn);

	atomic_store_explicit(&c->shut, true, memory_order_release); /* pairs with is_shut */
	shutdown(c->fd, SHUT_RDWR);
}

static void conn_close(struct conn *conn)
{
	struct tcp_conn *c = of(conn);

	if (c->engine)
		c->engine->fini(c);
	close(c->fd);
	free(c->iov);
	free(c);
}

static bool conn_is_uring(const struct conn *conn)
{
	return of(conn)->engine == &engine_uring;
}

static const char *conn_peer(const struct conn *conn)
{
	return of(conn)->peer;
}

static bool tcp_is_local(const struct uri *uri)
{
	struct addresses at;

	return !address_numeric(uri->host, uri->port, &at) && address_is_local(&at.at[0]);
}

static bool unix_is_local(const struct uri *uri)
{
	(void)uri;
	return true;
}

static bool fd_is_local(const struct uri *uri)
{
	struct sockaddr_storage at = { 0 };
	socklen_t length = sizeof(at), size = sizeof(int);
	int listens = 0;

	/* What does not listen is reached from nowhere: listen() says what is wrong with it. */
	if (getsockopt(uri->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens)
		return true;
	return !getsockname(uri->fd, (struct sockaddr *)&at, &length) && address_is_local(&at);
}

/* What connections of all three do. */
#define SOCKET_TRANSPORT                                                                                                     \
	.gate = GATE_AT_RECEIVER, .door_fd = tcp_door_fd, .accept = tcp_accept, .door_close = tcp_door_close, .fd = conn_fd, \
	.read = conn_read, .write = conn_write, .become_stream = conn_become_stream, .send_start = conn_send_start,          \
	.send_wait = conn_send_wait, .recv = conn_recv, .shutdown = conn_shutdown, .close = conn_close,                      \
	.is_uring = conn_is_uring, .peer = conn_peer

const struct transport tcp_transport = {
	.scheme = "tcp", .listen = tcp_listen, .connect = tcp_connect, .is_local = tcp_is_local, SOCKET_TRANSPORT
};
const struct transport unix_transport = {
	.scheme = "unix", .listen = unix_listen, .connect = unix_connect, .is_local = unix_is_local, SOCKET_TRANSPORT
};
const struct transport fd_transport = {
	.scheme = "fd", .listen = fd_listen, .connect = fd_connect, .is_local = fd_is_local, SOCKET_TRANSPORT
};
