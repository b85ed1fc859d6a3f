/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_offer.c: what source and destination refuse of each other, and that each refusal says what is wrong and what to do. */
#include <errno.h>

#include "core/decide/offer.h"
#include "tests/unit/harness.h"
#include "tests/unit/steps.h"

static struct hello hello;
static struct welcome welcome;
static char error[SLUICE_ERROR_MAX];
static bool lz4;

static void good_hello(void)
{
	memset(&hello, 0, sizeof hello);
	hello.version_min = hello.version_max = MESSAGE_VERSION;
	hello.page_size = SLUICE_PAGE_SIZE;
	hello.dead_peer_ms = 3000;
	hello.streams = 4;
	hello.n_regions = 1;
	strcpy(hello.regions[0].name, "ram");
	hello.regions[0].size = 1 << 20;
	hello.regions[0].host_page_size = 4096;
}

static void good_welcome(void)
{
	memset(&welcome, 0, sizeof welcome);
	welcome.version = MESSAGE_VERSION;
	welcome.dead_peer_ms = 3000;
	welcome.epoch = 1;
	welcome.streams = 4;
	welcome.n_regions = 1;
}

static void feature(struct message_feature *f, const char *name, bool required)
{
	memset(f, 0, sizeof *f);
	strcpy(f->name, name);
	f->required = required;
}

/* Refused with that code, in one line that has all those words, and tells what to do. */
static void refused(int rc, int code, const char *word, const char *other)
{
	CU_ASSERT_EQUAL(rc, code);
	CU_ASSERT(one_line(error));
	CU_ASSERT_PTR_NOT_NULL(strstr(error, word));
	CU_ASSERT_PTR_NOT_NULL(strstr(error, other));
	CU_ASSERT_PTR_NOT_NULL(strstr(error, ": "));
	if (rc != code || !strstr(error, word) || !strstr(error, other))
		printf("  %d: %s\n", rc, error);
	error[0] = 0;
}

static void good_ones_pass(void)
{
	good_hello();
	memset(&welcome, 0xff, sizeof welcome);
	CU_ASSERT_EQUAL(offer_check(&hello, &welcome, &lz4, error), 0);
	CU_ASSERT(!lz4);
	CU_ASSERT_EQUAL(welcome.version, MESSAGE_VERSION);
	CU_ASSERT_EQUAL(welcome.n_features, 0);
	good_welcome();
	CU_ASSERT_EQUAL(offer_check_answer(&hello, &welcome, &lz4, error), 0);
	hello.version_min = 0;
	hello.version_max = UINT16_MAX;
	hello.streams = SLUICE_MAX_STREAMS;
	hello.dead_peer_ms = MESSAGE_DEAD_PEER_MIN_MS;
	CU_ASSERT_EQUAL(offer_check(&hello, &welcome, &lz4, error), 0);
	hello.dead_peer_ms = MESSAGE_DEAD_PEER_MAX_MS;
	CU_ASSERT_EQUAL(offer_check(&hello, &welcome, &lz4, error), 0);
	welcome.streams = 1;
	CU_ASSERT_EQUAL(offer_check_answer(&hello, &welcome, &lz4, error), 0);
}

static void offers_refused(void)
{
	good_hello();
	hello.version_min = 2;
	hello.version_max = 7;
	refused(offer_check(&hello, &welcome, &lz4, error), -EPROTONOSUPPORT, "2 to 7", "only 1");
	good_hello();
	hello.version_min = hello.version_max = 0;
	refused(offer_check(&hello, &welcome, &lz4, error), -EPROTONOSUPPORT, "0 to 0", "same version");
	good_hello();
	hello.page_size = 65536;
	refused(offer_check(&hello, &welcome, &lz4, error), -EOPNOTSUPP, "65536", "4096");
	for (int i = 0; i < 2; i++) {
		good_hello();
		hello.streams = i ? SLUICE_MAX_STREAMS + 1 : 0;
		refused(offer_check(&hello, &welcome, &lz4, error), -EPROTO, i ? "65 streams" : "0 streams", "1 to 64");
		good_hello();
		hello.dead_peer_ms = i ? MESSAGE_DEAD_PEER_MAX_MS + 1 : MESSAGE_DEAD_PEER_MIN_MS - 1;
		refused(offer_check(&hello, &welcome, &lz4, error), -EPROTO, i ? "60001" : "499", "500 to 60000");
	}
	good_hello();
	hello.n_regions = 0;
	refused(offer_check(&hello, &welcome, &lz4, error), -EPROTO, "no memory", "add its regions");
}

static void features(void)
{
	good_hello();
	hello.n_features = 3;
	feature(&hello.features[0], "warp", false);
	feature(&hello.features[1], FEATURE_LZ4, true);
	feature(&hello.features[2], "lz4x", false);
	CU_ASSERT_EQUAL(offer_check(&hello, &welcome, &lz4, error), 0);
	CU_ASSERT(lz4);
	CU_ASSERT_EQUAL(welcome.n_features, 1); /* those that were not known are not answered */
	CU_ASSERT_STRING_EQUAL(welcome.features[0].name, FEATURE_LZ4);
	CU_ASSERT(!welcome.features[0].required);
	feature(&hello.features[0], "warp", true);
	refused(offer_check(&hello, &welcome, &lz4, error), -EOPNOTSUPP, "\"warp\"", "source");
	feature(&hello.features[0], "a-feature-with-a-very-long-name", true); /* 31 bytes: the longest */
	refused(offer_check(&hello, &welcome, &lz4, error), -EOPNOTSUPP, "a-feature-with-a-very-long-name", "same version");

	good_hello();
	good_welcome();
	hello.n_features = 1;
	feature(&hello.features[0], FEATURE_LZ4, false);
	CU_ASSERT_EQUAL(offer_check_answer(&hello, &welcome, &lz4, error), 0);
	CU_ASSERT(!lz4); /* offered and not taken */
	welcome.n_features = 2;
	feature(&welcome.features[0], FEATURE_LZ4, false);
	feature(&welcome.features[1], "warp", false);
	CU_ASSERT_EQUAL(offer_check_answer(&hello, &welcome, &lz4, error), 0);
	CU_ASSERT(lz4);
	feature(&welcome.features[1], "warp", true);
	refused(offer_check_answer(&hello, &welcome, &lz4, error), -EOPNOTSUPP, "\"warp\"", "destination");
	welcome.n_features = 1;
	hello.n_features = 0;
	CU_ASSERT_EQUAL(offer_check_answer(&hello, &welcome, &lz4, error), 0);
	CU_ASSERT(!lz4); /* taken though it was not offered */
}

static void regions_refused(void)
{
	struct message_region ours[2];
	char long_name[SLUICE_NAME_MAX];

	good_hello();
	memcpy(ours, hello.regions, sizeof ours);
	CU_ASSERT_EQUAL(offer_check_regions(&hello, ours, 1, error), 0);
	refused(offer_check_regions(&hello, ours, 2, error), -EINVAL, "1 memory regions", "destination 2");
	refused(offer_check_regions(&hello, ours, 0, error), -EINVAL, "1 memory regions", "destination 0");
	strcpy(ours[0].name, "rom");
	refused(offer_check_regions(&hello, ours, 1, error), -EINVAL, "\"ram\"", "\"rom\"");
	memset(long_name, 'x', sizeof long_name);
	long_name[sizeof long_name - 1] = 0;
	strcpy(ours[0].name, long_name);
	memcpy(hello.regions[0].name, long_name, sizeof long_name);
	hello.regions[0].name[0] = 'y';
	refused(offer_check_regions(&hello, ours, 1, error), -EINVAL, long_name, "configure both alike");
	good_hello();
	strcpy(ours[0].name, "ram");
	ours[0].size = UINT64_MAX;
	refused(offer_check_regions(&hello, ours, 1, error), -EINVAL, "1048576", "18446744073709551615");
	ours[0].size = hello.regions[0].size;
	ours[0].host_page_size = 1 << 30;
	refused(offer_check_regions(&hello, ours, 1, error), -EINVAL, "4096", "1073741824");
}

static void answers_refused(void)
{
	for (int i = 0; i < 8; i++) {
		good_hello();
		good_welcome();
		switch (i) {
		case 0: welcome.version = 2; break;
		case 1: welcome.streams = 0; break;
		case 2: welcome.streams = 5; break;
		case 3: welcome.n_regions = 2; break;
		case 4: welcome.epoch = 0; break;
		case 5: welcome.urgent = 1; break;
		case 6: welcome.dead_peer_ms = MESSAGE_DEAD_PEER_MIN_MS - 1; break;
		case 7: welcome.dead_peer_ms = MESSAGE_DEAD_PEER_MAX_MS + 1; break;
		}
		refused(offer_check_answer(&hello, &welcome, &lz4, error), -EPROTO, "destination", "same version");
	}
}

SUITE("offer", TEST(good_ones_pass), TEST(offers_refused), TEST(features), TEST(regions_refused), TEST(answers_refused))
