/* index.c - see index.h.
 *
 * Two levels: an array of leaves in order, each a page of up to LEAF_MAX entries in order. Ids are given in
 * ascending order, so inserts come at the end or close to it: a full last leaf is not split, a new one
 * begins, and leaves of a store that is only filled are full. A leaf that has become small joins a neighbour, so
 * that any two neighbours together hold more than one leaf could: at worst half of the memory is unused.
 *
 * Invariants:
 *   1. Ids ascend, in leaves and over them; no leaf is empty.
 *   2. The entries of two neighbouring leaves are more than JOIN_MAX.
 *   3. n and n_bytes are what there is.
 */
#include "index.h"

#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAF_MAX 127u
#define JOIN_MAX 96u

struct index_leaf {
	uint32_t n;
	struct index_entry entries[LEAF_MAX];
};
static_assert(sizeof(struct index_leaf) <= 4096, "a page");

static uint64_t extents_bytes(const struct index_entry *e)
{
	const struct index_extents *x = (const struct index_extents *)(uintptr_t)e->where;

	return e->many ? sizeof(*x) + x->n * sizeof(struct extent) : 0;
}

static void entry_fini(struct index *ix, struct index_entry *e)
{
	ix->n_bytes -= extents_bytes(e);
	if (e->many)
		free((void *)(uintptr_t)e->where);
}

void index_fini(struct index *ix)
{
	for (size_t l = 0; l < ix->n_leaves; l++) {
		for (uint32_t i = 0; i < ix->leaves[l]->n; i++)
			entry_fini(ix, &ix->leaves[l]->entries[i]);
		free(ix->leaves[l]);
	}
	free(ix->leaves);
	*ix = (struct index){0};
}

/* ---- searching ---- */

/* The leaf in which id is, or would be: the last that begins at or below it, or the first. */
static size_t leaf_of(const struct index *ix, uint64_t id)
{
	size_t low = 0, n = ix->n_leaves;

	while (n > 1) {
		size_t half = n / 2;
		if (ix->leaves[low + half]->entries[0].id <= id) {
			low += half;
			n -= half;
		} else {
			n = half;
		}
	}
	return low;
}

/* The first entry of the leaf at or above id. */
static uint32_t place_in(const struct index_leaf *leaf, uint64_t id)
{
	uint32_t low = 0, n = leaf->n;

	while (n > 0) {
		uint32_t half = n / 2;
		if (leaf->entries[low + half].id < id) {
			low += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	return low;
}

struct index_entry *index_find(const struct index *ix, uint64_t id)
{
	if (ix->n_leaves == 0)
		return NULL;
	struct index_leaf *leaf = ix->leaves[leaf_of(ix, id)];
	uint32_t i = place_in(leaf, id);
	return i < leaf->n && leaf->entries[i].id == id ? &leaf->entries[i] : NULL;
}

struct index_entry *index_next(const struct index *ix, uint64_t after)
{
	if (ix->n_leaves == 0 || after == UINT64_MAX)
		return NULL;
	size_t l = leaf_of(ix, after + 1);
	uint32_t i = place_in(ix->leaves[l], after + 1);
	if (i < ix->leaves[l]->n)
		return &ix->leaves[l]->entries[i];
	return l + 1 < ix->n_leaves ? &ix->leaves[l + 1]->entries[0] : NULL;
}

const struct extent *index_entry_extents(const struct index_entry *e, struct extent *one, unsigned *ret_n)
{
	if (e->many) {
		const struct index_extents *x = (const struct index_extents *)(uintptr_t)e->where;
		*ret_n = x->n;
		return x->extents;
	}
	*one = (struct extent){.start = e->where, .n_units = format_n_units(format_n_pages(e->len_bytes))};
	*ret_n = one->n_units != 0;
	return one;
}

/* ---- changing ---- */

/* Makes a leaf at `place`. */
static struct index_leaf *leaf_insert(struct index *ix, size_t place)
{
	if (ix->n_leaves == ix->capacity) {
		size_t capacity = ix->capacity == 0 ? 16 : ix->capacity * 2;
		struct index_leaf **leaves = realloc(ix->leaves, capacity * sizeof(*leaves));
		if (leaves == NULL)
			return NULL;
		ix->n_bytes += (capacity - ix->capacity) * sizeof(*leaves);
		ix->leaves = leaves;
		ix->capacity = capacity;
	}
	struct index_leaf *leaf = malloc(sizeof(*leaf));
	if (leaf == NULL)
		return NULL;
	leaf->n = 0;
	memmove(&ix->leaves[place + 1], &ix->leaves[place], (ix->n_leaves - place) * sizeof(ix->leaves[0]));
	ix->leaves[place] = leaf;
	ix->n_leaves++;
	ix->n_bytes += sizeof(*leaf);
	return leaf;
}

static void leaf_remove(struct index *ix, size_t place)
{
	free(ix->leaves[place]);
	ix->n_leaves--;
	ix->n_bytes -= sizeof(struct index_leaf);
	memmove(&ix->leaves[place], &ix->leaves[place + 1], (ix->n_leaves - place) * sizeof(ix->leaves[0]));
}

/* The leaf that id goes to, with room for it. */
static struct index_leaf *make_room(struct index *ix, uint64_t id)
{
	if (ix->n_leaves == 0)
		return leaf_insert(ix, 0);
	size_t l = leaf_of(ix, id);
	struct index_leaf *leaf = ix->leaves[l];
	if (leaf->n < LEAF_MAX)
		return leaf;
	struct index_leaf *next = leaf_insert(ix, l + 1);
	if (next == NULL || (l + 2 == ix->n_leaves && id > leaf->entries[LEAF_MAX - 1].id))
		return next;
	uint32_t n_moved = LEAF_MAX / 2;
	next->n = n_moved;
	leaf->n -= n_moved;
	memcpy(next->entries, &leaf->entries[leaf->n], n_moved * sizeof(next->entries[0]));
	return id > next->entries[0].id ? next : leaf;
}

static int copy_extents(struct index_entry *e, const struct extent_list *extents)
{
	e->many = extents->n > 1;
	if (!e->many) {
		e->where = extents->n == 1 ? extents->extents[0].start : 0;
		return 0;
	}
	struct index_extents *x = malloc(sizeof(*x) + extents->n * sizeof(struct extent));
	if (x == NULL)
		return -ENOMEM;
	x->n = extents->n;
	memcpy(x->extents, extents->extents, extents->n * sizeof(struct extent));
	e->where = (uintptr_t)x;
	return 0;
}

int index_insert(struct index *ix, const struct index_entry *entry, const struct extent_list *extents)
{
	struct index_entry e = *entry;

	if (index_find(ix, e.id) != NULL)
		return -EEXIST;
	int rc = copy_extents(&e, extents);
	if (rc < 0)
		return rc;
	struct index_leaf *leaf = make_room(ix, e.id);
	if (leaf == NULL) {
		if (e.many)
			free((void *)(uintptr_t)e.where);
		return -ENOMEM;
	}
	uint32_t i = place_in(leaf, e.id);
	memmove(&leaf->entries[i + 1], &leaf->entries[i], (leaf->n - i) * sizeof(e));
	leaf->entries[i] = e;
	leaf->n++;
	ix->n++;
	ix->n_bytes += extents_bytes(&e);
	return 0;
}

/* Moves the entries of leaf l + 1 into l, if they are few. */
static bool join(struct index *ix, size_t l)
{
	if (l + 1 >= ix->n_leaves || ix->leaves[l]->n + ix->leaves[l + 1]->n > JOIN_MAX)
		return false;
	struct index_leaf *leaf = ix->leaves[l], *next = ix->leaves[l + 1];
	memcpy(&leaf->entries[leaf->n], next->entries, next->n * sizeof(next->entries[0]));
	leaf->n += next->n;
	leaf_remove(ix, l + 1);
	return true;
}

void index_remove(struct index *ix, uint64_t id)
{
	size_t l = leaf_of(ix, id);
	struct index_leaf *leaf = ix->leaves[l];
	uint32_t i = place_in(leaf, id);

	quire_assert(i < leaf->n && leaf->entries[i].id == id);
	entry_fini(ix, &leaf->entries[i]);
	leaf->n--;
	ix->n--;
	memmove(&leaf->entries[i], &leaf->entries[i + 1], (leaf->n - i) * sizeof(leaf->entries[0]));
	if (leaf->n == 0)
		leaf_remove(ix, l);
	else
		(void)join(ix, l);
	if (l > 0)
		(void)join(ix, l - 1);
}

bool index_check(const struct index *ix)
{
	uint64_t n = 0, n_bytes = ix->capacity * sizeof(ix->leaves[0]), last = 0;

	for (size_t l = 0; l < ix->n_leaves; l++) {
		const struct index_leaf *leaf = ix->leaves[l];
		if (leaf->n == 0 || leaf->n > LEAF_MAX)
			return false;
		for (uint32_t i = 0; i < leaf->n; i++) {
			if (n + i > 0 && leaf->entries[i].id <= last)
				return false;
			last = leaf->entries[i].id;
			n_bytes += extents_bytes(&leaf->entries[i]);
		}
		n += leaf->n;
		n_bytes += sizeof(*leaf);
	}
	return n == ix->n && n_bytes == ix->n_bytes;
}
