/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* session.c: the public calls: all of them only note something and return. */
#include "core/run/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "numa/nodes.h"

/* Slower than this a batch takes longer than what counts as no progress at all. */
enum { BANDWIDTH_LEAST = 64 << 10 };

static const struct {
	uint64_t least, most, standard;
	bool setup;
	const char *name;
} limits[SLUICE_PARAMS] = {
	[SLUICE_STREAMS] = { 1, SLUICE_MAX_STREAMS, 4, true, "streams" },
	[SLUICE_BANDWIDTH] = { 0, 1ull << 50, 0, false, "bandwidth (bytes/s)" },
	[SLUICE_DOWNTIME_LIMIT_MS] = { 1, 3600000, 300, false, "downtime limit (ms)" },
	[SLUICE_TIMEOUT_MS] = { 0, 1ull << 40, 0, false, "timeout (ms)" },
	[SLUICE_COMPRESS] = { SLUICE_COMPRESS_NONE, SLUICE_COMPRESS_AUTO, SLUICE_COMPRESS_AUTO, true, "compress" },
	[SLUICE_TRACKER] = { SLUICE_TRACKER_AUTO, SLUICE_TRACKER_KVM_RING, SLUICE_TRACKER_AUTO, true, "tracker" },
	[SLUICE_DEAD_PEER_MS] = { MESSAGE_DEAD_PEER_MIN_MS, MESSAGE_DEAD_PEER_MAX_MS, 3000, true, "dead peer (ms)" },
	[SLUICE_CALLBACK_MS] = { 100, 3600000, 60000, false, "callback (ms)" },
	[SLUICE_CONNECT_MS] = { 10, 600000, 5000, true, "connect (ms)" },
	[SLUICE_IO_URING] = { 0, 1, 1, true, "io_uring" },
	[SLUICE_NUMA] = { 0, 1, 1, true, "numa" },
	[SLUICE_ALLOW_PLAIN] = { 0, 1, 0, true, "allow plain" },
	[SLUICE_THROTTLE_MAX] = { 0, 99, 0, false, "throttle (percent)" },
	[SLUICE_HOLD] = { 0, 1, 0, false, "hold" },
	[SLUICE_REMEMBER_MS] = { 0, 3600000, 5000, false, "remember (ms)" },
	[SLUICE_SWITCHOVER_BANDWIDTH] = { 0, 1ull << 50, 0, false, "switchover bandwidth (bytes/s)" },
	[SLUICE_DRAIN_DEPTH] = { 1, 1u << 20, 1, false, "drain depth (requests)" },
	[SLUICE_DRAIN_WINDOW_MS] = { 1, 30000, 500, false, "drain window (ms)" },
	[SLUICE_DRAIN_SHARE] = { 1, 100, 5, false, "drain share (percent)" },
	[SLUICE_DRAIN_TRIES] = { 0, 1u << 30, 10, false, "drain tries" },
	[SLUICE_DRAIN_LIMIT_MS] = { 0, 1ull << 40, 0, false, "drain limit (ms)" },
	[SLUICE_DRAIN_FAIL] = { SLUICE_DRAIN_RETRY, SLUICE_DRAIN_FAILS, SLUICE_DRAIN_RETRY, false, "drain policy" },
	[SLUICE_MAX_STATE] = { 0, 1ull << 40, 1ull << 30, true, "device state (bytes)" },
};

/* An error of a call before start: it may be replaced by a later one, and by the session's own. */
static __attribute__((format(printf, 3, 4))) int refuse(struct sluice *s, int code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	pthread_mutex_lock(&s->look);
	if (!s->error_final && !atomic_load_explicit(&s->started, memory_order_acquire)) {
		s->error = (struct sluice_error){ .code = code, .stream = -1, .phase = SLUICE_NONE };
		vsnprintf(s->error.text, sizeof s->error.text, format, args);
	}
	pthread_mutex_unlock(&s->look);
	va_end(args);
	return code;
}

void session_error(struct sluice *s, const struct action *error)
{
	pthread_mutex_lock(&s->look);
	if (!s->error_final) {
		s->error_final = true;
		s->error = (struct sluice_error){
			.code = error->code, .phase = error->phase, .stream = error->stream, .theirs = error->theirs
		};
		snprintf(s->error.text, sizeof s->error.text, "%s", error->text);
		snprintf(s->error.cause, sizeof s->error.cause, "%s", error->cause);
		/* The other side's words were cut to length, perhaps within a character: what is left must not break a JSON. */
		for (char *c = s->error.text; *c; c++)
			*c = (unsigned char)*c < 0x80 ? *c : '?';
	}
	pthread_mutex_unlock(&s->look);
}

void session_mended(struct sluice *s)
{
	pthread_mutex_lock(&s->look);
	s->error_final = false;
	s->error = (struct sluice_error){ 0 };
	pthread_mutex_unlock(&s->look);
}

int sluice_create(const struct sluice_ops *ops, void *opaque, struct sluice **ret)
{
	if (!ops || !ret || ops->size_of != sizeof *ops || !ops->resume || !ops->lock != !ops->unlock ||
	    !ops->io_depth != !ops->drain_try)
		return -EINVAL;
	if (sysconf(_SC_PAGESIZE) != SLUICE_PAGE_SIZE)
		return -ENOTSUP;
	struct sluice *s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof *s);
	s->ops = *ops;
	s->opaque = opaque;
	s->hello = calloc(1, sizeof *s->hello);
	int rc = s->hello ? outbox_init(&s->outbox) : -ENOMEM;
	if (rc)
		goto no_outbox;
	rc = link_init(&s->link);
	if (rc)
		goto no_link;
	inbox_init(&s->inbox);
	pthread_mutex_init(&s->look, NULL);
	for (uint32_t p = 1; p < SLUICE_PARAMS; p++)
		atomic_init(&s->params[p], limits[p].standard);
	state_in_init(&s->state_in, limits[SLUICE_MAX_STATE].standard);
	atomic_init(&s->collecting, true);
	*ret = s;
	return 0;
no_link:
	outbox_fini(&s->outbox);
no_outbox:
	free(s->hello);
	free(s);
	return rc;
}

int sluice_destroy(struct sluice *s)
{
	if (!s)
		return 0;
	if (atomic_load_explicit(&s->started, memory_order_acquire)) {
		if (!atomic_load_explicit(&s->ended, memory_order_acquire))
			return -EBUSY;
		pthread_join(s->control, NULL); /* it has nothing left to do but to return */
	}
	if (s->pool)
		pool_destroy(s->pool);
	if (s->receivers) {
		receivers_destroy(s->receivers);
		landing_fini(&s->landing);
	}
	kvm_destroy(s->kvm);
	bitmap_fini(&s->dirty);
	bitmap_fini(&s->discarded);
	heat_fini(&s->heat);
	state_in_fini(&s->state_in);
	pthread_mutex_destroy(&s->look);
	inbox_fini(&s->inbox);
	link_fini(&s->link);
	outbox_fini(&s->outbox);
	free(s->hello);
	free(s->cookie);
	free(s->cpus);
	free(s);
	return 0;
}

int sluice_set(struct sluice *s, enum sluice_param p, uint64_t value)
{
	if ((uint32_t)p >= SLUICE_PARAMS || !limits[p].name)
		return -EINVAL;
	if ((p == SLUICE_BANDWIDTH || p == SLUICE_SWITCHOVER_BANDWIDTH) && value && value < BANDWIDTH_LEAST)
		return refuse(s, -EINVAL, "bandwidth: %llu bytes/s is out of range, 0 (unlimited) or at least %d are possible",
			      (unsigned long long)value, BANDWIDTH_LEAST);
	if (value < limits[p].least || value > limits[p].most)
		return refuse(s, -EINVAL, "%s: %llu is out of range, %llu to %llu are possible", limits[p].name,
			      (unsigned long long)value, (unsigned long long)limits[p].least, (unsigned long long)limits[p].most);
	if (limits[p].setup && atomic_load_explicit(&s->started, memory_order_acquire))
		return -EBUSY;
	atomic_store_explicit(&s->params[p], value, memory_order_relaxed);
	return 0;
}

uint64_t sluice_get(struct sluice *s, enum sluice_param p)
{
	return (uint32_t)p < SLUICE_PARAMS ? param(s, p) : 0;
}

int sluice_tracker_works(enum sluice_tracker tracker)
{
	if (tracker == SLUICE_TRACKER_KVM_LOG || tracker == SLUICE_TRACKER_KVM_RING)
		return kvm_works(tracker == SLUICE_TRACKER_KVM_RING);
	return tracker == SLUICE_TRACKER_AUTO || tracker == SLUICE_TRACKER_PAGEMAP ? tracker_pagemap_works() : 0;
}

int sluice_set_cpus(struct sluice *s, const char *list)
{
	char text[SLUICE_ERROR_MAX];
	if (atomic_load_explicit(&s->started, memory_order_acquire))
		return -EBUSY;
	if (list && node_check_cpus(list, text, sizeof text))
		return refuse(s, -EINVAL, "%s", text);
	free(s->cpus);
	s->cpus = list ? strdup(list) : NULL;
	return list && !s->cpus ? -ENOMEM : 0;
}

int sluice_set_cookie(struct sluice *s, const void *data, size_t length)
{
	if (atomic_load_explicit(&s->started, memory_order_acquire))
		return -EBUSY;
	if (length > SLUICE_MESSAGE_MAX)
		return -EMSGSIZE;
	uint8_t *copy = malloc(length ? length : 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, length);
	free(s->cookie);
	s->cookie = copy;
	s->cookie_length = length;
	return 0;
}

int sluice_add_region(struct sluice *s, const struct sluice_region *region, uint32_t *ret_id)
{
	char text[SLUICE_ERROR_MAX];
	if (!atomic_load_explicit(&s->collecting, memory_order_acquire))
		return refuse(s, -EBUSY, "regions cannot be added while migrating: add them before");
	int rc = memory_add(&s->memory, region, ret_id, text);
	return rc ? refuse(s, rc, "%s", text) : 0;
}

static int start(struct sluice *s, enum side side)
{
	if (atomic_exchange(&s->starting, true))
		return -EALREADY;
	pthread_mutex_lock(&s->look);
	s->error = (struct sluice_error){ 0 };
	pthread_mutex_unlock(&s->look);
	s->side = side;
	s->state_in.limit = param(s, SLUICE_MAX_STATE);
	atomic_store_explicit(&s->collecting, side == SIDE_DESTINATION, memory_order_release);
	atomic_store_explicit(&s->cancellable, true, memory_order_release);
	atomic_store_explicit(&s->started, true,
			      memory_order_release); /* `side` and all else set before is what others see then */
	int rc = control_start(s);
	if (rc) {
		atomic_store_explicit(&s->started, false, memory_order_release);
		atomic_store_explicit(&s->starting, false, memory_order_release);
		return refuse(s, rc, "no thread could be started: %s", strerror(-rc));
	}
	return 0;
}

int sluice_source_start(struct sluice *s, const char *text)
{
	char error[SLUICE_ERROR_MAX];
	struct uri uri;
	if (!text || !s->ops.pause)
		return refuse(s, -EINVAL, "a source needs a URI and a pause callback");
	if (!s->memory.n)
		return refuse(s, -EINVAL, "a source needs memory: add its regions first");
	if (atomic_load_explicit(&s->started, memory_order_acquire))
		return -EALREADY;
	if (uri_parse(text, &uri, error, sizeof error))
		return refuse(s, -EINVAL, "%s", error);
	const struct transport *t = transport_find(&uri);
	if (!t)
		return refuse(s, -EPROTONOSUPPORT, "%.160s: this build has no such transport: use tcp:HOST:PORT or unix:PATH",
			      text);
	if (!param(s, SLUICE_ALLOW_PLAIN) && !t->is_local(&uri))
		return refuse(s, -EPERM,
			      "%.120s is beyond loopback, and guest memory would travel as plain text: allow it by name "
			      "(--insecure) if the network is trusted",
			      text);
	s->uri = uri;
	uri_format(&uri, s->uri_text);
	return start(s, SIDE_SOURCE);
}

static const char *why_not_listening(const char *uri, int error)
{
	bool fd = !strncmp(uri, "fd:", 3), path = !strncmp(uri, "unix:", 5);
	switch (-error) {
	case EADDRINUSE: return "something listens there already: choose another, or end it";
	case EADDRNOTAVAIL: return "no such address on this host";
	case EINVAL: return "give a numeric address or localhost";
	case EBADF: return "no such descriptor is open here: start this process with a listening socket there";
	case ENOTSOCK: return "that descriptor is open, but no socket: start this process with a listening socket there";
	case EOPNOTSUPP: return fd ? "that socket is not a stream socket that listens: listen(2) on it first" : strerror(-error);
	case ENOENT: return path ? "no such directory: make it first" : strerror(-error);
	case ENOTDIR: return path ? "a part of the path is a file: choose another" : strerror(-error);
	case EACCES:
		return path ? "this user may not write there: choose another path" : "not permitted: choose a port above 1023";
	case EROFS: return path ? "the file system is read-only: choose another path" : strerror(-error);
	case EMFILE: return "too many open files in this process: raise ulimit -n";
	case ENFILE: return "too many open files on this host: raise sysctl fs.file-max";
	default: return strerror(-error);
	}
}

int sluice_listen(const char *text, int allow_plain, struct sluice_listener **ret, char error[SLUICE_ERROR_MAX])
{
	char own[SLUICE_ERROR_MAX];
	struct uri uri, at;
	if (!error)
		error = own;
	error[0] = 0;
	int rc = uri_parse(text ? text : "", &uri, error, SLUICE_ERROR_MAX);
	if (rc)
		return rc;
	const struct transport *t = transport_find(&uri);
	if (!t) {
		snprintf(error, SLUICE_ERROR_MAX, "%.160s: this build has no such transport: use tcp:HOST:PORT or unix:PATH",
			 text);
		return -EPROTONOSUPPORT;
	}
	if (!allow_plain && !t->is_local(&uri)) {
		snprintf(error, SLUICE_ERROR_MAX,
			 "%.120s is beyond loopback, and guest memory would travel as plain text: allow it by name "
			 "(--insecure) if the network is trusted",
			 text);
		return -EPERM;
	}
	struct sluice_listener *l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	rc = t->listen(&uri, &l->door, &at);
	if (rc) {
		snprintf(error, SLUICE_ERROR_MAX, "cannot listen on %.120s: %s", text, why_not_listening(text, rc));
		free(l);
		return rc;
	}
	l->transport = t;
	uri_format(&at, l->text);
	*ret = l;
	return 0;
}

const char *sluice_listener_uri(const struct sluice_listener *listener)
{
	return listener->text;
}

void sluice_listener_close(struct sluice_listener *listener)
{
	if (!listener)
		return;
	listener->transport->door_close(listener->door);
	free(listener);
}

int sluice_destination_start(struct sluice *s, struct sluice_listener *listener)
{
	bool before = false;
	if (!listener || !s->ops.incoming)
		return refuse(s, -EINVAL, "a destination needs a listener and an incoming callback");
	if (atomic_load_explicit(&s->started, memory_order_acquire))
		return -EALREADY;
	if (!atomic_compare_exchange_strong(&listener->taken, &before, true))
		return refuse(s, -EBUSY, "another session uses this listener: wait until it has ended");
	s->listener = listener;
	int rc = start(s, SIDE_DESTINATION);
	if (rc)
		atomic_store(&listener->taken, false);
	return rc;
}

static int tell(struct sluice *s, enum input_type type, uint32_t value)
{
	if (!atomic_load_explicit(&s->started, memory_order_acquire) || atomic_load_explicit(&s->ended, memory_order_acquire))
		return -EINVAL;
	struct input in = { .type = type, .now_ns = now_ns(), .value = value, .stream = -1 };
	inbox_post(&s->inbox, &in);
	return 0;
}

/* Calls of the embedder that may repeat share one letter: the inbox is bounded and an embedder is not. */
static int tell_once(struct sluice *s, enum input_type type, uint32_t value, uint32_t bit)
{
	if (atomic_fetch_or_explicit(&s->told, bit, memory_order_acq_rel) & bit)
		return 0;
	return tell(s, type, value);
}

int sluice_cancel(struct sluice *s)
{
	if (!atomic_load_explicit(&s->started, memory_order_acquire))
		return -EINVAL;
	if (!atomic_load_explicit(&s->cancellable, memory_order_acquire))
		return -EBUSY;
	return tell_once(s, INPUT_CANCEL, 0, TOLD_CANCEL);
}

int sluice_close(struct sluice *s)
{
	uint32_t phase = atomic_load_explicit(&s->phase, memory_order_acquire);
	if (phase != SLUICE_COMPLETED && phase != SLUICE_CANCELLED && phase != SLUICE_FAILED)
		return -EINVAL;
	return tell_once(s, INPUT_CLOSE, 0, TOLD_CLOSE);
}

int sluice_continue(struct sluice *s)
{
	if (atomic_load_explicit(&s->phase, memory_order_acquire) != SLUICE_PRE_SWITCHOVER)
		return -EINVAL;
	return tell_once(s, INPUT_CONTINUE, 0, TOLD_CONTINUE);
}

int sluice_resolve(struct sluice *s, int run)
{
	if (atomic_load_explicit(&s->phase, memory_order_acquire) != SLUICE_IN_DOUBT)
		return -EINVAL;
	return tell_once(s, INPUT_RESOLVE, run != 0, TOLD_RESOLVE);
}

int sluice_event_fd(struct sluice *s)
{
	return s->outbox.fd;
}

static void call(struct sluice *s, enum sluice_request request)
{
	static const char nothing[1];
	struct sluice_offer *offers = s->offers;
	switch (request) {
	case SLUICE_INCOMING_GUEST:
		for (uint32_t i = 0; i < s->hello->n_regions; i++)
			offers[i] = (struct sluice_offer){ s->hello->regions[i].name, s->hello->regions[i].size,
							   s->hello->regions[i].host_page_size };
		s->ops.incoming(s->opaque, offers, s->hello->n_regions,
				s->hello->cookie_length ? (const void *)s->hello->cookie : nothing, s->hello->cookie_length);
		break;
	case SLUICE_PAUSE: s->ops.pause(s->opaque); break;
	case SLUICE_SAVE: s->ops.save(s->opaque); break;
	case SLUICE_RELEASE: s->ops.release(s->opaque); break;
	case SLUICE_LOAD: s->ops.load(s->opaque, s->sections, state_in_sections(&s->state_in, s->sections)); break;
	case SLUICE_ACQUIRE: s->ops.acquire(s->opaque); break;
	case SLUICE_RESUME: s->ops.resume(s->opaque); break;
	}
}

/* One that is answered at once. */
static void call_at_once(struct sluice *s, uint32_t which)
{
	struct input in = { .stream = -1 };
	/* Before the value is read: a newer one is told by a call of its own. */
	atomic_fetch_and_explicit(&s->asked, ~(1u << which), memory_order_acq_rel);
	switch (which) {
	case CALL_THROTTLE: s->ops.throttle(s->opaque, atomic_load_explicit(&s->throttle, memory_order_relaxed)); break;
	case CALL_IO_DEPTH:
		in.type = INPUT_IO_DEPTH;
		in.code = s->ops.io_depth(s->opaque, atomic_load_explicit(&s->io_depth, memory_order_relaxed));
		if (in.code)
			inbox_post(&s->inbox, &in);
		break;
	case CALL_DRAIN_TRY:
		in.type = INPUT_DRAINED;
		in.code = s->ops.drain_try(s->opaque);
		inbox_post(&s->inbox, &in);
		break;
	}
}

int sluice_dispatch(struct sluice *s)
{
	uint64_t began = now_ns();
	struct outbox_item *item = outbox_take(&s->outbox);
	if (!item)
		return 0;
	if (item->request > SLUICE_RESUME)
		call_at_once(s, item->request);
	else if (item->request)
		call(s, (enum sluice_request)item->request);
	else if (s->ops.event)
		s->ops.event(s->opaque, &item->event);
	if (item->event.type == SLUICE_EVENT_MESSAGE)
		atomic_fetch_add_explicit(&s->delivered, 1, memory_order_release);
	outbox_free(&s->outbox, item);
	hist_add(&s->lock_held, now_ns() - began);
	return 1;
}

int sluice_done(struct sluice *s, enum sluice_request request, int error)
{
	if (request < SLUICE_INCOMING_GUEST || request > SLUICE_RESUME)
		return -EINVAL;
	uint32_t bit = 1u << request;
	if (!(atomic_fetch_and_explicit(&s->asked, ~bit, memory_order_acq_rel) & bit))
		return -EINVAL;
	if (error > 0 || error < -4095)
		error = -EINVAL;
	if (!error && (request == SLUICE_PAUSE || request == SLUICE_RESUME))
		stopped_done(s, request);
	struct input in = { .type = INPUT_DONE, .now_ns = now_ns(), .request = request, .code = error, .stream = -1 };
	inbox_post(&s->inbox, &in);
	return 0;
}

int sluice_save_section(struct sluice *s, const struct sluice_section *section)
{
	if (!section || !(atomic_load_explicit(&s->asked, memory_order_acquire) & 1u << SLUICE_SAVE))
		return -EINVAL;
	return state_out_add(&s->state_out, section);
}

int sluice_refuse_because(struct sluice *s, const char *text)
{
	pthread_mutex_lock(&s->look);
	snprintf(s->refusal, sizeof s->refusal, "%s", text);
	pthread_mutex_unlock(&s->look);
	return 0;
}

int sluice_send_message(struct sluice *s, const void *data, size_t length)
{
	if (length > SLUICE_MESSAGE_MAX)
		return -EMSGSIZE;
	enum sluice_phase phase = (enum sluice_phase)atomic_load_explicit(&s->phase, memory_order_acquire);
	if (phase < SLUICE_ACTIVE || phase > SLUICE_COMPLETED)
		return -ENOTCONN;
	struct message *m = malloc(sizeof *m);
	if (!m)
		return -ENOMEM;
	m->type = MESSAGE_EMBEDDER;
	m->u.embedder.length = (uint32_t)length;
	memcpy(m->u.embedder.bytes, data, length);
	int rc = link_send(s, m);
	free(m);
	return rc;
}

/* A range of whole pages that lies in the region, clipped; false: none. */
static bool clip(struct sluice *s, uint32_t region, uint64_t offset, uint64_t length, const struct region **ret)
{
	if (!atomic_load_explicit(&s->tracking, memory_order_acquire) || region >= s->memory.n) /* pairs with arm() */
		return false;
	*ret = &s->memory.regions[region];
	return length && offset < (*ret)->size && length <= (*ret)->size - offset;
}

void sluice_mark_dirty(struct sluice *s, uint32_t region, uint64_t offset, uint64_t length)
{
	const struct region *r;
	if (!clip(s, region, offset, length, &r))
		return;
	uint64_t first = memory_bit(r, offset / SLUICE_PAGE_SIZE);
	uint64_t n = (offset + length - 1) / SLUICE_PAGE_SIZE - offset / SLUICE_PAGE_SIZE + 1;
	bitmap_clear(&s->discarded, first, n);
	bitmap_set(&s->heat.written, first, n);
	uint64_t found = bitmap_set(&s->dirty, first, n);
	if (found) /* for the dirty rate; rare for a page that is written often */
		atomic_fetch_add_explicit(&s->found, found, memory_order_relaxed);
}

void sluice_discarded(struct sluice *s, uint32_t region, uint64_t offset, uint64_t length)
{
	const struct region *r;
	if (!clip(s, region, offset, length, &r))
		return;
	uint64_t first = (offset + SLUICE_PAGE_SIZE - 1) / SLUICE_PAGE_SIZE, end = (offset + length) / SLUICE_PAGE_SIZE;
	if (end <= first)
		return;
	bitmap_set(&s->discarded, memory_bit(r, first), end - first);
	bitmap_set(&s->dirty, memory_bit(r, first), end - first);
}

void sluice_get_error(struct sluice *s, struct sluice_error *ret)
{
	pthread_mutex_lock(&s->look);
	*ret = s->error;
	pthread_mutex_unlock(&s->look);
}

const char *sluice_phase_name(enum sluice_phase phase)
{
	static const char *const names[] = {
		[SLUICE_NONE] = "none",           [SLUICE_INCOMING] = "incoming",   [SLUICE_SETUP] = "setup",
		[SLUICE_ACTIVE] = "active",       [SLUICE_DRAINING] = "draining",   [SLUICE_PRE_SWITCHOVER] = "pre-switchover",
		[SLUICE_DEVICE] = "device",       [SLUICE_COMPLETED] = "completed", [SLUICE_CANCELLING] = "cancelling",
		[SLUICE_CANCELLED] = "cancelled", [SLUICE_FAILED] = "failed",       [SLUICE_IN_DOUBT] = "in-doubt",
	};
	return (uint32_t)phase < sizeof names / sizeof *names ? names[phase] : "unknown";
}

const char *sluice_version(void)
{
	return SLUICE_VERSION_TEXT " (io_uring, lz4, numa)";
}
