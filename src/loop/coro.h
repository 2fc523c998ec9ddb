/* coro.h - coroutines with pooled, guarded stacks on one loop. */
#ifndef LOOP_CORO_H
#define LOOP_CORO_H

#include <stdbool.h>

struct coro;

/* The coroutine that runs on this thread, or NULL. Async-signal-safe. */
struct coro *coro_self(void);

/* Suspends the current coroutine until coro_wake; the loop goes on. A wake that came
 * before makes it return at once (one permit). May be called in a SIGBUS handler that
 * interrupted the coroutine's own code (see cache/fault_signal.c): it touches only loop-owned
 * memory and takes no lock. For that the handler is installed with SA_NODEFER and an empty
 * sa_mask, and may carry SA_ONSTACK for other threads' sake: while coroutines of a loop with
 * suspend_faults run, their thread has no alternate signal stack, so the handler runs on the
 * coroutine's own. errno is kept. */
void coro_suspend(void);

/* Makes it runnable again. On the loop's thread, or from any other (posts). Once per suspend. */
void coro_wake(struct coro *co);

/* Critical part of the library: a fault in it may not suspend. Nests. For asserts. */
void coro_forbid_suspend(void);
void coro_allow_suspend(void);
bool coro_may_suspend(void);

#endif
