/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* heap.c: see heap.h. Powers of two, a free list each. */
#include "tests/sim/heap.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "tests/sim/asan.h"

enum { HEAD = 64, SMALLEST = 7, CLASSES = 32 }; /* HEAD keeps blocks on cache lines */
#define ARENA ((size_t)1 << 31)

void *__real_mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset);

struct block {
	struct block *next;
	size_t size;
	uint8_t class, side;
	bool taken;
};

static unsigned char *arena;
static size_t top;
static struct block *lists[CLASSES];
static uint64_t held[SIM_SIDES], peak[SIM_SIDES];

void heap_reset(void)
{
	if (!arena) {
		arena = __real_mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert(arena != MAP_FAILED);
	}
	asan_poison(arena, top);
	top = 0;
	memset(lists, 0, sizeof lists);
	memset(held, 0, sizeof held);
	memset(peak, 0, sizeof peak);
}

void *heap_alloc(enum sim_side side, size_t size, bool zeroed)
{
	uint8_t class = SMALLEST;

	while (((size_t)1 << class) < size + HEAD)
		class ++;
	struct block *b = lists[class];
	if (b) {
		lists[class] = b->next;
	} else {
		if (top + ((size_t)1 << class) > ARENA)
			return NULL;
		b = (struct block *)(void *)(arena + top);
		top += (size_t)1 << class;
	}
	asan_poison(b, (size_t)1 << class);
	asan_unpoison(b, HEAD + size);
	*b = (struct block){ .size = size, .class = class, .side = (uint8_t)side, .taken = true };
	held[side] += size;
	if (held[side] > peak[side])
		peak[side] = held[side];
	void *p = (unsigned char *)b + HEAD;
	return zeroed ? memset(p, 0, size) : p;
}

bool heap_free(void *p)
{
	if ((unsigned char *)p < arena || (unsigned char *)p >= arena + ARENA)
		return false;
	struct block *b = (struct block *)(void *)((unsigned char *)p - HEAD);
	if (!b->taken) {
		sim_violation("Law 8: memory freed twice");
		return true;
	}
	b->taken = false;
	held[b->side] -= b->size;
	b->next = lists[b->class];
	lists[b->class] = b;
	asan_poison(p, ((size_t)1 << b->class) - HEAD);
	return true;
}

void heap_side_gone(enum sim_side side)
{
	held[side] = 0;
}

uint64_t heap_held(enum sim_side side)
{
	return held[side];
}

uint64_t heap_peak(enum sim_side side)
{
	return peak[side];
}
