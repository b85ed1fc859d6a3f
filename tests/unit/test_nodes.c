/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_nodes.c: CPU lists, and placement on machines that we do not have: their /sys is made up in a temporary folder. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "numa/nodes.h"
#include "tests/unit/harness.h"

static void lists(void)
{
	static const char *const bad[] = {
		"", ",", "1,", ",1", "3-1", "1-", "-1", "a", "1 ", "1--2", "8192", "0-8192", "99999999999999999999", "1;2"
	};
	struct cpus cpus;

	CU_ASSERT_EQUAL(node_parse_cpus("0-3,8,70-71,8191", &cpus), 0);
	CU_ASSERT_EQUAL(cpus.bits[0], 0x10f);
	CU_ASSERT_EQUAL(cpus.bits[1], 3ull << 6);
	CU_ASSERT_EQUAL(cpus.bits[NODE_CPUS / 64 - 1], 1ull << 63);
	CU_ASSERT_EQUAL(node_parse_cpus("0-8191", &cpus), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (node_parse_cpus(bad[i], &cpus) != -EINVAL)
			CU_FAIL(bad[i]);
}

static void lists_are_checked_against_affinity(void)
{
	char error[120], list[16];
	cpu_set_t mine;
	unsigned first = 0;

	CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof(mine), &mine), 0);
	while (!CPU_ISSET(first, &mine))
		first++;
	snprintf(list, sizeof(list), "%u", first);
	CU_ASSERT_EQUAL(node_check_cpus("", error, sizeof(error)), 0);
	CU_ASSERT_EQUAL(node_check_cpus(list, error, sizeof(error)), 0);
	CU_ASSERT_EQUAL(node_check_cpus("x", error, sizeof(error)), -EINVAL);
	CU_ASSERT(strstr(error, "0-3,8") != NULL);
	CU_ASSERT_EQUAL(node_check_cpus("8190", error, sizeof(error)), -EINVAL);
	CU_ASSERT(strstr(error, "may use none") != NULL);
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fprintf(f, "%s\n", text);
	fclose(f);
}

static void this_machine(void)
{
	static struct node_map map;
	uint32_t cpus = 0;

	CU_ASSERT_EQUAL(node_map_init(&map, true, "", NULL), 0);
	CU_ASSERT(map.nodes >= 1);
	for (uint32_t i = 0; i < map.nodes; i++)
		cpus += map.node[i].n;
	CU_ASSERT(cpus >= 1);
	CU_ASSERT_EQUAL(node_map_init(&map, true, "", "/nowhere"), 0);
	CU_ASSERT_EQUAL(map.nodes, 0);
	CU_ASSERT_EQUAL(node_place(&map, 0, 4), -1);
	CU_ASSERT_EQUAL(node_map_init(&map, false, "8190", NULL), -EINVAL);
}

static void nodes_without_our_cpus_do_not_count(void)
{
	static struct node_map map;
	char dir[] = "/tmp/test_nodes.XXXXXX", sub[64];
	cpu_set_t before, now;
	char first[16];
	unsigned cpu = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof(before), &before), 0);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	snprintf(first, sizeof(first), "%u", cpu);
	put(dir, "has_cpu", "0,2-3");
	for (int i = 0; i < 4; i++) {
		snprintf(sub, sizeof(sub), "%s/node%d", dir, i);
		CU_ASSERT_EQUAL_FATAL(mkdir(sub, 0700), 0);
	}
	put(dir, "node0/cpulist", "4000-4003");
	put(dir, "node1/cpulist", first);
	put(dir, "node2/cpulist", first);
	put(dir, "node3/cpulist", "");
	CU_ASSERT_EQUAL(node_map_init(&map, true, first, dir), 0);
	CU_ASSERT_EQUAL(map.nodes, 1);
	CU_ASSERT_EQUAL(map.node[0].id, 2);
	/* One node: nothing to choose; the list pins all the same. */
	CU_ASSERT_EQUAL(node_place(&map, 0, 1), -1);
	CU_ASSERT_EQUAL(sched_getaffinity(0, sizeof(now), &now), 0);
	CU_ASSERT(CPU_COUNT(&now) == 1 && CPU_ISSET(cpu, &now));
	sched_setaffinity(0, sizeof(before), &before);
	snprintf(sub, sizeof(sub), "rm -r %s", dir);
	CU_ASSERT_EQUAL(system(sub), 0);
}

static void threads_go_where_the_cpus_are(void)
{
	static struct node_map map;
	uint32_t got[3] = { 0 };

	map.nodes = 3;
	map.node[0].n = 8;
	map.node[1].n = 16;
	map.node[2].n = 8;
	for (uint32_t i = 0; i < 8; i++) {
		int k = node_choose(&map, i, 8);

		CU_ASSERT_FATAL(k >= 0 && k < 3);
		got[k]++;
	}
	CU_ASSERT(got[0] == 2 && got[1] == 4 && got[2] == 2);
	/* One thread: the middle of the machine. Many threads: all nodes. */
	CU_ASSERT_EQUAL(node_choose(&map, 0, 1), 1);
	CU_ASSERT_EQUAL(node_choose(&map, 63, 64), 2);
	map.nodes = 1;
	CU_ASSERT_EQUAL(node_choose(&map, 0, 8), -1);
}

SUITE("nodes", TEST(lists), TEST(lists_are_checked_against_affinity), TEST(this_machine),
      TEST(nodes_without_our_cpus_do_not_count), TEST(threads_go_where_the_cpus_are))
