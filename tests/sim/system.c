/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* system.c: the system as the library sees it in the simulator: threads, locks, futexes, descriptors, the clock and memory.
 *
 * thread.c, nodes.c and transports.c of the library are replaced; libc's calls are caught with the linker's --wrap. */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/run/session.h"
#include "numa/nodes.h"
#include "streams/bell.h"
#include "streams/thread.h"
#include "tests/sim/fiber.h"
#include "tests/sim/heap.h"
#include "tests/sim/knobs.h"
#include "tests/sim/pace.h"
#include "tests/sim/system.h"
#include "tests/sim/wire.h"
#include "tests/sim/world.h"
#include "tests/sim/yield.h"

/* ---------------------------------------------------------------- threads */

int thread_start(pthread_t *ret, const char *name, void *(*body)(void *arg), void *arg)
{
	struct fiber *f = fiber_start(fiber_current->side, name, body, arg);

	f->library = true;
	*ret = fiber_id(f);
	sim_yield();
	return 0;
}

uint64_t thread_cpu_ns(void)
{
	return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret)
{
	const struct fiber *f = fiber_running((uint32_t)thread);
	char name[sizeof f->name] = "";
	uint64_t since = sim_now;

	(void)ret;
	if (f)
		memcpy(name, f->name, sizeof name);
	for (; f; f = fiber_running((uint32_t)thread))
		(void)fiber_block(f, FIBER_FOREVER, "a thread to end");
	pace_joined(name, since);
	return 0;
}

/* ---------------------------------------------------------------- locks. The first word of a mutex: held */

static _Atomic int *word(pthread_mutex_t *m)
{
	return (_Atomic int *)(void *)m;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
	(void)attr;
	*word(m) = 0;
	return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
	if (*word(m))
		sim_violation("Law 2: a lock was destroyed while held");
	return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
	if (!fiber_current)
		return 0;
	sim_yield();
	while (*word(m))
		(void)fiber_block(m, FIBER_FOREVER, NULL);
	*word(m) = 1;
	fiber_current->mutexes++;
	return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
	if (!fiber_current)
		return 0;
	*word(m) = 0;
	fiber_current->mutexes--;
	fiber_wake(m);
	return 0;
}

/* ---------------------------------------------------------------- futexes, of bells */

static long futex_wake(const void *word, uint32_t most)
{
	if (!fiber_current)
		return 0;
	long n = (long)fiber_wake_some(word, most);
	if (sim_one_in(2)) /* who wakes another may lose its core to it, soon */
		sim_countdown = 1 + (int)sim_below(4);
	return n;
}

/* Nothing comes between looking and blocking: a futex compares under its own lock. And it may wake for nothing. */
static long futex_wait(const uint32_t *word, uint32_t key, const struct timespec *until)
{
	uint64_t deadline = until ? (uint64_t)until->tv_sec * SIM_S + (uint64_t)until->tv_nsec : FIBER_FOREVER;
	uint64_t at = sim_one_in(16) ? sim_now + sim_spread(US, SIM_MS) : deadline;

	errno = EAGAIN;
	if (*word != key)
		return -1;
	if (fiber_block(word, at < deadline ? at : deadline, "a bell"))
		return 0;
	errno = sim_now >= deadline ? ETIMEDOUT : EINTR;
	return -1;
}

/* A bell is rung for many reasons: who waits looks again whenever it rings. */
int __real_bell_wait(struct bell *bell, uint32_t key, uint64_t deadline_ns, struct waiter *waiter, const char *what);
int __wrap_bell_wait(struct bell *bell, uint32_t key, uint64_t deadline_ns, struct waiter *waiter, const char *what)
{
	if (!strcmp(what, "the bandwidth limit"))
		knobs_wait();
	uint64_t early = fiber_restless() ? sim_now + sim_spread(US, 300 * US) : FIBER_FOREVER;

	if (early >= deadline_ns)
		return __real_bell_wait(bell, key, deadline_ns, waiter, what);
	(void)__real_bell_wait(bell, key, early, waiter, what);
	return 0;
}

long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number != SYS_futex)
		return __real_syscall(number, a, b, c, d, e, f);
	if (b == FUTEX_WAKE_PRIVATE)
		return futex_wake((const void *)a, (uint32_t)c);
	if (b == FUTEX_WAIT_BITSET_PRIVATE)
		return futex_wait((const uint32_t *)a, (uint32_t)c, (const struct timespec *)d);
	sim_violation("a futex operation that is not simulated: %ld", b);
	return -1;
}

/* ---------------------------------------------------------------- descriptors */

static enum sim_side owner(void)
{
	return fiber_current ? fiber_current->side : SIM_WORLD;
}

static struct {
	enum { FD_FREE, FD_EVENT, FD_CONN, FD_DOOR } kind;
	enum sim_side side;
	uint64_t count;
	void *object;
} fds[SYSTEM_FDS];

void system_reset(void)
{
	memset(fds, 0, sizeof fds);
}

static int fd_new(int kind, void *object)
{
	for (int i = 0; i < SYSTEM_FDS; i++)
		if (fds[i].kind == FD_FREE) {
			fds[i].kind = kind;
			fds[i].side = owner();
			fds[i].count = 0;
			fds[i].object = object;
			return i + SYSTEM_FD_FIRST;
		}
	sim_violation("Law 8: more than %d descriptors are open", SYSTEM_FDS);
	return -EMFILE;
}

int system_fd_conn(void *conn)
{
	return fd_new(FD_CONN, conn);
}

int system_fd_door(void *door)
{
	return fd_new(FD_DOOR, door);
}

void system_fd_close(int fd)
{
	fds[fd - SYSTEM_FD_FIRST].kind = FD_FREE;
}

uint32_t system_fds_of(enum sim_side side)
{
	uint32_t n = 0;

	for (int i = 0; i < SYSTEM_FDS; i++)
		n += fds[i].kind != FD_FREE && fds[i].side == side;
	return n;
}

void system_side_gone(enum sim_side side)
{
	for (int i = 0; i < SYSTEM_FDS; i++)
		if (fds[i].side == side)
			fds[i].kind = FD_FREE;
}

void system_fd_ring(int fd)
{
	fds[fd - SYSTEM_FD_FIRST].count++;
	fiber_wake_pollers(fd);
}

int __wrap_eventfd(unsigned count, int flags)
{
	(void)flags;
	int fd = fd_new(FD_EVENT, NULL);
	fds[fd - SYSTEM_FD_FIRST].count = count;
	return fd;
}

int __real_close(int fd);
int __wrap_close(int fd)
{
	if (fd < SYSTEM_FD_FIRST)
		return __real_close(fd);
	system_fd_close(fd);
	return 0;
}

ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size)
{
	if (fd < SYSTEM_FD_FIRST)
		return __real_read(fd, buffer, size);
	sim_yield();
	uint64_t *count = &fds[fd - SYSTEM_FD_FIRST].count;
	if (!*count) {
		errno = EAGAIN;
		return -1;
	}
	memcpy(buffer, count, sizeof *count);
	*count = 0;
	return sizeof *count;
}

ssize_t __real_write(int fd, const void *buffer, size_t size);
ssize_t __wrap_write(int fd, const void *buffer, size_t size)
{
	uint64_t n;

	if (fd < SYSTEM_FD_FIRST)
		return __real_write(fd, buffer, size);
	sim_yield();
	memcpy(&n, buffer, sizeof n);
	fds[fd - SYSTEM_FD_FIRST].count += n;
	fiber_wake_pollers(fd);
	return sizeof n;
}

/* What of `events` holds now; *until: when that may change by itself. */
static short readiness(const struct pollfd *p, uint64_t *until)
{
	if (p->fd < SYSTEM_FD_FIRST)
		return 0;
	switch (fds[p->fd - SYSTEM_FD_FIRST].kind) {
	case FD_EVENT: return fds[p->fd - SYSTEM_FD_FIRST].count ? POLLIN & p->events : 0;
	case FD_CONN: return wire_poll(fds[p->fd - SYSTEM_FD_FIRST].object, p->events, until);
	case FD_DOOR: return wire_poll_door(fds[p->fd - SYSTEM_FD_FIRST].object, p->events, until);
	case FD_FREE: break;
	}
	return POLLNVAL;
}

int __wrap_poll(struct pollfd *list, nfds_t n, int timeout)
{
	uint64_t deadline = timeout < 0 ? FIBER_FOREVER : sim_now + (uint64_t)timeout * SIM_MS;

	sim_yield();
	for (;;) {
		uint64_t until = deadline;
		int ready = 0;
		for (nfds_t i = 0; i < n; i++) {
			list[i].revents = readiness(&list[i], &until);
			ready += list[i].revents != 0;
		}
		if (ready || sim_now >= deadline)
			return ready;
		fiber_current->fds = list;
		fiber_current->n_fds = (unsigned)n;
		(void)fiber_block(list, until, "descriptors");
	}
}

/* ---------------------------------------------------------------- clock, chance */

int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	sim_now += 20;
	*t = (struct timespec){ .tv_sec = (time_t)(sim_now / SIM_S), .tv_nsec = (long)(sim_now % SIM_S) };
	return 0;
}

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags)
{
	(void)flags;
	for (size_t i = 0; i < size; i++)
		((unsigned char *)buffer)[i] = (unsigned char)sim_random();
	return (ssize_t)size;
}

/* ---------------------------------------------------------------- memory */

void *__wrap_malloc(size_t size)
{
	return heap_alloc(owner(), size, false);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return heap_alloc(owner(), n * size, true);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	(void)align; /* blocks are on cache lines */
	return heap_alloc(owner(), size, false);
}

void __real_free(void *p);
void __wrap_free(void *p)
{
	if (p && !heap_free(p))
		__real_free(p);
}

void *__wrap_mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset)
{
	(void)at, (void)prot, (void)flags, (void)fd, (void)offset;
	void *p = heap_alloc(owner(), length, true);
	return p ? p : MAP_FAILED;
}

/* What mmap() is called where files are larger than 2 GiB. */
void *__wrap_mmap64(void *at, size_t length, int prot, int flags, int fd, off_t offset) __attribute__((alias("__wrap_mmap")));

int __wrap_munmap(void *at, size_t length)
{
	(void)length;
	heap_free(at);
	return 0;
}

int __wrap_madvise(void *at, size_t length, int advice)
{
	(void)at, (void)length, (void)advice;
	return 0;
}

/* ---------------------------------------------------------------- pieces of a sync that fit the small guests here */

int __real_tracker_fetch(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, uint64_t *ret_found);
int __wrap_tracker_fetch(struct tracker *tracker, uint32_t region, uint64_t first, uint64_t n, uint64_t *ret_found)
{
	struct sluice *s = world_session(SIM_SOURCE);

	if (s)
		s->sync.piece_pages = 32u << sim_below(6);
	return __real_tracker_fetch(tracker, region, first, n, ret_found);
}

/* ---------------------------------------------------------------- one machine, one node */

int node_map_init(struct node_map *map, bool numa, const char *cpus, const char *sys)
{
	(void)map, (void)numa, (void)cpus, (void)sys;
	return 0;
}

int node_check_cpus(const char *list, char *error, size_t error_size)
{
	(void)list, (void)error, (void)error_size;
	return 0;
}

int32_t node_place(const struct node_map *map, uint32_t i, uint32_t n)
{
	(void)map, (void)i, (void)n;
	return -1;
}
