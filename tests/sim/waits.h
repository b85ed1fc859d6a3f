/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* waits.h: Law 6: every wait has an end, and one that is not too far; but for those that are for others to end. */
#pragma once

struct source;
struct destination;

/* After each step. */
void waits_source(const struct source *source);
void waits_destination(const struct destination *destination);
