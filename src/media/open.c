/* open.c - opening by path: what is asked of the kernel, and what is made of its answer.
 *
 * When a file is first opened, it is stat'ed before: opening a device can have effects,
 * opening a FIFO wakes its writer. At a later open by the same path we rely on the flags
 * alone: with O_NONBLOCK and O_NOCTTY no open waits or takes a terminal, and what was opened
 * is closed unread if it is not the inode we know.
 */
#include "media_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

int media_open_flags(const struct media_file *file)
{
	return O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (file->buffered ? 0 : O_DIRECT);
}

int media_open_accept(struct media_file *file, int fd)
{
	struct stat st;
	uint64_t known_bytes = identity_size(file);
	if (fstat(fd, &st) < 0)
		return -errno;
	int rc = identity_check(file, &st, known_bytes);
	if (rc < 0)
		return rc;
	if (file->birth_ns != 0 && identity_birth_ns(fd) != file->birth_ns)
		return -ESTALE;
	return media_open_settle(file, fd);
}

int media_open_settle(struct media_file *file, int fd)
{
	/* io_uring answers EAGAIN to a read that would wait, where a descriptor has
	 * O_NONBLOCK and its file system can't tell beforehand. */
	if (fcntl(fd, F_SETFL, file->buffered ? 0 : O_DIRECT) < 0) {
		if (errno != EINVAL || fcntl(fd, F_SETFL, 0) < 0)
			return -errno;
		file->buffered = true;
	}
	return 0;
}

int media_open_error(int rc)
{
	switch (rc) {
	case -ENOENT:
	case -ENOTDIR:
	case -ELOOP:
	case -EISDIR:
	case -ENXIO: /* a socket now, or a device without a driver */
	case -ENODEV:
		return -ESTALE;
	case -ENFILE:
		return -EMFILE;
	default:
		return rc;
	}
}

static int open_once(const struct media_file *file)
{
	int fd;
	do {
		fd = open(file->path, media_open_flags(file));
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static bool is_exhausted(int rc)
{
	return rc == -EMFILE || rc == -ENFILE;
}

/* With the descriptor that was kept for this. */
static int open_with_spare(const struct media_file *file, bool *ret_spare)
{
	struct media_pool *pool = file->pool;
	pthread_mutex_lock(&pool->spare_lock);
	if (pool->spare >= 0)
		close(pool->spare);
	pool->spare = -1;

	int fd = open_once(file);
	if (fd < 0)
		media_open_spare_done(pool, -1);
	else
		*ret_spare = true;
	return fd;
}

void media_open_spare_done(struct media_pool *pool, int fd)
{
	if (fd >= 0)
		close(fd);
	pool->spare = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_unlock(&pool->spare_lock);
}

int media_open_now(struct media_file *file, bool *ret_spare)
{
	int fd = open_once(file);
	if (fd == -EINVAL && !file->buffered) {
		file->buffered = true;
		fd = open_once(file);
	}
	while (is_exhausted(fd) && descriptor_evict_one(file->pool))
		fd = open_once(file);
	if (is_exhausted(fd) && ret_spare != NULL)
		fd = open_with_spare(file, ret_spare);
	return fd == -ENFILE ? -EMFILE : fd;
}
