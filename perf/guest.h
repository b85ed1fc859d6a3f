/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process guest: threads that write memory at a given pace, and a heartbeat. */
#ifndef PERF_GUEST_H
#define PERF_GUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/counts.h"
#include "perf/memory.h"
#include "perf/settings.h"

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
	bool running;
};

/* Make a guest whose threads stand still. `memory` is taken on success. 0 or negative errno. */
int guest_create(const struct guest_settings *settings, struct memory *memory, struct guest **ret_guest);

/* The guest must stand still. NULL is allowed. */
void guest_destroy(struct guest *guest);

/* Fill what --touched says, with a thread per CPU; before the first resume. -ECANCELED when *cancel was set. */
int guest_fill(struct guest *guest, _Atomic bool *cancel);
uint64_t guest_filled_bytes(const struct guest *guest);

/* Let it run from where it stands. `beaten` (may be NULL) is called once by the heartbeat thread, with the time of
 * the first beat; it may not wait. The guest must stand still. */
void guest_resume(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque);

/* Ask all threads to stand still; returns at once. The last one to do so calls `parked`: by then every write is
 * made, counted and marked. The guest must run. */
void guest_pause(struct guest *guest, void (*parked)(void *opaque), void *opaque);

/* Stand still, and wait for that: a page's write at most. Nothing to do if it does already. Not while
 * guest_pause() is under way. */
void guest_park(struct guest *guest);

/* Mark all writes for this session (SLUICE_TRACKER_MARKS), NULL: for none. The guest must stand still. */
void guest_mark_for(struct guest *guest, struct sluice *session);

void guest_look(const struct guest *guest, struct guest_view *ret);
void guest_reset_gap(struct guest *guest);

/* When it ran since guest_forget_runs(): from before its first instruction to after its last. Of more than GUEST_RUNS the oldest are
 * told as one. Returns how many. The guest must stand still. */
unsigned guest_runs(const struct guest *guest, struct guest_run ret[GUEST_RUNS]);
void guest_forget_runs(struct guest *guest);

const struct guest_settings *guest_settings_of(const struct guest *guest);
const struct memory *guest_memory(const struct guest *guest);
const struct counts *guest_counts(const struct guest *guest);

/* The guest's own state, in sections "counts" and "vcpus". Free with guest_free_state(). The guest must stand
 * still. */
struct guest_state {
	struct sluice_section section[2];
	size_t mapped;
};
int guest_save(const struct guest *guest, struct guest_state *ret_state);
void guest_free_state(struct guest_state *state);

/* Take state from a peer, into a guest that never ran. -EBADMSG: it is not this guest's, with one line. */
int guest_load(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR]);

#endif
