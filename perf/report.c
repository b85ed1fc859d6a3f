/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the destination tells the source about the guest that arrived. */
#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "perf/report.h"
#include "perf/settings.h"

static const char *const kinds[] = { "running", "busy", "result", NULL };

char *report_encode(const struct report *r)
{
	json_t *json = json_pack(
		"{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:b, s:I, s:I}", "kind",
		kinds[r->kind], "host", r->host, "first_beat_ns", (json_int_t)r->first_beat_ns, "verify",
		verify_names[r->verify.status], "mismatches", (json_int_t)r->verify.mismatches, "pages",
		(json_int_t)r->verify.pages, "first_page", (json_int_t)r->verify.first_page, "first", r->verify.first, "cpu_s",
		r->cpu_s, "gap_ns", (json_int_t)r->gap_ns, "pages_written", (json_int_t)r->pages_written, "sluice_bytes",
		(json_int_t)r->sluice_bytes, "page_tables_bytes", (json_int_t)r->page_tables_bytes, "vcpu_gap_ns",
		(json_int_t)r->vcpu_gap_ns, "guest_checked", (json_int_t)r->guest_checked, "run_on_pages_per_s",
		r->run_on_pages_per_s, "stopped_ns", (json_int_t)r->stopped_ns, "has_clocks", (int)r->has_clocks, "kvmclock_ns",
		(json_int_t)r->clocks.kvmclock_ns, "tsc_ns", (json_int_t)r->clocks.tsc_ns);
	char *text;

	if (json)
		json_object_set_new(json, "disk",
				    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "blocks", (json_int_t)r->verify.disk_blocks,
					      "kept", (json_int_t)r->verify.kept_blocks, "requests", (json_int_t)r->disk.requests,
					      "failed", (json_int_t)r->disk.failed, "first_ns", (json_int_t)r->disk.first_ns,
					      "gap_ns", (json_int_t)r->disk.gap_ns));
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	return text;
}

/* Copy text that will be shown to a user: what is not printable is replaced. */
static void copy_text(char *to, size_t size, const char *from)
{
	size_t i = 0;

	for (; i + 1 < size && from[i]; i++)
		to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
	to[i] = 0;
}

static int decode_disk(json_t *json, struct report *ret)
{
	json_int_t blocks, kept, requests, failed, first, gap;

	if (json_unpack(json, "{s:I, s:I, s:I, s:I, s:I, s:I}", "blocks", &blocks, "kept", &kept, "requests", &requests, "failed",
			&failed, "first_ns", &first, "gap_ns", &gap) ||
	    blocks < 0 || kept < 0 || requests < 0 || failed < 0 || first < 0 || gap < 0)
		return -EBADMSG;
	ret->verify.disk_blocks = (uint64_t)blocks;
	ret->verify.kept_blocks = (uint64_t)kept;
	ret->disk = (struct report_disk){ (uint64_t)requests, (uint64_t)failed, (uint64_t)first, (uint64_t)gap };
	return 0;
}

int report_decode(const void *data, size_t length, struct report *ret)
{
	json_error_t why;
	json_t *json = json_loadb(data, length, JSON_REJECT_DUPLICATES, &why);
	const char *kind, *host, *verify, *first;
	json_int_t beat, mismatches, pages, first_page, gap, written, own, tables, vcpu_gap, checked, stopped, kvmclock, tsc;
	int kind_index = -1, status = -1, has_clocks = 0, result = -EBADMSG;

	memset(ret, 0, sizeof(*ret));
	if (json &&
	    !json_unpack(json,
			 "{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:s, s:F, s:I, s:I, s:I, s:I, s:I, s:I, s:F, s:I, s:b, s:I, s:I}",
			 "kind", &kind, "host", &host, "first_beat_ns", &beat, "verify", &verify, "mismatches", &mismatches,
			 "pages", &pages, "first_page", &first_page, "first", &first, "cpu_s", &ret->cpu_s, "gap_ns", &gap,
			 "pages_written", &written, "sluice_bytes", &own, "page_tables_bytes", &tables, "vcpu_gap_ns", &vcpu_gap,
			 "guest_checked", &checked, "run_on_pages_per_s", &ret->run_on_pages_per_s, "stopped_ns", &stopped,
			 "has_clocks", &has_clocks, "kvmclock_ns", &kvmclock, "tsc_ns", &tsc)) {
		kind_index = settings_find(kinds, kind);
		for (int i = 0; i <= VERIFY_MISMATCH; i++) {
			if (!strcmp(verify_names[i], verify))
				status = i;
		}
	}
	if (kind_index >= 0 && status >= 0 && beat >= 0 && mismatches >= 0 && pages >= 0 && first_page >= 0 && gap >= 0 &&
	    written >= 0 && own >= 0 && tables >= 0 && vcpu_gap >= 0 && checked >= 0 && stopped >= 0) {
		ret->kind = (enum report_kind)kind_index;
		ret->first_beat_ns = (uint64_t)beat;
		ret->stopped_ns = (uint64_t)stopped;
		ret->has_clocks = has_clocks;
		ret->clocks = (struct guest_clocks){ kvmclock, tsc };
		ret->verify = (struct verify_result){ .status = (enum verify_status)status,
						      .mismatches = (uint64_t)mismatches,
						      .pages = (uint64_t)pages,
						      .first_page = (uint64_t)first_page };
		copy_text(ret->host, sizeof(ret->host), host);
		copy_text(ret->verify.first, sizeof(ret->verify.first), first);
		ret->gap_ns = (uint64_t)gap;
		ret->vcpu_gap_ns = (uint64_t)vcpu_gap;
		ret->guest_checked = (uint64_t)checked;
		ret->pages_written = (uint64_t)written;
		ret->sluice_bytes = (uint64_t)own;
		ret->page_tables_bytes = (uint64_t)tables;
		result = decode_disk(json_object_get(json, "disk"), ret);
	}
	json_decref(json);
	return result;
}
