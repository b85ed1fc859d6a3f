/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_hist.c: quantiles against sorted samples, and many threads adding at once. */
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/hist.h"
#include "tests/unit/harness.h"

enum { SAMPLES = 20001, THREADS = 4, ADDS = 20000 };

static struct hist hist;
static uint64_t samples[SAMPLES];

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 20;
}

static void near(double got, double want)
{
	bool ok = fabs(got - want) <= 0.032 * want + 1e-9;

	CU_ASSERT(ok);
	if (!ok)
		printf("  %f instead of %f\n", got, want);
}

static void compare(size_t n, double unit)
{
	struct sluice_hist h;
	double sum = 0;

	memset(&hist, 0, sizeof hist);
	for (size_t i = 0; i < n; i++) {
		hist_add(&hist, samples[i]);
		sum += (double)samples[i];
	}
	hist_read(&hist, unit, &h);
	qsort(samples, n, sizeof *samples, by_value);
	CU_ASSERT_EQUAL(h.count, n);
	CU_ASSERT_EQUAL(h.min, (double)samples[0] / unit);
	CU_ASSERT_EQUAL(h.max, (double)samples[n - 1] / unit);
	near(h.mean, sum / (double)n / unit);
	near(h.p50, (double)samples[(size_t)(0.5 * (double)(n - 1))] / unit);
	near(h.p90, (double)samples[(size_t)(0.9 * (double)(n - 1))] / unit);
	near(h.p99, (double)samples[(size_t)(0.99 * (double)(n - 1))] / unit);
	near(h.p999, (double)samples[(size_t)(0.999 * (double)(n - 1))] / unit);
	CU_ASSERT(h.min <= h.p50 && h.p50 <= h.p90 && h.p90 <= h.p99 && h.p99 <= h.p999 && h.p999 <= h.max);
}

static void quantiles(void)
{
	uint64_t seed = 1;

	for (int bits = 1; bits < 44; bits += 3) { /* uniform, up to five hours */
		for (int i = 0; i < SAMPLES; i++)
			samples[i] = next(&seed) & ((1ull << bits) - 1);
		compare(SAMPLES, 1e3);
	}
	for (int i = 0; i < SAMPLES; i++) /* a long tail */
		samples[i] = 1000 + (next(&seed) & 1023) * (1ull << (next(&seed) % 24));
	compare(SAMPLES, 1e6);
	for (size_t n = 1; n < 40; n++) { /* few */
		for (size_t i = 0; i < n; i++)
			samples[i] = 63000 + i * 7;
		compare(n, 1e3);
	}
}

static void borders_of_buckets(void)
{
	for (int bit = 0; bit < 46; bit++)
		for (int off = -1; off <= 1; off++) {
			samples[0] = (1ull << bit) + (uint64_t)off;
			compare(1, 1);
		}
	/* Beyond its range it still counts, and its maximum is exact. */
	struct sluice_hist h;
	memset(&hist, 0, sizeof hist);
	hist_add(&hist, 1ull << 60);
	hist_add(&hist, 1);
	hist_read(&hist, 1, &h);
	CU_ASSERT_EQUAL(h.count, 2);
	CU_ASSERT_EQUAL(h.max, (double)(1ull << 60));
	CU_ASSERT_EQUAL(h.min, 1);
}

static void empty(void)
{
	struct sluice_hist h;

	memset(&hist, 0, sizeof hist);
	memset(&h, 0xff, sizeof h);
	hist_read(&hist, 1e3, &h);
	CU_ASSERT(h.count == 0 && h.min == 0 && h.mean == 0 && h.p50 == 0 && h.p999 == 0 && h.max == 0);
}

static void *adds(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;

	for (int i = 0; i < ADDS; i++)
		hist_add(&hist, 1 + (next(&seed) & 0xffff));
	return NULL;
}

static void many_threads(void)
{
	pthread_t threads[THREADS];
	struct sluice_hist h, last = { 0 };
	bool grows = true;

	memset(&hist, 0, sizeof hist);
	for (uintptr_t i = 0; i < THREADS; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, adds, (void *)(i + 1)), 0);
	for (int i = 0; i < 200; i++) { /* read meanwhile */
		hist_read(&hist, 1, &h);
		grows &= h.count >= last.count && h.max >= last.max && (!last.count || h.min <= last.min) && h.p50 <= h.max &&
			 h.p50 >= h.min;
		last = h;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT(grows);
	hist_read(&hist, 1, &h);
	CU_ASSERT_EQUAL(h.count, THREADS * ADDS);
	uint64_t all = 0;
	for (int i = 0; i < HIST_BUCKETS; i++)
		all += hist.buckets[i];
	CU_ASSERT_EQUAL(all, THREADS * ADDS);
	near(h.p50, 32768);
}

SUITE("hist", TEST(quantiles), TEST(borders_of_buckets), TEST(empty), TEST(many_threads))
