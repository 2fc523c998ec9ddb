/* gate.h - who is inside, and how the last one out tells whoever waits to close.
 *
 * Operations enter before they touch what the gate guards and leave when they have ended. Once
 * closed nobody enters; gate_when_idle's task is posted when the last has left. Any thread.
 */
#ifndef CACHE_GATE_H
#define CACHE_GATE_H

#include "../loop/loop.h"
#include <stdatomic.h>

#define GATE_CLOSED (UINT64_C(1) << 63)

struct gate {
	_Atomic uint64_t n_inside; /* top bit: closed */
	struct quire_loop *idle_loop;
	struct loop_task *idle_task;
};

static inline bool gate_is_closed(const struct gate *g)
{
	return (atomic_load_explicit(&g->n_inside, memory_order_acquire) & GATE_CLOSED) != 0;
}

static inline void gate_leave(struct gate *g)
{
	if (atomic_fetch_sub(&g->n_inside, 1) == (GATE_CLOSED | 1))
		loop_post(g->idle_loop, g->idle_task);
}

static inline bool gate_enter(struct gate *g)
{
	uint64_t n = atomic_load_explicit(&g->n_inside, memory_order_relaxed);

	/* Never in and out again: who leaves a closed gate last says so, and only one may. */
	do {
		if (n & GATE_CLOSED)
			return false;
	} while (!atomic_compare_exchange_weak(&g->n_inside, &n, n + 1));
	return true;
}

/* Once; gate_when_idle must follow. The closer counts as inside until then, so the last of the
 * others has somebody to tell. */
static inline void gate_close(struct gate *g)
{
	atomic_fetch_add(&g->n_inside, 1);
	atomic_fetch_or(&g->n_inside, GATE_CLOSED);
}

static inline void gate_when_idle(struct gate *g, struct quire_loop *loop, struct loop_task *task)
{
	g->idle_loop = loop;
	g->idle_task = task;
	gate_leave(g);
}

#endif
