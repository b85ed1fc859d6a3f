/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* embedder.h: what embeds a session on either side: a loop that dispatches, and answers that take their time or fail. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/sluice.h"
#include "tests/sim/coverage.h"
#include "tests/sim/sim.h"

struct answer {
	bool due, hangs;
	uint64_t since;
	struct spot asked_at;
	uint64_t at;
	uint64_t patience_ms; /* it is waited for so long at least */
	int code;
};

struct embedder {
	enum sim_side side;
	struct sluice *session;
	struct sluice_listener *listener;
	bool up; /* its fiber runs */
	bool crashed, host_gone;
	bool crashed_ever;  /* though it was started again */
	uint32_t did;       /* bit per request that this session's embedder has done, and well */
	uint32_t migration; /* that this session is of (promises.h); destination: 0 until a source has offered its guest */
	uint32_t knows;     /* destination: bit per migration that this process has met, in this session or an earlier one */
	uint32_t ran;       /* destination: the migration whose guest runs there */
	bool ended, doubt;
	uint64_t doubt_at;
	enum sluice_phase phase;
	struct answer answers[SLUICE_RESUME + 1];
	bool resume_failed;
	bool closed;        /* its session, though that had not completed */
	bool closed_before; /* or one before it */
	bool may_drop;      /* a guest that it was given: a callback failed */
	uint64_t close_at, cancel_at, continue_at;
	int resolve;   /* operator: -1 nothing, 0 discard, 1 run */
	bool resolved; /* was told so, and it took effect */
	bool let_go;   /* and it was to discard */
	uint32_t pauses;
	char because[80]; /* what it says of its last failure; "": nothing */
};

/* How embedders are in this seed. */
struct embedder_habits {
	uint64_t param[SLUICE_PARAMS];
	uint64_t dead_peer_ms[2], callback_ms[2]; /* each side's own; `param` has the longer ones */
	uint64_t slow_ns, quick_ns;               /* callbacks take up to so long; and those that take time at least so long */
	bool alone;                               /* no operator comes as long as the two sides can end a doubt by themselves */
	uint64_t patience_ns;                     /* an operator watches a doubt for so long */
	uint32_t fails, hangs;                    /* one callback in so many; 0: none */
	uint32_t log_fails;                       /* one call of the dirty log's */
	uint64_t log_slow_ns;                     /* it takes so long when all is counted */
	bool lock;
	bool hard;            /* its guest writes more than a slow wire carries */
	bool turns_knobs;     /* changes parameters while it migrates */
	bool never_continues; /* once held before the switchover */
	bool loads_long;      /* half as long as it may: no wire, and no tracker, has so much time while the guest stands still */
	bool holds_long;      /* longer than the wire may take while the guest stands still */
	bool used;            /* the destination's memory is */
	uint32_t sections, section_bytes;
};

extern const char *const embedder_names[];
/* What the two have to say to each other about the guest. */
enum { EMBEDDER_COOKIE = 14 };
extern const char embedder_cookie[EMBEDDER_COOKIE];
extern struct embedder embedders[2];
extern struct embedder_habits embedder_habits;

/* Start one session's worth. */
void embedder_start(enum sim_side side);
/* Its session is cancelled at once. */
void embedder_cancel(enum sim_side side);
/* The process is gone; host: and nobody is told. */
void embedder_crash(enum sim_side side, bool host);
/* The big lock of a side is somebody else's until then. */
void embedder_hold_lock(enum sim_side side, uint64_t until);
/* A writer that pause has missed may write now. */
void embedder_late_write(void);
