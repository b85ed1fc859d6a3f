/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the source chooses of a guest; it travels to the destination as the cookie. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "perf/settings.h"
#include "perf/units.h"

#define COOKIE_VERSION 4
#define MAGIC "migperf"

const char *const settings_fills[] = { "random", "zero", "text", "guest", NULL };
const char *const settings_patterns[] = { "seq", "rand", "zipf", "gc", NULL };
const char *const settings_guests[] = { "process", "kvm", NULL };
const char *const settings_verifies[] = { "full", "sample", "off", NULL };

int settings_find(const char *const *names, const char *text)
{
	for (int i = 0; names[i]; i++) {
		if (!strcmp(names[i], text))
			return i;
	}
	return -1;
}

int settings_parse_backing(const char *text, struct memory_spec *spec)
{
	static const struct {
		const char *name;
		enum backing backing;
		uint32_t host_page_size;
	} known[] = {
		{ "anon", BACKING_ANON, SLUICE_PAGE_SIZE },  { "memfd", BACKING_MEMFD, SLUICE_PAGE_SIZE },
		{ "hugetlb", BACKING_HUGETLB, 2u << 20 },    { "hugetlb:2M", BACKING_HUGETLB, 2u << 20 },
		{ "hugetlb:1G", BACKING_HUGETLB, 1u << 30 },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (!strcmp(known[i].name, text)) {
			spec->backing = known[i].backing;
			spec->host_page_size = known[i].host_page_size;
			return 0;
		}
	}
	return -EINVAL;
}

/* What a virtual machine is narrower in. */
static int check_kvm(const struct guest_settings *settings, char error[SETTINGS_ERROR])
{
	uint64_t wss = (uint64_t)settings->vcpus * SETTINGS_KVM_WSS * SLUICE_PAGE_SIZE;
	char a[UNITS_TEXT], b[UNITS_TEXT], c[UNITS_TEXT];

	if (settings->memory.bytes < SETTINGS_MIN_KVM_MEMORY || settings->memory.bytes > SETTINGS_MAX_KVM_MEMORY)
		snprintf(error, SETTINGS_ERROR, "-m %s is out of range for --guest kvm: %s to %s",
			 units_exact(settings->memory.bytes, a), units_exact(SETTINGS_MIN_KVM_MEMORY, b),
			 units_exact(SETTINGS_MAX_KVM_MEMORY, c));
	else if (settings->vcpus > SETTINGS_MAX_KVM_VCPUS)
		snprintf(error, SETTINGS_ERROR, "--vcpus %" PRIu32 " is out of range for --guest kvm: 1 to %u", settings->vcpus,
			 SETTINGS_MAX_KVM_VCPUS);
	else if (settings->wss_bytes < wss)
		snprintf(error, SETTINGS_ERROR, "--wss %s is too small for --guest kvm: 32K for each of --vcpus, %s",
			 units_exact(settings->wss_bytes, a), units_exact(wss, b));
	else
		return 0;
	return -EINVAL;
}

uint64_t settings_disk_bytes(const struct guest_settings *settings)
{
	return settings->disk.path[0] ? area_pages(settings->disk.depth) * SLUICE_PAGE_SIZE : 0;
}

/* A guest without one is always right. */
static int check_disk(const struct guest_settings *settings, char error[SETTINGS_ERROR])
{
	const struct disk_settings *disk = &settings->disk;
	char a[UNITS_TEXT], b[UNITS_TEXT];

	if (!disk->path[0])
		return 0;
	if (disk->depth < 1 || disk->depth > AREA_MAX_DEPTH)
		snprintf(error, SETTINGS_ERROR, "--io-depth %" PRIu32 " is out of range: 1 to %u", disk->depth, AREA_MAX_DEPTH);
	else if (!fault_is_valid(&disk->fault))
		snprintf(error, SETTINGS_ERROR, "--io-fault is out of range");
	else if (settings->wss_bytes + settings_disk_bytes(settings) > settings->memory.bytes)
		snprintf(error, SETTINGS_ERROR,
			 "-m %s is too small for --wss %s and the disk's buffers at its end: choose a smaller "
			 "--wss or --io-depth",
			 units_exact(settings->memory.bytes, a), units_exact(settings->wss_bytes, b));
	else
		return 0;
	return -EINVAL;
}

int settings_check(const struct guest_settings *settings, char error[SETTINGS_ERROR])
{
	const struct memory_spec *memory = &settings->memory;
	char a[UNITS_TEXT], b[UNITS_TEXT];

	if (memory->bytes < SLUICE_PAGE_SIZE || memory->bytes > SETTINGS_MAX_MEMORY)
		snprintf(error, SETTINGS_ERROR, "-m %s is out of range: 4K to %s", units_exact(memory->bytes, a),
			 units_exact(SETTINGS_MAX_MEMORY, b));
	else if (memory->bytes % memory->host_page_size)
		snprintf(error, SETTINGS_ERROR, "-m %s must be a multiple of %s, the page size of --backing %s",
			 units_exact(memory->bytes, a), units_exact(memory->host_page_size, b), memory_backing_name(memory));
	else if (settings->dirty_rate > SETTINGS_MAX_RATE)
		snprintf(error, SETTINGS_ERROR, "--dirty-rate %s is out of range: 0 to %s", units_exact(settings->dirty_rate, a),
			 units_exact(SETTINGS_MAX_RATE, b));
	else if (settings->vcpus < 1 || settings->vcpus > SETTINGS_MAX_VCPUS)
		snprintf(error, SETTINGS_ERROR, "--vcpus %" PRIu32 " is out of range: 1 to %u", settings->vcpus,
			 SETTINGS_MAX_VCPUS);
	else if (settings->wss_bytes < (uint64_t)settings->vcpus * SLUICE_PAGE_SIZE || settings->wss_bytes > memory->bytes)
		snprintf(error, SETTINGS_ERROR, "--wss %s is out of range: %" PRIu32 "K (a page for each of --vcpus) to -m %s",
			 units_exact(settings->wss_bytes, a), 4 * settings->vcpus, units_exact(memory->bytes, b));
	else if (settings->wss_bytes % SLUICE_PAGE_SIZE)
		snprintf(error, SETTINGS_ERROR, "--wss %s must be a multiple of 4K", units_exact(settings->wss_bytes, a));
	else if (settings->content.fill == FILL_GUEST &&
		 (settings->type != GUEST_KVM || settings->content.touched_per_2_32 != 1ull << 32))
		snprintf(error, SETTINGS_ERROR, "--fill guest needs --guest kvm, and fills all: leave --touched out");
	else
		return settings->type == GUEST_KVM && check_kvm(settings, error) ? -EINVAL : check_disk(settings, error);
	return -EINVAL;
}

/* What comes from elsewhere, fit for a terminal. */
static void copy_printable(char ret[SETTINGS_FROM], const char *text)
{
	size_t n = 0;

	for (; text[n] && n < SETTINGS_FROM - 1; n++)
		ret[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
	ret[n] = 0;
}

/* Who this is. */
static void name_self(char ret[SETTINGS_FROM])
{
	char host[HOST_NAME_MAX + 1] = "", text[HOST_NAME_MAX + 40];

	if (gethostname(host, sizeof(host) - 1))
		snprintf(host, sizeof(host), "unknown");
	snprintf(text, sizeof(text), "process %d of host %s", (int)getpid(), host);
	copy_printable(ret, text);
}

char *settings_encode(const struct guest_settings *s)
{
	char from[SETTINGS_FROM];
	json_t *json;
	char *text;

	name_self(from);
	json = json_pack("{s:s, s:i, s:s, s:I, s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:b, s:b, s:s}", "magic", MAGIC,
			 "version", COOKIE_VERSION, "guest", settings_guests[s->type], "memory", (json_int_t)s->memory.bytes,
			 "backing", memory_backing_name(&s->memory), "seed", (json_int_t)s->content.seed, "touched",
			 (json_int_t)s->content.touched_per_2_32, "fill", settings_fills[s->content.fill], "pattern",
			 settings_patterns[s->pattern], "verify", settings_verifies[s->verify], "dirty_rate",
			 (json_int_t)s->dirty_rate, "wss", (json_int_t)s->wss_bytes, "need", (json_int_t)s->need_bytes, "vcpus",
			 (int)s->vcpus, "prealloc", (int)s->prealloc, "prepare", (int)s->prepare, "from", from);
	if (json && s->disk.path[0])
		json_object_set_new(json, "disk",
				    json_pack("{s:s, s:I, s:i, s:s, s:I}", "path", s->disk.path, "id", (json_int_t)s->disk.id,
					      "depth", (int)s->disk.depth, "fault", fault_names[s->disk.fault.kind], "value",
					      (json_int_t)s->disk.fault.value));
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return text;
}

/* -EBADMSG: it is not what it may be. settings_check() does the rest. */
static int take_disk(json_t *json, struct disk_settings *disk, char error[SETTINGS_ERROR])
{
	json_t *from = json_object_get(json, "disk");
	const char *path, *fault;
	json_int_t id, value;
	int depth, kind;

	if (!from)
		return 0;
	if (json_unpack(from, "{s:s, s:I, s:i, s:s, s:I}", "path", &path, "id", &id, "depth", &depth, "fault", &fault, "value",
			&value) ||
	    !path[0] || strlen(path) >= AREA_PATH || id <= 0 || depth < 0 || value < 0 ||
	    (kind = settings_find(fault_names, fault)) < 0) {
		snprintf(error, SETTINGS_ERROR, "guest settings hold a disk that this migperf does not know");
		return -EBADMSG;
	}
	strcpy(disk->path, path);
	disk->id = (uint64_t)id;
	disk->depth = (uint32_t)depth;
	disk->fault = (struct fault){ (enum fault_kind)kind, (uint64_t)value };
	return 0;
}

/* The strings and numbers of a cookie into settings. -EBADMSG: one is not what it may be. */
static int take(json_t *json, struct guest_settings *s, char error[SETTINGS_ERROR])
{
	const char *magic, *guest, *backing, *fill, *pattern, *verify, *from = "of an older migperf";
	json_int_t memory, seed, touched, rate, wss, need, vcpus;
	int version, prealloc, prepare, guest_index, fill_index, pattern_index, verify_index;
	json_error_t why;

	if (json_unpack_ex(json, &why, 0, "{s:s, s:i}", "magic", &magic, "version", &version) || strcmp(magic, MAGIC)) {
		snprintf(error, SETTINGS_ERROR, "the guest offered is not one of migperf's: use migperf at both ends");
		return -EBADMSG;
	}
	if (version != COOKIE_VERSION) {
		snprintf(error, SETTINGS_ERROR,
			 "the source describes its guest in version %d, this migperf knows %d: "
			 "use the same migperf at both ends",
			 version, COOKIE_VERSION);
		return -EBADMSG;
	}
	if (json_unpack_ex(json, &why, 0, "{s:s, s:I, s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:b, s?s}", "guest",
			   &guest, "memory", &memory, "backing", &backing, "seed", &seed, "touched", &touched, "fill", &fill,
			   "pattern", &pattern, "verify", &verify, "dirty_rate", &rate, "wss", &wss, "need", &need, "vcpus",
			   &vcpus, "prealloc", &prealloc, "prepare", &prepare, "from", &from)) {
		snprintf(error, SETTINGS_ERROR, "guest settings are damaged: %.120s", why.text);
		return -EBADMSG;
	}
	guest_index = settings_find(settings_guests, guest);
	fill_index = settings_find(settings_fills, fill);
	pattern_index = settings_find(settings_patterns, pattern);
	verify_index = settings_find(settings_verifies, verify);
	if (guest_index < 0 || fill_index < 0 || pattern_index < 0 || verify_index < 0 ||
	    settings_parse_backing(backing, &s->memory) || memory < 0 || touched < 0 || touched > 1ll << 32 || rate < 0 ||
	    wss < 0 || need < 0 || vcpus < 0 || vcpus > SETTINGS_MAX_VCPUS) {
		snprintf(error, SETTINGS_ERROR, "guest settings hold a value that this migperf does not know");
		return -EBADMSG;
	}
	s->type = (enum guest_type)guest_index;
	s->memory.bytes = (uint64_t)memory;
	s->content =
		(struct content){ .seed = (uint64_t)seed, .touched_per_2_32 = (uint64_t)touched, .fill = (enum fill)fill_index };
	s->pattern = (enum pattern_kind)pattern_index;
	s->verify = (enum verify_mode)verify_index;
	s->dirty_rate = (uint64_t)rate;
	s->wss_bytes = (uint64_t)wss;
	s->need_bytes = (uint64_t)need;
	s->vcpus = (uint32_t)vcpus;
	s->prealloc = prealloc;
	s->prepare = prepare;
	copy_printable(s->from, from);
	return take_disk(json, &s->disk, error);
}

int settings_decode(const void *data, size_t length, struct guest_settings *ret, char error[SETTINGS_ERROR])
{
	json_error_t why;
	json_t *json = json_loadb(data, length, JSON_REJECT_DUPLICATES, &why);
	int result;

	memset(ret, 0, sizeof(*ret));
	if (!json) {
		snprintf(error, SETTINGS_ERROR, "the guest offered is not one of migperf's: use migperf at both ends");
		return -EBADMSG;
	}
	result = take(json, ret, error);
	if (!result && settings_check(ret, error))
		result = -EBADMSG;
	json_decref(json);
	return result;
}
