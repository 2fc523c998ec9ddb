/* range.h - a run of arena pages with one owner, which knows where each page's bytes are.
 *
 * What a map is to this layer. Operations and fills hold a reference while they are under way;
 * range_kill stops new ones; when the gate is idle, range_free drops the pages.
 */
#ifndef CACHE_RANGE_H
#define CACHE_RANGE_H

#include "../base/stripes.h"
#include "../loop/loop.h"
#include "arena.h"
#include "gate.h"
#include "source.h"
#include "stream.h"

struct quire_cache;

#define RANGE_KEY_SHIFT 36 /* of a serial, above a page's index, which is less than an address has bits */
#define RANGE_KILLED (UINT64_C(1) << 63)

struct range_ops {
	/* page counts from the start of the range. -EFAULT: it belongs to no item. Lock-free, any
	 * thread, fault handlers included. */
	int (*locate)(void *owner, uint64_t page, struct page_source *ret);
	/* A fill ended with an error: of the page at that offset of the item, or the first of several. The same rules. */
	void (*failed)(void *owner, uint64_t item, uint64_t item_offset, int error);
};

/* What every hit reads lies apart from what fills write. */
struct range {
	struct quire_cache *cache; /* borrowed: longer than the range */
	struct arena *arena;       /* borrowed: as long as the cache */
	uint64_t first_page, n_pages;
	const struct range_ops *ops;
	void *owner;               /* borrowed: until range_free */
	struct anon *anon;         /* borrowed: until range_free; NULL: its pages have files or objects. See anon.h */
	uint64_t serial;           /* no other range of the cache ever had it: page numbers come again */
	struct gate gate __attribute__((aligned(STRIPE_BYTES))); /* operations and fills are inside; closed: dying */
	pthread_mutex_t grow_lock; /* an item's length changes, or a page it ends in is installed */
	_Atomic uint64_t n_resident __attribute__((aligned(STRIPE_BYTES))), n_unverified, n_probation;
	_Atomic uint64_t n_pinned; /* pages; RANGE_KILLED beside, and then no page can be pinned */
	_Atomic uint64_t n_faults, n_fills, n_evictions, n_errors, n_ahead, n_probation_hits;
	_Atomic uint64_t n_chance_hits;
	_Atomic uint32_t probation_credit, chance_credit, recent_credit;
	_Atomic uint32_t n_faults_told; /* low bits of n_faults, as the second chance last saw it */
	_Atomic bool has_chance; /* some page was given a copy there once */
	struct stripes n_hits;     /* the one that is counted without a miss */
	struct streams streams;
};

/* n_pages > 0. The arena of that kind is made if it is the first. -ENOTSUP, -ENOMEM. */
int range_create(struct quire_cache *c, enum arena_kind kind, uint64_t n_pages,
                 const struct range_ops *ops, void *owner, struct range **ret_range,
                 struct quire_error *err);

/* The same of pages that a pool has, of ARENA_ANON or ARENA_PINNED. */
int range_create_anon(struct quire_cache *c, enum arena_kind kind, uint64_t n_pages, const struct range_ops *ops,
                      void *owner, struct anon *anon, struct range **ret_range, struct quire_error *err);

/* Closes the gate: from now on range_get fails, and operations under way end with -ECANCELED.
 * -EBUSY and nothing done while pages are pinned. Any thread; once. */
int range_kill(struct range *r);

/* After gate_when_idle's task ran (or of a range that nobody ever used): drops all pages. */
void range_free(struct range *r);

static inline bool range_get(struct range *r) /* false: dying */
{
	return gate_enter(&r->gate);
}
static inline void range_put(struct range *r)
{
	gate_leave(&r->gate);
}
static inline bool range_dying(const struct range *r)
{
	return gate_is_closed(&r->gate);
}

/* The live range that holds the page, referenced, or NULL. Async-signal-safe in the sense of
 * fault handlers: the interrupted code holds none of our locks. */
struct range *range_find(struct quire_cache *c, uint64_t page);

/* The same without a reference; the caller holds ranges_lock. */
struct range *range_find_locked(struct quire_cache *c, uint64_t page);

static inline page_word *range_word(const struct range *r, uint64_t page)
{
	return arena_word(r->arena, page);
}

#endif
