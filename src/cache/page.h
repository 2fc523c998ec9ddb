/* page.h - the word that says everything about one page: its state, its use, its pins.
 *
 *   bit  0..3   state; bit 0 alone is public: QUIRE_RESIDENT
 *        4..5   uses since it came or last stayed (0 to 3)
 *        6      QUEUED: the replacement policy has an entry for it
 *        7      DUP: a fault repeats a fill that a loop owns; the page may not leave
 *        8      HOT: leaves last; FILLING: SPOILED, the item has grown, so what comes is out of date
 *        9      UNVERIFIED: its item has no fill hook; of anonymous ranges DIRTY: no pool has what it holds
 *        10..11 FILLING, RESIDENT, EVICTING: the size of its unit (unit.h), with which it comes and leaves
 *        12..31 RESIDENT: number of pins; FILLING: id of the fill; POISONED: errno
 *
 * Whoever moves a word out of ABSENT, RESIDENT or POISONED by compare-and-swap owns the
 * page until it has moved it on. All zero is ABSENT, so an untouched table needs no memory.
 *
 *   ABSENT → FILLING → RESIDENT → EVICTING → ABSENT
 *               ├→ ABSENT      the fill failed, or a repeat of it, which a fault then does anew
 *               └→ ORPHAN      the fill failed while a fault repeats it; that fault ends it
 *   ABSENT → POISONED → FILLING   a raw load met an error; the next want tries again
 */
#ifndef CACHE_PAGE_H
#define CACHE_PAGE_H

#include <quire/cache.h>
#include <stdatomic.h>
#include <stdbool.h>

enum page_state {
	PAGE_ABSENT = 0,
	PAGE_RESIDENT = QUIRE_RESIDENT,
	PAGE_FILLING = 2,
	PAGE_EVICTING = 4,
	PAGE_POISONED = 6,
	PAGE_ORPHAN = 8,
};

#define PAGE_STATE_MASK 0xfu
#define PAGE_USES_SHIFT 4
#define PAGE_USES_MASK (3u << PAGE_USES_SHIFT)
#define PAGE_QUEUED (1u << 6)
#define PAGE_DUP (1u << 7)
#define PAGE_HOT (1u << 8)
#define PAGE_SPOILED PAGE_HOT /* of FILLING */
#define PAGE_UNVERIFIED (1u << 9)
#define PAGE_DIRTY PAGE_UNVERIFIED /* of anonymous ranges */
#define PAGE_UNIT_SHIFT 10
#define PAGE_UNIT_MASK (3u << PAGE_UNIT_SHIFT)
#define PAGE_VALUE_SHIFT 12
#define PAGE_VALUE_MAX (UINT32_MAX >> PAGE_VALUE_SHIFT)

typedef _Atomic uint32_t page_word;

static inline enum page_state page_state(uint32_t w)
{
	return (enum page_state)(w & PAGE_STATE_MASK);
}
static inline uint32_t page_value(uint32_t w)
{
	return w >> PAGE_VALUE_SHIFT;
}
static inline bool page_is_filled_by(uint32_t w, uint32_t id)
{
	return page_state(w) == PAGE_FILLING && page_value(w) == id;
}
static inline unsigned page_uses(uint32_t w)
{
	return (w & PAGE_USES_MASK) >> PAGE_USES_SHIFT;
}
static inline unsigned page_unit(uint32_t w)
{
	return (w & PAGE_UNIT_MASK) >> PAGE_UNIT_SHIFT;
}
static inline uint32_t page_load(page_word *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}
static inline bool page_cas(page_word *word, uint32_t *expected, uint32_t desired)
{
	return atomic_compare_exchange_weak_explicit(word, expected, desired, memory_order_acq_rel,
	                                             memory_order_acquire);
}

/* Moves to a state and value, keeping the flags of `keep`; uses start at 0. */
static inline void page_move(page_word *word, enum page_state state, uint32_t value, uint32_t keep)
{
	uint32_t w = page_load(word);

	while (!page_cas(word, &w, (uint32_t)state | value << PAGE_VALUE_SHIFT | (w & keep)))
		;
}

/* Records a hit: at most one store, lost in a race, which does no harm. */
static inline void page_touch(page_word *word, uint32_t w)
{
	if ((w & PAGE_USES_MASK) != PAGE_USES_MASK)
		atomic_compare_exchange_strong_explicit(word, &w, w + (1u << PAGE_USES_SHIFT),
		                                        memory_order_relaxed, memory_order_relaxed);
}

#endif
