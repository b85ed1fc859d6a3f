/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A queue of requests between a guest's driver and a device, in guest memory, as virtio has them. */
#include <errno.h>
#include <stdatomic.h>

#include "perf/disk/ring.h"

RING_RACY static uint32_t acquire(const uint32_t *position)
{
	uint32_t value = *(const volatile uint32_t *)position;

	atomic_thread_fence(memory_order_acquire);
	return value;
}

RING_RACY static void release(uint32_t *position, uint32_t value)
{
	atomic_thread_fence(memory_order_release);
	*(volatile uint32_t *)position = value;
}

RING_RACY void ring_offer(struct ring *ring, uint32_t slot)
{
	uint32_t position = ring->offered.position;

	ring->offered.slot[position % RING_SLOTS] = slot;
	release(&ring->offered.position, position + 1);
}

RING_RACY bool ring_reap(const struct ring *ring, uint32_t *position, uint32_t *ret_slot, int *ret_status)
{
	if (acquire(&ring->done.position) == *position)
		return false;
	*ret_slot = ring->done.entry[*position % RING_SLOTS].slot;
	*ret_status = ring->done.entry[*position % RING_SLOTS].status;
	(*position)++;
	return true;
}

RING_RACY uint32_t ring_waiting(const struct ring *ring, uint32_t position)
{
	return acquire(&ring->offered.position) - position;
}

RING_RACY int ring_pick(const struct ring *ring, uint32_t *position, uint32_t *ret_slot, struct ring_request *ret)
{
	uint32_t waiting = ring_waiting(ring, *position), slot;

	if (!waiting)
		return 0;
	slot = ring->offered.slot[*position % RING_SLOTS];
	if (waiting > RING_SLOTS || slot >= RING_SLOTS)
		return -EBADMSG;
	*ret_slot = slot;
	*ret = ring->request[slot];
	(*position)++;
	return 1;
}

RING_RACY void ring_complete(struct ring *ring, uint32_t *position, uint32_t slot, int status)
{
	ring->done.entry[*position % RING_SLOTS].slot = slot;
	ring->done.entry[*position % RING_SLOTS].status = status;
	release(&ring->done.position, ++*position);
}
