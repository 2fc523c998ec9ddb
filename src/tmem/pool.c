/* pool.c - pools come and go; their caps and weights. */
#include "tmem_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_WEIGHT 100u
#define MOST_WEIGHT 1000000u
#define MOST_POOLS UINT16_MAX
#define KNOWN_FLAGS \
	(QUIRE_TMEM_SHARED | QUIRE_TMEM_NO_DEDUP | QUIRE_TMEM_REFUSE_INCOMPRESSIBLE | QUIRE_TMEM_RECOMPRESS | QUIRE_TMEM_COLD | \
	 QUIRE_TMEM_SPILL | QUIRE_TMEM_REMOTE)
#define REMOTE_MOST_PAGE_BYTES (64u << 10)
#define DEFAULT_UNIT_BYTES (16u << 10)
#define MOST_UNIT_BYTES (64u << 10)
#define DEFAULT_COLD_ROUNDS 3u
#define MOST_COLD_ROUNDS 15u

static bool is_zero(const uint8_t uuid[16])
{
	static const uint8_t zero[16];

	return memcmp(uuid, zero, sizeof(zero)) == 0;
}

static int look_at(const struct quire_tmem_pool_options *o, struct quire_error *err)
{
	bool shared = (o->flags & QUIRE_TMEM_SHARED) != 0;

	if (o->kind != QUIRE_TMEM_EPHEMERAL && o->kind != QUIRE_TMEM_PERSISTENT)
		return quire_fail(err, -EINVAL, "tmem pool of kind %d", (int)o->kind);
	if (o->page_bytes < 4096 || o->page_bytes > 2u << 20 || (o->page_bytes & (o->page_bytes - 1)) != 0)
		return quire_fail(err, -EINVAL, "tmem pool of pages of %u bytes", o->page_bytes);
	if ((o->flags & ~KNOWN_FLAGS) != 0)
		return quire_fail(err, -EINVAL, "tmem pool with flags 0x%x", o->flags);
	if ((o->flags & QUIRE_TMEM_SPILL) != 0 && o->kind != QUIRE_TMEM_PERSISTENT)
		return quire_fail(err, -EINVAL, "ephemeral tmem pool that spills");
	if ((o->flags & QUIRE_TMEM_SPILL) != 0 && (o->flags & QUIRE_TMEM_COLD) != 0)
		return quire_fail(err, -EINVAL, "tmem pool that spills what went cold, and keeps it");
	if ((o->flags & QUIRE_TMEM_REMOTE) != 0 && (o->kind != QUIRE_TMEM_EPHEMERAL || o->page_bytes > REMOTE_MOST_PAGE_BYTES))
		return quire_fail(err, -EINVAL, "remote tmem pool that is persistent, or of pages of %u bytes", o->page_bytes);
	if (o->weight > MOST_WEIGHT)
		return quire_fail(err, -EINVAL, "tmem pool of weight %u", o->weight);
	if (o->unit_bytes < DEFAULT_UNIT_BYTES || o->unit_bytes > MOST_UNIT_BYTES || (o->unit_bytes & (o->unit_bytes - 1)) != 0)
		return quire_fail(err, -EINVAL, "tmem pool with units of %u bytes", o->unit_bytes);
	if (o->cold_rounds > MOST_COLD_ROUNDS)
		return quire_fail(err, -EINVAL, "tmem pool with pages cold after %u rounds", o->cold_rounds);
	if (shared == is_zero(o->uuid))
		return quire_fail(err, -EINVAL, shared ? "shared tmem pool without a uuid" : "private tmem pool with a uuid");
	return 0;
}

/* ---- numbers; lock held ---- */

static struct quire_tmem_pool *find_shared(const struct quire_tmem *t, const uint8_t uuid[16])
{
	for (unsigned i = 1; i < t->n_pools; i++) {
		struct quire_tmem_pool *p = t->pools[i];
		if (p != NULL && p->n_opens > 0 && !p->hidden && (p->o.flags & QUIRE_TMEM_SHARED) != 0 &&
		    memcmp(p->o.uuid, uuid, sizeof(p->o.uuid)) == 0)
			return p;
	}
	return NULL;
}

static int take_number(struct quire_tmem *t, struct quire_tmem_pool *pool)
{
	unsigned no = 1;

	while (no < t->n_pools && t->pools[no] != NULL)
		no++;
	if (no > MOST_POOLS)
		return -ENOSPC;
	if (no >= t->n_pools) {
		unsigned n = t->n_pools == 0 ? 16 : 2 * t->n_pools;
		struct quire_tmem_pool **pools = reallocarray(t->pools, n, sizeof(pools[0]));
		if (pools == NULL)
			return -ENOMEM;
		memset(pools + t->n_pools, 0, (n - t->n_pools) * sizeof(pools[0]));
		t->pools = pools;
		t->n_pools = n;
	}
	pool->no = (uint16_t)no;
	t->pools[no] = pool;
	return 0;
}

void tmem_pool_free(struct quire_tmem_pool *pool)
{
	if (pool->no != 0)
		pool->tmem->pools[pool->no] = NULL;
	policy_destroy(pool->policy);
	tmem_age_fini(pool);
	budget_uncharge(pool->tmem->budget, BUDGET_TMEM, pool->policy_bytes);
	free(pool);
}

/* What it takes while it is empty. The lock may be released meanwhile. */
static int charge(struct quire_tmem *t, struct quire_tmem_pool *pool)
{
	bool spills = (pool->o.flags & QUIRE_TMEM_SPILL) != 0;
	uint64_t bytes = 0;

	if (pool->policy != NULL)
		bytes = pool->policy_bytes = tmem_evict_policy_least();
	else if (spills)
		bytes = pool->age_bytes = page_ring_bytes(&pool->ages);
	while (!budget_try_charge(t->budget, BUDGET_TMEM, bytes))
		if (!tmem_evict_for(t) && !(spills && tmem_spill_any(t))) {
			pool->policy_bytes = pool->age_bytes = 0;
			return -ENOMEM;
		}
	pool->held_bytes = bytes;
	return 0;
}

static int enter(struct quire_tmem *t, struct quire_tmem_pool *pool)
{
	bool shared = (pool->o.flags & QUIRE_TMEM_SHARED) != 0;

	int rc = charge(t, pool);
	if (rc < 0)
		return rc;
	if (shared && find_shared(t, pool->o.uuid) != NULL)
		return -EEXIST;
	if ((pool->o.flags & QUIRE_TMEM_SPILL) != 0 && !tmem_spill_takes(t, pool->o.page_bytes))
		return -EINVAL;
	pool->domain = pool->o.domain != 0 ? pool->o.domain : --t->next_domain;
	tmem_recompress_enter(pool);
	return take_number(t, pool);
}

static int create(struct quire_tmem *t, const struct quire_tmem_pool_options *opts, bool hidden,
                  struct quire_tmem_pool **ret_pool, struct quire_error *err)
{
	struct quire_tmem_pool_options o = {0};

	if (opts == NULL || opts->size == 0 || opts->size > sizeof(o))
		return quire_fail(err, -EINVAL, "tmem pool options");
	memcpy(&o, opts, opts->size);
	if (o.page_bytes == 0)
		o.page_bytes = 4096;
	if (o.weight == 0)
		o.weight = DEFAULT_WEIGHT;
	if (o.unit_bytes == 0)
		o.unit_bytes = DEFAULT_UNIT_BYTES;
	if (o.cold_rounds == 0)
		o.cold_rounds = DEFAULT_COLD_ROUNDS;
	int rc = look_at(&o, err);
	if (rc < 0)
		return rc;
	struct quire_tmem_pool *pool = calloc(1, sizeof(*pool));
	if (pool == NULL)
		return quire_fail(err, -ENOMEM, "tmem pool");
	*pool = (struct quire_tmem_pool){.tmem = t, .o = o, .n_opens = 1, .spans = SPAN_NONE, .hidden = hidden,
	                                 .first_stub = PLACE_NONE, .last_stub = PLACE_NONE, .most_spilled_bytes = UINT64_MAX};
	rc = o.kind == QUIRE_TMEM_EPHEMERAL ? policy_create(&pool->policy) : tmem_age_init(pool);
	if (rc == 0)
		tmem_make_room(pool);
	pthread_mutex_lock(&t->lock);
	if (rc == 0)
		rc = enter(t, pool);
	if (rc < 0)
		tmem_pool_free(pool);
	pthread_mutex_unlock(&t->lock);
	if (rc < 0)
		return quire_fail(err, rc, "tmem pool");
	*ret_pool = pool;
	return 0;
}

int quire_tmem_pool_create(struct quire_tmem *t, const struct quire_tmem_pool_options *opts,
                           struct quire_tmem_pool **ret_pool, struct quire_error *err)
{
	return tmem_is_of_parent(t) ? quire_fail(err, -ECHILD, "tmem pool") : create(t, opts, false, ret_pool, err);
}

int tmem_pool_create_hidden(struct quire_tmem *t, const struct quire_tmem_pool_options *opts,
                            struct quire_tmem_pool **ret_pool, struct quire_error *err)
{
	return create(t, opts, true, ret_pool, err);
}

int tmem_pool_show(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;
	bool shared = (pool->o.flags & QUIRE_TMEM_SHARED) != 0;

	pthread_mutex_lock(&t->lock);
	int rc = shared && find_shared(t, pool->o.uuid) != NULL ? -EEXIST : 0;
	if (rc == 0) {
		pool->hidden = false;
		pool->counts = (struct pool_counts){0};
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

int quire_tmem_pool_open(struct quire_tmem *t, const uint8_t uuid[16], struct quire_tmem_pool **ret_pool)
{
	if (tmem_is_of_parent(t))
		return -ECHILD;
	pthread_mutex_lock(&t->lock);
	struct quire_tmem_pool *pool = find_shared(t, uuid);
	if (pool != NULL)
		pool->n_opens++;
	pthread_mutex_unlock(&t->lock);
	if (pool == NULL)
		return -ENOENT;
	*ret_pool = pool;
	return 0;
}

/* ---- flushes ---- */

#define FLUSHED_AT_ONCE 256u /* pages, before others get the lock */
#define MOVED_AT_ONCE 64u    /* slots, likewise */

/* Up to n pages of the span; how many. The span may be gone then. */
static unsigned flush_span(struct quire_tmem_pool *pool, uint32_t span, unsigned n)
{
	struct quire_tmem *t = pool->tmem;
	unsigned n_pages = span_at(&t->spans, span)->n_pages;

	if (n > n_pages)
		n = n_pages;
	for (unsigned i = 0; i < n; i++) {
		struct where at = {.span = span, .low = spans_any(&t->spans, span)};
		at.value = spans_get(&t->spans, span, at.low);
		tmem_page_remove(pool, &at);
	}
	pool->counts.n_flushed += n;
	return n;
}

/* The object's span that has a page. SPAN_NONE. */
static uint32_t span_with_page(struct quire_tmem_pool *pool, const struct tmem_object *object)
{
	const struct spans *x = &pool->tmem->spans;
	uint32_t no = spans_find(x, pool->no, object, 0);

	while (no != SPAN_NONE && span_at(x, no)->n_pages == 0)
		no = span_at(x, no)->sibling;
	return no;
}

int64_t quire_tmem_flush_object(struct quire_tmem_pool *pool, const uint64_t words[3])
{
	struct quire_tmem *t = pool->tmem;
	struct tmem_object object = {{words[0], words[1], words[2]}};
	int64_t n = 0;

	if (tmem_is_of_parent(t))
		return -ECHILD;
	/* In one go: whoever comes between must not find some of it flushed. */
	pthread_mutex_lock(&t->lock);
	for (uint32_t span; (span = span_with_page(pool, &object)) != SPAN_NONE;)
		n += flush_span(pool, span, UINT32_MAX);
	tmem_evict_tidy(pool);
	tmem_spill_tidy(t);
	pthread_mutex_unlock(&t->lock);
	return n;
}

void quire_tmem_pool_destroy(struct quire_tmem_pool *pool)
{
	if (pool == NULL || tmem_is_of_parent(pool->tmem))
		return;
	struct quire_tmem *t = pool->tmem;
	pthread_mutex_lock(&t->lock);
	if (--pool->n_opens > 0) {
		pthread_mutex_unlock(&t->lock);
		return;
	}
	while (pool->spans != SPAN_NONE) {
		uint32_t span = pool->spans;
		/* The first of an object's spans may have no page of its own; it goes with its last sibling. */
		while (span_at(&t->spans, span)->n_pages == 0)
			span = span_at(&t->spans, span)->sibling;
		(void)flush_span(pool, span, FLUSHED_AT_ONCE);
		pthread_mutex_unlock(&t->lock);
		pthread_mutex_lock(&t->lock);
	}
	pool->gone = true;
	if (pool->n_contents == 0)
		tmem_pool_free(pool);
	/* What it leaves in holes goes back, a little at a time. */
	while (storage_is_loose(&t->storage) && storage_compact(&t->storage, MOVED_AT_ONCE, content_moved, t)) {
		pthread_mutex_unlock(&t->lock);
		pthread_mutex_lock(&t->lock);
	}
	storage_trim(&t->storage, true);
	tmem_spill_tidy(t);
	pthread_mutex_unlock(&t->lock);
}

/* ---- settings ---- */

int quire_tmem_pool_set_cap(struct quire_tmem_pool *pool, uint64_t cap_bytes)
{
	struct quire_tmem *t = pool->tmem;
	int rc = 0;

	if (tmem_is_of_parent(t))
		return -ECHILD;
	pthread_mutex_lock(&t->lock);
	uint64_t before = pool->o.cap_bytes;
	pool->o.cap_bytes = cap_bytes;
	while (!tmem_evict_to_cap(pool, 0))
		if (pool->frozen || !tmem_spill_for(pool, 0)) {
			pool->o.cap_bytes = before;
			rc = -EBUSY;
			break;
		}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

int quire_tmem_pool_set_weight(struct quire_tmem_pool *pool, uint32_t weight)
{
	if (weight == 0 || weight > MOST_WEIGHT)
		return -EINVAL;
	if (tmem_is_of_parent(pool->tmem))
		return -ECHILD;
	pthread_mutex_lock(&pool->tmem->lock);
	pool->o.weight = weight;
	pthread_mutex_unlock(&pool->tmem->lock);
	return 0;
}

void quire_tmem_pool_freeze(struct quire_tmem_pool *pool, bool frozen)
{
	if (tmem_is_of_parent(pool->tmem))
		return;
	pthread_mutex_lock(&pool->tmem->lock);
	pool->frozen = frozen;
	pthread_mutex_unlock(&pool->tmem->lock);
}

void quire_tmem_pool_stat(struct quire_tmem_pool *pool, struct quire_tmem_pool_stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (tmem_is_of_parent(pool->tmem))
		return;
	pthread_mutex_lock(&pool->tmem->lock);
	const struct pool_counts *c = &pool->counts;
	*ret = (struct quire_tmem_pool_stat){
		.n_pages = pool->n_pages,
		.held_bytes = pool->held_bytes,
		.cap_bytes = pool->o.cap_bytes,
		.n_puts = c->n_puts,
		.n_put_refused = c->n_put_refused,
		.n_gets = c->n_gets,
		.n_get_hits = c->n_get_hits,
		.n_flushed = c->n_flushed,
		.n_evicted = c->n_evicted,
		.n_damaged = c->n_damaged,
		.page_bytes = pool->o.page_bytes,
		.weight = pool->o.weight,
		.kind = pool->o.kind,
		.frozen = pool->frozen,
		.spilled_bytes = pool->spilled_bytes,
	};
	pthread_mutex_unlock(&pool->tmem->lock);
}
