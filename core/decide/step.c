/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* step.c: building action lists. */
#include "core/decide/step.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

bool input_is_word(const struct input *in)
{
	return in->type == INPUT_MESSAGE &&
	       (in->message->type == MESSAGE_REFUSE || in->message->type == MESSAGE_NEVER || in->message->type == MESSAGE_CANCEL);
}

const char *link_loss_cause(const struct input *in)
{
	switch (-in->code) {
	case ETIMEDOUT: return "nothing was heard for the dead-peer time";
	case ECONNRESET:
	case EPIPE: return "the connection was closed";
	case EPROTO: return "a damaged frame";
	default: return strerror(-in->code);
	}
}

struct action *actions_add(struct actions *actions, enum action_type type)
{
	assert(actions->n < ACTIONS_MAX);
	struct action *a = &actions->list[actions->n++];
	memset(a, 0, sizeof *a);
	a->type = type;
	a->stream = -1;
	return a;
}

void stream_loss_note(struct stream_loss *loss, const struct input *input)
{
	if (loss->until_ns)
		return;
	loss->until_ns = input->now_ns + STREAM_LOSS_MS * 1000000u;
	loss->code = input->code;
	loss->stream = input->stream;
	snprintf(loss->text, sizeof loss->text, "%s", input->text ? input->text : "a stream was lost");
}

void actions_phase(struct actions *actions, enum sluice_phase phase)
{
	actions_add(actions, ACTION_PHASE)->phase = phase;
}

void actions_send(struct actions *actions, enum message_type type)
{
	actions_add(actions, ACTION_SEND)->message_type = type;
}

void actions_send_word(struct actions *actions, enum message_type type, int code, const char *text)
{
	struct action *a = actions_add(actions, ACTION_SEND);
	a->message_type = type;
	a->code = code;
	snprintf(a->text, sizeof a->text, "%s", text);
}

void actions_request(struct actions *actions, enum sluice_request request)
{
	actions_add(actions, ACTION_REQUEST)->request = request;
}

struct action *actions_error(struct actions *actions, int code, enum sluice_phase phase)
{
	struct action *a = actions_add(actions, ACTION_ERROR);
	a->code = code;
	a->phase = phase;
	return a;
}
