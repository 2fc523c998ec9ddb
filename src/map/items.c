/* items.c - files and blobs of a map: opening them, placing them, finding a page's bytes. */
#include "../base/fail.h"
#include "../base/feature.h"
#include "../cache/fill.h"
#include "map_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct item *map_item_at(const struct quire_map *m, uint64_t page)
{
	size_t low = 0, high = m->n_items;

	/* The last item that begins at or before page; empty ones before it share its place. */
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->items[mid].first_page <= page)
			low = mid + 1;
		else
			high = mid;
	}
	return low == 0 ? NULL : &m->items[low - 1];
}

static int map_locate(void *owner, uint64_t page, struct page_source *ret)
{
	struct quire_map *m = owner;
	struct item *it = map_item_at(m, page);

	if (it == NULL)
		return -EFAULT;
	uint64_t at = (page - it->first_page) << m->cache->page_shift;
	uint64_t len = atomic_load(&it->len_bytes);
	if (at >= len)
		return -EFAULT;
	*ret = (struct page_source){
		.file = it->file,
		.object = it->object,
		.offset = it->offset + at,
		.len_bytes = len - at,
		.fill = it->fill,
		.fill_arg = it->fill_arg,
		.item = (uint64_t)(it - m->items),
		.item_offset = at,
		.hot = atomic_load_explicit(&it->hot, memory_order_relaxed),
		.may_grow = it->append,
		.unit = it->unit,
		.mode = atomic_load_explicit(&it->stream, memory_order_relaxed),
	};
	return 0;
}

#define ERROR_BITS 12 /* of struct item's error: page offsets leave them free */

static void map_failed(void *owner, uint64_t item, uint64_t item_offset, int error)
{
	struct quire_map *m = owner;
	uint64_t mask = (1u << ERROR_BITS) - 1;

	atomic_store_explicit(&m->items[item].error, (item_offset & ~mask) | ((uint64_t)-error & mask),
	                      memory_order_relaxed);
	if (error == -EIO)
		atomic_store_explicit(&m->items[item].failed, true, memory_order_relaxed);
}

const struct range_ops map_range_ops = {.locate = map_locate, .failed = map_failed};

/* "PATH", or "blob 7 in capacity"; a blob's is put together in text. */
#define ITEM_NAME_TEXT 64
static const char *item_name(const struct item *it, char *text)
{
	if (it->object == NULL)
		return media_file_name(it->file);
	snprintf(text, ITEM_NAME_TEXT, "blob %llu in %s", (unsigned long long)object_id(it->object),
	         store_class_names[object_class(it->object)]);
	return text;
}

#define LEAST_2M_PAGES 8u /* of a budget that has them */

/* Small items come whole; of large ones, nobody knows how they will be read. */
static size_t page_bytes_by_length(uint64_t len_bytes)
{
	return len_bytes <= QUIRE_PAGE_4K || len_bytes > QUIRE_PAGE_64K ? QUIRE_PAGE_4K
	       : len_bytes <= QUIRE_PAGE_16K                            ? QUIRE_PAGE_16K
	                                                                : QUIRE_PAGE_64K;
}

/* The size of pages that was asked for, or the next smaller that can be had. */
static int item_choose_unit(struct quire_map *m, struct item *it, const struct quire_item *want, size_t index,
                            struct quire_error *err)
{
	unsigned wish = it->object != NULL ? object_page_shift(it->object) : 0;
	size_t bytes = want->page_bytes != 0 ? want->page_bytes
	               : wish != 0           ? (size_t)1 << wish
	                                     : page_bytes_by_length(atomic_load(&it->len_bytes));

	if (bytes != QUIRE_PAGE_4K && bytes != QUIRE_PAGE_16K && bytes != QUIRE_PAGE_64K && bytes != QUIRE_PAGE_2M)
		return quire_fail(err, -EINVAL, "item %zu: pages of %zu bytes: 4 KiB, 16 KiB, 64 KiB or 2 MiB", index, bytes);
	if (m->fault == QUIRE_FAULT_KERNEL || it->append)
		bytes = QUIRE_PAGE_4K;
	if (bytes == QUIRE_PAGE_2M &&
	    (it->fill != NULL || m->fault == QUIRE_FAULT_PINNED || !feature_have(FEATURE_UFFD_MOVE) ||
	     atomic_load(&it->len_bytes) < QUIRE_PAGE_2M ||
	     budget_limit(&m->cache->budget) < LEAST_2M_PAGES * (uint64_t)QUIRE_PAGE_2M))
		bytes = QUIRE_PAGE_64K;
	it->unit = bytes == QUIRE_PAGE_2M    ? UNIT_2M
	           : bytes == QUIRE_PAGE_64K ? UNIT_64K
	           : bytes == QUIRE_PAGE_16K ? UNIT_16K
	                                     : UNIT_PAGE;
	m->moves |= it->unit == UNIT_2M;
	if (it->unit != UNIT_PAGE)
		atomic_store_explicit(&m->cache->has_units, true, memory_order_relaxed);
	return 0;
}

/* The part that an item asks for, against the size of what it is of. */
static int item_check(struct quire_map *m, struct item *it, const struct quire_item *want,
                      size_t index, struct quire_error *err)
{
	uint64_t size = it->object != NULL ? object_bytes(it->object) : media_file_identity(it->file)->size_bytes;
	char text[ITEM_NAME_TEXT];
	const char *name = item_name(it, text);

	if (want->offset & (cache_page_bytes(m->cache) - 1))
		return quire_fail(err, -EINVAL, "item %zu, %s: offset %llu is not a multiple of the page size",
		                  index, name, (unsigned long long)want->offset);
	if (want->offset > size || want->len_bytes > size - want->offset)
		return quire_fail(err, -EINVAL, "item %zu, %s: the range ends behind its %llu bytes",
		                  index, name, (unsigned long long)size);

	uint64_t len = want->len_bytes != 0 ? want->len_bytes : size - want->offset;
	if (want->reserve_bytes != 0 && (!it->append || want->reserve_bytes < len))
		return quire_fail(err, -EINVAL,
		                  "item %zu, %s: a reserve is for append-only files, and covers their length",
		                  index, name);
	if (want->reserve_bytes > UINT64_MAX / 4 || want->offset > UINT64_MAX / 4)
		return quire_fail(err, -EINVAL, "item %zu, %s: no such size", index, name);
	it->offset = want->offset;
	atomic_init(&it->len_bytes, len);
	it->reserve_bytes = want->reserve_bytes > len ? want->reserve_bytes : len;
	return item_choose_unit(m, it, want, index, err);
}

static int item_open_blob(struct quire_map *m, const struct quire_item *want, size_t index, struct quire_error *err)
{
	struct item *it = &m->items[index];
	struct store *s = store_inside(want->store);
	unsigned long long id = want->blob;

	if (want->path != NULL || want->fd > 0 || want->flags != 0 || want->reserve_bytes != 0 || want->fill != NULL)
		return quire_fail(err, -EINVAL, "item %zu, blob %llu: is no file: no path, descriptor, flags, reserve, hook",
		                  index, id);
	if (store_config_of(s)->budget != &m->cache->budget)
		return quire_fail(err, -EINVAL, "item %zu, blob %llu: its store belongs to another cache", index, id);
	if (m->fault == QUIRE_FAULT_KERNEL)
		return quire_fail(err, -ENOTSUP, "item %zu, blob %llu: the kernel can't map what is to be verified", index,
		                  id);
	int rc = object_get(s, want->blob, &it->object);
	if (rc < 0)
		return quire_fail(err, rc, "item %zu, blob %llu", index, id);
	return item_check(m, it, want, index, err);
}

static int item_open(struct quire_map *m, const struct quire_item *want, size_t index,
                     struct quire_error *err)
{
	if (want->store != NULL)
		return item_open_blob(m, want, index, err);

	struct item *it = &m->items[index];
	const uint32_t known = QUIRE_ITEM_APPEND | QUIRE_ITEM_HOLD;

	if (want->flags & ~known)
		return quire_fail(err, -EINVAL, "item %zu: unknown flags %#x", index, want->flags);
	if (want->fill != NULL && m->fault == QUIRE_FAULT_KERNEL)
		return quire_fail(err, -ENOTSUP,
		                  "item %zu: pages that the kernel maps can't pass a fill hook", index);
	it->append = (want->flags & QUIRE_ITEM_APPEND) != 0;
	it->fill = want->fill;
	it->fill_arg = want->fill_arg;

	unsigned flags = (it->append ? (unsigned)MEDIA_APPEND : 0) |
	                 (want->flags & QUIRE_ITEM_HOLD ? (unsigned)MEDIA_HOLD : 0);
	struct quire_error cause = {0};
	int rc = media_file_open(m->cache->pool, want->path, want->fd, flags, &it->file, &cause);
	if (rc < 0) {
		if (err != NULL) {
			*err = cause;
			err->code = rc;
		}
		return rc;
	}
	return item_check(m, it, want, index, err);
}

/* Units are aligned as their addresses are, and no unit is of two items: done before an item and behind it. */
static void map_align(struct quire_map *m, enum unit_size size)
{
	uint64_t mask = (UINT64_C(1) << unit_shift(m->cache, size)) - 1;

	m->n_pages = (m->n_pages + mask) & ~mask;
}

int map_items_open(struct quire_map *m, const struct quire_item *items, size_t n,
                   struct quire_error *err)
{
	if (n == 0)
		return 0;
	if (items == NULL)
		return quire_fail(err, -EINVAL, "%zu items at no address", n);
	m->items = calloc(n, sizeof(*m->items));
	if (m->items == NULL)
		return quire_fail(err, -ENOMEM, "%zu items", n);
	for (size_t i = 0; i < n; i++) {
		m->n_items = i + 1;
		int rc = item_open(m, &items[i], i, err);
		if (rc < 0) {
			map_items_close(m);
			return rc;
		}
		map_align(m, m->items[i].unit);
		m->items[i].first_page = m->n_pages;
		m->n_pages += map_pages(m, m->items[i].reserve_bytes);
		map_align(m, m->items[i].unit);
		if (m->n_pages > UINT64_MAX >> 16) {
			map_items_close(m);
			return quire_fail(err, -ENOMEM, "items of more than the address space");
		}
	}
	return 0;
}

void map_items_close(struct quire_map *m)
{
	for (size_t i = 0; i < m->n_items; i++) {
		media_file_close(m->items[i].file);
		object_put(m->items[i].object);
	}
	free(m->items);
	m->items = NULL;
	m->n_items = 0;
}

int map_check_ranges(const struct quire_map *m, const struct iovec *ranges, unsigned n)
{
	uint64_t bytes = m->n_pages << m->cache->page_shift;

	if (cache_is_of_parent(m->cache))
		return -ECHILD;
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = (uintptr_t)ranges[i].iov_base - (uintptr_t)m->base;

		if (at > bytes || ranges[i].iov_len > bytes - at)
			return -EFAULT;
	}
	return 0;
}

int quire_map_item(const struct quire_map *m, size_t index, const void **ret_ptr, size_t *ret_len)
{
	if (index >= m->n_items)
		return -EINVAL;
	const struct item *it = &m->items[index];
	*ret_ptr = m->base + (it->first_page << m->cache->page_shift);
	*ret_len = atomic_load(&it->len_bytes);
	return 0;
}

size_t quire_map_item_page_bytes(const struct quire_map *m, size_t index)
{
	if (index >= m->n_items)
		return 0;
	return (size_t)cache_page_bytes(m->cache) << unit_shift(m->cache, (enum unit_size)m->items[index].unit);
}

int quire_map_item_state(struct quire_map *m, size_t index)
{
	if (index >= m->n_items)
		return -EINVAL;
	struct item *it = &m->items[index];
	int look = it->object != NULL ? 0 : media_file_look(it->file, NULL), state = 0;

	if (look < 0)
		return look;
	if (it->fill != NULL || it->object != NULL)
		state |= QUIRE_ITEM_VERIFIED;
	if (look & MEDIA_REPLACED)
		state |= QUIRE_ITEM_REPLACED;
	if (look & MEDIA_TRUNCATED)
		state |= QUIRE_ITEM_TRUNCATED;
	if ((look & MEDIA_CHANGED) || ((look & MEDIA_GREW) && !it->append))
		state |= QUIRE_ITEM_CHANGED;
	if (atomic_load_explicit(&it->failed, memory_order_relaxed))
		state |= QUIRE_ITEM_FAILED;
	return state;
}

int quire_map_item_error(const struct quire_map *m, size_t index, struct quire_error *ret_err)
{
	if (index >= m->n_items)
		return -EINVAL;
	uint64_t error = atomic_load_explicit(&m->items[index].error, memory_order_relaxed);
	uint64_t mask = (1u << ERROR_BITS) - 1;
	char text[ITEM_NAME_TEXT];

	*ret_err = (struct quire_error){0};
	if (error != 0)
		quire_fail(ret_err, -(int)(error & mask), "item %zu, %s, at %llu", index, item_name(&m->items[index], text),
		           (unsigned long long)(error & ~mask));
	return 0;
}

/* Who touched pages behind the end got SIGBUS, and would go on getting it. */
static void item_unpoison(struct quire_map *m, struct item *it, uint64_t old_len, uint64_t len)
{
	uint64_t from = map_pages(m, old_len), n = map_pages(m, len) - from;

	if (m->range == NULL)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	fault_unpoison(m->range, m->range->first_page + it->first_page + from, n);
}

/* Sets the length. The page that the item ended in, old bytes and zeroes, must come anew. */
static int item_lengthen(struct quire_map *m, struct item *it, uint64_t old_len, uint64_t len)
{
	struct range *r = m->range;
	uint64_t page = r->first_page + it->first_page + (old_len >> m->cache->page_shift);
	int rc = 0;

	do {
		pthread_mutex_lock(&r->grow_lock);
		atomic_store(&it->len_bytes, len);
		if (old_len % cache_page_bytes(m->cache) != 0)
			rc = fill_outdate(r, page);
		if (rc < 0)
			atomic_store(&it->len_bytes, old_len);
		pthread_mutex_unlock(&r->grow_lock);
	} while (rc == -EAGAIN && sched_yield() == 0);
	return rc;
}

static int item_extend(struct quire_map *m, struct item *it, size_t *ret_len)
{
	uint64_t size, old_len = atomic_load(&it->len_bytes);
	int rc = media_file_extend(it->file, &size);

	if (rc < 0)
		return rc;
	uint64_t len = size > it->offset ? size - it->offset : 0, fits = len;
	if (fits > it->reserve_bytes)
		fits = it->reserve_bytes;
	if (fits > old_len) {
		if (m->range == NULL)
			atomic_store(&it->len_bytes, fits); /* the reserve is mapped, the kernel follows the file */
		else
			rc = item_lengthen(m, it, old_len, fits);
		if (rc < 0)
			return rc;
		item_unpoison(m, it, old_len, fits);
	}
	*ret_len = atomic_load(&it->len_bytes);
	return fits < len ? -ENOSPC : 0;
}

int quire_map_extend(struct quire_map *m, size_t index, size_t *ret_len)
{
	if (cache_is_of_parent(m->cache))
		return -ECHILD;
	if (index >= m->n_items || !m->items[index].append)
		return -EINVAL;
	pthread_mutex_lock(&m->lock);
	int rc = item_extend(m, &m->items[index], ret_len);
	pthread_mutex_unlock(&m->lock);
	return rc;
}
