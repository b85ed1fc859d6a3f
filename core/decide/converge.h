/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* converge.h: how fast it goes, how much is left, and whether the guest is to be stopped now. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct converge {
	/* Estimates; 0: not known yet. */
	double pages_per_s; /* sent, zero pages left out: what a stopped guest would have to wait for */
	double dirty_pages_per_s;
	double overhead_ms; /* of a switchover beside moving pages: pausing, saving, handing off */
	/* The round under way. */
	uint64_t opened_ns, fetched_ns, pages_before, nonzero_before;
	double last_round_ms;
	uint32_t tries;        /* guests stopped in vain by the downtime guard */
	uint32_t extra_rounds; /* run although the limit was met */
};

/* From the last page to the guest's running, where nothing better is known. */
#define CONVERGE_TAIL_MS 2.0

enum verdict {
	VERDICT_ROUND,      /* another round */
	VERDICT_SWITCHOVER, /* stop the guest */
};

void converge_init(struct converge *c);
/* A round opens. `fetched`: its dirty bits were fetched just now. */
void converge_open(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages);
/* All of it was sent. Counts are of the session. */
void converge_sent(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages);
/* Syncs of the time since the last converge_found() found so many pages. */
void converge_found(struct converge *c, uint64_t now_ns, uint64_t found);
/* May the answer of a full sync make a difference now, or is by all estimates far too much dirty? */
bool converge_near(const struct converge *c, uint64_t limit_ms);
/* `remaining` pages are dirty, exactly; so much device state was there at the last try, 0: not known yet. */
enum verdict converge_judge(struct converge *c, uint64_t remaining, uint64_t state_bytes, uint64_t limit_ms);
/* Would another round leave about as much as there is now? */
bool converge_struggles(const struct converge *c);
/* How long so many pages and so much state take on the wire, ms. */
double converge_pages_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes);
/* How long the guest would stand still for so many pages and so much state, ms. */
double converge_expected_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes);
