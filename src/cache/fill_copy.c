/* fill_copy.c - pages that come back from their copies (probation.h): the same steps as a read's, at once, without a buffer.
 *
 * Of a unit (unit.h), the page that is asked for comes, and then those whose copies are still there, one by one. What is
 * missing of it is read when it is asked for.
 */
#include "fill.h"

#include "probation.h"
#include "unit.h"
#include "want.h"

#include <errno.h>

/* 0; -EBUSY: its copy is gone or may not be shown, or its word has changed; -EAGAIN: no memory. source: its own. */
static int fill_page_from_copy(struct fill *fill, struct range *r, uint64_t page, bool force,
                               const struct page_source *source)
{
	int rc = fill_claim(r, page, source->unit, fill->id, force);

	if (rc < 0)
		return rc;
	fill->range = r;
	fill->page = page;
	fill->source = *source;
	fill->n_pages = 1;
	fill->n_good = 0;
	fill->result = 0;
	fill->dup = fill->staged = fill->vague = false;
	bool came = probation_fill(fill);

	/* Without an error, if it did not come: whoever has parked on it meanwhile looks again. */
	for (struct want *w = fill_settle(fill), *next; w != NULL; w = next) {
		next = w->next;
		want_continue(w, NULL);
	}
	fill->from_copy = false;
	return came ? 0 : -EBUSY;
}

int fill_from_copies(struct fill *fill, struct range *r, uint64_t page, unsigned flags,
                     const struct page_source *source)
{
	struct page_run part = fill_parts(r, page, 1, source);
	int rc = fill_page_from_copy(fill, r, page, (flags & FILL_FORCE) != 0, source);

	if (rc < 0 || (flags & FILL_ALONE) || source->unit == UNIT_2M)
		return rc;
	for (uint64_t other = part.first; other < part.first + part.n; other++) {
		struct page_source from = *source;

		if (other == page || page_state(page_load(range_word(r, other))) != PAGE_ABSENT ||
		    !probation_holds(r, other))
			continue;
		/* Forwards, too: counts of bytes wrap around. */
		source_back(&from, page - other, r->arena->page_shift);
		if (fill_page_from_copy(fill, r, other, false, &from) == -EAGAIN)
			break;
	}
	return 0;
}
