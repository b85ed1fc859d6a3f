/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* asan.h: what AddressSanitizer must be told of a heap and of stacks that are ours. Nothing where it is not there. */
#pragma once

#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

static inline void asan_poison(const void *at, size_t size)
{
	__asan_poison_memory_region(at, size);
}

static inline void asan_unpoison(const void *at, size_t size)
{
	__asan_unpoison_memory_region(at, size);
}

/* The stack is about to be another one; it has become that. Where it came from goes to *ret_..., if wanted. */
static inline void asan_leave_for(const void *bottom, size_t size)
{
	__sanitizer_start_switch_fiber(NULL, bottom, size);
}

static inline void asan_arrived(const void **ret_bottom, size_t *ret_size)
{
	__sanitizer_finish_switch_fiber(NULL, ret_bottom, ret_size);
}
#else
static inline void asan_poison(const void *at, size_t size)
{
	(void)at, (void)size;
}

static inline void asan_unpoison(const void *at, size_t size)
{
	(void)at, (void)size;
}

static inline void asan_leave_for(const void *bottom, size_t size)
{
	(void)bottom, (void)size;
}

static inline void asan_arrived(const void **ret_bottom, size_t *ret_size)
{
	(void)ret_bottom, (void)ret_size;
}
#endif
