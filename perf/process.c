/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process guest: threads that write memory at a given pace, drivers of its disk, and a heartbeat.
 *
 * Thread i owns the pages of the working set whose number is i modulo the number of threads, so no page has two writers and its
 * count needs no atomics. One futex word says whether the guest runs, so a pause wakes all threads at once. It carries a number
 * that grows with every pause: a thread that slept through a resume and the next pause still parks for each of them.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/os.h"
#include "perf/process.h"

#define VCPUS_VERSION 1
#define COUNTS_VERSION 1

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

static void process_pause(struct guest *guest, void (*parked)(void *opaque), void *opaque)
{
	struct process *process = process_of(guest);
	uint32_t word = process_word(process);

	assert(word % PROCESS_MODES == PROCESS_RUNNING);
	process->parked = parked;
	process->parked_opaque = opaque;
	atomic_store_explicit(&process->word, word + PROCESS_MODES - PROCESS_RUNNING + PROCESS_STOPPED, memory_order_release);
	process_wake(process);
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

	if (process_word(process) % PROCESS_MODES != PROCESS_RUNNING)
		return;
	process_pause(&process->base, note_parked, &flag);
	while (!atomic_load(&flag))
		os_futex_wait(&flag, 0, OS_FOREVER);
}

static void process_resume(struct guest *guest, void (*beaten)(void *opaque, uint64_t ns), void *opaque)
{
	struct process *process = process_of(guest);
	uint32_t word = process_word(process);

	assert(word % PROCESS_MODES == PROCESS_STOPPED && !atomic_load(&process->running));
	process->beaten = beaten;
	process->beaten_opaque = opaque;
	guest_begin_run(guest);
	atomic_store(&process->running, process->threads);
	atomic_store_explicit(&process->word, word - PROCESS_STOPPED + PROCESS_RUNNING, memory_order_release);
	os_futex_wake_all(&process->word);
}

/* ---------------------------------------------------------------- making one */

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
	result = process_start_threads(process);
	if (result)
		goto stop;
	*ret_guest = &process->base;
	return 0;

stop:
	process_stop_threads(process);
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
	process_stop_threads(process);
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
	ret->running = atomic_load_explicit(&process->word, memory_order_relaxed) % PROCESS_MODES == PROCESS_RUNNING;
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
