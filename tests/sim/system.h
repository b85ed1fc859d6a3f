/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* system.h: descriptors of the simulated system. */
#pragma once

#include "tests/sim/sim.h"

enum { SYSTEM_FD_FIRST = 1000, SYSTEM_FDS = 256 };

void system_reset(void);
int system_fd_conn(void *conn);
int system_fd_door(void *door);
void system_fd_close(int fd);
/* How many a side has open; and they are gone with its process. */
uint32_t system_fds_of(enum sim_side side);
void system_side_gone(enum sim_side side);
/* Who polls an eventfd looks up. */
void system_fd_ring(int fd);
