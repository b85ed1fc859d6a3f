/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* still.h: Law 9, while the source's guest stands still and can be resumed yet: for how long, and what for. */
#pragma once

struct source;
struct input;
struct actions;

/* Another session of the source's. */
void still_begin(void);
/* Between steps. */
void still_look(void);
/* The source's deciding code has taken a step. */
void still_step(const struct source *source, const struct input *in, const struct actions *out);
