/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_uri.c: every way to write a place, and what is refused with which advice. */
#include <errno.h>
#include <string.h>

#include "streams/uri.h"
#include "tests/unit/harness.h"

static void good_ones(void)
{
	static const struct {
		const char *text, *canonical;
	} cases[] = {
		{ "", "tcp:localhost:4747" },
		{ ":80", "tcp:localhost:80" },
		{ "tcp:", "tcp:localhost:4747" },
		{ "tcp::0", "tcp:localhost:0" },
		{ "host", "tcp:host:4747" },
		{ "host-1.example_x:65535", "tcp:host-1.example_x:65535" },
		{ "tcp:10.0.0.1:1", "tcp:10.0.0.1:1" },
		{ "10.0.0.1", "tcp:10.0.0.1:4747" },
		{ "[::1]", "tcp:[::1]:4747" },
		{ "[::1]:9", "tcp:[::1]:9" },
		{ "tcp:[fe80::1%eth0]:9", "tcp:[fe80::1%eth0]:9" },
		{ "rdma:[::ffff:1.2.3.4]:5", "rdma:[::ffff:1.2.3.4]:5" },
		{ "unix:/run/a b.sock", "unix:/run/a b.sock" },
		{ "unix:rel:ative", "unix:rel:ative" },
		{ "file:/tmp/saved", "file:/tmp/saved" },
		{ "fd:0", "fd:0" },
		{ "fd:2147483647", "fd:2147483647" },
	};
	char text[URI_TEXT], again[URI_TEXT], error[200];
	struct uri uri;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		CU_ASSERT_EQUAL_FATAL(uri_parse(cases[i].text, &uri, error, sizeof(error)), 0);
		CU_ASSERT_STRING_EQUAL(uri_format(&uri, text), cases[i].canonical);
		CU_ASSERT_EQUAL_FATAL(uri_parse(text, &uri, error, sizeof(error)), 0);
		CU_ASSERT_STRING_EQUAL(uri_format(&uri, again), text);
	}
}

static void bad_ones_say_what_to_write(void)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "::1", "brackets" },
		{ "tcp:fe80::1:80", "brackets" },
		{ "[::1", "brackets" },
		{ "[1.2.3.4]:5", "brackets" },
		{ "[]:5", "brackets" },
		{ "[fe80::1%]:5", "brackets" },
		{ "[::1]x", "not a port" },
		{ "[::1]:", "not a port" },
		{ "host:", "not a port" },
		{ "host:65536", "0 to 65535" },
		{ "host:99999999999999999999", "0 to 65535" },
		{ "host:-1", "not a port" },
		{ "host: 1", "not a port" },
		{ "ssh:host", "not a port" },
		{ "4747", "localhost:PORT" },
		{ "tcp:0:4444", "0.0.0.0" },
		{ "http://host/", "tcp:HOST:PORT" },
		{ "-rf", "HOST:PORT" },
		{ "ho st", "HOST:PORT" },
		{ "a,b:1", "HOST:PORT" },
		{ "\x1b[31m", "?[31m" },
		{ "unix:", "path is missing" },
		{ "file:", "path is missing" },
		{ "fd:", "fd:3" },
		{ "fd:-1", "fd:3" },
		{ "fd:2147483648", "fd:3" },
		{ "fd:3x", "fd:3" },
	};
	struct uri uri;
	char error[200];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		memset(error, 0, sizeof(error));
		CU_ASSERT_EQUAL(uri_parse(cases[i].text, &uri, error, sizeof(error)), -EINVAL);
		if (!strstr(error, cases[i].says))
			CU_FAIL(cases[i].text);
	}
}

static void lengths_are_bounded(void)
{
	char text[600], error[200];
	struct uri uri;

	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		memset(text, 'a', n);
		text[n] = 0;
		CU_ASSERT_EQUAL(uri_parse(text, &uri, error, sizeof(error)), n < URI_HOST ? 0 : -EINVAL);
		memcpy(text, "unix:", n < 5 ? n : 5);
		if (n > 5)
			CU_ASSERT_EQUAL(uri_parse(text, &uri, error, sizeof(error)), n - 5 < 108 ? 0 : -EINVAL);
		memcpy(text, "file:", n < 5 ? n : 5);
		if (n > 5)
			CU_ASSERT_EQUAL(uri_parse(text, &uri, error, sizeof(error)), n - 5 < URI_HOST ? 0 : -EINVAL);
	}
	/* A refusal leaves the result alone and fits any buffer. */
	memset(&uri, 0x5a, sizeof(uri));
	CU_ASSERT_EQUAL(uri_parse("::", &uri, error, 1), -EINVAL);
	CU_ASSERT_EQUAL(uri_parse("::", &uri, NULL, 0), -EINVAL);
	CU_ASSERT_EQUAL(uri.port, 0x5a5a);
}

SUITE("uri", TEST(good_ones), TEST(bad_ones_say_what_to_write), TEST(lengths_are_bounded))
