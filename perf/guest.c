/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all kinds of guests have in common: their memory's first content, and finding who does the rest. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "perf/guest_kind.h"
#include "perf/os.h"

#define FILL_CHUNK 8192u /* pages */
#define FILL_THREADS 16u

int guest_create(const struct guest_settings *settings, struct memory *memory, struct guest **ret_guest,
		 char error[SETTINGS_ERROR])
{
	struct disk *disk = NULL;
	int result = 0;

	if (settings->disk.path[0])
		result = disk_create(&settings->disk, memory, settings->type == GUEST_KVM ? BLOCK_STAMPED : BLOCK_FILLED, &disk,
				     error);
	if (!result && settings->type == GUEST_KVM)
		result = machine_create(settings, memory, disk, ret_guest, error);
	else if (!result)
		result = process_create(settings, memory, disk, ret_guest, error);
	if (result) {
		disk_destroy(disk);
		return result;
	}
	(*ret_guest)->disk = disk;
	(*ret_guest)->data_pages = memory->pages - settings_disk_bytes(settings) / SLUICE_PAGE_SIZE;
	if (disk)
		(*ret_guest)->settings.disk.id = disk_id(disk);
	return 0;
}
_Static_assert((int)IMAGE_ERROR <= (int)SETTINGS_ERROR, "a disk's error fits");

void guest_destroy(struct guest *guest)
{
	struct memory memory;
	struct disk *disk;

	if (!guest)
		return;
	memory = guest->memory;
	disk = guest->disk;
	guest->kind->destroy(guest);
	disk_destroy(disk); /* before the memory that it works in */
	memory_destroy(&memory);
}

/* ---------------------------------------------------------------- filling */

/* What the filling threads share. */
struct filler {
	struct guest *guest;
	_Atomic bool *cancel;
	_Atomic uint64_t next, filled; /* pages */
};

static void *fill_body(void *arg)
{
	struct filler *filler = arg;
	struct guest *guest = filler->guest;
	uint64_t page, end, filled = 0;

	while ((page = atomic_fetch_add(&filler->next, FILL_CHUNK)) < guest->data_pages && !*filler->cancel) {
		end = page + FILL_CHUNK < guest->data_pages ? page + FILL_CHUNK : guest->data_pages;
		for (; page < end; page++)
			filled += guest->kind->fill_page(guest, page);
	}
	atomic_fetch_add(&filler->filled, filled);
	return NULL;
}

int guest_fill(struct guest *guest, _Atomic bool *cancel)
{
	struct filler filler = { .guest = guest, .cancel = cancel };
	unsigned n = os_cpus() < FILL_THREADS ? os_cpus() : FILL_THREADS, started = 0;
	pthread_t threads[FILL_THREADS];

	while (started + 1 < n && !os_thread_start(&threads[started], "fill", fill_body, &filler))
		started++;
	fill_body(&filler);
	while (started)
		pthread_join(threads[--started], NULL);
	guest->filled_bytes = filler.filled * SLUICE_PAGE_SIZE;
	if (*cancel)
		return -ECANCELED;
	return guest->kind->fill ? guest->kind->fill(guest, cancel) : 0;
}

/* ---------------------------------------------------------------- what it has */

uint64_t guest_filled_bytes(const struct guest *guest)
{
	return guest->filled_bytes;
}

void guest_begin_run(struct guest *guest)
{
	if (guest->runs == GUEST_RUNS) {
		guest->run[1].from_ns = guest->run[0].from_ns;
		memmove(&guest->run[0], &guest->run[1], --guest->runs * sizeof(guest->run[0]));
	}
	guest->run[guest->runs++] = (struct guest_run){ .from_ns = os_now_ns() };
}

void guest_end_run(struct guest *guest)
{
	guest->run[guest->runs - 1].to_ns = os_now_ns();
}

unsigned guest_runs(const struct guest *guest, struct guest_run ret[GUEST_RUNS])
{
	memcpy(ret, guest->run, guest->runs * sizeof(ret[0]));
	return guest->runs;
}

void guest_forget_runs(struct guest *guest)
{
	guest->runs = 0;
}

const struct guest_settings *guest_settings_of(const struct guest *guest)
{
	return &guest->settings;
}

const struct memory *guest_memory(const struct guest *guest)
{
	return &guest->memory;
}

struct disk *guest_disk(const struct guest *guest)
{
	return guest->disk;
}

int guest_boot_disk(struct guest *guest)
{
	int error;

	if (!guest->disk || disk_is_here(guest->disk))
		return 0;
	error = disk_acquire(guest->disk, true);
	if (!error && guest->kind->boot_drivers)
		error = guest->kind->boot_drivers(guest);
	return error;
}

void guest_resume(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque)
{
	if (guest->disk)
		disk_go_on(guest->disk);
	guest->kind->resume(guest, beaten, opaque);
}

void guest_pause(struct guest *guest, void (*parked)(void *opaque), void *opaque)
{
	guest->kind->pause(guest, parked, opaque);
}

void guest_park(struct guest *guest)
{
	guest->kind->park(guest);
}

/* ---------------------------------------------------------------- what the kind does */

uint64_t guest_check(struct guest *guest)
{
	if (guest->disk)
		disk_settle(guest->disk);
	if (guest->kind->check)
		return guest->kind->check(guest);
	guest->kind->park(guest);
	return 0;
}

void guest_throttle(struct guest *guest, uint32_t percent)
{
	atomic_store_explicit(&guest->throttle, percent, memory_order_relaxed);
}

void guest_mark_for(struct guest *guest, struct sluice *session)
{
	if (guest->kind->mark_for)
		guest->kind->mark_for(guest, session);
}

void guest_look(const struct guest *guest, struct guest_view *ret)
{
	memset(ret, 0, sizeof(*ret));
	guest->kind->look(guest, ret);
}

int guest_advance_clocks(struct guest *guest, uint64_t stopped_ns)
{
	return guest->kind->advance_clocks ? guest->kind->advance_clocks(guest, stopped_ns) : 0;
}

bool guest_clocks(const struct guest *guest, struct guest_clocks *ret)
{
	return guest->kind->clocks && guest->kind->clocks(guest, ret);
}

void guest_reset_gap(struct guest *guest)
{
	if (guest->disk)
		disk_reset_gaps(guest->disk);
	guest->kind->reset_gap(guest);
}

int guest_save(const struct guest *guest, struct guest_state *ret_state)
{
	int error = guest->kind->save(guest, ret_state);

	if (!error && guest->disk)
		disk_save(guest->disk, &ret_state->section[ret_state->n++]);
	return error;
}
_Static_assert(SETTINGS_MAX_KVM_VCPUS + AREA_QUEUES + 3 <= GUEST_SECTIONS, "a disk's section fits too");

void guest_free_state(struct guest_state *state)
{
	if (state->release)
		state->release(state);
	memset(state, 0, sizeof(*state));
}

int guest_load(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR])
{
	struct sluice_section of_kind[GUEST_SECTIONS];
	size_t kinds = 0, disks = 0;
	int result;

	for (size_t i = 0; i < n && kinds < GUEST_SECTIONS; i++) {
		if (!guest->disk || strcmp(sections[i].name, "disk"))
			of_kind[kinds++] = sections[i];
		else if (!disk_load(guest->disk, &sections[i]))
			disks++;
	}
	if (kinds + disks != n || (guest->disk && disks != 1)) {
		snprintf(error, SETTINGS_ERROR, "the guest's state has too many sections, or not its disk's");
		return -EBADMSG;
	}
	result = guest->kind->load(guest, of_kind, kinds, error);
	if (result || !guest->disk)
		return result;
	result = disk_prepare(guest->disk); /* before the source gives the guest away */
	if (result)
		snprintf(error, SETTINGS_ERROR, "cannot start the disk's device: %s", strerror(-result));
	return result;
}

bool guest_page_right(const struct guest *guest, uint64_t page, const void *memory)
{
	if (page >= guest->data_pages)
		return true; /* disk_verify() looks at these */
	return guest->kind->page_right(guest, page, memory);
}

void guest_page_describe(const struct guest *guest, uint64_t page, const void *memory, char text[CONTENT_TEXT])
{
	guest->kind->page_describe(guest, page, memory, text);
}

bool guest_blank(const struct guest *guest, uint64_t first)
{
	return guest->kind->blank(guest, first);
}

bool guest_tally(const struct guest *guest, char text[CONTENT_TEXT])
{
	return guest->kind->tally(guest, text);
}

bool guest_dirty_log(const struct guest *guest, struct guest_dirty_log *ret)
{
	return guest->kind->dirty_log && guest->kind->dirty_log(guest, ret);
}

bool guest_kvm(const struct guest *guest, struct guest_kvm *ret)
{
	if (guest->kind->kvm)
		guest->kind->kvm(guest, ret);
	return guest->kind->kvm != NULL;
}

void guest_track_for(struct guest *guest, struct sluice *session)
{
	if (guest->disk)
		disk_mark_for(guest->disk, session);
	if (guest->kind->track_for)
		guest->kind->track_for(guest, session);
}
