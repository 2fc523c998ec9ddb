/* coro.c - coroutines: run, suspend, wake.
 *
 * A coroutine is ready (in loop->ready, once), running, suspended, or finished. All of it is
 * changed on the loop's thread alone; a wake from elsewhere is a task posted to the loop. A wake of
 * one that has not suspended yet leaves a permit, which its next suspend takes.
 *
 * Suspending inside a fault handler. The handler runs on the coroutine's own stack, so switching
 * away leaves the kernel's signal frame there, registers and all, and coming back returns through
 * it. For that, three things must hold, and each is seen to here or by whoever installs the handler:
 *   1. No alternate signal stack is in use on the thread (a second fault would overwrite the frame of
 *      the first): a loop with suspend_faults switches it off around its coroutines (loop.c).
 *      sigreturn restores what was set when the signal came, which is "none", too.
 *   2. The handler does not change the thread's signal mask, since the mask is the thread's and would
 *      stay with whoever runs next (coro_install_fault_handler).
 *   3. The code that faulted holds no lock and no place of this library's: memory of a caller (a record to append, a page to
 *      put, a buffer to fill) is read and written by it without any, on workspaces that a call has for itself.
 * errno belongs to the thread as well and is kept here.
 */
#include "coro.h"
#include "coro_internal.h"
#include "fcontext.h"
#include "stack_notes.h"
#include <errno.h>

struct coro *coro_self(void)
{
	return loop_tls.coro;
}

bool quire_in_coroutine(void)
{
	return loop_tls.coro != NULL;
}

/* ---- switching ---- */

static void make_ready(struct quire_loop *loop, struct coro *co)
{
	co->next = NULL;
	*loop->ready_last = co;
	loop->ready_last = &co->next;
}

/* From co to its loop. */
static void switch_out(struct coro *co)
{
	struct quire_loop *loop = co->loop;
	stack_note_leave(co->finished ? NULL : &co->fake_stack, loop->stack_bottom, loop->stack_size, loop->fiber);
	struct fcontext_transfer from = fcontext_switch(loop->context, NULL);
	stack_note_arrive(co->fake_stack, &loop->stack_bottom, &loop->stack_size);
	loop->context = from.context;
}

static void coro_entry(struct fcontext_transfer from)
{
	struct coro *co = from.data;
	stack_note_arrive(NULL, &co->loop->stack_bottom, &co->loop->stack_size);
	co->loop->context = from.context;
	co->fn(co->arg);
	co->finished = true;
	switch_out(co);
	__builtin_unreachable();
}

static void finish(struct quire_loop *loop, struct coro *co)
{
	stack_note_fiber_destroy(co->fiber);
	loop->n_coros--;
	stack_pool_put(&loop->stacks, co);
}

static void resume(struct quire_loop *loop, struct coro *co)
{
	void *fake_stack = NULL;
	loop_tls.coro = co;
	stack_note_leave(&fake_stack, co->stack, co->stack_bytes, co->fiber);
	struct fcontext_transfer from = fcontext_switch(co->context, co);
	stack_note_arrive(fake_stack, NULL, NULL);
	loop_tls.coro = NULL;
	co->context = from.context;
	if (co->finished)
		finish(loop, co);
}

/* Those that are ready now; who gets ready meanwhile has his turn in the next. */
unsigned coros_run(struct quire_loop *loop)
{
	struct coro *co = loop->ready;
	if (co == NULL)
		return 0;
	loop->ready = NULL;
	loop->ready_last = &loop->ready;
	loop->fiber = stack_note_fiber_current();
	unsigned n = 0;
	while (co != NULL) {
		struct coro *next = co->next;
		resume(loop, co);
		co = next;
		n++;
	}
	return n;
}

void coro_suspend(void)
{
	struct coro *co = loop_tls.coro;
	quire_assert(quire_in_coroutine());
	if (co->permit) {
		co->permit = false;
		return;
	}
	int saved_errno = errno;
	co->suspended = true;
	switch_out(co);
	errno = saved_errno;
}

static void wake_here(struct coro *co)
{
	if (!co->suspended) {
		co->permit = true;
		return;
	}
	co->suspended = false;
	make_ready(co->loop, co);
}

static void wake_posted(struct loop_task *task)
{
	wake_here(container_of(task, struct coro, wake_task));
}

void coro_wake(struct coro *co)
{
	if (loop_is_mine(co->loop)) {
		wake_here(co);
		return;
	}
	loop_post(co->loop, &co->wake_task);
}

/* ---- the public face ---- */

int quire_co_yield(void)
{
	struct coro *co = loop_tls.coro;
	if (co == NULL)
		return -EPERM;
	int saved_errno = errno;
	make_ready(co->loop, co);
	switch_out(co);
	errno = saved_errno;
	return 0;
}

int quire_co_spawn(struct quire_loop *loop, quire_co_fn fn, void *arg)
{
	if (loop == NULL || fn == NULL)
		return -EINVAL;
	if (!loop_is_mine(loop) && !loop_is_owned_here(loop))
		return -EPERM;
	struct coro *co = stack_pool_get(&loop->stacks);
	if (co == NULL)
		return -ENOMEM;
	co->loop = loop;
	co->fn = fn;
	co->arg = arg;
	loop_task_init(&co->wake_task, wake_posted);
	co->suspended = co->permit = co->finished = false;
	co->fake_stack = NULL;
	co->fiber = stack_note_fiber_create();
	co->context = make_fcontext(co, co->stack_bytes, coro_entry);
	loop->n_coros++;
	make_ready(loop, co);
	return 0;
}
