/* evict.c - victims are asked for by shard, claimed by their words, dropped in batches.
 *
 * 1. A page leaves only from RESIDENT, without pins, without DUP: the claim is one compare-and-swap.
 * 2. While a batch is between claim and ABSENT, ranges_lock is held for reading, so no range
 *    of its pages is freed.
 * 3. A page that is QUEUED has an entry in its shard's policy. Taking it by the policy consumes the
 *    entry; dropping it otherwise leaves a stale one, which the policy forgets when it
 *    meets it, or the sweep does.
 */
#include "evict.h"

#include "core.h"
#include "fill.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define SWEEP_SLACK 1024

struct ask {
	struct quire_cache *cache;
	bool spare_hot;
};

/* The policy's question, under the shard's lock. */
static enum policy_answer evict_ask(void *arg, uint64_t page, unsigned threshold)
{
	const struct ask *ask = arg;
	struct arena *a = cache_arena_of(ask->cache, page);
	page_word *word = arena_word(a, page);
	uint32_t w = page_load(word);

	for (;;) {
		uint32_t next;
		enum policy_answer answer;

		if (page_state(w) == PAGE_ABSENT || page_state(w) == PAGE_POISONED) {
			if ((w & PAGE_QUEUED) == 0)
				return POLICY_GONE;
			next = w & ~PAGE_QUEUED;
			answer = POLICY_GONE;
		} else if (page_state(w) != PAGE_RESIDENT || page_value(w) > 0 || (w & PAGE_DUP) ||
		           (ask->spare_hot && (w & PAGE_HOT))) {
			return POLICY_BUSY;
		} else if (page_uses(w) >= threshold && threshold > 0) {
			next = w - (1u << PAGE_USES_SHIFT);
			answer = POLICY_USED;
		} else {
			next = PAGE_EVICTING | (w & PAGE_UNVERIFIED);
			answer = POLICY_TAKEN;
		}
		if (page_cas(word, &w, next))
			return answer;
	}
}

static unsigned evict_pick(struct quire_cache *c, uint64_t *pages, unsigned n, bool spare_hot)
{
	struct ask ask = {.cache = c, .spare_hot = spare_hot};
	unsigned first = atomic_fetch_add_explicit(&c->next_shard, 1, memory_order_relaxed), got = 0;

	for (unsigned i = 0; i < N_SHARDS && got < n; i++) {
		struct shard *s = &c->shards[(first + i) % N_SHARDS];

		pthread_mutex_lock(&s->lock);
		got += policy_pick(s->policy, pages + got, n - got, evict_ask, &ask);
		pthread_mutex_unlock(&s->lock);
	}
	return got;
}

/* Pages in EVICTING, all of one arena, leave. ranges_lock is held, or their range is. */
static void evict_drop(struct quire_cache *c, struct arena *a, struct range *known, uint64_t *pages,
                       unsigned n)
{
	struct range *r = known;

	arena_zap(a, pages, n);
	for (unsigned i = 0; i < n; i++) {
		page_word *word = arena_word(a, pages[i]);
		uint32_t w = page_load(word);

		if (r == NULL || pages[i] - r->first_page >= r->n_pages)
			r = range_find_locked(c, pages[i]);
		if (w & PAGE_UNVERIFIED)
			atomic_fetch_sub_explicit(&r->n_unverified, 1, memory_order_relaxed);
		count(&r->n_evictions, 1);
		atomic_fetch_sub_explicit(&cache_shard(c, pages[i])->n_resident, 1, memory_order_relaxed);
		page_move(word, PAGE_ABSENT, 0, PAGE_QUEUED);
		arena_region_leave(a, pages[i], 1);
		atomic_fetch_sub_explicit(&r->n_resident, 1, memory_order_release);
	}
	count(&c->counters.n_evictions, n);
	evict_uncharge_frames(c, n);
}

static void evict_drop_mixed(struct quire_cache *c, uint64_t *pages, unsigned n)
{
	for (int i = 0; i < N_ARENA_KINDS && n > 0; i++) {
		struct arena *a = atomic_load_explicit(&c->arenas[i], memory_order_acquire);
		unsigned n_other = 0, n_mine = 0;
		uint64_t mine[ARENA_ZAP_MAX];

		if (a == NULL)
			continue;
		for (unsigned k = 0; k < n; k++) {
			if (arena_holds(a, pages[k]))
				mine[n_mine++] = pages[k];
			else
				pages[n_other++] = pages[k];
		}
		if (n_mine > 0)
			evict_drop(c, a, NULL, mine, n_mine);
		n = n_other;
	}
}

/* Claims a page for eviction outside of the policy, whose entry becomes stale. */
static bool evict_claim(page_word *word)
{
	uint32_t w = page_load(word);

	while (page_state(w) == PAGE_RESIDENT && page_value(w) == 0 && (w & PAGE_DUP) == 0)
		if (page_cas(word, &w, PAGE_EVICTING | (w & (PAGE_UNVERIFIED | PAGE_QUEUED))))
			return true;
	return false;
}

/* Pages that advice has put first in line. cold_lock and ranges_lock are held. */
static unsigned evict_pick_cold(struct quire_cache *c, uint64_t *pages, unsigned n)
{
	unsigned got = 0;

	while (c->n_cold > 0 && got < n) {
		struct cold_extent *e = &c->cold[c->n_cold - 1];

		while (e->n > 0 && got < n) {
			uint64_t step = 1;

			/* Of a huge sparse file most regions are empty, and looked at as a whole. */
			if (arena_region_count(e->range->arena, e->first) == 0)
				step = arena_region_end(e->range->arena, e->first) - e->first;
			else if (evict_claim(range_word(e->range, e->first)))
				pages[got++] = e->first;
			e->first += step < e->n ? step : e->n;
			e->n -= step < e->n ? step : e->n;
		}
		if (e->n == 0)
			c->n_cold--;
	}
	atomic_store_explicit(&c->has_cold, c->n_cold > 0, memory_order_relaxed);
	return got;
}

unsigned evict_some(struct quire_cache *c, unsigned n)
{
	uint64_t pages[ARENA_ZAP_MAX];
	unsigned got = 0;

	if (n > ARENA_ZAP_MAX)
		n = ARENA_ZAP_MAX;
	pthread_rwlock_rdlock(&c->ranges_lock);
	if (atomic_load_explicit(&c->has_cold, memory_order_relaxed)) {
		pthread_mutex_lock(&c->cold_lock);
		got = evict_pick_cold(c, pages, n);
		pthread_mutex_unlock(&c->cold_lock);
	}
	if (got == 0)
		got = evict_pick(c, pages, n, true);
	if (got == 0)
		got = evict_pick(c, pages, n, false);
	if (got > 0)
		evict_drop_mixed(c, pages, got);
	pthread_rwlock_unlock(&c->ranges_lock);
	return got;
}

void evict_to_budget(struct quire_cache *c)
{
	uint64_t excess;

	while ((excess = budget_excess(&c->budget)) > 0) {
		uint64_t n = (excess >> c->page_shift) + 1;

		if (evict_some(c, n < ARENA_ZAP_MAX ? (unsigned)n : ARENA_ZAP_MAX) == 0)
			break;
	}
}

int evict_charge_frames(struct quire_cache *c, unsigned n)
{
	for (;;) {
		if (budget_try_charge(&c->budget, BUDGET_FRAMES, (uint64_t)n << c->page_shift))
			return (int)n;
		if (evict_some(c, ARENA_ZAP_MAX) > 0)
			continue;
		if (n == 1)
			return -ENOMEM;
		n = 1;
	}
}

void evict_uncharge_frames(struct quire_cache *c, unsigned n)
{
	budget_uncharge(&c->budget, BUDGET_FRAMES, (uint64_t)n << c->page_shift);
	fillers_feed(c);
}

int evict_enter_region(struct arena *a, struct quire_cache *c, uint64_t page, bool force)
{
	int rc;

	while ((rc = arena_region_enter(a, page, 1, false)) == -ENOMEM) {
		if (evict_some(c, ARENA_ZAP_MAX) > 0)
			continue;
		/* Page tables that the kernel will not take back must not stop the program for good. */
		return a->reclaims && !force ? rc : arena_region_enter(a, page, 1, true);
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

bool evict_enter(struct range *r, uint64_t page, uint32_t id, uint32_t flags)
{
	struct quire_cache *c = r->cache;
	struct shard *s = cache_shard(c, page);
	page_word *word = range_word(r, page);

	/* Counted before: as soon as the word says so, it may leave again. */
	evict_count_resident(r, page, flags, 1);
	uint32_t w = page_load(word);
	do {
		if (!page_is_filled_by(w, id) || (w & PAGE_SPOILED)) {
			evict_count_resident(r, page, flags, -1);
			return false;
		}
	} while (!page_cas(word, &w, PAGE_RESIDENT | PAGE_QUEUED | (w & PAGE_DUP) | flags));
	if (w & PAGE_QUEUED)
		return true;
	pthread_mutex_lock(&s->lock);
	int rc = policy_insert(s->policy, page);
	shard_recharge(c, s);
	pthread_mutex_unlock(&s->lock);
	if (rc < 0) {
		/* Nobody would ever choose it: it leaves now, unless it is in use; then purge or
		 * destroy takes it. */
		atomic_fetch_and(word, ~PAGE_QUEUED);
		evict_range(r, page, 1);
	}
	return true;
}

static bool evict_is_gone(void *arg, uint64_t page)
{
	page_word *word = arena_word(cache_arena_of(arg, page), page);
	uint32_t w = page_load(word);

	while (page_state(w) == PAGE_ABSENT || page_state(w) == PAGE_POISONED)
		if ((w & PAGE_QUEUED) == 0 || page_cas(word, &w, w & ~PAGE_QUEUED))
			return true;
	return false;
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
	uint64_t pages[ARENA_ZAP_MAX], end = page + n, dropped = 0;
	unsigned got = 0;

	while (page < end) {
		uint64_t region_end = arena_region_end(a, page);

		if (arena_region_count(a, page) == 0) {
			page = region_end;
			continue;
		}
		for (; page < end && page < region_end; page++) {
			if (evict_claim(arena_word(a, page)))
				pages[got++] = page;
			if (got == ARENA_ZAP_MAX) {
				evict_drop(r->cache, a, r, pages, got);
				dropped += got;
				got = 0;
			}
		}
	}
	if (got > 0)
		evict_drop(r->cache, a, r, pages, got);
	dropped += got;
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
