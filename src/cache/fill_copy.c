/* fill_copy.c - pages that come back from their copies (probation.h, chance.h): the same steps as a read's, at once.
 *
 * Of a unit (unit.h), those whose copies are still there come one by one, and as the last the page that is asked for. What is missing is
 * read when it is asked for.
 *
 * Nothing waits here: whoever asks looks for the page when it has come, and if it has left again, asks again. So this must not be who
 * makes it leave, or where nothing else may (all other pages pinned, hot, or on their way) he would go on for ever, and with him, if he is the
 * service thread, all loads that wait for a page. Therefore:
 * 1. Nothing is evicted here between the coming of the page that is asked for and the return. The frames of all are charged before any has
 *    come, and if they can't be, it comes alone.
 * 2. What others do makes it leave only if they evict in the few instructions until it is looked at.
 */
#include "fill.h"

#include "chance.h"
#include "evict.h"
#include "probation.h"
#include "unit.h"
#include "want.h"

#include <errno.h>

void fill_drop_copies(struct range *r, uint64_t page, uint64_t n)
{
	probation_drop(r, page, n);
	chance_drop(r, page, n);
}

/* 0; -ENOENT: it has no copy; -EBUSY: it may not be shown, or the page's word has changed; -EAGAIN: no memory. source: its own.
 * n_paid: frames that are charged, of which it takes one if there is any. */
static int fill_page_from_copy(struct fill *fill, struct range *r, uint64_t page, bool force, unsigned *n_paid,
                               const struct page_source *source)
{
	bool aside = probation_holds(r, page), fetched = !aside && chance_fetch(fill, r, page);

	if (!aside && !fetched)
		return -ENOENT;
	int rc = *n_paid > 0 ? fill_claim_paid(r, page, source->unit, fill->id, force)
	                     : fill_claim(r, page, source->unit, fill->id, force);
	if (rc < 0)
		return rc;
	*n_paid -= *n_paid > 0;
	fill->range = r;
	fill->page = page;
	fill->source = *source;
	fill->n_pages = 1;
	fill->n_good = 0;
	fill->result = 0;
	fill->dup = fill->staged = fill->vague = false;
	bool came = fetched ? chance_show(fill) : probation_fill(fill);

	/* Without an error, if it did not come: whoever has parked on it meanwhile looks again. */
	for (struct want *w = fill_settle(fill), *next; w != NULL; w = next) {
		next = w->next;
		want_continue(w, NULL);
	}
	fill->from_copy = fill->from_chance = false;
	return came ? 0 : -EBUSY;
}

/* Frames for the page and what is absent of its part; how many: 0, if there is no other, or no memory. */
static unsigned part_charge(struct range *r, uint64_t page, struct page_run part)
{
	unsigned n = 1;

	for (uint64_t other = part.first; other < part.first + part.n; other++)
		n += other != page && page_state(page_load(range_word(r, other))) == PAGE_ABSENT;
	return n > 1 && evict_charge_frames(r->cache, n) == 0 ? n : 0;
}

/* All frames but the last are for the others. */
static void others_from_copies(struct fill *fill, struct range *r, uint64_t page, struct page_run part, unsigned *n_paid,
                               const struct page_source *source)
{
	for (uint64_t other = part.first; other < part.first + part.n && *n_paid > 1; other++) {
		struct page_source from = *source;

		if (other == page || page_state(page_load(range_word(r, other))) != PAGE_ABSENT)
			continue;
		/* Forwards, too: counts of bytes wrap around. */
		source_back(&from, page - other, r->arena->page_shift);
		if (fill_page_from_copy(fill, r, other, false, n_paid, &from) == -EAGAIN)
			break;
	}
}

int fill_from_copies(struct fill *fill, struct range *r, uint64_t page, unsigned flags,
                     const struct page_source *source)
{
	struct page_run part = fill_parts(r, page, 1, source);
	unsigned n_paid = 0;

	if (part.n > 1 && !(flags & FILL_ALONE) && source->unit != UNIT_2M) {
		if (!probation_holds(r, page) && !chance_holds(r, page))
			return -ENOENT;
		n_paid = part_charge(r, page, part);
		others_from_copies(fill, r, page, part, &n_paid, source);
	}
	int rc = fill_page_from_copy(fill, r, page, (flags & FILL_FORCE) != 0, &n_paid, source);
	if (n_paid > 0)
		evict_uncharge_frames(r->cache, n_paid);
	return rc;
}
