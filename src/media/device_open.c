/* device_open.c - a file or block device is opened, or a file made, to be a device.
 *
 * O_DIRECT is a wish: it is given up where the file system refuses it, at once or at the first read, or
 * wants more than our alignment. The path is looked at before it is opened, since to open a FIFO or a
 * tape has effects, and after, since it may be another by then.
 *
 * Whether a hole can be punched is asked by punching one behind the end of the file, where there is
 * nothing to lose. A block device tells by sysfs.
 */
#include "device_file.h"

#include "../base/fail.h"
#include "../base/feature.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BUSY_LAST_MS 256u /* half a second in all */

int device_file_limit(uint64_t size_bytes)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
		return -errno;
	return limit.rlim_cur != RLIM_INFINITY && size_bytes > limit.rlim_cur ? -EFBIG : 0;
}

static int open_again(const char *path, int flags, mode_t mode)
{
	int fd;
	do {
		fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode);
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* ---- a new file ---- */

/* So that the name is there after a crash. */
static int sync_directory(const char *path)
{
	char *copy = strdup(path);
	if (copy == NULL)
		return -ENOMEM;
	int fd = open_again(dirname(copy), O_RDONLY | O_DIRECTORY, 0);
	free(copy);
	if (fd < 0)
		return fd;
	int rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc == -EINVAL ? 0 : rc; /* a file system whose directories need none */
}

static int fill_new(int fd, const char *path, uint64_t size_bytes)
{
	int rc = device_file_limit(size_bytes);
	if (rc == 0 && ftruncate(fd, (off_t)size_bytes) < 0)
		rc = -errno;
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	return rc < 0 ? rc : sync_directory(path);
}

static int create(struct device_file *f, const char *path, uint64_t size_bytes, struct quire_error *err)
{
	if (size_bytes == 0 || size_bytes % DEVICE_BLOCK_BYTES != 0 || size_bytes > INT64_MAX)
		return quire_fail(err, -EINVAL, "%s: a size of %llu bytes", path, (unsigned long long)size_bytes);
	f->fd = open_again(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (f->fd < 0)
		return quire_fail(err, f->fd, "%s: creating", path);
	int rc = fill_new(f->fd, path, size_bytes);
	if (rc == 0)
		return 0;
	(void)unlink(path);
	close(f->fd);
	return quire_fail(err, rc, "%s: creating a file of %llu bytes", path, (unsigned long long)size_bytes);
}

/* ---- one that is there ---- */

static uint64_t read_number(const char *path)
{
	unsigned long long n = 0;
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%llu", &n) != 1)
		n = 0;
	fclose(file);
	return n;
}

static bool is_dax(const struct stat *st)
{
	char path[64], subsystem[PATH_MAX];
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/subsystem", major(st->st_rdev), minor(st->st_rdev));
	ssize_t n = S_ISCHR(st->st_mode) ? readlink(path, subsystem, sizeof(subsystem) - 1) : -1;
	subsystem[n < 0 ? 0 : n] = '\0';
	const char *slash = strrchr(subsystem, '/');
	return slash != NULL && strcmp(slash, "/dax") == 0;
}

static int check_kind(const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	return S_ISREG(st->st_mode) || S_ISBLK(st->st_mode) || is_dax(st) ? 0 : -EINVAL;
}

/* On a block device O_EXCL keeps off what is mounted, or another's. But a kernel worker that did an I/O for a ring has the file
 * for a moment longer than the I/O takes, so a device that was closed just now may look like that. Nobody tells when it
 * lets go. */
static int open_exclusively(const char *path)
{
	int fd;

	for (unsigned ms = 1; (fd = open_again(path, O_RDWR | O_EXCL, 0)) == -EBUSY && ms <= BUSY_LAST_MS; ms *= 2)
		(void)poll(NULL, 0, (int)ms);
	return fd;
}

static int open_existing(struct device_file *f, const char *path, bool read_only, struct quire_error *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return quire_fail(err, -errno, "%s", path);
	int rc = check_kind(&st);
	if (rc < 0)
		return quire_fail(err, rc, "%s: neither a file nor a block device", path);
	f->fd = S_ISBLK(st.st_mode) && !read_only ? open_exclusively(path) : open_again(path, read_only ? O_RDONLY : O_RDWR, 0);
	return f->fd < 0 ? quire_fail(err, f->fd, "%s: opening", path) : 0;
}

/* ---- what it is like ---- */

/* Nothing but a lock keeps two who write from it: it knows no O_EXCL. */
static int learn_dax(struct device_file *f, const struct stat *st)
{
	char path[64];
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/size", major(st->st_rdev), minor(st->st_rdev));
	f->base.size_bytes = read_number(path) & ~(uint64_t)(DEVICE_BLOCK_BYTES - 1);
	if (!f->base.read_only && flock(f->fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return f->base.size_bytes == 0 ? -EIO : 0;
}

static int learn_size(struct device_file *f)
{
	struct stat st;
	uint64_t size_bytes;
	int sector_bytes;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	int rc = check_kind(&st);
	if (rc < 0)
		return rc;
	f->is_block = S_ISBLK(st.st_mode);
	f->is_dax = S_ISCHR(st.st_mode);
	if (f->is_dax)
		return learn_dax(f, &st);
	if (!f->is_block) {
		f->base.size_bytes = (uint64_t)st.st_size & ~(uint64_t)(DEVICE_BLOCK_BYTES - 1);
		return f->base.read_only ? 0 : device_file_limit((uint64_t)st.st_size);
	}
	if (ioctl(f->fd, BLKSSZGET, &sector_bytes) < 0 || ioctl(f->fd, BLKGETSIZE64, &size_bytes) < 0)
		return -errno;
	f->base.size_bytes = size_bytes & ~(uint64_t)(DEVICE_BLOCK_BYTES - 1);
	return sector_bytes > (int)DEVICE_BLOCK_BYTES ? -ENOTSUP : 0;
}

/* Reads go well with O_DIRECT. */
static bool reads_direct(const struct device_file *f)
{
	void *block = aligned_alloc(DEVICE_BLOCK_BYTES, DEVICE_BLOCK_BYTES);
	if (block == NULL)
		return false;
	ssize_t n = pread(f->fd, block, DEVICE_BLOCK_BYTES, 0);
	bool good = n >= 0 || errno != EINVAL;
	free(block);
	return good;
}

/* Takes O_NONBLOCK away in any case: io_uring answers EAGAIN where it stands. */
static int make_direct(struct device_file *f, bool buffered)
{
	bool wish = !buffered && feature_have(FEATURE_DIRECT);
	f->direct = wish && fcntl(f->fd, F_SETFL, O_DIRECT) == 0 && reads_direct(f);
	if (!f->direct && fcntl(f->fd, F_SETFL, 0) < 0)
		return -errno;
	return 0;
}

static bool block_discards(int fd)
{
	struct stat st;
	char path[96];
	if (fstat(fd, &st) < 0)
		return false;
	/* The queue of a partition is its disk's. */
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/discard_max_bytes", major(st.st_rdev),
		         minor(st.st_rdev), i == 0 ? "" : "../");
		if (read_number(path) != 0)
			return true;
	}
	return false;
}

static bool file_discards(const struct device_file *f)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct stat st;
	if (fstat(f->fd, &st) < 0)
		return false;
	off_t behind = (st.st_size + 2 * (off_t)DEVICE_BLOCK_BYTES) & ~(off_t)(DEVICE_BLOCK_BYTES - 1);
	return fallocate(f->fd, mode, behind, DEVICE_BLOCK_BYTES) == 0;
}

static int learn(struct device_file *f, unsigned flags)
{
	int rc = learn_size(f);
	if (rc < 0 || f->is_dax)
		return rc;
	rc = make_direct(f, flags & DEVICE_BUFFERED);
	if (rc == 0 && !f->base.read_only)
		f->base.discards = f->is_block ? block_discards(f->fd) : file_discards(f);
	return rc;
}

int device_file_open(struct device_file *f, const char *path, unsigned flags, uint64_t size_bytes,
                     struct quire_error *err)
{
	f->base.read_only = flags & DEVICE_READ_ONLY;
	bool creates = flags & DEVICE_CREATE;
	if (creates && f->base.read_only)
		return quire_fail(err, -EINVAL, "%s: to be created read-only", path);
	int rc = creates ? create(f, path, size_bytes, err) : open_existing(f, path, f->base.read_only, err);
	if (rc < 0)
		return rc;
	rc = learn(f, flags);
	if (rc == 0)
		return 0;
	if (creates)
		(void)unlink(path);
	close(f->fd);
	return quire_fail(err, rc, "%s", path);
}
