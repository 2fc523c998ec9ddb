/* want.c - see want.h. Everything here runs on the op's home loop, but for want_submit. */
#include "want.h"

#include "anon_room.h"
#include "core.h"
#include "evict.h"
#include "filler.h"
#include "unit.h"

#include <errno.h>
#include <sched.h>

/* Pages whose fills are started ahead of the cursor: enough to keep a fast device busy (of 2 MiB, as many as there is
 * staging for), and never more than an eighth of the budget. */
#define AHEAD_MAX_PAGES 256
#define AHEAD_2M_UNITS (N_STAGING - 1u) /* beside the cursor's */

static void want_start(struct quire_op *op);
static void want_cancel(struct quire_op *op);
static void want_task(struct loop_task *task);

static const struct op_driver want_driver = {.start = want_start, .cancel = want_cancel};

static struct quire_op *want_op(struct want *w)
{
	return op_of_driver_data(w);
}

bool want_unpin(struct range *r, const struct iovec *ranges, uint32_t index, uint64_t page)
{
	bool had_all = true;

	for (uint32_t i = 0; i <= index; i++) {
		uint64_t first = want_first_page(r, &ranges[i]);
		uint64_t end = i == index ? page : want_end_page(r, &ranges[i]);

		for (uint64_t p = first; p < end; p++)
			had_all &= evict_unpin(r, p);
	}
	return had_all;
}

static void want_end(struct want *w, int result)
{
	struct range *r = w->range;
	struct quire_op *op = want_op(w);

	if (result < 0 && (w->flags & WANT_PIN) && w->page != 0)
		want_unpin(r, w->ranges, w->index, w->page);
	op_complete(op, result);
	range_put(r);
}

/* Ends with an error that names item and offset. */
static void want_fail(struct want *w, int error)
{
	struct page_source source;
	struct quire_op *op = want_op(w);

	if (w->range->ops->locate(w->range->owner, w->page - w->range->first_page, &source) == 0) {
		op->error_item = source.item;
		op->error_offset = source.item_offset;
	}
	want_end(w, error);
}

/* The cursor has neither waited for its page nor looked at it ahead: then it counts as a hit. */
static bool want_is_news(const struct want *w)
{
	return !w->waited && (w->index > w->ahead_index ||
	                      (w->index == w->ahead_index && w->page >= w->ahead_page));
}

/* A page that is there was wanted. A fault is no use beside the load itself, and the kernel may tell of one more than
 * once. */
static inline void page_wanted(struct range *r, uint64_t page, uint32_t now, unsigned flags)
{
	if (page_uses(now) == 0 && (flags & WANT_LISTED) == 0 &&
	    atomic_load_explicit(&r->streams.n, memory_order_relaxed) > 0)
		stream_meet(r, &r->streams, page);
	if ((flags & WANT_FAULT) == 0)
		page_touch(range_word(r, page), now);
}

/* Moves the cursor over resident pages, pinning them if asked. 1: at the end; 0: at a page that
 * is not resident; or a negative errno. */
static int want_advance(struct want *w)
{
	struct range *r = w->range;
	uint64_t n_hits = 0;
	int rc = 0;

	for (;;) {
		const struct iovec *v = &w->ranges[w->index];
		uint64_t end = want_end_page(r, v);

		if (w->page == 0)
			w->page = want_first_page(r, v);
		while (w->page < end) {
			uint32_t now = page_load(range_word(r, w->page));

			if (page_state(now) != PAGE_RESIDENT)
				goto out;
			if ((w->flags & WANT_WRITE) && !anon_dirty(r, w->page, now))
				continue;
			if (w->flags & WANT_PIN) {
				int pinned = evict_pin(r, w->page, now);

				if (pinned == -EAGAIN)
					continue;
				if (pinned < 0) {
					rc = pinned;
					goto out;
				}
			}
			page_wanted(r, w->page, now, w->flags);
			n_hits += want_is_news(w);
			w->waited = false;
			w->page++;
			if (w->n_ahead > 0)
				w->n_ahead--;
		}
		if (w->index + 1 == w->n) {
			rc = 1;
			break;
		}
		w->index++;
		w->page = 0;
	}
out:
	if (n_hits > 0 && (w->flags & WANT_FAULT) == 0)
		stripes_add(&r->n_hits, n_hits);
	return rc;
}

static unsigned want_fill_flags(const struct want *w)
{
	return w->flags & WANT_WRITE ? FILL_WRITE : 0;
}

/* Starts fills of pages behind the cursor's. What can't be started is left to the cursor. fill_flags: the want may be parked. */
static void want_look_ahead(struct want *w, struct filler *f, enum unit_size unit, unsigned fill_flags)
{
	struct range *r = w->range;
	uint64_t window = (budget_limit(&f->cache->budget) >> f->cache->page_shift) / 8, n_hits = 0;
	uint64_t most = unit == UNIT_2M ? AHEAD_2M_UNITS << unit_shift(f->cache, UNIT_2M) : AHEAD_MAX_PAGES;

	if (window > most)
		window = most;
	if (w->ahead_index < w->index || (w->ahead_index == w->index && w->ahead_page <= w->page)) {
		w->ahead_index = w->index;
		w->ahead_page = w->page + 1;
		w->n_ahead = 0;
	}
	while (w->n_ahead < window) {
		const struct iovec *v = &w->ranges[w->ahead_index];

		if (w->ahead_page == 0)
			w->ahead_page = want_first_page(r, v);
		if (w->ahead_page >= want_end_page(r, v)) {
			if (w->ahead_index + 1 == w->n)
				break;
			w->ahead_index++;
			w->ahead_page = 0;
			continue;
		}
		uint64_t left = want_end_page(r, v) - w->ahead_page, room = window - w->n_ahead;
		uint32_t now = page_load(range_word(r, w->ahead_page));
		if (page_state(now) == PAGE_ABSENT &&
		    fill_start(f, r, w->ahead_page, (unsigned)(left < room ? left : room), fill_flags) < 0)
			break;
		n_hits += page_state(now) == PAGE_RESIDENT;
		w->ahead_page++;
		w->n_ahead++;
	}
	if (n_hits > 0)
		stripes_add(&r->n_hits, n_hits);
}

/* How many pages one read may bring from the cursor on. */
static unsigned want_run(const struct want *w)
{
	uint64_t left = want_end_page(w->range, &w->ranges[w->index]) - w->page;

	if (w->flags & WANT_SINGLE)
		return 1;
	return left < FILL_MAX_PAGES ? (unsigned)left : FILL_MAX_PAGES;
}

/* What readahead goes by: the cursor has come to a page that is not there. */
static void want_tell_stream(const struct want *w, struct filler *f, unsigned flags)
{
	const struct iovec *v = &w->ranges[w->index];

	if (w->page == want_first_page(w->range, v))
		flags |= STREAM_FIRST;
	if ((w->flags & (WANT_SINGLE | WANT_LISTED)) == 0)
		stream_access(f, w->range, w->page, want_end_page(w->range, v) - w->page, flags);
}

/* The cursor's page is nobody's: starts its fill. True if the operation goes on looking. */
static bool want_fill(struct want *w, struct filler *f)
{
	unsigned write = want_fill_flags(w), alone = FILL_ALONE | write;
	int rc = fill_start(f, w->range, w->page, want_run(w), w->flags & WANT_SINGLE ? alone : write);

	/* A raw load can't be told, and the memory may be in the hands of loops whose threads wait
	 * for it: its page comes all the same. Not so staging, which this filler's own reads have: one page that came
	 * alone would keep its 2 MiB from ever coming whole. */
	if (rc == -EAGAIN && (w->flags & WANT_FAULT) && !filler_staging_is_used_up(f) && !anon_is_strict(w->range) &&
	    !anon_room_is_awaited(w->range))
		rc = fill_start(f, w->range, w->page, 1, alone | FILL_FORCE);
	/* Where pins have all that there is, waiting would be for ever. Looked at twice, with another
	 * try between, lest memory that has just become free is taken for none. */
	if (rc == -EAGAIN && f->n_active == 0 && evict_all_pinned(f->cache)) {
		rc = fill_start(f, w->range, w->page, 1, alone);
		/* Or if page tables have it that the kernel will not take back: those must not stop the
		 * program for good, so it goes on, a page at a time. */
		if (rc == -EAGAIN && evict_all_pinned(f->cache))
			rc = w->range->arena->reclaims || (w->flags & WANT_PIN) || w->range->anon != NULL
			             ? -ENOMEM
			             : fill_start(f, w->range, w->page, 1, alone | FILL_FORCE);
	}
	if (rc == -EAGAIN) {
		filler_enqueue(f, w);
		return false;
	}
	if (rc < 0 && rc != -EBUSY) {
		want_fail(w, rc);
		return false;
	}
	if (rc == 0)
		want_tell_stream(w, f, STREAM_ABSENT);
	return true;
}

/* The cursor's page is being filled: waits for that. True if the operation goes on looking. */
static bool want_wait(struct want *w, struct filler *f, uint32_t word)
{
	if ((w->flags & WANT_REPEAT) && w->range->anon == NULL && fill_is_foreign(f, word)) {
		/* The loop that owns the fill may be the thread that faulted. The repeat, when it ends,
		 * wakes every thread that waits for the page: nothing is left to wait for here. */
		int rc = fill_start_duplicate(f, w->range, w->page);

		if (rc == -EAGAIN)
			filler_enqueue(f, w);
		else if (rc == 0 || rc == -EALREADY)
			want_end(w, WANT_REPEATED);
		else if (rc < 0 && rc != -EBUSY)
			want_fail(w, rc);
		return rc == -EBUSY;
	}
	/* Once parked, its flags are the fill's, which may be another thread's, to change. */
	bool ahead = (w->flags & (WANT_FAULT | WANT_SINGLE)) == 0;
	unsigned fill_flags = want_fill_flags(w);
	want_tell_stream(w, f, 0);
	if (!fill_park(f->cache, w->range, w->page, word, w))
		return true;
	if (ahead)
		want_look_ahead(w, f, (enum unit_size)page_unit(word), fill_flags);
	return false;
}

void want_step(struct want *w)
{
	struct filler *f;
	int rc = filler_get(w->range->cache, op_home(want_op(w)), &f);
	bool more = true;

	if (rc < 0)
		return want_end(w, rc);
	while (more) {
		if (w->canceled || range_dying(w->range))
			return want_end(w, -ECANCELED);
		if (w->error < 0)
			return want_fail(w, w->error);
		rc = want_advance(w);
		if (rc != 0)
			return want_end(w, rc < 0 ? rc : 0);
		w->waited = true;

		uint32_t word = page_load(range_word(w->range, w->page));
		switch (page_state(word)) {
		case PAGE_ABSENT:
		case PAGE_POISONED:
			more = want_fill(w, f);
			break;
		case PAGE_FILLING:
			more = want_wait(w, f, word);
			break;
		case PAGE_ORPHAN:
			/* Not for its fill's error, which may have been another page's. The end of the
			 * repeat gives memory back, and so is told. */
			return filler_enqueue(f, w);
		case PAGE_EVICTING:
			sched_yield(); /* microseconds: no I/O lies between its claim and its end */
			break;
		case PAGE_RESIDENT:
			break;
		}
	}
}

static void want_task(struct loop_task *task)
{
	want_step(op_driver_data(op_of_task(task)));
}

void want_continue(struct want *w, struct quire_loop *here)
{
	struct quire_op *op = want_op(w);

	if (op_home(op) == here) {
		want_step(w);
	} else {
		loop_task_init(op_task(op), want_task);
		loop_post(op_home(op), op_task(op));
	}
}

static void want_start(struct quire_op *op)
{
	want_step(op_driver_data(op));
}

static void want_cancel(struct quire_op *op)
{
	struct want *w = op_driver_data(op);
	struct filler *f;

	w->canceled = true;
	if (w->fill != NULL && fill_unpark(w->fill, w)) {
		want_end(w, -ECANCELED);
	} else if (w->where == WANT_QUEUED) {
		if (filler_get(w->range->cache, op_home(op), &f) == 0)
			filler_dequeue(f, w);
		want_end(w, -ECANCELED);
	}
	/* Else its task is on the way here, and sees that it was cancelled. */
}

/* Most wants are of one page that is there: what they need no operation for. */
static inline bool want_is_met(struct range *r, const struct iovec *ranges, unsigned n, unsigned flags)
{
	if (n != 1 || (flags & ~WANT_WRITE) != 0)
		return false;
	uint64_t page = want_first_page(r, ranges);
	if (want_end_page(r, ranges) != page + 1)
		return false;
	uint32_t now = page_load(range_word(r, page));
	if (page_state(now) != PAGE_RESIDENT || ((flags & WANT_WRITE) && (now & (PAGE_DIRTY | PAGE_DUP)) != PAGE_DIRTY))
		return false;
	page_wanted(r, page, now, flags);
	stripes_add(&r->n_hits, 1);
	return true;
}

/* This thread would wait for a page that its own loop, which it would not turn meanwhile, is to bring. */
static bool want_is_for_itself(const struct want *w)
{
	const struct range *r = w->range;

	for (uint32_t i = w->index; i < w->n; i++) {
		uint64_t end = want_end_page(r, &w->ranges[i]);

		for (uint64_t page = i == w->index ? w->page : want_first_page(r, &w->ranges[i]); page < end; page++) {
			uint32_t word = page_load(range_word(r, page));

			if (page_state(word) == PAGE_FILLING && fill_is_of_this_thread(r->cache, word))
				return true;
		}
	}
	return false;
}

/* Waiting for it here would be for ever: in a loop's callback, and beside a loop that is embedded. */
static bool want_may_not_block(const struct want *w)
{
	return quire_loop_self() != NULL ? !quire_in_coroutine() : want_is_for_itself(w);
}

int want_submit(struct range *r, const struct iovec *ranges, unsigned n, unsigned flags,
                struct quire_op *op)
{
	struct quire_op local;

	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	if (n == 0 || want_is_met(r, ranges, n, flags)) {
		if (op != NULL)
			op_complete_now(op, 0);
		return 0;
	}
	if (op == NULL)
		quire_op_init(&local);

	struct want *w = op_driver_data(op != NULL ? op : &local);
	*w = (struct want){.range = r, .ranges = ranges, .n = n, .flags = flags};
	if (n == 1) {
		w->one = ranges[0];
		w->ranges = &w->one;
	}
	int rc = want_advance(w);
	if (rc == 0 && op == NULL && want_may_not_block(w))
		rc = -EDEADLK;
	if (rc == 0 && !range_get(r))
		rc = -ECANCELED;
	if (rc == 0) {
		if (op == NULL)
			return (int)op_run_and_wait(&local, &want_driver, r->cache->service);
		rc = op_start(op, &want_driver, r->cache->service);
		if (rc == 0)
			return 0;
		range_put(r);
	}
	if (rc < 0) {
		if (flags & WANT_PIN)
			want_unpin(r, w->ranges, w->index, w->page);
		return rc;
	}
	if (op != NULL)
		op_complete_now(op, 0);
	return 0;
}
