/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A serial port of the 16550 kind, as far as a guest that only writes can tell. */
#ifndef PERF_KVM_SERIAL_H
#define PERF_KVM_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SERIAL_PORT 0x3f8u
#define SERIAL_REGISTERS 8u
#define SERIAL_TEXT 64u

/* Device state: it travels. */
struct serial_state {
	uint64_t written;              /* bytes in all */
	uint8_t reg[SERIAL_REGISTERS]; /* as the guest set them */
	char text[SERIAL_TEXT];        /* the last bytes written, byte n at n % SERIAL_TEXT */
};
_Static_assert(sizeof(struct serial_state) == 80, "no holes");

struct serial {
	pthread_mutex_t lock;
	struct serial_state state; /* under lock */
};

void serial_init(struct serial *serial);
/* Ports from SERIAL_PORT on. Thread: a vCPU's. */
void serial_write(struct serial *serial, unsigned port, uint8_t value);
uint8_t serial_read(struct serial *serial, unsigned port);
/* The last that was written, printable. */
void serial_text(struct serial *serial, char text[SERIAL_TEXT + 1]);

#endif
