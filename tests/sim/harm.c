/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* harm.c: frames and batches that are damaged, or right in all but their epoch. */
#include <string.h>
#include <xxhash.h>

#include "core/decide/message.h"
#include "tests/sim/embedder.h"
#include "tests/sim/guest.h"
#include "tests/sim/lies.h"
#include "tests/sim/pipe.h"

const char *const harm_names[] = { "", "damaged", "doubled", "not of this connection, or a lie", "cut in two" };

/* What follows has a check that is right, as an old connection would have left it, or a peer that means harm: it is what the frame or batch
 * says that is wrong. */
void harm_old_frame(unsigned char *frame, uint32_t length)
{
	uint32_t epoch;

	memcpy(&epoch, frame + 12, sizeof epoch);
	epoch = epoch > 1 && sim_one_in(2) ? epoch - 1 : epoch + 1;
	memcpy(frame + 12, &epoch, sizeof epoch);
	lies_seal(frame, length);
}

/* Another round or attempt; or LANDED leaves out a stream. */
uint32_t harm_number(unsigned char *frame, uint32_t length)
{
	enum { STREAM_BYTES = 17 };
	uint32_t number;
	uint16_t type;

	memcpy(&type, frame + 4, sizeof type);
	bool fewer = type == MESSAGE_LANDED && sim_one_in(2);
	unsigned char *at = frame + MESSAGE_HEAD + (fewer ? sizeof number : 0);
	memcpy(&number, at, sizeof number);
	/* Of SWITCHOVER any number but 0 is news, and nothing says otherwise. */
	number = type == MESSAGE_SWITCHOVER ? 0
		 : fewer || sim_one_in(4)   ? number - 1
		 : sim_one_in(4)            ? 0
					    : number + 1 + (uint32_t)sim_below(3);
	memcpy(at, &number, sizeof number);
	length -= fewer ? STREAM_BYTES : 0;
	lies_seal(frame, length);
	return length;
}

static void lie_of_head(struct batch_head *h)
{
	int by = sim_one_in(2) ? 1 : -1;

	switch (sim_below(12)) {
	case 0: h->stream += (uint32_t)by; break;
	case 1: h->seq += (uint64_t)(int64_t)by; break;
	case 2: h->bytes += (uint64_t)(int64_t)(64 * by); break;
	case 3: h->round += (uint32_t)by; break;
	case 4: h->type = (uint8_t)(4 + sim_below(3)); break;
	case 9:
	case 10:
	case 5: h->payload = WIRE_BATCH_PAYLOAD + 1 + (uint32_t)sim_below(sim_one_in(2) ? WIRE_PAGE : 1u << 31); break;
	case 6: h->extents = WIRE_BATCH_EXTENTS + 1; break;
	case 7: h->flags |= 2; break;
	case 8: h->reserved = 1; break;
	default: h->epoch += h->epoch > 1 ? -1u : 1u; break;
	}
}

/* Of where its pages belong, or how long they are. */
static void lie_of_extent(struct batch_head *h, struct extent *e)
{
	const uint64_t pages = guest.region[e->region].pages;
	uint32_t by;
	const uint64_t granule_end = e->page - e->page % WIRE_GRANULE_PAGES + WIRE_GRANULE_PAGES;

	switch (sim_below(e->encoding == ENCODING_LZ4 ? 7 : 6)) {
	case 0: e->region = (uint16_t)(sim_one_in(2) ? guest.regions : UINT16_MAX); break;
	case 1: e->page = (pages + WIRE_GRANULE_PAGES - 1) / WIRE_GRANULE_PAGES * WIRE_GRANULE_PAGES; break;
	case 2: e->page = (pages < granule_end || e->count == 1 ? pages : granule_end) - e->count + 1; break;
	case 3:
		by = (e->encoding == ENCODING_LZ4 ? e->count * WIRE_PAGE : e->bytes + WIRE_PAGE) - e->bytes;
		e->bytes += by;
		h->payload += by;
		break;
	case 4: h->payload += WIRE_PAGE; break;
	case 5: e->encoding = e->encoding == ENCODING_LZ4 ? ENCODING_RAW : ENCODING_LZ4; break;
	case 6: e->count += e->count > 1 && sim_one_in(2) ? -1u : 1u; break;
	}
}

static void lie_of_piece(struct state_piece *p)
{
	const uint64_t more = embedder_habits.param[SLUICE_MAX_STATE];

	if (p->bytes == WIRE_BATCH_PAYLOAD && sim_one_in(2))
		p->total = 1ull << 40;
	else if (sim_one_in(3)) /* all as it should be, and more than was granted */
		p->offset += more, p->total += more;
	else if (sim_one_in(2))
		p->section = (uint16_t)(WIRE_SECTIONS + sim_below(2));
	else
		p->offset += sim_one_in(2) ? WIRE_BATCH_PAYLOAD : 64;
}

void harm_seal_batch(struct batch_frame *f, size_t size)
{
	f->head.check = 0;
	f->head.check = XXH3_64bits(f, size);
}

bool harm_old_batch(struct batch_frame *f)
{
	size_t size = batch_frame_size(&f->head); /* as much as there is */
	bool of_head = false;

	if (!sim_one_in(4) && f->head.type == BATCH_STATE)
		lie_of_piece(&f->piece);
	else if (sim_one_in(2) && f->head.extents && f->head.type == BATCH_PAGES)
		lie_of_extent(&f->head, &f->extents[sim_below(f->head.extents)]);
	else
		lie_of_head(&f->head), of_head = true;
	harm_seal_batch(f, size);
	return of_head;
}

void harm_flip(unsigned char *bytes, uint32_t n)
{
	bytes[sim_below(n)] ^= (unsigned char)(1u << sim_below(8));
}
