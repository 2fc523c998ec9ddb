/* filler.c - one loop's share of a cache: how it comes and goes, its turn, and its queue.
 *
 * 1. A filler belongs to its loop's thread; from outside only `feed` is posted to it.
 * 2. Whatever can't start for want of a fill, a buffer or memory is in the queue, and looks again when
 *    one of its own fills ends or, where memory is what it lacks, when somebody gives some back (starved).
 *    Faults stand before all others, since they take memory that is not there: the memory that the others wait for
 *    may be of a loop whose thread is in such a fault. Each kind is in order.
 * 3. Struct filler is never freed before its cache, since words and waiters name its
 *    fills; when its loop ends it is kept for the next.
 * 4. Nothing is posted to a loop whose queue is empty: it may have come to its end, and a task that
 *    waits there would keep it from being destroyed.
 */
#include "filler.h"

#include "want.h"

#include "../base/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static void filler_turn(struct loop_turn_hook *hook);
static void filler_fed(struct loop_task *task);
static void filler_end(struct loop_local *local);
static void filler_unlink(struct filler *f, struct want *w);
static void filler_rest(struct filler *f);

/* ---- life ---- */

static void filler_init_fills(struct filler *f, unsigned limit)
{
	f->free = NULL;
	for (unsigned i = limit; i-- > 0;) {
		f->fills[i].next = f->free;
		f->free = &f->fills[i];
	}
}

int filler_create_bare(struct quire_cache *c, struct filler **ret_filler)
{
	/* Not by malloc, which a fault handler may have interrupted. */
	struct filler *f = pages_map(sizeof(*f), PROT_READ | PROT_WRITE, 0);

	if (f == NULL)
		return -ENOMEM;
	f->cache = c;
	f->index = atomic_load(&c->n_fillers);
	for (unsigned i = 0; i < FILLER_FILLS; i++) {
		f->fills[i].id = f->index * FILLER_FILLS + i;
		f->fills[i].filler = f->index == 0 ? NULL : f;
		pthread_mutex_init(&f->fills[i].lock, NULL);
	}
	loop_task_init(&f->feed, filler_fed);
	f->hook.run = filler_turn;
	f->local.key = c;
	f->local.destroy = filler_end;
	budget_charge(&c->budget, BUDGET_OTHER, sizeof(*f));
	atomic_store_explicit(&c->fillers[f->index], f, memory_order_release);
	atomic_store_explicit(&c->n_fillers, f->index + 1, memory_order_release);
	*ret_filler = f;
	return 0;
}

void filler_free(struct filler *f)
{
	if (f == NULL)
		return;
	for (unsigned i = 0; i < FILLER_FILLS; i++)
		pthread_mutex_destroy(&f->fills[i].lock);
	budget_uncharge(&f->cache->budget, BUDGET_OTHER, sizeof(*f));
	pages_unmap(f, sizeof(*f));
}

/* One whose loop has ended, or a new one. fillers_lock is held. */
static int filler_find_free(struct quire_cache *c, struct filler **ret_filler)
{
	unsigned n = atomic_load(&c->n_fillers);

	for (unsigned i = 1; i < n; i++) {
		struct filler *f = atomic_load(&c->fillers[i]);

		if (f->loop == NULL) {
			*ret_filler = f;
			return 0;
		}
	}
	return n == MAX_FILLERS ? -ENOMEM : filler_create_bare(c, ret_filler);
}

int filler_get(struct quire_cache *c, struct quire_loop *loop, struct filler **ret_filler)
{
	struct loop_local *local = loop_local_find(loop, c);

	if (local != NULL) {
		*ret_filler = (struct filler *)local;
		return 0;
	}

	struct filler *f;
	pthread_mutex_lock(&c->fillers_lock);
	int rc = filler_find_free(c, &f);
	if (rc == 0)
		f->loop = loop;
	pthread_mutex_unlock(&c->fillers_lock);
	if (rc < 0)
		return rc;

	unsigned depth = loop_depth(loop);
	filler_init_fills(f, depth < FILLER_FILLS ? depth : FILLER_FILLS);
	rc = filler_buffers_create(f);
	if (rc < 0) {
		pthread_mutex_lock(&c->fillers_lock);
		f->loop = NULL;
		pthread_mutex_unlock(&c->fillers_lock);
		return rc;
	}
	cache_ref(c);
	loop_local_add(loop, &f->local);
	*ret_filler = f;
	return 0;
}

/* The loop is being destroyed; no operation is left on it. */
static void filler_end(struct loop_local *local)
{
	struct filler *f = (struct filler *)local;
	struct quire_cache *c = f->cache;

	if (atomic_exchange(&f->starved, false))
		atomic_fetch_sub(&c->n_starved, 1);
	filler_buffers_destroy(f);
	pthread_mutex_lock(&c->fillers_lock);
	f->loop = NULL;
	atomic_store(&f->feeding, false);
	pthread_mutex_unlock(&c->fillers_lock);
	fillers_feed(c); /* its buffers were memory */
	cache_unref(c);
}

/* ---- its turn ---- */

static void filler_serve(struct filler *f)
{
	while (f->queue_head != NULL && f->free != NULL) {
		struct want *w = f->queue_head;

		filler_unlink(f, w);
		f->served = w;
		want_step(w);
		if (f->served == NULL)
			break; /* put back: what it waits for is not there yet */
		f->served = NULL;
	}
}

static void filler_turn(struct loop_turn_hook *hook)
{
	struct filler *f = (struct filler *)((char *)hook - offsetof(struct filler, hook));

	fills_finish(f);
	filler_serve(f);
	stream_pump(f);
	filler_rest(f);
	f->looked_at = NULL;
}

/* ---- the queue ---- */

/* Before whom w is to stand, NULL for the end: who was served and is put back is the first of its kind. */
static struct want *queue_place(const struct filler *f, const struct want *w)
{
	bool fault = (w->flags & WANT_FAULT) != 0, first = f->served == w;
	struct want *at = f->queue_head;

	if (!first && !fault)
		return NULL;
	while (at != NULL && (at->flags & WANT_FAULT) && !(first && fault))
		at = at->next;
	return at;
}

void filler_enqueue(struct filler *f, struct want *w)
{
	w->where = WANT_QUEUED;
	w->next = queue_place(f, w);
	w->prev = w->next != NULL ? w->next->prev : f->queue_tail;
	*(w->prev != NULL ? &w->prev->next : &f->queue_head) = w;
	*(w->next != NULL ? &w->next->prev : &f->queue_tail) = w;
	if (f->served == w)
		f->served = NULL;
	atomic_store(&f->queued, true);

	/* None of our own fills will end and serve the queue: others must. Look once more after
	 * having said so, lest they gave memory back just before. */
	if (f->n_active == 0 && !atomic_exchange(&f->starved, true)) {
		atomic_fetch_add(&f->cache->n_starved, 1);
		if (!atomic_exchange(&f->feeding, true))
			loop_post(f->loop, &f->feed);
	}
}

static void filler_unlink(struct filler *f, struct want *w)
{
	*(w->prev != NULL ? &w->prev->next : &f->queue_head) = w->next;
	*(w->next != NULL ? &w->next->prev : &f->queue_tail) = w->prev;
	w->where = WANT_NOWHERE;
}

/* Invariant 4: under the lock, so that what is posted is posted while there is something queued, and
 * the loop can't have come to its end. */
static void filler_rest(struct filler *f)
{
	if (f->queue_head != NULL || !atomic_load_explicit(&f->queued, memory_order_relaxed))
		return;
	pthread_mutex_lock(&f->cache->fillers_lock);
	atomic_store(&f->queued, false);
	if (atomic_exchange(&f->starved, false))
		atomic_fetch_sub(&f->cache->n_starved, 1);
	pthread_mutex_unlock(&f->cache->fillers_lock);
}

void filler_dequeue(struct filler *f, struct want *w)
{
	filler_unlink(f, w);
	filler_rest(f);
}

bool fill_is_of_this_thread(struct quire_cache *c, uint32_t word)
{
	struct filler *f = fill_of_word(c, word)->filler;

	if (f == NULL)
		return false;
	pthread_mutex_lock(&c->fillers_lock);
	bool mine = f->loop != NULL && loop_is_owned_here(f->loop);
	pthread_mutex_unlock(&c->fillers_lock);
	return mine;
}

static void filler_fed(struct loop_task *task)
{
	struct filler *f = (struct filler *)((char *)task - offsetof(struct filler, feed));
	struct want *next;

	/* An exchange: what whoever found it set had done before is seen from here on. */
	atomic_exchange(&f->feeding, false);
	for (struct want *w = f->queue_head; w != NULL; w = next) {
		next = w->next;
		if (range_dying(w->range)) {
			filler_unlink(f, w);
			want_step(w);
		}
	}
	filler_serve(f);
	filler_rest(f);
}

static void fillers_post(struct quire_cache *c, bool all)
{
	pthread_mutex_lock(&c->fillers_lock);
	for (unsigned i = 1; i < atomic_load(&c->n_fillers); i++) {
		struct filler *f = atomic_load(&c->fillers[i]);

		if (f->loop != NULL && atomic_load(&f->queued) && (all || atomic_load(&f->starved)) &&
		    !atomic_exchange(&f->feeding, true))
			loop_post(f->loop, &f->feed);
	}
	pthread_mutex_unlock(&c->fillers_lock);
}

void fillers_feed(struct quire_cache *c)
{
	/* Memory was given back before this looks at n_starved; who starves raises it before looking for
	 * memory once more. One of the two sees the other. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&c->n_starved) > 0)
		fillers_post(c, false);
}

void fillers_kick(struct quire_cache *c)
{
	fillers_post(c, true);
}
