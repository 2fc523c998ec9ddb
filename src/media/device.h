/* device.h - what a store writes to: a file, a block device, or a simulated one, behind one vtable.
 *
 * A device has no cache of its own and knows no format. Offsets, lengths and memory are multiples of
 * block_bytes (4 KiB). I/O is done whole or reported as failed: a short transfer is continued
 * by the device, never passed up as done. Memory under I/O may not change.
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

enum device_verb {
	DEVICE_READ,
	DEVICE_WRITE,         /* durable after the next flush */
	DEVICE_WRITE_DURABLE, /* durable when done (RWF_DSYNC) */
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

struct device;

struct device_ops {
	void (*submit)(struct device *d, struct quire_loop *loop, struct device_io *io);
	int (*read_now)(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes);
	int (*grow)(struct device *d, uint64_t size_bytes); /* -ENOTSUP for a block device; blocks */
	void (*close)(struct device *d);
};

struct device {
	const struct device_ops *ops;
	char *name;          /* owned; for error texts */
	uint64_t size_bytes; /* a multiple of DEVICE_BLOCK_BYTES */
	bool discards;       /* DISCARD gives space back; otherwise it does nothing, with success. Turns
	                      * false when a device that had promised it refuses it */
	bool read_only;
	struct quire_loop *service; /* borrowed: for plain threads; as long as the device */
};

/* A file or block device, O_DIRECT where possible. create: a file of size_bytes is made (-EEXIST if
 * it is there), sparse, its name durable; so a write to where none was before may end with -ENOSPC. Without
 * it size_bytes means nothing; the size is what is there, rounded down to whole blocks. Not for FIFOs,
 * character devices (-EINVAL), directories (-EISDIR). A block device to be written is opened exclusively:
 * -EBUSY if it is mounted, or open so. -EFBIG: beyond RLIMIT_FSIZE, so that no write brings a SIGXFSZ.
 * -ENOTSUP: a block device of logical blocks over 4 KiB. Blocks. */
enum device_open_flags { DEVICE_CREATE = 1, DEVICE_READ_ONLY = 2, DEVICE_BUFFERED = 4 };
int device_open(const char *path, unsigned flags, uint64_t size_bytes, struct quire_loop *service,
                struct device **ret_device, struct quire_error *err);
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

/* On this thread, by system calls alone, without memory: for fault handlers. Blocks. */
int device_read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes);

#endif
