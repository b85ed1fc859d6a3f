/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* faults.h: what goes wrong in a seed, and when: at a time, at a frame's way from one side to the other, or where a side's
 * deciding code is. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/sluice.h"
#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

enum fault {
	FAULT_CUT_LINK,
	FAULT_CUT_STREAM,
	FAULT_CUT_SOME,
	FAULT_CUT_ALL,
	FAULT_SILENT_LINK,
	FAULT_SILENT_ONE_WAY,
	FAULT_SILENT_STREAM,
	FAULT_SILENT_ALL,
	FAULT_STALL_LINK,
	FAULT_STALL_STREAM,
	FAULT_STALL_ALL,
	FAULT_DAMAGE_LINK,
	FAULT_DAMAGE_STREAM,
	FAULT_DOUBLE_LINK,
	FAULT_DOUBLE_STREAM,
	FAULT_OLD_LINK,
	FAULT_OLD_STREAM,
	FAULT_TEAR_LINK,
	FAULT_TEAR_STREAM,
	FAULT_STRAY,
	FAULT_CRASH_SOURCE,
	FAULT_RESTART_SOURCE,
	FAULT_CRASH_DESTINATION,
	FAULT_RESTART_DESTINATION,
	FAULT_HOST_SOURCE,
	FAULT_HOST_DESTINATION,
	FAULT_CANCEL_SOURCE,
	FAULT_CANCEL_DESTINATION,
	FAULT_LOG_FAILS,
	FAULT_LOCK_HELD,
	FAULT_CALLBACK_FAILS, /* of an embedder, by its habits or at a spot */
	FAULT_CALLBACK_HANGS,
	FAULTS,
};

struct plan {
	enum fault fault;
	enum sim_side side; /* whose frames, where only one side's are touched */
	enum { AT_TIME, AT_FRAME, AT_SPOT } when;
	uint64_t at; /* time */
	/* frame */
	uint32_t type, nth;
	enum { FRAME_BEGINS, FRAME_WRITTEN, FRAME_READ } stage;
	/* spot */
	enum sim_side at_side;
	enum sluice_phase phase;
	uint32_t message;
	bool done;
};

const char *fault_name(enum fault fault);
/* Does it touch only the link, or only a stream; and how. */
bool fault_of_link(enum fault fault);
enum wire_harm fault_harm(enum fault fault);

/* The seed's choice. */
void faults_plan(uint64_t seed);
void faults_none(void);
void faults_add(const struct plan *plan);
/* How many are planned. */
uint32_t faults_planned(void);
/* When all that has struck so far is over. */
uint64_t faults_healed_at(void);
void faults_last_until(uint64_t until);
/* A frame, batch or greeting is harmed now. */
void faults_harmed(void);
/* Those that have struck since faults_none(), a bit each; but for what a migration has to stand: strays, and what is over soon. */
uint64_t faults_struck(void);
/* How many have. */
uint32_t faults_strikes(void);
/* When that was, or until when it lasts. */
uint64_t faults_last_struck(void);
/* Restarts that were promised and have not happened. */
bool faults_pending(void);
void *faults_body(void *arg);
/* In place of a message's type: a batch is about to be sent. */
enum { FAULTS_BATCH = 200, FAULTS_STATE /* of device state */, FAULTS_THROTTLED /* the guest is slowed down */ };
void faults_at_frame(uint32_t type, int stage);
/* Between two steps of any thread. May not return: it may be its side that dies. */
void faults_at_step(void);
/* What is done to a frame, batch or greeting that is about to be sent, where the wire has nothing in store for it. */
enum wire_harm faults_harm(const struct wire *w);
/* What becomes of what a side was asked for: FAULTS: nothing. */
enum fault faults_of_request(enum sim_side side);
bool faults_log_fails(void);
