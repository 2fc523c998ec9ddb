/* media.h - plain files as a medium: identity, bounded descriptors, reading.
 *
 * A media_pool bounds how many descriptors all files of a cache hold. A media_file names
 * one file by path, or by a descriptor that is held; it is opened when first read,
 * closed when others need the descriptor, and reopened by path. What is reopened must be
 * the same file: (dev, inode, size, mtime, ctime), else -ESTALE.
 *
 * Files are opened O_RDONLY | O_DIRECT where the file system takes it; never a FIFO,
 * device or directory. The pool is shared by threads (one lock, never held across a
 * system call that may block); a media_read belongs to a loop.
 */
#ifndef MEDIA_MEDIA_H
#define MEDIA_MEDIA_H

#include "../loop/io.h"
#include "../loop/loop.h"
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct media_pool;
struct media_file;

struct media_identity {
	uint64_t dev, inode, size_bytes;
	struct timespec mtime, ctime;
	uint64_t n_links;
};

enum media_file_flags {
	MEDIA_APPEND = 1, /* growth is no damage; times may change */
	MEDIA_HOLD = 2,   /* one descriptor is never given up */
};

int media_pool_create(unsigned max_open, bool buffered, struct media_pool **ret_pool);
void media_pool_destroy(struct media_pool *pool); /* no file may be left */
unsigned media_pool_n_open(const struct media_pool *pool);
uint64_t media_pool_bytes(const struct media_pool *pool); /* memory held by pool and files; for tests */
bool media_pool_check(struct media_pool *pool); /* do the invariants hold? Walks all that is open; for tests */

/* Opens, checks that it is a regular file, learns its identity. Path is copied. With path NULL,
 * fd is duplicated (reopened through /proc/self/fd for O_DIRECT where possible) and held.
 * Blocks. -EINVAL special file, -EISDIR, -EACCES, -ENOENT, -EMFILE, -EBADF, -ENOMEM. */
int media_file_open(struct media_pool *pool, const char *path, int fd, unsigned flags,
                    struct media_file **ret_file, struct quire_error *err);
void media_file_close(struct media_file *file); /* no read may be under way; NULL allowed */

const struct media_identity *media_file_identity(const struct media_file *file);
const char *media_file_name(const struct media_file *file); /* the path, or "fd N" */

/* What offset and memory must be aligned to, and by how much lengths are rounded up:
 * a power of two, 1 where buffered; never more than the page size, else the file is
 * opened buffered. */
uint32_t media_file_alignment(const struct media_file *file);

/* How far a read has come. Private. */
struct media_progress {
	uint32_t n_done_bytes;
	bool went_buffered; /* direct I/O was refused: tried without, once */
};

/* One read. Owned by the caller, still until done. */
struct media_read {
	struct media_file *file;  /* borrowed */
	uint64_t offset;          /* bytes, aligned to the page size */
	uint32_t len_bytes;       /* what is wanted; buf has room for it rounded up to a page */
	void *buf;                /* page aligned */
	int buffer_slot;          /* of loop_buffers_register, or -1 */
	bool independent;         /* waits for no other loop to open the file or to give a descriptor back:
	                           * at worst opens one of its own, whatever max_open says */
	void (*done)(struct media_read *read, int result); /* on the loop's thread */
	/* private */
	struct quire_loop *loop;
	struct media_read *next;
	struct media_progress progress;
	int result;
	int fd;
	bool own_fd;              /* fd is this read's alone */
	uint64_t completed_no;
	struct loop_task task;
	struct io io;
};

/* Opens the file if need be, reads, goes on after a short read; done() gets 0 when all of
 * len_bytes is there, -ESTALE if the file ended early or is another, or the error. Never blocks.
 * The descriptor stays in use (can't be given up) until media_read_finish. */
void media_read_start(struct quire_loop *loop, struct media_read *read);

/* After done(0): is the file still what it was when opened? One fstat answers for all reads
 * of the file, on any loop, that had completed before it: so for those of one turn it takes
 * one. 0, -ESTALE. */
int media_read_check(struct media_read *read);

/* Gives the descriptor back. After done(), whatever its result. */
void media_read_finish(struct media_read *read);

/* The same as start + check + finish, on this thread, blocking; no memory, no pool lock that
 * the interrupted code of this thread could hold (for fault handlers). */
int media_read_now(struct media_file *file, uint64_t offset, uint32_t len_bytes, void *buf);

/* Is the file still what it was when opened? One fstat. 0, -ESTALE; -EAGAIN: it is not open now. May be called where
 * media_read_now may. */
int media_file_check(struct media_file *file);

enum media_state {
	MEDIA_REPLACED = 1, /* the name leads to another file, or none */
	MEDIA_CHANGED = 2,  /* rewritten in place */
	MEDIA_TRUNCATED = 4,/* shorter than when opened */
	MEDIA_GREW = 8,
};

/* Looks at the file now: enum media_state bits, or a negative errno; the size now through
 * ret_size (may be NULL). Blocks on stat. */
int media_file_look(struct media_file *file, uint64_t *ret_size_bytes);

/* For MEDIA_APPEND: takes the size now as the file's size from here on. -ESTALE if it shrank. */
int media_file_extend(struct media_file *file, uint64_t *ret_size_bytes);

#endif
