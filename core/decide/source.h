/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source.h: the phase machine of the side that has the guest. Pure; stepped by the control thread or a simulator. */
#pragma once

#include "core/decide/converge.h"
#include "core/decide/drain.h"
#include "core/decide/step.h"

/* What is awaited: finer than the phases the embedder sees. */
enum source_state {
	SOURCE_NEW,
	SOURCE_DIALLING,
	SOURCE_OFFERED,   /* HELLO sent */
	SOURCE_GATHERING, /* streams connect */
	SOURCE_ARMING,
	SOURCE_ROUND,    /* senders at work */
	SOURCE_COUNTING, /* a full sync, to judge */
	SOURCE_RESTING,  /* so little is dirty that the next round waits a moment */
	SOURCE_SETTLING, /* until the destination has landed all: the wire is empty when the guest is stopped */
	SOURCE_PAUSING,
	SOURCE_HOLDING,  /* until sluice_continue() */
	SOURCE_CHECKING, /* drain_try, once more: is the stopped guest's I/O at rest? */
	SOURCE_SAVING,
	SOURCE_FINAL_SYNC,
	SOURCE_TURNING_BACK, /* downtime guard, or I/O in flight: resuming, then active again */
	SOURCE_LAST_ROUND,   /* and then its closing sync */
	SOURCE_WAIT_READY,
	SOURCE_RELEASING,
	SOURCE_WAIT_RUNNING, /* GO was handed to the transport: never runs the guest by itself from here on */
	SOURCE_LINGERING,    /* completed; the link is there for messages */
	/* From here on: leaving (source_leave.c). */
	SOURCE_GIVING_UP,  /* resuming, then failed or cancelled */
	SOURCE_RECLAIMING, /* the operator said run: resuming */
	SOURCE_TELLING,    /* the guest runs here: the destination, which may be ready, is to say that it never will run it */
	/* No link: in doubt (GO was handed over), or having to tell. */
	SOURCE_APART, /* until the next try */
	SOURCE_REDIALLING,
	SOURCE_ASKING, /* a new link is up: its ANSWER */
	SOURCE_ENDED,
};

struct source {
	enum source_state state;
	enum sluice_phase phase;
	struct deadline deadline;
	struct converge converge;
	struct drain drain;
	uint64_t started_ns, active_ns, ended_ns;
	uint32_t round;  /* open or last one */
	uint32_t landed; /* that passed the destination's gate */
	uint64_t round_opened_ns, round_pages_before, round_sync_ns, round_dirty;
	uint64_t counted;                  /* dirty pages, by the last count of a running guest */
	uint64_t put_off;                  /* by the last round but for the last */
	uint64_t struggled_ns;             /* when it was last looked at whether it converges */
	uint32_t enough;                   /* surveys in a row after which the open round buys nothing more */
	bool cut;                          /* the open round is being ended early */
	uint64_t moved_bytes, progress_ns; /* the wire last carried something then */
	uint64_t due_pages;      /* sent in this session, once all is that was known to be dirty at the last count or survey */
	bool last_sent;          /* the last round: its closing sync is awaited */
	uint32_t closing_rounds; /* further last rounds that closing syncs asked for */
	uint32_t device_tries;
	uint32_t struggling;              /* rounds in a row that did not get nearer */
	uint32_t throttle, throttle_most; /* percent: now, and at most so far */
	bool warned_fast, warned_heavy;   /* that it does not converge: by what it dirties, or because stopping takes too long */
	uint64_t state_bytes;
	/* The switchover, as measured. */
	uint64_t pause_ns, paused_ns, continued_ns, saved_ns, synced_ns, sent_ns, ready_ns, running_ns;
	double expected_ms; /* the downtime; from the moment at which the guest was last stopped it stays */
	struct stream_loss loss;
	/* A link that was lost. */
	uint32_t dials;     /* the link's number */
	uint32_t redial_ms; /* rest before the next try */
	uint64_t
		tell_until_ns; /* the guest runs here, whatever the destination says: then there is no more telling it. 0: in doubt */
	bool may_be_ready;     /* SWITCHOVER was sent, and the destination has not said that it is over there */
	bool asked_anew;       /* a later link: READY on it says that no GO has come or will */
	/* Set when giving up: what it ends in. */
	enum sluice_phase ends_in;
	char why[SLUICE_ERROR_MAX];
	enum sluice_request pending; /* asked of the embedder and not answered; 0: none */
	bool guest_stopped;          /* a pause was asked for and not undone */
	bool link_up, streams_up;
	int error_code;
	uint32_t error_phase;
};

void source_init(struct source *source);
/* When a step without other input is due at the latest; NEVER_NS: none. */
uint64_t source_wake_ns(const struct source *source);
/* One input, at most ACTIONS_MAX actions. */
void source_step(struct source *source, const struct input *input, struct actions *actions);
/* Is it for an operator to say who owns the guest, until the destination can be asked? */
bool source_in_doubt(const struct source *source);
/* Can the session still be cancelled (nothing was promised to the destination)? */
bool source_cancellable(const struct source *source);
