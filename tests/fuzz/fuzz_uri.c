/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_uri.c: what users write. What parses has a canonical text that parses to the same. */
#include <stdlib.h>
#include <string.h>

#include "streams/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), error[256] = "", first[URI_TEXT], second[URI_TEXT];
	struct uri uri, again;

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	if (uri_parse(text, &uri, error, sizeof(error))) {
		if (!error[0] || strchr(error, '\n'))
			abort();
	} else {
		uri_format(&uri, first);
		if (uri_parse(first, &again, error, sizeof(error)) || strcmp(uri_format(&again, second), first))
			abort();
	}
	free(text);
	return 0;
}
