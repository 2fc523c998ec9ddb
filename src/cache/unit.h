/* unit.h - units: the pages of an item that come and leave together.
 *
 * An item has a page size of its own: 4, 16, 64 KiB or 2 MiB. Each word of the residency table still stands for one
 * page of the system; a unit is the aligned run of them that is read at once, and that leaves as a whole.
 * A unit may be there in part (an item ends in it, one of its pages is damaged, memory was short), but never leaves in
 * part, since what is left of a 2 MiB page would go on taking all of it.
 *
 * The replacement policy has one entry a unit, which names its first page and its size; QUEUED is in that page's
 * word, whatever its state. Claims and pins of units of more than one page are made under the lock of the
 * first page's shard.
 */
#ifndef CACHE_UNIT_H
#define CACHE_UNIT_H

#include "core.h"

enum unit_size { UNIT_PAGE, UNIT_16K, UNIT_64K, UNIT_2M, N_UNIT_SIZES };

#define UNIT_MAX_PAGES 512u
#define UNIT_2M_BYTES (2u << 20)
#define UNIT_CODE_SHIFT 62 /* of a policy's entry: page numbers leave it free */

/* log2 of pages in a unit. */
static inline unsigned unit_shift(const struct quire_cache *c, enum unit_size size)
{
	static const unsigned char log2_bytes[N_UNIT_SIZES] = {0, 14, 16, 21};

	return log2_bytes[size] > c->page_shift ? log2_bytes[size] - c->page_shift : 0;
}

/* The first page of the unit that a page belongs to: arenas are aligned, addresses and units with them. */
static inline uint64_t unit_first(const struct arena *a, uint64_t page, unsigned shift)
{
	uint64_t index = page - a->first_page;

	return a->first_page + (index >> shift << shift);
}

static inline uint64_t unit_entry(uint64_t first, enum unit_size size)
{
	return first | (uint64_t)size << UNIT_CODE_SHIFT;
}
static inline uint64_t unit_entry_page(uint64_t entry)
{
	return entry & ((UINT64_C(1) << UNIT_CODE_SHIFT) - 1);
}
static inline enum unit_size unit_entry_size(uint64_t entry)
{
	return (enum unit_size)(entry >> UNIT_CODE_SHIFT);
}

/* A unit on its way out: which of its pages are EVICTING for whoever holds this. */
struct victim {
	struct arena *arena;
	uint64_t first;
	uint16_t n_pages;   /* of the unit */
	uint16_t n_claimed; /* pages that leave */
	bool kept;          /* of each of those there is a copy (chance.h) */
	uint64_t claimed[UNIT_MAX_PAGES / 64];
};

static inline bool victim_has(const struct victim *v, unsigned i)
{
	return (v->claimed[i / 64] >> i % 64 & 1) != 0;
}

/* The policy's question about an entry (policy.h); fills ret if TAKEN. spare_hot: not those that leave last. Under the
 * shard's lock. */
enum policy_answer unit_ask(struct quire_cache *c, uint64_t entry, unsigned threshold, bool spare_hot,
                            struct victim *ret);

/* Claims the unit that a resident page belongs to, outside of the policy, whose entry becomes stale. False: one of
 * its pages is pinned, or not at rest, or none is resident. */
bool unit_claim(struct quire_cache *c, struct arena *a, uint64_t page, struct victim *ret);

/* All words of the entry's unit are ABSENT or POISONED: forgets that it was queued. Under the shard's lock. */
bool unit_is_gone(struct quire_cache *c, uint64_t entry);

#endif
