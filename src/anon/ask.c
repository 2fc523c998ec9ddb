/* ask.c - asking for pages of a region, giving them back, and telling the cache what they are worth. */
#include "anon_internal.h"

#include <errno.h>

/* 0, or -EFAULT if one of the ranges is not inside the region. */
static int anon_check_ranges(const struct quire_anon *a, const struct iovec *ranges, unsigned n)
{
	uint64_t bytes = a->n_pages << a->cache->page_shift;

	if (cache_is_of_parent(a->cache))
		return -ECHILD;
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = (uintptr_t)ranges[i].iov_base - (uintptr_t)anon_base(a);

		if (at > bytes || ranges[i].iov_len > bytes - at)
			return -EFAULT;
	}
	return 0;
}

static uint64_t ranges_pages(const struct quire_anon *a, const struct iovec *ranges, unsigned n)
{
	uint64_t n_pages = 0;

	for (unsigned i = 0; i < n; i++)
		n_pages += want_end_page(a->range, &ranges[i]) - want_first_page(a->range, &ranges[i]);
	return n_pages;
}

int quire_anon_want(struct quire_anon *a, const struct iovec *ranges, unsigned n, unsigned flags, struct quire_op *op)
{
	if ((flags & ~(QUIRE_ANON_PIN | QUIRE_ANON_WRITE)) != 0 || (n > 0 && ranges == NULL))
		return -EINVAL;
	int rc = anon_check_ranges(a, ranges, n);
	if (rc < 0)
		return rc;
	/* Refused before a page comes, where it is plain that it can't fit. */
	if ((flags & QUIRE_ANON_PIN) && ranges_pages(a, ranges, n) << a->cache->page_shift > evict_pin_limit(a->cache))
		return -ENOMEM;
	return want_submit(a->range, ranges, n, flags, op);
}

int quire_anon_unwant(struct quire_anon *a, const struct iovec *ranges, unsigned n)
{
	int rc = anon_check_ranges(a, ranges, n);

	if (rc < 0 || n == 0)
		return rc;
	for (unsigned i = 0; i < n; i++) {
		uint64_t end = want_end_page(a->range, &ranges[i]);

		for (uint64_t p = want_first_page(a->range, &ranges[i]); p < end; p++) {
			uint32_t w = page_load(range_word(a->range, p));

			if (page_state(w) != PAGE_RESIDENT || page_value(w) == 0)
				return -EINVAL;
		}
	}
	return want_unpin(a->range, ranges, n - 1, want_end_page(a->range, &ranges[n - 1])) ? 0 : -EINVAL;
}

bool quire_anon_resident(const struct quire_anon *a, const void *addr, size_t len_bytes)
{
	struct iovec v = {(void *)(uintptr_t)addr, len_bytes};

	if (anon_check_ranges(a, &v, 1) < 0)
		return false;
	for (uint64_t p = want_first_page(a->range, &v); p < want_end_page(a->range, &v); p++)
		if ((page_load(range_word(a->range, p)) & QUIRE_RESIDENT) == 0)
			return false;
	return true;
}

/* ---- advice ---- */

static void mark_hot(struct range *r, uint64_t first, uint64_t end, bool hot)
{
	for (uint64_t p = first; p < end;) {
		if (arena_region_count(r->arena, p) == 0) {
			p = arena_region_end(r->arena, p);
			continue;
		}
		page_word *word = range_word(r, p++);
		uint32_t w = page_load(word);
		while (page_state(w) == PAGE_RESIDENT && ((w & PAGE_HOT) != 0) != hot && !page_cas(word, &w, w ^ PAGE_HOT))
			;
	}
}

static int discard(struct quire_anon *a, const void *addr, size_t len_bytes)
{
	struct range *r = a->range;
	uint64_t mask = cache_page_bytes(a->cache) - 1;
	uint64_t first = ((uintptr_t)addr + mask) >> a->cache->page_shift;
	uint64_t end = ((uintptr_t)addr + len_bytes) >> a->cache->page_shift;

	if (end <= first)
		return 0;
	if (!range_get(r))
		return -ECANCELED;
	uint64_t n_pinned = anon_discard(r, first, end - first);
	range_put(r);
	fillers_feed(a->cache);
	return n_pinned > 0 ? -EBUSY : 0;
}

int quire_anon_advise(struct quire_anon *a, const void *addr, size_t len_bytes, enum quire_anon_advice advice)
{
	struct iovec v = {(void *)(uintptr_t)addr, len_bytes};
	int rc = anon_check_ranges(a, &v, 1);

	if (advice < QUIRE_ANON_WARM || advice > QUIRE_ANON_DISCARD)
		return -EINVAL;
	if (rc < 0 || len_bytes == 0)
		return rc;
	if (advice == QUIRE_ANON_DISCARD)
		return discard(a, addr, len_bytes);

	uint64_t first = want_first_page(a->range, &v), end = want_end_page(a->range, &v);
	if (advice == QUIRE_ANON_AWAY) {
		evict_range(a->range, first, end - first);
		return 0;
	}
	mark_hot(a->range, first, end, advice == QUIRE_ANON_HOT);
	evict_forget_cold(a->range, first, end - first);
	return advice == QUIRE_ANON_COLD ? evict_cold(a->range, first, end - first) : 0;
}
