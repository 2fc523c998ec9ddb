/* window.c - what a cursor holds of a sealed segment: pages pinned in RAM; or, of a class that is mapped, read where they lie.
 *
 * Of a class without a mapping (or with no_direct) a window is 64 KiB, pinned, filled through the cache: view.c.
 *
 * Of a mapped one, what is asked for is looked up in RAM first. If all its pages are resident they are pinned, which
 * records the hits. If not, the cache is told of each page that is absent (cache/promote.h). One that it has been told of
 * before, not too long ago, is hot: it is copied into RAM, at once, and from then on leaves as any page does. What is still not
 * all in RAM is read where it lies: all of it, so that a record is one piece.
 *
 * Invariants:
 *   1. A byte of [from, end), or up to ahead_end of a direct one, was held against its page's checksum: in RAM before it became
 *      resident, where it lies before the window was stretched over it.
 *   2. A window that is direct pins nothing. Its bytes are borrowed from the device, as long as the cursor holds the segment, which
 *      holds the object, which keeps its space from being written, or discarded, by others.
 *   3. from <= end <= ahead_end. A page of a direct window is told of when end comes to it, and not again while it is in the
 *      window. So reading record by record is one use of a page, and what is looked at ahead of the reader is none.
 *
 * Who reads on from the window gets a longer one, up to 64 KiB ahead, as long as pages are all in RAM, or all not. What was
 * passed is kept for as much, for who goes back.
 *
 * Failure: a page that does not match its checksum is -EBADMSG for records that touch it; a window is never stretched over one. What
 * can't be mapped (bad blocks) or pinned there (no budget) is read through the cache, whose word is final.
 *
 * Nothing but a fill through the cache waits. Checking takes the caller's thread 0.1 to 0.4 µs a page, promotion 2 µs.
 */
#include "log_internal.h"

#include "../cache/promote.h"

#include <errno.h>
#include <string.h>

#define WINDOW_BYTES 65536u
#define PROMOTED_AT_ONCE 64u /* pages; more of one record wait for its next use */

/* Pages of the range, from 0; the end is excluded. */
struct span {
	uint64_t first, end;
};

static unsigned shift_of(const struct log_segment *seg)
{
	return seg->log->cache->page_shift;
}

static uint64_t window_pages(const struct log_segment *seg)
{
	uint64_t n = WINDOW_BYTES >> shift_of(seg);

	return n > 0 ? n : 1;
}

static uint64_t absolute(const struct log_segment *seg, uint64_t page)
{
	return seg->range->first_page + page;
}

static struct span span_of(const struct log_segment *seg, uint32_t from, uint32_t end)
{
	return (struct span){from >> shift_of(seg), ((end - (uint64_t)1) >> shift_of(seg)) + 1};
}

static uint32_t end_of(const struct log_segment *seg, uint64_t end_page)
{
	uint64_t bytes = object_bytes(seg->object), end = end_page << shift_of(seg);

	return (uint32_t)(end < bytes ? end : bytes);
}

static void count_given(struct log_segment *seg, struct log_window *w)
{
	if (w->n_given > 0)
		atomic_fetch_add_explicit(w->direct ? &seg->log->n_direct_reads : &seg->log->n_ram_reads, w->n_given,
		                          memory_order_relaxed);
	w->n_given = 0;
}

void log_window_let_go(struct log_segment *seg, struct log_window *w)
{
	if (w->bytes == NULL)
		return;
	count_given(seg, w);
	if (!w->direct)
		log_segment_unpin(seg, w->from, w->end - w->from);
	w->bytes = NULL;
}

/* A window of these pages, of which those from want_end on are ahead. */
static void hold(struct log_segment *seg, struct log_window *w, const uint8_t *bytes, struct span pages, uint64_t want_end,
                 bool direct)
{
	if (!direct || !w->direct)
		log_window_let_go(seg, w);
	w->bytes = bytes;
	w->from = (uint32_t)(pages.first << shift_of(seg));
	w->end = end_of(seg, want_end);
	w->ahead_end = end_of(seg, pages.end);
	w->direct = direct;
}

/* ---- in RAM ---- */

/* -EAGAIN: not all of it is there. */
static int hold_in_ram(struct log_segment *seg, struct log_window *w, struct span want, bool goes_on)
{
	uint64_t n = want.end - want.first, more = 0;
	struct range *r = seg->range;

	if (promote_run(r, absolute(seg, want.first), n, true) < n)
		return -EAGAIN;
	if (goes_on && n < window_pages(seg)) {
		more = window_pages(seg) - n;
		more = more < r->n_pages - want.end ? more : r->n_pages - want.end;
		more = promote_run(r, absolute(seg, want.end), more, true);
	}
	int rc = promote_pin(r, absolute(seg, want.first), n + more);
	if (rc < 0 && more > 0) {
		more = 0;
		rc = promote_pin(r, absolute(seg, want.first), n);
	}
	if (rc == 0)
		hold(seg, w, (const uint8_t *)arena_address(r->arena, absolute(seg, want.first)),
		     (struct span){want.first, want.end + more}, want.end + more, false);
	return rc;
}

/* ---- where it lies ---- */

static int copy_page(void *arg, uint64_t index, void *to)
{
	struct log_segment *seg = arg;
	uint64_t offset = index << shift_of(seg), bad;
	uint32_t len_bytes = end_of(seg, index + 1) - (uint32_t)offset;
	size_t n = (len_bytes + (size_t)FORMAT_UNIT_BYTES - 1) & ~(size_t)(FORMAT_UNIT_BYTES - 1);
	const void *from = object_borrow(seg->object, offset, len_bytes);

	if (from == NULL)
		return -EAGAIN;
	memcpy(to, from, n);
	memset((char *)to + n, 0, ((size_t)1 << shift_of(seg)) - n);
	return object_verify(seg->object, offset, len_bytes, to, &bad);
}

/* Tells the cache of a page. True: it is in RAM now. */
static bool tell(struct log_segment *seg, uint64_t page, unsigned *n_left)
{
	if (*n_left == 0 || !promote_is_due(seg->range, absolute(seg, page)))
		return false;
	--*n_left;
	/* If it can't be, it is read where it is. */
	if (promote_page(seg->range, absolute(seg, page), copy_page, seg) < 0)
		return false;
	atomic_fetch_add_explicit(&seg->log->n_promoted, 1, memory_order_relaxed);
	return true;
}

/* The pages as they lie there, verified. */
static int look(struct log_segment *seg, struct log_window *w, struct span pages, const uint8_t **ret)
{
	uint64_t offset = pages.first << shift_of(seg);
	uint32_t len_bytes = end_of(seg, pages.end) - (uint32_t)offset;
	const uint8_t *at = object_borrow(seg->object, offset, len_bytes);
	int rc = at == NULL ? -EAGAIN : object_verify(seg->object, offset, len_bytes, at, &w->bad_offset);

	if (rc == 0)
		*ret = at;
	return rc;
}

/* Pages behind want that may be verified with it: absent ones. */
static uint64_t count_ahead(const struct log_segment *seg, uint64_t end)
{
	uint64_t most = window_pages(seg), left = seg->range->n_pages - end;

	return promote_run(seg->range, absolute(seg, end), most < left ? most : left, false);
}

/* What is left of a window that is too long. */
static struct span trimmed(const struct log_segment *seg, struct span held, struct span want)
{
	uint64_t most = window_pages(seg) + (want.end - want.first), n = held.end - held.first;

	if (n > most) {
		uint64_t cut = n - most < want.first - held.first ? n - most : want.first - held.first;
		held.first += cut;
		n -= cut;
	}
	if (n > most)
		held.end -= n - most < held.end - want.end ? n - most : held.end - want.end;
	return held;
}

/* What of the window is verified. Nothing, unless it is direct. */
static struct span verified(const struct log_segment *seg, const struct log_window *w)
{
	return w->bytes != NULL && w->direct ? span_of(seg, w->from, w->ahead_end) : (struct span){0, 0};
}

/* Of pages [from, want.end), and what is ahead of them if that can be had. */
static int look_ahead(struct log_segment *seg, struct log_window *w, uint64_t from, uint64_t want_end, uint64_t ahead,
                      struct span *ret_pages, const uint8_t **ret)
{
	*ret_pages = (struct span){from, want_end + ahead};
	int rc = look(seg, w, *ret_pages, ret);
	if (rc == 0 || ahead == 0)
		return rc;
	ret_pages->end = want_end;
	return look(seg, w, *ret_pages, ret);
}

/* want overlaps or adjoins what is verified, which is stretched over it. -ESTALE: the mapping is another now. */
static int stretch(struct log_segment *seg, struct log_window *w, struct span want, uint64_t ahead)
{
	uint64_t told_end = span_of(seg, w->from, w->end).end;
	struct span held = verified(seg, w), part;
	const uint8_t *bytes = w->bytes, *at = NULL;
	unsigned shift = shift_of(seg);
	int rc;

	if (want.end > held.end) {
		rc = look_ahead(seg, w, held.end, want.end, ahead, &part, &at);
		if (rc == 0 && at != bytes + ((part.first - held.first) << shift))
			rc = -ESTALE;
		if (rc < 0)
			return rc;
		held.end = part.end;
	}
	if (want.first < held.first) {
		rc = look(seg, w, (struct span){want.first, held.first}, &at);
		if (rc == 0 && at + ((held.first - want.first) << shift) != bytes)
			rc = -ESTALE;
		if (rc < 0)
			return rc;
		held.first = want.first;
		bytes = at;
	}
	struct span kept = trimmed(seg, held, want);
	told_end = told_end > want.end ? told_end : want.end;
	hold(seg, w, bytes + ((kept.first - held.first) << shift), kept, told_end < kept.end ? told_end : kept.end, true);
	return 0;
}

static int begin(struct log_segment *seg, struct log_window *w, struct span want, uint64_t ahead)
{
	const uint8_t *at = NULL;
	struct span pages;
	int rc = look_ahead(seg, w, want.first, want.end, ahead, &pages, &at);

	if (rc == 0) {
		log_window_let_go(seg, w);
		hold(seg, w, at, pages, want.end, true);
	}
	return rc;
}

/* ---- both ---- */

/* Of the pages that the window has not come to yet. True: some are in RAM now. */
static bool tell_new(struct log_segment *seg, const struct log_window *w, struct span want)
{
	bool direct = w->bytes != NULL && w->direct, promoted = false;
	struct span told = direct ? span_of(seg, w->from, w->end) : (struct span){0, 0};
	unsigned n_left = PROMOTED_AT_ONCE;

	for (uint64_t page = want.first; page < want.end; page++)
		if (page < told.first || page >= told.end)
			promoted |= tell(seg, page, &n_left);
	return promoted;
}

/* -EAGAIN: through the cache. */
static int hold_mapped(struct log_segment *seg, struct log_window *w, uint32_t offset, uint32_t len_bytes)
{
	struct span want = span_of(seg, offset, offset + len_bytes), held = {0, 0}, have = verified(seg, w);

	if (w->bytes != NULL)
		held = span_of(seg, w->from, w->end);
	bool goes_on = want.first >= held.first && want.first <= held.end && want.end >= held.end && w->bytes != NULL;
	int rc = hold_in_ram(seg, w, want, goes_on);
	if (rc == 0 || (tell_new(seg, w, want) && hold_in_ram(seg, w, want, goes_on) == 0))
		return 0;
	uint64_t ahead = goes_on && want.end > have.end ? count_ahead(seg, want.end) : 0;
	bool joins = have.end > have.first && want.first <= have.end && want.end >= have.first;
	rc = joins ? stretch(seg, w, want, ahead) : begin(seg, w, want, ahead);
	return rc == -ESTALE ? begin(seg, w, want, ahead) : rc;
}

static int hold_pinned(struct log_segment *seg, struct log_window *w, uint32_t offset, uint32_t len_bytes)
{
	uint32_t from = offset & ~(WINDOW_BYTES - 1), end = offset + len_bytes, bytes = (uint32_t)object_bytes(seg->object);
	const uint8_t *at = NULL;

	log_window_let_go(seg, w);
	if (end < from + WINDOW_BYTES)
		end = from + WINDOW_BYTES;
	if (end > bytes)
		end = bytes;
	int rc = log_segment_pin(seg, from, end - from, &at);
	if (rc < 0 && end - from > len_bytes) {
		/* Of a small budget, or one that others have pinned; or its neighbours are damaged. */
		from = offset;
		end = offset + len_bytes;
		rc = log_segment_pin(seg, from, end - from, &at);
	}
	if (rc == -EBADMSG || rc == -EIO)
		w->bad_offset = atomic_load(&seg->bad_offset);
	if (rc < 0)
		return rc;
	w->bytes = at;
	w->from = from;
	w->end = w->ahead_end = end;
	w->direct = false;
	return 0;
}

int log_window_hold(struct log_segment *seg, struct log_window *w, uint32_t offset, uint32_t len_bytes, bool may_wait)
{
	int rc = w->bytes != NULL || log_segment_has_range(seg) ? 0 : may_wait ? log_segment_open_range(seg) : -EAGAIN;

	if (rc < 0)
		return rc;
	rc = seg->mapped ? hold_mapped(seg, w, offset, len_bytes) : -EAGAIN;
	if (rc == -EAGAIN && may_wait)
		rc = hold_pinned(seg, w, offset, len_bytes);
	return rc;
}
