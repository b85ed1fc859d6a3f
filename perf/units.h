/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes as people write and read them. */
#ifndef PERF_UNITS_H
#define PERF_UNITS_H

#include <stdint.h>

#define UNITS_TEXT 32

/* Read "4096", "64K", "1G", "2GiB" (powers of 1024). 0, -EINVAL (not a size), -ERANGE (over 64 bits). */
int units_parse_size(const char *text, uint64_t *ret_bytes);

/* "1.0 GiB"; returns `text`. */
const char *units_size(uint64_t bytes, char text[UNITS_TEXT]);

/* "3.61 GB/s", GB being 1e9 bytes as in network figures; returns `text`. */
const char *units_rate(double bytes_per_s, char text[UNITS_TEXT]);

/* "512M": the shortest exact form that units_parse_size() reads back; returns `text`. */
const char *units_exact(uint64_t bytes, char text[UNITS_TEXT]);

#endif
