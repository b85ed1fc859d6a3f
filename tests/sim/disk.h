/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* disk.h: the disk of the source's guest: requests that take their time, hang, or come in where nothing was to be picked up, and what the
 * drain may do to it. */
#pragma once

#include "core/sluice.h"
#include "tests/sim/sim.h"

/* One of the seed's choice, or none. */
void disk_make(void);
bool disk_there(void);
/* So that a window lasts. */
void disk_must_be_slow(void);
/* A window that is long enough for it, ms. */
uint64_t disk_window_ms(void);
/* Nothing is the matter with it any more. */
void disk_heals(void);
/* Work: a fiber. */
void *disk_body(void *arg);
/* The callbacks. */
int disk_io_depth(void *opaque, uint32_t requests);
int disk_drain_try(void *opaque);
/* A migration begins. */
void disk_attempt(void);
/* The guest is asked to stop, however long that takes; has stopped; its device state is being saved. */
void disk_stopping(void);
void disk_stopped(void);
void disk_saved(void);
void disk_resumed(void);
/* How much later the embedder's loop looks this time. */
uint64_t disk_loop_late_ns(void);
/* What must hold at any time; and when a migration is over and the guest runs where it ran. */
void disk_check(void);
void disk_check_end(void);
/* How long the drain may still need, for all that is known of the disk; 0: it is not the drain that takes long. */
bool disk_may_delay(void);
