/* filler.c - starts fills, ends them once a turn, and feeds the queue.
 *
 * A turn's reads are ended together, when all that the turn brings has arrived: one look at each
 * file instead of one a read, then check, install, settle, go on with who waited.
 *
 * 1. A filler belongs to its loop's thread; from outside only `feed` is posted to it.
 * 2. Whatever can't start for want of a fill, a buffer or memory is in the queue, in order,
 *    and looks again when one of its own fills ends or, where memory is what it lacks, when
 *    somebody gives some back (starved).
 * 3. Struct filler is never freed before its cache, since words and waiters name its
 *    fills; when its loop ends it is kept for the next.
 * 4. Nothing is posted to a loop whose queue is empty: it may have come to its end, and a task that
 *    waits there would keep it from being destroyed.
 */
#include "filler.h"

#include "evict.h"
#include "unit.h"
#include "want.h"

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
	struct filler *f =
		mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (f == MAP_FAILED)
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
	munmap(f, sizeof(*f));
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
	cache_unref(c);
}

/* ---- starting ---- */

static void fill_read_done(struct source_read *read, int result);

static uint64_t fill_bytes(const struct fill *fill)
{
	uint64_t bytes = (uint64_t)fill->n_pages << fill->range->arena->page_shift;

	return fill->source.len_bytes < bytes ? fill->source.len_bytes : bytes;
}

/* Reads what is still to be read, or as much of it as one read brings. */
static void fill_read(struct filler *f, struct fill *fill)
{
	struct page_source from = fill->source;
	uint64_t left = fill_bytes(fill) - fill->n_read_bytes, most = source_read_max_bytes(&from);
	struct source_buffer buffer = {
		.buf = fill->buf + fill->n_read_bytes,
		.slot = fill->staged ? -1 : f->buffer_slot,
		/* Threads that wait for the service may be whom others' descriptors and tables wait for. */
		.independent = f->loop == f->cache->service,
	};

	from.offset += fill->n_read_bytes;
	fill->read.done = fill_read_done;
	source_read_start(f->loop, &fill->read, &from, (uint32_t)(left < most ? left : most), &buffer);
}

static void fill_read_done(struct source_read *read, int result)
{
	struct fill *fill = (struct fill *)((char *)read - offsetof(struct fill, read));
	struct filler *f = fill->filler;
	uint64_t most = source_read_max_bytes(&fill->source);

	if (result == 0 && fill_bytes(fill) - fill->n_read_bytes > most) {
		fill->n_read_bytes += (uint32_t)most;
		fill_read(f, fill);
		return;
	}
	fill->result = result;
	fill->next = f->arrived;
	f->arrived = fill;
	loop_turn_hook_arm(f->loop, &f->hook);
}

static void fill_launch(struct filler *f, struct fill *fill)
{
	f->n_active++;
	fill->n_read_bytes = 0;
	fill_read(f, fill);
}

static void fill_init(struct fill *fill, char *buf, bool staged, unsigned n)
{
	fill->buf = buf;
	fill->staged = staged;
	fill->n_pages = (uint16_t)n;
	fill->result = 0;
	fill->n_good = 0;
	fill->vague = false;
	fill->error_at = 0;
	fill->waiters = NULL;
}

/* Takes a fill and a buffer of up to *n pages; NULL if there is none. */
static struct fill *fill_take(struct filler *f, unsigned *n)
{
	struct fill *fill = f->free;
	char *buf = NULL;

	if (fill == NULL)
		return NULL;
	while (*n > 0 && (buf = filler_buffers_get(f, *n)) == NULL)
		*n /= 2;
	if (buf == NULL)
		return NULL;
	f->free = fill->next;
	fill_init(fill, buf, false, *n);
	return fill;
}

static void fill_release(struct filler *f, struct fill *fill, unsigned n_buffers)
{
	if (fill->staged)
		filler_staging_put(f, fill->buf);
	else
		filler_buffers_put(f, fill->buf, n_buffers);
	fill->next = f->free;
	f->free = fill;
}

static void fill_begin(struct filler *f, struct fill *fill, struct range *r, struct page_run run,
                       const struct page_source *source)
{
	fill->n_pages = (uint16_t)run.n;
	fill->range = r;
	fill->page = run.first;
	fill->dup = false;
	fill->source = *source;
	fill_launch(f, fill);
}

/* A unit of 2 MiB, whole, which is moved there. 0; -EAGAIN: staging or memory is in use, some of it by this filler;
 * -EBUSY: it can't come whole. source: of the page. */
static int fill_start_whole(struct filler *f, struct range *r, uint64_t page, const struct page_source *source)
{
	unsigned shift = unit_shift(f->cache, UNIT_2M), n = 1u << shift;
	uint64_t first = unit_first(r->arena, page, shift);
	struct page_source from = *source;
	struct fill *fill = f->free;

	source_back(&from, page - first, r->arena->page_shift);
	if (from.len_bytes < UNIT_2M_BYTES || !arena_kind_moves(r->arena->kind))
		return -EBUSY;
	char *buf = fill == NULL ? NULL : filler_staging_get(f, r->arena);
	if (buf == NULL)
		return f->n_active > 0 ? -EAGAIN : -EBUSY;
	int rc = fill_claim_unit(r, first, n, UNIT_2M, fill->id);
	if (rc < 0) {
		filler_staging_put(f, buf);
		return rc == -EAGAIN && f->n_active > 0 ? -EAGAIN : -EBUSY;
	}
	f->free = fill->next;
	fill_init(fill, buf, true, n);
	fill_begin(f, fill, r, (struct page_run){first, n}, &from);
	return 0;
}

/* What is read in one go for a page: from where to where, as far as item, region and buffers go. */
static struct page_run fill_window(const struct filler *f, const struct range *r, uint64_t page, unsigned max_pages,
                                   unsigned flags, const struct page_source *source)
{
	/* Of a unit that can't come whole, parts that can. */
	enum unit_size size = source->unit == UNIT_2M ? UNIT_64K : (enum unit_size)source->unit;
	unsigned shift = flags & FILL_ALONE ? 0 : unit_shift(f->cache, size);
	uint64_t in_item = (source->len_bytes - 1) >> r->arena->page_shift;
	uint64_t first = unit_first(r->arena, page, shift), end = first + (UINT64_C(1) << shift);

	if (end < page + max_pages)
		end = unit_first(r->arena, page + max_pages - 1, shift) + (UINT64_C(1) << shift);
	if (end > page + in_item + 1)
		end = page + in_item + 1;
	if (end > arena_region_end(r->arena, page))
		end = arena_region_end(r->arena, page);
	uint64_t most = source_read_max_bytes(source) >> r->arena->page_shift;
	most = most < FILL_MAX_PAGES ? most : FILL_MAX_PAGES;
	if (end - first > most)
		end = first + most;
	return (struct page_run){first, end - first};
}

/* The part of the window around the page that is absent. */
static int fill_start_part(struct filler *f, struct range *r, uint64_t page, struct page_run run, unsigned flags,
                           const struct page_source *source)
{
	struct page_source from = *source;
	unsigned n = (unsigned)run.n;
	struct fill *fill = fill_take(f, &n);

	if (fill == NULL)
		return -EAGAIN;
	if (n < run.n) /* few buffers are left */
		run = (struct page_run){page, n < run.first + run.n - page ? n : run.first + run.n - page};
	int rc = fill_claim_around(r, &run, page, source->unit, fill->id, (flags & FILL_FORCE) != 0);
	if (rc < 0) {
		fill_release(f, fill, n);
		return rc;
	}
	filler_buffers_trim(f, fill->buf, n, (unsigned)run.n);
	source_back(&from, page - run.first, r->arena->page_shift);
	fill_begin(f, fill, r, run, &from);
	return 0;
}

int fill_start(struct filler *f, struct range *r, uint64_t page, unsigned max_pages, unsigned flags)
{
	struct page_source source;
	int rc = r->ops->locate(r->owner, page - r->first_page, &source);

	if (rc < 0)
		return rc;
	if (!range_get(r))
		return -ECANCELED;
	rc = source.unit == UNIT_2M && flags == 0 ? fill_start_whole(f, r, page, &source) : -EBUSY;
	if (rc == -EBUSY)
		rc = fill_start_part(f, r, page, fill_window(f, r, page, max_pages, flags, &source), flags, &source);
	if (rc < 0)
		range_put(r);
	return rc;
}

int fill_start_duplicate(struct filler *f, struct range *r, uint64_t page)
{
	struct page_source source;
	page_word *word = range_word(r, page);
	uint32_t w = page_load(word);
	unsigned n = 1;
	int rc = r->ops->locate(r->owner, page - r->first_page, &source);

	if (rc < 0)
		return rc;
	struct fill *fill = fill_take(f, &n);
	if (fill == NULL)
		return -EAGAIN;
	do {
		rc = page_state(w) != PAGE_FILLING ? -EBUSY : w & PAGE_DUP ? -EALREADY : 0;
	} while (rc == 0 && !page_cas(word, &w, w | PAGE_DUP));
	if (rc == 0 && !range_get(r)) {
		fill_settle_duplicate(r, page, false);
		rc = -ECANCELED;
	}
	if (rc < 0) {
		fill_release(f, fill, 1);
		return rc;
	}
	count(&f->cache->counters.n_duplicate, 1);
	fill->range = r;
	fill->page = page;
	fill->dup = true;
	fill->source = source;
	fill_launch(f, fill);
	return 0;
}

/* ---- ending ---- */

/* No page of it appears, though some may be good: whoever wants them asks for each alone. */
static void fill_read_failed(struct fill *fill)
{
	fill->vague = fill->n_pages > 1;
	fill->error_at = fill->n_read_bytes + source_read_error_at(&fill->read, fill->result);
}

static void fill_finish(struct filler *f, struct fill *fill)
{
	struct want *w = NULL;
	struct range *r = fill->range;

	if (fill->result == 0)
		fill->result = source_read_check(&fill->read);
	source_read_finish(&fill->read);
	if (fill->result == 0)
		fill_install(fill, f->buffers + ((size_t)f->n_buffers << f->cache->page_shift));
	else
		fill_read_failed(fill);
	if (fill->dup) {
		fill_settle_duplicate(r, fill->page, fill->result < 0);
		arena_wake(r->arena, fill->page, 1);
	} else {
		w = fill_settle(fill);
	}
	fill_release(f, fill, fill->n_pages);
	f->n_active--;
	while (w != NULL) {
		struct want *next = w->next;

		want_continue(w, f->loop);
		w = next;
	}
	range_put(r);
}

static void filler_serve(struct filler *f)
{
	while (f->queue_head != NULL && f->free != NULL) {
		struct want *w = f->queue_head;

		filler_unlink(f, w);
		want_step(w);
		if (f->queue_head == w)
			break; /* back in front: what it waits for is not there yet */
	}
}

static void filler_turn(struct loop_turn_hook *hook)
{
	struct filler *f = (struct filler *)((char *)hook - offsetof(struct filler, hook));
	struct fill *list = f->arrived, *in_order = NULL;

	f->arrived = NULL;
	while (list != NULL) {
		struct fill *fill = list;

		list = fill->next;
		fill->next = in_order;
		in_order = fill;
	}
	while (in_order != NULL) {
		struct fill *fill = in_order;

		in_order = fill->next;
		fill_finish(f, fill);
	}
	filler_serve(f);
	filler_rest(f);
}

/* ---- the queue ---- */

void filler_enqueue(struct filler *f, struct want *w, bool in_front)
{
	w->where = WANT_QUEUED;
	w->prev = in_front ? NULL : f->queue_tail;
	w->next = in_front ? f->queue_head : NULL;
	*(w->prev != NULL ? &w->prev->next : &f->queue_head) = w;
	*(w->next != NULL ? &w->next->prev : &f->queue_tail) = w;
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
