/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* address.c: see address.h. Any thread; getaddrinfo() is only used with AI_NUMERICHOST, which neither blocks nor looks
 * anything up. */
#include "tcp/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static bool numeric_host(const struct sockaddr_storage *at, socklen_t length, char host[NI_MAXHOST])
{
	return !getnameinfo((const struct sockaddr *)at, length, host, NI_MAXHOST, NULL, 0, NI_NUMERICHOST);
}

static uint16_t port_of(const struct sockaddr_storage *at)
{
	return ntohs(at->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)at)->sin6_port
					       : ((const struct sockaddr_in *)at)->sin_port);
}

/* The path of a unix socket; "": it has none. */
static const char *path_of(const struct sockaddr_storage *at, socklen_t length)
{
	return length > offsetof(struct sockaddr_un, sun_path) ? ((const struct sockaddr_un *)at)->sun_path : "";
}

const char *address_text(const struct sockaddr_storage *at, socklen_t length, char buffer[ADDRESS_TEXT])
{
	char host[NI_MAXHOST];

	if (at->ss_family == AF_UNIX)
		snprintf(buffer, ADDRESS_TEXT, *path_of(at, length) ? "unix:%s" : "unix", path_of(at, length));
	else if ((at->ss_family == AF_INET || at->ss_family == AF_INET6) && numeric_host(at, length, host))
		snprintf(buffer, ADDRESS_TEXT, at->ss_family == AF_INET6 ? "[%.100s]:%u" : "%.100s:%u", host, port_of(at));
	else
		snprintf(buffer, ADDRESS_TEXT, "an address of family %d", at->ss_family);
	return buffer;
}

int address_uri(const struct sockaddr_storage *at, socklen_t length, struct uri *ret_uri)
{
	struct uri uri = { .fd = -1 };
	char host[NI_MAXHOST];

	if ((at->ss_family == AF_INET || at->ss_family == AF_INET6) && numeric_host(at, length, host)) {
		uri.scheme = URI_TCP;
		uri.port = port_of(at);
		snprintf(uri.host, sizeof(uri.host), "%.*s", URI_HOST - 1, host);
	} else if (at->ss_family == AF_UNIX && *path_of(at, length)) {
		uri.scheme = URI_UNIX;
		snprintf(uri.host, sizeof(uri.host), "%s", path_of(at, length));
	} else {
		return -EAFNOSUPPORT;
	}
	*ret_uri = uri;
	return 0;
}

bool address_is_local(const struct sockaddr_storage *at)
{
	const struct in6_addr *in6 = &((const struct sockaddr_in6 *)at)->sin6_addr;

	switch (at->ss_family) {
	case AF_UNIX: return true;
	case AF_INET: return ntohl(((const struct sockaddr_in *)at)->sin_addr.s_addr) >> 24 == 127;
	case AF_INET6: return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	default: return false;
	}
}

static void append(struct addresses *to, const char *host, const char *port, int family)
{
	const struct addrinfo hints = { .ai_family = family,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found;

	if (getaddrinfo(host, port, &hints, &found))
		return;
	memcpy(&to->at[to->n], found->ai_addr, found->ai_addrlen);
	to->length[to->n++] = found->ai_addrlen;
	freeaddrinfo(found);
}

int address_numeric(const char *host, uint16_t port, struct addresses *ret)
{
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	ret->n = 0;
	if (!*host || !strcmp(host, "localhost")) {
		append(ret, "127.0.0.1", service, AF_INET);
		append(ret, "::1", service, AF_INET6);
	} else {
		append(ret, host, service, AF_UNSPEC);
	}
	return ret->n ? 0 : -EINVAL;
}

int address_unix(const char *path, struct sockaddr_storage *ret_at, socklen_t *ret_length)
{
	struct sockaddr_un *un = (struct sockaddr_un *)ret_at;

	if (strlen(path) >= sizeof(un->sun_path))
		return -ENAMETOOLONG;
	memset(ret_at, 0, sizeof(*ret_at));
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	*ret_length = sizeof(*un);
	return 0;
}
