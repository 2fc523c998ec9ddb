/* op.h - the inside of struct quire_op: how an operation is driven and completed.
 *
 * States: idle → under way (home loop, cancel function) → complete. While under way an
 * op is driven on its home loop only; the home is chosen at the start:
 *   - the loop whose turn runs on this thread, if any;
 *   - otherwise the service loop (op_start posts it there).
 */
#ifndef LOOP_OP_H
#define LOOP_OP_H

#include "loop.h"

/* Words of op->opaque that belong to whoever drives the operation (want, poll, sleep). */
#define OP_DRIVER_WORDS 14

struct op_driver {
	void (*start)(struct quire_op *op);  /* on the home loop */
	void (*cancel)(struct quire_op *op); /* on the home loop, at most once, only while under way;
	                                      * NULL: can't be cancelled */
};

/* Starts op on its home loop: start() runs at once if that is this thread's, else after a
 * post. service: borrowed; the loop for threads that run none. An op that is under way
 * already: -EBUSY. */
int op_start(struct quire_op *op, const struct op_driver *driver, struct quire_loop *service);

/* True if op may be started. Asked before its driver's words are filled, since those of an op
 * under way belong to its driver: else -EBUSY. */
bool op_is_idle(const struct quire_op *op);

/* Driver's words; zeroed by quire_op_init*, kept from before op_start until completion. */
void *op_driver_data(struct quire_op *op);
struct quire_op *op_of_driver_data(void *data);

/* Home loop of an op under way. */
struct quire_loop *op_home(const struct quire_op *op);

/* A task inside op that its driver may post to op_home (one at a time). */
struct loop_task *op_task(struct quire_op *op);
struct quire_op *op_of_task(struct loop_task *task);

/* Completes op, from the home loop's thread; op may be gone when this returns. */
void op_complete(struct quire_op *op, int64_t result);

/* Completes an op that was never started (done at once). Any thread. */
void op_complete_now(struct quire_op *op, int64_t result);

/* Adds 1 to an eventfd, without waiting: a full one stays as it is, since whoever polls it is woken
 * already. -EBADF: closed. Any thread. */
int op_signal_eventfd(int efd);

/* What every public call with op == NULL does: -EDEADLK in a loop's callback, else
 * start + await with an op of its own. Returns op's result; local: the op the
 * caller prepared by quire_op_init and whose driver data it has filled. */
int64_t op_run_and_wait(struct quire_op *local, const struct op_driver *driver, struct quire_loop *service);

#endif
