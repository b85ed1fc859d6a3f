/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* uri.h: where to connect or listen, as users write it. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { URI_HOST = 256, URI_TEXT = 320, URI_DEFAULT_PORT = 4747 };

enum uri_scheme { URI_TCP, URI_UNIX, URI_FD, URI_FILE, URI_RDMA };

struct uri {
	enum uri_scheme scheme;
	char host[URI_HOST]; /* tcp, rdma: name or address without brackets, "": loopback; unix, file: the path */
	uint16_t port;       /* tcp, rdma */
	int fd;              /* fd */
};

/* "tcp:HOST:PORT", "HOST", "HOST:PORT", "[ADDR]:PORT", "[ADDR]", "unix:PATH", "fd:N", "file:PATH", "rdma:HOST:PORT"; ""
 * is loopback. Returns 0, or -EINVAL with one line in `error` that says what to write instead. */
int uri_parse(const char *text, struct uri *ret_uri, char *error, size_t error_size);

/* The canonical text; IPv6 in brackets, an empty host as "localhost". Returns `buffer`. */
const char *uri_format(const struct uri *uri, char buffer[URI_TEXT]);
