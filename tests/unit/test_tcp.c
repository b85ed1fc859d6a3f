/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_tcp.c: the socket transports over loopback, with both engines: every byte in its place however small the pieces,
 * every kind of end told apart, and every wait ended by a shutdown from another thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "streams/transport.h"
#include "tests/unit/harness.h"

enum { PIECES = 513, MOST = 3 << 20 };

static struct waiter waiter;
static _Atomic bool never;
static const struct greeting hello = { .magic = WIRE_GREETING_MAGIC, .stream = 7 };

/* valgrind (3.19) takes io_uring_enter() for a call that never blocks: all threads stand still behind it. */
static bool uring_works_here(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return !preload || !strstr(preload, "vgpreload");
}

static struct uri parse(const char *text)
{
	char error[200];
	struct uri uri;

	CU_ASSERT_EQUAL_FATAL(uri_parse(text, &uri, error, sizeof(error)), 0);
	return uri;
}

static int dial(const struct uri *uri, uint64_t ms, const _Atomic bool *cancel, char *error, struct conn **ret)
{
	const struct dial d = {
		.uri = uri,
		.greeting = &hello,
		.deadline_ns = now_ns() + ms * 1000000,
		.cancel = cancel,
		.waiter = &waiter,
		.error = error,
		.error_size = 200,
	};

	return transport_find(uri)->connect(&d, ret);
}

static void await(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	CU_ASSERT_EQUAL_FATAL(poll(&p, 1, 5000), 1);
}

/* A connection: near dialled, far accepted, its greeting read. */
struct pair {
	struct door *door;
	struct conn *near, *far;
};

static void open_pair(struct pair *p, const char *text)
{
	struct uri uri = parse(text), at;
	const struct transport *t = transport_find(&uri);
	struct greeting got;
	size_t n = 0;

	CU_ASSERT_EQUAL_FATAL(t->listen(&uri, &p->door, &at), 0);
	CU_ASSERT_EQUAL(t->accept(p->door, &p->far), -EAGAIN);
	CU_ASSERT_EQUAL_FATAL(dial(&at, 2000, &never, NULL, &p->near), 0);
	await(t->door_fd(p->door));
	CU_ASSERT_EQUAL_FATAL(t->accept(p->door, &p->far), 0);
	while (n < sizeof(got)) {
		ssize_t r = t->read(p->far, (char *)&got + n, sizeof(got) - n);

		CU_ASSERT_FATAL(r > 0 || r == -EAGAIN);
		n += r > 0 ? (size_t)r : 0;
	}
	CU_ASSERT_EQUAL(memcmp(&got, &hello, sizeof(got)), 0);
}

static void close_pair(struct pair *p)
{
	if (p->near)
		p->near->transport->close(p->near);
	if (p->far)
		p->far->transport->close(p->far);
	p->door->transport->door_close(p->door);
}

struct side {
	struct conn *conn;
	bool uring;
	unsigned seed, messages;
	int buffer; /* send buffer, 0: as it comes */
	unsigned char *memory;
	struct waiter waiter;
	int result;
	uint64_t took_ns;
};

static unsigned next(unsigned *seed)
{
	return *seed = *seed * 1664525 + 1013904223;
}

/* The n-th message of both sides: up to PIECES pieces with gaps between, from 1 byte to 3 MiB together. */
static int layout(struct side *s, struct iovec iov[PIECES])
{
	int n = 1 + (int)(next(&s->seed) >> 8) % PIECES;
	size_t at = 0, most = next(&s->seed) >> 31 ? MOST / PIECES : 64;

	for (int i = 0; i < n; i++) {
		size_t length = 1 + (next(&s->seed) >> 4) % most;

		iov[i] = (struct iovec){ .iov_base = s->memory + at, .iov_len = length };
		at += length + (next(&s->seed) >> 28);
	}
	return n;
}

static void fill(const struct iovec *iov, int n, unsigned seed)
{
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < iov[i].iov_len; k++)
			((unsigned char *)iov[i].iov_base)[k] = (unsigned char)(next(&seed) >> 24);
}

static bool matches(const struct iovec *iov, int n, unsigned seed)
{
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < iov[i].iov_len; k++)
			if (((unsigned char *)iov[i].iov_base)[k] != (unsigned char)(next(&seed) >> 24))
				return false;
	return true;
}

static void *send_all(void *arg)
{
	struct side *s = arg;
	const struct transport *t = s->conn->transport;
	struct iovec iov[PIECES];

	s->result = t->become_stream(s->conn, s->uring && uring_works_here(), true);
	/* Only now: a stream chooses a buffer of its own. */
	if (s->buffer && setsockopt(t->fd(s->conn), SOL_SOCKET, SO_SNDBUF, &s->buffer, sizeof(s->buffer)))
		s->result = -errno;
	for (unsigned m = 0; !s->result && m < s->messages; m++) {
		int n = layout(s, iov);

		fill(iov, n, m);
		s->result = t->send_start(s->conn, iov, n);
		if (!s->result)
			s->result = t->send_wait(s->conn, &s->waiter);
	}
	return NULL;
}

static void *receive_all(void *arg)
{
	struct side *s = arg;
	const struct transport *t = s->conn->transport;
	struct iovec iov[PIECES], copy[PIECES];

	s->result = t->become_stream(s->conn, s->uring && uring_works_here(), false);
	for (unsigned m = 0; !s->result && m < s->messages; m++) {
		int n = layout(s, iov);

		memcpy(copy, iov, sizeof(iov));
		s->result = t->recv(s->conn, copy, n, &s->waiter);
		if (!s->result && !matches(iov, n, m))
			s->result = -EILSEQ;
	}
	return NULL;
}

static void shrink(struct conn *conn, int option, int bytes)
{
	CU_ASSERT_EQUAL(setsockopt(conn->transport->fd(conn), SOL_SOCKET, option, &bytes, sizeof(bytes)), 0);
}

static void carry(const char *text, bool near_uring, bool far_uring, int buffer)
{
	struct side near = { .uring = near_uring, .seed = 1, .messages = 40 },
		    far = { .uring = far_uring, .seed = 1, .messages = 40 };
	pthread_t thread;
	struct pair p;

	open_pair(&p, text);
	near.conn = p.near;
	near.buffer = buffer;
	far.conn = p.far;
	near.memory = malloc(MOST + PIECES * 16);
	far.memory = malloc(MOST + PIECES * 16);
	if (buffer) {
		/* Larger than a loopback packet: below that, TCP sends one packet every 200 ms. */
		shrink(p.far, SO_RCVBUF, 16 * buffer);
	}
	pthread_create(&thread, NULL, send_all, &near);
	receive_all(&far);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(near.result, 0);
	CU_ASSERT_EQUAL(far.result, 0);
	free(near.memory);
	free(far.memory);
	close_pair(&p);
}

#define SOCKET "unix:/tmp/sluice-test-tcp.sock"

static void messages_arrive_whole(void)
{
	for (int engines = 0; engines < 4; engines++) {
		carry("tcp:127.0.0.1:0", engines & 1, engines & 2, 0);
		carry(SOCKET, engines & 1, engines & 2, 0);
	}
}

/* A message of 3 MiB through buffers of a few KiB: every transfer is short. */
static void messages_arrive_whole_in_small_pieces(void)
{
	for (int engines = 0; engines < 4; engines++) {
		carry("tcp:[::1]:0", engines & 1, engines & 2, 4096);
		carry(SOCKET, engines & 1, engines & 2, 4096);
	}
}

static void ends_are_told_apart(const char *text, bool uring)
{
	unsigned char bytes[100] = { 0 };
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	const struct linger hard = { .l_onoff = 1 };
	const struct transport *t;
	struct pair p;

	/* Between messages. */
	open_pair(&p, text);
	t = p.far->transport;
	CU_ASSERT_EQUAL_FATAL(t->become_stream(p.far, uring && uring_works_here(), false), 0);
	p.near->transport->close(p.near);
	p.near = NULL;
	CU_ASSERT_EQUAL(t->recv(p.far, &iov, 1, &waiter), -ENODATA);
	close_pair(&p);

	/* Within one. */
	open_pair(&p, text);
	CU_ASSERT_EQUAL_FATAL(t->become_stream(p.far, uring && uring_works_here(), false), 0);
	CU_ASSERT_EQUAL(p.near->transport->write(p.near, bytes, 50), 50);
	p.near->transport->close(p.near);
	p.near = NULL;
	iov = (struct iovec){ .iov_base = bytes, .iov_len = sizeof(bytes) };
	CU_ASSERT_EQUAL(t->recv(p.far, &iov, 1, &waiter), -ECONNRESET);
	close_pair(&p);

	/* By a reset, which a unix socket knows only where something was left unread. */
	open_pair(&p, text);
	CU_ASSERT_EQUAL_FATAL(t->become_stream(p.far, uring && uring_works_here(), true), 0);
	setsockopt(t->fd(p.near), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	p.near->transport->close(p.near);
	p.near = NULL;
	iov = (struct iovec){ .iov_base = bytes, .iov_len = sizeof(bytes) };
	int r = t->send_start(p.far, &iov, 1);

	if (!r)
		r = t->send_wait(p.far, &waiter);
	CU_ASSERT(r == -EPIPE || r == -ECONNRESET);
	close_pair(&p);
}

static void every_end_has_its_error(void)
{
	for (int uring = 0; uring < 2; uring++) {
		ends_are_told_apart("tcp:127.0.0.1:0", uring);
		ends_are_told_apart(SOCKET, uring);
	}
}

static void *wait_to_receive(void *arg)
{
	struct side *s = arg;
	unsigned char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

	s->result = s->conn->transport->become_stream(s->conn, s->uring && uring_works_here(), false);
	if (!s->result)
		s->result = s->conn->transport->recv(s->conn, &iov, 1, &s->waiter);
	return NULL;
}

/* Nobody reads: after some messages the buffers are full. */
static void *wait_to_send(void *arg)
{
	send_all(arg);
	return NULL;
}

static void shut_while_waiting(const char *text, bool uring, void *(*body)(void *))
{
	struct side side = { .uring = uring, .seed = 1, .messages = UINT32_MAX, .memory = calloc(1, MOST + PIECES * 16) };
	uint64_t began, since = 0;
	pthread_t thread;
	struct pair p;

	open_pair(&p, text);
	side.conn = p.near;
	began = now_ns();
	pthread_create(&thread, NULL, body, &side);
	/* Until it has been in one and the same wait for 20 ms. */
	while (now_ns() - began < 5000000000u) {
		since = atomic_load(&side.waiter.since_ns);
		if (atomic_load(&side.waiter.what) && now_ns() - since > 20000000)
			break;
		usleep(1000);
	}
	CU_ASSERT_PTR_NOT_NULL(atomic_load(&side.waiter.what));
	began = now_ns();
	p.near->transport->shutdown(p.near);
	pthread_join(thread, NULL);
	CU_ASSERT(now_ns() - began < 100000000);
	CU_ASSERT_EQUAL(side.result, -ECANCELED);
	CU_ASSERT(uring || !p.near->transport->is_uring(p.near));
	close_pair(&p);
	free(side.memory);
}

static void shutdown_ends_every_wait(void)
{
	for (int uring = 0; uring < 2; uring++) {
		shut_while_waiting("tcp:127.0.0.1:0", uring, wait_to_receive);
		shut_while_waiting("tcp:127.0.0.1:0", uring, wait_to_send);
		shut_while_waiting(SOCKET, uring, wait_to_receive);
		shut_while_waiting(SOCKET, uring, wait_to_send);
	}
}

static void shut_before_is_cancelled_too(void)
{
	unsigned char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct pair p;

	for (int uring = 0; uring < 2; uring++) {
		open_pair(&p, "tcp:127.0.0.1:0");
		p.near->transport->shutdown(p.near);
		CU_ASSERT_EQUAL_FATAL(p.near->transport->become_stream(p.near, uring && uring_works_here(), true), 0);
		int r = p.near->transport->send_start(p.near, &iov, 1);

		CU_ASSERT_EQUAL(r ? r : p.near->transport->send_wait(p.near, &waiter), -ECANCELED);
		CU_ASSERT_EQUAL(p.near->transport->recv(p.near, &iov, 1, &waiter), -ECANCELED);
		close_pair(&p);
	}
}

static void *become_without_uring(void *arg)
{
	struct side *s = arg;
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (s->seed & SECCOMP_RET_DATA)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { .len = sizeof(rules) / sizeof(*rules), .filter = rules };

	s->result = -ENOTSUP;
	if (!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		s->result = s->conn->transport->become_stream(s->conn, true, true);
	return NULL;
}

/* As most containers have it. */
static void without_io_uring_it_is_plain_sockets(void)
{
	static const unsigned errors[] = { EPERM, ENOSYS, ENOMEM };

	for (int i = 0; i < 3; i++) {
		struct side side = { .seed = errors[i] };
		char byte = 'x', got = 0;
		struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
		pthread_t thread;
		struct pair p;

		open_pair(&p, "tcp:127.0.0.1:0");
		side.conn = p.near;
		/* The filter stays with the thread. */
		pthread_create(&thread, NULL, become_without_uring, &side);
		pthread_join(thread, NULL);
		if (side.result == -ENOTSUP) {
			harness_skip("no seccomp here");
		} else {
			CU_ASSERT_EQUAL(side.result, 0);
			CU_ASSERT(!p.near->transport->is_uring(p.near));
			CU_ASSERT_EQUAL(p.near->transport->send_start(p.near, &iov, 1), 0);
			CU_ASSERT_EQUAL(p.near->transport->send_wait(p.near, &waiter), 0);
			await(p.far->transport->fd(p.far));
			CU_ASSERT_EQUAL(p.far->transport->read(p.far, &got, 1), 1);
			CU_ASSERT_EQUAL(got, 'x');
		}
		close_pair(&p);
	}
}

static void the_link_never_blocks(void)
{
	static char buffer[1 << 20];
	const struct transport *t;
	struct pair p;
	ssize_t n;

	open_pair(&p, "tcp:127.0.0.1:0");
	t = p.near->transport;
	CU_ASSERT_EQUAL(t->read(p.near, buffer, sizeof(buffer)), -EAGAIN);
	while ((n = t->write(p.near, buffer, sizeof(buffer))) > 0)
		;
	CU_ASSERT_EQUAL(n, -EAGAIN);
	CU_ASSERT(strncmp(t->peer(p.near), "127.0.0.1:", 10) == 0);
	while (t->read(p.far, buffer, sizeof(buffer)) > 0)
		;
	t->close(p.near);
	p.near = NULL;
	do
		n = t->read(p.far, buffer, sizeof(buffer));
	while (n > 0 || n == -EAGAIN);
	CU_ASSERT_EQUAL(n, 0);
	close_pair(&p);
}

static void connecting_fails_with_a_reason(void)
{
	struct uri uri = parse("tcp:127.0.0.1:0"), at;
	struct door *door;
	struct conn *conn;
	char error[200];

	/* A port that nobody has: one that somebody just had. */
	CU_ASSERT_EQUAL_FATAL(transport_find(&uri)->listen(&uri, &door, &at), 0);
	door->transport->door_close(door);
	CU_ASSERT_EQUAL(dial(&at, 2000, &never, error, &conn), -ECONNREFUSED);
	CU_ASSERT(strstr(error, "127.0.0.1:") && strstr(error, "nobody listens"));
	uri = parse("unix:/tmp/sluice-test-nobody.sock");
	CU_ASSERT_EQUAL(dial(&uri, 2000, &never, error, &conn), -ENOENT);
	CU_ASSERT(strstr(error, "unix:/tmp/sluice-test-nobody.sock") != NULL);
	uri = parse("fd:0");
	CU_ASSERT_EQUAL(dial(&uri, 2000, &never, error, &conn), -ENOTSUP);
	CU_ASSERT(strstr(error, "fd:0") != NULL);
	uri = parse("no-such-host.invalid:1");
	CU_ASSERT(dial(&uri, 2000, &never, error, &conn) < 0);
	CU_ASSERT(strstr(error, "no-such-host.invalid") != NULL);
}

struct caller {
	struct uri uri;
	_Atomic bool cancel;
	int result;
};

static void *call(void *arg)
{
	struct caller *c = arg;
	struct conn *conn;

	c->result = dial(&c->uri, 20000, &c->cancel, NULL, &conn);
	return NULL;
}

static void cancel_while_connecting(const struct uri *uri)
{
	struct caller c = { .uri = *uri };
	pthread_t thread;
	uint64_t began;

	pthread_create(&thread, NULL, call, &c);
	usleep(30000);
	began = now_ns();
	atomic_store(&c.cancel, true);
	pthread_join(thread, NULL);
	CU_ASSERT(now_ns() - began < 200000000);
	CU_ASSERT_EQUAL(c.result, -ECANCELED);
}

/* Listeners that accept nobody, with no room left: connecting waits. */
static void connecting_can_be_cancelled(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/tmp/sluice-test-full.sock" };
	socklen_t length = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM, 0), fillers[4], unix_fd = socket(AF_UNIX, SOCK_STREAM, 0), filler;
	struct uri uri = { .fd = -1, .host = "127.0.0.1" };
	struct conn *conn;
	char error[200];

	CU_ASSERT(!bind(fd, (void *)&in, sizeof(in)) && !listen(fd, 0) && !getsockname(fd, (void *)&in, &length));
	uri.port = ntohs(in.sin_port);
	for (int i = 0; i < 4; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fillers[i], (void *)&in, sizeof(in));
	}
	cancel_while_connecting(&uri);
	uint64_t began = now_ns();

	CU_ASSERT_EQUAL(dial(&uri, 120, &never, error, &conn), -ETIMEDOUT);
	CU_ASSERT(now_ns() - began < 1000000000);
	unlink(un.sun_path);
	CU_ASSERT(!bind(unix_fd, (void *)&un, sizeof(un)) && !listen(unix_fd, 0));
	filler = socket(AF_UNIX, SOCK_STREAM, 0);
	CU_ASSERT(!connect(filler, (void *)&un, sizeof(un)));
	uri = parse("unix:/tmp/sluice-test-full.sock");
	cancel_while_connecting(&uri);
	unlink(un.sun_path);
	close(filler);
	close(unix_fd);
	close(fd);
	for (int i = 0; i < 4; i++)
		close(fillers[i]);
}

static void listening(void)
{
	struct uri uri = parse("tcp:127.0.0.1:0"), at, taken;
	struct door *door, *second;
	char text[URI_TEXT];

	CU_ASSERT_EQUAL_FATAL(transport_find(&uri)->listen(&uri, &door, &at), 0);
	CU_ASSERT(at.port != 0 && !strcmp(at.host, "127.0.0.1"));
	taken = at;
	CU_ASSERT_EQUAL(transport_find(&uri)->listen(&taken, &second, &at), -EADDRINUSE);
	door->transport->door_close(door);
	uri = parse(":0");
	CU_ASSERT_EQUAL_FATAL(transport_find(&uri)->listen(&uri, &door, &at), 0);
	CU_ASSERT(strncmp(uri_format(&at, text), "tcp:127.0.0.1:", 14) == 0);
	door->transport->door_close(door);
	/* Names are not looked up here; nor is there such an address. */
	uri = parse("example.org:0");
	CU_ASSERT_EQUAL(transport_find(&uri)->listen(&uri, &door, &at), -EINVAL);
	uri = parse("192.0.2.1:0");
	CU_ASSERT_EQUAL(transport_find(&uri)->listen(&uri, &door, &at), -EADDRNOTAVAIL);
	uri = parse("file:/tmp/x");
	CU_ASSERT_PTR_NULL(transport_find(&uri));
}

static void unix_sockets_clean_up(void)
{
	const char *path = strchr(SOCKET, '/');
	struct uri uri = parse(SOCKET), at;
	const struct transport *t = transport_find(&uri);
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct door *door, *second;
	int fd;

	unlink(path);
	CU_ASSERT_EQUAL_FATAL(t->listen(&uri, &door, &at), 0);
	CU_ASSERT_EQUAL(t->listen(&uri, &second, &at), -EADDRINUSE);
	t->door_close(door);
	CU_ASSERT(access(path, F_OK) != 0);
	/* What a killed process left behind. */
	strcpy(un.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CU_ASSERT(!bind(fd, (void *)&un, sizeof(un)));
	close(fd);
	CU_ASSERT_EQUAL_FATAL(t->listen(&uri, &door, &at), 0);
	/* Replaced meanwhile: another's is not removed. */
	unlink(path);
	CU_ASSERT_EQUAL_FATAL(t->listen(&uri, &second, &at), 0);
	t->door_close(door);
	CU_ASSERT(access(path, F_OK) == 0);
	t->door_close(second);
	/* A file that is no socket is never touched. */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CU_ASSERT(fd >= 0);
	close(fd);
	CU_ASSERT_EQUAL(t->listen(&uri, &door, &at), -EADDRINUSE);
	CU_ASSERT(access(path, F_OK) == 0);
	unlink(path);
}

static void a_listening_socket_is_handed_in(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct uri uri = { .scheme = URI_FD, .fd = fd }, at;
	const struct transport *t = transport_find(&uri);
	struct door *door;
	struct conn *near, *far;

	CU_ASSERT_EQUAL(t->listen(&uri, &door, &at), -EOPNOTSUPP);
	CU_ASSERT(!bind(fd, (void *)&in, sizeof(in)) && !listen(fd, 5));
	CU_ASSERT_EQUAL_FATAL(t->listen(&uri, &door, &at), 0);
	CU_ASSERT(at.scheme == URI_TCP && at.port != 0);
	CU_ASSERT(t->is_local(&uri));
	CU_ASSERT_EQUAL_FATAL(dial(&at, 2000, &never, NULL, &near), 0);
	await(t->door_fd(door));
	CU_ASSERT_EQUAL_FATAL(t->accept(door, &far), 0);
	near->transport->close(near);
	far->transport->close(far);
	t->door_close(door);
	/* Borrowed, not taken. */
	CU_ASSERT_EQUAL(close(fd), 0);
	CU_ASSERT_EQUAL(t->listen(&uri, &door, &at), -EBADF);
	CU_ASSERT(t->is_local(&uri)); /* a descriptor that is not open is not beyond loopback */
}

static void what_stays_on_this_host(void)
{
	static const struct {
		const char *uri;
		bool local;
	} cases[] = {
		{ "", true },
		{ "localhost:1", true },
		{ "127.255.0.1", true },
		{ "[::1]", true },
		{ "[::ffff:127.0.0.1]", true },
		{ "unix:/x", true },
		{ "0.0.0.0", false },
		{ "[::]", false },
		{ "10.0.0.1", false },
		{ "example.org", false },
		{ "[::ffff:10.0.0.1]", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct uri uri = parse(cases[i].uri);

		if (transport_find(&uri)->is_local(&uri) != cases[i].local)
			CU_FAIL(cases[i].uri);
	}
}

SUITE("tcp", TEST(messages_arrive_whole), TEST(messages_arrive_whole_in_small_pieces), TEST(every_end_has_its_error),
      TEST(shutdown_ends_every_wait), TEST(shut_before_is_cancelled_too), TEST(without_io_uring_it_is_plain_sockets),
      TEST(the_link_never_blocks), TEST(connecting_fails_with_a_reason), TEST(connecting_can_be_cancelled), TEST(listening),
      TEST(unix_sockets_clean_up), TEST(a_listening_socket_is_handed_in), TEST(what_stays_on_this_host))
