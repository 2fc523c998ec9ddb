/* region.c - charges page tables and table pages by region, and gives them back.
 *
 * A region is as many pages as one page of words describes: on every page size that is the reach of
 * two last-level page tables. Its word:
 *
 *   bit 31     DROPPING: its memory is going back to the kernel; entering waits (microseconds)
 *   bit 30     CHARGED: two page tables and one page of words are in the budget
 *   bit 0..29  pages that are not ABSENT
 *
 *   1. A page's word is not ABSENT only while its region counts it.
 *   2. DROPPING is set only with a count of 0, and nobody enters meanwhile.
 *   3. What the kernel holds for a region is never more than what is charged: charged before the
 *      first page enters, uncharged after the memory went back.
 *
 * Where MADV_DONTNEED keeps empty page tables (before 6.13 or so, and on arm64) a region stays
 * charged until its map is destroyed. Upper levels are charged by the GiB, once and for good.
 */
#include "arena.h"

#include "arena_kernel.h"

#include <errno.h>
#include <sched.h>

#define REGION_DROPPING (1u << 31)
#define REGION_CHARGED (1u << 30)
#define REGION_COUNT_MASK (REGION_CHARGED - 1)
#define ZONE_PAGES 2 /* an upper-level table, and a table of the words' own mapping */

static _Atomic uint32_t *region_of(const struct arena *a, uint64_t page)
{
	return &a->regions[(page - a->first_page) >> a->region_shift];
}

static bool region_charge(struct arena *a, uint64_t page, bool force)
{
	uint64_t page_bytes = (uint64_t)1 << a->page_shift;
	_Atomic uint8_t *zone = &a->zones[((page - a->first_page) << a->page_shift) >> 30];

	if (force) {
		budget_charge(a->budget, BUDGET_PAGE_TABLES, 2 * page_bytes);
		budget_charge(a->budget, BUDGET_TABLES, page_bytes);
	} else {
		if (!budget_try_charge(a->budget, BUDGET_PAGE_TABLES, 2 * page_bytes))
			return false;
		if (!budget_try_charge(a->budget, BUDGET_TABLES, page_bytes)) {
			budget_uncharge(a->budget, BUDGET_PAGE_TABLES, 2 * page_bytes);
			return false;
		}
	}
	if (atomic_exchange_explicit(zone, 1, memory_order_relaxed) == 0)
		budget_charge(a->budget, BUDGET_PAGE_TABLES, ZONE_PAGES * page_bytes);
	return true;
}

static void region_uncharge(struct arena *a)
{
	uint64_t page_bytes = (uint64_t)1 << a->page_shift;

	budget_uncharge(a->budget, BUDGET_PAGE_TABLES, 2 * page_bytes);
	budget_uncharge(a->budget, BUDGET_TABLES, page_bytes);
}

int arena_region_enter(struct arena *a, uint64_t page, uint32_t n, bool force)
{
	_Atomic uint32_t *region = region_of(a, page);
	uint32_t v = atomic_load_explicit(region, memory_order_acquire);

	for (;;) {
		if (v & REGION_DROPPING) {
			sched_yield();
			v = atomic_load_explicit(region, memory_order_acquire);
		} else if (v & REGION_CHARGED) {
			if (atomic_compare_exchange_weak(region, &v, v + n))
				return 0;
		} else {
			if (!region_charge(a, page, force))
				return -ENOMEM;
			if (atomic_compare_exchange_strong(region, &v, (v | REGION_CHARGED) + n))
				return 0;
			region_uncharge(a);
		}
	}
}

static void region_drop(struct arena *a, uint64_t page)
{
	_Atomic uint32_t *region = region_of(a, page);
	uint64_t first = arena_region_end(a, page) - ((uint64_t)1 << a->region_shift);
	uint64_t page_bytes = (uint64_t)1 << a->page_shift;

	madvise(arena_address(a, first), page_bytes << a->region_shift,
	        a->locked ? MADV_DONTNEED_LOCKED : MADV_DONTNEED);
	madvise(arena_word(a, first), page_bytes, MADV_DONTNEED);
	region_uncharge(a);
	atomic_store_explicit(region, 0, memory_order_release);
}

void arena_region_leave(struct arena *a, uint64_t page, uint32_t n)
{
	_Atomic uint32_t *region = region_of(a, page);
	uint32_t left = atomic_fetch_sub(region, n) - n;

	if ((left & REGION_COUNT_MASK) != 0 || !a->reclaims)
		return;

	uint32_t empty = REGION_CHARGED;
	if (atomic_compare_exchange_strong(region, &empty, REGION_CHARGED | REGION_DROPPING))
		region_drop(a, page);
}

uint32_t arena_region_count(const struct arena *a, uint64_t page)
{
	return atomic_load_explicit(region_of(a, page), memory_order_acquire) & REGION_COUNT_MASK;
}

bool arena_region_retire(struct arena *a, uint64_t page)
{
	uint64_t first = arena_region_end(a, page) - ((uint64_t)1 << a->region_shift);

	if ((atomic_exchange(region_of(a, page), 0) & REGION_CHARGED) == 0)
		return false;
	madvise(arena_word(a, first), (size_t)1 << a->page_shift, MADV_DONTNEED);
	region_uncharge(a);
	return true;
}
