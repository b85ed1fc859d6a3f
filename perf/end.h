/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What source and destination share: a session, the event loop it is dispatched in, what it said. */
#ifndef PERF_END_H
#define PERF_END_H

#include <pthread.h>
#include <stdbool.h>

#include <sluice.h>

#include "perf/iothread.h"
#include "perf/loop.h"
#include "perf/options.h"
#include "perf/report.h"
#include "perf/result.h"
#include "perf/worker.h"

#define END_RUN_ON_NS (200 * OS_MS) /* the guest runs so long before it is verified */
#define END_MESSAGES 4u             /* kept unread; what comes beyond is dropped, as a report repeats what came before */
#define END_MESSAGE 2048u           /* bytes; ours are shorter */
#define END_WARNINGS 8u             /* likewise; the library says each once */
#define END_LINGER_NS (10 * OS_S)   /* for what the library should end at once */

struct end {
	/* set once */
	struct sluice *session;
	struct loop *loop;
	uint64_t in_doubt_ns, dead_peer_ns;
	void (*advise)(
		struct end *end); /* say what to look at and where, in doubt, and which signal is the word then. Main thread */
	struct worker worker;
	struct iothread io;

	/* the iothread's: the event that it notes once the big lock is dropped */
	struct end_noted {
		struct sluice_event event;
		size_t length;
		char data[END_MESSAGE]; /* of a message or a warning */
	} noted;

	pthread_mutex_t lock;
	/* under lock: written by the iothread, read by the main thread */
	enum sluice_phase phase;
	uint64_t held_since_ns; /* in phase pre-switchover; 0: it is not */
	unsigned doubts_ended;  /* by themselves */
	bool ended;
	double cpu_over_s; /* os_cpu_seconds() when it was over */
	struct end_message {
		uint64_t at_ns;
		size_t length;
		char data[END_MESSAGE];
	} message[END_MESSAGES]; /* not read yet */
	unsigned messages;
	char warning[END_WARNINGS][SLUICE_ERROR_MAX];
	unsigned warnings, warned; /* warned: said by the main thread */
	struct sluice_round round[RESULT_ROUNDS];
	unsigned rounds;

	/* main thread */
	uint64_t doubt_until_ns;   /* 0: not in doubt */
	unsigned stops, claims;    /* of the loop, seen while in doubt or closing; and at any time */
	bool claimed;              /* an operator said that the guest runs here, */
	unsigned claimed_after;    /* in the doubt that came after so many */
	bool abandoned;            /* in doubt for too long: the guest was let go, wherever it runs */
	struct sluice_error doubt; /* when it was abandoned */
};

/* Make a session with the command line's parameters, its worker and its iothread. `ops` lacks lock and unlock:
 * they are filled in; `opaque` must begin with the struct end. On error `error` says what to do, and nothing is
 * left to close. */
int end_open(struct end *end, const struct sluice_ops *ops, void *opaque, const struct options *options, struct loop *loop,
	     char error[RESULT_TEXT]);

/* What to do where the system lacks something, to be put behind strerror(); "" where that says it. */
const char *end_advice(int error);

/* Whether the library takes the command line's parameters, before memory is made and filled. EXIT_COMPLETED, or
 * EXIT_USAGE with one line said. */
enum exit_status end_check_options(const struct options *options);

/* Wait for the session's end if it was `started`, and free all; a stop shortens what it stays for a peer in doubt. false: the library
 * did not end it in END_LINGER_NS after that; it was left as it is, and its waits were written to stderr. */
bool end_close(struct end *end, bool started);

/* sluice_ops.event: note it and wake the main thread. Thread: iothread. */
void end_note(struct end *end, const struct sluice_event *event);

enum sluice_phase end_phase(struct end *end);
/* The phase's name; in-doubt where that was given up. */
const char *end_name(struct end *end);
bool end_ended(struct end *end);
/* Since when the guest is held, stopped, in phase pre-switchover; 0: it is not. */
uint64_t end_held_since(struct end *end);

/* Take the oldest message. 0, -EAGAIN: there is none, -EBADMSG: it is not one of migperf's. */
int end_take_report(struct end *end, struct report *ret, uint64_t *ret_at_ns);

/* Wait once for anything new, until until_ns at most; says warnings and answers SIGUSR1. Main thread. */
void end_wait(struct end *end, uint64_t until_ns);

/* Whether the session has nothing left to decide: it is completed, failed, cancelled or ended; or it was in doubt for as long as it may,
 * or until a stop, and is given up. A SIGUSR2 is an operator's word that the guest runs here: heeded in doubt, and only then.
 * To be asked whenever something happened. Main thread. */
bool end_decided(struct end *end);

/* What to check where, for `error`: `format` with `other`, the other side's name, and why there is doubt. The library's own words are for an
 * embedder, whose operator can still resolve; here the guest goes with its process. */
void end_explain_doubt(struct end *end, char error[RESULT_TEXT], const char *format, const char *other)
	__attribute__((format(printf, 3, 0)));

/* "text (what it struck)" of the session's first error, for `error`; how it ends for migperf's user. */
enum exit_status end_outcome(struct end *end, const char **ret_status, char error[RESULT_TEXT]);

#endif
