/* direct.c - objects where they lie: a pointer into the device's mapping, and a check of what is there, on the caller's thread.
 *
 * The sums are taken from the cache of tables if they are there, else from where they lie, too: a page of them is held
 * against its own sum each time, which costs as much as a page of the object, and no memory.
 */
#include "store_internal.h"

#include "checksum.h"

#include <errno.h>

#define SUMS_AT_ONCE 64u

/* Units [unit, unit + n) of the object, if they are one piece of a mapped device. */
static const void *units(const struct object *o, uint64_t unit, uint64_t n)
{
	const struct extent *e = extents_find(o->extents, o->n_extents, unit);
	uint64_t in_extent = unit - e->logical;

	if (n > e->n_units - in_extent)
		return NULL;
	return device_borrow(o->store->classes[o->class_no].device, (e->start + in_extent) * FORMAT_UNIT_BYTES,
	                     n * FORMAT_UNIT_BYTES);
}

bool object_is_mapped(const struct object *o)
{
	return o->store->classes[o->class_no].device->medium == DEVICE_MEDIUM_PMEM;
}

const void *object_borrow(const struct object *o, uint64_t offset, uint32_t len_bytes)
{
	uint64_t first = offset / FORMAT_UNIT_BYTES, n = format_n_pages(len_bytes);

	if (offset % FORMAT_UNIT_BYTES != 0 || n == 0 || first >= o->n_pages || n > o->n_pages - first)
		return NULL;
	uint64_t unit = object_page_unit(o, first);
	/* Checksums may lie between pages. */
	if (object_page_unit(o, first + n - 1) - unit != n - 1)
		return NULL;
	return units(o, unit, n);
}

/* Of n pages of one group. */
static int find_sums(const struct object *o, uint64_t page, uint32_t n, uint32_t *ret_sums)
{
	uint64_t group = page / FORMAT_SUMS_PER_PAGE;
	uint32_t first = (uint32_t)(page % FORMAT_SUMS_PER_PAGE);

	if (o->n_pages == 1) {
		ret_sums[0] = o->sum;
		return 0;
	}
	if (table_try_copy(&o->store->tables, o->node.id, group, first, n, ret_sums))
		return 0;
	const struct sums_le *block = units(o, object_sums_unit(o, group), 1);
	return block == NULL ? -EAGAIN : checksum_pick(o->node.id, group, block, first, n, ret_sums);
}

static int wrong(const struct object *o, uint64_t page, uint64_t *ret_bad_offset)
{
	atomic_fetch_add_explicit(&o->store->n_checksum_errors, 1, memory_order_relaxed);
	*ret_bad_offset = page * FORMAT_UNIT_BYTES;
	return -EBADMSG;
}

int object_verify(const struct object *o, uint64_t offset, uint32_t len_bytes, const void *bytes,
                  uint64_t *ret_bad_offset)
{
	uint64_t page = offset / FORMAT_UNIT_BYTES, end = page + format_n_pages(len_bytes);
	uint32_t sums[SUMS_AT_ONCE];
	const char *at = bytes;

	if (offset % FORMAT_UNIT_BYTES != 0 || end > o->n_pages)
		return -EINVAL;
	while (page < end) {
		uint64_t in_group = FORMAT_SUMS_PER_PAGE - page % FORMAT_SUMS_PER_PAGE;
		uint64_t n = end - page < SUMS_AT_ONCE ? end - page : SUMS_AT_ONCE;
		n = n < in_group ? n : in_group;
		int rc = find_sums(o, page, (uint32_t)n, sums);
		if (rc < 0)
			return rc == -EBADMSG ? wrong(o, page, ret_bad_offset) : rc;
		for (uint64_t i = 0; i < n; i++, at += FORMAT_UNIT_BYTES)
			if (checksum_page_then(o->node.id, page + i, at, page + i + 1 < end ? at + FORMAT_UNIT_BYTES : NULL) != sums[i])
				return wrong(o, page + i, ret_bad_offset);
		page += n;
	}
	return 0;
}
