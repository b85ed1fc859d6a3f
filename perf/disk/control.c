/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk's device: its making and ending, its state, and the controls that bring it to rest. None of the controls waits. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "perf/disk/device.h"
#include "perf/disk/device_private.h"
#include "perf/os.h"

#define URING_ENTRIES 512u
_Static_assert(URING_ENTRIES > AREA_MAX_DEPTH, "all of a depth fits, and the eventfd");

/* Drop what was delayed by a fault. */
static void drop_delayed(struct device *device)
{
	for (uint32_t i = 0; i < AREA_MAX_DEPTH; i++) {
		if (device->flight[i].state != FLIGHT_DELAYED)
			continue;
		device_free_flight(device, &device->flight[i]);
		device->delayed--;
		atomic_fetch_sub(&device->in_flight, 1);
	}
}

int device_start(struct device *device, int fd)
{
	struct iovec buffers = { memory_page(device->memory, device->buffers_page), device->buffer_pages * SLUICE_PAGE_SIZE };
	int error = io_uring_queue_init(URING_ENTRIES, &device->uring, 0);

	if (error)
		return error;
	/* -ENOMEM: more than may be locked in memory. Then each request pins its pages. */
	device->fixed = !io_uring_register_buffers(&device->uring, &buffers, 1);
	device->fd = fd;
	atomic_store(&device->quit, false);
	error = os_thread_start(&device->thread, "disk", device_body, device);
	if (error)
		io_uring_queue_exit(&device->uring);
	device->started = !error;
	return error;
}

void device_stop(struct device *device)
{
	if (!device->started)
		return;
	device_set_depth(device, 0);
	atomic_store(&device->quit, true);
	device_kick(device);
	pthread_join(device->thread, NULL);
	io_uring_queue_exit(&device->uring);
	drop_delayed(device);
	device->started = false;
}

/* ---------------------------------------------------------------- controls */

void device_set_depth(struct device *device, uint32_t depth)
{
	atomic_store(&device->depth, depth < AREA_MAX_DEPTH ? depth : AREA_MAX_DEPTH);
}

int device_try(struct device *device)
{
	uint64_t now;

	if (!atomic_load(&device->in_flight))
		return 0;
	now = os_now_ns();
	for (uint32_t i = 0; i < AREA_MAX_DEPTH; i++) {
		uint64_t since = atomic_load_explicit(&device->flight[i].since_ns, memory_order_relaxed);

		if (since && since + DEVICE_STUCK_NS < now)
			return -EBUSY;
	}
	return -EAGAIN;
}

void device_kick(struct device *device)
{
	uint64_t one = 1;

	while (write(device->kick_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void device_arm(struct device *device)
{
	atomic_store(&device->armed, true);
}

void device_burst(struct device *device)
{
	atomic_store(&device->burst, (uint32_t)device->fault.value);
}

void device_mark_for(struct device *device, struct sluice *session)
{
	pthread_mutex_lock(&device->mark_lock);
	device->session = session;
	pthread_mutex_unlock(&device->mark_lock);
}

/* ---------------------------------------------------------------- making one, and its state */

int device_init(struct device *device, const struct memory *memory, const struct disk_settings *settings)
{
	uint64_t first = memory->pages - area_pages(settings->depth);

	memset(device, 0, sizeof(*device));
	device->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->kick_fd < 0)
		return -errno;
	device->memory = memory;
	device->fault = settings->fault;
	device->queues = area_queues(settings->depth);
	device->buffers_page = first + device->queues * AREA_QUEUE_PAGES;
	device->buffer_pages = memory->pages - device->buffers_page;
	for (uint32_t q = 0; q < device->queues; q++) {
		uint64_t page = first + q * AREA_QUEUE_PAGES;

		device->queue[q].ring = memory_page(memory, page);
		device->queue[q].done_page = page + offsetof(struct ring, done) / RING_PAGE;
	}
	for (uint32_t i = 0; i < AREA_MAX_DEPTH; i++)
		device->free[device->n_free++] = i;
	pthread_mutex_init(&device->mark_lock, NULL);
	return 0;
}

void device_fini(struct device *device)
{
	pthread_mutex_destroy(&device->mark_lock);
	close(device->kick_fd);
}

void device_save(const struct device *device, struct device_state *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->picks = atomic_load(&device->picks);
	ret->done = atomic_load(&device->done);
	ret->failed = atomic_load(&device->failed);
	for (uint32_t q = 0; q < device->queues; q++) {
		ret->queue[q].picked = device->queue[q].picked;
		ret->queue[q].done = device->queue[q].done;
	}
}

void device_load(struct device *device, const struct device_state *state)
{
	atomic_store(&device->picks, state->picks);
	atomic_store(&device->done, state->done);
	atomic_store(&device->failed, state->failed);
	for (uint32_t q = 0; q < device->queues; q++) {
		device->queue[q].picked = state->queue[q].picked;
		device->queue[q].done = state->queue[q].done;
		device->queue[q].broken = false;
	}
}
