/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* admit.h: who is let in at the destination's door: the first link, its streams, and a link that comes back. Thread: link. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct sluice;

/* `at_door`: somebody waits to be accepted. `guests`: what poll() said of those who were, in the order of link->greetings. */
void admit_serve(struct sluice *s, bool at_door, const struct pollfd *guests, uint64_t now);
