/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* link.h: the link thread of a session: dials or takes the link, reads and writes its frames, beats, notices a dead peer, and at the
 * destination reports what has landed. It never calls the embedder. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/decide/message.h"
#include "core/run/door.h"
#include "streams/transport.h"

struct sluice;
struct link_frame;

struct link {
	pthread_t thread;
	bool started; /* control's */
	int wake;     /* eventfd */
	struct waiter waiter;
	_Atomic bool cancel, closing, accepting;
	_Atomic bool report;  /* destination: a LANDED is due now */
	_Atomic bool adopted; /* receivers are ready for streams */

	/* Under lock: what is to be written. */
	pthread_mutex_t lock;
	struct link_frame *first, **last;
	uint32_t queued;
	uint32_t seq_out, epoch_out;
	bool up;
	uint64_t embedder_sent, embedder_delivered; /* ours: sent, and known to be delivered there */

	/* Owned by the link thread. */
	struct conn *conn;
	struct greetings greetings; /* destination */
	uint32_t seq_in, epoch_in;
	uint32_t dial; /* of the link */
	uint32_t streams_up;
	uint64_t closed_until_ns; /* the door rests */
	uint8_t *in;              /* a frame as it comes */
	uint32_t in_got;
	uint64_t heard_ns, beat_ns, reported_ns, reported_bytes;
	uint64_t peer_clock_ns, peer_heard_ns;
	uint64_t messages_in, came_ns;
	bool offered; /* destination: HELLO has come */
	uint32_t dead_ms, beat_ms;
	bool parted; /* the other side has had its last word */
	bool lost;
};

int link_init(struct link *link);
void link_fini(struct link *link);
int link_start(struct sluice *s);
/* Queue a frame. Any thread. -ENOTCONN, -ENOMEM. Embedders' messages: -EAGAIN when too many are under way. */
int link_send(struct sluice *s, const struct message *message);
/* After what is queued was written (500 ms at most), close and end the thread. Control. */
void link_close(struct sluice *s);
/* Make the link thread look again. Any thread. */
void link_wake(struct link *link);
/* Closes if need be, and joins. Control. */
void link_stop(struct sluice *s);
