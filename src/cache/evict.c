/* evict.c - victims are asked for by shard, claimed by their words, dropped in batches.
 *
 * 1. A page leaves only from RESIDENT, without pins, without DUP, with its whole unit (unit.h).
 * 2. While a batch is between claim and ABSENT, ranges_lock is held for reading, or all of it is of one range, which its
 *    caller holds: so no range of its pages is freed.
 * 3. A page whose unit is QUEUED has an entry in its shard's policy. Taking it by the policy consumes the
 *    entry; dropping it otherwise leaves a stale one, which the policy forgets when it
 *    meets it, or the sweep does.
 * 4. LEAST_PAGES leave together if as many can, hot ones among them as the last: one instruction may need that many pages at once
 *    (a load across two, a gather). Where all else is hot, and they left one by one, each would come in the place of
 *    another, and that instruction would never end.
 */
#include "evict.h"

#include "chance.h"
#include "core.h"
#include "depart.h"
#include "fill.h"
#include "memory.h"
#include "probation.h"
#include "unit.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define SWEEP_SLACK 1024
#define MAX_VICTIMS ARENA_ZAP_MAX
#define MAX_ROUNDS 4 /* of victims that all had to stay */
#define LEAST_PAGES 16 /* that leave together, if there are as many: invariant 4 */

/* Units that are on their way out together. */
struct batch {
	unsigned n, n_pages;
	bool put_back; /* pages of a unit were claimed, another could not be, and they are as before */
	struct victim victims[MAX_VICTIMS];
};

static void batch_init(struct batch *b)
{
	b->n = b->n_pages = 0;
	b->put_back = false;
}

/* Who looked for victims meanwhile found those that were put back in somebody's hands, and may wait for them now. */
static void batch_end(struct quire_cache *c, const struct batch *b)
{
	if (b->put_back)
		fillers_feed(c);
}

struct ask {
	struct quire_cache *cache;
	bool spare_hot;
	struct batch *batch;
};

/* The policy's question, under the shard's lock. */
static enum policy_answer evict_ask(void *arg, uint64_t entry, unsigned threshold)
{
	const struct ask *ask = arg;
	struct batch *b = ask->batch;

	b->victims[b->n].n_claimed = 0;
	enum policy_answer answer =
		unit_ask(ask->cache, entry, threshold, ask->spare_hot, &b->victims[b->n]);
	if (answer == POLICY_TAKEN)
		b->n_pages += b->victims[b->n++].n_claimed;
	else
		b->put_back |= b->victims[b->n].n_claimed > 0;
	return answer;
}

static void evict_pick(struct quire_cache *c, struct batch *b, unsigned n_pages, bool spare_hot)
{
	struct ask ask = {.cache = c, .spare_hot = spare_hot, .batch = b};
	unsigned first = atomic_fetch_add_explicit(&c->next_shard, 1, memory_order_relaxed);
	/* Where units are large, one by one: the first may be more than enough. */
	unsigned most = atomic_load_explicit(&c->has_units, memory_order_relaxed) ? 1 : MAX_VICTIMS;
	uint64_t entries[MAX_VICTIMS];

	for (unsigned i = 0; i < N_SHARDS && b->n_pages < n_pages && b->n < MAX_VICTIMS; i++) {
		struct shard *s = &c->shards[(first + i) % N_SHARDS];
		unsigned got, n;

		pthread_mutex_lock(&s->lock);
		do {
			n = n_pages - b->n_pages;
			n = n < MAX_VICTIMS - b->n ? n : MAX_VICTIMS - b->n;
			got = policy_pick(s->policy, entries, n < most ? n : most, evict_ask, &ask);
		} while (got > 0 && b->n_pages < n_pages && b->n < MAX_VICTIMS);
		pthread_mutex_unlock(&s->lock);
	}
}

/* Takes the claimed pages out of memory. */
static void evict_zap(const struct batch *b)
{
	struct page_run runs[ARENA_ZAP_MAX];
	struct arena *a = NULL;
	unsigned n = 0;

	for (const struct victim *v = b->victims; v < b->victims + b->n; v++) {
		for (unsigned i = 0; i < v->n_pages; i++) {
			uint64_t page = v->first + i;

			if (!victim_has(v, i))
				continue;
			if (n > 0 && a == v->arena && runs[n - 1].first + runs[n - 1].n == page) {
				runs[n - 1].n++;
				continue;
			}
			if (n == ARENA_ZAP_MAX || (n > 0 && a != v->arena)) {
				arena_zap(a, runs, n);
				n = 0;
			}
			a = v->arena;
			runs[n++] = (struct page_run){page, 1};
		}
	}
	if (n > 0)
		arena_zap(a, runs, n);
}

void evict_settle(struct range *r, uint64_t page)
{
	page_word *word = range_word(r, page);

	if (page_load(word) & PAGE_UNVERIFIED)
		atomic_fetch_sub_explicit(&r->n_unverified, 1, memory_order_relaxed);
	count(&r->n_evictions, 1);
	atomic_fetch_sub_explicit(&cache_shard(r->cache, page)->n_resident, 1, memory_order_relaxed);
	page_move(word, PAGE_ABSENT, 0, PAGE_QUEUED);
	arena_region_leave(r->arena, page, 1);
	atomic_fetch_sub_explicit(&r->n_resident, 1, memory_order_release);
}

/* What was claimed leaves. ranges_lock is held, or `known`, the range of all of it. */
static void evict_drop(struct quire_cache *c, struct range *known, struct batch *b)
{
	if (b->n == 0)
		return;
	unsigned n_departed = depart(c, known, b->victims, b->n, &b->n_pages);
	evict_zap(b);
	for (const struct victim *v = b->victims; v < b->victims + b->n; v++) {
		struct range *r = known != NULL ? known : range_find_locked(c, v->first);

		for (unsigned i = 0; i < v->n_pages; i++)
			if (victim_has(v, i))
				evict_settle(r, v->first + i);
	}
	evict_uncharge_frames(c, b->n_pages);
	b->n_pages += n_departed;
	count(&c->counters.n_evictions, b->n_pages);
}

/* True: the unit of a page is in the batch now. */
static bool evict_claim(struct quire_cache *c, struct arena *a, uint64_t page, struct batch *b)
{
	b->victims[b->n].n_claimed = 0;
	if (!unit_claim(c, a, page, &b->victims[b->n])) {
		b->put_back |= b->victims[b->n].n_claimed > 0;
		return false;
	}
	b->n_pages += b->victims[b->n++].n_claimed;
	return true;
}

/* Pages that advice has put first in line. cold_lock and ranges_lock are held. */
static void evict_pick_cold(struct quire_cache *c, struct batch *b, unsigned n_pages)
{
	while (c->n_cold > 0 && b->n_pages < n_pages && b->n < MAX_VICTIMS) {
		struct cold_extent *e = &c->cold[c->n_cold - 1];

		while (e->n > 0 && b->n_pages < n_pages && b->n < MAX_VICTIMS) {
			uint64_t step = 1;

			/* Of a huge sparse file most regions are empty, and looked at as a whole. */
			if (arena_region_count(e->range->arena, e->first) == 0)
				step = arena_region_end(e->range->arena, e->first) - e->first;
			else
				evict_claim(c, e->range->arena, e->first, b);
			e->first += step < e->n ? step : e->n;
			e->n -= step < e->n ? step : e->n;
		}
		if (e->n == 0)
			c->n_cold--;
	}
	atomic_store_explicit(&c->has_cold, c->n_cold > 0, memory_order_relaxed);
}

/* *ret_stayed: there were victims, but all had to stay. */
static unsigned evict_round(struct quire_cache *c, unsigned n, bool *ret_stayed)
{
	uint64_t epoch = probation_epoch(c), chance = chance_epoch(c);
	unsigned aside = probation_shrink(c, n, chance_serves(c));
	bool grow = false;
	struct batch b;

	*ret_stayed = false;
	if (aside > 0)
		return aside;
	batch_init(&b);
	if (n > ARENA_ZAP_MAX)
		n = ARENA_ZAP_MAX;
	pthread_rwlock_rdlock(&c->ranges_lock);
	if (atomic_load_explicit(&c->has_cold, memory_order_relaxed)) {
		pthread_mutex_lock(&c->cold_lock);
		evict_pick_cold(c, &b, n);
		pthread_mutex_unlock(&c->cold_lock);
	}
	if (b.n == 0) {
		evict_pick(c, &b, n, true);
		chance_admit(c, chance, b.victims, b.n);
		grow = probation_admit(c, epoch, b.victims, b.n);
	}
	if (b.n == 0)
		aside = probation_shrink(c, n, true);
	if (b.n_pages + aside > 0 && n > LEAST_PAGES)
		n = LEAST_PAGES;
	if (b.n_pages + aside < n)
		evict_pick(c, &b, n - aside, false);
	evict_drop(c, NULL, &b);
	pthread_rwlock_unlock(&c->ranges_lock);
	if (grow)
		probation_grow(c);
	batch_end(c, &b);
	*ret_stayed = b.n > 0;
	return b.n_pages + aside;
}

unsigned evict_some(struct quire_cache *c, unsigned n)
{
	bool stayed = true;
	unsigned got = 0;

	for (unsigned i = 0; got == 0 && stayed && i < MAX_ROUNDS; i++)
		got = evict_round(c, n, &stayed);
	return got;
}

void evict_to_budget(struct quire_cache *c)
{
	uint64_t excess;

	while ((excess = budget_excess(&c->budget)) > 0) {
		uint64_t n = (excess >> c->page_shift) + 1;

		chance_shrink(c);
		if (evict_some(c, n < ARENA_ZAP_MAX ? (unsigned)n : ARENA_ZAP_MAX) == 0 && !memory_yield(c))
			break;
	}
}

/* Copies that are about to come find room, as long as there is any other way. */
static bool evict_charge_beside(struct quire_cache *c, uint64_t bytes, uint64_t reserve)
{
	return budget_used(&c->budget) + bytes + reserve <= budget_limit(&c->budget) &&
	       budget_try_charge(&c->budget, BUDGET_FRAMES, bytes);
}

/* Piece by piece, each kept: a unit of 2 MiB in a small budget would wait for ever for all at once, while others, whose pages come back
 * from copies in microseconds, take what leaves for it, and lose it again before they have read it. */
int evict_charge_frames(struct quire_cache *c, unsigned n)
{
	for (unsigned i = 0, step; i < n; i += step) {
		step = n - i < ARENA_ZAP_MAX ? n - i : ARENA_ZAP_MAX;
		uint64_t bytes = (uint64_t)step << c->page_shift;
		while (!evict_charge_beside(c, bytes, chance_reserve(c))) {
			if (memory_reclaim(c))
				continue;
			if (budget_try_charge(&c->budget, BUDGET_FRAMES, bytes))
				break;
			if (i > 0)
				evict_uncharge_frames(c, i);
			return -ENOMEM;
		}
	}
	return 0;
}

void evict_uncharge_frames(struct quire_cache *c, unsigned n)
{
	budget_uncharge(&c->budget, BUDGET_FRAMES, (uint64_t)n << c->page_shift);
	fillers_feed(c);
}

int evict_enter_region(struct arena *a, struct quire_cache *c, uint64_t page, unsigned n, bool force)
{
	int rc;

	while ((rc = arena_region_enter(a, page, n, false)) == -ENOMEM) {
		if (memory_reclaim(c))
			continue;
		/* Page tables that the kernel will not take back must not stop the program for good. */
		return a->reclaims && !force ? rc : arena_region_enter(a, page, n, true);
	}
	return rc;
}

static void shard_recharge(struct quire_cache *c, struct shard *s)
{
	uint64_t bytes = policy_bytes(s->policy);

	if (bytes > s->charged_bytes)
		budget_charge(&c->budget, BUDGET_TABLES, bytes - s->charged_bytes);
	else if (bytes < s->charged_bytes)
		budget_uncharge(&c->budget, BUDGET_TABLES, s->charged_bytes - bytes);
	s->charged_bytes = bytes;
}

static void evict_count_resident(struct range *r, uint64_t page, uint32_t flags, int64_t n)
{
	count(&cache_shard(r->cache, page)->n_resident, (uint64_t)n);
	count(&r->n_resident, (uint64_t)n);
	if (flags & PAGE_UNVERIFIED)
		count(&r->n_unverified, (uint64_t)n);
}

/* Invariant 2 of unit.c: the page says that it is resident, then its unit that it has an entry. */
static bool evict_queue(struct quire_cache *c, struct arena *a, uint64_t page, enum unit_size size, bool used)
{
	uint64_t first = unit_first(a, page, unit_shift(c, size));
	struct shard *s = cache_shard(c, first);

	if (atomic_fetch_or(arena_word(a, first), PAGE_QUEUED) & PAGE_QUEUED)
		return true;
	pthread_mutex_lock(&s->lock);
	int rc = used ? policy_insert_used(s->policy, unit_entry(first, size))
	              : policy_insert(s->policy, unit_entry(first, size));
	shard_recharge(c, s);
	pthread_mutex_unlock(&s->lock);
	if (rc < 0)
		atomic_fetch_and(arena_word(a, first), ~PAGE_QUEUED);
	return rc == 0;
}

void evict_stay(struct range *r, uint64_t page)
{
	page_move(range_word(r, page), PAGE_RESIDENT, 0, PAGE_DIRTY | PAGE_HOT | PAGE_QUEUED);
	evict_queue(r->cache, r->arena, page, UNIT_PAGE, true);
}

bool evict_enter(struct range *r, uint64_t page, uint32_t id, uint32_t flags)
{
	page_word *word = range_word(r, page);

	/* Counted before: as soon as the word says so, it may leave again. */
	evict_count_resident(r, page, flags, 1);
	uint32_t w = page_load(word);
	do {
		if (!page_is_filled_by(w, id) || (w & PAGE_SPOILED)) {
			evict_count_resident(r, page, flags, -1);
			return false;
		}
	} while (!page_cas(word, &w, PAGE_RESIDENT | (w & (PAGE_QUEUED | PAGE_DUP | PAGE_UNIT_MASK)) | flags));
	/* Nobody would ever choose it: it leaves now, unless it is in use; then purge or
	 * destroy takes it. */
	bool used = (flags & PAGE_USES_MASK) != 0;
	if (!evict_queue(r->cache, r->arena, page, (enum unit_size)page_unit(w), used))
		evict_range(r, page, 1);
	return true;
}

bool evict_use_absent(struct range *r, uint64_t page)
{
	struct quire_cache *c = r->cache;
	uint64_t key = r->serial << RANGE_KEY_SHIFT | (page - r->first_page);
	struct shard *s = cache_shard(c, key);
	size_t n_fits = (size_t)(budget_limit(&c->budget) >> c->page_shift) / N_SHARDS;

	pthread_mutex_lock(&s->lock);
	uint64_t charged_bytes = s->charged_bytes;
	bool known = policy_use_absent(s->policy, key, n_fits);
	shard_recharge(c, s);
	bool grew = s->charged_bytes > charged_bytes;
	pthread_mutex_unlock(&s->lock);
	if (grew)
		evict_to_budget(c);
	return known;
}

static bool evict_is_gone(void *arg, uint64_t entry)
{
	return unit_is_gone(arg, entry);
}

/* Stale entries go when they outnumber the living. */
static void evict_sweep(struct quire_cache *c)
{
	for (struct shard *s = c->shards; s < c->shards + N_SHARDS; s++) {
		pthread_mutex_lock(&s->lock);
		uint64_t living = atomic_load_explicit(&s->n_resident, memory_order_relaxed);
		if (policy_n_entries(s->policy) > 2 * living + SWEEP_SLACK)
			policy_forget(s->policy, evict_is_gone, c);
		shard_recharge(c, s);
		pthread_mutex_unlock(&s->lock);
	}
}

uint64_t evict_range(struct range *r, uint64_t page, uint64_t n)
{
	struct arena *a = r->arena;
	uint64_t end = page + n, dropped = 0;
	struct batch b;

	batch_init(&b);
	while (page < end) {
		uint64_t region_end = arena_region_end(a, page);

		if (arena_region_count(a, page) == 0) {
			page = region_end;
			continue;
		}
		for (; page < end && page < region_end; page++) {
			evict_claim(r->cache, a, page, &b);
			if (b.n == MAX_VICTIMS) {
				evict_drop(r->cache, r, &b);
				dropped += b.n_pages;
				b.n = b.n_pages = 0;
			}
		}
	}
	evict_drop(r->cache, r, &b);
	dropped += b.n_pages;
	batch_end(r->cache, &b);
	if (dropped > 0)
		evict_sweep(r->cache);
	return dropped;
}

int evict_cold(struct range *r, uint64_t page, uint64_t n)
{
	struct quire_cache *c = r->cache;
	int rc = 0;

	pthread_mutex_lock(&c->cold_lock);
	if (c->n_cold == c->cold_capacity) {
		size_t capacity = c->cold_capacity ? 2 * c->cold_capacity : 16;
		struct cold_extent *grown = realloc(c->cold, capacity * sizeof(*grown));

		if (grown == NULL)
			rc = -ENOMEM;
		else {
			c->cold = grown;
			c->cold_capacity = capacity;
		}
	}
	if (rc == 0) {
		c->cold[c->n_cold++] = (struct cold_extent){r, page, n};
		atomic_store_explicit(&c->has_cold, true, memory_order_relaxed);
	}
	pthread_mutex_unlock(&c->cold_lock);
	return rc;
}

void evict_forget_cold(struct range *r, uint64_t page, uint64_t n)
{
	struct quire_cache *c = r->cache;
	size_t kept = 0;

	pthread_mutex_lock(&c->cold_lock);
	for (size_t i = 0; i < c->n_cold; i++)
		if (c->cold[i].range != r || c->cold[i].first - page >= n)
			c->cold[kept++] = c->cold[i];
	c->n_cold = kept;
	atomic_store_explicit(&c->has_cold, kept > 0, memory_order_relaxed);
	pthread_mutex_unlock(&c->cold_lock);
}
