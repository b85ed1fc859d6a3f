/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source_steps.h: what the files of the source's step function share. For them alone.
 *
 *   source.c         the way to the other side: set-up, switchover, handoff
 *   source_rounds.c  precopy: rounds, and when to stop the guest
 *   source_leave.c   every other way out: giving up, letting the destination know, doubt and the later links that end it */
#pragma once

#include "core/decide/source.h"

static inline void await(struct source *s, enum source_state state, uint64_t until_ns, const char *what)
{
	s->state = state;
	s->deadline = (struct deadline){ until_ns, what };
}

static inline void enter(struct source *s, struct actions *out, enum sluice_phase phase)
{
	s->phase = phase;
	actions_phase(out, phase);
}

static inline void ask(struct source *s, const struct input *in, struct actions *out, enum source_state state,
		       enum sluice_request request, const char *what)
{
	s->pending = request;
	actions_request(out, request);
	await(s, state, in_ms(in, in->params.callback_ms), what);
}

static inline double ms_between(uint64_t from, uint64_t to)
{
	return to > from ? (double)(to - from) * 1e-6 : 0;
}

/* source.c */
/* Until when the wire and the tracker may take. Where the guest stands still, and can still be resumed, no longer than its limit bears. */
uint64_t source_patience(const struct source *s, const struct input *in);
void source_throttle(struct source *s, struct actions *out, uint32_t percent);
void source_sync(struct source *s, const struct input *in, struct actions *out, enum source_state state, const char *what);
void source_pause(struct source *s, const struct input *in, struct actions *out);
/* GO was handed over, or may have been: only the destination's word ends this. */
void source_await_running(struct source *s, const struct input *in, const char *what);

/* source_rounds.c */
/* fetched: what is dirty is known already; last: the guest stands still. */
void source_round_open(struct source *s, const struct input *in, struct actions *out, bool fetched, bool last);
void source_round_close(struct source *s, const struct input *in, struct actions *out, bool last);
/* Where it stands, in its midst. */
void source_surveyed(struct source *s, const struct input *in, struct actions *out);
/* End it where it is: the moment to stop the guest has come. */
void source_cut(struct source *s, struct actions *out);
/* Tell, once, that the limit is too short whatever rounds achieve. */
void source_warn_heavy(struct source *s, const struct input *in, struct actions *out);
/* Every sender has marked its end: what next? */
void source_round_sent(struct source *s, const struct input *in, struct actions *out);
/* A full sync, and then source_counted(). */
void source_count(struct source *s, const struct input *in, struct actions *out);
/* SOURCE_COUNTING: what is dirty now is known. Is the moment good? */
void source_counted(struct source *s, const struct input *in, struct actions *out);

/* source_leave.c */
/* The session is over: tell, and let go of everything. */
void source_end(struct source *s, const struct input *in, struct actions *out, enum sluice_phase phase);
/* Leave, with the guest running here. `phase`: FAILED or CANCELLED. */
void source_give_up(struct source *s, const struct input *in, struct actions *out, enum sluice_phase phase, int code, int stream,
		    const char *text);
void source_fail(struct source *s, const struct input *in, struct actions *out, int code, int stream, const char *text);
/* GO was handed over, and the link is gone, or makes no sense. `cause`: in a few words. */
void source_doubt(struct source *s, const struct input *in, struct actions *out, const char *cause);
/* One input in a state from SOURCE_GIVING_UP on. */
void source_leave_step(struct source *s, const struct input *in, struct actions *out);
