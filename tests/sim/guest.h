/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* guest.h: the model guest: memory of both sides, writes with versions, and what a tracker would know of them.
 *
 * A page's content is its first word, the rest is zero: the version of the write, rising over all writes of a simulation;
 * 0 is a page of zeroes. So an older copy is recognised wherever it turns up (Law 4). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/sluice.h"
#include "tests/sim/sim.h"

enum {
	GUEST_PAGES = 4096, /* at most */
	GUEST_REGIONS = 4,
	GUEST_STATE = 1 << 20,
	VERSION_OLD = 1, /* of what lay in used memory */
	VERSION_FIRST = 2,
};

struct guest {
	uint32_t pages, regions;
	struct {
		uint32_t first, pages;
		char name[16];
	} region[GUEST_REGIONS];
	uint64_t version;                /* of the last write */
	bool running[2];                 /* on which side */
	uint32_t lineage[2];             /* which guest each side has or had last: a host that lost one may start another */
	bool disks[2];                   /* who holds them */
	bool lost;                       /* the source's: by a crash, or for it cannot be resumed. Nobody need run it */
	bool writing;                    /* between a write and its mark */
	bool idle;                       /* the vCPU does nothing */
	uint8_t present[GUEST_PAGES];    /* source: no hole */
	uint8_t logged[GUEST_PAGES];     /* the tracker's log */
	uint64_t writes;                 /* so far, to date by; */
	uint64_t logged_at[GUEST_PAGES]; /* since when a page is in the log */
	uint8_t unmarked[GUEST_PAGES];   /* writes that their writers are about to mark */
	bool logging;
	bool peeked;                 /* a survey is looking */
	bool marks_only;             /* no log: every write is marked */
	uint64_t final[GUEST_PAGES]; /* source memory when SWITCHOVER was sent */
	uint32_t final_sections, final_length[SLUICE_MAX_SECTIONS];
	uint64_t final_stamp;          /* of the device state */
	uint64_t writes_left, wait_ns; /* workload */
	uint32_t target;               /* the page after this one is being claimed: a good time to write it; 0: none */
	uint32_t nemesis;              /* one claim in so many; 0: none */
	uint32_t hot, burst, workload, next, discards;
	uint32_t throttle;    /* percent of the time that it may not run */
	uint32_t late_writes; /* by a writer that pause leaves behind for a while, */
	bool never_still;     /* or for longer than anybody waits */
};

extern struct guest guest;
/* The memory of each side. */
unsigned char *guest_memory(enum sim_side side);
/* Which page an address is, and whose; false: no guest memory. */
bool guest_page_of(const void *address, enum sim_side *ret_side, uint32_t *ret_page);
static inline uint64_t *guest_page(enum sim_side side, uint32_t page)
{
	return (uint64_t *)(void *)(guest_memory(side) + (uint64_t)page * SLUICE_PAGE_SIZE);
}

/* A guest of the seed's choice, running at the source. */
void guest_make(void);
/* The host has lost its guest, and starts one: the same one once more, from its disks, or another. It knows nothing of a migration. */
void guest_start_another(bool same);
/* One that writes as fast and as long as any. */
void guest_write_much(void);
/* One that writes more than a slow wire carries, for a while. */
void guest_write_too_much(void);
/* What lies in the destination's memory before: nothing, or old things. */
void guest_prepare_destination(bool used);
/* The vCPU that writes; a fiber. */
void *guest_body(void *arg);
/* One write of the source's guest or of its devices, with its mark where it needs one. */
void guest_write(bool by_device);
/* The dirty log's callbacks. */
int guest_log_start(void *opaque);
int guest_log_fetch(void *opaque, uint32_t region, uint64_t first, uint64_t pages, uint64_t *bits);
int guest_log_clear(void *opaque, uint32_t region, uint64_t first, uint64_t pages, const uint64_t *bits);
void guest_log_stop(void *opaque);
/* Keep what the destination must have. */
void guest_keep_final(void);
