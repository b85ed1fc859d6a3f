/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The figures of one migration, as JSON, table and page show them. */
#include "perf/result.h"

#define FIRST_SAMPLES_S 0.1

void result_sample(struct result *result, double at_s, const struct sluice_stats *stats)
{
	if (!result->samples)
		result->sample_every_s = FIRST_SAMPLES_S;
	else if (at_s < result->sample[result->samples - 1].at_s + result->sample_every_s * 0.9)
		return;
	if (result->samples == RESULT_SAMPLES) {
		for (unsigned i = 0; i < RESULT_SAMPLES / 2; i++)
			result->sample[i] = result->sample[2 * i];
		result->samples /= 2;
		result->sample_every_s *= 2;
	}
	result->sample[result->samples++] = (struct sample){
		.at_s = at_s,
		.guest_bytes = stats->guest_bytes,
		.remaining_bytes = stats->remaining_bytes,
		.dirty_bytes_per_s = stats->dirty_bytes_per_s,
		.phase = stats->phase,
	};
}

void result_collect(struct result *result, struct sluice *session)
{
	result->stats.size_of = sizeof(result->stats);
	sluice_get_stats(session, &result->stats);
	for (result->streams = 0; result->streams < SLUICE_MAX_STREAMS; result->streams++) {
		struct sluice_stream_stats *stream = &result->stream[result->streams];

		stream->size_of = sizeof(*stream);
		if (sluice_get_stream_stats(session, result->streams, stream))
			break;
	}
	result->sluice_bytes = result->stats.own_bytes;
}

void result_take_disk(struct result *result, const struct disk_view *view, const struct disk_view *before)
{
	static const struct disk_view nothing;
	struct disk_result *disk = &result->disk;

	before = before ? before : &nothing;
	disk->has = true;
	disk->view = *view;
	disk->requests = view->reads + view->writes - before->reads - before->writes;
	disk->blocks = view->blocks - before->blocks;
	disk->failed = view->failed - before->failed;
	disk->gap_ms = (double)view->gap_ns * 1e-6;
	disk->switchover_gap_ms = -1;
}

const char *result_engine(const struct result *result)
{
	unsigned urings = 0;

	for (unsigned i = 0; i < result->streams; i++)
		urings += result->stream[i].uring;
	if (!result->streams || !result->source) /* of streams that receive it is not told */
		return NULL;
	return !urings ? "plain" : urings == result->streams ? "io_uring" : "mixed";
}
