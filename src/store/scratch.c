/* scratch.c - space that no record tells of: for what need not outlive the process.
 *
 * It is taken from the map of free space, which is in memory and made anew at each open from what the catalogue says; so a crash, or
 * whatever becomes of the owner, gives it back. What is given back is discarded like the space of removed objects.
 */
#include "store_internal.h"

#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>

int store_scratch_open(struct store *s, unsigned cls, uint32_t extent_bytes, uint64_t most_bytes,
                       struct store_scratch **ret)
{
	if (cls >= STORE_N_CLASSES || extent_bytes == 0 || extent_bytes % FORMAT_UNIT_BYTES != 0)
		return -EINVAL;
	int rc = store_enter(s);
	if (rc < 0)
		return rc;
	struct store_scratch *x = calloc(1, sizeof(*x));
	if (x == NULL || s->classes[cls].device == NULL) {
		rc = x == NULL ? -ENOMEM : -ENOENT;
		free(x);
		store_leave(s);
		return rc;
	}
	*x = (struct store_scratch){
		.store = s,
		.class_no = cls,
		.n_units = extent_bytes / FORMAT_UNIT_BYTES,
		.most_bytes = most_bytes == 0 ? UINT64_MAX : most_bytes,
		.link = &s->scratch,
	};
	latch_init(&x->latch, s->config.service);
	store_lock(s);
	x->next = s->scratch;
	if (x->next != NULL)
		x->next->link = &x->next;
	s->scratch = x;
	s->n_ops--;
	store_unlock(s);
	*ret = x;
	return 0;
}

/* Out of the scratch's extents, on its way back; s->lock held, and a call is counted until it is queued. */
static struct reclaim *take_out_locked(struct store_scratch *x, struct scratch_extent *e)
{
	struct reclaim *r = e->reclaim;

	idmap_remove(&x->extents, &e->node);
	free(e);
	x->store->n_ops++;
	return r;
}

static void give_back(struct store *s, struct reclaim *r)
{
	reclaim_enqueue(s, r);
	store_leave(s);
}

void store_scratch_close(struct store_scratch *x)
{
	struct idmap_node *node;

	if (x == NULL)
		return;
	struct store *s = x->store;
	store_lock(s);
	while ((node = idmap_any(&x->extents)) != NULL) {
		struct reclaim *r = take_out_locked(x, (struct scratch_extent *)node);
		store_unlock(s);
		give_back(s, r);
		store_lock(s);
	}
	*x->link = x->next;
	if (x->next != NULL)
		x->next->link = x->link;
	store_unlock(s);
	idmap_fini(&x->extents);
	latch_fini(&x->latch);
	free(x);
}

int store_scratch_begin(struct store_scratch *x)
{
	return latch_exclude(&x->latch);
}

void store_scratch_end(struct store_scratch *x)
{
	latch_unexclude(&x->latch);
}

static int note(struct store_scratch *x, struct scratch_extent *e, uint64_t start)
{
	struct store *s = x->store;

	*e->reclaim = (struct reclaim){.class_no = x->class_no, .n = 1};
	e->reclaim->extents[0] = (struct extent){.start = start, .n_units = x->n_units};
	store_lock(s);
	int rc = idmap_add(&x->extents, &e->node, start);
	if (rc < 0)
		store_give_locked(s, x->class_no, start, x->n_units);
	store_unlock(s);
	return rc;
}

int store_scratch_take(struct store_scratch *x, uint64_t *ret_at)
{
	struct store *s = x->store;
	struct scratch_extent *e = calloc(1, sizeof(*e));
	uint64_t start, n;
	int rc = -ENOMEM;

	if (e != NULL)
		e->reclaim = malloc(sizeof(*e->reclaim) + sizeof(e->reclaim->extents[0]));
	if (e != NULL && e->reclaim != NULL) {
		uint64_t bytes = (uint64_t)x->n_units * FORMAT_UNIT_BYTES;
		bool full = (x->extents.n + 1) * bytes > x->most_bytes;
		rc = full ? -ENOSPC : store_alloc(s, x->class_no, x->n_units, 1, FREEMAP_WHOLE, &start, &n);
		if (rc == 0)
			rc = note(x, e, start);
	}
	if (rc < 0) {
		if (e != NULL)
			free(e->reclaim);
		free(e);
		return rc;
	}
	*ret_at = start * FORMAT_UNIT_BYTES;
	return 0;
}

void store_scratch_give(struct store_scratch *x, uint64_t at)
{
	struct store *s = x->store;

	store_lock(s);
	struct scratch_extent *e = (struct scratch_extent *)idmap_find(&x->extents, at / FORMAT_UNIT_BYTES);
	quire_assert(e != NULL);
	struct reclaim *r = take_out_locked(x, e);
	store_unlock(s);
	give_back(s, r);
}

int store_scratch_write(struct store_scratch *x, uint64_t at, const void *buf, uint64_t n_bytes)
{
	return device_write(x->store->classes[x->class_no].device, at, buf, n_bytes, false);
}

int store_scratch_read(struct store_scratch *x, uint64_t at, void *buf, uint64_t n_bytes)
{
	return device_read(x->store->classes[x->class_no].device, at, buf, n_bytes);
}
