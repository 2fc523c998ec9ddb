/* quire/blob.h - write-once objects of 0 bytes to many GiB.
 *
 * alloc → write, in order, any number of times → commit (or abort). From then on a blob never changes and never
 * moves, until it is deleted. Ids are never used again: that of a deleted blob, or of one that was
 * not committed when the process died, gives -ESTALE for ever.
 *
 * Calls with an op run in a coroutine of its home loop and can't be cancelled. Memory that they are given must
 * not lie in a map, unless it is pinned.
 *
 * Each 4 KiB has a checksum, verified on every read and every fill of a map.
 */
#ifndef QUIRE_BLOB_H
#define QUIRE_BLOB_H

#include <quire/store.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_blob_hints {
	size_t size;
	enum quire_class cls;     /* -ENOENT if the store has no such class */
	uint64_t expected_bytes;  /* reserved at once, so that writes up to it can't fail for space; 0: as they come */
	unsigned page_shift;      /* wish for maps: 12, 14, 16, 21; 0: by length */
	uint8_t tag;              /* a mark of the owner's, kept in the catalogue: quire_blob_list_tagged finds by it.
	                           * 255 is the store's: -EINVAL. `quire import` uses 0x49 and 0x50, quire_tmem_pool_save 0x74 */
};

/* Begins a blob. hints may be NULL. -ENOSPC: what is expected is not there (nothing was promised); -EROFS; -EINVAL: a hint
 * out of its range. May wait for space that is on its way back: blocks, in a coroutine suspends. */
int quire_blob_alloc(struct quire_store *store, const struct quire_blob_hints *hints, uint64_t *ret_id);

/* Appends; the bytes are copied or written before it completes. One write of a blob at a time: -EBUSY. iov
 * is borrowed until completion. -EROFS (committed), -ENOSPC (nothing of this write is kept), -ESTALE. */
int quire_blob_write(struct quire_store *store, uint64_t id, const struct iovec *iov, unsigned n,
                     struct quire_op *op);

/* One transaction: n_commit blobs appear and n_remove blobs disappear, durably, all or none. Arrays are
 * borrowed until completion. -EROFS (one to appear is committed), -EAGAIN (one to disappear is not), -ESTALE (one is dead or
 * unknown), -EBUSY (one is being written), -EINVAL (one is named twice), -EMSGSIZE (too many for one transaction: over 4,096
 * blobs, or less in a store of less than 4 GiB), -ENOSPC (for the transaction's record, or the end of a blob). */
int quire_blob_apply(struct quire_store *store, const uint64_t *commit, unsigned n_commit,
                     const uint64_t *remove, unsigned n_remove, struct quire_op *op);
/* Only the one half of it. */
int quire_blob_commit(struct quire_store *store, const uint64_t *ids, unsigned n, struct quire_op *op);

/* Deletes committed blobs: the other half, with its errors. Maps of them go on; their space returns, discarded, with the last. */
int quire_blob_delete(struct quire_store *store, const uint64_t *ids, unsigned n, struct quire_op *op);

/* Gives up a blob that is not committed. -EROFS if it is; -EBUSY while it is written; -ESTALE. Never blocks on storage. */
int quire_blob_abort(struct quire_store *store, uint64_t id);

/* Reads up to the sum of iov from offset; completes with the count, short only at the end; 0 behind it.
 * Any alignment; where offset and memory are multiples of 4 KiB, nothing is copied, and at the
 * end of the blob what is left of a page may be zeroed. -EBADMSG
 * (op->error_offset), -EIO, -ESTALE. Committed blobs only: -EAGAIN before. */
int64_t quire_blob_read(struct quire_store *store, uint64_t id, uint64_t offset, const struct iovec *iov,
                    unsigned n, struct quire_op *op);

struct quire_blob_props {
	uint64_t id;
	uint64_t len_bytes;
	uint64_t allocated_bytes; /* checksums included */
	enum quire_class cls;
	unsigned page_shift;
	uint8_t tag;
	bool committed;
	unsigned n_extents;
	unsigned n_users; /* maps of it, and reads under way */
};
/* Also of one that is not committed yet. -ESTALE. */
int quire_blob_props(struct quire_store *store, uint64_t id, struct quire_blob_props *ret_props);

/* Ids of committed blobs greater than `after`, ascending, up to n; returns how many. Never blocks on storage. */
int quire_blob_list(struct quire_store *store, uint64_t after, uint64_t *ret_ids, unsigned n);
/* The same, of those with that tag. Looks at every entry of the catalogue's index, in memory: some 10 ns each. */
int quire_blob_list_tagged(struct quire_store *store, uint8_t tag, uint64_t after, uint64_t *ret_ids, unsigned n);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
