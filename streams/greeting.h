/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* greeting.h: the first 48 bytes of every connection. Pure. */
#pragma once

#include <stddef.h>

#include "streams/wire.h"

/* Fill in magic, version and check over the rest. */
void greeting_seal(struct greeting *greeting);
/* Is it one, undamaged, of a version and kind that we know? 0, or -EBADMSG / -EPROTONOSUPPORT (another version) with
 * half a sentence in `error`. Token, epoch and stream are the caller's to judge. */
int greeting_check(const struct greeting *greeting, char *error, size_t error_size);
