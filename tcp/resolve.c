/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* resolve.c: looking up a name without being at its mercy.
 *
 * getaddrinfo() can neither be given a deadline nor be ended. So it runs in a thread of its own, which nobody joins: it
 * and the caller share one request, and the last of both to let go frees it. (getaddrinfo_a() is the same with a
 * request that cannot be freed while it is worked on, not even after gai_cancel().) */
#include "tcp/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streams/bell.h"
#include "streams/thread.h"

enum { LOOK_NS = 50 * 1000 * 1000 }; /* how often a waiting caller looks at its cancel */

struct request {
	char host[URI_HOST], port[8];
	struct bell done; /* rung once all below is there */
	int error;        /* EAI_*, errno in system_error */
	int system_error;
	struct addrinfo *found;
	_Atomic uint32_t holders;
};

static void let_go(struct request *r)
{
	/* acq_rel: pairs with itself; who frees sees all that the other did */
	if (atomic_fetch_sub_explicit(&r->holders, 1, memory_order_acq_rel) > 1)
		return;
	if (r->found)
		freeaddrinfo(r->found);
	free(r);
}

static void *look_up(void *arg)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG };
	struct request *r = arg;

	r->error = getaddrinfo(r->host, r->port, &hints, &r->found);
	r->system_error = errno;
	bell_ring(&r->done);
	let_go(r);
	return NULL;
}

static int explain(const struct dial *dial, const struct request *r)
{
	const char *why = r->error == EAI_SYSTEM ? strerror(r->system_error) : gai_strerror(r->error);

	if (dial->error)
		snprintf(dial->error, dial->error_size, "cannot find host %.100s: %s", r->host, why);
	switch (r->error) {
	case EAI_AGAIN: return -EAGAIN;
	case EAI_MEMORY: return -ENOMEM;
	case EAI_SYSTEM: return r->system_error ? -r->system_error : -EIO;
	default: return -ENXIO;
	}
}

static int wait_for(const struct dial *dial, struct request *r)
{
	for (;;) {
		uint64_t now = now_ns(), until = now + LOOK_NS;

		if (bell_key(&r->done)) /* acquire: pairs with the ring */
			return r->error ? explain(dial, r) : 0;
		if (atomic_load_explicit(dial->cancel, memory_order_relaxed)) /* a flag, nothing behind it */
			return -ECANCELED;
		if (now >= dial->deadline_ns) {
			if (dial->error)
				snprintf(dial->error, dial->error_size, "looking up %.100s took too long; use its address",
					 r->host);
			return -ETIMEDOUT;
		}
		bell_wait(&r->done, 0, until < dial->deadline_ns ? until : dial->deadline_ns, dial->waiter, "the name service");
	}
}

int resolve(const struct dial *dial, struct addresses *ret)
{
	const struct uri *uri = dial->uri;
	struct request *r;
	pthread_t thread;
	int e;

	if (!address_numeric(uri->host, uri->port, ret))
		return 0;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	strcpy(r->host, uri->host);
	snprintf(r->port, sizeof(r->port), "%u", uri->port);
	atomic_store_explicit(&r->holders, 2, memory_order_relaxed); /* published by the thread's start */
	e = thread_start(&thread, "resolve", look_up, r);
	if (e) {
		free(r);
		return e;
	}
	/* By us: a thread that detached itself could be gone before thread_start has named it. */
	pthread_detach(thread);
	e = wait_for(dial, r);
	for (const struct addrinfo *a = e ? NULL : r->found; a && ret->n < ADDRESS_MAX; a = a->ai_next) {
		memcpy(&ret->at[ret->n], a->ai_addr, a->ai_addrlen);
		ret->length[ret->n++] = a->ai_addrlen;
	}
	let_go(r);
	return e;
}
