/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_disk.c: migperf's disk: the ring, the driver's record against devices that lie, the device against a real file, and its
 * controls. Marks are caught here (--wrap), so that the test sees when they are made. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "perf/disk/device.h"
#include "perf/disk/disk_private.h"
#include "perf/disk/driver.h"
#include "perf/disk/image.h"
#include "perf/os.h"
#include "tests/unit/harness.h"

#define MEMORY_BYTES (4u << 20)
#define SOON_NS (20 * OS_S)

/* ---------------------------------------------------------------- the bed */

struct bed {
	struct memory memory;
	struct disk_settings settings;
	struct device device;
	struct driver_gaps gaps;
	struct driver driver[AREA_QUEUES];
	char path[64];
	struct image image;
};

static const struct bed *marked_bed; /* whose marks are looked at */
static _Atomic uint64_t data_marks, ring_marks, late_marks;

void __wrap_sluice_mark_dirty(struct sluice *session, uint32_t region, uint64_t offset, uint64_t length);
void __wrap_sluice_mark_dirty(struct sluice *session, uint32_t region, uint64_t offset, uint64_t length)
{
	(void)session;
	CU_ASSERT_EQUAL(region, 0);
	if (offset / SLUICE_PAGE_SIZE >= marked_bed->device.buffers_page) {
		/* Thread: the device's. Who completes this has not said so yet: what it did say is what was marked before. */
		uint32_t position = marked_bed->device.queue[0].ring->done.position;

		if (position != atomic_load(&ring_marks) || length % SLUICE_PAGE_SIZE)
			atomic_fetch_add(&late_marks, 1);
		atomic_fetch_add(&data_marks, 1);
	} else {
		atomic_fetch_add(&ring_marks, 1);
	}
}

static struct bed *make_bed(uint32_t depth, struct fault fault)
{
	struct memory_spec spec = { MEMORY_BYTES, BACKING_ANON, SLUICE_PAGE_SIZE };
	struct bed *bed = calloc(1, sizeof(*bed));
	char error[256];
	int fd;

	strcpy(bed->path, "/tmp/test_disk.XXXXXX");
	fd = mkstemp(bed->path);
	CU_ASSERT_FATAL(fd >= 0);
	close(fd);
	CU_ASSERT_FATAL(!memory_create(&bed->memory, &spec, error));
	CU_ASSERT_FATAL(!image_open(&bed->image, bed->path, true, 0, error));
	bed->settings = (struct disk_settings){ .depth = depth, .fault = fault };
	CU_ASSERT_FATAL(!device_init(&bed->device, &bed->memory, &bed->settings));
	pthread_mutex_init(&bed->gaps.lock, NULL);
	for (uint32_t q = 0; q < area_queues(depth); q++) {
		driver_init(&bed->driver[q], &bed->memory, &bed->settings, q, BLOCK_FILLED, &bed->gaps);
		driver_reset(&bed->driver[q], 1234567);
	}
	return bed;
}

static void set_depth(struct bed *bed, uint32_t depth)
{
	device_set_depth(&bed->device, depth);
	device_kick(&bed->device);
}

static void start(struct bed *bed)
{
	int error = device_start(&bed->device, bed->image.fd);

	CU_ASSERT_EQUAL_FATAL(error, 0);
	set_depth(bed, bed->settings.depth);
}

static void free_bed(struct bed *bed)
{
	device_stop(&bed->device);
	device_fini(&bed->device);
	pthread_mutex_destroy(&bed->gaps.lock);
	image_close(&bed->image);
	unlink(bed->path);
	memory_destroy(&bed->memory);
	free(bed);
}

static void nap(void)
{
	const struct timespec ms = { 0, (long)OS_MS };

	nanosleep(&ms, NULL);
}

/* A request of the test's own in slot `slot` of queue 0, at the beginning of block `block`. */
static void ask(struct bed *bed, uint32_t slot, enum ring_op op, uint64_t block, uint32_t blocks)
{
	bed->driver[0].ring->request[slot] = (struct ring_request){
		.address = (bed->driver[0].buffers_page + slot * AREA_REQUEST_BLOCKS) * SLUICE_PAGE_SIZE,
		.block = block,
		.blocks = blocks,
		.op = op,
	};
	ring_offer(bed->driver[0].ring, slot);
	device_kick(&bed->device);
}

static uint8_t *buffer(struct bed *bed, uint32_t slot)
{
	return memory_page(&bed->memory, bed->driver[0].buffers_page + slot * AREA_REQUEST_BLOCKS);
}

/* The next completion's status, 1: none came in time. */
static int await_done(struct bed *bed, uint32_t *position, uint32_t *ret_slot)
{
	uint64_t until = os_now_ns() + SOON_NS;
	int status;

	while (os_now_ns() < until) {
		if (ring_reap(bed->driver[0].ring, position, ret_slot, &status))
			return status;
		nap();
	}
	return 1;
}

static uint32_t waiting(struct bed *bed)
{
	return ring_waiting(bed->device.queue[0].ring, 0);
}

/* ---------------------------------------------------------------- ring, faults, image */

static void ring_keeps_order(void)
{
	struct ring *ring = aligned_alloc(RING_PAGE, sizeof(*ring));
	uint32_t picked = 0, done = 0, reaped = 0, slot = 0;
	struct ring_request request;
	int status;

	memset(ring, 0, sizeof(*ring));
	CU_ASSERT_EQUAL(ring_pick(ring, &picked, &slot, &request), 0);
	for (uint32_t i = 0; i < 5 * RING_SLOTS; i += RING_SLOTS / 2) {
		for (uint32_t k = i; k < i + RING_SLOTS / 2; k++) {
			ring->request[k % RING_SLOTS].block = k;
			ring_offer(ring, k % RING_SLOTS);
		}
		CU_ASSERT_EQUAL(ring_waiting(ring, picked), RING_SLOTS / 2);
		for (uint32_t k = i; k < i + RING_SLOTS / 2; k++) {
			CU_ASSERT_EQUAL(ring_pick(ring, &picked, &slot, &request), 1);
			CU_ASSERT(slot == k % RING_SLOTS && request.block == k);
			CU_ASSERT_FALSE(ring_reap(ring, &reaped, &slot, &status));
			ring_complete(ring, &done, slot, -(int)k);
			CU_ASSERT_TRUE(ring_reap(ring, &reaped, &slot, &status));
			CU_ASSERT(slot == k % RING_SLOTS && status == -(int)k);
		}
	}
	free(ring);
}

static void a_broken_ring_is_noticed(void)
{
	struct ring *ring = aligned_alloc(RING_PAGE, sizeof(*ring));
	struct ring_request request;
	uint32_t picked = 0, slot;

	memset(ring, 0, sizeof(*ring));
	ring_offer(ring, RING_SLOTS);
	CU_ASSERT_EQUAL(ring_pick(ring, &picked, &slot, &request), -EBADMSG);
	ring->offered.position = RING_SLOTS + 1;
	ring->offered.slot[0] = 0;
	CU_ASSERT_EQUAL(ring_pick(ring, &picked, &slot, &request), -EBADMSG);
	ring->offered.position = UINT32_MAX; /* before where the device is */
	CU_ASSERT_EQUAL(ring_pick(ring, &picked, &slot, &request), -EBADMSG);
	CU_ASSERT_EQUAL(picked, 0);
	free(ring);
}

static void faults_are_parsed(void)
{
	static const char *const wrong[] = { "",       "hang",     "hang:",   ":5",     "hang:-1", "hang:5s",         "fail:0",
					     "fail:1", "fail:x",   "slow:0",  "none:1", "hang: 5", "hang:1000000000", "slow:5:5",
					     "Hang:5", "fail:1.5", "hangs:5", "han:5" };
	struct fault fault = { FAULT_NONE, 0 };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CU_ASSERT_EQUAL(fault_parse(wrong[i], &fault), -EINVAL);
	CU_ASSERT(!fault_parse("hang:0", &fault) && fault.kind == FAULT_HANG && !fault.value);
	CU_ASSERT(!fault_parse("fail:2", &fault) && fault.kind == FAULT_FAIL && fault.value == 2);
	CU_ASSERT(!fault_parse("burst:1", &fault) && fault.kind == FAULT_BURST && fault.value == 1);
	CU_ASSERT(fault_parse("burst:0", &fault) == -EINVAL && fault_parse("burst:1000001", &fault) == -EINVAL);
	CU_ASSERT(!fault_parse("slow:3600000", &fault) && fault.kind == FAULT_SLOW && fault.value == 3600000);
}

static void only_its_own_files_are_written(void)
{
	struct bed *bed = make_bed(4, (struct fault){ 0 });
	char error[IMAGE_ERROR] = "", text[] = "somebody's letters";
	struct image image;
	int fd = open(bed->path, O_RDWR | O_TRUNC);
	struct stat about;

	CU_ASSERT_EQUAL(write(fd, text, sizeof(text)), sizeof(text));
	CU_ASSERT_EQUAL(image_open(&image, bed->path, true, 0, error), -EEXIST);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "holds something that is not migperf's"));
	CU_ASSERT_EQUAL(image_open(&image, bed->path, false, 77, error), -EEXIST);
	CU_ASSERT(!fstat(fd, &about) && about.st_size == (off_t)sizeof(text));
	close(fd);
	CU_ASSERT_EQUAL(image_open(&image, "/dev/null", false, 77, error), -EINVAL);
	CU_ASSERT_EQUAL(image_open(&image, "/dev/null", true, 0, error), -EINVAL);
	CU_ASSERT(image_open(&image, "/tmp", true, 0, error) < 0);
	CU_ASSERT_EQUAL(image_open(&image, "/tmp/no such folder/disk", true, 0, error), -ENOENT);
	CU_ASSERT_EQUAL(image.fd, -1);
	free_bed(bed);
}

static void one_end_has_the_lock(void)
{
	struct bed *bed = make_bed(4, (struct fault){ 0 });
	struct image other, wrong;
	char error[IMAGE_ERROR];

	CU_ASSERT_EQUAL(image_open(&other, bed->path, false, bed->image.id, error), 0);
	CU_ASSERT_EQUAL(image_open(&wrong, bed->path, false, bed->image.id + 1, error), -EEXIST);
	CU_ASSERT_EQUAL(image_lock(&bed->image), 0);
	CU_ASSERT_EQUAL(image_lock(&bed->image), 0);
	CU_ASSERT_EQUAL(image_lock(&other), -EBUSY);
	CU_ASSERT_EQUAL(image_unlock(&bed->image), 0);
	CU_ASSERT_EQUAL(image_lock(&other), 0);
	CU_ASSERT_EQUAL(image_lock(&bed->image), -EBUSY);
	image_close(&other); /* as when its process dies */
	CU_ASSERT_EQUAL(image_lock(&bed->image), 0);
	free_bed(bed);
}

/* ---------------------------------------------------------------- the record, against devices that lie */

enum lie { HONEST, LOSES, TEARS, MISPLACES, DOUBLES, COMPLETES_TWICE, READS_OLD, INVENTS, FAILS };

/* A device in memory, one queue, which does one thing wrong, once. */
struct liar {
	uint8_t *file; /* of blocks */
	enum lie lie;
	uint32_t picked, done, n, lied_at;
	struct ring_request again;
	uint8_t old[AREA_REQUEST_BLOCKS * AREA_BLOCK];
};

static void move(struct bed *bed, struct liar *liar, const struct ring_request *request, size_t length)
{
	uint8_t *guest = memory_page(&bed->memory, request->address / SLUICE_PAGE_SIZE);
	uint8_t *file = liar->file + request->block * AREA_BLOCK;

	if (request->op == RING_WRITE)
		memcpy(file, guest, length);
	else
		memcpy(guest, file, length);
}

/* Serve one request. */
static void serve(struct bed *bed, struct liar *liar)
{
	struct ring *ring = bed->driver[0].ring;
	struct ring_request request;
	uint32_t slot, now = ++liar->n == liar->lied_at;
	size_t length;
	int status = 0;

	if (ring_pick(ring, &liar->picked, &slot, &request) != 1)
		return;
	length = request.blocks * AREA_BLOCK;
	if (now && request.op == RING_READ && liar->lie < READS_OLD && liar->lie != HONEST)
		liar->lied_at++, now = false; /* a write is what it lies about */
	if (now && request.op == RING_WRITE && liar->lie == READS_OLD)
		liar->lied_at++, now = false;
	if (now && liar->lie == DOUBLES) {
		liar->again = request; /* and again much later, when it is old: unless the guest writes next, it reads that */
		memcpy(liar->old, memory_page(&bed->memory, request.address / SLUICE_PAGE_SIZE), length);
	}
	if (now && liar->lie == MISPLACES)
		request.block += request.block > 100 ? -8 : 8;
	if (now && liar->lie == FAILS)
		status = -EIO;
	else if (now && liar->lie == TEARS)
		move(bed, liar, &request, length - AREA_BLOCK / 2);
	else if (!(now && (liar->lie == LOSES || liar->lie == READS_OLD)))
		move(bed, liar, &request, length);
	ring_complete(ring, &liar->done, slot, status);
	if (now && liar->lie == COMPLETES_TWICE)
		ring_complete(ring, &liar->done, slot, 0);
	if (now && liar->lie == INVENTS)
		ring_complete(ring, &liar->done, 4096, 0);
	if (liar->again.blocks && liar->n > liar->lied_at + 3000 && liar->n % 500 == 0)
		memcpy(liar->file + liar->again.block * AREA_BLOCK, liar->old, liar->again.blocks * AREA_BLOCK);
}

/* What the guest found wrong after 20000 requests, and whether it saw the error. */
static uint64_t live_with(enum lie lie, uint64_t *ret_failed)
{
	struct bed *bed = make_bed(1, (struct fault){ 0 });
	struct liar liar = { .lie = lie, .lied_at = lie == HONEST ? 0 : 5000 };
	uint64_t wrong;

	liar.file = calloc(AREA_FILE_BLOCKS, AREA_BLOCK);
	for (unsigned i = 0; i < 40000; i++) {
		if (!driver_step(&bed->driver[0], NULL))
			serve(bed, &liar);
	}
	*ret_failed = bed->driver[0].record->counts.failed;
	wrong = bed->driver[0].record->counts.wrong;
	if (wrong)
		printf("  %s\n", bed->driver[0].record->first);
	CU_ASSERT(liar.n > 10000);
	CU_ASSERT(bed->driver[0].record->counts.reads > 1000 && bed->driver[0].record->counts.writes > 1000);
	free(liar.file);
	free_bed(bed);
	return wrong;
}

static void an_honest_device_is_believed(void)
{
	uint64_t failed;

	CU_ASSERT_EQUAL(live_with(HONEST, &failed), 0);
	CU_ASSERT_EQUAL(failed, 0);
}

static void every_lie_is_found(void)
{
	uint64_t failed;

	for (enum lie lie = LOSES; lie <= INVENTS; lie++)
		CU_ASSERT(live_with(lie, &failed) > 0);
}

static void an_error_is_seen_and_mended(void)
{
	uint64_t failed;

	CU_ASSERT_EQUAL(live_with(FAILS, &failed), 0);
	CU_ASSERT_EQUAL(failed, 1);
}

/* As from a peer that means harm: nothing outside is touched (sanitizers look), and it ends. */
static void a_damaged_record_does_no_harm(void)
{
	uint64_t x = 88172645463325252u;

	for (unsigned round = 0; round < 300; round++) {
		struct bed *bed = make_bed(8, (struct fault){ 0 });
		uint8_t *record = (uint8_t *)bed->driver[1].record;

		for (size_t i = 0; i < sizeof(struct driver_record) + 0; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			if (round % 3 || x % 64 == 0) /* all of it, or a little */
				record[i] = (uint8_t)x;
		}
		for (unsigned i = 0; i < 50; i++) {
			bed->driver[1].ring->done.position = (uint32_t)(x + i);
			bed->driver[1].ring->done.entry[i].slot = (uint32_t)(x >> (i % 40));
			driver_step(&bed->driver[1], NULL);
		}
		driver_check_kept(&bed->driver[1]);
		free_bed(bed);
	}
}

/* ---------------------------------------------------------------- the device */

/* Its drivers as a guest has them, but in turn. False: nothing could be done. */
static bool step_all(struct bed *bed)
{
	bool did = false;

	for (uint32_t q = 0; q < area_queues(bed->settings.depth); q++) {
		while (driver_step(&bed->driver[q], NULL))
			did = true;
		if (driver_rest(&bed->driver[q]))
			device_kick(&bed->device);
	}
	return did;
}

static uint64_t count(struct bed *bed, uint64_t *ret_wrong)
{
	uint64_t done = 0;

	*ret_wrong = 0;
	for (uint32_t q = 0; q < area_queues(bed->settings.depth); q++) {
		done += bed->driver[q].record->counts.reads + bed->driver[q].record->counts.writes;
		*ret_wrong += bed->driver[q].record->counts.wrong;
	}
	return done;
}

static void requests_are_done_and_marked(void)
{
	struct bed *bed = make_bed(1, (struct fault){ 0 });
	uint64_t until = os_now_ns() + SOON_NS, wrong, done = 0, reads;

	marked_bed = bed;
	atomic_store(&data_marks, 0);
	atomic_store(&ring_marks, 0);
	atomic_store(&late_marks, 0);
	device_mark_for(&bed->device, (struct sluice *)bed); /* nothing looks into it here */
	start(bed);
	while (done < 1500 && os_now_ns() < until) {
		if (!step_all(bed))
			os_futex_wait(&bed->device.queue[0].bell, atomic_load(&bed->device.queue[0].bell), os_now_ns() + OS_MS);
		done = count(bed, &wrong);
	}
	CU_ASSERT(done >= 1500);
	CU_ASSERT_EQUAL(wrong, 0);
	device_stop(&bed->device);
	reads = bed->driver[0].record->counts.reads;
	CU_ASSERT(reads > 10 && atomic_load(&data_marks) >= reads && atomic_load(&data_marks) <= reads + 1);
	CU_ASSERT_EQUAL(atomic_load(&ring_marks), bed->device.queue[0].done);
	CU_ASSERT_EQUAL(atomic_load(&late_marks), 0);
	free_bed(bed);
}

static void what_a_guest_asks_is_checked(void)
{
	static const struct ring_request wrong[] = {
		{ .block = 0, .blocks = 1, .op = RING_WRITE },
		{ .block = 1, .blocks = 0, .op = RING_READ },
		{ .block = 1, .blocks = AREA_REQUEST_BLOCKS + 1 },
		{ .block = AREA_FILE_BLOCKS, .blocks = 1 },
		{ .block = AREA_FILE_BLOCKS - 1, .blocks = 2 },
		{ .block = UINT64_MAX, .blocks = 2 },
		{ .block = 1, .blocks = 1, .op = 2 },
		{ .block = 1, .blocks = UINT32_MAX },
	};
	struct bed *bed = make_bed(4, (struct fault){ 0 });
	uint64_t first = bed->device.buffers_page * SLUICE_PAGE_SIZE;
	const uint64_t address[] = {
		0, first - SLUICE_PAGE_SIZE, first + 1, MEMORY_BYTES, MEMORY_BYTES - SLUICE_PAGE_SIZE, UINT64_MAX
	};
	uint32_t position = 0, slot, n = 0;

	start(bed);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++, n++) {
		bed->driver[0].ring->request[n] = wrong[i];
		bed->driver[0].ring->request[n].address = first;
		ring_offer(bed->driver[0].ring, n);
	}
	for (size_t i = 0; i < sizeof(address) / sizeof(*address); i++, n++) {
		bed->driver[0].ring->request[n] = (struct ring_request){ .address = address[i], .block = 1, .blocks = 2 };
		ring_offer(bed->driver[0].ring, n);
	}
	device_kick(&bed->device);
	for (uint32_t i = 0; i < n; i++)
		CU_ASSERT_EQUAL(await_done(bed, &position, &slot), -EINVAL);
	CU_ASSERT_EQUAL(atomic_load(&bed->device.failed), n);
	ask(bed, 0, RING_WRITE, 1, 4); /* it goes on */
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	free_bed(bed);
}

/* A write that failed was not done, and a read that failed wrote nothing. */
static void one_of_n_fails(void)
{
	struct bed *bed = make_bed(4, (struct fault){ FAULT_FAIL, 5 });
	uint32_t position = 0, slot;
	uint8_t held = 0;

	start(bed);
	for (uint32_t i = 1; i <= 60; i++) {
		bool write = i % 3 == 1, fails = i % 5 == 0;

		memset(buffer(bed, write), write ? (int)i : 0xee, AREA_BLOCK);
		ask(bed, write, write ? RING_WRITE : RING_READ, 7, 1);
		CU_ASSERT_EQUAL(await_done(bed, &position, &slot), fails ? -EIO : 0);
		if (write && !fails)
			held = (uint8_t)i;
		if (!write)
			CU_ASSERT_EQUAL(buffer(bed, 0)[4095], fails ? 0xee : held);
	}
	CU_ASSERT_EQUAL(atomic_load(&bed->device.failed), 12);
	CU_ASSERT_EQUAL(atomic_load(&bed->device.done), 60);
	free_bed(bed);
}

static void a_slow_disk_takes_longer(void)
{
	struct bed *bed = make_bed(4, (struct fault){ FAULT_SLOW, 30 });
	uint64_t began = os_now_ns();
	uint32_t position = 0, slot;

	start(bed);
	for (uint32_t i = 0; i < 4; i++)
		ask(bed, i, RING_WRITE, 1 + i * 4, 4);
	for (uint32_t i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	CU_ASSERT(os_now_ns() - began >= 30 * OS_MS); /* side by side */
	ask(bed, 0, RING_READ, 1, 1);
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	CU_ASSERT(os_now_ns() - began >= 60 * OS_MS);
	free_bed(bed);
}

/* Of the requests that were offered one hangs; its data arrives only when that is over. */
static void data_of_one_that_hangs_arrives_then(void)
{
	struct bed *bed = make_bed(4, (struct fault){ FAULT_HANG, 150 });
	uint32_t position = 0, slot;
	uint64_t began;

	start(bed);
	memset(buffer(bed, 0), 0xaa, AREA_BLOCK);
	ask(bed, 0, RING_WRITE, 5, 1);
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	memset(buffer(bed, 1), 0xbb, AREA_BLOCK);
	device_arm(&bed->device);
	began = os_now_ns();
	ask(bed, 1, RING_READ, 5, 1);
	memset(buffer(bed, 0), 0xcc, AREA_BLOCK);
	ask(bed, 0, RING_WRITE, 6, 1); /* others go on */
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	CU_ASSERT_EQUAL(slot, 0);
	if (os_now_ns() - began < 100 * OS_MS) {
		CU_ASSERT_EQUAL(buffer(bed, 1)[0], 0xbb);
		CU_ASSERT_EQUAL(atomic_load(&bed->device.hanging), 1);
		CU_ASSERT_EQUAL(device_try(&bed->device), -EAGAIN);
	}
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	CU_ASSERT(os_now_ns() - began >= 150 * OS_MS);
	CU_ASSERT_EQUAL(slot, 1);
	CU_ASSERT_EQUAL(buffer(bed, 1)[0], 0xaa);
	CU_ASSERT_EQUAL(atomic_load(&bed->device.hanging), 0);
	free_bed(bed);
}

static void one_that_hangs_for_ever_is_dropped(void)
{
	struct bed *bed = make_bed(4, (struct fault){ FAULT_HANG, 0 });
	uint32_t position = 0, slot;

	start(bed);
	memset(buffer(bed, 0), 0, AREA_BLOCK);
	device_arm(&bed->device);
	ask(bed, 0, RING_READ, 5, 1);
	for (uint32_t i = 0; i < 20; i++) {
		ask(bed, 1, RING_READ, 6, 1);
		CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
		CU_ASSERT_EQUAL(slot, 1);
	}
	CU_ASSERT_EQUAL(device_try(&bed->device), -EAGAIN);
	device_stop(&bed->device);
	CU_ASSERT_EQUAL(device_try(&bed->device), 0);
	free_bed(bed);
}

/* ---------------------------------------------------------------- coming to rest */

static bool comes(_Atomic uint32_t *flag, uint32_t value)
{
	uint64_t until = os_now_ns() + SOON_NS;

	while (atomic_load(flag) != value && os_now_ns() < until)
		nap();
	return atomic_load(flag) == value;
}

static void depth_is_kept(void)
{
	struct bed *bed = make_bed(32, (struct fault){ FAULT_SLOW, 20 });

	start(bed);
	step_all(bed);
	CU_ASSERT_TRUE(comes(&bed->device.in_flight, 32));
	set_depth(bed, 1);
	for (unsigned i = 0; i < 3000 && atomic_load(&bed->device.in_flight) > 1; i++)
		nap();
	for (unsigned i = 0; i < 200; i++) {
		step_all(bed);
		CU_ASSERT(atomic_load(&bed->device.in_flight) <= 1);
		nap();
	}
	set_depth(bed, 16);
	CU_ASSERT_TRUE(comes(&bed->device.in_flight, 16));
	free_bed(bed);
}

static bool comes_to_rest(struct bed *bed)
{
	uint64_t until = os_now_ns() + SOON_NS;

	set_depth(bed, 0);
	while (device_try(&bed->device) && os_now_ns() < until)
		nap();
	return !device_try(&bed->device);
}

static void nothing_is_picked_at_rest(void)
{
	struct bed *bed = make_bed(4, (struct fault){ FAULT_HANG, 100 });
	uint32_t position = 0, slot;

	start(bed);
	device_arm(&bed->device);
	ask(bed, 0, RING_READ, 5, 1);
	CU_ASSERT_TRUE(comes(&bed->device.in_flight, 1));
	set_depth(bed, 0);
	ask(bed, 1, RING_READ, 6, 1);
	CU_ASSERT_TRUE(comes_to_rest(bed));
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	CU_ASSERT_EQUAL(slot, 0);
	for (unsigned i = 0; i < 50; i++)
		nap();
	CU_ASSERT_FALSE(ring_reap(bed->driver[0].ring, &position, &slot, &(int){ 0 }));
	CU_ASSERT_EQUAL(ring_waiting(bed->driver[0].ring, bed->device.queue[0].picked), 1); /* it waits in the ring */
	set_depth(bed, 4);
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	CU_ASSERT_EQUAL(slot, 1);
	free_bed(bed);
}

/* What takes a while is worth waiting for; what takes much longer than any request does is not. */
static void a_try_tells_busy_from_stuck(void)
{
	struct bed *bed = make_bed(4, (struct fault){ FAULT_HANG, 0 });
	uint64_t began, until;
	uint32_t position = 0, slot;
	int result;

	start(bed);
	device_arm(&bed->device);
	ask(bed, 0, RING_READ, 5, 1);
	CU_ASSERT_TRUE(comes(&bed->device.in_flight, 1));
	began = os_now_ns();
	result = device_try(&bed->device);
	CU_ASSERT(result == -EAGAIN || os_now_ns() - began > DEVICE_STUCK_NS / 2);
	until = began + SOON_NS;
	while (device_try(&bed->device) == -EAGAIN && os_now_ns() < until)
		nap();
	CU_ASSERT_EQUAL(device_try(&bed->device), -EBUSY);
	CU_ASSERT(os_now_ns() - began > DEVICE_STUCK_NS / 2);
	ask(bed, 1, RING_READ, 6, 1); /* others go on, and are no reason to think otherwise */
	CU_ASSERT_EQUAL(await_done(bed, &position, &slot), 0);
	CU_ASSERT_EQUAL(device_try(&bed->device), -EBUSY);
	free_bed(bed);
}

/* Whenever a try says that nothing is in flight, at depth 0, nothing is picked or done from then on. */
static void a_try_that_succeeds_is_right(void)
{
	struct bed *bed = make_bed(32, (struct fault){ 0 });
	uint64_t wrong, until = os_now_ns() + SOON_NS, rests = 0, picks = 0;

	start(bed);
	while (rests < 300 && os_now_ns() < until) {
		uint64_t done;

		while (atomic_load(&bed->device.picks) == picks && os_now_ns() < until) /* at least one was picked */
			step_all(bed);
		set_depth(bed, 0);
		while (device_try(&bed->device) && os_now_ns() < until)
			step_all(bed);
		picks = atomic_load(&bed->device.picks);
		done = atomic_load(&bed->device.done);
		CU_ASSERT_EQUAL(picks, done);
		step_all(bed);
		for (unsigned i = 0; i < 200; i++)
			sched_yield();
		CU_ASSERT_EQUAL(atomic_load(&bed->device.picks), picks);
		CU_ASSERT_EQUAL(atomic_load(&bed->device.done), done);
		set_depth(bed, 32);
		rests++;
	}
	CU_ASSERT_EQUAL(rests, 300);
	CU_ASSERT(count(bed, &wrong) > 0);
	CU_ASSERT_EQUAL(wrong, 0);
	free_bed(bed);
}

/* Positions travel; what waits in the rings is memory. */
static void it_goes_on_elsewhere(void)
{
	struct bed *bed = make_bed(32, (struct fault){ 0 });
	uint64_t wrong, until = os_now_ns() + SOON_NS;
	struct device_state state;

	for (unsigned i = 0; i < 30; i++) {
		uint64_t before = count(bed, &wrong);

		start(bed);
		while (count(bed, &wrong) < before + 40 && os_now_ns() < until)
			step_all(bed);
		CU_ASSERT_TRUE(comes_to_rest(bed));
		device_save(&bed->device, &state);
		device_stop(&bed->device);
		device_fini(&bed->device);
		CU_ASSERT_EQUAL_FATAL(device_init(&bed->device, &bed->memory, &bed->settings), 0);
		device_load(&bed->device, &state);
	}
	CU_ASSERT(count(bed, &wrong) >= 1200);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT(waiting(bed) > 0);
	free_bed(bed);
}

/* ---------------------------------------------------------------- the audit */

static bool is_waiting(const struct disk *disk)
{
	uint64_t outstanding = 0;

	for (uint32_t q = 0; q < disk_queues(disk); q++)
		outstanding += disk->driver[q].record->counts.outstanding;
	return outstanding != 0;
}

/* Run a disk for a while in this thread, bring it to rest, spoil something, and see whether the audit finds it. */
static uint64_t audit_after(void (*spoil)(struct disk *disk), struct disk_verdict *ret)
{
	struct bed *bed = make_bed(8, (struct fault){ 0 });
	uint64_t until = os_now_ns() + SOON_NS;
	struct disk_view view = { 0 };
	char error[IMAGE_ERROR];
	struct disk *disk;

	strcpy(bed->settings.path, bed->path);
	CU_ASSERT_EQUAL_FATAL(disk_create(&bed->settings, &bed->memory, BLOCK_FILLED, &disk, error), 0);
	CU_ASSERT_EQUAL_FATAL(disk_acquire(disk, true), 0);
	disk_go_on(disk);
	while ((view.reads < 300 || is_waiting(disk) || device_try(&disk->device)) && os_now_ns() < until) {
		for (uint32_t q = 0; q < disk_queues(disk); q++) {
			while (disk_step(disk, q, NULL))
				;
			if (driver_rest(&disk->driver[q]))
				device_kick(&disk->device);
		}
		disk_look(disk, &view);
		if (view.reads >= 300)
			for (uint32_t q = 0; q < disk_queues(disk); q++)
				atomic_store(&disk->driver[q].wants, 0);
	}
	if (spoil)
		spoil(disk);
	CU_ASSERT_EQUAL(disk_verify(disk, ret), 0);
	if (ret->wrong)
		printf("  %s\n", ret->first);
	CU_ASSERT(ret->blocks > 100 && ret->kept_blocks > 10);
	disk_destroy(disk);
	free_bed(bed);
	return ret->wrong;
}

static uint32_t a_written_block(const struct driver *driver)
{
	uint32_t block = 0;

	while (!driver->record->version[block])
		block++;
	return block;
}

static void spoil_a_block(struct disk *disk)
{
	const struct driver *driver = &disk->driver[2];
	off_t at = (off_t)(driver_block(2, a_written_block(driver)) * AREA_BLOCK);
	void *block = aligned_alloc(AREA_BLOCK, AREA_BLOCK);

	CU_ASSERT_EQUAL(pread(disk->image.fd, block, AREA_BLOCK, at), AREA_BLOCK);
	((uint8_t *)block)[4095] ^= 1;
	CU_ASSERT_EQUAL(pwrite(disk->image.fd, block, AREA_BLOCK, at), AREA_BLOCK);
	free(block);
}

static void spoil_a_buffer(struct disk *disk)
{
	for (uint32_t i = 0; i < disk->driver[1].slots; i++) {
		if (disk->driver[1].record->slot[i].kept) {
			((uint8_t *)memory_page(&disk->memory, disk->driver[1].buffers_page + i * AREA_REQUEST_BLOCKS))[77] ^= 1;
			return;
		}
	}
}

static void lose_a_request(struct disk *disk)
{
	disk->driver[0].record->counts.outstanding++;
}

static void double_a_completion(struct disk *disk)
{
	atomic_fetch_add(&disk->device.done, 1);
}

static void hide_an_error(struct disk *disk)
{
	atomic_fetch_add(&disk->device.failed, 1);
}

static void a_clean_audit_finds_nothing(void)
{
	struct disk_verdict verdict;

	CU_ASSERT_EQUAL(audit_after(NULL, &verdict), 0);
}

static void the_audit_finds_what_was_spoiled(void)
{
	struct disk_verdict verdict;

	CU_ASSERT_EQUAL(audit_after(spoil_a_block, &verdict), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(verdict.first, "is torn"));
	CU_ASSERT_EQUAL(audit_after(spoil_a_buffer, &verdict), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(verdict.first, "disk buffer"));
	CU_ASSERT(audit_after(lose_a_request, &verdict) > 0);
	CU_ASSERT(audit_after(double_a_completion, &verdict) > 0);
	CU_ASSERT(audit_after(hide_an_error, &verdict) > 0);
}

/* A guest may see that its last request is done while the device is still about to count it, and a driver be about to offer
 * another: the audit must find neither. */
static _Atomic unsigned steps;

static void *count_late(void *arg)
{
	struct disk *disk = arg;

	for (unsigned i = 0; i < 50; i++)
		nap();
	atomic_fetch_sub(&disk->device.in_flight, 1);
	for (unsigned i = 0; i < 50; i++)
		nap();
	disk_step(disk, 0, NULL);
	disk_step(disk, 1, NULL);
	disk_step(disk, 2, NULL);
	atomic_fetch_add(&steps, 1); /* the last is still to say that it offers nothing */
	disk_step(disk, 3, NULL);
	return NULL;
}

static void settling_waits_for_both_sides(void)
{
	struct bed *bed = make_bed(8, (struct fault){ 0 });
	char error[IMAGE_ERROR];
	struct disk *disk;
	pthread_t thread;

	strcpy(bed->settings.path, bed->path);
	CU_ASSERT_EQUAL_FATAL(disk_create(&bed->settings, &bed->memory, BLOCK_FILLED, &disk, error), 0);
	atomic_store(&disk->device.in_flight, 1);
	CU_ASSERT_EQUAL_FATAL(os_thread_start(&thread, "late", count_late, disk), 0);
	disk_settle(disk);
	CU_ASSERT_EQUAL(atomic_load(&disk->device.in_flight), 0);
	CU_ASSERT_EQUAL(atomic_load(&steps), 1);
	pthread_join(thread, NULL);
	disk_destroy(disk);
	free_bed(bed);
}

/* What a machine's driver writes, and what of it is noticed: a sector that is older, another block's, or nobody's. */
static void stamps_tell(void)
{
	static _Alignas(64) uint8_t block[AREA_BLOCK];
	const uint64_t run = 0x123456789abcdef0, number = 700;
	char text[CONTENT_TEXT];

	for (unsigned version = 1; version < 3; version++) {
		for (uint32_t at = 0; at < AREA_BLOCK; at += BLOCK_SECTOR)
			*(uint64_t *)(block + at) = run + (number << BLOCK_NUMBER_SHIFT) + version;
		CU_ASSERT_EQUAL(block_matches(BLOCK_STAMPED, run, number, version, block),
				false); /* the end is another write's */
		*(uint64_t *)(block + BLOCK_LAST_STAMP) = run + (number << BLOCK_NUMBER_SHIFT) + version;
		CU_ASSERT(block_matches(BLOCK_STAMPED, run, number, version, block));
		CU_ASSERT_FALSE(block_matches(BLOCK_STAMPED, run, number, version + 1, block));
		CU_ASSERT_FALSE(block_matches(BLOCK_STAMPED, run, number + 1, version, block));
		CU_ASSERT_FALSE(block_matches(BLOCK_STAMPED, run + 1, number, version, block));
	}
	(*(uint64_t *)(block + 3 * BLOCK_SECTOR))--;
	CU_ASSERT_FALSE(block_matches(BLOCK_STAMPED, run, number, 2, block));
	block_describe(BLOCK_STAMPED, run, number, 2, block, "disk", text);
	CU_ASSERT_STRING_EQUAL(text, "disk: block 700 holds block 700 (its write 1) from byte 1536 on, expected write 2");
	memset(block, 0xee, sizeof(block));
	block_describe(BLOCK_STAMPED, run, number, 2, block, "disk", text);
	CU_ASSERT_STRING_EQUAL(text, "disk: block 700 holds nothing of this run from byte 0 on, expected write 2");
}

/* Calm until the depth is lowered; then all at once, and so many are taken whatever the depth, unless it is 0. */
static void a_burst_comes_before_the_end(void)
{
	struct bed *bed = make_bed(8, (struct fault){ FAULT_BURST, 5 });
	struct disk *disk;
	char error[256];

	strcpy(bed->settings.path, bed->path);
	CU_ASSERT_EQUAL_FATAL(disk_create(&bed->settings, &bed->memory, BLOCK_FILLED, &disk, error), 0);
	CU_ASSERT_EQUAL(disk_wants(disk, 0), 2);
	disk_arm(disk);
	CU_ASSERT_EQUAL(disk_wants(disk, 0), 1);
	disk_set_depth(disk, SLUICE_IO_DEPTH_USUAL);
	CU_ASSERT(disk_wants(disk, 0) == 1 && !atomic_load(&disk->device.burst));
	disk_set_depth(disk, 1);
	CU_ASSERT(disk_wants(disk, 3) == 2 && atomic_load(&disk->device.burst) == 5);
	disk_set_depth(disk, 0);
	CU_ASSERT_EQUAL_FATAL(disk_acquire(disk, true), 0);
	for (uint32_t q = 0; q < disk_queues(disk); q++) {
		while (disk_step(disk, q, NULL))
			;
	}
	disk_kick(disk);
	for (int i = 0; i < 20; i++)
		nap();
	CU_ASSERT(is_waiting(disk) && !disk_try(disk) && atomic_load(&disk->device.burst) == 5);
	disk_set_depth(disk, 1);
	disk_kick(disk);
	for (uint64_t until = os_now_ns() + SOON_NS;
	     (atomic_load(&disk->device.done) < 8 || disk_try(disk)) && os_now_ns() < until;)
		nap();
	CU_ASSERT(atomic_load(&disk->device.done) == 8 && !atomic_load(&disk->device.burst));
	disk_destroy(disk);
	free_bed(bed);
}

SUITE("disk", TEST(stamps_tell), TEST(a_burst_comes_before_the_end), TEST(ring_keeps_order), TEST(a_broken_ring_is_noticed),
      TEST(faults_are_parsed), TEST(only_its_own_files_are_written), TEST(one_end_has_the_lock),
      TEST(an_honest_device_is_believed), TEST(every_lie_is_found), TEST(an_error_is_seen_and_mended),
      TEST(a_damaged_record_does_no_harm), TEST(requests_are_done_and_marked), TEST(what_a_guest_asks_is_checked),
      TEST(one_of_n_fails), TEST(a_slow_disk_takes_longer), TEST(data_of_one_that_hangs_arrives_then),
      TEST(one_that_hangs_for_ever_is_dropped), TEST(depth_is_kept), TEST(nothing_is_picked_at_rest),
      TEST(a_try_tells_busy_from_stuck), TEST(a_try_that_succeeds_is_right), TEST(it_goes_on_elsewhere),
      TEST(settling_waits_for_both_sides), TEST(a_clean_audit_finds_nothing), TEST(the_audit_finds_what_was_spoiled))
