/* probation.c - raw loads made visible: who left and is asked for at once was in use.
 *
 * A raw load of a page that is there leaves no trace, so the policy takes a page that is only read so for unused,
 * however hot it is. Its content is therefore copied aside as it leaves. A fault while the copy lasts is the hit
 * that could not be seen: the page comes back without I/O, and into the main queue.
 *
 *   EVICTING ──copy──▶ [ oldest … newest ] ──a fault, a want──▶ FILLING, from the copy ──▶ RESIDENT, used
 *                           │ pushed out, purged, advised cold, outdated
 *                           ▼
 *                          gone
 *
 * A copy and not the page itself, since UFFDIO_MOVE takes nothing out of read-only memory. A unit (unit.h) is copied page by
 * page, and what is still there of it comes back together; those of 2 MiB are not: a copy of one takes as long as a read,
 * and a few of them would be all that there is room for.
 *
 * What it costs is bounded. Its memory is at most 1/SHARE of the budget, is charged to it, never taken before eviction
 * has made room, and leaves before any page that advice calls hot, and for pins. A unit is copied only if its range
 * has earned it: each fault pays for the next CREDIT victims of its range, so that ranges that are always wanted cost
 * nothing. Where few copies are asked for, as in a scan, only one victim in SPARSE is tried, on a share as much smaller.
 *
 * What the second chance has a copy of (chance.c) is not copied here: a fault on that one says the same, and it takes a third of the
 * memory. Where it has one of most pages that leave, all slots go. They are for what gets no smaller by compressing, which would otherwise be
 * invisible as before; and for what is not compressed because nobody has come back to it yet, as that takes four times as long as copying.
 *
 * Slots (probation_pool.h) are spread over POOLS by their pages' numbers, those of a unit together.
 *
 * 1. A page has at most one slot that is HELD; each counts in its range's n_probation.
 * 2. Copies are made only of pages in EVICTING, whose range is thus not freed, and used only by the fill that their word
 *    names, which holds a reference. So a copy never outlives its range, which drops all of them when nothing of it
 *    is resident any more.
 * 3. A copy is what was in the arena, verified as it was. That of a plain file is shown only if the file is found to be
 *    what it was, as behind any read of it; else it is read anew, and whoever asked is told.
 * 4. Content does not change, but for the page that a growing item ends in: fill_outdate drops its copy, and a fill
 *    that holds the copy by then is SPOILED, which it looks at under grow_lock before it installs.
 * 5. Whoever drops copies also stops those that are being made: he raises the epoch, then looks at n_probation; who makes
 *    one, of a page that was chosen under an epoch, raises n_probation, then looks at the epoch. All sequentially
 *    consistent, so that one of the two sees the other.
 */
#include "probation.h"

#include "core.h"
#include "fill.h"
#include "probation_pool.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena_kernel.h"

#define POOLS 8
#define SHARE 16     /* of the budget: this part at most */
#define CREDIT 64    /* victims that a fault pays for */
#define SPARSE 8
#define WINDOW 1024  /* copies of a pool after which it is asked whether they are of use: */
#define WORTH 64     /* they are if one in so many was */
#define GROW_SLOTS 4 /* at once, of each pool */
#define LEAST_SLOTS 64
#define UNIT_SLOTS 16 /* of the largest unit that is copied */

struct probation {
	struct quire_cache *cache; /* borrowed: longer than this */
	_Atomic bool armed;        /* some range has earned something; from then on */
	_Atomic uint64_t epoch;
	bool locked;               /* as arenas are, against swap */
	unsigned group_shift;      /* log2 of pages that share a pool */
	char *mapping;             /* owned */
	size_t mapping_bytes;
	uint32_t max_slots;        /* of a pool: what the mapping has room for */
	struct pool pools[POOLS];
};

/* What a slot takes, with its part of the tables and of the kernel's page tables. */
static uint64_t slot_bytes(const struct quire_cache *c)
{
	return cache_page_bytes(c) + sizeof(struct slot) + 2 * sizeof(uint32_t) + sizeof(uint64_t);
}

static struct pool *pool_of(struct probation *p, uint64_t page)
{
	return &p->pools[((page >> p->group_shift) * 0xD6E8FEB86659FD93u) >> 61];
}
static_assert(POOLS == 8, "pool_of takes three bits");

/* Slots that a pool may have as things are. */
static uint32_t pool_share(const struct probation *p, const struct pool *pool)
{
	uint64_t n = budget_limit(&p->cache->budget) / SHARE / POOLS / slot_bytes(p->cache);

	if (atomic_load_explicit(&pool->sparse, memory_order_relaxed))
		n /= SPARSE;
	return n < p->max_slots ? (uint32_t)n : p->max_slots;
}

/* ---- life ---- */

/* A mapping for all pools, as much as the machine could ever give them, less where address space is short. */
static bool probation_map(struct probation *p)
{
	unsigned shift = p->cache->page_shift;
	uint64_t n = (uint64_t)sysconf(_SC_PHYS_PAGES) / SHARE / POOLS;

	for (n = n < UINT32_MAX / 4 ? n : UINT32_MAX / 4; n >= LEAST_SLOTS; n /= 2) {
		uint64_t each = pool_bytes(n, shift);
		char *at = mmap(NULL, each * POOLS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (at == MAP_FAILED)
			continue;
		p->mapping = at;
		p->mapping_bytes = each * POOLS;
		p->max_slots = (uint32_t)n;
		for (struct pool *pool = p->pools; pool < p->pools + POOLS; pool++, at += each)
			pool_place(pool, at, n, shift);
		return true;
	}
	return false;
}

struct probation *probation_create(struct quire_cache *c)
{
	struct probation *p = aligned_alloc(_Alignof(struct probation), sizeof(*p));

	if (p == NULL)
		return NULL;
	memset(p, 0, sizeof(*p));
	p->cache = c;
	p->group_shift = unit_shift(c, UNIT_64K);
	if (!probation_map(p)) {
		free(p);
		return NULL;
	}
	/* As arenas are: no child's, in no dump, no more at once than was charged, and not swapped. */
	madvise(p->mapping, p->mapping_bytes, MADV_DONTFORK);
	madvise(p->mapping, p->mapping_bytes, MADV_DONTDUMP);
	madvise(p->mapping, p->mapping_bytes, MADV_NOHUGEPAGE);
	p->locked = arena_swap_is_on() && syscall(SYS_mlock2, p->mapping, p->mapping_bytes, MLOCK_ONFAULT) == 0;
	for (struct pool *pool = p->pools; pool < p->pools + POOLS; pool++)
		pool_init(pool);
	return p;
}

void probation_destroy(struct probation *p)
{
	if (p == NULL)
		return;
	budget_uncharge(&p->cache->budget, BUDGET_PROBATION, budget_kind_used(&p->cache->budget, BUDGET_PROBATION));
	for (struct pool *pool = p->pools; pool < p->pools + POOLS; pool++)
		pool_fini(pool);
	munmap(p->mapping, p->mapping_bytes);
	free(p);
}

/* ---- memory ---- */

void probation_grow(struct quire_cache *c)
{
	struct probation *p = c->probation;

	for (struct pool *pool = p->pools; pool < p->pools + POOLS; pool++) {
		pthread_mutex_lock(&pool->lock);
		uint32_t share = pool_share(p, pool), n = share > pool->n_slots ? share - pool->n_slots : 0;
		n = n < GROW_SLOTS ? n : GROW_SLOTS;
		if (atomic_exchange_explicit(&pool->wants_more, false, memory_order_relaxed) && n > 0 &&
		    budget_try_charge(&c->budget, BUDGET_PROBATION, n * slot_bytes(c)))
			pool_grow(pool, n);
		pthread_mutex_unlock(&pool->lock);
	}
}
static_assert(GROW_SLOTS <= POOL_BUCKETS_LEAST, "as pool_grow demands");

/* Out of memory with what n slots at the end of a pool have held. */
static void pool_zap(const struct probation *p, const struct pool *pool, uint32_t n)
{
	int advice = p->locked ? MADV_DONTNEED_LOCKED : MADV_DONTNEED;
	uint64_t page_bytes = cache_page_bytes(p->cache), end = pool->n_slots;
	uint64_t from = (end * sizeof(struct slot) + page_bytes - 1) & -page_bytes;
	uint64_t to = ((end + n) * sizeof(struct slot) + page_bytes - 1) & -page_bytes;

	madvise(pool_copy(pool, pool->n_slots, p->cache->page_shift), n * page_bytes, advice);
	if (from < to)
		madvise((char *)pool->slots + from, to - from, advice);
}

unsigned probation_shrink(struct quire_cache *c, unsigned n, bool any)
{
	struct probation *p = c->probation;
	unsigned got = 0;

	if (p == NULL || budget_kind_used(&c->budget, BUDGET_PROBATION) == 0)
		return 0;
	for (struct pool *pool = p->pools; pool < p->pools + POOLS && got < n; pool++) {
		uint32_t share = any ? 0 : pool_share(p, pool);

		if (atomic_load_explicit(&pool->n_slots, memory_order_relaxed) <= share)
			continue;
		pthread_mutex_lock(&pool->lock);
		uint32_t beyond = pool->n_slots > share ? pool->n_slots - share : 0;
		uint32_t n_less = pool_shrink(pool, beyond < n - got ? beyond : n - got);
		if (n_less > 0)
			pool_zap(p, pool, n_less);
		pthread_mutex_unlock(&pool->lock);
		got += n_less;
	}
	if (got > 0) {
		budget_uncharge(&c->budget, BUDGET_PROBATION, got * slot_bytes(c));
		fillers_feed(c);
	}
	return got;
}

/* ---- pages that leave ---- */

void probation_earn(struct range *r)
{
	struct probation *p = r->cache->probation;

	if (p == NULL)
		return;
	atomic_store_explicit(&r->probation_credit, CREDIT, memory_order_relaxed);
	if (!atomic_load_explicit(&p->armed, memory_order_relaxed))
		atomic_store_explicit(&p->armed, true, memory_order_relaxed);
}

/* Lost in a race, a little too much is given. */
static bool range_pays(struct range *r)
{
	uint32_t credit = atomic_load_explicit(&r->probation_credit, memory_order_relaxed);

	if (credit > 0)
		atomic_store_explicit(&r->probation_credit, credit - 1, memory_order_relaxed);
	return credit > 0;
}

/* Are more copies worth while? The pool's lock is held. */
static bool pool_tries(struct pool *pool)
{
	bool sparse = atomic_load_explicit(&pool->sparse, memory_order_relaxed);

	if (pool->n_admitted >= WINDOW / (sparse ? SPARSE : 1)) {
		sparse = pool->n_hits < pool->n_admitted / WORTH;
		atomic_store_explicit(&pool->sparse, sparse, memory_order_relaxed);
		pool->n_admitted = pool->n_hits = 0;
	}
	return !sparse || pool->n_tried++ % SPARSE == 0;
}

/* Slots for up to n pages; how many. */
static unsigned pool_take(struct probation *p, struct pool *pool, uint32_t *ret_slots, unsigned n)
{
	unsigned got = 0;

	pthread_mutex_lock(&pool->lock);
	if (pool_tries(pool)) {
		if (pool->free.oldest == NO_SLOT && pool->n_slots < pool_share(p, pool))
			atomic_store_explicit(&pool->wants_more, true, memory_order_relaxed);
		while (got < n && (ret_slots[got] = slot_take(pool)) != NO_SLOT)
			got++;
	}
	pthread_mutex_unlock(&pool->lock);
	return got;
}

static void pool_forget(struct pool *pool, uint64_t page)
{
	uint32_t i = pool_find(pool, page);

	if (i != NO_SLOT) {
		slot_detach(pool, i);
		slot_release(pool, i);
	}
}

/* What the slots hold now, of r, may be found: invariant 5. */
static void pool_show(struct probation *p, struct pool *pool, struct range *r, uint64_t epoch, const uint32_t *slots,
                      unsigned n)
{
	pthread_mutex_lock(&pool->lock);
	for (unsigned i = 0; i < n; i++) {
		/* It may have come back by a read, as the neighbour of another, and left an older one. */
		pool_forget(pool, pool->slots[slots[i]].page);
		pool->slots[slots[i]].range = r;
		slot_attach(pool, slots[i]);
	}
	if (atomic_load(&p->epoch) != epoch)
		for (unsigned i = 0; i < n; i++) {
			slot_detach(pool, slots[i]);
			slot_release(pool, slots[i]);
		}
	else
		pool->n_admitted += n;
	pthread_mutex_unlock(&pool->lock);
}

static void pool_admit(struct probation *p, struct pool *pool, struct range *r, uint64_t epoch, const struct victim *v)
{
	unsigned shift = p->cache->page_shift, n = 0;
	uint32_t slots[UNIT_SLOTS];
	unsigned got = pool_take(p, pool, slots, v->n_claimed);

	for (unsigned i = 0; i < v->n_pages && n < got; i++) {
		if (!victim_has(v, i))
			continue;
		pool->slots[slots[n]].page = v->first + i;
		memcpy(pool_copy(pool, slots[n], shift), arena_address(r->arena, v->first + i), (size_t)1 << shift);
		n++;
	}
	if (got > 0)
		pool_show(p, pool, r, epoch, slots, got);
}

uint64_t probation_epoch(struct quire_cache *c)
{
	return c->probation == NULL ? 0 : atomic_load(&c->probation->epoch);
}

bool probation_admit(struct quire_cache *c, uint64_t epoch, const struct victim *victims, unsigned n)
{
	struct probation *p = c->probation;
	struct range *r = NULL;
	bool wants_more = false;

	if (p == NULL || !atomic_load_explicit(&p->armed, memory_order_relaxed))
		return false;
	for (const struct victim *v = victims; v < victims + n; v++) {
		struct pool *pool = pool_of(p, v->first);

		if (v->n_pages > UNIT_SLOTS || v->kept)
			continue;
		if (r == NULL || v->first - r->first_page >= r->n_pages)
			r = range_find_locked(c, v->first);
		if (range_pays(r))
			pool_admit(p, pool, r, epoch, v);
		wants_more |= atomic_load_explicit(&pool->wants_more, memory_order_relaxed);
	}
	return wants_more;
}

/* ---- pages that come back ---- */

static bool range_has_any(const struct range *r)
{
	return atomic_load_explicit(&r->n_probation, memory_order_acquire) > 0;
}

bool probation_holds(const struct range *r, uint64_t page)
{
	if (!range_has_any(r))
		return false;
	struct pool *pool = pool_of(r->cache->probation, page);
	pthread_mutex_lock(&pool->lock);
	bool holds = pool_find(pool, page) != NO_SLOT;
	pthread_mutex_unlock(&pool->lock);
	return holds;
}

/* A copy that is its fill's until it is released. */
static uint32_t pool_use(struct pool *pool, uint64_t page)
{
	pthread_mutex_lock(&pool->lock);
	uint32_t i = pool_find(pool, page);
	if (i != NO_SLOT) {
		slot_detach(pool, i);
		pool->n_hits++;
	}
	pthread_mutex_unlock(&pool->lock);
	return i;
}

static void pool_release(struct pool *pool, uint32_t i)
{
	pthread_mutex_lock(&pool->lock);
	slot_release(pool, i);
	pthread_mutex_unlock(&pool->lock);
}

bool probation_fill(struct fill *fill)
{
	struct probation *p = fill->range->cache->probation;
	char *buf = fill->buf;

	if (!range_has_any(fill->range))
		return false;
	struct pool *pool = pool_of(p, fill->page);
	uint32_t i = pool_use(pool, fill->page);
	if (i == NO_SLOT)
		return false;

	fill->from_copy = source_is_as_it_was(&fill->source);
	if (fill->from_copy) {
		fill->buf = pool_copy(pool, i, p->cache->page_shift);
		fill_install(fill, NULL);
		fill->buf = buf;
		fill->from_copy = fill->result == 0 && fill->n_good == 1;
		fill->result = 0;
	}
	pool_release(pool, i);
	return fill->from_copy;
}

static void pool_drop(struct pool *pool, uint64_t page)
{
	pthread_mutex_lock(&pool->lock);
	pool_forget(pool, page);
	pthread_mutex_unlock(&pool->lock);
}

/* All of a pool that lie in [page, page + n). */
static void pool_drop_run(struct pool *pool, uint64_t page, uint64_t n)
{
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = pool->held.oldest, newer; i != NO_SLOT; i = newer) {
		newer = pool->slots[i].newer;
		if (pool->slots[i].page - page < n) {
			slot_detach(pool, i);
			slot_release(pool, i);
		}
	}
	pthread_mutex_unlock(&pool->lock);
}

void probation_drop(struct range *r, uint64_t page, uint64_t n)
{
	struct probation *p = r->cache->probation;

	if (p == NULL)
		return;
	atomic_fetch_add(&p->epoch, 1);
	if (atomic_load(&r->n_probation) == 0)
		return;
	if (n < LEAST_SLOTS) {
		for (uint64_t i = 0; i < n; i++)
			pool_drop(pool_of(p, page + i), page + i);
		return;
	}
	for (struct pool *pool = p->pools; pool < p->pools + POOLS; pool++)
		pool_drop_run(pool, page, n);
}

bool probation_check(struct probation *p)
{
	uint64_t n_slots = 0;
	bool sound = true;

	for (struct pool *pool = p->pools; pool < p->pools + POOLS; pool++) {
		pthread_mutex_lock(&pool->lock);
		sound &= pool_check(pool, p->max_slots);
		n_slots += pool->n_slots;
		pthread_mutex_unlock(&pool->lock);
	}
	return sound && budget_kind_used(&p->cache->budget, BUDGET_PROBATION) == n_slots * slot_bytes(p->cache);
}
