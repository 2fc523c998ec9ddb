/* file.c - a file from its first open to its close; and how it stands now.
 *
 * 127,188 of them fit into one map, so a file is one allocation of some 170 bytes and its
 * path, and to open it costs little beyond the system calls.
 */
#include "media_internal.h"

#include "../base/assert.h"
#include "../base/fail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- alignment ---- */

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000u
#endif

/* struct statx as of Linux 6.1, as far as it is needed; older headers lack the ends. */
struct statx_dio {
	uint32_t mask;
	uint8_t others[148];
	uint32_t mem_align;
	uint32_t offset_align;
	uint8_t spare[96];
};
_Static_assert(sizeof(struct statx_dio) == 256, "the kernel writes so much");

/* What the kernel tells, else a page: we never ask for less than that. */
static uint32_t probe_alignment(const struct media_pool *pool, int fd)
{
	struct statx_dio sx;
	memset(&sx, 0, sizeof(sx));
	if (syscall(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) < 0 ||
	    !(sx.mask & STATX_DIOALIGN) || sx.mem_align == 0 || sx.offset_align == 0)
		return pool->page_bytes;
	uint32_t align = sx.mem_align > sx.offset_align ? sx.mem_align : sx.offset_align;
	return (align & (align - 1)) == 0 ? align : pool->page_bytes;
}

/* The same for all files of a device, so that it is asked once. */
static uint32_t alignment_of(struct media_pool *pool, uint64_t dev, int fd)
{
	uint32_t align = 0;
	pthread_mutex_lock(&pool->lock);
	for (unsigned i = 0; i < pool->n_devices && align == 0; i++) {
		if (pool->devices[i].dev == dev)
			align = pool->devices[i].alignment;
	}
	pthread_mutex_unlock(&pool->lock);
	if (align != 0)
		return align;

	align = probe_alignment(pool, fd);
	pthread_mutex_lock(&pool->lock);
	if (pool->n_devices < N_KNOWN_DEVICES) {
		pool->devices[pool->n_devices].dev = dev;
		pool->devices[pool->n_devices++].alignment = align;
	}
	pthread_mutex_unlock(&pool->lock);
	return align;
}

uint32_t media_file_alignment(const struct media_file *file)
{
	return file->buffered ? 1 : file->alignment;
}

/* ---- opening ---- */

/* The allocation, with the path in it. A relative one gets its directory in front: it
 * must lead to the same file after a chdir. */
static struct media_file *file_alloc(struct media_pool *pool, const char *path, unsigned flags)
{
	char dir[PATH_MAX];
	size_t dir_len = 0;
	if (path[0] != '/' && path[0] != '\0' && !(flags & FILE_BY_DESCRIPTOR) &&
	    getcwd(dir, sizeof(dir)) != NULL && dir[0] == '/') {
		dir_len = strlen(dir);
		dir[dir_len++] = '/';
	}

	size_t path_len = strlen(path) + 1;
	size_t bytes = sizeof(struct media_file) + dir_len + path_len;
	struct media_file *file = malloc(bytes);
	if (file == NULL)
		return NULL;
	memset(file, 0, sizeof(*file));
	memcpy(file->path, dir, dir_len);
	memcpy(file->path + dir_len, path, path_len);
	file->pool = pool;
	file->waiters_tail = &file->waiters;
	file->alignment = pool->page_bytes;
	file->bytes = (uint32_t)bytes;
	file->name_offset = (uint16_t)dir_len;
	file->flags = (uint8_t)flags;
	file->buffered = pool->buffered;
	atomic_fetch_add(&pool->bytes, bytes);
	atomic_fetch_add(&pool->n_files, 1);
	return file;
}

static int regular(const struct stat *st, const char *name, struct quire_error *err)
{
	if (S_ISDIR(st->st_mode))
		return quire_fail(err, -EISDIR, "%s", name);
	if (!S_ISREG(st->st_mode))
		return quire_fail(err, -EINVAL, "%s: not a regular file", name);
	return 0;
}

static int fstat_regular(int fd, const char *name, struct stat *ret, struct quire_error *err)
{
	return fstat(fd, ret) < 0 ? quire_fail(err, -errno, "%s", name) : regular(ret, name, err);
}

/* Learns from the open descriptor what the file is. */
static int learn(struct media_file *file, int fd, struct quire_error *err)
{
	struct stat st;
	const char *name = media_file_name(file);
	int rc = fstat_regular(fd, name, &st, err);
	if (rc < 0)
		return rc;

	identity_of_stat(&st, &file->identity);
	file->accepted_ctime = st.st_ctim;
	file->accepted_links = (uint32_t)st.st_nlink;
	if (file->flags & MEDIA_APPEND && !(file->flags & MEDIA_HOLD))
		file->birth_ns = identity_birth_ns(fd);
	if (!file->buffered)
		file->alignment = alignment_of(file->pool, st.st_dev, fd);
	if (file->alignment > file->pool->page_bytes)
		file->buffered = true;
	if (file->flags & FILE_DUPLICATE)
		return 0;
	rc = media_open_settle(file, fd);
	return rc < 0 ? quire_fail(err, rc, "%s", name) : 0;
}

static int open_path(struct media_file *file, struct quire_error *err)
{
	struct stat st;
	const char *name = media_file_name(file);
	bool spare = false;
	bool hold = file->flags & MEDIA_HOLD;

	if (stat(file->path, &st) < 0)
		return quire_fail(err, -errno, "%s", name);
	int rc = regular(&st, name, err);
	if (rc < 0)
		return rc;
	int fd = media_open_now(file, hold ? NULL : &spare);
	if (fd < 0)
		return quire_fail(err, fd, "%s", name);

	rc = learn(file, fd, err);
	if (rc == 0 && hold)
		descriptor_adopt_held(file, fd);
	else if (spare)
		media_open_spare_done(file->pool, fd);
	else if (rc < 0 || !descriptor_adopt(file, fd, 0))
		close(fd);
	return rc;
}

/* A new open file description of what fd has open; else a duplicate of fd itself. */
static int reopen(struct media_file *file, int fd)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (;;) {
		int own = open(path, media_open_flags(file));
		if (own < 0 && errno == EINVAL && !file->buffered) {
			file->buffered = true;
			continue;
		}
		if (own >= 0)
			return own;
		if ((errno == EMFILE || errno == ENFILE) && descriptor_evict_one(file->pool))
			continue;
		break;
	}

	int mode = fcntl(fd, F_GETFL);
	if (mode < 0)
		return -errno;
	if (mode & O_PATH || (mode & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return -errno;
	file->flags |= FILE_DUPLICATE;
	file->buffered = !(mode & O_DIRECT);
	return own;
}

static int open_descriptor(struct media_file *file, int fd, struct quire_error *err)
{
	struct stat st;
	const char *name = media_file_name(file);
	int rc = fstat_regular(fd, name, &st, err);
	if (rc < 0)
		return rc;

	int own = reopen(file, fd);
	if (own < 0)
		return quire_fail(err, own, "%s", name);
	rc = learn(file, own, err);
	if (rc < 0)
		close(own);
	else
		descriptor_adopt_held(file, own);
	return rc;
}

int media_file_open(struct media_pool *pool, const char *path, int fd, unsigned flags,
                    struct media_file **ret_file, struct quire_error *err)
{
	char name[16];
	bool by_path = path != NULL;
	if (!by_path) {
		snprintf(name, sizeof(name), "fd %d", fd);
		path = name;
		flags |= MEDIA_HOLD | FILE_BY_DESCRIPTOR;
	}

	struct media_file *file = file_alloc(pool, path, flags);
	if (file == NULL)
		return quire_fail(err, -ENOMEM, "%s", path);
	int rc = by_path ? open_path(file, err) : open_descriptor(file, fd, err);
	if (rc < 0) {
		media_file_close(file);
		return rc;
	}
	*ret_file = file;
	return 0;
}

void media_file_close(struct media_file *file)
{
	if (file == NULL)
		return;
	struct media_pool *pool = file->pool;
	descriptor_drop(file);
	atomic_fetch_sub(&pool->bytes, file->bytes);
	atomic_fetch_sub(&pool->n_files, 1);
	free(file);
}

const struct media_identity *media_file_identity(const struct media_file *file)
{
	return &file->identity;
}

const char *media_file_name(const struct media_file *file)
{
	return file->path + file->name_offset;
}

/* ---- how it stands now ---- */

/* What the name leads to. 1: our inode, in *ret_st; 0: another, or none. */
static int stat_name(const struct media_file *file, struct stat *ret_st)
{
	if (stat(file->path, ret_st) < 0) {
		if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
			return 0;
		return -errno;
	}
	return S_ISREG(ret_st->st_mode) && ret_st->st_dev == file->identity.dev &&
	       ret_st->st_ino == file->identity.inode;
}

/* Our inode, by the descriptor if there is one. 1: in *ret_st; 0: closed. */
static int stat_descriptor(struct media_file *file, struct stat *ret_st)
{
	int fd = descriptor_get(file);
	if (fd < 0)
		return 0;
	int rc = fstat(fd, ret_st) < 0 ? -errno : 1;
	descriptor_put(file);
	return rc;
}

int media_file_look(struct media_file *file, uint64_t *ret_size_bytes)
{
	struct stat st;
	uint64_t known_bytes = identity_size(file);
	int state = 0;
	int have = 0;

	if (!(file->flags & FILE_BY_DESCRIPTOR)) {
		have = stat_name(file, &st);
		if (have < 0)
			return have;
		if (have == 0)
			state |= MEDIA_REPLACED;
	}
	if (have == 0)
		have = stat_descriptor(file, &st);
	if (have < 0)
		return have;
	if (have > 0) {
		state |= identity_changes(file, &st, known_bytes);
		if (file->flags & FILE_BY_DESCRIPTOR && st.st_nlink < file->identity.n_links)
			state |= MEDIA_REPLACED;
	}
	if (ret_size_bytes != NULL)
		*ret_size_bytes = have > 0 ? (uint64_t)st.st_size : identity_size(file);
	return state;
}

int media_file_extend(struct media_file *file, uint64_t *ret_size_bytes)
{
	struct stat st;
	uint64_t known_bytes = identity_size(file);
	int have = stat_descriptor(file, &st);
	if (have == 0)
		have = stat_name(file, &st);
	if (have < 0)
		return have;
	int rc = have == 0 ? -ESTALE : identity_check(file, &st, known_bytes);
	if (rc < 0)
		return rc;
	__atomic_store_n(&file->identity.size_bytes, (uint64_t)st.st_size, __ATOMIC_RELAXED);
	*ret_size_bytes = (uint64_t)st.st_size;
	return 0;
}
