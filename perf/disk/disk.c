/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest's disk: the file, the device that serves it and the guest's drivers.
 *
 * One end owns the disk at a time: it has the file's lock, and only its device has a depth other than 0. The rings, what waits in
 * them, and all that the drivers know are guest memory and travel as such; of the device only its positions in the rings travel, and
 * its counts. So nothing may be in flight when that is saved.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "perf/disk/device.h"
#include "perf/disk/disk.h"
#include "perf/disk/disk_private.h"
#include "perf/os.h"

#define SECTION "disk"
#define SECTION_VERSION 1
#define SETTLE_NS (10 * OS_S)

/* ---------------------------------------------------------------- making one */

int disk_create(const struct disk_settings *settings, const struct memory *memory, enum block_kind kind, struct disk **ret_disk,
		char error[IMAGE_ERROR])
{
	struct disk *disk = calloc(1, sizeof(*disk));
	int result = disk ? image_open(&disk->image, settings->path, !settings->id, settings->id, error) : -ENOMEM;

	if (!disk) {
		snprintf(error, IMAGE_ERROR, "no memory for a disk");
		return result;
	}
	if (result) {
		free(disk);
		return result;
	}
	if (!disk->image.direct && !settings->id) /* said once, by the end that makes the guest */
		fprintf(stderr, "migperf: warning: the filesystem of %s refuses O_DIRECT: going on without\n", settings->path);
	disk->memory = *memory;
	disk->settings = *settings;
	result = device_init(&disk->device, &disk->memory, settings);
	if (result) {
		snprintf(error, IMAGE_ERROR, "cannot make a disk's device: %s", strerror(-result));
		image_close(&disk->image);
		free(disk);
		return result;
	}
	pthread_mutex_init(&disk->gaps.lock, NULL);
	for (uint32_t q = 0; q < disk_queues(disk); q++)
		driver_init(&disk->driver[q], &disk->memory, settings, q, kind, &disk->gaps);
	*ret_disk = disk;
	return 0;
}

void disk_destroy(struct disk *disk)
{
	if (!disk)
		return;
	device_stop(&disk->device);
	image_close(&disk->image);
	device_fini(&disk->device);
	pthread_mutex_destroy(&disk->gaps.lock);
	free(disk);
}

uint64_t disk_id(const struct disk *disk)
{
	return disk->image.id;
}

uint32_t disk_queues(const struct disk *disk)
{
	return area_queues(disk->settings.depth);
}

/* ---------------------------------------------------------------- whose it is */

static int begin_anew(struct disk *disk)
{
	static const struct device_state nothing;
	uint64_t run;

	if (getrandom(&run, sizeof(run), 0) != sizeof(run))
		return -errno;
	for (uint32_t q = 0; q < disk_queues(disk); q++)
		driver_reset(&disk->driver[q], run);
	device_load(&disk->device, &nothing);
	return 0;
}

bool disk_is_here(const struct disk *disk)
{
	return disk->image.locked;
}

int disk_prepare(struct disk *disk)
{
	return disk->device.started ? 0 : device_start(&disk->device, disk->image.fd);
}

int disk_acquire(struct disk *disk, bool anew)
{
	int error;

	if (disk_is_here(disk))
		return 0;
	error = image_lock(&disk->image);
	if (!error && anew)
		error = begin_anew(disk);
	if (!error)
		error = disk_prepare(disk);
	if (error)
		image_unlock(&disk->image);
	return error;
}

int disk_release(struct disk *disk)
{
	device_stop(&disk->device);
	return image_unlock(&disk->image);
}

/* ---------------------------------------------------------------- coming to rest */

/* How many the guest is to keep outstanding. One that is calm has one in each queue. */
static void set_wants(struct disk *disk, bool any)
{
	for (uint32_t q = 0; q < disk_queues(disk); q++) {
		struct driver *driver = &disk->driver[q];

		atomic_store(&driver->wants, any ? atomic_load(&disk->calm) ? 1 : driver->depth : 0);
	}
}

static void note_quiet(struct disk *disk, bool quiet)
{
	pthread_mutex_lock(&disk->gaps.lock);
	if (!quiet && disk->quiet_since_ns)
		histogram_add(&disk->quiet, os_now_ns() - disk->quiet_since_ns);
	if (!quiet || !disk->quiet_since_ns)
		disk->quiet_since_ns = quiet ? os_now_ns() : 0;
	pthread_mutex_unlock(&disk->gaps.lock);
}

void disk_set_depth(struct disk *disk, uint32_t requests)
{
	bool lowered = requests < disk->settings.depth;

	if (lowered && atomic_exchange(&disk->calm, false)) {
		device_burst(&disk->device);
		set_wants(disk, true);
	}
	device_set_depth(&disk->device, lowered ? requests : disk->settings.depth);
	note_quiet(disk, !requests);
}

void disk_kick(struct disk *disk)
{
	if (disk->settings.fault.kind == FAULT_BURST) /* it may have come */
		disk_wake(disk);
	device_kick(&disk->device);
}

int disk_try(struct disk *disk)
{
	return device_try(&disk->device);
}

/* ---------------------------------------------------------------- the guest's side */

bool disk_step(struct disk *disk, uint32_t queue, struct sluice *marked)
{
	return driver_step(&disk->driver[queue], marked);
}

uint32_t disk_bell(struct disk *disk, uint32_t queue)
{
	return atomic_load(&disk->device.queue[queue].bell);
}

void disk_wait(struct disk *disk, uint32_t queue, uint32_t bell)
{
	if (driver_rest(&disk->driver[queue]))
		device_kick(&disk->device);
	disk_sleep(disk, queue, bell);
}

void disk_sleep(struct disk *disk, uint32_t queue, uint32_t bell)
{
	os_futex_wait(&disk->device.queue[queue].bell, bell, OS_FOREVER);
}

void disk_wake(struct disk *disk)
{
	for (uint32_t q = 0; q < disk_queues(disk); q++) {
		atomic_fetch_add(&disk->device.queue[q].bell, 1);
		os_futex_wake_all(&disk->device.queue[q].bell);
	}
}

uint64_t disk_queue_page(const struct disk *disk, uint32_t queue)
{
	return disk->driver[queue].page;
}

int disk_doorbell(const struct disk *disk)
{
	return disk->device.kick_fd;
}

void disk_seen(struct disk *disk, uint32_t queue)
{
	driver_note_gap(&disk->driver[queue]);
}

uint32_t disk_wants(struct disk *disk, uint32_t queue)
{
	return driver_wants(&disk->driver[queue]);
}

/* ---------------------------------------------------------------- looking */

void disk_arm(struct disk *disk)
{
	device_arm(&disk->device);
	atomic_store(&disk->calm, disk->settings.fault.kind == FAULT_BURST);
	set_wants(disk, true);
}

void disk_mark_for(struct disk *disk, struct sluice *session)
{
	device_mark_for(&disk->device, session);
}

static void count(const struct disk *disk, struct driver_counts *ret)
{
	struct driver_counts counts;

	memset(ret, 0, sizeof(*ret));
	for (uint32_t q = 0; q < disk_queues(disk); q++) {
		driver_look(&disk->driver[q], &counts);
		ret->outstanding += counts.outstanding;
		ret->reads += counts.reads;
		ret->writes += counts.writes;
		ret->blocks += counts.blocks;
		ret->failed += counts.failed;
	}
}

static uint64_t outstanding(const struct disk *disk)
{
	struct driver_counts counts;

	count(disk, &counts);
	return counts.outstanding;
}

void disk_look(struct disk *disk, struct disk_view *ret)
{
	struct driver_counts counts;

	memset(ret, 0, sizeof(*ret));
	count(disk, &counts);
	ret->reads = counts.reads;
	ret->writes = counts.writes;
	ret->blocks = counts.blocks;
	ret->failed = counts.failed;
	pthread_mutex_lock(&disk->gaps.lock);
	ret->first_ns = disk->gaps.first_ns;
	ret->last_ns = disk->gaps.last_ns;
	ret->gap_ns = disk->gaps.histogram.max;
	histogram_summary(&disk->gaps.histogram, OS_MS, &ret->gap_ms);
	histogram_summary(&disk->quiet, OS_MS, &ret->quiet_ms);
	pthread_mutex_unlock(&disk->gaps.lock);
	ret->in_flight = atomic_load(&disk->device.in_flight);
	ret->hanging = atomic_load(&disk->device.hanging);
	ret->direct = disk->image.direct;
	ret->pinned = disk->device.fixed;
}

void disk_reset_gaps(struct disk *disk)
{
	pthread_mutex_lock(&disk->gaps.lock);
	disk->gaps.first_ns = disk->gaps.last_ns = 0;
	memset(&disk->gaps.histogram, 0, sizeof(disk->gaps.histogram));
	memset(&disk->quiet, 0, sizeof(disk->quiet));
	pthread_mutex_unlock(&disk->gaps.lock);
}

void disk_add_gap(struct disk *disk, uint64_t ns)
{
	pthread_mutex_lock(&disk->gaps.lock);
	histogram_add(&disk->gaps.histogram, ns);
	pthread_mutex_unlock(&disk->gaps.lock);
}

void disk_go_on(struct disk *disk)
{
	set_wants(disk, true);
	for (uint32_t q = 0; q < disk_queues(disk); q++)
		atomic_store(&disk->driver[q].rests, false);
	disk_set_depth(disk, SLUICE_IO_DEPTH_USUAL);
	disk_kick(disk);
}

/* A driver may be about to offer a request, and the guest see that one is done before the device has counted it. */
static bool is_settled(struct disk *disk)
{
	uint32_t hanging = atomic_load(&disk->device.hanging);

	for (uint32_t q = 0; q < disk_queues(disk); q++) {
		if (!atomic_load(&disk->driver[q].rests))
			return false;
	}
	return outstanding(disk) <= hanging && atomic_load(&disk->device.in_flight) <= hanging;
}

void disk_settle(struct disk *disk)
{
	const struct fault *fault = &disk->settings.fault;
	uint64_t until = os_now_ns() + SETTLE_NS + (fault->kind == FAULT_SLOW ? 2 * fault->value * OS_MS : 0);
	const struct timespec look = { 0, (long)OS_MS };

	set_wants(disk, false);
	disk_wake(disk);
	while (!is_settled(disk) && os_now_ns() < until)
		nanosleep(&look, NULL);
}

/* ---------------------------------------------------------------- state */

void disk_save(struct disk *disk, struct sluice_section *ret)
{
	memset(&disk->wire, 0, sizeof(disk->wire));
	disk->wire.id = disk->image.id;
	disk->wire.depth = disk->settings.depth;
	device_save(&disk->device, &disk->wire.device);
	*ret = (struct sluice_section){ SECTION, SECTION_VERSION, &disk->wire, sizeof(disk->wire) };
}

int disk_load(struct disk *disk, const struct sluice_section *section)
{
	struct disk_wire wire;

	if (section->version != SECTION_VERSION || section->length != sizeof(wire))
		return -EBADMSG;
	memcpy(&wire, section->data, sizeof(wire)); /* where the library put it need not be aligned */
	if (wire.id != disk->image.id || wire.depth != disk->settings.depth)
		return -EBADMSG;
	device_load(&disk->device, &wire.device);
	return 0;
}
