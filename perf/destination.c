/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's side of migperf.
 *
 * One listener is kept open; each migration has a session and a guest of its own; a source that wants --prealloc has one more
 * session before it, in which memory is populated (SETTINGS_PREPARED). The main thread waits for each to be over, lets the
 * guest run on, verifies it and reports; the library's callbacks run in the iothread and only begin things, once the big
 * lock is dropped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perf/destination.h"
#include "perf/disk/disk.h"
#include "perf/end.h"
#include "perf/guest.h"
#include "perf/os.h"
#include "perf/spare.h"

#define SOURCE_CLOSES_NS (10 * OS_S) /* after the report */
#define RESEND_NS (50 * OS_MS)       /* of the report, while there is no link */
#define AFTER_FAILURE_NS (100 * OS_MS)
#define PREPARING_MS 3600000u /* most that the library allows a callback: populating takes what it takes */

struct destination {
	struct end end; /* first: it is the callbacks' opaque */
	const struct options *options;
	struct loop *loop;
	const char *uri;
	bool quiet;
	_Atomic bool cancel;
	bool broken; /* it cannot serve, whatever comes */

	struct spare spare;
	struct result *result;

	/* of the migration under way; iothread and worker in turn as the library asks, then main once it is over */
	struct guest_settings settings;
	struct guest *guest; /* NULL: none was offered yet */
	bool prepared;       /* it was no migration: memory is ready for the one that follows */
	uint64_t callback_ms;
	char cookie[SLUICE_MESSAGE_MAX];
	size_t cookie_length;
	uint64_t offered_bytes;
	const struct sluice_section *sections;
	size_t n_sections;
	double cpu_before_s;
	uint64_t tables_before;
	_Atomic uint64_t first_beat_ns, stopped_ns;
};

/* ---------------------------------------------------------------- memory */

/* Thread: worker. On error `why` says it for the source's user. */
static int provide_memory(struct destination *destination, struct memory *ret, char why[MEMORY_ERROR])
{
	const struct guest_settings *settings = &destination->settings;
	int error;

	if (spare_take(&destination->spare, settings->prealloc ? &settings->memory : NULL, ret))
		return 0;
	error = memory_check_room(&settings->memory, settings->need_bytes, why);
	if (!error)
		error = memory_create(ret, &settings->memory, why);
	if (error || !settings->prealloc)
		return error;
	error = memory_populate(ret, &destination->cancel); /* what was prepared expired, or another source took it */
	if (error) {
		snprintf(why, MEMORY_ERROR, "cannot populate memory: %s: free memory or choose a smaller -m", strerror(-error));
		memory_destroy(ret);
	}
	return error;
}

/* ---------------------------------------------------------------- callbacks (iothread) */

/* Thread: worker. */
static void provide_guest(void *opaque)
{
	struct destination *destination = opaque;
	struct sluice *session = destination->end.session;
	char why[MEMORY_ERROR > SETTINGS_ERROR ? MEMORY_ERROR : SETTINGS_ERROR] = "";
	struct memory memory;
	int error;

	destination->cpu_before_s = os_cpu_seconds();
	iothread_measure(&destination->end.io, true);
	error = settings_decode(destination->cookie, destination->cookie_length, &destination->settings, why);
	if (!error && destination->offered_bytes != destination->settings.memory.bytes) {
		snprintf(why, sizeof(why), "the source's regions do not add up to the memory of its guest");
		error = -EBADMSG;
	}
	if (error)
		goto refuse;
	if (destination->settings.disk.path[0] && destination->options->role == ROLE_SERVER &&
	    destination->options->guest.disk.path[0])
		strcpy(destination->settings.disk.path, destination->options->guest.disk.path); /* where it is here */
	if (destination->settings.prepare) {
		error = spare_make(&destination->spare, &destination->settings.memory, &destination->cancel, why);
		if (error)
			goto refuse;
		destination->prepared = true;
		error = SETTINGS_PREPARED;
		snprintf(why, sizeof(why), "prepared: memory is populated for the migration that follows");
		goto refuse;
	}
	sluice_set(session, SLUICE_CALLBACK_MS, destination->callback_ms);
	error = provide_memory(destination, &memory, why);
	if (error)
		goto refuse;
	error = guest_create(&destination->settings, &memory, &destination->guest, why);
	if (error) {
		memory_destroy(&memory);
		goto refuse;
	}
	error = memory_add_regions(guest_memory(destination->guest), session, memory.populated ? SLUICE_REGION_POPULATED : 0);
refuse:
	if (why[0])
		sluice_refuse_because(session, why);
	sluice_done(session, SLUICE_INCOMING_GUEST, error);
}

/* Without the big lock, as all that follows here with `ask_`. */
static void ask_to_provide(void *opaque)
{
	struct destination *destination = opaque;

	if (worker_ask(&destination->end.worker, provide_guest, destination))
		sluice_done(destination->end.session, SLUICE_INCOMING_GUEST, -EBUSY);
}

static void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	struct destination *destination = opaque;

	/* A sum that overflows is no guest's size. */
	destination->offered_bytes = 0;
	for (size_t i = 0; i < n; i++) {
		if (__builtin_add_overflow(destination->offered_bytes, offers[i].size, &destination->offered_bytes))
			destination->offered_bytes = UINT64_MAX;
	}
	destination->cookie_length = length < sizeof(destination->cookie) ? length : sizeof(destination->cookie);
	memcpy(destination->cookie, cookie, destination->cookie_length);
	iothread_after(&destination->end.io, ask_to_provide, destination);
}

/* Thread: worker. */
static void load(void *opaque)
{
	struct destination *destination = opaque;
	char why[SETTINGS_ERROR];
	int error = guest_load(destination->guest, destination->sections, destination->n_sections, why);

	if (error)
		sluice_refuse_because(destination->end.session, why);
	sluice_done(destination->end.session, SLUICE_LOAD, error);
}

static void ask_to_load(void *opaque)
{
	struct destination *destination = opaque;

	if (worker_ask(&destination->end.worker, load, destination))
		sluice_done(destination->end.session, SLUICE_LOAD, -EBUSY);
}

static void on_load(void *opaque, const struct sluice_section *sections, size_t n)
{
	struct destination *destination = opaque;

	destination->sections = sections;
	destination->n_sections = n;
	iothread_after(&destination->end.io, ask_to_load, destination);
}

/* Thread: worker. */
static void acquire(void *opaque)
{
	struct destination *destination = opaque;

	sluice_done(destination->end.session, SLUICE_ACQUIRE, disk_acquire(guest_disk(destination->guest), false));
}

static void ask_to_acquire(void *opaque)
{
	struct destination *destination = opaque;

	if (!guest_disk(destination->guest))
		sluice_done(destination->end.session, SLUICE_ACQUIRE, 0);
	else if (worker_ask(&destination->end.worker, acquire, destination))
		sluice_done(destination->end.session, SLUICE_ACQUIRE, -EBUSY);
}

static void on_acquire(void *opaque)
{
	struct destination *destination = opaque;

	iothread_after(&destination->end.io, ask_to_acquire, destination);
}

static void fill_report(struct destination *destination, struct report *report)
{
	memset(report, 0, sizeof(*report));
	os_host_id(report->host);
	report->first_beat_ns = atomic_load(&destination->first_beat_ns);
	report->stopped_ns = atomic_load(&destination->stopped_ns);
}

static int send_report(struct destination *destination, const struct report *report)
{
	char *text = report_encode(report);
	int error = text ? sluice_send_message(destination->end.session, text, strlen(text)) : -ENOMEM;

	free(text);
	return error;
}

/* Thread: worker: it reads files. */
static void tell_running(void *opaque)
{
	struct destination *destination = opaque;
	struct report report;

	fill_report(destination, &report);
	report.kind = REPORT_RUNNING;
	send_report(destination, &report);
}

/* Thread: heartbeat. */
static void resumed(void *opaque, uint64_t ns)
{
	struct destination *destination = opaque;

	atomic_store(&destination->first_beat_ns, ns);
	sluice_done(destination->end.session, SLUICE_RESUME, 0);
	worker_ask(&destination->end.worker, tell_running, destination);
}

static void resume(void *opaque)
{
	struct destination *destination = opaque;

	uint64_t stopped_ns = sluice_stopped_ns(destination->end.session);
	int error = guest_advance_clocks(destination->guest, stopped_ns);

	atomic_store(&destination->stopped_ns, stopped_ns);
	if (error)
		sluice_done(destination->end.session, SLUICE_RESUME, error);
	else
		guest_resume(destination->guest, resumed, destination);
}

static void on_resume(void *opaque)
{
	struct destination *destination = opaque;

	iothread_after(&destination->end.io, resume, destination);
}

static void on_event(void *opaque, const struct sluice_event *event)
{
	struct destination *destination = opaque;

	end_note(&destination->end, event);
}

static const struct sluice_ops destination_ops = {
	.event = on_event,
	.incoming = on_incoming,
	.load = on_load,
	.acquire = on_acquire,
	.resume = on_resume,
};

/* ---------------------------------------------------------------- one migration (main thread) */

/* end.advise: what a user does while there is still something to decide. */
static void advise(struct end *end)
{
	struct destination *destination = (struct destination *)end;

	fprintf(stderr,
		"migperf: migration in doubt: the guest that came is stopped here, and may run at its source, %s. That connects "
		"again by "
		"itself. If it does not, look what that migperf -c says. Failed or cancelled: it runs there, and kill -INT %d "
		"ends this "
		"one. Gone: kill -USR2 %d runs it here. In doubt or silent: end that one first, and see it gone\n",
		destination->settings.from, (int)getpid(), (int)getpid());
}

/* Until it is decided: the library may go on after that, for a source in doubt. */
static void watch(struct destination *destination)
{
	struct end *end = &destination->end;
	unsigned stops = 0;

	while (!end_decided(end)) {
		if (destination->loop->stops != stops) {
			stops = destination->loop->stops;
			destination->cancel = true;
			sluice_cancel(end->session);
		}
		spare_expire(&destination->spare);
		end_wait(end, end->doubt_until_ns ? end->doubt_until_ns : os_now_ns() + OS_S);
	}
}

/* loop_run: verify, and meanwhile, once a second: say that it goes on. */
static int verify_arrived(void *arg)
{
	struct destination *destination = arg;

	return verify_guest(destination->guest, destination->settings.verify, &destination->cancel, &destination->result->verify);
}

static void tell_busy(void *arg)
{
	struct destination *destination = arg;
	struct report report;

	fill_report(destination, &report);
	report.kind = REPORT_BUSY;
	send_report(destination, &report);
}

/* What the disk did here; the source may have it back. */
static void end_disk(struct destination *destination, struct result *result)
{
	struct disk *disk = guest_disk(destination->guest);
	struct disk_view view;

	if (!disk)
		return;
	disk_look(disk, &view);
	result_take_disk(result, &view, NULL);
	disk_release(disk);
}

/* The guest runs here: let it run on, verify it, report, and wait for the source to close. */
static void receive(struct destination *destination)
{
	struct result *result = destination->result;
	uint64_t now = os_now_ns(), until = now + END_RUN_ON_NS;
	uint64_t tables = os_page_table_bytes();
	struct guest_view first, running, view;
	struct report report;
	int error;

	guest_look(destination->guest, &first);
	while (os_now_ns() < until)
		loop_wait(destination->loop, until);
	guest_look(destination->guest, &running);
	result->run_on_pages_per_s = (double)(running.pages_written - first.pages_written) / (double)(os_now_ns() - now) * OS_S;
	result->guest_checked = guest_check(destination->guest);
	result->has_clocks = guest_clocks(destination->guest, &result->clocks);
	result->stopped_ms = (double)atomic_load(&destination->stopped_ns) * 1e-6;
	guest_look(destination->guest, &view);
	error = loop_run(destination->loop, verify_arrived, tell_busy, destination, &destination->cancel);
	if (error) {
		snprintf(result->error, RESULT_TEXT, "could not be verified: %s", strerror(-error));
		result->exit_status = EXIT_DIFFERS;
	}
	end_disk(destination, result);
	result->gap_ms = (double)running.gap_ns * 1e-6;
	result->vcpu_gap_ms = (double)running.vcpu_gap_ns * 1e-6;
	result->pages_written = view.pages_written;
	result->cpu_destination_s = destination->end.cpu_over_s - destination->cpu_before_s;
	result->page_tables_bytes = tables > destination->tables_before ? tables - destination->tables_before : 0;
	if (result->verify.status == VERIFY_MISMATCH)
		result->exit_status = EXIT_DIFFERS;

	fill_report(destination, &report);
	report.kind = REPORT_RESULT;
	report.verify = result->verify;
	if (error)
		snprintf(report.verify.first, CONTENT_TEXT, "%s", strerror(-error));
	report.cpu_s = result->cpu_destination_s;
	report.run_on_pages_per_s = result->run_on_pages_per_s;
	report.gap_ns = running.gap_ns;
	report.vcpu_gap_ns = running.vcpu_gap_ns;
	report.guest_checked = result->guest_checked;
	report.has_clocks = result->has_clocks;
	report.clocks = result->clocks;
	report.pages_written = view.pages_written;
	report.sluice_bytes = result->sluice_bytes;
	report.page_tables_bytes = result->page_tables_bytes;
	report.disk = (struct report_disk){ .requests = result->disk.requests,
					    .failed = result->disk.failed,
					    .first_ns = result->disk.view.first_ns,
					    .gap_ns = result->disk.view.gap_ns };
	until = os_now_ns() + SOURCE_CLOSES_NS;
	/* A source that was in doubt may only now be about to connect again. */
	while (send_report(destination, &report) && !end_ended(&destination->end) && os_now_ns() < until)
		end_wait(&destination->end, os_now_ns() + RESEND_NS);
	while (!end_ended(&destination->end) && os_now_ns() < until)
		end_wait(&destination->end, until);
	sluice_close(destination->end.session);
}

static void explain_doubt(struct destination *destination)
{
	end_explain_doubt(
		&destination->end, destination->result->error,
		"the guest that came is stopped here, and may run at its source, %s: look what that migperf -c says. Failed or "
		"cancelled: it runs on there. Ended with anything else: it runs nowhere, start both again. Still there and "
		"silent: end that one first.",
		destination->settings.from);
}

static void begin_result(struct destination *destination)
{
	struct result *result = destination->result;

	memset(result, 0, sizeof(*result));
	result->options = destination->options;
	result->uri = destination->uri;
	result->cpu_source_s = result->cpu_destination_s = -1;
	result->switchover_gap_ms = -1;
	result->run_on_pages_per_s = -1;
	destination->cancel = false;
	destination->prepared = false;
	destination->guest = NULL;
	memset(destination->cookie, 0, sizeof(destination->cookie)); /* a first touch would be paid for under the big lock */
	atomic_store(&destination->first_beat_ns, 0);
	atomic_store(&destination->stopped_ns, 0);
	destination->tables_before = os_page_table_bytes();
}

/* Said of one migration that came in. */
static void present(struct destination *destination)
{
	const struct result *result = destination->result;

	if (destination->options->json && !destination->quiet)
		result_print_json(result);
	else if (!destination->quiet && result->exit_status == EXIT_COMPLETED)
		result_print_table(result);
	if (result->error[0] && !(destination->quiet && result->exit_status != EXIT_COMPLETED))
		fprintf(stderr, "migperf: %s: %s\n", result->status, result->error);
	if (result->verify.status == VERIFY_MISMATCH && !destination->quiet)
		fprintf(stderr, "migperf: memory differs: %" PRIu64 " pages; %s\n", result->verify.mismatches,
			result->verify.first);
}

/* Tear down what came. */
static void let_go(struct destination *destination)
{
	if (!destination->guest)
		return;
	guest_park(destination->guest);
	guest_destroy(destination->guest);
	destination->guest = NULL;
}

/* Wait for one migration, or a source that has one prepared, and see it through. */
static enum exit_status serve(struct destination *destination, struct sluice_listener *listener, bool last)
{
	struct result *result = destination->result;
	bool started = false;
	int error;

	begin_result(destination);
	error = end_open(&destination->end, &destination_ops, destination, destination->options, destination->loop,
			 result->error);
	destination->end.advise = advise;
	if (error) {
		if (!destination->quiet)
			fprintf(stderr, "migperf: %s\n", result->error);
		destination->broken = true;
		return error == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	}
	destination->callback_ms = sluice_get(destination->end.session, SLUICE_CALLBACK_MS);
	sluice_set(destination->end.session, SLUICE_CALLBACK_MS, PREPARING_MS); /* until a migration comes */
	error = sluice_destination_start(destination->end.session, listener);
	if (error) {
		fprintf(stderr, "migperf: cannot wait for a source: %s\n", strerror(-error));
		result->exit_status = EXIT_FAILED;
		destination->broken = true;
	} else {
		started = true;
		watch(destination);
		result->exit_status = end_outcome(&destination->end, &result->status, result->error);
		result_collect(result, destination->end.session);
		if (result->exit_status == EXIT_COMPLETED) {
			receive(destination);
		} else if (result->exit_status == EXIT_IN_DOUBT) {
			explain_doubt(destination);
		} else {
			destination->cancel = true; /* the worker may still be populating for a source that is gone */
			if (!last)                  /* a source that is in doubt hears from the next session how this one ended */
				sluice_close(destination->end.session);
		}
	}
	if (!end_close(&destination->end, started)) {
		fprintf(stderr, "migperf: giving up; please report this\n");
		_Exit(EXIT_FAILED);
	}
	if (destination->prepared)
		return EXIT_COMPLETED;
	if (started) {
		histogram_summary(&destination->end.io.late, 1e3, &result->late_us);
		histogram_summary(&destination->end.io.waited, 1e3, &result->waited_us);
		result->settings = destination->guest ? &destination->settings : NULL;
		if (destination->guest) {
			guest_park(destination->guest);
			result->runs = guest_runs(destination->guest, result->ran);
		}
		/* Stopped while nothing came: that is no migration. */
		if (!(result->exit_status == EXIT_CANCELLED && destination->loop->stops && !destination->guest))
			present(destination);
	}
	let_go(destination);
	return result->exit_status;
}

/* ---------------------------------------------------------------- all of them */

static enum exit_status serve_all(struct destination *destination, struct sluice_listener *listener)
{
	const struct options *options = destination->options;
	uint64_t limit = options->count, done = 0;
	enum exit_status status = EXIT_COMPLETED;

	while (!destination->loop->stops && (!limit || done < limit)) {
		status = serve(destination, listener, done + 1 == limit);
		if (destination->broken)
			return status;
		if (destination->prepared)
			continue;
		done++;
		if (status != EXIT_COMPLETED && (!limit || done < limit))
			loop_wait(destination->loop, os_now_ns() + AFTER_FAILURE_NS);
	}
	/* A server without a limit ends by being stopped: that is no failure unless it cut a migration off. */
	if (!limit && !(status == EXIT_CANCELLED && destination->result->settings))
		return EXIT_COMPLETED;
	return status;
}

enum exit_status destination_run(const struct options *options, struct loop *loop, bool quiet,
				 void (*announce)(void *opaque, const char *uri), void *opaque)
{
	struct destination *destination = calloc(1, sizeof(*destination));
	enum exit_status status = EXIT_FAILED;
	struct sluice_listener *listener;
	char error[SLUICE_ERROR_MAX] = "";
	int result;

	if (destination)
		destination->result = calloc(1, sizeof(*destination->result));
	if (!destination || !destination->result) {
		fprintf(stderr, "migperf: no memory\n");
		goto free;
	}
	destination->options = options;
	destination->loop = loop;
	destination->quiet = quiet;
	spare_init(&destination->spare);
	result = sluice_listen(options->uri, options->insecure, &listener, error);
	if (result) {
		fprintf(stderr, "migperf: %s\n", error[0] ? error : strerror(-result));
		if (result == -EINVAL || result == -EPERM || !strncmp(options->uri, "fd:", 3))
			status = EXIT_USAGE;
		else if (result != -ENOMEM)
			status = EXIT_REFUSED;
		goto out;
	}
	destination->uri = sluice_listener_uri(listener);
	announce(opaque, destination->uri);
	status = serve_all(destination, listener);
	sluice_listener_close(listener);
out:
	spare_fini(&destination->spare);
free:
	if (destination)
		free(destination->result);
	free(destination);
	return status;
}
