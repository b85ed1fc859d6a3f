/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* drain.c: when to open a window, and when to end it. */
#include "core/decide/drain.h"

#include <errno.h>
#include <stdio.h>

enum {
	ASK_MS = 1,     /* in a window: a device at rest is noticed within a downtime that nobody sees */
	SHALLOW_MS = 5, /* before a window: what was in flight then need not come to rest within it */
	SHALLOW_MAX_MS = 500,
	WINDOW_FIRST_MS = 5,
	/* Linux gives a SCSI or NVMe request 30 s by default; some of a window's are older than it. */
	GUEST_TIMEOUT_MS = 30000,
	NEAR_TIMEOUT_MS = 20000,
	REST_FIRST_MS = 100,
	REST_MAX_MS = 1000, /* a device that is stuck is looked after that often: what is over is noticed within two seconds */
};

void drain_init(struct drain *d)
{
	*d = (struct drain){ .window_ms = WINDOW_FIRST_MS, .rest_ms = REST_FIRST_MS };
}

static void depth(struct actions *out, uint32_t requests)
{
	actions_add(out, ACTION_IO_DEPTH)->depth = requests;
}

static void ask(struct drain *d, struct actions *out)
{
	d->asked = true;
	actions_add(out, ACTION_DRAIN_TRY);
}

static bool quiet(const struct drain *d)
{
	return d->state >= DRAIN_QUIET;
}

static uint64_t next_window_ns(const struct drain *d, const struct input *in)
{
	const struct drain_params *p = &in->params.drain;
	return (d->window_ms < p->window_ms ? d->window_ms : p->window_ms) * 1000000u;
}

uint64_t drain_opens_ns(const struct drain *d, const struct input *in, uint64_t since_ns)
{
	uint64_t share_ns = since_ns + (d->quiesced_ns + next_window_ns(d, in)) / in->params.drain.share * 100;
	uint64_t opens_ns = share_ns > d->next_ns ? share_ns : d->next_ns;
	return d->state == DRAIN_SHALLOW && opens_ns < d->shallow_ns ? d->shallow_ns : opens_ns;
}

/* May there be a window now? The answer to the last question of an earlier one is awaited: it would say nothing about this one. */
static bool window_due(const struct drain *d, const struct input *in, uint64_t since_ns)
{
	return !quiet(d) && !d->asked && in->now_ns >= drain_opens_ns(d, in, since_ns);
}

void drain_approach(struct drain *d, const struct input *in, struct actions *out, bool near, uint64_t since_ns)
{
	if (!in->params.drain.given || quiet(d))
		return;
	near = near && (d->state == DRAIN_SHALLOW || window_due(d, in, since_ns));
	if (near == (d->state == DRAIN_SHALLOW))
		return;
	if (!near) {
		drain_release(d, in, out, false);
		return;
	}
	d->state = DRAIN_SHALLOW;
	d->shallow_ns = in_ms(in, SHALLOW_MS);
	d->until_ns = in_ms(in, SHALLOW_MAX_MS);
	depth(out, in->params.drain.depth);
}

bool drain_at_rest(const struct drain *d, const struct input *in)
{
	return !in->params.drain.given || d->state == DRAIN_DRAINED;
}

void drain_begin(const struct input *in, struct actions *out)
{
	if (in->params.drain.given && in->params.drain.window_ms >= NEAR_TIMEOUT_MS)
		snprintf(actions_add(out, ACTION_WARN)->text, SLUICE_ERROR_MAX,
			 "drain windows of up to %.1f s are near the %d s after which guests commonly take a disk for dead: "
			 "shorten them, "
			 "or allow the guest's requests longer",
			 (double)in->params.drain.window_ms * 1e-3, GUEST_TIMEOUT_MS / 1000);
}

static void note_good(struct drain *d, const struct input *in, uint32_t round)
{
	if (!d->good_ns) {
		d->good_ns = in->now_ns;
		d->good_round = round;
	}
	d->delay_ns = in->now_ns - d->good_ns;
	d->delay_rounds = round - d->good_round;
}

bool drain_wanted(struct drain *d, const struct input *in, struct actions *out, uint64_t since_ns, uint32_t round)
{
	note_good(d, in, round);
	if (drain_at_rest(d, in))
		return true;
	if (!window_due(d, in, since_ns))
		return false;
	d->tries++;
	d->first_ns = d->first_ns ? d->first_ns : in->now_ns;
	d->state = DRAIN_QUIET;
	d->bound = true;
	d->quiet_ns = in->now_ns;
	d->until_ns = in->now_ns + next_window_ns(d, in);
	depth(out, 0);
	ask(d, out);
	return false;
}

void drain_bind(struct drain *d, const struct input *in)
{
	if (!quiet(d) || !d->bound)
		return;
	d->bound = false; /* from here on it is downtime */
	d->quiesced_ns += in->now_ns - d->quiet_ns;
}

void drain_check(struct drain *d, struct actions *out)
{
	ask(d, out);
}

/* The guest is left alone for a while. */
static void rest(struct drain *d, const struct input *in)
{
	d->next_ns = in_ms(in, d->rest_ms);
	d->rest_ms = 2 * d->rest_ms < REST_MAX_MS ? 2 * d->rest_ms : REST_MAX_MS;
}

void drain_release(struct drain *d, const struct input *in, struct actions *out, bool in_vain)
{
	if (d->state == DRAIN_FLOWING)
		return;
	drain_bind(d, in);
	d->state = DRAIN_FLOWING;
	if (in_vain) {
		d->busy++;
		rest(d, in);
	}
	depth(out, SLUICE_IO_DEPTH_USUAL);
}

static void complain(struct drain *d, struct actions *out, const char *text, int code)
{
	if (d->warned)
		return;
	d->warned = true;
	snprintf(actions_add(out, ACTION_WARN)->text, SLUICE_ERROR_MAX, text, code);
}

bool drain_answered(struct drain *d, const struct input *in, struct actions *out)
{
	d->asked = false;
	if (d->state != DRAIN_QUIET)
		return false; /* the window is over */
	if (!in->code) {
		d->state = DRAIN_DRAINED;
		return true;
	}
	d->next_ns = in_ms(in, ASK_MS);
	if (in->code == -EAGAIN)
		return false;
	if (in->code != -EBUSY)
		complain(d, out, "the drain_try callback returned %d, which is none of 0, -EAGAIN and -EBUSY: taken for -EBUSY",
			 in->code);
	drain_release(d, in, out, true); /* waiting would not help */
	return false;
}

void drain_failed(struct drain *d, const struct input *in, struct actions *out)
{
	complain(d, out, "the io_depth callback failed (%d): the guest's I/O cannot be brought to rest, or not be let go on",
		 in->code);
	if (d->state == DRAIN_QUIET)
		drain_release(d, in, out, true);
}

void drain_tick(struct drain *d, const struct input *in, struct actions *out)
{
	if (drain_next_ns(d) > in->now_ns)
		return;
	if (in->now_ns >= d->until_ns && quiet(d)) {
		if (d->window_ms < in->params.drain.window_ms) /* perhaps it takes longer */
			d->window_ms *= 2;
		drain_release(d, in, out, true);
	} else if (in->now_ns >= d->until_ns) { /* short queues, and no good moment came */
		drain_release(d, in, out, false);
		rest(d, in);
	} else if (d->state == DRAIN_QUIET && !d->asked && in->now_ns >= d->next_ns) {
		ask(d, out);
	}
}

uint64_t drain_next_ns(const struct drain *d)
{
	if (d->state == DRAIN_FLOWING || (quiet(d) && !d->bound))
		return NEVER_NS;
	return d->state == DRAIN_QUIET && !d->asked && d->next_ns < d->until_ns ? d->next_ns : d->until_ns;
}

bool drain_spent(const struct drain *d, const struct input *in)
{
	const struct drain_params *p = &in->params.drain;
	return d->busy &&
	       ((p->tries && d->busy >= p->tries) || (p->limit_ms && in->now_ns >= d->first_ns + p->limit_ms * 1000000u));
}
