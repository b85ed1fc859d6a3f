/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compress_auto.c: the decision of compress_auto.h, step by step. Called by one sender thread, which gives the time.
 *
 * Off: W is measured all the time for nothing, C and the ratio by a block compressed now and then: often at first,
 * then, as long as the answer is no, ever more seldom. On: C and the ratio are measured for nothing. W is what goes
 * out, as long as the wire is what limits; where lz4 limits, W can only be seen by sending raw for a moment, every 10
 * seconds. */
#include "streams/compress_auto.h"

#include <string.h>

#define MS 1000000ull

static const double WORTH_ON = 1.25;           /* gain at which it is switched on */
static const double WORTH_OFF = 1.10;          /* and below which off again */
static const double BLOCKS_ENOUGH = 256 << 10; /* bytes in samples before the first answer */
static const double BLOCKS_FADE = 512 << 10;   /* off: few samples, so each has to count */
static const double BLOCKS_FADE_ON = 8 << 20;
static const double WIRE_ENOUGH = 8 << 20;  /* more than socket buffers swallow at once */
static const double WIRE_ENOUGH_NS = 200e6; /* or this long, on slow wires */
static const double WIRE_FADE = 64 << 20;
static const double WIRE_FADE_NS = 1e9;
static const uint64_t SAMPLE_GAP_FIRST = 5 * MS;
static const uint64_t SAMPLE_GAP = 50 * MS;
static const uint64_t SAMPLE_GAP_MAX = 1600 * MS;
static const uint64_t SAMPLE_SHARE = 256;
static const uint64_t TRIAL = 50 * MS;       /* on for so long before it can be off again */
static const uint64_t PROVEN = 5000 * MS;    /* on for so long: it was right to try */
static const uint64_t RELUCTANCE = 250 * MS; /* off for so long before it can be on again, doubled at each wrong try */
static const uint64_t RELUCTANCE_MAX = 4000 * MS;
static const uint64_t PROBE_GAP = 10000 * MS;
static const uint64_t PROBE = 100 * MS;

void compress_auto_init(struct compress_auto *a, uint64_t now)
{
	memset(a, 0, sizeof(*a));
	a->sample_at = now;
	a->sample_gap = SAMPLE_GAP_FIRST;
	a->reluctance = RELUCTANCE / 2;
	a->flipped_at = now - a->reluctance;
}

bool compress_auto_on(const struct compress_auto *a)
{
	return a->on && !a->probing;
}

bool compress_auto_wants_sample(const struct compress_auto *a, uint64_t now)
{
	return !a->on && now >= a->sample_at;
}

static void fade(struct compress_sum *sum)
{
	sum->in /= 2;
	sum->out /= 2;
	sum->ns /= 2;
}

/* How many times faster guest memory gets away with lz4 than without. */
static double gain(const struct compress_auto *a)
{
	double speed = a->lz4.in / a->lz4.ns, squeezed = a->raw_rate * a->lz4.in / a->lz4.out;

	return (speed < squeezed ? speed : squeezed) / a->raw_rate;
}

static void switch_on(struct compress_auto *a, uint64_t now)
{
	a->on = true;
	a->flipped_at = now;
	a->probe_at = now + PROBE_GAP;
	/* One block now and then says how fast lz4 is when nobody else uses it: with all senders at it, it may be far
	 * slower. */
	memset(&a->lz4, 0, sizeof(a->lz4));
	memset(&a->wire, 0, sizeof(a->wire));
}

static void switch_off(struct compress_auto *a, uint64_t now)
{
	a->on = a->probing = false;
	a->reluctance = now - a->flipped_at >= PROVEN ? RELUCTANCE : a->reluctance * 2;
	if (a->reluctance > RELUCTANCE_MAX)
		a->reluctance = RELUCTANCE_MAX;
	a->flipped_at = now;
	a->sample_gap = SAMPLE_GAP;
	a->sample_at = now + a->reluctance;
	memset(&a->wire, 0, sizeof(a->wire));
}

static void decide(struct compress_auto *a, uint64_t now)
{
	uint64_t since = now - a->flipped_at;

	if (a->lz4.in < BLOCKS_ENOUGH || !(a->raw_rate > 0) || since < (a->on ? TRIAL : a->reluctance))
		return;
	if (a->on && gain(a) < WORTH_OFF)
		switch_off(a, now);
	else if (!a->on && gain(a) >= WORTH_ON)
		switch_on(a, now);
}

void compress_auto_block(struct compress_auto *a, uint64_t now, uint32_t in, uint32_t out, uint64_t took_ns)
{
	a->lz4.in += in;
	a->lz4.out += out;
	a->lz4.ns += took_ns ? (double)took_ns : 1;
	if (!a->on) {
		uint64_t pause = took_ns * SAMPLE_SHARE;

		/* Far better than those before: other memory, so look again soon. */
		if (out < a->lz4.out / a->lz4.in * 0.75 * in)
			a->sample_gap = SAMPLE_GAP_FIRST;
		else if (a->lz4.in >= BLOCKS_ENOUGH)
			a->sample_gap = a->sample_gap < SAMPLE_GAP ? SAMPLE_GAP : a->sample_gap * 2;
		if (a->sample_gap > SAMPLE_GAP_MAX)
			a->sample_gap = SAMPLE_GAP_MAX;
		a->asked_rate = a->raw_rate;
		a->sample_at = now + (a->sample_gap > pause ? a->sample_gap : pause);
	}
	decide(a, now);
	if (a->lz4.in > (a->on ? BLOCKS_FADE_ON : BLOCKS_FADE))
		fade(&a->lz4);
}

/* Raw batches: W is what went out in the time spent on sending. Where preparing overlapped with sending that is a
 * little more than the truth, which errs towards leaving lz4 off; where preparing was all that took time (zero pages),
 * W is rightly large. */
static void learn_raw(struct compress_auto *a, uint64_t now, double bytes, double wire)
{
	a->wire.out += bytes;
	a->wire.ns += wire;
	if (a->wire.out < WIRE_ENOUGH && a->wire.ns < WIRE_ENOUGH_NS && !(a->probing && a->wire.ns >= (double)PROBE))
		return;
	a->raw_rate = a->wire.out / a->wire.ns;
	/* The wire has become much slower: what was found not to be worth it may be now. */
	if (!a->on && a->raw_rate < a->asked_rate / 2) {
		a->sample_gap = SAMPLE_GAP_FIRST;
		a->sample_at = now;
		a->asked_rate = a->raw_rate;
	}
	if (a->wire.out > WIRE_FADE || a->wire.ns > WIRE_FADE_NS)
		fade(&a->wire);
}

/* Compressed batches: they show what the wire takes if it is the wire that they waited for, else only that it takes at
 * least this. */
static void learn_squeezed(struct compress_auto *a, double bytes, double took, double wire)
{
	a->wire.out += bytes;
	a->wire.ns += took;
	a->wire.in += wire;
	if (a->wire.out < WIRE_ENOUGH && a->wire.ns < WIRE_ENOUGH_NS)
		return;
	double rate = a->wire.out / a->wire.ns;

	if (a->wire.in > a->wire.ns / 4 || rate > a->raw_rate)
		a->raw_rate = rate;
	memset(&a->wire, 0, sizeof(a->wire));
}

void compress_auto_sent(struct compress_auto *a, uint64_t now, bool raw, uint64_t bytes, uint64_t took_ns, uint64_t wire_ns)
{
	double took = took_ns ? (double)took_ns : 1, wire = wire_ns ? (double)wire_ns : 1;

	if (!a->on || a->probing) {
		/* A batch that was made before the answer changed says nothing. */
		if (raw)
			learn_raw(a, now, (double)bytes, wire);
		if (a->probing && now >= a->probe_until) {
			a->probing = false;
			a->probe_at = now + PROBE_GAP;
			memset(&a->wire, 0, sizeof(a->wire));
		}
	} else {
		bool lz4_limits;

		if (!raw)
			learn_squeezed(a, (double)bytes, took, wire);
		lz4_limits = a->wire.in <= a->wire.ns / 4;
		if (now >= a->probe_at && lz4_limits) {
			a->probing = true;
			a->probe_until = now + PROBE;
			memset(&a->wire, 0, sizeof(a->wire));
		}
	}
	decide(a, now);
}
