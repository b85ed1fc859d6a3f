/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* nodes.c: CPU lists, the machine's nodes, and pinning. The map is made by the thread that starts a pool, before its
 * threads, each of which then pins itself. */
#include "numa/nodes.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool parse_cpu(const char **at, unsigned *ret)
{
	unsigned value = 0;

	if (!isdigit((unsigned char)**at))
		return false;
	for (; isdigit((unsigned char)**at); ++*at) {
		value = value * 10 + (unsigned)(**at - '0');
		if (value >= NODE_CPUS)
			return false;
	}
	*ret = value;
	return true;
}

int node_parse_cpus(const char *list, struct cpus *ret_cpus)
{
	struct cpus cpus = { 0 };
	unsigned first, last;

	for (const char *at = list;; at++) {
		if (!parse_cpu(&at, &first))
			return -EINVAL;
		last = first;
		if (*at == '-' && (at++, !parse_cpu(&at, &last) || last < first))
			return -EINVAL;
		for (unsigned i = first; i <= last; i++)
			cpus.bits[i / 64] |= 1ull << i % 64;
		if (!*at)
			break;
		if (*at != ',')
			return -EINVAL;
	}
	*ret_cpus = cpus;
	return 0;
}

/* Returns how many are left. */
static uint32_t intersect(struct cpus *cpus, const struct cpus *with)
{
	uint32_t n = 0;

	for (size_t i = 0; i < NODE_CPUS / 64; i++)
		n += (uint32_t)__builtin_popcountll(cpus->bits[i] &= with->bits[i]);
	return n;
}

/* What this thread may run on: threads it makes inherit it. */
static void read_affinity(struct cpus *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (sched_getaffinity(0, sizeof(*ret), (cpu_set_t *)ret))
		memset(ret, 0xff, sizeof(*ret));
}

int node_check_cpus(const char *list, char *error, size_t error_size)
{
	struct cpus cpus, mine;

	if (!*list)
		return 0;
	if (node_parse_cpus(list, &cpus)) {
		snprintf(error, error_size, "'%.40s' is not a list of CPUs; write 0-3,8", list);
		return -EINVAL;
	}
	read_affinity(&mine);
	if (!intersect(&cpus, &mine)) {
		snprintf(error, error_size, "this process may use none of the CPUs %.40s; see taskset -p %d", list,
			 (int)getpid());
		return -EINVAL;
	}
	return 0;
}

/* A line of a file in /sys. */
static bool read_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, line, size - 1);
	close(fd);
	if (n < 0)
		return false;
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	return true;
}

static void read_nodes(struct node_map *map, const char *sys)
{
	char path[256], line[4096];
	struct cpus online;

	snprintf(path, sizeof(path), "%s/has_cpu", sys);
	/* The kernel's lists of nodes and of CPUs look the same. */
	if (!read_line(path, line, sizeof(line)) || node_parse_cpus(line, &online))
		return;
	for (unsigned id = 0; id < NODE_CPUS && map->nodes < NODE_MAX; id++) {
		struct cpus *cpus = &map->node[map->nodes].cpus;
		uint32_t n;

		if (!(online.bits[id / 64] >> id % 64 & 1))
			continue;
		snprintf(path, sizeof(path), "%s/node%u/cpulist", sys, id);
		if (!read_line(path, line, sizeof(line)) || node_parse_cpus(line, cpus))
			continue;
		n = intersect(cpus, &map->allowed);
		if (!n)
			continue;
		map->node[map->nodes].id = (int32_t)id;
		map->node[map->nodes].n = n;
		map->nodes++;
	}
}

int node_map_init(struct node_map *map, bool numa, const char *cpus, const char *sys)
{
	struct cpus list;

	memset(map, 0, sizeof(*map));
	read_affinity(&map->allowed);
	if (cpus && *cpus) {
		if (node_parse_cpus(cpus, &list) || !intersect(&map->allowed, &list))
			return -EINVAL;
		map->listed = true;
	}
	if (numa)
		read_nodes(map, sys ? sys : "/sys/devices/system/node");
	return 0;
}

int node_choose(const struct node_map *map, uint32_t i, uint32_t n)
{
	uint64_t total = 0, before = 0;

	if (map->nodes < 2 || i >= n)
		return -1;
	for (uint32_t k = 0; k < map->nodes; k++)
		total += map->node[k].n;
	/* Thread i stands at (i + 1/2) / n of the CPUs lined up node by node. */
	for (uint32_t k = 0; k < map->nodes; k++) {
		before += map->node[k].n;
		if ((2 * (uint64_t)i + 1) * total < 2 * (uint64_t)n * before)
			return (int)k;
	}
	return (int)map->nodes - 1;
}

int32_t node_place(const struct node_map *map, uint32_t i, uint32_t n)
{
	int k = node_choose(map, i, n);
	const struct cpus *cpus = k < 0 ? &map->allowed : &map->node[k].cpus;

	if (k < 0 && !map->listed)
		return -1;
	if (sched_setaffinity(0, sizeof(*cpus), (const cpu_set_t *)cpus) || k < 0)
		return -1;
	return map->node[k].id;
}
