/* device_dax.c - whether one file has DAX, where its file system decides that file by file.
 *
 * XFS and ext4 keep a wish with each file (FS_XFLAG_DAX, which new files take over from their directory), and look at it when a
 * file's inode comes into memory: a change takes effect when the last descriptor is closed and the inode forgotten,
 * which they then hasten. A mount may overrule it (-o dax=always, =never), and so may the medium. So what has come of
 * it is asked of statx, with a descriptor that was opened afterwards; where that is not what was wished, the wish is taken back.
 */
#include "device.h"

#include "../base/fail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

/* 1, 0, or why it can't be told. */
static int has_dax(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) < 0)
		return -errno;
	return (st.stx_attributes & STATX_ATTR_DAX) != 0;
}

/* 1: changed; 0: it is so already. */
static int wish(const char *path, bool on)
{
	struct fsxattr attributes;
	int fd = open_file(path);

	if (fd < 0)
		return fd;
	int rc = ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0 ? -errno : 0;
	if (rc == 0 && ((attributes.fsx_xflags & FS_XFLAG_DAX) != 0) != on) {
		attributes.fsx_xflags ^= FS_XFLAG_DAX;
		rc = ioctl(fd, FS_IOC_FSSETXATTR, &attributes) < 0 ? -errno : 1;
	}
	/* So that nothing keeps the inode in memory. */
	if (rc == 1 && fsync(fd) < 0)
		rc = -errno;
	close(fd);
	/* File systems that have never heard of it. */
	return rc == -ENOTTY || rc == -EOPNOTSUPP || rc == -EINVAL ? 0 : rc;
}

int device_file_dax(const char *path, bool on, struct quire_error *err)
{
	int changed = wish(path, on);

	if (changed < 0)
		return quire_fail(err, changed, "%s: its attribute DAX", path);
	int fd = open_file(path);
	int has = fd < 0 ? fd : has_dax(fd);
	if (fd >= 0)
		close(fd);
	if (has < 0)
		return quire_fail(err, has, "%s", path);
	if (has == on)
		return 0;
	if (changed == 1)
		(void)wish(path, !on);
	return quire_fail(err, -ENOTSUP, on ? "%s: its file system has no DAX, or not for one file"
	                                    : "%s: its file system has DAX for every file", path);
}
