/* handle.c - handles of volumes. One that lies over something has that open as long. */
#include "volume_internal.h"

#include <errno.h>
#include <stdlib.h>

/* 0: the base is there, or there is none. */
static int open_base(struct quire_volume *h, uint32_t flags)
{
	int rc = (flags & VOLUME_IS_OVER) != 0 ? group_enter(h->group) : 0;

	if ((flags & VOLUME_IS_OVER) == 0 || rc < 0)
		return rc;
	rc = volume_base_get(h->group, volume_tree(h), &h->base, &h->base_bytes, NULL);
	group_leave(h->group);
	return rc;
}

int quire_volume_open(struct quire_volumes *g, const char *name, struct quire_volume **ret_volume)
{
	uint32_t flags = 0;
	int rc = -ENOENT;

	if (group_is_of_parent(g))
		return -ECHILD;
	struct quire_volume *h = calloc(1, sizeof(*h));
	if (h == NULL)
		return -ENOMEM;
	group_lock(g);
	struct volume *v = name == NULL ? NULL : volume_find_name(g, name);
	if (v != NULL) {
		flags = v->flags;
		rc = (flags & VOLUME_IS_PARTIAL) != 0 ? -EBUSY : 0;
		v->n_open += rc == 0;
		*h = (struct quire_volume){
			.group = g,
			.id = (uint32_t)v->node.id,
			.read_only = g->read_only || (flags & VOLUME_IS_SNAPSHOT) != 0,
			.durable = (flags & VOLUME_IS_DURABLE) != 0,
		};
	}
	group_unlock(g);
	if (rc < 0) {
		free(h);
		return rc;
	}
	rc = open_base(h, flags);
	if (rc < 0) {
		quire_volume_close(h);
		return rc;
	}
	*ret_volume = h;
	return 0;
}

void quire_volume_close(struct quire_volume *h)
{
	if (h == NULL || group_is_of_parent(h->group))
		return;
	volume_base_put(h->group, h->base);
	group_lock(h->group);
	volume_find(h->group, h->id)->n_open--;
	group_unlock(h->group);
	free(h);
}

uint64_t quire_volume_bytes(struct quire_volume *h)
{
	if (group_is_of_parent(h->group))
		return 0;
	group_lock(h->group);
	uint64_t bytes = volume_find(h->group, h->id)->size_bytes;
	group_unlock(h->group);
	return bytes;
}

uint32_t volume_tree(struct quire_volume *h)
{
	group_lock(h->group);
	uint32_t tree = volume_find(h->group, h->id)->tree;
	group_unlock(h->group);
	return tree;
}

int volume_check_range(struct quire_volume *h, uint64_t offset, uint64_t len_bytes)
{
	uint64_t size = quire_volume_bytes(h);

	if (group_is_of_parent(h->group))
		return -ECHILD;
	return len_bytes > size || offset > size - len_bytes ? -EINVAL : 0;
}
