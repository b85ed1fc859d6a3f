/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* migperf: saturates links with real migrations of real guests, and checks every byte. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perf/destination.h"
#include "perf/end.h"
#include "perf/loop.h"
#include "perf/options.h"
#include "perf/os.h"
#include "perf/source.h"

#define CHILD_STARTS_NS (60 * OS_S)
#define CHILD_ENDS_NS (15 * OS_S)
#define URI_MAX 512

static void announce_to_user(void *opaque, const char *uri)
{
	(void)opaque;
	fprintf(stderr, "listening on %s\n", uri);
}

static void announce_to_parent(void *opaque, const char *uri)
{
	const int *fd = opaque;

	if (write(*fd, uri, strlen(uri)) < 0)
		fprintf(stderr, "migperf: cannot tell the source where to connect: %s\n", strerror(errno));
	close(*fd);
}

/* The other process of --loopback; does not return. */
static void be_child(const struct options *options, pid_t parent, int uri_fd)
{
	struct options own = *options;
	struct loop loop;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(EXIT_FAILED);
	setpgid(0, 0); /* a terminal's ^C is for the source to answer */
	own.count = 0; /* until stopped */
	if (loop_init(&loop))
		_exit(EXIT_FAILED);
	exit(destination_run(&own, &loop, true, announce_to_parent, &uri_fd));
}

/* What the child announces. 0, -ECANCELED, -ECHILD (it died or said nothing in time). */
static int read_uri(struct loop *loop, int fd, char uri[URI_MAX])
{
	uint64_t until = os_now_ns() + CHILD_STARTS_NS;
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	ssize_t n;

	while (poll(&ready, 1, 0) == 0) {
		if (loop->stops)
			return -ECANCELED;
		if (os_now_ns() >= until)
			return -ECHILD;
		loop_wait(loop, os_now_ns() + 10 * OS_MS);
	}
	n = read(fd, uri, URI_MAX - 1);
	if (n <= 0)
		return -ECHILD;
	uri[n] = 0;
	return 0;
}

static void end_child(struct loop *loop, pid_t child)
{
	uint64_t until = os_now_ns() + CHILD_ENDS_NS;

	kill(child, SIGTERM);
	while (!loop->child_gone && os_now_ns() < until)
		loop_wait(loop, until);
	if (!loop->child_gone) {
		fprintf(stderr, "migperf: the destination's process does not end: killing it\n");
		kill(child, SIGKILL);
	}
	waitpid(child, NULL, 0);
}

static enum exit_status run_loopback(const struct options *options)
{
	enum exit_status status;
	struct source *source = NULL;
	char uri[URI_MAX];
	struct loop loop;
	pid_t child, parent = getpid();
	int fds[2], error;

	if (pipe(fds)) {
		fprintf(stderr, "migperf: no pipe: %s%s\n", strerror(errno), end_advice(-errno));
		return EXIT_FAILED;
	}
	child = fork(); /* before this process has any thread */
	if (child < 0) {
		fprintf(stderr, "migperf: cannot start the destination's process: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	if (!child) {
		close(fds[0]);
		be_child(options, parent, fds[1]);
	}
	close(fds[1]);
	error = loop_init(&loop);
	if (!error)
		error = loop_watch_child(&loop, child);
	if (error) {
		fprintf(stderr, "migperf: cannot watch the destination's process: %s%s\n", strerror(-error), end_advice(error));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		return EXIT_FAILED;
	}
	status = source_prepare(options, &loop, &source);
	if (status == EXIT_COMPLETED) {
		error = read_uri(&loop, fds[0], uri);
		if (!error)
			status = source_run(source, uri);
		else
			status = error == -ECANCELED ? EXIT_CANCELLED : EXIT_REFUSED; /* the child has said why */
	}
	source_destroy(source);
	end_child(&loop, child);
	close(fds[0]);
	loop_fini(&loop);
	return status;
}

static enum exit_status run_source(const struct options *options, struct loop *loop)
{
	struct source *source;
	enum exit_status status = source_prepare(options, loop, &source);

	if (status != EXIT_COMPLETED)
		return status;
	status = source_run(source, options->uri);
	source_destroy(source);
	return status;
}

int main(int argc, char **argv)
{
	struct options options;
	enum exit_status status;
	struct loop loop;
	int result = options_parse(argc, argv, &options);

	if (result >= 0)
		return result;
	status = end_check_options(&options);
	if (status != EXIT_COMPLETED)
		return status;
	if (options.role == ROLE_LOOPBACK)
		return run_loopback(&options);
	result = loop_init(&loop);
	if (result) {
		fprintf(stderr, "migperf: cannot wait for signals: %s%s\n", strerror(-result), end_advice(result));
		return EXIT_FAILED;
	}
	if (options.role == ROLE_SERVER)
		status = destination_run(&options, &loop, false, announce_to_user, NULL);
	else
		status = run_source(&options, &loop);
	loop_fini(&loop);
	return status;
}
