/* place.c - the small objects of a transaction get their place together, and are written with few writes.
 *
 * They are packed into runs of up to 1 MiB, each whole in one run, data first, then its page of checksums if
 * it has more than a page; each run is one write. Where space is in pieces smaller than an object, it gets several.
 */
#include "store_internal.h"

#include "checksum.h"
#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES FORMAT_UNIT_BYTES
#define RUN_UNITS 256u
#define ZONE_UNITS 4u /* more than these gain little */

struct placing {
	struct store *store;
	unsigned class_no;
	struct writer **writers; /* small ones, with something in them */
	unsigned n, next;
	bool durable;
	uint8_t *buf;            /* owned; device memory; of buf_units */
	uint64_t buf_units;
};

static uint64_t units_of(const struct writer *w)
{
	return format_n_units(format_n_pages(w->len_bytes));
}

/* Its bytes as they will be on the medium. */
static void encode(struct writer *w, uint8_t *to)
{
	uint64_t n_pages = format_n_pages(w->len_bytes);
	uint32_t sums[WRITER_SMALL_BYTES / PAGE_BYTES];

	if (to != w->buffer)
		memcpy(to, w->buffer, n_pages * PAGE_BYTES);
	for (uint64_t i = 0; i < n_pages; i++)
		sums[i] = checksum_page(w->node.id, i, w->buffer + i * PAGE_BYTES);
	if (n_pages == 1)
		w->sum = sums[0];
	else
		checksum_encode(w->node.id, 0, sums, (uint32_t)n_pages, (struct sums_le *)(to + n_pages * PAGE_BYTES));
}

static int own_place(struct writer *w, uint64_t start, uint64_t n_units)
{
	int rc = extents_add(&w->extents, start, n_units);

	if (rc < 0)
		return rc;
	w->n_promised -= n_units;
	w->placed = true;
	return 0;
}

void place_undo_locked(struct writer *w)
{
	if (!w->placed)
		return;
	w->n_promised += w->extents.n_units;
	w->store->classes[w->class_no].space.n_promised += w->extents.n_units;
	store_give_list_locked(w->store, w->class_no, &w->extents, 0);
	w->placed = false;
}

/* Space that was got out of what was promised goes back to that. */
static void return_run(struct placing *p, uint64_t start, uint64_t n)
{
	if (n == 0)
		return;
	store_lock(p->store);
	store_give_locked(p->store, p->class_no, start, n);
	p->store->classes[p->class_no].space.n_promised += n;
	store_unlock(p->store);
}

/* One that no run holds whole: `n` units at `start` are its first. */
static int place_in_pieces(struct placing *p, uint64_t start, uint64_t n)
{
	struct writer *w = p->writers[p->next++];
	int rc = own_place(w, start, n);

	if (rc < 0) {
		return_run(p, start, n);
		return rc;
	}
	uint64_t missing = units_of(w) - n;
	rc = store_alloc_list(p->store, p->class_no, missing, FREEMAP_PROMISED, &w->extents);
	if (rc < 0)
		return rc;
	w->n_promised -= missing;
	encode(w, p->buf);
	return writer_write(w, p->buf, 0, units_of(w));
}

static int write_run(struct placing *p, uint64_t start, uint64_t n, unsigned first)
{
	const uint8_t *from = p->buf;
	bool durable = p->durable && first == 0 && p->next == p->n;

	if (n == 1)
		from = p->writers[first]->buffer;
	for (unsigned i = first; i < p->next; i++)
		p->writers[i]->dirty = !durable;
	return device_write(p->store->classes[p->class_no].device, start * PAGE_BYTES, from, n * PAGE_BYTES, durable);
}

/* As many objects as fit into a run. */
static int place_run(struct placing *p, uint64_t start, uint64_t n)
{
	unsigned first = p->next;
	uint64_t used = 0;

	if (units_of(p->writers[p->next]) > n)
		return place_in_pieces(p, start, n);
	for (; p->next < p->n && used + units_of(p->writers[p->next]) <= n; p->next++) {
		struct writer *w = p->writers[p->next];
		int rc = own_place(w, start + used, units_of(w));
		if (rc < 0) {
			return_run(p, start + used, n - used);
			return rc;
		}
		encode(w, n == 1 ? w->buffer : p->buf + used * PAGE_BYTES);
		used += units_of(w);
	}
	return_run(p, start + used, n - used);
	return write_run(p, start, used, first);
}

/* A few units that are all to be written durably come from the zone. */
static int get_run(struct placing *p, uint64_t want, uint64_t *ret_start, uint64_t *ret_n)
{
	*ret_n = want;
	if (p->durable && p->buf_units <= ZONE_UNITS && zone_alloc(p->store, p->class_no, want, ret_start) == 0)
		return 0;
	return store_alloc(p->store, p->class_no, want, 1, FREEMAP_PROMISED, ret_start, ret_n);
}

static int place_all(struct placing *p, uint64_t n_units)
{
	uint64_t start, n;

	p->buf_units = n_units < RUN_UNITS ? n_units : RUN_UNITS;
	p->buf = aligned_alloc(PAGE_BYTES, p->buf_units * PAGE_BYTES);
	if (p->buf == NULL)
		return -ENOMEM;
	while (p->next < p->n) {
		uint64_t left = 0;
		for (unsigned i = p->next; i < p->n && left < RUN_UNITS; i++)
			left += units_of(p->writers[i]);
		left = left < RUN_UNITS ? left : RUN_UNITS;
		int rc = get_run(p, left, &start, &n);
		if (rc == 0)
			rc = place_run(p, start, n);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int place_small(struct store *s, unsigned class_no, struct writer **writers, unsigned n, bool durable)
{
	struct placing p = {.store = s, .class_no = class_no, .durable = durable};
	uint64_t n_units = 0;

	p.writers = malloc((n + 1) * sizeof(p.writers[0]));
	if (p.writers == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		struct writer *w = writers[i];
		if (w->class_no != class_no || !writer_is_small(w) || w->len_bytes == 0)
			continue;
		p.writers[p.n++] = w;
		n_units += units_of(w);
	}
	int rc = p.n == 0 ? 0 : place_all(&p, n_units);
	free(p.buf);
	free(p.writers);
	return rc;
}
