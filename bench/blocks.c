/* blocks.c - see blocks.h. */
#include "blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_DSYNC
#define RWF_DSYNC 2
#endif

#define FILE_BYTES (UINT64_C(64) << 20)

static int write_all(int fd, const void *block)
{
	for (uint64_t at = 0; at < FILE_BYTES; at += BLOCK_BYTES)
		if (pwrite(fd, block, BLOCK_BYTES, (off_t)at) != BLOCK_BYTES)
			return -EIO;
	return fsync(fd) != 0 ? -errno : 0;
}

int blocks_open(const char *path, void *block)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	unlink(path);
	memset(block, 0, BLOCK_BYTES);
	int rc = write_all(fd, block);
	if (rc < 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

int blocks_write(int fd, void *block, uint64_t *at)
{
	struct iovec iov = { block, BLOCK_BYTES };

	if (pwritev2(fd, &iov, 1, (off_t)(*at % FILE_BYTES), RWF_DSYNC) != BLOCK_BYTES)
		return errno != 0 ? -errno : -EIO;
	*at += BLOCK_BYTES;
	return 0;
}
