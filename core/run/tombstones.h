/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tombstones.h: how migrations ended that came in at a listener, for a source that asks when their session is no more. They belong to
 * whichever session uses the listener: its control thread at the end, its link thread before. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/decide/message.h"

enum { TOMBSTONES = 64 }; /* the oldest makes way */

struct tombstone {
	uint8_t token[MESSAGE_TOKEN]; /* the link's */
	uint32_t epoch, dial;         /* last ones used */
	uint32_t attempt;
	bool ran; /* RUNNING, else NEVER */
};

struct tombstones {
	struct tombstone list[TOMBSTONES];
	uint32_t n; /* ever added */
};

void tombstones_add(struct tombstones *tombstones, const struct tombstone *tombstone);
/* NULL: no such session ended here, or too many since. */
struct tombstone *tombstones_find(struct tombstones *tombstones, const uint8_t token[MESSAGE_TOKEN]);
