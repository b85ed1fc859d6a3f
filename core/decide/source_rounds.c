/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source_rounds.c: precopy. ROUND -> (COUNTING -> verdict) -> ROUND ... -> SETTLING, with a rest where next to nothing is dirty. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/decide/source_steps.h"

enum {
	REST_MS = 10,
	DRAIN_REST_MS = 50,    /* between rounds while all that is missing is a drain, and no window may be opened yet; at most */
	REST_PAGES = 1024,     /* a round of so few pages is over in no time: rest first */
	STRUGGLING_ROUNDS = 2, /* in a row, before anything is said or done about it */
	THROTTLE_FIRST = 20,   /* percent, and the steps beyond: as QEMU's cpu-throttle-initial and cpu-throttle-increment */
	THROTTLE_STEP = 10,
	ENOUGH_SURVEYS = 2, /* in a row: senders that did not get to run for 50 ms are no slow wire */
	REST_LOOK_MS = 100, /* rounds of next to nothing are looked at so often */
	LOOK_MS = 1000,     /* a round that lasts longer is looked at in its midst */
};

void source_round_open(struct source *s, const struct input *in, struct actions *out, bool fetched, bool last)
{
	s->round++;
	s->round_opened_ns = in->now_ns;
	s->cut = false;
	s->enough = 0;
	s->round_pages_before = in->pages;
	s->round_sync_ns = fetched ? in->sync_ns : 0;
	s->round_dirty = fetched ? in->remaining : 0;
	converge_open(&s->converge, in->now_ns, in->pages, in->nonzero_pages);
	if (fetched)
		converge_survey(&s->converge, in->now_ns, in->remaining, in->pages, in->discovered);
	struct action *a = actions_add(out, ACTION_ROUND);
	a->round = s->round;
	a->fetched = fetched;
	a->last = last;
	a->put_off = last ? 0 : converge_allowance(&s->converge, s->state_bytes, in->params.downtime_limit_ms);
	s->last_sent = false;
	await(s, last ? SOURCE_LAST_ROUND : SOURCE_ROUND, source_patience(s, in),
	      last ? "the last round to get through" : "pages to get through");
}

void source_round_close(struct source *s, const struct input *in, struct actions *out, bool last)
{
	converge_sent(&s->converge, in->now_ns, in->pages, in->nonzero_pages);
	struct sluice_round *r = &actions_add(out, ACTION_ROUND_EVENT)->round_info;
	*r = (struct sluice_round){
		.n = s->round,
		.final_round = last,
		.ms = (uint64_t)(ms_between(s->round_opened_ns, in->now_ns) + 0.5),
		.pages = in->pages - s->round_pages_before,
		.dirty_pages = s->round_dirty ? s->round_dirty : in->found,
		.sync_ms = (double)(s->round_sync_ns ? s->round_sync_ns : in->sync_ns) * 1e-6,
	};
}

__attribute__((format(printf, 3, 4))) static void warn_once(bool *warned, struct actions *out, const char *format, ...)
{
	va_list args;
	if (*warned)
		return;
	*warned = true;
	va_start(args, format);
	vsnprintf(actions_add(out, ACTION_WARN)->text, SLUICE_ERROR_MAX, format, args);
	va_end(args);
}

void source_warn_heavy(struct source *s, const struct input *in, struct actions *out)
{
	warn_once(&s->warned_heavy, out,
		  "the guest cannot be stopped for as short as %" PRIu64
		  " ms: pausing it and moving its %.1f MB of device state take %.0f ms by themselves; "
		  "allow more downtime or bandwidth",
		  in->params.downtime_limit_ms, (double)s->state_bytes * 1e-6,
		  converge_expected_ms(&s->converge, 0, s->state_bytes));
}

/* Another round is to be sent. Is it any use? */
static void struggle(struct source *s, const struct input *in, struct actions *out, uint64_t remaining)
{
	uint64_t limit_ms = in->params.downtime_limit_ms;
	bool fast = converge_struggles(&s->converge), heavy = converge_never_fits(&s->converge, s->state_bytes, limit_ms);
	s->struggled_ns = in->now_ns;
	s->expected_ms = converge_expected_ms(&s->converge, remaining, s->state_bytes);
	s->struggling = (fast || heavy) && s->expected_ms > (double)limit_ms ? s->struggling + 1 : 0;
	if (s->struggling < STRUGGLING_ROUNDS)
		return;
	if (fast)
		warn_once(&s->warned_fast, out,
			  "the guest does not converge: it dirties %.1f MB/s, %.1f MB/s get through, so another round leaves "
			  "about as much; stopped now it would stand still for %.1f ms, the limit is %" PRIu64
			  " ms; allow more downtime, bandwidth or throttling",
			  s->converge.dirty_pages_per_s * 4096e-6, s->converge.pages_per_s * 4096e-6, s->expected_ms, limit_ms);
	else
		source_warn_heavy(s, in, out);
	if (fast && s->throttle < in->params.throttle_max) {
		uint32_t next = s->throttle ? s->throttle + THROTTLE_STEP : THROTTLE_FIRST;
		source_throttle(s, out, next < in->params.throttle_max ? next : in->params.throttle_max);
		s->struggling = 0; /* see what it does */
	}
}

void source_cut(struct source *s, struct actions *out)
{
	if (s->cut || s->loss.until_ns)
		return;
	s->cut = true;
	actions_add(out, ACTION_ROUND_CUT);
}

void source_surveyed(struct source *s, const struct input *in, struct actions *out)
{
	uint64_t remaining = in->remaining + in->unseen;
	if (s->state != SOURCE_ROUND || in->round != s->round || s->cut || s->loss.until_ns)
		return;
	converge_progress(&s->converge, in->now_ns, in->pages, in->nonzero_pages);
	if (!converge_survey(&s->converge, in->now_ns, in->remaining, in->pages, in->discovered))
		return;
	s->expected_ms = converge_expected_ms(&s->converge, remaining, s->state_bytes);
	bool enough = converge_enough(&s->converge, remaining, in->put_off, s->state_bytes, in->params.downtime_limit_ms);
	s->enough = enough ? s->enough + 1 : 0;
	uint64_t looked_ns = s->struggled_ns > s->round_opened_ns ? s->struggled_ns : s->round_opened_ns;
	if (s->enough >= ENOUGH_SURVEYS) {
		source_cut(s, out);
	} else if (in->now_ns - looked_ns >= LOOK_MS * 1000000u) {
		struggle(s, in, out, remaining);
	}
}

void source_round_sent(struct source *s, const struct input *in, struct actions *out)
{
	source_round_close(s, in, out, false);
	/* Where the round fetched for itself, that was spread over it: in the middle, on average. The first round's finds are all of
	 * memory, not what was written meanwhile. */
	uint64_t middle_ns = s->round_opened_ns + (in->now_ns - s->round_opened_ns) / 2;
	if (s->round == 1 || s->cut)
		s->converge.fetched_ns = middle_ns;
	else if (!s->round_dirty)
		converge_found(&s->converge, middle_ns, in->found);
	s->put_off = in->put_off;
	if (s->cut || converge_near(&s->converge, s->put_off, in->params.downtime_limit_ms)) {
		source_count(s, in, out);
	} else {
		drain_approach(&s->drain, in, out, false, s->active_ns);
		struggle(s, in, out, s->put_off + (uint64_t)(s->converge.dirty_pages_per_s * s->converge.last_round_ms * 1e-3));
		source_round_open(s, in, out, false, false);
	}
}

void source_count(struct source *s, const struct input *in, struct actions *out)
{
	source_sync(s, in, out, SOURCE_COUNTING, "the dirty log");
}

void source_counted(struct source *s, const struct input *in, struct actions *out)
{
	s->counted = in->remaining;
	if (s->cut) /* only part of the time since the last fetch is known; surveys have just measured it */
		s->converge.fetched_ns = in->now_ns;
	else
		converge_found(&s->converge, in->now_ns, in->found);
	s->cut = false; /* should it be counted once more, all of the time since is known */
	if (s->loss.until_ns)
		return; /* about to fail: the guest is not stopped for that */
	s->expected_ms = converge_expected_ms(&s->converge, in->remaining, s->state_bytes);
	drain_approach(&s->drain, in, out, true, s->active_ns);
	bool good = converge_judge(&s->converge, in->remaining, s->put_off, s->state_bytes, in->params.downtime_limit_ms) ==
		    VERDICT_SWITCHOVER;
	if (good && drain_wanted(&s->drain, in, out, s->active_ns, s->round)) {
		if (s->landed >= s->round)
			source_pause(s, in, out);
		else
			await(s, SOURCE_SETTLING, in_ms(in, in->params.callback_ms), "the destination to land what was sent");
	} else if (good && s->drain.state < DRAIN_QUIET) {
		uint64_t opens_ns = drain_opens_ns(&s->drain, in, s->active_ns), least_ns = in_ms(in, 1),
			 most_ns = in_ms(in, DRAIN_REST_MS);
		opens_ns = opens_ns > least_ns ? opens_ns : least_ns;
		await(s, SOURCE_RESTING, opens_ns < most_ns ? opens_ns : most_ns,
		      "a time at which the guest's I/O may be brought to rest");
	} else if (in->remaining < REST_PAGES) {
		if (!good && in->now_ns - s->struggled_ns >= REST_LOOK_MS * 1000000u)
			struggle(s, in, out, in->remaining);
		await(s, SOURCE_RESTING, in_ms(in, REST_MS), "the guest to write more");
	} else {
		if (!good)
			struggle(s, in, out, in->remaining);
		source_round_open(s, in, out, true, false);
	}
}
