/* wait.h - operations that wait until something is so of an object which loops and threads share.
 *
 * The object has one lock and one queue. What is waited for is a kind and a number; `ready` says, under the
 * lock, whether it is so. Whoever changes the object sweeps the queue before he unlocks, and finishes what he
 * swept after: each operation completes on its own home loop, and a plain thread, which sleeps on a word of its own
 * wait, is woken by whoever swept it: no other thread is on the way.
 */
#ifndef JOURNAL_WAIT_H
#define JOURNAL_WAIT_H

#include "../loop/op.h"

#include <pthread.h>
#include <stdatomic.h>

struct wait {
	struct wait_queue *queue;
	struct wait *next, **link; /* while parked, or swept */
	uint64_t target;
	uint32_t kind;
	int32_t result;
	_Atomic bool parked;       /* written under the lock */
	bool is_thread;            /* a plain thread's, in no op */
	_Atomic uint32_t done;     /* a futex, of such a one */
};

struct wait_queue {
	pthread_mutex_t lock;
	struct wait *first, **last; /* oldest first; lock */
	struct quire_loop *service; /* borrowed; drives ops that plain threads start */
	/* Both with the lock held. ready: true ends the wait, and may take what was waited for. */
	bool (*ready)(struct wait_queue *q, const struct wait *w, int *ret_result);
	void (*parked)(struct wait_queue *q); /* NULL allowed */
};

void wait_queue_init(struct wait_queue *q, struct quire_loop *service);
void wait_queue_fini(struct wait_queue *q); /* nobody waits */

/* The lock is not held. As quire/loop.h says of op: NULL suspends or blocks, and returns the result. */
int wait_for(struct wait_queue *q, uint32_t kind, uint64_t target, struct quire_op *op);

/* Takes those out that are ready (lock held); completes them (lock not held). Between the two, others may
 * be swept by others. */
struct wait *wait_sweep(struct wait_queue *q);
void wait_finish(struct wait *swept);

/* The loop that drives it; NULL: a thread that sleeps. */
struct quire_loop *wait_home(struct wait *w);

#endif
