/* map_delta.c - see map_delta.h. A list of chunks, each a sorted array: what a change moves is a chunk at most, and now and then
 * the list.
 *
 *   1. Extents ascend by (tree, lba) through all chunks, and those of a tree do not overlap.
 *   2. No chunk is empty; n_extents is the sum of their numbers.
 */
#include "map_delta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_ENTRIES 126u

struct entry {
	uint64_t lba, place, birth;
	uint32_t tree, n;
};

struct map_delta_chunk {
	uint32_t n;
	struct entry entries[CHUNK_ENTRIES];
};

/* Where an entry is, or would be: in a chunk that is there, at most behind its last. */
struct position {
	size_t chunk;
	uint32_t at;
};

void map_delta_fini(struct map_delta *d)
{
	for (size_t i = 0; i < d->n_chunks; i++)
		free(d->chunks[i]);
	for (unsigned i = 0; i < 3; i++)
		free(d->spare[i]);
	free(d->chunks);
	*d = (struct map_delta){0};
}

uint64_t map_delta_bytes(const struct map_delta *d)
{
	return d->n_chunks * sizeof(struct map_delta_chunk) + d->capacity * sizeof(d->chunks[0]);
}

/* ---- finding ---- */

static bool is_before(const struct entry *e, uint32_t tree, uint64_t lba)
{
	return e->tree < tree || (e->tree == tree && e->lba + e->n <= lba);
}

/* The first that ends above (tree, lba). */
static struct position seek(const struct map_delta *d, uint32_t tree, uint64_t lba)
{
	size_t low = 0, high = d->n_chunks;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct map_delta_chunk *c = d->chunks[mid];
		if (is_before(&c->entries[c->n - 1], tree, lba))
			low = mid + 1;
		else
			high = mid;
	}
	struct position p = {.chunk = low};
	if (low == d->n_chunks)
		return p;
	uint32_t a = 0, b = d->chunks[low]->n;
	while (a < b) {
		uint32_t mid = a + (b - a) / 2;
		if (is_before(&d->chunks[low]->entries[mid], tree, lba))
			a = mid + 1;
		else
			b = mid;
	}
	p.at = a;
	return p;
}

static struct entry *entry_at(const struct map_delta *d, struct position p)
{
	return p.chunk < d->n_chunks && p.at < d->chunks[p.chunk]->n ? &d->chunks[p.chunk]->entries[p.at] : NULL;
}

static struct map_extent extent_of(const struct entry *e)
{
	return (struct map_extent){e->lba, e->n, e->place, e->birth};
}

bool map_delta_find(const struct map_delta *d, uint32_t tree, uint64_t lba, struct map_extent *ret)
{
	const struct entry *e = entry_at(d, seek(d, tree, lba));

	if (e == NULL || e->tree != tree)
		return false;
	*ret = extent_of(e);
	return true;
}

/* ---- changing ---- */

static void remove_chunk(struct map_delta *d, size_t at)
{
	free(d->chunks[at]);
	memmove(d->chunks + at, d->chunks + at + 1, (--d->n_chunks - at) * sizeof(d->chunks[0]));
}

static void remove_at(struct map_delta *d, struct position p)
{
	struct map_delta_chunk *c = d->chunks[p.chunk];

	memmove(c->entries + p.at, c->entries + p.at + 1, (--c->n - p.at) * sizeof(c->entries[0]));
	d->n_extents--;
	if (c->n == 0)
		remove_chunk(d, p.chunk);
}

static struct map_delta_chunk *take_spare(struct map_delta *d)
{
	for (unsigned i = 0; i < 3; i++) {
		struct map_delta_chunk *c = d->spare[i];
		if (c != NULL) {
			d->spare[i] = NULL;
			c->n = 0;
			return c;
		}
	}
	return NULL;
}

static void insert_chunk(struct map_delta *d, size_t at)
{
	memmove(d->chunks + at + 1, d->chunks + at, (d->n_chunks++ - at) * sizeof(d->chunks[0]));
	d->chunks[at] = take_spare(d);
}

/* There is a place before p.at in the chunk, or behind the last of the one before. */
static void insert_at(struct map_delta *d, struct position p, const struct entry *e)
{
	if (d->n_chunks == 0)
		insert_chunk(d, 0);
	if (p.chunk == d->n_chunks)
		p = (struct position){d->n_chunks - 1, d->chunks[d->n_chunks - 1]->n};
	struct map_delta_chunk *c = d->chunks[p.chunk];
	if (c->n == CHUNK_ENTRIES) {
		/* At the very end: a new chunk, so that what comes in order fills chunks. */
		uint32_t keep = p.at == CHUNK_ENTRIES ? CHUNK_ENTRIES : CHUNK_ENTRIES / 2;
		insert_chunk(d, p.chunk + 1);
		struct map_delta_chunk *right = d->chunks[p.chunk + 1];
		right->n = CHUNK_ENTRIES - keep;
		memcpy(right->entries, c->entries + keep, right->n * sizeof(c->entries[0]));
		c->n = keep;
		if (p.at >= keep) {
			p.at -= keep;
			c = right;
		}
	}
	memmove(c->entries + p.at + 1, c->entries + p.at, (c->n - p.at) * sizeof(c->entries[0]));
	c->entries[p.at] = *e;
	c->n++;
	d->n_extents++;
}

/* Two splits at most: of what is left of an extent behind the new one, and of the new one. */
static int reserve(struct map_delta *d)
{
	if (d->n_chunks + 3 > d->capacity) {
		size_t capacity = 2 * d->capacity + 8;
		struct map_delta_chunk **grown = reallocarray(d->chunks, capacity, sizeof(grown[0]));
		if (grown == NULL)
			return -ENOMEM;
		d->chunks = grown;
		d->capacity = capacity;
	}
	for (unsigned i = 0; i < 3; i++) {
		if (d->spare[i] == NULL)
			d->spare[i] = malloc(sizeof(*d->spare[i]));
		if (d->spare[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static void tell_dead(const struct map_extent *e, map_dead_fn dead, void *arg)
{
	if (dead != NULL && e->place != MAP_HOLE)
		dead(arg, e->place, e->n);
}

/* Takes [from, end) out of what there is. */
static void clear(struct map_delta *d, uint32_t tree, uint64_t from, uint64_t end, map_dead_fn dead, void *arg)
{
	for (;;) {
		struct position p = seek(d, tree, from);
		struct entry *e = entry_at(d, p);
		if (e == NULL || e->tree != tree || e->lba >= end)
			return;
		struct map_extent whole = extent_of(e), out = map_cut(&whole, from, end);
		struct map_extent right = map_cut(&whole, map_end(&out), map_end(&whole));
		tell_dead(&out, dead, arg);
		if (whole.lba < from) {
			e->n = (uint32_t)(from - whole.lba);
			p.at++;
		} else {
			remove_at(d, p);
		}
		if (map_end(&whole) > end) {
			struct entry rest = {right.lba, right.place, right.birth, tree, (uint32_t)right.n};
			insert_at(d, whole.lba < from ? p : seek(d, tree, end), &rest);
			return;
		}
	}
}

/* The one before p, if there is one. */
static struct entry *entry_before(const struct map_delta *d, struct position p)
{
	if (p.at > 0 && p.chunk < d->n_chunks)
		return &d->chunks[p.chunk]->entries[p.at - 1];
	return p.chunk > 0 ? &d->chunks[p.chunk - 1]->entries[d->chunks[p.chunk - 1]->n - 1] : NULL;
}

static bool join(struct entry *left, uint32_t tree, const struct map_extent *e)
{
	if (left == NULL || left->tree != tree || left->n + e->n > MAP_DELTA_MAX_N)
		return false;
	struct map_extent l = extent_of(left);
	if (!map_continues(&l, e))
		return false;
	left->n += (uint32_t)e->n;
	return true;
}

int map_delta_set(struct map_delta *d, uint32_t tree, const struct map_extent *e, map_dead_fn dead, void *arg)
{
	int rc = reserve(d);

	if (rc < 0)
		return rc;
	clear(d, tree, e->lba, map_end(e), dead, arg);
	struct position p = seek(d, tree, e->lba);
	if (join(entry_before(d, p), tree, e))
		return 0;
	struct entry new = {e->lba, e->place, e->birth, tree, (uint32_t)e->n};
	insert_at(d, p, &new);
	return 0;
}

bool map_delta_first(const struct map_delta *d, uint32_t *ret_tree, struct map_extent *ret)
{
	if (d->n_chunks == 0)
		return false;
	*ret_tree = d->chunks[0]->entries[0].tree;
	*ret = extent_of(&d->chunks[0]->entries[0]);
	return true;
}

void map_delta_drop_first(struct map_delta *d)
{
	remove_at(d, (struct position){0});
}

void map_delta_each(const struct map_delta *d, map_delta_fn fn, void *arg)
{
	for (size_t i = 0; i < d->n_chunks; i++)
		for (uint32_t k = 0; k < d->chunks[i]->n; k++) {
			struct map_extent e = extent_of(&d->chunks[i]->entries[k]);
			fn(arg, d->chunks[i]->entries[k].tree, &e);
		}
}

bool map_delta_check(const struct map_delta *d)
{
	const struct entry *last = NULL;
	uint64_t n = 0;

	for (size_t i = 0; i < d->n_chunks; i++) {
		if (d->chunks[i]->n == 0 || d->chunks[i]->n > CHUNK_ENTRIES)
			return false;
		for (uint32_t k = 0; k < d->chunks[i]->n; k++, n++) {
			const struct entry *e = &d->chunks[i]->entries[k];
			bool ascends = last == NULL || last->tree < e->tree ||
			               (last->tree == e->tree && last->lba + last->n <= e->lba);
			if (!ascends || e->n == 0)
				return false;
			last = e;
		}
	}
	return n == d->n_extents;
}
