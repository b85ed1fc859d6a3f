/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The file behind a disk: made by migperf, shared by both ends of a migration, locked by the one that may use it.
 *
 * Its first block says that migperf made it: no other file is ever written to, whatever path a user or a peer names. The lock
 * belongs to the open file, so it is gone with the process; that is what makes two ends that both believe to own the guest
 * show.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "perf/disk/area.h"
#include "perf/disk/image.h"

static const char magic[16] = "migperf disk 1\n";

struct superblock {
	char magic[sizeof(magic)];
	uint64_t id;
};

/* -EEXIST: it is not one of ours. */
static int read_superblock(struct image *image)
{
	struct superblock block;
	ssize_t n = pread(image->fd, &block, sizeof(block), 0);

	if (n < 0)
		return -errno;
	if (n != (ssize_t)sizeof(block) || memcmp(block.magic, magic, sizeof(magic)))
		return -EEXIST;
	image->id = block.id;
	return 0;
}

#define PIECE (1u << 20)

/* Written, not only allocated: a filesystem that is full shows here, not as errors that nobody asked for, and first writes need
 * no journal. */
static int write_all(int fd)
{
	const off_t size = (off_t)AREA_FILE_BLOCKS * AREA_BLOCK;
	uint8_t *zeroes = calloc(1, PIECE);
	int error = zeroes ? 0 : -ENOMEM;

	for (off_t at = 0; at < size && !error; at += PIECE) {
		size_t length = size - at < (off_t)PIECE ? (size_t)(size - at) : PIECE;
		ssize_t n = pwrite(fd, zeroes, length, at);

		if (n != (ssize_t)length)
			error = n < 0 ? -errno : -ENOSPC;
	}
	free(zeroes);
	return error;
}

static int make(struct image *image)
{
	struct superblock block;
	int error;

	memcpy(block.magic, magic, sizeof(magic));
	if (getrandom(&block.id, sizeof(block.id), 0) != sizeof(block.id))
		return -errno;
	block.id >>= 2; /* JSON's integers are signed */
	error = write_all(image->fd);
	if (error)
		return error;
	if (pwrite(image->fd, &block, sizeof(block), 0) != (ssize_t)sizeof(block))
		return errno ? -errno : -EIO;
	return fsync(image->fd) ? -errno : 0;
}

/* A regular file, looked at before it is opened: opening some device files does things. */
static int open_regular(const char *path, bool create)
{
	struct stat about;
	int fd;

	if (!stat(path, &about) && !S_ISREG(about.st_mode))
		return -EINVAL;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | (create ? O_CREAT : 0), 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &about) || !S_ISREG(about.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	return fd;
}

static int open_image(struct image *image, const char *path, bool create, uint64_t id)
{
	struct stat about;
	int error, flags;

	image->fd = open_regular(path, create);
	if (image->fd < 0)
		return image->fd;
	error = fstat(image->fd, &about) ? -errno : 0;
	if (!error && create && !about.st_size)
		error = make(image);
	if (!error)
		error = read_superblock(image);
	if (!error && fstat(image->fd, &about))
		error = -errno;
	if (!error && (about.st_size < (off_t)AREA_FILE_BLOCKS * AREA_BLOCK || (!create && image->id != id)))
		error = -EEXIST;
	if (error)
		return error;
	flags = fcntl(image->fd, F_GETFL);
	image->direct = !fcntl(image->fd, F_SETFL, (flags & ~O_NONBLOCK) | O_DIRECT);
	return 0;
}

int image_open(struct image *image, const char *path, bool create, uint64_t id, char error[IMAGE_ERROR])
{
	int result;

	*image = (struct image){ .fd = -1 };
	result = open_image(image, path, create, id);
	if (!result)
		return 0;
	if (result == -EEXIST && create)
		snprintf(error, IMAGE_ERROR,
			 "--disk %.100s holds something that is not migperf's: name a file that does not exist", path);
	else if (result == -EEXIST || result == -ENOENT)
		snprintf(error, IMAGE_ERROR,
			 "the source's disk is not %.100s here: share its folder, or say where it is with -s --disk", path);
	else if (result == -EINVAL)
		snprintf(error, IMAGE_ERROR, "the disk %.100s is no regular file: name one", path);
	else
		snprintf(error, IMAGE_ERROR, "cannot open the disk %.100s: %s", path, strerror(-result));
	image_close(image);
	return result;
}

void image_close(struct image *image)
{
	if (image->fd >= 0)
		close(image->fd);
	image->fd = -1;
	image->locked = false;
}

int image_lock(struct image *image)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (image->locked)
		return 0;
	if (fcntl(image->fd, F_OFD_SETLK, &whole))
		return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
	image->locked = true;
	return 0;
}

int image_unlock(struct image *image)
{
	struct flock whole = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	int error;

	if (!image->locked)
		return 0;
	error = fdatasync(image->fd) ? -errno : 0;
	if (fcntl(image->fd, F_OFD_SETLK, &whole))
		return -errno;
	image->locked = false;
	return error;
}
