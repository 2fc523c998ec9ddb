/* checkpoint.c - what was written becomes part of the trees' pages, and from then on the log is read from a later place.
 *
 *   1. In the log's turn (checkpoint_begin): the active delta is the frozen one, tables and counts are copied; their state is that of
 *      a place in the log.
 *   2. Trees are merged with it, parents first: where one has no root yet, its parent's is what it begins with. Trees that
 *      are given up lose what nobody else has, and are out if at most one child is left, which gets their parent; with more, they stay
 *      until then. All this changes copies alone; pages go to the log like any record (checkpoint_merge.c).
 *   3. Everything so far is durable, and what is before the place is sealed. An object with the tables takes the place of
 *      the last one's, in one transaction. Now it counts.
 *   4. Roots and counts are the group's. Segments before the place in which nothing is live any more are removed.
 *
 * If there is no space for 2, the delta goes into the object itself, trees are as they were, and what was frozen is frozen still.
 * If 2 or 3 fails otherwise, the group is as it was, but for pages that nobody refers to; 2 begins again, with the same copies.
 */
#include "space.h"

#include "../base/canary.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BARE_SEGMENTS 3u

void checkpoint_free(struct checkpoint *c)
{
	if (c == NULL)
		return;
	free(c->trees);
	free(c->volumes);
	free(c->work);
	map_delta_fini(&c->unmoved);
	free(c);
}

/* ---- 1 ---- */

int kept_tree_order(const void *a, const void *b)
{
	const struct kept_tree *x = a, *y = b;

	return x->t.node.id < y->t.node.id ? -1 : x->t.node.id > y->t.node.id;
}

static void copy_tables(struct checkpoint *c)
{
	struct quire_volumes *g = c->g;

	for (struct idmap_node *n = idmap_any(&g->trees); n != NULL; n = idmap_after(&g->trees, n))
		c->trees[c->n_trees++] = (struct kept_tree){.t = *(struct tree *)n};
	qsort(c->trees, c->n_trees, sizeof(c->trees[0]), kept_tree_order);
	for (struct idmap_node *n = idmap_any(&g->volumes); n != NULL; n = idmap_after(&g->volumes, n)) {
		struct volume_le le;
		volume_encode((struct volume *)n, &le);
		memcpy(c->volumes + c->n_volumes++ * sizeof(le), &le, sizeof(le));
	}
}

static void copy_counts(struct quire_volumes *g)
{
	for (struct idmap_node *n = idmap_any(&g->segments); n != NULL; n = idmap_after(&g->segments, n)) {
		struct segment *seg = (struct segment *)n;
		seg->n_live_frozen = seg->n_live;
		seg->n_merged = 0;
	}
}

/* What a checkpoint without pages has left frozen stays, under what was written since. */
static int freeze_delta(struct quire_volumes *g)
{
	struct map_extent e;
	uint32_t tree;

	if (g->frozen.n_extents == 0) {
		map_delta_fini(&g->frozen);
		g->frozen = g->active;
		g->active = (struct map_delta){0};
		return 0;
	}
	while (map_delta_first(&g->active, &tree, &e)) {
		struct tree_dead dead = {g, tree == VOLUME_MOVED_TREE ? NULL : tree_find(g, tree)};
		int rc = map_delta_set(&g->frozen, tree, &e, tree_dead, &dead);
		if (rc < 0)
			return rc;
		map_delta_drop_first(&g->active);
	}
	map_delta_fini(&g->active);
	return 0;
}

int checkpoint_begin(struct quire_volumes *g)
{
	if (g->checkpoint != NULL)
		return 0;
	struct checkpoint *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	*c = (struct checkpoint){
		.g = g,
		.segment_no = g->at->node.id,
		.segment_id = g->at->id,
		.offset = g->at_offset,
		.next_no = g->next_no,
		.generation = g->generation,
		.next_id = g->next_id,
		.trees = calloc(g->trees.n + 1, sizeof(c->trees[0])),
		.work = calloc(g->trees.n + 1, sizeof(c->work[0])),
		.volumes = malloc(g->volumes.n * sizeof(struct volume_le) + 1),
	};
	if (c->trees == NULL || c->work == NULL || c->volumes == NULL) {
		checkpoint_free(c);
		return -ENOMEM;
	}
	int rc = freeze_delta(g);
	if (rc < 0) {
		checkpoint_free(c);
		return rc;
	}
	/* What comes from now on is behind its place. */
	if (!CANARY(record_grows_past_checkpoint))
		head_end(&g->before, &g->last);
	copy_tables(c);
	copy_counts(g);
	g->appended_bytes = 0;
	g->checkpoint = c;
	return 0;
}

/* ---- 3 ---- */

static void set_releasing(struct quire_volumes *g, bool releasing)
{
	group_lock(g);
	g->releasing = releasing;
	group_unlock(g);
}

static int make_durable(struct checkpoint *c)
{
	struct quire_volumes *g = c->g;
	uint64_t len_bytes;
	int rc = c->next_no > 0 && !CANARY(checkpoint_before_its_pages) ? journal_sync(g->journal, c->next_no - 1, NULL) : 0;

	if (rc == 0) {
		group_lock(g);
		worker_kick(&g->sealer);
		group_unlock(g);
		rc = wait_for(&g->waits, WAIT_SEALED, c->segment_no, NULL);
	}
	if (rc < 0)
		return rc;
	group_lock(g);
	uint8_t *bytes = checkpoint_encode(c, &len_bytes);
	group_unlock(g);
	rc = bytes == NULL ? -ENOMEM : checkpoint_store(g, bytes, len_bytes);
	/* Without a checkpoint nothing is freed: for it a spare is given up, if there is no other way. */
	set_releasing(g, rc == -ENOSPC);
	while (rc == -ENOSPC && group_release_spare(g))
		rc = checkpoint_store(g, bytes, len_bytes);
	set_releasing(g, false);
	free(bytes);
	return rc;
}

/* ---- 4; lock held ---- */

static void take_trees(struct checkpoint *c)
{
	struct quire_volumes *g = c->g;

	for (unsigned i = 0; i < c->n_trees; i++) {
		const struct kept_tree *k = &c->work[i];
		struct tree *t = tree_find(g, (uint32_t)k->t.node.id);
		if (k->out) {
			idmap_remove(&g->trees, &t->node);
			free(t);
			continue;
		}
		t->root = k->t.root;
		t->n_own += k->t.n_own - c->trees[i].t.n_own;
		t->n_zero += k->t.n_zero - c->trees[i].t.n_zero;
		t->n_data += k->t.n_data - c->trees[i].t.n_data;
		t->has_root = true;
		t->parent = k->t.parent;
	}
}

static void take_counts(struct quire_volumes *g)
{
	for (struct idmap_node *n = idmap_any(&g->segments); n != NULL; n = idmap_after(&g->segments, n)) {
		struct segment *seg = (struct segment *)n;
		seg->n_live += seg->n_merged;
		g->n_live += seg->n_merged;
		seg->n_merged = 0;
	}
}

static void forget_counts(struct quire_volumes *g)
{
	for (struct idmap_node *n = idmap_any(&g->segments); n != NULL; n = idmap_after(&g->segments, n))
		((struct segment *)n)->n_merged = 0;
}

/* Up to n that nothing needs any more, out of the list; their ids. */
static unsigned take_dead_segments(struct quire_volumes *g, uint64_t before_no, uint64_t *ret_ids, unsigned n)
{
	struct idmap_node *next;
	unsigned k = 0;

	for (struct idmap_node *node = idmap_any(&g->segments); node != NULL && k < n; node = next) {
		struct segment *seg = (struct segment *)node;
		next = idmap_after(&g->segments, node);
		if (node->id >= before_no || seg->state != SEGMENT_SEALED || seg->n_live + seg->n_merged != 0)
			continue;
		idmap_remove(&g->segments, node);
		ret_ids[k++] = seg->id;
		segment_free(g, seg);
	}
	return k;
}

static int remove_segments(struct quire_volumes *g, uint64_t before_no)
{
	uint64_t ids[256];
	unsigned n;
	int rc = 0;

	do {
		group_lock(g);
		n = take_dead_segments(g, before_no, ids, 256);
		group_unlock(g);
		if (n > 0)
			rc = store_log_remove_these(g->space, ids, n);
	} while (rc == 0 && n == 256);
	return rc;
}

/* ---- the whole ---- */

/* If there is no space for pages, the checkpoint has the delta instead. Then the log is read from a later place all the same, and what is in
 * it before and of no use, as pages of merges that a crash has cut short, is free. */
static int merge_or_not(struct checkpoint *c)
{
	uint64_t most = checkpoint_merge_segments(c);

	/* It hardly ever takes so many. If there was none with pages last time, one that fails is better than none: the next one frees what it has
	 * used. But for the object of that one some must be left. */
	group_lock(c->g);
	if (c->g->is_bare) {
		most = most / 3 + BARE_SEGMENTS;
		c->g->n_left_spares = BARE_SEGMENTS;
	}
	group_unlock(c->g);
	int rc = group_has_spares(c->g, most) ? checkpoint_merge(c) : -ENOSPC;
	group_lock(c->g);
	c->g->n_left_spares = 0;
	group_unlock(c->g);
	c->is_bare = rc == -ENOSPC;
	if (!c->is_bare)
		return rc;
	memcpy(c->work, c->trees, c->n_trees * sizeof(c->work[0]));
	group_lock(c->g);
	forget_counts(c->g);
	group_unlock(c->g);
	return 0;
}

/* 1: it has no pages. */
static int run(struct quire_volumes *g)
{
	struct request freeze = {.kind = REQUEST_FREEZE, .group = g};
	/* Nothing comes of it then but pages that nobody refers to. */
	int rc = journal_error(g->journal) < 0 ? journal_error(g->journal) : store_error(g->store);

	if (rc < 0)
		return rc;
	rc = group_append(&freeze);
	if (rc < 0)
		return rc;
	struct checkpoint *c = g->checkpoint;
	rc = merge_or_not(c);
	if (rc == 0 && CANARY(segment_freed_before_checkpoint))
		(void)remove_segments(g, c->segment_no);
	if (rc == 0)
		rc = make_durable(c);
	group_lock(g);
	if (rc < 0) {
		forget_counts(g);
		group_unlock(g);
		return rc;
	}
	bool is_bare = c->is_bare;
	if (!is_bare) {
		take_trees(c);
		take_counts(g);
		promise_count(g);
		g->n_emptied = 0;
		map_delta_fini(&g->frozen);
		map_delta_fini(&g->touched);
		g->epoch++;
	}
	g->is_bare = is_bare;
	g->checkpoint = NULL;
	g->n_checkpoints++;
	group_unlock_and_wake(g);
	for (; g->chain_no < c->segment_no; g->chain_no++)
		journal_drop_first(g->journal);
	rc = remove_segments(g, c->segment_no);
	promise_settle(g);
	checkpoint_free(c);
	return rc < 0 ? rc : is_bare;
}

/* By far the most of what it writes are pages, as many for a small delta as for a large one. What comes while they are written has a delta of its own. */
bool checkpoint_is_due(const struct quire_volumes *g)
{
	return map_delta_bytes(&g->active) >= group_delta_limit(g) / 4 * 3 || g->appended_bytes >= g->checkpoint_bytes;
}

static int checkpoint_now(struct quire_volumes *g)
{
	int rc = run(g);

	/* Now there is space for pages, perhaps. */
	if (rc == 1) {
		store_settle(g->store);
		rc = run(g);
	}
	return rc;
}

/* What can't be cleaned for want of space is later: a checkpoint frees some. */
static int clean_first(struct quire_volumes *g, bool *ret_wants)
{
	bool stuck = true, cleans = g->checkpoint == NULL && !g->is_bare && journal_error(g->journal) == 0;
	int rc = cleans ? group_clean(g, &stuck) : 0;

	*ret_wants = space_wants_checkpoint(g, stuck);
	return rc == -ENOSPC ? 0 : rc;
}

void group_checkpoint(struct quire_volumes *g)
{
	bool wants;

	group_lock(g);
	uint64_t n_got = g->n_got;
	g->somebody_waits = g->space_wanted;
	g->space_wanted = false;
	group_unlock(g);
	int rc = clean_first(g, &wants);
	group_lock(g);
	bool due = !g->closing && (wants || g->checkpoint_wanted || checkpoint_is_due(g));
	g->checkpointing = due;
	g->checkpoint_wanted = false;
	group_unlock(g);
	if (rc == 0 && due)
		rc = checkpoint_now(g);
	group_lock(g);
	g->checkpoint_error = rc < 0 ? rc : due ? 0 : g->checkpoint_error;
	g->checkpointing = false;
	g->n_tried += due;
	group_unlock_and_wake(g);
	space_round_ended(g, n_got);
}
