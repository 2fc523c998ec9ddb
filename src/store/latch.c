/* latch.c - see latch.h. Both are a few words under the lock of their wait queue, which is held for a moment. */
#include "latch.h"

#include "../base/assert.h"
#include "../media/device.h"

#include <stddef.h>

static void unlock_and_wake(struct wait_queue *q)
{
	struct wait *swept = wait_sweep(q);

	pthread_mutex_unlock(&q->lock);
	wait_finish(swept);
}

/* ---- latch ---- */

enum latch_wait { WAIT_SHARE, WAIT_EXCLUDE };

static bool latch_ready(struct wait_queue *q, const struct wait *w, int *ret_result)
{
	struct latch *l = (struct latch *)((char *)q - offsetof(struct latch, waits));

	*ret_result = 0;
	if (l->exclusive)
		return false;
	if (w->kind == WAIT_SHARE) {
		if (l->n_wanting != 0)
			return false;
		l->n_shared++;
		return true;
	}
	if (l->n_shared != 0)
		return false;
	l->exclusive = true;
	return true;
}

void latch_init(struct latch *l, struct quire_loop *service)
{
	*l = (struct latch){0};
	wait_queue_init(&l->waits, service);
	l->waits.ready = latch_ready;
	l->waits.parked = NULL;
}

void latch_fini(struct latch *l)
{
	quire_assert(l->n_shared == 0 && !l->exclusive);
	wait_queue_fini(&l->waits);
}

int latch_share(struct latch *l)
{
	return wait_for(&l->waits, WAIT_SHARE, 0, NULL);
}

void latch_unshare(struct latch *l)
{
	pthread_mutex_lock(&l->waits.lock);
	l->n_shared--;
	unlock_and_wake(&l->waits);
}

int latch_exclude(struct latch *l)
{
	pthread_mutex_lock(&l->waits.lock);
	l->n_wanting++;
	pthread_mutex_unlock(&l->waits.lock);
	int rc = wait_for(&l->waits, WAIT_EXCLUDE, 0, NULL);
	pthread_mutex_lock(&l->waits.lock);
	l->n_wanting--;
	unlock_and_wake(&l->waits);
	return rc;
}

void latch_unexclude(struct latch *l)
{
	pthread_mutex_lock(&l->waits.lock);
	l->exclusive = false;
	unlock_and_wake(&l->waits);
}

/* ---- flusher ---- */

/* Time to look again: it is done, or nobody does it. */
static bool flusher_ready(struct wait_queue *q, const struct wait *w, int *ret_result)
{
	struct flusher *f = (struct flusher *)((char *)q - offsetof(struct flusher, waits));

	*ret_result = 0;
	return f->n_done >= w->target || !f->running || f->error != 0;
}

void flusher_init(struct flusher *f, struct device *device, struct quire_loop *service)
{
	*f = (struct flusher){.device = device};
	wait_queue_init(&f->waits, service);
	f->waits.ready = flusher_ready;
	f->waits.parked = NULL;
}

void flusher_fini(struct flusher *f)
{
	wait_queue_fini(&f->waits);
}

/* Lock held, and released meanwhile. */
static void flush_once(struct flusher *f)
{
	f->running = true;
	uint64_t mine = ++f->n_started;
	pthread_mutex_unlock(&f->waits.lock);
	int rc = device_flush(f->device);
	pthread_mutex_lock(&f->waits.lock);
	f->running = false;
	if (rc == 0)
		f->n_done = mine;
	else if (f->error == 0)
		f->error = rc;
	unlock_and_wake(&f->waits);
	pthread_mutex_lock(&f->waits.lock);
}

int flusher_flush(struct flusher *f)
{
	int rc = 0;

	pthread_mutex_lock(&f->waits.lock);
	uint64_t target = f->n_started + 1; /* the first to begin from now on */
	while (rc == 0 && f->error == 0 && f->n_done < target) {
		if (!f->running) {
			flush_once(f);
			continue;
		}
		pthread_mutex_unlock(&f->waits.lock);
		rc = wait_for(&f->waits, 0, target, NULL);
		pthread_mutex_lock(&f->waits.lock);
	}
	if (rc == 0)
		rc = f->error;
	pthread_mutex_unlock(&f->waits.lock);
	return rc;
}
