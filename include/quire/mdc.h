/* quire/mdc.h - metadata containers: small append-only sets of records with crash-safe compaction, as in mpool.
 *
 * Two logs, of which one is active. Records come back in the order of their append. cstart begins a
 * compaction: the caller appends what is still live; cend makes that the container's content, at once. A crash
 * in between leaves the content of before cstart.
 *
 * A container handle may be used from any thread; one compaction at a time, and what is appended during it
 * must be part of it.
 */
#ifndef QUIRE_MDC_H
#define QUIRE_MDC_H

#include <quire/store.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_mdc;

/* Makes a container that holds up to capacity_bytes of records in a class; durable when it returns.
 * Its space is taken at once: -ENOSPC; -EINVAL: too large; -ENOENT: no such class; -EROFS. Blocks; in a coroutine suspends. */
int quire_mdc_create(struct quire_store *store, enum quire_class cls, uint64_t capacity_bytes, uint64_t *ret_id);
/* It is gone when this returns, durably, and its space comes back. -EBUSY while open; -ESTALE: no such container; -EROFS. Blocks; in a coroutine
 * suspends. */
int quire_mdc_destroy(struct quire_store *store, uint64_t id);

/* Opens it; fn (may be NULL) gets each record in order; what it returns but 0 ends the call with that, if negative,
 * or -ECANCELED. One handle at a time: -EBUSY. -ESTALE: no such container; -EBADMSG, -EUCLEAN, -EIO: its logs can't be read. Blocks; in a
 * coroutine suspends. A record is borrowed during the call of fn, which runs on the caller's thread. */
typedef int (*quire_mdc_record_fn)(void *arg, const void *record, size_t len_bytes);
int quire_mdc_open(struct quire_store *store, uint64_t id, quire_mdc_record_fn fn, void *arg,
                   struct quire_mdc **ret_mdc, struct quire_error *err);
/* Makes durable what was appended, unless a compaction is under way: that is given up. -EBUSY while calls are
 * under way; another failure is the sync's, and the handle is gone. NULL allowed. Blocks; in a coroutine suspends. */
int quire_mdc_close(struct quire_mdc *mdc);

/* sync: durable when it returns; else after the next quire_mdc_sync. -EFBIG: the container is full: compact, or
 * make a larger one. -EMSGSIZE: more than quire_mdc_max_record. -EROFS: the store is open read-only. What a write of it failed with,
 * here and in all calls after it that write. Suspends or blocks. */
int quire_mdc_append(struct quire_mdc *mdc, const void *record, size_t len_bytes, bool sync);
/* All that was appended before is durable when it completes with 0. What a write has failed with, here or before; -EROFS. Without op it blocks. */
int quire_mdc_sync(struct quire_mdc *mdc, struct quire_op *op);
/* Bytes of one record at most. */
size_t quire_mdc_max_record(const struct quire_mdc *mdc);

/* All records again, from the first; errors and fn as of quire_mdc_open. */
int quire_mdc_read(struct quire_mdc *mdc, quire_mdc_record_fn fn, void *arg);

/* Begins a compaction. -EBUSY if one is under way; -EFBIG: no room for it. Like the next two it blocks; in a coroutine suspends; and is -EROFS
 * where the store is open read-only. */
int quire_mdc_cstart(struct quire_mdc *mdc);
/* -EINVAL without cstart; -EFBIG: no room, the compaction is open still. */
int quire_mdc_cend(struct quire_mdc *mdc);

/* Gives it up: the content is that of before cstart. -EINVAL without cstart. */
int quire_mdc_cabort(struct quire_mdc *mdc);

struct quire_mdc_usage {
	uint64_t capacity_bytes, used_bytes, allocated_bytes, n_records;
};
/* Of the active log. Returns 0. Never blocks on storage. */
int quire_mdc_usage(struct quire_mdc *mdc, struct quire_mdc_usage *ret_usage);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
