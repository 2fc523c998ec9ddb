/* pin.c - pins are counted in the page's word; pages that are pinned are counted in bytes.
 *
 * A pin is refused, never waited for: two operations that each held half of the memory would
 * wait for each other for ever.
 */
#include "core.h"
#include "evict.h"
#include "fill.h"

#include <errno.h>

#define PIN_RESERVE_LEAST (1u << 20)

/* What no eviction of frames can give back. */
static uint64_t fixed_bytes(const struct quire_cache *c)
{
	return budget_kind_used(&c->budget, BUDGET_PAGE_TABLES) +
	       budget_kind_used(&c->budget, BUDGET_TABLES) + budget_kind_used(&c->budget, BUDGET_BUFFERS) +
	       budget_kind_used(&c->budget, BUDGET_OTHER);
}

uint64_t evict_pin_limit(const struct quire_cache *c)
{
	uint64_t limit = budget_limit(&c->budget);
	uint64_t reserve = limit / 8 > PIN_RESERVE_LEAST ? limit / 8 : PIN_RESERVE_LEAST;
	uint64_t taken = reserve + fixed_bytes(c);

	return limit > taken ? limit - taken : 0;
}

bool evict_can_fit(const struct quire_cache *c)
{
	return fixed_bytes(c) + atomic_load(&c->pinned_bytes) <= budget_limit(&c->budget);
}

bool evict_all_pinned(const struct quire_cache *c)
{
	return budget_kind_used(&c->budget, BUDGET_FRAMES) <= atomic_load(&c->pinned_bytes);
}

static bool pin_charge(struct quire_cache *c)
{
	uint64_t page_bytes = cache_page_bytes(c), limit = evict_pin_limit(c);

	if (atomic_fetch_add(&c->pinned_bytes, page_bytes) + page_bytes <= limit)
		return true;
	atomic_fetch_sub(&c->pinned_bytes, page_bytes);
	return false;
}

static void pin_uncharge(struct quire_cache *c)
{
	atomic_fetch_sub(&c->pinned_bytes, cache_page_bytes(c));
	fillers_feed(c);
}

int evict_pin(struct range *r, uint64_t page, uint32_t w)
{
	bool first = page_value(w) == 0;

	if (page_value(w) == PAGE_VALUE_MAX)
		return -ENOMEM;
	if (first && !pin_charge(r->cache))
		return -ENOMEM;
	/* Counted before it is pinned, so that range_kill never overlooks one. */
	bool killed = first && (atomic_fetch_add(&r->n_pinned, 1) & RANGE_KILLED) != 0;
	if (!killed && page_cas(range_word(r, page), &w, w + (1u << PAGE_VALUE_SHIFT)))
		return 0;
	if (first) {
		atomic_fetch_sub(&r->n_pinned, 1);
		pin_uncharge(r->cache);
	}
	return killed ? -ECANCELED : -EAGAIN;
}

bool evict_unpin(struct range *r, uint64_t page)
{
	page_word *word = range_word(r, page);
	uint32_t w = page_load(word);

	do {
		if (page_state(w) != PAGE_RESIDENT || page_value(w) == 0)
			return false;
	} while (!page_cas(word, &w, w - (1u << PAGE_VALUE_SHIFT)));
	/* The range last: with its last pin gone, it may be destroyed by whoever has waited for that. */
	if (page_value(w) == 1) {
		pin_uncharge(r->cache);
		atomic_fetch_sub(&r->n_pinned, 1);
	}
	return true;
}
