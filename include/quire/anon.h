/* quire/anon.h - memory larger than RAM: a region to read and write, whose pages go to a pool when they leave.
 *
 * A region is plain memory at one address: zeros at first, loads and stores at any time, by any thread, and by system calls
 * that are given a pointer into it. What of it is resident is under the cache's budget, with the pages of maps. What has to
 * leave is put into a persistent pool of the cache's quire_tmem, compressed and deduplicated, on the same budget, and comes back
 * when it is touched or wanted. Never-touched pages, and discarded ones, take no memory.
 *
 *   grade (quire_capabilities)      what holds
 *   anon, FULL                      all of this
 *   anon, USER_MODE                 system calls get EFAULT for pages that aren't resident and dirty: want them with WRITE and PIN
 *   no anon (no UFFDIO_MOVE)        quire_anon_create is -ENOTSUP, unless PINNED is asked for: then only pages that were wanted
 *                                   with QUIRE_ANON_PIN may be touched, until unwant; what others hold must not be looked
 *                                   at, and a store there is lost
 *
 * Dirty tracking: a page that comes to be read is write-protected. As long as nobody writes to it the pool keeps its copy and it leaves for
 * nothing; the first write to it is a fault, after which the pool's copy is gone. A page that comes to be written, by a
 * store or by a want with QUIRE_ANON_WRITE, has no such fault. Without uffd_wp every page comes as one to be written.
 *
 * When nothing can leave (the pool is at its cap, or what there is doesn't compress, and it has no room):
 *   - a want gets -ENOMEM;
 *   - a raw load or store gets its page all the same, beyond the budget, which is the only promise that is broken; with
 *     QUIRE_ANON_STRICT it gets SIGBUS instead, and the page is as it was, to be wanted or, when wanted, touched again.
 * Nothing is lost or altered in either case.
 *
 * Spilling: once quire_cache_tmem has a backing (quire/tmem_store.h), regions with SPILL, or with a pool that may spill (QUIRE_TMEM_SPILL), are as large
 * as a store's class. Of what their pools hold the oldest leaves memory, compressed as it is, many pages by one write, when the pool comes near its cap or half of
 * the budget, whichever is less; a page that is touched or wanted comes back by one read. Both are done by the library's own thread: a want with an op doesn't wait for them, nor
 * does a loop's thread, but for DISCARD of a page that is on its way back; a raw load waits for its page, and for memory. Where the backing can't be written or is
 * full, the region goes on like one that doesn't spill (see above; tried again ten times a second); a page that can't be read is -EIO, or SIGBUS under a
 * raw load, until it can, or is discarded. What was spilled is gone with the process.
 *
 * I/O: system calls and devices may read and write pages, O_DIRECT and io_uring included, at any time: a page under I/O
 * doesn't leave. (Excepted are a few old ways that don't pin what they write to, O_DIRECT on some network file systems
 * among them: want such pages with PIN first.)
 *
 * (UFFDIO_MOVE, and write protection by userfaultfd: Documentation/admin-guide/mm/userfaultfd.rst of Linux.)
 *
 * A forked child has no part in it: touching the region there is SIGSEGV. Any thread may call anything. Where a want
 * brings pages it takes some microseconds of CPU a page on the caller's loop, or on the service thread.
 */
#ifndef QUIRE_ANON_H
#define QUIRE_ANON_H

#include <quire/cache.h>
#include <quire/loop.h>
#include <quire/tmem.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_anon;

#define QUIRE_ANON_PINNED 1u /* works everywhere, but only what is pinned may be touched: see above */
#define QUIRE_ANON_STRICT 2u /* SIGBUS rather than pass the budget */
#define QUIRE_ANON_SPILL 4u  /* its own pool spills, and takes what doesn't compress, too: see above. Not with `pool` */

struct quire_anon_options {
	size_t size;                  /* sizeof(struct quire_anon_options); 0 fields mean default */
	uint32_t flags;               /* QUIRE_ANON_* */
	uint64_t cap_bytes;           /* that its pool may hold, as in quire/tmem.h; default: the budget's. Not with `pool` */
	struct quire_tmem_pool *pool; /* borrowed until the region is destroyed: persistent, of quire_cache_tmem, with pages of the
	                               * system's size; default: one of its own, which takes only what compresses. Objects whose third
	                               * word is 0x616e6f6e are the regions' in it. */
};

/* A region of len_bytes > 0, rounded up to pages; opts may be NULL. May block for milliseconds. -EINVAL; -ENOTSUP: this
 * process lacks UFFDIO_MOVE; -ENOMEM: address space, or what the region itself needs. */
int quire_anon_create(struct quire_cache *cache, size_t len_bytes, const struct quire_anon_options *opts,
                      struct quire_anon **ret_anon, struct quire_error *err);

/* Ends the region, and all that it held. Operations under way end with -ECANCELED first. -EBUSY, nothing changed, while pages are
 * pinned. With an op: completes when all is gone; takes microseconds a page. No thread may touch the region any more, and I/O into it that
 * is under way is lost. NULL allowed. */
int quire_anon_destroy(struct quire_anon *anon, struct quire_op *op);

/* Where it is, and its length as rounded up. Neither fails. */
void *quire_anon_base(const struct quire_anon *anon);
size_t quire_anon_bytes(const struct quire_anon *anon);

#define QUIRE_ANON_PIN 1u   /* resident until unwant: QUIRE_WANT_PIN of quire/map.h */
#define QUIRE_ANON_WRITE 2u /* about to be written to: no fault will follow */

/* Asks that all pages of n ranges be resident, as quire_map_want (quire/map.h) does, with its rules for op, coroutines and pins,
 * and its errors; besides: -EBADMSG: what the pool had of a page is damaged (the others came; only a discard mends it);
 * -ENOMEM: nothing can leave; -EIO: it can't be read from where it was spilled. */
int quire_anon_want(struct quire_anon *anon, const struct iovec *ranges, unsigned n, unsigned flags, struct quire_op *op);

/* Takes back one PIN of the same ranges: as quire_map_unwant. */
int quire_anon_unwant(struct quire_anon *anon, const struct iovec *ranges, unsigned n);

/* True if every page of the range is resident now. Never blocks. */
bool quire_anon_resident(const struct quire_anon *anon, const void *addr, size_t len_bytes);

enum quire_anon_advice {
	QUIRE_ANON_WARM = 0, /* the default */
	QUIRE_ANON_COLD,     /* the next to leave */
	QUIRE_ANON_HOT,      /* of what is resident now: leaves last */
	QUIRE_ANON_AWAY,     /* leaves now, as far as it can */
	QUIRE_ANON_DISCARD,  /* zeros from now on; what the pool has of it is freed. A store meanwhile may be lost. Time in proportion
	                      * to the pages, a fraction of a microsecond each */
};

/* For the pages that the range touches; DISCARD: that lie in it whole. 0; -EFAULT; -EINVAL; -ENOMEM; -EBUSY: some were pinned, and not
 * discarded. */
int quire_anon_advise(struct quire_anon *anon, const void *addr, size_t len_bytes, enum quire_anon_advice advice);

/* Bytes unless said otherwise; counters are pages, since create. */
struct quire_anon_stat {
	uint64_t mapped;
	uint64_t resident, dirty, pinned;
	uint64_t pooled;         /* pages that the pool has, as they were put */
	uint64_t pool_held;      /* what the pool takes for all its pages, as its cap counts; of a pool that was handed in, others' too */
	uint64_t n_faults;       /* raw loads and stores that found a page cold, or protected */
	uint64_t n_write_faults; /* clean pages that became dirty */
	uint64_t n_hits;         /* that want found resident */
	uint64_t n_fills;        /* that came, of them */
	uint64_t n_zero;         /*   as zeros */
	uint64_t n_evictions;    /* that left, of them */
	uint64_t n_moved;        /*   dirty, into the pool */
	uint64_t n_busy;         /* that could not leave: I/O had them */
	uint64_t n_refused;      /* that could not leave: the pool didn't take them */
	uint64_t n_errors;
};
/* Returns 0. A snapshot, not atomic as a whole. Any thread; never blocks. */
int quire_anon_stat(struct quire_anon *anon, struct quire_anon_stat *ret_stat);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
