/* face.h - what the public store has beside the store layer's: a directory, a lock, a cache. For src/blob alone. */
#ifndef BLOB_FACE_H
#define BLOB_FACE_H

#include "../cache/core.h"
#include "../store/store.h"

#include <quire/store.h>
#include <stdatomic.h>
#include <unistd.h>

struct face {
	struct quire_cache *cache; /* borrowed: counts the store, so that it outlives it */
	char *path;                /* owned; absolute */
	int lock;                  /* descriptor, owned; -1: read only */
	bool read_only;
	_Atomic bool adding;       /* a class */
	_Atomic unsigned n_calls;  /* under way, those that an op still has to start included */
};

static inline struct face *face_of(const struct store *s)
{
	return store_config_of(s)->face;
}

static inline bool face_is_of_parent(const struct face *f)
{
	return cache_is_of_parent(f->cache);
}

/* True in a loop's callback: -EDEADLK there, for what may have to wait. */
static inline bool call_would_block_loop(void)
{
	return quire_loop_self() != NULL && !quire_in_coroutine();
}

/* ---- directory.c ---- */

/* "DIR/name"; NULL: no memory. Owned by the caller. */
char *directory_path(const char *dir, const char *name);

/* 0; -ENOENT: there is no store in dir. */
int directory_has_store(const char *dir, struct quire_error *err);

/* Takes the lock of the store in dir: its descriptor. -EBUSY: err says who has it. created: -EEXIST if there is
 * a lock file already. */
int directory_lock(const char *dir, bool created, struct quire_error *err);
void directory_unlock(int lock); /* -1 allowed */

/* What names in dir are durable. */
int directory_sync(const char *dir);
/* The directory that a path is in. */
int directory_sync_parent(const char *path);

/* The file of a class: a link to `device`, or new, of `bytes`. Opened for writing. A device that holds
 * a class of a store already is -EEXIST, unless of that uuid (NULL: none). */
struct class_file {
	const char *dir, *device; /* device: NULL for a new file */
	unsigned cls;
	uint32_t wish; /* FORMAT_COMPAT_*, or 0 */
	enum quire_dax dax; /* of a new file */
	uint64_t bytes;
	const uint8_t *uuid;
	bool leftover; /* what a creation that was killed has left is removed, if it is plainly that */
	struct quire_loop *service;
};
/* The file of a class, whatever there is: by what its superblock wishes (FORMAT_COMPAT_*), or `wish`, if not 0. */
int class_file_open(const char *path, unsigned cls, bool read_only, uint32_t wish, struct quire_loop *service,
                    struct device **ret_device, struct quire_error *err);
int class_file_make(const struct class_file *how, struct device **ret_device, struct quire_error *err);
int class_file_remove(const char *dir, unsigned cls);

#endif
