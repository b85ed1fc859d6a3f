/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A serial port of the 16550 kind, as far as a guest that only writes can tell. */
#include <string.h>

#include "perf/kvm/serial.h"

enum { DATA = 0, LINE_CONTROL = 3, LINE_STATUS = 5 };
#define DIVISOR_LATCH 0x80u
#define TRANSMITTER_EMPTY 0x60u

void serial_init(struct serial *serial)
{
	memset(serial, 0, sizeof(*serial));
	pthread_mutex_init(&serial->lock, NULL);
}

void serial_write(struct serial *serial, unsigned port, uint8_t value)
{
	struct serial_state *state = &serial->state;
	unsigned at = port % SERIAL_REGISTERS;

	pthread_mutex_lock(&serial->lock);
	if (at != DATA || state->reg[LINE_CONTROL] & DIVISOR_LATCH)
		state->reg[at] = value;
	else
		state->text[state->written++ % SERIAL_TEXT] = (char)value;
	pthread_mutex_unlock(&serial->lock);
}

uint8_t serial_read(struct serial *serial, unsigned port)
{
	unsigned at = port % SERIAL_REGISTERS;
	uint8_t value;

	pthread_mutex_lock(&serial->lock);
	value = at == LINE_STATUS ? TRANSMITTER_EMPTY : serial->state.reg[at];
	pthread_mutex_unlock(&serial->lock);
	return value;
}

void serial_text(struct serial *serial, char text[SERIAL_TEXT + 1])
{
	const struct serial_state *state = &serial->state;
	uint64_t from;
	unsigned n = 0;

	pthread_mutex_lock(&serial->lock);
	from = state->written > SERIAL_TEXT ? state->written - SERIAL_TEXT : 0;
	for (; from < state->written; from++) {
		char c = state->text[from % SERIAL_TEXT];

		text[n++] = c >= ' ' && c <= '~' ? c : ' ';
	}
	while (n && text[n - 1] == ' ')
		n--;
	text[n] = 0;
	pthread_mutex_unlock(&serial->lock);
}
