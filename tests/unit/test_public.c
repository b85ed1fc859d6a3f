/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_public.c: what the public calls answer when they are misused, and the life of a session that never starts. */
#include <errno.h>
#include <poll.h>
#include <sluice.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/run/session.h"
#include "tests/unit/harness.h"

static void nothing(void *opaque)
{
	(void)opaque;
}

static const struct sluice_ops source_ops = { .size_of = sizeof(source_ops), .pause = nothing, .resume = nothing };

static void create_needs_its_callbacks(void)
{
	struct sluice *session = NULL;
	struct sluice_ops ops = source_ops;

	ops.resume = NULL;
	CU_ASSERT_EQUAL(sluice_create(&ops, NULL, &session), -EINVAL);
	ops = source_ops;
	ops.size_of = 3;
	CU_ASSERT_EQUAL(sluice_create(&ops, NULL, &session), -EINVAL);
	ops.size_of = SIZE_MAX;
	CU_ASSERT_EQUAL(sluice_create(&ops, NULL, &session), -EINVAL);
}

static void never_started_is_destroyed(void)
{
	struct sluice *session;

	CU_ASSERT_EQUAL_FATAL(sluice_create(&source_ops, NULL, &session), 0);
	struct pollfd event = { .fd = sluice_event_fd(session), .events = POLLIN };
	CU_ASSERT(event.fd >= 0);
	CU_ASSERT_EQUAL(poll(&event, 1, 0), 0);
	CU_ASSERT_EQUAL(sluice_dispatch(session), 0);
	CU_ASSERT_EQUAL(sluice_done(session, SLUICE_PAUSE, 0), -EINVAL);
	CU_ASSERT_EQUAL(sluice_resolve(session, 1), -EINVAL);
	CU_ASSERT_EQUAL(sluice_resolve(session, 0), -EINVAL);
	CU_ASSERT_EQUAL(sluice_close(session), -EINVAL);
	CU_ASSERT_EQUAL(sluice_cancel(session), -EINVAL);
	CU_ASSERT_EQUAL(sluice_send_message(session, "x", 1), -ENOTCONN);
	sluice_mark_dirty(session, 0, 0, 4096);
	sluice_discarded(session, 7, UINT64_MAX, UINT64_MAX);
	struct sluice_stats stats = { .size_of = sizeof(stats) };
	CU_ASSERT_EQUAL(sluice_get_stats(session, &stats), 0);
	CU_ASSERT_EQUAL(stats.phase, SLUICE_NONE);
	struct sluice_error error;
	sluice_get_error(session, &error);
	CU_ASSERT_EQUAL(error.code, 0);
	CU_ASSERT_EQUAL(sluice_destroy(session), 0);
}

/* What the deciding code orders today is one error at most until a doubt has ended; so the simulator cannot tell. */
static void the_first_error_is_kept_until_it_is_mended(void)
{
	struct action first = { .type = ACTION_ERROR, .code = -EIO, .phase = SLUICE_DEVICE, .stream = 3, .text = "the first" },
		      second = {
			      .type = ACTION_ERROR, .code = -EPIPE, .phase = SLUICE_ACTIVE, .stream = -1, .text = "the second"
		      };
	struct sluice *session;
	struct sluice_error error;

	CU_ASSERT_EQUAL_FATAL(sluice_create(&source_ops, NULL, &session), 0);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_STREAMS, 0), -EINVAL); /* before it begins: that is forgotten */
	session_error(session, &first);
	session_error(session, &second);
	sluice_get_error(session, &error);
	CU_ASSERT_EQUAL(error.code, -EIO);
	CU_ASSERT_EQUAL(error.phase, SLUICE_DEVICE);
	CU_ASSERT_EQUAL(error.stream, 3);
	CU_ASSERT_STRING_EQUAL(error.text, "the first");
	session_mended(session);
	sluice_get_error(session, &error);
	CU_ASSERT_EQUAL(error.code, 0);
	session_error(session, &second);
	sluice_get_error(session, &error);
	CU_ASSERT_STRING_EQUAL(error.text, "the second");
	CU_ASSERT_EQUAL(sluice_destroy(session), 0);
}

static void parameters_have_ranges(void)
{
	struct sluice *session;

	CU_ASSERT_EQUAL_FATAL(sluice_create(&source_ops, NULL, &session), 0);
	CU_ASSERT_EQUAL(sluice_get(session, SLUICE_STREAMS), 4);
	CU_ASSERT_EQUAL(sluice_get(session, SLUICE_DOWNTIME_LIMIT_MS), 300);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_STREAMS, 0), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_STREAMS, SLUICE_MAX_STREAMS + 1), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_STREAMS, SLUICE_MAX_STREAMS), 0);
	CU_ASSERT_EQUAL(sluice_get(session, SLUICE_STREAMS), SLUICE_MAX_STREAMS);
	struct sluice_error error;
	CU_ASSERT_EQUAL(sluice_get(session, SLUICE_REMEMBER_MS), 5000);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_REMEMBER_MS, 0), 0);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_REMEMBER_MS, 3600000), 0);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_REMEMBER_MS, 3600001), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_REMEMBER_MS, UINT64_MAX), -EINVAL);
	CU_ASSERT_EQUAL(sluice_get(session, SLUICE_REMEMBER_MS), 3600000);
	sluice_get_error(session, &error);
	CU_ASSERT(error.code == -EINVAL && strstr(error.text, "remember") && strstr(error.text, "3600000"));
	/* It is the last one. */
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_PARAMS, 1), -EINVAL);
	CU_ASSERT_EQUAL(sluice_get(session, SLUICE_PARAMS), 0);
	CU_ASSERT_EQUAL(sluice_set(session, (enum sluice_param)0, 1), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(session, (enum sluice_param)9999, 1), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_COMPRESS, 99), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set(session, SLUICE_TRACKER, 99), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set_cpus(session, "not a list"), -EINVAL);
	CU_ASSERT_EQUAL(sluice_set_cpus(session, NULL), 0);
	CU_ASSERT_EQUAL(sluice_set_cookie(session, "x", SLUICE_MESSAGE_MAX + 1), -EMSGSIZE);
	CU_ASSERT_EQUAL(sluice_destroy(session), 0);
}

static void regions_are_checked(void)
{
	struct sluice *session;
	char *memory = mmap(NULL, 8 * SLUICE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sluice_region good = {
		.size_of = sizeof(good), .name = "ram", .address = memory, .size = 4 * SLUICE_PAGE_SIZE, .node = -1, .fd = -1
	};
	uint32_t id;

	CU_ASSERT_EQUAL_FATAL(sluice_create(&source_ops, NULL, &session), 0);
	struct sluice_region bad = good;
	bad.address = memory + 1;
	CU_ASSERT_EQUAL(sluice_add_region(session, &bad, &id), -EINVAL);
	bad = good;
	bad.size = SLUICE_PAGE_SIZE + 1;
	CU_ASSERT_EQUAL(sluice_add_region(session, &bad, &id), -EINVAL);
	bad.size = 0;
	CU_ASSERT_EQUAL(sluice_add_region(session, &bad, &id), -EINVAL);
	bad = good;
	bad.name = NULL;
	CU_ASSERT_EQUAL(sluice_add_region(session, &bad, &id), -EINVAL);
	CU_ASSERT_EQUAL(sluice_add_region(session, &good, &id), 0);
	bad = good;
	bad.name = "overlaps";
	bad.address = memory + 2 * SLUICE_PAGE_SIZE;
	CU_ASSERT_EQUAL(sluice_add_region(session, &bad, &id), -EINVAL);
	bad = good; /* the name is taken */
	bad.address = memory + 4 * SLUICE_PAGE_SIZE;
	CU_ASSERT_EQUAL(sluice_add_region(session, &bad, &id), -EINVAL);
	CU_ASSERT_EQUAL(sluice_destroy(session), 0);
	munmap(memory, 8 * SLUICE_PAGE_SIZE);
}

static void start_needs_a_uri_and_a_region(void)
{
	struct sluice *session;

	CU_ASSERT_EQUAL_FATAL(sluice_create(&source_ops, NULL, &session), 0);
	CU_ASSERT_EQUAL(sluice_source_start(session, "unix:/nonexistent/socket"), -EINVAL);
	CU_ASSERT_EQUAL(sluice_source_start(session, "no such:thing:at:all"), -EINVAL);
	CU_ASSERT_EQUAL(sluice_destroy(session), 0);
}

static void plain_text_stays_on_this_host(void)
{
	struct sluice_listener *listener = NULL;
	char error[SLUICE_ERROR_MAX] = "";

	CU_ASSERT_EQUAL(sluice_listen("tcp:0.0.0.0:0", 0, &listener, error), -EPERM);
	CU_ASSERT(strlen(error) > 10 && !strchr(error, '\n'));
	CU_ASSERT_EQUAL_FATAL(sluice_listen("tcp:127.0.0.1:0", 0, &listener, error), 0);
	/* The port that the kernel chose is in the URI. */
	CU_ASSERT(!strncmp(sluice_listener_uri(listener), "tcp:127.0.0.1:", 14));
	CU_ASSERT(strcmp(sluice_listener_uri(listener), "tcp:127.0.0.1:0"));
	sluice_listener_close(listener);
}

static void all_phases_have_names(void)
{
	for (int phase = SLUICE_NONE; phase <= SLUICE_IN_DOUBT; phase++)
		CU_ASSERT(strlen(sluice_phase_name((enum sluice_phase)phase)) > 0);
	/* QMP's MigrationStatus, and what it does not have (docs/qmp.md). Scripts know them. */
	static const char *const names[] = {
		[SLUICE_NONE] = "none",           [SLUICE_INCOMING] = "incoming",   [SLUICE_SETUP] = "setup",
		[SLUICE_ACTIVE] = "active",       [SLUICE_DRAINING] = "draining",   [SLUICE_PRE_SWITCHOVER] = "pre-switchover",
		[SLUICE_DEVICE] = "device",       [SLUICE_COMPLETED] = "completed", [SLUICE_CANCELLING] = "cancelling",
		[SLUICE_CANCELLED] = "cancelled", [SLUICE_FAILED] = "failed",       [SLUICE_IN_DOUBT] = "in-doubt",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		CU_ASSERT_STRING_EQUAL(sluice_phase_name((enum sluice_phase)i), names[i]);
	CU_ASSERT_PTR_NOT_NULL(sluice_phase_name((enum sluice_phase)999));
}

SUITE("public", TEST(create_needs_its_callbacks), TEST(never_started_is_destroyed),
      TEST(the_first_error_is_kept_until_it_is_mended), TEST(parameters_have_ranges), TEST(regions_are_checked),
      TEST(start_needs_a_uri_and_a_region), TEST(plain_text_stays_on_this_host), TEST(all_phases_have_names))
