/* ask.c - asking for pages, giving them back, and telling the cache what they are worth. */
#include "../cache/fill.h"
#include "map_internal.h"

#include <errno.h>

static uint64_t ranges_pages(const struct quire_map *m, const struct iovec *ranges, unsigned n)
{
	uint64_t n_pages = 0;

	for (unsigned i = 0; i < n; i++)
		n_pages += want_end_page(m->range, &ranges[i]) - want_first_page(m->range, &ranges[i]);
	return n_pages;
}

int quire_map_want(struct quire_map *m, const struct iovec *ranges, unsigned n, unsigned flags,
                   struct quire_op *op)
{
	if ((flags & ~(unsigned)QUIRE_WANT_PIN) != 0 || (n > 0 && ranges == NULL))
		return -EINVAL;
	int rc = map_check_ranges(m, ranges, n);
	if (rc < 0)
		return rc;
	if (m->range == NULL)
		return kernel_map_want(m, ranges, n, op);
	/* Refused before a byte is read, where it is plain that it can't fit. */
	if ((flags & QUIRE_WANT_PIN) && ranges_pages(m, ranges, n) << m->cache->page_shift >
	                                        evict_pin_limit(m->cache))
		return -ENOMEM;
	return want_submit(m->range, ranges, n, flags, op);
}

int quire_map_unwant(struct quire_map *m, const struct iovec *ranges, unsigned n)
{
	int rc = map_check_ranges(m, ranges, n);

	if (rc < 0 || m->range == NULL || n == 0)
		return rc;
	for (unsigned i = 0; i < n; i++) {
		uint64_t end = want_end_page(m->range, &ranges[i]);

		for (uint64_t p = want_first_page(m->range, &ranges[i]); p < end; p++) {
			uint32_t w = page_load(range_word(m->range, p));

			if (page_state(w) != PAGE_RESIDENT || page_value(w) == 0)
				return -EINVAL;
		}
	}
	/* Ranges that overlap may still ask for more than there is. */
	uint64_t end = want_end_page(m->range, &ranges[n - 1]);
	return want_unpin(m->range, ranges, n - 1, end) ? 0 : -EINVAL;
}

bool quire_map_resident(const struct quire_map *m, const void *addr, size_t len_bytes)
{
	struct iovec v = {(void *)(uintptr_t)addr, len_bytes};

	if (map_check_ranges(m, &v, 1) < 0)
		return false;
	if (len_bytes == 0)
		return true;
	if (m->range == NULL) {
		uint64_t shift = m->cache->page_shift, first = (uintptr_t)addr >> shift;

		return kernel_map_resident(m, addr, len_bytes) ==
		       (((uintptr_t)addr + len_bytes - 1) >> shift) - first + 1;
	}
	uint64_t end = want_end_page(m->range, &v);
	for (uint64_t p = want_first_page(m->range, &v); p < end; p++)
		if ((page_load(range_word(m->range, p)) & QUIRE_RESIDENT) == 0)
			return false;
	return true;
}

int64_t quire_map_purge(struct quire_map *m, const void *addr, size_t len_bytes)
{
	struct iovec v = {(void *)(uintptr_t)addr, len_bytes};
	int rc = map_check_ranges(m, &v, 1);

	if (rc < 0 || len_bytes == 0)
		return rc;
	if (m->range == NULL)
		return kernel_map_purge(m, addr, len_bytes);

	uint64_t first = want_first_page(m->range, &v);
	uint64_t n = want_end_page(m->range, &v) - first;
	int64_t n_dropped = (int64_t)evict_range(m->range, first, n);
	fill_drop_copies(m->range, first, n);
	return n_dropped;
}

/* ---- advice ---- */

static void item_mark_hot(struct quire_map *m, struct item *it, bool hot)
{
	uint64_t first = m->range->first_page + it->first_page;
	uint64_t end = first + map_pages(m, atomic_load(&it->len_bytes));

	atomic_store_explicit(&it->hot, hot, memory_order_relaxed);
	for (uint64_t p = first; p < end;) {
		if (arena_region_count(m->range->arena, p) == 0) {
			p = arena_region_end(m->range->arena, p);
			continue;
		}
		page_word *word = range_word(m->range, p++);
		uint32_t w = page_load(word);
		while (page_state(w) == PAGE_RESIDENT && ((w & PAGE_HOT) != 0) != hot &&
		       !page_cas(word, &w, w ^ PAGE_HOT))
			;
	}
}

static int item_advise(struct quire_map *m, struct item *it, enum quire_advice advice)
{
	uint64_t len = atomic_load(&it->len_bytes);
	struct iovec pinned = {m->base + (it->first_page << m->cache->page_shift),
	                       it->advice_pinned_bytes};

	if (m->range == NULL || len == 0)
		return 0; /* the kernel has no such notions, and nothing has no pages */
	if (advice != QUIRE_ADVISE_PINNED && it->advice_pinned_bytes > 0) {
		quire_map_unwant(m, &pinned, 1);
		it->advice_pinned_bytes = 0;
	}
	item_mark_hot(m, it, advice == QUIRE_ADVISE_HOT);

	uint64_t first = m->range->first_page + it->first_page, n = map_pages(m, len);
	evict_forget_cold(m->range, first, n);
	if (advice != QUIRE_ADVISE_COLD)
		return 0;
	fill_drop_copies(m->range, first, n);
	return evict_cold(m->range, first, n);
}

int quire_map_stream(struct quire_map *m, size_t index, enum quire_stream mode)
{
	if (index >= m->n_items || mode < QUIRE_STREAM_DETECT || mode > QUIRE_STREAM_RANDOM)
		return -EINVAL;
	struct item *it = &m->items[index];

	if (m->fault == QUIRE_FAULT_KERNEL)
		kernel_map_stream(m, it, mode);
	if (m->range == NULL)
		return 0;
	atomic_store_explicit(&it->stream, (uint8_t)mode, memory_order_relaxed);
	if (mode == QUIRE_STREAM_SEQUENTIAL)
		atomic_store_explicit(&m->range->streams.advised, true, memory_order_relaxed);
	stream_forget(&m->range->streams, m->range->first_page + it->first_page, map_pages(m, it->reserve_bytes));
	return 0;
}

int quire_map_advise(struct quire_map *m, size_t index, enum quire_advice advice)
{
	if (cache_is_of_parent(m->cache))
		return -ECHILD;
	if (index >= m->n_items || advice < QUIRE_ADVISE_WARM || advice > QUIRE_ADVISE_PINNED)
		return -EINVAL;
	struct item *it = &m->items[index];
	uint64_t from = 0, to = 0;

	pthread_mutex_lock(&m->lock);
	int rc = it->advice_pinning ? -EBUSY : item_advise(m, it, advice);
	if (rc == 0 && advice == QUIRE_ADVISE_PINNED) {
		from = map_pages(m, it->advice_pinned_bytes) << m->cache->page_shift;
		to = atomic_load(&it->len_bytes);
		it->advice_pinning = to > from;
	}
	pthread_mutex_unlock(&m->lock);
	if (to <= from)
		return rc;

	/* Waits for I/O, so without the lock. Of an item that was pinned before, what it grew by. */
	struct iovec v = {m->base + (it->first_page << m->cache->page_shift) + from, to - from};
	rc = quire_map_want(m, &v, 1, QUIRE_WANT_PIN, NULL);
	pthread_mutex_lock(&m->lock);
	it->advice_pinning = false;
	if (rc == 0)
		it->advice_pinned_bytes = to;
	pthread_mutex_unlock(&m->lock);
	return rc;
}
