/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process guest: threads that write memory at a given pace, drivers of its disk, and a heartbeat.
 *
 * Thread i owns the pages of the working set whose number is i modulo the number of threads, so no page has two
 * writers and its count needs no atomics. One futex word says whether the guest runs; sleeping threads wait on it
 * with their pace's timeout, so a pause wakes them at once. The word carries a number that grows with every pause:
 * a thread that slept through a resume and the next pause still parks for each of them. A driver sleeps on its queue's bell, which
 * rings for every change of the word too.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/counts.h"
#include "perf/guest_kind.h"
#include "perf/os.h"
#include "perf/throttle.h"

enum { STOPPED, RUNNING, QUITTING, MODES = 4 }; /* low bits of the word */

#define TICK_NS OS_MS            /* of the heartbeat, and of pacing */
#define CATCH_UP_NS (50 * OS_MS) /* a thread that was held up longer does not make up for the rest */
#define VCPUS_VERSION 1
#define COUNTS_VERSION 1

struct vcpu {
	struct process *process;
	pthread_t thread;
	uint32_t id;
	struct pattern pattern;
	struct pattern_state state; /* the thread's; anyone's while the guest stands still */
	_Atomic uint64_t written;   /* likewise, but readable at any time */
} __attribute__((aligned(64)));

/* A thread that is the driver of one of the disk's queues. */
struct driving {
	struct process *process;
	pthread_t thread;
	uint32_t queue;
};

struct process {
	struct guest base;
	/* set once */
	uint32_t threads; /* the heartbeat, drivers and vCPUs, started in this order */
	uint32_t drivers;
	struct driving driving[AREA_QUEUES];
	struct counts counts; /* pages by their owners */

	/* by whoever pauses or resumes, while all stand still; the word publishes it */
	struct sluice *marked;
	void (*beaten)(void *opaque, uint64_t ns);
	void *beaten_opaque;
	void (*parked)(void *opaque);
	void *parked_opaque;

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

static struct process *process_of(const struct guest *guest)
{
	return (struct process *)guest;
}

/* ---------------------------------------------------------------- standing still */

static uint32_t load_word(struct process *process)
{
	return atomic_load_explicit(&process->word, memory_order_acquire);
}

/* Stand still until the guest runs. *parked_for: the word this thread last parked for. false: quit. */
static bool stand_still(struct process *process, uint32_t *parked_for)
{
	uint32_t word;

	while ((word = load_word(process)) % MODES != RUNNING) {
		if (word % MODES == QUITTING)
			return false;
		if (word != *parked_for) {
			void (*parked)(void *) = process->parked;
			void *opaque = process->parked_opaque;

			*parked_for = word;
			if (atomic_fetch_sub_explicit(&process->running, 1, memory_order_acq_rel) == 1) {
				guest_end_run(&process->base);
				parked(opaque);
			}
			continue;
		}
		os_futex_wait(&process->word, word, OS_FOREVER);
	}
	return true;
}

/* The word has changed. */
static void wake_all(struct process *process)
{
	os_futex_wake_all(&process->word);
	if (process->base.disk)
		disk_wake(process->base.disk);
}

static void process_pause(struct guest *guest, void (*parked)(void *opaque), void *opaque)
{
	struct process *process = process_of(guest);
	uint32_t word = load_word(process);

	assert(word % MODES == RUNNING);
	process->parked = parked;
	process->parked_opaque = opaque;
	atomic_store_explicit(&process->word, word + MODES - RUNNING + STOPPED, memory_order_release);
	wake_all(process);
}

static void note_parked(void *opaque)
{
	_Atomic uint32_t *flag = opaque;

	atomic_store(flag, 1);
	os_futex_wake_all(flag);
}

static void process_park(struct guest *guest)
{
	struct process *process = process_of(guest);
	_Atomic uint32_t flag = 0;

	if (load_word(process) % MODES != RUNNING)
		return;
	process_pause(&process->base, note_parked, &flag);
	while (!atomic_load(&flag))
		os_futex_wait(&flag, 0, OS_FOREVER);
}

static void process_resume(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque)
{
	struct process *process = process_of(guest);
	uint32_t word = load_word(process);

	assert(word % MODES == STOPPED && !atomic_load(&process->running));
	process->beaten = beaten;
	process->beaten_opaque = opaque;
	guest_begin_run(guest);
	atomic_store(&process->running, process->threads);
	atomic_store_explicit(&process->word, word - STOPPED + RUNNING, memory_order_release);
	os_futex_wake_all(&process->word);
}

/* ---------------------------------------------------------------- threads */

static void beat(struct process *process, uint64_t now)
{
	uint64_t last = atomic_load_explicit(&process->last_beat_ns, memory_order_relaxed);

	if (last && now - last > atomic_load_explicit(&process->gap_ns, memory_order_relaxed))
		atomic_store_explicit(&process->gap_ns, now - last, memory_order_relaxed);
	atomic_store_explicit(&process->last_beat_ns, now, memory_order_relaxed);
	atomic_fetch_add_explicit(&process->beats, 1, memory_order_relaxed);
}

static void *heartbeat_body(void *arg)
{
	struct process *process = arg;
	uint32_t parked_for = STOPPED;
	uint64_t now, next;

	while (stand_still(process, &parked_for)) {
		uint32_t word = load_word(process);

		if (word % MODES != RUNNING)
			continue;
		next = now = os_now_ns();
		beat(process, now);
		if (process->beaten)
			process->beaten(process->beaten_opaque, now);
		while (load_word(process) == word) {
			now = os_now_ns();
			if (now < next) {
				os_futex_wait(&process->word, word, next);
				continue;
			}
			beat(process, now);
			next += TICK_NS;
			if (next <= now)
				next = now + TICK_NS;
		}
	}
	return NULL;
}

static void write_page(struct vcpu *vcpu)
{
	struct process *process = vcpu->process;
	uint64_t page = pattern_next(&vcpu->pattern, &vcpu->state) * process->base.settings.vcpus + vcpu->id;
	uint32_t count = process->counts.count[page] + 1;

	content_write(&process->base.settings.content, page, count, memory_page(&process->base.memory, page));
	if (process->marked)
		memory_mark(&process->base.memory, process->marked, page, 1);
	counts_set(&process->counts, page, count);
	atomic_store_explicit(&vcpu->written, atomic_load_explicit(&vcpu->written, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static uint32_t throttle_of(struct process *process)
{
	return atomic_load_explicit(&process->base.throttle, memory_order_relaxed);
}

/* Whether a throttled guest's writers stand still now. */
static bool held_off(struct process *process)
{
	uint32_t percent = throttle_of(process);

	return percent && throttle_until(percent, os_now_ns());
}

/* Write at the thread's share of the dirty rate until the word changes. Time in which it is held off is not made up for. */
static void run_paced(struct vcpu *vcpu, uint32_t word)
{
	struct process *process = vcpu->process;
	double pages_per_ns = (double)process->base.settings.dirty_rate / process->base.settings.vcpus / SLUICE_PAGE_SIZE / 1e9;
	uint64_t began = os_now_ns(), seen = began, done = 0, most = (uint64_t)(pages_per_ns * CATCH_UP_NS) + 1;

	while (load_word(process) == word) {
		uint32_t percent = throttle_of(process);
		uint64_t now = os_now_ns(), held_until = throttle_until(percent, now), due, next;

		began += throttle_stood_ns(percent, seen, now);
		seen = now;
		if (held_until) {
			os_futex_wait(&process->word, word, held_until);
			continue;
		}

		if (pages_per_ns <= 0) {
			os_futex_wait(&process->word, word, OS_FOREVER);
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
			os_futex_wait(&process->word, word, next > now + TICK_NS ? next : now + TICK_NS);
			continue;
		}
		for (; due && atomic_load_explicit(&process->word, memory_order_relaxed) == word && !held_off(process);
		     due--, done++)
			write_page(vcpu);
	}
}

static void *vcpu_body(void *arg)
{
	struct vcpu *vcpu = arg;
	uint32_t parked_for = STOPPED, word;

	while (stand_still(vcpu->process, &parked_for)) {
		word = load_word(vcpu->process);
		if (word % MODES == RUNNING)
			run_paced(vcpu, word);
	}
	return NULL;
}

/* Keep a queue busy until the word changes. */
static void drive(struct driving *driving, uint32_t word)
{
	struct process *process = driving->process;
	struct disk *disk = process->base.disk;

	for (;;) {
		uint32_t bell = disk_bell(disk, driving->queue);

		if (load_word(process) != word)
			return;
		if (!disk_step(disk, driving->queue, process->marked))
			disk_wait(disk, driving->queue, bell);
	}
}

static void *driving_body(void *arg)
{
	struct driving *driving = arg;
	uint32_t parked_for = STOPPED, word;

	while (stand_still(driving->process, &parked_for)) {
		word = load_word(driving->process);
		if (word % MODES == RUNNING)
			drive(driving, word);
	}
	return NULL;
}

/* ---------------------------------------------------------------- making one */

static int start_drivers(struct process *process)
{
	uint32_t queues = process->base.disk ? disk_queues(process->base.disk) : 0;

	for (uint32_t q = 0; q < queues; q++) {
		struct driving *driving = &process->driving[q];
		char name[16] = "driver";
		int error;

		driving->process = process;
		driving->queue = q;
		name[6] = (char)('0' + q);
		error = os_thread_start(&driving->thread, name, driving_body, driving);
		if (error)
			return error;
		process->drivers++;
		process->threads++;
	}
	return 0;
}

static int start_threads(struct process *process)
{
	int error = os_thread_start(&process->heartbeat, "heartbeat", heartbeat_body, process);

	if (error)
		return error;
	process->threads = 1;
	error = start_drivers(process);
	if (error)
		return error;
	for (uint32_t i = 0; i < process->base.settings.vcpus; i++) {
		char name[16] = "vcpu";

		name[4] = (char)('0' + i / 100);
		name[5] = (char)('0' + i / 10 % 10);
		name[6] = (char)('0' + i % 10);
		error = os_thread_start(&process->vcpu[i].thread, name, vcpu_body, &process->vcpu[i]);
		if (error)
			return error;
		process->threads++;
	}
	return 0;
}

static void stop_threads(struct process *process)
{
	atomic_store_explicit(&process->word, QUITTING, memory_order_release);
	wake_all(process);
	for (uint32_t i = 0; i + 1 + process->drivers < process->threads; i++)
		pthread_join(process->vcpu[i].thread, NULL);
	for (uint32_t q = 0; q < process->drivers; q++)
		pthread_join(process->driving[q].thread, NULL);
	if (process->threads)
		pthread_join(process->heartbeat, NULL);
	process->threads = 0;
}

static const struct guest_kind process_kind;

int process_create(const struct guest_settings *settings, const struct memory *memory, struct disk *disk,
		   struct guest **ret_guest, char error[SETTINGS_ERROR])
{
	uint64_t wss_pages = settings->wss_bytes / SLUICE_PAGE_SIZE;
	size_t size = (sizeof(struct process) + settings->vcpus * sizeof(struct vcpu) + 63) & ~(size_t)63;
	struct process *process = aligned_alloc(64, size);
	int result = -ENOMEM;

	if (!process)
		goto say;
	memset(process, 0, size);
	process->base.kind = &process_kind;
	process->base.settings = *settings;
	result = counts_init(&process->counts, memory->pages);
	if (result)
		goto free_process;
	for (uint32_t i = 0; i < settings->vcpus; i++) {
		struct vcpu *vcpu = &process->vcpu[i];

		vcpu->process = process;
		vcpu->id = i;
		pattern_init(&vcpu->pattern, settings->pattern, (wss_pages - i + settings->vcpus - 1) / settings->vcpus);
		vcpu->state.rng = content_mix(settings->content.seed + i);
	}
	process->base.memory = *memory;
	process->base.disk = disk;
	result = start_threads(process);
	if (result)
		goto stop;
	*ret_guest = &process->base;
	return 0;

stop:
	stop_threads(process);
	counts_fini(&process->counts);
free_process:
	free(process);
say:
	snprintf(error, SETTINGS_ERROR, "cannot make the guest: %s: free memory, or choose a smaller -m or --vcpus",
		 strerror(-result));
	return result;
}

static void process_destroy(struct guest *guest)
{
	struct process *process = process_of(guest);

	assert(!atomic_load(&process->running));
	stop_threads(process);
	counts_fini(&process->counts);
	free(process);
}

/* ---------------------------------------------------------------- looking */

static void process_mark_for(struct guest *guest, struct sluice *session)
{
	struct process *process = process_of(guest);

	assert(!atomic_load(&process->running));
	process->marked = session;
}

static void process_look(const struct guest *guest, struct guest_view *ret)
{
	const struct process *process = process_of(guest);

	ret->pages_written = 0;
	for (uint32_t i = 0; i < process->base.settings.vcpus; i++)
		ret->pages_written += atomic_load_explicit(&process->vcpu[i].written, memory_order_relaxed);
	ret->beats = atomic_load_explicit(&process->beats, memory_order_relaxed);
	ret->last_beat_ns = atomic_load_explicit(&process->last_beat_ns, memory_order_relaxed);
	ret->gap_ns = atomic_load_explicit(&process->gap_ns, memory_order_relaxed);
	ret->running = atomic_load_explicit(&process->word, memory_order_relaxed) % MODES == RUNNING;
}

static void process_reset_gap(struct guest *guest)
{
	struct process *process = process_of(guest);

	atomic_store_explicit(&process->gap_ns, 0, memory_order_relaxed);
}

/* ---------------------------------------------------------------- state */

static void release_state(struct guest_state *state)
{
	counts_free_code((void *)state->section[0].data, state->mapped);
	free((void *)state->section[1].data);
}

static int process_save(const struct guest *guest, struct guest_state *ret_state)
{
	const struct process *process = process_of(guest);
	uint32_t vcpus = process->base.settings.vcpus;
	size_t size = sizeof(struct wire_vcpus) + vcpus * sizeof(struct wire_vcpu), length, mapped;
	struct wire_vcpus *wire = calloc(1, size);
	void *code;

	if (!wire)
		return -ENOMEM;
	if (counts_encode(&process->counts, &code, &length, &mapped)) {
		free(wire);
		return -ENOMEM;
	}
	wire->seed = process->base.settings.content.seed;
	wire->beats = atomic_load(&process->beats);
	wire->vcpus = vcpus;
	for (uint32_t i = 0; i < vcpus; i++) {
		wire->vcpu[i] = (struct wire_vcpu){ .rng = process->vcpu[i].state.rng,
						    .position = process->vcpu[i].state.position,
						    .written = atomic_load(&process->vcpu[i].written) };
	}
	ret_state->n = 2;
	ret_state->mapped = mapped;
	ret_state->release = release_state;
	ret_state->section[0] = (struct sluice_section){ "counts", COUNTS_VERSION, code, length };
	ret_state->section[1] = (struct sluice_section){ "vcpus", VCPUS_VERSION, wire, size };
	return 0;
}

static const char *load_vcpus(struct process *process, const struct sluice_section *section)
{
	const uint8_t *data = section->data;
	uint32_t vcpus = process->base.settings.vcpus;
	struct wire_vcpus head;
	struct wire_vcpu from;

	if (section->version != VCPUS_VERSION)
		return "section vcpus has a version that this migperf does not know: use the same migperf at both ends";
	if (section->length != sizeof(head) + vcpus * sizeof(from))
		return "section vcpus is not this guest's";
	memcpy(&head, data, sizeof(head)); /* where the library put it need not be aligned */
	if (head.vcpus != vcpus || head.seed != process->base.settings.content.seed)
		return "section vcpus is not this guest's";
	for (uint32_t i = 0; i < vcpus; i++) {
		memcpy(&from, data + sizeof(head) + i * sizeof(from), sizeof(from));
		if (from.position >= process->vcpu[i].pattern.period)
			return "section vcpus has a position beyond the working set";
		process->vcpu[i].state = (struct pattern_state){ .rng = from.rng, .position = from.position };
		atomic_store(&process->vcpu[i].written, from.written);
	}
	atomic_store(&process->beats, head.beats);
	return NULL;
}

static int process_load(struct guest *guest, const struct sluice_section *sections, size_t n, char error[SETTINGS_ERROR])
{
	struct process *process = process_of(guest);
	const char *wrong = NULL;
	unsigned seen = 0;

	for (size_t i = 0; i < n && !wrong; i++) {
		if (!strcmp(sections[i].name, "vcpus")) {
			wrong = load_vcpus(process, &sections[i]);
			seen |= 1;
		} else if (!strcmp(sections[i].name, "counts")) {
			if (sections[i].version != COUNTS_VERSION ||
			    counts_decode(&process->counts, sections[i].data, sections[i].length))
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

/* ---------------------------------------------------------------- pages */

static bool process_fill_page(struct guest *guest, uint64_t page)
{
	const struct content *content = &guest->settings.content;

	if (!content_touched(content, page))
		return false;
	content_write(content, page, 0, memory_page(&guest->memory, page));
	return true;
}

/* A page's count; those of pages that were never written are not looked at, so that they stay untouched. */
static uint32_t count_of(const struct guest *guest, uint64_t page)
{
	const struct counts *counts = &process_of(guest)->counts;

	return counts_any(counts, page) ? counts->count[page] : 0;
}

static bool process_page_right(const struct guest *guest, uint64_t page, const void *memory)
{
	uint32_t count = count_of(guest, page);

	if (!memory)
		return content_is_zero(&guest->settings.content, page, count);
	return content_matches(&guest->settings.content, page, count, memory);
}

static void process_page_describe(const struct guest *guest, uint64_t page, const void *memory, char text[CONTENT_TEXT])
{
	content_describe(&guest->settings.content, page, count_of(guest, page), memory, text);
}

static bool process_blank(const struct guest *guest, uint64_t first)
{
	const struct content *content = &guest->settings.content;

	return !counts_any(&process_of(guest)->counts, first) && (!content->touched_per_2_32 || content->fill == FILL_ZERO);
}

static bool process_tally(const struct guest *guest, char text[CONTENT_TEXT])
{
	uint64_t sum = counts_sum(&process_of(guest)->counts);
	struct guest_view view;

	process_look(guest, &view);
	if (view.pages_written == sum)
		return true;
	snprintf(text, CONTENT_TEXT, "the guest's threads made %" PRIu64 " writes, its pages count %" PRIu64, view.pages_written,
		 sum);
	return false;
}

static const struct guest_kind process_kind = {
	.destroy = process_destroy,
	.fill_page = process_fill_page,
	.resume = process_resume,
	.pause = process_pause,
	.park = process_park,
	.mark_for = process_mark_for,
	.look = process_look,
	.reset_gap = process_reset_gap,
	.save = process_save,
	.load = process_load,
	.page_right = process_page_right,
	.page_describe = process_page_describe,
	.blank = process_blank,
	.tally = process_tally,
};
