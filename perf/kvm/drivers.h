/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ports by which a KVM guest's drivers of the disk speak with the VMM. For both compilers. */
#ifndef PERF_KVM_DRIVERS_H
#define PERF_KVM_DRIVERS_H

/* A driver asks how many requests it is to keep outstanding, and says by the port what it did since it last asked. Where it
 * found nothing to do it is answered once there may be something: that is its interrupt. */
#define DRIVERS_IDLE 0x20
#define DRIVERS_TOOK 0x24 /* a completion */
#define DRIVERS_OFFERED 0x28
#define DRIVERS_DOORBELL 0x2c /* any byte, after a request was offered: no exit, KVM rings the device's bell itself */

#endif
