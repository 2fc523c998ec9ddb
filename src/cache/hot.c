/* hot.c - see hot.h. Reads words and never waits; regions in which nothing is resident are passed as a whole. */
#include "hot.h"

#include "unit.h"

/* What hot_run has last looked at: where it ends, and the most uses of one of its pages. */
struct hot_unit {
	uint64_t end; /* 0: none yet */
	unsigned uses;
};

static unsigned hot_uses(uint32_t w)
{
	return (w & PAGE_HOT) || page_value(w) > 0 ? HOT_USES_MAX : page_uses(w);
}

/* The unit of a resident page. */
static struct hot_unit hot_look(const struct range *r, uint64_t page)
{
	unsigned shift = unit_shift(r->cache, (enum unit_size)page_unit(page_load(range_word(r, page))));
	uint64_t first = unit_first(r->arena, page, shift);
	struct hot_unit u = {.end = first + (UINT64_C(1) << shift)};

	for (uint64_t p = first; p < u.end; p++) {
		uint32_t w = page_load(range_word(r, p));

		if (page_state(w) == PAGE_RESIDENT && hot_uses(w) > u.uses)
			u.uses = hot_uses(w);
	}
	return u;
}

bool hot_run(const struct range *r, uint64_t page, uint64_t end, unsigned uses, uint64_t *ret_first, uint64_t *ret_n)
{
	struct hot_unit unit = {0};
	uint64_t n = 0;

	while (page + n < end) {
		if (n == 0 && arena_region_count(r->arena, page) == 0) {
			page = arena_region_end(r->arena, page);
			continue;
		}
		bool resident = page_state(page_load(range_word(r, page + n))) == PAGE_RESIDENT;

		if (resident && page + n >= unit.end)
			unit = hot_look(r, page + n);
		if (resident && unit.uses == uses)
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
