/* queue.c - completion queues: completed ops, linked, behind one eventfd.
 *
 * Invariant: under the lock, the eventfd is readable exactly if the list is not empty. So the write
 * (on the edge from empty) and the read (on the edge to empty) are done while the lock is held; both
 * never block. n_expected counts ops from their start until they are harvested.
 *
 * Lock: queue->lock, a leaf. Harvested ops are read under it and never touched after.
 */
#include "op_internal.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct quire_queue {
	pthread_mutex_t lock;
	struct loop_task *first, **last; /* borrowed: ops, by their task, until harvested */
	atomic_uint_fast64_t n_expected;
	int fd;
};

int quire_queue_create(struct quire_queue **ret_queue)
{
	struct quire_queue *queue = calloc(1, sizeof(*queue));
	if (queue == NULL)
		return -ENOMEM;
	queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->fd < 0) {
		int rc = -errno;
		free(queue);
		return rc;
	}
	queue->last = &queue->first;
	pthread_mutexattr_t attr;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&queue->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	*ret_queue = queue;
	return 0;
}

int quire_queue_destroy(struct quire_queue *queue)
{
	if (queue == NULL)
		return 0;
	if (atomic_load(&queue->n_expected) != 0)
		return -EBUSY;
	/* Who pushed the last one may still hold the lock. */
	pthread_mutex_lock(&queue->lock);
	pthread_mutex_unlock(&queue->lock);
	pthread_mutex_destroy(&queue->lock);
	close(queue->fd);
	free(queue);
	return 0;
}

int quire_queue_fd(const struct quire_queue *queue)
{
	return queue->fd;
}

void queue_expect(struct quire_queue *queue)
{
	atomic_fetch_add_explicit(&queue->n_expected, 1, memory_order_relaxed);
}

void queue_push(struct quire_queue *queue, struct quire_op *op)
{
	struct loop_task *link = op_task(op);
	link->next = NULL;
	pthread_mutex_lock(&queue->lock);
	if (queue->first == NULL) {
		uint64_t one = 1;
		(void)!write(queue->fd, &one, sizeof(one));
	}
	*queue->last = link;
	queue->last = &link->next;
	pthread_mutex_unlock(&queue->lock);
}

int quire_queue_harvest(struct quire_queue *queue, struct quire_completion *ret, unsigned n)
{
	unsigned taken = 0;
	if (n > INT32_MAX)
		n = INT32_MAX;
	pthread_mutex_lock(&queue->lock);
	bool was_empty = queue->first == NULL;
	while (taken < n && queue->first != NULL) {
		const struct quire_op *op = op_of_task(queue->first);
		queue->first = queue->first->next;
		ret[taken].tag = op->tag;
		ret[taken].result = op->result;
		taken++;
	}
	if (queue->first == NULL) {
		queue->last = &queue->first;
		uint64_t count;
		if (!was_empty)
			(void)!read(queue->fd, &count, sizeof(count));
	}
	atomic_fetch_sub(&queue->n_expected, taken);
	pthread_mutex_unlock(&queue->lock);
	return (int)taken;
}
