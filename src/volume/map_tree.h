/* map_tree.h - trees of pages: looked up, merged with a delta, given up. */
#ifndef VOLUME_MAP_TREE_H
#define VOLUME_MAP_TREE_H

#include "map_cache.h"
#include "map_delta.h"

/* That a leaf has at least, as who reckons with space that pages will take counts. */
#define MAP_LEAST_LEAF_EXTENTS 100u

struct map_tree_env {
	struct map_cache *cache; /* borrowed, both */
	struct map_owner *owner;
};

static inline bool map_root_is_empty(const struct map_root *r)
{
	return r->place == 0;
}

/* What is at lba, up to `end` at most: an extent cut to [lba, end), or, if *ret_gap, blocks that were never written, with birth 0.
 * What was born at `since` or before may be told as a gap, too: parts of the tree that are as old are not read then. If a page can't be
 * read, *ret is what it leads to, as far as is known. */
int map_tree_look(const struct map_tree_env *env, const struct map_root *root, uint64_t lba, uint64_t end, uint64_t since,
                  struct map_extent *ret, bool *ret_gap);

/* Blocks that a tree has not any more, and their kinds; added to. */
struct map_lost {
	uint64_t n_own, n_zero; /* born after `shared`: of data, and zeros that space was promised for */
	uint64_t n_data;        /* whenever they were born */
};

/* One of these at a time for an env's owner, whose `dead` hears of what is given up. */

struct map_merge {
	struct map_tree_env env;
	const struct map_delta *delta; /* of which the tree's extents are taken */
	uint32_t tree;
	uint64_t birth;                /* of the new pages */
	uint64_t shared;               /* what was born then or earlier is another tree's, too */
	const struct map_delta *touched; /* NULL, or of which the tree's extents say what pages are to be written anew */
	bool drop_holes;               /* the tree has no use for them */
	struct map_lost *lost;         /* NULL, or what it had before and has not then */
};
/* A new root, of a tree that has what the old one has, and over it what the delta has of the tree. Pages of which nothing changes are
 * part of both. -ENOMEM, -ENOSPC, errors of owner and pages: there is no new tree; what was told to be dead is not. */
int map_merge(const struct map_merge *m, const struct map_root *old, struct map_root *ret);

/* Is a page of that level part of the tree, at that place? key: lba of its first entry. 1, 0, or an error. */
int map_tree_has_page(const struct map_tree_env *env, const struct map_root *root, unsigned level, uint64_t key, uint64_t place);

/* All that `root` has, born after `shared`, and no tree that others[i] is the root of: it is dead. Pages too. lost: NULL, or what
 * that is. */
int map_free(const struct map_tree_env *env, const struct map_root *root, uint64_t shared, const struct map_root *others,
             unsigned n_others, struct map_lost *lost);
/* The same, but nothing is given up. Any number of these at once. */
int map_count(const struct map_tree_env *env, const struct map_root *root, uint64_t shared, const struct map_root *others,
              unsigned n_others, struct map_lost *lost);

/* Each extent born after `since`, in order; for tests. A negative return ends it. */
typedef int (*map_extent_fn)(void *arg, const struct map_extent *e);
int map_tree_walk(const struct map_tree_env *env, const struct map_root *root, uint64_t since, map_extent_fn fn, void *arg);

#endif
