/* op.c - operations: started once, completed exactly once, cancelled by anybody.
 *
 * Purpose: everything between a public call with an op and its completion, whoever drives it.
 *
 * States (op->state):
 *   IDLE → UNDER_WAY (posted to its home) → STARTED → COMPLETE
 * with these flags beside:
 *   CANCEL_ASKED  somebody has posted, or is about to post, cancel_task to the home
 *   CANCEL_SEEN   the home has consumed it
 *   FINISHED      the driver is done, the result is stored, but a cancel is on its way
 *   WAIT_THREAD   a thread sleeps on the state word
 *   WAIT_CORO     a coroutine (op->waiter) is suspended, or about to be
 *
 * Why a cancel is safe from any thread. After completion was delivered the op's memory is its
 * caller's again, and a message that lies in it would be lost or worse. So publishing COMPLETE and
 * asking for a cancel exclude each other (both are a compare-and-swap of the state), and while a
 * cancel is on its way, completion is only noted (FINISHED): the home publishes it when the message
 * has arrived. Until then the op counts as alive at home, so that its loop can't go away either.
 *
 * Invariants:
 *   1. Only the home sets STARTED, CANCEL_SEEN, FINISHED and COMPLETE.
 *   2. Once COMPLETE is set by the home, it does not touch op, unless the kind says that op stays
 *      the library's: until harvested (queue), until its callback runs.
 *   3. driver->cancel is called at most once, after start, before op_complete.
 *   4. Whoever set WAIT_CORO gets exactly one coro_wake.
 *
 * Threads: see each function of op.h and quire/loop.h. Callbacks always run from a task, never
 * inside the call that completed the op.
 */
#include "op.h"
#include "op_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum op_kind { KIND_AWAIT = 1, KIND_QUEUE, KIND_EVENTFD, KIND_CALLBACK };

enum op_state {
	STATE_IDLE = 0,
	STATE_UNDER_WAY = 1,
	STATE_STARTED = 2,
	STATE_COMPLETE = 3,
	STATE_PHASE = 3, /* mask */
	CANCEL_ASKED = 4,
	CANCEL_SEEN = 8,
	FINISHED = 16,
	WAIT_THREAD = 32,
	WAIT_CORO = 64,
};

/* ---- initialising ---- */

static struct op_private *init(struct quire_op *op, enum op_kind kind)
{
	memset(op, 0, sizeof(*op));
	struct op_private *p = op_private(op);
	p->kind = (uint16_t)kind;
	return p;
}

void quire_op_init(struct quire_op *op)
{
	init(op, KIND_AWAIT);
}

void quire_op_init_queue(struct quire_op *op, struct quire_queue *q, uint64_t tag)
{
	init(op, KIND_QUEUE)->queue = q;
	op->tag = tag;
}

void quire_op_init_eventfd(struct quire_op *op, int efd)
{
	init(op, KIND_EVENTFD)->eventfd = efd;
}

void quire_op_init_callback(struct quire_op *op, struct quire_loop *loop, quire_op_fn fn, void *arg)
{
	struct op_private *p = init(op, KIND_CALLBACK);
	p->callback.loop = loop;
	p->callback.fn = fn;
	p->callback.arg = arg;
}

void *op_driver_data(struct quire_op *op)
{
	return op->opaque + OP_PRIVATE_WORDS;
}

struct quire_op *op_of_driver_data(void *data)
{
	return container_of((uint64_t (*)[24])((uint64_t *)data - OP_PRIVATE_WORDS), struct quire_op, opaque);
}

bool op_is_idle(const struct quire_op *op)
{
	return atomic_load_explicit(&op_private(op)->state, memory_order_relaxed) == STATE_IDLE;
}

struct quire_loop *op_home(const struct quire_op *op)
{
	return op_private(op)->home;
}

struct loop_task *op_task(struct quire_op *op)
{
	return &op_private(op)->task;
}

struct quire_op *op_of_task(struct loop_task *task)
{
	return op_of_private(container_of(task, struct op_private, task));
}

/* ---- delivering ---- */

static void wake_threads(atomic_uint *state)
{
	/* The word may be gone already: the kernel takes its address for a name and no more. */
	syscall(SYS_futex, state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* A full eventfd that was not made EFD_NONBLOCK would hold up the loop: it is asked for room first. */
int op_signal_eventfd(int efd)
{
	struct pollfd room = {.fd = efd, .events = POLLOUT};
	uint64_t one = 1;
	int flags = fcntl(efd, F_GETFL);
	if (flags < 0)
		return -EBADF;
	if (!(flags & O_NONBLOCK) && poll(&room, 1, 0) <= 0)
		return 0;
	/* Not write(2), as no call of this library is a cancellation point. */
	return syscall(SYS_write, efd, &one, sizeof(one)) < 0 && errno == EBADF ? -EBADF : 0;
}

static void run_callback(struct loop_task *task)
{
	struct quire_op *op = op_of_task(task);
	struct op_private *p = op_private(op);
	if (p->expected)
		atomic_fetch_sub(&p->callback.loop->n_expected, 1);
	p->callback.fn(op, p->callback.arg);
}

/* COMPLETE is published; `seen` is the state before. The arguments are what had to be read then. */
static void deliver(struct quire_op *op, unsigned seen, struct coro *waiter, int eventfd)
{
	struct op_private *p = op_private(op);
	if (seen & WAIT_CORO)
		coro_wake(waiter);
	else if (seen & WAIT_THREAD)
		wake_threads(&p->state);
	else if (eventfd >= 0)
		(void)op_signal_eventfd(eventfd);
}

/* Queue and callback: op stays ours until it was handed over. */
static void hand_over(struct quire_op *op)
{
	struct op_private *p = op_private(op);
	if (p->kind == KIND_QUEUE) {
		queue_push(p->queue, op);
		return;
	}
	struct quire_loop *loop = p->callback.loop;
	loop_task_init(&p->task, run_callback);
	if (loop_is_mine(loop))
		loop_defer(loop, &p->task);
	else
		loop_post(loop, &p->task);
}

/* Takes op from `state` to COMPLETE, or, if a cancel is on its way, to FINISHED: then false. */
static bool publish(struct quire_op *op)
{
	struct op_private *p = op_private(op);
	bool handed_over = p->kind == KIND_QUEUE || p->kind == KIND_CALLBACK;
	int eventfd = p->kind == KIND_EVENTFD ? p->eventfd : -1;
	unsigned state = atomic_load_explicit(&p->state, memory_order_acquire);
	for (;;) {
		if ((state & CANCEL_ASKED) && !(state & CANCEL_SEEN)) {
			if (atomic_compare_exchange_weak(&p->state, &state, state | FINISHED))
				return false;
			continue;
		}
		struct coro *waiter = state & WAIT_CORO ? p->waiter : NULL;
		if (!atomic_compare_exchange_weak(&p->state, &state, STATE_COMPLETE))
			continue;
		if (handed_over)
			hand_over(op);
		else
			deliver(op, state, waiter, eventfd);
		return true;
	}
}

void op_complete(struct quire_op *op, int64_t result)
{
	struct quire_loop *home = op_private(op)->home;
	quire_assert(loop_is_mine(home));
	op->result = result;
	if (publish(op))
		loop_release(home);
}

/* What names a loop or a queue is counted there from the start to the delivery. */
static void expect(struct op_private *p, struct quire_loop *home)
{
	if (p->kind == KIND_QUEUE) {
		queue_expect(p->queue);
	} else if (p->kind == KIND_CALLBACK && p->callback.loop != home) {
		p->expected = true;
		atomic_fetch_add(&p->callback.loop->n_expected, 1);
	}
}

void op_complete_now(struct quire_op *op, int64_t result)
{
	struct op_private *p = op_private(op);
	quire_assert(op_is_idle(op));
	expect(p, NULL);
	op->result = result;
	(void)publish(op);
}

/* ---- starting ---- */

static void cancel_posted(struct loop_task *task);

static void start_posted(struct loop_task *task)
{
	struct quire_op *op = op_of_task(task);
	struct op_private *p = op_private(op);
	loop_hold(p->home);
	unsigned state = atomic_load(&p->state);
	while (!atomic_compare_exchange_weak(&p->state, &state,
	                                     (state & ~(STATE_PHASE | CANCEL_SEEN)) | STATE_STARTED))
		;
	/* A cancel that came first comes again: only the driver knows what an op that was accepted
	 * holds already, and how, or whether, it can end early. */
	if (state & CANCEL_SEEN) {
		loop_task_init(&p->cancel_task, cancel_posted);
		loop_defer(p->home, &p->cancel_task);
	}
	p->driver->start(op);
}

int op_start(struct quire_op *op, const struct op_driver *driver, struct quire_loop *service)
{
	struct op_private *p = op_private(op);
	struct quire_loop *mine = loop_tls.loop;
	unsigned idle = STATE_IDLE;
	quire_assert(mine != NULL || service != NULL);
	if (p->kind == 0)
		return -EINVAL;
	/* Set before the state says so to others. */
	if (!op_is_idle(op))
		return -EBUSY;
	p->home = mine != NULL ? mine : service;
	p->driver = driver;
	if (!atomic_compare_exchange_strong(&p->state, &idle, mine != NULL ? STATE_STARTED : STATE_UNDER_WAY))
		return -EBUSY;
	expect(p, p->home);
	if (mine != NULL) {
		loop_hold(mine);
		driver->start(op);
		return 0;
	}
	loop_task_init(&p->task, start_posted);
	loop_post(service, &p->task);
	return 0;
}

/* ---- cancelling ---- */

static void cancel_posted(struct loop_task *task)
{
	struct op_private *p = container_of(task, struct op_private, cancel_task);
	struct quire_op *op = op_of_private(p);
	struct quire_loop *home = p->home;
	unsigned before = atomic_fetch_or(&p->state, CANCEL_SEEN);
	if (before & FINISHED) {
		if (publish(op))
			loop_release(home);
	} else if ((before & STATE_PHASE) == STATE_STARTED && p->driver->cancel != NULL) {
		p->driver->cancel(op);
	}
}

int quire_op_cancel(struct quire_op *op)
{
	struct op_private *p = op_private(op);
	unsigned state = atomic_load_explicit(&p->state, memory_order_acquire);
	do {
		if ((state & STATE_PHASE) == STATE_IDLE)
			return -EINVAL;
		if ((state & STATE_PHASE) == STATE_COMPLETE || (state & FINISHED))
			return -EALREADY;
		if (state & CANCEL_ASKED)
			return 0;
	} while (!atomic_compare_exchange_weak(&p->state, &state, state | CANCEL_ASKED));
	struct quire_loop *home = p->home;
	loop_task_init(&p->cancel_task, cancel_posted);
	if (loop_is_mine(home))
		loop_defer(home, &p->cancel_task);
	else
		loop_post(home, &p->cancel_task);
	return 0;
}

/* ---- waiting ---- */

bool quire_op_done(const struct quire_op *op)
{
	unsigned state = atomic_load_explicit(&op_private(op)->state, memory_order_acquire);
	return (state & STATE_PHASE) == STATE_COMPLETE;
}

static void wait_in_coroutine(struct op_private *p)
{
	unsigned state = atomic_load_explicit(&p->state, memory_order_acquire);
	p->waiter = coro_self();
	while ((state & STATE_PHASE) != STATE_COMPLETE) {
		if (atomic_compare_exchange_weak(&p->state, &state, state | WAIT_CORO)) {
			coro_suspend();
			return;
		}
	}
}

static void wait_in_thread(struct op_private *p)
{
	unsigned state = atomic_load_explicit(&p->state, memory_order_acquire);
	while ((state & STATE_PHASE) != STATE_COMPLETE) {
		if (!(state & WAIT_THREAD)) {
			if (!atomic_compare_exchange_weak(&p->state, &state, state | WAIT_THREAD))
				continue;
			state |= WAIT_THREAD;
		}
		syscall(SYS_futex, &p->state, FUTEX_WAIT_PRIVATE, state, NULL, NULL, 0);
		state = atomic_load_explicit(&p->state, memory_order_acquire);
	}
}

static bool in_loop_callback(void)
{
	return loop_tls.loop != NULL && loop_tls.coro == NULL;
}

int64_t quire_await(struct quire_op *op)
{
	struct op_private *p = op_private(op);
	if (p->kind != KIND_AWAIT || op_is_idle(op))
		return -EINVAL;
	if (in_loop_callback())
		return -EDEADLK;
	if (loop_tls.coro != NULL)
		wait_in_coroutine(p);
	else
		wait_in_thread(p);
	quire_assert(quire_op_done(op));
	return op->result;
}

int64_t op_run_and_wait(struct quire_op *local, const struct op_driver *driver, struct quire_loop *service)
{
	if (in_loop_callback())
		return -EDEADLK;
	int rc = op_start(local, driver, service);
	return rc < 0 ? rc : quire_await(local);
}
