/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* transport.h: what a transport is. tcp/ and rdma/ each implement it; streams/transports.c holds the table of them.
 *
 * A connection is either the link (a byte stream, non-blocking, polled by the link thread) or a data stream (whole
 * batches, owned by one sender or receiver thread). conn_shutdown() may be called from any thread and makes every
 * wait on the connection end; all else belongs to the owning thread. Errors are negative errno. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "streams/uri.h"
#include "streams/wait.h"
#include "streams/wire.h"

struct conn;
struct door; /* a listening place */

/* How to reach the other side. */
struct dial {
	const struct uri *uri;
	const struct greeting *greeting; /* sent first; the transport does not look into it */
	uint64_t deadline_ns;            /* CLOCK_MONOTONIC */
	const _Atomic bool *cancel;      /* ends the attempt within 100 ms with -ECANCELED */
	struct waiter *waiter;           /* names the wait */
	bool uring;                      /* data streams: io_uring wanted */
	char *error;                     /* where it fails: half a sentence that says why and what to do; NULL: not wanted */
	size_t error_size;
};

/* Where the round gate holds back round r + 1 until round r is done on all streams (design: Ordering). */
enum gate_side { GATE_AT_RECEIVER, GATE_AT_SENDER };

struct transport {
	const char *scheme;
	enum gate_side gate;

	/* Listen; -EADDRINUSE, -EADDRNOTAVAIL, -EACCES... `ret_uri` gets the URI it is reached at. */
	int (*listen)(const struct uri *uri, struct door **ret_door, struct uri *ret_uri);
	int (*door_fd)(const struct door *door);                  /* polls readable when accept may succeed */
	int (*accept)(struct door *door, struct conn **ret_conn); /* never blocks: -EAGAIN */
	void (*door_close)(struct door *door);

	/* Connect and send the greeting. May block until the deadline. */
	int (*connect)(const struct dial *dial, struct conn **ret_conn);

	/* Bytes, for the link and for greetings: never block. 0 < n bytes moved, -EAGAIN, -ECONNRESET...; read: 0 at
	 * end. */
	int (*fd)(const struct conn *conn);
	ssize_t (*read)(struct conn *conn, void *buffer, size_t size);
	ssize_t (*write)(struct conn *conn, const void *buffer, size_t size);

	/* An accepted connection turns out to be a data stream / the dialled one is one: called once, by the thread
	 * that will own it, before the first send or recv. Buffers and the engine are made here. Returns 0 or
	 * -ENOMEM... */
	int (*become_stream)(struct conn *conn, bool uring, bool sends);

	/* Send: iov[0] is a batch's head with its extents, the rest is its payload. start puts one vectored message on
	 * its way (iov and what it points to stay untouched until wait returns), wait ends it. One at a time. Blocks
	 * only in wait. -EPIPE/-ECONNRESET: peer gone, -ECANCELED: shut down. */
	int (*send_start)(struct conn *conn, const struct iovec *iov, int n);
	int (*send_wait)(struct conn *conn, struct waiter *waiter);
	/* Receive exactly the bytes of iov, which is consumed. Blocks. -ENODATA: orderly end before the first byte;
	 * -ECONNRESET: in the middle; -ECANCELED: shut down. */
	int (*recv)(struct conn *conn, struct iovec *iov, int n, struct waiter *waiter);

	void (*shutdown)(struct conn *conn);
	void (*close)(struct conn *conn);
	bool (*is_uring)(const struct conn *conn);
	const char *(*peer)(const struct conn *conn); /* for messages: "127.0.0.1:4747" */
	bool (*is_local)(const struct uri *uri);      /* does not leave this host: plain text is fine */
};

/* Every connection and door begins with its transport. */
struct conn {
	const struct transport *transport;
};
struct door {
	const struct transport *transport;
};

/* The transport of a URI, NULL: none in this build. */
const struct transport *transport_find(const struct uri *uri);
