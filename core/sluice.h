/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sluice.h: move a running guest from one host to another. The whole public API.
 *
 * A session (struct sluice) is one end of one migration. It has threads of its own; the embedder's event loop
 * never waits for them: every call here returns at once, and what takes time ends in a callback or an event.
 *
 * Callbacks run in the embedder's own loop, from sluice_dispatch(), whenever sluice_event_fd() is readable.
 * Exceptions (the dirty log and the lock) say so. A callback that asks for something slow (pause, resume, save,
 * load, incoming, release, acquire) only has to begin it; its end is told with sluice_done(), from any thread,
 * also from within the callback.
 *
 * Errors are negative errno values. A session keeps the first error that ended it: sluice_get_error().
 * All sizes are in bytes and all times in the unit that the name ends in. Words are those of docs/architecture.md.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SLUICE_API __attribute__((visibility("default")))
#else
#define SLUICE_API
#endif

#define SLUICE_VERSION_MAJOR 0
#define SLUICE_VERSION_MINOR 1

#define SLUICE_PAGE_SIZE 4096u /* the unit of dirtiness; hosts with another page size are refused */
#define SLUICE_DEFAULT_PORT 4747
#define SLUICE_MAX_STREAMS 64u /* data streams of one session */
#define SLUICE_MAX_REGIONS 256u
#define SLUICE_MAX_SECTIONS 64u   /* device state sections */
#define SLUICE_NAME_MAX 64u       /* a region's or section's name with its final NUL */
#define SLUICE_MESSAGE_MAX 16384u /* sluice_send_message, and the cookie */
#define SLUICE_ERROR_MAX 256u
#define SLUICE_CAUSE_MAX 80u

struct sluice;          /* a session: one end of one migration */
struct sluice_listener; /* a place that destination sessions are reached at */

/* ---------------------------------------------------------------- phases, errors, events */

/* Phases, named as QMP and libvirt name them. The destination begins in INCOMING instead of SETUP. */
enum sluice_phase {
	SLUICE_NONE,
	SLUICE_INCOMING, /* destination: listening, nothing agreed yet */
	SLUICE_SETUP,    /* connecting, agreeing, arming the tracker */
	SLUICE_ACTIVE,   /* precopy rounds; the source guest runs */
	SLUICE_DRAINING,
	SLUICE_PRE_SWITCHOVER, /* the source guest is stopped, and sluice_continue() is waited for (SLUICE_HOLD) */
	SLUICE_DEVICE,         /* the source guest is stopped */
	SLUICE_COMPLETED,      /* the destination guest runs, or an operator said so */
	SLUICE_CANCELLING,
	SLUICE_CANCELLED, /* the source guest runs */
	SLUICE_FAILED, /* source: its guest runs (again), or resuming it failed: see the error; destination: what came is void */
	SLUICE_IN_DOUBT, /* this side cannot know which side owns the guest: see sluice_resolve() */
};

/* The first error of a session. */
struct sluice_error {
	int code;                    /* negative errno; 0: none */
	enum sluice_phase phase;     /* the phase it struck in */
	int stream;                  /* data stream, -1: not one stream's */
	uint32_t theirs;             /* 1: the other side said so */
	char text[SLUICE_ERROR_MAX]; /* one line: what happened and what to do */
	/* Of a doubt: what led to it, alone and in a few words, for an embedder that says itself what to do. Else empty. */
	char cause[SLUICE_CAUSE_MAX];
};

enum sluice_event_type {
	/* u.phase: the session has entered it. Statistics are those of that moment. FAILED and CANCELLED come after the source's guest was
	 * resumed, COMPLETED at the source after the destination said that the guest runs. */
	SLUICE_EVENT_PHASE = 1,
	SLUICE_EVENT_ROUND,   /* u.round: a round of precopy is over */
	SLUICE_EVENT_MESSAGE, /* u.message: what the other side's embedder sent with sluice_send_message */
	SLUICE_EVENT_WARNING, /* u.text: something degraded, said once (no io_uring, lock not had in time, the guest does not converge, ...) */
	SLUICE_EVENT_ENDED, /* all is over, no callback follows: sluice_destroy() will succeed */
};

/* One pass over the dirty bitmap. */
struct sluice_round {
	uint32_t n;           /* from 1 */
	uint32_t final_round; /* 1: sent while the guest was stopped */
	uint64_t ms;
	uint64_t pages;       /* sent, zero pages included */
	uint64_t dirty_pages; /* that its sync found */
	double sync_ms;       /* spent in the tracker */
};

struct sluice_event {
	enum sluice_event_type type;
	union {
		enum sluice_phase phase;
		struct sluice_round round;
		struct {
			const void *data;
			size_t length;
		} message;
		const char *text;
	} u;
};

/* ---------------------------------------------------------------- what an embedder gives */

/* Region flags. */
#define SLUICE_REGION_USED 1u      /* destination: may hold something else than zeroes */
#define SLUICE_REGION_POPULATED 2u /* destination: its pages exist already; landing need not populate */

/* A contiguous piece of guest memory. Both ends add the same regions (name, size, host page size) in the same order. */
struct sluice_region {
	size_t size_of;          /* sizeof (struct sluice_region) */
	const char *name;        /* unique in the session, copied */
	void *address;           /* where this process maps it; host page aligned */
	uint64_t size;           /* bytes, a multiple of host_page_size */
	uint32_t host_page_size; /* 4096, or that of the hugetlbfs behind it; 0: 4096 */
	int32_t node;            /* NUMA node; -1: ask the kernel */
	int32_t fd;              /* memfd behind a shared mapping, -1: anonymous. Borrowed until the session is destroyed */
	uint32_t flags;          /* SLUICE_REGION_* */
	uint64_t fd_offset;      /* where in fd the region begins */
};

/* One named, versioned piece of device state. */
struct sluice_section {
	const char *name;
	uint32_t version;
	const void *data;
	size_t length;
};

/* What is asked of an embedder and answered with sluice_done(). */
enum sluice_request {
	SLUICE_INCOMING_GUEST = 1, /* destination: add regions for the guest that was offered */
	SLUICE_PAUSE,              /* source: stop every vCPU and device; marks of all writes made before done */
	SLUICE_SAVE,               /* source: hand over device state with sluice_save_section() */
	SLUICE_RELEASE,            /* source: let go of disks */
	SLUICE_LOAD,               /* destination: take the device state */
	SLUICE_ACQUIRE,            /* destination: take the disks */
	SLUICE_RESUME, /* run the guest: destination after switchover, source after a failed try. A destination that cannot lets go of
			* the disks before it says so: the source may take them at once */
};

/* A region as the source described it, to a destination that shall provide it. */
struct sluice_offer {
	const char *name;
	uint64_t size;
	uint32_t host_page_size;
};

/* ops.io_depth: as usual. */
#define SLUICE_IO_DEPTH_USUAL UINT32_MAX

/* ops.needs_lock: which callbacks of other threads want the embedder's big lock around them. */
#define SLUICE_LOCK_DIRTY_LOG 1u

/* The embedder's callbacks. All may be NULL unless said otherwise; `opaque` is what sluice_create() was given.
 * Context, unless said otherwise: the thread that calls sluice_dispatch(); may not block for long; may call sluice_*. */
struct sluice_ops {
	size_t size_of;      /* sizeof (struct sluice_ops): lets the table grow */
	uint32_t needs_lock; /* SLUICE_LOCK_* */
	uint32_t reserved;

	/* Something happened. What the event points to is valid during the call only. */
	void (*event)(void *opaque, const struct sluice_event *event);

	/* Destination: a source offers a guest. `cookie` is what it set with sluice_set_cookie(). Add the regions, then
	 * sluice_done(SLUICE_INCOMING_GUEST, 0), or a negative errno after sluice_refuse_because(). What it points to is valid
	 * until done. Required there. */
	void (*incoming)(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length);

	void (*pause)(void *opaque);  /* required at the source */
	void (*resume)(void *opaque); /* required. At a source after `release`, it takes the disks back first */
	void (*save)(void *opaque);   /* NULL: no device state */
	void (*load)(void *opaque, const struct sluice_section *sections, size_t n); /* valid until done */
	void (*release)(void *opaque);
	void (*acquire)(void *opaque);

	/* Let each vCPU run only 100 - percent of the time; 0: all of it. Called in steps where a guest does not converge, and with 0
	 * when that is over, however it ends. Only where SLUICE_THROTTLE_MAX asks for it. */
	void (*throttle)(void *opaque, uint32_t percent);

	/* Device I/O, brought to rest while the guest runs and before it is stopped; both or neither. Neither: `pause` waits for what is in flight.
	 * io_depth: have at most so many requests in flight, for the guest's devices together or each, as suits; 0: pick up nothing new, not
	 * even from a stopped guest; SLUICE_IO_DEPTH_USUAL: as if this had never been called. What is not picked up stays in the guest's
	 * rings. Returns 0 or negative errno.
	 * drain_try: 0: nothing is in flight; -EAGAIN: something is, and may be done soon; -EBUSY: waiting for it would be of no use now (it
	 * hangs, firmware is being loaded, ...). Neither may block. */
	int (*io_depth)(void *opaque, uint32_t requests);
	int (*drain_try)(void *opaque);

	/* Dirty log of the embedder (a VMM's KVM slots, say), used with SLUICE_TRACKER_LOG. Thread: sync, or for stop control; under the
	 * big lock if needs_lock says so. Return 0 or negative errno. stop may come after the phase that ends a session, never after ENDED.
	 * start: from now on note writes; memory counts as wholly dirty at this moment.
	 * fetch: `bits` has one bit a page of [first, first + pages), zeroed before; set those written since their last clear.
	 * clear: re-arm exactly the pages whose bit is set. Both get multiples of 64 pages except at a region's end. */
	int (*dirty_log_start)(void *opaque);
	int (*dirty_log_fetch)(void *opaque, uint32_t region, uint64_t first_page, uint64_t pages, uint64_t *bits);
	int (*dirty_log_clear)(void *opaque, uint32_t region, uint64_t first_page, uint64_t pages, const uint64_t *bits);
	void (*dirty_log_stop)(void *opaque);

	/* The big lock. Thread: any of sluice's, never holding a lock of its own. trylock: 0, or -ETIMEDOUT when `until_ns`
	 * (CLOCK_MONOTONIC) has passed. */
	int (*lock)(void *opaque, uint64_t until_ns);
	void (*unlock)(void *opaque);
};

/* ---------------------------------------------------------------- sessions */

/* Parameters, all changeable while migrating unless marked (setup). Values are uint64_t. */
enum sluice_param {
	SLUICE_STREAMS = 1, /* (setup) data streams, 1 to SLUICE_MAX_STREAMS; default 4 */
	SLUICE_BANDWIDTH, /* bytes/s of all streams together, 65536 at least; 0: unlimited (default). The last round is exempt */
	SLUICE_DOWNTIME_LIMIT_MS, /* default 300 */
	SLUICE_TIMEOUT_MS,        /* give up after, 0: never (default) */
	SLUICE_COMPRESS,          /* (setup) enum sluice_compress; default auto */
	SLUICE_TRACKER,           /* (setup) enum sluice_tracker; default auto */
	SLUICE_DEAD_PEER_MS,      /* (setup) a peer not heard of for so long is dead; default 3000 */
	SLUICE_CALLBACK_MS,       /* a request made from now on, not answered for so long, has failed; default 60000 */
	SLUICE_CONNECT_MS,        /* (setup) a connection not made in so long has failed; default 5000 */
	SLUICE_IO_URING,          /* (setup) 1: use it where allowed (default), 0: plain sockets */
	SLUICE_NUMA,              /* (setup) 1: place threads by NUMA node (default), 0: leave them to the kernel */
	SLUICE_ALLOW_PLAIN,       /* (setup) 1: plain text beyond loopback is allowed; default 0 */
	SLUICE_MAX_STATE,         /* (setup) destination: device state it takes at most, bytes; default 1 GiB */
	SLUICE_THROTTLE_MAX, /* slow a guest that does not converge down, by so many percent at most (99); 0: never (default). Needs ops.throttle */
	SLUICE_HOLD, /* 1: with the guest stopped, stay in phase pre-switchover until sluice_continue(); 0: do not (default) */
	SLUICE_REMEMBER_MS, /* beyond the longer dead-peer time: so long a session that is decided stays, before ENDED, for a peer that
				   * may be in doubt; default 5000; 0: not at all */
	SLUICE_SWITCHOVER_BANDWIDTH, /* bytes/s that the last round, which SLUICE_BANDWIDTH does not limit, is expected to get; 65536 at least;
				   * 0: what the rounds before it got (default) */
	/* Of ops.drain_try. A window is a time in which the running guest's I/O is not picked up, so that what is in flight can end. */
	SLUICE_DRAIN_DEPTH,     /* requests in flight when the end is near; default 1 */
	SLUICE_DRAIN_WINDOW_MS, /* a window is no longer; default 500, 30000 at most. The first is of 5 ms, and one after one that was
				 * too short twice as long. Stay well below the guest's I/O timeout: Linux gives a SCSI disk 30 s. From 20 s on there is a
				 * warning */
	SLUICE_DRAIN_SHARE,     /* percent of the migration that all windows may take together; default 5 */
	SLUICE_DRAIN_TRIES,     /* windows in vain before SLUICE_DRAIN_FAIL, 0: any number; default 10 */
	SLUICE_DRAIN_LIMIT_MS, /* likewise, from the first window on, 0: any time (default) */
	SLUICE_DRAIN_FAIL,     /* enum sluice_drain_fail; default retry */
	SLUICE_PARAMS          /* one more than the last */
};

/* What to do when the guest's I/O does not come to rest. */
enum sluice_drain_fail {
	SLUICE_DRAIN_RETRY, /* go on trying */
	SLUICE_DRAIN_FAILS, /* fail, with the guest untouched: -EBUSY */
};

enum sluice_compress { SLUICE_COMPRESS_NONE, SLUICE_COMPRESS_LZ4, SLUICE_COMPRESS_AUTO };

enum sluice_tracker {
	/* What sluice_set_kvm() told of, else the embedder's log if it gives one, else pagemap. Never marks: only the embedder knows
	 * whether all is marked. */
	SLUICE_TRACKER_AUTO,
	SLUICE_TRACKER_PAGEMAP,  /* PAGEMAP_SCAN over userfaultfd-wp-async (Linux 6.7 and later) */
	SLUICE_TRACKER_MARKS,    /* only sluice_mark_dirty(): the guest's writers mark all they write */
	SLUICE_TRACKER_LOG,      /* ops.dirty_log_* */
	SLUICE_TRACKER_KVM_LOG,  /* KVM's dirty log: see sluice_set_kvm() */
	SLUICE_TRACKER_KVM_RING, /* KVM's dirty rings: likewise */
};

/* Make a session. `ops` is copied. Returns 0, -EINVAL (a required callback is missing or size_of is not known), -ENOMEM,
 * -ENOTSUP (page size is not 4 KiB). */
SLUICE_API int sluice_create(const struct sluice_ops *ops, void *opaque, struct sluice **ret_session);

/* Free a session whose SLUICE_EVENT_ENDED was delivered, or that was never started. Else -EBUSY. */
SLUICE_API int sluice_destroy(struct sluice *session);

/* -EINVAL: out of range (the error text names the range); -EBUSY: too late for this parameter. Any thread. */
SLUICE_API int sluice_set(struct sluice *session, enum sluice_param param, uint64_t value);
SLUICE_API uint64_t sluice_get(struct sluice *session, enum sluice_param param);

/* Does this kernel let this process use the tracker? 0, or -ENOTSUP: let the guest's writers mark, or give a dirty log. AUTO: without a
 * log of the embedder's. Any thread. */
SLUICE_API int sluice_tracker_works(enum sluice_tracker tracker);

/* CPUs that sluice's bulk threads may use, as in "0-3,8"; NULL: all. Before start. -EINVAL: not a list, or none usable. */
SLUICE_API int sluice_set_cpus(struct sluice *session, const char *list);

/* Source: bytes for the destination's `incoming` callback (guest settings). Copied; -EMSGSIZE over SLUICE_MESSAGE_MAX. */
SLUICE_API int sluice_set_cookie(struct sluice *session, const void *data, size_t length);

/* Add a region. Before sluice_source_start(), or at the destination until SLUICE_INCOMING_GUEST is done; after that -EBUSY.
 * -EINVAL: not page aligned, overlaps another, name taken. */
SLUICE_API int sluice_add_region(struct sluice *session, const struct sluice_region *region, uint32_t *ret_id);

/* A memory slot of a KVM virtual machine, and the piece of a region that it maps. */
struct sluice_kvm_slot {
	uint32_t slot;          /* as in KVM_SET_USER_MEMORY_REGION */
	uint32_t flags;         /* its KVM_MEM_* flags, without KVM_MEM_LOG_DIRTY_PAGES */
	uint64_t guest_address; /* guest-physical */
	uint64_t size;
	uint64_t offset; /* in the region; userspace_addr is the region's address plus this */
	uint32_t region; /* id that sluice_add_region() gave */
	uint32_t reserved;
};

/* The VM enabled KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 with KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE. Enable KVM_DIRTY_LOG_INITIALLY_SET too
 * where KVM has it: without, starting to track stalls the guest for as long as its memory is large. */
#define SLUICE_KVM_MANUAL_PROTECT 1u

/* A virtual machine of this process's. Its descriptors are borrowed until the session is destroyed. */
struct sluice_kvm {
	size_t size_of; /* sizeof (struct sluice_kvm) */
	int32_t vm_fd;
	uint32_t flags; /* SLUICE_KVM_* */
	const struct sluice_kvm_slot *slots;
	uint32_t n_slots;
	uint32_t n_vcpus; /* all there are, where they have dirty rings */
	const int *vcpu_fds;
	uint32_t
		ring_bytes; /* that KVM_CAP_DIRTY_LOG_RING_ACQ_REL was enabled with, before the first vCPU; 0: no rings, but the log */
	uint32_t reserved;
};

/* Source: track by KVM, without callbacks. After the regions were added, before start; copied. From start to end of the session the
 * slots' flag KVM_MEM_LOG_DIRTY_PAGES, the rings and KVM_RESET_DIRTY_RINGS, and the clearing of these slots' log are sluice's;
 * slots must stay as they are. What else than vCPUs writes there, mark (sluice_mark_dirty). -EINVAL: see the error; -EBUSY. */
SLUICE_API int sluice_set_kvm(struct sluice *session, const struct sluice_kvm *kvm);

/* A vCPU came back with KVM_EXIT_DIRTY_RING_FULL: empties all rings, then it can be entered again. Thread: any, the vCPU's best; takes
 * as long as a few thousand pages take to re-arm, for each vCPU. Also right while nothing is tracked. 0; -EINVAL: sluice_set_kvm() was
 * not called; else what KVM said, -EOVERFLOW where it let a ring run over: writes were lost, the migration fails; the vCPU can be entered
 * again as after 0, unless KVM has lost count of the ring altogether, and goes on saying that it is full. */
SLUICE_API int sluice_kvm_ring_full(struct sluice *session);

/* Be the source: connect to `uri` and migrate. Returns at once; 0, -EINVAL (uri, no region, ...), -EALREADY. */
SLUICE_API int sluice_source_start(struct sluice *session, const char *uri);

/* A place to be reached at: tcp:HOST:PORT (port 0: any), unix:PATH, fd:N (a listening socket), HOST:PORT, HOST, [ADDR]:PORT.
 * HOST is numeric or "localhost": names would have to be looked up, and this call does not block. allow_plain: 0 refuses
 * addresses beyond loopback with -EPERM. On error `error` (may be NULL) gets one line that says what to do. */
SLUICE_API int sluice_listen(const char *uri, int allow_plain, struct sluice_listener **ret_listener,
			     char error[SLUICE_ERROR_MAX]);
/* The URI it is reached at, with the port the kernel chose. Valid until closed. */
SLUICE_API const char *sluice_listener_uri(const struct sluice_listener *listener);
/* No session may be using it any more. */
SLUICE_API void sluice_listener_close(struct sluice_listener *listener);

/* Be the destination of the next migration that comes in at `listener` (borrowed until the session ended). One session at
 * a time uses a listener; meanwhile another source is told "busy". */
SLUICE_API int sluice_destination_start(struct sluice *session, struct sluice_listener *listener);

/* Give up. Until handoff the source guest runs on (it is resumed if it was stopped) and the session ends in CANCELLED.
 * -EBUSY: too late, the guest may already run at the destination. A destination listening is stopped. Any thread. */
SLUICE_API int sluice_cancel(struct sluice *session);

/* In phase pre-switchover (SLUICE_HOLD): go on with the switchover. -EINVAL: not in that phase. Any thread. */
SLUICE_API int sluice_continue(struct sluice *session);

/* Close a session that is decided, then ENDED follows. Completed: the link stays up for messages until either side does this. Failed or
 * cancelled: most end by themselves at once, but where the other side may be in doubt a session stays for SLUICE_REMEMBER_MS to be asked;
 * this ends that. Any thread. -EINVAL: it is none of these (sluice_cancel() gives up one that is under way). */
SLUICE_API int sluice_close(struct sluice *session);

/* An operator's word where a side is in doubt. run != 0: this side owns the guest and runs it; 0: it does not, and ends.
 *
 * A doubt ends by itself as soon as the two sides reach each other again, and may come back; so only facts that stay true are a reason to
 * say something. Discard, where the other side runs the guest. Run, where the other side is over: first resolve it there to discard and
 * see it fail, or end its process; that it does not run at the moment is no such fact, and sluice cannot find out. The word does
 * nothing where the doubt has ended before it is heard: look again. Of two words that wait the first counts.
 *
 * The source then ends in COMPLETED (discard), or is asked to resume and ends in FAILED, with an error that says whether its guest runs (run); the
 * destination ends in FAILED (discard), or is asked to acquire and resume and ends in COMPLETED, or FAILED where it could not (run). Until then the
 * phase stays IN_DOUBT. -EINVAL: not in doubt. Any thread. */
SLUICE_API int sluice_resolve(struct sluice *session, int run);

/* ---------------------------------------------------------------- the embedder's loop */

/* A descriptor that polls readable when sluice_dispatch() has something to do. Owned by the session. */
SLUICE_API int sluice_event_fd(struct sluice *session);

/* Run the callback that is due next, in the calling thread; 1, or 0 where none is. One at a time, so that an embedder's lock is not
 * held for several: the descriptor stays readable while there are more. Never blocks. One thread at a time. The time this takes
 * counts as time under the big lock (stats.lock_held_us), for an embedder's loop usually holds it. */
SLUICE_API int sluice_dispatch(struct sluice *session);

/* A request is done: error 0 or a negative errno. Any thread. -EINVAL: it was not asked for.
 * Where a migration is given up while one is unanswered, for its own lateness too, the answer is waited for, SLUICE_CALLBACK_MS at most from
 * then on, before the guest is resumed or the session ends: it may still be at work. A destination's `acquire` and `resume` are waited for
 * without end. */
SLUICE_API int sluice_done(struct sluice *session, enum sluice_request request, int error);

/* For how long the guest has stood still, in ns: since SLUICE_PAUSE was done, at whichever side, until SLUICE_RESUME was done here, or until now.
 * So `resume` learns by how much the guest's clocks are behind, and what has to be told of it to whom. The destination
 * has it from the source, with half a round trip of the link for the way; no clock of the two hosts need agree. 0: it was not stopped.
 * Any thread. */
SLUICE_API uint64_t sluice_stopped_ns(struct sluice *session);

/* Between `save` and its done: add a section. `data` is borrowed until the phase is completed, failed, cancelled or again active.
 * -ENOSPC: too many or longer than the destination takes; -EINVAL: no name, name taken, not saving. */
SLUICE_API int sluice_save_section(struct sluice *session, const struct sluice_section *section);

/* Destination, before sluice_done() with an error: one line for the source's user. */
SLUICE_API int sluice_refuse_because(struct sluice *session, const char *text);

/* To the other side's embedder: up to SLUICE_MESSAGE_MAX bytes, from the end of set-up until the link closes; copied, in order.
 * Those that are on their way when a link is lost are lost with it.
 * -ENOTCONN: no link; -EMSGSIZE; -EAGAIN: 16 are waiting already, or the link is a new one whose peer has not answered yet. Any thread. */
SLUICE_API int sluice_send_message(struct sluice *session, const void *data, size_t length);

/* ---------------------------------------------------------------- guest memory */

/* Say that [offset, offset + length) of a region was written behind the tracker's back (a device model, direct I/O). Call it
 * AFTER the write. Lock-free, any thread, cheap; does nothing when no migration is active. Out of range: ignored. */
SLUICE_API void sluice_mark_dirty(struct sluice *session, uint32_t region, uint64_t offset, uint64_t length);

/* Say that a range was given back by the guest (balloon, free page reporting): its content need not travel: until written
 * it reads there as here or as zero. Whole pages inside the range count. Call it BEFORE the guest may use it again. Any thread. */
SLUICE_API void sluice_discarded(struct sluice *session, uint32_t region, uint64_t offset, uint64_t length);

/* ---------------------------------------------------------------- looking */

struct sluice_hist {
	uint64_t count;
	double min, mean, p50, p90, p99, p999, max;
};

struct sluice_stats {
	size_t size_of; /* set by the caller to sizeof (struct sluice_stats) */
	enum sluice_phase phase;
	uint32_t streams;
	uint64_t memory_bytes;
	double setup_ms, total_ms;
	double arm_ms; /* of setup_ms: making the bitmaps and starting the tracker */
	double downtime_ms;
	double downtime_expected_ms; /* were it stopped now; from when it is stopped on, as expected at that moment */
	struct {
		double pause, hold, save, last_round, state, handoff;
	} downtime_parts_ms;
	uint64_t guest_bytes; /* of pages sent, zero pages included */
	uint64_t wire_bytes;  /* handed to the data streams, headers included */
	uint64_t zero_bytes;  /* of guest_bytes, found to be zero */
	uint64_t lz4_in_bytes, lz4_out_bytes;
	uint64_t landed_bytes;                              /* wire bytes that the destination said are in place */
	uint64_t remaining_bytes;                           /* known to be dirty and not sent yet */
	uint64_t dirty_bytes_per_s, throughput_bytes_per_s; /* estimates; throughput is of pages that are not zero, sent */
	uint32_t rounds;
	uint32_t device_tries;         /* times the guest was stopped */
	uint32_t throttle_percent;     /* that ops.throttle was last told */
	uint32_t throttle_max_percent; /* the most that it was told */
	struct {
		uint32_t tries, busy; /* windows, and those in vain */
		uint32_t gave_up;     /* 1: SLUICE_DRAIN_FAIL came to apply */
		uint32_t delay_rounds;
		double quiesced_ms; /* all windows together */
		/* From the first moment at which the guest could have been stopped but for its I/O to the last: what coming to rest cost, as
		 * are the rounds meanwhile. */
		double delay_ms;
	} drain;
	uint64_t own_bytes;              /* memory that sluice itself has allocated */
	struct sluice_hist lock_held_us; /* the big lock, by sluice */
	struct sluice_hist sync_ms;      /* one piece of a dirty log sync */
	struct sluice_hist steps_ms;     /* one step of the control thread */
};

struct sluice_stream_stats {
	size_t size_of;    /* set by the caller */
	int32_t node;      /* NUMA node of its thread, -1: any */
	uint32_t uring;    /* 1: io_uring, 0: plain sockets */
	uint64_t bytes;    /* on the wire */
	double stalled_ms; /* waiting for the wire */
	double cpu_s;
};

/* A snapshot. Any thread, does not block. -EINVAL: size_of is not known. */
SLUICE_API int sluice_get_stats(struct sluice *session, struct sluice_stats *ret_stats);
/* -ENOENT: no such stream. */
SLUICE_API int sluice_get_stream_stats(struct sluice *session, uint32_t stream, struct sluice_stream_stats *ret_stats);

/* The first error, or code 0. The error of a doubt goes when the doubt ends. Any thread. */
SLUICE_API void sluice_get_error(struct sluice *session, struct sluice_error *ret_error);

/* Which thread waits, for what, since when, in which phase, or has ended: one line each, NUL-terminated. Returns the length the whole
 * text has (as snprintf does). Takes no lock, so it works when everything else is stuck. Any thread. */
SLUICE_API size_t sluice_dump(struct sluice *session, char *buffer, size_t size);

SLUICE_API const char *sluice_phase_name(enum sluice_phase phase);
/* "0.1.0 (io_uring lz4 numa)" */
SLUICE_API const char *sluice_version(void);

#ifdef __cplusplus
}
#endif
#endif
