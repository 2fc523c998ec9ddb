/* object.c - committed objects that somebody holds. One struct for all who do; it goes with the last put, and then,
 * if the object was removed meanwhile, its space is reclaimed. */
#include "store_internal.h"

#include "../base/assert.h"
#include "../base/canary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t n_units(const struct reclaim *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < r->n; i++)
		n += r->extents[i].n_units;
	return n;
}

/* A segment of a log, as an object: its pages, then their checksums. */
static int open_segment_locked(struct store *s, const struct store_log_extent *e, struct object **ret)
{
	if (e->len_bytes == 0)
		return -EAGAIN;
	struct object *o = malloc(sizeof(*o) + sizeof(o->extents[0]));
	if (o == NULL)
		return -ENOMEM;
	*o = (struct object){
		.store = s,
		.class_no = e->class_no,
		.sums_unit = format_log_units(e->log->settings.segment_bytes),
		.len_bytes = e->len_bytes,
		.n_pages = format_n_pages(e->len_bytes),
		.n_extents = 1,
	};
	o->extents[0] = (struct extent){.start = e->start, .n_units = store_log_extent_units(e->log)};
	if (idmap_add(&s->objects, &o->node, e->node.id) < 0) {
		free(o);
		return -ENOMEM;
	}
	*ret = o;
	return 0;
}

static int open_locked(struct store *s, uint64_t id, struct object **ret)
{
	const struct index_entry *e = index_find(&s->index, id);
	const struct store_log_extent *segment = e == NULL
	                                                 ? (struct store_log_extent *)idmap_find(&s->log_segments, id)
	                                                 : NULL;
	struct extent one;
	unsigned n;

	if (segment != NULL)
		return open_segment_locked(s, segment, ret);
	if (e == NULL || e->hidden)
		return idmap_find(&s->writers, id) != NULL ? -EAGAIN : -ESTALE;
	const struct extent *extents = index_entry_extents(e, &one, &n);
	struct object *o = malloc(sizeof(*o) + n * sizeof(o->extents[0]));
	if (o == NULL)
		return -ENOMEM;
	*o = (struct object){
		.store = s,
		.class_no = e->class_no,
		.page_shift = e->page_shift,
		.sum = e->sum,
		.len_bytes = e->len_bytes,
		.n_pages = format_n_pages(e->len_bytes),
		.n_extents = n,
	};
	memcpy(o->extents, extents, n * sizeof(o->extents[0]));
	if (idmap_add(&s->objects, &o->node, id) < 0) {
		free(o);
		return -ENOMEM;
	}
	*ret = o;
	return 0;
}

int object_get(struct store *s, uint64_t id, struct object **ret_object)
{
	int rc = 0;

	store_lock(s);
	struct object *o = (struct object *)idmap_find(&s->objects, id);
	if (o == NULL)
		rc = open_locked(s, id, &o);
	if (rc == 0) {
		o->n_refs++;
		*ret_object = o;
	}
	store_unlock(s);
	return rc;
}

bool object_delete_locked(struct store *s, uint64_t id, struct reclaim *r)
{
	struct object *o = (struct object *)idmap_find(&s->objects, id);

	if (o == NULL || CANARY(space_reused_while_read))
		return false;
	idmap_remove(&s->objects, &o->node);
	o->reclaim = r;
	o->next_deleted = s->deleted;
	o->link_deleted = &s->deleted;
	if (s->deleted != NULL)
		s->deleted->link_deleted = &o->next_deleted;
	s->deleted = o;
	s->classes[o->class_no].n_pending += n_units(r);
	return true;
}

void object_put(struct object *o)
{
	if (o == NULL)
		return;
	struct store *s = o->store;
	struct reclaim *r = NULL;

	store_lock(s);
	quire_assert(o->n_refs > 0);
	bool last = --o->n_refs == 0;
	if (last && o->reclaim != NULL) {
		r = o->reclaim;
		s->classes[o->class_no].n_pending -= n_units(r);
		*o->link_deleted = o->next_deleted;
		if (o->next_deleted != NULL)
			o->next_deleted->link_deleted = o->link_deleted;
		s->n_ops++; /* no close between here and the queue */
	} else if (last) {
		idmap_remove(&s->objects, &o->node);
	}
	store_unlock(s);
	if (r != NULL) {
		reclaim_enqueue(s, r);
		store_leave(s);
	}
	if (last)
		free(o);
}

uint64_t object_bytes(const struct object *o)
{
	return o->len_bytes;
}

uint64_t object_id(const struct object *o)
{
	return o->node.id;
}

unsigned object_class(const struct object *o)
{
	return o->class_no;
}

unsigned object_page_shift(const struct object *o)
{
	return o->page_shift;
}

/* ---- looking ---- */

static void of_writer(const struct writer *w, struct object_properties *ret)
{
	*ret = (struct object_properties){
		.len_bytes = w->len_bytes,
		.allocated_bytes = (w->extents.n_units + w->n_promised) * FORMAT_UNIT_BYTES,
		.class_no = w->class_no,
		.page_shift = w->page_shift,
		.tag = w->tag,
		.n_extents = w->extents.n,
	};
}

int object_properties(struct store *s, uint64_t id, struct object_properties *ret)
{
	struct extent one;
	int rc = 0;

	store_lock(s);
	const struct writer *w = (const struct writer *)idmap_find(&s->writers, id);
	const struct index_entry *e = index_find(&s->index, id);
	const struct object *o = (const struct object *)idmap_find(&s->objects, id);
	if (w != NULL) {
		of_writer(w, ret);
	} else if (e != NULL && !e->hidden) {
		*ret = (struct object_properties){
			.len_bytes = e->len_bytes,
			.allocated_bytes = format_n_units(format_n_pages(e->len_bytes)) * FORMAT_UNIT_BYTES,
			.class_no = e->class_no,
			.page_shift = e->page_shift,
			.tag = (uint8_t)e->tag,
			.n_refs = o != NULL ? o->n_refs : 0,
			.committed = true,
		};
		(void)index_entry_extents(e, &one, &ret->n_extents);
	} else {
		rc = -ESTALE;
	}
	store_unlock(s);
	return rc;
}

unsigned object_list(struct store *s, uint64_t after, uint64_t *ret_ids, unsigned n)
{
	const struct index_entry *e;
	unsigned i = 0;

	store_lock(s);
	while (i < n && (e = index_next(&s->index, after)) != NULL) {
		after = e->id;
		if (!e->hidden)
			ret_ids[i++] = e->id;
	}
	store_unlock(s);
	return i;
}

#define LIST_STEP 4096 /* entries looked at before others get the lock */

static unsigned list_by_tag(struct store *s, uint8_t tag, bool of_it, uint64_t after, uint64_t *ret_ids, unsigned n)
{
	const struct index_entry *e;
	unsigned i = 0, n_looked;

	do {
		store_lock(s);
		for (n_looked = 0; n_looked < LIST_STEP && i < n; n_looked++) {
			e = index_next(&s->index, after);
			if (e == NULL)
				break;
			after = e->id;
			if ((e->tag == tag) == of_it && !e->hidden)
				ret_ids[i++] = e->id;
		}
		store_unlock(s);
	} while (n_looked == LIST_STEP);
	return i;
}

unsigned object_list_tagged(struct store *s, uint8_t tag, uint64_t after, uint64_t *ret_ids, unsigned n)
{
	return list_by_tag(s, tag, true, after, ret_ids, n);
}

unsigned object_list_others(struct store *s, uint8_t tag, uint64_t after, uint64_t *ret_ids, unsigned n)
{
	return list_by_tag(s, tag, false, after, ret_ids, n);
}
