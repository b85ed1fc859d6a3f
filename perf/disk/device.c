/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk's device: takes requests from rings in guest memory, does them with io_uring, and can be brought to rest.
 *
 * One thread serves all queues, as long as this end owns the disk. Buffers are registered with io_uring, pinned once for all requests:
 * that is what devices do who want speed, and it is why no tracker of page faults ever sees what a read puts there. So each completion
 * that wrote into guest memory is marked, before the guest can see that it is done; so is the ring's page of what is done.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "perf/disk/device.h"
#include "perf/disk/device_private.h"
#include "perf/os.h"

#define KICKED UINT64_MAX /* user data of the eventfd's poll */

/* ---------------------------------------------------------------- completing */

void device_free_flight(struct device *device, struct flight *flight)
{
	if (flight->hangs)
		atomic_fetch_sub(&device->hanging, 1);
	flight->state = FLIGHT_FREE;
	atomic_store_explicit(&flight->since_ns, 0, memory_order_relaxed);
	device->free[device->n_free++] = (uint32_t)(flight - device->flight);
}

/* In this order: data, its mark, the ring's entry, the entry's mark, and only then is it no more in flight: whoever finds nothing in
 * flight finds everything marked. */
static void complete(struct device *device, struct flight *flight, int status)
{
	struct device_queue *queue = &device->queue[flight->queue];

	pthread_mutex_lock(&device->mark_lock);
	if (flight->request.op == RING_READ && device->session) /* one that failed may have come half-way */
		memory_mark(device->memory, device->session, flight->request.address / SLUICE_PAGE_SIZE, flight->request.blocks);
	ring_complete(queue->ring, &queue->done, flight->slot, status);
	if (device->session)
		memory_mark(device->memory, device->session, queue->done_page, 1);
	pthread_mutex_unlock(&device->mark_lock);
	queue->changed = true;
	atomic_fetch_add_explicit(&device->done, 1, memory_order_relaxed);
	if (status)
		atomic_fetch_add_explicit(&device->failed, 1, memory_order_relaxed);
	device_free_flight(device, flight);
	atomic_fetch_sub(&device->in_flight, 1);
}
_Static_assert(AREA_BLOCK == SLUICE_PAGE_SIZE, "a block is a page");

/* Polled rather than read: a ring that is being torn down must not swallow a kick that is meant for its successor. */
static void listen_for_kicks(struct device *device)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&device->uring);

	io_uring_prep_poll_add(sqe, device->kick_fd, POLLIN);
	sqe->user_data = KICKED;
}

static void take_kicks(struct device *device)
{
	uint64_t kicks;

	while (read(device->kick_fd, &kicks, sizeof(kicks)) < 0 && errno == EINTR)
		;
	listen_for_kicks(device);
}

static void reap(struct device *device)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&device->uring, &cqe)) {
		uint64_t data = cqe->user_data;
		int32_t result = cqe->res;

		io_uring_cqe_seen(&device->uring, cqe);
		if (data == KICKED) {
			take_kicks(device);
		} else {
			struct flight *flight = &device->flight[data];
			int32_t whole = (int32_t)(flight->request.blocks * AREA_BLOCK);

			complete(device, flight, result == whole ? 0 : result < 0 ? result : -EIO);
		}
	}
}

/* ---------------------------------------------------------------- picking */

static void submit(struct device *device, struct flight *flight)
{
	const struct ring_request *request = &flight->request;
	void *buffer = memory_page(device->memory, request->address / SLUICE_PAGE_SIZE);
	struct io_uring_sqe *sqe = io_uring_get_sqe(&device->uring);
	uint32_t length = request->blocks * AREA_BLOCK;
	uint64_t at = request->block * AREA_BLOCK;

	if (request->op == RING_READ && device->fixed)
		io_uring_prep_read_fixed(sqe, device->fd, buffer, length, at, 0);
	else if (request->op == RING_READ)
		io_uring_prep_read(sqe, device->fd, buffer, length, at);
	else if (device->fixed)
		io_uring_prep_write_fixed(sqe, device->fd, buffer, length, at, 0);
	else
		io_uring_prep_write(sqe, device->fd, buffer, length, at);
	sqe->user_data = (uint64_t)(flight - device->flight);
	flight->state = FLIGHT_SUBMITTED;
}

/* What a guest says is checked: it is the guest's right to be wrong. */
static bool is_valid(const struct device *device, const struct ring_request *request)
{
	uint64_t page = request->address / SLUICE_PAGE_SIZE, end = device->buffers_page + device->buffer_pages;

	return request->op <= RING_WRITE && request->blocks && request->blocks <= AREA_REQUEST_BLOCKS && request->block &&
	       request->block < AREA_FILE_BLOCKS && request->block + request->blocks <= AREA_FILE_BLOCKS &&
	       !(request->address % SLUICE_PAGE_SIZE) && page >= device->buffers_page && page < end &&
	       request->blocks <= end - page;
}

static void begin(struct device *device, struct flight *flight)
{
	uint64_t n = atomic_fetch_add_explicit(&device->picks, 1, memory_order_relaxed) + 1;
	const struct fault *fault = &device->fault;

	flight->hangs = false;
	atomic_store_explicit(&flight->since_ns, os_now_ns(), memory_order_relaxed);
	if (!is_valid(device, &flight->request)) {
		flight->request.op = RING_WRITE; /* nothing to mark */
		complete(device, flight, -EINVAL);
	} else if (fault->kind == FAULT_FAIL && n % fault->value == 0) {
		complete(device, flight, -EIO);
	} else if (fault->kind == FAULT_SLOW || (fault->kind == FAULT_HANG && atomic_exchange(&device->armed, false))) {
		flight->hangs = fault->kind == FAULT_HANG;
		flight->due_ns = flight->hangs && !fault->value ? OS_FOREVER : os_now_ns() + fault->value * OS_MS;
		flight->state = FLIGHT_DELAYED;
		device->delayed++;
		atomic_fetch_add(&device->hanging, flight->hangs);
	} else {
		submit(device, flight);
	}
}

/* Take a request from the next queue that has one, into a flight. */
static bool take(struct device *device)
{
	for (uint32_t i = 0; i < device->queues; i++) {
		uint32_t q = device->next_queue++ % device->queues, slot;
		struct device_queue *queue = &device->queue[q];
		struct ring_request request;
		struct flight *flight;
		int result = queue->broken ? 0 : ring_pick(queue->ring, &queue->picked, &slot, &request);

		queue->broken |= result < 0;
		if (result <= 0)
			continue;
		flight = &device->flight[device->free[--device->n_free]];
		flight->queue = q;
		flight->slot = slot;
		flight->request = request;
		begin(device, flight);
		return true;
	}
	return false;
}

static bool something_waits(const struct device *device)
{
	for (uint32_t q = 0; q < device->queues; q++) {
		if (!device->queue[q].broken && ring_waiting(device->queue[q].ring, device->queue[q].picked))
			return true;
	}
	return false;
}

static bool has_room(struct device *device, uint32_t in_flight)
{
	uint32_t depth = atomic_load(&device->depth);

	return in_flight < depth || (depth && atomic_load(&device->burst) && in_flight < AREA_MAX_DEPTH);
}

static void count_burst(struct device *device)
{
	if (atomic_load(&device->burst))
		atomic_fetch_sub(&device->burst, 1);
}

/* Whoever sets the depth to 0 and then finds nothing in flight must be right: so a place in flight is taken before it is looked, once
 * more, whether there is room. Both are sequentially consistent, so one of the two sees the other. No place is taken for nothing, so
 * that a disk without requests never looks busy. */
static void pick(struct device *device)
{
	while (has_room(device, atomic_load(&device->in_flight)) && something_waits(device)) {
		uint32_t before = atomic_fetch_add(&device->in_flight, 1);

		if (!has_room(device, before) || !take(device)) {
			atomic_fetch_sub(&device->in_flight, 1);
			return;
		}
		count_burst(device);
	}
}

/* ---------------------------------------------------------------- the thread */

/* Those whose delay is over: only now is their data read or written. Returns when the next is due. */
static uint64_t start_due(struct device *device)
{
	uint64_t now = os_now_ns(), next = OS_FOREVER;

	for (uint32_t i = 0; device->delayed && i < AREA_MAX_DEPTH; i++) {
		struct flight *flight = &device->flight[i];

		if (flight->state != FLIGHT_DELAYED)
			continue;
		if (flight->due_ns <= now) {
			device->delayed--;
			submit(device, flight);
		} else if (flight->due_ns < next) {
			next = flight->due_ns;
		}
	}
	return next;
}

static void ring_bells(struct device *device)
{
	for (uint32_t q = 0; q < device->queues; q++) {
		struct device_queue *queue = &device->queue[q];

		if (!queue->changed)
			continue;
		queue->changed = false;
		atomic_fetch_add(&queue->bell, 1);
		os_futex_wake_all(&queue->bell);
	}
}

static void submit_and_wait(struct device *device, uint64_t until_ns)
{
	struct __kernel_timespec left = { 0, 0 };
	struct io_uring_cqe *cqe;
	uint64_t now;

	if (until_ns == OS_FOREVER) {
		io_uring_submit_and_wait(&device->uring, 1);
		return;
	}
	now = os_now_ns();
	if (until_ns > now) {
		left.tv_sec = (long long)((until_ns - now) / OS_S);
		left.tv_nsec = (long long)((until_ns - now) % OS_S);
	}
	io_uring_submit_and_wait_timeout(&device->uring, &cqe, 1, &left, NULL);
}

static bool kernel_has_some(const struct device *device)
{
	return AREA_MAX_DEPTH - device->n_free > device->delayed;
}

void *device_body(void *arg)
{
	struct device *device = arg;

	listen_for_kicks(device);
	while (!atomic_load(&device->quit) || kernel_has_some(device)) {
		bool quits = atomic_load(&device->quit);
		uint64_t next = OS_FOREVER;

		reap(device);
		if (!quits) {
			pick(device);
			next = start_due(device);
		}
		ring_bells(device);
		if (!quits || kernel_has_some(device))
			submit_and_wait(device, next);
	}
	return NULL;
}
