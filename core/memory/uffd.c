/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* uffd.c: see uffd.h. No state; any thread. */
#include "core/memory/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/memory/uffd_abi.h"
#include "streams/wire.h"

/* Runs a scan returns at once: 3 KiB of stack, and a bound on how long the kernel stays in one call on scattered pages. */
enum { SCAN_RUNS = 128 };

/* User mode only needs no privilege, and loses nothing: write protection in async mode is resolved in the kernel whoever
 * faults, and nobody waits for a handler. Where a filter forbids the system call, the device may be allowed. */
static int open_any(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd >= 0)
		return fd;
	int error = -errno;
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return error;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		fd = error;
	close(device);
	return fd;
}

int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = open_any();

	if (fd < 0)
		return fd;
	if (ioctl(fd, UFFDIO_API, &api)) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

int uffd_register(int uffd, const void *address, uint64_t length, uint64_t mode)
{
	struct uffdio_register r = { .range = { (uintptr_t)address, length }, .mode = mode };

	return ioctl(uffd, UFFDIO_REGISTER, &r) ? -errno : 0;
}

void uffd_unregister(int uffd, const void *address, uint64_t length)
{
	struct uffdio_range range = { (uintptr_t)address, length };

	/* Fails only where it is not registered, or unmapped meanwhile: nothing is left to undo then. */
	(void)ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

int uffd_protect(int uffd, const void *address, uint64_t length)
{
	struct uffdio_writeprotect wp = { { (uintptr_t)address, length }, UFFDIO_WRITEPROTECT_MODE_WP };

	/* EAGAIN: the process is forking or changing its mappings at this moment. */
	while (ioctl(uffd, UFFDIO_WRITEPROTECT, &wp))
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	return 0;
}

int uffd_continue(int uffd, const void *address, uint64_t length)
{
	struct uffdio_continue c = { { (uintptr_t)address, length }, UFFDIO_CONTINUE_MODE_DONTWAKE, 0 };

	while (ioctl(uffd, UFFDIO_CONTINUE, &c)) {
		if (errno == EEXIST)
			return 1;
		if (errno == EFAULT)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return 1;
}

int uffd_scan(const struct page_scan *scan, const void *address, uint64_t n, page_run_fn *run, void *argument)
{
	struct page_region runs[SCAN_RUNS];
	uint64_t from = (uintptr_t)address, at = from, end = from + (n << WIRE_PAGE_SHIFT);

	while (at < end) {
		struct pm_scan_arg arg = {
			.size = sizeof(arg),
			.flags = scan->flags,
			.start = at,
			.end = end,
			.vec = (uintptr_t)runs,
			.vec_len = SCAN_RUNS,
			.category_inverted = scan->none_of,
			.category_mask = scan->all,
			.category_anyof_mask = scan->any,
			.return_mask = PAGE_IS_WPALLOWED, /* the same for all of a mapping: runs are as long as they can be */
		};
		int found = ioctl(scan->pagemap, PAGEMAP_SCAN, &arg);
		if (found < 0 && errno == EINTR)
			continue;
		if (found < 0)
			return -errno;
		for (int i = 0; i < found; i++) {
			int rc = run(argument, (runs[i].start - from) >> WIRE_PAGE_SHIFT,
				     (runs[i].end - runs[i].start) >> WIRE_PAGE_SHIFT);
			if (rc)
				return rc;
		}
		/* The kernel stops short of the end only where its vector is full. Not moving on would be for ever. */
		if (arg.walk_end <= at && !found)
			return -EIO;
		at = arg.walk_end;
	}
	return 0;
}
