/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A queue of requests between a guest's driver and a device, in guest memory, as virtio has them. */
#ifndef PERF_DISK_RING_H
#define PERF_DISK_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whoever writes what is in guest memory: the library reads it at the same time, by design, so TSan does not look here. It would look at
 * atomics even so: positions are plain numbers, read and written whole, between fences. */
#define RING_RACY __attribute__((no_sanitize("thread")))

#define RING_SLOTS 128u
#define RING_PAGE 4096u

enum ring_op { RING_READ, RING_WRITE };

struct ring_request {
	uint64_t address; /* of the buffer, from the beginning of guest memory */
	uint64_t block;   /* of the file */
	uint32_t blocks, op;
	uint64_t reserved;
};

/* Positions count up without end, modulo 2^32; each side keeps its own of what the other writes. Nothing here is to be trusted by
 * the device: a guest may write what it likes. */
struct ring {
	/* the driver writes */
	struct ring_request request[RING_SLOTS]; /* a slot is the driver's unless it is offered and not done */
	struct {
		_Alignas(RING_PAGE) uint32_t position; /* released by the driver, pairs with the acquire of the device */
		uint32_t slot[RING_SLOTS];
	} offered;
	/* the device writes */
	struct {
		_Alignas(RING_PAGE) uint32_t position; /* released by the device, pairs with the acquire of the driver */
		struct {
			uint32_t slot;
			int32_t status; /* 0 or negative errno */
		} entry[RING_SLOTS];
	} done;
};
_Static_assert(sizeof(struct ring_request) == 32 && sizeof(struct ring) == 3 * RING_PAGE, "requests, offered, done: a page each");

/* Driver: request[slot] is filled, let the device have it. */
void ring_offer(struct ring *ring, uint32_t slot);
/* Driver: what is done, oldest first. False: nothing is. The slot may be any number where memory was damaged. */
bool ring_reap(const struct ring *ring, uint32_t *position, uint32_t *ret_slot, int *ret_status);

/* Device: how many are offered beyond `position`; more than RING_SLOTS: the guest's ring is broken. */
uint32_t ring_waiting(const struct ring *ring, uint32_t position);
/* Device: take the next of those that wait, if any. 1, 0: none waits, -EBADMSG: the ring is broken. */
int ring_pick(const struct ring *ring, uint32_t *position, uint32_t *ret_slot, struct ring_request *ret);
/* Device: `slot` is done, its data is in place. */
void ring_complete(struct ring *ring, uint32_t *position, uint32_t slot, int status);

#endif
