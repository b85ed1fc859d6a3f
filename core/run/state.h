/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* state.h: device state on its way: sections cut into pieces that any sender may claim, and put together again. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/decide/message.h"
#include "streams/wire.h"

/* Source. Filled by the embedder between save and its done, then constant while senders claim. */
struct state_out {
	uint32_t n;
	struct message_section sections[SLUICE_MAX_SECTIONS];
	const unsigned char *data[SLUICE_MAX_SECTIONS];
	uint64_t bytes;        /* of all */
	uint64_t limit;        /* what the destination takes */
	_Atomic uint64_t next; /* section << 48 | offset of the next piece */
};

/* -EINVAL: no printable ASCII name, or taken; -ENOSPC. */
int state_out_add(struct state_out *state, const struct sluice_section *section);
void state_out_clear(struct state_out *state);
/* Before a last round. */
void state_out_rewind(struct state_out *state);
/* The next piece; false: all are claimed. Any sender. */
bool state_out_claim(struct state_out *state, struct state_piece *ret_piece, const void **ret_data);

/* Destination. */
struct state_in {
	pthread_mutex_t lock;
	uint64_t limit;
	/* under lock */
	uint32_t round; /* the try whose pieces are here */
	uint64_t allocated;
	struct {
		unsigned char *data;
		uint64_t total, landed;
		uint64_t *grid;
	} sections[SLUICE_MAX_SECTIONS];
	bool expected; /* `table` is there, of table_round */
	uint32_t table_round;
	uint32_t n;
	struct message_section table[SLUICE_MAX_SECTIONS];
	bool complete;
};

void state_in_init(struct state_in *state, uint64_t limit);
void state_in_fini(struct state_in *state);
/* Where a piece goes. -EINVAL: malformed, doubled, not as announced; -ENOSPC: more than granted; -ESTALE: of an
 * abandoned try, after pieces of a later one, which the round gate does not let happen. */
int state_in_place(struct state_in *state, uint32_t round, const struct state_piece *piece, void **ret_address);
/* It is there. True: it was the last one missing. */
bool state_in_placed(struct state_in *state, uint32_t round, const struct state_piece *piece);
/* The section table of `round`. Returns 1: complete already, 0: not yet, -EPROTO: contradicts the pieces, with one line in error. */
int state_in_expect(struct state_in *state, uint32_t round, uint32_t n, const struct message_section *table,
		    char error[SLUICE_ERROR_MAX]);
/* The sections, once complete; names and data stay valid until state_in_fini(). */
uint32_t state_in_sections(struct state_in *state, struct sluice_section ret[SLUICE_MAX_SECTIONS]);
