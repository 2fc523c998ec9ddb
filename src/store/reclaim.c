/* reclaim.c - space of removed objects is discarded, and then free.
 *
 * In that order: a discard that is under way could hit what somebody writes there meanwhile. It runs on the service
 * loop, in rounds: what has come is taken together, sorted and joined, discarded with a few I/Os under
 * way at once, and given back when all are done. A discard that fails is no harm.
 *
 * Invariants (under the reclaimer's lock):
 *   1. If anything is queued, a round is running, or about to be (`running`).
 *   2. batch, n, n_started and n_done belong to the round.
 */
#include "store_internal.h"

#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>

enum reclaim_wait_kind { WAIT_ROUND, WAIT_SETTLED };

static struct store *store_of(struct reclaimer *r)
{
	return (struct store *)((char *)r - offsetof(struct store, reclaimer));
}

static bool ready(struct wait_queue *q, const struct wait *w, int *ret_result)
{
	struct reclaimer *r = (struct reclaimer *)((char *)q - offsetof(struct reclaimer, waits));

	*ret_result = 0;
	return !r->running || (w->kind == WAIT_ROUND && r->n_rounds > w->target);
}

void reclaimer_init(struct store *s)
{
	struct reclaimer *r = &s->reclaimer;

	wait_queue_init(&r->waits, s->config.service);
	r->waits.ready = ready;
	r->waits.parked = NULL;
	r->last = &r->first;
}

void reclaimer_fini(struct store *s)
{
	quire_assert(!s->reclaimer.running);
	wait_queue_fini(&s->reclaimer.waits);
}

/* ---- a round ---- */

static int by_place(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Takes extents of one class off the queue; a reclaim that is not done with stays, shortened. */
static void take_batch(struct reclaimer *r)
{
	unsigned class_no = r->first->class_no;

	r->class_no = class_no;
	r->n = r->n_started = r->n_done = 0;
	while (r->first != NULL && r->first->class_no == class_no) {
		struct reclaim *first = r->first;
		while (first->n > 0 && r->n < STORE_N_RECLAIMED)
			r->batch[r->n++] = first->extents[--first->n];
		if (first->n > 0)
			break;
		r->first = first->next;
		if (r->first == NULL)
			r->last = &r->first;
		free(first);
	}
	qsort(r->batch, r->n, sizeof(r->batch[0]), by_place);
	unsigned n = 0;
	for (unsigned i = 0; i < r->n; i++) {
		struct extent *last = n > 0 ? &r->batch[n - 1] : NULL;
		if (last != NULL && last->start + last->n_units == r->batch[i].start)
			last->n_units += r->batch[i].n_units;
		else
			r->batch[n++] = r->batch[i];
	}
	r->n = n;
}

static void discard_done(struct device_io *io, int result);

static void discard_next(struct reclaimer *r, struct discard *d)
{
	const struct extent *e = &r->batch[r->n_started++];

	d->reclaimer = r;
	d->io = (struct device_io){
		.verb = DEVICE_DISCARD,
		.offset = e->start * FORMAT_UNIT_BYTES,
		.len_bytes = e->n_units * FORMAT_UNIT_BYTES,
		.buffer_slot = -1,
		.done = discard_done,
	};
	device_submit(store_of(r)->classes[r->class_no].device, store_of(r)->config.service, &d->io);
}

static void run_round(struct loop_task *task)
{
	struct reclaimer *r = (struct reclaimer *)((char *)task - offsetof(struct reclaimer, task));

	pthread_mutex_lock(&r->waits.lock);
	if (r->first == NULL)
		r->running = false;
	else
		take_batch(r);
	bool running = r->running;
	struct wait *swept = wait_sweep(&r->waits);
	pthread_mutex_unlock(&r->waits.lock);
	/* Without a running round this may be the last that is seen of it: the store may be closed. */
	unsigned n = running ? r->n : 0;
	for (unsigned i = 0; i < STORE_N_DISCARDS && i < n; i++)
		discard_next(r, &r->discards[i]);
	wait_finish(swept);
}

static void end_round(struct reclaimer *r)
{
	struct store *s = store_of(r);

	store_lock(s);
	for (unsigned i = 0; i < r->n; i++)
		store_give_locked(s, r->class_no, r->batch[i].start, r->batch[i].n_units);
	store_unlock(s);
	pthread_mutex_lock(&r->waits.lock);
	r->n_rounds++;
	struct wait *swept = wait_sweep(&r->waits);
	pthread_mutex_unlock(&r->waits.lock);
	wait_finish(swept);
	run_round(&r->task);
}

static void discard_done(struct device_io *io, int result)
{
	struct discard *d = (struct discard *)io;
	struct reclaimer *r = d->reclaimer;

	r->n_done++;
	if (r->n_started < r->n)
		discard_next(r, d);
	else if (r->n_done == r->n)
		end_round(r);
}

/* ---- from outside ---- */

void reclaim_enqueue(struct store *s, struct reclaim *r)
{
	struct reclaimer *q = &s->reclaimer;

	if (r->n == 0) {
		free(r);
		return;
	}
	pthread_mutex_lock(&q->waits.lock);
	r->next = NULL;
	*q->last = r;
	q->last = &r->next;
	bool starts = !q->running;
	q->running = true;
	pthread_mutex_unlock(&q->waits.lock);
	if (!starts)
		return;
	loop_task_init(&q->task, run_round);
	loop_post(s->config.service, &q->task);
}

uint64_t reclaim_n_rounds(struct store *s)
{
	struct reclaimer *r = &s->reclaimer;

	pthread_mutex_lock(&r->waits.lock);
	uint64_t n_rounds = r->n_rounds;
	pthread_mutex_unlock(&r->waits.lock);
	return n_rounds;
}

bool reclaim_wait_round(struct store *s, uint64_t n_rounds)
{
	struct reclaimer *r = &s->reclaimer;

	pthread_mutex_lock(&r->waits.lock);
	bool ended = r->n_rounds > n_rounds, running = r->running;
	pthread_mutex_unlock(&r->waits.lock);
	return ended || (running && wait_for(&r->waits, WAIT_ROUND, n_rounds, NULL) == 0);
}

void reclaim_settle(struct store *s)
{
	(void)wait_for(&s->reclaimer.waits, WAIT_SETTLED, 0, NULL);
}
