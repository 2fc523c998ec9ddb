/* range.c - the sorted array of live ranges, and their references.
 *
 * Faults and evictions look ranges up by page; creating and freeing is rare. So: one array, one
 * rwlock, binary search. A range is in the array from range_create until range_free has dropped
 * its pages, so every page that is not ABSENT has a range.
 */
#include "range.h"

#include "../base/fail.h"
#include "core.h"
#include "evict.h"
#include "fault.h"
#include "fill.h"
#include "probation.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* The first range that ends behind page. */
static size_t range_index(const struct quire_cache *c, uint64_t page)
{
	size_t low = 0, high = c->n_ranges;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (c->ranges[mid]->first_page + c->ranges[mid]->n_pages <= page)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct range *range_find_locked(struct quire_cache *c, uint64_t page)
{
	size_t i = range_index(c, page);

	return i < c->n_ranges && c->ranges[i]->first_page <= page ? c->ranges[i] : NULL;
}

struct range *range_find(struct quire_cache *c, uint64_t page)
{
	pthread_rwlock_rdlock(&c->ranges_lock);
	struct range *r = range_find_locked(c, page);
	if (r != NULL && !range_get(r))
		r = NULL;
	pthread_rwlock_unlock(&c->ranges_lock);
	return r;
}

static int range_insert(struct quire_cache *c, struct range *r)
{
	int rc = 0;

	pthread_rwlock_wrlock(&c->ranges_lock);
	if (c->n_ranges == c->ranges_capacity) {
		size_t capacity = c->ranges_capacity ? 2 * c->ranges_capacity : 16;
		struct range **grown = realloc(c->ranges, capacity * sizeof(*grown));

		if (grown == NULL)
			rc = -ENOMEM;
		else {
			c->ranges = grown;
			c->ranges_capacity = capacity;
		}
	}
	if (rc == 0) {
		size_t i = range_index(c, r->first_page);

		memmove(&c->ranges[i + 1], &c->ranges[i], (c->n_ranges - i) * sizeof(*c->ranges));
		c->ranges[i] = r;
		c->n_ranges++;
	}
	pthread_rwlock_unlock(&c->ranges_lock);
	return rc;
}

static void range_remove(struct quire_cache *c, struct range *r)
{
	pthread_rwlock_wrlock(&c->ranges_lock);
	size_t i = range_index(c, r->first_page);
	c->n_ranges--;
	memmove(&c->ranges[i], &c->ranges[i + 1], (c->n_ranges - i) * sizeof(*c->ranges));
	pthread_rwlock_unlock(&c->ranges_lock);
}

/* The arena of a kind, made at first use. */
static int arena_of_kind(struct quire_cache *c, enum arena_kind kind, struct arena **ret_arena,
                         struct quire_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&c->arenas_lock);
	struct arena *a = atomic_load(&c->arenas[kind]);
	if (a == NULL) {
		rc = arena_create(kind, c->reserve_bytes, &c->budget, &a, err);
		if (rc == 0 && arena_kind_is_service(kind))
			rc = fault_service_start(c, a, err);
		if (rc == 0)
			atomic_store_explicit(&c->arenas[kind], a, memory_order_release);
		else if (a != NULL)
			arena_destroy(a);
	}
	pthread_mutex_unlock(&c->arenas_lock);
	*ret_arena = a;
	return rc;
}

int range_create(struct quire_cache *c, enum arena_kind kind, uint64_t n_pages,
                 const struct range_ops *ops, void *owner, struct range **ret_range,
                 struct quire_error *err)
{
	return range_create_anon(c, kind, n_pages, ops, owner, NULL, ret_range, err);
}

int range_create_anon(struct quire_cache *c, enum arena_kind kind, uint64_t n_pages, const struct range_ops *ops,
                      void *owner, struct anon *anon, struct range **ret_range, struct quire_error *err)
{
	struct arena *a;
	int rc = arena_of_kind(c, kind, &a, err);

	if (rc < 0)
		return rc;
	struct range *r = aligned_alloc(STRIPE_BYTES, sizeof(*r));
	if (r == NULL)
		return quire_fail(err, -ENOMEM, "map");
	memset(r, 0, sizeof(*r));
	r->cache = c;
	r->arena = a;
	r->n_pages = n_pages;
	pthread_mutex_init(&r->grow_lock, NULL);
	streams_init(&r->streams);
	r->ops = ops;
	r->owner = owner;
	r->anon = anon;
	r->serial = atomic_fetch_add(&c->n_serials, 1) + 1;
	rc = arena_space_get(a, n_pages, &r->first_page);
	if (rc < 0) {
		quire_fail(err, rc, "no room for %llu pages in the arena", (unsigned long long)n_pages);
		free(r);
		return rc;
	}
	rc = range_insert(c, r);
	if (rc < 0) {
		quire_fail(err, rc, "map");
		arena_space_put(a, r->first_page, n_pages);
		free(r);
		return rc;
	}
	*ret_range = r;
	return 0;
}

int range_kill(struct range *r)
{
	uint64_t none = 0;

	if (!atomic_compare_exchange_strong(&r->n_pinned, &none, RANGE_KILLED))
		return -EBUSY;
	gate_close(&r->gate);
	fillers_kick(r->cache);
	return 0;
}

void range_free(struct range *r)
{
	struct arena *a = r->arena;

	evict_forget_cold(r, r->first_page, r->n_pages);
	/* Evictors may be at work on its pages still; they end by themselves. */
	do {
		evict_range(r, r->first_page, r->n_pages);
	} while (atomic_load_explicit(&r->n_resident, memory_order_acquire) > 0 && sched_yield() == 0);
	fill_drop_copies(r, r->first_page, r->n_pages);
	fault_unpoison(r, r->first_page, r->n_pages);
	range_remove(r->cache, r);
	arena_space_put(a, r->first_page, r->n_pages);
	pthread_mutex_destroy(&r->grow_lock);
	streams_fini(&r->streams);
	free(r);
}
