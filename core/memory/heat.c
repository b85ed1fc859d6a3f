/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* heat.c: see heat.h. Threads: senders, each with granules that nobody else has in that round; rounds are apart from each other by
 * the marks and sweep_open(). `written` is set by anybody at any time. */
#include "core/memory/heat.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "core/memory/regions.h"

int heat_init(struct heat *heat, uint64_t granules)
{
	*heat = (struct heat){ .granules = granules };
	int rc = bitmap_init(&heat->written, granules * GRANULE_WORDS);
	if (!rc)
		rc = bitmap_init(&heat->before, granules * GRANULE_WORDS);
	if (!rc && granules) {
		/* As the bitmaps: what is not touched costs nothing. */
		void *claimed = mmap(NULL, granules * sizeof(*heat->claimed), PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		rc = claimed == MAP_FAILED ? -errno : 0;
		heat->claimed = rc ? NULL : claimed;
	}
	if (rc)
		heat_fini(heat);
	return rc;
}

void heat_fini(struct heat *heat)
{
	bitmap_fini(&heat->written);
	bitmap_fini(&heat->before);
	if (heat->claimed)
		munmap((void *)heat->claimed, heat->granules * sizeof(*heat->claimed));
	*heat = (struct heat){ 0 };
}

uint64_t heat_bytes(const struct heat *heat)
{
	return bitmap_bytes(&heat->written) + bitmap_bytes(&heat->before) + heat->granules * sizeof(*heat->claimed);
}

void heat_open(struct heat *heat, uint64_t allowance)
{
	atomic_store_explicit(&heat->allowance, allowance, memory_order_relaxed);
	atomic_store_explicit(&heat->put_off, 0, memory_order_relaxed);
}

uint64_t heat_put_off(const struct heat *heat)
{
	return atomic_load_explicit(&heat->put_off, memory_order_relaxed);
}

/* So many at once or none. Relaxed: a sum of its own. */
static bool allowed(struct heat *heat, uint64_t pages)
{
	uint64_t left = atomic_load_explicit(&heat->allowance, memory_order_relaxed);

	while (left >= pages)
		if (atomic_compare_exchange_weak_explicit(&heat->allowance, &left, left - pages, memory_order_relaxed,
							  memory_order_relaxed))
			return true;
	return false;
}

/* What was written since the last claim becomes what was written before it; returns the pages that were both. */
static uint64_t turn(struct heat *heat, uint64_t word, bool successive)
{
	_Atomic uint64_t *written = &heat->written.words[word], *before = &heat->before.words[word];
	/* Zeroes are not written, so that sparse bitmaps stay sparse. Relaxed: hints. */
	uint64_t now = atomic_load_explicit(written, memory_order_relaxed),
		 then = atomic_load_explicit(before, memory_order_relaxed);

	if (now)
		now = atomic_exchange_explicit(written, 0, memory_order_relaxed);
	if (now != then)
		atomic_store_explicit(before, now, memory_order_relaxed);
	return successive ? now & then : 0;
}

bool heat_claim(struct heat *heat, uint32_t round, uint64_t word, uint32_t n, struct bitmap *dirty, uint64_t *mask,
		const uint64_t *discarded)
{
	uint64_t granule = word / GRANULE_WORDS, first = granule * GRANULE_WORDS;
	/* Nothing of a granule that was passed over in a round was dirty in it. */
	bool successive = atomic_load_explicit(&heat->claimed[granule], memory_order_relaxed) + 1 == round;

	uint64_t left = 0;

	atomic_store_explicit(&heat->claimed[granule], round, memory_order_relaxed);
	for (uint64_t w = first; w < first + GRANULE_WORDS; w++) {
		uint64_t hot = turn(heat, w, successive);
		if (w < word || w >= word + n)
			continue;
		/* To say once more that a page was discarded might come after a write that says it is not. */
		hot &= mask[w - word] & ~discarded[w - word];
		uint64_t pages = (uint64_t)__builtin_popcountll(hot);
		if (pages && allowed(heat, pages)) {
			mask[w - word] &= ~hot;
			bitmap_or(dirty, w, hot);
			atomic_fetch_add_explicit(&heat->put_off, pages, memory_order_relaxed);
		}
		left |= mask[w - word];
	}
	return left;
}
