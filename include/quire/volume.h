/* quire/volume.h - volumes: block devices in a store, with snapshots and clones.
 *
 * The volumes of a store that are in one class are a group, opened together: they share a log and the memory of their map. A
 * write is one record of that log (two, where a segment of it ends), which holds data and mapping; so it is durable with a single durable write, which
 * all share who wait for one at the time. What is read was verified against its checksum.
 *
 * Offsets and lengths are in bytes, any; the map knows blocks of QUIRE_VOLUME_BLOCK_BYTES, so a part of such a block is read,
 * changed and written as a whole, by itself: no other write to the block is lost. A block is never torn: it has its old content or the
 * new one. Larger writes may be there in part after a crash, unless they were durable.
 *
 * Generations. The group counts snapshots, clones and rollbacks; each block knows in which generation it was written.
 * What has changed since one is exact to the block, whatever crash was in between.
 *
 * Any thread may call any function here. Calls with an op follow quire/loop.h; the others say whether they block: then they suspend a
 * coroutine, block a plain thread, and are -EDEADLK in a loop's callback. In a forked child they are -ECHILD.
 */
#ifndef QUIRE_VOLUME_H
#define QUIRE_VOLUME_H

#include <quire/store.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_volumes; /* a group */
struct quire_volume;

#define QUIRE_VOLUME_BLOCK_BYTES 4096u
#define QUIRE_VOLUME_MAX_BYTES (UINT64_C(1) << 46) /* 64 TiB */
#define QUIRE_VOLUME_NAME_MAX 63 /* characters: A-Z a-z 0-9 . _ - and neither . nor - at the start; a snapshot's is VOLUME@NAME */

/* ---- groups ---- */

struct quire_volumes_options {
	size_t size;               /* sizeof(struct quire_volumes_options); 0 fields mean default */
	enum quire_class cls;      /* default: capacity */
	uint32_t segment_bytes;    /* when it is made: a power of two, 64 KiB to 1 GiB; default: at most 16 MiB, less in a small class */
	uint64_t map_bytes;        /* memory for the map, at most; counted in the cache's budget. Default 8 MiB, at least 256 KiB. It is one for all groups of
	                            * stores that are open with the same quire_cache; so who is first says how much. Besides: buffers of a few segments */
	uint64_t checkpoint_bytes; /* of the log that are read again after a crash, about; default 256 MiB */
	uint64_t cache_bytes;      /* memory for blocks that were read, at most, shared and counted likewise; never more than half of the budget,
	                            * which is the default. Less than 64 KiB: none are kept */
	bool existing;             /* none is made: -ENOENT */
};

/* Opens the group of a store's class, once at a time (-EBUSY); makes it if there is none. Reads the last checkpoint and the log behind it.
 * Blocks. opts may be NULL. -ENOENT: none, and the store is read-only, or only an existing one was asked for; -EBADMSG, -EUCLEAN: damage,
 * err says where; -ENOMEM, -ENOSPC. */
int quire_volumes_open(struct quire_store *store, const struct quire_volumes_options *opts,
                       struct quire_volumes **ret_volumes, struct quire_error *err);

/* Makes durable what was written, and closes. Blocks. -EBUSY, nothing changed: volumes are open, or calls under way. Another failure
 * is that of the write, and the handle is gone. NULL allowed. */
int quire_volumes_close(struct quire_volumes *volumes);

/* Makes a checkpoint now: what is read after a crash is little then, and space that was given up is free. Blocks. -EROFS; or why it could
 * not be made: it is tried again, as quire_volumes_stat says. */
int quire_volumes_checkpoint(struct quire_volumes *volumes);

struct quire_volumes_stat {
	uint64_t n_volumes, n_snapshots;
	uint64_t generation;
	uint64_t n_segments, live_bytes, allocated_bytes; /* live: of data and map pages that some volume or snapshot has */
	uint64_t n_checkpoints;                           /* since it was opened */
	uint64_t n_cleaned, moved_bytes;                  /* the same: segments of which what was live was moved; that */
	uint64_t map_cap_bytes, map_bytes;                /* memory of the map */
	uint64_t n_map_hits, n_map_misses;                /* of pages of the map, of all groups that share its memory */
	uint64_t cache_bytes, n_cache_hits, n_cache_misses; /* the same of blocks */
	uint64_t reclaimable_bytes;                       /* of allocated ones: in segments, and nobody has them any more; about */
	uint64_t reserved_bytes;                          /* promised to volumes, and not written yet */
	int error;            /* 0, or why there are no more writes */
	int checkpoint_error; /* of the last one, if it failed; it is tried again */
};
/* Returns 0. A snapshot, not atomic as a whole. Never blocks on storage. */
int quire_volumes_stat(struct quire_volumes *volumes, struct quire_volumes_stat *ret_stat);

/* ---- which volumes there are ---- */

struct quire_volume_options {
	size_t size;
	uint64_t size_bytes; /* a multiple of QUIRE_VOLUME_BLOCK_BYTES, to QUIRE_VOLUME_MAX_BYTES; 0, over a base: the base's, rounded up */
	bool durable;        /* every write is durable when it completes, as if QUIRE_VOLUME_FUA were given */
	bool reserve;        /* all of it can be written, whatever else is: -ENOSPC comes from what would take its space instead. Kept while
	                      * the group is open: others of the store may take, while it is not, what it has no segments for yet */
	/* What it lies over: one of these at most. What was never written reads as it is there; nothing is copied, and nothing written
	 * there. A file (its path is made absolute, at most 3072 bytes) and a blob of the store are read through the cache, which has each
	 * page once for all volumes of the group; they must stay as they are as long as anything lies over them. A file is known by its size,
	 * mtime and inode: see quire_volume_base. A volume or snapshot of the group: as quire_volume_clone, but
	 * for a larger size, and without `reserve` at once. */
	const char *over_file;
	uint64_t over_blob;
	const char *over_volume;
};

/* All of these block, and are durable when they return. -EINVAL: a name, a size; -EEXIST; -ENOENT; -ENOSPC; -EROFS; -EBUSY: it is
 * being received, or what is left of that (quire_volume_info.partial) is all that there is: only quire_volume_rm takes it. -EOVERFLOW: the
 * numbers, 32 bits of them, that volumes, snapshots and clones get, and are never given again, are at their end. */

/* An empty one: it reads as zeros, or as its base. Further errors of bases: -ENAMETOOLONG, -ESTALE: no such blob; and what opening them gives. */
int quire_volume_create(struct quire_volumes *volumes, const char *name, const struct quire_volume_options *opts);
/* Volumes or snapshots. What others have of it stays. -EBUSY: it is open; -ENOTEMPTY: it has snapshots. */
int quire_volume_rm(struct quire_volumes *volumes, const char *name);
/* The content of a volume as it is, with all writes that have completed. Takes the same time, whatever its size, and so do the next two. */
int quire_volume_snapshot(struct quire_volumes *volumes, const char *name, const char *snapshot);
/* A volume that begins with the content of another, or of a snapshot. */
int quire_volume_clone(struct quire_volumes *volumes, const char *from, const char *name);
/* A volume has the content of one of its snapshots again, and that one's size. It may be open. */
int quire_volume_rollback(struct quire_volumes *volumes, const char *name, const char *snapshot);
/* A clone gets the snapshots that it has in common with the volume it comes from, as its own: VOLUME@NAME is then CLONE@NAME, and that volume
 * is a clone of it. -EINVAL: no clone, or what it comes from is no more; -EEXIST: it has a snapshot of such a name. If there are very many they come a few
 * at a time; after a failure the call may be made again. */
int quire_volume_promote(struct quire_volumes *volumes, const char *name);
/* Space for all of a volume is kept for it, or no more: quire_volume_options.reserve. A snapshot of such a volume needs as much again as it has
 * written, and a clone of it has none kept. It may be open. */
int quire_volume_reserve(struct quire_volumes *volumes, const char *name, bool reserve);
/* What is beyond a smaller size is gone, and zeros if it grows again. It may be open. */
int quire_volume_resize(struct quire_volumes *volumes, const char *name, uint64_t size_bytes);

struct quire_volume_info {
	uint32_t id;
	char name[2 * QUIRE_VOLUME_NAME_MAX + 2];
	uint64_t size_bytes;
	uint64_t generation; /* of a snapshot: what was written in it or before is in it; else when it was made */
	uint32_t origin;     /* id: of a snapshot's volume; of what it is a clone of; 0: neither. It may be no more */
	bool snapshot, durable, open, reserve;
	bool over;    /* a file or a blob: see quire_volume_base */
	bool partial; /* it is being received, or that was cut off: it can't be opened, only removed */
};

/* The volume or snapshot of the lowest id above `after`: 1; or 0: there is none. Never blocks. */
int quire_volume_ls(struct quire_volumes *volumes, uint32_t after, struct quire_volume_info *ret_info);
/* The same of one name. -ENOENT. Never blocks. */
int quire_volume_find(struct quire_volumes *volumes, const char *name, struct quire_volume_info *ret_info);

struct quire_volume_stat {
	uint64_t size_bytes;
	uint64_t unique_bytes;   /* of data that nobody else has: free if it is removed */
	uint64_t shared_bytes;   /* of data that snapshots, clones or what it comes from have, too */
	uint64_t reserved_bytes; /* promised to it, and not written yet */
};
/* Of a volume or a snapshot. Exact after a checkpoint; until then what was overwritten since may be counted still. Blocks. Of a volume
 * it costs nothing; for a snapshot, the map's pages that it has not in common with others are walked through. -ENOENT; errors of
 * these pages. */
int quire_volume_stat(struct quire_volumes *volumes, const char *name, struct quire_volume_stat *ret_stat);

enum quire_volume_base_kind {
	QUIRE_VOLUME_BASE_NONE = 0,
	QUIRE_VOLUME_BASE_FILE = 1,
	QUIRE_VOLUME_BASE_BLOB = 2,
};
struct quire_volume_base {
	enum quire_volume_base_kind kind;
	uint64_t size_bytes; /* of it, that can be read through the volume */
	uint64_t blob;
	char path[3073];
};
/* What a volume or snapshot lies over, in the end; and whether that is as it was when the volume was made: if not, this is the error
 * that opening it gives, and err says what is other. ret_base is filled then, too. -ENOENT: no such volume; -EUCLEAN, and errors of the map's
 * pages: what it lies over can't be told. Blocks. */
int quire_volume_base(struct quire_volumes *volumes, const char *name, struct quire_volume_base *ret_base, struct quire_error *err);

/* ---- open ---- */

/* A volume, or a snapshot, which can only be read. Any number of handles at once. Never blocks, unless it lies over a file or blob.
 * -ENOENT; -ENOMEM; -EBUSY: it is being received; of a base, what opening it gives; -ESTALE: that has changed. */
int quire_volume_open(struct quire_volumes *volumes, const char *name, struct quire_volume **ret_volume);
/* No call of it may be under way. NULL allowed. Writes nothing, so what was not flushed is as durable as before. Never blocks on storage. */
void quire_volume_close(struct quire_volume *volume);
/* Its size as it is now. Never blocks. 0 in a forked child. */
uint64_t quire_volume_bytes(struct quire_volume *volume);

/* ---- blocks ---- */

enum quire_volume_flags {
	QUIRE_VOLUME_FUA = 1,     /* durable when it completes */
	QUIRE_VOLUME_NO_HOLE = 2, /* zeros that are not told as a hole */
};

/* Complete with 0. -EINVAL: beyond the end; -EROFS: a snapshot, or a read-only store; -ENOSPC: so far it went, block by block, and
 * goes on when there is space (who finds none waits for cleaning first); -EBADMSG: a block, or the map that leads to it, is damaged; -EIO; -ENOMEM; the
 * log's error. iov, its array and its bytes are borrowed until then, and may not change. */
int quire_volume_read(struct quire_volume *volume, uint64_t offset, const struct iovec *iov, unsigned n, struct quire_op *op);
int quire_volume_write(struct quire_volume *volume, uint64_t offset, const struct iovec *iov, unsigned n, unsigned flags,
                       struct quire_op *op);
/* Reads as zeros from then on; takes the same time for any whole blocks. */
int quire_volume_zero(struct quire_volume *volume, uint64_t offset, uint64_t len_bytes, unsigned flags, struct quire_op *op);
/* The same, but for parts of blocks at the ends, which stay as they are. */
int quire_volume_discard(struct quire_volume *volume, uint64_t offset, uint64_t len_bytes, unsigned flags, struct quire_op *op);
/* Every write that completed before the call, to any volume of the group, is durable. */
int quire_volume_flush(struct quire_volume *volume, struct quire_op *op);

enum quire_volume_kind {
	QUIRE_VOLUME_HOLE = 0, /* reads as zeros; takes no space */
	QUIRE_VOLUME_ZERO = 1, /* reads as zeros */
	QUIRE_VOLUME_DATA = 2,
};
struct quire_volume_extent {
	uint64_t offset, len_bytes;
	enum quire_volume_kind kind;
	bool shared;         /* it was there before the last snapshot, or comes from what this is a clone of, or lies over */
	uint64_t generation; /* in which it was written; 0: never: a hole, or data of the base */
};
/* What blocks are, from offset on, in order without gaps: up to n extents, the last of which ends at offset + len_bytes if they are
 * enough. Completes with their number. since: what was written in that generation or before may be told as a hole of generation
 * 0, at less cost; 0: nothing is. -ESTALE: that generation was left by a rollback. */
int64_t quire_volume_status(struct quire_volume *volume, uint64_t offset, uint64_t len_bytes, uint64_t since,
                            struct quire_volume_extent *ret, unsigned n, struct quire_op *op);

/* ---- scrubbing ---- */

typedef void (*quire_volume_damage_fn)(void *arg, uint64_t offset, uint64_t len_bytes, int error);

struct quire_volume_scrub {
	size_t size;
	uint64_t offset, len_bytes;    /* len_bytes 0: all from offset on */
	uint64_t bytes_per_second;     /* at most, about; 0: as fast as it goes */
	/* Both are called by whoever scrubs; NULL allowed. damaged: what can't be read, in order; -EBADMSG: it is not what was
	 * written, or the map that leads there is not; -EIO and others: as the medium says. progress: a negative return ends it. */
	quire_volume_damage_fn damaged;
	quire_progress_fn progress;
	void *arg;
};
/* Reads all that a volume or a snapshot has, and holds it against its checksums, while it is in use. Blocks. How many bytes are
 * damaged; an error that is not of damage; what progress returned. */
int64_t quire_volume_scrub(struct quire_volume *volume, const struct quire_volume_scrub *scrub);

/* ---- what has changed ---- */

struct quire_volume_diff;

/* Begins to tell what of `to` is other than in `from`: each block that was written (zeroed, discarded) in either since they had the same
 * content last, and no other, also after crashes. Any two volumes or snapshots of a group; if neither comes from what the other
 * comes from, all that is not a hole in both. from NULL: what was written in `to` after generation `since`, as quire_volume_status
 * knows it (0: all that it has); else since must be 0. Both stay open until the end. Of a volume that is written to meanwhile, each part is
 * told as it is when its turn comes. -EINVAL: of two groups; -ESTALE: a rollback left that generation; -ENOMEM. Never blocks. */
int quire_volume_diff_begin(struct quire_volume *from, struct quire_volume *to, uint64_t since, struct quire_volume_diff **ret_diff);
/* The next up to n extents, in order, to the end of `to`, as they are in `to`: their number; 0: there are no more. What is the same is
 * passed over without being read. -ESTALE: a rollback has left that generation since; errors of the map's pages: it may be asked again then.
 * Blocks. One call at a time. */
int64_t quire_volume_diff_next(struct quire_volume_diff *diff, struct quire_volume_extent *ret, unsigned n);
/* Goes on at that offset. Never blocks. */
void quire_volume_diff_seek(struct quire_volume_diff *diff, uint64_t offset);
/* NULL allowed. */
void quire_volume_diff_end(struct quire_volume_diff *diff);

/* ---- from store to store ---- */

#define QUIRE_VOLUME_TOKEN_BYTES 256u

struct quire_volume_send_options {
	size_t size;
	struct quire_volume *from; /* a snapshot: only what is other than there; the receiver must have it */
	const char *resume;        /* what quire_volume_receive_token gave: the rest of what it has not yet; from as for the first time */
};
/* Takes bytes of a stream, all of them: 0, or a negative errno, which ends it. It may block, or suspend its coroutine. */
typedef int (*quire_volume_put_fn)(void *arg, const void *bytes, size_t len_bytes);
/* Gives up to len_bytes of a stream: how many; 0: there are no more; a negative errno. The same. */
typedef int64_t (*quire_volume_get_fn)(void *arg, void *bytes, size_t len_bytes);

/* The content of a snapshot as a stream (docs/format.md), which has checksums throughout. Blocks. -EINVAL: not a snapshot; -ESTALE: the token is of
 * another stream; -EBADMSG: it is none, or a block is damaged; what put said. opts may be NULL. */
int quire_volume_send(struct quire_volume *snapshot, const struct quire_volume_send_options *opts, quire_volume_put_fn put, void *arg,
                      struct quire_error *err);

struct quire_volume_receive_options {
	size_t size;
	const char *snapshot; /* its name in the volume; NULL: as it was where it comes from */
	bool drop;            /* what was written to the volume since the snapshot that the stream goes on from is given up */
};
/* Makes the snapshot that a stream is of: name@SNAPSHOT, with the volume `name`, which then has that content. A whole stream makes the volume
 * (-EEXIST: it is there); an incremental one needs the snapshot that it goes on from to be one of the volume's (-ESTALE: it is not), wherever
 * both came from, and nothing written to the volume since (-EBUSY: something was, or it is open). Nothing is to be seen of it until the
 * stream has come to its end; all is durable when this returns 0. Until then what has come is kept, and the same stream, or one that was
 * resumed, goes on from there; quire_volume_rm of it (quire_volume_ls: partial) drops that. -EEXIST also: of another stream is something left.
 * -EPIPE: the stream was cut off; -EBADMSG: it is damaged; -EUCLEAN: no stream, or an impossible one; -ENOTSUP: of a later version;
 * -ENOSPC; -EROFS; what get said. A stream is read to its end and no further. Blocks. opts may be NULL. */
int quire_volume_receive(struct quire_volumes *volumes, const char *name, const struct quire_volume_receive_options *opts,
                         quire_volume_get_fn get, void *arg, struct quire_error *err);
/* Of what was cut off: a text for who sends it, of what and from where. -ENOENT: nothing was; -EBUSY: it is being received. Blocks. */
int quire_volume_receive_token(struct quire_volumes *volumes, const char *name, char ret_token[QUIRE_VOLUME_TOKEN_BYTES]);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
