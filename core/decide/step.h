/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* step.h: the vocabulary of the deciding code: what can happen (inputs) and what is to be done (actions).
 *
 * source_step() and destination_step() take one input and append actions. They do no I/O, read no clock, take no lock and
 * start no thread: the control thread carries their actions out, in order, and so does a simulator. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/decide/message.h"
#include "core/sluice.h"

/* Calls of the embedder that are answered by what they return; beside enum sluice_request. */
enum {
	CALL_THROTTLE = SLUICE_RESUME + 1,
	CALL_IO_DEPTH,
	CALL_DRAIN_TRY,
};

enum input_type {
	INPUT_START,
	INPUT_MESSAGE,      /* message; code, text: what an offer, an answer or a section table does not pass checks for */
	INPUT_LINK_UP,      /* source: greeted; link */
	INPUT_LINK_BACK,    /* destination: the source has come back on a later link; link */
	INPUT_LINK_LOST,    /* code, text; link */
	INPUT_STREAM_UP,    /* destination: value streams have greeted so far */
	INPUT_STREAM_LOST,  /* stream, code, text */
	INPUT_ARMED,        /* code: the tracker is started */
	INPUT_ROUND_SENT,   /* round: every sender has marked it */
	INPUT_SYNCED,       /* remaining: dirty pages now; code */
	INPUT_SURVEYED,     /* in the midst of `round`: remaining, discovered, unseen */
	INPUT_LANDED,       /* destination: round has passed the gate */
	INPUT_STATE_LANDED, /* destination: every section of `round`'s state is complete in length */
	INPUT_DONE,         /* request, code */
	INPUT_CANCEL,
	INPUT_CLOSE,
	INPUT_CONTINUE,
	INPUT_RESOLVE,  /* value: 1 run, 0 discard */
	INPUT_DRAINED,  /* code: what drain_try returned */
	INPUT_IO_DEPTH, /* code: io_depth failed */
	INPUT_TICK,     /* only the time */
};

/* Parameters as they are at this input: they may change while migrating. */
struct drain_params {
	uint64_t window_ms, limit_ms;
	uint32_t depth, share, tries; /* requests, percent, number */
	bool given;                   /* the embedder has callbacks for it */
	bool fails;                   /* when it was tried in vain for too long */
};

struct params {
	uint64_t downtime_limit_ms, timeout_ms, callback_ms, connect_ms, remember_ms;
	uint64_t switchover_bytes_per_s; /* 0: as measured */
	uint32_t throttle_max;           /* percent */
	struct drain_params drain;
	bool hold;
};

struct input {
	enum input_type type;
	uint64_t now_ns;
	struct params params;
	int code;
	const char *text;
	int stream;
	uint32_t
		link; /* what happened to it, or came by it; 0: not of a link. Source: the order it was dialled by; destination: epoch */
	uint32_t round;
	uint32_t value;
	enum sluice_request request;
	/* INPUT_ROUND_SENT, INPUT_SYNCED: as far as counted */
	uint64_t pages, nonzero_pages; /* sent in this session */
	uint64_t moved_bytes;          /* sent and landed so far, all inputs: changes while anything moves */
	uint64_t remaining;            /* dirty pages now: INPUT_SYNCED, INPUT_SURVEYED; in the last round INPUT_ROUND_SENT too */
	uint64_t discovered;           /* INPUT_SYNCED, INPUT_SURVEYED: pages that first fetches have reported, of the session */
	uint64_t unseen;               /* pages that no fetch has looked at yet */
	uint64_t put_off;              /* of the dirty ones, those that the round has put off: heat.h */
	uint64_t round_trip_ns;        /* of the link, all inputs; 0: not known */
	uint64_t found;                /* pages that syncs found newly dirty since the round opened */
	uint64_t sync_ns;              /* what they took */
	uint64_t state_bytes;          /* INPUT_DONE of save: what is to travel */
	const struct message *message;
};

enum action_type {
	ACTION_PHASE,         /* phase: tell the embedder */
	ACTION_ERROR,         /* code, stream, phase, theirs, cause, text: keep the first */
	ACTION_MENDED,        /* the error was a doubt, and that has ended: forget it */
	ACTION_DIAL,          /* source: let go of the link, and connect `link` */
	ACTION_ADMIT,         /* destination: `link` may be used: begin with ANSWER */
	ACTION_LINK_DROP,     /* let go of `link` now; the session goes on */
	ACTION_DOOR_CLOSE,    /* destination: the next source waits there for the next session */
	ACTION_SEND,          /* message_type, code, text; the attempt, and all of HELLO, WELCOME, SWITCHOVER, are filled in */
	ACTION_ADOPT,         /* source: take what WELCOME agreed on */
	ACTION_STREAMS_START, /* source: the pool; destination: take greeted streams */
	ACTION_STREAMS_STOP,
	ACTION_ARM,         /* source: start the tracker */
	ACTION_ROUND,       /* open `round`; fetched: nothing is to be synced in it; last: with state, no bandwidth limit */
	ACTION_ROUND_CUT,   /* end the open round where it is */
	ACTION_SYNC,        /* fetch everything */
	ACTION_ROUND_EVENT, /* round_info: tell the embedder */
	ACTION_WARN,        /* text */
	ACTION_THROTTLE,    /* percent */
	ACTION_IO_DEPTH,    /* depth: tell the embedder */
	ACTION_DRAIN_TRY,   /* ask the embedder: INPUT_DRAINED follows */
	ACTION_REQUEST,     /* request: ask the embedder */
	ACTION_UNTRACK,     /* source: stop the tracker, forget borrowed state */
	ACTION_LINK_CLOSE,  /* after what is queued was written */
	ACTION_END,
};

struct action {
	enum action_type type;
	enum sluice_phase phase;
	enum message_type message_type;
	enum sluice_request request;
	int code, stream;
	uint32_t link, round, percent, depth;
	bool fetched, last;
	uint64_t put_off; /* pages that the round may put off, as they are written all the time */
	bool theirs;      /* the other side said so */
	struct sluice_round round_info;
	char cause[SLUICE_CAUSE_MAX];
	char text[SLUICE_ERROR_MAX];
};

enum { ACTIONS_MAX = 16 };
struct actions {
	uint32_t n;
	struct action list[ACTIONS_MAX];
};

/* Is it a word of the other side about itself, with its own code and text (REFUSE, NEVER, CANCEL)? */
bool input_is_word(const struct input *input);

/* Why a link was lost, in a few words that fit into a longer sentence; the input's text is a sentence of its own. */
const char *link_loss_cause(const struct input *input);

/* Append an action of that type, all else zero; the caller fills in. Asserts that there is room: a step appends few. */
struct action *actions_add(struct actions *actions, enum action_type type);
void actions_phase(struct actions *actions, enum sluice_phase phase);
void actions_send(struct actions *actions, enum message_type type);
void actions_send_word(struct actions *actions, enum message_type type, int code, const char *text);
void actions_request(struct actions *actions, enum sluice_request request);
/* The caller adds the text, and what else is known. */
struct action *actions_error(struct actions *actions, int code, enum sluice_phase phase);

/* A stream that broke: often because the other side gave up, and the link is about to say why. So that word is waited for. */
struct stream_loss {
	uint64_t until_ns; /* 0: none */
	int code, stream;
	char text[SLUICE_ERROR_MAX];
};

enum { STREAM_LOSS_MS = 300 };

/* Keep the first. */
void stream_loss_note(struct stream_loss *loss, const struct input *input);

/* What a wait of the deciding code is for, and until when. */
struct deadline {
	uint64_t at_ns; /* or NEVER_NS */
	const char *what;
};

#define NEVER_NS UINT64_MAX

enum { SLACK_MS = 5000 }; /* beyond the other side's own deadline before its silence is an error */

static inline uint64_t in_ms(const struct input *input, uint64_t ms)
{
	return input->now_ns + ms * 1000000u;
}
