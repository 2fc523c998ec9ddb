/* fill.c - what becomes of a page between ABSENT and RESIDENT, whoever reads it.
 *
 * 1. A word that says FILLING names the one fill that will move it on. That fill holds the page's
 *    frame and region charges. (But see 5.)
 * 2. A waiter is on a fill's list only while a word says FILLING and names that fill; both are
 *    changed under the fill's lock, so none is left behind.
 * 3. No page appears before the file was found unchanged behind the read, and the owner's hook,
 *    if there is one, has accepted it; none of an object before it has matched its checksum.
 * 4. A fault may repeat a fill that a loop owns, since that loop may be the very thread that
 *    waits. DUP then keeps the page where it is until the repeat has ended: otherwise
 *    it could put the page back after it was evicted, with nobody knowing.
 * 5. A repeat that failed takes the page, with its charges, from the fill. Else a thread
 *    that waits where a stalled loop's fill is under way would fault and have it repeated for ever;
 *    now its next fault fills the page itself, and is told. The fill finds out when it ends, and then
 *    its waiters look again, and what it may have installed meanwhile is swept away.
 * 6. A page that a growing item ended in appears only while that is still its end: whoever installs
 *    it looks at the length and installs under grow_lock, under which the length is changed.
 *    What was installed before that, by a fill that has yet to end, is dropped, and the word says
 *    SPOILED, so that the fill's end does not call it resident.
 */
#include "fill.h"

#include "chance.h"
#include "evict.h"
#include "filler.h"
#include "probation.h"
#include "unit.h"
#include "want.h"

#include <errno.h>
#include <string.h>

struct fill *fill_of_word(struct quire_cache *c, uint32_t word)
{
	uint32_t id = page_value(word);
	struct filler *f =
		atomic_load_explicit(&c->fillers[id / FILLER_FILLS], memory_order_acquire);

	return &f->fills[id % FILLER_FILLS];
}

bool fill_is_foreign(struct filler *f, uint32_t word)
{
	struct filler *owner = fill_of_word(f->cache, word)->filler;

	return owner != NULL && owner != f;
}

/* EVICTING or ORPHAN → ABSENT, with all that the page held. */
static void fill_abandon(struct range *r, uint64_t page)
{
	arena_zap_page(r->arena, page);
	page_move(range_word(r, page), PAGE_ABSENT, 0, PAGE_QUEUED);
	arena_region_leave(r->arena, page, 1);
	evict_uncharge_frames(r->cache, 1);
}

static uint32_t filling(unsigned unit, uint32_t id)
{
	return PAGE_FILLING | unit << PAGE_UNIT_SHIFT | id << PAGE_VALUE_SHIFT;
}

int fill_claim_paid(struct range *r, uint64_t page, unsigned unit, uint32_t id, bool force)
{
	struct quire_cache *c = r->cache;
	page_word *word = range_word(r, page);
	uint32_t w = page_load(word);
	bool poisoned = page_state(w) == PAGE_POISONED;

	if (page_state(w) != PAGE_ABSENT && !poisoned)
		return -EBUSY;
	if (!poisoned && evict_enter_region(r->arena, c, page, 1, force) < 0)
		return -EAGAIN;
	/* Evicting may have taken a while: only a word that is still as it was is ours to take. */
	uint32_t expected = w;
	while (!page_cas(word, &expected, filling(unit, id) | (expected & PAGE_QUEUED))) {
		if (page_state(expected) == page_state(w))
			continue;
		if (!poisoned)
			arena_region_leave(r->arena, page, 1);
		return -EBUSY;
	}
	if (poisoned)
		arena_unpoison(r->arena, page);
	return 0;
}

int fill_claim(struct range *r, uint64_t page, unsigned unit, uint32_t id, bool force)
{
	struct quire_cache *c = r->cache;
	enum page_state state = page_state(page_load(range_word(r, page)));

	if (state != PAGE_ABSENT && state != PAGE_POISONED)
		return -EBUSY;
	if (evict_charge_frames(c, 1) < 0) {
		if (!force)
			return -EAGAIN;
		budget_charge(&c->budget, BUDGET_FRAMES, cache_page_bytes(c));
	}
	int rc = fill_claim_paid(r, page, unit, id, force);
	if (rc < 0)
		evict_uncharge_frames(c, 1);
	return rc;
}

/* A page that was taken from its fill (5) may have been installed by it since, with nobody knowing. */
static void fill_sweep_stray(struct range *r, uint64_t page)
{
	page_word *word = range_word(r, page);

	arena_region_enter(r->arena, page, 1, true);
	uint32_t w = page_load(word);
	while (page_state(w) == PAGE_ABSENT) {
		if (page_cas(word, &w, PAGE_EVICTING | (w & PAGE_QUEUED))) {
			arena_zap_page(r->arena, page);
			page_move(word, PAGE_ABSENT, 0, PAGE_QUEUED);
			break;
		}
	}
	arena_region_leave(r->arena, page, 1);
}

/* FILLING → ABSENT, by way of EVICTING, since a repeat may have put the page there already;
 * or ORPHAN, while a repeat is still at it. */
static void fill_unclaim(struct range *r, uint64_t page, uint32_t id)
{
	page_word *word = range_word(r, page);
	uint32_t w = page_load(word);
	enum page_state next;

	do {
		if (!page_is_filled_by(w, id)) {
			fill_sweep_stray(r, page);
			return;
		}
		next = w & PAGE_DUP ? PAGE_ORPHAN : PAGE_EVICTING;
	} while (!page_cas(word, &w, (uint32_t)next | (w & (PAGE_QUEUED | PAGE_DUP))));
	if (next == PAGE_EVICTING)
		fill_abandon(r, page);
}

/* Claims n pages that were seen ABSENT. The number that it got; less than n: somebody was faster. */
static unsigned claim_words(struct range *r, uint64_t first, unsigned n, unsigned unit, uint32_t id)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		page_word *word = range_word(r, first + i);
		uint32_t w = page_load(word);

		while (page_state(w) == PAGE_ABSENT && !page_cas(word, &w, filling(unit, id) | (w & PAGE_QUEUED)))
			;
		if (page_state(w) != PAGE_ABSENT)
			break;
	}
	return i;
}

int fill_claim_unit(struct range *r, uint64_t first, unsigned n, unsigned unit, struct fill *fill)
{
	struct quire_cache *c = r->cache;

	for (unsigned i = 0; i < n; i++)
		if (page_state(page_load(range_word(r, first + i))) != PAGE_ABSENT)
			return -EBUSY;
	if (evict_charge_frames(c, n) < 0)
		return -EAGAIN;
	if (evict_enter_region(r->arena, c, first, n, false) < 0) {
		evict_uncharge_frames(c, n);
		return -EAGAIN;
	}
	/* Under its lock, so that nobody waits for a fill that is taken back. */
	pthread_mutex_lock(&fill->lock);
	unsigned got = claim_words(r, first, n, unit, fill->id);
	if (got < n) {
		arena_region_leave(r->arena, first, n - got);
		evict_uncharge_frames(c, n - got);
		for (unsigned i = 0; i < got; i++)
			fill_unclaim(r, first + i, fill->id);
	}
	pthread_mutex_unlock(&fill->lock);
	return got < n ? -EBUSY : 0;
}

int fill_claim_around(struct range *r, struct page_run *run, uint64_t page, unsigned unit, uint32_t id, bool force)
{
	uint64_t low = page, high = page + 1;
	int rc = fill_claim(r, page, unit, id, force);

	if (rc < 0)
		return rc;
	while (low > run->first && fill_claim(r, low - 1, unit, id, false) == 0)
		low--;
	while (high < run->first + run->n && fill_claim(r, high, unit, id, false) == 0)
		high++;
	*run = (struct page_run){low, high - low};
	return 0;
}

bool fill_comes_whole(const struct range *r, uint64_t page, const struct page_source *source)
{
	uint64_t before = page - unit_first(r->arena, page, unit_shift(r->cache, UNIT_2M));

	return source->unit == UNIT_2M && arena_kind_moves(r->arena->kind) &&
	       source->len_bytes + (before << r->arena->page_shift) >= UNIT_2M_BYTES;
}

struct page_run fill_parts(const struct range *r, uint64_t page, unsigned n, const struct page_source *source)
{
	enum unit_size size = source->unit == UNIT_2M ? UNIT_64K : (enum unit_size)source->unit;
	unsigned shift = unit_shift(r->cache, size);
	uint64_t first = unit_first(r->arena, page, shift);
	uint64_t end = unit_first(r->arena, page + n - 1, shift) + (UINT64_C(1) << shift);
	uint64_t item_end = page + ((source->len_bytes - 1) >> r->arena->page_shift) + 1;

	return (struct page_run){first, (end < item_end ? end : item_end) - first};
}

void source_back(struct page_source *s, uint64_t n, unsigned page_shift)
{
	s->offset -= n << page_shift;
	s->item_offset -= n << page_shift;
	s->len_bytes += n << page_shift;
}

/* What is aside of the page goes before its word is looked at, and what has come aside meanwhile, after. */
int fill_outdate(struct range *r, uint64_t page)
{
	page_word *word = range_word(r, page);

	fill_drop_copies(r, page, 1);
	uint32_t w = page_load(word);
	while (page_state(w) == PAGE_FILLING)
		if (page_cas(word, &w, w | PAGE_SPOILED))
			break;
	switch (page_state(w)) {
	case PAGE_FILLING: /* the repeats' and the fill's own are there, or will not come */
	case PAGE_ORPHAN:
		arena_zap_page(r->arena, page);
		break;
	case PAGE_RESIDENT:
		if (evict_range(r, page, 1) > 0)
			break;
		w = page_load(word);
		return page_state(w) == PAGE_RESIDENT && page_value(w) > 0 ? -EBUSY : -EAGAIN;
	case PAGE_EVICTING:
		return -EAGAIN;
	case PAGE_ABSENT:
	case PAGE_POISONED:
		break;
	}
	fill_drop_copies(r, page, 1);
	/* Whoever has claimed it since may have its old copy in hand. */
	bool claimed = page_state(w) != PAGE_FILLING && page_state(w) != PAGE_ORPHAN &&
	               page_state(page_load(word)) != PAGE_ABSENT && page_state(page_load(word)) != PAGE_POISONED;
	return claimed ? -EAGAIN : 0;
}

void fill_settle_duplicate(struct range *r, uint64_t page, bool failed)
{
	page_word *word = range_word(r, page);
	uint32_t w = page_load(word);

	while (page_state(w) != PAGE_ORPHAN) {
		bool take = failed && page_state(w) == PAGE_FILLING;

		if (!page_cas(word, &w, take ? PAGE_EVICTING | (w & PAGE_QUEUED) : w & ~PAGE_DUP))
			continue;
		if (take)
			break;
		fillers_feed(r->cache); /* it may leave now */
		return;
	}
	/* The fill itself failed meanwhile and left the page, and its charges, to us; or we take it. */
	fill_abandon(r, page);
}

static int fill_install_checked(struct fill *fill, char *scratch, unsigned i)
{
	const struct page_source *s = &fill->source;
	size_t page_bytes = (size_t)cache_page_bytes(fill->range->cache);
	uint64_t done = (uint64_t)i * page_bytes;
	size_t valid = s->len_bytes - done < page_bytes ? (size_t)(s->len_bytes - done) : page_bytes;

	memset(scratch, 0, page_bytes);
	int rc = s->fill(s->fill_arg, fill->buf + done, valid, s->offset + done, scratch);
	if (rc < 0)
		return rc;
	memset(scratch + valid, 0, page_bytes - valid);
	return arena_install(fill->range->arena, fill->page + i, 1, scratch);
}

static void fill_install_pages(struct fill *fill, unsigned n_pages, char *scratch)
{
	size_t bytes = (size_t)n_pages << fill->range->arena->page_shift;
	int rc = 0;

	fill->n_good = 0;
	if (fill->source.fill != NULL && !fill->from_copy) {
		while (fill->n_good < n_pages && rc == 0) {
			rc = fill_install_checked(fill, scratch, fill->n_good);
			if (rc == 0)
				fill->n_good++;
		}
	} else {
		if (fill->source.len_bytes < bytes)
			memset(fill->buf + fill->source.len_bytes, 0, bytes - fill->source.len_bytes);
		rc = fill->staged ? arena_move(fill->range->arena, fill->page, n_pages, fill->buf)
		                  : arena_install(fill->range->arena, fill->page, n_pages, fill->buf);
		fill->n_good = rc == 0 ? (uint16_t)n_pages : 0;
	}
	fill->result = rc;
}

/* grow_lock is held. A copy may be of before, though the item was found to end where it does. */
static bool fill_ends_as_before(const struct fill *fill)
{
	const struct page_source *then = &fill->source;
	struct range *r = fill->range;
	struct page_source now;

	if (fill->from_copy && (page_load(range_word(r, fill->page)) & PAGE_SPOILED))
		return false;
	return r->ops->locate(r->owner, fill->page - r->first_page, &now) == 0 &&
	       now.len_bytes == then->len_bytes;
}

void fill_install(struct fill *fill, char *scratch)
{
	struct range *r = fill->range;
	unsigned n_pages = fill->n_pages;

	if (!fill->source.may_grow ||
	    (fill->source.len_bytes >> r->arena->page_shift >= n_pages && !fill->from_copy)) {
		fill_install_pages(fill, n_pages, scratch);
		return;
	}
	pthread_mutex_lock(&r->grow_lock);
	if (!fill_ends_as_before(fill))
		n_pages--;
	fill->result = 0;
	fill->n_good = 0;
	if (n_pages > 0)
		fill_install_pages(fill, n_pages, scratch);
	pthread_mutex_unlock(&r->grow_lock);
}

static void fill_pass_error(struct fill *fill, struct want *waiters)
{
	for (struct want *w = waiters; w != NULL; w = w->next) {
		w->where = WANT_NOWHERE;
		uint64_t bad = fill->page + fill->n_good;

		/* Behind a bad page: the next read of the unit would end at it again. */
		if (fill->vague || (fill->result < 0 && w->page > bad))
			w->flags |= WANT_SINGLE;
		else if (fill->result < 0 && w->page == bad)
			w->error = fill->result;
	}
}

static void fill_count(const struct fill *fill)
{
	struct cache_counters *all = &fill->range->cache->counters;
	struct range *r = fill->range;

	count(fill->from_chance ? &r->n_chance_hits : fill->from_copy ? &r->n_probation_hits : &r->n_fills, fill->n_good);
	count(fill->from_chance ? &all->n_chance_hits : fill->from_copy ? &all->n_probation_hits : &all->n_fills, fill->n_good);
}

struct want *fill_settle(struct fill *fill)
{
	struct range *r = fill->range;
	bool used = chance_fill_ended(fill) || (fill->from_copy && !fill->from_chance);
	uint32_t flags = (source_is_verified(&fill->source) ? 0 : PAGE_UNVERIFIED) |
	                 (fill->source.hot ? PAGE_HOT : 0) | (used ? PROBATION_USES : 0) |
	                 (fill->promoted ? 1u << PAGE_USES_SHIFT : 0);

	if (fill->result < 0) {
		count(&r->n_errors, 1);
		count(&r->cache->counters.n_errors, 1);
		r->ops->failed(r->owner, fill->source.item,
		               fill->source.item_offset + ((uint64_t)fill->n_good << r->arena->page_shift) + fill->error_at,
		               fill->result);
	}
	fill_count(fill);

	pthread_mutex_lock(&fill->lock);
	for (unsigned i = 0; i < fill->n_pages; i++) {
		if (i >= fill->n_good || !evict_enter(r, fill->page + i, fill->id, flags))
			fill_unclaim(r, fill->page + i, fill->id);
	}
	struct want *waiters = fill->waiters;
	fill->waiters = NULL;
	fill_pass_error(fill, waiters);
	pthread_mutex_unlock(&fill->lock);
	fillers_feed(r->cache);
	return waiters;
}

bool fill_park(struct quire_cache *c, struct range *r, uint64_t page, uint32_t word, struct want *w)
{
	struct fill *fill = fill_of_word(c, word);
	bool parked = false;

	pthread_mutex_lock(&fill->lock);
	uint32_t now = page_load(range_word(r, page));
	if (page_state(now) == PAGE_FILLING && page_value(now) == fill->id) {
		w->fill = fill;
		w->where = WANT_PARKED;
		w->prev = NULL;
		w->next = fill->waiters;
		if (w->next != NULL)
			w->next->prev = w;
		fill->waiters = w;
		parked = true;
	}
	pthread_mutex_unlock(&fill->lock);
	return parked;
}

bool fill_unpark(struct fill *fill, struct want *w)
{
	bool parked;

	pthread_mutex_lock(&fill->lock);
	parked = w->where == WANT_PARKED;
	if (parked) {
		if (w->prev != NULL)
			w->prev->next = w->next;
		else
			fill->waiters = w->next;
		if (w->next != NULL)
			w->next->prev = w->prev;
		w->where = WANT_NOWHERE;
	}
	pthread_mutex_unlock(&fill->lock);
	return parked;
}
