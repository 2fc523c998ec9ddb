/* store.c - a store's life; and how its parts go together.
 *
 * Parts. superblock, classes: what a class is. freemap, zone, allocate: which units are in use. index: all committed objects.
 * catalogue (record, replay, compact): the log that both follow from. writer, place: objects being written. apply, race:
 * transactions. object, read, direct, table, checksum: reading. reclaim: space on its way back. container_face: containers.
 * logs, log_segments, log_seal, log_keys, log_move: segments that logs and volumes append to, and what sealing adds. scratch:
 * space of a class that is nobody's after a crash. check, check_logs, repair: whether all that is so, and what can be made so.
 *
 * What is true at every moment, on the media and in memory:
 *   1. An object is committed when its transaction's record is durable; its data and the pages of its checksums
 *      were durable before that record was written, or are written with it (race.c).
 *   2. The index is what the catalogue's durable records say, but for transactions whose record has just become durable
 *      and which hold the latch shared until the index has followed.
 *   3. Units in use: superblocks, segments of the catalogue, containers, committed objects, removed ones that
 *      are open or being discarded, objects being written. Nothing is in two of these.
 *   4. Units of a removed object are given out again only after its removal is durable, its last reader gone, and its
 *      discard over.
 *   5. An id is given out only if a durable record reserves it; after a reopen ids go on above all reserved.
 *
 * Threads and locks. Anybody may call anything.
 *   s->lock     mutex, never held across I/O nor while a caller's memory is touched: index, spaces, maps of
 *               writers, objects and containers, flags of who has what. Below it: only the budget.
 *   writer.busy a flag under s->lock: an append, a finish or a transaction has the writer for itself.
 *   latch       may be held across I/O. Shared: from before a catalogue record is appended until the index has followed.
 *               Exclusive: compaction, changes of containers, the accounts of a check.
 *   ids         a latch, exclusive while ids are reserved; the other latch is taken inside it.
 *   reclaimer, flusher, table cache, container: each its own lock, a leaf.
 *
 * Failure. A data write that fails spoils its object alone: it can be aborted. A flush, or a write of the catalogue,
 * that fails is final: what is durable is not known any more, so there are no more transactions until the
 * store was closed and opened again; reading goes on. What a failed transaction had, stays as it is until then.
 */
#include "store_internal.h"

#include "../base/assert.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CAPACITY 0u

/* ---- numbers, accounts, callers ---- */

uint64_t store_random(struct store *s)
{
	uint64_t z;

	if (s->config.seed == 0)
		return 0;
	do {
		z = s->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		z ^= z >> 31;
	} while (z == 0);
	return z;
}

void store_charge_locked(struct store *s)
{
	uint64_t bytes = s->index.n_bytes;

	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		bytes += s->classes[i].space.n_bytes;
	if (bytes > s->charged_bytes)
		budget_charge(s->config.budget, BUDGET_TABLES, bytes - s->charged_bytes);
	else if (bytes < s->charged_bytes)
		budget_uncharge(s->config.budget, BUDGET_TABLES, s->charged_bytes - bytes);
	s->charged_bytes = bytes;
	while (budget_excess(s->config.budget) > 0 && budget_reclaim(s->config.budget))
		;
}

int store_enter(struct store *s)
{
	if (s->config.read_only)
		return -EROFS;
	store_lock(s);
	s->n_ops++;
	store_unlock(s);
	return 0;
}

void store_leave(struct store *s)
{
	store_lock(s);
	s->n_ops--;
	store_unlock(s);
}

/* ---- new and gone ---- */

static struct store *store_new(const struct store_media *media, const struct store_config *config)
{
	struct store *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->config = *config;
	s->random = config->seed;
	pthread_mutex_init(&s->lock, NULL);
	latch_init(&s->latch, config->service);
	latch_init(&s->ids, config->service);
	reclaimer_init(s);
	table_cache_init(&s->tables, config->budget);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		s->classes[i].device = media->classes[i];
		flusher_init(&s->classes[i].flusher, media->classes[i], config->service);
	}
	return s;
}

/* All but the devices. */
static void store_free(struct store *s)
{
	struct idmap_node *node;

	container_close(s->catalogue);
	while ((node = idmap_any(&s->writers)) != NULL)
		writer_destroy_locked((struct writer *)node);
	while ((node = idmap_any(&s->containers)) != NULL) {
		idmap_remove(&s->containers, node);
		store_container_free((struct store_container *)node);
	}
	while ((node = idmap_any(&s->logs)) != NULL)
		store_log_free_locked((struct store_log *)node);
	idmap_fini(&s->logs);
	idmap_fini(&s->log_segments);
	idmap_fini(&s->writers);
	idmap_fini(&s->objects);
	idmap_fini(&s->containers);
	index_fini(&s->index);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		freemap_fini(&s->classes[i].space);
		flusher_fini(&s->classes[i].flusher);
	}
	store_charge_locked(s);
	table_cache_fini(&s->tables);
	reclaimer_fini(s);
	latch_fini(&s->ids);
	latch_fini(&s->latch);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- format ---- */

static int make_uuid(struct store *s)
{
	for (unsigned i = 0; i < sizeof(s->uuid); i += 8) {
		uint64_t r = store_random(s);
		memcpy(s->uuid + i, &r, sizeof(r));
	}
	if (s->config.seed == 0 && getrandom(s->uuid, sizeof(s->uuid), 0) != sizeof(s->uuid))
		return -errno;
	s->uuid[6] = (uint8_t)((s->uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	s->uuid[8] = (uint8_t)((s->uuid[8] & 0x3f) | 0x80);
	return 0;
}

static uint32_t default_segment_bytes(uint64_t capacity_bytes)
{
	uint32_t bytes = 64u << 10;

	while (bytes < 4u << 20 && (uint64_t)bytes * 16384 < capacity_bytes)
		bytes *= 2;
	return bytes;
}

static int prepare_class(struct store *s, unsigned i, struct quire_error *err)
{
	struct store_class *c = &s->classes[i];
	uint64_t n_units = c->device->size_bytes / FORMAT_UNIT_BYTES;

	if (c->device->size_bytes < FORMAT_MIN_CLASS_BYTES || n_units > FORMAT_MAX_CLASS_UNITS)
		return quire_fail(err, -EINVAL, "%s: %llu bytes for a class", c->device->name,
		                  (unsigned long long)c->device->size_bytes);
	c->superblock = (struct superblock){
		.version = FORMAT_VERSION,
		.class_no = i,
		.generation = 1,
		.n_units = n_units,
	};
	memcpy(c->superblock.uuid, s->uuid, sizeof(s->uuid));
	s->classes[CAPACITY].superblock.classes |= 1u << i;
	int rc = freemap_init(&c->space, n_units);
	if (rc == 0)
		rc = freemap_take(&c->space, 0, FORMAT_RESERVED_UNITS);
	return rc < 0 ? quire_fail(err, rc, "%s", c->device->name) : 0;
}

/* The superblock of `capacity` last: before it there is no store. */
static int write_superblocks(struct store *s, struct quire_error *err)
{
	for (unsigned i = STORE_N_CLASSES; i-- > 0;) {
		struct store_class *c = &s->classes[i];
		int rc = c->device != NULL ? superblock_write(c->device, &c->superblock, 0) : 0;
		if (rc < 0)
			return quire_fail(err, rc, "%s: writing a superblock", c->device->name);
	}
	return 0;
}

static int format(struct store *s, struct quire_error *err)
{
	struct store_class *capacity = &s->classes[CAPACITY];

	if (capacity->device == NULL)
		return quire_fail(err, -EINVAL, "store: without the class capacity");
	int rc = make_uuid(s);
	if (rc < 0)
		return quire_fail(err, rc, "store: an identity");
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		rc = s->classes[i].device != NULL ? prepare_class(s, i, err) : 0;
		if (rc < 0)
			return rc;
	}
	s->segment_bytes = s->config.segment_bytes != 0 ? s->config.segment_bytes
	                                                : default_segment_bytes(capacity->device->size_bytes);
	capacity->superblock.catalogue_segment_bytes = s->segment_bytes;
	/* An old store here is none from now on, also if this fails halfway. */
	rc = store_zero(capacity->device, 0, FORMAT_RESERVED_UNITS * FORMAT_UNIT_BYTES);
	if (rc == 0)
		rc = device_flush(capacity->device);
	if (rc < 0)
		return quire_fail(err, rc, "%s", capacity->device->name);
	rc = catalogue_create(s, err);
	return rc < 0 ? rc : write_superblocks(s, err);
}

int store_format(const struct store_media *media, const struct store_config *config, struct quire_error *err)
{
	struct store *s = store_new(media, config);

	if (s == NULL)
		return quire_fail(err, -ENOMEM, "store");
	int rc = format(s, err);
	store_free(s);
	return rc;
}

/* ---- open and close ---- */

const struct store_config *store_config_of(const struct store *s)
{
	return &s->config;
}

static int open_class(struct store *s, unsigned i, const uint8_t *uuid, struct quire_error *err)
{
	struct store_class *c = &s->classes[i];

	if (c->device == NULL)
		return quire_fail(err, -ENOENT, "store: the class %s is missing", store_class_names[i]);
	int rc = superblock_read(c->device, i, uuid, s->config.read_only, &c->superblock, c->copies, err);
	if (rc < 0 || s->config.read_only)
		return rc;
	/* What was read may not be durable yet. */
	rc = device_flush(c->device);
	return rc < 0 ? quire_fail(err, rc, "%s", c->device->name) : 0;
}

/* uuid: of the store; NULL: as the latest superblock of `capacity` says. */
static int open_classes(struct store *s, const uint8_t *uuid, struct quire_error *err)
{
	struct superblock *sb = &s->classes[CAPACITY].superblock;
	int rc = open_class(s, CAPACITY, uuid, err);

	if (rc < 0)
		return rc;
	memcpy(s->uuid, sb->uuid, sizeof(s->uuid));
	if ((sb->classes & 1) == 0 || sb->classes >> STORE_N_CLASSES != 0)
		return quire_fail(err, -EUCLEAN, "store: classes 0x%x", sb->classes);
	for (unsigned i = 1; i < STORE_N_CLASSES; i++) {
		/* One that is not in the superblock is left from an addition that did not end. */
		if (sb->classes >> i & 1)
			rc = open_class(s, i, s->uuid, err);
		else
			s->classes[i].device = NULL;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* A copy that is older, as a crash leaves it, is brought up to the other. One that is damaged, or not this class's, is a check's. */
static int bring_up_copies(struct store *s, struct quire_error *err)
{
	for (unsigned i = 0; i < STORE_N_CLASSES && !s->config.read_only; i++) {
		struct store_class *c = &s->classes[i];
		unsigned stale = c->copies[0] == -ESTALE ? 0 : 1;
		if (c->device == NULL || c->copies[stale] != -ESTALE)
			continue;
		int rc = superblock_write_copy(c->device, &c->superblock, stale);
		if (rc < 0)
			return quire_fail(err, rc, "%s", c->device->name);
		c->copies[stale] = 0;
	}
	return 0;
}

/* Nothing is written over before the catalogue was read, which is the store's by its UUID. */
static int open_as(struct store *s, const uint8_t *uuid, struct quire_error *err)
{
	int rc = open_classes(s, uuid, err);

	if (rc == 0)
		rc = catalogue_open(s, err);
	return rc == 0 ? bring_up_copies(s, err) : rc;
}

/* Is there the whole store of that UUID? Writes nothing. */
static int prove(const struct store_media *media, const struct store_config *config, const uint8_t *uuid,
                 struct quire_error *err)
{
	struct store_config reading = *config;

	reading.read_only = true;
	struct store *s = store_new(media, &reading);
	if (s == NULL)
		return quire_fail(err, -ENOMEM, "store");
	int rc = open_as(s, uuid, err);
	store_free(s);
	return rc;
}

/* The superblocks of `capacity` are of two stores: which of these is there? If neither is, err says why. */
static int choose(const struct store_media *media, const struct store_config *config,
                  uint8_t uuids[SUPERBLOCK_COPIES][16], const uint8_t **ret_uuid, struct quire_error *err)
{
	struct quire_error why[SUPERBLOCK_COPIES];
	int rcs[SUPERBLOCK_COPIES];

	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		rcs[i] = prove(media, config, uuids[i], &why[i]);
	if (rcs[0] == -ENOMEM || rcs[1] == -ENOMEM)
		return quire_fail(err, -ENOMEM, "store");
	if (rcs[0] < 0 && rcs[1] < 0) {
		unsigned which = rcs[0] == -ESTALE; /* then the other classes are not that store's */
		if (err != NULL)
			*err = why[which];
		return rcs[which];
	}
	if (rcs[0] == 0 && rcs[1] == 0)
		return quire_fail(err, -EUCLEAN, "%s: its superblocks are of two stores, and both are there",
		                  media->classes[CAPACITY]->name);
	*ret_uuid = uuids[rcs[0] == 0 ? 0 : 1];
	return 0;
}

int store_open(const struct store_media *media, const struct store_config *config, struct store **ret_store,
               struct quire_error *err)
{
	struct device *capacity = media->classes[CAPACITY];
	uint8_t uuids[SUPERBLOCK_COPIES][16];
	const uint8_t *uuid = NULL;
	int rc = capacity != NULL ? superblock_stores(capacity, CAPACITY, uuids) : 0;

	if (rc == (int)SUPERBLOCK_COPIES)
		rc = choose(media, config, uuids, &uuid, err);
	else if (rc < 0)
		quire_fail(err, rc, "%s", capacity->name);
	if (rc < 0)
		return rc;
	struct store *s = store_new(media, config);
	if (s == NULL)
		return quire_fail(err, -ENOMEM, "store");
	rc = open_as(s, uuid, err);
	if (rc < 0) {
		store_free(s);
		return rc;
	}
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		if (s->classes[i].device == NULL)
			device_close(media->classes[i]);
	*ret_store = s;
	return 0;
}

int store_close(struct store *s)
{
	struct device *devices[STORE_N_CLASSES];

	if (s == NULL)
		return 0;
	store_lock(s);
	bool busy = s->n_ops != 0 || s->objects.n != 0 || s->deleted != NULL || s->scratch != NULL;
	for (struct idmap_node *node = idmap_any(&s->containers); node != NULL; node = idmap_after(&s->containers, node))
		busy |= ((struct store_container *)node)->container != NULL || ((struct store_container *)node)->busy;
	for (struct idmap_node *node = idmap_any(&s->logs); node != NULL; node = idmap_after(&s->logs, node))
		busy |= ((struct store_log *)node)->open || ((struct store_log *)node)->busy;
	store_unlock(s);
	if (busy)
		return -EBUSY;
	reclaim_settle(s);
	catalogue_seal(s);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		devices[i] = s->classes[i].device;
	store_free(s);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		device_close(devices[i]);
	return 0;
}
