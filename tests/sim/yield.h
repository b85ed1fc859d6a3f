/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* yield.h: a scheduling point before every atomic operation.
 *
 * The simulator compiles the library with this file included first. Its threads are fibers of one thread (fiber.h), so nothing
 * races for real; but as each atomic may be where another fiber goes on, every interleaving that a sequentially consistent
 * machine allows between two atomics can be had from a seed. Weaker orders are TSan's to find. */
#pragma once

#include <stdatomic.h>

extern int sim_countdown;
void sim_reschedule(void);

static inline void sim_yield(void)
{
	if (--sim_countdown <= 0)
		sim_reschedule();
}

#ifdef __clang__
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_weak_explicit
#define atomic_load_explicit(p, o) (sim_yield(), __c11_atomic_load(p, o))
#define atomic_store_explicit(p, v, o) (sim_yield(), __c11_atomic_store(p, v, o))
#define atomic_exchange_explicit(p, v, o) (sim_yield(), __c11_atomic_exchange(p, v, o))
#define atomic_fetch_add_explicit(p, v, o) (sim_yield(), __c11_atomic_fetch_add(p, v, o))
#define atomic_fetch_sub_explicit(p, v, o) (sim_yield(), __c11_atomic_fetch_sub(p, v, o))
#define atomic_fetch_or_explicit(p, v, o) (sim_yield(), __c11_atomic_fetch_or(p, v, o))
#define atomic_fetch_and_explicit(p, v, o) (sim_yield(), __c11_atomic_fetch_and(p, v, o))
#define atomic_compare_exchange_weak_explicit(p, e, v, s, f) (sim_yield(), __c11_atomic_compare_exchange_strong(p, e, v, s, f))
#else
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_weak_explicit
/* As in gcc's stdatomic.h: "(void)0, *p" takes the qualifiers off. */
#define atomic_load_explicit(p, o)                 \
	__extension__({                            \
		__auto_type sim_p = (p);           \
		__typeof__((void)0, *sim_p) sim_v; \
		sim_yield();                       \
		__atomic_load(sim_p, &sim_v, (o)); \
		sim_v;                             \
	})
#define atomic_store_explicit(p, v, o)                   \
	__extension__({                                  \
		__auto_type sim_p = (p);                 \
		__typeof__((void)0, *sim_p) sim_v = (v); \
		sim_yield();                             \
		__atomic_store(sim_p, &sim_v, (o));      \
	})
#define atomic_exchange_explicit(p, v, o)                      \
	__extension__({                                        \
		__auto_type sim_p = (p);                       \
		__typeof__((void)0, *sim_p) sim_v = (v);       \
		__typeof__((void)0, *sim_p) sim_w;             \
		sim_yield();                                   \
		__atomic_exchange(sim_p, &sim_v, &sim_w, (o)); \
		sim_w;                                         \
	})
#define atomic_fetch_add_explicit(p, v, o) (sim_yield(), __atomic_fetch_add((p), (v), (o)))
#define atomic_fetch_sub_explicit(p, v, o) (sim_yield(), __atomic_fetch_sub((p), (v), (o)))
#define atomic_fetch_or_explicit(p, v, o) (sim_yield(), __atomic_fetch_or((p), (v), (o)))
#define atomic_fetch_and_explicit(p, v, o) (sim_yield(), __atomic_fetch_and((p), (v), (o)))
#define atomic_compare_exchange_weak_explicit(p, e, v, s, f)                \
	__extension__({                                                     \
		__auto_type sim_p = (p);                                    \
		__typeof__((void)0, *sim_p) sim_v = (v);                    \
		sim_yield();                                                \
		__atomic_compare_exchange(sim_p, (e), &sim_v, 0, (s), (f)); \
	})
#endif
