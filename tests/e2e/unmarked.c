/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* unmarked.c: linked into a migperf of the tests with --wrap, so that its devices write into guest memory and tell nobody. Verification
 * must find that. */
#include <sluice.h>

void __wrap_sluice_mark_dirty(struct sluice *session, uint32_t region, uint64_t offset, uint64_t length);
void __wrap_sluice_mark_dirty(struct sluice *session, uint32_t region, uint64_t offset, uint64_t length)
{
	(void)session;
	(void)region;
	(void)offset;
	(void)length;
}
