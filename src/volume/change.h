/* change.h - changes of the tables: how one is made, and what they are made of. For src/volume alone. */
#ifndef VOLUME_CHANGE_H
#define VOLUME_CHANGE_H

#include "volume_internal.h"

#include <endian.h>
#include <string.h>

/* group_change, and once more when space was made. arg: the request's. -EDEADLK. May wait. */
int change_run(struct quire_volumes *g, int (*fn)(struct request *r, struct table_le *to), const void *arg);
int change_create(struct quire_volumes *g, const struct change *c); /* the same, of these */
int change_clone(struct quire_volumes *g, const struct change *c);
int change_resize(struct quire_volumes *g, const struct change *c); /* flags: VOLUME_IS_PARTIAL: even one of these */


/* ---- partial.c ---- */

/* The name of what is not to be seen by its own yet. name: a valid one. */
void partial_name(const char *name, char ret[VOLUME_NAME_BYTES]);
/* A handle of one, whose name that is; nobody else has one. -ENOENT, -EBUSY, -ENOMEM. */
int partial_open(struct quire_volumes *g, const char *hidden, struct quire_volume **ret);
/* One over a file or blob. c: as for change_create. */
int partial_create_over(struct quire_volumes *g, const struct quire_volume_options *o, const struct change *c);

/* ---- parts of changes; lock held ---- */

static inline uint32_t take_id(struct table_le *to)
{
	uint32_t id = le32toh(to->next_id);

	to->next_id = htole32(id + 1);
	return id;
}

static inline void next_generation(struct table_le *to)
{
	to->generation = htole64(le64toh(to->generation) + 1);
}

static inline struct tree child_of(uint32_t parent, struct table_le *to)
{
	return (struct tree){.node.id = take_id(to), .parent = parent};
}

static inline struct tree frozen(struct quire_volumes *g, uint32_t id, bool given_up)
{
	struct tree t = *tree_find(g, id);

	t.frozen = g->generation;
	t.given_up = given_up;
	return t;
}

static inline struct tree given_up(struct quire_volumes *g, uint32_t id)
{
	struct tree t = *tree_find(g, id);

	t.given_up = true;
	/* Nobody writes to it any more; and if nobody has, nobody knows. */
	if (t.frozen == 0)
		t.frozen = g->generation;
	return t;
}

#endif
