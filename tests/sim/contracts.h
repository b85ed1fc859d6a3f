/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* contracts.h: what the small modules that race promise to the rest, checked from outside at every call: so that a promise that was
 * broken shows at once, and not only where it happens to cost a page. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/decide/source.h"
#include "core/sluice.h"

/* A new attempt: nothing was sent. */
void contracts_attempt(void);
/* The source's deciding code is about to be told; and has ordered. */
void contracts_told(const struct source *source, const struct input *input);
void contracts_ordered(const struct actions *actions);
/* A sender has claimed a granule, or found that there is none left. */
/* Has all of a round landed? */
bool contracts_has_landed(uint32_t round);
/* Is it a last round; is one open? */
bool contracts_is_last(uint32_t round);
bool contracts_in_last_round(void);
void contracts_claimed(const struct sluice *session);
/* A page is read to be sent: the next version may be another. */
void contracts_page_read(uint32_t page);
