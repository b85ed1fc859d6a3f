/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sidecar.c: migration outside the VMM: `sidecar SOCKET` is a destination and prints its URI, `sidecar SOCKET URI [BANDWIDTH [hold]]` a source. It
 * has the session, maps guest memory by the descriptor that the VMM gives, and asks the VMM for all else (sidecar.h). The
 * guest needs nothing of it to run. docs/embedding.md says who owns what. Exit status: 0 completed. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <sluice.h>

#include "sidecar.h"

static struct {
	const char *vmm;
	int log_fd, fd, completed, ended;
	struct shared *shared;
	struct state state;
	struct sluice *session;
} s;

static void say(enum op op)
{
	struct ask a = { .op = op, .state = s.state };
	must(send(s.fd, &a, sizeof(a), MSG_NOSIGNAL) == sizeof(a), "the VMM is gone");
}

/* On the sync thread, with the socket's own deadline. */
static int ask_log(enum op op, uint64_t first, uint64_t pages)
{
	struct ask a = { .op = op, .first = first, .pages = pages };
	return send(s.log_fd, &a, sizeof(a), MSG_NOSIGNAL) < 0 || recv(s.log_fd, &a, sizeof(a), 0) != sizeof(a) ? -EPIPE
														: a.error;
}

static int log_start(void *opaque)
{
	return ask_log(LOG, 1, 0);
}

static void log_stop(void *opaque)
{
	ask_log(LOG, 0, 0);
}

static int log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits)
{
	int rc = ask_log(FETCH, 0, 0);
	for (uint64_t i = 0; i < pages / 64; i++)
		bits[i] = s.shared->seen[first / 64 + i] | __atomic_load_n(&s.shared->marks[first / 64 + i], __ATOMIC_ACQUIRE);
	return rc;
}

static int log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits)
{
	for (uint64_t i = 0; i < pages / 64; i++)
		__atomic_fetch_and(&s.shared->marks[first / 64 + i], ~bits[i], __ATOMIC_ACQ_REL);
	memcpy(s.shared->clear + first / 64, bits, pages / 8);
	return ask_log(CLEAR, first, pages);
}

static void on_event(void *opaque, const struct sluice_event *event)
{
	if (event->type == SLUICE_EVENT_PHASE)
		puts(sluice_phase_name(event->u.phase));
	s.completed |= event->type == SLUICE_EVENT_PHASE && event->u.phase == SLUICE_COMPLETED;
	s.ended |= event->type == SLUICE_EVENT_ENDED;
}

static void on_pause(void *opaque)
{
	say(PAUSE);
}

static void on_resume(void *opaque)
{
	say(RESUME);
}

static void on_save(void *opaque)
{
	say(SAVE);
}

static void on_release(void *opaque)
{
	say(RELEASE);
}

static int connect_vmm(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	strncpy(at.sun_path, s.vmm, sizeof(at.sun_path) - 1);
	must(!connect(fd, (void *)&at, sizeof(at)), s.vmm);
	return fd;
}

/* The region's memory is what the descriptor is of: this process maps it where it likes. */
static int add_ram(void)
{
	union rights rights;
	int fds[2];
	struct ask a;
	struct iovec io = { &a, sizeof(a) };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof(rights) };
	s.fd = connect_vmm();
	s.log_fd = connect_vmm();
	setsockopt(s.log_fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = 5 }, sizeof(struct timeval));
	say(MEMORY);
	must(recvmsg(s.fd, &m, 0) == sizeof(a) && m.msg_controllen, "guest memory");
	memcpy(fds, CMSG_DATA(&rights.head), sizeof(fds));
	s.shared = map(fds[1], sizeof(*s.shared));
	struct sluice_region region = { .size_of = sizeof(region), .name = "ram", .size = RAM, .node = -1, .fd = fds[0] };
	region.address = map(region.fd, RAM);
	return sluice_add_region(s.session, &region, NULL);
}

static void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	sluice_done(s.session, SLUICE_INCOMING_GUEST, n == 1 && offers->size == RAM ? add_ram() : -EINVAL);
}

static void on_load(void *opaque, const struct sluice_section *sections, size_t n)
{
	if (n != 1 || sections->version != 1 || sections->length != sizeof(s.state)) {
		sluice_done(s.session, SLUICE_LOAD, -EBADMSG);
		return;
	}
	memcpy(&s.state, sections->data, sizeof(s.state));
	say(LOAD);
}

/* The VMM has done it. */
static void answered(void)
{
	static const enum sluice_request requests[] = { [PAUSE] = SLUICE_PAUSE,
							[SAVE] = SLUICE_SAVE,
							[RELEASE] = SLUICE_RELEASE,
							[LOAD] = SLUICE_LOAD,
							[RESUME] = SLUICE_RESUME };
	struct sluice_section section = { "machine", 1, &s.state, sizeof(s.state) };
	struct ask a;
	must(recv(s.fd, &a, sizeof(a), 0) == sizeof(a), "the VMM is gone, and the guest with it");
	if (a.op == SAVE) {
		s.state = a.state;
		a.error = a.error ? a.error : sluice_save_section(s.session, &section);
	}
	sluice_done(s.session, requests[a.op], a.error);
}

static const struct sluice_ops ops = { .size_of = sizeof(ops),
				       .event = on_event,
				       .pause = on_pause,
				       .resume = on_resume,
				       .save = on_save,
				       .release = on_release,
				       .incoming = on_incoming,
				       .load = on_load,
				       .dirty_log_start = log_start,
				       .dirty_log_fetch = log_fetch,
				       .dirty_log_clear = log_clear,
				       .dirty_log_stop = log_stop };

int main(int argc, char **argv)
{
	struct sluice_listener *listener = NULL;
	struct sluice_error error;
	must(argc > 1 && !sluice_create(&ops, NULL, &s.session), "session");
	setlinebuf(stdout);
	s.vmm = argv[1];
	s.fd = -1; /* a destination connects when a guest is offered */
	if (argc > 3)
		sluice_set(s.session, SLUICE_BANDWIDTH, strtoull(argv[3], NULL, 0));
	sluice_set(s.session, SLUICE_HOLD, argc > 4);
	if (argc > 2) {
		must(!add_ram() && !sluice_source_start(s.session, argv[2]), "start");
	} else {
		must(!sluice_listen("tcp:127.0.0.1:0", 0, &listener, NULL), "listen");
		must(!sluice_destination_start(s.session, listener), "start");
		puts(sluice_listener_uri(listener));
	}
	while (!s.ended) {
		struct pollfd ready[] = { { sluice_event_fd(s.session), POLLIN, 0 }, { s.fd, POLLIN, 0 } };
		poll(ready, 2, -1);
		if (ready[0].revents)
			sluice_dispatch(s.session);
		if (ready[1].revents)
			answered();
		if (argc > 2 && s.completed)
			sluice_close(s.session);
	}
	sluice_get_error(s.session, &error);
	sluice_destroy(s.session);
	sluice_listener_close(listener);
	if (!s.completed)
		errx(1, "%s", error.text);
	if (argc > 2)
		say(GONE);
	return 0;
}
