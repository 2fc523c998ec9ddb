/* stat.c - a checkpoint on request; and figures. */
#include "volume_internal.h"

#include <errno.h>
#include <stdlib.h>

int quire_volumes_checkpoint(struct quire_volumes *g)
{
	int rc = group_enter(g);

	if (rc < 0)
		return rc;
	if (g->read_only) {
		group_leave(g);
		return -EROFS;
	}
	group_lock(g);
	/* One that is being made may have begun too early. */
	uint64_t target = g->n_tried + 1 + g->checkpointing;
	g->checkpoint_wanted = true;
	worker_kick(&g->checkpointer);
	group_unlock(g);
	(void)wait_for(&g->waits, WAIT_CHECKPOINT, target, NULL);
	group_lock(g);
	rc = g->checkpoint_error;
	group_unlock(g);
	group_leave(g);
	return rc;
}

int quire_volumes_stat(struct quire_volumes *g, struct quire_volumes_stat *ret_stat)
{
	if (group_is_of_parent(g))
		return -ECHILD;
	struct map_cache_stat map, data = {0};
	struct quire_volumes_stat s = {.error = journal_error(g->journal)};

	map_cache_stat(g->cache, &map);
	group_lock(g);
	for (struct idmap_node *n = idmap_any(&g->volumes); n != NULL; n = idmap_after(&g->volumes, n)) {
		bool is_snapshot = (((const struct volume *)n)->flags & VOLUME_IS_SNAPSHOT) != 0;
		s.n_volumes += !is_snapshot;
		s.n_snapshots += is_snapshot;
	}
	s.live_bytes = (uint64_t)g->n_live * MAP_BLOCK_BYTES;
	for (struct idmap_node *n = idmap_any(&g->segments); n != NULL; n = idmap_after(&g->segments, n)) {
		const struct segment *seg = (const struct segment *)n;
		if (seg->state == SEGMENT_SEALED && seg->n_live < g->segment_blocks)
			s.reclaimable_bytes += (g->segment_blocks - (uint64_t)seg->n_live) * MAP_BLOCK_BYTES;
	}
	for (struct idmap_node *n = idmap_any(&g->volumes); n != NULL; n = idmap_after(&g->volumes, n)) {
		const struct volume *v = (const struct volume *)n;
		const struct tree *t = tree_find(g, v->tree);
		int64_t rest = t == NULL ? 0 : t->promise == PROMISE_ALL ? (int64_t)(v->size_bytes >> MAP_BLOCK_SHIFT) - t->n_own
		                             : t->promise == PROMISE_ZEROS ? t->n_zero : 0;
		s.reserved_bytes += rest > 0 ? (uint64_t)rest * MAP_BLOCK_BYTES : 0;
	}
	s.n_segments = g->segments.n + g->n_young - group_n_unsealed(g);
	s.allocated_bytes = s.n_segments * format_log_extent_units(g->settings.segment_bytes) * FORMAT_UNIT_BYTES;
	s.generation = g->generation;
	s.n_checkpoints = g->n_checkpoints;
	s.n_cleaned = g->n_cleaned;
	s.moved_bytes = g->n_moved * MAP_BLOCK_BYTES;
	s.checkpoint_error = g->checkpoint_error;
	s.map_cap_bytes = 2 * map_cache_share_bytes(g->cache);
	s.map_bytes = map.bytes + map_delta_bytes(&g->active) + map_delta_bytes(&g->frozen);
	group_unlock(g);
	if (g->data != NULL)
		map_cache_stat(g->data, &data);
	s.cache_bytes = data.bytes;
	s.n_cache_hits = data.n_hits;
	s.n_cache_misses = data.n_misses;
	s.n_map_hits = map.n_hits;
	s.n_map_misses = map.n_misses;
	*ret_stat = s;
	return 0;
}

/* ---- one volume ---- */

struct counting {
	uint32_t tree;
	uint64_t shared, epoch, n_data;
	struct map_root root;
	struct map_root *children; /* owned */
	unsigned n_children;
};

/* All blocks of data that a tree has; where it has no root yet its parent's count too. Lock held. */
static uint64_t data_of(const struct quire_volumes *g, const struct tree *t)
{
	int64_t n = 0;

	for (; t != NULL; t = tree_find(g, t->parent)) {
		n += t->n_data;
		if (t->has_root)
			break;
	}
	return n > 0 ? (uint64_t)n : 0;
}

/* What a snapshot's tree is to be held against. Lock held. */
static int note_tree(struct quire_volumes *g, const struct tree *t, struct counting *c)
{
	const struct tree *parent = tree_find(g, t->parent);

	free(c->children);
	*c = (struct counting){.tree = (uint32_t)t->node.id, .shared = parent != NULL ? parent->frozen : 0, .epoch = g->epoch,
	                       .root = t->root, .children = calloc(g->trees.n + 1, sizeof(c->children[0]))};
	if (c->children == NULL)
		return -ENOMEM;
	for (struct idmap_node *n = idmap_any(&g->trees); n != NULL; n = idmap_after(&g->trees, n)) {
		const struct tree *child = (const struct tree *)n;
		if (child->parent == t->node.id) /* without a root it has all of this one's */
			c->children[c->n_children++] = child->has_root ? child->root : t->root;
	}
	return t->has_root ? 0 : -EAGAIN;
}

/* The part of a tree that its children have not. */
static int count_alone(struct quire_volumes *g, const char *name, uint64_t *ret_blocks)
{
	struct counting c = {0};
	bool changed;
	int rc;

	do {
		struct map_lost lost = {0};
		group_lock(g);
		const struct volume *v = volume_find_name(g, name);
		const struct tree *t = v == NULL ? NULL : tree_find(g, v->tree);
		rc = t == NULL ? -ENOENT : note_tree(g, t, &c);
		group_unlock(g);
		changed = false;
		if (rc == -EAGAIN) { /* its parent's, still: it has nothing alone but what the delta has */
			rc = 0;
			break;
		}
		if (rc == 0) {
			struct map_tree_env env = group_map(g, c.tree);
			rc = map_count(&env, &c.root, c.shared, c.children, c.n_children, &lost);
			group_lock(g);
			changed = c.epoch != g->epoch;
			group_unlock(g);
		}
		*ret_blocks = lost.n_own;
	} while (changed && (rc == 0 || rc == -ESTALE));
	free(c.children);
	return rc == -ESTALE ? -EUCLEAN : rc;
}

int quire_volume_stat(struct quire_volumes *g, const char *name, struct quire_volume_stat *ret_stat)
{
	struct quire_volume_stat s = {0};
	uint64_t unique = 0, data = 0, promised = 0;
	bool is_snapshot = false;
	int rc = name == NULL ? -EINVAL : group_enter(g);

	if (rc < 0)
		return rc;
	group_lock(g);
	const struct volume *v = volume_find_name(g, name);
	const struct tree *t = v == NULL ? NULL : tree_find(g, v->tree);
	if (t != NULL) {
		is_snapshot = (v->flags & VOLUME_IS_SNAPSHOT) != 0;
		s.size_bytes = v->size_bytes;
		unique = t->n_own > 0 ? (uint64_t)t->n_own : 0;
		data = data_of(g, t);
		promised = t->promise == PROMISE_ALL     ? v->size_bytes >> MAP_BLOCK_SHIFT
		           : t->promise == PROMISE_ZEROS ? (uint64_t)t->n_zero + unique
		                                         : 0;
	}
	group_unlock(g);
	rc = t == NULL ? -ENOENT : 0;
	if (rc == 0 && is_snapshot)
		rc = count_alone(g, name, &unique);
	group_leave(g);
	if (rc < 0)
		return rc;
	s.unique_bytes = unique * MAP_BLOCK_BYTES;
	s.shared_bytes = (data > unique ? data - unique : 0) * MAP_BLOCK_BYTES;
	s.reserved_bytes = (promised > unique ? promised - unique : 0) * MAP_BLOCK_BYTES;
	*ret_stat = s;
	return 0;
}
