/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* address.h: socket addresses and their text. Nothing is looked up. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "streams/uri.h"

enum { ADDRESS_TEXT = 128, ADDRESS_MAX = 16 };

struct addresses {
	struct sockaddr_storage at[ADDRESS_MAX];
	socklen_t length[ADDRESS_MAX];
	int n;
};

/* "127.0.0.1:4747", "[::1]:4747", "unix:PATH", or "unix" for the unnamed end. Returns `buffer`. */
const char *address_text(const struct sockaddr_storage *at, socklen_t length, char buffer[ADDRESS_TEXT]);
/* The URI of an address that something listens at. -EAFNOSUPPORT: neither tcp nor a unix socket with a path. */
int address_uri(const struct sockaddr_storage *at, socklen_t length, struct uri *ret_uri);
/* Does it stay on this host? */
bool address_is_local(const struct sockaddr_storage *at);
/* A numeric address, or loopback by its name or by none. -EINVAL: a name. */
int address_numeric(const char *host, uint16_t port, struct addresses *ret);
/* -ENAMETOOLONG */
int address_unix(const char *path, struct sockaddr_storage *ret_at, socklen_t *ret_length);
