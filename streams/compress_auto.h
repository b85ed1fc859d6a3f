/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compress_auto.h: is lz4 worth it now? Pure: what happened goes in, with its times; an answer comes out. One a sender.
 *
 * It is worth it where the same guest memory gets away faster. With the next batch prepared while one is on the wire, a
 * sender moves min(C, W / ratio) with lz4 and W without, where C is what lz4 takes in, `ratio` what is left of it, and
 * W what the wire (or the bandwidth limit) takes from this sender. All are measured by the wall clock, so cores that
 * are busy otherwise count. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Sums of what was seen, the older ones fading. */
struct compress_sum {
	double in, out, ns;
};

struct compress_auto {
	bool on;
	bool probing;             /* on, but sending raw for a moment to see what the wire takes */
	struct compress_sum lz4;  /* blocks: bytes in and out, time taken */
	struct compress_sum wire; /* batches sent raw: bytes, time */
	double raw_rate;          /* W, bytes per ns; 0: not known yet */
	double asked_rate;        /* W at the last sample */
	uint64_t sample_at;       /* not before */
	uint64_t sample_gap;
	uint64_t flipped_at;
	uint64_t reluctance; /* to be switched on again */
	uint64_t probe_at;
	uint64_t probe_until;
};

void compress_auto_init(struct compress_auto *a, uint64_t now);
/* Shall the next batch be compressed? */
bool compress_auto_on(const struct compress_auto *a);
/* Shall one block of the next batch be compressed, to learn from? Never more than 1/256 of the time goes into that. */
bool compress_auto_wants_sample(const struct compress_auto *a, uint64_t now);
/* A block was compressed (out = in: it did not shrink), as a sample or because it is on. */
void compress_auto_block(struct compress_auto *a, uint64_t now, uint32_t in, uint32_t out, uint64_t took_ns);
/* A batch was sent: `bytes` on the wire. `took_ns` since the one before it, waits for work left out; `wire_ns` of them
 * were spent handing it over and waiting for the wire or the limit. `raw`: it was sent uncompressed. */
void compress_auto_sent(struct compress_auto *a, uint64_t now, bool raw, uint64_t bytes, uint64_t took_ns, uint64_t wire_ns);
