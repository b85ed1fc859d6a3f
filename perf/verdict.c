/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verdict on a migration that is over. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "perf/os.h"
#include "perf/verdict.h"

#define REPORT_NS (30 * OS_S) /* without a sign of life from the destination's migperf, after completion */

/* What the disk did there, and the gap across the switchover: from the guest's last completion here to its first there. */
static void take_disk(struct migration *migration, const struct report_disk *there)
{
	struct disk *disk = guest_disk(migration->guest);
	struct disk_result *here = &migration->result->disk;
	uint64_t done = here->view.reads + here->view.writes;

	here->run_on_requests = there->requests > done ? there->requests - done : 0;
	if (there->first_ns > here->view.last_ns && here->view.last_ns && migration->result->one_clock) {
		disk_add_gap(disk, there->first_ns - here->view.last_ns);
		disk_look(disk, &here->view);
		here->switchover_gap_ms = (double)(there->first_ns - here->view.last_ns) * 1e-6;
		here->gap_ms = (double)here->view.gap_ns * 1e-6;
	}
	if ((double)there->gap_ns * 1e-6 > here->gap_ms)
		here->gap_ms = (double)there->gap_ns * 1e-6;
}

static void take_result(struct migration *migration, const struct report *report)
{
	struct result *result = migration->result;

	result->verify = report->verify;
	result->cpu_destination_s = report->cpu_s;
	result->peer_sluice_bytes = report->sluice_bytes;
	result->peer_page_tables_bytes = report->page_tables_bytes;
	if ((double)report->gap_ns * 1e-6 > result->gap_ms)
		result->gap_ms = (double)report->gap_ns * 1e-6;
	if ((double)report->vcpu_gap_ns * 1e-6 > result->vcpu_gap_ms)
		result->vcpu_gap_ms = (double)report->vcpu_gap_ns * 1e-6;
	result->guest_checked = report->guest_checked;
	result->stopped_ms = (double)report->stopped_ns * 1e-6;
	result->has_clocks = report->has_clocks;
	result->clocks = report->clocks;
	if (result->disk.has)
		take_disk(migration, &report->disk);
	result->run_on_pages_per_s = report->run_on_pages_per_s;
}

/* The switchover's gap: from the last heartbeat here to the first there, or, where clocks differ, to the news of
 * it. */
static void take_first_beat(struct migration *migration, const struct report *report, uint64_t at_ns)
{
	struct result *result = migration->result;
	struct guest_view view;
	char host[OS_HOST_ID];
	uint64_t first;

	if (!report->first_beat_ns || result->one_clock)
		return;
	os_host_id(host);
	guest_look(migration->guest, &view);
	result->one_clock = !strcmp(host, report->host);
	first = result->one_clock ? report->first_beat_ns : at_ns;
	if (!view.last_beat_ns || first < view.last_beat_ns || (!result->one_clock && result->switchover_gap_ms >= 0))
		return;
	result->switchover_gap_ms = (double)(first - view.last_beat_ns) * 1e-6;
	if (result->switchover_gap_ms > result->gap_ms)
		result->gap_ms = result->switchover_gap_ms;
}

/* After completion: what the guest's new host says of it. Whether it did. */
static bool await_report(struct migration *migration)
{
	uint64_t until = os_now_ns() + REPORT_NS, at_ns;
	unsigned stops = migration->loop->stops;
	struct report report;
	int error;

	for (;;) {
		error = end_take_report(&migration->end, &report, &at_ns);
		if (error == -EBADMSG)
			return false;
		if (!error) {
			until = at_ns + REPORT_NS;
			take_first_beat(migration, &report, at_ns);
			if (report.kind != REPORT_RESULT)
				continue;
			take_result(migration, &report);
			return true;
		}
		if (end_ended(&migration->end) || migration->loop->child_gone || migration->loop->stops != stops ||
		    os_now_ns() >= until)
			return false;
		end_wait(&migration->end, until);
	}
}

/* The guest runs at the destination, which verifies it and says what came of that. */
static void check_arrived(struct migration *migration)
{
	struct result *result = migration->result;
	const char *why = "the destination does not say why";
	unsigned stops = migration->loop->stops;

	if (await_report(migration))
		why = result->verify.first[0] ? result->verify.first : why;
	else if (migration->loop->stops != stops)
		why = "interrupted before the destination said what it verified; the guest runs there: look at its migperf's "
		      "messages";
	else
		why = "the guest runs at the destination, which never said what it verified: look at its migperf's messages";
	if (result->verify.status != VERIFY_SKIPPED || migration->settings.verify == VERIFY_OFF)
		return;
	snprintf(result->error, RESULT_TEXT, "could not be verified: %s", why);
	result->verify.first[0] = 0;
	result->exit_status = EXIT_DIFFERS;
}

/* loop_run: verify here. */
static int verify_here(void *arg)
{
	struct migration *migration = arg;

	return verify_guest(migration->guest, migration->settings.verify, &migration->cancel, &migration->result->verify);
}

/* The disk ran on here since result->disk was taken. */
static void survive_disk(struct migration *migration)
{
	struct disk_result *disk = &migration->result->disk;
	struct disk_view view;

	if (!disk->has)
		return;
	disk_look(guest_disk(migration->guest), &view);
	disk->run_on_requests = view.reads + view.writes - disk->view.reads - disk->view.writes;
	disk->gap_ms = (double)view.gap_ns * 1e-6;
	disk->view = view;
}

/* After a failure: the guest must go on here as if nothing had happened. */
static void check_survivor(struct migration *migration)
{
	uint64_t now = os_now_ns(), until = now + END_RUN_ON_NS;
	struct result *result = migration->result;
	struct guest_view before, view;
	int error;

	guest_look(migration->guest, &before);
	if (!before.running) {
		snprintf(result->error + strlen(result->error), RESULT_TEXT - strlen(result->error),
			 " (and the library left the guest stopped)");
		guest_resume(migration->guest, NULL, NULL);
	}
	while (os_now_ns() < until)
		loop_wait(migration->loop, until);
	guest_look(migration->guest, &view);
	survive_disk(migration);
	result->run_on_pages_per_s = (double)(view.pages_written - before.pages_written) / (double)(os_now_ns() - now) * OS_S;
	result->gap_ms = (double)view.gap_ns * 1e-6;
	result->vcpu_gap_ms = (double)view.vcpu_gap_ns * 1e-6;
	result->guest_checked = guest_check(migration->guest);
	error = loop_run(migration->loop, verify_here, NULL, migration, &migration->cancel);
	if (error)
		snprintf(result->error + strlen(result->error), RESULT_TEXT - strlen(result->error), " (not verified: %s)",
			 strerror(-error));
}

static void explain_doubt(struct migration *migration)
{
	end_explain_doubt(
		&migration->end, migration->result->error,
		"the guest is stopped here, and may run at %.120s: look what the migperf -s there says. Completed: it runs "
		"there. "
		"Ended with anything else: it runs nowhere, start both again. Still there and silent: end that one first.",
		migration->result->uri);
}

void verdict_reach(struct migration *migration)
{
	struct result *result = migration->result;
	struct guest_view view;

	result->exit_status = end_outcome(&migration->end, &result->status, result->error);
	guest_look(migration->guest, &view);
	result->pages_written = view.pages_written - migration->written_before;
	if (guest_disk(migration->guest)) {
		disk_look(guest_disk(migration->guest), &result->disk.view);
		result_take_disk(result, &result->disk.view, &migration->disk_before);
	}
	result->rings_full = view.rings_full - migration->full_before;
	result->gap_ms = result->source_gap_ms = (double)view.gap_ns * 1e-6;
	result->vcpu_gap_ms = (double)view.vcpu_gap_ns * 1e-6;
	result->cpu_source_s = migration->end.cpu_over_s - migration->cpu_before_s;
	if (result->exit_status == EXIT_COMPLETED) {
		check_arrived(migration);
		sluice_close(migration->end.session);
	} else if (result->exit_status == EXIT_IN_DOUBT) {
		explain_doubt(migration);
	} else {
		check_survivor(migration);
	}
	guest_park(migration->guest);
	result->runs = guest_runs(migration->guest, result->ran);
	if (result->verify.status == VERIFY_MISMATCH)
		result->exit_status = EXIT_DIFFERS;
}
