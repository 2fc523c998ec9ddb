/* device_file.c - files and block devices as devices.
 *
 * One I/O of the device is one I/O of the loop at a time: after a short transfer, or one that was told
 * to try again, the rest is submitted anew from done(). What a direct transfer left unaligned is done
 * again, a block being the least that can be written. A transfer that does not come forward in
 * MAX_TRIES ends with -EIO, as does a file that has become shorter than the device.
 *
 * Durability: RWF_DSYNC and fdatasync mean the same with and without O_DIRECT, only the data's way is
 * longer without.
 *
 * No space. The file is sparse: where the file system is full, a write to a place not written before
 * ends with -ENOSPC. (Preallocated, unwritten extents would promise space, but cost a journal commit at
 * the first durable write to each, more than a hole does; and would take a disk's space at once.)
 */
#include "device_file.h"

#include "../base/fail.h"
#include "../loop/io.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_TRIES 64u

/* In device_io's driver words. */
struct transfer {
	struct io io; /* of the loop */
	struct device_file *file;
	uint64_t done_bytes;
	uint32_t n_tries; /* since it last came forward */
};
static_assert(sizeof(struct transfer) <= sizeof(((struct device_io *)0)->driver), "fits");

static struct device_io *device_io_of(struct transfer *t)
{
	return (struct device_io *)((char *)t - offsetof(struct device_io, driver));
}

static bool moves_data(enum device_verb verb)
{
	return verb == DEVICE_READ || verb == DEVICE_WRITE || verb == DEVICE_WRITE_DURABLE;
}

/* ---- one I/O of the loop ends ---- */

/* What callers are to know. */
static int error_of(int64_t result)
{
	return result == -EDQUOT ? -ENOSPC : (int)result;
}

/* True if the rest is to be submitted. */
static bool goes_on(struct transfer *t, struct device_io *dio, int64_t n_bytes)
{
	if (t->file->direct)
		n_bytes &= ~(int64_t)(DEVICE_BLOCK_BYTES - 1);
	if (n_bytes > 0)
		t->n_tries = 0;
	t->done_bytes += (uint64_t)n_bytes;
	if (t->done_bytes >= dio->len_bytes)
		return false;
	t->io.offset = dio->offset + t->done_bytes;
	t->io.buf = (char *)dio->buf + t->done_bytes;
	t->io.len = dio->len_bytes - t->done_bytes;
	return true;
}

static bool may_try_again(struct transfer *t)
{
	return t->n_tries++ < MAX_TRIES;
}

/* -EOPNOTSUPP of a discard: then this device has none, and that is no error. */
static int discard_result(struct device_file *f, int64_t result)
{
	if (result != -EOPNOTSUPP && result != -ENOSYS)
		return error_of(result);
	__atomic_store_n(&f->base.discards, false, __ATOMIC_RELAXED);
	return 0;
}

static void transfer_done(struct io *io, int64_t result)
{
	struct transfer *t = (struct transfer *)io;
	struct device_io *dio = device_io_of(t);
	bool again = result == -EINTR || result == -EAGAIN;
	int rc = 0;

	if (!again && result < 0)
		rc = dio->verb == DEVICE_DISCARD ? discard_result(t->file, result) : error_of(result);
	else if (!again && moves_data(dio->verb))
		again = goes_on(t, dio, result);
	if (!again) {
		dio->done(dio, rc);
		return;
	}
	if (may_try_again(t))
		loop_io_submit(quire_loop_self(), io);
	else
		dio->done(dio, -EIO);
}

/* ---- the device ---- */

void device_file_submit(struct device *d, struct quire_loop *loop, struct device_io *dio)
{
	struct device_file *f = (struct device_file *)d;
	struct transfer *t = (struct transfer *)dio->driver;

	memset(t, 0, sizeof(*t));
	t->file = f;
	t->io.fd = f->fd;
	t->io.buffer_slot = dio->buffer_slot;
	t->io.offset = dio->offset;
	t->io.buf = dio->buf;
	t->io.len = dio->len_bytes;
	t->io.done = transfer_done;
	switch (dio->verb) {
	case DEVICE_READ:
		t->io.op = IO_READ;
		break;
	case DEVICE_WRITE_DURABLE:
		t->io.flags = RWF_DSYNC;
		t->io.op = IO_WRITE;
		break;
	case DEVICE_WRITE:
		t->io.op = IO_WRITE;
		break;
	case DEVICE_FLUSH:
		t->io.op = IO_FDATASYNC;
		break;
	case DEVICE_DISCARD:
		t->io.op = IO_FALLOCATE;
		t->io.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		break;
	}
	loop_io_submit(loop, &t->io);
}

int device_file_read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes)
{
	struct device_file *f = (struct device_file *)d;
	unsigned n_tries = 0;
	for (uint64_t done = 0; done < len_bytes && n_tries < MAX_TRIES; n_tries++) {
		ssize_t n = pread(f->fd, (char *)buf + done, len_bytes - done, (off_t)(offset + done));
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0 && f->direct)
			n &= ~(ssize_t)(DEVICE_BLOCK_BYTES - 1);
		if (n <= 0)
			continue;
		done += (uint64_t)n;
		if (done == len_bytes)
			return 0;
		n_tries = 0;
	}
	return -EIO;
}

static int file_write_now(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	struct device_file *f = (struct device_file *)d;
	unsigned n_tries = 0;
	for (uint64_t done = 0; n_tries < MAX_TRIES; n_tries++) {
		struct iovec rest = {.iov_base = (char *)(uintptr_t)buf + done, .iov_len = len_bytes - done};
		/* Not pwritev2(3), which is a cancellation point. */
		long n = syscall(SYS_pwritev2, f->fd, &rest, 1L, (long)(offset + done), 0L, RWF_DSYNC);
		/* Engines know what to do instead. */
		if (n < 0 && done == 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
			return -EAGAIN;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return error_of(-errno);
		if (n > 0 && f->direct)
			n &= ~(long)(DEVICE_BLOCK_BYTES - 1);
		if (n <= 0)
			continue;
		done += (uint64_t)n;
		if (done == len_bytes)
			return 0;
		n_tries = 0;
	}
	return -EIO;
}

int device_file_make_larger(struct device_file *f, uint64_t size_bytes)
{
	if (f->is_block || f->is_dax)
		return -ENOTSUP;
	int rc = size_bytes > INT64_MAX ? -EFBIG : device_file_limit(size_bytes);
	if (rc < 0)
		return rc;
	return ftruncate(f->fd, (off_t)size_bytes) < 0 || fsync(f->fd) < 0 ? -errno : 0;
}

static int file_grow(struct device *d, uint64_t size_bytes)
{
	int rc = device_file_make_larger((struct device_file *)d, size_bytes);
	if (rc == 0)
		__atomic_store_n(&d->size_bytes, size_bytes, __ATOMIC_RELEASE);
	return rc;
}

void device_file_close(struct device *d)
{
	struct device_file *f = (struct device_file *)d;
	close(f->fd);
	free(d->name);
	free(f);
}

static const struct device_ops file_ops = {.submit = device_file_submit, .read_now = device_file_read_now,
                                           .write_now = file_write_now, .grow = file_grow, .close = device_file_close};

int device_open(const char *path, unsigned flags, uint64_t size_bytes, struct quire_loop *service,
                struct device **ret_device, struct quire_error *err)
{
	struct device_file *f = calloc(1, sizeof(*f));
	char *name = strdup(path);
	int rc = f == NULL || name == NULL ? quire_fail(err, -ENOMEM, "%s", path)
	                                   : device_file_open(f, path, flags, size_bytes, err);
	if (rc < 0) {
		free(name);
		free(f);
		return rc;
	}
	if (f->is_dax) {
		f->base.name = name;
		device_file_close(&f->base);
		return device_open_pmem(path, flags, size_bytes, DEVICE_DURABLE_POWER, service, ret_device, err);
	}
	f->base.ops = &file_ops;
	f->base.name = name;
	f->base.service = service;
	f->base.medium = f->direct ? DEVICE_MEDIUM_DIRECT : DEVICE_MEDIUM_BUFFERED;
	f->base.durable = DEVICE_DURABLE_POWER;
	f->base.now = DEVICE_NOW_BLOCKS;
	f->base.align_bytes = f->base.granularity_bytes = DEVICE_BLOCK_BYTES;
	*ret_device = &f->base;
	return 0;
}
