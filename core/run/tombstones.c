/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tombstones.c: see tombstones.h. */
#include "core/run/tombstones.h"

#include "core/run/door.h"

void tombstones_add(struct tombstones *t, const struct tombstone *tombstone)
{
	t->list[t->n++ % TOMBSTONES] = *tombstone;
}

struct tombstone *tombstones_find(struct tombstones *t, const uint8_t token[MESSAGE_TOKEN])
{
	for (uint32_t i = 0; i < TOMBSTONES && i < t->n; i++)
		if (token_equal(t->list[i].token, token))
			return &t->list[i];
	return NULL;
}
