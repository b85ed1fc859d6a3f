/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* steps.h: what the suites of the step functions share: action lists as text, so that a test says in one line what it expects. */
#pragma once

#include <stdio.h>
#include <string.h>

#include "core/decide/step.h"

enum { MS = 1000000 };

static const struct params usual_params = {
	.downtime_limit_ms = 300,
	.timeout_ms = 0,
	.callback_ms = 60000,
	.connect_ms = 5000,
	.remember_ms = 10000,
};

static inline const char *request_name(enum sluice_request request)
{
	static const char *const names[] = { "none", "incoming", "pause", "save", "release", "load", "acquire", "resume" };

	return names[request];
}

static inline int one_said(char *at, size_t room, const struct action *a)
{
	switch (a->type) {
	case ACTION_PHASE: return snprintf(at, room, "phase:%s", sluice_phase_name(a->phase));
	case ACTION_ERROR: return snprintf(at, room, "error");
	case ACTION_MENDED: return snprintf(at, room, "mended");
	case ACTION_DIAL: return snprintf(at, room, "dial");
	case ACTION_SEND: return snprintf(at, room, "%s", message_name(a->message_type));
	case ACTION_ADOPT: return snprintf(at, room, "adopt");
	case ACTION_STREAMS_START: return snprintf(at, room, "streams+");
	case ACTION_STREAMS_STOP: return snprintf(at, room, "streams-");
	case ACTION_ARM: return snprintf(at, room, "arm");
	case ACTION_ROUND:
		return snprintf(at, room, "round:%u%s%s", a->round, a->fetched ? ":fetched" : "", a->last ? ":last" : "");
	case ACTION_ROUND_CUT: return snprintf(at, room, "cut");
	case ACTION_SYNC: return snprintf(at, room, "sync");
	case ACTION_ROUND_EVENT:
		return snprintf(at, room, "told:%u%s", a->round_info.n, a->round_info.final_round ? ":final" : "");
	case ACTION_WARN: return snprintf(at, room, "warn");
	case ACTION_THROTTLE: return snprintf(at, room, "throttle:%u", a->percent);
	case ACTION_IO_DEPTH:
		return a->depth == SLUICE_IO_DEPTH_USUAL ? snprintf(at, room, "depth:usual")
							 : snprintf(at, room, "depth:%u", a->depth);
	case ACTION_DRAIN_TRY: return snprintf(at, room, "drain?");
	case ACTION_REQUEST: return snprintf(at, room, "ask:%s", request_name(a->request));
	case ACTION_UNTRACK: return snprintf(at, room, "untrack");
	case ACTION_ADMIT: return snprintf(at, room, "admit");
	case ACTION_LINK_DROP: return snprintf(at, room, "drop");
	case ACTION_DOOR_CLOSE: return snprintf(at, room, "door-");
	case ACTION_LINK_CLOSE: return snprintf(at, room, "link-");
	case ACTION_END: return snprintf(at, room, "end");
	}
	return snprintf(at, room, "?");
}

/* "error CANCEL streams- phase:failed link- end"; in one static buffer. */
static inline const char *said(const struct actions *out)
{
	static char text[1024];
	size_t n = 0;

	text[0] = 0;
	for (uint32_t i = 0; i < out->n && n < sizeof text - 64; i++)
		n += (size_t)one_said(text + n, sizeof text - n, &out->list[i]),
			n += (size_t)snprintf(text + n, sizeof text - n, "%s", i + 1 < out->n ? " " : "");
	return text;
}

static inline unsigned count_of(const struct actions *out, enum action_type type)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < out->n; i++)
		n += out->list[i].type == type;
	return n;
}

static inline unsigned asked_for(const struct actions *out, enum sluice_request request)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < out->n; i++)
		n += out->list[i].type == ACTION_REQUEST && out->list[i].request == request;
	return n;
}

static inline unsigned sent(const struct actions *out, enum message_type type)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < out->n; i++)
		n += out->list[i].type == ACTION_SEND && out->list[i].message_type == type;
	return n;
}

/* One line that a user can act on: not empty, no control characters, not cut off. */
static inline bool one_line(const char *text)
{
	size_t n = strlen(text);

	if (n < 10 || n >= SLUICE_ERROR_MAX - 1)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	return true;
}
