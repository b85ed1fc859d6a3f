/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What source and destination share: a session, the event loop it is dispatched in, what it said. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/end.h"
#include "perf/os.h"

#define DUMP_MAX (64u << 10)
#define LOOK_NS (10 * OS_MS)

static int big_lock(void *opaque, uint64_t until_ns)
{
	struct end *end = opaque;

	return iothread_lock(&end->io, until_ns);
}

static void big_unlock(void *opaque)
{
	struct end *end = opaque;

	iothread_unlock(&end->io);
}

const char *end_advice(int error)
{
	switch (-error) {
	case EMFILE: return ": raise ulimit -n";
	case ENFILE: return ": raise sysctl fs.file-max";
	case ENOMEM: return ": free memory";
	case EAGAIN: return ": free memory or threads (ulimit -u)";
	default: return "";
	}
}

static int set_parameters(struct sluice *session, const struct options *o, char error[RESULT_TEXT])
{
	const struct {
		enum sluice_param param;
		const char *name;
		uint64_t value;
	} wanted[] = {
		{ SLUICE_STREAMS, "-P", o->streams },
		{ SLUICE_BANDWIDTH, "-b", o->bandwidth },
		{ SLUICE_SWITCHOVER_BANDWIDTH, "--switchover-bandwidth", o->switchover_bandwidth },
		{ SLUICE_DOWNTIME_LIMIT_MS, "--downtime", o->downtime_ms },
		{ SLUICE_TIMEOUT_MS, "--timeout", o->timeout_s * 1000 },
		{ SLUICE_THROTTLE_MAX, "--throttle", o->throttle_max },
		{ SLUICE_HOLD, "--hold", o->hold_ms != 0 },
		{ SLUICE_DRAIN_WINDOW_MS, "--drain-window", o->drain_window_ms },
		{ SLUICE_DRAIN_TRIES, "--drain-tries", o->drain_tries },
		{ SLUICE_DRAIN_FAIL, "--drain-fail", o->drain_fail },
		{ SLUICE_COMPRESS, "--compress", o->compress },
		{ SLUICE_TRACKER, "--tracker", o->tracker },
		{ SLUICE_DEAD_PEER_MS, "--dead-peer", o->dead_peer_ms },
		{ SLUICE_REMEMBER_MS, "--in-doubt", o->in_doubt_ms }, /* the other side's doubt, that is */
		{ SLUICE_IO_URING, "--io-engine", o->uring },
		{ SLUICE_NUMA, "--numa", o->numa },
		{ SLUICE_ALLOW_PLAIN, "--insecure", o->insecure },
	};
	struct sluice_error why;
	int result;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		result = sluice_set(session, wanted[i].param, wanted[i].value);
		if (!result)
			continue;
		sluice_get_error(session, &why);
		snprintf(error, RESULT_TEXT, "%s %" PRIu64 ": %s", wanted[i].name, wanted[i].value,
			 why.code ? why.text : strerror(-result));
		return result;
	}
	result = sluice_set_cpus(session, o->cpus);
	if (result)
		snprintf(error, RESULT_TEXT, "--cpus %s is not a list of CPUs of this machine: give one as in 0-3,8", o->cpus);
	return result;
}

static void never(void *opaque)
{
	(void)opaque;
}

enum exit_status end_check_options(const struct options *options)
{
	const struct sluice_ops ops = { .size_of = sizeof(ops), .pause = never, .resume = never };
	char error[RESULT_TEXT] = "";
	struct sluice *session;
	int result = sluice_create(&ops, NULL, &session);

	if (result) {
		fprintf(stderr, "migperf: the library cannot work here: %s%s\n", strerror(-result), end_advice(result));
		return EXIT_FAILED;
	}
	result = set_parameters(session, options, error);
	if (result)
		fprintf(stderr, "migperf: %s\n", error);
	sluice_destroy(session);
	return result ? EXIT_USAGE : EXIT_COMPLETED;
}

int end_open(struct end *end, const struct sluice_ops *ops, void *opaque, const struct options *options, struct loop *loop,
	     char error[RESULT_TEXT])
{
	struct sluice_ops table = *ops;
	int result;

	memset(end, 0, sizeof(*end));
	end->loop = loop;
	end->claims = loop->claims;
	end->in_doubt_ns = options->in_doubt_ms * OS_MS;
	end->dead_peer_ns = options->dead_peer_ms * OS_MS;
	pthread_mutex_init(&end->lock, NULL);
	table.size_of = sizeof(table);
	table.lock = big_lock;
	table.unlock = big_unlock;
	snprintf(error, RESULT_TEXT, "cannot make a session");
	result = sluice_create(&table, opaque, &end->session);
	if (result)
		goto say;
	result = set_parameters(end->session, options, error);
	if (result)
		goto destroy;
	snprintf(error, RESULT_TEXT, "cannot start a thread");
	result = worker_start(&end->worker);
	if (!result)
		result = iothread_start(&end->io, end->session);
	if (!result) {
		error[0] = 0;
		return 0;
	}
	worker_stop(&end->worker);
	sluice_destroy(end->session);
	end->session = NULL;
say:
	snprintf(error + strlen(error), RESULT_TEXT - strlen(error), ": %s%s", strerror(-result), end_advice(result));
	return result;
destroy:
	sluice_destroy(end->session);
	end->session = NULL;
	return result;
}

/* What all threads of the session wait for, to stderr. */
static void dump(struct end *end)
{
	char *text = malloc(DUMP_MAX);

	if (!text)
		return;
	sluice_dump(end->session, text, DUMP_MAX);
	fprintf(stderr, "%s", text);
	free(text);
}

static void say_warnings(struct end *end)
{
	char text[SLUICE_ERROR_MAX];
	bool more;

	for (;;) {
		pthread_mutex_lock(&end->lock);
		more = end->warned < end->warnings;
		if (more)
			memcpy(text, end->warning[end->warned++], sizeof(text));
		pthread_mutex_unlock(&end->lock);
		if (!more)
			return;
		fprintf(stderr, "migperf: warning: %s\n", text);
	}
}

static bool wait_ended(struct end *end)
{
	uint64_t close_at = os_now_ns() + end->dead_peer_ns + end->in_doubt_ns, until = close_at + END_LINGER_NS;
	unsigned stops = end->loop->stops;

	while (!end_ended(end) && os_now_ns() < until) {
		if (end->loop->stops != stops || end->abandoned || os_now_ns() >= close_at)
			sluice_close(end->session);
		end_wait(end, os_now_ns() + (end->abandoned ? LOOK_NS : OS_S));
	}
	return end_ended(end);
}

bool end_close(struct end *end, bool started)
{
	if (started && !wait_ended(end)) {
		fprintf(stderr, "migperf: the library did not end its session; it waits for:\n");
		dump(end);
		return false;
	}
	iothread_stop(&end->io);
	worker_stop(&end->worker);
	say_warnings(end);
	sluice_destroy(end->session);
	end->session = NULL;
	pthread_mutex_destroy(&end->lock);
	return true;
}

static void note_round(struct end *end, const struct sluice_round *round)
{
	if (end->rounds == RESULT_ROUNDS)
		end->rounds--;
	end->round[end->rounds++] = *round;
}

static void note_message(struct end *end, const void *data, size_t length)
{
	struct end_message *message = &end->message[end->messages];

	if (end->messages == END_MESSAGES || length > END_MESSAGE)
		return;
	message->at_ns = os_now_ns();
	message->length = length;
	memcpy(message->data, data, length);
	end->messages++;
}

int end_take_report(struct end *end, struct report *ret, uint64_t *ret_at_ns)
{
	struct end_message first;

	pthread_mutex_lock(&end->lock);
	if (!end->messages) {
		pthread_mutex_unlock(&end->lock);
		return -EAGAIN;
	}
	first = end->message[0];
	memmove(&end->message[0], &end->message[1], --end->messages * sizeof(first));
	pthread_mutex_unlock(&end->lock);
	*ret_at_ns = first.at_ns;
	return report_decode(first.data, first.length, ret);
}

static bool is_over(enum sluice_phase phase)
{
	return phase == SLUICE_COMPLETED || phase == SLUICE_CANCELLED || phase == SLUICE_FAILED || phase == SLUICE_IN_DOUBT;
}

/* Thread: iothread, without the big lock. */
static void note(void *arg)
{
	struct end *end = arg;
	const struct end_noted *noted = &end->noted;

	pthread_mutex_lock(&end->lock);
	switch (noted->event.type) {
	case SLUICE_EVENT_PHASE:
		end->doubts_ended += end->phase == SLUICE_IN_DOUBT && noted->event.u.phase == SLUICE_DEVICE;
		end->phase = noted->event.u.phase;
		end->held_since_ns = end->phase == SLUICE_PRE_SWITCHOVER ? os_now_ns() : 0;
		if (!is_over(end->phase))
			break;
		iothread_measure(&end->io, false);
		end->cpu_over_s = os_cpu_seconds();
		break;
	case SLUICE_EVENT_ROUND: note_round(end, &noted->event.u.round); break;
	case SLUICE_EVENT_MESSAGE: note_message(end, noted->data, noted->length); break;
	case SLUICE_EVENT_WARNING:
		if (end->warnings < END_WARNINGS)
			snprintf(end->warning[end->warnings++], SLUICE_ERROR_MAX, "%.*s", (int)SLUICE_ERROR_MAX - 1, noted->data);
		break;
	case SLUICE_EVENT_ENDED: end->ended = true; break;
	}
	pthread_mutex_unlock(&end->lock);
	loop_wake(end->loop);
}

/* Only copied: this runs under the big lock. */
void end_note(struct end *end, const struct sluice_event *event)
{
	struct end_noted *noted = &end->noted;

	noted->event = *event;
	if (event->type == SLUICE_EVENT_MESSAGE) {
		noted->length = event->u.message.length;
		if (noted->length <= END_MESSAGE)
			memcpy(noted->data, event->u.message.data, noted->length);
	} else if (event->type == SLUICE_EVENT_WARNING) {
		snprintf(noted->data, END_MESSAGE, "%s", event->u.text);
	}
	iothread_after(&end->io, note, end);
}

enum sluice_phase end_phase(struct end *end)
{
	enum sluice_phase phase;

	pthread_mutex_lock(&end->lock);
	phase = end->phase;
	pthread_mutex_unlock(&end->lock);
	return phase;
}

const char *end_name(struct end *end)
{
	return sluice_phase_name(end->abandoned ? SLUICE_IN_DOUBT : end_phase(end));
}

bool end_ended(struct end *end)
{
	bool ended;

	pthread_mutex_lock(&end->lock);
	ended = end->ended;
	pthread_mutex_unlock(&end->lock);
	return ended;
}

uint64_t end_held_since(struct end *end)
{
	uint64_t since;

	pthread_mutex_lock(&end->lock);
	since = end->held_since_ns;
	pthread_mutex_unlock(&end->lock);
	return since;
}

void end_wait(struct end *end, uint64_t until_ns)
{
	loop_wait(end->loop, until_ns);
	say_warnings(end);
	if (!end->loop->dump)
		return;
	end->loop->dump = false;
	dump(end);
}

static unsigned doubts_ended(struct end *end)
{
	unsigned n;

	pthread_mutex_lock(&end->lock);
	n = end->doubts_ended;
	pthread_mutex_unlock(&end->lock);
	return n;
}

/* SIGUSR2: the guest runs here, whoever sent it says so. */
static void claim(struct end *end)
{
	if (end->loop->claims == end->claims)
		return;
	end->claims = end->loop->claims;
	if (end_phase(end) != SLUICE_IN_DOUBT || sluice_resolve(end->session, 1)) {
		fprintf(stderr, "migperf: warning: SIGUSR2 is for a migration in doubt, and this one is not: nothing was done\n");
		return;
	}
	end->claimed = true;
	end->claimed_after = doubts_ended(end);
}

/* The guest is let go, wherever it runs. false: the doubt ended by itself just then. */
static bool abandon(struct end *end)
{
	uint64_t until = os_now_ns() + END_LINGER_NS;
	unsigned before = doubts_ended(end);

	sluice_get_error(end->session, &end->doubt);
	if (sluice_resolve(end->session, 0))
		return false;
	while (end_phase(end) == SLUICE_IN_DOUBT && !end_ended(end) && os_now_ns() < until)
		end_wait(end, until);
	end->abandoned = before == doubts_ended(end);
	return end->abandoned;
}

bool end_decided(struct end *end)
{
	enum sluice_phase phase;

	claim(end);
	phase = end_phase(end);
	if (end->abandoned || end_ended(end))
		return true;
	if (phase != SLUICE_IN_DOUBT) {
		end->doubt_until_ns = 0;
		return is_over(phase);
	}
	if (!end->doubt_until_ns) {
		end->doubt_until_ns = os_now_ns() + end->in_doubt_ns;
		end->stops = end->loop->stops;
		end->advise(end);
	}
	/* The embedder's part of that word, to run the guest, has a deadline of its own in the library. */
	if (end->claimed && end->claimed_after == doubts_ended(end))
		return false;
	if (end->stops == end->loop->stops && os_now_ns() < end->doubt_until_ns)
		return false;
	return abandon(end);
}

/* Whether this host lacks what a session needs, and not the other. */
static bool lacks(const struct sluice_error *why)
{
	return (why->code == -ENOMEM || why->code == -EAGAIN || why->code == -EMFILE || why->code == -ENFILE) && !why->theirs;
}

void end_explain_doubt(struct end *end, char error[RESULT_TEXT], const char *format, const char *other)
{
	int length = snprintf(error, RESULT_TEXT, format, other);

	if (length >= 0 && length < (int)RESULT_TEXT)
		snprintf(error + length, RESULT_TEXT - (size_t)length, " (%s)", end->doubt.cause);
}

enum exit_status end_outcome(struct end *end, const char **ret_status, char error[RESULT_TEXT])
{
	struct sluice_error why;

	if (end->abandoned) {
		*ret_status = "in-doubt";
		snprintf(error, RESULT_TEXT, "%s", end->doubt.text);
		return EXIT_IN_DOUBT;
	}
	sluice_get_error(end->session, &why);
	switch (end_phase(end)) {
	case SLUICE_COMPLETED:
		*ret_status = "completed";
		error[0] = 0;
		return EXIT_COMPLETED;
	case SLUICE_CANCELLED:
		*ret_status = "cancelled";
		snprintf(error, RESULT_TEXT, "%s", why.code ? why.text : "cancelled");
		return EXIT_CANCELLED;
	default:
		*ret_status = "failed";
		snprintf(error, RESULT_TEXT, "%s", why.code ? why.text : "failed, and the library does not say why");
		return why.phase <= SLUICE_SETUP && !lacks(&why) ? EXIT_REFUSED : EXIT_FAILED;
	}
}
