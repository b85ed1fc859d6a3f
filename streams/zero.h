/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zero.h: is a page all zero? SIMD chosen at run time. */
#pragma once

#include <stdbool.h>

/* Reads 4096 bytes at `page` (4 KiB aligned) that the guest may be writing meanwhile. */
bool page_is_zero(const void *page);
/* The same without SIMD. */
bool page_is_zero_portable(const void *page);
