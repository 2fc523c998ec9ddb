/* export_file.c - a plain file, or a block device, as an export: through the page cache, by the loop's own I/O.
 *
 * Durable is what fdatasync says, or one write with RWF_DSYNC. Either that failed says that something was lost, written by whomever, and
 * the next one would not say so again: from then on every write and every flush is an error, until the file is opened anew.
 * (Of a durable write that finds no space one can't tell whether it was that write: it counts, too.)
 *
 * Zeroing and trimming is fallocate(2); where the file system has none, zeros are written, and a trim does nothing. Where data lie
 * is asked by a thread (export_file_map.h). Each loop that serves the file makes its own I/O; `broken` is shared.
 */
#include "export.h"
#include "export_file_map.h"

#include "../base/fail.h"
#include "../loop/coro.h"
#include "../loop/io.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ZEROS_BYTES (256u << 10)
#define CACHE_BYTES (256u << 10)
#define NOW_BYTES (64u << 10)
#define PAUSE_READS 8u
#define NEVER UINT32_MAX
#define TURN_BYTES (1u << 20) /* of one I/O: what lies in the page cache is copied in the loop's thread */

struct file {
	struct export base;
	int fd; /* owned */
	uint64_t size_bytes;
	bool read_only;
	struct file_map *map; /* owned */
	void *zeros;          /* owned: ZEROS_BYTES */
	atomic_uint pause;    /* so many reads are not tried at once; NEVER */
	atomic_bool broken;
};

struct transfer {
	struct io io;
	struct coro *waiter;
	int64_t result;
};

static struct file *file_of(struct export *e)
{
	return (struct file *)(void *)e;
}

static void transfer_done(struct io *io, int64_t result)
{
	struct transfer *t = (struct transfer *)(void *)io;

	t->result = result;
	coro_wake(t->waiter);
}

static int64_t wait_for(struct file *f, enum io_op op, void *buf, uint64_t offset, uint64_t len, unsigned flags)
{
	struct transfer t = {
		.io = {.op = op, .fd = f->fd, .buffer_slot = -1, .offset = offset, .buf = buf, .len = len,
		       .flags = flags, .done = transfer_done},
		.waiter = coro_self(),
	};

	loop_io_submit(quire_loop_self(), &t.io);
	coro_suspend();
	return t.result;
}

/* Reads or writes all of it. */
static int carry(struct file *f, enum io_op op, char *buf, uint64_t offset, uint64_t n_bytes, unsigned flags)
{
	for (uint64_t done = 0; done < n_bytes;) {
		uint64_t len = n_bytes - done < TURN_BYTES ? n_bytes - done : TURN_BYTES;
		int64_t n = wait_for(f, op, buf + done, offset + done, len, flags);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return op == IO_READ ? -EINVAL : -EIO; /* it ends here now */
		done += (uint64_t)n;
	}
	return 0;
}

static void describe(struct export *e, struct export_description *ret)
{
	const struct file *f = file_of(e);

	*ret = (struct export_description){
		.size_bytes = f->size_bytes,
		.least_block = 1,
		.preferred_block = 4096,
		.flags = f->read_only ? EXPORT_READ_ONLY | EXPORT_CACHE
		                      : EXPORT_TRIM | EXPORT_ZERO | EXPORT_FAST_ZERO | EXPORT_CACHE,
	};
}

/* What is in the page cache is there without a word to the ring. Where something was not, the next few are not tried. */
static bool read_now(struct file *f, void *buf, uint64_t offset, uint32_t n_bytes)
{
	struct iovec iov = {buf, n_bytes};
	unsigned pause = atomic_load_explicit(&f->pause, memory_order_relaxed);

	if (pause > 0) {
		if (pause != NEVER)
			atomic_store_explicit(&f->pause, pause - 1, memory_order_relaxed);
		return false;
	}
	ssize_t n = preadv2(f->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
	if (n == (ssize_t)n_bytes)
		return true;
	bool refused = n < 0 && errno != EAGAIN;
	atomic_store_explicit(&f->pause, refused ? NEVER : PAUSE_READS, memory_order_relaxed);
	return false;
}

static int read_bytes(struct export *e, void *buf, uint64_t offset, uint32_t n_bytes)
{
	struct file *f = file_of(e);

	if (n_bytes <= NOW_BYTES && read_now(f, buf, offset, n_bytes))
		return 0;
	return carry(f, IO_READ, buf, offset, n_bytes, 0);
}

static int flush(struct export *e)
{
	struct file *f = file_of(e);

	if (atomic_load(&f->broken))
		return -EIO;
	int64_t rc = wait_for(f, IO_FDATASYNC, NULL, 0, 0, 0);
	if (rc < 0)
		atomic_store(&f->broken, true);
	return (int)rc;
}

static int write_bytes(struct export *e, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	struct file *f = file_of(e);

	if (atomic_load(&f->broken))
		return -EIO;
	/* The engine reads from there only; struct io has one pointer for both directions. */
	char *bytes = (char *)(uintptr_t)buf;
	bool at_once = how & EXPORT_FUA && n_bytes <= TURN_BYTES;
	int rc = carry(f, IO_WRITE, bytes, offset, n_bytes, at_once ? RWF_DSYNC : 0);
	if (rc == -EOPNOTSUPP && at_once) {
		at_once = false;
		rc = carry(f, IO_WRITE, bytes, offset, n_bytes, 0);
	}
	if (rc < 0 && at_once)
		atomic_store(&f->broken, true);
	return rc < 0 || at_once || !(how & EXPORT_FUA) ? rc : flush(e);
}

static int write_zeros(struct file *f, uint64_t offset, uint32_t n_bytes)
{
	for (uint32_t done = 0; done < n_bytes;) {
		uint32_t len = n_bytes - done < ZEROS_BYTES ? n_bytes - done : ZEROS_BYTES;
		int rc = carry(f, IO_WRITE, f->zeros, offset + done, len, 0);
		if (rc < 0)
			return rc;
		done += len;
	}
	return 0;
}

static int allocate(struct file *f, unsigned mode, uint64_t offset, uint32_t n_bytes)
{
	if (n_bytes == 0)
		return 0;
	int rc;
	do {
		rc = (int)wait_for(f, IO_FALLOCATE, NULL, offset, n_bytes, mode);
	} while (rc == -EINTR);
	return rc;
}

static bool is_refused(int rc)
{
	return rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EINVAL || rc == -ENODEV;
}

static int zero(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	struct file *f = file_of(e);

	if (atomic_load(&f->broken))
		return -EIO;
	unsigned mode = how & EXPORT_NO_HOLE ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
	int rc = allocate(f, mode | FALLOC_FL_KEEP_SIZE, offset, n_bytes);
	if (is_refused(rc) && how & EXPORT_FAST)
		return -ENOTSUP;
	if (is_refused(rc))
		rc = write_zeros(f, offset, n_bytes);
	if (rc == 0 && how & EXPORT_FUA)
		rc = flush(e);
	return rc;
}

static int trim(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	struct file *f = file_of(e);

	if (atomic_load(&f->broken))
		return -EIO;
	int rc = allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, n_bytes);
	if (is_refused(rc))
		rc = 0;
	if (rc == 0 && how & EXPORT_FUA)
		rc = flush(e);
	return rc;
}

/* Reading is what brings it into the page cache without holding up the thread; what was read goes nowhere. */
static int cache(struct export *e, uint64_t offset, uint32_t n_bytes)
{
	char *buf = malloc(CACHE_BYTES);
	int rc = buf == NULL ? -ENOMEM : 0;

	for (uint32_t done = 0; rc == 0 && done < n_bytes;) {
		uint32_t len = n_bytes - done < CACHE_BYTES ? n_bytes - done : CACHE_BYTES;
		rc = carry(file_of(e), IO_READ, buf, offset + done, len, 0);
		done += len;
	}
	free(buf);
	return rc;
}

static unsigned contexts(struct export *e)
{
	return 1u << EXPORT_ALLOCATION;
}

static int status(struct export *e, enum export_context context, uint64_t generation, uint64_t offset, uint32_t n_bytes,
                  struct export_extent *ret, unsigned most)
{
	return file_map_ask(file_of(e)->map, offset, n_bytes, ret, most);
}

static int close_file(struct export *e)
{
	struct file *f = file_of(e);
	int rc = atomic_load(&f->broken) ? -EIO : 0;

	file_map_destroy(f->map);
	if (f->fd >= 0 && !f->read_only && rc == 0 && fdatasync(f->fd) < 0)
		rc = -errno;
	if (f->fd >= 0)
		close(f->fd);
	free(f->zeros);
	free(f);
	return rc;
}

static const struct export_ops file_ops = {
	.describe = describe,
	.read = read_bytes,
	.write = write_bytes,
	.flush = flush,
	.trim = trim,
	.zero = zero,
	.cache = cache,
	.status = status,
	.contexts = contexts,
	.close = close_file,
};

static int measure(struct file *f)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -EINVAL;
	if (fcntl(f->fd, F_SETFL, 0) < 0) /* a ring's reads shall wait */
		return -errno;
	off_t end = lseek(f->fd, 0, SEEK_END); /* of a block device, too */
	f->size_bytes = end > 0 ? (uint64_t)end : 0;
	return end < 0 ? -errno : 0;
}

int export_file_open(const char *path, bool read_only, struct export **ret_export, struct quire_error *err)
{
	struct file *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return quire_fail(err, -ENOMEM, "%s", path);
	f->base.ops = &file_ops;
	f->read_only = read_only;
	/* A pipe that nobody writes to is not waited for. */
	f->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int rc = f->fd < 0 ? -errno : measure(f);
	if (rc == 0) {
		f->map = file_map_create(f->fd);
		f->zeros = calloc(1, ZEROS_BYTES);
		rc = f->map == NULL || f->zeros == NULL ? -ENOMEM : 0;
	}
	if (rc < 0) {
		f->read_only = true; /* nothing to be made durable */
		(void)close_file(&f->base);
		return quire_fail(err, rc, "%s", path);
	}
	*ret_export = &f->base;
	return 0;
}
