/* log_segments.c - segments of logs come and go.
 *
 * The catalogue's record of a segment is durable before anything is written there (but for a copy: log_move.c), so no space is ever a log's that
 * the store does not know of; what a crash leaves is at most a segment that the log has not come to use. Segments
 * are added behind the last and removed before the first, one change at a time (the log's latch), so that the order in memory
 * is that of the records.
 */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int store_log_get_extent(struct store_log *log, unsigned class_no, struct store_log_extent **ret)
{
	struct store *s = log->store;
	struct store_log_extent *e = calloc(1, sizeof(*e));
	uint64_t n;
	unsigned flags = FREEMAP_WHOLE | (log->settings.volumes ? FREEMAP_PLEDGED : 0);
	int rc = e == NULL ? -ENOMEM : next_id(s, &e->node.id);

	if (rc == 0)
		rc = store_alloc(s, class_no, store_log_extent_units(log), 1, flags, &e->start, &n);
	if (rc < 0) {
		free(e);
		return rc;
	}
	e->log = log;
	e->class_no = class_no;
	*ret = e;
	return 0;
}

/* The latch is shared. */
static int record_added(struct store_log *log, struct store_log_extent *e)
{
	uint8_t record[sizeof(struct log_change_le) + sizeof(struct log_segment_le)];
	struct store *s = log->store;
	uint8_t *at = record_put_log_segment(record_put_log_change(record, log->node.id, 1, 0), e);
	uint64_t start = e->start;

	store_lock(s);
	int rc = store_log_push_locked(log, e);
	store_unlock(s);
	if (rc < 0) {
		free(e);
	} else {
		rc = catalogue_append(s, FORMAT_LOG_SEGMENTS, record, (uint32_t)(at - record));
		store_lock(s);
		if (rc == 0)
			s->live_bytes += STORE_LOG_SEGMENT_LIVE_BYTES;
		else
			store_log_pop_locked(log);
		catalogue_account_locked(s);
		store_unlock(s);
	}
	/* If the record may be there, its space is not free. */
	store_lock(s);
	if (rc < 0 && catalogue_error(s) == 0)
		store_give_locked(s, log->settings.class_no, start, store_log_extent_units(log));
	store_unlock(s);
	return rc;
}

static int add(struct store_log *log, struct store_log_segment *ret)
{
	struct store_log_extent *e = NULL;
	int rc = store_log_get_extent(log, log->settings.class_no, &e);

	if (rc < 0)
		return rc;
	struct store_log_segment added = {.id = e->node.id, .class_no = e->class_no, .offset = e->start * FORMAT_UNIT_BYTES};
	rc = latch_share(&log->store->latch);
	if (rc < 0) {
		store_lock(log->store);
		store_give_locked(log->store, log->settings.class_no, e->start, store_log_extent_units(log));
		store_unlock(log->store);
		free(e);
		return rc;
	}
	rc = record_added(log, e);
	latch_unshare(&log->store->latch);
	if (rc == 0)
		*ret = added;
	return rc;
}

int store_log_add(struct store_log *log, struct store_log_segment *ret)
{
	int rc = store_enter(log->store);

	if (rc < 0)
		return rc;
	rc = latch_exclude(&log->latch);
	if (rc == 0) {
		rc = add(log, ret);
		latch_unexclude(&log->latch);
	}
	store_leave(log->store);
	return rc;
}

void store_log_pledge(struct store_log *log, uint64_t n_segments)
{
	struct store *s = log->store;

	store_lock(s);
	s->classes[log->settings.class_no].space.n_pledged = n_segments * store_log_extent_units(log);
	store_unlock(s);
}

uint64_t store_log_pending_bytes(struct store_log *log)
{
	struct store *s = log->store;
	uint64_t n = 0;

	store_lock(s);
	for (const struct object *o = s->deleted; o != NULL; o = o->next_deleted)
		if (o->reclaim->log == log->node.id && o->class_no == log->settings.class_no)
			n++;
	store_unlock(s);
	return n * store_log_extent_units(log) * FORMAT_UNIT_BYTES;
}

struct reclaim *store_log_make_reclaim(const struct store_log_extent *e)
{
	struct reclaim *r = malloc(sizeof(*r) + sizeof(r->extents[0]));

	if (r == NULL)
		return NULL;
	*r = (struct reclaim){.class_no = e->class_no, .n = 1, .log = e->log->node.id};
	r->extents[0] = (struct extent){.start = e->start, .n_units = store_log_extent_units(e->log)};
	return r;
}

void store_log_leaving_free(struct store_log_leaving *l)
{
	for (unsigned i = 0; l->reclaims != NULL && i < l->n; i++)
		free(l->reclaims[i]);
	free(l->reclaims);
	free(l->record);
}

int store_log_leaving_make(struct store_log *log, unsigned n, struct store_log_leaving *ret)
{
	ret->record = malloc(sizeof(struct log_change_le) + n * sizeof(struct next_id_le));
	ret->reclaims = calloc(n, sizeof(ret->reclaims[0]));
	ret->n = n;
	if (ret->record == NULL || ret->reclaims == NULL)
		return -ENOMEM;
	uint8_t *at = record_put_log_change(ret->record, log->node.id, 0, n);
	for (unsigned i = 0; i < n; i++) {
		at = record_put_id(at, log->segments[i]->node.id);
		ret->reclaims[i] = store_log_make_reclaim(log->segments[i]);
		if (ret->reclaims[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

void store_log_leave_locked(struct store_log *log, struct store_log_leaving *l)
{
	struct store *s = log->store;

	for (unsigned i = 0; i < l->n; i++) {
		struct store_log_extent *e = log->segments[i];
		idmap_remove(&s->log_segments, &e->node);
		if (object_delete_locked(s, e->node.id, l->reclaims[i]))
			l->reclaims[i] = NULL;
		free(e);
	}
	log->n -= l->n;
	memmove(log->segments, log->segments + l->n, log->n * sizeof(log->segments[0]));
	s->live_bytes -= l->n * STORE_LOG_SEGMENT_LIVE_BYTES;
	catalogue_account_locked(s);
}

void store_log_reclaim_left(struct store *s, struct store_log_leaving *l)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->reclaims[i] != NULL)
			reclaim_enqueue(s, l->reclaims[i]);
	l->n = 0;
}

static int remove_some(struct store_log *log, unsigned n)
{
	struct store *s = log->store;
	struct store_log_leaving l = {0};
	int rc = store_log_leaving_make(log, n, &l);

	if (rc == 0)
		rc = latch_share(&s->latch);
	if (rc == 0) {
		rc = catalogue_append(s, FORMAT_LOG_SEGMENTS, l.record,
		                      (uint32_t)(sizeof(struct log_change_le) + n * sizeof(struct next_id_le)));
		if (rc == 0) {
			store_lock(s);
			store_log_leave_locked(log, &l);
			store_unlock(s);
			store_log_reclaim_left(s, &l);
		}
		latch_unshare(&s->latch);
	}
	store_log_leaving_free(&l);
	return rc;
}

/* Nobody else changes the log from here on. */
static int removal_begin(struct store_log *log)
{
	int rc = store_enter(log->store);

	if (rc < 0)
		return rc;
	rc = latch_exclude(&log->latch);
	if (rc < 0)
		store_leave(log->store);
	return rc;
}

static int removal_end(struct store_log *log, int rc)
{
	latch_unexclude(&log->latch);
	if (rc == 0)
		catalogue_compact_if_due(log->store);
	store_leave(log->store);
	return rc;
}

int store_log_remove(struct store_log *log, unsigned n)
{
	int rc = removal_begin(log);

	if (rc < 0)
		return rc;
	if (n > log->n)
		rc = -EINVAL;
	for (unsigned k; n > 0 && rc == 0; n -= k) {
		k = n < STORE_LOG_MAX_REMOVED ? n : STORE_LOG_MAX_REMOVED;
		rc = remove_some(log, k);
	}
	return removal_end(log, rc);
}

/* Those of these ids become the first, the others stay in their order. s->lock is held; the list is not changed if one is not there. */
static int bring_forward_locked(struct store_log *log, const uint64_t *ids, unsigned n)
{
	struct store_log_extent **sorted = reallocarray(NULL, log->n + 1, sizeof(sorted[0]));
	unsigned n_first = 0, n_others = 0;

	if (sorted == NULL)
		return -ENOMEM;
	for (; n_first < n; n_first++) {
		struct store_log_extent *e = (struct store_log_extent *)idmap_find(&log->store->log_segments, ids[n_first]);
		if (e == NULL || e->log != log || e->leaves)
			break;
		e->leaves = true;
		sorted[n_first] = e;
	}
	for (unsigned i = 0; n_first == n && i < log->n; i++)
		if (!log->segments[i]->leaves)
			sorted[n_first + n_others++] = log->segments[i];
	for (unsigned i = 0; i < n_first; i++)
		sorted[i]->leaves = false;
	if (n_first == n)
		memcpy(log->segments, sorted, log->n * sizeof(sorted[0]));
	free(sorted);
	return n_first == n ? 0 : -ESTALE;
}

int store_log_remove_these(struct store_log *log, const uint64_t *ids, unsigned n)
{
	struct store *s = log->store;
	int rc = removal_begin(log);

	if (rc < 0)
		return rc;
	store_lock(s);
	rc = n > STORE_LOG_MAX_REMOVED || !log->settings.volumes ? -EINVAL : bring_forward_locked(log, ids, n);
	store_unlock(s);
	if (rc == 0 && n > 0)
		rc = remove_some(log, n);
	return removal_end(log, rc);
}
