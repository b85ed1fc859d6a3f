/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* state.c: cutting device state into pieces of WIRE_BATCH_PAYLOAD, and a grid of what has landed. */
#include "core/run/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PIECE = WIRE_BATCH_PAYLOAD, SECTION_SHIFT = 48 };
#define OFFSET_MASK ((1ull << SECTION_SHIFT) - 1)

int state_out_add(struct state_out *state, const struct sluice_section *section)
{
	if (!section->name || !section->name[0] || strlen(section->name) >= SLUICE_NAME_MAX ||
	    (section->length && !section->data))
		return -EINVAL;
	for (const char *c = section->name; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
			return -EINVAL; /* the other side would not take it */
	for (uint32_t i = 0; i < state->n; i++)
		if (!strcmp(state->sections[i].name, section->name))
			return -EINVAL;
	if (state->n == SLUICE_MAX_SECTIONS || section->length > state->limit - state->bytes)
		return -ENOSPC;
	struct message_section *s = &state->sections[state->n];
	memset(s->name, 0, sizeof s->name);
	snprintf(s->name, sizeof s->name, "%s", section->name);
	s->version = section->version;
	s->length = section->length;
	state->data[state->n++] = section->data;
	state->bytes += section->length;
	return 0;
}

void state_out_clear(struct state_out *state)
{
	state->n = 0;
	state->bytes = 0;
	state_out_rewind(state);
}

void state_out_rewind(struct state_out *state)
{
	atomic_store_explicit(&state->next, 0, memory_order_relaxed); /* published by the opening of the round */
}

bool state_out_claim(struct state_out *state, struct state_piece *ret, const void **ret_data)
{
	uint64_t seen = atomic_load_explicit(&state->next, memory_order_relaxed), section, offset, length;
	do {
		section = seen >> SECTION_SHIFT;
		offset = seen & OFFSET_MASK;
		while (section < state->n && offset >= state->sections[section].length) {
			section++;
			offset = 0;
		}
		if (section >= state->n)
			return false;
		length = state->sections[section].length - offset;
		if (length > PIECE)
			length = PIECE;
	} while (!atomic_compare_exchange_weak_explicit(&state->next, &seen, section << SECTION_SHIFT | (offset + length),
							memory_order_relaxed, memory_order_relaxed));
	*ret = (struct state_piece){
		.offset = offset,
		.total = state->sections[section].length,
		.bytes = (uint32_t)length,
		.section = (uint16_t)section,
	};
	*ret_data = state->data[section] + offset;
	return true;
}

void state_in_init(struct state_in *state, uint64_t limit)
{
	memset(state, 0, sizeof *state);
	pthread_mutex_init(&state->lock, NULL);
	state->limit = limit;
}

/* The pieces, not what was announced. */
static void forget(struct state_in *state)
{
	for (uint32_t i = 0; i < SLUICE_MAX_SECTIONS; i++) {
		if (state->sections[i].data)
			munmap(state->sections[i].data, state->sections[i].total);
		free(state->sections[i].grid);
	}
	memset(state->sections, 0, sizeof state->sections);
	state->allocated = 0;
}

void state_in_fini(struct state_in *state)
{
	forget(state);
	pthread_mutex_destroy(&state->lock);
}

static bool on_grid(const struct state_piece *p)
{
	return p->section < SLUICE_MAX_SECTIONS && p->offset % PIECE == 0 && p->bytes && p->bytes <= PIECE &&
	       p->offset < p->total && p->bytes <= p->total - p->offset &&
	       (p->bytes == PIECE || p->offset + p->bytes == p->total);
}

/* Does it contradict what was announced? Nothing may come after that either: the embedder reads it by then. */
static bool unannounced(const struct state_in *state, uint32_t round, const struct state_piece *p)
{
	if (!state->expected || round < state->table_round)
		return false;
	return round > state->table_round || p->section >= state->n || p->total != state->table[p->section].length;
}

static int place(struct state_in *state, uint32_t round, const struct state_piece *p, void **ret)
{
	if (!on_grid(p) || unannounced(state, round, p))
		return -EINVAL;
	if (round < state->round)
		return -ESTALE;
	if (round > state->round) {
		/* The gate: every piece of earlier rounds is placed by now, so nobody writes there any more. */
		forget(state);
		state->round = round;
	}
	if (!state->sections[p->section].data) {
		if (p->total > state->limit - state->allocated)
			return -ENOSPC;
		uint64_t *grid = calloc(((p->total + PIECE - 1) / PIECE + 63) / 64, sizeof *grid);
		if (!grid)
			return -ENOMEM;
		/* Lazily backed: memory is used as bytes come, not as the peer announces them. */
		void *data = mmap(NULL, p->total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (data == MAP_FAILED) {
			free(grid);
			return -ENOMEM;
		}
		state->sections[p->section].data = data;
		state->sections[p->section].total = p->total;
		state->sections[p->section].grid = grid;
		state->allocated += p->total;
	}
	uint64_t at = p->offset / PIECE;
	if (p->total != state->sections[p->section].total || state->sections[p->section].grid[at / 64] >> (at % 64) & 1)
		return -EINVAL;
	state->sections[p->section].grid[at / 64] |= 1ull << (at % 64);
	*ret = state->sections[p->section].data + p->offset;
	return 0;
}

int state_in_place(struct state_in *state, uint32_t round, const struct state_piece *piece, void **ret_address)
{
	pthread_mutex_lock(&state->lock);
	int rc = place(state, round, piece, ret_address);
	pthread_mutex_unlock(&state->lock);
	return rc;
}

/* Under lock: has everything that the table names landed? True once only. */
static bool newly_complete(struct state_in *state)
{
	if (!state->expected || state->complete)
		return false;
	for (uint32_t i = 0; i < state->n; i++)
		if ((state->round == state->table_round ? state->sections[i].landed : 0) != state->table[i].length)
			return false;
	state->complete = true;
	return true;
}

bool state_in_placed(struct state_in *state, uint32_t round, const struct state_piece *piece)
{
	pthread_mutex_lock(&state->lock);
	bool complete = false;
	if (round == state->round) {
		state->sections[piece->section].landed += piece->bytes;
		complete = newly_complete(state);
	}
	pthread_mutex_unlock(&state->lock);
	return complete;
}

int state_in_expect(struct state_in *state, uint32_t round, uint32_t n, const struct message_section *table,
		    char error[SLUICE_ERROR_MAX])
{
	int rc = 0;
	pthread_mutex_lock(&state->lock);
	/* It may have overtaken pieces of an abandoned try, which are landing still: they stay until the first of this one comes. */
	if (round < state->round || state->complete) {
		snprintf(error, SLUICE_ERROR_MAX,
			 "device state of round %u was announced after pieces of round %u: use the same version on "
			 "both sides",
			 round, state->round);
		rc = -EPROTO;
	}
	uint64_t sum = 0;
	for (uint32_t i = 0; i < SLUICE_MAX_SECTIONS && !rc; i++) {
		uint64_t length = i < n ? table[i].length : 0;
		bool other = round == state->round && state->sections[i].data && state->sections[i].total != length;
		if (length > state->limit - sum || other) {
			snprintf(error, SLUICE_ERROR_MAX,
				 "device state section %u does not have the length that was announced: use the same version "
				 "on both sides",
				 i);
			rc = -EPROTO;
			break;
		}
		sum += length;
	}
	if (!rc) {
		state->n = n;
		state->table_round = round;
		memcpy(state->table, table, n * sizeof *table);
		state->expected = true;
		rc = newly_complete(state);
	}
	pthread_mutex_unlock(&state->lock);
	return rc;
}

uint32_t state_in_sections(struct state_in *state, struct sluice_section ret[SLUICE_MAX_SECTIONS])
{
	pthread_mutex_lock(&state->lock);
	uint32_t n = state->complete ? state->n : 0;
	for (uint32_t i = 0; i < n; i++)
		ret[i] = (struct sluice_section){
			.name = state->table[i].name,
			.version = state->table[i].version,
			.data = state->table[i].length ? state->sections[i].data : NULL,
			.length = state->table[i].length,
		};
	pthread_mutex_unlock(&state->lock);
	return n;
}
