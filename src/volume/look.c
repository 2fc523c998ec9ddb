/* look.c - what a tree has at a block: the active delta, the one that is being merged, the tree's pages; and where it has no root of
 * its own yet, the same of its parent, which nobody writes to any more. */
#include "volume_internal.h"

#include <errno.h>

/* Looks into one delta. True: it has lba; else *end is lowered to where it has something. */
static bool look_delta(const struct map_delta *d, uint32_t tree, uint64_t lba, uint64_t *end, struct map_extent *ret)
{
	struct map_extent e;

	if (!map_delta_find(d, tree, lba, &e))
		return false;
	if (e.lba <= lba) {
		*ret = map_cut(&e, lba, *end);
		return true;
	}
	if (e.lba < *end)
		*end = e.lba;
	return false;
}

bool group_look_young(const struct quire_volumes *g, uint32_t tree, uint64_t lba, uint64_t end, struct map_extent *ret,
                      uint64_t *ret_end, struct map_root *ret_root)
{
	static const struct map_root empty;
	const struct tree *t = tree_find(g, tree);

	*ret_root = empty;
	for (; t != NULL; t = tree_find(g, t->parent)) {
		uint32_t id = (uint32_t)t->node.id;
		if (look_delta(&g->active, id, lba, &end, ret) || look_delta(&g->frozen, id, lba, &end, ret))
			return true;
		if (t->has_root) {
			*ret_root = t->root;
			break;
		}
	}
	*ret_end = end;
	return false;
}

int group_look(struct quire_volumes *g, uint32_t tree, uint64_t lba, uint64_t end, uint64_t since, struct map_extent *ret,
               bool *ret_gap, uint64_t *ret_epoch)
{
	struct map_tree_env env = group_map(g, tree);
	struct map_root root;
	int rc;

	/* Pages of an old root may go while they are read: then there is a new one. */
	do {
		uint64_t epoch;
		group_lock(g);
		bool young = group_look_young(g, tree, lba, end, ret, &end, &root);
		epoch = g->epoch;
		group_unlock(g);
		*ret_epoch = epoch;
		*ret_gap = false;
		if (young)
			return 0;
		rc = map_tree_look(&env, &root, lba, end, since, ret, ret_gap);
		group_lock(g);
		bool changed = epoch != g->epoch;
		group_unlock(g);
		if (rc == -ESTALE && !changed)
			rc = -EUCLEAN;
	} while (rc == -ESTALE);
	return rc;
}

int group_look_again(struct quire_volumes *g, uint64_t epoch)
{
	group_lock(g);
	int rc = epoch == g->epoch ? -EUCLEAN : 0;
	group_unlock(g);
	return rc;
}

int group_find_moved(struct quire_volumes *g, uint64_t place, uint64_t n, uint64_t *ret_place, uint64_t *ret_n)
{
	struct map_extent e;
	uint64_t epoch;
	bool gap;
	int rc = group_look(g, VOLUME_MOVED_TREE, place, place + n, 0, &e, &gap, &epoch);

	*ret_n = n;
	if (rc < 0)
		return rc;
	*ret_n = e.n;
	*ret_place = e.place;
	return gap || !map_is_data(e.place) ? -ESTALE : 0;
}
