/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each kind of guest has to be able to do. For guests only; others see guest.h. */
#ifndef PERF_GUEST_KIND_H
#define PERF_GUEST_KIND_H

#include "perf/disk/disk.h"
#include "perf/guest.h"

/* Meaning and context: as the calls of the same name in guest.h. NULL where a kind has nothing to do. */
struct guest_kind {
	/* Frees all that create made, memory aside. */
	void (*destroy)(struct guest *guest);
	/* Write `page` as it is before the guest ever ran; false: it stays untouched. Thread: any, each page once. */
	bool (*fill_page)(struct guest *guest, uint64_t page);
	/* Once all pages are: what it fills itself. Stands still before and after. -ECANCELED when *cancel was set. */
	int (*fill)(struct guest *guest, _Atomic bool *cancel);
	/* The disk's drivers begin anew, as when it boots. 0 or negative errno. */
	int (*boot_drivers)(struct guest *guest);
	void (*resume)(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque);
	void (*pause)(struct guest *guest, void (*parked)(void *opaque), void *opaque);
	void (*park)(struct guest *guest);
	uint64_t (*check)(struct guest *guest);
	void (*mark_for)(struct guest *guest, struct sluice *session);
	void (*look)(const struct guest *guest, struct guest_view *ret);
	void (*reset_gap)(struct guest *guest);
	int (*advance_clocks)(struct guest *guest, uint64_t stopped_ns);
	bool (*clocks)(const struct guest *guest, struct guest_clocks *ret);
	int (*save)(const struct guest *guest, struct guest_state *ret_state);
	int (*load)(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR]);

	bool (*page_right)(const struct guest *guest, uint64_t page, const void *memory);
	void (*page_describe)(const struct guest *guest, uint64_t page, const void *memory, char text[CONTENT_TEXT]);
	bool (*blank)(const struct guest *guest, uint64_t first);
	bool (*tally)(const struct guest *guest, char text[CONTENT_TEXT]);

	bool (*dirty_log)(const struct guest *guest, struct guest_dirty_log *ret);
	void (*kvm)(const struct guest *guest, struct guest_kvm *ret);
	void (*track_for)(struct guest *guest, struct sluice *session);
};

/* The beginning of every guest. */
struct guest {
	/* set once */
	const struct guest_kind *kind;
	struct guest_settings settings;
	struct memory memory;
	uint64_t filled_bytes;
	struct disk *disk;   /* NULL: none */
	uint64_t data_pages; /* of memory: those beyond are the disk's */

	_Atomic uint32_t throttle; /* percent; a number, nothing behind it */

	struct guest_run run[GUEST_RUNS]; /* by whoever resumes, and by the last thread that parks */
	unsigned runs;
};

/* For kinds: it stands still and is about to run; its last thread parks. */
void guest_begin_run(struct guest *guest);
void guest_end_run(struct guest *guest);

/* Makers, by enum guest_type. `memory` and `disk` (NULL: none) are not taken: guest_create() does that. */
int process_create(const struct guest_settings *settings, const struct memory *memory, struct disk *disk,
		   struct guest **ret_guest, char error[SETTINGS_ERROR]);
int machine_create(const struct guest_settings *settings, const struct memory *memory, struct disk *disk,
		   struct guest **ret_guest, char error[SETTINGS_ERROR]);

#endif
