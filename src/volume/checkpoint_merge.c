/* checkpoint_merge.c - the second step of a checkpoint: what was frozen becomes pages of the trees, and what nobody has any more is dead.
 *
 * Parents come first, so that a tree without a root begins with its parent's as it is now. A tree that was given up needs no pages of its own if all its
 * children were, too: what it has alone is told to be dead, and it is out; so a group that is emptied is emptied without space for a
 * single page. Otherwise it is merged like the others, and goes when one child is left at most.
 *
 * All this changes copies (`work`), which the checkpoint takes when it is durable.
 */
#include "space.h"

#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int group_write_pages(struct map_owner *owner, const void *pages, unsigned n, uint64_t *ret_places)
{
	struct quire_volumes *g = ((struct group_owner *)owner)->group;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n;) {
		struct iovec part = {(uint8_t *)(uintptr_t)pages + (size_t)i * MAP_NODE_BYTES, (size_t)(n - i) * MAP_NODE_BYTES};
		struct request r = {.kind = REQUEST_PAGES, .group = g, .n = n - i, .parts = &part, .n_parts = 1,
		                    .is_upkeep = true};
		rc = group_append(&r);
		for (unsigned p = 0; rc == 0 && p < r.n; p++)
			ret_places[i + p] = r.place + p;
		if (rc == 0)
			g->checkpoint->next_no = r.record_no + 1;
		i += (unsigned)r.n;
	}
	return rc;
}

/* Blocks that lie elsewhere since they were moved: what leads there is no more, and when that is merged they are found dead. */
static void forget_moved(struct checkpoint *c, uint64_t place, uint64_t n_blocks)
{
	struct map_extent e = {.lba = place, .n = n_blocks, .place = MAP_HOLE, .birth = c->generation};

	if (map_delta_set(&c->unmoved, VOLUME_MOVED_TREE, &e, NULL, NULL) < 0)
		c->error = -ENOMEM;
}

void group_merge_dead(struct map_owner *owner, uint64_t place, uint64_t n_blocks)
{
	struct quire_volumes *g = ((struct group_owner *)owner)->group;

	while (n_blocks > 0) {
		uint64_t at, n = n_blocks;
		group_lock(g);
		struct segment *seg = segment_find(g, place / g->segment_blocks - 1);
		bool moved = false;
		group_unlock(g);
		if ((seg == NULL || seg->has_moved) && owner != &g->moved_owner.base) {
			int rc = group_find_moved(g, place, n_blocks, &at, &n);
			moved = rc == 0;
			if (rc < 0 && rc != -ESTALE)
				g->checkpoint->error = rc;
		}
		group_lock(g);
		if (moved)
			forget_moved(g->checkpoint, place, n);
		else if (seg != NULL) /* else it was cleaned, and is gone; only who is here removes segments */
			seg->n_merged -= (int64_t)n;
		group_unlock(g);
		place += n;
		n_blocks -= n;
	}
}

static struct kept_tree *find(const struct checkpoint *c, uint32_t id)
{
	struct kept_tree key = {.t.node.id = id};
	struct kept_tree *k = id == NO_TREE ? NULL : bsearch(&key, c->work, c->n_trees, sizeof(key), kept_tree_order);

	return k;
}

static uint64_t shared_of(const struct checkpoint *c, const struct kept_tree *k)
{
	const struct kept_tree *parent = find(c, k->t.parent);

	return parent == NULL ? 0 : parent->t.frozen;
}

static int merge_tree(struct checkpoint *c, struct kept_tree *k)
{
	const struct kept_tree *parent = find(c, k->t.parent);
	struct map_lost lost = {0};
	struct map_merge m = {
		.env = group_map(c->g, (uint32_t)k->t.node.id),
		.delta = &c->g->frozen,
		.touched = &c->g->touched,
		.tree = (uint32_t)k->t.node.id,
		.birth = k->t.frozen != 0 ? k->t.frozen : c->generation,
		.shared = shared_of(c, k),
		.lost = k->t.node.id == VOLUME_MOVED_TREE ? NULL : &lost,
	};

	if (!k->t.has_root && parent == NULL)
		return -EUCLEAN;
	if (!k->t.has_root) {
		k->t.root = parent->t.root;
		k->t.n_data += parent->t.n_data;
	}
	k->t.has_root = true;
	int rc = map_merge(&m, &k->t.root, &k->t.root);
	k->t.n_own -= (int64_t)lost.n_own;
	k->t.n_zero -= (int64_t)lost.n_zero;
	k->t.n_data -= (int64_t)lost.n_data;
	return rc;
}

static unsigned children_of(const struct checkpoint *c, const struct kept_tree *k, struct kept_tree **ret_last)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n_trees; i++)
		if (!c->work[i].out && c->work[i].t.parent == k->t.node.id) {
			*ret_last = &c->work[i];
			n++;
		}
	return n;
}

/* True: one is out; perhaps another can go then. */
static int give_up_some(struct checkpoint *c, bool *ret_any)
{
	struct map_tree_env env = group_map(c->g, NO_TREE);

	*ret_any = false;
	for (unsigned i = 0; i < c->n_trees; i++) {
		struct kept_tree *k = &c->work[i], *child = NULL;
		if (k->out || !k->t.given_up)
			continue;
		unsigned n = children_of(c, k, &child);
		if (n > 1)
			continue;
		struct map_lost lost = {0};
		int rc = map_free(&env, &k->t.root, shared_of(c, k), n == 1 ? &child->t.root : NULL, n, &lost);
		if (rc < 0)
			return rc;
		k->out = true;
		if (child != NULL) { /* what is left of it is the child's alone */
			child->t.parent = k->t.parent;
			child->t.n_own += k->t.n_own - (int64_t)lost.n_own;
			child->t.n_zero += k->t.n_zero - (int64_t)lost.n_zero;
		}
		*ret_any = true;
	}
	return 0;
}

/* ---- what nobody has any more ---- */

/* Given up, and so are all that began with it: no page is written for it. Children have larger ids. */
static void find_doomed(struct checkpoint *c)
{
	for (unsigned i = c->n_trees - 1; i-- > 0;) {
		struct kept_tree *k = &c->work[i], *parent = find(c, k->t.parent);
		k->doomed = k->t.given_up && !k->has_heirs;
		if (parent != NULL && !k->doomed)
			parent->has_heirs = true;
	}
}

/* All that a tree has alone is dead: of the delta, and of its pages. */
static int lose_tree(struct checkpoint *c, struct kept_tree *k)
{
	struct quire_volumes *g = c->g;
	struct map_tree_env env = group_map(g, (uint32_t)k->t.node.id);
	struct map_extent e;

	for (uint64_t lba = 0; map_delta_find(&g->frozen, (uint32_t)k->t.node.id, lba, &e); lba = map_end(&e))
		if (map_is_data(e.place))
			env.owner->dead(env.owner, e.place, e.n);
	return k->t.has_root ? map_free(&env, &k->t.root, shared_of(c, k), NULL, 0, NULL) : 0;
}

static bool all_are_doomed(const struct checkpoint *c)
{
	for (unsigned i = 0; i + 1 < c->n_trees; i++)
		if (!c->work[i].doomed)
			return false;
	return true;
}

/* That of what was moved comes last, since what the others lose is what it loses. */
static int merge_moved(struct checkpoint *c)
{
	struct kept_tree *k = &c->work[c->n_trees - 1];
	struct map_merge m = {.env = group_map(c->g, VOLUME_MOVED_TREE), .delta = &c->unmoved, .tree = VOLUME_MOVED_TREE,
	                      .birth = c->generation, .drop_holes = true};
	int rc;

	if (all_are_doomed(c)) {
		rc = lose_tree(c, k);
		k->t.root = (struct map_root){0};
		return rc;
	}
	rc = merge_tree(c, k);
	return rc == 0 ? map_merge(&m, &k->t.root, &k->t.root) : rc;
}

static void begin_merge(struct checkpoint *c)
{
	memcpy(c->work, c->trees, c->n_trees * sizeof(c->work[0]));
	map_delta_fini(&c->unmoved);
	c->error = 0;
	quire_assert(c->n_trees > 0 && c->trees[c->n_trees - 1].t.node.id == VOLUME_MOVED_TREE);
	find_doomed(c);
}

int checkpoint_merge(struct checkpoint *c)
{
	bool any = true;
	int rc = 0;

	begin_merge(c);
	for (unsigned i = 0; rc == 0 && i + 1 < c->n_trees; i++) {
		struct kept_tree *k = &c->work[i];
		rc = k->doomed ? lose_tree(c, k) : merge_tree(c, k);
		k->out = k->doomed;
	}
	while (rc == 0 && any)
		rc = give_up_some(c, &any);
	if (rc == 0)
		rc = merge_moved(c);
	return rc == 0 ? c->error : rc;
}

/* ---- what it takes ---- */

struct counting {
	const struct checkpoint *c;
	uint64_t n;
};

static void count_extent(void *arg, uint32_t tree, const struct map_extent *e)
{
	struct counting *counting = arg;
	const struct kept_tree *k = find(counting->c, tree);

	(void)e;
	counting->n += k == NULL || !k->doomed;
}

uint64_t checkpoint_merge_segments(struct checkpoint *c)
{
	struct counting counting = {.c = c};

	begin_merge(c);
	if (all_are_doomed(c))
		return 0;
	map_delta_each(&c->g->frozen, count_extent, &counting);
	map_delta_each(&c->g->touched, count_extent, &counting);
	return space_for_merge(c->g, counting.n);
}
