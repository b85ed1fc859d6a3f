/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One migration, as its source sees it.
 *
 * The main thread starts a session, watches it and has it judged; the library's callbacks run in the iothread and only begin
 * things, once the big lock is dropped, which guest and worker threads end. With --prealloc a session that prepares comes
 * before: the destination populates its memory and refuses it with SETTINGS_PREPARED. The guest stands still meanwhile, so
 * that session has callbacks of its own that migrate nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perf/migration.h"
#include "perf/os.h"
#include "perf/verdict.h"

#define RETRY_NS (20 * OS_MS)    /* between two tries to reach a destination that is ending the session before */
#define RETRY_FOR_NS (30 * OS_S) /* in all */
#define PREPARING_MS 3600000u    /* most that the library waits for an answer: populating takes what it takes */

/* How a session went. */
enum ending {
	ENDING_OVER,     /* there is a verdict */
	ENDING_PREPARED, /* the destination has its memory ready */
	ENDING_BUSY,     /* it was not ready for a session: try again */
};

/* ---------------------------------------------------------------- callbacks (iothread) */

static void paused(void *opaque)
{
	struct migration *migration = opaque;

	sluice_done(migration->end.session, SLUICE_PAUSE, 0);
}

static void pause_guest(void *opaque)
{
	struct migration *migration = opaque;

	guest_pause(migration->guest, paused, migration);
}

static void on_pause(void *opaque)
{
	struct migration *migration = opaque;

	iothread_after(&migration->end.io, pause_guest, migration);
}

static void resumed(void *opaque, uint64_t ns)
{
	struct migration *migration = opaque;

	(void)ns;
	sluice_done(migration->end.session, SLUICE_RESUME, 0);
}

static void resume_guest(void *opaque)
{
	struct migration *migration = opaque;
	struct disk *disk = guest_disk(migration->guest);
	int error = disk ? disk_acquire(disk, false) : 0; /* back, if it was let go */

	if (error)
		sluice_done(migration->end.session, SLUICE_RESUME, error);
	else
		guest_resume(migration->guest, resumed, migration);
}

static void on_resume(void *opaque)
{
	struct migration *migration = opaque;

	iothread_after(&migration->end.io, resume_guest, migration);
}

/* Thread: worker. */
static void save(void *opaque)
{
	struct migration *migration = opaque;
	int error;

	guest_free_state(&migration->state); /* of an earlier try */
	error = guest_save(migration->guest, &migration->state);
	for (unsigned i = 0; i < migration->state.n && !error; i++)
		error = sluice_save_section(migration->end.session, &migration->state.section[i]);
	sluice_done(migration->end.session, SLUICE_SAVE, error);
}

static void ask_to_save(void *opaque)
{
	struct migration *migration = opaque;

	if (worker_ask(&migration->end.worker, save, migration))
		sluice_done(migration->end.session, SLUICE_SAVE, -EBUSY);
}

static void on_save(void *opaque)
{
	struct migration *migration = opaque;

	iothread_after(&migration->end.io, ask_to_save, migration);
}

static void kick_disk(void *opaque)
{
	struct migration *migration = opaque;

	disk_kick(guest_disk(migration->guest));
}

/* A number is stored; the disk is told once the big lock is dropped. */
static int on_io_depth(void *opaque, uint32_t requests)
{
	struct migration *migration = opaque;

	disk_set_depth(guest_disk(migration->guest), requests);
	iothread_after(&migration->end.io, kick_disk, migration);
	return 0;
}

static int on_drain_try(void *opaque)
{
	struct migration *migration = opaque;

	return disk_try(guest_disk(migration->guest));
}

/* Thread: worker. */
static void release(void *opaque)
{
	struct migration *migration = opaque;

	sluice_done(migration->end.session, SLUICE_RELEASE, disk_release(guest_disk(migration->guest)));
}

static void ask_to_release(void *opaque)
{
	struct migration *migration = opaque;

	if (worker_ask(&migration->end.worker, release, migration))
		sluice_done(migration->end.session, SLUICE_RELEASE, -EBUSY);
}

static void on_release(void *opaque)
{
	struct migration *migration = opaque;

	iothread_after(&migration->end.io, ask_to_release, migration);
}

/* A number is stored, nobody is woken: that may be done under the big lock. */
static void on_throttle(void *opaque, uint32_t percent)
{
	struct migration *migration = opaque;

	guest_throttle(migration->guest, percent);
}

static void on_event(void *opaque, const struct sluice_event *event)
{
	struct migration *migration = opaque;

	end_note(&migration->end, event);
}

static const struct sluice_ops migrating_ops = {
	.event = on_event,
	.pause = on_pause,
	.resume = on_resume,
	.save = on_save,
	.throttle = on_throttle,
};

/* The guest's own dirty log, where it has one. Thread: sync, control. */
static int on_log_start(void *opaque)
{
	struct migration *migration = opaque;

	return migration->log.start(migration->log.opaque);
}

static int on_log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits)
{
	struct migration *migration = opaque;

	return migration->log.fetch(migration->log.opaque, region, first, pages, bits);
}

static int on_log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits)
{
	struct migration *migration = opaque;

	return migration->log.clear(migration->log.opaque, region, first, pages, bits);
}

static void on_log_stop(void *opaque)
{
	struct migration *migration = opaque;

	migration->log.stop(migration->log.opaque);
}

/* A destination that takes the preparing session for a migration is not migperf: it gets no guest. */
static void on_unwanted_pause(void *opaque)
{
	struct migration *migration = opaque;

	sluice_done(migration->end.session, SLUICE_PAUSE, -ENOTSUP);
}

static void on_unwanted_resume(void *opaque)
{
	struct migration *migration = opaque;

	sluice_done(migration->end.session, SLUICE_RESUME, 0);
}

static const struct sluice_ops preparing_ops = {
	.event = on_event,
	.pause = on_unwanted_pause,
	.resume = on_unwanted_resume,
};

/* ---------------------------------------------------------------- watching */

static double since_start(const struct migration *migration)
{
	return (double)(os_now_ns() - migration->began_ns) * 1e-9;
}

static void show(struct migration *migration)
{
	struct sluice_stats stats = { .size_of = sizeof(stats) };

	if (sluice_get_stats(migration->end.session, &stats))
		return;
	result_sample(migration->result, since_start(migration), &stats);
	progress_show(&migration->progress, since_start(migration), &stats);
}

/* end.advise: what a user does while there is still something to decide. */
static void advise(struct end *end)
{
	struct migration *migration = (struct migration *)end;

	progress_say(
		&migration->progress,
		"migration in doubt: the guest is stopped here, and may run at %.120s. It connects again by itself. If it "
		"cannot, look what the migperf -s there says. Completed: it runs there, and kill -INT %d ends this one. Failed, "
		"cancelled or gone: kill -USR2 %d runs it here. In doubt or silent: end that one first, and see it gone",
		migration->result->uri, (int)getpid(), (int)getpid());
}

/* Let the switchover go on when the guest was held for as long as it is to be. Returns when to look again. */
static uint64_t hold(struct migration *migration)
{
	uint64_t since = end_held_since(&migration->end), hold_ns = migration->options->hold_ms * OS_MS;

	if (!since || since == migration->continued)
		return OS_FOREVER;
	if (since != migration->held) {
		migration->held = since;
		progress_say(&migration->progress, "holding the stopped guest for %" PRIu64 " ms", migration->options->hold_ms);
	}
	if (os_now_ns() < since + hold_ns)
		return since + hold_ns;
	sluice_continue(migration->end.session); /* -EINVAL: it has just given up */
	migration->continued = since;
	return OS_FOREVER;
}

/* Until it is decided: the library may go on after that, for a peer in doubt. */
static void watch(struct migration *migration, bool preparing)
{
	uint64_t next = os_now_ns(), held_until;
	unsigned stops = 0;

	while (!end_decided(&migration->end)) {
		if (migration->loop->stops != stops) {
			stops = migration->loop->stops;
			if (sluice_cancel(migration->end.session) == -EBUSY)
				progress_say(&migration->progress,
					     "too late to cancel: the guest may already run at the destination");
		}
		if (os_now_ns() >= next) {
			if (!preparing)
				show(migration);
			next += MIGRATION_LOOK_NS;
			next = next > os_now_ns() ? next : os_now_ns() + MIGRATION_LOOK_NS;
		}
		held_until = hold(migration);
		end_wait(&migration->end, held_until < next ? held_until : next);
	}
}

/* ---------------------------------------------------------------- beginning */

/* The first heartbeat has been. */
static void noted(void *opaque, uint64_t ns)
{
	struct migration *migration = opaque;

	(void)ns;
	loop_wake(migration->loop);
}

static void run_guest(struct migration *migration)
{
	struct guest_view view;

	guest_resume(migration->guest, noted, migration);
	guest_look(migration->guest, &view);
	for (uint64_t beats = view.beats; view.beats == beats; guest_look(migration->guest, &view))
		loop_wait(migration->loop, os_now_ns() + MIGRATION_LOOK_NS);
	for (uint64_t until = os_now_ns() + migration->options->warm_up_ms * OS_MS;
	     os_now_ns() < until && !migration->loop->stops;)
		loop_wait(migration->loop, until);
	guest_look(migration->guest, &view);
	guest_reset_gap(migration->guest);
	migration->written_before = view.pages_written;
	migration->full_before = view.rings_full;
}

/* Cookie, regions and the guest's marks, before the start. */
static int describe_guest(struct migration *migration, bool preparing)
{
	struct guest_settings settings = migration->settings;
	struct guest_kvm kvm;
	char *cookie;
	int error;

	settings.prepare = preparing;
	cookie = settings_encode(&settings);
	error = cookie ? sluice_set_cookie(migration->end.session, cookie, strlen(cookie)) : -ENOMEM;
	free(cookie);
	if (!error)
		error = memory_add_regions(guest_memory(migration->guest), migration->end.session, 0);
	if (!error && preparing)
		error = sluice_set(migration->end.session, SLUICE_CALLBACK_MS, PREPARING_MS);
	if (!error && !preparing && migration->options->tracker == SLUICE_TRACKER_MARKS)
		guest_mark_for(migration->guest, migration->end.session);
	if (!error && !preparing && guest_kvm(migration->guest, &kvm))
		error = sluice_set_kvm(migration->end.session, &kvm.is);
	if (!error && !preparing)
		guest_track_for(migration->guest, migration->end.session);
	return error;
}

static int start(struct migration *migration, const char *uri)
{
	struct disk *disk = guest_disk(migration->guest);
	int error;

	run_guest(migration);
	if (disk) {
		disk_arm(disk);
		disk_look(disk, &migration->disk_before);
	}
	migration->result->samples = 0; /* of a try before */
	migration->tables_before = os_page_table_bytes();
	iothread_measure(&migration->end.io, true);
	migration->cpu_before_s = os_cpu_seconds();
	migration->began_ns = os_now_ns();
	error = sluice_source_start(migration->end.session, uri);
	if (error)
		guest_park(migration->guest);
	else if (!migration->again)
		progress_say(&migration->progress, "migration started");
	return error;
}

static int start_preparing(struct migration *migration, const char *uri)
{
	int error;

	migration->tables_before = os_page_table_bytes();
	error = sluice_source_start(migration->end.session, uri);
	if (!error && !migration->again)
		progress_say(&migration->progress, "preparing the destination's memory");
	return error;
}

/* What is left to say when the session could not be started. */
static void fail_to_start(struct migration *migration, int error)
{
	struct result *result = migration->result;
	struct sluice_error why;

	sluice_get_error(migration->end.session, &why);
	snprintf(result->error, RESULT_TEXT, "%s", why.code ? why.text : strerror(-error));
	result->status = "failed";
	if (error == -EINVAL)
		result->exit_status = EXIT_USAGE;
	else
		result->exit_status = error == -ENOMEM || error == -EAGAIN ? EXIT_FAILED : EXIT_REFUSED;
}

/* ---------------------------------------------------------------- ending */

static void collect(struct migration *migration)
{
	struct result *result = migration->result;
	uint64_t tables = os_page_table_bytes();

	result_collect(result, migration->end.session);
	result->page_tables_bytes = tables > migration->tables_before ? tables - migration->tables_before : 0;
	pthread_mutex_lock(&migration->end.lock);
	result->rounds = migration->end.rounds;
	memcpy(result->round, migration->end.round, sizeof(result->round));
	pthread_mutex_unlock(&migration->end.lock);
}

/* Whether the destination was still ending the session before this one. */
static bool was_busy(struct migration *migration)
{
	struct sluice_error why;

	if (!migration->follows || migration->loop->stops || end_phase(&migration->end) != SLUICE_FAILED)
		return false;
	sluice_get_error(migration->end.session, &why);
	return why.phase <= SLUICE_SETUP &&
	       (why.code == -EBUSY || why.code == -ECONNRESET || why.code == -EPIPE || why.code == -ETIMEDOUT);
}

static bool was_prepared(struct migration *migration)
{
	struct sluice_error why;

	sluice_get_error(migration->end.session, &why);
	return end_phase(&migration->end) == SLUICE_FAILED && why.code == SETTINGS_PREPARED;
}

static enum ending end_preparing(struct migration *migration)
{
	if (was_prepared(migration))
		return ENDING_PREPARED;
	/* It failed: the guest must go on here as if nothing had happened, so let it. */
	run_guest(migration);
	migration->cpu_before_s = migration->end.cpu_over_s;
	collect(migration);
	progress_say(&migration->progress, "migration %s", end_name(&migration->end));
	verdict_reach(migration);
	return ENDING_OVER;
}

static enum ending end_migrating(struct migration *migration)
{
	struct result *result = migration->result;

	collect(migration);
	progress_end(&migration->progress, since_start(migration), &result->stats);
	progress_say(&migration->progress, "migration %s", end_name(&migration->end));
	verdict_reach(migration);
	result_collect(result, migration->end.session); /* what the handoff added */
	return ENDING_OVER;
}

/* ---------------------------------------------------------------- sessions */

/* `retry`: a busy destination is no failure yet. */
static enum ending run_session(struct migration *migration, const char *uri, bool preparing, bool retry)
{
	struct sluice_ops ops = preparing ? preparing_ops : migrating_ops;
	struct result *result = migration->result;
	enum ending ending = ENDING_OVER;
	bool started = false;
	int error;

	if (!preparing && migration->options->tracker == SLUICE_TRACKER_LOG &&
	    guest_dirty_log(migration->guest, &migration->log)) {
		ops.dirty_log_start = on_log_start;
		ops.dirty_log_fetch = on_log_fetch;
		ops.dirty_log_clear = on_log_clear;
		ops.dirty_log_stop = on_log_stop;
	}
	if (!preparing && guest_disk(migration->guest)) {
		ops.io_depth = on_io_depth;
		ops.drain_try = on_drain_try;
		ops.release = on_release;
	}
	error = end_open(&migration->end, &ops, migration, migration->options, migration->loop, result->error);
	migration->end.advise = advise;
	if (error) {
		result->exit_status = error == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
		return ENDING_OVER;
	}
	progress_init(&migration->progress, migration->options->interval_s, migration->options->json,
		      migration->settings.memory.bytes);
	error = describe_guest(migration, preparing);
	if (!error)
		error = preparing ? start_preparing(migration, uri) : start(migration, uri);
	if (error) {
		fail_to_start(migration, error);
	} else {
		started = true;
		watch(migration, preparing);
		if (retry && was_busy(migration))
			ending = ENDING_BUSY;
		else
			ending = preparing ? end_preparing(migration) : end_migrating(migration);
	}
	iothread_measure(&migration->end.io, false);
	guest_park(migration->guest);
	guest_mark_for(migration->guest, NULL);
	guest_track_for(migration->guest, NULL); /* the disk may still have requests in flight, and the session ends */
	if (!end_close(&migration->end, started)) {
		/* Threads of the library may still use the guest: nothing can be torn down. */
		fprintf(stderr, "migperf: giving up; please report this\n");
		_Exit(EXIT_FAILED);
	}
	guest_free_state(&migration->state);
	migration->follows = true;
	return ending;
}

/* Sessions until one finds the destination ready, or it is clear that none will. */
static enum ending reach(struct migration *migration, const char *uri, bool preparing)
{
	uint64_t until = os_now_ns() + RETRY_FOR_NS;
	enum ending ending;

	migration->again = false;
	while ((ending = run_session(migration, uri, preparing, os_now_ns() < until)) == ENDING_BUSY) {
		migration->again = true;
		loop_wait(migration->loop, os_now_ns() + RETRY_NS);
	}
	return ending;
}

static void begin_result(struct migration *migration, const char *uri)
{
	struct result *result = migration->result;

	memset(result, 0, sizeof(*result));
	result->options = migration->options;
	result->settings = &migration->settings;
	result->source = true;
	result->uri = uri;
	result->status = "failed";
	result->touched_bytes = guest_filled_bytes(migration->guest);
	result->cpu_destination_s = -1;
	result->switchover_gap_ms = -1;
	result->run_on_pages_per_s = -1;
	guest_forget_runs(migration->guest);
	migration->cancel = false;
}

void migration_run(struct migration *migration, const char *uri)
{
	begin_result(migration, uri);
	if (migration->settings.prealloc && reach(migration, uri, true) != ENDING_PREPARED)
		return;
	if (reach(migration, uri, false) != ENDING_OVER)
		return;
	histogram_summary(&migration->end.io.late, 1e3, &migration->result->late_us);
	histogram_summary(&migration->end.io.waited, 1e3, &migration->result->waited_us);
}
