/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* yield.h: a scheduling point before every atomic operation, before a lock is taken and after it is given back.
 *
 * The simulator compiles the library with this file included first. Its threads are fibers of one thread (fiber.h), so nothing
 * races for real; but as each atomic may be where another fiber goes on, every interleaving that a sequentially consistent
 * machine allows between two atomics can be had from a seed. Weaker orders are TSan's to find.
 *
 * Each of these points is a site, by file and line: a seed may have it in for some, and hold up who comes there (fibers_reset). A weak
 * compare-exchange fails now and then for no reason, as on machines that have no other. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SIM_FILES = 64, SIM_LINES = 64, SIM_SITES = SIM_FILES * SIM_LINES };
#define SIM_FILE(name) (((name)[0] + (name)[3] * 3u + sizeof(name) * 14) % SIM_FILES)
#define SIM_SITE (SIM_FILE(__FILE_NAME__) * SIM_LINES + __LINE__ % SIM_LINES)

extern int sim_countdown;
extern uint8_t sim_hot[SIM_SITES]; /* one in so many is held up there; 0: nobody */
void sim_reschedule(void);
void sim_reach(uint32_t site);
bool sim_one_in(uint64_t n);

static inline void sim_yield(void)
{
	if (--sim_countdown <= 0)
		sim_reschedule();
}

static inline void sim_yield_at(uint32_t site)
{
	if (--sim_countdown <= 0 || sim_hot[site])
		sim_reach(site);
}

static inline void sim_lock(pthread_mutex_t *m, uint32_t site)
{
	sim_yield_at(site);
	pthread_mutex_lock(m);
}

static inline void sim_unlock(pthread_mutex_t *m, uint32_t site)
{
	pthread_mutex_unlock(m);
	sim_yield_at(site);
}

static inline bool sim_weak_fails(void)
{
	return sim_one_in(32);
}

#define pthread_mutex_lock(m) sim_lock((m), SIM_SITE)
#define pthread_mutex_unlock(m) sim_unlock((m), SIM_SITE)

#ifdef __clang__
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#define atomic_load_explicit(p, o) (sim_yield_at(SIM_SITE), __c11_atomic_load(p, o))
#define atomic_store_explicit(p, v, o) (sim_yield_at(SIM_SITE), __c11_atomic_store(p, v, o))
#define atomic_exchange_explicit(p, v, o) (sim_yield_at(SIM_SITE), __c11_atomic_exchange(p, v, o))
#define atomic_fetch_add_explicit(p, v, o) (sim_yield_at(SIM_SITE), __c11_atomic_fetch_add(p, v, o))
#define atomic_fetch_sub_explicit(p, v, o) (sim_yield_at(SIM_SITE), __c11_atomic_fetch_sub(p, v, o))
#define atomic_fetch_or_explicit(p, v, o) (sim_yield_at(SIM_SITE), __c11_atomic_fetch_or(p, v, o))
#define atomic_fetch_and_explicit(p, v, o) (sim_yield_at(SIM_SITE), __c11_atomic_fetch_and(p, v, o))
#define atomic_compare_exchange_strong_explicit(p, e, v, s, f) \
	(sim_yield_at(SIM_SITE), __c11_atomic_compare_exchange_strong(p, e, v, s, f))
#define atomic_compare_exchange_weak_explicit(p, e, v, s, f) \
	(sim_yield_at(SIM_SITE),                             \
	 sim_weak_fails() ? (*(e) = __c11_atomic_load(p, f), 0) : __c11_atomic_compare_exchange_strong(p, e, v, s, f))
#else
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
/* As in gcc's stdatomic.h: "(void)0, *p" takes the qualifiers off. */
#define atomic_load_explicit(p, o)                 \
	__extension__({                            \
		__auto_type sim_p = (p);           \
		__typeof__((void)0, *sim_p) sim_v; \
		sim_yield_at(SIM_SITE);            \
		__atomic_load(sim_p, &sim_v, (o)); \
		sim_v;                             \
	})
#define atomic_store_explicit(p, v, o)                   \
	__extension__({                                  \
		__auto_type sim_p = (p);                 \
		__typeof__((void)0, *sim_p) sim_v = (v); \
		sim_yield_at(SIM_SITE);                  \
		__atomic_store(sim_p, &sim_v, (o));      \
	})
#define atomic_exchange_explicit(p, v, o)                      \
	__extension__({                                        \
		__auto_type sim_p = (p);                       \
		__typeof__((void)0, *sim_p) sim_v = (v);       \
		__typeof__((void)0, *sim_p) sim_w;             \
		sim_yield_at(SIM_SITE);                        \
		__atomic_exchange(sim_p, &sim_v, &sim_w, (o)); \
		sim_w;                                         \
	})
#define atomic_fetch_add_explicit(p, v, o) (sim_yield_at(SIM_SITE), __atomic_fetch_add((p), (v), (o)))
#define atomic_fetch_sub_explicit(p, v, o) (sim_yield_at(SIM_SITE), __atomic_fetch_sub((p), (v), (o)))
#define atomic_fetch_or_explicit(p, v, o) (sim_yield_at(SIM_SITE), __atomic_fetch_or((p), (v), (o)))
#define atomic_fetch_and_explicit(p, v, o) (sim_yield_at(SIM_SITE), __atomic_fetch_and((p), (v), (o)))
#define atomic_compare_exchange_strong_explicit(p, e, v, s, f)              \
	__extension__({                                                     \
		__auto_type sim_p = (p);                                    \
		__typeof__((void)0, *sim_p) sim_v = (v);                    \
		sim_yield_at(SIM_SITE);                                     \
		__atomic_compare_exchange(sim_p, (e), &sim_v, 0, (s), (f)); \
	})
#define atomic_compare_exchange_weak_explicit(p, e, v, s, f)                                   \
	__extension__({                                                                        \
		__auto_type sim_p = (p);                                                       \
		__typeof__((void)0, *sim_p) sim_v = (v);                                       \
		bool sim_done = false;                                                         \
		sim_yield_at(SIM_SITE);                                                        \
		if (sim_weak_fails())                                                          \
			__atomic_load(sim_p, (e), (f));                                        \
		else                                                                           \
			sim_done = __atomic_compare_exchange(sim_p, (e), &sim_v, 0, (s), (f)); \
		sim_done;                                                                      \
	})
#endif
