/* classes.c - classes are added and grow; what a store tells of itself; which features it uses.
 *
 * Adding: the new class's superblock is durable before the one of `capacity` names it. Growing: the device is
 * larger before the superblock says so. In between a crash leaves what was before. */
#include "store_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <string.h>

const char *const store_class_names[STORE_N_CLASSES] = {"capacity", "staging", "pmem"};

#define CAPACITY 0u

/* Writes both copies, with the next generation, first the one that was no good; the latch is excluded. On failure what is on the
 * medium is either. */
static int superblock_update(struct store_class *c, struct superblock *sb)
{
	sb->generation = c->superblock.generation + 1;
	int rc = superblock_write(c->device, sb, c->copies[1] < 0);
	if (rc < 0)
		return rc;
	c->superblock = *sb;
	memset(c->copies, 0, sizeof(c->copies));
	return 0;
}

int store_note_features(struct store *s, uint32_t ro_compat, uint32_t incompat)
{
	struct superblock sb = s->classes[CAPACITY].superblock;

	if ((sb.ro_compat & ro_compat) == ro_compat && (sb.incompat & incompat) == incompat)
		return 0;
	sb.ro_compat |= ro_compat;
	sb.incompat |= incompat;
	return superblock_update(&s->classes[CAPACITY], &sb);
}

int store_use_features(struct store *s, uint32_t ro_compat, uint32_t incompat)
{
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	rc = latch_exclude(&s->latch);
	if (rc == 0) {
		rc = store_note_features(s, ro_compat, incompat);
		latch_unexclude(&s->latch);
	}
	store_leave(s);
	return rc;
}

static int write_new_class(struct store *s, unsigned cls, struct device *device, uint32_t compat, struct superblock *ret)
{
	*ret = (struct superblock){
		.version = FORMAT_VERSION,
		.compat = compat,
		.class_no = cls,
		.generation = 1,
		.n_units = device->size_bytes / FORMAT_UNIT_BYTES,
	};
	memcpy(ret->uuid, s->uuid, sizeof(s->uuid));
	int rc = superblock_write(device, ret, 0);
	if (rc < 0)
		return rc;
	struct superblock capacity = s->classes[CAPACITY].superblock;
	capacity.classes |= 1u << cls;
	return superblock_update(&s->classes[CAPACITY], &capacity);
}

/* The latch is excluded. */
static int add(struct store *s, unsigned cls, struct device *device, uint32_t compat)
{
	struct store_class *c = &s->classes[cls];
	struct superblock sb;
	struct freemap space;
	int rc = freemap_init(&space, device->size_bytes / FORMAT_UNIT_BYTES);

	if (rc == 0)
		rc = freemap_take(&space, 0, FORMAT_RESERVED_UNITS);
	if (rc == 0)
		rc = write_new_class(s, cls, device, compat, &sb);
	if (rc < 0) {
		freemap_fini(&space);
		return rc;
	}
	store_lock(s);
	c->superblock = sb;
	c->space = space;
	c->flusher.device = device;
	c->device = device;
	store_charge_locked(s);
	store_unlock(s);
	return 0;
}

int store_class_add(struct store *s, unsigned cls, struct device *device, uint32_t compat, struct quire_error *err)
{
	if (cls >= STORE_N_CLASSES || device->size_bytes < FORMAT_MIN_CLASS_BYTES ||
	    device->size_bytes / FORMAT_UNIT_BYTES > FORMAT_MAX_CLASS_UNITS)
		return quire_fail(err, -EINVAL, "%s: %llu bytes for class %u", device->name,
		                  (unsigned long long)device->size_bytes, cls);
	int rc = store_enter(s);
	if (rc < 0)
		return quire_fail(err, rc, "store");
	rc = latch_exclude(&s->latch);
	if (rc == 0) {
		rc = s->classes[cls].device != NULL ? -EEXIST : add(s, cls, device, compat);
		latch_unexclude(&s->latch);
	}
	store_leave(s);
	return rc < 0 ? quire_fail(err, rc, "%s: adding class %u", device->name, cls) : 0;
}

/* The latch is excluded. */
static int grow(struct store *s, unsigned cls, uint64_t bytes)
{
	struct store_class *c = &s->classes[cls];
	struct superblock sb = c->superblock;

	if (bytes == 0)
		bytes = c->device->size_bytes;
	bytes &= ~(uint64_t)(FORMAT_UNIT_BYTES - 1);
	sb.n_units = bytes / FORMAT_UNIT_BYTES;
	if (sb.n_units < c->superblock.n_units || sb.n_units > FORMAT_MAX_CLASS_UNITS)
		return -EINVAL;
	int rc = bytes > c->device->size_bytes ? device_grow(c->device, bytes) : 0;
	if (rc == 0)
		rc = superblock_update(c, &sb);
	if (rc < 0)
		return rc;
	store_lock(s);
	rc = freemap_grow(&c->space, sb.n_units);
	catalogue_account_locked(s);
	store_unlock(s);
	return rc;
}

int store_class_grow(struct store *s, unsigned cls, uint64_t bytes, struct quire_error *err)
{
	int rc = store_enter(s);

	if (rc == 0) {
		rc = cls >= STORE_N_CLASSES ? -EINVAL : latch_exclude(&s->latch);
		if (rc == 0) {
			rc = s->classes[cls].device == NULL ? -ENOENT : grow(s, cls, bytes);
			latch_unexclude(&s->latch);
		}
		store_leave(s);
	}
	return rc < 0 ? quire_fail(err, rc, "store: growing class %u to %llu bytes", cls, (unsigned long long)bytes) : 0;
}

/* ---- what there is ---- */

static void stat_class(const struct store_class *c, struct store_class_stat *ret)
{
	ret->present = c->device != NULL;
	ret->bytes = c->space.n_units * FORMAT_UNIT_BYTES;
	ret->free_bytes = c->space.n_free * FORMAT_UNIT_BYTES;
	ret->log_bytes = freemap_available(&c->space, FREEMAP_PLEDGED) * FORMAT_UNIT_BYTES;
	ret->used_bytes = ret->bytes - ret->free_bytes;
	ret->pending_bytes = c->n_pending * FORMAT_UNIT_BYTES;
	if (!ret->present)
		return;
	ret->medium = c->device->medium;
	ret->durable = c->device->durable;
	ret->granularity_bytes = c->device->granularity_bytes;
}

void store_stat(struct store *s, struct store_stat *ret)
{
	struct container_usage usage;

	*ret = (struct store_stat){.format_version = FORMAT_VERSION};
	memcpy(ret->uuid, s->uuid, sizeof(s->uuid));
	container_usage(s->catalogue, &usage);
	ret->catalogue_bytes = usage.allocated_bytes + s->segment_bytes; /* the other log's first segment */
	ret->catalogue_used_bytes = usage.used_bytes;
	ret->n_transactions = atomic_load(&s->n_transactions);
	ret->n_compactions = atomic_load(&s->n_compactions);
	ret->n_checksum_errors = atomic_load(&s->n_checksum_errors);
	store_lock(s);
	ret->n_objects = s->index.n;
	ret->n_open = s->objects.n;
	ret->n_uncommitted = s->writers.n;
	ret->n_containers = s->containers.n;
	for (const struct object *o = s->deleted; o != NULL; o = o->next_deleted)
		ret->n_open++;
	ret->catalogue_live_bytes = s->live_bytes;
	ret->index_bytes = s->index.n_bytes;
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		ret->space_bytes += s->classes[i].space.n_bytes;
		stat_class(&s->classes[i], &ret->classes[i]);
	}
	store_unlock(s);
	pthread_mutex_lock(&s->tables.lock);
	ret->table_bytes = s->tables.n_bytes;
	pthread_mutex_unlock(&s->tables.lock);
}

void store_settle(struct store *s)
{
	reclaim_settle(s);
}

int store_compact(struct store *s)
{
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	rc = catalogue_compact(s);
	store_leave(s);
	return rc;
}

int store_error(struct store *s)
{
	int error = catalogue_error(s);

	for (unsigned i = 0; i < STORE_N_CLASSES && error == 0; i++) {
		struct flusher *f = &s->classes[i].flusher;
		pthread_mutex_lock(&f->waits.lock);
		error = f->error;
		pthread_mutex_unlock(&f->waits.lock);
	}
	return error;
}
