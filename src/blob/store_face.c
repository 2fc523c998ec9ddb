/* store_face.c - quire_store_*: a store is opened, changed, looked at, closed.
 *
 * The public struct quire_store is the store layer's struct store; what it needs beside is a struct face,
 * reached by the store's configuration. A store counts itself with its cache, whose budget and service loop it
 * uses: no cache closes before its stores.
 */
#include "face.h"

#include "../base/fail.h"
#include "../cache/evict.h"
#include "../store/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)QUIRE_MEDIUM_DIRECT == DEVICE_MEDIUM_DIRECT && (int)QUIRE_MEDIUM_BUFFERED == DEVICE_MEDIUM_BUFFERED &&
              (int)QUIRE_MEDIUM_PMEM == DEVICE_MEDIUM_PMEM, "one set of media, two names");

/* ---- open ---- */

static void face_free(struct face *f)
{
	if (f == NULL)
		return;
	directory_unlock(f->lock);
	atomic_fetch_sub(&f->cache->n_stores, 1);
	free(f->path);
	free(f);
}

static int face_new(struct quire_cache *cache, const char *path, unsigned flags, struct face **ret,
                    struct quire_error *err)
{
	struct face *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return quire_fail(err, -ENOMEM, "%s", path);
	atomic_fetch_add(&cache->n_stores, 1);
	f->cache = cache;
	f->lock = -1;
	f->read_only = flags & QUIRE_STORE_READ_ONLY;
	f->path = realpath(path, NULL);
	int rc = f->path == NULL ? quire_fail(err, errno == ENOTDIR ? -ENOENT : -errno, "%s", path)
	                         : directory_has_store(f->path, err);
	if (rc == 0 && !f->read_only) {
		rc = directory_lock(f->path, false, err);
		f->lock = rc;
	}
	if (rc < 0) {
		face_free(f);
		return rc;
	}
	*ret = f;
	return 0;
}

/* Those that are there: which of them there must be, the store knows. */
static int open_devices(struct face *f, struct store_media *ret, struct quire_error *err)
{
	int rc = 0;

	for (unsigned i = 0; i < QUIRE_N_CLASSES && rc == 0; i++) {
		char *path = directory_path(f->path, store_class_names[i]);
		if (path == NULL)
			return quire_fail(err, -ENOMEM, "%s", f->path);
		rc = class_file_open(path, i, f->read_only, 0, f->cache->service, &ret->classes[i], err);
		free(path);
		if (rc == -ENOENT && i != QUIRE_CLASS_CAPACITY)
			rc = 0;
	}
	return rc;
}

static int open_with(struct face *f, struct store **ret, struct quire_error *err)
{
	struct store_media media = {{NULL}};
	struct store_config config = {
		.budget = &f->cache->budget,
		.service = f->cache->service,
		.cache = f->cache,
		.read_only = f->read_only,
		.face = f,
	};
	int rc = open_devices(f, &media, err);

	if (rc == 0)
		rc = store_open(&media, &config, ret, err);
	if (rc < 0)
		for (unsigned i = 0; i < QUIRE_N_CLASSES; i++)
			device_close(media.classes[i]);
	return rc;
}

int quire_store_open(struct quire_cache *cache, const char *path, unsigned flags, struct quire_store **ret_store,
                     struct quire_error *err)
{
	struct store *s;
	struct face *f = NULL;

	if (cache == NULL || path == NULL || ret_store == NULL || (flags & ~(unsigned)QUIRE_STORE_READ_ONLY) != 0)
		return quire_fail(err, -EINVAL, "store");
	if (cache_is_of_parent(cache))
		return quire_fail(err, -ECHILD, "cache");
	if (call_would_block_loop())
		return quire_fail(err, -EDEADLK, "%s", path);
	int rc = face_new(cache, path, flags, &f, err);
	if (rc < 0)
		return rc;
	rc = open_with(f, &s, err);
	if (rc < 0) {
		face_free(f);
		return rc;
	}
	evict_to_budget(cache);
	*ret_store = store_public(s);
	return 0;
}

int quire_store_close(struct quire_store *store)
{
	if (store == NULL)
		return 0;
	struct store *s = store_inside(store);
	struct face *f = face_of(s);
	if (face_is_of_parent(f))
		return -ECHILD;
	if (call_would_block_loop())
		return -EDEADLK;
	if (atomic_load(&f->n_calls) != 0)
		return -EBUSY;
	int rc = store_close(s);
	if (rc == 0)
		face_free(f);
	return rc;
}

/* ---- classes ---- */

static int may_change(struct store *s, struct quire_error *err)
{
	struct face *f = face_of(s);

	if (face_is_of_parent(f))
		return quire_fail(err, -ECHILD, "%s", f->path);
	if (f->read_only)
		return quire_fail(err, -EROFS, "%s: opened read-only", f->path);
	return call_would_block_loop() ? quire_fail(err, -EDEADLK, "%s", f->path) : 0;
}

static int add_class(struct store *s, unsigned cls, const struct quire_class_options *o, struct quire_error *err)
{
	static const uint32_t wishes[] = {0, FORMAT_COMPAT_POWER, FORMAT_COMPAT_PROCESS};
	struct face *f = face_of(s);
	struct store_stat stat;
	struct device *d;

	store_stat(s, &stat);
	if (stat.classes[cls].present)
		return quire_fail(err, -EEXIST, "%s: the class %s", f->path, store_class_names[cls]);
	struct class_file how = {
		.dir = f->path, .device = o->device, .cls = cls, .wish = wishes[o->durable], .dax = o->dax, .bytes = o->bytes,
		.uuid = stat.uuid, .service = f->cache->service};
	int rc = class_file_make(&how, &d, err);
	if (rc < 0)
		return rc;
	rc = directory_sync(f->path);
	rc = rc < 0 ? quire_fail(err, rc, "%s", f->path) : store_class_add(s, cls, d, how.wish, err);
	if (rc == 0)
		return 0;
	device_close(d);
	/* Where it is not known whether the class is there after the next open, its file stays. */
	if (rc == -EINVAL || rc == -ENOMEM || rc == -EEXIST || rc == -ENOSPC)
		(void)class_file_remove(f->path, cls);
	return rc;
}

int quire_store_class_add_with(struct quire_store *store, enum quire_class cls, const struct quire_class_options *opts,
                               struct quire_error *err)
{
	struct quire_class_options o = {0};
	struct store *s = store_inside(store);
	struct face *f = face_of(s);
	int rc = may_change(s, err);

	if (rc < 0)
		return rc;
	if ((unsigned)cls >= QUIRE_N_CLASSES)
		return quire_fail(err, -EINVAL, "%s: class %d", f->path, (int)cls);
	if (opts->size == 0 || opts->size > sizeof(o))
		return quire_fail(err, -EINVAL, "class options of %zu bytes", opts->size);
	memcpy(&o, opts, opts->size);
	if ((unsigned)o.durable > QUIRE_DURABLE_PROCESS || (o.durable != QUIRE_DURABLE_DEFAULT && cls != QUIRE_CLASS_PMEM))
		return quire_fail(err, -EINVAL, "%s: durability %d of the class %s", f->path, (int)o.durable,
		                  store_class_names[cls]);
	if ((unsigned)o.dax > QUIRE_DAX_OFF || (o.dax != QUIRE_DAX_DEFAULT && o.device != NULL) ||
	    (o.dax == QUIRE_DAX_ON && cls != QUIRE_CLASS_PMEM) ||
	    (o.dax == QUIRE_DAX_OFF && o.durable == QUIRE_DURABLE_POWER))
		return quire_fail(err, -EINVAL, "%s: DAX %d of the class %s", f->path, (int)o.dax, store_class_names[cls]);
	atomic_fetch_add(&f->n_calls, 1);
	/* One at a time: a second would take the first one's file for a leftover. */
	if (atomic_exchange(&f->adding, true)) {
		rc = quire_fail(err, -EBUSY, "%s: another class is being added", f->path);
	} else {
		rc = add_class(s, (unsigned)cls, &o, err);
		atomic_store(&f->adding, false);
	}
	atomic_fetch_sub(&f->n_calls, 1);
	return rc;
}

int quire_store_class_add(struct quire_store *store, enum quire_class cls, const char *device, uint64_t bytes,
                          struct quire_error *err)
{
	const struct quire_class_options o = {.size = sizeof(o), .device = device, .bytes = bytes};

	return quire_store_class_add_with(store, cls, &o, err);
}

int quire_store_class_grow(struct quire_store *store, enum quire_class cls, uint64_t bytes, struct quire_error *err)
{
	struct store *s = store_inside(store);
	int rc = may_change(s, err);

	return rc < 0 ? rc : store_class_grow(s, (unsigned)cls, bytes, err);
}

/* ---- what there is ---- */

static void class_path(const struct face *f, unsigned cls, char *ret, size_t n)
{
	char *path = directory_path(f->path, store_class_names[cls]);
	ssize_t len = path != NULL ? readlink(path, ret, n - 1) : 0;

	if (len >= 0)
		ret[len] = '\0';
	else
		snprintf(ret, n, "%s", path);
	free(path);
}

int quire_store_stat(struct quire_store *store, struct quire_store_stat *ret_stat)
{
	struct store *s = store_inside(store);
	struct store_stat in;

	if (face_is_of_parent(face_of(s)))
		return -ECHILD;
	store_stat(s, &in);
	*ret_stat = (struct quire_store_stat){
		.format_version = in.format_version,
		.n_objects = in.n_objects,
		.n_open = in.n_open,
		.n_uncommitted = in.n_uncommitted,
		.n_containers = in.n_containers,
		.catalogue_bytes = in.catalogue_bytes,
		.catalogue_live_bytes = in.catalogue_live_bytes,
		.n_transactions = in.n_transactions,
		.n_compactions = in.n_compactions,
		.index_bytes = in.index_bytes,
		.n_checksum_errors = in.n_checksum_errors,
	};
	memcpy(ret_stat->uuid, in.uuid, sizeof(in.uuid));
	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++) {
		struct quire_class_stat *to = &ret_stat->classes[i];
		const struct store_class_stat *from = &in.classes[i];
		if (!from->present)
			continue;
		to->present = true;
		to->bytes = from->bytes;
		to->used_bytes = from->used_bytes;
		to->free_bytes = from->free_bytes;
		to->pending_bytes = from->pending_bytes;
		to->medium = (enum quire_medium)from->medium;
		to->durable = from->durable == DEVICE_DURABLE_POWER ? QUIRE_DURABLE_POWER : QUIRE_DURABLE_PROCESS;
		to->granularity_bytes = from->granularity_bytes;
		class_path(face_of(s), i, to->path, sizeof(to->path));
	}
	return 0;
}
