/* replay.c - the catalogue's records are read: what they say is checked as if somebody hostile had written it.
 *
 * A record that is whole and says what can't be (-EUCLEAN) is refused, with the whole store: the index and the space
 * would be wrong from there on. Memory: each count is held against the record's own length before anything
 * is made for it.
 */
#include "store_internal.h"

#include "replay.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct input {
	const uint8_t *at;
	uint32_t left;
};

static bool take(struct input *in, void *to, uint32_t n)
{
	if (in->left < n)
		return false;
	memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
	return true;
}

static int wrong(struct replay *r, uint64_t id, const char *why)
{
	return quire_fail(r->err, -EUCLEAN, "catalogue: object %llu: %s", (unsigned long long)id, why);
}

static void list_clear(struct extent_list *list)
{
	list->n = 0;
	list->n_units = 0;
}

/* Into r->list. */
static int take_extents(struct replay *r, struct input *in, uint64_t id, unsigned n)
{
	struct extent_le le;

	list_clear(&r->list);
	if (n > FORMAT_MAX_EXTENTS)
		return wrong(r, id, "too many extents");
	for (unsigned i = 0; i < n; i++) {
		if (!take(in, &le, sizeof(le)))
			return wrong(r, id, "its record is short");
		uint64_t start = le64toh(le.start), n_units = le64toh(le.n_units);
		if (n_units == 0 || n_units > FORMAT_MAX_CLASS_UNITS || start > FORMAT_MAX_CLASS_UNITS)
			return wrong(r, id, "an impossible extent");
		int rc = extents_add(&r->list, start, n_units);
		if (rc < 0)
			return quire_fail(r->err, rc, "catalogue: object %llu", (unsigned long long)id);
	}
	return 0;
}

/* The space of r->list is in use from now on. */
static int take_space(struct replay *r, uint64_t id, unsigned class_no)
{
	for (unsigned i = 0; i < r->list.n; i++) {
		const struct extent *e = &r->list.extents[i];
		int rc = freemap_take(&r->store->classes[class_no].space, e->start, e->n_units);
		if (rc == -EUCLEAN)
			return wrong(r, id, "its space is another's, or none");
		if (rc < 0)
			return quire_fail(r->err, rc, "catalogue");
	}
	return 0;
}

static bool has_class(const struct replay *r, unsigned class_no)
{
	return class_no < STORE_N_CLASSES && r->store->classes[class_no].device != NULL;
}

static void saw_id(struct replay *r, uint64_t id)
{
	r->last_id = id;
	if (id >= r->end_id)
		r->end_id = id + 1;
}

static int replay_object(struct replay *r, struct input *in)
{
	struct object_le le;

	if (!take(in, &le, sizeof(le)))
		return wrong(r, 0, "its record is short");
	struct index_entry e = {
		.id = le64toh(le.id),
		.len_bytes = le64toh(le.len_bytes),
		.sum = le32toh(le.sum),
		.class_no = le.class_shift & 3u,
		.page_shift = (unsigned)le.class_shift >> 3 & 31u,
		.tag = le.tag,
	};
	if (!has_class(r, le.class_shift & 7u))
		return wrong(r, e.id, "of a class that is not there");
	if (e.id == 0 || e.len_bytes > FORMAT_MAX_OBJECT_BYTES || e.page_shift > FORMAT_MAX_PAGE_SHIFT)
		return wrong(r, e.id, "impossible properties");
	int rc = take_extents(r, in, e.id, le16toh(le.n_extents));
	if (rc < 0)
		return rc;
	if (r->list.n_units != format_n_units(format_n_pages(e.len_bytes)))
		return wrong(r, e.id, "its extents and its length differ");
	rc = take_space(r, e.id, e.class_no);
	if (rc < 0)
		return rc;
	saw_id(r, e.id);
	rc = index_insert(&r->store->index, &e, &r->list);
	if (rc == -EEXIST)
		return wrong(r, e.id, "is there twice");
	r->store->live_bytes += record_live_bytes(r->list.n);
	return rc < 0 ? quire_fail(r->err, rc, "catalogue") : 0;
}

static int replay_removed(struct replay *r, uint64_t id)
{
	struct index_entry *e = index_find(&r->store->index, id);
	struct extent one;
	unsigned n;

	if (e == NULL)
		return wrong(r, id, "removed, and not there");
	const struct extent *extents = index_entry_extents(e, &one, &n);
	for (unsigned i = 0; i < n; i++) {
		int rc = freemap_give(&r->store->classes[e->class_no].space, extents[i].start, extents[i].n_units);
		if (rc < 0)
			return quire_fail(r->err, rc, "catalogue: object %llu", (unsigned long long)id);
	}
	r->store->live_bytes -= record_live_bytes(n);
	index_remove(&r->store->index, id);
	return 0;
}

static int replay_transaction(struct replay *r, struct input *in)
{
	struct transaction_le le;
	struct next_id_le removed;

	if (!take(in, &le, sizeof(le)))
		return wrong(r, 0, "a short transaction");
	uint32_t n_objects = le32toh(le.n_objects), n_removed = le32toh(le.n_removed);
	for (uint32_t i = 0; i < n_objects; i++) {
		int rc = replay_object(r, in);
		if (rc < 0)
			return rc;
	}
	for (uint32_t i = 0; i < n_removed; i++) {
		if (!take(in, &removed, sizeof(removed)))
			return wrong(r, 0, "a short transaction");
		int rc = replay_removed(r, le64toh(removed.id));
		if (rc < 0)
			return rc;
	}
	return in->left == 0 ? 0 : wrong(r, 0, "a transaction that is too long");
}

static int replay_raced(struct replay *r, struct input *in)
{
	struct transaction_le le;

	if (in->left < sizeof(le))
		return wrong(r, 0, "a short transaction");
	memcpy(&le, in->at, sizeof(le));
	int rc = replay_transaction(r, in);
	if (rc < 0)
		return rc;
	if (le32toh(le.n_objects) != 1 || le32toh(le.n_removed) != 0 ||
	    format_n_pages(index_find(&r->store->index, r->last_id)->len_bytes) != 1)
		return wrong(r, r->last_id, "not of one page");
	r->raced_id = r->last_id;
	return 0;
}

static int replay_next_id(struct replay *r, struct input *in)
{
	struct next_id_le le;

	if (!take(in, &le, sizeof(le)) || in->left != 0)
		return wrong(r, 0, "ids");
	if (le64toh(le.id) > r->store->id_limit)
		r->store->id_limit = le64toh(le.id);
	return 0;
}

static int add_container(struct replay *r, const struct container_le *le)
{
	struct store_container *c = calloc(1, sizeof(*c));

	if (c == NULL || idmap_add(&r->store->containers, &c->node, le64toh(le->id)) < 0) {
		free(c);
		return quire_fail(r->err, -ENOMEM, "catalogue");
	}
	c->store = r->store;
	c->class_no = le->class_no;
	c->capacity_bytes = le64toh(le->capacity_bytes);
	c->segment_bytes = le32toh(le->segment_bytes);
	c->extents = r->list;
	r->list = (struct extent_list){0};
	r->store->live_bytes += sizeof(*le) + record_live_bytes(c->extents.n);
	return 0;
}

static int replay_container(struct replay *r, struct input *in)
{
	struct container_le le;

	if (!take(in, &le, sizeof(le)))
		return wrong(r, 0, "a short record of a container");
	uint64_t id = le64toh(le.id);
	uint32_t segment_bytes = le32toh(le.segment_bytes), units = segment_bytes / FORMAT_UNIT_BYTES;
	int rc = take_extents(r, in, id, le16toh(le.n_extents));
	if (rc < 0)
		return rc;
	if (id == 0 || in->left != 0 || !has_class(r, le.class_no) || segment_bytes < 65536 ||
	    (segment_bytes & (segment_bytes - 1)) != 0 || r->list.n_units < 2 * (uint64_t)units ||
	    r->list.n_units / units > FORMAT_MAX_CONTAINER_SEGMENTS)
		return wrong(r, id, "an impossible container");
	for (unsigned i = 0; i < r->list.n; i++)
		if (r->list.extents[i].n_units % units != 0)
			return wrong(r, id, "an impossible container");
	if (idmap_find(&r->store->containers, id) != NULL)
		return wrong(r, id, "is there twice");
	rc = take_space(r, id, le.class_no);
	saw_id(r, id);
	return rc < 0 ? rc : add_container(r, &le);
}

static int replay_container_gone(struct replay *r, struct input *in)
{
	struct next_id_le le;
	struct store *s = r->store;

	if (!take(in, &le, sizeof(le)) || in->left != 0)
		return wrong(r, 0, "a container");
	struct store_container *c = (struct store_container *)idmap_find(&s->containers, le64toh(le.id));
	if (c == NULL)
		return wrong(r, le64toh(le.id), "removed, and not there");
	s->live_bytes -= sizeof(struct container_le) + record_live_bytes(c->extents.n);
	idmap_remove(&s->containers, &c->node);
	store_give_list_locked(s, c->class_no, &c->extents, 0);
	store_container_free(c);
	return 0;
}

int replay_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload,
                  uint32_t len_bytes)
{
	struct replay *r = arg;
	struct input in = {.at = payload, .left = len_bytes};

	switch (type) {
	case FORMAT_TRANSACTION:
		return replay_transaction(r, &in);
	case FORMAT_RACED:
		return replay_raced(r, &in);
	case FORMAT_SEAL:
		r->raced_id = 0;
		return 0;
	case FORMAT_NEXT_ID:
		return replay_next_id(r, &in);
	case FORMAT_CONTAINER:
		return replay_container(r, &in);
	case FORMAT_CONTAINER_GONE:
		return replay_container_gone(r, &in);
	default:
		return quire_fail(r->err, -EUCLEAN, "catalogue: a record of type %u at %llu", type,
		                  (unsigned long long)(at->segment + at->offset));
	}
}
