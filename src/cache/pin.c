/* pin.c - pins are counted in the page's word; what they keep, whole units (unit.h), is counted in bytes.
 *
 * A pin is refused, never waited for: two operations that each held half of the memory would
 * wait for each other for ever.
 */
#include "anon_room.h"
#include "core.h"
#include "evict.h"
#include "fill.h"
#include "unit.h"

#include "../base/canary.h"

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

/* Pools refused what was to leave, and no page is on its way. */
static bool all_stay(const struct quire_cache *c)
{
	uint64_t n = 0;

	if (!atomic_load(&c->anon_refused) || anon_room_is_made(c))
		return false;
	for (const struct shard *s = c->shards; s < c->shards + N_SHARDS; s++)
		n += atomic_load(&s->n_resident);
	return budget_kind_used(&c->budget, BUDGET_FRAMES) <= n << c->page_shift;
}

bool evict_all_pinned(const struct quire_cache *c)
{
	if (all_stay(c))
		return true;
	return budget_kind_used(&c->budget, BUDGET_FRAMES) <= atomic_load(&c->pinned_bytes) &&
	       budget_kind_used(&c->budget, BUDGET_PROBATION) == 0;
}

static bool pin_charge(struct quire_cache *c, uint64_t bytes)
{
	uint64_t limit = evict_pin_limit(c);

	if (atomic_fetch_add(&c->pinned_bytes, bytes) + bytes <= limit)
		return true;
	atomic_fetch_sub(&c->pinned_bytes, bytes);
	return false;
}

static void pin_uncharge(struct quire_cache *c, uint64_t bytes)
{
	atomic_fetch_sub(&c->pinned_bytes, bytes);
	fillers_feed(c);
}

/* w: the word as it was looked at. bytes: what is charged with it. */
static int pin_page(struct range *r, uint64_t page, uint32_t w, uint64_t bytes)
{
	bool first = page_value(w) == 0;

	if (page_value(w) == PAGE_VALUE_MAX)
		return -ENOMEM;
	if (bytes > 0 && !pin_charge(r->cache, bytes))
		return -ENOMEM;
	/* Counted before it is pinned, so that range_kill never overlooks one. */
	bool killed = first && (atomic_fetch_add(&r->n_pinned, 1) & RANGE_KILLED) != 0;
	if (!killed && page_cas(range_word(r, page), &w, CANARY(pin_forgotten) ? w : w + (1u << PAGE_VALUE_SHIFT)))
		return 0;
	if (first)
		atomic_fetch_sub(&r->n_pinned, 1);
	if (bytes > 0)
		pin_uncharge(r->cache, bytes);
	return killed ? -ECANCELED : -EAGAIN;
}

/* Takes a pin off the word. 0: there was none; 1: others are left; 2: it was the last. */
static int unpin_word(page_word *word)
{
	uint32_t w = page_load(word);

	do {
		if (page_state(w) != PAGE_RESIDENT || page_value(w) == 0)
			return 0;
	} while (!page_cas(word, &w, w - (1u << PAGE_VALUE_SHIFT)));
	return page_value(w) == 1 ? 2 : 1;
}

/* One of the unit's pages is pinned. From `page` on, round: its neighbours mostly are. Under the shard's lock. */
static bool unit_is_pinned(const struct range *r, uint64_t page, uint64_t first, unsigned shift)
{
	uint64_t mask = (UINT64_C(1) << shift) - 1;

	for (uint64_t i = 0; i <= mask; i++) {
		uint32_t w = page_load(range_word(r, first + ((page - first + i) & mask)));

		if (page_state(w) == PAGE_RESIDENT && page_value(w) > 0)
			return true;
	}
	return false;
}

int evict_pin(struct range *r, uint64_t page, uint32_t w)
{
	struct quire_cache *c = r->cache;
	unsigned shift = unit_shift(c, (enum unit_size)page_unit(w));

	if (shift == 0)
		return pin_page(r, page, w, page_value(w) == 0 ? cache_page_bytes(c) : 0);

	uint64_t first = unit_first(r->arena, page, shift);
	struct shard *s = cache_shard(c, first);
	pthread_mutex_lock(&s->lock);
	uint64_t bytes = unit_is_pinned(r, page, first, shift) ? 0 : cache_page_bytes(c) << shift;
	int rc = pin_page(r, page, w, bytes);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

bool evict_unpin(struct range *r, uint64_t page)
{
	struct quire_cache *c = r->cache;
	page_word *word = range_word(r, page);
	unsigned shift = unit_shift(c, (enum unit_size)page_unit(page_load(word)));
	uint64_t bytes = cache_page_bytes(c) << shift;
	int had;

	if (shift == 0) {
		had = unpin_word(word);
	} else {
		uint64_t first = unit_first(r->arena, page, shift);
		struct shard *s = cache_shard(c, first);

		pthread_mutex_lock(&s->lock);
		had = unpin_word(word);
		if (had == 2 && unit_is_pinned(r, page, first, shift))
			bytes = 0;
		pthread_mutex_unlock(&s->lock);
	}
	if (had < 2)
		return had == 1;
	if (bytes > 0)
		pin_uncharge(c, bytes);
	/* The range last: with its last pin gone, it may be destroyed by whoever has waited for that. */
	atomic_fetch_sub(&r->n_pinned, 1);
	return true;
}
