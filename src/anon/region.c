/* region.c - a region's life, and what can be asked about it.
 *
 * A region is a range of an arena that programs may write to, and a pool of pages for what leaves of it; the cache does the rest
 * (cache/anon.c, cache/depart.c). It is destroyed as a map is: no new operation; when the last has ended, its pages leave,
 * some milliseconds' worth at a time, and are not put into the pool any more; then what the pool has of it is flushed.
 */
#include "anon_internal.h"

#include "../base/fail.h"
#include "../base/feature.h"
#include "../cache/anon_back.h"
#include "../cache/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DESTROY_STEP_PAGES 16384

static_assert(WANT_PIN == QUIRE_ANON_PIN && WANT_WRITE == QUIRE_ANON_WRITE, "flags, each with two names");

static int region_locate(void *owner, uint64_t page, struct page_source *ret)
{
	struct quire_anon *a = owner;

	if (page >= a->n_pages)
		return -EFAULT;
	*ret = (struct page_source){
		.anon = &a->source,
		.len_bytes = (a->n_pages - page) << a->cache->page_shift,
		.item_offset = page << a->cache->page_shift,
		.mode = STREAM_RANDOM,
	};
	return 0;
}

static void region_failed(void *owner, uint64_t item, uint64_t item_offset, int error)
{
	/* Told by want; there is no medium whose state could be asked for. */
}

static const struct range_ops region_range_ops = {.locate = region_locate, .failed = region_failed};

/* ---- create ---- */

static int region_pool(struct quire_anon *a, const struct quire_anon_options *o, struct quire_error *err)
{
	const struct quire_tmem_pool_options p = {
		.size = sizeof(p),
		.kind = QUIRE_TMEM_PERSISTENT,
		.page_bytes = (uint32_t)cache_page_bytes(a->cache),
		.flags = o->flags & QUIRE_ANON_SPILL ? QUIRE_TMEM_SPILL : QUIRE_TMEM_REFUSE_INCOMPRESSIBLE,
		.cap_bytes = o->cap_bytes,
	};
	struct quire_tmem_pool_stat s;
	struct quire_tmem *t;

	int rc = memory_tmem(a->cache, &t, err);
	if (rc < 0)
		return rc;
	if (o->pool == NULL) {
		rc = quire_tmem_pool_create(t, &p, &a->own, err);
		a->source.pool = a->own;
		if (rc == 0)
			tmem_pool_steer(a->own); /* who puts a frame away can't wait for another's to leave */
		return rc;
	}
	quire_tmem_pool_stat(o->pool, &s);
	if (s.kind != QUIRE_TMEM_PERSISTENT || s.page_bytes != p.page_bytes || o->cap_bytes != 0)
		return quire_fail(err, -EINVAL, "a region's pool is persistent, and has pages of %u bytes", p.page_bytes);
	a->source.pool = o->pool;
	tmem_pool_steer(o->pool);
	return 0;
}

static void region_free(struct quire_anon *a)
{
	struct quire_cache *c = a->cache;

	if (a->range != NULL) {
		const uint64_t serial = a->range->serial;

		range_free(a->range);
		for (uint64_t high = 0; a->own == NULL && high <= a->n_pages >> 32; high++)
			quire_tmem_flush_object(a->source.pool, (const uint64_t[3]){serial, high, ANON_OBJECT});
	}
	atomic_fetch_sub(&c->n_anons, 1);
	quire_tmem_pool_destroy(a->own);
	atomic_store(&c->anon_refused, false);
	fillers_feed(c);
	budget_uncharge(&c->budget, BUDGET_OTHER, sizeof(*a));
	free(a);
	atomic_fetch_sub(&c->n_maps, 1);
}

static int region_build(struct quire_anon *a, const struct quire_anon_options *o, struct quire_error *err)
{
	bool pinned = (o->flags & QUIRE_ANON_PINNED) != 0;

	if (!pinned && !feature_have(FEATURE_USERFAULTFD))
		return quire_fail(err, -ENOTSUP, "memory larger than RAM: no userfaultfd in this process");
	if (!pinned && !feature_have(FEATURE_UFFD_MOVE))
		return quire_fail(err, -ENOTSUP, "memory larger than RAM: no UFFDIO_MOVE in this kernel");
	int rc = region_pool(a, o, err);
	if (rc < 0)
		return rc;
	a->source.spills = tmem_pool_spills(a->source.pool);
	if (a->source.spills && anon_back_create(a->cache) < 0)
		return quire_fail(err, -ENOMEM, "region");
	return range_create_anon(a->cache, pinned ? ARENA_PINNED : ARENA_ANON, a->n_pages, &region_range_ops, a, &a->source,
	                         &a->range, err);
}

int quire_anon_create(struct quire_cache *c, size_t len_bytes, const struct quire_anon_options *opts,
                      struct quire_anon **ret_anon, struct quire_error *err)
{
	struct quire_anon_options o = {0};
	size_t page_bytes = (size_t)cache_page_bytes(c);

	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(o))
			return quire_fail(err, -EINVAL, "options of %zu bytes", opts->size);
		memcpy(&o, opts, opts->size);
	}
	if (o.flags & ~(QUIRE_ANON_PINNED | QUIRE_ANON_STRICT | QUIRE_ANON_SPILL) ||
	    ((o.flags & QUIRE_ANON_SPILL) && o.pool != NULL))
		return quire_fail(err, -EINVAL, "flags 0x%x", o.flags);
	if (len_bytes == 0 || len_bytes > SIZE_MAX - page_bytes)
		return quire_fail(err, -EINVAL, "a region of %zu bytes", len_bytes);
	if (cache_is_of_parent(c))
		return quire_fail(err, -ECHILD, "cache");

	struct quire_anon *a = calloc(1, sizeof(*a));
	if (a == NULL)
		return quire_fail(err, -ENOMEM, "region");
	a->cache = c;
	a->n_pages = (len_bytes + page_bytes - 1) >> c->page_shift;
	a->source.strict = (o.flags & QUIRE_ANON_STRICT) != 0;
	atomic_fetch_add(&c->n_maps, 1);
	atomic_fetch_add(&c->n_anons, 1);
	budget_charge(&c->budget, BUDGET_OTHER, sizeof(*a));
	int rc = region_build(a, &o, err);
	if (rc < 0) {
		region_free(a);
		return rc;
	}
	*ret_anon = a;
	return 0;
}

/* ---- destroy ---- */

static struct quire_anon *region_of_task(struct loop_task *task)
{
	return (struct quire_anon *)((char *)task - offsetof(struct quire_anon, idle));
}

static void region_destroy_step(struct loop_task *task)
{
	struct quire_anon *a = region_of_task(task);
	struct quire_op *op = a->destroy_op;
	uint64_t n = a->n_pages - a->destroy_page;

	if (n > 0) {
		n = n < DESTROY_STEP_PAGES ? n : DESTROY_STEP_PAGES;
		evict_range(a->range, a->range->first_page + a->destroy_page, n);
		a->destroy_page += n;
		loop_task_init(&a->idle, region_destroy_step);
		loop_defer(op_home(op), &a->idle);
		return;
	}
	region_free(a);
	op_complete(op, 0);
}

static void region_destroy_start(struct quire_op *op)
{
	struct quire_anon *a = *(struct quire_anon **)op_driver_data(op);

	a->destroy_op = op;
	loop_task_init(&a->idle, region_destroy_step);
	gate_when_idle(&a->range->gate, op_home(op), &a->idle);
}

int quire_anon_destroy(struct quire_anon *a, struct quire_op *op)
{
	static const struct op_driver driver = {.start = region_destroy_start};
	struct quire_op local;

	if (a == NULL) {
		if (op != NULL)
			op_complete_now(op, 0);
		return 0;
	}
	if (cache_is_of_parent(a->cache))
		return -ECHILD;
	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	if (op == NULL && quire_loop_self() != NULL && !quire_in_coroutine())
		return -EDEADLK;
	int rc = range_kill(a->range);
	if (rc < 0)
		return rc;
	struct quire_op *run = op != NULL ? op : &local;
	if (op == NULL)
		quire_op_init(&local);
	*(struct quire_anon **)op_driver_data(run) = a;
	if (op == NULL)
		return (int)op_run_and_wait(run, &driver, a->cache->service);
	return op_start(run, &driver, a->cache->service);
}

/* ---- what it is ---- */

void *quire_anon_base(const struct quire_anon *a)
{
	return anon_base(a);
}

size_t quire_anon_bytes(const struct quire_anon *a)
{
	return (size_t)(a->n_pages << a->cache->page_shift);
}

int quire_anon_stat(struct quire_anon *a, struct quire_anon_stat *ret_stat)
{
	struct range *r = a->range;
	unsigned shift = a->cache->page_shift;
	struct quire_tmem_pool_stat pool;

	quire_tmem_pool_stat(a->source.pool, &pool);
	*ret_stat = (struct quire_anon_stat){
		.mapped = a->n_pages << shift,
		.resident = atomic_load(&r->n_resident) << shift,
		.dirty = atomic_load(&r->n_unverified) << shift,
		.pinned = atomic_load(&r->n_pinned) << shift,
		.pooled = atomic_load(&a->source.n_pooled) << shift,
		.pool_held = pool.held_bytes,
		.n_faults = atomic_load(&r->n_faults),
		.n_write_faults = atomic_load(&a->source.n_write_faults),
		.n_hits = stripes_sum(&r->n_hits),
		.n_fills = atomic_load(&r->n_fills),
		.n_zero = atomic_load(&a->source.n_zero),
		.n_evictions = atomic_load(&r->n_evictions),
		.n_moved = atomic_load(&a->source.n_moved),
		.n_busy = atomic_load(&a->source.n_busy),
		.n_refused = atomic_load(&a->source.n_refused),
		.n_errors = atomic_load(&r->n_errors),
	};
	return 0;
}
