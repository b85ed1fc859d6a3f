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
	double told_per_s;  /* pages that the last round will send, by somebody's word; 0: as measured */
	/* The round under way. */
	uint64_t opened_ns, fetched_ns;
	double last_round_ms;
	bool again;                                        /* sending was measured in another round than the first */
	bool stuck;                                        /* once, a round left about as much as it sent */
	uint64_t sampled_ns, pages_before, nonzero_before; /* sending was measured until then */
	uint64_t pages_opened, round_pages;                /* at its beginning, and what it sent */
	/* The survey before, or the full count that opened the round; surveyed_ns 0: none yet. */
	uint64_t surveyed_ns, surveyed, pages_surveyed, discovered;
	uint32_t tries;        /* stops that the downtime guard held to be too long */
	uint32_t extra_rounds; /* run although the limit was met */
};

enum verdict {
	VERDICT_ROUND,      /* another round */
	VERDICT_SWITCHOVER, /* stop the guest */
};

void converge_init(struct converge *c);
/* A round opens. Counts are of the session. */
void converge_open(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages);
/* So much was sent by now, in the midst of a round; as often as one likes. */
void converge_progress(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages);
/* All of it was sent. */
void converge_sent(struct converge *c, uint64_t now_ns, uint64_t pages, uint64_t nonzero_pages);
/* Syncs of the time since the last converge_found() found so many pages. */
void converge_found(struct converge *c, uint64_t now_ns, uint64_t found);
/* About how many pages were written since. */
uint64_t converge_written(const struct converge *c, uint64_t now_ns);
/* A survey in the midst of a round, or the full count that it begins with: so many pages are known to be dirty, of those ever looked at,
 * and so many of these were looked at for the first time (`discovered`, of the session). Returns whether the dirty rate was measured: not
 * by a round's first. */
bool converge_survey(struct converge *c, uint64_t now_ns, uint64_t dirty, uint64_t pages, uint64_t discovered);
/* May the answer of a full sync make a difference now, or is by all estimates far too much dirty? */
bool converge_near(const struct converge *c, uint64_t put_off, uint64_t limit_ms);
/* `remaining` pages are dirty, exactly, `put_off` of them as they are written all the time; so much device state was there at the last
 * try, 0: not known yet. */
enum verdict converge_judge(struct converge *c, uint64_t remaining, uint64_t put_off, uint64_t state_bytes, uint64_t limit_ms);
/* The same question in the midst of a round, of which there is something left to send: may the guest be stopped now, and does the
 * rest of the round buy nothing? */
bool converge_enough(const struct converge *c, uint64_t remaining, uint64_t put_off, uint64_t state_bytes, uint64_t limit_ms);
/* The guest was stopped, its state saved and its last pages counted, which took so long, `save_ms` of it saving. Returns how long it would
 * stand still in all. */
double converge_stopped(const struct converge *c, double so_far_ms, double save_ms, uint64_t pages, uint64_t state_bytes);
/* That was over the limit: stopped in vain, unless nothing is left to send. */
void converge_in_vain(struct converge *c, double so_far_ms, double save_ms);
/* How many pages the round that was opened may put off to the last one: none while rounds shrink by themselves. */
uint64_t converge_allowance(struct converge *c, uint64_t state_bytes, uint64_t limit_ms);
/* Would another round leave about as much as there is now? */
bool converge_struggles(const struct converge *c);
/* Is stopping it too long by itself, by all that was seen of it, whatever rounds achieve? */
bool converge_never_fits(const struct converge *c, uint64_t state_bytes, uint64_t limit_ms);
/* How long so many pages and so much state take on the wire, ms. */
double converge_pages_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes);
/* How long the guest would stand still for so many pages and so much state, ms. */
double converge_expected_ms(const struct converge *c, uint64_t pages, uint64_t state_bytes);
