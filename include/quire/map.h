/* quire/map.h - one contiguous range of memory over any number of files and blobs.
 *
 *   base ─┬─ item 0 ─┬─ item 1 ─┬─ … each item starts on a page boundary
 *
 * Memory of a map is read-only. A page that is not resident appears when it is
 * touched (see enum quire_fault) or wanted. Bytes behind an item's end, up to the
 * end of its last page, are zero (but for QUIRE_FAULT_KERNEL, what the file holds there);
 * touching what belongs to no item is SIGBUS.
 *
 * Any thread may call any function here. `want`, `unwant`, `resident` never block
 * on storage when given an op.
 *
 * (Pages are put there by userfaultfd: Documentation/admin-guide/mm/userfaultfd.rst of Linux. One call for a collection of objects: mcache
 * maps of Micron's mpool.)
 */
#ifndef QUIRE_MAP_H
#define QUIRE_MAP_H

#include <quire/cache.h>
#include <quire/loop.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_map;

enum quire_item_flags {
	QUIRE_ITEM_APPEND = 1, /* the file may grow: bytes below its length at map time are stable */
	QUIRE_ITEM_HOLD = 2,   /* keep a descriptor: the old inode stays readable after a rename over it */
};

struct quire_store;

/* A file, a blob, or a range of one. If store is not NULL: its blob of that id, which is committed; path, fd, flags
 * and fill are not looked at and must be 0 (fd: or -1). Each page of a blob is verified against its checksum before
 * it appears; the blob may be deleted while mapped, its space returns with the last map. Else path or fd: if
 * path is NULL, fd is used. The library takes its own duplicate of fd; strings are copied. */
struct quire_item {
	struct quire_store *store; /* borrowed: until the map is destroyed; opened with the map's cache */
	uint64_t blob;
	const char *path;
	int fd;
	uint32_t flags;        /* enum quire_item_flags */
	uint64_t offset;       /* bytes; a multiple of the page size */
	uint64_t len_bytes;    /* 0: to the end of the file */
	uint64_t reserve_bytes;/* with APPEND: address space for growth, at least the length */
	quire_fill_fn fill;    /* NULL: pages are taken as they are, and reported as unverified */
	void *fill_arg;        /* borrowed: until the map is destroyed */
	size_t page_bytes;     /* enum quire_page_bytes; 0: a blob's own; or by length */
};

/* What of an item comes and leaves together. The residency table's words, and want and pin, stay by the system's page;
 * where that is larger it is the least. By length: items of at most 64 KiB come whole, longer ones have 4 KiB. A file of QUIRE_ITEM_APPEND has the system's page, whatever was asked for; one with a
 * fill hook at most 64 KiB; so have all where pages of 2 MiB can't be: with PINNED, without UFFDIO_MOVE, in a
 * budget of less than eight of them. quire_map_item_page_bytes tells what became of it.
 *
 * Larger pages make loads of resident data faster (2 MiB: one TLB entry, a quarter less time for a random load) and
 * scattered cold ones slower: each brings a page. A page of 2 MiB is there as a whole or, where the item ends, or memory
 * is short, in parts of 64 KiB. A map with an item of 2 MiB pages lies in writable memory, since the kernel moves
 * pages only there: a stray write to it is not trapped, and the cache then holds what was written. */
enum quire_page_bytes {
	QUIRE_PAGE_4K = 4096,
	QUIRE_PAGE_16K = 16384,
	QUIRE_PAGE_64K = 65536,
	QUIRE_PAGE_2M = 2097152,
};

/* Who serves a raw load that finds its page cold. */
enum quire_fault {
	QUIRE_FAULT_AUTO = 0, /* SERVICE where userfaultfd is to be had; else KERNEL, or PINNED if there are blobs */
	QUIRE_FAULT_SERVICE,  /* the library's service thread; system calls too, where the kernel allows it */
	QUIRE_FAULT_SIGNAL,   /* the faulting thread, in a SIGBUS handler; system calls get EFAULT. In a
	                       * coroutine of a loop with suspend_faults: only that coroutine waits.
	                       * Such a load must not be done while holding a lock that another
	                       * coroutine of the loop may ask for (stdio's included), and what
	                       * coroutines share must be volatile or atomic across it: the compiler
	                       * knows of no call there, and may keep it in a register. */
	QUIRE_FAULT_KERNEL,   /* the kernel: plain mmaps, one VMA an item; the budget is advisory; no blobs */
	QUIRE_FAULT_PINNED,   /* nobody: only pages wanted with QUIRE_WANT_PIN may be touched,
	                       * others read as zeros; budget and checks hold in full */
};

struct quire_map_options {
	size_t size; /* sizeof(struct quire_map_options); 0 fields mean default */
	enum quire_fault fault;
	const char *warm_path; /* copied; NULL: none. A file of this map's own, in which its hot pages are listed: read
	                        * when the map is made, and its pages asked for in the background; written anew
	                        * when it is destroyed. A hint: what is listed of an item that has changed, or of another in
	                        * its place, is passed over. Not for QUIRE_FAULT_KERNEL. */
	unsigned warm_seconds; /* the list is also written as often as this; 0: never but at the end */
	unsigned warm_share;   /* percent of a loop's depth that may be under way for the list; default 25. Taken
	                        * is memory that is free, up to nine tenths of it. */
};

/* Maps n items (0 allowed). opts may be NULL. Blocks on open and stat of each file.
 * All or nothing: on error nothing is mapped and err names the item.
 * -ENOENT, -EACCES, -EISDIR, -EINVAL (special files, range past the end, a store of another cache), -ESTALE (no
 * such blob), -EAGAIN (not committed yet), -ENOMEM (arena full, budget), -ENOTSUP (this kind of fault service). */
int quire_map_create(struct quire_cache *cache, const struct quire_item *items, size_t n_items,
                     const struct quire_map_options *opts, struct quire_map **ret_map,
                     struct quire_error *err);

/* Ends the map. Operations under way end with -ECANCELED first. -EBUSY, nothing
 * changed, while pages are pinned, also by a want that is still under way. With an op:
 * completes when all is gone. The pointer is dead once the call was accepted. With a
 * warm_path the list is written first (and a list that is still being asked for stays as it is). */
int quire_map_destroy(struct quire_map *map, struct quire_op *op);

/* The whole range, and how it was made. None of these fails. */
const void *quire_map_base(const struct quire_map *map);
size_t quire_map_bytes(const struct quire_map *map);
size_t quire_map_n_items(const struct quire_map *map);
enum quire_fault quire_map_fault(const struct quire_map *map);

/* Where an item lies. -EINVAL for an index out of range. Length 0 is possible. */
int quire_map_item(const struct quire_map *map, size_t index, const void **ret_ptr, size_t *ret_len);

/* Bytes of the item's pages, as they are. 0: an index out of range. */
size_t quire_map_item_page_bytes(const struct quire_map *map, size_t index);

enum quire_item_state {
	QUIRE_ITEM_VERIFIED = 1, /* a blob, or pages pass the owner's fill hook */
	QUIRE_ITEM_REPLACED = 2, /* another file has the name, or none */
	QUIRE_ITEM_CHANGED = 4,  /* rewritten in place: cold pages give ESTALE */
	QUIRE_ITEM_TRUNCATED = 8,/* shorter than mapped: cold pages give ESTALE */
	QUIRE_ITEM_FAILED = 16,  /* the medium failed at least once */
};

/* Looks at the file now (one stat; may block). Returns enum quire_item_state bits, or -EINVAL: no such item; or why the file
 * can't be looked at. */
int quire_map_item_state(struct quire_map *map, size_t index);

/* The last error of a page of the item: code 0 if there was none, else its errno, and a text that names file, or
 * blob and class, and offset (of a file, where several pages were read at once: of the first). -EINVAL: no such item. Never blocks. */
int quire_map_item_error(const struct quire_map *map, size_t index, struct quire_error *ret_err);

/* For an APPEND item: maps what the file has grown by, up to reserve_bytes. Returns
 * 0 and the new length. -ENOSPC: the reserve is full (mapped up to it). -EBUSY: the
 * last partial page is pinned; nothing changed. -EINVAL: no such item, or not APPEND. -ESTALE: it was
 * replaced, rewritten or cut off. -ENOMEM. Blocks on one stat. */
int quire_map_extend(struct quire_map *map, size_t index, size_t *ret_len);

/* ---- residency ---- */

/* The residency table: one word a page of the map, from base on; a page is resident
 * if (word & QUIRE_RESIDENT). Loads need no lock and no ordering. A hint, unless the
 * page is pinned. NULL for QUIRE_FAULT_KERNEL. Valid until destroy. */
const uint32_t *quire_map_residency(const struct quire_map *map);
unsigned quire_map_page_shift(const struct quire_map *map); /* log2 of the page size */

/* True if every page of the range is resident now. Never blocks. */
bool quire_map_resident(const struct quire_map *map, const void *addr, size_t len_bytes);

/* ---- asking for pages ---- */

enum quire_want_flags {
	QUIRE_WANT_PIN = 1, /* resident until unwant */
};

/* Asks that every page of n ranges be resident. Completes with 0 when each was, or
 * with the first error (op->error_item, op->error_offset). Without PIN a page may
 * leave again at any time; a load then faults. ranges need not be aligned; with an op
 * and n > 1 the array is borrowed until completion, and may not lie in a map. An empty range asks for nothing.
 * A range longer than the budget is read through: its last pages are there in the end, up to 1 MiB is under way at any time
 * (of pages of 2 MiB, three beside the one that is waited for),
 * and used pages of others stay as long as their use says.
 * -EFAULT: a range outside the map or wrapped. -ENOMEM: more pins than the budget
 * has room for. -EDEADLK, with op == NULL: in a loop's callback, or where a page is being brought by a loop that
 * this thread embeds. Errors of pages: -EIO, -EBADMSG, -ESTALE, whatever the hook said. */
int quire_map_want(struct quire_map *map, const struct iovec *ranges, unsigned n,
                   unsigned flags, struct quire_op *op);

/* Takes back one PIN of the same ranges. -EINVAL, nothing changed, if one of the
 * pages is not pinned; -EINVAL as well if ranges that overlap ask for more pins than
 * a page has, and then it has none left. Never blocks. */
int quire_map_unwant(struct quire_map *map, const struct iovec *ranges, unsigned n);

enum quire_advice {
	QUIRE_ADVISE_WARM = 0, /* the default */
	QUIRE_ADVISE_COLD,     /* resident pages are the next to leave */
	QUIRE_ADVISE_HOT,      /* leave last */
	QUIRE_ADVISE_PINNED,   /* read now, and never leave; blocks, or use want with PIN */
};

/* For a whole item. PINNED obeys the rules of want with PIN; any other advice
 * takes such a pin back. -EINVAL: no such item or advice. -EBUSY while another call of PINNED for the item is under way. */
int quire_map_advise(struct quire_map *map, size_t index, enum quire_advice advice);

/* How an item is going to be read. Whoever reads in order, by loads or by wants, is found out by the
 * cache at his third access and has up to 2 MiB (of a small budget, a 64th; of pages of 2 MiB four, or a 16th) read ahead of him; work at
 * random has nothing read that it did not ask for. */
enum quire_stream {
	QUIRE_STREAM_DETECT = 0, /* the default */
	QUIRE_STREAM_SEQUENTIAL, /* in order and once: reading ahead begins at once, and pages leave behind the reader, hot or
	                          * not, so that what else is in the cache stays there */
	QUIRE_STREAM_RANDOM,     /* nothing is ever read ahead */
};

/* For a whole item; ends what was detected there. Advice (quire_map_advise) is another matter, and
 * pinned pages stay. For QUIRE_FAULT_KERNEL, where DETECT is as RANDOM, the kernel is told. -EINVAL. Never blocks on storage. */
int quire_map_stream(struct quire_map *map, size_t index, enum quire_stream mode);

/* Drops resident pages of the range that are not pinned. Returns how many, or -EFAULT: the range is not in the map. One that is just coming
 * stays: for a moment after a load has seen its bytes, a page may not be called resident yet. Never blocks on storage. */
int64_t quire_map_purge(struct quire_map *map, const void *addr, size_t len_bytes);

/* Bytes unless said otherwise; since create. */
struct quire_map_stat {
	uint64_t mapped;      /* sum of item lengths */
	uint64_t resident;
	uint64_t pinned;
	uint64_t unverified;  /* part of resident: pages of files without a fill hook */
	uint64_t n_items;
	uint64_t n_hits;      /* pages that want found resident */
	uint64_t n_faults, n_fills, n_evictions, n_errors; /* pages */
	uint64_t n_ahead;     /* pages that were read ahead of a reader */
	uint64_t probation;   /* copies of pages that are not resident */
	uint64_t n_probation_hits; /* pages that came back from their copies: no fills */
	uint64_t n_second_chance_hits; /* the same from compressed copies, which stay where they are */
};
/* Returns 0. A snapshot, not atomic as a whole. Never blocks on storage. */
int quire_map_stat(struct quire_map *map, struct quire_map_stat *ret_stat);

/* What became of the list of hot pages; in pages. */
struct quire_map_warm_stat {
	bool replaying;        /* pages of the list are still being asked for */
	uint64_t n_listed;     /* read from the list so far */
	uint64_t n_stale;      /* of those: of an item that is not what it was, outside of it, or not to be had */
	uint64_t n_replayed;   /* of those: resident when they were asked for */
	uint64_t n_saved;      /* in the list last written */
	uint64_t n_saves;      /* lists written */
	struct quire_error load_error; /* why there was none to read: -ENOENT, -EBADMSG (damaged), -EUCLEAN (no such list), … */
	struct quire_error save_error; /* why the last could not be written, and the one before is still there; code 0: it was */
};

/* -EINVAL: the map has no warm_path. Never blocks. */
int quire_map_warm_stat(struct quire_map *map, struct quire_map_warm_stat *ret_stat);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
