/* promote.c - a clone and what it comes from change places: the clone gets the snapshots that both have in common. Trees stay as they are,
 * since none belongs to a volume; it is names and origins that change.
 *
 * A record holds so many volumes and no more. Snapshots come first, as many at a time as one record takes, the oldest first; who comes from whom
 * changes with the last of them. So a crash in between leaves some of them with each, and promoting again goes on there.
 */
#include "volume_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define MOST_SNAPSHOTS 16u /* in one record, with two volumes */

/* Lock held. */
static bool is_ancestor(const struct quire_volumes *g, uint32_t tree, uint32_t of)
{
	for (const struct tree *t = tree_find(g, of); t != NULL; t = tree_find(g, t->parent))
		if (t->node.id == tree)
			return true;
	return false;
}

/* The volume that a clone comes from; NULL: it is no more, or it is no clone. */
static const struct volume *source_of(const struct quire_volumes *g, const struct volume *clone)
{
	const struct volume *v = volume_find(g, clone->origin);

	if (v != NULL && (v->flags & VOLUME_IS_SNAPSHOT) != 0)
		v = volume_find(g, v->origin);
	return v != NULL && v->node.id != clone->node.id ? v : NULL;
}

/* The snapshot of `from` with the lowest id above `after` that is the clone's past, too. */
static const struct volume *next_common(const struct quire_volumes *g, const struct volume *from, const struct volume *clone,
                                        uint64_t after)
{
	const struct volume *best = NULL;

	for (struct idmap_node *n = idmap_any(&g->volumes); n != NULL; n = idmap_after(&g->volumes, n)) {
		const struct volume *s = (const struct volume *)n;
		if ((s->flags & VOLUME_IS_SNAPSHOT) != 0 && s->origin == from->node.id && n->id > after &&
		    (best == NULL || n->id < best->node.id) && is_ancestor(g, s->tree, clone->tree))
			best = s;
	}
	return best;
}

static int rename_snapshot(const struct quire_volumes *g, const struct volume *s, const struct volume *clone, struct volume *ret)
{
	const char *own = strchr(s->name, '@');
	size_t n = strlen(clone->name);

	if (own == NULL || n + strlen(own) >= sizeof(ret->name))
		return -EINVAL;
	*ret = *s;
	memset(ret->name, 0, sizeof(ret->name));
	memcpy(ret->name, clone->name, n);
	memcpy(ret->name + n, own, strlen(own));
	ret->origin = (uint32_t)clone->node.id;
	return volume_find_name(g, ret->name) != NULL ? -EEXIST : 0;
}

static int promote(struct request *r, struct table_le *to)
{
	struct change *c = r->arg;
	const struct quire_volumes *g = r->group;
	struct volume clone, renamed;
	int rc = change_find_volume(r->group, c->name, &clone);
	const struct volume *from = rc == 0 ? source_of(g, &clone) : NULL, *s = NULL;

	if (rc < 0 || from == NULL)
		return rc < 0 ? rc : -EINVAL;
	for (unsigned i = 0; i < MOST_SNAPSHOTS; i++) {
		s = next_common(g, from, &clone, s != NULL ? s->node.id : 0);
		if (s == NULL)
			break;
		rc = rename_snapshot(g, s, &clone, &renamed);
		if (rc < 0)
			return rc;
		table_add_volume(to, &renamed);
	}
	c->again = s != NULL && next_common(g, from, &clone, s->node.id) != NULL;
	if (c->again)
		return 0;
	struct volume old = *from;
	clone.origin = old.origin;
	old.origin = (uint32_t)clone.node.id;
	table_add_volume(to, &clone);
	table_add_volume(to, &old);
	return 0;
}

/* No name is in the way: said before anything is changed. */
static int check_names(struct quire_volumes *g, const char *name)
{
	struct volume clone, renamed;

	group_lock(g);
	int rc = change_find_volume(g, name, &clone);
	const struct volume *from = rc == 0 ? source_of(g, &clone) : NULL, *s = NULL;
	if (rc == 0 && from == NULL)
		rc = -EINVAL;
	while (rc == 0 && (s = next_common(g, from, &clone, s != NULL ? s->node.id : 0)) != NULL)
		rc = rename_snapshot(g, s, &clone, &renamed);
	group_unlock(g);
	return rc;
}

int quire_volume_promote(struct quire_volumes *g, const char *name)
{
	struct change c = {.name = name, .again = true};
	int rc = name == NULL ? -EINVAL : group_enter(g);

	if (rc < 0)
		return rc;
	rc = check_names(g, name);
	while (rc == 0 && c.again)
		rc = group_change(g, promote, &c);
	group_leave(g);
	return rc;
}
