/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The floor under every transport: N threads move memory to another process over loopback TCP and
 * nothing else (no dirty bits, no zero scan, no framing beyond offset and length).
 *
 *   cc -O2 raw_copy.c -o raw_copy -lpthread
 *   ./raw_copy MIB STREAMS [--prealloc] [--repeat N]      prints one JSON object
 *
 * Source memory is cold random data; the destination is a memfd, populated before the clock starts
 * with --prealloc and batch-wise while receiving without it. GB are 1e9 bytes. --repeat sends the memory
 * N times over, to last longer. Meanwhile a thread of the source ticks every millisecond and notes how late
 * it was: the control for any claim about an event loop beside a migration.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 512 << 10, MAX_STREAMS = 64 };
struct head {
	uint64_t offset, length;
};

static char *memory;
static size_t size;
static size_t repeat = 1;
static int prealloc;
static _Atomic size_t cursor;
static _Atomic int done;
enum { MAX_TICKS = 1 << 20 };
static float late_us[MAX_TICKS];
static size_t ticks;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static void *sender(void *arg)
{
	int fd = (int)(intptr_t)arg;
	for (size_t at; (at = atomic_fetch_add(&cursor, BATCH)) < size * repeat;) {
		at %= size;
		struct head head = { at, BATCH };
		struct iovec v[2] = { { &head, sizeof head }, { memory + at, BATCH } };
		struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
		size_t left = sizeof head + BATCH;
		while (left) {
			ssize_t n = sendmsg(fd, &m, 0);
			if (n < 0)
				die("sendmsg");
			left -= n;
			for (int i = 0; i < 2; i++) {
				size_t k = (size_t)n < v[i].iov_len ? (size_t)n : v[i].iov_len;
				v[i].iov_base = (char *)v[i].iov_base + k;
				v[i].iov_len -= k;
				n -= k;
			}
		}
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

static void *receiver(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct head head;
	while (recv(fd, &head, sizeof head, MSG_WAITALL) == sizeof head) {
		if (!prealloc)
			madvise(memory + head.offset, head.length, MADV_POPULATE_WRITE);
		for (size_t got = 0; got < head.length;) {
			ssize_t n = recv(fd, memory + head.offset + got, head.length - got, MSG_WAITALL);
			if (n <= 0)
				die("recv");
			got += n;
		}
	}
	return NULL;
}

static void *ticker(void *arg)
{
	struct timespec next, now;
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!done && ticks < MAX_TICKS) {
		next.tv_nsec += 1000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
		late_us[ticks++] = (now.tv_sec - next.tv_sec) * 1e6 + (now.tv_nsec - next.tv_nsec) * 1e-3;
		if (late_us[ticks - 1] > 1000)
			next = now;
	}
	return arg;
}

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static double run(void *(*body)(void *), const int *fds, int streams)
{
	pthread_t t[MAX_STREAMS];
	double before = cpu();
	for (int i = 0; i < streams; i++)
		pthread_create(&t[i], NULL, body, (void *)(intptr_t)fds[i]);
	for (int i = 0; i < streams; i++)
		pthread_join(t[i], NULL);
	return cpu() - before;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	size = (size_t)atol(argv[1]) << 20;
	int streams = atoi(argv[2]), fds[MAX_STREAMS], back[2], ready[2];
	for (int i = 3; i < argc; i++) {
		prealloc |= !strcmp(argv[i], "--prealloc");
		if (!strcmp(argv[i], "--repeat") && i + 1 < argc)
			repeat = strtoul(argv[++i], NULL, 10);
	}
	if (streams < 1 || streams > MAX_STREAMS || !size || pipe(back) || pipe(ready))
		return 2;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	if (bind(listener, (void *)&a, sizeof a) || listen(listener, MAX_STREAMS) || getsockname(listener, (void *)&a, &len))
		die("listen");
	pid_t child = fork();
	int fd = memfd_create("raw", 0);
	if (ftruncate(fd, size))
		die("ftruncate");
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!child) {
		if (prealloc)
			madvise(memory, size, MADV_POPULATE_WRITE);
		if (write(ready[1], "r", 1) != 1)
			die("write");
		for (int i = 0; i < streams; i++)
			fds[i] = accept(listener, NULL, NULL);
		double used = run(receiver, fds, streams);
		return write(back[1], &used, sizeof used) != sizeof used;
	}
	for (size_t at = 0; at < size; at += 1 << 20)
		for (size_t k = 0; k < 1 << 20;)
			k += getrandom(memory + at + k, (1 << 20) - k, 0);
	char c;
	if (read(ready[0], &c, 1) != 1)
		die("read");
	for (int i = 0; i < streams; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fds[i], (void *)&a, sizeof a))
			die("connect");
	}
	fprintf(stderr, "raw_copy: copying\n"); /* for who wants to be beside it */
	pthread_t tick;
	pthread_create(&tick, NULL, ticker, NULL);
	double began = seconds(), sent = run(sender, fds, streams), received = 0;
	if (read(back[0], &received, sizeof received) != sizeof received)
		die("destination");
	double took = seconds() - began;
	waitpid(child, NULL, 0);
	done = 1;
	pthread_join(tick, NULL);
	qsort(late_us, ticks, sizeof *late_us, ascending);
	printf("{ \"guest_gb_per_s\": %.3f, \"cpu_s\": { \"source\": %.3f, \"destination\": %.3f },\n"
	       "  \"ticker_late_us\": { \"count\": %zu, \"p50\": %.0f, \"p99\": %.0f, \"p999\": %.0f, \"max\": %.0f } }\n",
	       size * repeat / took / 1e9, sent, received, ticks, late_us[ticks / 2], late_us[ticks * 99 / 100],
	       late_us[ticks * 999 / 1000], late_us[ticks - 1]);
	return 0;
}
