/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The file behind a disk: made by migperf, shared by both ends of a migration, locked by the one that may use it. */
#ifndef PERF_DISK_IMAGE_H
#define PERF_DISK_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_ERROR 200

struct image {
	int fd;      /* -1: not open */
	uint64_t id; /* of the file, made with it */
	bool direct; /* the filesystem takes O_DIRECT */
	bool locked; /* by this process */
};

/* Open the file. create: make it, if it is not there or empty; a file that holds something else is left alone (-EEXIST). Without
 * it (at a destination): it must be there and have this id. On error one line says what to do. */
int image_open(struct image *image, const char *path, bool create, uint64_t id, char error[IMAGE_ERROR]);
void image_close(struct image *image);

/* Whether this end may use it: at most one open file has the lock, in whatever process. 0, -EBUSY: another has it. Does not wait. */
int image_lock(struct image *image);
/* Let another have it; what was written is on the disk by then. May wait for the disk. */
int image_unlock(struct image *image);

#endif
