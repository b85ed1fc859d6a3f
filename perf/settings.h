/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the source chooses of a guest; it travels to the destination as the cookie. */
#ifndef PERF_SETTINGS_H
#define PERF_SETTINGS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "perf/content.h"
#include "perf/disk/area.h"
#include "perf/memory.h"
#include "perf/pattern.h"

#define SETTINGS_MAX_MEMORY (64ull << 40)
#define SETTINGS_MAX_RATE (1ull << 40) /* bytes per second */
#define SETTINGS_MAX_VCPUS 256u
#define SETTINGS_MAX_KVM_VCPUS 32u
#define SETTINGS_MAX_KVM_MEMORY (256ull << 30)
#define SETTINGS_MIN_KVM_MEMORY (1ull << 20)
#define SETTINGS_KVM_WSS 8u /* pages of each vCPU at least */
#define SETTINGS_ERROR 200
#define SETTINGS_FROM 100

enum verify_mode { VERIFY_FULL, VERIFY_SAMPLE, VERIFY_OFF };

enum guest_type { GUEST_PROCESS, GUEST_KVM };

struct guest_settings {
	enum guest_type type;
	struct memory_spec memory;
	struct content content;
	enum pattern_kind pattern;
	enum verify_mode verify;
	uint64_t dirty_rate; /* bytes per second */
	uint64_t wss_bytes;
	uint64_t need_bytes; /* what the destination will come to hold */
	uint32_t vcpus;
	uint32_t ring_pages; /* dirty ring of each vCPU, 0: none. This end's own affair, it does not travel */
	struct disk_settings disk;
	char from[SETTINGS_FROM]; /* who offers it, for messages: printable */
	bool prealloc;
	bool prepare; /* of the session, not the guest: populate memory and refuse with SETTINGS_PREPARED */
};

/* A source that wants --prealloc opens two sessions: in the first the destination populates memory and keeps it for the second,
 * which starts the clock. The first ends in this error; no other refusal of migperf's has it. */
#define SETTINGS_PREPARED (-EALREADY)

/* Names as the command line has them, by enum value; NULL-terminated. */
extern const char *const settings_fills[], *const settings_patterns[], *const settings_guests[], *const settings_verifies[];

/* The index of `text` in names, -1: none. */
int settings_find(const char *const *names, const char *text);

/* "anon", "memfd", "hugetlb", "hugetlb:2M", "hugetlb:1G". 0 or -EINVAL. */
int settings_parse_backing(const char *text, struct memory_spec *spec);

/* Bytes at the end of memory that its writers leave alone, for the disk's rings and buffers. */
uint64_t settings_disk_bytes(const struct guest_settings *settings);

/* Whether they make sense together; -EINVAL with one line. For the command line and for what a peer sent. */
int settings_check(const struct guest_settings *settings, char error[SETTINGS_ERROR]);

/* As JSON text, malloc'ed. NULL: no memory. `from` is who this is. */
char *settings_encode(const struct guest_settings *settings);

/* From a peer: everything is checked. -EBADMSG with one line. */
int settings_decode(const void *data, size_t length, struct guest_settings *ret, char error[SETTINGS_ERROR]);

#endif
