/* coro_internal.h - a coroutine, which lives at the top of its own stack. */
#ifndef LOOP_CORO_INTERNAL_H
#define LOOP_CORO_INTERNAL_H

#include "loop_internal.h"

struct coro {
	struct coro *next;        /* in loop->ready, or in the pool */
	struct quire_loop *loop;  /* borrowed: it outlives its coroutines */
	void *context;            /* where it goes on; valid while it does not run */
	quire_co_fn fn;
	void *arg;
	struct loop_task wake_task; /* for wakes from elsewhere */
	bool suspended;
	bool permit;              /* woken before it suspended */
	bool finished;

	char *stack;              /* lowest usable byte; the guard page is below */
	size_t stack_bytes;       /* up to this very struct */
	unsigned valgrind_id;
	void *fiber;              /* TSan's */
	void *fake_stack;         /* ASan's */
};

#endif
