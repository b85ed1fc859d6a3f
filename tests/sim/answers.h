/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* answers.h: what an embedder does when it is asked for something: in time or late, well or not. First the effect, and then the word. */
#pragma once

#include "tests/sim/embedder.h"

void answers_asked(struct embedder *e, enum sluice_request r);
/* What it was asked for is due. */
void answers_give(struct embedder *e, enum sluice_request r);
/* Returns `code`. */
int answers_take_effect(struct embedder *e, enum sluice_request r, int code);
/* Nobody waits for it any more. */
void answers_given_up(struct embedder *e, struct answer *a);
