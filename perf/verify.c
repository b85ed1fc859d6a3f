/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Do guest memory and disk hold what they must?
 *
 * Threads take pieces of memory in turn. Presence is looked up a granule at a time, before anything is read: a
 * page that does not exist is all zero, and reading a hole of a memfd would make it exist.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "perf/disk/disk.h"
#include "perf/os.h"
#include "perf/verify.h"

#define PIECE (64u * MEMORY_GRANULE) /* pages a thread takes at once: 128 MiB */
#define VERIFY_THREADS 64u
#define SAMPLE 64u

const char *const verify_names[] = { "skipped", "ok", "mismatch" };

struct verifier {
	const struct guest *guest;
	enum verify_mode mode;
	_Atomic bool *cancel;
	_Atomic uint64_t next; /* page */
	_Atomic int error;
	pthread_mutex_t lock;
	struct verify_result result; /* under lock */
};

static void note_wrong(struct verifier *verifier, uint64_t page, const void *memory)
{
	struct verify_result *result = &verifier->result;

	pthread_mutex_lock(&verifier->lock);
	if (!result->mismatches++ || page < result->first_page) {
		result->first_page = page;
		guest_page_describe(verifier->guest, page, memory, result->first);
	}
	pthread_mutex_unlock(&verifier->lock);
}

/* Returns how many pages were looked at, or negative errno. */
static int verify_granule(struct verifier *verifier, uint64_t first)
{
	const struct memory *memory = guest_memory(verifier->guest);
	uint64_t end = first < memory->split_page ? memory->split_page : memory->pages;
	uint64_t bits[MEMORY_GRANULE / 64], any = 0, page = first, step = 1;
	int error = memory_present(memory, first, bits), looked = 0;

	if (error)
		return error;
	if (end > first + MEMORY_GRANULE)
		end = first + MEMORY_GRANULE;
	for (unsigned i = 0; i < MEMORY_GRANULE / 64; i++)
		any |= bits[i];
	/* The common case of a sparse guest: nothing is there, and nothing must be. */
	if (!any && guest_blank(verifier->guest, first))
		return (int)(end - first);
	if (verifier->mode == VERIFY_SAMPLE) {
		step = SAMPLE;
		page += content_mix(guest_settings_of(verifier->guest)->content.seed ^ first) % SAMPLE;
	}
	for (; page < end; page += step, looked++) {
		unsigned i = (unsigned)(page - first);
		const void *there = bits[i / 64] >> (i % 64) & 1 ? memory_page(memory, page) : NULL;

		if (!guest_page_right(verifier->guest, page, there))
			note_wrong(verifier, page, there);
	}
	return looked;
}

static void *verify_body(void *arg)
{
	struct verifier *verifier = arg;
	uint64_t pages = guest_memory(verifier->guest)->pages, at, looked = 0;

	while (!atomic_load(&verifier->error) && (at = atomic_fetch_add(&verifier->next, PIECE)) < pages) {
		uint64_t end = at + PIECE < pages ? at + PIECE : pages;

		for (; at < end; at += MEMORY_GRANULE) {
			int n = *verifier->cancel ? -ECANCELED : verify_granule(verifier, at);

			if (n < 0) {
				atomic_store(&verifier->error, n);
				break;
			}
			looked += (uint64_t)n;
		}
	}
	pthread_mutex_lock(&verifier->lock);
	verifier->result.pages += looked;
	pthread_mutex_unlock(&verifier->lock);
	return NULL;
}

/* All of it, in whatever mode: it is small. */
static int verify_disk(struct disk *disk, struct verify_result *result)
{
	struct disk_verdict verdict;
	int error = disk_verify(disk, &verdict);

	if (error)
		return error;
	result->disk_blocks = verdict.blocks;
	result->kept_blocks = verdict.kept_blocks;
	if (verdict.wrong && !result->mismatches)
		memcpy(result->first, verdict.first, sizeof(result->first));
	result->mismatches += verdict.wrong;
	return 0;
}

int verify_guest(const struct guest *guest, enum verify_mode mode, _Atomic bool *cancel, struct verify_result *ret)
{
	struct verifier verifier = { .guest = guest, .mode = mode, .cancel = cancel, .lock = PTHREAD_MUTEX_INITIALIZER };
	unsigned n = os_cpus() < VERIFY_THREADS ? os_cpus() : VERIFY_THREADS, started = 0;
	pthread_t threads[VERIFY_THREADS];
	char text[CONTENT_TEXT] = "";

	memset(ret, 0, sizeof(*ret));
	if (mode == VERIFY_OFF)
		return 0;
	while (started + 1 < n && !os_thread_start(&threads[started], "verify", verify_body, &verifier))
		started++;
	verify_body(&verifier);
	while (started)
		pthread_join(threads[--started], NULL);
	if (verifier.error)
		return verifier.error;
	if (!guest_tally(guest, text) && !verifier.result.mismatches++)
		memcpy(verifier.result.first, text, sizeof(text));
	if (guest_disk(guest))
		verifier.error = verify_disk(guest_disk(guest), &verifier.result);
	if (verifier.error)
		return verifier.error;
	*ret = verifier.result;
	ret->status = ret->mismatches ? VERIFY_MISMATCH : VERIFY_OK;
	return 0;
}
