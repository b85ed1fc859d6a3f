/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* conn.h: a socket connection as this room sees it, and the two engines that move batches over it. */
#pragma once

#include <liburing.h>
#include <sys/socket.h>

#include "streams/transport.h"
#include "tcp/address.h"

enum { CONN_IOVS = 1024 }; /* of one message at most: the kernel's IOV_MAX. Ours have 513 */

/* What is still to be moved of one vectored message. */
struct transfer {
	struct msghdr message;
	size_t left;
};

struct tcp_conn {
	struct conn conn; /* first: what the rest of the world sees */

	/* Set once. */
	int fd;
	char peer[ADDRESS_TEXT];

	_Atomic bool shut; /* by conn_shutdown: errors from now on are ours, not the peer's */

	/* Owned by the thread that owns the stream, from become_stream on. */
	const struct engine *engine;
	struct io_uring ring;     /* engine_uring */
	struct transfer transfer; /* the one message under way */
	struct iovec *iov;        /* of a message being sent: a copy, for the kernel may take it in pieces */
};

/* Steps that both engines have. All return 0 or negative errno. */
struct engine {
	int (*init)(struct tcp_conn *c);
	void (*fini)(struct tcp_conn *c);
	/* Begin to send c->transfer. */
	int (*start)(struct tcp_conn *c);
	/* Send the rest of it. */
	int (*finish)(struct tcp_conn *c, struct waiter *waiter);
	/* Receive some of c->transfer, all of it unless there is a reason. Returns bytes, 0 at the end. */
	ssize_t (*receive)(struct tcp_conn *c, struct waiter *waiter);
};

extern const struct engine engine_plain, engine_uring;

void transfer_begin(struct transfer *t, struct iovec *iov, int n);
/* `bytes` of it were moved. */
void transfer_advance(struct transfer *t, size_t bytes);

/* Around a connected socket, which is taken over (closed on -ENOMEM). */
int tcp_conn_create(const struct transport *transport, int fd, const char *peer, struct conn **ret_conn);

/* What the tables of transports are made of: door.c and dial.c. */
int tcp_listen(const struct uri *uri, struct door **ret_door, struct uri *ret_uri);
int unix_listen(const struct uri *uri, struct door **ret_door, struct uri *ret_uri);
int fd_listen(const struct uri *uri, struct door **ret_door, struct uri *ret_uri);
int tcp_door_fd(const struct door *door);
int tcp_accept(struct door *door, struct conn **ret_conn);
void tcp_door_close(struct door *door);
int tcp_connect(const struct dial *dial, struct conn **ret_conn);
int unix_connect(const struct dial *dial, struct conn **ret_conn);
int fd_connect(const struct dial *dial, struct conn **ret_conn);
