/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* door.c: connecting, accepting and closing; and the library's struct transport over all that. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/decide/message.h"
#include "streams/greeting.h"
#include "tests/sim/coverage.h"
#include "tests/sim/embedder.h"
#include "tests/sim/faults.h"
#include "tests/sim/fiber.h"
#include "tests/sim/guest.h"
#include "tests/sim/heap.h"
#include "tests/sim/heed.h"
#include "tests/sim/outcome.h"
#include "tests/sim/pipe.h"
#include "tests/sim/promises.h"
#include "tests/sim/system.h"
#include "tests/sim/world.h"
#include "tests/sim/yield.h"

enum { GREETING_BYTES = sizeof(struct greeting), WIRES_SPARE = 16 /* are not for strays */ };

static struct {
	struct door door; /* first */
	int fd;
	bool open;
} sim_door;
static struct {
	struct wire *wire;
	uint64_t ready_at;
} backlog[WIRES];
static uint32_t n_backlog;
static enum wire_harm greeting_harm[2]; /* [link] */

static uint32_t dialling; /* links */
static bool dials_lost;

bool wire_dialling(void)
{
	return dialling;
}

void wire_dials_gone(void)
{
	dialling = 0;
	dials_lost = false;
}

void wire_lose_dials(void)
{
	dials_lost = true;
}

void wire_harm_greeting(bool link, enum wire_harm harm)
{
	greeting_harm[link] = harm;
}

void wire_door_gone(void)
{
	sim_door.open = false;
	n_backlog = 0;
}

static void end_fin(struct end *e)
{
	struct pipe *p = pipe_out(e);

	if (p->reset_at == FIBER_FOREVER)
		pipe_push(e, NULL, 0, 0)->fin = true;
}

static void end_shutdown(struct conn *conn)
{
	struct end *e = (struct end *)conn;

	sim_yield();
	if (e->shut)
		return;
	e->shut = true;
	e->closed_at = sim_now;
	end_fin(e);
	end_tell(e);
}

static bool is_last_word(uint32_t type)
{
	return type == MESSAGE_REFUSE || type == MESSAGE_CANCEL || type == MESSAGE_NEVER || type == MESSAGE_DONE ||
	       type == MESSAGE_BYE;
}

/* What this side said last is on its way, to one who listens still: who has parted does not. */
static bool last_word_under_way(struct end *e)
{
	const struct wire *w = e->wire;
	const struct end *peer = &w->end[!e->side];
	bool parted = promises_was_written(w->migration, peer->side, MESSAGE_CANCEL) ||
		      promises_was_written(w->migration, peer->side, MESSAGE_REFUSE) ||
		      promises_was_written(w->migration, peer->side, MESSAGE_BYE);

	if (!w->link || parted || e->parted || peer->parted || !peer->fd || !wire_open_at(w, peer->side))
		return false;
	for (const struct seg *s = pipe_out(e)->first; s; s = s->next)
		if (is_last_word(s->frame))
			return true;
	return false;
}

static void end_close(struct conn *conn)
{
	struct end *e = (struct end *)conn;

	sim_yield();
	if (!e->open) {
		sim_violation("Law 8: a connection was closed twice");
		return;
	}
	if (e->under_way)
		sim_violation("Law 8: a connection is closed while a batch is on its way: the kernel reads it still");
	struct pipe *p = pipe_out(e);
	/* Bytes that nobody read make it a reset, which may overtake what was sent before. */
	bool resets = pipe_in(e)->first && !pipe_in(e)->first->fin && !p->silent && p->reset_at == FIBER_FOREVER;
	if (resets && last_word_under_way(e) && outcome_wires_sound())
		sim_violation("Law 9: the %s closes a link with bytes unread, and that destroys its last word on its way",
			      embedder_names[e->side]);
	if (resets)
		p->reset_at = sim_now + sim_below(2 * wire_habits_now.latency_ns + 1);
	else if (!e->shut)
		end_fin(e);
	e->open = false;
	e->closed_at = e->shut ? e->closed_at : sim_now;
	end_tell(&e->wire->end[!e->side]);
	system_fd_close(e->fd);
}

static int end_fd(const struct conn *conn)
{
	return ((const struct end *)conn)->fd;
}

static bool end_is_uring(const struct conn *conn)
{
	(void)conn;
	return false;
}

static const char *end_peer(const struct conn *conn)
{
	return ((const struct end *)conn)->side == SIM_SOURCE ? "destination" : "source";
}

short wire_poll(void *conn, short events, uint64_t *until)
{
	struct end *e = conn;
	short ready = 0;

	if (pipe_in(e)->reset_at <= sim_now)
		return POLLERR | POLLHUP;
	if (pipe_readable(pipe_in(e), until))
		ready |= POLLIN;
	if (pipe_has_room(pipe_out(e), until))
		ready |= POLLOUT;
	return ready & events;
}

short wire_poll_door(void *door, short events, uint64_t *until)
{
	(void)door;
	for (uint32_t i = 0; i < n_backlog; i++) {
		if (backlog[i].ready_at <= sim_now)
			return events & POLLIN;
		if (backlog[i].ready_at < *until)
			*until = backlog[i].ready_at;
	}
	return 0;
}

static int door_listen(const struct uri *uri, struct door **ret_door, struct uri *ret_uri)
{
	if (sim_door.open)
		return -EADDRINUSE;
	sim_door.door.transport = &sim_transport;
	sim_door.open = true;
	sim_door.fd = system_fd_door(&sim_door);
	*ret_door = &sim_door.door;
	*ret_uri = *uri;
	return 0;
}

static int door_fd(const struct door *door)
{
	(void)door;
	return sim_door.fd;
}

static int door_accept(struct door *door, struct conn **ret_conn)
{
	(void)door;
	sim_yield();
	for (uint32_t i = 0; i < n_backlog; i++) {
		if (backlog[i].ready_at > sim_now)
			continue;
		struct end *e = &backlog[i].wire->end[SIM_DESTINATION];
		backlog[i] = backlog[--n_backlog];
		e->fd = system_fd_conn(e);
		e->heard_at = e->accepted_at = sim_now;
		heed_let_in();
		*ret_conn = &e->conn;
		if (e->wire->stray)
			coverage_met(FAULT_STRAY, COVERAGE_BOTH);
		return 0;
	}
	return -EAGAIN;
}

static void door_close(struct door *door)
{
	(void)door;
	sim_door.open = false;
	system_fd_close(sim_door.fd);
}

static int refused(const struct dial *dial, int code, const char *why)
{
	if (dial->error)
		snprintf(dial->error, dial->error_size, "%s", why);
	return code;
}

static void push_greeting(struct end *e, const struct greeting *greeting)
{
	enum wire_harm harm = greeting_harm[e->wire->link] ? greeting_harm[e->wire->link] : faults_harm(e->wire);
	struct greeting g = *greeting;

	greeting_harm[e->wire->link] = HARM_NONE;
	if (harm)
		coverage_met_harm(e->wire, harm);
	if (harm)
		sim_trace("wire %u: its greeting is %s", e->wire->id, harm_names[harm]);
	if (harm == HARM_OLD) {
		g.epoch += g.epoch > 1 ? -1u : 1u;
		greeting_seal(&g);
	}
	uint32_t n = harm == HARM_CUT_WITHIN ? GREETING_BYTES / 2 : GREETING_BYTES;
	e->wrong |= harm != HARM_NONE;
	e->wire->greeting = g;
	e->wire->half_greeting = harm == HARM_CUT_WITHIN;
	struct seg *s = pipe_push(e, &g, n, n);
	/* A later link may well not know the newest epoch. */
	s->poison = harm == HARM_DAMAGE || (harm == HARM_OLD && (!e->wire->link || !greeting->epoch));
	if (harm == HARM_DAMAGE)
		harm_flip(s->data, n);
	else if (harm == HARM_DOUBLE)
		(void)pipe_push(e, &g, n, n);
	else if (harm == HARM_CUT_WITHIN)
		wire_cut(e->wire);
}

/* Has the destination a link that has begun to talk? */
static bool has_link(void)
{
	for (uint32_t i = 0; i < n_wires; i++)
		if (wires[i].link && wire_open_at(&wires[i], SIM_DESTINATION) && wires[i].end[SIM_DESTINATION].talked)
			return true;
	return false;
}

/* One of the greetings that have been read at the door, of a source that came late: it gave that connection up. */
static const struct greeting *old_greeting(void)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < n_wires; i++)
		n += wires[i].greeted;
	uint64_t k = sim_below(n);
	for (uint32_t i = 0; i < n_wires; i++)
		if (wires[i].greeted && !k--)
			return &wires[i].greeting;
	return NULL;
}

/* Right in all that a stranger can know, and in nothing that he cannot. */
static struct greeting strange_greeting(void)
{
	struct greeting g = { .kind = GREETING_BULK,
			      .stream = (uint32_t)sim_below(3),
			      .epoch = sim_one_in(4) ? (uint32_t)sim_below(3) : 1,
			      .dial = 3 + (uint32_t)sim_below(8) };

	if (!has_link() && sim_one_in(2)) { /* as any source begins, and then it says nothing */
		g = (struct greeting){ .kind = GREETING_LINK, .dial = 1 };
		greeting_seal(&g);
		return g;
	}
	if (sim_one_in(3) && (has_link() || sim_one_in(2))) {
		g.kind = GREETING_LINK;
		g.stream = 0;
	}
	for (int i = 0; i < WIRE_TOKEN && !sim_one_in(32); i++)
		g.token[i] = (uint8_t)sim_random();
	greeting_seal(&g);
	return g;
}

/* `old`: only says again, and late, what the source has said earlier. */
static struct wire *come(struct greeting g, bool old, uint64_t ready_at)
{
	if (!sim_door.open || n_wires + WIRES_SPARE >= WIRES)
		return NULL;
	struct wire *w = wire_new(g.kind == GREETING_LINK);
	w->stray = true;
	backlog[n_backlog].wire = w;
	backlog[n_backlog++].ready_at = ready_at;
	bool whole = old || g.dial == 1;
	uint32_t n = !whole && sim_one_in(4) ? (uint32_t)sim_below(GREETING_BYTES) + 1 : GREETING_BYTES;
	sim_trace("wire %u: a stranger comes: %s %u%s", w->id, w->link ? "link" : "stream", g.stream,
		  old ? ", with what the source said earlier" : "");
	(void)pipe_push(&w->end[SIM_SOURCE], &g, n, n);
	if (old)
		end_fin(&w->end[SIM_SOURCE]);
	w->end[SIM_SOURCE].open = false; /* nobody reads what it is told */
	fiber_wake_pollers(sim_door.fd);
	return w;
}

static int end_connect(const struct dial *dial, struct conn **ret_conn)
{
	bool link = dial->greeting->kind == GREETING_LINK;

	if (link)
		promises_dials(embedders[SIM_SOURCE].migration);
	wait_begin(dial->waiter, "the other side to accept the connection");
	dialling += link;
	dials_lost &= !link;
	fiber_sleep(wire_habits_now.latency_ns + sim_below(wire_habits_now.latency_ns + 1));
	while ((world_unreachable() || (link && dials_lost)) && sim_now < dial->deadline_ns &&
	       !atomic_load_explicit(dial->cancel, memory_order_relaxed))
		fiber_sleep(50 * SIM_MS);
	dialling -= link;
	wait_end(dial->waiter);
	if (atomic_load_explicit(dial->cancel, memory_order_relaxed))
		return refused(dial, -ECANCELED, "cancelled");
	if (sim_now >= dial->deadline_ns)
		return refused(dial, -ETIMEDOUT, "nobody answered in time");
	if (!sim_door.open && link)
		promises_nobody_there(embedders[SIM_SOURCE].migration);
	if (!sim_door.open)
		return refused(dial, -ECONNREFUSED, "nobody listens there");
	struct wire *w = wire_new(link);
	struct end *e = &w->end[SIM_SOURCE];
	w->migration = embedders[SIM_SOURCE].migration;
	e->fd = system_fd_conn(e);
	backlog[n_backlog].wire = w;
	backlog[n_backlog++].ready_at = sim_now + sim_below(2 * wire_habits_now.latency_ns + 1);
	fiber_wake_pollers(sim_door.fd);
	sim_trace("wire %u: source dials: %s %u", w->id, w->link ? "link" : "stream", dial->greeting->stream);
	push_greeting(e, dial->greeting);
	/* Connections that were given up may still come to be, after the one that took their place. */
	const struct greeting *old = link && dial->greeting->dial > 1 && sim_one_in(2) ? old_greeting() : NULL;
	if (old && old->dial > 1)
		(void)come(*old, true, sim_now + sim_below(8 * wire_habits_now.latency_ns));
	*ret_conn = &e->conn;
	return 0;
}

bool wire_listening(void)
{
	return sim_door.open;
}

void wires_empty_backlog(void)
{
	n_backlog = 0;
}

void wire_visit(uint32_t migration)
{
	struct greeting g = { .kind = GREETING_LINK, .dial = 1 };
	struct message *m = heap_alloc(SIM_WORLD, sizeof *m, true);
	unsigned char *bytes = heap_alloc(SIM_WORLD, MESSAGE_HEAD + MESSAGE_PAYLOAD, false);

	greeting_seal(&g);
	m->type = MESSAGE_HELLO;
	struct hello *h = &m->u.hello;
	*h = (struct hello){ .version_min = MESSAGE_VERSION,
			     .version_max = MESSAGE_VERSION,
			     .page_size = SLUICE_PAGE_SIZE,
			     .dead_peer_ms = (uint32_t)embedder_habits.dead_peer_ms[SIM_SOURCE],
			     .streams = 1,
			     .n_regions = guest.regions,
			     .cookie_length = EMBEDDER_COOKIE };
	memcpy(h->cookie, embedder_cookie, EMBEDDER_COOKIE);
	for (uint32_t i = 0; i < guest.regions; i++) {
		snprintf(h->regions[i].name, sizeof h->regions[i].name, "%s", guest.region[i].name);
		h->regions[i].size = (uint64_t)guest.region[i].pages * SLUICE_PAGE_SIZE;
		h->regions[i].host_page_size = SLUICE_PAGE_SIZE;
	}
	uint32_t n = (uint32_t)message_encode(m, 0, 0, bytes);
	struct wire *w = come(g, false, sim_now);
	if (w) {
		w->migration = migration;
		pipe_push(&w->end[SIM_SOURCE], bytes, n, n)->frame = MESSAGE_HELLO;
	}
	heap_free(m);
	heap_free(bytes);
}

bool wire_stray(void)
{
	const struct greeting *old = sim_one_in(3) && has_link() ? old_greeting() : NULL;
	struct greeting g = old ? *old : strange_greeting();

	struct wire *w = come(g, old, sim_now);
	if (w && g.dial == 1 && !old) /* its host is gone, and nobody says so */
		w->pipe[SIM_DESTINATION].silent = sim_one_in(2);
	return g.kind == GREETING_LINK && !has_link();
}

static bool is_local(const struct uri *uri)
{
	(void)uri;
	return true;
}

const struct transport sim_transport = {
	.scheme = "sim",
	.gate = GATE_AT_RECEIVER,
	.listen = door_listen,
	.door_fd = door_fd,
	.accept = door_accept,
	.door_close = door_close,
	.connect = end_connect,
	.fd = end_fd,
	.read = link_read,
	.write = link_write,
	.become_stream = stream_begin,
	.send_start = stream_send_start,
	.send_wait = stream_send_wait,
	.recv = stream_recv,
	.shutdown = end_shutdown,
	.close = end_close,
	.is_uring = end_is_uring,
	.peer = end_peer,
	.is_local = is_local,
};

const struct transport *transport_find(const struct uri *uri)
{
	(void)uri;
	return &sim_transport;
}
