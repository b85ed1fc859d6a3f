/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pipe.h: what a simulated connection is made of. For the parts of wire.h only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streams/batch.h"
#include "streams/greeting.h"
#include "streams/transport.h"
#include "tests/sim/wire.h"

struct seg {
	struct seg *next;
	uint64_t ready_at;
	uint32_t length, taken;
	uint8_t frame; /* link: message type that ends with it. Stream: batch type that begins with it */
	bool pages;    /* `data` has a version a page */
	bool poison;   /* damaged, so that nobody may go on behind it */
	bool fin;
	uint8_t lie;      /* enum lie, LIE_MATTERS: of the message type that ends with it */
	bool lie_of_head; /* of a batch: shows in its head alone */
	bool late;        /* of a batch after the last round */
	_Alignas(8) unsigned char data[];
};

/* One direction. */
struct pipe {
	struct seg *first, **last;
	uint64_t queued, last_ready, stalled_until, reset_at;
	bool silent;
	bool full; /* for as long as it is silent or stalled: not even a buffer takes anything */
};

struct end {
	struct conn conn; /* first */
	struct wire *wire;
	enum sim_side side;
	int fd;
	bool open, shut, stream;
	bool talked;       /* has read a whole frame */
	bool wrote;        /* has begun one */
	uint64_t said_at;  /* the last one */
	uint64_t heard_at; /* the last byte was read, or it came to be */
	uint64_t accepted_at, closed_at;
	bool garbled; /* has sent a wrong length: where its frames or batches begin, nobody can tell any more */
	uint64_t garbled_at;
	uint64_t part_at;                /* a stream has brought the head, the extents or the payload of a batch */
	uint64_t burst_at, before_burst; /* the same: the first after a while without any, and the last before that */
	bool poisoned;                   /* has read what it must not go on behind */
	bool parted; /* has told the other side that this is no link for it, and only reads until that one closes */
	enum wire_harm harm;
	bool picky; /* damage waits for a payload that has a check; of a link it is the length that is damaged */
	bool wrong; /* has sent what nobody need take */
	/* Said once more later, before the next one. */
	unsigned char again[64];
	uint32_t again_bytes;
	uint32_t more; /* so many frames more have gone out than its side knows of */
	/* a batch on its way */
	bool under_way; /* and not waited for since: its buffers are the kernel's */
	const struct iovec *iov;
	int iovs;
	size_t offset;
	uint64_t batch_bytes;   /* of all of it */
	uint8_t out_type;       /* link: of the frame that is half written */
	struct batch_head sent; /* the last one, as its sender has made it */
	bool stale;             /* the batch on its way carries old pages */
	bool gap;               /* a frame or batch was left out: nobody may go on behind that */
	struct seg *echo;       /* what comes again once all of the batch is out, */
	struct seg **echo_last; /* NULL: nothing does */
	uint32_t damage_at;     /* in its payload, from 1; 0: nowhere */
};

struct wire {
	uint32_t id;
	uint32_t migration; /* whose it is (promises.h); 0: a stray */
	bool link, stray;
	bool greeted; /* its greeting was read */
	bool half_greeting;
	struct greeting greeting;
	struct end end[2];
	struct pipe pipe[2]; /* [side]: what that side sends */
};

extern struct wire wires[WIRES];
extern uint32_t n_wires;
extern struct wire_habits wire_habits_now;
extern const struct transport sim_transport;

/* What an end receives, and what it sends. */
struct pipe *pipe_in(struct end *e);
struct pipe *pipe_out(struct end *e);
/* Something may have changed for who waits there. */
void end_tell(struct end *e);
void wire_tell(struct wire *w);
void pipe_drop(struct pipe *p);
/* The first segment that may be read now; else when that may change goes to *until. */
struct seg *pipe_readable(struct pipe *p, uint64_t *until);
/* Is there room for more? Else when that may change by itself goes to *until. */
bool pipe_has_room(const struct pipe *p, uint64_t *until);
/* Send `length` bytes (or pages' worth of them), of which `bytes` are kept. */
struct seg *pipe_push(struct end *e, const void *data, uint32_t bytes, uint32_t length);
struct seg *pipe_copy(const struct seg *s);
/* Once more what was sent already. */
void pipe_push_again(struct end *e, const struct seg *s);
/* `n` bytes of the first segment were read. */
void pipe_take(struct end *e, struct seg *s, uint32_t n);
/* 0, or why nothing more goes out. */
int end_broken(struct end *e);
struct wire *wire_new(bool link);
/* Who waits at the door, or dials, is gone with its process. */
void wire_door_gone(void);
void wire_dials_gone(void);

/* harm.c */
extern const char *const harm_names[];
void harm_flip(unsigned char *bytes, uint32_t n);
void harm_old_frame(unsigned char *frame, uint32_t length);
/* A link frame right in all but what it speaks of. Returns its length now. */
uint32_t harm_number(unsigned char *frame, uint32_t length);
/* Returns whether it shows in the head alone. */
bool harm_old_batch(struct batch_frame *f);
void harm_seal_batch(struct batch_frame *f, size_t size);

/* link_end.c: bytes. */
void links_reset(void);
ssize_t link_read(struct conn *conn, void *buffer, size_t size);
ssize_t link_write(struct conn *conn, const void *buffer, size_t size);
/* late.c: they are landed. */
void late_lands(void);
/* stream_end.c: batches. */
int stream_begin(struct conn *conn, bool uring, bool sends);
int stream_send_start(struct conn *conn, const struct iovec *iov, int n);
int stream_send_wait(struct conn *conn, struct waiter *waiter);
int stream_recv(struct conn *conn, struct iovec *iov, int n, struct waiter *waiter);
