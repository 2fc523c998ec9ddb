/* coro.h - coroutines with pooled, guarded stacks on one loop. */
#ifndef LOOP_CORO_H
#define LOOP_CORO_H

#include <signal.h>
#include <stdbool.h>

struct coro;

/* The coroutine that runs on this thread, or NULL. Async-signal-safe. */
struct coro *coro_self(void);

/* Suspends the current coroutine until coro_wake; the loop goes on. A wake that came
 * before makes it return at once (one permit). May be called in a SIGBUS handler that
 * interrupted the coroutine's own code (see cache/fault_signal.c): it touches only loop-owned
 * memory and takes no lock. errno is kept. To the compiler a load is no call: what coroutines
 * share must be volatile or atomic if it is used on both sides of a load that may fault. */
void coro_suspend(void);

/* Installs a handler in which coro_suspend may be called: it changes no signal mask (SA_NODEFER,
 * nothing masked), and runs on a thread's alternate stack where there is one (SA_ONSTACK): while
 * coroutines of a loop with suspend_faults run there is none, so it runs on the coroutine's own.
 * ret_old as of sigaction(2), to chain to. 0 or a negative errno. */
int coro_install_fault_handler(int sig, void (*handler)(int, siginfo_t *, void *), struct sigaction *ret_old);

/* Makes it runnable again. On the loop's thread, or from any other (posts). Once per suspend. */
void coro_wake(struct coro *co);

#endif
