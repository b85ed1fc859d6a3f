/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* uri.c: text to struct uri and back. Pure: nothing is looked up, nothing is opened.
 *
 * What is refused is what would later mean something else than its writer thought: an IPv6 address without brackets
 * (where does the port begin?), a host of digits only (a port? an address in 1970s notation?), a "//" out of habit. */
#include "streams/uri.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

enum { QUOTED = 64 };

__attribute__((format(printf, 3, 4))) static int refuse(char *error, size_t error_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error && error_size)
		vsnprintf(error, error_size, format, args);
	va_end(args);
	return -EINVAL;
}

/* The user's text as it may stand in an error line: printable and short. */
static const char *quote(const char *text, size_t length, char buffer[QUOTED])
{
	size_t n = 0;

	for (; n < length && n < QUOTED - 4; n++)
		buffer[n] = isprint((unsigned char)text[n]) ? text[n] : '?';
	memcpy(buffer + n, n < length ? "..." : "", n < length ? 4 : 1);
	return buffer;
}

/* Decimal digits only, at most `max`. */
static bool parse_number(const char *text, size_t length, unsigned long max, unsigned long *ret)
{
	unsigned long value = 0;

	if (!length || length > 10)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)text[i]))
			return false;
		value = value * 10 + (unsigned long)(text[i] - '0');
	}
	*ret = value;
	return value <= max;
}

/* What stands between brackets: an IPv6 address, perhaps with %interface. */
static bool is_ipv6(const char *text, size_t length)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr in6;
	const char *scope = memchr(text, '%', length);
	size_t n = scope ? (size_t)(scope - text) : length;

	if (!n || n >= sizeof(address) || (scope && n + 1 == length))
		return false;
	for (size_t i = n; i < length; i++)
		if (!isgraph((unsigned char)text[i]) || text[i] == '/')
			return false;
	memcpy(address, text, n);
	address[n] = 0;
	return inet_pton(AF_INET6, address, &in6) == 1;
}

static bool is_host(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("-._", text[i]))
			return false;
	return !length || text[0] != '-';
}

/* HOST, HOST:PORT, :PORT, [ADDR], [ADDR]:PORT or nothing. */
static int parse_place(const char *text, struct uri *uri, char *error, size_t error_size)
{
	char q[QUOTED];
	unsigned long number;
	const char *host = text, *after, *port = NULL;
	size_t length;

	if (*text == '[') {
		host++;
		after = strchr(host, ']');
		if (!after || !is_ipv6(host, (size_t)(after - host)))
			return refuse(error, error_size, "'%s' is not an IPv6 address in brackets; write [::1]:4747",
				      quote(text, strlen(text), q));
		length = (size_t)(after - host);
		after++;
		if (*after && *after != ':')
			return refuse(error, error_size, "'%s' after the bracket is not a port; write [::1]:4747",
				      quote(after, strlen(after), q));
	} else {
		after = strchr(text, ':');
		if (after && strchr(after + 1, ':'))
			return refuse(error, error_size,
				      "'%s' has more than one colon; put an IPv6 address in brackets: [::1]:4747",
				      quote(text, strlen(text), q));
		length = after ? (size_t)(after - text) : strlen(text);
		after = after ? after : text + length;
		if (!is_host(host, length))
			return refuse(error, error_size, "'%s' is not a host name or address; write HOST:PORT, unix:PATH or fd:N",
				      quote(host, length, q));
		if (length && parse_number(host, length, UINT32_MAX, &number))
			return refuse(error, error_size,
				      "'%s' alone is no host; write localhost:PORT, or an address in full (0.0.0.0)",
				      quote(host, length, q));
	}
	if (length >= URI_HOST)
		return refuse(error, error_size, "the host name is longer than %d bytes", URI_HOST - 1);
	if (*after == ':')
		port = after + 1;
	number = URI_DEFAULT_PORT;
	if (port && !parse_number(port, strlen(port), UINT16_MAX, &number))
		return refuse(error, error_size, "'%s' is not a port; write a number from 0 to 65535",
			      quote(port, strlen(port), q));
	memcpy(uri->host, host, length);
	uri->port = (uint16_t)number;
	return 0;
}

static int parse_path(const char *text, size_t limit, struct uri *uri, char *error, size_t error_size)
{
	size_t length = strlen(text);

	if (!length)
		return refuse(error, error_size, "the path is missing; write unix:PATH or file:PATH");
	if (length >= limit)
		return refuse(error, error_size, "the path has %zu bytes, at most %zu are possible here; use a shorter one",
			      length, limit - 1);
	memcpy(uri->host, text, length);
	return 0;
}

int uri_parse(const char *text, struct uri *ret_uri, char *error, size_t error_size)
{
	static const struct {
		const char *prefix;
		enum uri_scheme scheme;
	} schemes[] = {
		{ "tcp:", URI_TCP }, { "unix:", URI_UNIX }, { "fd:", URI_FD }, { "file:", URI_FILE }, { "rdma:", URI_RDMA },
	};
	struct uri uri = { .scheme = URI_TCP, .fd = -1 };
	char q[QUOTED];
	unsigned long number;
	const char *rest = text;
	int r = 0;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		if (!strncmp(text, schemes[i].prefix, strlen(schemes[i].prefix))) {
			uri.scheme = schemes[i].scheme;
			rest = text + strlen(schemes[i].prefix);
			break;
		}
	}
	switch (uri.scheme) {
	case URI_TCP:
	case URI_RDMA:
		if (strstr(text, "//"))
			r = refuse(error, error_size, "'%s' has slashes; write tcp:HOST:PORT or HOST:PORT",
				   quote(text, strlen(text), q));
		else
			r = parse_place(rest, &uri, error, error_size);
		break;
	case URI_UNIX: r = parse_path(rest, sizeof(((struct sockaddr_un *)NULL)->sun_path), &uri, error, error_size); break;
	case URI_FILE: r = parse_path(rest, URI_HOST, &uri, error, error_size); break;
	case URI_FD:
		if (parse_number(rest, strlen(rest), INT_MAX, &number))
			uri.fd = (int)number;
		else
			r = refuse(error, error_size, "'%s' is not the number of a file descriptor; write fd:3",
				   quote(rest, strlen(rest), q));
		break;
	}
	if (!r)
		*ret_uri = uri;
	return r;
}

const char *uri_format(const struct uri *uri, char buffer[URI_TEXT])
{
	const char *host = *uri->host ? uri->host : "localhost";
	const char *scheme = uri->scheme == URI_RDMA ? "rdma" : "tcp";

	switch (uri->scheme) {
	case URI_TCP:
	case URI_RDMA: snprintf(buffer, URI_TEXT, strchr(host, ':') ? "%s:[%s]:%u" : "%s:%s:%u", scheme, host, uri->port); break;
	case URI_UNIX: snprintf(buffer, URI_TEXT, "unix:%s", uri->host); break;
	case URI_FILE: snprintf(buffer, URI_TEXT, "file:%s", uri->host); break;
	case URI_FD: snprintf(buffer, URI_TEXT, "fd:%d", uri->fd); break;
	}
	return buffer;
}
