/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "perf/options.h"
#include "perf/units.h"

#define GO_ON (-1)
#define MAX_HOLD_MS 50000u /* the library waits for a minute */
#define MAX_WARM_UP_MS 3600000u
#define RING_PAGES 4096u /* of a vCPU's dirty ring: small enough that a guest at full speed fills it */

static const char help[] =
	"Migrate a running guest over the network, as fast as the wires, cores and memory allow, and check every byte.\n"
	"\n"
	"  migperf -s [URI]          be a destination; serves migrations until stopped\n"
	"  migperf -c URI            be the source of a migration\n"
	"  migperf --loopback [URI]  both ends: two processes on this machine\n"
	"\n"
	"URI: tcp:HOST:PORT, unix:PATH, fd:N (-s), HOST:PORT or HOST; IPv6 as [ADDR]:PORT. Default tcp:127.0.0.1:4747.\n"
	"Sizes take K, M, G, T (powers of 1024). The source chooses the guest; the destination learns it from the handshake.\n"
	"\n"
	"Which and how many\n"
	"  -n K                      of K migrations, one after the other; with -s: serve K, then exit (default: 1; -s: no end)\n"
	"  -1                        as -n 1\n"
	"\n"
	"The guest\n"
	"  -m, --memory SIZE         its memory (1G)\n"
	"      --guest KIND          what runs: process: threads of a process; kvm: a KVM virtual machine (process)\n"
	"      --backing KIND        anon, memfd, hugetlb, hugetlb:2M, hugetlb:1G (memfd)\n"
	"      --prealloc            populate the destination's memory before the clock starts\n"
	"      --touched PERCENT     how much of the memory was ever written (100)\n"
	"      --fill KIND           random, zero, text (about 2:1 with lz4), or guest:\n"
	"                            --guest kvm writes each page itself (random)\n"
	"      --dirty-rate SIZE     bytes of pages it writes per second (0)\n"
	"      --wss SIZE            working set that it writes (all memory)\n"
	"      --pattern KIND        seq, rand, zipf, gc: in which order (rand)\n"
	"      --vcpus N             threads or vCPUs that write (1)\n"
	"      --warm-up MS          let it run for so long before each migration (0)\n"
	"      --seed N              of all content and order (random)\n"
	"      --disk FILE           a disk that it keeps busy; both ends open FILE, which is made if it is not there\n"
	"      --io-depth N          requests that it keeps outstanding, 1 to 256 (32)\n"
	"      --io-fault FAULT      hang:MS: one request hangs, 0: for ever; fail:N: one of N fails; slow:MS: each takes "
	"longer;\n"
	"                            burst:N: N come at once just before the end\n"
	"\n"
	"The migration\n"
	"      --mode precopy        how (precopy)\n"
	"  -P, --streams N           data streams, 1 to 64 (4)\n"
	"  -b, --bandwidth RATE      bytes per second of all streams, 0: unlimited (0); the last round is exempt\n"
	"      --switchover-bandwidth RATE  that the last round will get, 0: what the others got (0)\n"
	"      --downtime MS         downtime limit (300)\n"
	"      --timeout S           give up after S seconds, 0: never (0)\n"
	"      --throttle MAX        slow a guest that does not converge down, by MAX percent at most, 0: never (0)\n"
	"      --drain-window MS     let no more of its I/O begin for so long, in a try to have none when it is stopped (500)\n"
	"      --drain-tries N       such tries in vain before --drain-fail, 0: any number (10)\n"
	"      --drain-fail KIND     retry: go on trying; fail: give up, and the guest runs on (retry)\n"
	"      --hold MS             wait so long with the guest stopped, before it moves (0)\n"
	"      --compress KIND       none, lz4, auto (auto)\n"
	"      --tracker KIND        where dirty bits come from: pagemap, marks; of a KVM guest kvm-log, kvm-ring, pagemap,\n"
	"                            log: kvm-log as an embedder does it; auto: kvm-log, or pagemap, or before Linux 6.7\n"
	"                            marks (auto)\n"
	"      --dead-peer MS        a peer not heard of for so long is dead, 500 to 60000 (3000)\n"
	"      --in-doubt MS         wait so long for a doubt who owns the guest to end by itself (10000)\n"
	"      --io-engine KIND      uring, plain, auto: io_uring where allowed (auto)\n"
	"      --numa auto|off       pin migration threads by NUMA node (auto)\n"
	"      --cpus LIST           CPUs that migration threads may use, as in 0-3,8 (all)\n"
	"      --insecure            allow plain text beyond loopback\n"
	"\n"
	"The result\n"
	"      --verify KIND         full, sample, off: check memory after the guest ran on for 200 ms (full)\n"
	"  -i S                      interval lines every S seconds, 0: none (1)\n"
	"  -J, --json                one JSON object per migration on standard output, nothing else there\n"
	"      --report FILE.html    a page with plots of the run\n"
	"      --version, --help\n"
	"\n"
	"SIGINT cancels: the guest runs on at the source. SIGUSR1 says on stderr what every thread waits for.\n"
	"In doubt it says what to look at and where; then SIGUSR2 runs the guest here, and SIGINT lets it go.\n"
	"Exit status: 0 completed and verified, 1 failed (the guest runs on at the source), 2 usage, 3 memory differs\n"
	"or could not be verified, 4 no connection or refused, 5 in doubt, 6 cancelled. See migperf(1).\n";

static int usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int usage(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("migperf: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return EXIT_USAGE;
}

/* Options of the contract that a later version will have: refused, rather than taken and not done. */
static const struct {
	const char *name, *instead;
	int has_arg;
} later[] = {
	{ "rounds", "hybrid mode is not in this version: leave it out", 1 },
	{ "urgent", "postcopy is not in this version: leave it out", 1 },
	{ "zero-copy", "zero-copy send is not in this version: leave it out", 1 },
	{ "on-pause", "postcopy is not in this version: leave it out", 1 },
	{ "recover", "recovery is not in this version: leave it out", 1 },
	{ "tls", "TLS is not in this version: use a network you trust and --insecure, or a tunnel", 1 },
	{ "psk", "TLS is not in this version: use a network you trust and --insecure, or a tunnel", 1 },
	{ "info", "saved guests are not in this version: migrate over tcp: or unix:", 1 },
	{ "check", "saved guests are not in this version: migrate over tcp: or unix:", 1 },
	{ "rescue", "rescue files are not in this version: migrate over tcp: or unix:", 1 },
};
#define LATER (sizeof(later) / sizeof(*later))

enum {
	OPT_LOOPBACK = 256,
	OPT_GUEST,
	OPT_BACKING,
	OPT_PREALLOC,
	OPT_TOUCHED,
	OPT_FILL,
	OPT_DIRTY_RATE,
	OPT_WSS,
	OPT_PATTERN,
	OPT_VCPUS,
	OPT_SEED,
	OPT_DISK,
	OPT_IO_DEPTH,
	OPT_IO_FAULT,
	OPT_MODE,
	OPT_DOWNTIME,
	OPT_SWITCHOVER_BANDWIDTH,
	OPT_TIMEOUT,
	OPT_THROTTLE,
	OPT_HOLD,
	OPT_DRAIN_WINDOW,
	OPT_DRAIN_TRIES,
	OPT_DRAIN_FAIL,
	OPT_WARM_UP,
	OPT_COMPRESS,
	OPT_TRACKER,
	OPT_DEAD_PEER,
	OPT_IN_DOUBT,
	OPT_IO_ENGINE,
	OPT_NUMA,
	OPT_CPUS,
	OPT_INSECURE,
	OPT_VERIFY,
	OPT_REPORT,
	OPT_VERSION,
	OPT_HELP,
	OPT_LATER,
};

static const struct option known[] = {
	{ "loopback", optional_argument, NULL, OPT_LOOPBACK },
	{ "memory", required_argument, NULL, 'm' },
	{ "guest", required_argument, NULL, OPT_GUEST },
	{ "backing", required_argument, NULL, OPT_BACKING },
	{ "prealloc", no_argument, NULL, OPT_PREALLOC },
	{ "touched", required_argument, NULL, OPT_TOUCHED },
	{ "fill", required_argument, NULL, OPT_FILL },
	{ "dirty-rate", required_argument, NULL, OPT_DIRTY_RATE },
	{ "wss", required_argument, NULL, OPT_WSS },
	{ "pattern", required_argument, NULL, OPT_PATTERN },
	{ "vcpus", required_argument, NULL, OPT_VCPUS },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "io-depth", required_argument, NULL, OPT_IO_DEPTH },
	{ "io-fault", required_argument, NULL, OPT_IO_FAULT },
	{ "mode", required_argument, NULL, OPT_MODE },
	{ "streams", required_argument, NULL, 'P' },
	{ "bandwidth", required_argument, NULL, 'b' },
	{ "switchover-bandwidth", required_argument, NULL, OPT_SWITCHOVER_BANDWIDTH },
	{ "downtime", required_argument, NULL, OPT_DOWNTIME },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "throttle", required_argument, NULL, OPT_THROTTLE },
	{ "hold", required_argument, NULL, OPT_HOLD },
	{ "drain-window", required_argument, NULL, OPT_DRAIN_WINDOW },
	{ "drain-tries", required_argument, NULL, OPT_DRAIN_TRIES },
	{ "drain-fail", required_argument, NULL, OPT_DRAIN_FAIL },
	{ "warm-up", required_argument, NULL, OPT_WARM_UP },
	{ "compress", required_argument, NULL, OPT_COMPRESS },
	{ "tracker", required_argument, NULL, OPT_TRACKER },
	{ "dead-peer", required_argument, NULL, OPT_DEAD_PEER },
	{ "in-doubt", required_argument, NULL, OPT_IN_DOUBT },
	{ "io-engine", required_argument, NULL, OPT_IO_ENGINE },
	{ "numa", required_argument, NULL, OPT_NUMA },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "insecure", no_argument, NULL, OPT_INSECURE },
	{ "verify", required_argument, NULL, OPT_VERIFY },
	{ "json", no_argument, NULL, 'J' },
	{ "report", required_argument, NULL, OPT_REPORT },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
};
#define KNOWN (sizeof(known) / sizeof(*known))

/* ---------------------------------------------------------------- values */

static int take_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;
	int error = strspn(text, "0123456789") == strlen(text) ? units_parse_size(text, &value) : -EINVAL;

	if (error == -EINVAL)
		return usage("%s %s is not a number: give one from %" PRIu64 " to %" PRIu64, name, text, min, max);
	if (error || value < min || value > max)
		return usage("%s %s is out of range: %" PRIu64 " to %" PRIu64, name, text, min, max);
	*ret = value;
	return GO_ON;
}

static int take_size(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char a[UNITS_TEXT], b[UNITS_TEXT];
	uint64_t value = 0;
	int error = units_parse_size(text, &value);

	if (error == -EINVAL)
		return usage("%s %s is not a size: give one as in 64K, 300M, 4G", name, text);
	if (error || value < min || value > max)
		return usage("%s %s is out of range: %s to %s", name, text, units_exact(min, a), units_exact(max, b));
	*ret = value;
	return GO_ON;
}

/* A decimal fraction; "inf", "nan" and hexadecimal ones are not. */
static int take_fraction(const char *name, const char *text, double max, double *ret)
{
	char *end = NULL;
	double value = strspn(text, "0123456789.") == strlen(text) ? strtod(text, &end) : -1;

	if (!end || end == text || *end || value < 0 || value > max)
		return usage("%s %s is out of range: 0 to %g", name, text, max);
	*ret = value;
	return GO_ON;
}

static int take_choice(const char *name, const char *text, const char *const *names, int *ret)
{
	char list[128] = "";

	*ret = settings_find(names, text);
	if (*ret >= 0)
		return GO_ON;
	for (size_t i = 0; names[i]; i++) {
		strncat(list, i ? ", " : "", sizeof(list) - strlen(list) - 1);
		strncat(list, names[i], sizeof(list) - strlen(list) - 1);
	}
	return usage("%s %s is not known: choose one of %s", name, text, list);
}

static int take_seed(const char *text, uint64_t *ret)
{
	return take_number("--seed", text, 0, (1ull << 62) - 1, ret);
}

/* What the other end's process, wherever it was started, opens. It need not exist yet. */
static int take_disk(const char *text, char ret[AREA_PATH])
{
	char whole[PATH_MAX] = "";
	size_t n;

	if (text[0] && text[0] != '/' && !getcwd(whole, sizeof(whole) - 1))
		return usage("--disk %s: %s", text, strerror(errno));
	if (whole[0])
		strcat(whole, "/");
	n = strlen(whole);
	if (!text[0] || n + strlen(text) >= AREA_PATH)
		return usage("--disk needs a path of less than %d bytes", AREA_PATH);
	strcpy(whole + n, text);
	for (n = 0; whole[n]; n++) {
		if (whole[n] < ' ' || whole[n] > '~')
			return usage("--disk needs a path of plain ASCII, as it travels as JSON");
	}
	strcpy(ret, whole);
	return GO_ON;
}

/* ---------------------------------------------------------------- options */

static int take_guest_option(int option, const char *arg, struct options *o)
{
	struct guest_settings *guest = &o->guest;
	uint64_t number;
	double percent = 0;
	int choice, result;

	switch (option) {
	case 'm': return take_size("-m", arg, SLUICE_PAGE_SIZE, SETTINGS_MAX_MEMORY, &guest->memory.bytes);
	case OPT_GUEST:
		result = take_choice("--guest", arg, settings_guests, &choice);
		guest->type = (enum guest_type)choice;
		return result;
	case OPT_BACKING:
		if (settings_parse_backing(arg, &guest->memory))
			return usage("--backing %s is not known: choose one of anon, memfd, hugetlb, hugetlb:2M, hugetlb:1G",
				     arg);
		return GO_ON;
	case OPT_PREALLOC: guest->prealloc = true; return GO_ON;
	case OPT_TOUCHED:
		result = take_fraction("--touched", arg, 100, &percent);
		if (result == GO_ON)
			guest->content.touched_per_2_32 = (uint64_t)(percent / 100 * 0x1p32);
		return result;
	case OPT_FILL:
		result = take_choice("--fill", arg, settings_fills, &choice);
		guest->content.fill = (enum fill)choice;
		return result;
	case OPT_DIRTY_RATE: return take_size("--dirty-rate", arg, 0, SETTINGS_MAX_RATE, &guest->dirty_rate);
	case OPT_WSS: return take_size("--wss", arg, SLUICE_PAGE_SIZE, SETTINGS_MAX_MEMORY, &guest->wss_bytes);
	case OPT_PATTERN:
		result = take_choice("--pattern", arg, settings_patterns, &choice);
		guest->pattern = (enum pattern_kind)choice;
		return result;
	case OPT_VCPUS:
		result = take_number("--vcpus", arg, 1, SETTINGS_MAX_VCPUS, &number);
		guest->vcpus = result == GO_ON ? (uint32_t)number : 1;
		return result;
	case OPT_SEED: return take_seed(arg, &guest->content.seed);
	case OPT_DISK: return take_disk(arg, guest->disk.path);
	case OPT_IO_DEPTH:
		result = take_number("--io-depth", arg, 1, AREA_MAX_DEPTH, &number);
		guest->disk.depth = result == GO_ON ? (uint32_t)number : 1;
		o->io_options = "--io-depth";
		return result;
	case OPT_IO_FAULT:
		o->io_options = "--io-fault";
		if (fault_parse(arg, &guest->disk.fault))
			return usage(
				"--io-fault %s is not known: use hang:MS (0: for ever), fail:N (2 or more), slow:MS or burst:N",
				arg);
		return GO_ON;
	default: /* OPT_VERIFY */
		result = take_choice("--verify", arg, settings_verifies, &choice);
		guest->verify = (enum verify_mode)choice;
		return result;
	}
}

static int take_tracker(const char *arg, struct options *o)
{
	static const char *const names[] = { "auto", "pagemap", "marks", "log", "kvm-log", "kvm-ring", NULL };
	int choice, result = take_choice("--tracker", arg, names, &choice);

	o->tracker = (enum sluice_tracker)choice;
	o->tracker_name = result == GO_ON ? names[choice] : NULL;
	return result;
}

static int take_drain_fail(const char *arg, struct options *o)
{
	int choice, result;

	if (!strcmp(arg, "postcopy"))
		return usage("--drain-fail postcopy is not in this version: use retry or fail");
	result = take_choice("--drain-fail", arg, (const char *const[]){ "retry", "fail", NULL }, &choice);
	o->drain_fail = (enum sluice_drain_fail)choice;
	return result;
}

static int take_mode(const char *arg)
{
	int choice;

	if (!strcmp(arg, "postcopy") || !strcmp(arg, "hybrid"))
		return usage("--mode %s is not in this version: use --mode precopy", arg);
	return take_choice("--mode", arg, (const char *const[]){ "precopy", NULL }, &choice);
}

static int take_migration_option(int option, const char *arg, struct options *o)
{
	static const char *const engines[] = { "auto", "uring", "plain", NULL };
	int choice, result;

	switch (option) {
	case OPT_MODE: return take_mode(arg);
	case 'P': return take_number("-P", arg, 1, SLUICE_MAX_STREAMS, &o->streams);
	case 'b': return take_size("-b", arg, 0, SETTINGS_MAX_RATE, &o->bandwidth);
	case OPT_SWITCHOVER_BANDWIDTH:
		return take_size("--switchover-bandwidth", arg, 0, SETTINGS_MAX_RATE, &o->switchover_bandwidth);
	case OPT_DOWNTIME: return take_number("--downtime", arg, 1, 3600000, &o->downtime_ms);
	case OPT_TIMEOUT: return take_number("--timeout", arg, 0, 1000000, &o->timeout_s);
	case OPT_THROTTLE: return take_number("--throttle", arg, 0, 99, &o->throttle_max);
	case OPT_DRAIN_WINDOW: return take_number("--drain-window", arg, 1, 30000, &o->drain_window_ms);
	case OPT_DRAIN_TRIES: return take_number("--drain-tries", arg, 0, 1000000, &o->drain_tries);
	case OPT_DRAIN_FAIL: return take_drain_fail(arg, o);
	case OPT_HOLD: return take_number("--hold", arg, 0, MAX_HOLD_MS, &o->hold_ms);
	case OPT_WARM_UP: return take_number("--warm-up", arg, 0, MAX_WARM_UP_MS, &o->warm_up_ms);
	case OPT_COMPRESS:
		result = take_choice("--compress", arg, (const char *const[]){ "none", "lz4", "auto", NULL }, &choice);
		o->compress = (enum sluice_compress)choice;
		return result;
	case OPT_TRACKER: return take_tracker(arg, o);
	case OPT_DEAD_PEER: return take_number("--dead-peer", arg, 500, 60000, &o->dead_peer_ms);
	case OPT_IN_DOUBT: return take_number("--in-doubt", arg, 0, 3600000, &o->in_doubt_ms);
	case OPT_IO_ENGINE:
		result = take_choice("--io-engine", arg, engines, &choice);
		o->io_engine = result == GO_ON ? engines[choice] : NULL;
		o->uring = choice != 2;
		return result;
	case OPT_NUMA:
		result = take_choice("--numa", arg, (const char *const[]){ "auto", "off", NULL }, &choice);
		o->numa = choice == 0;
		return result;
	case OPT_CPUS: o->cpus = arg; return GO_ON;
	default: /* OPT_INSECURE */ o->insecure = true; return GO_ON;
	}
}

static int take_role(struct options *o, enum role role)
{
	if (o->role != ROLE_NONE && o->role != role)
		return usage("-s, -c and --loopback exclude each other: choose one");
	o->role = role;
	return GO_ON;
}

static int take_option(int option, const char *arg, struct options *o)
{
	int result;

	switch (option) {
	case 's': return take_role(o, ROLE_SERVER);
	case 'c': o->uri = arg; return take_role(o, ROLE_CLIENT);
	case OPT_LOOPBACK: o->uri = arg ? arg : o->uri; return take_role(o, ROLE_LOOPBACK);
	case '1': o->count = 1; return GO_ON;
	case 'n': return take_number("-n", arg, 1, 1000000, &o->count);
	case 'i':
		result = take_fraction("-i", arg, 86400, &o->interval_s);
		if (result == GO_ON && o->interval_s > 0 && o->interval_s < 0.1)
			return usage("-i %s is out of range: 0 (none), or 0.1 to 86400", arg);
		return result;
	case 'J': o->json = true; return GO_ON;
	case OPT_REPORT: o->report = arg; return GO_ON;
	case OPT_VERSION: printf("migperf, sluice %s\n", sluice_version()); return EXIT_COMPLETED;
	case 'h':
	case OPT_HELP: fputs(help, stdout); return EXIT_COMPLETED;
	case 'm':
	case OPT_GUEST:
	case OPT_BACKING:
	case OPT_PREALLOC:
	case OPT_TOUCHED:
	case OPT_FILL:
	case OPT_DIRTY_RATE:
	case OPT_WSS:
	case OPT_PATTERN:
	case OPT_VCPUS:
	case OPT_SEED:
	case OPT_DISK:
	case OPT_IO_DEPTH:
	case OPT_IO_FAULT:
	case OPT_VERIFY: return take_guest_option(option, arg, o);
	default: return take_migration_option(option, arg, o);
	}
}

/* The name of an option that a destination has no use for, NULL: it has. Those of the guest it accepts, though they are not its
 * to choose. */
static const char *source_only(int option)
{
	switch (option) {
	case 'b': return "-b";
	case OPT_SWITCHOVER_BANDWIDTH: return "--switchover-bandwidth";
	case OPT_MODE: return "--mode";
	case OPT_DOWNTIME: return "--downtime";
	case OPT_TIMEOUT: return "--timeout";
	case OPT_THROTTLE: return "--throttle";
	case OPT_HOLD: return "--hold";
	case OPT_DRAIN_WINDOW: return "--drain-window";
	case OPT_DRAIN_TRIES: return "--drain-tries";
	case OPT_DRAIN_FAIL: return "--drain-fail";
	case OPT_WARM_UP: return "--warm-up";
	case OPT_TRACKER: return "--tracker";
	case OPT_REPORT: return "--report";
	default: return NULL;
	}
}

/* ---------------------------------------------------------------- all together */

static int check_uri(const struct options *o)
{
	static const char *const unknown[] = { "rdma:", "file:" };

	for (size_t i = 0; i < 2; i++) {
		if (!strncmp(o->uri, unknown[i], strlen(unknown[i])))
			return usage("%s is not in this version: use tcp:HOST:PORT or unix:PATH", unknown[i]);
	}
	if (o->role != ROLE_SERVER && !strncmp(o->uri, "fd:", 3))
		return usage("fd: is a listening socket, for -s: use tcp:HOST:PORT or unix:PATH");
	if (!*o->uri)
		return usage("the URI is empty: use tcp:HOST:PORT or unix:PATH");
	return GO_ON;
}

/* Now, rather than after the migration. What the file holds is kept until then. */
static int check_report(const struct options *o)
{
	FILE *file = o->report ? fopen(o->report, "ae") : NULL;

	if (o->report && !file)
		return usage("cannot write --report %s: %s", o->report, strerror(errno));
	if (file)
		fclose(file);
	return GO_ON;
}

/* Each guest has trackers of its own; the source chooses both. */
static int check_tracker(struct options *o)
{
	bool kvm = o->guest.type == GUEST_KVM;

	if (o->role == ROLE_SERVER)
		return GO_ON;
	if (!kvm && o->tracker >= SLUICE_TRACKER_LOG)
		return usage("--tracker %s needs --guest kvm: use auto, pagemap or marks", o->tracker_name);
	if (kvm && o->tracker == SLUICE_TRACKER_MARKS)
		return usage("--tracker marks needs --guest process, a KVM guest marks nothing: use auto, kvm-log or pagemap");
	if (o->tracker == SLUICE_TRACKER_KVM_RING)
		o->guest.ring_pages = RING_PAGES;
	/* The process guest can always mark: that is what auto comes to on kernels before 6.7. */
	if (!kvm && o->tracker == SLUICE_TRACKER_AUTO && sluice_tracker_works(SLUICE_TRACKER_AUTO))
		o->tracker = SLUICE_TRACKER_MARKS;
	return GO_ON;
}

/* All memory but the disk's. */
static uint64_t default_wss(const struct guest_settings *guest)
{
	uint64_t bytes = guest->memory.bytes & ~(uint64_t)(SLUICE_PAGE_SIZE - 1), disk = settings_disk_bytes(guest);

	return bytes > disk ? bytes - disk : bytes;
}

static int finish(int argc, char **argv, struct options *o)
{
	char error[SETTINGS_ERROR];
	int operands = argc - optind, result;

	if (o->role == ROLE_NONE)
		return usage("say what to be: -s, -c URI or --loopback (migperf --help tells more)");
	if (o->role == ROLE_SERVER && o->source_only)
		return usage("%s is the source's to choose: give it to migperf -c, not -s", o->source_only);
	if (operands > (o->role == ROLE_CLIENT ? 0 : 1))
		return usage("%s is one argument too many (migperf --help tells more)", argv[argc - 1]);
	if (operands)
		o->uri = argv[optind];
	if (!o->uri)
		o->uri = o->role == ROLE_LOOPBACK ? "tcp:127.0.0.1:0" : "tcp:127.0.0.1:4747";
	if (!o->count && o->role != ROLE_SERVER)
		o->count = 1;
	if (o->io_options && !o->guest.disk.path[0])
		return usage("%s needs --disk FILE", o->io_options);
	if (!o->guest.wss_bytes)
		o->guest.wss_bytes = default_wss(&o->guest);
	result = check_tracker(o);
	if (result != GO_ON)
		return result;
	if (settings_check(&o->guest, error))
		return usage("%s", error);
	result = check_uri(o);
	return result == GO_ON ? check_report(o) : result;
}

int options_parse(int argc, char **argv, struct options *ret)
{
	struct option table[KNOWN + LATER + 1];
	int option, index, result;

	*ret = (struct options){ .streams = 4,
				 .downtime_ms = 300,
				 .dead_peer_ms = 3000,
				 .in_doubt_ms = 10000,
				 .drain_window_ms = 500,
				 .drain_tries = 10,
				 .compress = SLUICE_COMPRESS_AUTO,
				 .numa = true,
				 .uring = true,
				 .io_engine = "auto",
				 .interval_s = 1 };
	ret->guest.memory = (struct memory_spec){ 1ull << 30, BACKING_MEMFD, SLUICE_PAGE_SIZE };
	ret->guest.content.touched_per_2_32 = 1ull << 32;
	ret->guest.pattern = PATTERN_RAND;
	ret->guest.vcpus = 1;
	ret->guest.disk.depth = 32;
	if (getrandom(&ret->guest.content.seed, sizeof(ret->guest.content.seed), 0) < 0)
		return usage("no random numbers: %s", strerror(errno));
	ret->guest.content.seed >>= 2; /* JSON's integers are signed */

	memcpy(table, known, sizeof(known));
	for (size_t i = 0; i < LATER; i++)
		table[KNOWN + i] = (struct option){ later[i].name, later[i].has_arg, NULL, OPT_LATER };
	table[KNOWN + LATER] = (struct option){ NULL, 0, NULL, 0 };

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":sc:n:1m:P:b:i:Jh", table, &index)) >= 0) {
		if (option == ':')
			return usage("%s needs a value (migperf --help tells more)", argv[optind - 1]);
		if (option == '?')
			return usage("%s is not an option, or takes no value (migperf --help tells more)", argv[optind - 1]);
		if (option == OPT_LATER)
			return usage("--%s: %s", table[index].name, later[(size_t)index - KNOWN].instead);
		if (source_only(option))
			ret->source_only = source_only(option);
		result = take_option(option, optarg, ret);
		if (result != GO_ON)
			return result;
	}
	return finish(argc, argv, ret);
}
