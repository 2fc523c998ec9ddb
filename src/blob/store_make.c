/* store_make.c - a store comes into being, or gets another path. All or nothing: what was made is removed again
 * when a later step fails. The superblock of `capacity` is the last thing written, so that there is no store
 * before there is a whole one; what a process leaves behind that was killed before, the next creation removes. */
#include "face.h"

#include "../base/fail.h"
#include "../store/format.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_CAPACITY_BYTES (UINT64_C(1) << 40)

/* ---- create ---- */

/* Empty, or with nothing but what a creation leaves behind that was killed: its lock, perhaps its class file. */
static int expect_empty(const char *path, bool *ret_leftover, struct quire_error *err)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	bool lock = false, other = false, foreign = false;

	if (dir == NULL)
		return quire_fail(err, errno == ENOTDIR ? -EEXIST : -errno, "%s", path);
	while ((e = readdir(dir)) != NULL) {
		/* lost+found is a file system's own. */
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, "lost+found") == 0)
			continue;
		if (strcmp(e->d_name, "lock") == 0)
			lock = true;
		else if (strcmp(e->d_name, store_class_names[QUIRE_CLASS_CAPACITY]) == 0)
			other = true;
		else
			foreign = true;
	}
	closedir(dir);
	if (foreign || (other && !lock))
		return quire_fail(err, -EEXIST, "%s: not empty", path);
	*ret_leftover = lock;
	return 0;
}

static int format_device(struct device *d, struct quire_loop *service, struct quire_error *err)
{
	struct store_media media = {{d}};
	struct budget budget;

	budget_init(&budget, UINT64_MAX); /* nothing of it lasts */
	struct store_config config = {.budget = &budget, .service = service};
	return store_format(&media, &config, err);
}

/* The directory is ours, and locked. */
static int make_in(const char *path, bool leftover, const struct quire_store_options *o, struct quire_loop *service,
                   struct quire_error *err)
{
	struct class_file how = {
		.dir = path,
		.device = o->device,
		.cls = QUIRE_CLASS_CAPACITY,
		.bytes = o->capacity_bytes != 0 ? o->capacity_bytes : DEFAULT_CAPACITY_BYTES,
		.leftover = leftover,
		.service = service,
	};
	struct device *d;

	if (o->device == NULL && how.bytes < FORMAT_MIN_CLASS_BYTES)
		return quire_fail(err, -EINVAL, "%s: %llu bytes for a store", path, (unsigned long long)how.bytes);
	int rc = class_file_make(&how, &d, err);
	if (rc < 0)
		return rc;
	rc = format_device(d, service, err);
	device_close(d);
	if (rc == 0) {
		rc = directory_sync(path);
		if (rc == 0)
			rc = directory_sync_parent(path);
		if (rc < 0)
			quire_fail(err, rc, "%s", path);
	}
	if (rc < 0)
		(void)class_file_remove(path, QUIRE_CLASS_CAPACITY);
	return rc;
}

static int make(const char *path, bool leftover, const struct quire_store_options *o, struct quire_error *err)
{
	struct quire_loop *service;
	int lock = directory_lock(path, !leftover, err);

	if (lock == -EBUSY)
		return quire_fail(err, -EEXIST, "%s: a store, in use", path);
	if (lock < 0)
		return lock;
	int rc = service_get(&service, err);
	if (rc == 0) {
		rc = make_in(path, leftover, o, service, err);
		service_put();
	}
	if (rc < 0 && !leftover) {
		char *name = directory_path(path, "lock");
		if (name != NULL)
			(void)unlink(name);
		free(name);
	}
	directory_unlock(lock);
	return rc;
}

int quire_store_create(const char *path, const struct quire_store_options *opts, struct quire_error *err)
{
	struct quire_store_options o = {0};

	if (path == NULL || path[0] == '\0')
		return quire_fail(err, -EINVAL, "store: no path");
	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(o))
			return quire_fail(err, -EINVAL, "store options of %zu bytes", opts->size);
		memcpy(&o, opts, opts->size);
	}
	if (call_would_block_loop())
		return quire_fail(err, -EDEADLK, "%s", path);
	bool made = mkdir(path, 0700) == 0, leftover = false;
	int rc = made ? 0 : -errno;
	if (rc == -EEXIST)
		rc = expect_empty(path, &leftover, err);
	else if (rc < 0)
		return quire_fail(err, rc, "%s", path);
	if (rc == 0)
		rc = make(path, leftover, &o, err);
	if (rc < 0 && made)
		(void)rmdir(path);
	return rc;
}

/* ---- rename ---- */

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

static int rename_held(const char *from, const char *to, struct quire_error *err)
{
	struct stat st;

	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0) {
		if (errno != EINVAL && errno != ENOSYS)
			return quire_fail(err, -errno, "%s: renaming to %s", from, to);
		/* A file system that can't refuse by itself. */
		if (lstat(to, &st) == 0)
			return quire_fail(err, -EEXIST, "%s", to);
		if (rename(from, to) < 0)
			return quire_fail(err, -errno, "%s: renaming to %s", from, to);
	}
	int rc = directory_sync_parent(to);
	if (rc == 0)
		rc = directory_sync_parent(from);
	return rc < 0 ? quire_fail(err, rc, "%s: renamed to %s, perhaps not durably", from, to) : 0;
}

int quire_store_rename(const char *from, const char *to, struct quire_error *err)
{
	if (from == NULL || to == NULL || from[0] == '\0' || to[0] == '\0')
		return quire_fail(err, -EINVAL, "store: no path");
	int rc = directory_has_store(from, err);
	if (rc < 0)
		return rc;
	int lock = directory_lock(from, false, err);
	if (lock < 0)
		return lock;
	rc = rename_held(from, to, err);
	directory_unlock(lock);
	return rc;
}
