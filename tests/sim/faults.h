/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* faults.h: what goes wrong in a seed, and when: at a time, or at a link message's way from one side to the other. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim.h"

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
	FAULT_CRASH_DESTINATION,
	FAULT_RESTART_DESTINATION,
	FAULT_HOST_SOURCE,
	FAULT_HOST_DESTINATION,
	FAULT_CANCEL_SOURCE,
	FAULT_CANCEL_DESTINATION,
	FAULT_LOG_FAILS,
	FAULT_LOCK_HELD,
	/* of embedders, by their habits */
	FAULT_CALLBACK_FAILS,
	FAULT_CALLBACK_HANGS,
	FAULTS,
};

void faults_plan(void);
void faults_none(void);
/* How many are planned. */
uint32_t faults_planned(void);
/* Has one struck, or was one to strike still? */
bool faults_struck(void);
/* Restarts that were promised and have not happened. */
bool faults_pending(void);
void *faults_body(void *arg);
/* In place of a message's type: a batch is about to be sent. */
enum { FAULTS_BATCH = 200 };
void faults_at_message(enum sim_side side, uint32_t type, int when);
bool faults_log_fails(void);
void faults_note(enum fault fault);

/* phase x fault, and fault x last message, over all seeds. */
void coverage_print(void);
void coverage_message(uint32_t type);
