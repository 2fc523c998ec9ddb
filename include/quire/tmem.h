/* quire/tmem.h - transcendent memory: pools of pages, compressed, deduplicated, capped.
 *
 * A pool holds pages of one size, each named by an object of 192 bits and an index of 32. Two kinds:
 *
 *   ephemeral   what it holds may go at any time; a get of a private one takes the page out
 *   persistent  what was accepted stays until it is flushed; a get leaves it there
 *
 * A put may be refused, always. What holds for every order of calls, in a batch as one by one:
 *   - a get gives what the last accepted put of that page gave, or nothing;
 *   - a put that is refused leaves nothing behind: what was there before under that name is flushed;
 *   - a get that missed goes on missing until the next put.
 * (Magenheimer: Transcendent Memory on Linux, 2009; Documentation/vm/cleancache and frontswap of Linux 3.x.)
 *
 * Storage: a page of one repeated word takes that word; a page that the pool holds already (XXH3-128, then compared) takes a
 * reference; others are compressed by LZ4, or kept as they are if that gains nothing; and packed tighter when they are cold, where a
 * pool asks for it. Each is under a checksum: damage in memory is a miss in an ephemeral pool, -EBADMSG in a persistent one, never wrong bytes.
 *
 * Memory: all that pools hold, metadata included, is charged to the budget as the kernel counts it. Metadata is some 18 to 45 bytes for a
 * page, the less the more pages are alike; 15 more in an ephemeral pool out of which pages are evicted, and 72 for each object.
 * Of ephemeral pages that nobody uses, those that take much leave before those that take little.
 *
 * Side channel: who may put a page into a pool can tell by the time a put takes whether that page was there. Pools
 * therefore share contents with no other pool unless they are given the same domain.
 *
 * Any thread may call anything. Calls hold a lock for well under a microsecond, and never while memory of the
 * caller's is touched. They don't wait for I/O, but for those on pools with QUIRE_TMEM_SPILL (quire/tmem_store.h), and gets from
 * those with QUIRE_TMEM_REMOTE (quire/tmem_memcached.h). A forked child has neither the pages nor a copy of them: calls give -ECHILD,
 * those without a result do nothing, and figures are 0.
 */
#ifndef QUIRE_TMEM_H
#define QUIRE_TMEM_H

#include <quire/loop.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_tmem;
struct quire_tmem_pool;

struct quire_tmem_options {
	size_t size;           /* sizeof(struct quire_tmem_options) */
	uint64_t budget_bytes; /* of all pools together; at least 1 MiB */
	unsigned n_threads;    /* that help with batches; 0: one less than there are CPUs, 8 at most */
};

/* -EINVAL, -ENOMEM. */
int quire_tmem_create(const struct quire_tmem_options *opts, struct quire_tmem **ret_tmem, struct quire_error *err);
/* With its pools and all that is in them; no call may be under way. NULL allowed. */
void quire_tmem_destroy(struct quire_tmem *tmem);

/* What pools hold already is evicted down to the new budget. -EBUSY, nothing changed: persistent pages and what
 * belongs to them take more, *ret_least_bytes (NULL allowed) at least. */
int quire_tmem_set_budget(struct quire_tmem *tmem, uint64_t budget_bytes, uint64_t *ret_least_bytes);

/* ---- pools ---- */

enum quire_tmem_kind {
	QUIRE_TMEM_EPHEMERAL = 1,
	QUIRE_TMEM_PERSISTENT = 2,
};

#define QUIRE_TMEM_SHARED 1u             /* has a uuid, by which others open it; an ephemeral get leaves the page there */
#define QUIRE_TMEM_NO_DEDUP 2u
#define QUIRE_TMEM_REFUSE_INCOMPRESSIBLE 4u /* a put of a page that LZ4 doesn't make smaller is refused (-E2BIG) */
/* What was used in no round of quire_tmem_recompress, once it is seen again, is packed tighter by LZ4's slow compressor: gets take as
 * long, or less. */
#define QUIRE_TMEM_RECOMPRESS 8u
/* What was used in none of the last cold_rounds rounds is packed by zstd, where pages of one object are neighbours in
 * units of up to unit_bytes: a get unpacks the unit. What is used in two rounds in turn is packed by LZ4 again. */
#define QUIRE_TMEM_COLD 16u
/* Persistent, not COLD: contents may leave memory for the backing: quire/tmem_store.h. */
#define QUIRE_TMEM_SPILL 32u
/* Ephemeral, of pages of 64 KiB at most: what is evicted may go to other machines' memory: quire/tmem_memcached.h. */
#define QUIRE_TMEM_REMOTE 64u

struct quire_tmem_pool_options {
	size_t size;
	enum quire_tmem_kind kind;
	uint32_t page_bytes;  /* a power of two, 4 KiB (default) to 2 MiB */
	uint32_t flags;
	uint32_t weight;      /* of its claim to memory beside other ephemeral pools; default 100 */
	uint32_t domain;      /* pools of one domain share contents; 0: its own */
	uint64_t cap_bytes;   /* that it may hold, metadata included; 0: the budget's */
	uint8_t uuid[16];     /* of a shared pool: not all zero; whoever knows it may open the pool */
	uint32_t unit_bytes;  /* of QUIRE_TMEM_COLD: a power of two, 16 KiB (default) to 64 KiB */
	uint32_t cold_rounds; /* likewise: up to 15; default 3 */
};

/* -EINVAL; -ENOMEM: also where the budget hasn't the few pages that the pool itself takes, and nothing may leave for them (with SPILL it may block, as
 * a put); -ENOSPC: 65,535 pools; -EEXIST: the uuid is another shared pool's. */
int quire_tmem_pool_create(struct quire_tmem *tmem, const struct quire_tmem_pool_options *opts,
                           struct quire_tmem_pool **ret_pool, struct quire_error *err);
/* The shared pool of that uuid, once more: each open is to be destroyed. -ENOENT. */
int quire_tmem_pool_open(struct quire_tmem *tmem, const uint8_t uuid[16], struct quire_tmem_pool **ret_pool);
/* Flushes all its pages, and is gone; of a shared one that is open elsewhere, only this handle. No call on
 * the handle may be under way. NULL allowed. */
void quire_tmem_pool_destroy(struct quire_tmem_pool *pool);

/* What an ephemeral pool holds beyond it is evicted. -EBUSY, nothing changed but for that: persistent pages, or contents that pools of
 * its domain share with it, take more; or the pool by itself does, whose order of leaving has four of the system's pages at least; or it is
 * frozen. A content is charged to the pool that brought it, until nobody has it. */
int quire_tmem_pool_set_cap(struct quire_tmem_pool *pool, uint64_t cap_bytes);
int quire_tmem_pool_set_weight(struct quire_tmem_pool *pool, uint32_t weight); /* 1 to 1,000,000; -EINVAL */

/* While frozen all puts are refused (-EROFS; what they would have replaced is flushed), gets take nothing out, and nothing is
 * evicted; flushes do as ever. */
void quire_tmem_pool_freeze(struct quire_tmem_pool *pool, bool frozen);

/* ---- pages ---- */

struct quire_tmem_key {
	uint64_t object[3];
	uint32_t index;
};

/* Copies page_bytes in. -ENOSPC: refused by cap or budget; -E2BIG: as asked for; -EROFS: frozen. */
int quire_tmem_put(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, const void *page);

enum quire_tmem_get {
	QUIRE_TMEM_GET_USUAL = 0, /* as the pool's kind says */
	QUIRE_TMEM_GET_KEEP = 1,  /* leaves the page there */
	QUIRE_TMEM_GET_TAKE = 2,  /* takes it out */
};

/* Copies page_bytes out. -ENOENT: not there, page untouched; -EBADMSG: a persistent page is damaged: it stays so until it is
 * flushed, and `page` is of no meaning. Of a page that was spilled also -EIO, -ENOMEM: it can't be read now, and stays; -EDEADLK; and -ENOENT
 * where somebody took it meanwhile, with `page` of no meaning. Of a page that is remote also -EDEADLK: on a loop's thread, and it stays. */
int quire_tmem_get(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, void *page,
                   enum quire_tmem_get how);

/* 1: it was there; 0. */
int quire_tmem_flush(struct quire_tmem_pool *pool, const struct quire_tmem_key *key);
/* All pages of the object: how many. Time in proportion to them. */
int64_t quire_tmem_flush_object(struct quire_tmem_pool *pool, const uint64_t object[3]);

/* ---- batches ---- */

enum quire_tmem_verb {
	QUIRE_TMEM_PUT = 1,
	QUIRE_TMEM_GET = 2,
	QUIRE_TMEM_FLUSH = 3,
	QUIRE_TMEM_FLUSH_OBJECT = 4, /* key.index is of no meaning */
};

struct quire_tmem_request {
	struct quire_tmem_pool *pool;
	struct quire_tmem_key key;
	enum quire_tmem_verb verb;
	enum quire_tmem_get how; /* of a GET */
	void *page;              /* read by a PUT, written by a GET; borrowed until the batch is done */
	int64_t result;          /* written: what the single call would have returned */
};

/* Does n requests, of any pools of the tmem, with the same results as one by one in their order; compresses and
 * decompresses on several cores. op as in quire/loop.h; with one, all of it is done on the tmem's threads. A page's
 * memory may be named once only, unless by PUTs alone. 0; -EINVAL: an unknown verb, nothing was done; -EDEADLK: op is NULL
 * in a loop's callback and n is more than 32. */
int quire_tmem_batch(struct quire_tmem *tmem, struct quire_tmem_request *requests, unsigned n, struct quire_op *op);

/* ---- what went cold ---- */

/* Looks at the contents of pools that have QUIRE_TMEM_RECOMPRESS or QUIRE_TMEM_COLD, on from where it left off, until n_pages pages were packed anew or
 * all contents were looked at, which is a round; then gives back memory that this left empty. How many were: fewer than n_pages if a round ended. A content
 * that doesn't get smaller by a 32nd (LZ4) or a 16th (zstd) stays as it is and is not tried again. A thread may well be busy with it for 50 µs a page;
 * others' calls go on meanwhile. Takes half a MiB of the budget while it runs (1.5 MiB for units of 64 KiB, 8 MiB for pages of 2 MiB) and, for QUIRE_TMEM_COLD,
 * some 110 KiB (160 KiB) for each thread that gets such pages at the same time, for good. -ENOMEM: that isn't there; -EBUSY: somebody else is at it.
 *
 * Puts do the same, a few pages each, when less than a 64th of the budget or of their pool's cap is left.
 *
 * Pages of a unit are damaged all together, if it is. They are not found by dedup: an equal page that is put later is kept once more. All others are. */
int64_t quire_tmem_recompress(struct quire_tmem *tmem, uint32_t n_pages);

/* ---- a copy of a pool, made while it is in use ---- */

struct quire_tmem_copy;

struct quire_tmem_copy_options {
	size_t size;
	uint32_t log_entries; /* pages that may come or go between two steps, at least; 32 bytes each, charged to the budget; default 4096 */
};

/* One copy of a pool at a time: -EBUSY. -ENOMEM; -EINVAL. The pool is destroyed after the copy has ended. */
int quire_tmem_copy_begin(struct quire_tmem_pool *pool, const struct quire_tmem_copy_options *opts,
                          struct quire_tmem_copy **ret_copy);

#define QUIRE_TMEM_COPY_PAGE 1
#define QUIRE_TMEM_COPY_GONE 2

/* The next thing to know: COPY_PAGE, the page of that key is this, whatever was said of it before; COPY_GONE, there is no
 * such page any more, if there was. 0: whoever has done as he was told has exactly what the pool held at this moment; what comes or goes after that is
 * told by further calls. So: until 0; freeze the pool, if it is to be the end; until 0; end.
 * -EOVERFLOW: too much came and went between two calls: the copy is of no use, end it. -EBADMSG, -EIO, -EDEADLK: as a get of that key would
 * say; the copy goes on with the next page. -ENOMEM: once more. Takes nothing out, has no pages that are remote, and is not counted as gets; one thread at a time; blocks like a get. */
int quire_tmem_copy_next(struct quire_tmem_copy *copy, struct quire_tmem_key *ret_key, void *page);
void quire_tmem_copy_end(struct quire_tmem_copy *copy); /* NULL allowed */

/* ---- what there is ---- */

struct quire_tmem_stat {
	uint64_t n_pages;           /* there now */
	uint64_t n_same, n_shared;  /* of them: of one repeated word; referring to a content that has others */
	uint64_t n_raw;             /* contents kept uncompressed */
	uint64_t page_bytes;        /* of all pages, as they were put */
	uint64_t same_saved_bytes, dedup_saved_bytes, compress_saved_bytes;
	uint64_t recompress_saved_bytes; /* beyond what compression saved when they were put */
	uint64_t content_bytes;     /* compressed, without anything; in memory */
	uint64_t head_bytes;        /* metadata beside contents */
	uint64_t rounding_bytes;    /* of slots, beyond what is in them */
	uint64_t hole_bytes;        /* of resident memory, between slots */
	uint64_t index_bytes;       /* objects, tables, queues */
	uint64_t held_bytes;        /* content + head + rounding + hole + index: what is charged to the budget (of all pools) */
	uint64_t n_puts, n_put_refused, n_gets, n_get_hits, n_flushed, n_evicted, n_damaged, n_moved;
	uint64_t n_repacked;        /* pages whose contents recompression has replaced */
	uint64_t budget_bytes;
	uint64_t n_spilled;         /* contents that are in the backing, not in memory */
	uint64_t spilled_bytes;     /* of these, compressed */
	uint64_t spill_segment_bytes; /* that they take there */
	uint64_t n_spill_reads, n_spill_errors; /* I/O that failed, no space, or damage found */
	uint64_t n_remote;          /* of n_pages: pages that are remote, or on their way, not in memory */
	uint64_t remote_bytes;      /* of these, compressed */
	uint64_t n_remote_sent;     /* that arrived there */
	uint64_t n_remote_hits, n_remote_misses; /* gets of such pages: found, and not */
	uint64_t n_remote_errors;   /* of sending or getting them: no answer, or a wrong one */
};
/* page_bytes = same_saved + dedup_saved + compress_saved + recompress_saved + content_bytes + spilled_bytes + remote_bytes. */
void quire_tmem_stat(struct quire_tmem *tmem, struct quire_tmem_stat *ret_stat);

struct quire_tmem_pool_stat {
	uint64_t n_pages, held_bytes, cap_bytes;
	uint64_t n_puts, n_put_refused, n_gets, n_get_hits, n_flushed, n_evicted, n_damaged;
	uint32_t page_bytes, weight;
	enum quire_tmem_kind kind;
	bool frozen;
	uint64_t spilled_bytes; /* in the backing, beside what it holds */
};
/* Of the one pool: held_bytes is what its cap counts. */
void quire_tmem_pool_stat(struct quire_tmem_pool *pool, struct quire_tmem_pool_stat *ret_stat);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
