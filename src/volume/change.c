/* change.c - volumes are made, snapshotted, cloned, rolled back, resized, removed: each is a record of the tables that change, decided upon
 * in the log's turn, so that it stands in one order with all writes.
 *
 * A snapshot takes over its volume's tree, which is frozen, and the volume goes on with a new one that has it for a parent. A clone
 * of a volume is a clone of such a tree, which then is nobody's, and so given up; it stays while two have it as a parent.
 */
#include "change.h"

#include "../base/canary.h"
#include "../base/name.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

_Static_assert(QUIRE_VOLUME_NAME_MAX == NAME_MAX_BYTES, "the same");

/* VOLUME@NAME, of that volume. */
static bool snapshot_is_of(const char *name, const char *volume)
{
	size_t n = strlen(volume);

	return strncmp(name, volume, n) == 0 && name[n] == '@' && name_is_valid(name + n + 1);
}

/* ---- parts of changes; lock held ---- */

int change_find_volume(struct quire_volumes *g, const char *name, struct volume *ret)
{
	const struct volume *v = volume_find_name(g, name);

	if (v == NULL)
		return -ENOENT;
	*ret = *v;
	return (v->flags & VOLUME_IS_PARTIAL) != 0 ? -EBUSY : (v->flags & VOLUME_IS_SNAPSHOT) != 0 ? -EINVAL : 0;
}

void volume_set_name(struct volume *v, const char *name)
{
	memset(v->name, 0, sizeof(v->name));
	memcpy(v->name, name, strlen(name));
}

/* ---- changes ---- */

/* The store is asked for it before that is recorded. */
static int may_promise(struct request *r, int64_t n_blocks)
{
	r->growth = n_blocks > 0 ? (uint64_t)n_blocks : 0;
	return n_blocks <= 0 || promise_has_room(r->group, r->growth) ? 0 : -ENOSPC;
}

/* What a reserved volume alone has is, from then on, not its alone. */
static int may_freeze(struct request *r, const struct volume *v)
{
	return (v->flags & VOLUME_IS_RESERVED) != 0 ? may_promise(r, tree_find(r->group, v->tree)->n_own) : 0;
}

static int create(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	struct volume v = {.flags = c->flags, .size_bytes = c->size_bytes, .generation = r->group->generation};

	if (volume_find_name(r->group, c->name) != NULL)
		return -EEXIST;
	if ((c->flags & VOLUME_IS_RESERVED) != 0 && may_promise(r, (int64_t)promise_of_volume(c->size_bytes)) < 0)
		return -ENOSPC;
	volume_set_name(&v, c->name);
	v.node.id = take_id(to);
	struct tree t = {.node.id = take_id(to), .has_root = true};
	v.tree = (uint32_t)t.node.id;
	table_add_volume(to, &v);
	table_add_tree(to, &t);
	return 0;
}

static int snapshot(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	struct quire_volumes *g = r->group;
	struct volume v;
	int rc = change_find_volume(g, c->name, &v);

	if (rc < 0)
		return rc;
	if (volume_find_name(g, c->other) != NULL)
		return -EEXIST;
	if (may_freeze(r, &v) < 0)
		return -ENOSPC;
	struct volume s = v;
	struct tree t = frozen(g, v.tree, false), next = child_of(v.tree, to);
	volume_set_name(&s, c->other);
	s.node.id = take_id(to);
	s.origin = (uint32_t)v.node.id;
	s.flags = (s.flags & ~VOLUME_IS_RESERVED) | VOLUME_IS_SNAPSHOT;
	s.generation = g->generation;
	v.tree = (uint32_t)next.node.id;
	if (!CANARY(snapshot_shares_generation))
		next_generation(to);
	table_add_volume(to, &v);
	table_add_volume(to, &s);
	table_add_tree(to, &t);
	table_add_tree(to, &next);
	return 0;
}

static int make_clone(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	struct quire_volumes *g = r->group;
	struct volume from;
	int rc = change_find_volume(g, c->name, &from);
	bool of_snapshot = rc == -EINVAL;

	if (rc < 0 && !of_snapshot)
		return rc;
	if (volume_find_name(g, c->other) != NULL)
		return -EEXIST;
	if (!of_snapshot && may_freeze(r, &from) < 0)
		return -ENOSPC;
	struct volume v = from;
	struct tree t = child_of(from.tree, to), base, next;
	if (c->size_bytes != 0 && c->size_bytes < v.size_bytes)
		return -EINVAL;
	volume_set_name(&v, c->other);
	v.node.id = take_id(to);
	v.tree = (uint32_t)t.node.id;
	v.origin = (uint32_t)from.node.id;
	v.size_bytes = c->size_bytes != 0 ? c->size_bytes : v.size_bytes;
	v.flags = (v.flags & ~(VOLUME_IS_SNAPSHOT | VOLUME_IS_RESERVED)) | c->flags;
	v.generation = g->generation;
	next_generation(to);
	if (!of_snapshot) {
		base = frozen(g, from.tree, true);
		next = child_of(from.tree, to);
		from.tree = (uint32_t)next.node.id;
		table_add_volume(to, &from);
	}
	table_add_volume(to, &v);
	table_add_tree(to, &t);
	if (!of_snapshot) {
		table_add_tree(to, &base);
		table_add_tree(to, &next);
	}
	return 0;
}

static int rollback(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	struct quire_volumes *g = r->group;
	const struct volume *s = volume_find_name(g, c->other);
	struct volume v;
	int rc = change_find_volume(g, c->name, &v);

	if (rc < 0)
		return rc;
	if (s == NULL)
		return -ENOENT;
	if (s->origin != v.node.id || !(s->flags & VOLUME_IS_SNAPSHOT))
		return -EINVAL;
	struct tree old = given_up(g, v.tree), next = child_of(s->tree, to);
	v.tree = (uint32_t)next.node.id;
	v.size_bytes = s->size_bytes;
	if (v.left_to == 0 || s->generation < v.left_from)
		v.left_from = s->generation;
	v.left_to = g->generation;
	next_generation(to);
	table_add_volume(to, &v);
	table_add_tree(to, &old);
	table_add_tree(to, &next);
	return 0;
}

static bool has_snapshots(const struct quire_volumes *g, uint64_t id)
{
	for (struct idmap_node *n = idmap_any(&g->volumes); n != NULL; n = idmap_after(&g->volumes, n)) {
		const struct volume *v = (const struct volume *)n;
		if (v->origin == id && (v->flags & VOLUME_IS_SNAPSHOT) != 0)
			return true;
	}
	return false;
}

static int rm(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	struct quire_volumes *g = r->group;
	const struct volume *found = volume_find_name(g, c->name);

	if (found == NULL)
		return -ENOENT;
	if (found->n_open != 0)
		return -EBUSY;
	if (has_snapshots(g, found->node.id))
		return -ENOTEMPTY;
	struct volume v = *found;
	struct tree t = given_up(g, v.tree);
	v.flags |= VOLUME_IS_GONE;
	table_add_volume(to, &v);
	table_add_tree(to, &t);
	return 0;
}

static int resize(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	struct volume v;
	int rc = change_find_volume(r->group, c->name, &v);

	if (rc < 0 && !(rc == -EBUSY && (c->flags & VOLUME_IS_PARTIAL) != 0))
		return rc;
	rc = 0;
	/* What is given up is punched before: so it is zeros if the volume grows, whatever a crash leaves of the two. */
	if (c->size_bytes < v.size_bytes && !CANARY(shrink_keeps_blocks)) {
		r->volume = (uint32_t)v.node.id;
		r->lba = c->size_bytes >> MAP_BLOCK_SHIFT;
		r->n = (v.size_bytes - c->size_bytes) >> MAP_BLOCK_SHIFT;
	}
	if ((v.flags & VOLUME_IS_RESERVED) != 0 && c->size_bytes > v.size_bytes)
		rc = may_promise(r, (int64_t)(promise_of_volume(c->size_bytes) - promise_of_volume(v.size_bytes)));
	v.size_bytes = c->size_bytes;
	table_add_volume(to, &v);
	return rc;
}

static int reserve(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	struct volume v;
	int rc = change_find_volume(r->group, c->name, &v);

	if (rc == 0 && (c->flags & ~v.flags & VOLUME_IS_RESERVED) != 0)
		rc = may_promise(r, (int64_t)promise_of_volume(v.size_bytes) - tree_find(r->group, v.tree)->n_own);
	if (rc < 0)
		return rc;
	v.flags = (v.flags & ~VOLUME_IS_RESERVED) | c->flags;
	table_add_volume(to, &v);
	return 0;
}

/* ---- calls ---- */

int group_change(struct quire_volumes *g, int (*fn)(struct request *r, struct table_le *to), const void *arg)
{
	struct request r = {.kind = REQUEST_CHANGE, .group = g, .change = fn, .arg = (void *)(uintptr_t)arg,
	                    .is_upkeep = fn == rm}; /* that frees space */
	int rc = g->read_only ? -EROFS : group_append(&r);

	return rc == 0 ? journal_sync(g->journal, r.record_no, NULL) : rc;
}

int change_run(struct quire_volumes *g, int (*fn)(struct request *r, struct table_le *to), const void *arg)
{
	int rc = group_enter(g);

	if (rc < 0)
		return rc;
	rc = group_change(g, fn, arg);
	if (rc == -ENOSPC && quire_volumes_checkpoint(g) == 0) {
		store_settle(g->store);
		promise_settle(g);
		rc = group_change(g, fn, arg);
	}
	group_leave(g);
	return rc;
}

int change_create(struct quire_volumes *g, const struct change *c)
{
	return change_run(g, create, c);
}

int change_clone(struct quire_volumes *g, const struct change *c)
{
	return change_run(g, make_clone, c);
}

int change_resize(struct quire_volumes *g, const struct change *c)
{
	return change_run(g, resize, c);
}

static bool size_is_valid(uint64_t size_bytes)
{
	return size_bytes % QUIRE_VOLUME_BLOCK_BYTES == 0 && size_bytes <= QUIRE_VOLUME_MAX_BYTES;
}

int quire_volume_create(struct quire_volumes *g, const char *name, const struct quire_volume_options *opts)
{
	struct quire_volume_options o = {0};

	if (opts != NULL)
		memcpy(&o, opts, opts->size < sizeof(o) ? opts->size : sizeof(o));
	if (!name_is_valid(name) || !size_is_valid(o.size_bytes))
		return -EINVAL;
	unsigned n_bases = (o.over_file != NULL) + (o.over_blob != 0) + (o.over_volume != NULL);
	struct change c = {.name = o.over_volume != NULL ? o.over_volume : name, .other = name, .size_bytes = o.size_bytes,
	                   .flags = (o.durable ? VOLUME_IS_DURABLE : 0) | (o.reserve ? VOLUME_IS_RESERVED : 0)};
	if (n_bases == 0)
		return change_run(g, create, &c);
	if (n_bases > 1 || (o.over_volume != NULL && o.reserve))
		return -EINVAL;
	return o.over_volume != NULL ? change_run(g, make_clone, &c) : partial_create_over(g, &o, &c);
}

int quire_volume_rm(struct quire_volumes *g, const char *name)
{
	struct change c = {.name = name};

	return name == NULL ? -EINVAL : change_run(g, rm, &c);
}

int quire_volume_snapshot(struct quire_volumes *g, const char *name, const char *snap)
{
	struct change c = {.name = name, .other = snap};

	return name == NULL || snap == NULL || !snapshot_is_of(snap, name) ? -EINVAL : change_run(g, snapshot, &c);
}

int quire_volume_clone(struct quire_volumes *g, const char *from, const char *name)
{
	struct change c = {.name = from, .other = name};

	return from == NULL || !name_is_valid(name) ? -EINVAL : change_run(g, make_clone, &c);
}

int quire_volume_rollback(struct quire_volumes *g, const char *name, const char *snap)
{
	struct change c = {.name = name, .other = snap};

	return name == NULL || snap == NULL ? -EINVAL : change_run(g, rollback, &c);
}

int quire_volume_reserve(struct quire_volumes *g, const char *name, bool all)
{
	struct change c = {.name = name, .flags = all ? VOLUME_IS_RESERVED : 0};

	return name == NULL ? -EINVAL : change_run(g, reserve, &c);
}

int quire_volume_resize(struct quire_volumes *g, const char *name, uint64_t size_bytes)
{
	struct change c = {.name = name, .size_bytes = size_bytes};

	return name == NULL || !size_is_valid(size_bytes) ? -EINVAL : change_run(g, resize, &c);
}

/* ---- looking; never waits ---- */

static void inform(const struct volume *v, struct quire_volume_info *ret)
{
	*ret = (struct quire_volume_info){
		.id = (uint32_t)v->node.id,
		.size_bytes = v->size_bytes,
		.generation = v->generation,
		.origin = v->origin,
		.snapshot = (v->flags & VOLUME_IS_SNAPSHOT) != 0,
		.durable = (v->flags & VOLUME_IS_DURABLE) != 0,
		.open = v->n_open != 0,
		.reserve = (v->flags & VOLUME_IS_RESERVED) != 0,
		.over = (v->flags & VOLUME_IS_OVER) != 0,
		.partial = (v->flags & VOLUME_IS_PARTIAL) != 0,
	};
	static_assert(sizeof(ret->name) == sizeof(v->name), "one size");
	memcpy(ret->name, v->name, sizeof(ret->name));
}

int quire_volume_ls(struct quire_volumes *g, uint32_t after, struct quire_volume_info *ret_info)
{
	const struct volume *first = NULL;

	if (group_is_of_parent(g))
		return -ECHILD;
	group_lock(g);
	for (struct idmap_node *n = idmap_any(&g->volumes); n != NULL; n = idmap_after(&g->volumes, n))
		if (n->id > after && (first == NULL || n->id < first->node.id))
			first = (const struct volume *)n;
	if (first != NULL)
		inform(first, ret_info);
	group_unlock(g);
	return first != NULL;
}

int quire_volume_find(struct quire_volumes *g, const char *name, struct quire_volume_info *ret_info)
{
	if (group_is_of_parent(g))
		return -ECHILD;
	group_lock(g);
	const struct volume *v = volume_find_name(g, name);
	if (v != NULL)
		inform(v, ret_info);
	group_unlock(g);
	return v != NULL ? 0 : -ENOENT;
}
