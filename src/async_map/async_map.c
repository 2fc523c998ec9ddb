/* async_map.c - operations that populate a range of memory, or make a file durable.
 *
 * Purpose: any mapping's pages awaited like those of a map; see quire/async_map.h.
 *
 * States of a populate, all on its home loop:
 *   next piece → (locked) → reading → next piece … → complete
 * A piece is read by one IO_POPULATE: what is missing is asked for ahead, then populated, by a
 * worker that blocks. Pieces of a range follow each other, each behind what others have queued
 * meanwhile, so that one long range takes one worker at a time, and a cancel waits for one piece.
 *
 * Invariants:
 *   1. io.buf to io.buf + io.len is the piece that is being read; io.offset is the end of the range.
 *   2. While the op is under way its I/O is submitted, but for the moment between two pieces.
 *
 * A piece is locked before it is read (MLOCK_ONFAULT takes what is there and what comes), since a
 * page that was read first could be gone when it is locked.
 *
 * Failure: whatever the kernel says ends the op; what was populated or locked stays so.
 */
#include "async_map.h"
#include "../loop/io.h"
#include "../loop/op.h"
#include "present.h"
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE_BYTES (UINT64_C(1) << 20)

struct populate {
	struct io io;
	uint32_t flags;
	bool cancelled;
};
static_assert(sizeof(struct populate) <= OP_DRIVER_WORDS * sizeof(uint64_t), "fits");

/* ---- populate ---- */

static int64_t as_documented(int64_t rc)
{
	switch (rc) {
	case -EINVAL:
		return -EACCES;
	case -EHWPOISON:
		return -EIO;
	default:
		return rc;
	}
}

static void read_piece(struct populate *p)
{
	struct quire_op *op = op_of_driver_data(p);
	uint64_t left = p->io.offset - (uintptr_t)p->io.buf;
	p->io.len = left < PIECE_BYTES ? left : PIECE_BYTES;
	if ((p->flags & QUIRE_POPULATE_LOCK) && mlock2(p->io.buf, p->io.len, MLOCK_ONFAULT) < 0) {
		op_complete(op, -errno);
		return;
	}
	loop_io_submit(op_home(op), &p->io);
}

static void piece_read(struct io *io, int64_t result)
{
	struct populate *p = (struct populate *)io;
	struct quire_op *op = op_of_driver_data(p);
	char *next = (char *)io->buf + io->len;
	bool again = result == -EINTR;
	if (result == 0 && (uintptr_t)next == io->offset) {
		op_complete(op, 0);
	} else if (result < 0 && !again) {
		op_complete(op, as_documented(result));
	} else if (p->cancelled) {
		op_complete(op, -ECANCELED);
	} else {
		io->buf = again ? io->buf : next;
		read_piece(p);
	}
}

static void populate_start(struct quire_op *op)
{
	read_piece(op_driver_data(op));
}

static void populate_cancel(struct quire_op *op)
{
	struct populate *p = op_driver_data(op);
	p->cancelled = true;
	loop_io_cancel(op_home(op), &p->io);
}

static const struct op_driver populate_driver = {.start = populate_start, .cancel = populate_cancel};

static void populate_prepare(struct quire_op *op, const struct async_range *range, unsigned flags)
{
	struct populate *p = op_driver_data(op);
	p->io.op = IO_POPULATE;
	p->io.fd = p->io.buffer_slot = -1;
	p->io.buf = (void *)range->start;
	p->io.offset = range->end;
	p->io.done = piece_read;
	p->flags = flags;
}

/* ---- fdatasync ---- */

static void synced(struct io *io, int64_t result)
{
	op_complete(op_of_driver_data(io), result);
}

static void sync_start(struct quire_op *op)
{
	loop_io_submit(op_home(op), op_driver_data(op));
}

static void sync_cancel(struct quire_op *op)
{
	loop_io_cancel(op_home(op), op_driver_data(op));
}

static const struct op_driver sync_driver = {.start = sync_start, .cancel = sync_cancel};

static void sync_prepare(struct quire_op *op, int fd)
{
	struct io *io = op_driver_data(op);
	io->op = IO_FDATASYNC;
	io->fd = fd;
	io->buffer_slot = -1;
	io->done = synced;
}

/* ---- what both forms share ---- */

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* An empty range tells whether the advice is known. */
static bool kernel_populates(void)
{
	static atomic_int known; /* 0: not asked yet */
	int answer = atomic_load_explicit(&known, memory_order_relaxed);
	if (answer == 0) {
		answer = madvise(NULL, 0, MADV_POPULATE_READ) == 0 ? 1 : -1;
		atomic_store_explicit(&known, answer, memory_order_relaxed);
	}
	return answer > 0;
}

int async_range_of(const void *addr, size_t len_bytes, unsigned flags, struct async_range *ret_range)
{
	uintptr_t page = page_bytes(), start = (uintptr_t)addr, end;
	if ((flags & ~(unsigned)QUIRE_POPULATE_LOCK) != 0 || __builtin_add_overflow(start, len_bytes, &end) ||
	    end > UINTPTR_MAX - (page - 1))
		return -EINVAL;
	ret_range->start = start & ~(page - 1);
	ret_range->end = len_bytes == 0 ? ret_range->start : (end + page - 1) & ~(page - 1);
	return 0;
}

bool async_range_done(const struct async_range *range, unsigned flags)
{
	size_t page = page_bytes();
	if (range->start == range->end)
		return true;
	return flags == 0 && present_and_readable(range->start, (range->end - range->start) / page, page);
}

int async_home(struct quire_loop **ret_loop)
{
	struct quire_loop *mine = quire_loop_self();
	if (mine == NULL)
		return service_shared(ret_loop);
	if (loop_is_of_parent(mine))
		return -ECHILD;
	*ret_loop = mine;
	return 0;
}

int async_populate(const struct async_range *range, unsigned flags, struct quire_op *op, struct quire_loop *home)
{
	if (!kernel_populates())
		return -ENOTSUP;
	populate_prepare(op, range, flags);
	return op_start(op, &populate_driver, home);
}

int async_fdatasync(int fd, struct quire_op *op, struct quire_loop *home)
{
	sync_prepare(op, fd);
	return op_start(op, &sync_driver, home);
}

/* ---- the op forms ---- */

/* The op of a call is its own, or one that the call waits for. */
static int begin(struct quire_op *op, struct quire_op *local)
{
	if (op != NULL)
		return op_is_idle(op) ? 0 : -EBUSY;
	if (quire_loop_self() != NULL && !quire_in_coroutine())
		return -EDEADLK;
	quire_op_init(local);
	return 0;
}

int quire_populate(const void *addr, size_t len_bytes, unsigned flags, struct quire_op *op)
{
	struct async_range range;
	struct quire_op local;
	struct quire_loop *home;
	int rc = async_range_of(addr, len_bytes, flags, &range);
	if (rc == 0)
		rc = begin(op, &local);
	if (rc < 0)
		return rc;
	if (async_range_done(&range, flags)) {
		if (op != NULL)
			op_complete_now(op, 0);
		return 0;
	}
	rc = async_home(&home);
	if (rc == 0)
		rc = async_populate(&range, flags, op != NULL ? op : &local, home);
	return rc < 0 || op != NULL ? rc : (int)quire_await(&local);
}

int quire_fdatasync(int fd, struct quire_op *op)
{
	struct quire_op local;
	struct quire_loop *home;
	if (fd < 0)
		return -EBADF;
	int rc = begin(op, &local);
	if (rc == 0)
		rc = async_home(&home);
	if (rc == 0)
		rc = async_fdatasync(fd, op != NULL ? op : &local, home);
	return rc < 0 || op != NULL ? rc : (int)quire_await(&local);
}
