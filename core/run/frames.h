/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* frames.h: the frames of the link that is up: queued, written, read, and taken to whom they concern. Thread: link, unless said. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct link;
struct message;
struct sluice;

/* Is there a link that is up, and may more be said on it? Under link->lock, any thread. */
bool frames_open(const struct link *link);
/* Queue a frame. Under link->lock, any thread. -ENOTCONN: no link that is up; -ENOBUFS, -ENOMEM. */
int frames_queue(struct link *link, const struct message *message);
/* Is there something to write? */
bool frames_waiting(struct link *link);
/* Write what the socket takes. */
void frames_write(struct sluice *s);
/* Read what is there, frame by frame, until the socket is empty or control has enough to do. */
void frames_read(struct sluice *s, uint64_t now);
/* Forget all of the last connection: half frames, what was queued, numbers. Also frees what a link that ends still has. */
void frames_reset(struct link *link);
/* When the next heartbeat is due; UINT64_MAX: not before the word that the link must begin with. */
uint64_t frames_beat_at(struct sluice *s);
/* Queue a heartbeat when it is time for one. */
void frames_beat(struct sluice *s, uint64_t now);
