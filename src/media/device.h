/* device.h - what a store writes to: a file, a block device, or a simulated one, behind one vtable.
 *
 * A device has no cache of its own and knows no format. Offsets, lengths and memory are multiples of
 * its align_bytes, which is DEVICE_BLOCK_BYTES (4 KiB) or a power of two that divides it; those of a discard, of blocks.
 * I/O is done whole or reported as failed: a short transfer is continued by the device, never
 * passed up as done. Memory under I/O may not change.
 *
 * The calls with an op follow quire/loop.h: op == NULL suspends the coroutine it is in, or
 * blocks a plain thread by way of the service loop.
 */
#ifndef MEDIA_DEVICE_H
#define MEDIA_DEVICE_H

#include "../loop/op.h"
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define DEVICE_BLOCK_BYTES 4096u
#define DEVICE_LINE_BYTES 64u /* a cache line, of x86-64 and of arm64 */
#define DEVICE_STORE_BYTES 8u /* what a store puts into persistent memory whole */

enum device_medium { DEVICE_MEDIUM_DIRECT, DEVICE_MEDIUM_BUFFERED, DEVICE_MEDIUM_PMEM };

/* What a durable write outlives. */
enum device_durable { DEVICE_DURABLE_POWER, DEVICE_DURABLE_PROCESS };

enum device_verb {
	DEVICE_READ,
	DEVICE_WRITE,         /* durable after the next flush */
	DEVICE_WRITE_DURABLE, /* durable when done (RWF_DSYNC; non-temporal stores and a fence) */
	DEVICE_FLUSH,         /* all writes that were done before it was started are durable */
	DEVICE_DISCARD,       /* content is of no use any more; reads give anything until written */
};

/* One I/O. Owned by the caller, still until done() ran; done() runs on the loop's thread, in a turn. */
struct device_io {
	enum device_verb verb;
	uint64_t offset;
	uint64_t len_bytes;
	void *buf;
	int buffer_slot; /* of loop_buffers_register, or -1 */
	void (*done)(struct device_io *io, int result); /* 0, or negative errno: -EIO, -ENOSPC, … */
	uint64_t driver[16]; /* the device's */
};

/* How long device_write_now holds up its thread. */
enum device_now {
	DEVICE_NOW_BLOCKS, /* as long as the medium takes: not for a loop's thread */
	DEVICE_NOW_COPIES, /* as long as copying takes */
};

struct device;

struct device_ops {
	void (*submit)(struct device *d, struct quire_loop *loop, struct device_io *io);
	int (*read_now)(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes);
	int (*write_now)(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes);
	int (*grow)(struct device *d, uint64_t size_bytes); /* -ENOTSUP for a block device; blocks */
	const void *(*borrow)(struct device *d, uint64_t offset, uint64_t len_bytes); /* NULL: no mapping */
	void (*close)(struct device *d);
};

struct device {
	const struct device_ops *ops;
	char *name;          /* owned; for error texts */
	uint64_t size_bytes; /* a multiple of DEVICE_BLOCK_BYTES */
	bool discards;       /* DISCARD gives space back; otherwise it does nothing, with success. Turns
	                      * false when a device that had promised it refuses it */
	bool read_only;
	enum device_medium medium;
	enum device_durable durable;
	enum device_now now;
	uint32_t align_bytes;       /* of offsets, lengths and memory */
	uint32_t granularity_bytes; /* what has to be flushed at least, to make one byte durable: 1 (caches outlive the
	                             * power), DEVICE_LINE_BYTES, or a page or block */
	struct quire_loop *service; /* borrowed: for plain threads; as long as the device */
};

/* A file or block device, O_DIRECT where possible. create: a file of size_bytes is made (-EEXIST if
 * it is there), sparse, its name durable; so a write to where none was before may end with -ENOSPC. Without
 * it size_bytes means nothing; the size is what is there, rounded down to whole blocks. Not for FIFOs,
 * character devices (-EINVAL), directories (-EISDIR); but device DAX (/dev/dax0.0), which is mapped as by device_open_pmem.
 * A device to be written is opened exclusively: -EBUSY if it is mounted, or open so. -EFBIG: beyond RLIMIT_FSIZE, so that no write brings a SIGXFSZ.
 * -ENOTSUP: a block device of logical blocks over 4 KiB. Blocks. */
enum device_open_flags { DEVICE_CREATE = 1, DEVICE_READ_ONLY = 2, DEVICE_BUFFERED = 4 };
int device_open(const char *path, unsigned flags, uint64_t size_bytes, struct quire_loop *service,
                struct device **ret_device, struct quire_error *err);

/* A file as persistent memory, mapped by libpmem2 as finely as it goes: writes are stores past the caches and one fence
 * for all that are submitted in a turn of a loop; memory and offsets in multiples of 8 bytes. durable: POWER wants a
 * granularity of a cache line or less (MAP_SYNC), and is -ENOTSUP where the file system has no DAX; PROCESS takes any
 * file, on tmpfs too, and gives more if there is more (ret->durable). What libpmem2 believes by PMEM2_FORCE_GRANULARITY is
 * believed here. flags, size_bytes and errors otherwise as above, DEVICE_BUFFERED meaning nothing. -ENOTSUP also: a block
 * device, no libpmem2, a file system without fallocate. What may be a SIGBUS all the same: device_pmem.c. Blocks. */
int device_open_pmem(const char *path, unsigned flags, uint64_t size_bytes, enum device_durable durable,
                     struct quire_loop *service, struct device **ret_device, struct quire_error *err);

/* A file has DAX, or has none, by a wish of its own (FS_XFLAG_DAX), where its file system leaves that to each file; and what
 * has come of it was looked at (STATX_ATTR_DAX). For a file that nobody has open. -ENOTSUP: it can't be had there; the
 * wish is as it was. Blocks. */
int device_file_dax(const char *path, bool on, struct quire_error *err);

void device_close(struct device *d); /* no I/O may be under way; NULL allowed */

/* Makes it larger, durably. -EINVAL if that is smaller, -ENOTSUP for a block device. Blocks. */
int device_grow(struct device *d, uint64_t size_bytes);

/* Starts an I/O on the loop whose turn this is. Arguments out of range or unaligned end in done(-EINVAL),
 * writes to a read-only device in done(-EROFS). Of no bytes: done(0). A flush covers the whole device, whatever
 * its offset and length. done() never runs inside this call. */
void device_submit(struct device *d, struct quire_loop *loop, struct device_io *io);

/* The same for whoever can wait. 0 or negative errno. */
int device_read(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes);
int device_write(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes, bool durable);
int device_flush(struct device *d);
int device_discard(struct device *d, uint64_t offset, uint64_t len_bytes);

/* A read that is under way while its caller does something else. Still until device_read_end. */
struct device_reading {
	struct device_io io;
	struct quire_op op;
	struct device *device;
};
/* Callers as above. 0: device_read_end is due, by the same coroutine or thread; it waits. */
int device_read_begin(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes, struct device_reading *r);
int device_read_end(struct device_reading *r);

/* The bytes where they lie, of a device that is mapped; NULL: it is not, or this part can't be read so now (bad blocks, a file
 * that others made shorter): read it, and be told. Any offset and length within the device. Borrowed until the device
 * is closed, and as good as what is written there meanwhile: whoever borrows sees to it that nobody writes or discards. Nothing
 * is verified. Any thread, without I/O and without waiting; a system call, to have the pages mapped and to find those that the
 * kernel knows as poisoned. A page that goes bad later is a SIGBUS for the thread that loads from it, as for one that
 * stores (device_pmem.c). */
const void *device_borrow(struct device *d, uint64_t offset, uint64_t len_bytes);

/* Durable when it returns 0; on this thread, without a loop, for as long as d->now says. -EAGAIN: not now, and nothing
 * was done: to be submitted. */
int device_write_now(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes);

/* On this thread, by system calls alone, without memory: for fault handlers. Blocks. */
int device_read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes);

#endif
