/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where there is no KVM guest of ours: its code is for x86-64. */
#include <errno.h>
#include <stdio.h>

#include "perf/guest_kind.h"

int machine_create(const struct guest_settings *settings, const struct memory *memory, struct disk *disk,
		   struct guest **ret_guest, char error[SETTINGS_ERROR])
{
	(void)settings, (void)memory, (void)disk, (void)ret_guest;
	snprintf(error, SETTINGS_ERROR, "--guest kvm is for x86-64 hosts: use --guest process");
	return -ENOTSUP;
}
