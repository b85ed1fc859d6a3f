/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* operator.h: who looks at both sides from outside: ends doubts, and starts again what died. */
#pragma once

#include "tests/sim/sim.h"

void operator_reset(void);
/* Called every now and then. */
void operator_looks(void);
/* A process that died is started again, maybe with its host. */
void operator_restarts(enum sim_side side);
