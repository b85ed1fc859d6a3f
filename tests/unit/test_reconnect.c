/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_reconnect.c: whole migrations within one process whose link is cut near the handoff: later links, operators, and listeners that
 * remember. Beside test_session.c, because nearly all of it is waiting. */
#include "tests/unit/pair.h"
#include "tests/unit/proxy.h"

static struct proxy proxy;

/* As pair_start() and start(), with the proxy between them. `remember_ms`: of both. */
static void pair_start_apart(struct pair *p, const struct proxy_cut *cuts, unsigned n, uint64_t remember_ms)
{
	pair_start(p);
	CU_ASSERT_FATAL(proxy_start(&proxy, sluice_listener_uri(p->listener), cuts, n));
	CU_ASSERT_EQUAL(sluice_set(p->destination.session, SLUICE_REMEMBER_MS, remember_ms), 0);
	CU_ASSERT_EQUAL(sluice_set(p->source.session, SLUICE_REMEMBER_MS, remember_ms), 0);
	CU_ASSERT_EQUAL(sluice_set(p->source.session, SLUICE_CONNECT_MS, 1000), 0);
	CU_ASSERT_EQUAL_FATAL(sluice_source_start(p->source.session, proxy.uri), 0);
}

static bool decided(const struct side *side)
{
	return side->last == SLUICE_COMPLETED || side->last == SLUICE_CANCELLED || side->last == SLUICE_FAILED;
}

static bool both_decided(const struct pair *p)
{
	return decided(&p->source) && decided(&p->destination);
}

static bool both_in_doubt(const struct pair *p)
{
	return p->source.last == SLUICE_IN_DOUBT && p->destination.last == SLUICE_IN_DOUBT;
}

static bool source_in_doubt_only(const struct pair *p)
{
	return p->source.last == SLUICE_IN_DOUBT && p->destination.last == SLUICE_COMPLETED;
}

static bool source_over(const struct pair *p)
{
	return p->source.ended;
}

static bool destination_over(const struct pair *p)
{
	return p->destination.ended;
}

static bool destination_failed(const struct pair *p)
{
	return p->destination.last == SLUICE_FAILED;
}

static bool source_failed(const struct pair *p)
{
	return p->source.last == SLUICE_FAILED;
}

static bool source_completed(const struct pair *p)
{
	return p->source.last == SLUICE_COMPLETED;
}

static void expect_no_error(const struct side *side)
{
	struct sluice_error error;

	sluice_get_error(side->session, &error);
	CU_ASSERT_EQUAL(error.code, 0);
	if (error.code)
		printf("  %s\n", error.text);
}

/* The link is cut once, before or after each of the last frames. No operator is needed: it ends by itself, with one guest, and
 * within the time that a decided session is remembered. EITHER: what the frame is answered with may be faster than the cut
 * after it. */
static void a_cut_link_heals(void)
{
	enum where { HERE, THERE, EITHER };
	static const struct {
		struct proxy_cut cut;
		enum where runs;
	} cases[] = {
		{ { MESSAGE_SWITCHOVER, true }, HERE }, { { MESSAGE_SWITCHOVER, false }, EITHER },
		{ { MESSAGE_READY, true }, HERE },      { { MESSAGE_READY, false }, EITHER },
		{ { MESSAGE_GO, true }, THERE },        { { MESSAGE_GO, false }, THERE },
		{ { MESSAGE_RUNNING, true }, THERE },   { { MESSAGE_RUNNING, false }, THERE },
		{ { MESSAGE_DONE, true }, THERE },      { { MESSAGE_DONE, false }, THERE },
		{ { MESSAGE_NEVER, true }, HERE },      { { MESSAGE_NEVER, false }, HERE },
		{ { MESSAGE_CANCEL, true }, HERE },     { { MESSAGE_CANCEL, false }, HERE },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pair p;

		pair_start_apart(&p, &cases[i].cut, 1, 1500);
		p.destination.errors[SLUICE_ACQUIRE] = cases[i].cut.at == MESSAGE_NEVER ? -EIO : 0;
		if (cases[i].cut.at == MESSAGE_CANCEL) {
			p.destination.lazy = true;
			CU_ASSERT_FATAL(loop(&p, loading));
			CU_ASSERT_EQUAL(sluice_cancel(p.source.session), 0);
			p.destination.lazy = false;
			for (int n = 0; n < PATIENCE_MS && !atomic_load(&proxy.cut); n++)
				loop_for(&p, 1);
			loop_for(&p, 50);
			sluice_done(p.destination.session, SLUICE_LOAD, 0); /* too late */
		}
		CU_ASSERT(loop(&p, both_decided));
		CU_ASSERT_EQUAL(atomic_load(&proxy.cut), 1); /* else nothing was tested */
		CU_ASSERT_EQUAL(p.source.running + p.destination.running, 1);
		if (cases[i].runs != EITHER)
			CU_ASSERT_EQUAL(p.destination.running, cases[i].runs == THERE);
		CU_ASSERT_EQUAL(p.source.last == SLUICE_COMPLETED, p.destination.running);
		CU_ASSERT_EQUAL(p.destination.last == SLUICE_COMPLETED, p.destination.running);
		if (cases[i].cut.at == MESSAGE_GO) {
			if (cases[i].cut.before) /* else RUNNING may have been faster */
				CU_ASSERT(p.source.doubts >= 1 && atomic_load(&proxy.links) >= 2);
			expect_no_error(&p.source); /* it has mended */
			expect_no_error(&p.destination);
			CU_ASSERT_EQUAL(memcmp(p.source.memory, p.destination.memory, BYTES), 0);
		}
		if (cases[i].cut.at == MESSAGE_CANCEL)
			CU_ASSERT_EQUAL(p.source.last, SLUICE_CANCELLED);
		/* Where the last word came through, both linger until one closes. Else closing only spares the wait. */
		if (p.source.last == SLUICE_COMPLETED || !cases[i].cut.before)
			sluice_close(p.source.session);
		if (!cases[i].cut.before)
			sluice_close(p.destination.session);
		CU_ASSERT(loop(&p, both_ended));
		if (!both_ended(&p) || (cases[i].runs != EITHER && p.destination.running != (cases[i].runs == THERE)))
			printf("  cut %s %s: %s, %s\n", cases[i].cut.before ? "before" : "after", message_name(cases[i].cut.at),
			       sluice_phase_name(p.source.last), sluice_phase_name(p.destination.last));
		proxy_stop(&proxy);
		pair_stop(&p);
	}
}

/* Cut again and again: every later link is one more try. */
static void cut_again_and_again(void)
{
	static const struct proxy_cut cuts[PROXY_CUTS] = {
		{ MESSAGE_GO, true }, { MESSAGE_READY, true }, { MESSAGE_GO, true }, { MESSAGE_RUNNING, true }
	};
	struct pair p;

	pair_start_apart(&p, cuts, PROXY_CUTS, 1500);
	CU_ASSERT(loop(&p, both_decided));
	CU_ASSERT(p.destination.running && !p.source.running);
	CU_ASSERT_EQUAL(p.destination.resumes, 1);
	CU_ASSERT_EQUAL(p.source.resumes, 0);
	CU_ASSERT_EQUAL(atomic_load(&proxy.cut), PROXY_CUTS);
	CU_ASSERT_EQUAL(p.source.doubts, PROXY_CUTS);
	CU_ASSERT(atomic_load(&proxy.links) >= 1 + PROXY_CUTS);
	expect_no_error(&p.source);
	sluice_close(p.source.session);
	CU_ASSERT(loop(&p, both_ended));
	proxy_stop(&proxy);
	pair_stop(&p);
}

/* All connections are up: from here on they are the last. */
static void nobody_comes_through_anew(struct pair *p)
{
	p->destination.lazy = true;
	CU_ASSERT_FATAL(loop(p, loading));
	atomic_store(&proxy.shut, true);
	sluice_done(p->destination.session, SLUICE_LOAD, 0);
}

/* No network any more: only operators end it, and sluice_close() what remains of it. */
static void operators_end_it(void)
{
	static const struct proxy_cut at_go = { MESSAGE_GO, true };

	for (int run_there = 0; run_there < 2; run_there++) {
		struct pair p;
		struct sluice_error error;

		pair_start_apart(&p, &at_go, 1, 3600000);
		nobody_comes_through_anew(&p);
		CU_ASSERT_FATAL(loop(&p, both_in_doubt));
		CU_ASSERT_EQUAL(sluice_cancel(p.source.session), -EBUSY);
		CU_ASSERT_EQUAL(sluice_cancel(p.destination.session), -EBUSY);
		CU_ASSERT_EQUAL(sluice_close(p.source.session), -EINVAL);
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), -EINVAL);
		sluice_get_error(p.source.session, &error);
		CU_ASSERT_EQUAL(error.code, -EINPROGRESS);
		CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "in doubt"));
		CU_ASSERT_EQUAL(sluice_resolve(p.destination.session, run_there), 0);
		CU_ASSERT(loop(&p, run_there ? source_in_doubt_only : destination_failed));
		CU_ASSERT_EQUAL(sluice_resolve(p.destination.session, 1), -EINVAL);
		CU_ASSERT(!p.destination.ended); /* the source may come back within an hour */
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0);
		CU_ASSERT(loop(&p, destination_over));
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0); /* said before */
		CU_ASSERT_EQUAL(sluice_resolve(p.source.session, !run_there), 0);
		CU_ASSERT(loop(&p, run_there ? source_over : source_failed));
		CU_ASSERT_EQUAL(p.source.last, run_there ? SLUICE_COMPLETED : SLUICE_FAILED);
		CU_ASSERT_EQUAL(p.source.running, !run_there);
		CU_ASSERT_EQUAL(p.destination.running, run_there);
		CU_ASSERT_EQUAL(sluice_resolve(p.source.session, 0), -EINVAL);
		CU_ASSERT_EQUAL(sluice_close(p.source.session), run_there ? -EINVAL : 0); /* over already: nothing to close */
		CU_ASSERT(loop(&p, both_ended));
		proxy_stop(&proxy);
		pair_stop(&p);
	}
}

/* The destination's session is over before the source asks: the listener's next session knows how it ended. Another listener there
 * does not, and its word decides nothing. */
static void asks_the_next_session(void)
{
	for (int never = 0; never < 2; never++) {
		struct pair p;
		struct sluice_listener *stranger;
		const struct proxy_cut at_last = { never ? MESSAGE_NEVER : MESSAGE_RUNNING, true };

		pair_start_apart(&p, &at_last, 1, 3600000);
		p.destination.errors[SLUICE_ACQUIRE] = never ? -EIO : 0;
		nobody_comes_through_anew(&p);
		CU_ASSERT_FATAL(loop(&p, never ? destination_failed : source_in_doubt_only));
		CU_ASSERT_EQUAL(sluice_close(p.destination.session), 0);
		CU_ASSERT(loop(&p, destination_over));
		CU_ASSERT_EQUAL(sluice_destroy(p.destination.session), 0);

		/* A stranger at that address. */
		CU_ASSERT_EQUAL_FATAL(sluice_listen("tcp:127.0.0.1:0", 0, &stranger, NULL), 0);
		struct side first = p.destination;
		side_init(&p.destination);
		CU_ASSERT_EQUAL_FATAL(sluice_destination_start(p.destination.session, stranger), 0);
		atomic_store(&proxy.target, proxy_port_of(sluice_listener_uri(stranger)));
		unsigned links = atomic_load(&proxy.links);
		atomic_store(&proxy.shut, false);
		for (int waited = 0; waited < PATIENCE_MS && atomic_load(&proxy.links) < links + 2; waited++)
			loop_for(&p, 1);
		CU_ASSERT(atomic_load(&proxy.links) >= links + 2); /* it was sent away, and asked again */
		CU_ASSERT_EQUAL(p.source.last, SLUICE_IN_DOUBT);
		CU_ASSERT_EQUAL(p.destination.last, SLUICE_INCOMING);
		CU_ASSERT_EQUAL(sluice_cancel(p.destination.session), 0);
		CU_ASSERT(loop(&p, destination_over));
		CU_ASSERT_EQUAL(sluice_destroy(p.destination.session), 0);
		sluice_listener_close(stranger);

		/* And the same listener again. */
		munmap(p.destination.memory, BYTES);
		side_init(&p.destination);
		CU_ASSERT_EQUAL_FATAL(sluice_destination_start(p.destination.session, p.listener), 0);
		atomic_store(&proxy.target, proxy_port_of(sluice_listener_uri(p.listener)));
		CU_ASSERT(loop(&p, never ? source_failed : source_completed));
		CU_ASSERT_EQUAL(p.source.running, never);
		CU_ASSERT_EQUAL(first.running, !never);
		CU_ASSERT(loop(&p, source_over)); /* nobody lingers after that */
		/* The new session is not disturbed by it. */
		CU_ASSERT_EQUAL(p.destination.last, SLUICE_INCOMING);
		CU_ASSERT_EQUAL(sluice_cancel(p.destination.session), 0);
		munmap(first.memory, BYTES);
		proxy_stop(&proxy);
		pair_stop(&p);
	}
}

SUITE("reconnect", TEST(a_cut_link_heals), TEST(cut_again_and_again), TEST(operators_end_it), TEST(asks_the_next_session))
