/* log_move.c - a sealed segment of a log moves to another class: it is copied, and the copy put into its place.
 *
 * Steps:
 *   1. copy     to an extent of the other class that nobody knows of yet, under a new id: the pages, each held against its
 *               checksum as it is read; their checksums anew, since an id seeds them; marks, keys and footer as they are, the
 *               footer with the new id and place. Then a flush: all of it is durable
 *   2. record   one record of the catalogue names the old segment and the new one
 *   3. replace  in the list, at the same place. The old one is an object that was removed: who holds it reads on, and its
 *               space returns when nobody does
 * A cut before the record is durable leaves the old segment, one after it the new one. The space of the other is free
 * then, as what the catalogue doesn't name always is; so of a copy nothing need be known before it is whole.
 *
 * The journal's part of a copy is the source's, byte for byte: its header says where it was made. Who reads records from
 * it without a footer says so (journal_options.elsewhere).
 *
 * Threads: none of it holds a lock over I/O but the record, so that appends, seals and removals go on meanwhile; a
 * segment that was removed before its copy was whole is told by the list.
 */
#include "store_internal.h"

#include "checksum.h"
#include "../base/canary.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>

#define PIECE_BYTES OBJECT_READ_MAX_BYTES

struct moving {
	struct store_log *log;
	int (*between)(void *arg);
	void *arg;
	struct quire_error *err;         /* filled where the cause is known best */

	struct object *from;             /* held: its space stays */
	struct store_log_extent old;     /* as it was found */
	struct store_log_extent *to;     /* owned, until it is in the list */
	uint8_t *buf;                    /* owned; PIECE_BYTES */
	uint32_t *sums;                  /* owned; of the copy's pages */
};

static int fail(const struct moving *m, int rc, const char *what)
{
	return quire_fail(m->err, rc, "log %s: its segment %llu, in class %s at %llu: %s", m->log->settings.name,
	                  (unsigned long long)m->old.node.id, store_class_names[m->old.class_no],
	                  (unsigned long long)m->old.start * FORMAT_UNIT_BYTES, what);
}

static struct device *device_of(const struct moving *m, const struct store_log_extent *e)
{
	return m->log->store->classes[e->class_no].device;
}

/* ---- copy ---- */

/* A page that is wrong is told with its place; nothing is done about it. */
static int copy_piece(struct moving *m, uint64_t at, uint32_t len_bytes)
{
	uint64_t bad = at;
	int rc = object_read_wait(m->from, at, len_bytes, m->buf, &bad);

	if (rc < 0) {
		return quire_fail(m->err, rc, "log %s: its segment %llu, in class %s at %llu, offset %llu", m->log->settings.name,
		                  (unsigned long long)m->old.node.id, store_class_names[m->old.class_no],
		                  (unsigned long long)m->old.start * FORMAT_UNIT_BYTES, (unsigned long long)bad);
	}
	for (uint32_t i = 0; i < len_bytes / FORMAT_UNIT_BYTES; i++) {
		uint64_t page = at / FORMAT_UNIT_BYTES + i;
		m->sums[page] = checksum_page(m->to->node.id, page, m->buf + (size_t)i * FORMAT_UNIT_BYTES);
	}
	rc = device_write(device_of(m, m->to), m->to->start * FORMAT_UNIT_BYTES + at, m->buf, len_bytes, false);
	return rc < 0 ? fail(m, rc, "writing its copy") : 0;
}

static int copy_pages(struct moving *m)
{
	uint64_t all = m->from->n_pages * FORMAT_UNIT_BYTES;

	for (uint64_t at = 0; at < all; at += PIECE_BYTES) {
		int rc = m->between != NULL ? m->between(m->arg) : 0;
		if (rc == 0)
			rc = copy_piece(m, at, (uint32_t)(all - at < PIECE_BYTES ? all - at : PIECE_BYTES));
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Checksums, and what is behind them. */
static int copy_tail(struct moving *m)
{
	uint32_t segment_bytes = m->log->settings.segment_bytes;
	uint32_t sums_bytes = format_log_sums_units(segment_bytes) * FORMAT_UNIT_BYTES;
	uint32_t tail_bytes = store_log_tail_bytes(m->log);
	struct store_log_footer footer;
	uint8_t *buf = aligned_alloc(FORMAT_UNIT_BYTES, sums_bytes + tail_bytes);

	if (buf == NULL)
		return -ENOMEM;
	__builtin_memset(buf, 0, sums_bytes);
	uint8_t *tail = buf + sums_bytes;
	int rc = device_read(device_of(m, &m->old), store_log_tail_at(m->log, &m->old), tail, tail_bytes);
	if (rc == 0)
		rc = store_log_tail_decode(m->log, &m->old, tail, &footer);
	if (rc == 0) {
		free(footer.marks);
		rc = store_log_copy_keys(m->log, &m->old, m->to, &footer, m->buf, PIECE_BYTES);
	}
	if (rc == 0) {
		uint32_t sums_crc = store_log_put_sums(m->to->node.id, m->sums, m->from->n_pages, buf);
		uint64_t at = store_log_tail_at(m->log, m->to) - sums_bytes;
		store_log_tail_readdress(m->log, m->to, sums_crc, tail);
		rc = device_write(device_of(m, m->to), at, buf, sums_bytes + tail_bytes, false);
	} else {
		rc = fail(m, rc == -ENODATA ? -EBADMSG : rc, "its footer");
	}
	free(buf);
	return rc;
}

static int copy(struct moving *m)
{
	m->buf = aligned_alloc(FORMAT_UNIT_BYTES, PIECE_BYTES);
	m->sums = malloc(m->from->n_pages * sizeof(m->sums[0]));
	if (m->buf == NULL || m->sums == NULL)
		return -ENOMEM;
	m->to->len_bytes = m->from->len_bytes;
	int rc = copy_pages(m);
	if (rc == 0)
		rc = copy_tail(m);
	return rc == 0 && !CANARY(moved_segment_not_flushed) ? flusher_flush(&m->log->store->classes[m->to->class_no].flusher) : rc;
}

/* ---- record, replace ---- */

static unsigned find_locked(const struct store_log *log, uint64_t id)
{
	unsigned i = 0;

	while (i < log->n && log->segments[i]->node.id != id)
		i++;
	return i;
}

/* The log's latch is excluded, the store's shared; r: of the old one's space. Takes r if it is still wanted elsewhere. */
static int replace(struct moving *m, unsigned i, struct reclaim **r)
{
	uint8_t record[sizeof(struct log_moved_le) + sizeof(struct log_segment_le)];
	struct store *s = m->log->store;
	uint8_t *end = record_put_log_moved(record, m->log->node.id, m->old.node.id, m->to);

	/* What can fail comes before the record. */
	store_lock(s);
	int rc = idmap_add(&s->log_segments, &m->to->node, m->to->node.id);
	store_unlock(s);
	if (rc < 0)
		return rc;
	rc = catalogue_append(s, FORMAT_LOG_MOVED, record, (uint32_t)(end - record));
	store_lock(s);
	if (rc == 0) {
		struct store_log_extent *old = m->log->segments[i];
		m->log->segments[i] = m->to;
		m->to = NULL;
		idmap_remove(&s->log_segments, &old->node);
		if (object_delete_locked(s, old->node.id, *r))
			*r = NULL;
		free(old);
	} else {
		idmap_remove(&s->log_segments, &m->to->node);
	}
	catalogue_account_locked(s);
	store_unlock(s);
	return rc;
}

static int enter(struct moving *m)
{
	struct store *s = m->log->store;
	struct reclaim *r = store_log_make_reclaim(&m->old);
	int rc = r == NULL ? -ENOMEM : latch_exclude(&m->log->latch);

	if (rc == 0) {
		unsigned i = find_locked(m->log, m->old.node.id);
		rc = i == m->log->n ? -ESTALE : latch_share(&s->latch);
		if (rc == 0) {
			rc = replace(m, i, &r);
			if (rc == 0 && r != NULL) {
				reclaim_enqueue(s, r);
				r = NULL;
			}
			latch_unshare(&s->latch);
		}
		latch_unexclude(&m->log->latch);
	}
	free(r);
	return rc;
}

/* ---- all ---- */

static int begin(struct moving *m, uint64_t id, unsigned class_no)
{
	struct store *s = m->log->store;

	if (class_no >= STORE_N_CLASSES)
		return -EINVAL;
	store_lock(s);
	const struct store_log_extent *e = (const struct store_log_extent *)idmap_find(&s->log_segments, id);
	int rc = e == NULL || e->log != m->log           ? -ESTALE
	         : s->classes[class_no].device == NULL ? -ENOENT
	         : e->class_no == class_no             ? -EINVAL
	                                               : 0;
	if (rc == 0)
		m->old = *e;
	store_unlock(s);
	if (rc == 0)
		rc = object_get(s, id, &m->from);
	return rc == 0 ? store_log_get_extent(m->log, class_no, &m->to) : rc;
}

static void end(struct moving *m)
{
	struct store *s = m->log->store;

	if (m->to != NULL) {
		store_lock(s);
		/* If the record may be there, its space is not free. */
		if (catalogue_error(s) == 0)
			store_give_locked(s, m->to->class_no, m->to->start, store_log_extent_units(m->log));
		store_unlock(s);
		free(m->to);
	}
	object_put(m->from);
	free(m->sums);
	free(m->buf);
}

int store_log_move(struct store_log *log, uint64_t id, unsigned class_no, int (*between)(void *arg), void *arg,
                   struct store_log_segment *ret, struct quire_error *err)
{
	struct quire_error why = {0};
	struct moving m = {.log = log, .between = between, .arg = arg, .err = &why};
	int rc = store_enter(log->store);

	if (rc < 0)
		return quire_fail(err, rc, "log %s", log->settings.name);
	rc = begin(&m, id, class_no);
	if (rc == 0)
		rc = copy(&m);
	if (rc == 0) {
		struct store_log_segment moved = {
			.id = m.to->node.id, .class_no = class_no, .offset = m.to->start * FORMAT_UNIT_BYTES};
		rc = enter(&m);
		if (rc == 0)
			*ret = moved;
	}
	end(&m);
	if (rc < 0 && why.code == 0)
		quire_fail(&why, rc, "log %s: moving its segment %llu", log->settings.name, (unsigned long long)id);
	if (rc < 0 && err != NULL)
		*err = why;
	if (rc == 0)
		catalogue_compact_if_due(log->store);
	store_leave(log->store);
	return rc;
}
