/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* system.h: descriptors of the simulated system. */
#pragma once

enum { SYSTEM_FD_FIRST = 1000, SYSTEM_FDS = 256 };

void system_reset(void);
int system_fd_conn(void *conn);
int system_fd_door(void *door);
void system_fd_close(int fd);
/* Who polls an eventfd looks up. */
void system_fd_ring(int fd);
