/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* knobs.h: what an embedder may change while its guest migrates, and the bandwidth limit, which is one of these. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/decide/source.h"
#include "core/sluice.h"
#include "streams/wire.h"

/* The source's session begins. */
void knobs_begin(void);
/* When it turns the next one. */
uint64_t knobs_due(void);
void knobs_turn(struct sluice *session);
/* The largest value that a parameter had in this session in the last so many ms. */
uint64_t knobs_most(enum sluice_param param, uint64_t ms);
/* The smallest. */
uint64_t knobs_least(enum sluice_param param, uint64_t ms);
/* Was it ever anything but 0 in this session? */
bool knobs_ever(enum sluice_param param);
/* Since when it has been what it is; 0: from the beginning. */
uint64_t knobs_changed_at(enum sluice_param param);
/* The deciding code is told what they are, and does as they say. */
void knobs_step(const struct source *source, const struct input *input, const struct actions *actions);
/* A batch goes out; a sender waits for its turn. */
void knobs_batch(const struct batch_head *head, uint64_t bytes);
void knobs_wait(void);
/* Now and then. */
void knobs_look(void);
