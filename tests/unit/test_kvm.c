/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_kvm.c: both KVM trackers on a real virtual machine. Its guest asks a port for an address and adds 1 to the byte there, for
 * ever: so the test says page by page what is written. Slots neither begin nor end where pieces or words of bits do. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/memory/kvm.h"
#include "core/memory/tracker.h"
#include "tests/unit/harness.h"

enum {
	PAGES = 5000,    /* of the one region: it ends within a granule */
	GAP_FIRST = 700, /* pages that no slot maps */
	GAP = 33,
	ENTRIES = 1024,
	CODE_PAGE = 3,
	PORT = 0x10,
};

extern const char guest_code[], guest_code_end[];
__asm__(".pushsection .rodata\n"
	".code32\n"
	"guest_code:\n"
	"1: in $0x10, %eax\n"
	"   incb (%eax)\n"
	"   jmp 1b\n"
	"guest_code_end:\n"
	".code64\n"
	".popsection\n");

struct bed {
	int kvm_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
	unsigned char *address;
	struct memory memory;
	struct bitmap dirty, discarded;
	struct kvm *kvm;
	struct tracker *tracker;
	uint32_t ring_bytes, manual;
	unsigned full; /* exits for a full ring */
};

static const struct {
	uint64_t first, pages;
} slots[] = { { 0, GAP_FIRST }, { GAP_FIRST + GAP, PAGES - GAP_FIRST - GAP } };
enum { SLOTS = sizeof(slots) / sizeof(*slots) };

static bool is_mapped(uint64_t page)
{
	return page < GAP_FIRST || page >= GAP_FIRST + GAP;
}

static void set_registers(struct bed *bed)
{
	struct kvm_segment code = { .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .db = 1, .g = 1 };
	struct kvm_regs regs = { .rip = CODE_PAGE * SLUICE_PAGE_SIZE, .rflags = 2 };
	struct kvm_sregs sregs;

	CU_ASSERT_EQUAL_FATAL(ioctl(bed->vcpu_fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cs = sregs.ds = sregs.es = sregs.ss = code;
	sregs.ds.type = sregs.es.type = sregs.ss.type = 3;
	sregs.cr0 |= 1;
	CU_ASSERT_EQUAL_FATAL(ioctl(bed->vcpu_fd, KVM_SET_SREGS, &sregs), 0);
	CU_ASSERT_EQUAL_FATAL(ioctl(bed->vcpu_fd, KVM_SET_REGS, &regs), 0);
}

/* manual: what KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is enabled with. */
static bool bed_init(struct bed *bed, bool ring, uint64_t manual)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args = { ENTRIES * sizeof(struct kvm_dirty_gfn) } };

	memset(bed, 0, sizeof(*bed));
	bed->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (bed->kvm_fd < 0) {
		harness_skip("no /dev/kvm here, or no permission");
		return false;
	}
	bed->vm_fd = ioctl(bed->kvm_fd, KVM_CREATE_VM, 0);
	CU_ASSERT_FATAL(bed->vm_fd >= 0);
	ioctl(bed->vm_fd, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	if (ring) {
		if (ioctl(bed->vm_fd, KVM_ENABLE_CAP, &cap)) {
			harness_skip("this KVM has no dirty ring");
			close(bed->vm_fd);
			close(bed->kvm_fd);
			return false;
		}
		bed->ring_bytes = ENTRIES * sizeof(struct kvm_dirty_gfn);
	} else if (manual) {
		cap = (struct kvm_enable_cap){ .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { manual } };
		CU_ASSERT_EQUAL_FATAL(ioctl(bed->vm_fd, KVM_ENABLE_CAP, &cap), 0);
		bed->manual = SLUICE_KVM_MANUAL_PROTECT;
	}
	bed->address = mmap(NULL, PAGES * SLUICE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(bed->address != MAP_FAILED);
	madvise(bed->address, PAGES * SLUICE_PAGE_SIZE, MADV_NOHUGEPAGE);
	memset(bed->address, 1, PAGES * SLUICE_PAGE_SIZE);
	memcpy(bed->address + CODE_PAGE * SLUICE_PAGE_SIZE, guest_code, (size_t)(guest_code_end - guest_code));
	for (unsigned i = 0; i < SLOTS; i++) {
		struct kvm_userspace_memory_region slot = { i, 0, slots[i].first * SLUICE_PAGE_SIZE,
							    slots[i].pages * SLUICE_PAGE_SIZE,
							    (uintptr_t)bed->address + slots[i].first * SLUICE_PAGE_SIZE };
		CU_ASSERT_EQUAL_FATAL(ioctl(bed->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	}
	bed->vcpu_fd = ioctl(bed->vm_fd, KVM_CREATE_VCPU, 0ul);
	CU_ASSERT_FATAL(bed->vcpu_fd >= 0);
	bed->run = mmap(NULL, (size_t)ioctl(bed->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED,
			bed->vcpu_fd, 0);
	CU_ASSERT_FATAL(bed->run != MAP_FAILED);
	set_registers(bed);
	return true;
}

static void describe(struct bed *bed, struct sluice_kvm *kvm, struct sluice_kvm_slot list[SLOTS])
{
	struct sluice_region region = { .size_of = sizeof(region),
					.name = "ram",
					.address = bed->address,
					.size = PAGES * SLUICE_PAGE_SIZE,
					.node = -1,
					.fd = -1 };
	char error[SLUICE_ERROR_MAX];
	uint32_t id;

	if (!bed->memory.n)
		CU_ASSERT_EQUAL_FATAL(memory_add(&bed->memory, &region, &id, error), 0);
	for (unsigned i = 0; i < SLOTS; i++)
		list[i] = (struct sluice_kvm_slot){ .slot = i,
						    .guest_address = slots[i].first * SLUICE_PAGE_SIZE,
						    .size = slots[i].pages * SLUICE_PAGE_SIZE,
						    .offset = slots[i].first * SLUICE_PAGE_SIZE };
	*kvm = (struct sluice_kvm){ .size_of = sizeof(*kvm),
				    .vm_fd = bed->vm_fd,
				    .flags = bed->manual,
				    .slots = list,
				    .n_slots = SLOTS,
				    .n_vcpus = 1,
				    .vcpu_fds = &bed->vcpu_fd,
				    .ring_bytes = bed->ring_bytes };
}

static void bed_start(struct bed *bed, enum sluice_tracker kind)
{
	struct sluice_kvm_slot list[SLOTS];
	struct sluice_kvm kvm;
	char error[SLUICE_ERROR_MAX] = "";

	describe(bed, &kvm, list);
	CU_ASSERT_EQUAL_FATAL(kvm_create(&kvm, &bed->memory, &bed->kvm, error), 0);
	uint64_t words = bed->memory.granules * GRANULE_WORDS;
	bitmap_init(&bed->dirty, words);
	bitmap_init(&bed->discarded, words);
	struct tracker_config config = {
		.kind = kind, .memory = &bed->memory, .dirty = &bed->dirty, .discarded = &bed->discarded, .kvm = bed->kvm
	};
	CU_ASSERT_EQUAL_FATAL(tracker_create(&config, &bed->tracker, error), 0);
	CU_ASSERT_EQUAL_FATAL(tracker_start(bed->tracker), 0);
}

static void bed_stop(struct bed *bed)
{
	CU_ASSERT_EQUAL(tracker_stop(bed->tracker), 0);
	tracker_destroy(bed->tracker);
	kvm_destroy(bed->kvm);
	bitmap_fini(&bed->dirty);
	bitmap_fini(&bed->discarded);
}

static void bed_fini(struct bed *bed)
{
	munmap(bed->run, (size_t)ioctl(bed->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0));
	close(bed->vcpu_fd);
	close(bed->vm_fd);
	close(bed->kvm_fd);
	munmap(bed->address, PAGES * SLUICE_PAGE_SIZE);
}

/* Have the guest write a page. The write is made when it asks for the next: the first call finds it asking for the first time. */
static void guest_writes(struct bed *bed, uint64_t page)
{
	for (;;) {
		int rc = ioctl(bed->vcpu_fd, KVM_RUN, 0);
		if (rc && errno == EINTR)
			continue;
		CU_ASSERT_EQUAL_FATAL(rc, 0);
		if (bed->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		bed->full++;
		CU_ASSERT_EQUAL_FATAL(kvm_harvest(bed->kvm, NULL), 0);
	}
	CU_ASSERT_EQUAL_FATAL(bed->run->exit_reason, KVM_EXIT_IO);
	uint32_t address = (uint32_t)(page * SLUICE_PAGE_SIZE + 8);
	memcpy((char *)bed->run + bed->run->io.data_offset, &address, sizeof(address));
}

/* The page that is written last, so that all before it are. */
enum { LAST = 4999 };

static uint64_t fetch(struct bed *bed, uint64_t first, uint64_t n)
{
	uint64_t found = 0;

	CU_ASSERT_EQUAL(tracker_fetch(bed->tracker, 0, first, n, &found), 0);
	return found;
}

static bool is_dirty(struct bed *bed, uint64_t page)
{
	return bed->dirty.words[page / 64] >> (page % 64) & 1;
}

/* Count pages that are dirty and are not what `expected` says. */
static unsigned differences(struct bed *bed, const unsigned char *expected)
{
	unsigned wrong = 0;

	for (uint64_t page = 0; page < PAGES; page++)
		wrong += is_dirty(bed, page) != expected[page];
	return wrong;
}

static void forget(struct bed *bed)
{
	bitmap_clear(&bed->dirty, 0, PAGES);
}

/* Look without fetching: pages that are to be dirty, or are already, as the rings can only be emptied. Without manual protection the log
 * cannot be looked at. */
static uint64_t look(struct bed *bed, enum sluice_tracker kind)
{
	uint64_t written = 0, unseen = 0;
	int rc = tracker_peek(bed->tracker, 0, 0, PAGES, &written, &unseen);

	CU_ASSERT_EQUAL(unseen, 0);
	CU_ASSERT(rc == 0 || (rc == -ENOTSUP && kind == SLUICE_TRACKER_KVM_LOG));
	return rc ? UINT64_MAX : written + bitmap_count(&bed->dirty);
}

/* Whatever is written in whatever piece shows in the next fetch of that piece, and nothing else does. */
static void writes_show_exactly(struct bed *bed, enum sluice_tracker kind)
{
	unsigned char expected[PAGES];
	unsigned seed = 1;

	bed_start(bed, kind);
	CU_ASSERT_EQUAL(fetch(bed, 0, PAGES), PAGES); /* all there is, mapped by a slot or not */
	forget(bed);
	guest_writes(bed, LAST);
	for (int round = 0; round < 20; round++) {
		memset(expected, 0, sizeof(expected));
		for (int i = 0; i < 300; i++) {
			uint64_t page = (uint64_t)rand_r(&seed) % PAGES;
			if (!is_mapped(page) || page == CODE_PAGE)
				continue;
			if (round % 2) /* clustered, across the slots' border and the region's end */
				page = page % 100 < 50 ? 640 + page % 60 : PAGES - 1 - page % 70;
			guest_writes(bed, page);
			expected[page] = 1;
		}
		guest_writes(bed, LAST);
		expected[LAST] = 1; /* of the round before; this round's is not made yet */
		uint64_t all = 0, seen = round % 4 > 1 ? look(bed, kind) : UINT64_MAX;
		for (uint64_t page = 0; page < PAGES; page++)
			all += expected[page];
		CU_ASSERT(seen == all || seen == UINT64_MAX);
		if (round % 3 == 0) {
			fetch(bed, 0, PAGES);
		} else {
			fetch(bed, 0, 512);
			if (round % 4 > 1) /* in the midst of a pass */
				CU_ASSERT_EQUAL(look(bed, kind), seen);
			fetch(bed, 512, 1024);
			fetch(bed, 1536, PAGES - 1536);
		}
		CU_ASSERT_EQUAL(differences(bed, expected), 0);
		forget(bed);
	}
	/* Nothing is written, nothing shows; not even LAST, which waits. */
	CU_ASSERT_EQUAL(fetch(bed, 0, PAGES), 0);
	bed_stop(bed);
}

static void log_shows_writes_exactly(void)
{
	struct bed bed;

	if (!bed_init(&bed, false, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET))
		return;
	writes_show_exactly(&bed, SLUICE_TRACKER_KVM_LOG);
	bed_fini(&bed);
}

static void log_works_without_initially_set(void)
{
	struct bed bed;

	if (!bed_init(&bed, false, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE))
		return;
	writes_show_exactly(&bed, SLUICE_TRACKER_KVM_LOG);
	bed_fini(&bed);
}

static void log_works_without_manual_protection(void)
{
	struct bed bed;

	if (!bed_init(&bed, false, 0))
		return;
	writes_show_exactly(&bed, SLUICE_TRACKER_KVM_LOG);
	bed_fini(&bed);
}

/* What the embedder says of it is not so: nothing is lost by that. */
static void log_works_without_what_was_promised(void)
{
	struct bed bed;

	if (!bed_init(&bed, false, 0))
		return;
	bed.manual = SLUICE_KVM_MANUAL_PROTECT;
	writes_show_exactly(&bed, SLUICE_TRACKER_KVM_LOG);
	bed_fini(&bed);
}

static void ring_shows_writes_exactly(void)
{
	struct bed bed;

	if (!bed_init(&bed, true, 0))
		return;
	writes_show_exactly(&bed, SLUICE_TRACKER_KVM_RING);
	bed_fini(&bed);
}

/* A guest whose writes go to a ring, of which nothing is dirty yet. */
static bool ring_bed(struct bed *bed)
{
	if (!bed_init(bed, true, 0))
		return false;
	bed_start(bed, SLUICE_TRACKER_KVM_RING);
	fetch(bed, 0, PAGES);
	forget(bed);
	return true;
}

/* Nobody fetches while the guest writes more pages than the ring holds: the vCPU empties it, and nothing is lost. */
static void a_full_ring_loses_nothing(void)
{
	unsigned char expected[PAGES] = { 0 };
	struct bed bed;

	if (!ring_bed(&bed))
		return;
	for (uint64_t page = CODE_PAGE + 1; page < PAGES; page++) {
		if (!is_mapped(page))
			continue;
		guest_writes(&bed, page);
		expected[page] = 1;
	}
	guest_writes(&bed, LAST);
	CU_ASSERT(bed.full >= 3);
	fetch(&bed, 0, 512);
	CU_ASSERT_EQUAL(differences(&bed, expected), 0);
	bed_stop(&bed);
	bed_fini(&bed);
}

struct storm {
	pthread_t target, thread;
	atomic_bool over;
};

static void ignore_signal(int number)
{
	(void)number;
}

static void *storm(void *opaque)
{
	struct storm *storm = opaque;
	while (!atomic_load(&storm->over)) {
		pthread_kill(storm->target, SIGUSR1);
		usleep(20);
	}
	return NULL;
}

/* vCPU threads are kicked by signals, and Linux 6.16 and later stop re-arming when there is one: what is not re-armed yet is not lost. */
static void signals_do_not_cut_a_harvest(void)
{
	struct sigaction ignored = { .sa_handler = ignore_signal };
	struct storm signals = { .target = pthread_self() };
	unsigned char expected[PAGES] = { 0 };
	struct bed bed;

	if (!ring_bed(&bed))
		return;
	sigaction(SIGUSR1, &ignored, NULL);
	for (uint64_t i = 0; i < 301; i++)
		expected[1000 + i] = 1;
	expected[LAST] = 1;
	CU_ASSERT_EQUAL_FATAL(pthread_create(&signals.thread, NULL, storm, &signals), 0);
	for (unsigned round = 0; round < 300; round++) {
		forget(&bed);
		for (uint64_t i = 0; i < 301; i++)
			guest_writes(&bed, 1000 + i);
		guest_writes(&bed, LAST);
		guest_writes(&bed, LAST);
		fetch(&bed, 0, PAGES);
		CU_ASSERT_EQUAL(differences(&bed, expected), 0);
	}
	atomic_store(&signals.over, true);
	pthread_join(signals.thread, NULL);
	bed_stop(&bed);
	bed_fini(&bed);
}

/* KVM overwrote entries: writes are lost, and that must not pass unnoticed. The ring is one of our own making, wholly dirty. */
static void a_ring_that_ran_over_is_noticed(void)
{
	const off_t at = KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)SLUICE_PAGE_SIZE;
	const size_t bytes = ENTRIES * sizeof(struct kvm_dirty_gfn);
	int fd = memfd_create("ring", MFD_CLOEXEC);
	struct bed bed = { .vcpu_fd = fd, .vm_fd = fd, .ring_bytes = (uint32_t)bytes };
	struct sluice_kvm_slot list[SLOTS];
	char error[SLUICE_ERROR_MAX];
	struct sluice_kvm kvm;
	struct kvm *made;

	CU_ASSERT_FATAL(fd >= 0 && !ftruncate(fd, at + (off_t)bytes));
	bed.address = mmap(NULL, PAGES * SLUICE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(bed.address != MAP_FAILED);
	describe(&bed, &kvm, list);
	CU_ASSERT_EQUAL_FATAL(kvm_create(&kvm, &bed.memory, &made, error), 0);
	CU_ASSERT_EQUAL(kvm_harvest(made, NULL), 0);
	struct kvm_dirty_gfn *ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
	CU_ASSERT_FATAL(ring != MAP_FAILED);
	for (unsigned i = 0; i < ENTRIES; i++)
		ring[i].flags = KVM_DIRTY_GFN_F_DIRTY;
	CU_ASSERT_EQUAL(kvm_harvest(made, NULL), -EOVERFLOW);
	/* KVM has its entries back, or it would not run the vCPU again. */
	for (unsigned i = 0; i < ENTRIES; i++)
		CU_ASSERT_EQUAL(ring[i].flags, KVM_DIRTY_GFN_F_RESET);
	/* It stays so: what comes after cannot be relied upon. */
	memset(ring, 0, bytes);
	CU_ASSERT_EQUAL(kvm_harvest(made, NULL), -EOVERFLOW);
	kvm_destroy(made);
	munmap(ring, bytes);
	munmap(bed.address, PAGES * SLUICE_PAGE_SIZE);
	close(fd);
}

/* A migration that failed is followed by another: it neither misses nor inherits anything, wherever in the ring KVM is. */
static void a_second_session_finds_its_place(void)
{
	struct bed bed;

	for (int ring = 0; ring < 2; ring++) {
		enum sluice_tracker kind = ring ? SLUICE_TRACKER_KVM_RING : SLUICE_TRACKER_KVM_LOG;
		if (!bed_init(&bed, ring, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET))
			return;
		for (int session = 0; session < 7; session++) {
			bed_start(&bed, kind);
			CU_ASSERT_EQUAL(fetch(&bed, 0, PAGES), PAGES);
			forget(&bed);
			for (uint64_t i = 0; i < 301; i++)
				guest_writes(&bed, 1000 + i);
			guest_writes(&bed, LAST);
			fetch(&bed, 0, PAGES);
			for (uint64_t i = 0; i < 301; i++)
				CU_ASSERT(is_dirty(&bed, 1000 + i));
			CU_ASSERT(!is_dirty(&bed, 999) && !is_dirty(&bed, 1301));
			guest_writes(&bed, 2000); /* left in the ring, or the log */
			guest_writes(&bed, LAST);
			bed_stop(&bed);
		}
		bed_fini(&bed);
	}
}

static void what_makes_no_sense_is_refused(void)
{
	struct sluice_kvm_slot list[SLOTS];
	char error[SLUICE_ERROR_MAX];
	struct sluice_kvm kvm;
	struct tracker *tracker;
	struct kvm *made;
	struct bed bed;

	if (!bed_init(&bed, false, 0))
		return;
	describe(&bed, &kvm, list);
	list[1].region = 1;
	CU_ASSERT_EQUAL(kvm_create(&kvm, &bed.memory, &made, error), -EINVAL);
	CU_ASSERT(strstr(error, "slot 1 names a region") != NULL);
	list[1].region = 0;
	list[1].size += SLUICE_PAGE_SIZE;
	CU_ASSERT_EQUAL(kvm_create(&kvm, &bed.memory, &made, error), -EINVAL);
	list[1].size -= SLUICE_PAGE_SIZE;
	list[0].offset = 17;
	CU_ASSERT_EQUAL(kvm_create(&kvm, &bed.memory, &made, error), -EINVAL);
	list[0].offset = 0;
	list[0].flags = KVM_MEM_LOG_DIRTY_PAGES;
	CU_ASSERT_EQUAL(kvm_create(&kvm, &bed.memory, &made, error), -EINVAL);
	list[0].flags = 0;
	kvm.ring_bytes = 12345;
	CU_ASSERT_EQUAL(kvm_create(&kvm, &bed.memory, &made, error), -EINVAL);
	kvm.ring_bytes = 65536; /* never enabled: there is nothing to map */
	CU_ASSERT_EQUAL(kvm_create(&kvm, &bed.memory, &made, error), -EINVAL);
	CU_ASSERT(strstr(error, "not 65536 bytes long") != NULL);
	kvm.ring_bytes = 0;
	CU_ASSERT_EQUAL_FATAL(kvm_create(&kvm, &bed.memory, &made, error), 0);
	struct tracker_config config = { .kind = SLUICE_TRACKER_KVM_RING, .memory = &bed.memory, .kvm = made };
	CU_ASSERT_EQUAL(tracker_create(&config, &tracker, error), -ENOTSUP);
	CU_ASSERT(strstr(error, "kvm-log") != NULL);
	config.kvm = NULL;
	CU_ASSERT_EQUAL(tracker_create(&config, &tracker, error), -ENOTSUP);
	CU_ASSERT(strstr(error, "sluice_set_kvm") != NULL);
	kvm_destroy(made);
	bed_fini(&bed);
}

SUITE("kvm", TEST(log_shows_writes_exactly), TEST(log_works_without_initially_set), TEST(log_works_without_manual_protection),
      TEST(log_works_without_what_was_promised), TEST(ring_shows_writes_exactly), TEST(a_full_ring_loses_nothing),
      TEST(signals_do_not_cut_a_harvest), TEST(a_ring_that_ran_over_is_noticed), TEST(a_second_session_finds_its_place),
      TEST(what_makes_no_sense_is_refused))
