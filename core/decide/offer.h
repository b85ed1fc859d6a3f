/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* offer.h: what source and destination agree on before anything moves. Pure. */
#pragma once

#include "core/decide/message.h"

#define FEATURE_LZ4 "lz4"

/* Destination: version, page size and features of an offer, before the embedder is asked. 0 or negative errno with one line in
 * `error`. Fills in welcome's version and features. `lz4`: whether it is agreed on. */
int offer_check(const struct hello *hello, struct welcome *welcome, bool *ret_lz4, char error[SLUICE_ERROR_MAX]);

/* Destination: does the embedder's memory match the offer, region by region? */
int offer_check_regions(const struct hello *hello, const struct message_region *ours, uint32_t n, char error[SLUICE_ERROR_MAX]);

/* Source: is the answer one that fits our offer? */
int offer_check_answer(const struct hello *hello, const struct welcome *welcome, bool *ret_lz4, char error[SLUICE_ERROR_MAX]);
