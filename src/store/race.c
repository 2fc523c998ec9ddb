/* race.c - one small object, alone: its page and its record are written at the same time, so that its commit takes
 * about as long as one durable write, not two.
 *
 * Whoever commits objects one after the other, and shares no write with anybody, waits for each: page, then
 * record. The record holds the page's checksum, so after a crash it can be seen whether the page got there too; if it did
 * not, the commit was not answered, and the object never was.
 *
 * Invariants:
 *   1. One race at a time (s->racing); it is over when both writes are, and only then answered.
 *   2. So of all raced records in a log only the last can be of a page that is not there; and not that
 *      one either if a seal follows it (a clean close, or an open that has looked), or if the log was compacted since.
 *   3. The page's place was written before (zone.c): it can't fail for want of space.
 * Recovery (race_recover) reads the one page, and removes the object, durably, if its checksum is wrong. As with a
 * log's torn tail, damage of just this page between a crash and the next open can't be told from that. A page that can't be read is
 * an error for who reads it, and asked for again by the next open: until then there is neither a seal nor another race, and a compaction writes
 * the record as the raced one that it is.
 * A page that can't be written while its record is durable ends the store's transactions, like any write of the log.
 */
#include "store_internal.h"

#include "checksum.h"
#include "../base/canary.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool race_begin(struct store *s, const struct writer *w)
{
	if (!writer_is_small(w) || w->len_bytes == 0 || w->len_bytes > FORMAT_UNIT_BYTES || w->error < 0)
		return false;
	store_lock(s);
	bool mine = !s->racing;
	if (mine)
		s->racing = true;
	store_unlock(s);
	return mine;
}

void race_end(struct store *s)
{
	store_lock(s);
	s->racing = false;
	store_unlock(s);
}

int race_place(struct writer *w)
{
	struct store *s = w->store;
	uint64_t start;
	int rc = zone_alloc(s, w->class_no, 1, &start);

	if (rc < 0)
		return rc;
	memset(w->buffer + w->len_bytes, 0, FORMAT_UNIT_BYTES - w->len_bytes);
	w->sum = checksum_page(w->node.id, 0, w->buffer);
	rc = extents_add(&w->extents, start, 1);
	if (rc < 0) {
		store_lock(s);
		store_give_locked(s, w->class_no, start, 1);
		s->classes[w->class_no].space.n_promised++;
		store_unlock(s);
		return rc;
	}
	w->n_promised--;
	w->placed = true;
	return 0;
}

/* ---- both writes ---- */

struct page_write {
	struct device_io io;
	struct quire_op op;
	struct device *device;
};

static void page_done(struct device_io *io, int result)
{
	op_complete(&((struct page_write *)io)->op, result);
}

static void page_start(struct quire_op *op)
{
	struct page_write *p = (struct page_write *)((char *)op - offsetof(struct page_write, op));

	device_submit(p->device, op_home(op), &p->io);
}

static const struct op_driver page_driver = {.start = page_start};

int race_run(struct writer *w, const void *record, uint32_t len_bytes)
{
	struct store *s = w->store;
	struct page_write p = {
		.io = {
			.verb = CANARY(raced_page_not_durable) ? DEVICE_WRITE : DEVICE_WRITE_DURABLE,
			.offset = w->extents.extents[0].start * FORMAT_UNIT_BYTES,
			.len_bytes = FORMAT_UNIT_BYTES,
			.buf = w->buffer,
			.buffer_slot = -1,
			.done = page_done,
		},
		.device = s->classes[w->class_no].device,
	};

	quire_op_init(&p.op);
	int rc = op_start(&p.op, &page_driver, s->config.service);
	if (rc < 0)
		return rc;
	rc = catalogue_append(s, FORMAT_RACED, record, len_bytes);
	int page_rc = (int)quire_await(&p.op);
	if (rc == 0 && page_rc < 0) {
		int none = 0;
		atomic_compare_exchange_strong(&s->failed, &none, page_rc);
		return page_rc;
	}
	return rc;
}

/* ---- after a crash ---- */

/* 1: the page is there; 0: it is not; or a negative errno. */
static int page_is_there(struct store *s, const struct index_entry *e, uint64_t id)
{
	void *page = aligned_alloc(FORMAT_UNIT_BYTES, FORMAT_UNIT_BYTES);

	if (page == NULL)
		return -ENOMEM;
	int rc = device_read(s->classes[e->class_no].device, e->where * FORMAT_UNIT_BYTES, page, FORMAT_UNIT_BYTES);
	if (rc == 0)
		rc = checksum_page(id, 0, page) == e->sum;
	free(page);
	return rc;
}

int race_recover(struct store *s, uint64_t id, struct quire_error *err)
{
	uint8_t record[sizeof(struct transaction_le) + sizeof(struct next_id_le)];
	struct index_entry *e = id != 0 ? index_find(&s->index, id) : NULL;

	if (e == NULL)
		return 0;
	int rc = page_is_there(s, e, id);
	if (rc < 0 && rc != -ENOMEM) {
		s->unproven = id;
		s->racing = true;
		return 0;
	}
	if (rc == 1) {
		rc = s->config.read_only ? 0 : catalogue_append(s, FORMAT_SEAL, NULL, 0);
		return rc < 0 ? quire_fail(err, rc, "catalogue") : 0;
	}
	if (rc == 0 && !s->config.read_only) {
		record_put_id(record_put_transaction(record, 0, 1), id);
		rc = catalogue_append(s, FORMAT_TRANSACTION, record, sizeof(record));
	}
	if (rc < 0)
		return quire_fail(err, rc, "catalogue: object %llu", (unsigned long long)id);
	store_lock(s);
	store_give_locked(s, e->class_no, e->where, 1);
	s->live_bytes -= record_live_bytes(1);
	index_remove(&s->index, id);
	store_unlock(s);
	return 0;
}
