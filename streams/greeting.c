/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* greeting.c: see greeting.h. Senders seal theirs, the link thread of a destination checks what comes in at its door. */
#include "streams/greeting.h"

#include <errno.h>
#include <stdio.h>
#include <xxhash.h>

static uint32_t hash(const struct greeting *greeting)
{
	struct greeting g = *greeting;

	g.check = 0;
	return (uint32_t)XXH3_64bits(&g, sizeof(g));
}

void greeting_seal(struct greeting *greeting)
{
	greeting->magic = WIRE_GREETING_MAGIC;
	greeting->version = WIRE_GREETING_VERSION;
	greeting->flags = 0;
	greeting->reserved = 0;
	greeting->check = hash(greeting);
}

int greeting_check(const struct greeting *greeting, char *error, size_t error_size)
{
	if (greeting->magic != WIRE_GREETING_MAGIC)
		snprintf(error, error_size, "it does not begin as sluice does");
	else if (greeting->version != WIRE_GREETING_VERSION) {
		snprintf(error, error_size, "its greeting has version %u, ours %u", greeting->version, WIRE_GREETING_VERSION);
		return -EPROTONOSUPPORT;
	} else if (greeting->check != hash(greeting))
		snprintf(error, error_size, "its greeting is damaged");
	else if (greeting->kind < GREETING_LINK || greeting->kind > GREETING_URGENT)
		snprintf(error, error_size, "its greeting is of unknown kind %u", greeting->kind);
	else if (greeting->flags || greeting->reserved)
		snprintf(error, error_size, "reserved fields of its greeting are not 0");
	else
		return 0;
	return -EBADMSG;
}
