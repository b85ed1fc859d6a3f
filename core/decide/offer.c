/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* offer.c: checks of HELLO and WELCOME. */
#include "core/decide/offer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SAY(...) snprintf(error, SLUICE_ERROR_MAX, __VA_ARGS__)

/* Known features are taken over; unknown ones are ignored, or refused by name where they are required. */
static int take_features(uint32_t n, const struct message_feature *features, const char *whose, bool *ret_lz4,
			 char error[SLUICE_ERROR_MAX])
{
	*ret_lz4 = false;
	for (uint32_t i = 0; i < n; i++) {
		if (!strcmp(features[i].name, FEATURE_LZ4)) {
			*ret_lz4 = true;
		} else if (features[i].required) {
			SAY("the %s requires the feature \"%s\", which this version does not have: use the same version on both "
			    "sides",
			    whose, features[i].name);
			return -EOPNOTSUPP;
		}
	}
	return 0;
}

int offer_check(const struct hello *h, struct welcome *w, bool *ret_lz4, char error[SLUICE_ERROR_MAX])
{
	if (h->version_min > MESSAGE_VERSION || h->version_max < MESSAGE_VERSION) {
		SAY("the source speaks protocol versions %u to %u, the destination only %u: use the same version on both sides",
		    h->version_min, h->version_max, MESSAGE_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (h->page_size != SLUICE_PAGE_SIZE) {
		SAY("the source has pages of %u bytes, the destination of %u: migrate between hosts of the same page size",
		    h->page_size, SLUICE_PAGE_SIZE);
		return -EOPNOTSUPP;
	}
	if (!h->streams || h->streams > SLUICE_MAX_STREAMS) {
		SAY("the source asks for %u streams: 1 to %u are possible", h->streams, SLUICE_MAX_STREAMS);
		return -EPROTO;
	}
	if (!h->n_regions) {
		SAY("the source offers no memory: add its regions before starting");
		return -EPROTO;
	}
	if (h->dead_peer_ms < MESSAGE_DEAD_PEER_MIN_MS || h->dead_peer_ms > MESSAGE_DEAD_PEER_MAX_MS) {
		SAY("the source's dead-peer time is %u ms: %d to %d are possible", h->dead_peer_ms, MESSAGE_DEAD_PEER_MIN_MS,
		    MESSAGE_DEAD_PEER_MAX_MS);
		return -EPROTO;
	}
	int rc = take_features(h->n_features, h->features, "source", ret_lz4, error);
	if (rc)
		return rc;
	w->version = MESSAGE_VERSION;
	w->n_features = 0;
	if (*ret_lz4)
		w->features[w->n_features++] = (struct message_feature){ .name = FEATURE_LZ4 };
	return 0;
}

int offer_check_regions(const struct hello *h, const struct message_region *ours, uint32_t n, char error[SLUICE_ERROR_MAX])
{
	if (n != h->n_regions) {
		SAY("the source has %u memory regions, the destination %u: configure both guests alike", h->n_regions, n);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct message_region *a = &h->regions[i], *b = &ours[i];
		if (strcmp(a->name, b->name)) {
			SAY("memory region %u is called \"%s\" at the source and \"%s\" at the destination: configure both alike",
			    i, a->name, b->name);
			return -EINVAL;
		}
		if (a->size != b->size) {
			SAY("memory region \"%s\" has %llu bytes at the source and %llu at the destination: configure both alike",
			    a->name, (unsigned long long)a->size, (unsigned long long)b->size);
			return -EINVAL;
		}
		if (a->host_page_size != b->host_page_size) {
			SAY("memory region \"%s\" has host pages of %u bytes at the source and %u at the destination: use the "
			    "same backing",
			    a->name, a->host_page_size, b->host_page_size);
			return -EINVAL;
		}
	}
	return 0;
}

int offer_check_answer(const struct hello *h, const struct welcome *w, bool *ret_lz4, char error[SLUICE_ERROR_MAX])
{
	if (w->version != MESSAGE_VERSION) {
		SAY("the destination chose protocol version %u, which was not offered: use the same version on both sides",
		    w->version);
		return -EPROTO;
	}
	if (!w->streams || w->streams > h->streams) {
		SAY("the destination granted %u streams of %u asked for: use the same version on both sides", w->streams,
		    h->streams);
		return -EPROTO;
	}
	if (w->n_regions != h->n_regions || !w->epoch || w->urgent > h->urgent || w->dead_peer_ms < MESSAGE_DEAD_PEER_MIN_MS ||
	    w->dead_peer_ms > MESSAGE_DEAD_PEER_MAX_MS) {
		SAY("the destination's answer does not fit the offer: use the same version on both sides");
		return -EPROTO;
	}
	int rc = take_features(w->n_features, w->features, "destination", ret_lz4, error);
	bool offered = false;
	for (uint32_t i = 0; i < h->n_features; i++)
		offered |= !strcmp(h->features[i].name, FEATURE_LZ4);
	*ret_lz4 &= offered; /* agreed on is what both said */
	return rc;
}
