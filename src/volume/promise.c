/* promise.c - space that is promised: to whom, and whether there is room for more.
 *
 * *Committed* are blocks that are live, of data and of the map, and those that were promised and are not written yet:
 *
 *   - a reserved volume has all its size promised, and the map for it, whatever its snapshots hold. What it alone has is part of it;
 *   - any volume has space for its zeros that are no holes;
 *   - what a tree has alone that is given up is counted out: it is free with the next checkpoint.
 *
 * The group's segments, with those that the class has left, hold so much if they are cleaned: a segment counts for what it
 * may have live and be cleaned still, less those that a checkpoint and cleaning need to be made. Who would commit more is refused; so
 * what is overwritten, and what is promised, always finds space, though perhaps it waits for cleaning. For segments that the group has not got yet, and
 * for what the store must have itself, or no writer gets anything (space.c), the store keeps space, while the group is open (store_log_pledge). It does before
 * a promise is recorded: others may have taken meanwhile what was free when that was looked at last. The group's own segments that were removed while
 * somebody reads them count as free, since reads end; an object of others that was deleted may be held for as long as they like.
 *
 * Of each tree is counted what it has. Like a segment's n_live that counts too much until overwritten blocks are found by a merge: so whoever
 * is refused waits for a checkpoint first, and if that was no use the map is asked which of his blocks are new.
 */
#include "space.h"

#include <errno.h>

#define OPEN_SEGMENTS 3u /* that records go into, that comes next, and that which is sealed; what waits to be is as full as others */

/* ---- what a tree has ---- */

void tree_count(struct quire_volumes *g, struct tree *t, int64_t n_own, int64_t n_zero, int64_t n_data)
{
	if (t == NULL)
		return;
	t->n_own += n_own;
	t->n_zero += n_zero;
	t->n_data += n_data;
	if (t->promise == PROMISE_ALL || t->promise == PROMISE_GONE)
		g->n_promised -= n_own;
	else if (t->promise == PROMISE_ZEROS)
		g->n_promised += n_zero;
}

void tree_dead(void *arg, uint64_t place, uint64_t n_blocks)
{
	struct tree_dead *d = arg;
	int64_t n = (int64_t)n_blocks;

	if (map_is_data(place)) {
		group_count_live(d->g, place, -n);
		tree_count(d->g, d->tree, -n, 0, -n);
	} else {
		tree_count(d->g, d->tree, 0, -n, 0);
	}
}

/* ---- promises ---- */

uint64_t promise_of_volume(uint64_t size_bytes)
{
	uint64_t n = size_bytes >> MAP_BLOCK_SHIFT;

	return n + n / MAP_LEAST_LEAF_EXTENTS + 8;
}

static void mark_needed(struct quire_volumes *g)
{
	for (struct idmap_node *n = idmap_any(&g->trees); n != NULL; n = idmap_after(&g->trees, n)) {
		((struct tree *)n)->is_needed = false;
		((struct tree *)n)->promise = PROMISE_NONE;
	}
	for (struct idmap_node *n = idmap_any(&g->trees); n != NULL; n = idmap_after(&g->trees, n)) {
		struct tree *t = (struct tree *)n;
		for (; t != NULL && !((struct tree *)n)->given_up && !t->is_needed; t = tree_find(g, t->parent))
			t->is_needed = true;
	}
}

void promise_count(struct quire_volumes *g)
{
	g->n_promised = 0;
	mark_needed(g);
	for (struct idmap_node *n = idmap_any(&g->volumes); n != NULL; n = idmap_after(&g->volumes, n)) {
		const struct volume *v = (const struct volume *)n;
		struct tree *t = tree_find(g, v->tree);
		if (t == NULL || (v->flags & VOLUME_IS_SNAPSHOT) != 0)
			continue;
		t->promise = (v->flags & VOLUME_IS_RESERVED) != 0 ? PROMISE_ALL : PROMISE_ZEROS;
		g->n_promised += t->promise == PROMISE_ALL ? (int64_t)promise_of_volume(v->size_bytes) - t->n_own : t->n_zero;
	}
	for (struct idmap_node *n = idmap_any(&g->trees); n != NULL; n = idmap_after(&g->trees, n)) {
		struct tree *t = (struct tree *)n;
		if (t->is_needed || t->node.id == VOLUME_MOVED_TREE)
			continue;
		t->promise = PROMISE_GONE;
		g->n_promised -= t->n_own;
	}
}

static int64_t group_n_committed(const struct quire_volumes *g)
{
	int64_t n = g->n_live + g->n_promised;

	return n > 0 ? n : 0;
}

bool promise_has_room(const struct quire_volumes *g, uint64_t n_blocks)
{
	return n_blocks <= MAP_MAX_BLOCKS + MAP_MAX_BLOCKS / 8 && group_n_committed(g) + (int64_t)n_blocks <= g->most_blocks;
}

/* First what the store is to keep, then what is free: others take none of it in between. */
void promise_settle(struct quire_volumes *g)
{
	uint64_t each = (uint64_t)format_log_extent_units(g->settings.segment_bytes) * FORMAT_UNIT_BYTES;
	uint64_t kept = space_kept(g) + OPEN_SEGMENTS, holds = group_most_live(g);
	struct store_stat stat;

	group_lock(g);
	uint64_t has = g->segments.n + g->n_young - group_n_unsealed(g);
	uint64_t n_committed = (uint64_t)group_n_committed(g) + g->n_asked;
	group_unlock(g);
	uint64_t needed = (n_committed + holds - 1) / holds + kept, left = n_committed > 0 ? (GROUP_LEFT_BYTES + each - 1) / each : 0;
	store_log_pledge(g->space, (needed > has ? needed - has : 0) + left);
	store_stat(g->store, &stat);
	uint64_t n_free = stat.classes[g->settings.class_no].log_bytes + store_log_pending_bytes(g->space);
	n_free = n_free > GROUP_LEFT_BYTES ? (n_free - GROUP_LEFT_BYTES) / each : 0;
	group_lock(g);
	g->most_blocks = has + n_free > kept ? (int64_t)((has + n_free - kept) * holds) : 0;
	group_unlock(g);
}

int promise_ask(struct quire_volumes *g, uint64_t n_blocks)
{
	group_lock(g);
	g->n_asked = n_blocks;
	group_unlock(g);
	promise_settle(g);
	store_settle(g->store);
	bool is_full = space_store_is_full(g);
	group_lock(g);
	int rc = promise_has_room(g, n_blocks) && !is_full ? 0 : -ENOSPC;
	group_unlock(g);
	return rc;
}

/* ---- one request ---- */

int promise_measure(struct request *r)
{
	struct quire_volumes *g = r->group;
	uint64_t lba = r->lba, end = r->lba + r->n, epoch, shared = 0, growth = 0;
	int rc = 0;

	group_lock(g);
	const struct volume *v = volume_find(g, r->volume);
	const struct tree *t = v == NULL ? NULL : tree_find(g, v->tree), *parent = t == NULL ? NULL : tree_find(g, t->parent);
	uint32_t tree = t == NULL ? NO_TREE : (uint32_t)t->node.id;
	shared = parent == NULL ? 0 : parent->frozen;
	bool reserved = v != NULL && (v->flags & VOLUME_IS_RESERVED) != 0;
	group_unlock(g);
	while (rc == 0 && tree != NO_TREE && lba < end) {
		struct map_extent e;
		bool gap;
		rc = group_look(g, tree, lba, end, 0, &e, &gap, &epoch);
		if (rc < 0)
			break;
		growth += gap || e.place == MAP_HOLE || e.birth <= shared ? e.n : 0;
		lba += e.n;
	}
	r->growth = reserved ? 0 : growth;
	return rc;
}
