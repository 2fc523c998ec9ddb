/* identity.c - is a file still what it was when it was opened?
 *
 * A plain file has no checksum. What stands in for one is (dev, inode, size, mtime, ctime),
 * as the kernel keeps them: any write and any change of length moves both times, any
 * change of mode, owner or name the ctime.
 *
 * Two kinds of file are given more: a file that grows (MEDIA_APPEND) only has to be the same
 * inode, and not shorter, and, since inode numbers are soon used again, born at the same time
 * when it is opened again; one that is held may lose names, which moves its ctime, but then
 * its link count falls and nothing else changes.
 *
 * What this can't see: a write within one tick of the file system's clock after the identity
 * was taken, on kernels with coarse times; and writes through a shared mapping that the
 * kernel has not noticed yet.
 */
#include "media_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void identity_of_stat(const struct stat *st, struct media_identity *ret)
{
	*ret = (struct media_identity){
		.dev = st->st_dev,
		.inode = st->st_ino,
		.size_bytes = (uint64_t)st->st_size,
		.mtime = st->st_mtim,
		.ctime = st->st_ctim,
		.n_links = st->st_nlink,
	};
}

int64_t identity_birth_ns(int fd)
{
	struct statx sx;
	memset(&sx, 0, sizeof(sx));
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &sx) < 0 || !(sx.stx_mask & STATX_BTIME))
		return 0;
	return sx.stx_btime.tv_sec * 1000000000 + sx.stx_btime.tv_nsec;
}

uint64_t identity_size(const struct media_file *file)
{
	return __atomic_load_n(&file->identity.size_bytes, __ATOMIC_RELAXED);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_inode(const struct media_file *file, const struct stat *st)
{
	return st->st_dev == file->identity.dev && st->st_ino == file->identity.inode;
}

static bool earlier(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* The file is held, and only its ctime differs: because a name has gone? If so, the ctime
 * that this has made is the one to compare with from now on. */
static bool accept_lost_name(struct media_file *file, const struct stat *st)
{
	pthread_mutex_lock(&file->pool->lock);
	bool accept = st->st_nlink <= file->accepted_links &&
	              same_time(&st->st_ctim, &file->accepted_ctime);
	if (st->st_nlink < file->accepted_links) {
		file->accepted_links = (uint32_t)st->st_nlink;
		file->accepted_ctime = st->st_ctim;
		accept = true;
	} else if (earlier(&st->st_ctim, &file->accepted_ctime)) {
		/* Another thread has seen the loss of a further name in the meantime. */
		accept = true;
	}
	pthread_mutex_unlock(&file->pool->lock);
	return accept;
}

static bool same_content(struct media_file *file, const struct stat *st)
{
	if ((uint64_t)st->st_size != identity_size(file) ||
	    !same_time(&st->st_mtim, &file->identity.mtime))
		return false;
	return same_time(&st->st_ctim, &file->identity.ctime) ||
	       (file->flags & MEDIA_HOLD && accept_lost_name(file, st));
}

int identity_check(struct media_file *file, const struct stat *st, uint64_t known_bytes)
{
	if (!same_inode(file, st) || !S_ISREG(st->st_mode))
		return -ESTALE;
	if (!(file->flags & MEDIA_HOLD) && st->st_nlink < file->identity.n_links)
		return -ESTALE;
	if (file->flags & MEDIA_APPEND)
		return (uint64_t)st->st_size >= known_bytes ? 0 : -ESTALE;
	return same_content(file, st) ? 0 : -ESTALE;
}

/* Anything but a lost name. */
static bool was_rewritten(const struct media_file *file, const struct stat *st)
{
	if ((uint64_t)st->st_size != identity_size(file) ||
	    !same_time(&st->st_mtim, &file->identity.mtime))
		return true;
	return !same_time(&st->st_ctim, &file->identity.ctime) &&
	       st->st_nlink >= file->identity.n_links;
}

int identity_changes(const struct media_file *file, const struct stat *st, uint64_t known_bytes)
{
	uint64_t size = (uint64_t)st->st_size;
	int state = 0;
	if (size < known_bytes)
		state |= MEDIA_TRUNCATED;
	if (size > known_bytes)
		state |= MEDIA_GREW;
	if (!(file->flags & MEDIA_APPEND) && was_rewritten(file, st))
		state |= MEDIA_CHANGED;
	return state;
}
