/* loop_internal.h - the inside of a loop, for the files of this layer alone. */
#ifndef LOOP_LOOP_INTERNAL_H
#define LOOP_LOOP_INTERNAL_H

#include "../base/assert.h"
#include "coro.h"
#include "io.h"
#include "loop.h"
#include <assert.h>
#include <stdatomic.h>

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define NEVER_NS UINT64_MAX

/* What runs on this thread. initial-exec: read in signal handlers. */
struct loop_tls {
	struct quire_loop *loop; /* whose turn it is; NULL outside of turns */
	struct coro *coro;       /* NULL while the loop itself runs */
};
extern __thread struct loop_tls loop_tls __attribute__((tls_model("initial-exec")));

struct task_list {
	struct loop_task *first;
	struct loop_task **last;
};

struct io_list {
	struct io *first, *last;
};

/* Lies over io->engine. */
struct io_private {
	union {
		struct {
			struct io *next, *prev;
		};
		struct loop_task task;
	};
	union {
		int64_t result;
		uint64_t progress; /* bytes advised so far */
	};
	uint16_t state;   /* enum io_state */
	uint16_t engine_state;
	bool counted;     /* takes part in the loop's depth */
};
static_assert(sizeof(struct io_private) <= sizeof(((struct io *)0)->engine), "fits");

enum io_state {
	IO_STATE_QUEUED = 1, /* beyond the depth */
	IO_STATE_STARTED,    /* the engine has it */
	IO_STATE_FINISHED,   /* in loop->finished, done() is due */
};

static inline struct io_private *io_private(struct io *io)
{
	return (struct io_private *)io->engine;
}

struct stack_pool {
	size_t stack_bytes; /* without the guard page */
	size_t page_bytes;
	struct coro *idle;  /* owned; linked by next */
	unsigned n_idle;
};

struct quire_loop {
	/* ---- any thread ---- */
	_Atomic(struct loop_task *) inbox; /* newest first */
	atomic_uint sleeping;              /* 1: who posts has to write wake_fd */
	atomic_uint n_posting;             /* threads inside loop_post; the loop may not go away */
	atomic_uint n_expected;            /* ops driven elsewhere whose callback is to run here */
	atomic_bool stop;
	atomic_bool running;
	_Atomic uintptr_t owner; /* identity of the owner thread, 0: none yet */
	int wake_fd;

	/* ---- fixed after create ---- */
	struct engine *engine; /* owned */
	int epoll_fd;          /* what quire_loop_fd returns: wake_fd, timer_fd, the engine's */
	int timer_fd;
	unsigned depth;
	bool suspend_faults;
	int pid;

	/* ---- the owner's ---- */
	unsigned n_alive; /* holds and operations at home here */
	struct task_list deferred;
	struct loop_turn_hook *hooks, **hooks_last;
	struct loop_local *locals; /* borrowed: until their destroy ran */

	unsigned n_ios;     /* submitted, not done */
	unsigned n_started; /* counted ones that the engine has */
	struct io_list queued, finished;

	struct loop_timer **timers; /* heap, from 1 */
	uint32_t n_timers, timers_capacity;
	uint64_t timer_fd_ns; /* what timer_fd is set to; 0: nothing */

	bool signal_stack_taken; /* quire_loop_run has seen to it */
	unsigned n_coros;
	struct coro *ready, **ready_last;
	void *context; /* where a coroutine that suspends jumps to */
	struct stack_pool stacks;
	void *fiber;              /* TSan's name for the loop's own stack */
	const void *stack_bottom; /* ASan: bounds of the loop's own stack */
	size_t stack_size;
};

/* ---- task.c ---- */
void task_list_init(struct task_list *list);
unsigned tasks_run(struct quire_loop *loop);
bool tasks_waiting(const struct quire_loop *loop);
void loop_wake(struct quire_loop *loop); /* any thread; one write if the loop may be asleep */

/* ---- io.c ---- */
void io_list_append(struct io_list *list, struct io *io);
void io_list_remove(struct io_list *list, struct io *io);
void io_finish(struct quire_loop *loop, struct io *io, int64_t result);       /* in a turn, not in submit */
void io_finish_later(struct quire_loop *loop, struct io *io, int64_t result); /* anywhere on the loop */
unsigned io_run_finished(struct quire_loop *loop);

/* ---- timer.c ---- */
unsigned timers_run(struct quire_loop *loop);
uint64_t timers_next_ns(const struct quire_loop *loop); /* NEVER_NS if there is none */
void timers_set_fd(struct quire_loop *loop);            /* makes timer_fd follow the heap */

void timers_clear_fd(struct quire_loop *loop);

/* ---- local.c ---- */
void locals_destroy(struct quire_loop *loop);

/* ---- coro.c ---- */
unsigned coros_run(struct quire_loop *loop);

/* ---- coro_stack.c ---- */
int stack_pool_init(struct stack_pool *pool, size_t stack_bytes);
void stack_pool_fini(struct stack_pool *pool);
struct coro *stack_pool_get(struct stack_pool *pool); /* NULL: no memory */
void stack_pool_put(struct stack_pool *pool, struct coro *co);

#endif
