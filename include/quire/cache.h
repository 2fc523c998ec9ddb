/* quire/cache.h - the page cache a program owns: budget, statistics, promises.
 *
 * A cache holds pages of any number of maps under one budget. Any thread may
 * call any function here. A forked child may use nothing of its parent's: -ECHILD (docs/resources.md).
 *
 * Which page leaves is S3-FIFO's choice (Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction, SOSP 2023).
 */
#ifndef QUIRE_CACHE_H
#define QUIRE_CACHE_H

#include <quire/error.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_cache;

#define QUIRE_BUDGET_AUTO UINT64_MAX /* follow the cgroup's limit and memory pressure */
#define QUIRE_BUDGET_MIN_BYTES (8u << 20)

/* What the kernel may count beyond the budget, at most: code, thread stacks,
 * the ring, and what the program itself allocates are the program's; this is
 * for what the cache does not count page by page (upper page-table levels,
 * allocator slack, kernel batching). */
#define QUIRE_BUDGET_SLACK_BYTES (16u << 20)

struct quire_cache_options {
	size_t size;             /* sizeof(struct quire_cache_options); 0 fields mean default */
	uint64_t budget_bytes;   /* default QUIRE_BUDGET_AUTO; at least QUIRE_BUDGET_MIN_BYTES. What a loop needs to read
	                          * for maps, half a MiB, is charged in any case, and beyond the budget if need be:
	                          * give it more than that for each loop */
	uint64_t reserve_bytes;  /* address space of an arena; default 16 TiB, halved until it fits */
	unsigned max_open_files; /* descriptors kept open; default a quarter of RLIMIT_NOFILE */
	bool signal_faults;      /* install the SIGBUS handler: maps may ask for QUIRE_FAULT_SIGNAL,
	                          * loops for suspend_faults. Chains to the handler that was there. */
	bool buffered_io;        /* read files through the kernel's page cache, not O_DIRECT */
	bool no_probation;       /* no copies, of at most 1/16 of the budget, of pages that leave while only raw
	                          * loads are known to use them, and that a fault would bring back without I/O */
	bool no_second_chance;   /* no compressed copies of pages that have left. How much of the budget they
	                          * take is found out by what they save, and is next to nothing where they save
	                          * nothing: where data don't get smaller, or fit */
};

/* Opens a cache; opts may be NULL. May block for milliseconds. -EMFILE, -ENFILE: out of descriptors, and nothing is
 * settled by that: neither what the kernel can do, nor how much memory there is. -EINVAL (options), -ENOMEM, -EAGAIN (threads). */
int quire_cache_open(const struct quire_cache_options *opts, struct quire_cache **ret_cache,
                     struct quire_error *err);

/* Ends it, with its threads and its pools. -EBUSY, nothing changed, while maps or open stores exist. NULL is allowed. Waits for
 * what is under way in the background. */
int quire_cache_close(struct quire_cache *cache);

/* Changes the budget, QUIRE_BUDGET_AUTO included. Shrinking evicts before it
 * returns (microseconds a page). -ENOMEM, and nothing changed, if pinned pages
 * would not fit; -EINVAL below QUIRE_BUDGET_MIN_BYTES. */
int quire_cache_set_budget(struct quire_cache *cache, uint64_t bytes);

/* Pools of pages (quire/tmem.h) on the cache's budget: what they hold, and what the maps hold, are under one limit. Where that is
 * not enough for all, ephemeral pools have their part by weight, beside one of 100 for the maps with all that is theirs;
 * persistent pages may take all but an eighth of what the maps have. What is free is anybody's. Borrowed: it goes, with its pools, when the cache is closed; not to be destroyed. The same one at each call. -ENOMEM. */
struct quire_tmem;
int quire_cache_tmem(struct quire_cache *cache, struct quire_tmem **ret_tmem, struct quire_error *err);

/* Bytes unless said otherwise; counters are since open. A snapshot, not atomic as a whole. */
struct quire_cache_stat {
	uint64_t budget;       /* the limit in force */
	uint64_t used;         /* sum of the next five, of probation, and of tmem */
	uint64_t frames;       /* resident pages and pages being filled */
	uint64_t page_tables;  /* the kernel's, for the arenas, as charged */
	uint64_t tables;       /* residency tables and replacement queues */
	uint64_t buffers;      /* I/O buffers */
	uint64_t other;        /* descriptor cache, maps */
	uint64_t pinned;       /* part of frames */
	uint64_t swappable;    /* of frames and tmem, what the kernel could swap out: 0 if locked or no swap is on */
	uint64_t n_maps;
	uint64_t n_vmas;       /* VMAs that the arenas take */
	uint64_t n_fills;      /* pages read and made resident */
	uint64_t n_faults;     /* raw loads that found a page cold */
	uint64_t n_evictions;  /* pages */
	uint64_t n_duplicate;  /* fills repeated by a fault */
	uint64_t n_errors;     /* fills that failed */
	uint64_t n_open_files; /* descriptors held now */
	uint64_t probation;    /* copies of pages that have left, in case a raw load comes back to them */
	uint64_t n_probation_hits; /* pages that came back from there: no fills */
	uint64_t tmem;         /* pools of pages: quire_cache_tmem, and the second chance */
	uint64_t second_chance;       /* part of tmem: compressed copies of pages, of what has left and of what came back since */
	uint64_t second_chance_pages; /* how many: a number */
	uint64_t second_chance_part;  /* what they may take, as things are */
	uint64_t n_second_chance_hits;    /* pages that came back from there: no fills */
	uint64_t n_second_chance_puts;    /* pages that were compressed to stay there, */
	uint64_t n_second_chance_refused; /* and of them, those that didn't get smaller, or found no room */
};
/* Returns 0. Never blocks on storage. */
int quire_cache_stat(struct quire_cache *cache, struct quire_cache_stat *ret_stat);

/* ---- pages ---- */

/* In a page's word of the residency table (quire_map_residency). */
#define QUIRE_RESIDENT 1u

/* Verifies or decrypts. raw: what the file holds at offset, len_bytes of it (a page,
 * less at the end of the item). page: where the page's content goes, a page long,
 * zeroed behind len_bytes; raw and page do not overlap. Returns 0, or a negative
 * errno (-EBADMSG by custom), and then the page does not appear. Runs on a loop's
 * thread, the service thread, or in a fault handler of any thread, several at once:
 * it may not block, lock, allocate, or touch a map. */
typedef int (*quire_fill_fn)(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page);

/* ---- what holds in this process ---- */

enum quire_grade {
	QUIRE_GRADE_NONE = 0,      /* no userfaultfd: kernel mappings, or pinned maps */
	QUIRE_GRADE_USER_MODE = 1, /* system calls given a cold pointer get EFAULT: want first */
	QUIRE_GRADE_FULL = 2,
};

/* true: the promise holds in this process. */
struct quire_capabilities {
	enum quire_grade grade;
	bool io_uring;               /* else a thread pool */
	bool raw_loads;              /* pointers are right at any time */
	bool syscalls_on_cold;       /* system calls given cold pointers work */
	bool budget_hard;            /* else advisory, for the default kind of map */
	bool checked_before_visible; /* no unverified byte is ever seen */
	bool batched_eviction;       /* process_madvise on oneself */
	bool move;                   /* UFFDIO_MOVE */
	bool poison;                 /* UFFDIO_POISON; else one VMA a poisoned page */
	bool cachestat;
	bool page_tables_reclaimed;  /* empty regions give their page tables back */
	bool memory_locked;          /* arenas may be locked against swap */
	bool defer_taskrun;
	bool direct_io_default;
	bool anon;                   /* memory larger than RAM: quire_anon_create (quire/anon.h) */
	bool anon_tracks_writes;     /* its clean pages leave for nothing */
};

/* Probes on first use (milliseconds, may open descriptors for a moment). 0; -EMFILE, -ENFILE: there were none for that, and the
 * next call probes again. */
int quire_capabilities(struct quire_capabilities *ret_caps);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
