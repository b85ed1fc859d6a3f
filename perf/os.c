/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small things asked of the kernel: clocks, futexes, threads, what this host has. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "perf/os.h"

void os_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t until_ns)
{
	struct timespec until = { .tv_sec = (time_t)(until_ns / OS_S), .tv_nsec = (long)(until_ns % OS_S) };

	/* The bitset form because its timeout is absolute. Early returns are the caller's to handle. */
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, until_ns == OS_FOREVER ? NULL : &until, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

void os_futex_wake_all(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int os_thread_start(pthread_t *thread, const char *name, void *(*body)(void *), void *arg)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(thread, NULL, body, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return -error;
	pthread_setname_np(*thread, name);
	return 0;
}

unsigned os_cpus(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	n = CPU_COUNT(&set);
	return n > 0 ? (unsigned)n : 1;
}

double os_cpu_seconds(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

/* The number after `key` in a file of "key  number" lines. -ENOENT if it is not there. */
static int file_number(const char *path, const char *key, uint64_t *ret)
{
	char line[256];
	size_t length = strlen(key);
	int error = -ENOENT;
	FILE *file = fopen(path, "re");

	if (!file)
		return -errno;
	while (error && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, length) && sscanf(line + length, " %" SCNu64, ret) == 1)
			error = 0;
	}
	fclose(file);
	return error;
}

uint64_t os_available_bytes(void)
{
	uint64_t available = 0, limit, used;

	if (file_number("/proc/meminfo", "MemAvailable:", &available))
		return UINT64_MAX; /* no /proc: let the kernel decide */
	available <<= 10;
	/* The root of a container's cgroup v2 is what it sees as /sys/fs/cgroup. */
	if (!file_number("/sys/fs/cgroup/memory.max", "", &limit) && !file_number("/sys/fs/cgroup/memory.current", "", &used)) {
		limit = limit > used ? limit - used : 0;
		if (limit < available)
			available = limit;
	}
	return available;
}

uint64_t os_page_table_bytes(void)
{
	uint64_t kib;

	return file_number("/proc/self/status", "VmPTE:", &kib) ? 0 : kib << 10;
}

void os_host_id(char id[OS_HOST_ID])
{
	char boot[40] = "", space[36] = "";
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	ssize_t n;

	if (file) {
		if (!fgets(boot, sizeof(boot), file))
			boot[0] = 0;
		fclose(file);
	}
	boot[strcspn(boot, "\n")] = 0;
	n = readlink("/proc/self/ns/time", space, sizeof(space) - 1);
	space[n > 0 ? n : 0] = 0;
	snprintf(id, OS_HOST_ID, "%s%s", boot, space);
}
