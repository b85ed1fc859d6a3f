/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* transports.c: the one table of transports. A transport is reached through here and nowhere else; what it is made of
 * stays in its own folder, of which only these names are known. */
#include "streams/transport.h"

extern const struct transport tcp_transport, unix_transport, fd_transport;

const struct transport *transport_find(const struct uri *uri)
{
	switch (uri->scheme) {
	case URI_TCP: return &tcp_transport;
	case URI_UNIX: return &unix_transport;
	case URI_FD: return &fd_transport;
	case URI_FILE:
	case URI_RDMA: break;
	}
	return NULL;
}
