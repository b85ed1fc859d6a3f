/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The main thread's waiting: for signals, for a wake, for the other process, for a time. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "perf/loop.h"
#include "perf/os.h"

int loop_init(struct loop *loop)
{
	sigset_t set;

	memset(loop, 0, sizeof(*loop));
	loop->child_fd = -1;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN); /* a reader of our output that went away must not end a migration */
	signal(SIGXFSZ, SIG_IGN); /* nor a limit of file sizes, which is told of as an error */
	loop->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return loop->signal_fd < 0 || loop->wake_fd < 0 ? -errno : 0;
}

void loop_fini(struct loop *loop)
{
	close(loop->signal_fd);
	close(loop->wake_fd);
	if (loop->child_fd >= 0)
		close(loop->child_fd);
}

int loop_watch_child(struct loop *loop, pid_t child)
{
	loop->child_fd = (int)syscall(SYS_pidfd_open, child, 0);
	return loop->child_fd < 0 ? -errno : 0;
}

static void read_signals(struct loop *loop)
{
	struct signalfd_siginfo info;

	while (read(loop->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			loop->dump = true;
		else if (info.ssi_signo == SIGUSR2)
			loop->claims++;
		else
			loop->stops++;
	}
}

void loop_wait(struct loop *loop, uint64_t until_ns)
{
	struct pollfd fds[] = { { .fd = loop->signal_fd, .events = POLLIN },
				{ .fd = loop->wake_fd, .events = POLLIN },
				{ .fd = loop->child_gone ? -1 : loop->child_fd, .events = POLLIN } };
	uint64_t now = os_now_ns(), left = until_ns > now ? until_ns - now : 0, count;
	struct timespec timeout = { .tv_sec = (time_t)(left / OS_S), .tv_nsec = (long)(left % OS_S) };

	if (ppoll(fds, 3, &timeout, NULL) <= 0)
		return;
	if (fds[0].revents)
		read_signals(loop);
	if (fds[1].revents && read(loop->wake_fd, &count, sizeof(count)) < 0)
		return;
	if (fds[2].revents)
		loop->child_gone = true;
}

void loop_wake(struct loop *loop)
{
	uint64_t one = 1;

	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		return; /* full: it is awake */
}

struct run {
	struct loop *loop;
	int (*run)(void *arg);
	void *arg;
	int result;
	_Atomic bool done;
};

static void *run_body(void *arg)
{
	struct run *run = arg;

	run->result = run->run(run->arg);
	atomic_store(&run->done, true);
	loop_wake(run->loop);
	return NULL;
}

int loop_run(struct loop *loop, int (*body)(void *arg), void (*idle)(void *arg), void *arg, _Atomic bool *cancel)
{
	struct run run = { .loop = loop, .run = body, .arg = arg };
	unsigned stops = loop->stops;
	pthread_t thread;
	int error = os_thread_start(&thread, "run", run_body, &run);
	uint64_t next = os_now_ns() + OS_S;

	if (error)
		return error;
	while (!atomic_load(&run.done)) {
		loop_wait(loop, next);
		if (loop->stops != stops)
			*cancel = true;
		if (os_now_ns() < next)
			continue;
		next += OS_S;
		if (idle)
			idle(arg);
	}
	pthread_join(thread, NULL);
	return run.result;
}
