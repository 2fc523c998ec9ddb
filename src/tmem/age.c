/* age.c - which pages of a pool that spills came first.
 *
 * A queue of page numbers, as evict.c makes them, eight bytes a page. A page that was read since it came, or since its last turn, is let
 * pass once; not for ever, so that a turn is short. Entries whose page has gone are dropped in their turn, or all at once before
 * the queue would have to grow for their sake.
 */
#include "spill.h"

#include <unistd.h>

#define MOST_PASSED 256u
#define SLACK_ENTRIES 256u

static bool spills(const struct quire_tmem_pool *pool)
{
	return (pool->o.flags & QUIRE_TMEM_SPILL) != 0;
}

static void charge(struct quire_tmem_pool *pool)
{
	uint64_t bytes = page_ring_bytes(&pool->ages);

	if (bytes < pool->age_bytes)
		budget_uncharge(pool->tmem->budget, BUDGET_TMEM, pool->age_bytes - bytes);
	else
		budget_charge(pool->tmem->budget, BUDGET_TMEM, bytes - pool->age_bytes);
	pool->held_bytes += bytes - pool->age_bytes;
	pool->age_bytes = bytes;
}

int tmem_age_init(struct quire_tmem_pool *pool)
{
	if (!spills(pool))
		return 0;
	return page_ring_init(&pool->ages);
}

void tmem_age_fini(struct quire_tmem_pool *pool)
{
	if (!spills(pool))
		return;
	page_ring_fini(&pool->ages);
	budget_uncharge(pool->tmem->budget, BUDGET_TMEM, pool->age_bytes);
}

/* The page of that number; false: it is gone. */
static bool find(const struct quire_tmem_pool *pool, uint64_t number, struct where *ret)
{
	const struct quire_tmem *t = pool->tmem;

	*ret = (struct where){.span = (uint32_t)(number >> 24), .low = (uint16_t)(number >> 8)};
	if (!records_there(&t->spans.records, ret->span) || span_at(&t->spans, ret->span)->pool != pool->no)
		return false;
	ret->value = spans_get(&t->spans, ret->span, ret->low);
	if (ret->value == VALUE_NONE || value_is_same(ret->value))
		return false;
	if (value_is_share(ret->value))
		return true;
	const struct slot_head *h = storage_at(&t->storage, ret->value);
	return slot_stamp(h, ret->low) == (uint8_t)number;
}

static void drop_stale(struct quire_tmem_pool *pool)
{
	struct where at;

	for (size_t n = pool->ages.count; n > 0; n--) {
		if (find(pool, page_ring_oldest(&pool->ages), &at))
			page_ring_rotate(&pool->ages);
		else
			(void)page_ring_pop(&pool->ages);
	}
	page_ring_trim(&pool->ages);
	charge(pool);
}

bool tmem_age_reserve(struct quire_tmem_pool *pool)
{
	if (!spills(pool) || pool->ages.count < pool->ages.capacity)
		return true;
	if (pool->ages.count >= 2 * pool->n_pages + SLACK_ENTRIES) {
		drop_stale(pool);
		if (pool->ages.count < pool->ages.capacity)
			return true;
	}
	/* It grows by quarters. */
	uint64_t more = page_ring_bytes(&pool->ages) / 4 + (uint64_t)sysconf(_SC_PAGESIZE);
	if (!budget_try_charge(pool->tmem->budget, BUDGET_TMEM, more))
		return false;
	pool->age_bytes += more;
	pool->held_bytes += more;
	return true;
}

void tmem_age_enter(struct quire_tmem_pool *pool, const struct where *at)
{
	uint8_t stamp = 0;

	if (!spills(pool) || value_is_same(at->value))
		return;
	if (!value_is_share(at->value)) {
		struct slot_head *h = storage_at(&pool->tmem->storage, at->value);
		stamp = h->stamp = ++pool->stamp;
	}
	/* Without memory for it, the page stays in memory. */
	(void)page_ring_push(&pool->ages, (uint64_t)at->span << 24 | (uint64_t)at->low << 8 | stamp);
	charge(pool);
}

void tmem_age_put_back(struct quire_tmem_pool *pool, uint64_t number)
{
	/* Pages of others may have it still. */
	if (pool == NULL || !spills(pool))
		return;
	if (tmem_age_reserve(pool))
		(void)page_ring_push(&pool->ages, number);
	charge(pool);
}

uint32_t tmem_age_pick(struct quire_tmem_pool *pool, uint32_t most_bytes, uint64_t *ret_number)
{
	const struct quire_tmem *t = pool->tmem;
	struct where at;
	uint64_t word;

	for (unsigned n_passed = 0; pool->ages.count > 0;) {
		if (!find(pool, page_ring_oldest(&pool->ages), &at)) {
			(void)page_ring_pop(&pool->ages);
			continue;
		}
		uint32_t place = content_place(t, at.value, &word);
		struct slot_head *h = storage_at(&t->storage, place);
		bool gains = !tmem_is_away(h) && !h->going && storage_bytes_of(&t->storage, place) >= SPILL_LEAST_SLOT_BYTES;
		if (gains && h->uses > 0 && n_passed < MOST_PASSED) {
			h->uses = 0;
			n_passed++;
			page_ring_rotate(&pool->ages);
			continue;
		}
		if (gains && slot_len(h) > most_bytes)
			return PLACE_NONE;
		*ret_number = page_ring_pop(&pool->ages);
		if (gains)
			return place;
	}
	return PLACE_NONE;
}
