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
		r->end_id = id < UINT64_MAX ? id + 1 : id;
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
	if (le64toh(le.id) > FORMAT_END_ID)
		return wrong(r, le64toh(le.id), "no id is as high");
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

/* ---- logs ---- */

/* The newest of its log, if all goes well. */
static int take_log_segment(struct replay *r, struct input *in, struct store_log *log)
{
	struct log_segment_le le;
	struct store *s = r->store;
	uint32_t units = store_log_extent_units(log);

	if (!take(in, &le, sizeof(le)))
		return wrong(r, log->node.id, "its record is short");
	uint64_t id = le64toh(le.id), place = le64toh(le.place);
	uint64_t start = place & ((UINT64_C(1) << FORMAT_LOG_PLACE_SHIFT) - 1), class_bits = place >> FORMAT_LOG_PLACE_SHIFT;
	unsigned class_no = class_bits == 0 ? log->settings.class_no : (unsigned)class_bits - 1;
	if (id == 0 || start > FORMAT_MAX_CLASS_UNITS || !has_class(r, class_no) || idmap_find(&s->log_segments, id) != NULL)
		return wrong(r, id, "an impossible segment of a log");
	int rc = freemap_take(&s->classes[class_no].space, start, units);
	if (rc == -EUCLEAN)
		return wrong(r, id, "its space is another's, or none");
	struct store_log_extent *e = rc == 0 ? calloc(1, sizeof(*e)) : NULL;
	if (e == NULL)
		return quire_fail(r->err, rc < 0 ? rc : -ENOMEM, "catalogue");
	e->log = log;
	e->class_no = class_no;
	e->start = start;
	e->node.id = id;
	rc = store_log_push_locked(log, e);
	if (rc < 0) {
		free(e);
		return quire_fail(r->err, rc, "catalogue");
	}
	saw_id(r, id);
	s->live_bytes += STORE_LOG_SEGMENT_LIVE_BYTES;
	return 0;
}

static int add_log(struct replay *r, const struct log_le *le, struct store_log **ret)
{
	uint64_t id = le64toh(le->id);
	struct store_log *log = calloc(1, sizeof(*log));

	if (log == NULL)
		return quire_fail(r->err, -ENOMEM, "catalogue");
	log->store = r->store;
	latch_init(&log->latch, r->store->config.service);
	log->settings = (struct store_log_settings){
		.class_no = le->class_no,
		.segment_bytes = le32toh(le->segment_bytes),
		.retain_bytes = le64toh(le->retain_bytes),
		.retain_ns = le64toh(le->retain_ns),
		.retain_records = le64toh(le->retain_records),
		.keys = (le->flags & FORMAT_LOG_KEYS) != 0,
		.volumes = (le->flags & FORMAT_LOG_VOLUMES) != 0,
		.destages = le->destage != 0,
		.destage_class = le->destage != 0 ? le->destage - 1u : 0,
		.destage_keep = le32toh(le->destage_keep),
	};
	memcpy(log->settings.secret, le->secret, sizeof(le->secret));
	static_assert(sizeof(log->settings.name) == sizeof(le->name), "one size");
	memcpy(log->settings.name, le->name, sizeof(le->name));
	int rc = 0;
	if (id == 0 || log->settings.name[sizeof(le->name) - 1] != '\0' || (le->flags & ~(FORMAT_LOG_KEYS | FORMAT_LOG_VOLUMES)) != 0 ||
	    !store_log_settings_are_valid(r->store, &log->settings) || !store_log_settings_name(&log->settings))
		rc = wrong(r, id, "an impossible log");
	else if (idmap_find(&r->store->logs, id) != NULL)
		rc = wrong(r, id, "is there twice");
	else
		rc = idmap_add(&r->store->logs, &log->node, id);
	if (rc < 0) {
		latch_fini(&log->latch);
		free(log);
		return rc == -ENOMEM ? quire_fail(r->err, rc, "catalogue") : rc;
	}
	saw_id(r, id);
	r->store->live_bytes += STORE_LOG_LIVE_BYTES;
	*ret = log;
	return 0;
}

static int replay_log(struct replay *r, struct input *in)
{
	struct store_log *log = NULL;
	struct log_le le;

	if (!take(in, &le, sizeof(le)))
		return wrong(r, 0, "a short record of a log");
	int rc = add_log(r, &le, &log);
	for (uint32_t i = 0; rc == 0 && i < le32toh(le.n_segments); i++)
		rc = take_log_segment(r, in, log);
	return rc == 0 && in->left != 0 ? wrong(r, log->node.id, "a record of a log that is too long") : rc;
}

static int forget_log_segment(struct replay *r, unsigned i, struct store_log *log)
{
	struct store *s = r->store;
	struct store_log_extent *e = log->segments[i];
	uint64_t id = e->node.id;
	int rc = freemap_give(&s->classes[e->class_no].space, e->start, store_log_extent_units(log));
	if (rc < 0)
		return quire_fail(r->err, rc, "catalogue: segment %llu of a log", (unsigned long long)id);
	s->live_bytes -= STORE_LOG_SEGMENT_LIVE_BYTES;
	idmap_remove(&s->log_segments, &e->node);
	memmove(log->segments + i, log->segments + i + 1, (--log->n - i) * sizeof(log->segments[0]));
	free(e);
	return 0;
}

static int drop_log_segment(struct replay *r, struct store_log *log, uint64_t id)
{
	unsigned i = 0;

	while (log->settings.volumes && i < log->n && log->segments[i]->node.id != id)
		i++;
	/* The oldest go first, but of volumes. */
	if (i >= log->n || log->segments[i]->node.id != id)
		return wrong(r, id, "a segment of a log is removed, and is not its oldest, or not there");
	return forget_log_segment(r, i, log);
}

static int replay_log_moved(struct replay *r, struct input *in)
{
	struct log_moved_le le;

	if (!take(in, &le, sizeof(le)))
		return wrong(r, 0, "a short record of a log");
	struct store_log *log = (struct store_log *)idmap_find(&r->store->logs, le64toh(le.id));
	if (log == NULL)
		return wrong(r, le64toh(le.id), "segments of a log that is not there");
	unsigned i = 0;
	while (i < log->n && log->segments[i]->node.id != le64toh(le.old_id))
		i++;
	if (i == log->n)
		return wrong(r, le64toh(le.old_id), "a segment of a log is moved, and not there");
	int rc = take_log_segment(r, in, log);
	if (rc < 0)
		return rc;
	if (in->left != 0)
		return wrong(r, log->node.id, "a record of a log that is too long");
	/* The new one, taken as the newest, changes places with the old. */
	struct store_log_extent *old = log->segments[i];
	log->segments[i] = log->segments[log->n - 1];
	log->segments[log->n - 1] = old;
	return forget_log_segment(r, log->n - 1, log);
}

static int replay_log_segments(struct replay *r, struct input *in)
{
	struct log_change_le le;
	struct next_id_le removed;

	if (!take(in, &le, sizeof(le)))
		return wrong(r, 0, "a short record of a log");
	struct store_log *log = (struct store_log *)idmap_find(&r->store->logs, le64toh(le.id));
	if (log == NULL)
		return wrong(r, le64toh(le.id), "segments of a log that is not there");
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < le32toh(le.n_added); i++)
		rc = take_log_segment(r, in, log);
	for (uint32_t i = 0; rc == 0 && i < le32toh(le.n_removed); i++)
		rc = take(in, &removed, sizeof(removed)) ? drop_log_segment(r, log, le64toh(removed.id))
		                                         : wrong(r, log->node.id, "its record is short");
	return rc == 0 && in->left != 0 ? wrong(r, log->node.id, "a record of a log that is too long") : rc;
}

static int replay_log_gone(struct replay *r, struct input *in)
{
	struct next_id_le le;

	if (!take(in, &le, sizeof(le)) || in->left != 0)
		return wrong(r, 0, "a log");
	struct store_log *log = (struct store_log *)idmap_find(&r->store->logs, le64toh(le.id));
	if (log == NULL)
		return wrong(r, le64toh(le.id), "removed, and not there");
	while (log->n > 0) {
		int rc = drop_log_segment(r, log, log->segments[0]->node.id);
		if (rc < 0)
			return rc;
	}
	r->store->live_bytes -= STORE_LOG_LIVE_BYTES;
	store_log_free_locked(log);
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
	case FORMAT_LOG:
		return replay_log(r, &in);
	case FORMAT_LOG_SEGMENTS:
		return replay_log_segments(r, &in);
	case FORMAT_LOG_GONE:
		return replay_log_gone(r, &in);
	case FORMAT_LOG_MOVED:
		return replay_log_moved(r, &in);
	default:
		return quire_fail(r->err, -EUCLEAN, "catalogue: a record of type %u at %llu", type,
		                  (unsigned long long)(at->segment + at->offset));
	}
}
