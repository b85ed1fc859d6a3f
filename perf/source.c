/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source's side of migperf: a guest, and its migrations one after the other. Thread: main. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/migration.h"
#include "perf/os.h"
#include "perf/source.h"

#define DISK_NS (5 * OS_S) /* for another to let go of the disk */
#define LOOK_NS (20 * OS_MS)

struct source {
	struct migration migration; /* the one under way, and what all have in common */
};

/* Show the result, in the ways that were asked for. */
static void present(struct source *source)
{
	const struct options *options = source->migration.options;
	const struct result *result = source->migration.result;
	int error;

	if (options->json)
		result_print_json(result);
	else if (result->stats.total_ms > 0)
		result_print_table(result);
	if (result->error[0])
		fprintf(stderr, "migperf: %s: %s\n", result->status, result->error);
	if (result->verify.status == VERIFY_MISMATCH)
		fprintf(stderr, "migperf: memory differs: %" PRIu64 " pages; %s\n", result->verify.mismatches,
			result->verify.first);
	if (!options->report)
		return;
	error = result_write_html(result, options->report);
	if (error)
		fprintf(stderr, "migperf: cannot write %s: %s\n", options->report, strerror(-error));
}

static int fill(void *arg)
{
	struct source *source = arg;

	return guest_fill(source->migration.guest, &source->migration.cancel);
}

/* What the destination will come to hold: what is touched now, and what the working set adds to that. */
static uint64_t needed_bytes(const struct guest_settings *settings)
{
	double touched = (double)settings->content.touched_per_2_32 * 0x1p-32, bytes = (double)settings->memory.bytes * touched;

	if (settings->prealloc)
		return settings->memory.bytes;
	if (settings->dirty_rate)
		bytes += (double)settings->wss_bytes * (1 - touched);
	return bytes < (double)settings->memory.bytes ? (uint64_t)bytes : settings->memory.bytes;
}

enum exit_status source_prepare(const struct options *options, struct loop *loop, struct source **ret_source)
{
	struct source *source = calloc(1, sizeof(*source));
	const struct guest_settings *guest = &options->guest;
	double touched = (double)guest->content.touched_per_2_32 * 0x1p-32;
	char text[MEMORY_ERROR > SETTINGS_ERROR ? MEMORY_ERROR : SETTINGS_ERROR] = "no memory";
	struct migration *migration;
	struct memory memory;
	int error;

	if (!source)
		goto fail;
	migration = &source->migration;
	migration->result = calloc(1, sizeof(*migration->result));
	if (!migration->result)
		goto fail;
	migration->options = options;
	migration->loop = loop;
	migration->settings = *guest;
	migration->settings.need_bytes = needed_bytes(guest);
	if (memory_check_room(&guest->memory, (uint64_t)((double)guest->memory.bytes * touched), text) ||
	    memory_create(&memory, &guest->memory, text))
		goto fail;
	if (guest_create(&migration->settings, &memory, &migration->guest, text)) {
		memory_destroy(&memory);
		goto fail;
	}
	migration->settings.disk = guest_settings_of(migration->guest)->disk; /* with the file's id */
	error = loop_run(loop, fill, NULL, source, &migration->cancel);
	if (error == -ECANCELED) {
		fprintf(stderr, "migperf: cancelled: the guest's memory was still being filled\n");
		source_destroy(source);
		return EXIT_CANCELLED;
	}
	if (error) {
		snprintf(text, sizeof(text), "cannot fill the guest's memory: %s: free memory or threads", strerror(-error));
		goto fail;
	}
	*ret_source = source;
	return EXIT_COMPLETED;

fail:
	fprintf(stderr, "migperf: %s\n", text);
	source_destroy(source);
	return EXIT_FAILED;
}

/* After a migration that completed it is the destination's, until that has verified it. EXIT_COMPLETED, or with one line said. */
static enum exit_status take_disk(struct source *source)
{
	struct guest *guest = source->migration.guest;
	struct loop *loop = source->migration.loop;
	uint64_t until = os_now_ns() + DISK_NS;
	int error = guest_boot_disk(guest);

	while (error == -EBUSY && os_now_ns() < until && !loop->stops) {
		loop_wait(loop, os_now_ns() + LOOK_NS);
		error = guest_boot_disk(guest);
	}
	if (!error)
		return EXIT_COMPLETED;
	fprintf(stderr, "migperf: cannot use the disk %s: %s\n", source->migration.settings.disk.path,
		error == -EBUSY ? "another process uses it: wait for that, or name another file" : strerror(-error));
	return loop->stops ? EXIT_CANCELLED : EXIT_FAILED;
}

enum exit_status source_run(struct source *source, const char *uri)
{
	enum exit_status status = EXIT_COMPLETED;

	for (uint64_t done = 0; done < source->migration.options->count && status == EXIT_COMPLETED; done++) {
		status = take_disk(source);
		if (status != EXIT_COMPLETED)
			break;
		migration_run(&source->migration, uri);
		status = source->migration.result->exit_status;
		present(source);
	}
	return status;
}

void source_destroy(struct source *source)
{
	if (!source)
		return;
	guest_destroy(source->migration.guest);
	free(source->migration.result);
	free(source);
}
