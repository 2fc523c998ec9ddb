/* loop.h - what the layers above need of a loop: tasks, timers, turns, the service loop.
 *
 * A turn: reap completions (io done()s) → run posted and deferred tasks → run woken
 * coroutines → turn hooks → submit → wait if nothing is left to do. */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <quire/loop.h>

/* ---- tasks: intrusive, no memory, run once per post ---- */
struct loop_task {
	struct loop_task *next;
	void (*run)(struct loop_task *task);
};
static inline void loop_task_init(struct loop_task *t, void (*run)(struct loop_task *))
{
	t->next = NULL;
	t->run = run;
}

/* From any thread: task runs on the loop's thread, in order of posting; wakes the loop.
 * Never blocks, lock-free; the task must not be posted already. The caller sees to it
 * that the loop lives that long. */
void loop_post(struct quire_loop *loop, struct loop_task *task);

/* From the loop's thread: task runs later in this turn or in the next, before the loop waits. */
void loop_defer(struct quire_loop *loop, struct loop_task *task);

/* ---- turn hooks: run once near the end of each turn in which loop_turn_hook_arm was called ---- */
struct loop_turn_hook {
	struct loop_turn_hook *next;
	void (*run)(struct loop_turn_hook *hook);
	bool armed;
};
void loop_turn_hook_arm(struct quire_loop *loop, struct loop_turn_hook *hook);

/* ---- timers (CLOCK_MONOTONIC) ---- */
struct loop_timer {
	uint64_t when_ns;
	uint32_t heap_index; /* 0: not armed */
	void (*run)(struct loop_timer *timer);
};
int loop_timer_arm(struct quire_loop *loop, struct loop_timer *timer, uint64_t when_ns); /* -ENOMEM */
void loop_timer_disarm(struct quire_loop *loop, struct loop_timer *timer);
uint64_t loop_now_ns(void);

/* ---- keep-alive: quire_loop_run does not return, destroy gives EBUSY, while held ---- */
void loop_hold(struct quire_loop *loop);    /* the loop's thread */
void loop_release(struct quire_loop *loop);

/* ---- what a layer above keeps with a loop ---- */
struct loop_local {
	struct loop_local *next;
	const void *key;
	void (*destroy)(struct loop_local *local); /* in quire_loop_destroy, after the last turn, before
	                                            * the engine is closed: buffers can be unregistered */
};
struct loop_local *loop_local_find(struct quire_loop *loop, const void *key); /* the loop's thread; NULL */
void loop_local_add(struct quire_loop *loop, struct loop_local *local);       /* the loop's thread */

/* ---- the process's service loop: a thread with a ring of its own ---- */

/* Starts it for the first user; -ENOTSUP, -ENOMEM, -EAGAIN. The thread blocks all signals,
 * is named "quire-service" and is a loop like any other, so loop_post reaches it. */
int service_get(struct quire_loop **ret_loop, struct quire_error *err);
void service_put(void); /* the last one stops and joins it */

/* The same for operations of threads that have neither a loop nor a cache: one reference for all
 * of them, kept until the process ends or the library is unloaded. */
int service_shared(struct quire_loop **ret_loop);

/* ---- which loop, which coroutine; async-signal-safe (initial-exec TLS) ---- */
bool loop_is_mine(const struct quire_loop *loop); /* its turn is running on this thread */
bool loop_is_owned_here(const struct quire_loop *loop); /* by this thread, or by nobody yet */
bool loop_suspends_faults(const struct quire_loop *loop);
unsigned loop_depth(const struct quire_loop *loop);

/* True in a forked child for what its parent created. One system call. */
bool loop_is_of_parent(const struct quire_loop *loop);

#endif
