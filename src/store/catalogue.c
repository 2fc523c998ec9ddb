/* catalogue.c - the log of all that the store knows: a two-log container on `capacity`, whose first segments the
 * superblock names. Its segments come out of the same space as the objects' bytes.
 *
 * Space for it. `n_held` units are kept back from objects, so that a store full of them can still
 * delete, and compact. Segments are zeroed when they are got, since a durable write into a hole of a file
 * costs twice one over written blocks.
 */
#include "store_internal.h"

#include "replay.h"
#include "../base/canary.h"
#include "../base/fail.h"
#include "../journal/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 0u
#define N_IDS 4096u /* are reserved at once */
#define MAX_OPEN_TRIES 8

/* ---- segments ---- */

static int segment_get(void *owner, uint64_t *ret_offset)
{
	struct store *s = owner;
	uint64_t start, n;

	if (s->n_pool > 0) {
		*ret_offset = s->pool[--s->n_pool];
		return 0;
	}
	uint64_t units = s->segment_bytes / FORMAT_UNIT_BYTES;
	int rc = store_alloc(s, CAPACITY, units, 1, FREEMAP_PRIVILEGED | FREEMAP_WHOLE, &start, &n);
	if (rc < 0)
		return rc;
	rc = store_zero(s->classes[CAPACITY].device, start * FORMAT_UNIT_BYTES, s->segment_bytes);
	if (rc < 0) {
		store_lock(s);
		store_give_locked(s, CAPACITY, start, units);
		store_unlock(s);
		return rc;
	}
	*ret_offset = start * FORMAT_UNIT_BYTES;
	return 0;
}

static void segment_put(void *owner, uint64_t offset)
{
	struct store *s = owner;

	store_lock(s);
	store_give_locked(s, CAPACITY, offset / FORMAT_UNIT_BYTES, s->segment_bytes / FORMAT_UNIT_BYTES);
	store_unlock(s);
}

static const struct journal_ops segment_ops = {.segment_get = segment_get, .segment_put = segment_put};

static void catalogue_options(struct store *s, struct container_options *ret)
{
	*ret = (struct container_options){
		.journal = {
			.device = s->classes[CAPACITY].device,
			.ops = &segment_ops,
			.owner = s,
			.log_no = FORMAT_CATALOGUE_LOG_NO,
			.segment_bytes = s->segment_bytes,
			.salt_seed = store_random(s),
		},
	};
	memcpy(ret->journal.identity, s->uuid, sizeof(s->uuid));
}

/* ---- accounts ---- */

void catalogue_account_locked(struct store *s)
{
	uint64_t units = s->segment_bytes / FORMAT_UNIT_BYTES;
	uint64_t n_segments = s->live_bytes / s->segment_bytes + 3;
	struct freemap *sp = &s->classes[CAPACITY].space;
	uint64_t held = n_segments * units;

	sp->n_held = held < sp->n_units / 8 ? held : sp->n_units / 8;
	store_charge_locked(s);
}

/* ---- made and opened ---- */

int catalogue_create(struct store *s, struct quire_error *err)
{
	struct superblock *sb = &s->classes[CAPACITY].superblock;
	struct container_options o;

	for (int i = 0; i < 2; i++) {
		int rc = segment_get(s, &sb->catalogue_first[i]);
		if (rc < 0)
			return quire_fail(err, rc, "%s: no room for a catalogue", s->classes[CAPACITY].device->name);
	}
	catalogue_options(s, &o);
	return container_create(&o, sb->catalogue_first, &s->catalogue, err);
}

static void forget(struct store *s)
{
	struct idmap_node *node;

	index_fini(&s->index);
	while ((node = idmap_any(&s->containers)) != NULL) {
		idmap_remove(&s->containers, node);
		store_container_free((struct store_container *)node);
	}
	while ((node = idmap_any(&s->logs)) != NULL)
		store_log_free_locked((struct store_log *)node);
	s->live_bytes = s->id_limit = 0;
}

/* All is free but the superblocks. */
static int begin_spaces(struct store *s, struct quire_error *err)
{
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		struct store_class *c = &s->classes[i];
		if (c->device == NULL)
			continue;
		freemap_fini(&c->space);
		int rc = freemap_init(&c->space, c->superblock.n_units);
		if (rc == 0)
			rc = freemap_take(&c->space, 0, FORMAT_RESERVED_UNITS);
		if (rc < 0)
			return quire_fail(err, rc, "%s", c->device->name);
	}
	return 0;
}

struct taking {
	struct store *store;
	int rc;
};

static void take_segment(void *arg, uint64_t offset)
{
	struct taking *t = arg;
	struct store *s = t->store;
	int rc = offset % FORMAT_UNIT_BYTES != 0 ? -EUCLEAN
	                                         : freemap_take(&s->classes[CAPACITY].space, offset / FORMAT_UNIT_BYTES,
	                                                      s->segment_bytes / FORMAT_UNIT_BYTES);

	if (t->rc == 0)
		t->rc = rc;
}

/* Nothing else says what is where: whoever can't open the store is told what is left. */
static int tell_what_is_left(struct quire_error *err, int rc)
{
	if (err == NULL || (rc != -EBADMSG && rc != -EUCLEAN))
		return rc;
	const struct quire_error why = *err;
	return quire_fail(err, rc, "the store's catalogue can't be read; nothing was written, and what is left is a copy of the whole store: %s",
	                  why.text);
}

static int read_catalogue(struct store *s, struct quire_error *err)
{
	struct replay r = {.store = s, .err = err};
	struct taking t = {.store = s};
	struct container_options o;
	struct quire_error why = {0};

	if (err != NULL)
		err->code = 0;
	forget(s);
	int rc = begin_spaces(s, err);
	if (rc < 0)
		return rc;
	catalogue_options(s, &o);
	rc = container_open(&o, s->classes[CAPACITY].superblock.catalogue_first, s->config.read_only, replay_record, &r,
	                    NULL, &s->catalogue, &why);
	extents_fini(&r.list);
	if (rc < 0) {
		if (err != NULL && err->code != rc) /* what the replay has said is nearer to the cause */
			*err = why;
		rc = err != NULL && err->code != rc ? quire_fail(err, rc, "catalogue") : rc;
		return tell_what_is_left(err, rc);
	}
	if (r.end_id > s->id_limit)
		return quire_fail(err, -EUCLEAN, "catalogue: object %llu: its id was never given out",
		                  (unsigned long long)r.end_id - 1);
	container_segments(s->catalogue, take_segment, &t);
	if (t.rc < 0)
		return quire_fail(err, t.rc, "catalogue: its segments and an object overlap");
	return race_recover(s, r.raced_id, err);
}

/* A superblock of a right checksum may say what no writer says. */
static int check_place(const struct store_class *c, struct quire_error *err)
{
	uint32_t bytes = c->superblock.catalogue_segment_bytes;
	uint64_t units = bytes / FORMAT_UNIT_BYTES, n_units = c->superblock.n_units;
	const uint64_t *first = c->superblock.catalogue_first;
	bool fits = bytes >= FRAME_MIN_SEGMENT_BYTES && bytes <= FRAME_MAX_SEGMENT_BYTES && (bytes & (bytes - 1)) == 0 &&
	            units <= n_units && first[0] != first[1];

	for (int i = 0; i < 2; i++)
		fits = fits && first[i] % FORMAT_UNIT_BYTES == 0 && first[i] / FORMAT_UNIT_BYTES >= FORMAT_RESERVED_UNITS &&
		       first[i] / FORMAT_UNIT_BYTES <= n_units - units;
	return fits ? 0 : quire_fail(err, -EUCLEAN, "%s: a catalogue in segments of %u bytes at %llu and %llu", c->device->name, bytes,
	                             (unsigned long long)first[0], (unsigned long long)first[1]);
}

int catalogue_open(struct store *s, struct quire_error *err)
{
	int rc = check_place(&s->classes[CAPACITY], err);

	if (rc < 0)
		return rc;
	rc = -ESTALE;
	s->segment_bytes = s->classes[CAPACITY].superblock.catalogue_segment_bytes;
	/* Beside a writer that compacts the catalogue while we read it. */
	for (int n = 0; n < MAX_OPEN_TRIES && rc == -ESTALE; n++)
		rc = read_catalogue(s, err);
	if (rc < 0)
		return rc;
	s->next_id = s->id_limit == 0 || CANARY(id_used_again) ? 1 : s->id_limit;
	store_lock(s);
	catalogue_account_locked(s);
	store_unlock(s);
	return 0;
}

/* ---- records ---- */

static bool forgets_to_sync(uint16_t type)
{
	return (CANARY(transaction_not_synced) && type == FORMAT_TRANSACTION) ||
	       (CANARY(segment_change_not_synced) && type == FORMAT_LOG_SEGMENTS) ||
	       (CANARY(move_not_synced) && type == FORMAT_LOG_MOVED);
}

int catalogue_append(struct store *s, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct iovec part = {.iov_base = (void *)(uintptr_t)payload, .iov_len = len_bytes};
	uint64_t no;
	int rc = container_append(s->catalogue, type, &part, 1, &no);

	atomic_store_explicit(&s->unsealed, true, memory_order_relaxed);
	return rc < 0 || forgets_to_sync(type) ? rc : container_sync(s->catalogue, no, NULL);
}

void catalogue_seal(struct store *s)
{
	if (!s->config.read_only && atomic_load(&s->unsealed) && s->unproven == 0 && catalogue_error(s) == 0)
		(void)catalogue_append(s, FORMAT_SEAL, NULL, 0);
}

int catalogue_error(struct store *s)
{
	int error = atomic_load(&s->failed);

	return error < 0 ? error : container_error(s->catalogue);
}

/* ---- ids ---- */

static int reserve_ids(struct store *s)
{
	uint8_t record[sizeof(struct next_id_le)];

	store_lock(s);
	bool needed = s->next_id >= s->id_limit;
	uint64_t limit = s->next_id + N_IDS;
	store_unlock(s);
	if (!needed)
		return 0;
	record_put_id(record, limit);
	int rc = latch_share(&s->latch);
	if (rc < 0)
		return rc;
	rc = catalogue_append(s, FORMAT_NEXT_ID, record, sizeof(record));
	latch_unshare(&s->latch);
	if (rc < 0)
		return rc;
	store_lock(s);
	s->id_limit = limit;
	store_unlock(s);
	return 0;
}

int next_id(struct store *s, uint64_t *ret_id)
{
	for (;;) {
		store_lock(s);
		bool have = s->next_id < s->id_limit;
		if (have)
			*ret_id = s->next_id++;
		store_unlock(s);
		if (have)
			return 0;
		int rc = latch_exclude(&s->ids);
		if (rc < 0)
			return rc;
		rc = reserve_ids(s);
		latch_unexclude(&s->ids);
		if (rc < 0)
			return rc;
	}
}
