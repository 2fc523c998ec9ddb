/* io.h - one I/O of an engine: what media and cache hand to a loop.
 *
 * Owned by the submitter, who keeps it still until done() ran. done() runs on the
 * loop's thread, in a turn of the loop, never inside loop_io_submit.
 */
#ifndef LOOP_IO_H
#define LOOP_IO_H

#include <stdint.h>
#include <sys/stat.h>

struct quire_loop;
struct statx;

enum io_op {
	IO_NOP,
	IO_READ,     /* pread(fd, buf, len, offset) */
	IO_OPEN,     /* open(path, open_flags): result is the descriptor */
	IO_STATX,    /* statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, statx_buf) */
	IO_MADVISE,  /* madvise(buf, len, advice) */
	IO_POLL,     /* poll(fd, events): result is the events; level, one shot */
	IO_WRITE,    /* pwritev2(fd, buf, len, offset, write_flags); may be short, as IO_READ may */
	IO_FDATASYNC, /* fdatasync(fd) */
	IO_FALLOCATE, /* fallocate(fd, mode, offset, len) */
	IO_POPULATE,  /* madvise(buf, len) with WILLNEED, whatever that says, then POPULATE_READ; len below 2 GiB */
};

struct io {
	enum io_op op;
	int fd;               /* borrowed */
	int buffer_slot;      /* of loop_buffers_register, or -1 */
	uint64_t offset;      /* bytes */
	void *buf;            /* borrowed */
	uint64_t len;         /* bytes */
	unsigned flags;       /* open_flags, advice, events, write_flags (RWF_DSYNC), or mode */
	const char *path;     /* borrowed */
	struct statx *statx_buf;
	void (*done)(struct io *io, int64_t result); /* count or negative errno */
	uint64_t engine[4];   /* the engine's own */
};

/* The loop's thread only. Never blocks, never fails: what can't be started completes
 * with an error. Beyond the loop's depth it queues (intrusively, no memory). I/Os of one
 * turn are submitted together at its end. */
void loop_io_submit(struct quire_loop *loop, struct io *io);

/* Asks that io ends soon; it completes with -ECANCELED or as if nothing was asked.
 * The loop's thread only. */
void loop_io_cancel(struct quire_loop *loop, struct io *io);

/* Registers memory for fixed-buffer I/O; returns a slot ≥ 0, or a negative errno (the
 * caller then passes -1: everything works, a little slower). unregister only while no
 * I/O uses it. The loop's thread, or before its first turn / after its last. */
int loop_buffers_register(struct quire_loop *loop, void *base, uint64_t len_bytes);
void loop_buffers_unregister(struct quire_loop *loop, int slot);

#endif
