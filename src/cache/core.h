/* core.h - the inside of struct quire_cache, shared by the files of this layer alone.
 *
 * Locks, in the order in which they are taken; none is held across I/O or while arena or
 * caller memory is touched:
 *   (knob_lock and arenas_lock may be held while the service loop is waited for, which takes neither)
 *   (a store's may be held, as it makes room for its own: no store is called under one of these)
 *   0. knob_lock  1. arenas_lock  2. ranges_lock  3. a range's grow_lock  4. a fill's, or cold_lock
 *   5. fillers_lock  6. the second chance's, then tmem's  7. a shard's, a probation pool's (leaves)
 */
#ifndef CACHE_CORE_H
#define CACHE_CORE_H

#include "../base/budget.h"
#include "../base/policy.h"
#include "../base/process_mark.h"
#include "../loop/loop.h"
#include "../media/media.h"
#include "arena.h"
#include "range.h"

#include <assert.h>
#include <pthread.h>
#include <sys/types.h>

#define N_SHARDS 8
#define MAX_FILLERS 2048

struct filler;
struct fault_service;
struct sync_fills;
struct probation;
struct chance;
struct quire_tmem;
struct anon_back;

/* One of the replacement policy's instances; pages are spread over them by their number. */
struct shard {
	pthread_mutex_t lock;
	struct policy *policy; /* owned */
	uint64_t charged_bytes;
	_Atomic uint64_t n_resident;
} __attribute__((aligned(128)));

/* Pages that advice has put first in line. */
struct cold_extent {
	struct range *range; /* borrowed: until the range is freed, which removes it */
	uint64_t first, n;
};

struct cache_counters {
	_Atomic uint64_t n_fills, n_faults, n_evictions, n_duplicate, n_errors, n_probation_hits;
	_Atomic uint64_t n_chance_hits, n_chance_puts, n_chance_refused;
};

struct quire_cache {
	_Atomic unsigned refs; /* the handle, and each filler: they end with their loops */
	struct process_mark process;
	bool signal_faults;
	_Atomic bool auto_budget;
	uint64_t reserve_bytes;
	unsigned page_shift;
	struct budget budget;
	_Atomic uint64_t pinned_bytes;
	_Atomic unsigned n_maps;
	_Atomic unsigned n_stores; /* that live on its budget and service loop */

	struct quire_loop *service; /* borrowed: from service_get to service_put */
	struct media_pool *pool;    /* owned */
	struct fault_service *fault_services[N_ARENA_KINDS]; /* owned; of arenas whose faults are messages */
	struct sync_fills *sync_fills;       /* owned; for fault handlers */
	_Atomic uint64_t n_serials;          /* of ranges, given out so far */
	_Atomic uint64_t promoting;          /* bit i: a fill of promote.c */
	struct probation *probation;         /* owned; NULL: not wanted, or not to be had */
	struct chance *chance;               /* owned; NULL: not wanted, or not to be had */
	_Atomic(struct quire_tmem *) tmem;   /* owned; NULL until it is asked for. Of this budget: see memory.c */
	_Atomic unsigned n_anons;            /* ranges with a pool */
	_Atomic bool anon_refused;           /* the last page that was to leave for a pool could not */
	_Atomic unsigned n_spilling;         /* ranges whose pool is made to spill: see anon_room.c */
	_Atomic(struct anon_back *) anon_back; /* owned; NULL until a region's pool may spill */
	struct loop_timer auto_timer;        /* on the service loop */

	pthread_mutex_t knob_lock; /* one change of the budget at a time */

	pthread_mutex_t arenas_lock;
	_Atomic(struct arena *) arenas[N_ARENA_KINDS]; /* owned; made when first asked for */

	pthread_rwlock_t ranges_lock;
	struct range **ranges; /* owned array, sorted by first page */
	size_t n_ranges, ranges_capacity;

	pthread_mutex_t fillers_lock;
	_Atomic(struct filler *) fillers[MAX_FILLERS]; /* owned; never freed before the cache, reused */
	_Atomic unsigned n_fillers;
	_Atomic unsigned n_starved;   /* fillers whose queue waits for memory */

	struct shard shards[N_SHARDS];
	_Atomic unsigned next_shard;

	pthread_mutex_t cold_lock;
	struct cold_extent *cold; /* owned */
	size_t n_cold, cold_capacity;
	_Atomic bool has_cold;
	_Atomic bool has_units;      /* some map's pages are larger than the system's */

	struct cache_counters counters;
};

/* True in a forked child, which has no part in arenas, loops and files, and may not lock anything: -ECHILD. */
static inline bool cache_is_of_parent(const struct quire_cache *c)
{
	return process_mark_is_of_parent(&c->process);
}

static inline struct shard *cache_shard(struct quire_cache *c, uint64_t page)
{
	return &c->shards[(page * 0x9E3779B97F4A7C15u) >> 61];
}
static_assert(N_SHARDS == 8, "cache_shard takes three bits");

static inline uint64_t cache_page_bytes(const struct quire_cache *c)
{
	return (uint64_t)1 << c->page_shift;
}

/* The arena a page lies in, or NULL. Async-signal-safe. */
static inline struct arena *cache_arena_of(struct quire_cache *c, uint64_t page)
{
	for (int i = 0; i < N_ARENA_KINDS; i++) {
		struct arena *a = atomic_load_explicit(&c->arenas[i], memory_order_acquire);

		if (a != NULL && arena_holds(a, page))
			return a;
	}
	return NULL;
}

static inline void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Runs fn on the service loop and waits for it. Not on a loop's thread. */
void cache_call_on_service(struct quire_cache *c, void (*fn)(void *arg), void *arg);

void cache_ref(struct quire_cache *c);
void cache_unref(struct quire_cache *c);

#endif
