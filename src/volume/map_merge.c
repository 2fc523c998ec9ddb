/* map_merge.c - a delta is merged into a tree: the pages that it touches are written anew, and those above them.
 *
 * Downwards, a page's range is from its key to the next one's (the first page's from where its parent's begins), and it is
 * touched if the delta has an extent there. A touched leaf becomes a list of extents: the old ones, and the delta's over them. What
 * comes of neighbours that are all touched is collected until it is half a page, so that leaves which have lost most of their
 * extents become one; what does not fit into one page is split evenly, but at the right end of the tree, where more is
 * likely to come behind and pages are filled.
 *
 * Pages go out in batches; where they are is known only then, so a batch remembers who refers to each.
 *
 * What the new tree has not any more was the old one's alone if it was born after `shared`; if so it is dead: extents, and
 * each page that was replaced.
 */
#include "map_tree.h"

#include "../base/canary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_PAGES 16u

struct list {
	struct map_extent *all; /* owned */
	uint32_t n, capacity;
};

struct page_of {
	struct list *refs;
	uint32_t at;
};

struct merging {
	const struct map_merge *m;
	struct list extents;    /* of touched leaves, not yet in pages */
	struct map_range range; /* of them */
	uint8_t *batch;         /* owned */
	struct page_of pages[BATCH_PAGES];
	unsigned n_batch;
	struct list *top;       /* references to what becomes the root, or pages of its level, */
	unsigned level;         /* this one */
};

/* ---- lists ---- */

static int push(struct list *l, const struct map_extent *e)
{
	if (l->n == l->capacity) {
		uint32_t capacity = l->capacity == 0 ? 64 : 2 * l->capacity;
		struct map_extent *grown = reallocarray(l->all, capacity, sizeof(grown[0]));
		if (grown == NULL)
			return -ENOMEM;
		l->all = grown;
		l->capacity = capacity;
	}
	l->all[l->n++] = *e;
	return 0;
}

static int push_extent(struct merging *g, const struct map_extent *e)
{
	struct map_extent *last = g->extents.n > 0 ? &g->extents.all[g->extents.n - 1] : NULL;

	if (e->n == 0 || (g->m->drop_holes && e->place == MAP_HOLE))
		return 0;
	if (last != NULL && map_continues(last, e)) {
		last->n += e->n;
		if (last->n > g->range.high[1])
			g->range.high[1] = last->n;
		return 0;
	}
	map_range_add(&g->range, e);
	return push(&g->extents, e);
}

static void count_lost(struct merging *g, const struct map_extent *e)
{
	struct map_lost *lost = g->m->lost;
	bool own = e->birth > g->m->shared;

	if (lost == NULL)
		return;
	lost->n_data += map_is_data(e->place) ? e->n : 0;
	lost->n_own += own && map_is_data(e->place) ? e->n : 0;
	lost->n_zero += own && e->place == MAP_ZERO ? e->n : 0;
}

static void tell_dead(struct merging *g, const struct map_extent *e)
{
	if (e->n > 0 && map_is_data(e->place) && e->birth > g->m->shared)
		g->m->env.owner->dead(g->m->env.owner, e->place, e->n);
}

/* ---- pages ---- */

static int flush(struct merging *g)
{
	uint64_t places[BATCH_PAGES];

	if (g->n_batch == 0)
		return 0;
	int rc = g->m->env.owner->write(g->m->env.owner, g->batch, g->n_batch, places);
	for (unsigned i = 0; rc == 0 && i < g->n_batch; i++)
		g->pages[i].refs->all[g->pages[i].at].place = places[i];
	g->n_batch = 0;
	return rc;
}

/* One page of entries that fit; refs gets a reference to it. */
static int emit_page(struct merging *g, const struct map_extent *entries, uint32_t n, unsigned level, struct list *refs)
{
	struct map_extent ref = {.lba = entries[0].lba, .birth = g->m->birth};
	int rc = g->n_batch == BATCH_PAGES ? flush(g) : 0;

	if (rc == 0)
		rc = push(refs, &ref);
	if (rc < 0)
		return rc;
	map_node_encode(entries, n, level, g->m->birth, (struct map_node_le *)(g->batch + g->n_batch * MAP_NODE_BYTES));
	g->pages[g->n_batch++] = (struct page_of){refs, refs->n - 1};
	return 0;
}

/* How many of the n fit into one page. */
static uint32_t count_fitting(const struct map_extent *entries, uint32_t n)
{
	struct map_range r = {.n = 0};
	uint32_t i = 0;

	for (; i < n; i++) {
		map_range_add(&r, &entries[i]);
		if (!map_range_fits(&r))
			break;
	}
	return i;
}

/* In as many pages as it takes. rightmost: filled as far as it goes. */
static int emit(struct merging *g, const struct map_extent *entries, uint32_t n, unsigned level, bool rightmost,
                struct list *refs)
{
	while (n > 0) {
		uint32_t k = count_fitting(entries, n);
		if (k < n && !rightmost && k > n / 2)
			k = n / 2;
		int rc = emit_page(g, entries, k, level, refs);
		if (rc < 0)
			return rc;
		entries += k;
		n -= k;
	}
	return 0;
}

static int emit_extents(struct merging *g, bool rightmost, struct list *refs)
{
	int rc = emit(g, g->extents.all, g->extents.n, 0, rightmost, refs);

	g->extents.n = 0;
	g->range.n = 0;
	return rc;
}

static bool is_half_a_page(const struct merging *g)
{
	return map_range_bits(&g->range) >= MAP_NODE_CAPACITY_BITS / 2;
}

/* ---- one leaf ---- */

/* Of the old extents, from *i on: what lies before `end` is kept, or dead. *at: where in the first of them. */
static int pass(struct merging *g, const struct map_node_le *old, uint32_t *i, uint64_t *at, uint64_t end, bool keep)
{
	int rc = 0;

	while (rc == 0 && *i < map_node_n(old)) {
		struct map_extent e = map_node_get(old, *i);
		if (e.lba >= end)
			break;
		struct map_extent part = map_cut(&e, *at > e.lba ? *at : e.lba, end);
		if (keep) {
			rc = push_extent(g, &part);
		} else {
			count_lost(g, &part);
			tell_dead(g, &part);
		}
		*at = map_end(&part);
		if (map_end(&e) > end)
			break;
		++*i;
	}
	return rc;
}

/* old NULL: there is none. */
static int merge_leaf(struct merging *g, const struct map_node_le *old, uint64_t from, uint64_t end)
{
	static const struct map_node_le none;
	struct map_extent e;
	uint64_t at = 0, pos = from;
	uint32_t i = 0;
	int rc = 0;

	if (old == NULL)
		old = &none;
	while (rc == 0 && pos < end && map_delta_find(g->m->delta, g->m->tree, pos, &e) && e.lba < end) {
		e = map_cut(&e, pos, end);
		pos = map_end(&e);
		if (CANARY(hole_lost_in_merge) && e.place == MAP_HOLE)
			continue;
		rc = pass(g, old, &i, &at, e.lba, true);
		if (rc == 0)
			rc = pass(g, old, &i, &at, map_end(&e), false);
		if (rc == 0)
			rc = push_extent(g, &e);
	}
	return rc == 0 ? pass(g, old, &i, &at, UINT64_MAX, true) : rc;
}

/* ---- the tree ---- */

static bool is_touched(const struct merging *g, uint64_t from, uint64_t end)
{
	struct map_extent e;

	if (map_delta_find(g->m->delta, g->m->tree, from, &e) && e.lba < end)
		return true;
	return g->m->touched != NULL && map_delta_find(g->m->touched, g->m->tree, from, &e) && e.lba < end;
}

static int merge_page(struct merging *g, const struct map_extent *ref, unsigned level, uint64_t from, uint64_t end,
                      bool rightmost, struct list *refs);

static int merge_children(struct merging *g, const struct map_node_le *node, unsigned level, uint64_t from, uint64_t end,
                          bool rightmost, struct list *refs)
{
	uint32_t n = map_node_n(node);
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		struct map_extent child = map_node_get(node, i);
		uint64_t low = i == 0 ? from : child.lba, high = i + 1 < n ? map_node_get(node, i + 1).lba : end;
		if (is_touched(g, low, high)) {
			rc = merge_page(g, &child, level - 1, low, high, rightmost && i + 1 == n, refs);
		} else {
			rc = emit_extents(g, false, refs);
			if (rc == 0)
				rc = push(refs, &child);
		}
	}
	return rc == 0 ? emit_extents(g, rightmost, refs) : rc;
}

/* A touched page; its new ones are referred to in refs, or, of a leaf, perhaps later. */
static int merge_page(struct merging *g, const struct map_extent *ref, unsigned level, uint64_t from, uint64_t end,
                      bool rightmost, struct list *refs)
{
	struct map_pin pin;
	struct list children = {0};
	int rc = map_cache_get(g->m->env.cache, g->m->env.owner, ref, level, &pin);

	if (rc < 0)
		return rc;
	if (level == 0) {
		rc = merge_leaf(g, pin.node, from, end);
	} else {
		rc = merge_children(g, pin.node, level, from, end, rightmost, &children);
		if (rc == 0)
			rc = flush(g); /* places are needed now */
		bool collapses = refs == g->top && children.n == 1;
		if (rc == 0 && collapses) {
			g->level = level - 1;
			rc = push(refs, &children.all[0]);
		} else if (rc == 0) {
			rc = emit(g, children.all, children.n, level, rightmost, refs);
		}
		if (rc == 0)
			rc = flush(g);
	}
	map_cache_put(g->m->env.cache, &pin);
	free(children.all);
	if (rc == 0 && level == 0 && is_half_a_page(g))
		rc = emit_extents(g, rightmost, refs);
	struct map_extent page = {.place = ref->place, .n = 1, .birth = ref->birth};
	if (rc == 0)
		tell_dead(g, &page);
	return rc;
}

/* Levels are added until one page is left. */
static int grow(struct merging *g, struct list *refs, struct map_root *ret)
{
	unsigned level = g->level;
	int rc = flush(g);

	while (rc == 0 && refs->n > 1) {
		struct list above = {0};
		rc = level + 1 >= MAP_MAX_LEVELS ? -EUCLEAN : emit(g, refs->all, refs->n, ++level, true, &above);
		if (rc == 0)
			rc = flush(g);
		free(refs->all);
		*refs = above;
	}
	if (rc == 0 && refs->n == 0)
		*ret = (struct map_root){0};
	else if (rc == 0)
		*ret = (struct map_root){refs->all[0].place, refs->all[0].birth, level, refs->all[0].lba};
	return rc;
}

int map_merge(const struct map_merge *m, const struct map_root *old, struct map_root *ret)
{
	struct merging g = {.m = m};
	struct map_extent ref = {.lba = old->key, .place = old->place, .birth = old->birth};
	struct list refs = {0};
	int rc;

	g.top = &refs;
	g.level = map_root_is_empty(old) ? 0 : old->level;
	if (!is_touched(&g, 0, UINT64_MAX)) {
		*ret = *old;
		return 0;
	}
	g.batch = aligned_alloc(MAP_NODE_BYTES, BATCH_PAGES * MAP_NODE_BYTES);
	if (g.batch == NULL)
		return -ENOMEM;
	if (map_root_is_empty(old))
		rc = merge_leaf(&g, NULL, 0, UINT64_MAX);
	else
		rc = merge_page(&g, &ref, old->level, 0, UINT64_MAX, true, &refs);
	if (rc == 0)
		rc = emit_extents(&g, true, &refs);
	if (rc == 0)
		rc = grow(&g, &refs, ret);
	free(g.extents.all);
	free(refs.all);
	free(g.batch);
	return rc;
}
