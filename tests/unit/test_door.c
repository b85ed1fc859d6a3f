/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_door.c: connections that have not said who they are, or were told their last, over real sockets and with a clock of the
 * test's: nobody keeps a place for long, and what was said arrives. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/run/door.h"
#include "tests/unit/harness.h"

#define MS 1000000ull
#define LIFE (WIRE_GREETING_MS * MS)

struct rig {
	struct greetings g;
	struct door *door;
	struct sockaddr_un at;
	uint64_t now;
};

static void rig_init(struct rig *r)
{
	char text[120], error[200];
	struct uri uri, where;
	static int serial;

	memset(r, 0, sizeof *r);
	r->now = 7000 * MS;
	r->at.sun_family = AF_UNIX;
	snprintf(r->at.sun_path, sizeof r->at.sun_path, "/tmp/sluice-door-%d-%d", (int)getpid(), serial++);
	snprintf(text, sizeof text, "unix:%s", r->at.sun_path);
	CU_ASSERT_EQUAL_FATAL(uri_parse(text, &uri, error, sizeof error), 0);
	CU_ASSERT_EQUAL_FATAL(transport_find(&uri)->listen(&uri, &r->door, &where), 0);
}

static void rig_fini(struct rig *r)
{
	greetings_drop_all(&r->g);
	CU_ASSERT_EQUAL(r->g.n, 0);
	r->door->transport->door_close(r->door);
	unlink(r->at.sun_path);
}

/* A client at the door, not let in yet. */
static int knocks(struct rig *r)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(connect(fd, (const struct sockaddr *)&r->at, sizeof r->at), 0);
	return fd;
}

static int comes_in(struct rig *r)
{
	uint32_t before = r->g.n;
	int fd = knocks(r);

	CU_ASSERT_EQUAL(greetings_accept(&r->g, r->door, r->now), 0);
	CU_ASSERT_EQUAL(r->g.n, before < GREETINGS_MAX ? before + 1 : GREETINGS_MAX);
	return fd;
}

static void says(int fd, const void *bytes, size_t size)
{
	CU_ASSERT_EQUAL(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static bool is_closed(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&p, 1, 0) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

static struct greeting greeting_of(uint32_t n)
{
	struct greeting g = { .kind = GREETING_LINK, .epoch = n, .dial = 2 * n + 1 };

	memset(g.token, (int)n, sizeof g.token);
	greeting_seal(&g);
	return g;
}

static int reads(struct rig *r, uint32_t i, struct greeting *g, struct conn **conn)
{
	*conn = NULL;
	memset(g, 0, sizeof *g);
	return greetings_read(&r->g, i, g, conn);
}

static void greeting_in_pieces(void)
{
	for (size_t piece = 1; piece <= sizeof(struct greeting); piece += piece < 4 ? 1 : 11) {
		struct greeting g = greeting_of(5), got;
		struct conn *conn;
		struct rig r;

		rig_init(&r);
		int fd = comes_in(&r), rc = 0;
		CU_ASSERT_EQUAL(reads(&r, 0, &got, &conn), 0); /* nothing yet, and nobody waits */
		for (size_t at = 0; at < sizeof g; at += piece) {
			CU_ASSERT_EQUAL(rc, 0);
			CU_ASSERT_EQUAL(r.g.n, 1);
			says(fd, (const char *)&g + at, at + piece < sizeof g ? piece : sizeof g - at);
			rc = reads(&r, 0, &got, &conn);
		}
		CU_ASSERT_EQUAL_FATAL(rc, 1);
		CU_ASSERT(!memcmp(&g, &got, sizeof g));
		CU_ASSERT_EQUAL(r.g.n, 0);
		/* It is the caller's now, and what comes after the greeting is still in it. */
		says(fd, "next", 4);
		char next[8];
		CU_ASSERT_EQUAL(conn->transport->read(conn, next, sizeof next), 4);
		conn->transport->close(conn);
		CU_ASSERT(is_closed(fd));
		close(fd);
		rig_fini(&r);
	}
}

static void bad_greetings(void)
{
	for (int how = 0; how < 4; how++) {
		struct greeting g = greeting_of(1), got;
		struct conn *conn;
		struct rig r;

		rig_init(&r);
		int fd = comes_in(&r);
		switch (how) {
		case 0: g.epoch++; break;
		case 1: memcpy(&g, "GET / HTTP/1.1\r\n", 16); break;
		case 2: g.version++; break;
		default: break;
		}
		if (how == 3) {
			says(fd, &g, sizeof g - 1);
			shutdown(fd, SHUT_WR); /* it ends in the midst of it */
			CU_ASSERT_EQUAL(reads(&r, 0, &got, &conn), 0);
		} else {
			says(fd, &g, sizeof g);
		}
		int rc = reads(&r, 0, &got, &conn);
		CU_ASSERT_EQUAL(r.g.n, 0);
		if (how == 2) { /* it is to be told which version we know */
			CU_ASSERT_EQUAL(rc, -EPROTONOSUPPORT);
			CU_ASSERT_EQUAL(got.version, g.version);
			CU_ASSERT_PTR_NOT_NULL_FATAL(conn);
			CU_ASSERT(!is_closed(fd));
			conn->transport->close(conn);
		} else {
			CU_ASSERT_EQUAL(rc, how == 3 ? -ECONNRESET : -EBADMSG);
			CU_ASSERT_PTR_NULL(conn);
		}
		CU_ASSERT(is_closed(fd));
		close(fd);
		rig_fini(&r);
	}
}

/* Which guest greets is which greeting is read, in whatever order they do, though the last takes the place of who leaves. */
static void many_at_once(void)
{
	enum { N = GREETINGS_MAX };
	static const uint32_t order[] = { 63, 0, 1, 62, 31, 5, 7, 40, 2 };
	int fds[N];
	struct rig r;

	rig_init(&r);
	for (uint32_t i = 0; i < N; i++)
		fds[i] = comes_in(&r);
	for (size_t o = 0; o < sizeof order / sizeof *order; o++) {
		struct greeting g = greeting_of(order[o]), got;
		unsigned greeted = 0;

		says(fds[order[o]], &g, sizeof g);
		for (uint32_t i = r.g.n; i-- > 0;) {
			struct conn *conn;

			if (reads(&r, i, &got, &conn) == 1) {
				greeted++;
				CU_ASSERT_EQUAL(got.epoch, order[o]);
				conn->transport->close(conn);
			}
		}
		CU_ASSERT_EQUAL(greeted, 1);
		CU_ASSERT_EQUAL(r.g.n, (uint32_t)(N - o - 1));
		CU_ASSERT(is_closed(fds[order[o]]));
	}
	rig_fini(&r);
	for (uint32_t i = 0; i < N; i++)
		close(fds[i]);
}

static void the_oldest_makes_way(void)
{
	enum { MORE = 20 };
	int fds[GREETINGS_MAX + MORE];
	struct rig r;

	rig_init(&r);
	for (uint32_t i = 0; i < GREETINGS_MAX + MORE; i++) {
		r.now += MS;
		fds[i] = comes_in(&r);
		for (uint32_t j = 0; j <= i; j++)
			if (is_closed(fds[j]) != (j + GREETINGS_MAX <= i))
				CU_FAIL("not the oldest");
	}
	/* In one go no more than fit, however many there are: the link thread has other things to do. */
	int late[GREETINGS_MAX + 3];
	for (uint32_t i = 0; i < GREETINGS_MAX + 3; i++)
		late[i] = knocks(&r);
	r.now += MS;
	CU_ASSERT_EQUAL(greetings_accept(&r.g, r.door, r.now), 0);
	CU_ASSERT_EQUAL(r.g.n, GREETINGS_MAX);
	for (uint32_t i = 0; i < GREETINGS_MAX + MORE; i++)
		CU_ASSERT(is_closed(fds[i]));
	for (uint32_t i = 0; i < GREETINGS_MAX; i++)
		CU_ASSERT(!is_closed(late[i]));
	r.now += MS;
	CU_ASSERT_EQUAL(greetings_accept(&r.g, r.door, r.now), 0);
	unsigned gone = 0;
	for (uint32_t i = 0; i < GREETINGS_MAX + 3; i++)
		gone += is_closed(late[i]);
	CU_ASSERT_EQUAL(gone, 3);
	CU_ASSERT_EQUAL(greetings_accept(&r.g, r.door, r.now), 0); /* nobody there */
	CU_ASSERT_EQUAL(r.g.n, GREETINGS_MAX);
	rig_fini(&r);
	for (uint32_t i = 0; i < GREETINGS_MAX + MORE; i++)
		close(fds[i]);
	for (uint32_t i = 0; i < GREETINGS_MAX + 3; i++)
		close(late[i]);
}

static void nobody_stays_long(void)
{
	int fds[10];
	struct rig r;

	rig_init(&r);
	CU_ASSERT_EQUAL(greetings_expire(&r.g, r.now), UINT64_MAX);
	uint64_t first = r.now;
	for (int i = 0; i < 10; i++) {
		fds[i] = comes_in(&r);
		r.now += 10 * MS;
	}
	says(fds[0], "a byte now and then buys no time", 8);
	struct greeting got;
	struct conn *conn;
	CU_ASSERT_EQUAL(reads(&r, 0, &got, &conn), 0);
	for (int i = 0; i < 10; i++) {
		uint64_t due = first + (unsigned)i * 10 * MS + LIFE;

		CU_ASSERT_EQUAL(greetings_expire(&r.g, due - 1), due);
		CU_ASSERT(!is_closed(fds[i]));
		CU_ASSERT_EQUAL(greetings_expire(&r.g, due), i < 9 ? due + 10 * MS : UINT64_MAX);
		CU_ASSERT(is_closed(fds[i]));
		CU_ASSERT_EQUAL(r.g.n, (uint32_t)(9 - i));
		close(fds[i]);
	}
	rig_fini(&r);
}

/* Let in, greeted, and told something: as turn_away() does. */
static int parts(struct rig *r, const char *word)
{
	struct greeting g = greeting_of(1), got;
	struct conn *conn;
	int fd = comes_in(r);

	says(fd, &g, sizeof g);
	CU_ASSERT_EQUAL_FATAL(reads(r, r->g.n - 1, &got, &conn), 1);
	CU_ASSERT_EQUAL(conn->transport->write(conn, word, strlen(word)), (ssize_t)strlen(word));
	greetings_part(&r->g, conn, r->now);
	return fd;
}

/* Closing with unread bytes resets the connection, and may destroy what was said on its way: so they are read. */
static void parting_guests_hear_us_out(void)
{
	struct greeting again = greeting_of(9), got;
	char heard[64], noise[1000];
	struct conn *conn;
	struct rig r;

	rig_init(&r);
	int fd = parts(&r, "we do not know you");
	CU_ASSERT_EQUAL(r.g.n, 1);
	memset(noise, 'x', sizeof noise);
	says(fd, noise, sizeof noise);
	for (int i = 0; i < 40; i++)
		CU_ASSERT_EQUAL(reads(&r, 0, &got, &conn), 0);
	/* It does not get in by greeting well again, not even in a read of its own. */
	for (int i = 0; i < 3; i++) {
		says(fd, &again, sizeof again);
		CU_ASSERT_EQUAL(reads(&r, 0, &got, &conn), 0);
		CU_ASSERT_PTR_NULL(conn);
	}
	CU_ASSERT_EQUAL(r.g.n, 1);
	CU_ASSERT_EQUAL(recv(fd, heard, sizeof heard, 0), 18);
	CU_ASSERT(!memcmp(heard, "we do not know you", 18));
	shutdown(fd, SHUT_WR);
	CU_ASSERT_EQUAL(reads(&r, 0, &got, &conn), -ECONNRESET); /* it has gone */
	CU_ASSERT_PTR_NULL(conn);
	CU_ASSERT_EQUAL(r.g.n, 0);
	CU_ASSERT(is_closed(fd));
	close(fd);
	/* One that does not go is dropped, however much it talks. */
	fd = parts(&r, "go");
	uint64_t due = r.now + LIFE;
	CU_ASSERT_EQUAL(greetings_expire(&r.g, due - 1), due);
	says(fd, noise, 10);
	CU_ASSERT_EQUAL(reads(&r, 0, &got, &conn), 0);
	CU_ASSERT_EQUAL(greetings_expire(&r.g, due), UINT64_MAX);
	CU_ASSERT_EQUAL(r.g.n, 0);
	CU_ASSERT_EQUAL(recv(fd, heard, sizeof heard, 0), 2);
	CU_ASSERT(is_closed(fd));
	close(fd);
	rig_fini(&r);
}

/* They share the places with those who come, by age. */
static void parting_guests_make_way(void)
{
	int fds[GREETINGS_MAX + 2];
	char heard[8];
	struct rig r;

	rig_init(&r);
	fds[0] = parts(&r, "go");
	for (uint32_t i = 1; i < GREETINGS_MAX; i++) {
		r.now += MS;
		fds[i] = comes_in(&r);
	}
	CU_ASSERT_EQUAL(r.g.n, GREETINGS_MAX);
	r.now += MS;
	fds[GREETINGS_MAX] = comes_in(&r);
	CU_ASSERT_EQUAL(recv(fds[0], heard, sizeof heard, 0), 2);
	CU_ASSERT(is_closed(fds[0]));
	CU_ASSERT(!is_closed(fds[1]));
	/* And where all places are taken, one that parts takes the oldest's. */
	struct uri uri;
	char text[120], error[200];
	struct greeting g = greeting_of(1);
	struct conn *conn;
	_Atomic bool cancel = false;
	static struct waiter waiter;
	struct door *other;
	snprintf(text, sizeof text, "unix:%s-other", r.at.sun_path);
	CU_ASSERT_EQUAL_FATAL(uri_parse(text, &uri, error, sizeof error), 0);
	struct uri at;
	CU_ASSERT_EQUAL_FATAL(transport_find(&uri)->listen(&uri, &other, &at), 0);
	struct dial how = {
		.uri = &uri, .greeting = &g, .deadline_ns = now_ns() + 5000 * MS, .cancel = &cancel, .waiter = &waiter
	};
	CU_ASSERT_EQUAL_FATAL(transport_find(&uri)->connect(&how, &conn), 0);
	r.now += MS;
	greetings_part(&r.g, conn, r.now);
	CU_ASSERT_EQUAL(r.g.n, GREETINGS_MAX);
	CU_ASSERT(is_closed(fds[1]));
	CU_ASSERT(!is_closed(fds[2]));
	rig_fini(&r);
	other->transport->door_close(other);
	for (uint32_t i = 0; i <= GREETINGS_MAX; i++)
		close(fds[i]);
}

/* No descriptors left: those who do not say who they are make way for one who may. Nobody there: the door has to rest. */
static void out_of_descriptors(void)
{
	const char *preload = getenv("LD_PRELOAD");
	struct rlimit before, low;
	struct rig r;

	if (preload && strstr(preload, "vgpreload")) {
		harness_skip("valgrind keeps descriptors of its own");
		return;
	}
	rig_init(&r);
	int a = comes_in(&r);
	r.now += MS;
	int b = comes_in(&r), c = knocks(&r), d = knocks(&r);
	CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &before), 0);
	int next = dup(0);
	close(next);
	low = before;
	low.rlim_cur = (rlim_t)next;
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &low), 0);
	r.now += MS;
	CU_ASSERT_EQUAL(greetings_accept(&r.g, r.door, r.now), 0);
	CU_ASSERT_EQUAL(r.g.n, 2);
	CU_ASSERT(is_closed(a) && is_closed(b) && !is_closed(c) && !is_closed(d));
	CU_ASSERT_EQUAL(greetings_accept(&r.g, r.door, r.now), 0); /* nobody is there to make way for */
	CU_ASSERT_EQUAL(r.g.n, 2);
	greetings_drop_all(&r.g);
	int keeps[2] = { dup(0), dup(0) };
	int e = -1;
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
	e = knocks(&r);
	next = dup(0);
	close(next);
	low.rlim_cur = (rlim_t)next;
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &low), 0);
	CU_ASSERT_EQUAL(greetings_accept(&r.g, r.door, r.now), -EMFILE);
	CU_ASSERT_EQUAL(r.g.n, 0);
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
	CU_ASSERT_EQUAL(greetings_accept(&r.g, r.door, r.now), 0);
	CU_ASSERT_EQUAL(r.g.n, 1);
	rig_fini(&r);
	const int fds[] = { a, b, c, d, e, keeps[0], keeps[1] };
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void tokens_compare(void)
{
	uint8_t a[WIRE_TOKEN], b[WIRE_TOKEN];

	memset(a, 0xa5, sizeof a);
	memcpy(b, a, sizeof b);
	CU_ASSERT(token_equal(a, b));
	for (unsigned bit = 0; bit < 8 * WIRE_TOKEN; bit++) {
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT(!token_equal(a, b));
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

SUITE("door", TEST(greeting_in_pieces), TEST(bad_greetings), TEST(many_at_once), TEST(the_oldest_makes_way),
      TEST(nobody_stays_long), TEST(parting_guests_hear_us_out), TEST(parting_guests_make_way), TEST(out_of_descriptors),
      TEST(tokens_compare))
