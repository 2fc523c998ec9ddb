/* writer.c - objects being written: begin, append, abort.
 *
 * A small one (up to WRITER_SMALL_BYTES) stays in memory, and has units promised, not given; its place is
 * found with all others of its transaction (place.c). A larger one gets extents that grow by what it has, at
 * least 1 MiB and at most 64, and are trimmed at its commit; bytes go through a buffer, or, where a caller's are
 * aligned and many, past it.
 *
 * finish writes what is in the buffer, padded, and the last page of checksums, and leaves the writer as it was: so an
 * object whose transaction had no room can be appended to, or committed later.
 *
 * Invariants (of one that nobody has):
 *   1. len_bytes = n_flushed pages + fill; fill ≤ buffer_bytes.
 *   2. Units promised, or in extents, are enough for len_bytes and its checksums.
 *   3. sums holds those of the pages of n_flushed's group.
 * An append asks for all its space before it takes a byte; so -ENOSPC leaves everything as it was.
 */
#include "store_internal.h"

#include "checksum.h"
#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES FORMAT_UNIT_BYTES
#define LARGE_BUFFER_BYTES (256u << 10)
#define DIRECT_BYTES (64u << 10) /* from here on a caller's own memory is written */
#define MIN_GROWTH_UNITS 256u
#define MAX_GROWTH_UNITS 16384u

/* ---- life ---- */

static void buffer_free(struct writer *w)
{
	if (w->buffer != NULL)
		budget_uncharge(w->store->config.budget, BUDGET_BUFFERS, w->buffer_bytes);
	free(w->buffer);
	w->buffer = NULL;
	w->buffer_bytes = 0;
}

void writer_destroy_locked(struct writer *w)
{
	struct store *s = w->store;

	idmap_remove(&s->writers, &w->node);
	if (w->n_promised != 0)
		freemap_unpromise(&s->classes[w->class_no].space, w->n_promised);
	store_give_list_locked(s, w->class_no, &w->extents, 0);
	extents_fini(&w->extents);
	buffer_free(w);
	free(w->sums);
	free(w);
}

/* ---- space ---- */

/* What is kept for volumes is for their checkpoints as well. */
static unsigned whose_space(const struct writer *w)
{
	return w->tag == FORMAT_TAG_VOLUMES ? FREEMAP_PLEDGED : 0;
}

/* Promised units become extents, and there are n_units of them in all. */
static int grow_extents(struct writer *w, uint64_t n_units, uint64_t spare)
{
	struct store *s = w->store;
	uint64_t missing = n_units - w->extents.n_units;
	int rc;

	if (w->n_promised != 0) {
		rc = store_alloc_list(s, w->class_no, w->n_promised, FREEMAP_PROMISED, &w->extents);
		if (rc < 0)
			return rc;
		w->n_promised = 0;
		missing = n_units > w->extents.n_units ? n_units - w->extents.n_units : 0;
	}
	if (missing == 0)
		return 0;
	rc = spare > missing ? store_alloc_list(s, w->class_no, spare, whose_space(w), &w->extents) : -ENOSPC;
	return rc == -ENOSPC ? store_alloc_list(s, w->class_no, missing, whose_space(w), &w->extents) : rc;
}

/* Space for an object of len_bytes; growing: more will follow, so take some ahead. */
static int ensure_space(struct writer *w, uint64_t len_bytes, bool growing)
{
	uint64_t n_units = format_n_units(format_n_pages(len_bytes));

	if (writer_is_small(w) && len_bytes <= WRITER_SMALL_BYTES) {
		if (n_units <= w->n_promised)
			return 0;
		int rc = store_promise(w->store, w->class_no, n_units - w->n_promised, whose_space(w));
		if (rc == 0)
			w->n_promised = n_units;
		return rc;
	}
	if (w->sums == NULL)
		w->sums = calloc(FORMAT_SUMS_PER_PAGE, sizeof(w->sums[0]));
	if (w->sums == NULL)
		return -ENOMEM;
	if (w->extents.n_units >= n_units)
		return 0;
	uint64_t spare = w->extents.n_units > MIN_GROWTH_UNITS ? w->extents.n_units : MIN_GROWTH_UNITS;
	spare = spare < MAX_GROWTH_UNITS ? spare : MAX_GROWTH_UNITS;
	return grow_extents(w, n_units, growing ? spare : 0);
}

int object_begin(struct store *s, unsigned cls, uint64_t expected_bytes, unsigned page_shift, uint8_t tag,
                 uint64_t *ret_id)
{
	uint64_t id;
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	struct writer *w = calloc(1, sizeof(*w));
	if (w == NULL)
		rc = -ENOMEM;
	else if (cls >= STORE_N_CLASSES || page_shift > FORMAT_MAX_PAGE_SHIFT || expected_bytes > FORMAT_MAX_OBJECT_BYTES)
		rc = -EINVAL;
	else if (s->classes[cls].device == NULL)
		rc = -ENOENT;
	else
		rc = next_id(s, &id);
	if (rc < 0) {
		free(w);
		store_leave(s);
		return rc;
	}
	w->store = s;
	w->class_no = cls;
	w->page_shift = page_shift;
	w->tag = tag;
	w->busy = true;
	store_lock(s);
	rc = idmap_add(&s->writers, &w->node, id);
	store_unlock(s);
	if (rc < 0) {
		free(w);
		store_leave(s);
		return rc;
	}
	rc = expected_bytes != 0 ? ensure_space(w, expected_bytes, false) : 0;
	store_lock(s);
	w->busy = false;
	if (rc < 0)
		writer_destroy_locked(w);
	s->n_ops--;
	store_unlock(s);
	if (rc == 0)
		*ret_id = id;
	return rc;
}

/* ---- writing ---- */

int writer_write(struct writer *w, const void *buf, uint64_t unit, uint64_t n_units)
{
	struct device *d = w->store->classes[w->class_no].device;

	w->dirty = true;
	for (uint64_t n; n_units > 0; n_units -= n, unit += n) {
		const struct extent *e = extents_find(w->extents.extents, w->extents.n, unit);
		uint64_t skip = unit - e->logical;
		n = e->n_units - skip < n_units ? e->n_units - skip : n_units;
		int rc = device_write(d, (e->start + skip) * PAGE_BYTES, buf, n * PAGE_BYTES, false);
		if (rc < 0)
			return rc;
		buf = (const char *)buf + n * PAGE_BYTES;
	}
	return 0;
}

/* The page of checksums of the group that ends before n_pages. */
static int write_sums(struct writer *w, uint64_t n_pages)
{
	uint64_t group = (n_pages - 1) / FORMAT_SUMS_PER_PAGE;
	struct sums_le *block = aligned_alloc(PAGE_BYTES, sizeof(*block));

	if (block == NULL)
		return -ENOMEM;
	checksum_encode(w->node.id, group, w->sums, format_group_pages(n_pages, group), block);
	int rc = writer_write(w, block, format_sums_unit(n_pages, group), 1);
	free(block);
	return rc;
}

/* Whole pages, behind those that were. */
static int write_pages(struct writer *w, const void *buf, uint64_t n_pages)
{
	while (n_pages > 0) {
		uint64_t page = w->n_flushed, in_group = page % FORMAT_SUMS_PER_PAGE;
		uint64_t n = FORMAT_SUMS_PER_PAGE - in_group < n_pages ? FORMAT_SUMS_PER_PAGE - in_group : n_pages;
		for (uint64_t i = 0; i < n; i++)
			w->sums[in_group + i] = checksum_page(w->node.id, page + i, (const char *)buf + i * PAGE_BYTES);
		int rc = writer_write(w, buf, format_page_unit(page), n);
		w->n_flushed += n;
		if (rc == 0 && in_group + n == FORMAT_SUMS_PER_PAGE)
			rc = write_sums(w, w->n_flushed);
		if (rc < 0)
			return rc;
		buf = (const char *)buf + n * PAGE_BYTES;
		n_pages -= n;
	}
	return 0;
}

static int spill(struct writer *w)
{
	int rc = write_pages(w, w->buffer, w->fill / PAGE_BYTES);

	w->fill = 0;
	return rc;
}

int writer_finish(struct writer *w)
{
	uint32_t padded = (w->fill + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	uint64_t n_flushed = w->n_flushed;
	uint32_t *saved;
	int rc = 0;

	if (w->fill != 0)
		memset(w->buffer + w->fill, 0, padded - w->fill);
	if (writer_is_small(w) || w->len_bytes == 0)
		return 0;
	saved = malloc(FORMAT_SUMS_PER_PAGE * sizeof(saved[0]));
	if (saved == NULL)
		return -ENOMEM;
	memcpy(saved, w->sums, FORMAT_SUMS_PER_PAGE * sizeof(saved[0]));
	if (w->fill != 0)
		rc = write_pages(w, w->buffer, padded / PAGE_BYTES);
	if (rc == 0 && w->n_flushed == 1)
		w->sum = w->sums[0]; /* one that was expected to be larger */
	else if (rc == 0 && w->n_flushed % FORMAT_SUMS_PER_PAGE != 0)
		rc = write_sums(w, w->n_flushed);
	w->n_flushed = n_flushed;
	free(w->sums);
	w->sums = saved;
	return rc;
}

/* ---- appending ---- */

/* Room in the buffer for n more bytes, or as much as it may have. */
static int ensure_buffer(struct writer *w, uint64_t n)
{
	uint32_t most = !writer_is_small(w) ? LARGE_BUFFER_BYTES : WRITER_SMALL_BYTES;
	uint32_t bytes = w->buffer_bytes == 0 ? PAGE_BYTES : w->buffer_bytes;

	while (bytes < most && bytes - w->fill < n)
		bytes *= 4;
	if (bytes > most)
		bytes = most;
	if (bytes <= w->buffer_bytes)
		return 0;
	/* Without memory for more it goes with what there is, if that can be emptied. */
	bool enough = w->buffer_bytes > w->fill && !writer_is_small(w);
	while (!budget_try_charge(w->store->config.budget, BUDGET_BUFFERS, bytes)) {
		if (budget_reclaim(w->store->config.budget))
			continue;
		if (enough || writer_is_small(w) || bytes / 4 <= w->fill || bytes / 4 < PAGE_BYTES)
			return enough ? 0 : -ENOMEM;
		bytes /= 4;
	}
	uint8_t *buffer = aligned_alloc(PAGE_BYTES, bytes);
	if (buffer == NULL) {
		budget_uncharge(w->store->config.budget, BUDGET_BUFFERS, bytes);
		return enough ? 0 : -ENOMEM;
	}
	if (w->fill != 0)
		memcpy(buffer, w->buffer, w->fill);
	buffer_free(w);
	w->buffer = buffer;
	w->buffer_bytes = bytes;
	return 0;
}

static bool may_go_direct(const struct writer *w, const char *from, size_t n)
{
	return !writer_is_small(w) && w->fill == 0 && n >= DIRECT_BYTES && (uintptr_t)from % PAGE_BYTES == 0;
}

static int append_part(struct writer *w, const char *from, size_t n)
{
	while (n > 0) {
		size_t k;
		int rc = 0;
		if (!writer_is_small(w) && w->fill != 0 && w->fill == w->buffer_bytes)
			rc = spill(w);
		if (rc < 0)
			return rc;
		if (may_go_direct(w, from, n)) {
			k = n & ~(size_t)(PAGE_BYTES - 1);
			rc = write_pages(w, from, k / PAGE_BYTES);
		} else {
			rc = ensure_buffer(w, n);
			if (rc < 0)
				return rc;
			k = w->buffer_bytes - w->fill < n ? w->buffer_bytes - w->fill : n;
			memcpy(w->buffer + w->fill, from, k);
			w->fill += (uint32_t)k;
		}
		if (rc < 0)
			return rc;
		from += k;
		n -= k;
		w->len_bytes += k;
	}
	return 0;
}

static int append(struct writer *w, const struct iovec *iov, unsigned n)
{
	uint64_t len_bytes = w->len_bytes;

	if (w->error < 0)
		return w->error;
	for (unsigned i = 0; i < n; i++) {
		if (iov[i].iov_len > FORMAT_MAX_OBJECT_BYTES - len_bytes)
			return -EFBIG;
		len_bytes += iov[i].iov_len;
	}
	int rc = ensure_space(w, len_bytes, true);
	for (unsigned i = 0; i < n && rc == 0; i++) {
		rc = append_part(w, iov[i].iov_base, iov[i].iov_len);
		if (rc < 0)
			w->error = rc;
	}
	return rc;
}

/* The writer of an object, for the caller alone. */
static int claim(struct store *s, uint64_t id, struct writer **ret)
{
	store_lock(s);
	struct writer *w = (struct writer *)idmap_find(&s->writers, id);
	const struct index_entry *e = w == NULL ? index_find(&s->index, id) : NULL;
	int rc = w != NULL ? (w->busy ? -EBUSY : 0) : e != NULL && !e->hidden ? -EROFS : -ESTALE;
	if (rc == 0)
		w->busy = true;
	store_unlock(s);
	*ret = w;
	return rc;
}

int object_append(struct store *s, uint64_t id, const struct iovec *iov, unsigned n)
{
	struct writer *w;
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	rc = claim(s, id, &w);
	if (rc == 0) {
		rc = append(w, iov, n);
		store_lock(s);
		w->busy = false;
		store_unlock(s);
	}
	store_leave(s);
	return rc;
}

int object_abort(struct store *s, uint64_t id)
{
	struct writer *w;
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	rc = claim(s, id, &w);
	if (rc == 0) {
		store_lock(s);
		writer_destroy_locked(w);
		store_unlock(s);
	}
	store_leave(s);
	return rc;
}
