/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* door.c: listening and accepting. Listening is called by the embedder's thread and blocks on nothing: only numeric
 * addresses. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tcp/conn.h"

enum { BACKLOG = 256 };

struct tcp_door {
	struct door door;
	int fd;
	/* unix: the socket file, to be removed if it is still this one; "": none of ours */
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	dev_t device;
	ino_t inode;
};

/* Takes fd over. */
static int door_create(const struct transport *transport, int fd, struct door **ret_door)
{
	struct tcp_door *d = calloc(1, sizeof(*d));

	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	d->door.transport = transport;
	d->fd = fd;
	*ret_door = &d->door;
	return 0;
}

static int listen_at(const struct sockaddr_storage *at, socklen_t length)
{
	int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;
	const int on = 1, off = 0;

	if (fd < 0)
		return -errno;
	if (at->ss_family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		goto fail;
	/* "::" is every address, as it is everywhere else. */
	if (at->ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)))
		goto fail;
	if (bind(fd, (const struct sockaddr *)at, length) || listen(fd, BACKLOG))
		goto fail;
	return fd;
fail:
	r = -errno;
	close(fd);
	return r;
}

/* The URI that a listening socket is reached at. */
static int reached_at(int fd, struct uri *ret_uri)
{
	struct sockaddr_storage at = { 0 };
	socklen_t length = sizeof(at);

	if (getsockname(fd, (struct sockaddr *)&at, &length))
		return -errno;
	return address_uri(&at, length, ret_uri);
}

int tcp_listen(const struct uri *uri, struct door **ret_door, struct uri *ret_uri)
{
	struct addresses at;
	int fd = address_numeric(uri->host, uri->port, &at), r;

	if (fd)
		return fd;
	fd = listen_at(&at.at[0], at.length[0]);
	if (fd < 0)
		return fd;
	r = reached_at(fd, ret_uri);
	if (r) {
		close(fd);
		return r;
	}
	return door_create(transport_find(uri), fd, ret_door);
}

/* Remove a socket file that nobody listens at any more: what a killed process leaves. Anything else is left alone. */
static int remove_stale(const struct sockaddr_storage *at, socklen_t length, const char *path)
{
	struct stat st;
	int fd, r;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)at, length) ? -errno : 0;
	close(fd);
	/* Only this says that nobody does: EAGAIN is a listener that is busy. */
	if (r != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(path) && errno != ENOENT ? -errno : 0;
}

int unix_listen(const struct uri *uri, struct door **ret_door, struct uri *ret_uri)
{
	struct sockaddr_storage at;
	struct tcp_door *d;
	socklen_t length;
	struct stat st;
	int fd, r;

	r = address_unix(uri->host, &at, &length);
	if (r)
		return r;
	fd = listen_at(&at, length);
	if (fd == -EADDRINUSE) {
		r = remove_stale(&at, length, uri->host);
		if (r)
			return r;
		fd = listen_at(&at, length);
	}
	if (fd < 0)
		return fd;
	r = door_create(transport_find(uri), fd, ret_door);
	if (r) {
		unlink(uri->host);
		return r;
	}
	d = (struct tcp_door *)*ret_door;
	if (!lstat(uri->host, &st)) {
		strcpy(d->path, uri->host);
		d->device = st.st_dev;
		d->inode = st.st_ino;
	}
	*ret_uri = *uri;
	return 0;
}

/* The descriptor stays its owner's: a copy is used. It becomes non-blocking, which copies share. */
int fd_listen(const struct uri *uri, struct door **ret_door, struct uri *ret_uri)
{
	int listens = 0, type = 0, fd, flags, r;
	socklen_t size = sizeof(int);

	if (getsockopt(uri->fd, SOL_SOCKET, SO_TYPE, &type, &size))
		return -errno;
	if (type != SOCK_STREAM || getsockopt(uri->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens)
		return -EOPNOTSUPP;
	fd = fcntl(uri->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	r = reached_at(fd, ret_uri);
	/* A unix socket without a path is reached by whoever made it. */
	if (r == -EAFNOSUPPORT)
		*ret_uri = *uri;
	else if (r)
		goto fail;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) {
		r = -errno;
		goto fail;
	}
	return door_create(transport_find(uri), fd, ret_door);
fail:
	close(fd);
	return r;
}

int tcp_door_fd(const struct door *door)
{
	return ((const struct tcp_door *)door)->fd;
}

int tcp_accept(struct door *door, struct conn **ret_conn)
{
	struct sockaddr_storage at = { 0 };
	socklen_t length = sizeof(at);
	char peer[ADDRESS_TEXT];
	int fd = accept4(((struct tcp_door *)door)->fd, (struct sockaddr *)&at, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		switch (errno) {
		case EWOULDBLOCK:
		case EINTR:
		/* The caller went away again, or the network had a word for it (accept(2)): the door is as good as
		 * before. */
		case ECONNABORTED:
		case EPROTO:
		case ENETDOWN:
		case ENETUNREACH:
		case EHOSTUNREACH: return -EAGAIN;
		default: return -errno;
		}
	}
	return tcp_conn_create(door->transport, fd, address_text(&at, length, peer), ret_conn);
}

void tcp_door_close(struct door *door)
{
	struct tcp_door *d = (struct tcp_door *)door;
	struct stat st;

	/* Another may have taken the path meanwhile. */
	if (*d->path && !lstat(d->path, &st) && st.st_dev == d->device && st.st_ino == d->inode)
		unlink(d->path);
	close(d->fd);
	free(d);
}
