/* wait.c - see wait.h.
 *
 * A wait lives in its op, or on the stack of the plain thread that waits. It is parked (in the queue), or on its way: swept, its result stored, and
 * nobody's but its home's, which completes it. A cancel comes on the home too: it takes back what
 * is parked, and leaves alone what is on its way. A thread's wait can't be cancelled; it is gone as soon as its word says
 * that it is done, so for waking the thread the word's address is a name and no more.
 */
#include "wait.h"

#include "../base/assert.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static_assert(sizeof(struct wait) <= OP_DRIVER_WORDS * sizeof(uint64_t), "a wait lives in its op");

void wait_queue_init(struct wait_queue *q, struct quire_loop *service)
{
	pthread_mutex_init(&q->lock, NULL);
	q->first = NULL;
	q->last = &q->first;
	q->service = service;
}

void wait_queue_fini(struct wait_queue *q)
{
	quire_assert(q->first == NULL);
	pthread_mutex_destroy(&q->lock);
}

struct quire_loop *wait_home(struct wait *w)
{
	return w->is_thread ? NULL : op_home(op_of_driver_data(w));
}

/* ---- the list ---- */

static void append(struct wait ***last, struct wait *w)
{
	w->next = NULL;
	w->link = *last;
	**last = w;
	*last = &w->next;
}

static void unlink_parked(struct wait_queue *q, struct wait *w)
{
	*w->link = w->next;
	if (w->next != NULL)
		w->next->link = w->link;
	else
		q->last = w->link;
	atomic_store_explicit(&w->parked, false, memory_order_relaxed);
}

struct wait *wait_sweep(struct wait_queue *q)
{
	struct wait *swept = NULL, **last = &swept, *next;

	for (struct wait *w = q->first; w != NULL; w = next) {
		int result;

		next = w->next;
		if (!q->ready(q, w, &result))
			continue;
		w->result = result;
		unlink_parked(q, w);
		append(&last, w);
	}
	return swept;
}

/* ---- completing ---- */

static void complete_posted(struct loop_task *task)
{
	struct quire_op *op = op_of_task(task);
	struct wait *w = op_driver_data(op);

	op_complete(op, w->result);
}

static void wake_thread(struct wait *w)
{
	_Atomic uint32_t *done = &w->done;

	atomic_store_explicit(done, 1, memory_order_release);
	syscall(SYS_futex, done, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void complete(struct wait *w)
{
	struct quire_op *op = op_of_driver_data(w);
	struct quire_loop *home = op_home(op);

	if (loop_is_mine(home)) {
		op_complete(op, w->result);
	} else {
		loop_task_init(op_task(op), complete_posted);
		loop_post(home, op_task(op));
	}
}

void wait_finish(struct wait *swept)
{
	while (swept != NULL) {
		struct wait *w = swept;

		swept = w->next; /* w may be gone below */
		if (w->is_thread)
			wake_thread(w);
		else
			complete(w);
	}
}

/* ---- parking ---- */

/* True: it is ready. */
static bool ready_or_park(struct wait_queue *q, struct wait *w, int *ret_result)
{
	pthread_mutex_lock(&q->lock);
	bool ready = q->ready(q, w, ret_result);
	if (!ready) {
		append(&q->last, w);
		atomic_store_explicit(&w->parked, true, memory_order_relaxed);
		if (q->parked != NULL)
			q->parked(q);
	}
	pthread_mutex_unlock(&q->lock);
	return ready;
}

static int wait_on_thread(struct wait_queue *q, uint32_t kind, uint64_t target)
{
	struct wait w = {.queue = q, .kind = kind, .target = target, .is_thread = true};
	int result;

	if (ready_or_park(q, &w, &result))
		return result;
	while (atomic_load_explicit(&w.done, memory_order_acquire) == 0)
		syscall(SYS_futex, &w.done, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return w.result;
}

/* ---- the driver ---- */

static void wait_start(struct quire_op *op)
{
	struct wait *w = op_driver_data(op);
	int result;

	if (ready_or_park(w->queue, w, &result))
		op_complete(op, result);
}

static void wait_cancel(struct quire_op *op)
{
	struct wait *w = op_driver_data(op);

	/* On its way already: the queue may be gone. */
	if (!atomic_load_explicit(&w->parked, memory_order_relaxed))
		return;
	pthread_mutex_lock(&w->queue->lock);
	bool parked = atomic_load_explicit(&w->parked, memory_order_relaxed);
	if (parked)
		unlink_parked(w->queue, w);
	pthread_mutex_unlock(&w->queue->lock);
	if (parked)
		op_complete(op, -ECANCELED);
}

static const struct op_driver wait_driver = {.start = wait_start, .cancel = wait_cancel};

int wait_for(struct wait_queue *q, uint32_t kind, uint64_t target, struct quire_op *op)
{
	struct quire_op local;
	struct wait now = {.queue = q, .kind = kind, .target = target};
	int result = 0;

	if (op == NULL && quire_loop_self() == NULL)
		return wait_on_thread(q, kind, target);
	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	pthread_mutex_lock(&q->lock);
	bool ready = q->ready(q, &now, &result);
	pthread_mutex_unlock(&q->lock);
	if (ready && op == NULL)
		return result;
	if (ready) {
		op_complete_now(op, result);
		return 0;
	}
	if (op == NULL)
		quire_op_init(&local);
	struct wait *w = op_driver_data(op != NULL ? op : &local);
	w->queue = q;
	w->kind = kind;
	w->target = target;
	w->is_thread = false;
	atomic_init(&w->parked, false);
	if (op == NULL)
		return (int)op_run_and_wait(&local, &wait_driver, q->service);
	return op_start(op, &wait_driver, q->service);
}
