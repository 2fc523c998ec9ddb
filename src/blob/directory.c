/* directory.c - a store's directory: who holds it, and the files of its classes.
 *
 * The lock is the file `lock`, by flock(2): it ends with its process, however that ends. What is in the file is
 * for people: the pid of the holder. It is never removed, since two could hold two files of one name.
 */
#include "face.h"

#include "../base/fail.h"
#include "../store/format.h"
#include "../store/superblock.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static_assert((int)QUIRE_N_CLASSES == STORE_N_CLASSES, "one set of classes, two names");

char *directory_path(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

int directory_has_store(const char *dir, struct quire_error *err)
{
	char *path = directory_path(dir, store_class_names[QUIRE_CLASS_CAPACITY]);
	struct stat st;

	if (path == NULL)
		return quire_fail(err, -ENOMEM, "%s", dir);
	int rc = lstat(path, &st) < 0 ? -errno : 0;
	free(path);
	if (rc == -ENOTDIR)
		rc = -ENOENT;
	return rc < 0 ? quire_fail(err, rc, "%s: a store", dir) : 0;
}

/* ---- the lock ---- */

static int say_holder(int fd, const char *dir, struct quire_error *err)
{
	char text[24];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	long pid;

	text[n > 0 ? n : 0] = '\0';
	pid = strtol(text, NULL, 10);
	/* The holder may not have written it yet. */
	return pid > 0 ? quire_fail(err, -EBUSY, "%s: held by process %ld", dir, pid)
	               : quire_fail(err, -EBUSY, "%s: held by another process", dir);
}

static int take_lock(int fd, const char *dir, struct quire_error *err)
{
	char text[24];
	int rc;

	do {
		rc = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	} while (rc == -EINTR);
	if (rc == -EWOULDBLOCK)
		return say_holder(fd, dir, err);
	if (rc < 0)
		return quire_fail(err, rc, "%s: locking", dir);
	int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	/* A full disk costs others the pid, no more. */
	if (ftruncate(fd, 0) == 0)
		(void)!pwrite(fd, text, (size_t)n, 0);
	return 0;
}

int directory_lock(const char *dir, bool created, struct quire_error *err)
{
	char *path = directory_path(dir, "lock");

	if (path == NULL)
		return quire_fail(err, -ENOMEM, "%s", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (created ? O_EXCL : 0), 0600);
	int rc = fd < 0 ? -errno : 0;
	free(path);
	if (rc == -EROFS || rc == -EACCES)
		return quire_fail(err, rc, "%s: can't be written, though perhaps read: its lock", dir);
	if (rc < 0)
		return quire_fail(err, rc, "%s: its lock", dir);
	rc = take_lock(fd, dir, err);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

void directory_unlock(int lock)
{
	if (lock < 0)
		return;
	(void)!ftruncate(lock, 0);
	/* A forked child has the descriptor too: it does not hold the store. */
	(void)flock(lock, LOCK_UN);
	close(lock);
}

/* ---- names that last ---- */

int directory_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fsync(fd) < 0 && errno != EINVAL ? -errno : 0; /* EINVAL: directories need none here */
	close(fd);
	return rc;
}

int directory_sync_parent(const char *path)
{
	char *copy = strdup(path);
	int rc;

	if (copy == NULL)
		return -ENOMEM;
	rc = directory_sync(dirname(copy));
	free(copy);
	return rc;
}

/* ---- files of classes ---- */

/* Whatever can be told to be a store's, or may be one that is damaged or newer, is not overwritten. */
static int refuse_foreign(const struct class_file *how, struct device *d, struct quire_error *err)
{
	int results[SUPERBLOCK_COPIES];
	struct superblock sb;
	int rc = superblock_read(d, how->cls, how->uuid, true, &sb, results, NULL);
	bool ours = rc == 0 && how->uuid != NULL && results[0] != -EXDEV && results[1] != -EXDEV;

	if (ours || rc == -EUCLEAN)
		return 0;
	if (rc == -EIO || rc == -ENOMEM)
		return quire_fail(err, rc, "%s", d->name);
	return quire_fail(err, -EEXIST, "%s: holds a store, or part of one", d->name);
}

static int link_device(const struct class_file *how, const char *path, struct device **ret, struct quire_error *err)
{
	struct device *d;
	char *target = realpath(how->device, NULL);

	if (target == NULL)
		return quire_fail(err, -errno, "%s", how->device);
	int rc = device_open(target, 0, 0, how->service, &d, err);
	if (rc == 0) {
		rc = refuse_foreign(how, d, err);
		if (rc == 0 && symlink(target, path) < 0)
			rc = quire_fail(err, -errno, "%s", path);
		if (rc == 0)
			*ret = d;
		else
			device_close(d);
	}
	free(target);
	return rc;
}

/* Nothing was ever written where the superblocks go. */
static int expect_blank(struct device *d, uint64_t file_bytes, struct quire_error *err)
{
	static const uint64_t places[] = {0, FORMAT_SUPERBLOCK_STEP};
	_Alignas(DEVICE_BLOCK_BYTES) char block[DEVICE_BLOCK_BYTES];

	if (file_bytes != d->size_bytes)
		return quire_fail(err, -EEXIST, "%s", d->name);
	for (unsigned i = 0; i < 2; i++) {
		int rc = places[i] < d->size_bytes ? device_read(d, places[i], block, sizeof(block)) : 0;
		if (rc < 0)
			return quire_fail(err, rc, "%s", d->name);
		if (places[i] < d->size_bytes && (block[0] != 0 || memcmp(block, block + 1, sizeof(block) - 1) != 0))
			return quire_fail(err, -EEXIST, "%s", d->name);
	}
	return 0;
}

/* What is left of an addition, or a creation, that did not end makes room for the next; anything else stays. */
static int remove_leftover(const struct class_file *how, const char *path, struct quire_error *err)
{
	struct device *d;
	struct stat st;

	if ((how->uuid == NULL && !how->leftover) || lstat(path, &st) < 0)
		return 0;
	int rc = device_open(path, DEVICE_READ_ONLY, 0, how->service, &d, NULL);
	if (rc == 0) {
		rc = refuse_foreign(how, d, err);
		if (rc == 0 && how->leftover && S_ISREG(st.st_mode))
			rc = expect_blank(d, (uint64_t)st.st_size, err);
		device_close(d);
	} else if (rc == -ENOENT && S_ISLNK(st.st_mode)) {
		rc = 0;
	} else {
		rc = quire_fail(err, -EEXIST, "%s", path);
	}
	if (rc == 0 && unlink(path) < 0)
		rc = quire_fail(err, -errno, "%s", path);
	return rc;
}

/* What the class on d says of how it is to be opened; nothing, if there is none. */
static uint32_t wish_of(struct device *d, unsigned cls)
{
	int results[SUPERBLOCK_COPIES];
	struct superblock sb;

	return superblock_read(d, cls, NULL, true, &sb, results, NULL) == 0 ? sb.compat : 0;
}

int class_file_open(const char *path, unsigned cls, bool read_only, uint32_t wish, struct quire_loop *service,
                    struct device **ret_device, struct quire_error *err)
{
	const uint32_t known = FORMAT_COMPAT_POWER | FORMAT_COMPAT_PROCESS;
	unsigned flags = read_only ? DEVICE_READ_ONLY : 0;
	struct device *d;
	int rc = device_open(path, flags, 0, service, &d, err);

	if (rc < 0 || cls != QUIRE_CLASS_PMEM) {
		if (rc == 0)
			*ret_device = d;
		return rc;
	}
	if (wish == 0)
		wish = wish_of(d, cls) & known;
	/* One at a time: a block device is opened exclusively. */
	device_close(d);
	rc = device_open_pmem(path, flags, 0, wish & FORMAT_COMPAT_PROCESS ? DEVICE_DURABLE_PROCESS : DEVICE_DURABLE_POWER,
	                      service, ret_device, err);
	return rc < 0 && wish == 0 ? device_open(path, flags, 0, service, ret_device, err) : rc;
}

/* A new class's file is opened as it will be the next time. */
static int open_as_wished(const struct class_file *how, const char *path, struct device **device, struct quire_error *err)
{
	if (how->cls != QUIRE_CLASS_PMEM)
		return 0;
	device_close(*device);
	int rc = class_file_open(path, how->cls, false, how->wish, how->service, device, err);
	if (rc < 0)
		(void)unlink(path);
	return rc;
}

static int make_file(const struct class_file *how, const char *path, struct device **ret, struct quire_error *err)
{
	uint64_t bytes = how->bytes & ~(uint64_t)(DEVICE_BLOCK_BYTES - 1);
	int rc = device_open(path, DEVICE_CREATE, bytes, how->service, ret, err);

	if (rc < 0 || how->dax == QUIRE_DAX_DEFAULT)
		return rc;
	/* It takes effect between the one and the other. */
	device_close(*ret);
	rc = device_file_dax(path, how->dax == QUIRE_DAX_ON, err);
	if (rc == 0)
		rc = device_open(path, 0, 0, how->service, ret, err);
	if (rc < 0)
		(void)unlink(path);
	return rc;
}

int class_file_make(const struct class_file *how, struct device **ret_device, struct quire_error *err)
{
	char *path = directory_path(how->dir, store_class_names[how->cls]);

	if (path == NULL)
		return quire_fail(err, -ENOMEM, "%s", how->dir);
	int rc = remove_leftover(how, path, err);
	if (rc == 0)
		rc = how->device != NULL ? link_device(how, path, ret_device, err) : make_file(how, path, ret_device, err);
	if (rc == 0)
		rc = open_as_wished(how, path, ret_device, err);
	free(path);
	return rc;
}

int class_file_remove(const char *dir, unsigned cls)
{
	char *path = directory_path(dir, store_class_names[cls]);
	int rc = path == NULL ? -ENOMEM : unlink(path) < 0 ? -errno : 0;

	free(path);
	return rc;
}
