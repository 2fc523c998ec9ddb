/* op_internal.h - the layer's own part of struct quire_op. */
#ifndef LOOP_OP_INTERNAL_H
#define LOOP_OP_INTERNAL_H

#include "loop_internal.h"
#include "op.h"

struct op_private {
	atomic_uint state;          /* enum op_state; what threads wait on */
	uint16_t kind;              /* enum op_kind */
	bool expected;              /* counted in loop->n_expected of the callback's loop */
	struct quire_loop *home;    /* borrowed: while under way */
	const struct op_driver *driver;
	struct loop_task task;      /* start; then the driver's; then delivery, or the queue's link */
	struct loop_task cancel_task;
	union {
		struct coro *waiter;
		struct quire_queue *queue;
		int eventfd;
		struct {
			struct quire_loop *loop;
			quire_op_fn fn;
			void *arg;
		} callback;
	};
};

#define OP_PRIVATE_WORDS 10
static_assert(sizeof(struct op_private) <= OP_PRIVATE_WORDS * sizeof(uint64_t), "fits");
static_assert((OP_PRIVATE_WORDS + OP_DRIVER_WORDS) * sizeof(uint64_t) <= sizeof(((struct quire_op *)0)->opaque),
              "fits");

static inline struct op_private *op_private(const struct quire_op *op)
{
	return (struct op_private *)op->opaque;
}

static inline struct quire_op *op_of_private(struct op_private *p)
{
	return container_of((uint64_t (*)[24])p, struct quire_op, opaque);
}

/* ---- queue.c ---- */
void queue_expect(struct quire_queue *queue);                    /* an op that names it was started */
void queue_push(struct quire_queue *queue, struct quire_op *op); /* and completed: op is the queue's now */

#endif
