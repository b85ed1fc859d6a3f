/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* control.c: the control thread: takes what happened from the inbox, lets the deciding code say what to do, and does it.
 *
 * It never waits for the peer, the embedder or the pool: whatever takes time ends in another input. Its only joins are at the end,
 * when every thread it waits for has been told to leave. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/decide/offer.h"
#include "core/run/session.h"
#include "streams/thread.h"

enum { TICK_NS = 100 * 1000 * 1000 };

static void post(struct sluice *s, enum input_type type, int code, const char *text)
{
	struct input in = { .type = type, .now_ns = now_ns(), .code = code, .text = text, .stream = -1 };
	inbox_post(&s->inbox, &in);
}

/* ---------------------------------------------------------------- sending */

static void fill_hello(struct sluice *s)
{
	struct hello *h = s->hello;
	h->version_min = h->version_max = MESSAGE_VERSION;
	h->page_size = SLUICE_PAGE_SIZE;
	h->dead_peer_ms = (uint32_t)param(s, SLUICE_DEAD_PEER_MS);
	h->streams = (uint16_t)param(s, SLUICE_STREAMS);
	if (getrandom(&h->session_id, sizeof h->session_id, 0) < 0)
		h->session_id = now_ns();
	if (param(s, SLUICE_COMPRESS) != SLUICE_COMPRESS_NONE)
		h->features[h->n_features++] = (struct message_feature){ .name = FEATURE_LZ4 };
	h->n_regions = s->memory.n;
	for (uint32_t i = 0; i < s->memory.n; i++) {
		const struct region *r = &s->memory.regions[i];
		memcpy(h->regions[i].name, r->name, SLUICE_NAME_MAX);
		h->regions[i].size = r->size;
		h->regions[i].host_page_size = r->host_page_size;
	}
	h->cookie_length = (uint32_t)s->cookie_length;
	if (s->cookie_length)
		memcpy(h->cookie, s->cookie, s->cookie_length);
}

static void fill_switchover(struct sluice *s, struct message *m)
{
	m->u.switchover.round = s->decide.source.round;
	m->u.switchover.n = s->state_out.n;
	memcpy(m->u.switchover.sections, s->state_out.sections, s->state_out.n * sizeof *s->state_out.sections);
}

/* Of the link that the deciding code talks on. */
static uint32_t link_number(const struct sluice *s)
{
	return s->side == SIDE_SOURCE ? s->decide.source.dials : s->decide.destination.epoch;
}

static void send(struct sluice *s, const struct action *a)
{
	struct message *m = malloc(sizeof *m); /* 46 KiB: each type clears what it has of it */
	if (!m) {
		post(s, INPUT_LINK_LOST, -ENOMEM, "no memory for a frame of the link");
		return;
	}
	uint32_t attempt = s->side == SIDE_SOURCE ? s->decide.source.round : s->decide.destination.last_round;
	m->type = a->message_type;
	switch (m->type) {
	case MESSAGE_HELLO:
		fill_hello(s);
		m->u.hello = *s->hello;
		break;
	case MESSAGE_WELCOME: m->u.welcome = s->welcome; break;
	case MESSAGE_SWITCHOVER:
		memset(&m->u.switchover, 0, sizeof m->u.switchover);
		fill_switchover(s, m);
		break;
	case MESSAGE_REFUSE:
	case MESSAGE_NEVER:
	case MESSAGE_CANCEL:
		memset(&m->u.word, 0, sizeof m->u.word);
		m->u.word.attempt = attempt;
		m->u.word.code = a->code;
		snprintf(m->u.word.text, sizeof m->u.word.text, "%s", a->text);
		break;
	case MESSAGE_STREAMS_UP: m->u.streams_up.streams = s->welcome.streams; break;
	case MESSAGE_BYE: break;
	default:
		m->u.handoff.attempt = attempt;
		m->u.handoff.ns = m->type == MESSAGE_GO || m->type == MESSAGE_RUNNING ? sluice_stopped_ns(s) : now_ns();
		break;
	}
	int rc = link_send(s, m);
	free(m);
	if (rc && rc != -ENOTCONN) { /* a link that is down has said so already */
		post(s, INPUT_LINK_LOST, rc, "a frame could not be queued: free memory, and try again");
		link_drop(s, link_number(s));
	}
}

/* ---------------------------------------------------------------- source's actions */

static void start_pool(struct sluice *s)
{
	struct pool *pool;
	struct pool_config config = {
		.ops = &session_work,
		.core = s,
		.uri = s->uri,
		.streams = s->welcome.streams,
		.greeting = { .kind = GREETING_BULK, .epoch = s->welcome.epoch, .dial = 2 },
		.connect_ms = (uint32_t)param(s, SLUICE_CONNECT_MS),
		.compress = s->lz4 ? (enum compress)param(s, SLUICE_COMPRESS) : COMPRESS_NONE,
		.uring = param(s, SLUICE_IO_URING),
		.numa = param(s, SLUICE_NUMA),
		.cpus = s->cpus ? s->cpus : "",
		.bandwidth = &s->params[SLUICE_BANDWIDTH],
	};
	memcpy(config.greeting.token, s->welcome.stream_token, WIRE_TOKEN);
	for (uint32_t i = 0; i < SLUICE_MAX_STREAMS; i++)
		s->places[i].round = 1;
	int rc = pool_start(&config, &pool);
	if (rc)
		post(s, INPUT_STREAM_LOST, rc, "the sender threads could not be started: free memory or threads");
	else
		atomic_store_explicit(&s->pool, pool, memory_order_release);
}

static void arm(struct sluice *s)
{
	char text[SLUICE_ERROR_MAX] = "";
	struct tracker_config config = {
		.kind = (enum sluice_tracker)param(s, SLUICE_TRACKER),
		.memory = &s->memory,
		.dirty = &s->dirty,
		.discarded = &s->discarded,
		.written = &s->heat.written,
		.ops = &s->ops,
		.opaque = s->opaque,
		.kvm = s->kvm,
		.lock = biglock_take,
		.unlock = biglock_drop,
		.session = s,
	};
	atomic_store_explicit(&s->sync.arm_began_ns, now_ns(), memory_order_relaxed);
	int rc = bitmap_init(&s->dirty, s->memory.granules * GRANULE_WORDS);
	if (!rc)
		rc = bitmap_init(&s->discarded, s->memory.granules * GRANULE_WORDS);
	if (!rc)
		rc = heat_init(&s->heat, s->memory.granules);
	if (!rc)
		rc = tracker_create(&config, &s->sync.tracker, text);
	if (!rc) {
		/* Marks count from here on: before any page is read. */
		atomic_store_explicit(&s->tracking, true, memory_order_release);
		rc = sync_start(s);
	}
	if (rc)
		post(s, INPUT_ARMED, rc, text[0] ? text : "dirty tracking could not be prepared: free memory or threads");
	else
		sync_order(s, SYNC_ARM);
}

static void open_round(struct sluice *s, const struct action *a)
{
	atomic_store_explicit(&s->marks, 0, memory_order_relaxed);
	s->fetched = a->fetched;
	if (!a->fetched || a->last)
		atomic_store_explicit(&s->sync_ns, 0, memory_order_relaxed);
	if (a->last) {
		state_out_rewind(&s->state_out);
		/* Half of a fair share for each stream, the rest for whoever has time. Where there are fewer pages than streams, one each. */
		uint64_t pages = bitmap_count(&s->dirty), streams = s->welcome.streams, share = pages / (2 * streams);
		share = share || pages < streams ? share : 1;
		bool few = pages < streams;
		atomic_store_explicit(&s->last_few, few ? pages : 0, memory_order_relaxed);
		atomic_store_explicit(&s->last_share, share, memory_order_relaxed);
		atomic_store_explicit(&s->last_cursor, 0, memory_order_relaxed);
		atomic_store_explicit(&s->last_free, few ? 0 : pages - share * streams, memory_order_relaxed);
	}
	heat_open(&s->heat, a->put_off);
	atomic_store_explicit(&s->last_round, a->last, memory_order_relaxed); /* published by sweep_open */
	sweep_open(&s->sweep, a->round, a->fetched ? s->sweep.words : 0);
	if (!a->last)
		sync_order(s, a->fetched ? SYNC_WATCH : SYNC_AHEAD);
	bell_ring(&s->work);
}

static void cut_round(struct sluice *s)
{
	sweep_cut(&s->sweep);
	bell_ring(&s->work);
	sync_cursor(s, s->sweep.words);
}

static void sync_all(struct sluice *s)
{
	atomic_store_explicit(&s->sync_ns, 0, memory_order_relaxed);
	sync_order(s, SYNC_ALL);
}

static void untrack(struct sluice *s)
{
	atomic_store_explicit(&s->tracking, false, memory_order_release);
	sync_leave(s); /* not joined: KVM may take as long as its vCPUs let it to stop tracking */
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_relaxed);
	if (pool)
		pool_stop(pool);
	state_out_clear(&s->state_out);
}

/* ---------------------------------------------------------------- destination's actions */

static int start_receivers(struct sluice *s)
{
	struct receivers *receivers;
	struct receivers_config config = {
		.ops = &session_land,
		.core = s,
		.streams = s->welcome.streams,
		.epoch = s->welcome.epoch,
		.lz4 = s->lz4,
		.uring = param(s, SLUICE_IO_URING),
		.numa = param(s, SLUICE_NUMA),
		.cpus = s->cpus ? s->cpus : "",
	};
	int rc = landing_init(&s->landing, &s->memory);
	if (rc)
		return rc;
	rc = receivers_create(&config, &receivers);
	if (rc) {
		landing_fini(&s->landing);
		return rc;
	}
	atomic_store_explicit(&s->receivers, receivers, memory_order_release);
	memcpy(s->link.stream_token, s->welcome.stream_token, MESSAGE_TOKEN);
	atomic_store_explicit(&s->link.adopted, true, memory_order_release); /* the link thread may use welcome now */
	return 0;
}

static void load(struct sluice *s)
{
	struct sluice_section sections[SLUICE_MAX_SECTIONS];
	uint32_t n = state_in_sections(&s->state_in, sections);
	if (s->ops.load)
		outbox_request(&s->outbox, SLUICE_LOAD);
	else
		sluice_done(s, SLUICE_LOAD, n ? -EOPNOTSUPP : 0);
}

static void request(struct sluice *s, enum sluice_request what)
{
	bool given = (what != SLUICE_SAVE || s->ops.save) && (what != SLUICE_RELEASE || s->ops.release) &&
		     (what != SLUICE_ACQUIRE || s->ops.acquire);
	atomic_fetch_or_explicit(&s->asked, 1u << what, memory_order_acq_rel);
	if (what == SLUICE_SAVE)
		state_out_clear(&s->state_out);
	if (what == SLUICE_LOAD)
		load(s);
	else if (given)
		outbox_request(&s->outbox, what);
	else
		sluice_done(s, what, 0);
}

/* Of a call that waits to be made only the newest value counts. */
static void tell_newest(struct sluice *s, uint32_t call, _Atomic uint32_t *value, uint32_t newest)
{
	atomic_store_explicit(value, newest, memory_order_relaxed); /* published by `asked` */
	if (!(atomic_fetch_or_explicit(&s->asked, 1u << call, memory_order_acq_rel) & 1u << call))
		outbox_request(&s->outbox, call);
}

static void stop_streams(struct sluice *s)
{
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_relaxed);
	struct receivers *receivers = atomic_load_explicit(&s->receivers, memory_order_relaxed);
	atomic_store_explicit(&s->finished, true, memory_order_release);
	bell_ring(&s->work);
	if (pool)
		pool_cancel(pool);
	if (receivers)
		receivers_cancel(receivers);
}

/* ---------------------------------------------------------------- both */

static void start_link(struct sluice *s)
{
	int rc = link_start(s);
	if (rc)
		post(s, INPUT_LINK_LOST, rc, "the link thread could not be started: free memory or threads");
}

static void dial(struct sluice *s, uint32_t number)
{
	link_dial(s, number);
	if (number == 1)
		start_link(s);
}

static void admit(struct sluice *s, uint32_t number)
{
	int rc = link_admit(s, number);
	if (rc) {
		post(s, INPUT_LINK_LOST, rc, "the link's answer could not be queued: free memory");
		link_drop(s, number);
	}
}

static void carry_out(struct sluice *s, const struct action *a)
{
	switch (a->type) {
	case ACTION_PHASE:
		atomic_store_explicit(&s->phase, a->phase, memory_order_relaxed);
		outbox_phase(&s->outbox, a->phase);
		break;
	case ACTION_ERROR: session_error(s, a); break;
	case ACTION_MENDED: session_mended(s); break;
	case ACTION_DIAL: dial(s, a->link); break;
	case ACTION_ADMIT: admit(s, a->link); break;
	case ACTION_LINK_DROP: link_drop(s, a->link); break;
	case ACTION_DOOR_CLOSE: atomic_store_explicit(&s->link.accepting, false, memory_order_release); break;
	case ACTION_SEND: send(s, a); break;
	case ACTION_ADOPT:
		sweep_init(&s->sweep, s->memory.granules * GRANULE_WORDS); /* before there are senders to look at it */
		state_out_clear(&s->state_out);
		s->state_out.limit = s->welcome.max_state;
		for (uint32_t i = 0; i < s->memory.n; i++)
			s->memory.regions[i].fresh = s->welcome.fresh[i];
		break;
	case ACTION_STREAMS_START:
		if (s->side == SIDE_SOURCE)
			start_pool(s);
		break;
	case ACTION_STREAMS_STOP: stop_streams(s); break;
	case ACTION_ARM: arm(s); break;
	case ACTION_ROUND: open_round(s, a); break;
	case ACTION_ROUND_CUT: cut_round(s); break;
	case ACTION_SYNC: sync_all(s); break;
	case ACTION_ROUND_EVENT: outbox_round(&s->outbox, &a->round_info); break;
	case ACTION_WARN: outbox_text(&s->outbox, a->text); break;
	case ACTION_THROTTLE: tell_newest(s, CALL_THROTTLE, &s->throttle, a->percent); break;
	case ACTION_IO_DEPTH: tell_newest(s, CALL_IO_DEPTH, &s->io_depth, a->depth); break;
	case ACTION_DRAIN_TRY: outbox_request(&s->outbox, CALL_DRAIN_TRY); break;
	case ACTION_REQUEST: request(s, a->request); break;
	case ACTION_UNTRACK: untrack(s); break;
	case ACTION_LINK_CLOSE: link_close(s); break;
	case ACTION_END: break;
	}
}

/* An answer to our offer, an offer, a section table: is it acceptable? The verdict travels with the input. */
static void check_message(struct sluice *s, struct input *in, char text[SLUICE_ERROR_MAX])
{
	const struct message *m = in->message;
	if (s->side == SIDE_SOURCE && m->type == MESSAGE_WELCOME && s->decide.source.state == SOURCE_OFFERED) {
		s->welcome = m->u.welcome;
		in->code = offer_check_answer(s->hello, &s->welcome, &s->lz4, text);
	} else if (s->side == SIDE_SOURCE && m->type == MESSAGE_STREAMS_UP && m->u.streams_up.streams != s->welcome.streams) {
		snprintf(text, SLUICE_ERROR_MAX,
			 "the destination has %u streams instead of %u: use the same version on both sides",
			 m->u.streams_up.streams, s->welcome.streams);
		in->code = -EPROTO;
	} else if (s->side == SIDE_SOURCE && m->type == MESSAGE_ANSWER && s->decide.source.state == SOURCE_ASKING) {
		s->welcome.epoch = m->u.answer.epoch;
		memcpy(s->welcome.stream_token, m->u.answer.stream_token, MESSAGE_TOKEN);
	} else if (s->side == SIDE_SOURCE && m->type == MESSAGE_LANDED) {
		uint64_t bytes = 0;
		if (!s->welcome.epoch || m->u.landed.n != s->welcome.streams) {
			snprintf(text, SLUICE_ERROR_MAX,
				 "the destination reports on %u streams instead of %u: use the same version on both sides",
				 m->u.landed.n, s->welcome.streams);
			in->code = -EPROTO;
		}
		for (uint32_t i = 0; i < m->u.landed.n; i++)
			bytes += m->u.landed.streams[i].bytes;
		atomic_store_explicit(&s->landed_bytes, bytes, memory_order_relaxed);
	} else if (s->side == SIDE_DESTINATION && m->type == MESSAGE_HELLO) {
		if (s->decide.destination.state != DESTINATION_LISTENING)
			return;
		*s->hello = m->u.hello;
		in->code = offer_check(s->hello, &s->welcome, &s->lz4, text);
	} else if (s->side == SIDE_DESTINATION && m->type == MESSAGE_GO) {
		stopped_there(s, m->u.handoff.ns, in->now_ns);
	} else if (s->side == SIDE_DESTINATION && m->type == MESSAGE_SWITCHOVER &&
		   s->decide.destination.state == DESTINATION_ACTIVE) {
		stopped_there(s, 0, in->now_ns); /* at least so long, should an operator have to say GO */
		int rc = state_in_expect(&s->state_in, m->u.switchover.round, m->u.switchover.n, m->u.switchover.sections, text);
		struct receivers *receivers = atomic_load_explicit(&s->receivers, memory_order_relaxed);
		if (rc >= 0 && receivers_last(receivers, m->u.switchover.round)) {
			rc = -EBADMSG;
			snprintf(text, SLUICE_ERROR_MAX,
				 "the source sends pages after its last round: use the same version on both sides");
		}
		in->code = rc < 0 ? rc : 0;
		if (rc == 1) {
			struct input landed = { .type = INPUT_STATE_LANDED,
						.now_ns = in->now_ns,
						.round = m->u.switchover.round };
			inbox_post(&s->inbox, &landed);
		}
	}
	in->text = text;
}

/* What the embedder said with sluice_refuse_because(). */
static void take_refusal(struct sluice *s, struct input *in, char text[SLUICE_ERROR_MAX])
{
	pthread_mutex_lock(&s->look);
	snprintf(text, SLUICE_ERROR_MAX, "%s", s->refusal);
	pthread_mutex_unlock(&s->look);
	in->text = text;
}

/* The embedder has provided the guest: agree on the rest. */
static void check_incoming(struct sluice *s, struct input *in, char text[SLUICE_ERROR_MAX])
{
	atomic_store_explicit(&s->collecting, false, memory_order_release);
	take_refusal(s, in, text);
	if (in->code)
		return;
	struct message_region *ours = calloc(SLUICE_MAX_REGIONS, sizeof *ours);
	if (!ours) {
		in->code = -ENOMEM;
		return;
	}
	struct welcome *w = &s->welcome;
	for (uint32_t i = 0; i < s->memory.n; i++) {
		struct region *r = &s->memory.regions[i];
		memcpy(ours[i].name, r->name, SLUICE_NAME_MAX);
		ours[i].size = r->size;
		ours[i].host_page_size = r->host_page_size;
		r->fresh = !(r->flags & SLUICE_REGION_USED);
		w->fresh[i] = r->fresh;
	}
	in->code = offer_check_regions(s->hello, ours, s->memory.n, text);
	free(ours);
	if (in->code)
		return;
	w->n_regions = s->memory.n;
	w->epoch = 1;
	w->dead_peer_ms = (uint32_t)param(s, SLUICE_DEAD_PEER_MS);
	w->streams = s->hello->streams;
	w->max_state = param(s, SLUICE_MAX_STATE);
	in->value = w->streams;
	if (getrandom(w->link_token, MESSAGE_TOKEN, 0) != MESSAGE_TOKEN ||
	    getrandom(w->stream_token, MESSAGE_TOKEN, 0) != MESSAGE_TOKEN)
		in->code = -EIO;
	else
		in->code = start_receivers(s);
	if (in->code)
		snprintf(text, SLUICE_ERROR_MAX, "the destination could not prepare for the streams: %s", strerror(-in->code));
}

/* A peer that noticed nothing yet asks as late as its own idea of a dead peer allows. */
static uint64_t remember_ms(const struct sluice *s)
{
	uint64_t own = param(s, SLUICE_DEAD_PEER_MS), spare = param(s, SLUICE_REMEMBER_MS);
	uint64_t theirs = s->side == SIDE_SOURCE ? s->welcome.dead_peer_ms : s->hello->dead_peer_ms;
	return spare ? spare + (own > theirs ? own : theirs) : 0;
}

static void complete(struct sluice *s, struct input *in, char text[SLUICE_ERROR_MAX])
{
	in->params = (struct params){
		.downtime_limit_ms = param(s, SLUICE_DOWNTIME_LIMIT_MS),
		.timeout_ms = param(s, SLUICE_TIMEOUT_MS),
		.callback_ms = param(s, SLUICE_CALLBACK_MS),
		.connect_ms = param(s, SLUICE_CONNECT_MS),
		.remember_ms = remember_ms(s),
		.switchover_bytes_per_s = param(s, SLUICE_SWITCHOVER_BANDWIDTH),
		.throttle_max = s->ops.throttle ? (uint32_t)param(s, SLUICE_THROTTLE_MAX) : 0,
		.hold = param(s, SLUICE_HOLD),
		.drain = {
			.given = s->ops.drain_try,
			.depth = (uint32_t)param(s, SLUICE_DRAIN_DEPTH),
			.window_ms = param(s, SLUICE_DRAIN_WINDOW_MS),
			.share = (uint32_t)param(s, SLUICE_DRAIN_SHARE),
			.tries = (uint32_t)param(s, SLUICE_DRAIN_TRIES),
			.limit_ms = param(s, SLUICE_DRAIN_LIMIT_MS),
			.fails = param(s, SLUICE_DRAIN_FAIL) == SLUICE_DRAIN_FAILS,
		},
	};
	/* Each is told of once: by a count, or by the end of a round that fetched for itself. */
	if (in->type == INPUT_SYNCED || (in->type == INPUT_ROUND_SENT && !s->fetched))
		in->found = atomic_exchange_explicit(&s->found, 0, memory_order_relaxed);
	in->sync_ns = atomic_load_explicit(&s->sync_ns, memory_order_relaxed);
	in->round_trip_ns = atomic_load_explicit(&s->stopped.round_trip_ns, memory_order_relaxed);
	in->put_off = heat_put_off(&s->heat);
	in->moved_bytes = stats_moved(s);
	if (s->side == SIDE_SOURCE)
		stats_pages(s, &in->pages, &in->nonzero_pages);
	if ((in->type == INPUT_ROUND_SENT || in->type == INPUT_SYNCED) && s->decide.source.state == SOURCE_LAST_ROUND)
		in->remaining = bitmap_count(&s->dirty);
	if (in->type == INPUT_MESSAGE)
		check_message(s, in, text);
	else if (in->type == INPUT_DONE && in->request == SLUICE_INCOMING_GUEST)
		check_incoming(s, in, text);
	else if (in->type == INPUT_DONE && in->code && s->side == SIDE_DESTINATION)
		take_refusal(s, in, text);
	else if (in->type == INPUT_DONE && in->request == SLUICE_SAVE)
		in->state_bytes = s->state_out.bytes;
	else if (in->type == INPUT_RESOLVE || in->type == INPUT_CONTINUE) /* it may come to nothing, and be said again */
		atomic_fetch_and_explicit(&s->told, ~(uint32_t)(in->type == INPUT_RESOLVE ? TOLD_RESOLVE : TOLD_CONTINUE),
					  memory_order_acq_rel);
}

/* Returns whether the session goes on. */
static bool step(struct sluice *s, struct input *in)
{
	char text[SLUICE_ERROR_MAX] = "";
	struct actions actions; /* not cleared as a whole, a step mostly has few: actions_add() clears what it gives */
	uint64_t began = now_ns();
	actions.n = 0;
	complete(s, in, text);
	if (s->side == SIDE_SOURCE)
		source_step(&s->decide.source, in, &actions);
	else
		destination_step(&s->decide.destination, in, &actions);
	stats_renew(s); /* first: who is told of a phase finds its figures */
	for (uint32_t i = 0; i < actions.n; i++)
		carry_out(s, &actions.list[i]);
	bool cancellable =
		s->side == SIDE_SOURCE ? source_cancellable(&s->decide.source) : destination_cancellable(&s->decide.destination);
	atomic_store_explicit(&s->cancellable, cancellable, memory_order_release);
	hist_add(&s->steps, now_ns() - began);
	return !actions.n || actions.list[actions.n - 1].type != ACTION_END;
}

static const struct deadline *deadline(const struct sluice *s)
{
	return s->side == SIDE_SOURCE ? &s->decide.source.deadline : &s->decide.destination.deadline;
}

static uint64_t wake_ns(const struct sluice *s)
{
	return s->side == SIDE_SOURCE ? source_wake_ns(&s->decide.source) : deadline(s)->at_ns;
}

static void *body(void *arg)
{
	struct sluice *s = arg;
	struct letter *letter = &s->letter;
	bool on = true;
	uint64_t ticked = now_ns();
	post(s, INPUT_START, 0, NULL);
	if (s->side == SIDE_DESTINATION)
		start_link(s);
	while (on) {
		uint64_t until = ticked + TICK_NS, due = wake_ns(s);
		until = due < until ? due : until;
		/* However much else happens, time is looked at. */
		if (now_ns() >= until || !inbox_take(&s->inbox, letter, until, &s->control_waiter, deadline(s)->what)) {
			letter->input = (struct input){ .type = INPUT_TICK, .stream = -1 };
			ticked = now_ns();
		}
		letter->input.now_ns = now_ns();
		const struct message *message = letter->input.message;
		on = step(s, &letter->input);
		free((void *)message);
	}
	link_stop(s);
	struct receivers *receivers = atomic_load_explicit(&s->receivers, memory_order_relaxed);
	if (receivers)
		receivers_stop(receivers);
	wait_begin(&s->control_waiter, "sync to stop the dirty tracker");
	sync_stop(s);
	wait_end(&s->control_waiter);
	stats_renew(s);
	if (s->listener && s->welcome.epoch) {
		const struct destination *d = &s->decide.destination;
		struct tombstone t = { .epoch = d->epoch, .dial = s->link.dial, .attempt = d->last_round, .ran = d->running_ns };
		memcpy(t.token, s->welcome.link_token, sizeof t.token);
		tombstones_add(&s->listener->tombstones, &t);
	}
	if (s->listener)
		atomic_store_explicit(&s->listener->taken, false, memory_order_release);
	atomic_store_explicit(&s->ended, true, memory_order_release);
	wait_over(&s->control_waiter);
	outbox_ended(&s->outbox);
	return NULL;
}

int control_start(struct sluice *s)
{
	snprintf(s->control_waiter.thread, sizeof s->control_waiter.thread, "control");
	snprintf(s->sync.waiter.thread, sizeof s->sync.waiter.thread, "sync");
	if (s->side == SIDE_SOURCE)
		source_init(&s->decide.source);
	else
		destination_init(&s->decide.destination);
	return thread_start(&s->control, "sluice-control", body, s);
}
