/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The KVM guest: a machine of vCPUs and a serial port.
 *
 * A page's count is kept by the guest itself, in its own memory, so it migrates as any page does; how many writes a vCPU was granted
 * is the VMM's, and its registers' are the vCPU's: both travel as device state. A page that arrives stale differs from its
 * count; counts that arrive stale do not add up to what was granted; and if both are stale together, that still shows.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>

#include "perf/kvm/machine.h"
#include "perf/os.h"

#define CHECK_NS OS_S
#define FILL_LOOK_NS (100 * OS_MS)
#define COUNTS_PER_PAGE (SLUICE_PAGE_SIZE / sizeof(uint32_t))

/* ---------------------------------------------------------------- running and standing still */

static void change(struct machine *machine, enum machine_mode mode)
{
	uint32_t word = machine_word(machine);

	atomic_store_explicit(&machine->word, word - word % MACHINE_MODES + MACHINE_MODES + mode, memory_order_release);
	os_futex_wake_all(&machine->word);
	if (machine->base.disk)
		disk_wake(machine->base.disk);
}

static void machine_resume(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque)
{
	struct machine *machine = machine_of(guest);
	uint32_t mode = machine_word(machine) % MACHINE_MODES;

	assert((mode == MACHINE_STOPPED || mode == MACHINE_QUIET) && !atomic_load(&machine->running));
	machine->beaten = beaten;
	machine->beaten_opaque = opaque;
	guest_begin_run(guest);
	atomic_store(&machine->counts_known, false);
	atomic_store(&machine->beat_due, beaten != NULL);
	atomic_store(&machine->running, machine->vcpus);
	change(machine, MACHINE_RUNNING);
}

static void machine_pause(struct guest *guest, void (*parked)(void *opaque), void *opaque)
{
	struct machine *machine = machine_of(guest);

	assert(machine_word(machine) % MACHINE_MODES == MACHINE_RUNNING);
	machine->parked = parked;
	machine->parked_opaque = opaque;
	change(machine, MACHINE_STOPPED);
	for (uint32_t i = 0; i < machine->vcpus; i++)
		vcpu_kick(&machine->vcpu[i]);
}

static void note_parked(void *opaque)
{
	_Atomic uint32_t *flag = opaque;

	atomic_store(flag, 1);
	os_futex_wake_all(flag);
}

/* Let every vCPU come to where it asks what to do. */
static void come_to_rest(struct machine *machine)
{
	_Atomic uint32_t flag = 0;

	machine->parked = note_parked;
	machine->parked_opaque = &flag;
	change(machine, MACHINE_QUIET);
	while (!atomic_load(&flag))
		os_futex_wait(&flag, 0, OS_FOREVER);
}

static void machine_park(struct guest *guest)
{
	struct machine *machine = machine_of(guest);

	if (machine_word(machine) % MACHINE_MODES == MACHINE_RUNNING)
		come_to_rest(machine);
}

static uint64_t machine_check(struct guest *guest)
{
	struct machine *machine = machine_of(guest);
	uint64_t until = os_now_ns() + CHECK_NS, checked = 0;

	if (machine_word(machine) % MACHINE_MODES != MACHINE_RUNNING)
		return 0;
	/* At rest the vCPUs do not look at what is changed here. */
	come_to_rest(machine);
	for (uint32_t i = 0; i < machine->vcpus; i++) {
		machine->vcpu[i].check_next = 0;
		machine->vcpu[i].check_until_ns = until;
		machine->vcpu[i].at_rest = false;
	}
	machine->checking = true;
	atomic_store(&machine->running, machine->vcpus);
	come_to_rest(machine);
	machine->checking = false;
	for (uint32_t i = 0; i < machine->layout.vcpus; i++)
		checked += machine->vcpu[i].check_next * layout_unit(&machine->layout);
	return checked;
}

static void machine_look(const struct guest *guest, struct guest_view *ret)
{
	struct machine *machine = machine_of(guest);
	char text[SERIAL_TEXT + 1];

	for (uint32_t i = 0; i < machine->vcpus; i++) {
		uint64_t gap = atomic_load_explicit(&machine->vcpu[i].gap_ns, memory_order_relaxed);

		ret->pages_written += atomic_load_explicit(&machine->vcpu[i].granted, memory_order_relaxed);
		if (gap > ret->vcpu_gap_ns)
			ret->vcpu_gap_ns = gap;
	}
	ret->rings_full = atomic_load_explicit(&machine->rings_full, memory_order_relaxed);
	ret->beats = atomic_load_explicit(&machine->beats, memory_order_relaxed);
	ret->last_beat_ns = atomic_load_explicit(&machine->last_beat_ns, memory_order_relaxed);
	ret->gap_ns = atomic_load_explicit(&machine->gap_ns, memory_order_relaxed);
	ret->running = machine_word(machine) % MACHINE_MODES == MACHINE_RUNNING;
	serial_text(&machine->serial, text);
	memcpy(ret->serial, text, sizeof(text));
}
_Static_assert(GUEST_SERIAL > SERIAL_TEXT, "the text fits");

static void machine_reset_gap(struct guest *guest)
{
	struct machine *machine = machine_of(guest);
	uint64_t now = os_now_ns();

	for (uint32_t i = 0; i < machine->vcpus; i++) {
		/* One that has not beaten yet since it stood still must not count that. */
		atomic_store_explicit(&machine->vcpu[i].last_beat_ns, now, memory_order_relaxed);
		atomic_store_explicit(&machine->vcpu[i].gap_ns, 0, memory_order_relaxed);
	}
	atomic_store_explicit(&machine->gap_ns, 0, memory_order_relaxed);
}

/* ---------------------------------------------------------------- pages */

static bool machine_fill_page(struct guest *guest, uint64_t page)
{
	const struct layout *layout = &machine_of(guest)->layout;
	_Alignas(64) uint8_t content[SLUICE_PAGE_SIZE];

	if ((layout->content.fill == FILL_GUEST && page >= layout->data_page) || !layout_content(layout, page, 0, content))
		return false;
	memcpy(memory_page(&guest->memory, page), content, sizeof(content));
	return true;
}

/* It runs until each vCPU has said that it is done, and by then has begun with what it does for good. */
static int machine_fill(struct guest *guest, _Atomic bool *cancel)
{
	struct machine *machine = machine_of(guest);
	_Atomic uint32_t stopped = 0;
	uint32_t filled;

	if (machine->layout.content.fill != FILL_GUEST)
		return 0;
	machine_resume(guest, NULL, NULL);
	while ((filled = atomic_load(&machine->filled)) < machine->layout.vcpus && !*cancel)
		os_futex_wait(&machine->filled, filled, os_now_ns() + FILL_LOOK_NS);
	machine_pause(guest, note_parked, &stopped); /* wherever it is: if cancelled, it may be far from asking */
	while (!atomic_load(&stopped))
		os_futex_wait(&stopped, 0, OS_FOREVER);
	guest->filled_bytes += (machine->layout.disk_page - machine->layout.data_page) * SLUICE_PAGE_SIZE;
	guest_forget_runs(guest);
	return *cancel ? -ECANCELED : 0;
}

/* Which pages of counts exist: looking into one that does not would make it. */
static void know_counts(struct machine *machine)
{
	const struct layout *layout = &machine->layout;
	uint64_t bits[MEMORY_GRANULE / 64];

	if (atomic_load_explicit(&machine->counts_known, memory_order_acquire))
		return;
	pthread_mutex_lock(&machine->tally_lock);
	if (!atomic_load_explicit(&machine->counts_known, memory_order_relaxed)) {
		memset(machine->counts_present, 0, (layout->data_page / 64 + 1) * sizeof(*machine->counts_present));
		for (uint64_t page = 0; page < layout->data_page; page += MEMORY_GRANULE) {
			if (memory_present(&machine->base.memory, page, bits))
				memset(bits, 0xff, sizeof(bits));
			for (unsigned i = 0; i < MEMORY_GRANULE && page + i < layout->data_page; i++) {
				if (layout_is_count(layout, page + i) && bits[i / 64] >> (i % 64) & 1)
					machine->counts_present[(page + i) / 64] |= 1ull << ((page + i) % 64);
			}
		}
		atomic_store_explicit(&machine->counts_known, true, memory_order_release);
	}
	pthread_mutex_unlock(&machine->tally_lock);
}

/* In the guest's table. */
static uint32_t table_count(struct machine *machine, uint64_t page)
{
	uint64_t at = machine->layout.counts_page + page / COUNTS_PER_PAGE;
	const uint32_t *counts;

	if (!(machine->counts_present[at / 64] >> (at % 64) & 1))
		return 0;
	counts = memory_page(&machine->base.memory, at);
	return counts[page % COUNTS_PER_PAGE];
}

static uint32_t count_of(struct machine *machine, uint64_t page)
{
	int owner = layout_owner(&machine->layout, page);

	if (owner < 0)
		return 0;
	if (machine->layout.pattern == PATTERN_SEQ) {
		const struct kvm_regs *r = &machine->vcpu[owner].at_rest_registers;

		return (uint32_t)r->r12 + (page * SLUICE_PAGE_SIZE < r->rdi);
	}
	return table_count(machine, page);
}

static bool machine_page_right(const struct guest *guest, uint64_t page, const void *memory)
{
	struct machine *machine = machine_of(guest);
	_Alignas(64) uint8_t content[SLUICE_PAGE_SIZE];

	know_counts(machine);
	if (layout_is_count(&machine->layout, page))
		return true; /* machine_tally() looks at these */
	if (!layout_content(&machine->layout, page, count_of(machine, page), content) && !memory)
		return true;
	if (memory)
		return !memcmp(memory, content, sizeof(content));
	return !content[0] && !memcmp(content, content + 1, sizeof(content) - 1);
}

static void machine_page_describe(const struct guest *guest, uint64_t page, const void *memory, char text[CONTENT_TEXT])
{
	struct machine *machine = machine_of(guest);
	const struct layout *layout = &machine->layout;
	_Alignas(64) uint8_t content[SLUICE_PAGE_SIZE];
	uint32_t count = count_of(machine, page), found, at = 0;
	const uint8_t *is = memory;

	layout_content(layout, page, count, content);
	if (!memory) {
		snprintf(text, CONTENT_TEXT, "page %" PRIu64 " is missing, expected write %" PRIu32, page, count);
		return;
	}
	while (at < sizeof(content) && is[at] == content[at])
		at++;
	memcpy(&found, is + (at & ~7u) % sizeof(content), sizeof(found));
	if (page < layout->data_page)
		snprintf(text, CONTENT_TEXT, "page %" PRIu64 ", of the guest's code and tables, differs from byte %" PRIu32 " on",
			 page, at);
	else if (layout_owner(layout, page) >= 0 && found != count)
		snprintf(text, CONTENT_TEXT,
			 "page %" PRIu64 " differs from byte %" PRIu32 " on, where %" PRIu32 " is; expected write %" PRIu32, page,
			 at, found, count);
	else
		snprintf(text, CONTENT_TEXT, "page %" PRIu64 " differs from byte %" PRIu32 " on; expected write %" PRIu32, page,
			 at, count);
}

static bool machine_blank(const struct guest *guest, uint64_t first)
{
	struct machine *machine = machine_of(guest);
	const struct layout *layout = &machine->layout;
	uint64_t end = first + MEMORY_GRANULE < layout->pages ? first + MEMORY_GRANULE : layout->pages;

	know_counts(machine);
	if (!layout_zero(layout, first, end))
		return false;
	for (uint64_t page = first; page < end; page += layout->pattern == PATTERN_SEQ ? 1 : COUNTS_PER_PAGE / 2) {
		if (count_of(machine, page))
			return false;
	}
	return true;
}

/* The sum of the guest's counts in its own terms, and whether each is where one may be. */
static uint64_t sum_counts(struct machine *machine, bool *ret_stray)
{
	const struct layout *layout = &machine->layout;
	uint64_t sum = 0;

	*ret_stray = false;
	for (uint64_t at = layout->counts_page; at < layout->data_page; at++) {
		uint64_t page = (at - layout->counts_page) * COUNTS_PER_PAGE;

		if (!(machine->counts_present[at / 64] >> (at % 64) & 1))
			continue;
		for (uint64_t end = page + COUNTS_PER_PAGE; page < end; page++) {
			uint32_t count = table_count(machine, page);

			sum += count;
			*ret_stray |= count && (layout->pattern == PATTERN_SEQ || layout_owner(layout, page) < 0);
		}
	}
	for (uint32_t i = 0; layout->pattern == PATTERN_SEQ && i < layout->vcpus; i++) {
		const struct kvm_regs *r = &machine->vcpu[i].at_rest_registers;

		sum += r->r12 * layout->items + (r->rdi - r->r10) / SLUICE_PAGE_SIZE;
	}
	return sum;
}

static bool machine_tally(const struct guest *guest, char text[CONTENT_TEXT])
{
	struct machine *machine = machine_of(guest);
	struct guest_view view = { 0 };
	uint64_t sum, wrong = atomic_load(&machine->wrong);
	bool stray;

	for (uint32_t i = 0; i < machine->vcpus; i++) {
		const struct vcpu *vcpu = &machine->vcpu[i];
		const char *why = atomic_load(&vcpu->crashed);

		if (why) {
			snprintf(text, CONTENT_TEXT, "vCPU %" PRIu32 " runs no more: %s (at %#llx)", i, why,
				 (unsigned long long)vcpu->at_rest_registers.rip);
			return false;
		}
		if (!machine_registers_kept(vcpu)) {
			snprintf(text, CONTENT_TEXT, "vCPU %" PRIu32 " has lost its SSE or model-specific registers", i);
			return false;
		}
	}
	if (wrong) {
		snprintf(text, CONTENT_TEXT,
			 "the guest itself found %" PRIu64 " pages that differ from its counts, page %" PRIu64 " among them",
			 wrong, atomic_load(&machine->first_wrong));
		return false;
	}
	machine_look(guest, &view);
	if (strcmp(view.serial, "guest up")) {
		snprintf(text, CONTENT_TEXT, "the serial port's state is not what the guest wrote: \"%s\"", view.serial);
		return false;
	}
	know_counts(machine);
	sum = sum_counts(machine, &stray);
	if (sum != view.pages_written || stray) {
		snprintf(text, CONTENT_TEXT, "the guest made %" PRIu64 " writes, its pages count %" PRIu64 "%s",
			 view.pages_written, sum, stray ? ", some where it never writes" : "");
		return false;
	}
	return true;
}

/* ---------------------------------------------------------------- making one */

static bool machine_dirty_log(const struct guest *guest, struct guest_dirty_log *ret)
{
	*ret = (struct guest_dirty_log){ &machine_of(guest)->vm, vm_log_start, vm_log_fetch, vm_log_clear, vm_log_stop };
	return true;
}

static void machine_kvm(const struct guest *guest, struct guest_kvm *ret)
{
	struct machine *machine = machine_of(guest);

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < machine->vm.slots; i++) {
		const struct vm_slot *slot = &machine->vm.slot[i];

		ret->slot[i] = (struct sluice_kvm_slot){
			.slot = i, .guest_address = slot->guest_address, .size = slot->size, .region = i
		};
	}
	for (uint32_t i = 0; i < machine->vcpus; i++)
		ret->vcpu_fd[i] = machine->vcpu[i].fd;
	ret->is = (struct sluice_kvm){
		.size_of = sizeof(ret->is),
		.vm_fd = machine->vm.fd,
		.flags = machine->vm.manual ? SLUICE_KVM_MANUAL_PROTECT : 0,
		.slots = ret->slot,
		.n_slots = machine->vm.slots,
		.n_vcpus = machine->vcpus,
		.vcpu_fds = ret->vcpu_fd,
		.ring_bytes = machine->vm.ring_bytes,
	};
}
_Static_assert(GUEST_SLOTS >= MEMORY_REGIONS && GUEST_VCPUS >= SETTINGS_MAX_KVM_VCPUS + AREA_QUEUES, "they fit");

static void machine_track_for(struct guest *guest, struct sluice *session)
{
	struct machine *machine = machine_of(guest);

	assert(!atomic_load(&machine->running));
	machine->tracked_by = session;
}

static void machine_destroy(struct guest *guest)
{
	struct machine *machine = machine_of(guest);

	assert(!atomic_load(&machine->running));
	change(machine, MACHINE_QUITTING);
	while (machine->vcpus)
		vcpu_destroy(&machine->vcpu[--machine->vcpus]);
	vm_close(&machine->vm);
	layout_fini(&machine->layout);
	free(machine->counts_present);
	pthread_mutex_destroy(&machine->tally_lock);
	pthread_mutex_destroy(&machine->serial.lock);
	free(machine);
}

static const struct guest_kind machine_kind = {
	.destroy = machine_destroy,
	.fill_page = machine_fill_page,
	.fill = machine_fill,
	.boot_drivers = machine_boot_drivers,
	.resume = machine_resume,
	.pause = machine_pause,
	.park = machine_park,
	.check = machine_check,
	.look = machine_look,
	.reset_gap = machine_reset_gap,
	.advance_clocks = machine_advance_clocks,
	.clocks = machine_clocks,
	.save = machine_save,
	.load = machine_load,
	.page_right = machine_page_right,
	.page_describe = machine_page_describe,
	.blank = machine_blank,
	.tally = machine_tally,
	.dirty_log = machine_dirty_log,
	.kvm = machine_kvm,
	.track_for = machine_track_for,
};

/* With the disk, what its device and its drivers need of the machine. */
static int create_vcpus(struct machine *machine, uint32_t vcpus, char error[SETTINGS_ERROR])
{
	int result = machine->base.disk ? machine_ring_doorbell(machine) : 0;

	if (result)
		snprintf(error, SETTINGS_ERROR, "KVM has no eventfd for a port: %s: leave --disk out", strerror(-result));
	for (; !result && machine->vcpus < vcpus; machine->vcpus++) {
		result = vcpu_create(machine, machine->vcpus);
		if (!result)
			continue;
		snprintf(error, SETTINGS_ERROR,
			 "KVM cannot make vCPU %" PRIu32 ": %s: choose a smaller --vcpus, or --guest process", machine->vcpus,
			 strerror(-result));
		break;
	}
	return result;
}

int machine_create(const struct guest_settings *settings, const struct memory *memory, struct disk *disk,
		   struct guest **ret_guest, char error[SETTINGS_ERROR])
{
	uint32_t vcpus = settings->vcpus + (disk ? disk_queues(disk) : 0);
	size_t size = (sizeof(struct machine) + vcpus * sizeof(struct vcpu) + 63) & ~(size_t)63;
	struct machine *machine = aligned_alloc(64, size);
	int result = -ENOMEM;

	snprintf(error, SETTINGS_ERROR, "cannot make the guest: no memory");
	if (!machine)
		return result;
	memset(machine, 0, size);
	machine->base.kind = &machine_kind;
	machine->base.settings = *settings;
	machine->base.memory = *memory;
	machine->base.disk = disk;
	machine->vm.fd = machine->vm.kvm_fd = -1;
	pthread_mutex_init(&machine->tally_lock, NULL);
	serial_init(&machine->serial);
	result = layout_init(&machine->layout, settings, memory->split_page, error);
	if (result)
		goto fail;
	machine->counts_present = calloc(machine->layout.data_page / 64 + 1, sizeof(*machine->counts_present));
	if (!machine->counts_present) {
		result = -ENOMEM;
		goto fail;
	}
	result = vm_open(&machine->vm, memory, settings->ring_pages, error);
	if (result)
		goto fail;
	result = create_vcpus(machine, vcpus, error);
	if (result)
		goto fail;
	*ret_guest = &machine->base;
	return 0;
fail:
	machine_destroy(&machine->base);
	return result;
}
