/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* destination.h: the phase machine of the side that gets the guest. Pure; stepped by the control thread or a simulator. */
#pragma once

#include "core/decide/step.h"

enum destination_state {
	DESTINATION_NEW,
	DESTINATION_LISTENING,
	DESTINATION_ASKING,    /* the embedder, whether it can provide the guest */
	DESTINATION_GATHERING, /* streams greet */
	DESTINATION_ACTIVE,
	DESTINATION_LANDING, /* SWITCHOVER came: the last round and the state are landing */
	DESTINATION_LOADING,
	DESTINATION_READY,     /* READY was handed to the transport */
	DESTINATION_ACQUIRING, /* GO came: the guest is ours unless we say NEVER */
	DESTINATION_RESUMING,
	DESTINATION_WAIT_DONE, /* the guest runs here; with or without a link */
	DESTINATION_LINGERING,
	DESTINATION_DOUBT,
	DESTINATION_TELLING,   /* NEVER was said, and the source may be in doubt until it knows */
	DESTINATION_GIVING_UP, /* the embedder has not answered yet, and works on what would be freed */
	DESTINATION_ENDED,
};

struct destination {
	enum destination_state state;
	enum sluice_phase phase;
	struct deadline deadline;
	uint64_t started_ns, active_ns, ended_ns, ready_ns, go_ns, running_ns;
	uint32_t streams;     /* granted */
	uint32_t last_round;  /* from SWITCHOVER */
	uint32_t landed;      /* round that passed the gate */
	uint32_t state_round; /* round whose device state is complete */
	bool stateless;       /* SWITCHOVER named no sections */
	uint32_t epoch;       /* of the link; 0: there was none yet */
	bool link_up;
	struct stream_loss loss;
	enum sluice_request pending;
	int error_code;
	enum sluice_phase ends_in;
};

void destination_init(struct destination *destination);
void destination_step(struct destination *destination, const struct input *input, struct actions *actions);
bool destination_cancellable(const struct destination *destination);
