/* export.h - a block device as the doors see it: what a server needs of whatever it serves.
 *
 * An export is made by whoever has the bytes (a file, memory, a volume), and is served by any number of connections at once.
 * Every function but those marked otherwise is called in a coroutine of a loop and may suspend it; nothing blocks the thread.
 * Calls come in any number at once and in any order. What they were asked for has been checked: it is not empty, no longer than
 * EXPORT_PAYLOAD_BYTES where bytes are carried, within the size that `describe` gave last, in whole smallest blocks, and no
 * change of an export that is read-only.
 *
 * Errors are negative errnos: -ENOSPC no room, -EIO and -EBADMSG for damage, -EINVAL the export has shrunk
 * meanwhile, -ENOMEM. -ENOTSUP only where it says so.
 */
#ifndef SERVE_EXPORT_H
#define SERVE_EXPORT_H

#include <quire/error.h>
#include <quire/loop.h>

struct quire_tmem_pool;

#define EXPORT_PAYLOAD_BYTES (32u << 20)
#define EXPORT_PIECES 16u

/* What an export can do; told to clients, so it stays as it is. */
enum export_flag {
	EXPORT_READ_ONLY = 1,
	EXPORT_TRIM = 2,
	EXPORT_ZERO = 4,
	EXPORT_FAST_ZERO = 8,  /* zero takes EXPORT_FAST */
	EXPORT_CACHE = 16,
	EXPORT_ROTATIONAL = 32,
};

struct export_description {
	uint64_t size_bytes;
	uint32_t least_block;     /* a power of two, up to 64 KiB: requests are multiples of it */
	uint32_t preferred_block; /* a power of two, at least 512 and the least */
	unsigned flags;           /* enum export_flag */
};

/* How a change is to be made. */
enum export_how {
	EXPORT_FUA = 1,     /* durable when it returns */
	EXPORT_NO_HOLE = 2, /* of zero: what is zeroed keeps, or gets, its room */
	EXPORT_FAST = 4,    /* of zero: -ENOTSUP and nothing changed, if it would take as long as writing */
};

/* Bytes of an export that are read where they lie. A piece whose bytes are NULL is zeros. */
struct export_piece {
	const void *bytes;
	uint32_t n_bytes;
};

struct export_loan {
	struct export_piece pieces[EXPORT_PIECES];
	unsigned n_pieces;
	void *held; /* the export's own */
};

/* What can be asked of ranges. */
enum export_context {
	EXPORT_ALLOCATION,   /* flags: 1 a hole, 2 zeros */
	EXPORT_DEPTH,        /* 0 nowhere, 1 in the export itself, 2 in what it was cloned from, and so on */
	EXPORT_SINCE,        /* flags: 1 changed since a generation */
};

struct export_extent {
	uint64_t n_bytes; /* not 0 */
	uint32_t flags;
};

struct export;

struct export_ops {
	/* Never suspends. */
	void (*describe)(struct export *e, struct export_description *ret);

	int (*read)(struct export *e, void *buf, uint64_t offset, uint32_t n_bytes);

	/* The same without a copy. The bytes stay there until given back, whatever happens to the export; they need not stay as they
	 * are. -ENOTSUP: to be read. NULL if always so. give_back never suspends. */
	int (*lend)(struct export *e, uint64_t offset, uint32_t n_bytes, struct export_loan *ret);
	void (*give_back)(struct export *e, struct export_loan *loan);

	/* Whole or not at all but for an error of the medium. how: EXPORT_FUA. */
	int (*write)(struct export *e, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how);

	/* What was written before the call, by whomever, is durable when it returns. */
	int (*flush)(struct export *e);

	/* NULL if the flags don't name them. n_bytes may be anything up to 4 GiB. trim is a hint. */
	int (*trim)(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how);
	int (*zero)(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how);
	int (*cache)(struct export *e, uint64_t offset, uint32_t n_bytes);

	/* Extents from offset on, one after the other, up to `most`, which may end before the range does, and may reach beyond it:
	 * their number, at least 1. generation: of EXPORT_SINCE. */
	int (*status)(struct export *e, enum export_context context, uint64_t generation, uint64_t offset, uint32_t n_bytes,
	              struct export_extent *ret, unsigned most);

	/* Which contexts there are, as bits 1 << enum export_context. Never suspends. */
	unsigned (*contexts)(struct export *e);

	/* May EXPORT_SINCE be asked of this generation? And which are there to be named: their number, up to n of them in ret. Never
	 * suspend. NULL if there is no such context. */
	bool (*has_generation)(struct export *e, uint64_t generation);
	unsigned (*generations)(struct export *e, uint64_t *ret, unsigned n);

	/* Nothing of it is under way. Outside of loops; may block. What was written is durable, or the error is returned. */
	int (*close)(struct export *e);
};

struct export {
	const struct export_ops *ops;
	char *name;        /* owned by the server: UTF-8 */
	char *description; /* owned by the server; NULL */
	unsigned n_users;  /* the server's: connections */
};

/* Memory, zeros at first, gone when it is closed. -EINVAL: 0 bytes, or more than 2^48; -ENOMEM. */
int export_ram_create(uint64_t size_bytes, struct export **ret_export, struct quire_error *err);

/* A regular file or a block device that is there already, as large as it is now; not followed if others make it larger, and
 * an error where they made it shorter. -EINVAL: neither of these; errors of open(2). */
int export_file_open(const char *path, bool read_only, struct export **ret_export, struct quire_error *err);

/* A disk that is a pool of pages, for swap; gone with the pool. pool: persistent, of pages of 4 KiB, its names used by nobody else;
 * borrowed until the export is closed. size_bytes: a multiple of 4 KiB, up to 2^48. -EINVAL: not so; -ENOMEM. */
int export_swap_open(struct quire_tmem_pool *pool, uint64_t size_bytes, struct export **ret_export, struct quire_error *err);

#endif
