/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* resolve.h: a host's addresses, with a deadline and a cancel. */
#pragma once

#include "streams/transport.h"
#include "tcp/address.h"

/* Where dial->uri is. Numeric addresses at once; names may block until the dial's deadline or cancel. Returns 0,
 * -ECANCELED, -ETIMEDOUT, -ENXIO (no such host), -EAGAIN (the name service does not answer), -ENOMEM; dial->error says
 * more. */
int resolve(const struct dial *dial, struct addresses *ret);
