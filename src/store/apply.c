/* apply.c - transactions: some objects appear, others disappear, at once and durably, or nothing happens.
 *
 * Steps:
 *   1. claim    writers and index entries are marked; nobody else can have them
 *   2. data     small objects are placed and written, large ones finished; then what was not written durably is
 *               flushed: all transactions that are here at that moment share a flush. One page alone goes with its
 *               record instead: race.c
 *   3. enter    the new objects are in the index, hidden: what comes after the record can't fail
 *   4. record   appended and synced: all who are here share a write. The latch is shared from here to the end
 *   5. publish  hidden ones are seen, removed ones gone; their space is reclaimed once nobody holds them
 * A failure before the record undoes it all. One that leaves open whether the record is durable undoes nothing: what
 * was claimed stays claimed until the store is closed, as its space may be somebody's after the next open.
 */
#include "store_internal.h"

#include "checksum.h"

#include "../base/canary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct transaction {
	struct store *store;
	const uint64_t *commit, *remove; /* borrowed */
	unsigned n_commit, n_remove;
	struct writer **writers;         /* of n_commit; owned is the array */
	struct reclaim **reclaims;       /* of n_remove; owned, and what is in it */
	unsigned n_claimed, n_removing, n_entered;
	bool races, raced;               /* has the race (race.c); found a place for it */
	uint8_t *record;                 /* owned */
	uint64_t record_bytes;
};

/* ---- claim ---- */

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int check_ids(const struct transaction *t)
{
	unsigned n = t->n_commit + t->n_remove;
	int rc = 0;

	if (n == 1)
		return 0;
	uint64_t *ids = malloc(n * sizeof(ids[0]));
	if (ids == NULL)
		return -ENOMEM;
	if (t->n_commit != 0)
		memcpy(ids, t->commit, t->n_commit * sizeof(ids[0]));
	if (t->n_remove != 0)
		memcpy(ids + t->n_commit, t->remove, t->n_remove * sizeof(ids[0]));
	qsort(ids, n, sizeof(ids[0]), by_id);
	for (unsigned i = 1; i < n && rc == 0; i++)
		rc = ids[i] == ids[i - 1] ? -EINVAL : 0;
	free(ids);
	return rc;
}

static int claim_writer(struct transaction *t, uint64_t id)
{
	struct writer *w = (struct writer *)idmap_find(&t->store->writers, id);

	if (w == NULL) {
		const struct index_entry *e = index_find(&t->store->index, id);
		return e != NULL ? -EROFS : -ESTALE;
	}
	if (w->busy)
		return -EBUSY;
	if (w->error < 0)
		return w->error;
	w->busy = true;
	t->writers[t->n_claimed++] = w;
	return 0;
}

static int claim_removed(struct transaction *t, uint64_t id)
{
	struct index_entry *e = index_find(&t->store->index, id);
	struct extent one;
	unsigned n;

	if (e == NULL || e->hidden)
		return idmap_find(&t->store->writers, id) != NULL ? -EAGAIN : -ESTALE;
	if (e->removing)
		return -EBUSY;
	const struct extent *extents = index_entry_extents(e, &one, &n);
	struct reclaim *r = malloc(sizeof(*r) + n * sizeof(r->extents[0]));
	if (r == NULL)
		return -ENOMEM;
	*r = (struct reclaim){.class_no = e->class_no, .n = n};
	memcpy(r->extents, extents, n * sizeof(r->extents[0]));
	e->removing = 1;
	t->reclaims[t->n_removing++] = r;
	return 0;
}

static int claim_locked(struct transaction *t)
{
	int rc = 0;

	for (unsigned i = 0; i < t->n_commit && rc == 0; i++)
		rc = claim_writer(t, t->commit[i]);
	for (unsigned i = 0; i < t->n_remove && rc == 0; i++)
		rc = claim_removed(t, t->remove[i]);
	return rc;
}

static int claim(struct transaction *t)
{
	t->writers = calloc(t->n_commit + 1, sizeof(t->writers[0]));
	t->reclaims = calloc(t->n_remove + 1, sizeof(t->reclaims[0]));
	if (t->writers == NULL || t->reclaims == NULL)
		return -ENOMEM;
	int rc = check_ids(t);
	if (rc < 0)
		return rc;
	store_lock(t->store);
	rc = claim_locked(t);
	store_unlock(t->store);
	return rc;
}

/* ---- data ---- */

/* All of its data fits into one write, and nobody is here with whom a flush could be shared. */
static bool goes_durably(const struct transaction *t)
{
	for (unsigned i = 0; i < t->n_commit; i++)
		if (!writer_is_small(t->writers[i]) || t->writers[i]->class_no != t->writers[0]->class_no)
			return false;
	return atomic_load_explicit(&t->store->n_writing, memory_order_relaxed) == 1;
}

static int flush_dirty(struct transaction *t)
{
	unsigned dirty = 0;
	int rc = 0;

	for (unsigned i = 0; i < t->n_commit; i++)
		if (t->writers[i]->dirty)
			dirty |= 1u << t->writers[i]->class_no;
	for (unsigned c = 0; c < STORE_N_CLASSES && rc == 0; c++)
		if (dirty >> c & 1 && !CANARY(data_not_flushed))
			rc = flusher_flush(&t->store->classes[c].flusher);
	for (unsigned i = 0; i < t->n_commit && rc == 0; i++)
		t->writers[i]->dirty = false;
	return rc;
}

static int write_data(struct transaction *t)
{
	bool durable = goes_durably(t);
	int rc = 0;

	for (unsigned i = 0; i < t->n_commit && rc == 0; i++)
		rc = writer_finish(t->writers[i]);
	for (unsigned c = 0; c < STORE_N_CLASSES && rc == 0; c++)
		rc = place_small(t->store, c, t->writers, t->n_commit, durable);
	return rc < 0 ? rc : flush_dirty(t);
}

/* ---- enter ---- */

/* What was got beyond need goes back. */
static void trim_locked(struct writer *w)
{
	store_give_list_locked(w->store, w->class_no, &w->extents, format_n_units(format_n_pages(w->len_bytes)));
}

static int enter(struct transaction *t)
{
	struct store *s = t->store;
	int rc = 0;

	store_lock(s);
	for (unsigned i = 0; i < t->n_commit && rc == 0; i++) {
		struct writer *w = t->writers[i];
		struct index_entry e = {
			.id = w->node.id,
			.len_bytes = w->len_bytes,
			.sum = w->len_bytes != 0 && w->len_bytes <= FORMAT_UNIT_BYTES ? w->sum : 0,
			.class_no = w->class_no & 3u,
			.page_shift = w->page_shift & 63u,
			.tag = w->tag,
			.hidden = 1,
		};
		trim_locked(w);
		rc = index_insert(&s->index, &e, &w->extents);
		t->n_entered += rc == 0;
	}
	store_unlock(s);
	return rc;
}

/* ---- record ---- */

static int make_record(struct transaction *t)
{
	uint64_t bytes = sizeof(struct transaction_le) + t->n_remove * sizeof(struct next_id_le);

	for (unsigned i = 0; i < t->n_commit; i++)
		bytes += record_object_bytes(t->writers[i]->extents.n);
	if (bytes > container_max_payload(t->store->catalogue))
		return -EMSGSIZE;
	t->record = malloc(bytes);
	if (t->record == NULL)
		return -ENOMEM;
	uint8_t *at = record_put_transaction(t->record, t->n_commit, t->n_remove);
	store_lock(t->store);
	for (unsigned i = 0; i < t->n_commit; i++)
		at = record_put_object(at, index_find(&t->store->index, t->commit[i]));
	store_unlock(t->store);
	for (unsigned i = 0; i < t->n_remove; i++)
		at = record_put_id(at, t->remove[i]);
	t->record_bytes = (uint64_t)(at - t->record);
	return 0;
}

/* ---- publish ---- */

static void publish_locked(struct transaction *t)
{
	struct store *s = t->store;

	for (unsigned i = 0; i < t->n_commit; i++) {
		struct writer *w = t->writers[i];
		index_find(&s->index, w->node.id)->hidden = 0;
		s->live_bytes += record_live_bytes(w->extents.n);
		extents_fini(&w->extents); /* the index has them */
		writer_destroy_locked(w);
	}
	for (unsigned i = 0; i < t->n_remove; i++) {
		s->live_bytes -= record_live_bytes(t->reclaims[i]->n);
		index_remove(&s->index, t->remove[i]);
		if (object_delete_locked(s, t->remove[i], t->reclaims[i]))
			t->reclaims[i] = NULL;
	}
	catalogue_account_locked(s);
}

static void undo_locked(struct transaction *t)
{
	for (unsigned i = 0; i < t->n_entered; i++)
		index_remove(&t->store->index, t->commit[i]);
	for (unsigned i = 0; i < t->n_claimed; i++) {
		place_undo_locked(t->writers[i]);
		t->writers[i]->busy = false;
	}
	for (unsigned i = 0; i < t->n_removing; i++)
		index_find(&t->store->index, t->remove[i])->removing = 0;
}

/* The latch is shared. */
static int record_and_publish(struct transaction *t)
{
	struct store *s = t->store;
	int rc = t->raced ? race_run(t->writers[0], t->record, (uint32_t)t->record_bytes)
	                  : catalogue_append(s, FORMAT_TRANSACTION, t->record, (uint32_t)t->record_bytes);

	if (rc < 0)
		return rc;
	store_lock(s);
	publish_locked(t);
	store_unlock(s);
	atomic_fetch_add_explicit(&s->n_transactions, 1, memory_order_relaxed);
	for (unsigned i = 0; i < t->n_remove; i++)
		if (t->reclaims[i] != NULL)
			reclaim_enqueue(s, t->reclaims[i]);
	t->n_removing = 0;
	return 0;
}

/* Everything from the data to the record, unless both go together. */
static int data_first(struct transaction *t)
{
	struct store *s = t->store;
	int rc = 0;

	atomic_fetch_add_explicit(&s->n_writing, 1, memory_order_relaxed);
	t->races = t->n_commit == 1 && t->n_remove == 0 && goes_durably(t) && race_begin(s, t->writers[0]);
	t->raced = t->races && race_place(t->writers[0]) == 0;
	if (!t->raced)
		rc = write_data(t);
	atomic_fetch_sub_explicit(&s->n_writing, 1, memory_order_relaxed);
	return rc;
}

static int run(struct transaction *t)
{
	struct store *s = t->store;
	int rc = catalogue_error(s);

	if (rc == 0)
		rc = claim(t);
	if (rc == 0)
		rc = data_first(t);
	if (rc == 0)
		rc = enter(t);
	if (rc == 0)
		rc = make_record(t);
	if (rc == 0)
		rc = latch_share(&s->latch);
	if (rc < 0)
		return rc;
	rc = record_and_publish(t);
	latch_unshare(&s->latch);
	return rc;
}

int store_apply(struct store *s, const uint64_t *commit, unsigned n_commit, const uint64_t *remove, unsigned n_remove)
{
	struct transaction t = {
		.store = s,
		.commit = commit,
		.remove = remove,
		.n_commit = n_commit,
		.n_remove = n_remove,
	};

	if (n_commit > FORMAT_MAX_TRANSACTION || n_remove > FORMAT_MAX_TRANSACTION - n_commit)
		return -EMSGSIZE;
	int rc = store_enter(s);
	if (rc < 0 || n_commit + n_remove == 0) {
		if (rc == 0)
			store_leave(s);
		return rc;
	}
	rc = run(&t);
	if (t.races)
		race_end(s);
	if (rc < 0 && catalogue_error(s) == 0) {
		store_lock(s);
		undo_locked(&t);
		store_unlock(s);
	}
	for (unsigned i = 0; i < t.n_removing; i++)
		free(t.reclaims[i]);
	free(t.record);
	free(t.reclaims);
	free(t.writers);
	if (rc == 0 && n_remove + n_commit != 0)
		catalogue_compact_if_due(s);
	store_leave(s);
	return rc;
}
