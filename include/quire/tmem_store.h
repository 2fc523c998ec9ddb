/* quire/tmem_store.h - pools of pages and a store: contents that leave memory for it, and pools that are saved in it.
 *
 * What outlives what:
 *   a page in a pool, in memory or spilled   nothing: it is gone with the tmem, whatever ended it
 *   a saved image                            everything that the store's blobs outlive, power included, from the moment
 *                                            quire_tmem_pool_save has returned 0; before, the one saved earlier is there, whole
 */
#ifndef QUIRE_TMEM_STORE_H
#define QUIRE_TMEM_STORE_H

#include <quire/store.h>
#include <quire/tmem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- spilling ---- */

struct quire_tmem_backing_options {
	size_t size;
	uint32_t segment_bytes;   /* space is taken from the class by so many: 256 KiB to 64 MiB, a multiple of 4 KiB; default 4 MiB */
	uint32_t page_most_bytes; /* of pools that spill, 4 KiB (default) to 2 MiB: memory of twice that, 128 KiB at least, is held to write them */
	uint64_t most_bytes;      /* of the class; default: all of it */
};

/* Pools with QUIRE_TMEM_SPILL, which there may be already, have the oldest of their contents leave memory for that class, where a cap
 * or the budget would refuse a put or a smaller limit; oldest: put, or read from memory, longest ago. They go as they are, compressed, many by
 * one write; some 40 bytes of each stay. A get reads such a page by one I/O and leaves it there, unless it takes it. Nothing is
 * lost: a put that can't have room (-EIO, or no space in the class) is -ENOSPC; a get of a page that can't be read is -EIO, of one that is
 * damaged -EBADMSG, and the page stays until it is flushed. Space of what was flushed is used again: of the class is taken at most
 * about twice what is spilled, and a few segments. A get of a spilled page charges the buffer that it is read to, two blocks of 4 KiB beside the page at
 * most, even if that passes the budget for a moment.
 *
 * So a put into such a pool, a get from it, a smaller cap and quire_tmem_set_budget may block on I/O, or suspend the coroutine they are in. In a
 * loop's callback a put doesn't, and is refused sooner; a get that would have to is -EDEADLK. A batch with an op does all that on the tmem's threads.
 * None of them may be called where the store can't be waited for: under a lock of the caller's that its own I/O needs.
 * Such pools share contents only with such pools. Regions over such a pool (quire/anon.h) wait on the library's own thread.
 *
 * The store stays open until quire_tmem_clear_backing, or the tmem's end (quire_store_close is -EBUSY). One at a time: -EBUSY. -ENOENT:
 * no such class; -EINVAL; -ENOMEM: buffers, which are charged to the budget; -EROFS. */
int quire_tmem_set_backing(struct quire_tmem *tmem, struct quire_store *store, enum quire_class cls,
                           const struct quire_tmem_backing_options *opts, struct quire_error *err);
/* -EBUSY: pages are there: flush them, or destroy their pools; -ENOENT: there is none. */
int quire_tmem_clear_backing(struct quire_tmem *tmem);

/* ---- saved pools ---- */

/* Writes what a persistent pool holds into a blob of the class, which takes the place of the image saved by that name before (1 to 63
 * bytes), at once and durably. Contents are written compressed, as they are (what zstd packed, by LZ4); one that pages share, once. Calls on the pool go on meanwhile: the
 * image is of one moment, shortly before it is complete. Where others put and flush faster than it is written, that moment may not
 * come (-EOVERFLOW: as of quire_tmem_copy_next): freeze the pool. On any failure what was saved before is there.
 * -EBADMSG, -EIO: a page of the pool can't be read, so it can't be saved; -EIO also where it can't be read whether an image that is there has the
 * name (one that is damaged is left alone); -EBUSY: the pool is being copied; -EINVAL: name, or an
 * ephemeral pool; -ENOSPC, -EIO, …: the store's. One save of a name at a time. Blocks or suspends; -EDEADLK in a loop's callback. */
int quire_tmem_pool_save(struct quire_tmem_pool *pool, struct quire_store *store, enum quire_class cls, const char *name,
                         struct quire_error *err);

/* Makes a pool of what was saved by that name: as it was, or by opts (NULL: as it was; of the same kind and page_bytes). All or nothing.
 * The image stays. -ENOENT: there is none; -EBADMSG, -EUCLEAN: it is damaged, err says where; -ENOTSUP: of a newer library; -ENOSPC: budget or cap
 * don't suffice; -EEXIST: its uuid is another shared pool's; as of quire_tmem_pool_create. Blocks or suspends; -EDEADLK. */
int quire_tmem_pool_restore(struct quire_tmem *tmem, struct quire_store *store, const char *name,
                            const struct quire_tmem_pool_options *opts, struct quire_tmem_pool **ret_pool,
                            struct quire_error *err);

/* Removes the image; durable when it returns. -ENOENT. Blocks or suspends; -EDEADLK. */
int quire_tmem_pool_forget(struct quire_store *store, const char *name);

/* The blobs of images have this tag (quire/blob.h). */
#define QUIRE_TMEM_IMAGE_TAG 0x74u

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
