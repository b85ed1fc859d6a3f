/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sidecar.h: what the VMM and the sidecar of this example say to each other, over two connections of a SOCK_SEQPACKET socket: the sidecar
 * asks, the VMM answers with the same when it is done. The sync thread has one connection, the sidecar's loop the other. */
#pragma once

#include <err.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { PAGE = 4096, RAM = 64 << 20, WORDS = RAM / PAGE / 64 };

enum op {
	MEMORY,  /* answered with two descriptors: guest memory, and struct shared */
	LOG,     /* first: 1 on, 0 off */
	FETCH,   /* KVM's log into shared.seen; nothing is cleared */
	CLEAR,   /* re-arm pages [first, first + pages) that are set in shared.clear */
	PAUSE,   /* answered when all stand still */
	SAVE,    /* answered with the state */
	RELEASE, /* from here on another may run the guest: this VMM does so only when it is told to */
	LOAD,
	RESUME,
	GONE, /* it runs elsewhere: end */
};

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t written; /* by the device */
};

struct ask {
	uint32_t op;
	int32_t error;
	uint64_t first, pages;
	struct state state; /* may be left out where it says nothing */
};

/* In memory that both have mapped; a bit a page. marks: what the VMM's own devices wrote, which KVM does not see. */
struct shared {
	uint64_t seen[WORDS], clear[WORDS], marks[WORDS];
};

/* The two descriptors, beside a message. */
union rights {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(2 * sizeof(int))];
};

static inline void must(int good, const char *what)
{
	if (!good)
		err(1, "%s", what);
}

static inline void *map(int fd, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(at != MAP_FAILED, "shared memory");
	return at;
}
