/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* link.h: the link thread of a session: dials or takes the link, reads and writes its frames (frames.h), beats, notices a dead peer, and
 * at the destination serves the door (admit.h) and reports what has landed. It never calls the embedder.
 *
 * A session may have several links, one after the other, told apart by their number: the source's is the order it was dialled by, the
 * destination's is the epoch. */
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
	_Atomic bool report;    /* destination: a LANDED is due now */
	_Atomic bool adopted;   /* destination: the session's welcome is filled in, and receivers are ready for streams */
	_Atomic uint32_t order; /* source: number of the link to dial */
	_Atomic uint32_t drop;  /* number of the link to let go of; 0: none */

	/* Under lock: what is to be written, and on what. */
	pthread_mutex_t lock;
	struct link_frame *first, **last;
	uint32_t queued;
	uint32_t seq_out, epoch_out;
	uint32_t number;                            /* written by the link thread */
	bool open;                                  /* there is a connection */
	bool up;                                    /* and frames may be queued for it */
	uint64_t embedder_sent, embedder_delivered; /* ours on this link: sent, and known to be delivered there */
	uint8_t stream_token[MESSAGE_TOKEN];        /* destination: of this epoch; the link thread's, once adopted */

	/* Owned by the link thread. */
	struct conn *conn;
	struct greetings greetings; /* destination */
	uint32_t seq_in, epoch_in;
	uint32_t dial; /* destination: of the link, as the source counts */
	uint32_t streams_up;
	uint64_t closed_until_ns; /* the door rests */
	bool warned;              /* that nobody can be let in */
	uint8_t *in;              /* a frame as it comes */
	uint32_t in_got;
	uint64_t frame_ns; /* its first byte came */
	uint64_t heard_ns, beat_ns, reported_ns, reported_bytes;
	uint64_t peer_clock_ns, peer_heard_ns;
	uint64_t messages_in, messages_before; /* the embedder's: on this link, and on earlier ones */
	uint64_t came_ns;
	bool offered; /* destination: HELLO has come */
	uint32_t dead_ms, beat_ms;
	bool parted; /* the other side has had its last word */
	bool lost;   /* was said, of this link */
};

int link_init(struct link *link);
void link_fini(struct link *link);
/* Source: after the first link_dial(). */
int link_start(struct sluice *s);
/* Source: let go of the link, if there is one, and dial link `number`. Ends in INPUT_LINK_UP or INPUT_LINK_LOST. Control. */
void link_dial(struct sluice *s, uint32_t number);
/* Destination: the source is back on link `number`, which begins with ANSWER; nothing was sent on it before. If a newer one has come
 * meanwhile, or it has gone already, INPUT_LINK_BACK or INPUT_LINK_LOST is on its way, and nothing happens. 0 or a negative errno. Control. */
int link_admit(struct sluice *s, uint32_t number);
/* Let go of link `number`, unless a newer one has come. Control. */
void link_drop(struct sluice *s, uint32_t number);
/* Queue a frame. Any thread. -ENOTCONN, -ENOMEM. Embedders' messages: -EAGAIN when too many are under way. */
int link_send(struct sluice *s, const struct message *message);
/* After what is queued was written (500 ms at most), close and end the thread. Control. */
void link_close(struct sluice *s);
/* Make the link thread look again. Any thread. */
void link_wake(struct link *link);
/* Closes if need be, and joins. Control. */
void link_stop(struct sluice *s);

/* ---- for frames.c and admit.c; thread: link */

/* A connection is the link from now on. `up`: frames may be queued at once. */
void link_came(struct link *link, struct conn *conn, uint32_t number, bool up, uint64_t now);
/* Close it, and forget all that belongs to it. */
void link_forget(struct link *link);
/* It is gone, and that is an error: control is told why. */
void link_lose(struct sluice *s, int code, const char *text);
/* The same where reading or writing said so: 0 for the end, or a negative errno. */
void link_broke(struct sluice *s, int error);
