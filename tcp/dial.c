/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dial.c: connecting, and the greeting. Called by the thread that will own the connection: senders, the link. May
 * block, but not beyond the deadline, and no longer than 50 ms once cancelled. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tcp/conn.h"
#include "tcp/resolve.h"

enum { LOOK_MS = 50, RETRY_MS = 5 };

static const char *advice(int error)
{
	switch (-error) {
	case ECONNREFUSED:
	case ENOENT: return " (nobody listens there)";
	case EMFILE: return ": raise ulimit -n";
	case ENFILE: return ": raise sysctl fs.file-max";
	case EACCES: return ": only who may write to a unix socket can connect to it";
	case ENOTDIR: return ": a part of the path is a file";
	default: return "";
	}
}

static int explain(const struct dial *dial, int error, const char *what)
{
	if (dial->error && error != -ECANCELED)
		snprintf(dial->error, dial->error_size, "%s: %s%s", what, strerror(-error), advice(error));
	return error;
}

/* Until the socket polls for one of `events`, or for `slice_ms` if it is to poll for none. */
static int await(const struct dial *dial, int fd, short events, int slice_ms, uint64_t deadline_ns, const char *what)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		uint64_t now = now_ns();
		int ms = slice_ms, n;

		if (atomic_load_explicit(dial->cancel, memory_order_relaxed)) /* a flag, nothing behind it */
			return -ECANCELED;
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		if ((uint64_t)ms * 1000000u > deadline_ns - now)
			ms = (int)((deadline_ns - now) / 1000000u) + 1;
		wait_begin(dial->waiter, what);
		n = poll(&p, events ? 1 : 0, ms);
		wait_end(dial->waiter);
		if (n > 0 || !events)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* A connected, non-blocking socket, or negative errno. */
static int dial_one(const struct dial *dial, const struct sockaddr_storage *at, socklen_t length, uint64_t deadline_ns)
{
	int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r, error = 0;
	socklen_t size = sizeof(error);

	if (fd < 0)
		return -errno;
	for (;;) {
		r = connect(fd, (const struct sockaddr *)at, length) ? -errno : 0;
		/* A unix socket whose listener is busy: nothing polls for room there. */
		if (r != -EAGAIN)
			break;
		r = await(dial, fd, 0, RETRY_MS, deadline_ns, "room at the listening socket");
		if (r)
			break;
	}
	if (r == -EINPROGRESS || r == -EINTR) {
		r = await(dial, fd, POLLOUT, LOOK_MS, deadline_ns, "the other side to accept the connection");
		if (!r && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size))
			error = errno;
		r = r ? r : -error;
	}
	if (!r)
		return fd;
	close(fd);
	return r;
}

/* A fresh connection takes 48 bytes at once; if not, the peer has an odd idea of a socket buffer. */
static int greet(const struct dial *dial, int fd)
{
	const char *at = (const char *)dial->greeting;
	size_t left = sizeof(*dial->greeting);

	while (left) {
		ssize_t n = send(fd, at, left, MSG_DONTWAIT | MSG_NOSIGNAL);
		int r;

		if (n >= 0) {
			at += n;
			left -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = await(dial, fd, POLLOUT, LOOK_MS, dial->deadline_ns, "the greeting to be taken");
		if (r)
			return r;
	}
	return 0;
}

static int connect_to(const struct dial *dial, const struct transport *transport, const struct addresses *to,
		      struct conn **ret_conn)
{
	char peer[ADDRESS_TEXT], what[ADDRESS_TEXT + 32];
	int fd = -EADDRNOTAVAIL, r = 0;

	for (int i = 0; i < to->n; i++) {
		uint64_t now = now_ns(), left = dial->deadline_ns > now ? dial->deadline_ns - now : 0;

		/* One address that swallows packets must not use up the time of the others. */
		fd = dial_one(dial, &to->at[i], to->length[i], now + left / (uint64_t)(to->n - i));
		/* Of several errors the first is told: the first address is the one the user expects. */
		if (fd < 0 && (!r || fd == -ECANCELED)) {
			r = fd;
			snprintf(what, sizeof(what), "cannot connect to %s", address_text(&to->at[i], to->length[i], peer));
		}
		if (fd == -ECANCELED)
			break;
		if (fd >= 0) {
			address_text(&to->at[i], to->length[i], peer);
			break;
		}
	}
	if (fd < 0)
		return explain(dial, r, what);
	r = greet(dial, fd);
	if (r) {
		close(fd);
		return explain(dial, r, "cannot greet");
	}
	return tcp_conn_create(transport, fd, peer, ret_conn);
}

int tcp_connect(const struct dial *dial, struct conn **ret_conn)
{
	struct addresses to = { 0 };
	int r = resolve(dial, &to);

	return r ? r : connect_to(dial, transport_find(dial->uri), &to, ret_conn);
}

int unix_connect(const struct dial *dial, struct conn **ret_conn)
{
	struct addresses to = { .n = 1 };
	int r = address_unix(dial->uri->host, &to.at[0], &to.length[0]);

	return r ? explain(dial, r, "the path is too long") : connect_to(dial, transport_find(dial->uri), &to, ret_conn);
}

int fd_connect(const struct dial *dial, struct conn **ret_conn)
{
	(void)ret_conn;
	if (dial->error)
		snprintf(dial->error, dial->error_size,
			 "fd:%d is one connection, a migration needs several; give the source tcp:HOST:PORT or unix:PATH",
			 dial->uri->fd);
	return -ENOTSUP;
}
