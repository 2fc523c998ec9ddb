/* fill_read.c - a loop's fills from their start to their end: what is read at once, and what follows the read.
 *
 * A turn's reads are ended together, when all that the turn brings has arrived: one look at each
 * file instead of one a read, then check, install, settle, go on with who waited.
 */
#include "anon.h"
#include "chance.h"
#include "evict.h"
#include "filler.h"
#include "probation.h"
#include "unit.h"
#include "want.h"

#include "../base/canary.h"

#include <errno.h>

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
	chance_read_begins(fill);
	fill_read(f, fill);
}

static void fill_init(struct fill *fill, char *buf, bool staged, unsigned n)
{
	fill->buf = buf;
	fill->staged = staged;
	fill->ahead = false;
	fill->n_pages = (uint16_t)n;
	fill->result = 0;
	fill->n_good = 0;
	fill->from_copy = fill->from_chance = fill->vague = false;
	fill->since_ns = 0;
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
	stream_fill_launched(f, fill);
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

	if (!fill_comes_whole(r, page, source))
		return -EBUSY;
	source_back(&from, page - first, r->arena->page_shift);
	char *buf = fill == NULL ? NULL : filler_staging_get(f, r->arena);
	if (buf == NULL)
		return f->n_active > 0 ? -EAGAIN : -EBUSY;
	fill_init(fill, buf, true, n); /* before a word names it: from then on others wait for it */
	int rc = fill_claim_unit(r, first, n, UNIT_2M, fill);
	if (rc < 0) {
		filler_staging_put(f, buf);
		return rc == -EAGAIN && f->n_active > 0 ? -EAGAIN : -EBUSY;
	}
	f->free = fill->next;
	fill_begin(f, fill, r, (struct page_run){first, n}, &from);
	return 0;
}

/* What is read in one go for a page: from where to where, as far as item, region and buffers go. */
static struct page_run fill_window(const struct range *r, uint64_t page, unsigned max_pages, unsigned flags,
                                   const struct page_source *source)
{
	struct page_run run = flags & FILL_ALONE ? (struct page_run){page, 1} : fill_parts(r, page, max_pages, source);
	uint64_t most = source_read_max_bytes(source) >> r->arena->page_shift;
	uint64_t in_region = arena_region_end(r->arena, page) - run.first;

	most = most < FILL_MAX_PAGES ? most : FILL_MAX_PAGES;
	most = most < in_region ? most : in_region;
	if (run.n > most)
		run.n = most;
	return run;
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

/* The page, and others of its unit, from their copies: with nothing to wait for. */
static int fill_start_copied(struct filler *f, struct range *r, uint64_t page, unsigned flags,
                             const struct page_source *source)
{
	unsigned shift = unit_shift(f->cache, (enum unit_size)source->unit);
	struct fill *fill = f->free;

	/* Not ahead of a reader: it takes no time, and only who comes to them tells that they are in use. */
	if (f->ahead.starting)
		return probation_holds(r, page) || chance_holds(r, page) ? -EBUSY : -ENOENT;
	if (fill == NULL)
		return -EAGAIN;
	f->free = fill->next;
	fill_init(fill, filler_scratch(f), false, 1);
	int rc = fill_from_copies(fill, r, page, flags, source);
	fill->next = f->free;
	f->free = fill;
	if (rc == 0)
		f->ahead.launched_end = unit_first(r->arena, page, shift) + (UINT64_C(1) << shift);
	return rc;
}

int fill_start(struct filler *f, struct range *r, uint64_t page, unsigned max_pages, unsigned flags)
{
	struct page_source source;
	int rc = r->ops->locate(r->owner, page - r->first_page, &source);

	if (rc < 0)
		return rc;
	if (!range_get(r))
		return -ECANCELED;
	if (source.anon != NULL) {
		rc = anon_fill(f, r, page, max_pages, flags, &source);
		range_put(r);
		return rc;
	}
	rc = fill_start_copied(f, r, page, flags, &source);
	if (rc != -ENOENT) {
		range_put(r);
		return rc;
	}
	rc = source.unit == UNIT_2M && flags == 0 ? fill_start_whole(f, r, page, &source) : -EBUSY;
	if (rc == -EBUSY)
		rc = fill_start_part(f, r, page, fill_window(r, page, max_pages, flags, &source), flags, &source);
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
	if (fill->result == 0 || CANARY(page_shown_unverified))
		fill_install(fill, filler_scratch(f));
	else
		fill_read_failed(fill);
	if (fill->dup) {
		fill_settle_duplicate(r, fill->page, fill->result < 0);
		arena_wake(r->arena, fill->page, 1);
	} else {
		w = fill_settle(fill);
	}
	stream_fill_ended(f, fill);
	fill_release(f, fill, fill->n_pages);
	f->n_active--;
	while (w != NULL) {
		struct want *next = w->next;

		want_continue(w, f->loop);
		w = next;
	}
	range_put(r);
}

void fills_finish(struct filler *f)
{
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
}
