/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pause.c: how long does it take until the last vCPU stands still, and how much longer when a migration asks for it?
 *
 *   pause [-v VCPUS] [-n RUNS] [-J]
 *
 * In turns: all vCPUs are paused while nothing else happens (alone), and when a migration switches over (sluice). That migration fails in its
 * next step, so that the guest runs on. Medians, the longest, and the ratio. Exit status 1: it is over 1.5. */
#include "perf/bench/vm.h"

enum { RUNS = 101 };
static const double most = 1.5;

static uint64_t began_ns;
static _Atomic uint64_t took_ns;
static struct end end;

static void parked(void)
{
	atomic_store(&took_ns, now_ns() - began_ns);
	if (end.session)
		sluice_done(end.session, SLUICE_PAUSE, 0);
}

static void on_pause(void *opaque)
{
	(void)opaque;
	began_ns = now_ns();
	vm_pause(parked);
}

static void on_save(void *opaque)
{
	(void)opaque;
	sluice_done(end.session, SLUICE_SAVE, -ECANCELED);
}

static void on_resume(void *opaque)
{
	(void)opaque;
	vm_resume();
	sluice_done(end.session, SLUICE_RESUME, 0);
}

static const struct sluice_ops ops = {
	.size_of = sizeof(ops), .event = on_event, .pause = on_pause, .save = on_save, .resume = on_resume
};

static double alone(void)
{
	atomic_store(&took_ns, 0);
	usleep(20000 + (unsigned)rand() % 20000);
	on_pause(NULL);
	while (!atomic_load(&took_ns))
		usleep(1000);
	vm_resume();
	return (double)atomic_load(&took_ns) * 1e-6;
}

static double with_sluice(const char *uri)
{
	struct sluice_error error;
	atomic_store(&took_ns, 0);
	begin(&end, &ops);
	sluice_set(end.session, SLUICE_DOWNTIME_LIMIT_MS, 10000);
	must(!sluice_source_start(end.session, uri), "start");
	dispatch_until(&end, &end.ended);
	sluice_get_error(end.session, &error);
	if (error.code != -ECANCELED || !atomic_load(&took_ns))
		errx(1, "the migration did not come so far: %s", error.text);
	sluice_destroy(end.session);
	end.session = NULL;
	return (double)atomic_load(&took_ns) * 1e-6;
}

int main(int argc, char **argv)
{
	static double without_ms[RUNS], with_ms[RUNS];
	unsigned runs = 15;
	bool json = false;
	char uri[64];
	vm.bytes = WRITTEN;
	vm.vcpus = 8;
	for (int option; (option = getopt(argc, argv, "v:n:J")) != -1;) {
		switch (option) {
		case 'v': vm.vcpus = (unsigned)atoi(optarg); break;
		case 'n': runs = (unsigned)atoi(optarg); break;
		case 'J': json = true; break;
		default: return 2;
		}
	}
	if (!vm.vcpus || vm.vcpus > VM_VCPUS || !runs || runs > RUNS)
		errx(2, "-v VCPUS (1 to %d), -n RUNS (1 to %d)", VM_VCPUS, RUNS);
	pid_t child = make_destination(uri);
	vm_make();
	usleep(300000);
	for (unsigned run = 0; run < runs; run++) {
		without_ms[run] = alone();
		with_ms[run] = with_sluice(uri);
	}
	double without = median(without_ms, runs), with = median(with_ms, runs), ratio = with / without;
	printf(json ? "{\"vcpus\": %u, \"runs\": %u, \"alone_ms\": %.3f, \"alone_ms_max\": %.3f, \"sluice_ms\": %.3f, "
		      "\"sluice_ms_max\": %.3f, "
		      "\"ratio\": %.3f}\n"
		    : "%u vCPUs stand still, medians of %u (longest): alone after %.3f ms (%.3f), at a switchover after %.3f ms "
		      "(%.3f); ratio %.2f\n",
	       vm.vcpus, runs, without, without_ms[runs - 1], with, with_ms[runs - 1], ratio);
	kill(child, SIGKILL);
	fflush(stdout);
	_exit(ratio > most);
}
