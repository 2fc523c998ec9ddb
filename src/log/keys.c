/* keys.c - the newest record with a key.
 *
 * A table (key_table.h) has for the hash of each key the lsn of the last record that had it. Keys are not kept: who asks is told
 * after a look at the record. If another key is there, of the same hash, the records before it are read one by one until one has
 * the right one. That is dear, and does not happen: hashes have 64 bits, and a secret of the log's own.
 *
 * What goes in. Appends do nothing for it. Records that are visible are taken in, in order, from the images of their
 * segments: by who asks, up to what is visible then, and before a segment is sealed. next_lsn is the first that is not in; it
 * is behind k->offset in k->seg, or first in its segment, if k->seg is NULL.
 *
 * What is durable. For a record that was taken in before it was durable it is noted which one it took the place of,
 * until it is. Who asks for durable ones goes back by these notes.
 *
 * When the log is opened the lists behind the footers of sealed segments are put in (store/log_keys.c), then the records of the
 * others. A list has what is needed: for each hash its last record of the segment, unless a durable one behind the
 * segment has the hash too. If a list did not fit, or is damaged, the segment's records are read instead. If these are damaged as
 * well, the log is opened all the same: what is found behind that segment is right, anything else is -EBADMSG. So it is with single records
 * that are lost: they may have had any key.
 *
 * What is trimmed. A record below first_lsn is as none. Its entry goes when the table needs room, or by the sweep after a removal,
 * which is kept in proportion to what was removed.
 *
 * Invariants (under the log's lock):
 *   1. For each hash: the last record below next_lsn that is not trimmed, of those with a key of that hash, is in the table.
 *   2. Each record below next_lsn that has a key and is not durable has a note; notes ascend.
 *   3. A sealed segment ends at next_lsn or before it; k->seg is not sealed.
 *
 * Threads. The log's lock guards it all; held for STEP records at most at a time, and never while a record is read through the
 * cache. Memory is charged to the budget whatever its limit says; pages are evicted for it when the lock is free.
 */
#include "log_internal.h"

#include "../base/assert.h"
#include "../base/keyed_hash.h"
#include "../cache/evict.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP 512u          /* records, while the lock is held */
#define SWEEP_FACTOR 8u    /* slots looked at for each record that was removed */
#define SWEEP_LEAST 65536u
#define SWEEP_STEP 8192u   /* slots, while the lock is held, and what is in the last table */

static_assert(KEYED_HASH_SECRET_BYTES == STORE_LOG_SECRET_BYTES, "one size");

/* ---- life ---- */

int log_keys_new(struct quire_log *log)
{
	struct store_log_settings settings;

	store_log_settings(log->space, &settings);
	if (!settings.keys)
		return 0;
	log->keys = calloc(1, sizeof(*log->keys));
	if (log->keys == NULL)
		return -ENOMEM;
	memcpy(log->keys->secret, settings.secret, sizeof(settings.secret));
	log->keys->hash_mask = UINT64_MAX;
	return 0;
}

static struct budget *budget_of(struct quire_log *log)
{
	return store_config_of(log->store)->budget;
}

void log_keys_free(struct quire_log *log)
{
	struct log_keys *k = log->keys;

	if (k == NULL)
		return;
	key_table_fini(&k->table);
	budget_uncharge(budget_of(log), BUDGET_TABLES, k->charged_bytes);
	free(k->notes);
	free(k);
	log->keys = NULL;
}

/* Lock held. True: there is more of it than before. */
static bool account(struct quire_log *log)
{
	struct log_keys *k = log->keys;
	uint64_t before = k->charged_bytes;

	k->charged_bytes = sizeof(*k) + k->table.slots_bytes + k->notes_capacity * sizeof(k->notes[0]);
	if (k->charged_bytes > before)
		budget_charge(budget_of(log), BUDGET_TABLES, k->charged_bytes - before);
	else
		budget_uncharge(budget_of(log), BUDGET_TABLES, before - k->charged_bytes);
	return k->charged_bytes > before;
}

static void unlock(struct quire_log *log)
{
	bool more = account(log);

	log_unlock(log);
	if (more && log->cache != NULL)
		evict_to_budget(log->cache);
}

/* Others get the lock, and the loop. */
static void let_others(struct quire_log *log)
{
	unlock(log);
	if (quire_in_coroutine())
		(void)quire_co_yield();
	log_lock(log);
}

static uint64_t hash_of(const struct log_keys *k, const void *key, size_t key_bytes)
{
	return keyed_hash(k->secret, key, key_bytes) & k->hash_mask;
}

/* ---- notes ---- */

static int need_note(struct log_keys *k)
{
	if (k->n_notes < k->notes_capacity)
		return 0;
	size_t capacity = k->notes_capacity == 0 ? 64 : 2 * k->notes_capacity;
	struct log_key_note *grown = reallocarray(k->notes, capacity, sizeof(grown[0]));
	if (grown == NULL)
		return -ENOMEM;
	k->notes = grown;
	k->notes_capacity = capacity;
	return 0;
}

/* How many of the notes are of records below lsn. */
static size_t notes_below(const struct log_keys *k, uint64_t lsn)
{
	size_t low = 0, high = k->n_notes;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (k->notes[mid].lsn < lsn)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void drop_notes(struct log_keys *k, uint64_t durable)
{
	size_t n = k->n_notes == 0 || k->notes[0].lsn >= durable ? 0 : notes_below(k, durable);

	/* Seldom, as it moves all that stay. */
	if (n == 0 || n < k->n_notes / 2)
		return;
	k->n_notes -= n;
	memmove(k->notes, k->notes + n, k->n_notes * sizeof(k->notes[0]));
}

static uint64_t what_was_before(const struct log_keys *k, uint64_t lsn)
{
	size_t i = notes_below(k, lsn);

	quire_assert(i < k->n_notes && k->notes[i].lsn == lsn);
	return k->notes[i].old;
}

/* ---- what goes in ---- */

/* What is below may lack keys. */
static void note_lost(struct log_keys *k, uint64_t end_lsn)
{
	if (k->damaged_end < end_lsn)
		k->damaged_end = end_lsn;
}

/* One record. Lock held. */
static int take(struct quire_log *log, const struct quire_log_record *r, uint64_t lsn, uint64_t durable)
{
	struct log_keys *k = log->keys;
	uint64_t old;

	if (r->key == NULL)
		return 0;
	int rc = lsn >= durable ? need_note(k) : 0;
	if (rc == 0)
		rc = key_table_put(&k->table, hash_of(k, r->key, r->key_bytes), lsn, atomic_load(&log->first_lsn), &old);
	if (rc == 0 && lsn >= durable)
		k->notes[k->n_notes++] = (struct log_key_note){.lsn = lsn, .old = old};
	return rc;
}

/* The record or other header at *offset of an image, and on to what is behind it. 1: ret is a record. */
static int pass(const struct quire_log *log, const uint8_t *bytes, uint32_t *offset, struct log_header *ret_header,
                struct quire_log_record *ret)
{
	uint32_t segment_bytes = log->info.segment_bytes;

	if (*offset + JOURNAL_RECORD_HEADER_BYTES > segment_bytes)
		return -EUCLEAN;
	const uint8_t *at = bytes + *offset;
	int rc = log_header(at, *offset, segment_bytes, ret_header);
	if (rc == 0 && ret_header->type == FORMAT_LOG_LOST)
		*ret = (struct quire_log_record){.key = NULL};
	else if (rc == 0 && log_is_record(ret_header->type))
		rc = log_record_split(ret_header->type, at + JOURNAL_RECORD_HEADER_BYTES, ret_header->len_bytes, ret);
	if (rc < 0)
		return rc;
	*offset += ret_header->bytes;
	return log_is_record(ret_header->type);
}

static int begin_segment(struct quire_log *log)
{
	struct log_keys *k = log->keys;
	int rc = log_segment_find(log, k->next_lsn, &k->seg);

	if (rc < 0 || k->seg->image == NULL || k->seg->footer.first_no != k->next_lsn) {
		k->seg = NULL;
		return rc < 0 ? rc : -EUCLEAN;
	}
	k->offset = FRAME_BLOCK_BYTES;
	return 0;
}

/* Some of those below end_lsn, which are visible. Lock held. */
static int take_some(struct quire_log *log, uint64_t end_lsn)
{
	struct log_keys *k = log->keys;
	uint64_t durable = journal_n_durable(log->journal);
	struct quire_log_record r;
	struct log_header h;

	drop_notes(k, durable);
	for (unsigned n = 0; n < STEP && k->next_lsn < end_lsn;) {
		int rc = k->seg == NULL ? begin_segment(log) : 0;
		uint32_t offset = k->offset;
		if (rc == 0)
			rc = pass(log, k->seg->image->bytes, &offset, &h, &r);
		if (rc == 1) {
			rc = take(log, &r, k->next_lsn, durable);
			if (h.type == FORMAT_LOG_LOST)
				note_lost(k, k->next_lsn + 1);
			k->next_lsn += rc == 0;
			n++;
		}
		if (rc < 0)
			return rc;
		k->offset = offset;
		if (h.type == FRAME_LINK)
			k->seg = NULL;
	}
	return 0;
}

/* All of them. Lock held; released meanwhile. */
static int take_all(struct quire_log *log, uint64_t end_lsn)
{
	int rc = take_some(log, end_lsn);

	while (rc == 0 && log->keys->next_lsn < end_lsn) {
		let_others(log);
		rc = take_some(log, end_lsn);
	}
	return rc;
}

int log_keys_take(struct quire_log *log, uint64_t end_lsn)
{
	if (log->keys == NULL)
		return 0;
	log_lock(log);
	int rc = take_all(log, end_lsn);
	unlock(log);
	return rc;
}

/* ---- when it is opened ---- */

/* Nobody else is in the log yet. */

int log_keys_hear(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct quire_log *log = arg;
	struct quire_log_record r;

	if (type == FORMAT_LOG_LOST) {
		if (log->keys != NULL)
			note_lost(log->keys, at->record_no + 1);
		return 0;
	}
	int rc = log_record_split(type, payload, len_bytes, &r);
	return rc < 0 || log->keys == NULL ? rc : take(log, &r, at->record_no, UINT64_MAX);
}

static int read_records(struct log_segment *seg)
{
	struct quire_log *log = seg->log;
	const struct store_log_segment place = {.id = seg->id, .class_no = seg->class_no, .offset = seg->offset};
	struct journal_options o;

	store_log_journal_of(log->space, &place, &o);
	int rc = journal_scan_segment(&o, seg->offset, log_keys_hear, log, NULL, NULL);
	(void)account(log);
	if (rc == -ENOMEM || rc == JOURNAL_VALID)
		return rc;
	note_lost(log->keys, seg->footer.end_no);
	return 0;
}

static int put_list(struct quire_log *log, const struct store_log_footer *f, const struct store_log_key *keys)
{
	uint64_t old;
	int rc = 0;

	for (uint32_t i = 0; i < f->n_keys && rc == 0; i++)
		rc = key_table_put(&log->keys->table, keys[i].hash, f->first_no + keys[i].index, 0, &old);
	(void)account(log);
	return rc;
}

int log_keys_load(struct log_segment *seg)
{
	struct quire_log *log = seg->log;
	struct store_log_key *keys = NULL;

	if (log->keys == NULL)
		return 0;
	note_lost(log->keys, seg->footer.lost_end);
	if (seg->footer.n_keys == 0)
		return 0;
	if (seg->footer.n_keys == FORMAT_LOG_KEYS_UNLISTED)
		return read_records(seg);
	int rc = store_log_read_keys(log->space, seg->id, &seg->footer, &keys);
	if (rc == -EBADMSG || rc == -EIO) {
		seg->list_damaged = true;
		return read_records(seg);
	}
	if (rc == 0)
		rc = put_list(log, &seg->footer, keys);
	free(keys);
	return rc;
}

uint64_t log_keys_load_bytes(const struct log_segment *seg)
{
	const struct store_log_footer *f = &seg->footer;

	return f->n_keys == FORMAT_LOG_KEYS_UNLISTED ? f->end_bytes : (uint64_t)f->n_keys * FORMAT_LOG_KEY_BYTES;
}

/* ---- when a segment is sealed ---- */

/* Not if it is found by what is behind it. Lock held. */
static bool belongs_in_list(const struct quire_log *log, const struct store_log_footer *f, uint64_t hash, uint64_t lsn)
{
	uint64_t newest = key_table_get(&log->keys->table, hash);
	uint64_t durable = log->journal != NULL ? journal_n_durable(log->journal) : 0;

	return newest == lsn || newest == KEY_TABLE_NONE || (newest >= f->end_no && newest >= durable);
}

/* Lock held; released meanwhile. */
static int make_list(struct log_segment *seg, const uint8_t *bytes, struct store_log_key *keys, uint32_t max)
{
	struct quire_log *log = seg->log;
	struct store_log_footer *f = &seg->footer;
	uint32_t offset = FRAME_BLOCK_BYTES, n = 0;
	struct quire_log_record r;
	struct log_header h;

	for (uint64_t lsn = f->first_no; lsn < f->end_no;) {
		int rc = pass(log, bytes, &offset, &h, &r);
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		uint64_t hash = r.key == NULL ? 0 : hash_of(log->keys, r.key, r.key_bytes);
		if (r.key != NULL && belongs_in_list(log, f, hash, lsn)) {
			if (n == max) {
				n = FORMAT_LOG_KEYS_UNLISTED;
				break;
			}
			keys[n++] = (struct store_log_key){.hash = hash, .index = (uint32_t)(lsn - f->first_no)};
		}
		if ((++lsn - f->first_no) % STEP == 0)
			let_others(log);
	}
	f->n_keys = n;
	return 0;
}

int log_keys_list(struct log_segment *seg, const uint8_t *bytes, struct store_log_key **ret_keys)
{
	struct quire_log *log = seg->log;
	struct log_keys *k = log->keys;
	uint32_t max = format_log_max_keys(log->info.segment_bytes);

	*ret_keys = NULL;
	if (k == NULL)
		return 0;
	struct store_log_key *keys = calloc(max, sizeof(keys[0]));
	if (keys == NULL)
		return -ENOMEM;
	log_lock(log);
	/* One that is mended while the log is opened was read, and the journal is not there. */
	int rc = log->journal == NULL ? 0 : take_all(log, seg->footer.end_no);
	if (rc == 0 && k->seg == seg)
		k->seg = NULL;
	if (rc == 0)
		rc = make_list(seg, bytes, keys, max);
	unlock(log);
	if (rc == 0)
		*ret_keys = keys;
	else
		free(keys);
	return rc;
}

/* ---- when some are removed ---- */

void log_keys_trimmed(struct quire_log *log, uint64_t n_records)
{
	struct log_keys *k = log->keys;
	uint64_t n_slots = SWEEP_LEAST + SWEEP_FACTOR * n_records, n_held = 0;

	if (k == NULL)
		return;
	log_lock(log);
	for (unsigned i = 0; i < KEY_TABLE_SHARDS && n_slots > 0; i++) {
		uint32_t n = key_table_purge(&k->table, k->sweep_next, atomic_load(&log->first_lsn));
		k->sweep_next = (k->sweep_next + 1) % KEY_TABLE_SHARDS;
		n_slots -= n < n_slots ? n : n_slots;
		n_held += n;
		if (n_held >= SWEEP_STEP) {
			let_others(log);
			n_held = 0;
		}
	}
	unlock(log);
}

/* ---- asked ---- */

int log_keys_look_up(struct quire_log *log, enum quire_log_mark mark, const void *key, size_t key_bytes,
                     uint64_t *ret_lsn)
{
	struct log_keys *k = log->keys;
	uint64_t hash = hash_of(k, key, key_bytes), visible = journal_n_visible(log->journal);

	log_lock(log);
	int rc = take_all(log, visible);
	uint64_t lsn = key_table_get(&k->table, hash), first = atomic_load(&log->first_lsn);
	if (rc == 0 && mark == QUIRE_LOG_DURABLE)
		for (uint64_t durable = journal_n_durable(log->journal); lsn != KEY_TABLE_NONE && lsn >= durable;)
			lsn = what_was_before(k, lsn);
	if (lsn < first)
		lsn = KEY_TABLE_NONE;
	if (rc == 0 && k->damaged_end > first && (lsn == KEY_TABLE_NONE || lsn < k->damaged_end))
		rc = -EBADMSG;
	unlock(log);
	if (rc == 0 && lsn == KEY_TABLE_NONE)
		rc = -ENOENT;
	*ret_lsn = lsn;
	return rc;
}
