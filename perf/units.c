/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes as people write and read them. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/units.h"

int units_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	unsigned shift = 0;
	uint64_t value;
	char *end;

	if (!isdigit((unsigned char)text[0])) /* strtoull would take "-1" */
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	if (*end && (suffix = strchr(suffixes, toupper((unsigned char)*end)))) {
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		end++;
		if (*end == 'i')
			end++;
	}
	if (*end == 'B')
		end++;
	if (*end)
		return -EINVAL;
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = value << shift;
	return 0;
}

const char *units_size(uint64_t bytes, char text[UNITS_TEXT])
{
	static const char *const names[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
	double value = (double)bytes / 1024;
	unsigned i = 0;

	if (bytes < 1024) {
		snprintf(text, UNITS_TEXT, "%" PRIu64 " B", bytes);
		return text;
	}
	for (; value >= 1023.95 && i < 4; i++)
		value /= 1024;
	snprintf(text, UNITS_TEXT, "%.1f %s", value, names[i]);
	return text;
}

const char *units_rate(double bytes_per_s, char text[UNITS_TEXT])
{
	if (bytes_per_s >= 999.5e6)
		snprintf(text, UNITS_TEXT, "%.2f GB/s", bytes_per_s / 1e9);
	else if (bytes_per_s >= 999.5e3)
		snprintf(text, UNITS_TEXT, "%.1f MB/s", bytes_per_s / 1e6);
	else
		snprintf(text, UNITS_TEXT, "%.1f kB/s", bytes_per_s / 1e3);
	return text;
}

const char *units_exact(uint64_t bytes, char text[UNITS_TEXT])
{
	static const char *const suffixes[] = { "", "K", "M", "G", "T" };
	unsigned i = 0;

	for (; bytes && !(bytes & 1023) && i < 4; i++)
		bytes >>= 10;
	snprintf(text, UNITS_TEXT, "%" PRIu64 "%s", bytes, suffixes[i]);
	return text;
}
