/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory that a destination populated for a migration that is yet to come.
 *
 * Made and taken by a session's worker; between sessions, and while nobody comes, the main thread lets it expire.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "perf/spare.h"

void spare_init(struct spare *spare)
{
	memset(spare, 0, sizeof(*spare));
	pthread_mutex_init(&spare->lock, NULL);
}

/* Under lock. */
static void drop(struct spare *spare)
{
	if (spare->memory.pages)
		memory_destroy(&spare->memory);
}

void spare_fini(struct spare *spare)
{
	drop(spare);
	pthread_mutex_destroy(&spare->lock);
}

/* Under lock. */
static int make(struct spare *spare, const struct memory_spec *spec, _Atomic bool *cancel, char why[MEMORY_ERROR])
{
	int error = memory_check_room(spec, spec->bytes, why);

	if (!error)
		error = memory_create(&spare->memory, spec, why);
	if (error)
		return error;
	error = memory_populate(&spare->memory, cancel);
	if (error) {
		snprintf(why, MEMORY_ERROR, "cannot populate memory: %s: free memory or choose a smaller -m", strerror(-error));
		drop(spare);
	}
	return error;
}

int spare_make(struct spare *spare, const struct memory_spec *spec, _Atomic bool *cancel, char why[MEMORY_ERROR])
{
	int error = 0;

	pthread_mutex_lock(&spare->lock);
	if (!spare->memory.pages || !memory_same(&spare->memory.spec, spec)) {
		drop(spare);
		error = make(spare, spec, cancel, why);
	}
	spare->until_ns = os_now_ns() + SPARE_KEEP_NS;
	pthread_mutex_unlock(&spare->lock);
	return error;
}

bool spare_take(struct spare *spare, const struct memory_spec *spec, struct memory *ret)
{
	bool fits;

	pthread_mutex_lock(&spare->lock);
	fits = spec && spare->memory.pages && memory_same(&spare->memory.spec, spec);
	if (fits) {
		*ret = spare->memory;
		memset(&spare->memory, 0, sizeof(spare->memory));
	} else {
		drop(spare);
	}
	pthread_mutex_unlock(&spare->lock);
	return fits;
}

void spare_expire(struct spare *spare)
{
	if (pthread_mutex_trylock(&spare->lock))
		return;
	if (os_now_ns() >= spare->until_ns)
		drop(spare);
	pthread_mutex_unlock(&spare->lock);
}
