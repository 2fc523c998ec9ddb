/* hot.c - see hot.h. Reads words and never waits; regions in which nothing is resident are passed as a whole. */
#include "hot.h"

static bool hot_is(uint32_t w, unsigned uses)
{
	unsigned now = (w & PAGE_HOT) || page_value(w) > 0 ? HOT_USES_MAX : page_uses(w);

	return page_state(w) == PAGE_RESIDENT && now == uses;
}

bool hot_run(struct range *r, uint64_t page, uint64_t end, unsigned uses, uint64_t *ret_first, uint64_t *ret_n)
{
	uint64_t n = 0;

	while (page + n < end) {
		if (n == 0 && arena_region_count(r->arena, page) == 0) {
			page = arena_region_end(r->arena, page);
			continue;
		}
		if (hot_is(page_load(range_word(r, page + n)), uses))
			n++;
		else if (n > 0)
			break;
		else
			page++;
	}
	*ret_first = page;
	*ret_n = n;
	return n > 0;
}

void hot_restore(struct range *r, uint64_t page, uint64_t n, unsigned uses)
{
	for (uint64_t p = page; p < page + n; p++) {
		page_word *word = range_word(r, p);
		uint32_t w = page_load(word);

		/* One use is that of the want itself; more are somebody's. */
		while (page_state(w) == PAGE_RESIDENT && page_uses(w) <= 1 && page_uses(w) != uses &&
		       !page_cas(word, &w, (w & ~PAGE_USES_MASK) | uses << PAGE_USES_SHIFT))
			;
	}
}
