/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process guest: threads that write memory at a given pace, and a heartbeat.
 *
 * Thread i owns the pages of the working set whose number is i modulo the number of threads, so no page has two
 * writers and its count needs no atomics. One futex word says whether the guest runs; sleeping threads wait on it
 * with their pace's timeout, so a pause wakes them at once. The word carries a number that grows with every pause:
 * a thread that slept through a resume and the next pause still parks for each of them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "perf/guest.h"
#include "perf/os.h"

enum { STOPPED, RUNNING, QUITTING, MODES = 4 }; /* low bits of the word */

#define TICK_NS OS_MS            /* of the heartbeat, and of pacing */
#define CATCH_UP_NS (50 * OS_MS) /* a thread that was held up longer does not make up for the rest */
#define FILL_CHUNK 8192u         /* pages */
#define FILL_THREADS 16u
#define VCPUS_VERSION 1
#define COUNTS_VERSION 1

struct vcpu {
	struct guest *guest;
	pthread_t thread;
	uint32_t id;
	struct pattern pattern;
	struct pattern_state state; /* the thread's; anyone's while the guest stands still */
	_Atomic uint64_t written;   /* likewise, but readable at any time */
} __attribute__((aligned(64)));

struct guest {
	/* set once */
	struct guest_settings settings;
	struct memory memory;
	uint32_t threads; /* vCPUs and the heartbeat */
	uint64_t filled_bytes;
	struct counts counts; /* pages by their owners */

	/* by whoever pauses or resumes, while all stand still; the word publishes it */
	struct sluice *marked;
	void (*beaten)(void *opaque, uint64_t ns);
	void *beaten_opaque;
	void (*parked)(void *opaque);
	void *parked_opaque;

	struct guest_run run[GUEST_RUNS]; /* by whoever resumes, and by the last thread that parks */
	unsigned runs;

	_Atomic uint32_t word;    /* a mode and a number; store-release by resume, pairs with load-acquire by threads */
	_Atomic uint32_t running; /* threads not parked; the last decrement (acq_rel) sees all their writes */

	/* heartbeat thread writes, anyone reads */
	_Atomic uint64_t beats, last_beat_ns, gap_ns;
	pthread_t heartbeat;

	struct vcpu vcpu[];
};

/* The vcpus section. Both ends are little-endian: sluice runs on x86-64 and arm64. */
struct wire_vcpus {
	uint64_t seed, beats;
	uint32_t vcpus, reserved;
	struct wire_vcpu {
		uint64_t rng, position, written;
	} vcpu[];
};
_Static_assert(sizeof(struct wire_vcpus) == 24 && sizeof(struct wire_vcpu) == 24, "no holes");

/* ---------------------------------------------------------------- standing still */

static uint32_t load_word(struct guest *guest)
{
	return atomic_load_explicit(&guest->word, memory_order_acquire);
}

/* Stand still until the guest runs. *parked_for: the word this thread last parked for. false: quit. */
static bool stand_still(struct guest *guest, uint32_t *parked_for)
{
	uint32_t word;

	while ((word = load_word(guest)) % MODES != RUNNING) {
		if (word % MODES == QUITTING)
			return false;
		if (word != *parked_for) {
			void (*parked)(void *) = guest->parked;
			void *opaque = guest->parked_opaque;

			*parked_for = word;
			if (atomic_fetch_sub_explicit(&guest->running, 1, memory_order_acq_rel) == 1) {
				guest->run[guest->runs - 1].to_ns = os_now_ns();
				parked(opaque);
			}
			continue;
		}
		os_futex_wait(&guest->word, word, OS_FOREVER);
	}
	return true;
}

void guest_pause(struct guest *guest, void (*parked)(void *opaque), void *opaque)
{
	uint32_t word = load_word(guest);

	assert(word % MODES == RUNNING);
	guest->parked = parked;
	guest->parked_opaque = opaque;
	atomic_store_explicit(&guest->word, word + MODES - RUNNING + STOPPED, memory_order_release);
	os_futex_wake_all(&guest->word);
}

static void note_parked(void *opaque)
{
	_Atomic uint32_t *flag = opaque;

	atomic_store(flag, 1);
	os_futex_wake_all(flag);
}

void guest_park(struct guest *guest)
{
	_Atomic uint32_t flag = 0;

	if (load_word(guest) % MODES != RUNNING)
		return;
	guest_pause(guest, note_parked, &flag);
	while (!atomic_load(&flag))
		os_futex_wait(&flag, 0, OS_FOREVER);
}

static void begin_run(struct guest *guest)
{
	if (guest->runs == GUEST_RUNS) {
		guest->run[1].from_ns = guest->run[0].from_ns;
		memmove(&guest->run[0], &guest->run[1], --guest->runs * sizeof(guest->run[0]));
	}
	guest->run[guest->runs++] = (struct guest_run){ .from_ns = os_now_ns() };
}

void guest_resume(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque)
{
	uint32_t word = load_word(guest);

	assert(word % MODES == STOPPED && !atomic_load(&guest->running));
	guest->beaten = beaten;
	guest->beaten_opaque = opaque;
	begin_run(guest);
	atomic_store(&guest->running, guest->threads);
	atomic_store_explicit(&guest->word, word - STOPPED + RUNNING, memory_order_release);
	os_futex_wake_all(&guest->word);
}

/* ---------------------------------------------------------------- threads */

static void beat(struct guest *guest, uint64_t now)
{
	uint64_t last = atomic_load_explicit(&guest->last_beat_ns, memory_order_relaxed);

	if (last && now - last > atomic_load_explicit(&guest->gap_ns, memory_order_relaxed))
		atomic_store_explicit(&guest->gap_ns, now - last, memory_order_relaxed);
	atomic_store_explicit(&guest->last_beat_ns, now, memory_order_relaxed);
	atomic_fetch_add_explicit(&guest->beats, 1, memory_order_relaxed);
}

static void *heartbeat_body(void *arg)
{
	struct guest *guest = arg;
	uint32_t parked_for = STOPPED;
	uint64_t now, next;

	while (stand_still(guest, &parked_for)) {
		uint32_t word = load_word(guest);

		if (word % MODES != RUNNING)
			continue;
		next = now = os_now_ns();
		beat(guest, now);
		if (guest->beaten)
			guest->beaten(guest->beaten_opaque, now);
		while (load_word(guest) == word) {
			now = os_now_ns();
			if (now < next) {
				os_futex_wait(&guest->word, word, next);
				continue;
			}
			beat(guest, now);
			next += TICK_NS;
			if (next <= now)
				next = now + TICK_NS;
		}
	}
	return NULL;
}

static void write_page(struct vcpu *vcpu)
{
	struct guest *guest = vcpu->guest;
	uint64_t page = pattern_next(&vcpu->pattern, &vcpu->state) * guest->settings.vcpus + vcpu->id;
	uint32_t count = guest->counts.count[page] + 1;

	content_write(&guest->settings.content, page, count, memory_page(&guest->memory, page));
	if (guest->marked)
		memory_mark(&guest->memory, guest->marked, page);
	counts_set(&guest->counts, page, count);
	atomic_store_explicit(&vcpu->written, atomic_load_explicit(&vcpu->written, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* Write at the thread's share of the dirty rate until the word changes. */
static void run_paced(struct vcpu *vcpu, uint32_t word)
{
	struct guest *guest = vcpu->guest;
	double pages_per_ns = (double)guest->settings.dirty_rate / guest->settings.vcpus / SLUICE_PAGE_SIZE / 1e9;
	uint64_t began = os_now_ns(), done = 0, most = (uint64_t)(pages_per_ns * CATCH_UP_NS) + 1;

	while (load_word(guest) == word) {
		uint64_t now = os_now_ns(), due, next;

		if (pages_per_ns <= 0) {
			os_futex_wait(&guest->word, word, OS_FOREVER);
			continue;
		}
		due = (uint64_t)((double)(now - began) * pages_per_ns) - done;
		if (due > most) {
			began = now - (uint64_t)((double)most / pages_per_ns);
			done = 0;
			due = most;
		}
		if (!due) {
			next = began + (uint64_t)((double)(done + 1) / pages_per_ns);
			os_futex_wait(&guest->word, word, next > now + TICK_NS ? next : now + TICK_NS);
			continue;
		}
		for (; due && atomic_load_explicit(&guest->word, memory_order_relaxed) == word; due--, done++)
			write_page(vcpu);
	}
}

static void *vcpu_body(void *arg)
{
	struct vcpu *vcpu = arg;
	uint32_t parked_for = STOPPED, word;

	while (stand_still(vcpu->guest, &parked_for)) {
		word = load_word(vcpu->guest);
		if (word % MODES == RUNNING)
			run_paced(vcpu, word);
	}
	return NULL;
}

/* ---------------------------------------------------------------- making one */

static int start_threads(struct guest *guest)
{
	int error = os_thread_start(&guest->heartbeat, "heartbeat", heartbeat_body, guest);

	if (error)
		return error;
	guest->threads = 1;
	for (uint32_t i = 0; i < guest->settings.vcpus; i++) {
		char name[16] = "vcpu";

		name[4] = (char)('0' + i / 100);
		name[5] = (char)('0' + i / 10 % 10);
		name[6] = (char)('0' + i % 10);
		error = os_thread_start(&guest->vcpu[i].thread, name, vcpu_body, &guest->vcpu[i]);
		if (error)
			return error;
		guest->threads++;
	}
	return 0;
}

static void stop_threads(struct guest *guest)
{
	atomic_store_explicit(&guest->word, QUITTING, memory_order_release);
	os_futex_wake_all(&guest->word);
	for (uint32_t i = 0; i + 1 < guest->threads; i++)
		pthread_join(guest->vcpu[i].thread, NULL);
	if (guest->threads)
		pthread_join(guest->heartbeat, NULL);
	guest->threads = 0;
}

int guest_create(const struct guest_settings *settings, struct memory *memory, struct guest **ret_guest)
{
	uint64_t wss_pages = settings->wss_bytes / SLUICE_PAGE_SIZE;
	struct guest *guest = NULL;
	size_t size = (sizeof(*guest) + settings->vcpus * sizeof(struct vcpu) + 63) & ~(size_t)63;
	int error;

	guest = aligned_alloc(64, size);
	if (!guest)
		return -ENOMEM;
	memset(guest, 0, size);
	guest->settings = *settings;
	error = counts_init(&guest->counts, memory->pages);
	if (error)
		goto free_guest;
	for (uint32_t i = 0; i < settings->vcpus; i++) {
		struct vcpu *vcpu = &guest->vcpu[i];

		vcpu->guest = guest;
		vcpu->id = i;
		pattern_init(&vcpu->pattern, settings->pattern, (wss_pages - i + settings->vcpus - 1) / settings->vcpus);
		vcpu->state.rng = content_mix(settings->content.seed + i);
	}
	guest->memory = *memory;
	error = start_threads(guest);
	if (error)
		goto stop;
	*ret_guest = guest;
	return 0;

stop:
	stop_threads(guest);
	counts_fini(&guest->counts);
free_guest:
	free(guest);
	return error;
}

void guest_destroy(struct guest *guest)
{
	if (!guest)
		return;
	assert(!atomic_load(&guest->running));
	stop_threads(guest);
	counts_fini(&guest->counts);
	memory_destroy(&guest->memory);
	free(guest);
}

/* What the filling threads share. */
struct filler {
	struct guest *guest;
	_Atomic bool *cancel;
	_Atomic uint64_t next, filled; /* pages */
};

static void *fill_body(void *arg)
{
	struct filler *filler = arg;
	const struct guest *guest = filler->guest;
	const struct content *content = &guest->settings.content;
	uint64_t page, end, filled = 0;

	while ((page = atomic_fetch_add(&filler->next, FILL_CHUNK)) < guest->memory.pages && !*filler->cancel) {
		end = page + FILL_CHUNK < guest->memory.pages ? page + FILL_CHUNK : guest->memory.pages;
		for (; page < end; page++) {
			if (!content_touched(content, page))
				continue;
			content_write(content, page, 0, memory_page(&guest->memory, page));
			filled++;
		}
	}
	atomic_fetch_add(&filler->filled, filled);
	return NULL;
}

int guest_fill(struct guest *guest, _Atomic bool *cancel)
{
	struct filler filler = { .guest = guest, .cancel = cancel };
	unsigned n = os_cpus() < FILL_THREADS ? os_cpus() : FILL_THREADS, started = 0;
	pthread_t threads[FILL_THREADS];

	if (!guest->settings.content.touched_per_2_32)
		return 0;
	while (started + 1 < n && !os_thread_start(&threads[started], "fill", fill_body, &filler))
		started++;
	fill_body(&filler);
	while (started)
		pthread_join(threads[--started], NULL);
	guest->filled_bytes = filler.filled * SLUICE_PAGE_SIZE;
	return *cancel ? -ECANCELED : 0;
}

/* ---------------------------------------------------------------- looking */

uint64_t guest_filled_bytes(const struct guest *guest)
{
	return guest->filled_bytes;
}

void guest_mark_for(struct guest *guest, struct sluice *session)
{
	assert(!atomic_load(&guest->running));
	guest->marked = session;
}

void guest_look(const struct guest *guest, struct guest_view *ret)
{
	ret->pages_written = 0;
	for (uint32_t i = 0; i < guest->settings.vcpus; i++)
		ret->pages_written += atomic_load_explicit(&guest->vcpu[i].written, memory_order_relaxed);
	ret->beats = atomic_load_explicit(&guest->beats, memory_order_relaxed);
	ret->last_beat_ns = atomic_load_explicit(&guest->last_beat_ns, memory_order_relaxed);
	ret->gap_ns = atomic_load_explicit(&guest->gap_ns, memory_order_relaxed);
	ret->running = atomic_load_explicit(&guest->word, memory_order_relaxed) % MODES == RUNNING;
}

void guest_reset_gap(struct guest *guest)
{
	atomic_store_explicit(&guest->gap_ns, 0, memory_order_relaxed);
}

unsigned guest_runs(const struct guest *guest, struct guest_run ret[GUEST_RUNS])
{
	memcpy(ret, guest->run, guest->runs * sizeof(ret[0]));
	return guest->runs;
}

void guest_forget_runs(struct guest *guest)
{
	guest->runs = 0;
}

const struct guest_settings *guest_settings_of(const struct guest *guest)
{
	return &guest->settings;
}

const struct memory *guest_memory(const struct guest *guest)
{
	return &guest->memory;
}

const struct counts *guest_counts(const struct guest *guest)
{
	return &guest->counts;
}

/* ---------------------------------------------------------------- state */

int guest_save(const struct guest *guest, struct guest_state *ret_state)
{
	uint32_t vcpus = guest->settings.vcpus;
	size_t size = sizeof(struct wire_vcpus) + vcpus * sizeof(struct wire_vcpu), length, mapped;
	struct wire_vcpus *wire = calloc(1, size);
	void *code;

	if (!wire)
		return -ENOMEM;
	if (counts_encode(&guest->counts, &code, &length, &mapped)) {
		free(wire);
		return -ENOMEM;
	}
	wire->seed = guest->settings.content.seed;
	wire->beats = atomic_load(&guest->beats);
	wire->vcpus = vcpus;
	for (uint32_t i = 0; i < vcpus; i++) {
		wire->vcpu[i] = (struct wire_vcpu){ .rng = guest->vcpu[i].state.rng,
						    .position = guest->vcpu[i].state.position,
						    .written = atomic_load(&guest->vcpu[i].written) };
	}
	ret_state->section[0] = (struct sluice_section){ "counts", COUNTS_VERSION, code, length };
	ret_state->section[1] = (struct sluice_section){ "vcpus", VCPUS_VERSION, wire, size };
	ret_state->mapped = mapped;
	return 0;
}

void guest_free_state(struct guest_state *state)
{
	counts_free_code((void *)state->section[0].data, state->mapped);
	free((void *)state->section[1].data);
	memset(state, 0, sizeof(*state));
}

static const char *load_vcpus(struct guest *guest, const struct sluice_section *section)
{
	const uint8_t *data = section->data;
	uint32_t vcpus = guest->settings.vcpus;
	struct wire_vcpus head;
	struct wire_vcpu from;

	if (section->version != VCPUS_VERSION)
		return "section vcpus has a version that this migperf does not know: use the same migperf at both ends";
	if (section->length != sizeof(head) + vcpus * sizeof(from))
		return "section vcpus is not this guest's";
	memcpy(&head, data, sizeof(head)); /* where the library put it need not be aligned */
	if (head.vcpus != vcpus || head.seed != guest->settings.content.seed)
		return "section vcpus is not this guest's";
	for (uint32_t i = 0; i < vcpus; i++) {
		memcpy(&from, data + sizeof(head) + i * sizeof(from), sizeof(from));
		if (from.position >= guest->vcpu[i].pattern.items)
			return "section vcpus has a position beyond the working set";
		guest->vcpu[i].state = (struct pattern_state){ .rng = from.rng, .position = from.position };
		atomic_store(&guest->vcpu[i].written, from.written);
	}
	atomic_store(&guest->beats, head.beats);
	return NULL;
}

int guest_load(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR])
{
	const char *wrong = NULL;
	unsigned seen = 0;

	for (size_t i = 0; i < n && !wrong; i++) {
		if (!strcmp(sections[i].name, "vcpus")) {
			wrong = load_vcpus(guest, &sections[i]);
			seen |= 1;
		} else if (!strcmp(sections[i].name, "counts")) {
			if (sections[i].version != COUNTS_VERSION ||
			    counts_decode(&guest->counts, sections[i].data, sections[i].length))
				wrong = "section counts is damaged, or of another migperf's version";
			seen |= 2;
		} else {
			wrong = "the guest's state has a section that this migperf does not know";
		}
	}
	if (!wrong && seen != 3)
		wrong = "the guest's state lacks section vcpus or counts";
	if (!wrong)
		return 0;
	strncpy(error, wrong, SETTINGS_ERROR - 1);
	error[SETTINGS_ERROR - 1] = 0;
	return -EBADMSG;
}
