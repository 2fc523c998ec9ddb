/* quire/loop.h - operations, loops, coroutines, completion queues.
 *
 * Whatever can wait takes a `struct quire_op *op` as its last parameter:
 *
 *   op == NULL   in a coroutine: suspends it. On a thread that runs no loop:
 *                blocks the thread. In a loop's callback: -EDEADLK. A thread
 *                that embeds a loop (quire_loop_poll) should not block while
 *                the loop has operations under way: what it waits for may wait
 *                for them. quire_map_want sees that, and is -EDEADLK.
 *   op != NULL   returns at once: 0 if the operation was accepted, and then it
 *                completes exactly once, in the way op was initialised for; a
 *                negative errno if it was refused, and then it never completes.
 *
 * An operation that could be done at once still completes through its op.
 *
 * (Where the process may, by io_uring: Axboe, Efficient IO with io_uring, 2019, and io_uring(7); else by threads.)
 */
#ifndef QUIRE_LOOP_H
#define QUIRE_LOOP_H

#include <quire/error.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_loop;
struct quire_queue;
struct quire_op;

typedef void (*quire_op_fn)(struct quire_op *op, void *arg);
typedef void (*quire_co_fn)(void *arg);

/* One operation. The caller owns the memory, which must stay where it is from
 * the call that starts the operation until its completion was delivered. An op
 * may be used again after that, once initialised anew. */
struct quire_op {
	int64_t result;        /* after completion: 0, a count, or a negative errno */
	uint64_t error_item;   /* after a failed want: index of the item, */
	uint64_t error_offset; /* and byte offset inside the item */
	uint64_t tag;          /* the caller's, returned untouched */
	uint64_t opaque[24];   /* the library's */
};

/* How an operation completes. None of these blocks or fails. */
void quire_op_init(struct quire_op *op);                                    /* for quire_await */
void quire_op_init_queue(struct quire_op *op, struct quire_queue *q, uint64_t tag);
void quire_op_init_eventfd(struct quire_op *op, int efd);                   /* adds 1; efd borrowed until completion */
void quire_op_init_callback(struct quire_op *op, struct quire_loop *loop,
                            quire_op_fn fn, void *arg);                     /* fn runs on loop's thread */

/* Waits for an op of quire_op_init: suspends the coroutine, or blocks the
 * thread. Returns op->result. -EDEADLK in a loop's callback; -EINVAL: it was
 * initialised otherwise, or not started. One waiter. */
int64_t quire_await(struct quire_op *op);

/* True once the operation has completed. Any thread; never blocks. */
bool quire_op_done(const struct quire_op *op);

/* Asks that an operation under way ends soon, with -ECANCELED if it had not
 * ended by itself. It still completes exactly once. Returns 0 if asked, -EALREADY
 * if complete, -EINVAL if it was never started. Any thread, as long as op is valid. Never blocks. */
int quire_op_cancel(struct quire_op *op);

/* ---- completion queues: for event loops and runtimes of other languages ---- */

/* A completion: the op's tag and its result. Layout is stable. */
struct quire_completion {
	uint64_t tag;
	int64_t result;
};

/* A queue may be used from any thread. Completions are never lost: the queue
 * holds its ops themselves, so it needs no memory for them. create: -ENOMEM, -EMFILE.
 * destroy (NULL allowed): -EBUSY while operations that name the queue are under way. */
int quire_queue_create(struct quire_queue **ret_queue);
int quire_queue_destroy(struct quire_queue *queue);

/* A descriptor that polls readable while completions wait. Owned by the queue.
 * Harvesting makes it unreadable again; nobody else needs to read from it. */
int quire_queue_fd(const struct quire_queue *queue);

/* Takes up to n completions, oldest first; returns how many. Never blocks. */
int quire_queue_harvest(struct quire_queue *queue, struct quire_completion *ret, unsigned n);

/* ---- loops ---- */

enum quire_engine {
	QUIRE_ENGINE_AUTO = 0, /* io_uring where the process may use it, else threads */
	QUIRE_ENGINE_URING,
	QUIRE_ENGINE_THREADS,
};

struct quire_loop_options {
	size_t size;              /* sizeof(struct quire_loop_options); 0 fields mean default */
	enum quire_engine engine;
	unsigned depth;           /* I/Os under way at most; default 256, 1 to 4096 */
	unsigned n_threads;       /* of the thread engine; default 16 */
	size_t stack_bytes;       /* of a coroutine; default 128 KiB, guard page apart */
	bool suspend_faults;      /* a cold raw load in a coroutine suspends it: see quire/map.h */
};

/* Creates a loop; the thread that first runs or polls it becomes its owner.
 * opts may be NULL. Any thread. -ENOTSUP if the engine asked for is not to be had; -EMFILE, -ENFILE, -ENOMEM, -EAGAIN
 * (threads), -EINVAL (options). */
int quire_loop_create(const struct quire_loop_options *opts, struct quire_loop **ret_loop,
                      struct quire_error *err);

/* Ends it, with its threads, if it has any. -EBUSY while it runs, or coroutines or operations of it are alive. NULL
 * allowed. Any thread. */
int quire_loop_destroy(struct quire_loop *loop);

/* Runs until quire_loop_stop, or until no coroutine, timer, or operation is
 * left. Returns 0, or -EBUSY if another thread owns the loop, or -EDEADLK from
 * within any loop. */
int quire_loop_run(struct quire_loop *loop);

/* Any thread. A stop before run makes the next run return at once. */
void quire_loop_stop(struct quire_loop *loop);

/* To embed: poll the descriptor for reading in epoll, libuv, libev; call
 * quire_loop_poll when it is readable, and once after starting operations from
 * outside. The descriptor is the loop's. poll never waits; returns the number of completions handled, or what
 * quire_loop_run would refuse: -EBUSY, -EDEADLK. */
int quire_loop_fd(const struct quire_loop *loop);
int quire_loop_poll(struct quire_loop *loop);

/* Which engine the loop got. */
enum quire_engine quire_loop_engine(const struct quire_loop *loop);

/* ---- coroutines ---- */

/* Starts fn(arg) as a coroutine of the loop; it first runs in a later turn.
 * From the loop's thread, or before its first run: -EPERM from elsewhere; -ENOMEM: no stack.
 * arg is borrowed until fn returns. */
int quire_co_spawn(struct quire_loop *loop, quire_co_fn fn, void *arg);

/* Lets the loop's other coroutines run. -EPERM outside of a coroutine. */
int quire_co_yield(void);

/* So many nanoseconds from now: 0, or -ECANCELED. op == NULL on a plain thread sleeps. -ENOMEM. */
int quire_sleep_ns(uint64_t ns, struct quire_op *op);

/* In a coroutine: until fd has one of the poll(2) events; returns those present.
 * op == NULL on a plain thread is poll(2). fd borrowed until completion. -EBADF, -ECANCELED; -EINVAL: events of more than 16 bits. */
int64_t quire_poll_fd(int fd, unsigned events, struct quire_op *op);

/* The loop whose thread this is and which is running now, or NULL. */
struct quire_loop *quire_loop_self(void);

/* True in a coroutine. */
bool quire_in_coroutine(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
