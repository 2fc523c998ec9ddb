/* stream.c - readahead: who reads in order is seen by his misses, and finds the next ones under way.
 *
 * What there is to go by is misses: raw loads that hit leave no trace. An access that begins where
 * another one ended is remembered as a candidate with a run; the third in a row makes a stream. Random work has no such
 * runs but by chance, so it costs two looks into a small table, and starts nothing.
 *
 *   pages   … read | being read, in fills of up to FILL_MAX_PAGES | not asked for …
 *                 ↑ next                 ↑ mark                    ↑ at → end
 *
 * A stream's reader is seen again when it stalls on a page being read, when a want comes to `mark`, or when a load
 * has come to the end of all that was read; each time `end` moves to a window beyond it. The
 * window begins small and doubles as its pages are used up; where the reader finds many pages gone that had been
 * there or were read for it, memory is too short for such a window, and it is halved.
 *
 * Fills are started by jobs of a filler: of the loop that the access was made on, else of the service
 * loop. Half of a filler's buffers and depth is left to those who wait for pages, and while one waits
 * for buffers or memory nothing is read ahead. What can't be started now is started as fills end.
 *
 * 1. `at` ≤ `end`, and both inside the item that the reader is in, or where it ends. Units (unit.h) are read whole, so
 *    both are at ends of units but where something was there before.
 * 2. Nobody waits for a fill that is ahead because it is: whoever wants its pages parks on it as on any other. It
 *    fails in silence; the page is absent, and tried again by who wants it.
 * 3. A job holds its range by a reference, and is dropped at the first look at it after the range was
 *    killed; since a fill of the filler is under way (stream.h), there is one.
 * 4. Nothing is read ahead in an item that is STREAM_RANDOM. Behind the reader of one that is STREAM_SEQUENTIAL
 *    pages leave as soon as he is BEHIND_BYTES beyond them, and out of their unit.
 *
 * Threads: candidates are lossy atomics; streams have a leaf lock, not held while fills are started. A mistake costs
 * a window too many or too few, never a wrong byte.
 */
#include "stream.h"

#include "core.h"
#include "evict.h"
#include "filler.h"
#include "unit.h"

#include <errno.h>

#define STREAM_RUN_BITS 4
#define STREAM_RUN_MIN 2u /* accesses that began where the one before ended */

#define WINDOW_MIN_BYTES (UINT64_C(32) << 10)
#define WINDOW_MAX_BYTES (UINT64_C(2) << 20)
#define WINDOW_BUDGET_SHARE 64u
#define WINDOW_2M_BUDGET_SHARE 16u
#define WINDOW_2M_MAX 4u
#define GONE_SHARE 16u /* of a window, are many */

/* What a SEQUENTIAL reader may look back at. */
#define BEHIND_BYTES (UINT64_C(128) << 10)

static void streams_posted(struct loop_task *task);

void streams_init(struct streams *ss)
{
	pthread_mutex_init(&ss->lock, NULL);
	loop_task_init(&ss->task, streams_posted);
}

void streams_fini(struct streams *ss)
{
	pthread_mutex_destroy(&ss->lock);
}

static uint64_t pages_of(const struct range *r, uint64_t bytes)
{
	uint64_t n = bytes >> r->arena->page_shift;

	return n > 0 ? n : 1;
}

/* Of units of 2 MiB there are more than can be under way at once: else a reader who finds all of them there, which
 * nobody sees, would come to the end of them with none under way. */
static uint64_t window_max(const struct range *r, enum unit_size unit)
{
	uint64_t budget = budget_limit(&r->cache->budget), share = budget / WINDOW_BUDGET_SHARE;
	uint64_t units = budget / WINDOW_2M_BUDGET_SHARE / UNIT_2M_BYTES;

	if (unit == UNIT_2M)
		return pages_of(r, UNIT_2M_BYTES) * (units < 1 ? 1 : units < WINDOW_2M_MAX ? units : WINDOW_2M_MAX);
	return pages_of(r, share < WINDOW_MAX_BYTES ? share : WINDOW_MAX_BYTES);
}

/* ---- where readers are ---- */

static _Atomic uint64_t *candidate_of(struct streams *ss, uint64_t page)
{
	return &ss->candidates[(page * 0x9E3779B97F4A7C15u) >> 58];
}
static_assert(STREAM_CANDIDATES == 64, "candidate_of takes six bits");

/* An access of n pages begins at `page`: true if it makes a stream. Seen twice, it counts once. */
static bool candidate_step(struct streams *ss, uint64_t page, uint64_t n)
{
	uint64_t v = atomic_load_explicit(candidate_of(ss, page), memory_order_relaxed);
	uint64_t run = v >> STREAM_RUN_BITS == page ? (v & ((1u << STREAM_RUN_BITS) - 1)) + 1 : 0;

	if (run >= STREAM_RUN_MIN) {
		atomic_store_explicit(candidate_of(ss, page), 0, memory_order_relaxed);
		return true;
	}
	atomic_store_explicit(candidate_of(ss, page + n), (page + n) << STREAM_RUN_BITS | run,
	                      memory_order_relaxed);
	return false;
}

static bool stream_expects(struct streams *ss, unsigned slot, uint64_t page)
{
	return page >= atomic_load_explicit(&ss->next[slot], memory_order_relaxed) &&
	       page <= atomic_load_explicit(&ss->end[slot], memory_order_relaxed);
}

/* The stream whose reader may have come to `page`, or -1. */
static int stream_find(struct streams *ss, uint64_t page)
{
	unsigned n = atomic_load_explicit(&ss->n, memory_order_relaxed);

	for (unsigned i = 0; i < n; i++)
		if (stream_expects(ss, i, page))
			return (int)i;
	return -1;
}

static void stream_place(struct streams *ss, int slot, uint64_t next, uint64_t end, uint64_t mark)
{
	atomic_store_explicit(&ss->next[slot], next, memory_order_relaxed);
	atomic_store_explicit(&ss->end[slot], end, memory_order_relaxed);
	atomic_store_explicit(&ss->mark[slot], mark, memory_order_relaxed);
}

/* A slot that was never used, or the one whose reader was not seen for longest. */
static int stream_make(struct streams *ss, uint64_t page, uint32_t window)
{
	unsigned n = atomic_load_explicit(&ss->n, memory_order_relaxed);
	int slot = 0;

	if (n < STREAMS) {
		slot = (int)n;
		atomic_store_explicit(&ss->n, n + 1, memory_order_relaxed);
	} else {
		for (int i = 1; i < STREAMS; i++)
			if (ss->slots[i].used < ss->slots[slot].used)
				slot = i;
	}
	ss->slots[slot] = (struct stream){
		.at = page, .behind = page, .done = page, .window = window, .grow_at = page + 1};
	stream_place(ss, slot, page, page, 0);
	return slot;
}

struct access {
	uint64_t page, n, item_end, max;
	unsigned flags;
	enum stream_mode mode;
	enum unit_size unit;
};

/* Pages behind a SEQUENTIAL reader may leave, but not in the unit that he is in. */
static void stream_pass(struct range *r, struct stream *s, const struct access *a)
{
	uint64_t look_back = pages_of(r, BEHIND_BYTES);

	if (a->mode != STREAM_SEQUENTIAL || a->page <= s->done + look_back)
		return;
	uint64_t done = unit_first(r->arena, a->page - look_back, unit_shift(r->cache, a->unit));

	if (done > s->done)
		s->done = done;
}

/* Where reading ahead of `next` is to end: after whole fills and whole units, but at the item's end. */
static uint64_t stream_end(const struct range *r, const struct stream *s, uint64_t next, const struct access *a)
{
	uint64_t end = next + s->window, run = s->window / 2 < FILL_MAX_PAGES ? s->window / 2 : FILL_MAX_PAGES;
	uint64_t unit = UINT64_C(1) << unit_shift(r->cache, a->unit);

	if (end < a->item_end && run > 0 && end > s->at)
		end = s->at + (end - s->at) / run * run;
	end = unit_first(r->arena, end + unit - 1, unit_shift(r->cache, a->unit));
	if (end > a->item_end)
		end = a->item_end;
	return end < s->at ? s->at : end;
}

/* The reader is seen at `page`: moves its stream on. Under lock. */
static void stream_follow(struct range *r, struct streams *ss, int slot, const struct access *a)
{
	struct stream *s = &ss->slots[slot];
	uint64_t next = a->page + a->n;

	s->used = ++ss->clock;
	s->unit = (uint8_t)a->unit;
	stream_pass(r, s, a);
	if (a->n > a->max) {
		/* A want so long needs nobody to look ahead for it before it has come near its end. */
		s->at = next;
		stream_place(ss, slot, a->page + 1, next, 0);
		return;
	}
	if (a->flags == (STREAM_FIRST | STREAM_ABSENT) && a->page < s->at && ++s->n_gone > s->window / GONE_SHARE) {
		s->window = s->window > 1 ? s->window / 2 : 1;
		s->grow_at = next + s->window;
		s->n_gone = 0;
	}
	if (a->page >= s->grow_at) {
		s->window = 2 * s->window < a->max ? 2 * s->window : (uint32_t)a->max;
		s->grow_at = next + s->window;
		s->n_gone = 0;
	}
	if (s->at < next)
		s->at = next;
	uint64_t end = stream_end(r, s, next, a);
	stream_place(ss, slot, next, end, next + (end - next) / 2);
}

void stream_forget(struct streams *ss, uint64_t page, uint64_t n)
{
	pthread_mutex_lock(&ss->lock);
	for (int i = 0; i < STREAMS; i++) {
		if (atomic_load_explicit(&ss->next[i], memory_order_relaxed) - page < n) {
			ss->slots[i] = (struct stream){0};
			stream_place(ss, i, 0, 0, 0);
		}
	}
	pthread_mutex_unlock(&ss->lock);
}

/* ---- starting fills ---- */

/* Pages that the next fill may take. 0: it has to wait. */
static unsigned ahead_room(const struct filler *f, enum unit_size unit)
{
	const struct stream_ahead *a = &f->ahead;
	unsigned most = f->n_buffers / 4 < FILL_MAX_PAGES ? f->n_buffers / 4 : FILL_MAX_PAGES;

	if (f->queue_head != NULL || 2 * (a->n_fills + 1) > loop_depth(f->loop) ||
	    2 * (a->n_pages + most) > f->n_buffers || (unit == UNIT_2M && 2 * (a->n_staged + 1) > N_STAGING))
		return 0;
	return most;
}

/* The next pages to be read ahead of a stream; skips what is there or under way. 0: none; -EAGAIN: it has to wait. */
static int stream_take(struct filler *f, struct range *r, unsigned slot, uint64_t *ret_page)
{
	struct streams *ss = &r->streams;
	struct stream *s = &ss->slots[slot];

	pthread_mutex_lock(&ss->lock);
	uint64_t end = atomic_load_explicit(&ss->end[slot], memory_order_relaxed);
	uint64_t done = s->done < end ? s->done : end; /* what he has read by himself has left, or is about to */
	if (s->at < done)
		s->at = done;
	while (s->at < end && page_state(page_load(range_word(r, s->at))) != PAGE_ABSENT)
		s->at++;
	uint64_t room = ahead_room(f, (enum unit_size)s->unit);
	int n = (int)(end - s->at < room ? end - s->at : room);
	if (s->at < end && n == 0)
		n = -EAGAIN;
	*ret_page = s->at;
	s->at += n > 0 ? (unsigned)n : 0;
	pthread_mutex_unlock(&ss->lock);
	return n;
}

/* Of the pages up to `taken`, only those before `at` are done with, or more of a unit than was asked for. */
static void stream_return(struct range *r, unsigned slot, uint64_t taken, uint64_t at)
{
	struct streams *ss = &r->streams;

	pthread_mutex_lock(&ss->lock);
	if (ss->slots[slot].at == taken) {
		ss->slots[slot].at = at;
		if (atomic_load_explicit(&ss->end[slot], memory_order_relaxed) < at)
			atomic_store_explicit(&ss->end[slot], at, memory_order_relaxed);
	}
	pthread_mutex_unlock(&ss->lock);
}

static void stream_stop(struct range *r, unsigned slot)
{
	struct streams *ss = &r->streams;

	pthread_mutex_lock(&ss->lock);
	atomic_store_explicit(&ss->end[slot], ss->slots[slot].at, memory_order_relaxed);
	pthread_mutex_unlock(&ss->lock);
}

/* What its reader has left behind leaves, if it is as much as that: up to what is still coming, though he is past it. */
static void stream_drop_behind(struct range *r, unsigned slot, uint64_t least)
{
	struct streams *ss = &r->streams;
	struct stream *s = &ss->slots[slot];

	pthread_mutex_lock(&ss->lock);
	uint64_t first = s->behind, end = first;
	while (end < s->done && page_state(page_load(range_word(r, end))) != PAGE_FILLING)
		end++;
	uint64_t n = end - first;
	if (n >= least)
		s->behind = end;
	pthread_mutex_unlock(&ss->lock);
	if (n >= least)
		evict_range(r, first, n);
}

/* True if there is more to be done when a fill has ended. */
static bool job_run(struct filler *f, const struct stream_job *job)
{
	struct stream_ahead *a = &f->ahead;
	struct range *r = job->range;

	stream_drop_behind(r, job->slot, 1);
	while (!range_dying(r)) {
		uint64_t page;
		int n = stream_take(f, r, job->slot, &page);

		if (n <= 0)
			return n < 0 && a->n_fills > 0;
		uint64_t taken = page + (unsigned)n;
		a->starting = true;
		int rc = fill_start(f, r, page, (unsigned)n, 0);
		a->starting = false;
		if (rc == 0 || rc == -EBUSY) {
			stream_return(r, job->slot, taken, rc == 0 ? a->launched_end : page + 1);
			continue;
		}
		stream_return(r, job->slot, taken, page);
		if (rc == -EAGAIN)
			return a->n_fills > 0;
		stream_stop(r, job->slot);
	}
	return false;
}

void stream_pump(struct filler *f)
{
	struct stream_ahead *a = &f->ahead;

	for (unsigned i = a->n_jobs; i-- > 0;) {
		struct range *r = a->jobs[i].range;

		if (job_run(f, &a->jobs[i]))
			continue;
		a->jobs[i] = a->jobs[--a->n_jobs];
		range_put(r);
	}
}

static void ahead_enlist(struct filler *f, struct range *r, unsigned slot)
{
	struct stream_ahead *a = &f->ahead;

	for (unsigned i = 0; i < a->n_jobs; i++)
		if (a->jobs[i].range == r && a->jobs[i].slot == slot)
			return;
	if (a->n_jobs < STREAM_JOBS && range_get(r))
		a->jobs[a->n_jobs++] = (struct stream_job){r, slot};
}

void stream_fill_launched(struct filler *f, struct fill *fill)
{
	f->ahead.launched_end = fill->page + fill->n_pages;
	fill->ahead = f->ahead.starting;
	if (!fill->ahead)
		return;
	*(fill->staged ? &f->ahead.n_staged : &f->ahead.n_pages) += fill->staged ? 1 : fill->n_pages;
	f->ahead.n_fills++;
	count(&fill->range->n_ahead, fill->n_pages);
}

void stream_fill_ended(struct filler *f, struct fill *fill)
{
	if (!fill->ahead)
		return;
	*(fill->staged ? &f->ahead.n_staged : &f->ahead.n_pages) -= fill->staged ? 1 : fill->n_pages;
	f->ahead.n_fills--;
}

/* On the service loop, for threads that have no filler. */
static void streams_posted(struct loop_task *task)
{
	struct streams *ss = (struct streams *)((char *)task - offsetof(struct streams, task));
	struct range *r = (struct range *)((char *)ss - offsetof(struct range, streams));
	unsigned n = atomic_load_explicit(&ss->n, memory_order_relaxed);
	struct filler *f;

	atomic_store(&ss->posted, false);
	if (filler_get(r->cache, r->cache->service, &f) == 0) {
		for (unsigned i = 0; i < n; i++)
			ahead_enlist(f, r, i);
		stream_pump(f);
	}
	range_put(r);
}

static void stream_start(struct filler *f, struct range *r, unsigned slot)
{
	struct streams *ss = &r->streams;

	if (f != NULL) {
		ahead_enlist(f, r, slot);
		stream_pump(f);
		return;
	}
	if (!atomic_exchange(&ss->posted, true)) {
		if (range_get(r))
			loop_post(r->cache->service, &ss->task);
		else
			atomic_store(&ss->posted, false);
	}
	/* A thread that fills what it misses can be far ahead of the service. */
	stream_drop_behind(r, slot, pages_of(r, 2 * BEHIND_BYTES));
}

/* ---- what is seen ---- */

/* False: nothing is to be read ahead there. */
static bool access_judge(struct range *r, struct access *a)
{
	struct page_source source;

	if (r->ops->locate(r->owner, a->page - r->first_page, &source) < 0)
		return false;
	a->mode = source.mode;
	a->item_end = a->page + ((source.len_bytes - 1) >> r->arena->page_shift) + 1;
	a->unit = (enum unit_size)source.unit;
	a->max = window_max(r, a->unit);
	return a->mode != STREAM_RANDOM;
}

/* A new stream; under lock. */
static int stream_begin(const struct range *r, struct streams *ss, const struct access *a)
{
	uint64_t window = pages_of(r, WINDOW_MIN_BYTES);

	if (window < 2 * a->n)
		window = 2 * a->n;
	int slot = stream_make(ss, a->page, (uint32_t)(window < a->max ? window : a->max));
	ss->slots[slot].grow_at = a->page + a->n + 1;
	return slot;
}

void stream_access(struct filler *f, struct range *r, uint64_t page, uint64_t n, unsigned flags)
{
	struct streams *ss = &r->streams;
	struct access a = {.page = page, .n = n, .flags = flags};
	int slot = stream_find(ss, page);
	bool judged = false;

	/* Its fill brings its unit, and that is where the next miss can be. */
	if (f != NULL && (flags & STREAM_ABSENT) && f->ahead.launched_end > page + n)
		a.n = n = f->ahead.launched_end - page;

	if (slot >= 0 && (flags & STREAM_ABSENT) == 0 && page > r->first_page &&
	    page_state(page_load(range_word(r, page - 1))) == PAGE_FILLING)
		return; /* nobody who reads in order, since he would wait for the page before it */
	if (slot < 0) {
		if ((flags & STREAM_FIRST) == 0)
			return;
		bool begins = candidate_step(ss, page, n);
		if (!begins && !atomic_load_explicit(&ss->advised, memory_order_relaxed))
			return;
		judged = access_judge(r, &a);
		if (!judged || (!begins && a.mode != STREAM_SEQUENTIAL))
			return;
	}
	if (!judged && !access_judge(r, &a))
		return;
	if (a.n > a.item_end - page)
		a.n = n = a.item_end - page;
	pthread_mutex_lock(&ss->lock);
	if (slot < 0)
		slot = stream_begin(r, ss, &a);
	bool expected = stream_expects(ss, (unsigned)slot, page); /* or forgotten since it was found, or another's */
	if (expected)
		stream_follow(r, ss, slot, &a);
	pthread_mutex_unlock(&ss->lock);
	if (expected)
		stream_start(f, r, (unsigned)slot);
}

void stream_meet(struct range *r, struct streams *ss, uint64_t page)
{
	unsigned n = atomic_load_explicit(&ss->n, memory_order_relaxed);
	struct quire_loop *loop = quire_loop_self();
	struct filler *f = NULL;

	for (unsigned i = 0; i < n; i++) {
		if (atomic_load_explicit(&ss->mark[i], memory_order_relaxed) != page)
			continue;
		if (loop != NULL && filler_get(r->cache, loop, &f) < 0)
			return;
		return stream_access(f, r, page, 1, 0);
	}
}
