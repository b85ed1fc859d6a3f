/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dirty_log.c: how long does it take to start the dirty log of a large guest, and does the guest notice?
 *
 *   dirty_log [-m GIB] [-v VCPUS] [-n RUNS] [-J]
 *
 * In turns: nothing happens (idle); KVM_MEM_LOG_DIRTY_PAGES is set and taken away (raw: the floor), on a thread that has just begun, as
 * sluice does it; a migration begins up to the moment at which tracking has started, and is given up (sluice: stats.arm_ms; its
 * stop is all from sluice_cancel() to ENDED). Beside it, for how long a vCPU was held up at most. Medians, and the longest.
 * Exit status 1: starting takes longer than 5 ms. */
#include "perf/bench/vm.h"

#define WINDOW_NS 40000000u
enum { RUNS = 101 };
static const double most_ms = 5;
enum kind { IDLE, RAW, SLUICE, KINDS };
static const char *const names[] = { "idle", "raw", "sluice" };

static struct figure {
	double start_ms[RUNS], stop_ms[RUNS], stall_ms[RUNS];
} figures[KINDS];

static const struct sluice_ops ops = { .size_of = sizeof(ops), .event = on_event, .pause = never, .resume = never };

static void idle(unsigned run)
{
	forget_gaps();
	figures[IDLE].stall_ms[run] = longest_gap_ms(now_ns() + WINDOW_NS);
}

static void *raw_body(void *arg)
{
	uint64_t began = now_ns();
	must(!set_slot(KVM_MEM_LOG_DIRTY_PAGES), "KVM_MEM_LOG_DIRTY_PAGES");
	*(double *)arg = (double)(now_ns() - began) * 1e-6;
	return NULL;
}

static void raw(unsigned run)
{
	pthread_t thread;
	forget_gaps();
	uint64_t began = now_ns();
	must(!pthread_create(&thread, NULL, raw_body, &figures[RAW].start_ms[run]) && !pthread_join(thread, NULL), "a thread");
	figures[RAW].stall_ms[run] = longest_gap_ms(began + WINDOW_NS);
	began = now_ns();
	must(!set_slot(0), "KVM_MEM_LOG_DIRTY_PAGES");
	figures[RAW].stop_ms[run] = (double)(now_ns() - began) * 1e-6;
}

static void with_sluice(unsigned run, const char *uri)
{
	struct sluice_stats stats = { .size_of = sizeof(stats) };
	struct end end;
	begin(&end, &ops);
	sluice_set(end.session, SLUICE_BANDWIDTH, 65536);
	forget_gaps();
	uint64_t began = now_ns();
	must(!sluice_source_start(end.session, uri), "start");
	dispatch_until(&end, &end.active);
	must(end.active && !sluice_get_stats(end.session, &stats), "the migration begins");
	figures[SLUICE].start_ms[run] = stats.arm_ms;
	figures[SLUICE].stall_ms[run] = longest_gap_ms(began + WINDOW_NS);
	began = now_ns();
	sluice_cancel(end.session);
	dispatch_until(&end, &end.ended);
	figures[SLUICE].stop_ms[run] = (double)(now_ns() - began) * 1e-6;
	sluice_destroy(end.session);
	usleep(20000); /* the destination begins anew */
}

static void show(unsigned runs, bool json)
{
	if (json)
		printf("{\"memory_bytes\": %llu, \"vcpus\": %u, \"runs\": %u", (unsigned long long)vm.bytes, vm.vcpus, runs);
	else
		printf("%llu GiB, %u vCPUs, medians of %u (longest)\n%-8s %20s %20s %20s\n", (unsigned long long)(vm.bytes >> 30),
		       vm.vcpus, runs, "", "start ms", "stop ms", "a vCPU held up ms");
	for (int kind = 0; kind < KINDS; kind++) {
		struct figure *f = &figures[kind];
		double *const values[] = { f->start_ms, f->stop_ms, f->stall_ms };
		static const char *const keys[] = { "start_ms", "stop_ms", "stall_ms" };
		printf(json ? ", \"%s\": {" : "%-8s", names[kind]);
		for (int i = 0; i < 3; i++) {
			double middle = median(values[i], runs), most = values[i][runs - 1];
			if (json)
				printf("%s\"%s\": %.3f, \"%s_max\": %.3f", i ? ", " : "", keys[i], middle, keys[i], most);
			else
				printf(" %9.2f (%8.2f)", middle, most);
		}
		puts(json ? "}" : "");
	}
	if (json)
		puts("}");
}

int main(int argc, char **argv)
{
	unsigned runs = 9;
	bool json = false;
	char uri[64];
	vm.bytes = 64ull << 30;
	vm.vcpus = 1;
	for (int option; (option = getopt(argc, argv, "m:v:n:J")) != -1;) {
		switch (option) {
		case 'm': vm.bytes = strtoull(optarg, NULL, 10) << 30; break;
		case 'v': vm.vcpus = (unsigned)atoi(optarg); break;
		case 'n': runs = (unsigned)atoi(optarg); break;
		case 'J': json = true; break;
		default: return 2;
		}
	}
	if (!vm.bytes || !vm.vcpus || vm.vcpus > VM_VCPUS || !runs || runs > RUNS)
		errx(2, "-m GIB, -v VCPUS (1 to %d), -n RUNS (1 to %d)", VM_VCPUS, RUNS);
	pid_t child = make_destination(uri);
	vm_make();
	usleep(300000);
	for (unsigned run = 0; run < runs; run++) {
		idle(run);
		if (run % 2)
			with_sluice(run, uri);
		raw(run);
		if (run % 2 == 0)
			with_sluice(run, uri);
	}
	show(runs, json);
	kill(child, SIGKILL);
	fflush(stdout);
	/* Sorted by now. With vCPUs still running. */
	double start_ms = median(figures[SLUICE].start_ms, runs);
	_exit(start_ms > most_ms);
}
