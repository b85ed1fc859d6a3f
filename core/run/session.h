/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* session.h: all that one session is made of. Fields are grouped by who may touch them.
 *
 * Lock order: the inbox's, outbox's, link's, state_in's and `look`'s locks are innermost: nothing is taken under any of them. The
 * embedder's big lock is never taken while holding one of them. */
#pragma once

#include <pthread.h>

#include "core/decide/destination.h"
#include "core/decide/source.h"
#include "core/memory/heat.h"
#include "core/memory/kvm.h"
#include "core/memory/landing.h"
#include "core/memory/sweep.h"
#include "core/memory/tracker.h"
#include "core/run/hist.h"
#include "core/run/inbox.h"
#include "core/run/link.h"
#include "core/run/outbox.h"
#include "core/run/state.h"
#include "core/run/stopped.h"
#include "core/run/sync.h"
#include "core/run/tombstones.h"
#include "core/sluice.h"
#include "streams/pool.h"
#include "streams/receivers.h"

enum side { SIDE_NONE, SIDE_SOURCE, SIDE_DESTINATION };

struct sluice_listener {
	struct door *door;
	const struct transport *transport;
	char text[URI_TEXT];
	_Atomic bool taken; /* by a session */
	struct tombstones tombstones;
};

/* Calls that may repeat: one letter of each kind at a time. */
enum { TOLD_CANCEL = 1, TOLD_CLOSE = 2, TOLD_RESOLVE = 4, TOLD_CONTINUE = 8 };

/* A sender's place in the rounds; written by that sender alone. */
struct place {
	_Alignas(64) uint32_t round; /* the round it works on */
	uint32_t own_round;          /* last round that `own` is of */
	uint64_t own;                /* pages of a last round that only this sender takes */
};

struct sluice {
	/* Set once, by sluice_create() or before start. */
	struct sluice_ops ops;
	void *opaque;
	enum side side;
	struct uri uri;
	char uri_text[URI_TEXT];
	struct sluice_listener *listener;
	char *cpus;
	uint8_t *cookie;
	size_t cookie_length;
	struct kvm *kvm;      /* NULL: sluice_set_kvm() was not called */
	struct memory memory; /* destination: until SLUICE_INCOMING_GUEST is done */

	/* Atomic. */
	_Atomic uint64_t params[SLUICE_PARAMS];
	_Atomic bool starting, started, ended;
	_Atomic bool collecting; /* regions may be added */
	_Atomic uint32_t told;   /* TOLD_*: were said, and wait in the inbox */
	_Atomic uint32_t asked;  /* bit per enum sluice_request: not done yet; per CALL_*: waits to be made */
	_Atomic bool tracking;   /* dirty bits mean something: marks count */
	_Atomic bool finished;   /* senders leave */
	_Atomic bool cancellable;
	_Atomic uint32_t marks; /* senders that have marked the open round */
	_Atomic uint64_t found,
		sync_ns; /* pages that sync found, or writers marked, and that control was not told of; time that sync took */
	_Atomic uint64_t landed_bytes;
	_Atomic uint32_t landed_round; /* destination: all streams have passed its mark */
	_Atomic uint64_t delivered;    /* embedders' messages given to ours */
	_Atomic uint32_t phase;        /* for the dump */
	_Atomic uint32_t throttle;     /* percent that ops.throttle is to be told */
	_Atomic uint32_t io_depth;     /* requests that ops.io_depth is to be told */
	struct stopped stopped;

	/* Owned by the control thread. */
	union {
		struct source source;
		struct destination destination;
	} decide;
	struct hello *hello; /* source: as sent; destination: as received */
	struct welcome welcome;
	bool lz4;
	bool fetched; /* the open round began with a count, and does not fetch for itself */

	/* Under `look`: what other threads ask about. */
	pthread_mutex_t look;
	struct sluice_error error;
	bool error_final;          /* the first error of the started session is kept */
	struct sluice_stats stats; /* renewed by control after each step */
	char refusal[SLUICE_ERROR_MAX];

	/* Between threads, each with its own rules. */
	struct inbox inbox;
	struct letter letter; /* the one that control reads */
	struct outbox outbox;
	struct link link;
	struct sync sync;
	struct hist lock_held, sync_pieces, steps;

	/* Source. */
	struct bitmap dirty, discarded;
	struct heat heat;
	struct sweep sweep;
	struct bell work;             /* rung when a claim may succeed */
	_Atomic uint64_t last_share;  /* of a last round: pages that each sender has to itself, */
	_Atomic uint64_t last_few;    /* or, where there are fewer pages than senders, how many of these get one page, */
	_Atomic uint64_t last_free;   /* and pages that are anybody's */
	_Atomic uint64_t last_cursor; /* its next bit */
	_Atomic bool last_round;      /* the open round carries state */
	struct state_out state_out;
	_Atomic(struct pool *) pool; /* set by control, freed by sluice_destroy() */
	struct place places[SLUICE_MAX_STREAMS];
	/* Destination. */
	struct landing landing;
	struct state_in state_in;
	struct sluice_offer offers[SLUICE_MAX_REGIONS]; /* dispatch's: what callbacks are given is valid until done */
	struct sluice_section sections[SLUICE_MAX_SECTIONS];
	_Atomic(struct receivers *) receivers; /* set by control before the link thread hands it streams */

	struct waiter control_waiter;
	pthread_t control;
};

/* Parameters. */
static inline uint64_t param(const struct sluice *s, enum sluice_param p)
{
	return atomic_load_explicit(&s->params[p], memory_order_relaxed);
}

/* ACTION_ERROR, ACTION_MENDED. Control. */
void session_error(struct sluice *s, const struct action *error);
void session_mended(struct sluice *s);

/* control.c */
int control_start(struct sluice *s);

/* biglock.c: the embedder's lock around one bounded piece; held time is measured. 0, or -ETIMEDOUT. */
int biglock_take(void *session);
void biglock_drop(void *session);

/* claims.c, landings.c: the core's side of the streams' callback tables. */
extern const struct work_ops session_work;
extern const struct land_ops session_land;

/* stats.c: control thread, after each step. */
void stats_renew(struct sluice *s);
/* Bytes sent and landed so far, whichever side. */
uint64_t stats_moved(struct sluice *s);
void stats_pages(struct sluice *s, uint64_t *ret_pages, uint64_t *ret_nonzero);
