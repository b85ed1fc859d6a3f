/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* nodes.h: NUMA nodes and CPUs, and which thread runs where.
 *
 * Read from /sys rather than by libnuma: that keeps what it has read in globals without a lock, which sessions that
 * start at the same time would race for, and says on stderr what it does not find. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NODE_CPUS = 8192, /* the kernel's own limit */
	NODE_MAX = 64,
};

struct cpus {
	uint64_t bits[NODE_CPUS / 64];
};

/* Where threads may run, set once and then only read. */
struct node_map {
	struct cpus allowed; /* this process's mask, and the user's list */
	bool listed;         /* the user gave a list */
	uint32_t nodes;      /* with a CPU allowed; 0 or 1: nothing to choose from */
	struct {
		int32_t id;
		uint32_t n; /* CPUs allowed */
		struct cpus cpus;
	} node[NODE_MAX];
};

/* "0-3,8". -EINVAL: not such a list. Pure. */
int node_parse_cpus(const char *list, struct cpus *ret_cpus);
/* Is `list` good for this thread's affinity? "" is. -EINVAL: not a list, or none of it usable here; one line in
 * `error`. */
int node_check_cpus(const char *list, char *error, size_t error_size);

/* `numa`: place by node. `cpus`: the list, "" all. `sys`: where the nodes are, NULL: /sys/devices/system/node. A
 * machine that does not tell its nodes has one. Returns 0 or -EINVAL (node_check_cpus). */
int node_map_init(struct node_map *map, bool numa, const char *cpus, const char *sys);
/* Which node thread `i` of `n` belongs on, as an index into map->node: in proportion to their CPUs. -1: any. Pure. */
int node_choose(const struct node_map *map, uint32_t i, uint32_t n);
/* Pin the calling thread, the i-th of n. Returns the number of its node, or -1 where it was not placed by node. A
 * kernel that refuses costs speed, not the migration: no error. */
int32_t node_place(const struct node_map *map, uint32_t i, uint32_t n);
