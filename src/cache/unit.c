/* unit.c - see unit.h.
 *
 * 1. A unit is claimed page by page, each by compare-and-swap from RESIDENT, unpinned and not DUP, to EVICTING; if one of them
 *    can't be, those claimed before go back. Pages that are ABSENT or POISONED are not claimed and stay.
 * 2. A page that enters says RESIDENT, then sets QUEUED in the first page's word, and makes an entry if it was
 *    not set. Whoever takes or forgets an entry clears QUEUED, then looks at all words. All four are
 *    sequentially consistent, so that one of the two sees the other, and no page is without an entry for long.
 * 3. An entry may be of a map that is gone, and units of another size may have its place: what is there says its
 *    size itself, and counts. The entry is then that of the unit that begins with its page, if one does.
 */
#include "unit.h"

static bool at_rest(uint32_t w)
{
	return page_state(w) == PAGE_ABSENT || page_state(w) == PAGE_POISONED;
}

static bool claimable(uint32_t w)
{
	return page_state(w) == PAGE_RESIDENT && page_value(w) == 0 && (w & PAGE_DUP) == 0;
}

static void victim_init(struct victim *v, struct arena *a, uint64_t first, unsigned shift)
{
	v->arena = a;
	v->first = first;
	v->n_pages = (uint16_t)(1u << shift);
	v->kept = false;
	v->n_claimed = 0;
	for (unsigned i = 0; i < sizeof(v->claimed) / sizeof(v->claimed[0]); i++)
		v->claimed[i] = 0;
}

#define KEPT (PAGE_UNVERIFIED | PAGE_HOT | PAGE_UNIT_MASK | PAGE_QUEUED)

static bool claim_page(page_word *word)
{
	uint32_t w = page_load(word);

	while (claimable(w))
		if (page_cas(word, &w, PAGE_EVICTING | (w & KEPT)))
			return true;
	return false;
}

static void unclaim(struct victim *v)
{
	for (unsigned i = 0; i < v->n_pages; i++) {
		page_word *word = arena_word(v->arena, v->first + i);

		if (victim_has(v, i))
			page_move(word, PAGE_RESIDENT, 0, KEPT);
	}
}

static bool claim(struct victim *v)
{
	for (unsigned i = 0; i < v->n_pages; i++) {
		page_word *word = arena_word(v->arena, v->first + i);

		if (at_rest(page_load(word)))
			continue;
		if (!claim_page(word)) {
			unclaim(v);
			return false;
		}
		v->claimed[i / 64] |= UINT64_C(1) << i % 64;
		v->n_claimed++;
	}
	return v->n_claimed > 0;
}

static bool all_at_rest(const struct arena *a, uint64_t first, unsigned n_pages)
{
	for (unsigned i = 0; i < n_pages; i++)
		if (!at_rest(page_load(arena_word(a, first + i))))
			return false;
	return true;
}

/* Invariant 2. */
static bool forget(struct arena *a, uint64_t first, unsigned n_pages)
{
	page_word *word = arena_word(a, first);

	if (!all_at_rest(a, first, n_pages))
		return false;
	if ((atomic_load(word) & PAGE_QUEUED) == 0)
		return true;
	atomic_fetch_and(word, ~PAGE_QUEUED);
	/* Who came meanwhile may have found QUEUED set, and relies on this entry; or has made another. */
	return all_at_rest(a, first, n_pages) || (atomic_fetch_or(word, PAGE_QUEUED) & PAGE_QUEUED) != 0;
}

/* Invariant 3: the size of what has the entry's place now, by the first of its pages that is there. */
static enum unit_size size_of_now(const struct arena *a, uint64_t first, unsigned n_pages, enum unit_size size,
                                  uint64_t *ret_page)
{
	for (unsigned i = 0; i < n_pages; i++) {
		uint32_t w = page_load(arena_word(a, first + i));

		*ret_page = first + i;
		if (page_state(w) == PAGE_RESIDENT || page_state(w) == PAGE_FILLING)
			return (enum unit_size)page_unit(w);
	}
	return size;
}

/* What all its words say: the most uses of one; or that it can't leave now. */
static bool look(const struct arena *a, uint64_t first, unsigned n_pages, bool spare_hot, unsigned *ret_uses)
{
	*ret_uses = 0;
	for (unsigned i = 0; i < n_pages; i++) {
		uint32_t w = page_load(arena_word(a, first + i));

		if (at_rest(w))
			continue;
		if (!claimable(w) || (spare_hot && (w & PAGE_HOT)))
			return false;
		if (page_uses(w) > *ret_uses)
			*ret_uses = page_uses(w);
	}
	return true;
}

static void lower_uses(const struct arena *a, uint64_t first, unsigned n_pages)
{
	for (unsigned i = 0; i < n_pages; i++) {
		page_word *word = arena_word(a, first + i);
		uint32_t w = page_load(word);

		while (page_state(w) == PAGE_RESIDENT && page_uses(w) > 0 &&
		       !page_cas(word, &w, w - (1u << PAGE_USES_SHIFT)))
			;
	}
}

enum policy_answer unit_ask(struct quire_cache *c, uint64_t entry, unsigned threshold, bool spare_hot,
                            struct victim *ret)
{
	uint64_t first = unit_entry_page(entry), there;
	struct arena *a = cache_arena_of(c, first);
	enum unit_size size = unit_entry_size(entry), now;
	unsigned shift = unit_shift(c, size), uses;

	if (forget(a, first, 1u << shift))
		return POLICY_GONE;
	now = size_of_now(a, first, 1u << shift, size, &there);
	if (now != size) {
		shift = unit_shift(c, now);
		if (unit_first(a, there, shift) != first)
			return forget(a, first, (unsigned)(there - first)) ? POLICY_GONE : POLICY_BUSY;
	}
	if (!look(a, first, 1u << shift, spare_hot, &uses))
		return POLICY_BUSY;
	if (threshold > 0 && uses >= threshold) {
		lower_uses(a, first, 1u << shift);
		return POLICY_USED;
	}
	victim_init(ret, a, first, shift);
	atomic_fetch_and(arena_word(a, first), ~PAGE_QUEUED); /* first: invariant 2 */
	if (claim(ret))
		return POLICY_TAKEN;
	return atomic_fetch_or(arena_word(a, first), PAGE_QUEUED) & PAGE_QUEUED ? POLICY_GONE : POLICY_BUSY;
}

bool unit_claim(struct quire_cache *c, struct arena *a, uint64_t page, struct victim *ret)
{
	uint32_t w = page_load(arena_word(a, page));

	if (!claimable(w))
		return false;
	unsigned shift = unit_shift(c, (enum unit_size)page_unit(w));
	victim_init(ret, a, unit_first(a, page, shift), shift);
	if (shift == 0)
		return claim(ret);

	struct shard *s = cache_shard(c, ret->first);
	pthread_mutex_lock(&s->lock);
	bool claimed = claim(ret);
	pthread_mutex_unlock(&s->lock);
	return claimed;
}

bool unit_is_gone(struct quire_cache *c, uint64_t entry)
{
	uint64_t first = unit_entry_page(entry);

	return forget(cache_arena_of(c, first), first, 1u << unit_shift(c, unit_entry_size(entry)));
}
