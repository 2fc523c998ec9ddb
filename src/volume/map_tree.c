/* map_tree.c - a tree is looked up and walked through. One page is pinned at a time for each level at most. */
#include "map_tree.h"

#include <errno.h>

static struct map_extent ref_of(const struct map_root *root)
{
	return (struct map_extent){.lba = root->key, .place = root->place, .birth = root->birth};
}

/* The reference at lba in an interior page: in ref. 1: it is there; 0: all are behind lba. *end: no more than where the next begins. */
static int step_down(const struct map_node_le *node, uint64_t lba, struct map_extent *ref, uint64_t *end)
{
	int32_t i = map_node_find(node, lba);

	if ((uint32_t)(i + 1) < map_node_n(node)) {
		uint64_t next = map_node_get(node, (uint32_t)(i + 1)).lba;
		if (next < *end)
			*end = next;
	}
	if (i < 0)
		return 0;
	*ref = map_node_get(node, (uint32_t)i);
	return 1;
}

static struct map_extent gap(uint64_t lba, uint64_t end)
{
	return (struct map_extent){.lba = lba, .n = end - lba, .place = MAP_HOLE};
}

int map_tree_look(const struct map_tree_env *env, const struct map_root *root, uint64_t lba, uint64_t end, uint64_t since,
                  struct map_extent *ret, bool *ret_gap)
{
	struct map_extent ref = ref_of(root);
	struct map_pin pin;

	*ret_gap = true;
	if (map_root_is_empty(root)) {
		*ret = gap(lba, end);
		return 0;
	}
	for (unsigned level = root->level;; level--) {
		if (since > 0 && ref.birth <= since)
			break;
		int rc = map_cache_get(env->cache, env->owner, &ref, level, &pin);
		if (rc < 0) {
			*ret = gap(lba, end);
			return rc;
		}
		int there = step_down(pin.node, lba, &ref, &end);
		map_cache_put(env->cache, &pin);
		if (there == 0)
			break;
		if (level > 0)
			continue;
		if (map_end(&ref) > lba) {
			*ret = map_cut(&ref, lba, end);
			*ret_gap = false;
			return 0;
		}
		break;
	}
	*ret = gap(lba, end);
	return 0;
}

int map_tree_has_page(const struct map_tree_env *env, const struct map_root *root, unsigned at_level, uint64_t key, uint64_t place)
{
	struct map_extent ref = ref_of(root);
	uint64_t end = UINT64_MAX;

	if (map_root_is_empty(root) || root->level < at_level)
		return 0;
	for (unsigned level = root->level; level > at_level; level--) {
		struct map_pin pin;
		int rc = map_cache_get(env->cache, env->owner, &ref, level, &pin);
		if (rc < 0)
			return rc;
		rc = step_down(pin.node, key, &ref, &end);
		map_cache_put(env->cache, &pin);
		if (rc == 0)
			return 0;
	}
	return ref.place == place;
}

/* ---- walking ---- */

struct walk {
	const struct map_tree_env *env;
	uint64_t since;
	map_extent_fn fn;
	void *arg;
};

static int walk_page(const struct walk *w, const struct map_extent *ref, unsigned level) /* recursion: as deep as the tree */
{
	struct map_pin pin;
	int rc = map_cache_get(w->env->cache, w->env->owner, ref, level, &pin);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < map_node_n(pin.node); i++) {
		struct map_extent e = map_node_get(pin.node, i);
		if (e.birth > w->since)
			rc = level > 0 ? walk_page(w, &e, level - 1) : w->fn(w->arg, &e);
	}
	map_cache_put(w->env->cache, &pin);
	return rc;
}

int map_tree_walk(const struct map_tree_env *env, const struct map_root *root, uint64_t since, map_extent_fn fn, void *arg)
{
	struct walk w = {env, since, fn, arg};
	struct map_extent ref = ref_of(root);

	return map_root_is_empty(root) || root->birth <= since ? 0 : walk_page(&w, &ref, root->level);
}

/* ---- giving up ---- */

struct freeing {
	const struct map_tree_env *env;
	uint64_t shared;
	const struct map_root *others;
	unsigned n_others;
	struct map_lost *lost;
	bool counts; /* and nothing else */
};

/* Does another tree have that very page? */
static int page_is_elsewhere(const struct freeing *f, const struct map_extent *page, unsigned at_level)
{
	int there = 0;

	for (unsigned i = 0; i < f->n_others && there == 0; i++)
		there = map_tree_has_page(f->env, &f->others[i], at_level, page->lba, page->place);
	return there;
}

/* How much of e, from its start, is alike in all others: whether one of them has it. *ret_n ≤ e->n. */
static int extent_is_elsewhere(const struct freeing *f, const struct map_extent *e, uint64_t *ret_n)
{
	uint64_t end = map_end(e);
	int there = 0;

	for (unsigned i = 0; i < f->n_others && there == 0; i++) {
		struct map_extent found;
		bool is_gap;
		int rc = map_tree_look(f->env, &f->others[i], e->lba, end, 0, &found, &is_gap);
		if (rc < 0)
			return rc;
		/* Zeros lie nowhere: they are told by their births. */
		there = !is_gap && found.place == e->place && (map_is_data(e->place) || found.birth == e->birth);
		end = map_end(&found);
	}
	*ret_n = end - e->lba;
	return there;
}

static void lose(const struct freeing *f, uint64_t place, uint64_t n)
{
	if (map_is_data(place) && !f->counts)
		f->env->owner->dead(f->env->owner, place, n);
	if (f->lost == NULL)
		return;
	f->lost->n_own += map_is_data(place) ? n : 0;
	f->lost->n_data += map_is_data(place) ? n : 0;
	f->lost->n_zero += place == MAP_ZERO ? n : 0;
}

static int free_extent(const struct freeing *f, struct map_extent e)
{
	while (e.n > 0) {
		uint64_t n;
		int rc = extent_is_elsewhere(f, &e, &n);
		if (rc < 0)
			return rc;
		if (rc == 0)
			lose(f, e.place, n);
		e = map_cut(&e, e.lba + n, map_end(&e));
	}
	return 0;
}

static int free_page(const struct freeing *f, const struct map_extent *ref, unsigned level) /* recursion: as deep as the tree */
{
	struct map_pin pin;
	int rc = page_is_elsewhere(f, ref, level);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = map_cache_get(f->env->cache, f->env->owner, ref, level, &pin);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < map_node_n(pin.node); i++) {
		struct map_extent e = map_node_get(pin.node, i);
		if (e.birth <= f->shared)
			continue;
		if (level > 0)
			rc = free_page(f, &e, level - 1);
		else if (e.place != MAP_HOLE)
			rc = free_extent(f, e);
	}
	map_cache_put(f->env->cache, &pin);
	if (rc == 0 && !f->counts)
		f->env->owner->dead(f->env->owner, ref->place, 1);
	return rc;
}

int map_free(const struct map_tree_env *env, const struct map_root *root, uint64_t shared, const struct map_root *others,
             unsigned n_others, struct map_lost *lost)
{
	struct freeing f = {env, shared, others, n_others, lost, false};
	struct map_extent ref = ref_of(root);

	return map_root_is_empty(root) || root->birth <= shared ? 0 : free_page(&f, &ref, root->level);
}

int map_count(const struct map_tree_env *env, const struct map_root *root, uint64_t shared, const struct map_root *others,
              unsigned n_others, struct map_lost *lost)
{
	struct freeing f = {env, shared, others, n_others, lost, true};
	struct map_extent ref = ref_of(root);

	return map_root_is_empty(root) || root->birth <= shared ? 0 : free_page(&f, &ref, root->level);
}
