/* arena.h - one large reservation of address space, in which pages appear and leave.
 *
 * An arena is one VMA, however many maps lie in it (a poisoned page on a kernel without
 * UFFDIO_POISON costs one more). Pages are named by their absolute number, address >> page_shift.
 * Any thread may call anything here, also in a fault handler, but for create, destroy and
 * the space calls. Who may move a page is decided by its word (page.h), not here.
 */
#ifndef CACHE_ARENA_H
#define CACHE_ARENA_H

#include "../base/budget.h"
#include "page.h"
#include "space.h"
#include <pthread.h>

enum arena_kind {
	ARENA_SERVICE,      /* userfaultfd, faults are messages */
	ARENA_SERVICE_MOVE, /* the same, writable: 2 MiB pages can be moved in */
	ARENA_SIGNAL,       /* userfaultfd, faults are SIGBUS */
	ARENA_SIGNAL_MOVE,
	ARENA_PINNED,       /* no userfaultfd: writable memory that nobody may touch unasked */
	ARENA_ANON,         /* as SERVICE_MOVE, for the program to write to; clean pages are write-protected (arena_anon.h) */
	N_ARENA_KINDS
};

static inline bool arena_kind_is_signal(enum arena_kind kind)
{
	return kind == ARENA_SIGNAL || kind == ARENA_SIGNAL_MOVE;
}
static inline bool arena_kind_is_service(enum arena_kind kind)
{
	return kind == ARENA_SERVICE || kind == ARENA_SERVICE_MOVE || kind == ARENA_ANON;
}
static inline bool arena_kind_moves(enum arena_kind kind)
{
	return kind == ARENA_SERVICE_MOVE || kind == ARENA_SIGNAL_MOVE;
}

struct arena {
	enum arena_kind kind;
	bool locked;              /* mlock2(MLOCK_ONFAULT) */
	bool reclaims;            /* FEATURE_PT_RECLAIM */
	unsigned page_shift;
	unsigned region_shift;    /* log2 of pages in a region: those of one page of words */
	int uffd;                 /* owned; -1 for PINNED */
	int self_pidfd;           /* owned; -1: evict by madvise */
	int poison_fd;            /* owned; an empty memfd, whose pages are SIGBUS; -1 with UFFDIO_POISON */
	char *base;               /* owned mapping, aligned to 2 MiB */
	uint64_t bytes;
	uint64_t first_page;
	page_word *words;         /* owned mapping, one a page */
	_Atomic uint32_t *regions;/* owned mapping, one a region */
	_Atomic uint8_t *zones;   /* owned mapping, one a GiB: upper page tables charged */
	struct budget *budget;    /* borrowed: as long as the arena */
	_Atomic bool has_strays;  /* poison where no map is */
	uint64_t staging_page;    /* of ANON: the first of a region through which pages leave */
	_Atomic uint64_t staging_used; /* bit i: its i-th group of STAGING_PAGES */
	pthread_mutex_t space_lock;
	struct space space;       /* in regions */
};

/* -ENOTSUP without userfaultfd (but for PINNED); -ENOMEM. reserve is halved until it fits. */
int arena_create(enum arena_kind kind, uint64_t reserve_bytes, struct budget *budget,
                 struct arena **ret_arena, struct quire_error *err);
void arena_destroy(struct arena *a); /* NULL allowed */

/* Anonymous memory aligned to 2 MiB, without reserve; NULL if there is none. munmap ends it. */
char *arena_map_aligned(uint64_t bytes, int prot);

/* Arenas made while swap is on are locked, where that is allowed. */
bool arena_swap_is_on(void);

/* Address space, rounded up to regions, clean: no page, no poison. -ENOMEM. */
int arena_space_get(struct arena *a, uint64_t n_pages, uint64_t *ret_first_page);
/* All pages of it must be ABSENT. Page tables go back to the kernel. */
void arena_space_put(struct arena *a, uint64_t first_page, uint64_t n_pages);

static inline bool arena_holds(const struct arena *a, uint64_t page)
{
	return page - a->first_page < a->bytes >> a->page_shift;
}
static inline page_word *arena_word(const struct arena *a, uint64_t page)
{
	return &a->words[page - a->first_page];
}
static inline char *arena_address(const struct arena *a, uint64_t page)
{
	return a->base + ((page - a->first_page) << a->page_shift);
}
static inline uint64_t arena_region_end(const struct arena *a, uint64_t page)
{
	uint64_t index = page - a->first_page;

	return a->first_page + (((index >> a->region_shift) + 1) << a->region_shift);
}

/* Before pages of one region leave ABSENT, n of them enter it; after they are ABSENT again
 * they leave. The first charges the region's page tables and table page to the budget, and the
 * last gives them back. -ENOMEM if they don't fit and not `force`. */
int arena_region_enter(struct arena *a, uint64_t page, uint32_t n, bool force);
void arena_region_leave(struct arena *a, uint64_t page, uint32_t n);
/* For space_put: forgets what an empty region still has charged; true if there was any. */
bool arena_region_retire(struct arena *a, uint64_t page);
uint32_t arena_region_count(const struct arena *a, uint64_t page);

/* Makes n pages appear, whole, with the content of src, and wakes who waits for them. A page
 * that is there already stays as it is (its content is the same). Negative errno of UFFDIO_COPY. */
int arena_install(struct arena *a, uint64_t page, uint64_t n, const void *src);

/* The same for memory that is moved there instead of copied, a 2 MiB page whole (where a cold load has been before and
 * page tables are not reclaimed, it becomes small ones): src is private, writable and anonymous, under no I/O, and
 * empty afterwards, but for what was there already. Of arenas that move; the words of all n pages are the caller's. */
int arena_move(struct arena *a, uint64_t page, uint64_t n, void *src);

/* Pages that the caller has moved to EVICTING (runs in any order, which changes) leave memory, in as few
 * calls as the kernel allows. n ≤ ARENA_ZAP_MAX. */
#define ARENA_ZAP_MAX 64
struct page_run {
	uint64_t first;
	uint64_t n;
};
void arena_zap(struct arena *a, struct page_run *runs, unsigned n);
static inline void arena_zap_page(struct arena *a, uint64_t page)
{
	struct page_run run = {page, 1};

	arena_zap(a, &run, 1);
}

/* Threads that touch the page get SIGBUS from now on. -ENOSPC: no more can be had. */
int arena_poison(struct arena *a, uint64_t page);
void arena_unpoison(struct arena *a, uint64_t page);

/* The same for a page of no map; space_get takes it away again. */
void arena_poison_stray(struct arena *a, uint64_t page);

/* Lets threads that wait for pages try again. */
void arena_wake(struct arena *a, uint64_t page, uint64_t n);

#endif
