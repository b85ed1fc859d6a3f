/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk's device: takes requests from rings in guest memory, does them with io_uring, and can be brought to rest. */
#ifndef PERF_DISK_DEVICE_H
#define PERF_DISK_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <liburing.h>

#include "perf/disk/area.h"
#include "perf/memory.h"
#include "perf/os.h"

#define DEVICE_STUCK_NS (2 * OS_S) /* waiting for a request that takes longer is of no use */

struct sluice;

/* A request that was picked and is not done. */
struct flight {
	enum { FLIGHT_FREE, FLIGHT_DELAYED, FLIGHT_SUBMITTED } state;
	bool hangs; /* delayed by --io-fault hang */
	uint32_t queue, slot;
	_Atomic uint64_t since_ns; /* 0: free; read by whoever tries */
	uint64_t due_ns;           /* delayed: until then */
	struct ring_request request;
};

struct device {
	/* set once */
	const struct memory *memory;
	uint64_t buffers_page, buffer_pages; /* of all queues, in one region */
	uint32_t queues;
	struct fault fault;
	int kick_fd;

	/* by whoever starts and stops it, while the thread is not there */
	int fd;
	bool started, fixed;
	pthread_t thread;
	struct io_uring uring;

	/* the thread's; anyone's while nothing is in flight at depth 0, or the thread is not there */
	struct device_queue {
		struct ring *ring;
		uint64_t done_page;
		uint32_t picked, done;
		bool broken, changed;
		_Atomic uint32_t bell; /* futex: changes after something was done */
	} queue[AREA_QUEUES];
	struct flight flight[AREA_MAX_DEPTH];
	uint32_t free[AREA_MAX_DEPTH], n_free, delayed, next_queue;

	/* the thread writes, anyone reads */
	_Atomic uint64_t picks, done, failed; /* failed: of those done */
	_Atomic uint32_t in_flight;           /* seq_cst with `depth`: see pick() */
	_Atomic uint32_t hanging;             /* of those */

	/* anyone writes, the thread reads */
	_Atomic bool quit, armed; /* armed: one request is to hang */
	_Atomic uint32_t burst;   /* so many are taken yet, whatever the depth, unless it is 0; the thread writes too */
	_Atomic uint32_t depth;

	pthread_mutex_t mark_lock; /* held while completions are marked */
	struct sluice *session;    /* under mark_lock: whose tracker is told, NULL: none */
};

/* Rings' positions and counts: what travels as device state. */
struct device_state {
	uint64_t picks, done, failed;
	struct {
		uint32_t picked, done;
	} queue[AREA_QUEUES];
};

/* `memory` is borrowed. Its depth is 0, and there is no thread yet. 0 or negative errno. */
int device_init(struct device *device, const struct memory *memory, const struct disk_settings *settings);
/* It must not be started. */
void device_fini(struct device *device);

/* Work with this file from now on; what the rings hold is picked once it has a depth. */
int device_start(struct device *device, int fd);
/* Waits for what the kernel has of it. What only waits because of a fault is dropped, neither done nor to be done. */
void device_stop(struct device *device);

/* ---------------------------------------------------------------- what draining needs: none of these waits. Any thread */

/* So many requests may be in flight from now on; more that are already there stay. 0: pick nothing new. */
void device_set_depth(struct device *device, uint32_t depth);
/* 0: none is in flight, and at depth 0 none will be; -EAGAIN: there is one; -EBUSY: one has been for DEVICE_STUCK_NS. */
int device_try(struct device *device);

/* ---------------------------------------------------------------- else */

/* The guest has offered something, or there is a depth for it. Any thread. */
void device_kick(struct device *device);
/* Have the next request hang, where --io-fault says so. Any thread. */
void device_arm(struct device *device);
/* Take as many as --io-fault says at once, as if they had come just before the depth was lowered. To be followed by that. Any
 * thread. */
void device_burst(struct device *device);
/* Whose session hears of writes into guest memory, NULL: none. Waits for marks that are being made. */
void device_mark_for(struct device *device, struct sluice *session);

/* Nothing may be in flight, and the depth be 0. */
void device_save(const struct device *device, struct device_state *ret);
void device_load(struct device *device, const struct device_state *state);

#endif
