/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* late.c: a source that sends pages though it has said which round was the last. They have what the guest's pages have, which stands
 * still, so that it is of no account where they come before SWITCHOVER is read. */
#include <string.h>

#include "core/run/session.h"
#include "tests/sim/embedder.h"
#include "tests/sim/guest.h"
#include "tests/sim/pipe.h"
#include "tests/sim/promises.h"
#include "tests/sim/world.h"

bool wire_is_late(void)
{
	const struct embedder *s = &embedders[SIM_SOURCE];

	return s->session && !guest.running[SIM_SOURCE] && promises_was_given(s->migration, SIM_SOURCE, MESSAGE_SWITCHOVER);
}

static void push_pages(struct end *e, uint32_t first, uint32_t n)
{
	struct seg *s = pipe_push(e, NULL, n * 8, n * SLUICE_PAGE_SIZE);

	s->ready_at += sim_below(2) * 10 * SIM_MS; /* so that SWITCHOVER is read in the midst of them */
	s->pages = s->late = true;
	for (uint32_t i = 0; i < n; i++)
		memcpy(s->data + 8 * i, guest_page(SIM_SOURCE, first + i), 8);
}

bool wire_late_batch(struct wire *w)
{
	enum { PAGES = 256 };
	struct end *e = &w->end[SIM_SOURCE];
	struct {
		struct batch_head head;
		struct extent extent;
	} f = { .head = e->sent };

	if (w->link || w->stray || e->sent.type != BATCH_MARK || e->wrong || e->under_way || end_broken(e) || !wire_is_late())
		return false;
	uint32_t r = (uint32_t)sim_below(guest.regions), page = (uint32_t)sim_below(guest.region[r].pages),
		 left = guest.region[r].pages - page, granule = WIRE_GRANULE_PAGES - page % WIRE_GRANULE_PAGES,
		 n = 1 + (uint32_t)sim_below(PAGES);
	n = n < left ? n : left;
	n = n < granule ? n : granule;
	f.extent = (struct extent){
		.page = page, .count = n, .bytes = n * WIRE_PAGE, .region = (uint16_t)r, .encoding = ENCODING_RAW
	};
	f.head.type = BATCH_PAGES;
	f.head.extents = 1;
	f.head.payload = n * WIRE_PAGE;
	f.head.bytes += sizeof f.head;
	f.head.seq++;
	f.head.round++;
	harm_seal_batch((struct batch_frame *)(void *)&f, sizeof f);
	sim_trace("wire %u: %u pages come, of round %u", w->id, n, f.head.round);
	e->wrong = true;
	struct seg *s = pipe_push(e, &f, sizeof f, sizeof f);
	s->frame = BATCH_PAGES;
	s->late = true;
	push_pages(e, guest.region[r].first + page, n);
	return true;
}

/* Nothing of a later round is placed where it is known which one was the last. */
void late_lands(void)
{
	const struct sluice *s = world_session(SIM_DESTINATION);

	if (s && s->decide.destination.last_round && s->decide.destination.state >= DESTINATION_LANDING &&
	    s->decide.destination.state <= DESTINATION_LINGERING)
		sim_violation("Law 4: pages are landed of a round after the last one, which is number %u",
			      s->decide.destination.last_round);
}
