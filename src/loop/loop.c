/* loop.c - the loop itself: its life, its turns, and being embedded.
 *
 * Purpose: one thread, one engine, and whatever waits: I/Os, tasks, timers, coroutines.
 *
 * A turn: reap completions → timers → posted and deferred tasks → woken coroutines → turn hooks →
 * submit → wait, if nothing is left to do. Submitting and waiting are one system call; a turn that
 * has nothing to submit and finds its completions there already makes none.
 *
 * Life. Created by any thread, unowned. The first to run or poll it owns it for good, since a ring
 * has one submitter. quire_loop_run returns when nothing is alive: no hold, coroutine, operation,
 * I/O, or task, and no operation elsewhere whose callback is to run here. A sleeping operation is an
 * operation; a bare loop_timer keeps nothing alive (it serves, it is not work).
 *
 * Embedding. quire_loop_fd is an epoll descriptor that holds wake_fd (posts, and what the ring
 * signals), timer_fd (set to the earliest timer at the end of each poll) and what the engine of
 * threads polls. quire_loop_poll makes turns until nothing is left to do, at most ROUNDS, and if
 * something is left then, it leaves the descriptor readable.
 *
 * Invariants:
 *   1. Loop-owned members are touched on the owner's thread in a turn, or by one thread before the
 *      first turn or after the last.
 *   2. sleeping is 1 whenever nobody is about to look at the inbox: between polls, before the first
 *      turn, while waiting. A post then makes wake_fd readable.
 *   3. loop_tls.loop is the loop exactly during run and poll on its thread.
 *
 * Signal stack: see coro.c. A loop with suspend_faults takes the thread's alternate signal stack
 * away while it runs, and while a poll runs coroutines, and gives it back after.
 *
 * Fork: a child may do nothing with its parent's loop; every entry says -ECHILD.
 */
#include "../base/fail.h"
#include "../base/feature.h"
#include "engine.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define ROUNDS 8
#define DEPTH_DEFAULT 256u
#define DEPTH_MAX 4096u
#define THREADS_DEFAULT 16u
#define THREADS_MAX 1024u

__thread struct loop_tls loop_tls __attribute__((tls_model("initial-exec")));

/* ---- who and where ---- */

struct quire_loop *quire_loop_self(void)
{
	return loop_tls.loop;
}

bool loop_is_mine(const struct quire_loop *loop)
{
	return loop_tls.loop == loop;
}

bool loop_suspends_faults(const struct quire_loop *loop)
{
	return loop->suspend_faults;
}

unsigned loop_depth(const struct quire_loop *loop)
{
	return loop->depth;
}

bool loop_is_of_parent(const struct quire_loop *loop)
{
	return loop->pid != getpid();
}

enum quire_engine quire_loop_engine(const struct quire_loop *loop)
{
	return loop->engine->ops->kind;
}

int quire_loop_fd(const struct quire_loop *loop)
{
	return loop->epoll_fd;
}

/* A thread is known by the address of its TLS. */
static uintptr_t thread_identity(void)
{
	return (uintptr_t)&loop_tls;
}

bool loop_is_owned_here(const struct quire_loop *loop)
{
	uintptr_t owner = atomic_load_explicit(&loop->owner, memory_order_acquire);
	return owner == 0 || owner == thread_identity();
}

/* ---- keep-alive ---- */

void loop_hold(struct quire_loop *loop)
{
	loop->n_alive++;
}

void loop_release(struct quire_loop *loop)
{
	quire_assert(loop->n_alive != 0);
	loop->n_alive--;
}

static bool is_alive(const struct quire_loop *loop)
{
	return loop->n_alive != 0 || loop->n_coros != 0 || loop->n_ios != 0 ||
	       atomic_load(&loop->n_expected) != 0 || tasks_waiting(loop);
}

/* ---- turns ---- */

void loop_turn_hook_arm(struct quire_loop *loop, struct loop_turn_hook *hook)
{
	if (hook->armed)
		return;
	hook->armed = true;
	hook->next = NULL;
	*loop->hooks_last = hook;
	loop->hooks_last = &hook->next;
}

/* A hook that is armed by a hook has its turn in the next. */
static void run_hooks(struct quire_loop *loop)
{
	struct loop_turn_hook *hook = loop->hooks;
	loop->hooks = NULL;
	loop->hooks_last = &loop->hooks;
	while (hook != NULL) {
		struct loop_turn_hook *next = hook->next;
		hook->armed = false;
		hook->run(hook);
		hook = next;
	}
}

static bool has_work(const struct quire_loop *loop)
{
	return loop->deferred.first != NULL || loop->ready != NULL || loop->finished.first != NULL ||
	       loop->hooks != NULL;
}

/* A thread that stands on its alternate stack keeps it: EPERM. */
static void signal_stack_take(stack_t *old)
{
	stack_t none = {.ss_flags = SS_DISABLE};
	if (sigaltstack(&none, old) < 0)
		old->ss_flags = SS_DISABLE;
}

static void signal_stack_give_back(const stack_t *old)
{
	if (!(old->ss_flags & SS_DISABLE))
		(void)sigaltstack(old, NULL);
}

static unsigned run_coros(struct quire_loop *loop)
{
	if (loop->ready == NULL)
		return 0;
	if (!loop->suspend_faults || loop->signal_stack_taken)
		return coros_run(loop);
	stack_t signal_stack;
	signal_stack_take(&signal_stack);
	unsigned n = coros_run(loop);
	signal_stack_give_back(&signal_stack);
	return n;
}

/* Everything of a turn but submitting and waiting. */
static unsigned work(struct quire_loop *loop)
{
	unsigned n = loop->engine->ops->reap(loop->engine);
	n += io_run_finished(loop);
	n += timers_run(loop);
	n += tasks_run(loop);
	n += run_coros(loop);
	run_hooks(loop);
	return n;
}

/* The end of a turn of quire_loop_run. */
static void submit_and_wait(struct quire_loop *loop)
{
	const struct engine_ops *ops = loop->engine->ops;
	uint64_t timeout = NEVER_NS;
	if (!has_work(loop) && loop->n_timers != 0) {
		uint64_t next = timers_next_ns(loop), now = loop_now_ns();
		timeout = next == NEVER_NS ? NEVER_NS : next > now ? next - now : 0;
	}
	if (has_work(loop) || timeout == 0 || !is_alive(loop)) {
		ops->submit(loop->engine);
		return;
	}
	atomic_store(&loop->sleeping, 1);
	if (atomic_load(&loop->inbox) != NULL || atomic_load(&loop->stop))
		ops->submit(loop->engine);
	else
		ops->wait(loop->engine, timeout);
	atomic_store_explicit(&loop->sleeping, 0, memory_order_relaxed);
}

/* ---- entering ---- */

static int enter(struct quire_loop *loop)
{
	if (loop->pid != getpid())
		return -ECHILD;
	if (loop_tls.loop != NULL)
		return -EDEADLK;
	uintptr_t nobody = 0;
	if (atomic_compare_exchange_strong(&loop->owner, &nobody, thread_identity())) {
		int rc = loop->engine->ops->own(loop->engine);
		if (rc < 0) {
			atomic_store(&loop->owner, 0);
			return rc;
		}
	} else if (nobody != thread_identity()) {
		return -EBUSY;
	}
	atomic_store(&loop->running, true);
	loop_tls.loop = loop;
	return 0;
}

static void leave(struct quire_loop *loop)
{
	loop_tls.loop = NULL;
	atomic_store(&loop->running, false);
}

int quire_loop_run(struct quire_loop *loop)
{
	int rc = enter(loop);
	if (rc < 0)
		return rc;
	rc = loop->engine->ops->notify(loop->engine, false);
	timers_clear_fd(loop);
	stack_t signal_stack = {.ss_flags = SS_DISABLE};
	if (loop->suspend_faults)
		signal_stack_take(&signal_stack);
	loop->signal_stack_taken = true;
	atomic_store(&loop->sleeping, 0);
	while (rc == 0 && !atomic_exchange(&loop->stop, false) && is_alive(loop)) {
		(void)work(loop);
		submit_and_wait(loop);
	}
	atomic_store(&loop->sleeping, 1);
	loop->signal_stack_taken = false;
	if (loop->suspend_faults)
		signal_stack_give_back(&signal_stack);
	leave(loop);
	return rc;
}

void quire_loop_stop(struct quire_loop *loop)
{
	atomic_fetch_add_explicit(&loop->n_posting, 1, memory_order_relaxed);
	atomic_store(&loop->stop, true);
	loop_wake(loop);
	atomic_fetch_sub_explicit(&loop->n_posting, 1, memory_order_release);
}

static unsigned poll_rounds(struct quire_loop *loop)
{
	const struct engine_ops *ops = loop->engine->ops;
	unsigned n = 0;
	ops->submit(loop->engine); /* lets deferred completions appear */
	for (int round = 0; round < ROUNDS; round++) {
		n += work(loop);
		ops->submit(loop->engine);
		if (!has_work(loop) && atomic_load(&loop->inbox) == NULL && !ops->pending(loop->engine))
			break;
	}
	return n;
}

int quire_loop_poll(struct quire_loop *loop)
{
	int rc = enter(loop);
	if (rc < 0)
		return rc;
	atomic_store(&loop->sleeping, 0);
	uint64_t count;
	(void)!read(loop->wake_fd, &count, sizeof(count));
	rc = loop->engine->ops->notify(loop->engine, false);
	unsigned n = rc == 0 ? poll_rounds(loop) : 0;
	timers_set_fd(loop);
	if (rc == 0)
		rc = loop->engine->ops->notify(loop->engine, true);
	atomic_store(&loop->sleeping, 1);
	if (has_work(loop) || atomic_load(&loop->inbox) != NULL || loop->engine->ops->pending(loop->engine))
		loop_wake(loop);
	leave(loop);
	return rc < 0 ? rc : (int)n;
}

/* ---- life ---- */

static int watch(struct quire_loop *loop, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_descriptors(struct quire_loop *loop)
{
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		return -errno;
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->timer_fd < 0)
		return -errno;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	int rc = watch(loop, loop->wake_fd);
	return rc < 0 ? rc : watch(loop, loop->timer_fd);
}

static int create_engine(struct quire_loop *loop, const struct quire_loop_options *o)
{
	int rc = -ENOTSUP;
	if (o->engine != QUIRE_ENGINE_THREADS)
		rc = engine_uring_create(loop, &loop->engine);
	bool threads = o->engine == QUIRE_ENGINE_THREADS ||
	               (o->engine == QUIRE_ENGINE_AUTO && (rc == -ENOTSUP || rc == -ENOMEM));
	if (threads)
		rc = engine_threads_create(loop, o->n_threads != 0 ? o->n_threads : THREADS_DEFAULT, &loop->engine);
	return rc;
}

static void tear_down(struct quire_loop *loop)
{
	if (loop->engine != NULL)
		loop->engine->ops->destroy(loop->engine);
	stack_pool_fini(&loop->stacks);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	free(loop->timers);
	free(loop);
}

static int read_options(const struct quire_loop_options *opts, struct quire_loop_options *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (opts == NULL)
		return 0;
	memcpy(ret, opts, opts->size < sizeof(*ret) ? opts->size : sizeof(*ret));
	bool good = opts->size >= sizeof(opts->size) && (unsigned)ret->engine <= QUIRE_ENGINE_THREADS &&
	            ret->depth <= DEPTH_MAX && ret->n_threads <= THREADS_MAX;
	return good ? 0 : -EINVAL;
}

int quire_loop_create(const struct quire_loop_options *opts, struct quire_loop **ret_loop,
                      struct quire_error *err)
{
	struct quire_loop_options o;
	int rc = read_options(opts, &o);
	if (rc < 0)
		return quire_fail(err, rc, "loop: options");
	rc = feature_settle();
	if (rc < 0)
		return quire_fail(err, rc, "loop: what the kernel can do");
	struct quire_loop *loop = calloc(1, sizeof(*loop));
	if (loop == NULL)
		return quire_fail(err, -ENOMEM, "loop");
	loop->wake_fd = loop->timer_fd = loop->epoll_fd = -1;
	loop->depth = o.depth != 0 ? o.depth : DEPTH_DEFAULT;
	loop->suspend_faults = o.suspend_faults;
	loop->pid = getpid();
	loop->hooks_last = &loop->hooks;
	loop->ready_last = &loop->ready;
	task_list_init(&loop->deferred);
	atomic_init(&loop->sleeping, 1);
	rc = stack_pool_init(&loop->stacks, o.stack_bytes);
	if (rc == 0)
		rc = open_descriptors(loop);
	if (rc == 0)
		rc = create_engine(loop, &o);
	if (rc < 0) {
		tear_down(loop);
		return quire_fail(err, rc, "loop: %s", o.engine == QUIRE_ENGINE_URING ? "io_uring" : "set-up");
	}
	*ret_loop = loop;
	return 0;
}

int quire_loop_destroy(struct quire_loop *loop)
{
	if (loop == NULL)
		return 0;
	if (loop->pid != getpid())
		return -ECHILD;
	if (atomic_load(&loop->running) || is_alive(loop))
		return -EBUSY;
	locals_destroy(loop);
	/* Whoever posted last may still be about to wake us: a few instructions away. */
	while (atomic_load_explicit(&loop->n_posting, memory_order_acquire) != 0)
		sched_yield();
	tear_down(loop);
	return 0;
}
