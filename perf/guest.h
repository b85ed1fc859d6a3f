/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest: what writes memory at a given pace, and beats its heart. Threads of a process, or vCPUs of a KVM virtual machine. */
#ifndef PERF_GUEST_H
#define PERF_GUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/memory.h"
#include "perf/settings.h"

#define GUEST_SECTIONS 40u /* of its state */
#define GUEST_SERIAL 80u

struct disk;
struct guest;

#define GUEST_RUNS 16u

/* From when until when a guest ran, CLOCK_MONOTONIC of this host. */
struct guest_run {
	uint64_t from_ns, to_ns;
};

/* How a guest looks from outside. */
struct guest_view {
	uint64_t pages_written; /* since it was first started, wherever that was */
	uint64_t beats;
	uint64_t last_beat_ns; /* CLOCK_MONOTONIC of this host; 0: none here yet */
	uint64_t gap_ns;       /* longest between two beats here since guest_reset_gap() */
	uint64_t vcpu_gap_ns;  /* likewise, of the vCPU that was silent for longest; 0: vCPUs have no heartbeats of their own */
	uint64_t rings_full;   /* times that a vCPU's dirty ring was */
	bool running;
	char serial[GUEST_SERIAL]; /* the last that it wrote to its serial port, empty: it has none, or wrote nothing */
};

#define GUEST_SLOTS 2u
#define GUEST_VCPUS 36u

/* What sluice_set_kvm() wants to know; `is` points into the rest. */
struct guest_kvm {
	struct sluice_kvm is;
	struct sluice_kvm_slot slot[GUEST_SLOTS];
	int vcpu_fd[GUEST_VCPUS];
};

/* Its own dirty log, as sluice_ops has it; `opaque` is what the calls get. */
struct guest_dirty_log {
	void *opaque;
	int (*start)(void *opaque);
	int (*fetch)(void *opaque, uint32_t region, uint64_t first_page, uint64_t pages, uint64_t *bits);
	int (*clear)(void *opaque, uint32_t region, uint64_t first_page, uint64_t pages, const uint64_t *bits);
	void (*stop)(void *opaque);
};

/* Make a guest whose threads stand still. `memory` is taken on success. 0, or negative errno with one line. */
int guest_create(const struct guest_settings *settings, struct memory *memory, struct guest **ret_guest,
		 char error[SETTINGS_ERROR]);

/* The guest must stand still. NULL is allowed. */
void guest_destroy(struct guest *guest);

/* Fill what --touched says, with a thread per CPU; before the first resume. -ECANCELED when *cancel was set. */
int guest_fill(struct guest *guest, _Atomic bool *cancel);
uint64_t guest_filled_bytes(const struct guest *guest);

/* Let it run from where it stands, with its disk, which must be this end's. `beaten` (may be NULL) is called once by the heartbeat
 * thread, with the time of the first beat; it may not wait. The guest must stand still. */
void guest_resume(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque);

/* Ask all threads to stand still; returns at once. The last one to do so calls `parked`: by then every write is
 * made, counted and marked. The guest must run. Its disk is not paused: see disk_set_depth(). */
void guest_pause(struct guest *guest, void (*parked)(void *opaque), void *opaque);

/* Stand still between two writes, and wait for that. Nothing to do if it does already. Not while guest_pause() is under way. */
void guest_park(struct guest *guest);

/* guest_park(), but first let its disk do all that it asked for, and let it compare its pages with its own counts, for a second
 * at most. What it finds shows in guest_tally(). Returns how many pages it looked at; 0: this kind does not. */
uint64_t guest_check(struct guest *guest);

/* Let its writers run only 100 - percent of the time (perf/throttle.h), 0: all of it. At their --dirty-rate they write accordingly
 * less. What stands still is what writes: a process guest's heart beats on, a virtual machine's is its vCPUs'. Any thread. */
void guest_throttle(struct guest *guest, uint32_t percent);

/* Mark all writes for this session (SLUICE_TRACKER_MARKS), NULL: for none. The guest must stand still. */
void guest_mark_for(struct guest *guest, struct sluice *session);

/* It arrived, having stood still for so long by now: its clocks go on as if it had not. Before guest_resume(); 0 or negative
 * errno. */
int guest_advance_clocks(struct guest *guest, uint64_t stopped_ns);

/* How much the guest's clocks have gone on since it was saved, less what this host's CLOCK_MONOTONIC has: of a guest that was
 * saved on this host, how wrong they are. ns. The guest must stand still, after guest_load(). */
struct guest_clocks {
	int64_t kvmclock_ns, tsc_ns;
};
bool guest_clocks(const struct guest *guest, struct guest_clocks *ret);

void guest_look(const struct guest *guest, struct guest_view *ret);
void guest_reset_gap(struct guest *guest);

/* When it ran since guest_forget_runs(): from before its first instruction to after its last. Of more than GUEST_RUNS the
 * oldest are told as one. Returns how many. The guest must stand still. */
unsigned guest_runs(const struct guest *guest, struct guest_run ret[GUEST_RUNS]);
void guest_forget_runs(struct guest *guest);

const struct guest_settings *guest_settings_of(const struct guest *guest);
const struct memory *guest_memory(const struct guest *guest);
struct disk *guest_disk(const struct guest *guest); /* NULL: it has none */
/* Take the disk, if there is one, where this end does not have it: another may have changed it, so the guest's drivers begin
 * anew. The guest must stand still. As disk_acquire(). */
int guest_boot_disk(struct guest *guest);

/* Verification. The guest must stand still since guest_park() or guest_check(). */

/* Whether `memory` (64-byte aligned; NULL: missing) is what this page must be; say in one line what it is instead. */
bool guest_page_right(const struct guest *guest, uint64_t page, const void *memory);
void guest_page_describe(const struct guest *guest, uint64_t page, const void *memory, char text[CONTENT_TEXT]);
/* Whether none of the MEMORY_GRANULE pages from `first` on was ever written. */
bool guest_blank(const struct guest *guest, uint64_t first);
/* Whether the guest's counts agree with one another, and it found nothing wrong itself: a write that was counted twice or never
 * shows here. */
bool guest_tally(const struct guest *guest, char text[CONTENT_TEXT]);

/* Whether it has a dirty log of its own. */
bool guest_dirty_log(const struct guest *guest, struct guest_dirty_log *ret);
/* Whether it is a KVM virtual machine. */
bool guest_kvm(const struct guest *guest, struct guest_kvm *ret);
/* Whose session is told when a vCPU's dirty ring is full, and of what the disk writes into memory, NULL: nobody's. The guest
 * must stand still. */
void guest_track_for(struct guest *guest, struct sluice *session);

/* The guest's own state, in sections. Free with guest_free_state(). The guest must stand still. */
struct guest_state {
	struct sluice_section section[GUEST_SECTIONS];
	unsigned n;
	/* the kind's */
	void (*release)(struct guest_state *state);
	void *data;
	size_t mapped;
};
int guest_save(const struct guest *guest, struct guest_state *ret_state);
void guest_free_state(struct guest_state *state);

/* Take state from a peer, into a guest that never ran. -EBADMSG: it is not this guest's, with one line. */
int guest_load(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR]);

#endif
