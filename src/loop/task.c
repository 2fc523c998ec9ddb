/* task.c - posted and deferred tasks: how a loop is told of something.
 *
 * The inbox is a stack that anybody pushes to and the loop takes whole, turning it round. As
 * nothing is ever popped singly there is no ABA.
 *
 * Waking. The loop stores sleeping = 1, then looks at the inbox, then waits; a poster pushes, then
 * looks at sleeping. All four are sequentially consistent, so one of the two sees the other. Only
 * the poster that found the inbox empty has to look: whoever pushes on top of another's task may
 * rely on that other.
 *
 * Going away. A poster touches the loop after its task has become visible, when the task may have
 * run already and the loop's user may want to destroy it: n_posting is raised before, and
 * quire_loop_destroy waits (two instructions, or one write to an eventfd) until it is 0.
 */
#include "loop_internal.h"
#include <errno.h>
#include <unistd.h>

void task_list_init(struct task_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

void loop_wake(struct quire_loop *loop)
{
	if (atomic_load(&loop->sleeping) == 0 || atomic_exchange(&loop->sleeping, 0) == 0)
		return;
	uint64_t one = 1;
	ssize_t n;
	do {
		n = write(loop->wake_fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

void loop_post(struct quire_loop *loop, struct loop_task *task)
{
	atomic_fetch_add_explicit(&loop->n_posting, 1, memory_order_relaxed);
	struct loop_task *top = atomic_load_explicit(&loop->inbox, memory_order_relaxed);
	do {
		task->next = top;
	} while (!atomic_compare_exchange_weak(&loop->inbox, &top, task));
	if (top == NULL)
		loop_wake(loop);
	atomic_fetch_sub_explicit(&loop->n_posting, 1, memory_order_release);
}

void loop_defer(struct quire_loop *loop, struct loop_task *task)
{
	task->next = NULL;
	*loop->deferred.last = task;
	loop->deferred.last = &task->next;
}

bool tasks_waiting(const struct quire_loop *loop)
{
	return loop->deferred.first != NULL || atomic_load(&loop->inbox) != NULL;
}

static unsigned run_list(struct loop_task *task)
{
	unsigned n = 0;
	while (task != NULL) {
		/* The task may be posted again, or gone, once it ran. */
		struct loop_task *next = task->next;
		task->run(task);
		task = next;
		n++;
	}
	return n;
}

/* Takes what is there now, so that tasks that breed tasks do not starve the rest. */
unsigned tasks_run(struct quire_loop *loop)
{
	unsigned n = 0;
	if (atomic_load_explicit(&loop->inbox, memory_order_relaxed) != NULL) {
		struct loop_task *task = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire);
		struct loop_task *oldest = NULL;
		while (task != NULL) {
			struct loop_task *next = task->next;
			task->next = oldest;
			oldest = task;
			task = next;
		}
		n += run_list(oldest);
	}
	if (loop->deferred.first != NULL) {
		struct loop_task *first = loop->deferred.first;
		task_list_init(&loop->deferred);
		n += run_list(first);
	}
	return n;
}
