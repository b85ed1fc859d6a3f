/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* embedder.c: the smallest embedder: proves that headers and libraries are found, linked and the same version. */
#include <sluice.h>
#include <stdio.h>

static void nothing(void *opaque)
{
	(void)opaque;
}

int main(void)
{
	struct sluice_ops ops = { .size_of = sizeof(ops), .pause = nothing, .resume = nothing };
	struct sluice *session;

	if (sluice_create(&ops, NULL, &session) || sluice_destroy(session))
		return 1;
	printf("sluice %s\n", sluice_version());
	return 0;
}
