/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dump.c: which thread waits for what, since when (Law 6). Takes no lock; all it reads is atomic and lives as long as the session. */
#include <stdarg.h>
#include <stdio.h>

#include "core/run/session.h"

struct text {
	char *buffer;
	size_t size, length;
};

static __attribute__((format(printf, 2, 3))) void say(struct text *t, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t room = t->length < t->size ? t->size - t->length : 0;
	int n = vsnprintf(room ? t->buffer + t->length : NULL, room, format, args);
	va_end(args);
	t->length += n > 0 ? (size_t)n : 0;
}

static void one(struct text *t, const struct waiter *w, uint64_t now)
{
	const char *what = atomic_load_explicit(&w->what, memory_order_acquire); /* pairs with wait_begin */
	uint64_t since = atomic_load_explicit(&w->since_ns, memory_order_relaxed);
	if (atomic_load_explicit(&w->ended, memory_order_relaxed))
		say(t, "%-12s has ended\n", w->thread);
	else if (what)
		say(t, "%-12s waits %8.3f s for %s\n", w->thread, now > since ? (double)(now - since) * 1e-9 : 0, what);
	else
		say(t, "%-12s runs\n", w->thread);
}

size_t sluice_dump(struct sluice *s, char *buffer, size_t size)
{
	struct text t = { buffer, size, 0 };
	uint64_t now = now_ns();
	struct pool *pool = atomic_load_explicit(&s->pool, memory_order_acquire);
	struct receivers *receivers = atomic_load_explicit(&s->receivers, memory_order_acquire);
	static const char *const names[] = { "none", "source", "destination" };
	say(&t, "session: %s, phase %s\n", names[s->side],
	    sluice_phase_name((enum sluice_phase)atomic_load_explicit(&s->phase, memory_order_relaxed)));
	if (!atomic_load_explicit(&s->started, memory_order_acquire))
		return t.length;
	one(&t, &s->control_waiter, now);
	one(&t, &s->link.waiter, now);
	if (atomic_load_explicit(&s->tracking, memory_order_acquire))
		one(&t, &s->sync.waiter, now);
	uint32_t asked = atomic_load_explicit(&s->asked, memory_order_relaxed);
	static const char *const requests[] = { "", "incoming", "pause", "save", "release", "load", "acquire", "resume" };
	for (uint32_t i = 1; i < sizeof requests / sizeof *requests; i++)
		if (asked >> i & 1)
			say(&t, "%-12s has not answered %s\n", "embedder", requests[i]);
	for (uint32_t i = 0; pool && i < pool_streams(pool); i++)
		one(&t, pool_waiter(pool, i), now);
	for (uint32_t i = 0; receivers && i < receivers_streams(receivers); i++)
		one(&t, receivers_waiter(receivers, i), now);
	return t.length;
}
