/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* talk.c: see talk.h. A message is its number, and then bytes that follow from that; so it tells by itself whether it is whole. What is on
 * its way when a link is lost is lost with it: only then may numbers be left out. */
#include "tests/sim/talk.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/decide/message.h"
#include "core/run/session.h"
#include "tests/sim/embedder.h"
#include "tests/sim/fiber.h"
#include "tests/sim/outcome.h"
#include "tests/sim/promises.h"
#include "tests/sim/wire.h"

enum { MESSAGES = 128 };

static struct {
	uint64_t pause_ns; /* between two, at most */
	uint32_t wanted, longest;
	bool steady; /* one after the other at about that pace */
	/* This session's. */
	uint64_t at, stuck_since;
	uint32_t sent, heard; /* so many; the next number that may come */
	uint32_t before_word;
	uint32_t anew_from; /* the first number of a session that does not know what became of those before */
	bool under_way;     /* one more is being sent */
	uint16_t length[MESSAGES];
} talks[2]; /* [who sends] */

static bool stays;

void talk_reset(void)
{
	enum { MANY = 32 };

	memset(talks, 0, sizeof talks);
	for (int side = 0; side < 2 && sim_one_in(3); side++) {
		talks[side].wanted = (uint32_t)sim_spread(1, MESSAGES);
		talks[side].pause_ns = sim_spread(10 * US, 50 * SIM_MS);
		talks[side].longest = sim_one_in(8) ? SLUICE_MESSAGE_MAX : 200;
	}
	stays = (talks[SIM_SOURCE].wanted > MANY || talks[SIM_DESTINATION].wanted > MANY) && sim_one_in(4);
}

void talk_much(uint64_t pause_ns)
{
	for (int side = 0; side < 2; side++) {
		talks[side].wanted = MESSAGES;
		talks[side].pause_ns = pause_ns;
		talks[side].steady = true;
		talks[side].longest = 200;
	}
}

void talk_begin(enum sim_side side)
{
	talks[side].at = sim_now;
	talks[side].stuck_since = 0;
	/* Whoever died while sending it may have sent it. */
	talks[side].sent += talks[side].under_way;
	talks[side].under_way = false;
	/* What its last session has sent may still be heard, or not: it counts on. */
	talks[side].anew_from = talks[side].sent;
	talks[side].before_word = 0;
}

uint64_t talk_bytes(void)
{
	uint64_t bytes = 0;

	for (int side = 0; side < 2; side++) {
		uint64_t n = talks[side].wanted < MESSAGE_UNDELIVERED ? talks[side].wanted : MESSAGE_UNDELIVERED;
		bytes += n * (talks[side].longest + MESSAGE_HEAD + sizeof(struct outbox_item));
	}
	return bytes;
}

bool talk_lasts(void)
{
	return stays;
}

uint64_t talk_due(enum sim_side side)
{
	enum sluice_phase phase = embedders[side].phase;

	if (talks[side].sent >= talks[side].wanted || phase < SLUICE_ACTIVE || phase > SLUICE_COMPLETED)
		return FIBER_FOREVER;
	return talks[side].at;
}

static unsigned char byte_of(uint32_t number, size_t at)
{
	return (unsigned char)(number * 31 + at * 7 + (at >> 8));
}

/* Heartbeats say what was delivered; a peer whose embedder takes its messages lets more of them come. */
static void stuck(enum sim_side side)
{
	enum { MOST_MS = 2000 };

	/* A link that is silent one way is held to be alive as long as its streams move. */
	if (!talks[side].stuck_since || wires_silenced())
		talks[side].stuck_since = sim_now;
	if (sim_now - talks[side].stuck_since > MOST_MS * SIM_MS && outcome_calm_since(talks[side].stuck_since))
		sim_violation("Law 6: the %s may not send a message for %d ms, and nothing was in the way",
			      side == SIM_SOURCE ? "source" : "destination", MOST_MS);
}

static uint64_t rest(enum sim_side side)
{
	uint64_t most = talks[side].pause_ns;

	if (talks[side].steady)
		return most / 2 + sim_below(most);
	return sim_one_in(3) ? 0 : sim_spread(US, most);
}

void talk_now(enum sim_side side)
{
	unsigned char bytes[SLUICE_MESSAGE_MAX];
	uint32_t number = talks[side].sent, length = (uint32_t)sim_spread(sizeof number, talks[side].longest);

	memcpy(bytes, &number, sizeof number);
	for (size_t i = sizeof number; i < length; i++)
		bytes[i] = byte_of(number, i);
	talks[side].length[number] = (uint16_t)length;
	talks[side].under_way = true;
	bool link = embedders[side].session->link.up;
	int rc = sluice_send_message(embedders[side].session, bytes, length);
	talks[side].under_way = false;
	if (rc && rc != -EAGAIN && rc != -ENOTCONN)
		sim_violation("a message of %u bytes is refused: %d", length, rc);
	const struct sluice *s = embedders[side].session;
	if (rc == -ENOTCONN && side == SIM_SOURCE && s->decide.source.phase < SLUICE_DEVICE && outcome_untroubled())
		sim_violation("messages: the source's is refused in phase %s, and it has a link",
			      sluice_phase_name(s->decide.source.phase));
	if (rc == -EAGAIN && !link && !s->link.up)
		sim_violation("messages: the %s is to try again, and has no link", embedder_names[side]);
	if (rc == -EAGAIN)
		stuck(side);
	else
		talks[side].stuck_since = 0;
	talks[side].at = sim_now + rest(side) + (rc ? 10 * SIM_MS : 0);
	talks[side].sent += !rc;
}

/* So many have been heard, or will never be. */
static uint32_t known(enum sim_side from)
{
	return talks[from].heard > talks[from].anew_from ? talks[from].heard : talks[from].anew_from;
}

void talk_heard(enum sim_side side, const void *data, size_t length)
{
	enum sim_side from = (enum sim_side) !side;
	const unsigned char *bytes = data;
	uint32_t number = MESSAGES;

	if (length >= sizeof number)
		memcpy(&number, bytes, sizeof number);
	if (number >= talks[from].sent + talks[from].under_way || length != talks[from].length[number])
		sim_violation("messages: a message of %zu bytes was not sent", length);
	for (size_t i = sizeof number; i < length; i++)
		if (bytes[i] != byte_of(number, i))
			sim_violation("messages: message %u is damaged at byte %zu", number, i);
	if (number < talks[from].heard)
		sim_violation("messages: message %u comes twice, or after a later one", number);
	uint32_t next = number >= talks[from].anew_from ? known(from) : talks[from].heard;
	if (number > next && wires_links_of(embedders[side].migration) < 2)
		sim_violation("messages: message %u comes, and %u did not", number, next);
	talks[from].heard = number + 1;
}

void talk_word_given(enum sim_side side)
{
	talks[side].before_word = talks[side].sent;
}

void talk_word_told(enum sim_side side)
{
	const uint32_t due = talks[!side].before_word, migration = embedders[side].migration;

	if (!promises_was_read(migration, side, side == SIM_SOURCE ? MESSAGE_RUNNING : MESSAGE_DONE))
		return; /* it knows otherwise */
	if (known((enum sim_side) !side) < due && wires_links_of(migration) < 2)
		sim_violation("messages: the %s is told that it is over, and %u of %u messages sent before that have not come",
			      side == SIM_SOURCE ? "source" : "destination", due - talks[!side].heard, due);
}
