/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kvm.c: what an embedder tells of its KVM virtual machine. Threads: the embedder's. */
#include <errno.h>
#include <stdio.h>

#include "core/run/session.h"

/* An error of a call before start: a later one, or the session's own, may replace it. */
static int refuse(struct sluice *s, int code, const char *text)
{
	pthread_mutex_lock(&s->look);
	if (!s->error_final) {
		s->error = (struct sluice_error){ .code = code, .stream = -1, .phase = SLUICE_NONE };
		snprintf(s->error.text, sizeof s->error.text, "%s", text);
	}
	pthread_mutex_unlock(&s->look);
	return code;
}

int sluice_set_kvm(struct sluice *s, const struct sluice_kvm *kvm)
{
	char text[SLUICE_ERROR_MAX];
	struct kvm *made;

	if (atomic_load_explicit(&s->started, memory_order_acquire))
		return -EBUSY;
	if (!kvm || kvm->size_of != sizeof *kvm || !kvm->slots || !kvm->n_slots)
		return -EINVAL;
	int rc = kvm_create(kvm, &s->memory, &made, text);
	if (rc)
		return refuse(s, rc, text);
	kvm_destroy(s->kvm);
	s->kvm = made;
	return 0;
}

int sluice_kvm_ring_full(struct sluice *s)
{
	return s && s->kvm ? kvm_harvest(s->kvm, NULL) : -EINVAL;
}
