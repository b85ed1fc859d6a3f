/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* proxy.h: stands between a source and a destination, both of this process, and cuts their link at a frame. Two threads a connection,
 * so that streams that wait for each other at the gate do not wait for each other here. */
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/decide/message.h"
#include "streams/wire.h"

enum { PROXY_FLOWS = 64, PROXY_CUTS = 4 };

struct proxy;
struct proxy_cut {
	enum message_type at;
	bool before; /* the frame is not let through */
};
struct proxy_end {
	struct proxy *proxy;
	pthread_t thread;
	int from, to;
	bool greets; /* the source's side of it */
	_Atomic bool *link;
};

struct proxy {
	int door;
	char uri[64];
	pthread_t thread;
	_Atomic uint16_t target;           /* port of the destination's listener */
	_Atomic bool shut;                 /* who comes is sent away */
	_Atomic unsigned cut;              /* how many of the cuts have been made */
	_Atomic unsigned links;            /* that were let through */
	struct proxy_cut cuts[PROXY_CUTS]; /* one after the other, each at the first such frame */
	struct proxy_end ends[2 * PROXY_FLOWS];
	_Atomic bool is_link[PROXY_FLOWS];
	unsigned n;
};

static inline bool proxy_read(int fd, uint8_t *bytes, size_t size)
{
	return !size || recv(fd, bytes, size, MSG_WAITALL) == (ssize_t)size;
}

static inline bool proxy_write(int fd, const uint8_t *bytes, size_t size)
{
	return !size || send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size; /* blocking: all of it */
}

/* Frame by frame, of the link. */
static inline void proxy_frames(struct proxy_end *e)
{
	uint8_t frame[MESSAGE_HEAD + 4096]; /* none of those of the tests is longer */
	bool on = true;

	while (on && proxy_read(e->from, frame, MESSAGE_HEAD)) {
		uint16_t type;
		uint32_t length;
		bool let = true;

		memcpy(&type, frame + 4, sizeof type);
		memcpy(&length, frame + 8, sizeof length);
		if (length > sizeof frame - MESSAGE_HEAD || !proxy_read(e->from, frame + MESSAGE_HEAD, length))
			return;
		unsigned n = atomic_load(&e->proxy->cut);
		if (n < PROXY_CUTS && type == e->proxy->cuts[n].at && atomic_compare_exchange_strong(&e->proxy->cut, &n, n + 1)) {
			on = false;
			let = !e->proxy->cuts[n].before;
		}
		if (let && !proxy_write(e->to, frame, MESSAGE_HEAD + length))
			return;
	}
}

static inline void proxy_bytes(struct proxy_end *e)
{
	uint8_t bytes[32768];

	for (ssize_t n; (n = recv(e->from, bytes, sizeof bytes, 0)) > 0;)
		if (!proxy_write(e->to, bytes, (size_t)n))
			return;
}

static inline void *proxy_carry(void *arg)
{
	struct proxy_end *e = (struct proxy_end *)arg;
	uint8_t greeting[sizeof(struct greeting)];
	uint8_t first;

	if (e->greets) {
		if (proxy_read(e->from, greeting, sizeof greeting)) {
			bool link = greeting[offsetof(struct greeting, kind)] == GREETING_LINK;

			atomic_store(e->link, link);
			atomic_fetch_add(&e->proxy->links, link);
			if (proxy_write(e->to, greeting, sizeof greeting))
				link ? proxy_frames(e) : proxy_bytes(e);
		}
	} else if (recv(e->from, &first, 1, MSG_PEEK) == 1) { /* it has been greeted, then */
		atomic_load(e->link) ? proxy_frames(e) : proxy_bytes(e);
	}
	shutdown(e->from, SHUT_RDWR);
	shutdown(e->to, SHUT_RDWR);
	return NULL;
}

static inline int proxy_connect(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static inline void *proxy_body(void *arg)
{
	struct proxy *p = (struct proxy *)arg;

	for (int near; (near = accept4(p->door, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
		int far = atomic_load(&p->shut) || p->n == PROXY_FLOWS ? -1 : proxy_connect(atomic_load(&p->target));

		if (far < 0) {
			close(near);
			continue;
		}
		struct proxy_end *e = &p->ends[2 * p->n];
		e[0] = (struct proxy_end){ .proxy = p, .from = near, .to = far, .greets = true, .link = &p->is_link[p->n] };
		e[1] = (struct proxy_end){ .proxy = p, .from = far, .to = near, .link = &p->is_link[p->n] };
		pthread_create(&e[0].thread, NULL, proxy_carry, &e[0]);
		pthread_create(&e[1].thread, NULL, proxy_carry, &e[1]);
		p->n++;
	}
	return NULL;
}

static inline uint16_t proxy_port_of(const char *uri)
{
	return (uint16_t)strtoul(strrchr(uri, ':') + 1, NULL, 10);
}

/* `target`: the URI of a listener on 127.0.0.1. */
static inline bool proxy_start(struct proxy *p, const char *target, const struct proxy_cut *cuts, unsigned n)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof at;

	memset(p, 0, sizeof *p);
	memcpy(p->cuts, cuts, n * sizeof *cuts);
	p->target = proxy_port_of(target);
	p->door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->door < 0 || bind(p->door, (struct sockaddr *)&at, sizeof at) || listen(p->door, 64) ||
	    getsockname(p->door, (struct sockaddr *)&at, &length))
		return false;
	snprintf(p->uri, sizeof p->uri, "tcp:127.0.0.1:%u", ntohs(at.sin_port));
	return !pthread_create(&p->thread, NULL, proxy_body, p);
}

static inline void proxy_stop(struct proxy *p)
{
	shutdown(p->door, SHUT_RDWR);
	pthread_join(p->thread, NULL);
	close(p->door);
	for (unsigned i = 0; i < 2 * p->n; i++)
		shutdown(p->ends[i].from, SHUT_RDWR);
	for (unsigned i = 0; i < 2 * p->n; i++)
		pthread_join(p->ends[i].thread, NULL);
	for (unsigned i = 0; i < 2 * p->n; i++)
		close(p->ends[i].from);
}
