/* table.c - which volumes and trees there are. Records say how those that changed are now, so reading them again gives the same. */
#include "volume_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_GENERATIONS (UINT64_C(1) << 56) /* each is made by a call; what pages of trees can hold (map_node.c) */

struct tree *tree_find(const struct quire_volumes *g, uint32_t id)
{
	return (struct tree *)idmap_find(&g->trees, id);
}

bool tree_has_children(const struct quire_volumes *g, uint32_t id)
{
	for (struct idmap_node *node = idmap_any(&g->trees); node != NULL; node = idmap_after(&g->trees, node))
		if (((const struct tree *)node)->parent == id)
			return true;
	return false;
}

struct volume *volume_find(const struct quire_volumes *g, uint32_t id)
{
	return (struct volume *)idmap_find(&g->volumes, id);
}

struct volume *volume_find_name(const struct quire_volumes *g, const char *name)
{
	for (struct idmap_node *node = idmap_any(&g->volumes); node != NULL; node = idmap_after(&g->volumes, node))
		if (strcmp(((struct volume *)node)->name, name) == 0)
			return (struct volume *)node;
	return NULL;
}

/* ---- on the medium ---- */

void tree_encode(const struct tree *t, struct tree_le *ret)
{
	uint32_t flags = (t->given_up ? TREE_IS_GIVEN_UP : 0) | (t->has_root ? TREE_HAS_ROOT : 0);

	*ret = (struct tree_le){
		.id = htole32((uint32_t)t->node.id),
		.parent = htole32(t->parent),
		.flags = htole32(flags),
		.root_level = htole32(t->root.level),
		.frozen = htole64(t->frozen),
		.root_place = htole64(t->root.place),
		.root_birth = htole64(t->root.birth),
		.root_key = htole64(t->root.key),
		.n_own = htole64((uint64_t)t->n_own),
		.n_zero = htole64((uint64_t)t->n_zero),
		.n_data = htole64((uint64_t)t->n_data),
	};
}

void volume_encode(const struct volume *v, struct volume_le *ret)
{
	*ret = (struct volume_le){
		.id = htole32((uint32_t)v->node.id),
		.tree = htole32(v->tree),
		.origin = htole32(v->origin),
		.flags = htole32(v->flags),
		.size_bytes = htole64(v->size_bytes),
		.generation = htole64(v->generation),
		.left_from = htole64(v->left_from),
		.left_to = htole64(v->left_to),
	};
	memcpy(ret->name, v->name, strnlen(v->name, sizeof(ret->name) - 1));
}

void table_add_volume(struct table_le *to, const struct volume *v)
{
	uint16_t n = le16toh(to->n_volumes);
	struct volume_le le;

	/* Volumes come first. */
	volume_encode(v, &le);
	memcpy((uint8_t *)(to + 1) + n * sizeof(le), &le, sizeof(le));
	to->n_volumes = htole16((uint16_t)(n + 1));
}

void table_add_tree(struct table_le *to, const struct tree *t)
{
	size_t at = le16toh(to->n_volumes) * sizeof(struct volume_le) + le16toh(to->n_trees) * sizeof(struct tree_le);
	struct tree_le le;

	tree_encode(t, &le);
	memcpy((uint8_t *)(to + 1) + at, &le, sizeof(le));
	to->n_trees = htole16((uint16_t)(le16toh(to->n_trees) + 1));
}

/* ---- in memory ---- */

int table_put_tree(struct quire_volumes *g, const struct tree_le *le, bool with_root)
{
	uint32_t id = le32toh(le->id);
	struct tree *t = tree_find(g, id);

	if (id == NO_TREE)
		return -EUCLEAN;
	if (t == NULL) {
		/* A parent is older: so who goes from parent to parent comes to an end. */
		if (le32toh(le->parent) >= id || (le32toh(le->parent) != NO_TREE && tree_find(g, le32toh(le->parent)) == NULL))
			return -EUCLEAN;
		t = calloc(1, sizeof(*t));
		if (t == NULL || idmap_add(&g->trees, &t->node, id) < 0) {
			free(t);
			return -ENOMEM;
		}
		/* A root in a record is an empty one, of a tree that has no parent. */
		t->has_root = (le32toh(le->flags) & TREE_HAS_ROOT) != 0;
		t->parent = le32toh(le->parent);
	}
	t->given_up = (le32toh(le->flags) & TREE_IS_GIVEN_UP) != 0;
	t->frozen = le64toh(le->frozen);
	if (with_root) {
		t->root = (struct map_root){le64toh(le->root_place), le64toh(le->root_birth), le32toh(le->root_level),
		                            le64toh(le->root_key)};
		t->n_own = (int64_t)le64toh(le->n_own);
		t->n_zero = (int64_t)le64toh(le->n_zero);
		t->n_data = (int64_t)le64toh(le->n_data);
		if (((le64toh(le->n_own) | le64toh(le->n_zero) | le64toh(le->n_data)) >> 40) != 0)
			return -EUCLEAN;
	}
	return t->root.level < MAP_MAX_LEVELS && (t->has_root || t->parent != NO_TREE) ? 0 : -EUCLEAN;
}

int table_put_volume(struct quire_volumes *g, const struct volume_le *le)
{
	uint32_t id = le32toh(le->id), flags = le32toh(le->flags);
	struct volume *v = volume_find(g, id);

	if (id == 0 || (flags & ~VOLUME_KNOWN_FLAGS) != 0 || le->name[VOLUME_NAME_BYTES - 1] != 0 || le64toh(le->size_bytes) % MAP_BLOCK_BYTES != 0 ||
	    le64toh(le->size_bytes) / MAP_BLOCK_BYTES > MAP_MAX_BLOCKS)
		return -EUCLEAN;
	if (flags & VOLUME_IS_GONE) {
		if (v != NULL)
			idmap_remove(&g->volumes, &v->node);
		free(v);
		return 0;
	}
	if (v == NULL) {
		v = calloc(1, sizeof(*v));
		if (v == NULL || idmap_add(&g->volumes, &v->node, id) < 0) {
			free(v);
			return -ENOMEM;
		}
	}
	v->tree = le32toh(le->tree);
	v->origin = le32toh(le->origin);
	v->flags = flags;
	v->size_bytes = le64toh(le->size_bytes);
	v->generation = le64toh(le->generation);
	v->left_from = le64toh(le->left_from);
	v->left_to = le64toh(le->left_to);
	memcpy(v->name, le->name, sizeof(v->name));
	return 0;
}

bool table_is_possible(const struct quire_volumes *g, const struct table_le *le)
{
	/* The last number of all is that of VOLUME_MOVED_TREE. */
	return le32toh(le->next_id) >= g->next_id && le64toh(le->generation) <= MOST_GENERATIONS;
}

int table_apply(struct quire_volumes *g, const struct table_le *le, uint32_t max_bytes)
{
	const uint8_t *at = (const uint8_t *)(le + 1);
	size_t n_volumes = le16toh(le->n_volumes), n_trees = le16toh(le->n_trees);
	struct volume_le v;
	struct tree_le t;
	int rc = 0;

	if (sizeof(*le) + n_volumes * sizeof(v) + n_trees * sizeof(t) > max_bytes)
		return -EUCLEAN;
	for (; rc == 0 && n_volumes > 0; n_volumes--, at += sizeof(v)) {
		memcpy(&v, at, sizeof(v));
		rc = table_put_volume(g, &v);
	}
	for (; rc == 0 && n_trees > 0; n_trees--, at += sizeof(t)) {
		memcpy(&t, at, sizeof(t));
		rc = table_put_tree(g, &t, false);
	}
	g->generation = le64toh(le->generation);
	g->next_id = le32toh(le->next_id);
	return rc == 0 && g->generation > MOST_GENERATIONS ? -EUCLEAN : rc;
}

/* Of what was read: each volume has a tree, which is frozen if it is a snapshot's, and no other; numbers that will be given out are new. */
bool table_is_sane(struct quire_volumes *g)
{
	if (g->generation > MOST_GENERATIONS)
		return false;
	for (struct idmap_node *node = idmap_any(&g->volumes); node != NULL; node = idmap_after(&g->volumes, node)) {
		const struct volume *v = (const struct volume *)node;
		struct tree *t = tree_find(g, v->tree);
		if (t == NULL || t->given_up || t->is_taken || (t->frozen != 0) != ((v->flags & VOLUME_IS_SNAPSHOT) != 0) || node->id >= g->next_id ||
		    v->name[0] == '\0' || v->tree == VOLUME_MOVED_TREE)
			return false;
		t->is_taken = true;
	}
	for (struct idmap_node *node = idmap_any(&g->trees); node != NULL; node = idmap_after(&g->trees, node)) {
		struct tree *t = (struct tree *)node;
		t->is_taken = false;
		if ((node->id >= g->next_id && node->id != VOLUME_MOVED_TREE) || t->frozen > g->generation || t->root.birth > g->generation)
			return false;
	}
	return true;
}

void table_free(struct quire_volumes *g)
{
	struct idmap_node *node;

	while ((node = idmap_any(&g->volumes)) != NULL) {
		idmap_remove(&g->volumes, node);
		free(node);
	}
	while ((node = idmap_any(&g->trees)) != NULL) {
		idmap_remove(&g->trees, node);
		free(node);
	}
	idmap_fini(&g->volumes);
	idmap_fini(&g->trees);
}
