/* tmem.c - pools of pages: how the parts go together, and the life of the whole.
 *
 * Purpose: to hold pages that a program can spare, in less memory than they are long, and to keep exactly the promises of
 * quire/tmem.h.
 *
 * Parts, lowest first:
 *   records   numbered records; chains: hash tables of numbers
 *   storage   slots of many sizes, pages given back
 *   codec     same-filled, LZ4; at leisure its slow compressor, and zstd
 *   spans     (pool, object, index) → a value
 *   content   values: a word, a content, a share of one; unit: contents of neighbours in one slot; unpack: out of either
 *   page      the two together; evict: who leaves; put, get, pool: the calls; batch: many at once
 *   recompress what went cold, in fewer bytes
 *   spill     contents in the backing instead of memory; age: whose turn it is
 *   remote    evicted pages on other machines, and the queue of those on their way
 *
 * Invariants (under the lock):
 *   1. A pool's n_pages is that of its spans; the index's that of all pools.
 *   2. Each content has one page that refers to it, whose span and low bits its head has; or a share, whose count of
 *      references is that of the pages with its number.
 *   3. Each word's count is that of the pages with its number.
 *   4. page_bytes = same_bytes + shared_bytes + unpacked_bytes; slots in use are contents' and tables'.
 *   5. What is charged to the budget is what storage, records, policies and workspaces say.
 *
 * Threads: any. One lock, held for well under a microsecond (where many pages go, for some of them at a time), and never while a caller's memory is read or written, since
 * that may fault and a fault may want this lock. What is unpacked meanwhile is pinned: storage moves or reuses no slot
 * of a pinned block. Compressing and unpacking, which is nine tenths of the time, go on beside each other.
 *
 * Failure: what needs memory that is not to be had is refused, and leaves nothing half done. Policies' queues alone are charged
 * after they have grown; pages leave for that in the same call.
 */
#include "tmem_internal.h"

#include "helpers.h"
#include "remote_tier.h"
#include "spill.h"
#include "tmem.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define LEAST_BUDGET (UINT64_C(1) << 20)
#define MOST_THREADS 8

/* ---- workspaces ---- */

static struct workspace *idle_workspace(struct quire_tmem *t, uint32_t page_bytes)
{
	for (unsigned i = 0; i < MOST_IDLE_WORKSPACES; i++) {
		if (atomic_load_explicit(&t->workspaces[i], memory_order_relaxed) == NULL)
			continue;
		struct workspace *w = atomic_exchange_explicit(&t->workspaces[i], NULL, memory_order_acquire);
		if (w != NULL && w->page_bytes >= page_bytes)
			return w;
		if (w != NULL)
			tmem_put_workspace(t, w);
	}
	return NULL;
}

struct workspace *tmem_get_workspace(struct quire_tmem *t, uint32_t page_bytes)
{
	struct workspace *w = idle_workspace(t, page_bytes);

	if (w != NULL)
		return w;
	size_t bytes = workspace_bytes(page_bytes);
	if (!budget_try_charge(t->budget, BUDGET_TMEM, bytes)) {
		pthread_mutex_lock(&t->lock);
		for (unsigned i = 0; i < 1024 && (budget_limit(t->budget) - budget_used(t->budget) < bytes); i++)
			if (!tmem_evict_for(t))
				break;
		pthread_mutex_unlock(&t->lock);
		if (!budget_try_charge(t->budget, BUDGET_TMEM, bytes))
			return NULL;
	}
	w = workspace_new(page_bytes);
	if (w == NULL) {
		budget_uncharge(t->budget, BUDGET_TMEM, bytes);
		return NULL;
	}
	return w;
}

static void free_workspace(struct quire_tmem *t, struct workspace *w)
{
	budget_uncharge(t->budget, BUDGET_TMEM, w->bytes);
	workspace_free(w);
}

void tmem_put_workspace(struct quire_tmem *t, struct workspace *w)
{
	for (unsigned i = 0; i < MOST_IDLE_WORKSPACES; i++) {
		struct workspace *none = NULL;
		if (atomic_compare_exchange_strong_explicit(&t->workspaces[i], &none, w, memory_order_release,
		                                            memory_order_relaxed))
			return;
	}
	free_workspace(t, w);
}

/* ---- life ---- */

static unsigned default_threads(void)
{
	long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return n_cpus > MOST_THREADS ? MOST_THREADS : (unsigned)n_cpus - 1;
}

/* On a budget of its own of so many bytes, or on somebody's. */
static int create(uint64_t budget_bytes, struct budget *budget, unsigned n_threads, struct quire_tmem **ret_tmem,
                  struct quire_error *err)
{
	struct quire_tmem *t = calloc(1, sizeof(*t));
	uint64_t seed = 0;

	if (t == NULL)
		return quire_fail(err, -ENOMEM, "tmem");
	process_mark_init(&t->process);
	t->n_threads = n_threads != 0 ? n_threads : default_threads();
	pthread_mutex_init(&t->lock, NULL);
	budget_init(&t->own_budget, budget_bytes);
	t->budget = budget != NULL ? budget : &t->own_budget;
	storage_init(&t->storage, t->budget);
	/* So that nobody can choose keys that all meet in one chain. */
	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		seed = (uint64_t)(uintptr_t)t;
	spans_init(&t->spans, t->budget, &t->storage, seed);
	content_init(t);
	tmem_unpackers_init(t);
	*ret_tmem = t;
	return 0;
}

int quire_tmem_create(const struct quire_tmem_options *opts, struct quire_tmem **ret_tmem, struct quire_error *err)
{
	struct quire_tmem_options o = {0};

	if (opts == NULL || opts->size == 0 || opts->size > sizeof(o))
		return quire_fail(err, -EINVAL, "tmem options");
	memcpy(&o, opts, opts->size);
	if (o.budget_bytes < LEAST_BUDGET)
		return quire_fail(err, -EINVAL, "tmem with a budget of %llu bytes", (unsigned long long)o.budget_bytes);
	return create(o.budget_bytes, NULL, o.n_threads, ret_tmem, err);
}

int tmem_create(struct budget *budget, unsigned n_threads, struct quire_tmem **ret_tmem, struct quire_error *err)
{
	return create(0, budget, n_threads, ret_tmem, err);
}

void quire_tmem_destroy(struct quire_tmem *t)
{
	if (t == NULL || tmem_is_of_parent(t))
		return;
	helpers_destroy(t->helpers);
	tmem_remote_destroy(t);
	tmem_spill_destroy(t);
	for (unsigned i = 1; i < t->n_pools; i++)
		if (t->pools[i] != NULL)
			tmem_pool_free(t->pools[i]);
	for (unsigned i = 0; i < MOST_IDLE_WORKSPACES; i++)
		if (t->workspaces[i] != NULL)
			free_workspace(t, t->workspaces[i]);
	content_fini(t);
	spans_fini(&t->spans);
	storage_fini(&t->storage);
	tmem_recompress_fini(t);
	tmem_unpackers_fini(t);
	pthread_mutex_destroy(&t->lock);
	process_mark_fini(&t->process);
	free(t->pools);
	free(t);
}

static uint64_t larger_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

int quire_tmem_set_budget(struct quire_tmem *t, uint64_t budget_bytes, uint64_t *ret_least_bytes)
{
	int rc = 0;

	if (tmem_is_of_parent(t))
		return -ECHILD;
	if (t->budget != &t->own_budget)
		return -EINVAL;
	pthread_mutex_lock(&t->lock);
	uint64_t before = budget_limit(t->budget);
	budget_set_limit(t->budget, budget_bytes);
	while (budget_used(t->budget) > budget_bytes && (tmem_recompress_yield(t) || tmem_evict_for(t)))
		;
	/* By what a round gives, so that it has memory for what it needs itself. */
	do
		budget_set_limit(t->budget, larger_of(budget_used(t->budget), budget_bytes));
	while (budget_used(t->budget) > budget_bytes && tmem_spill_any(t));
	if (budget_used(t->budget) > budget_bytes) {
		if (ret_least_bytes != NULL)
			*ret_least_bytes = budget_used(t->budget);
		budget_set_limit(t->budget, before);
		rc = -EBUSY;
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

bool tmem_yield(struct quire_tmem *t)
{
	pthread_mutex_lock(&t->lock);
	bool gave = tmem_evict_for(t) || tmem_recompress_yield(t);
	pthread_mutex_unlock(&t->lock);
	return gave;
}

void tmem_lock(struct quire_tmem *t)
{
	pthread_mutex_lock(&t->lock);
	t->storage.locks = true;
	pthread_mutex_unlock(&t->lock);
}

bool tmem_is_locked(struct quire_tmem *t)
{
	pthread_mutex_lock(&t->lock);
	bool locked = t->storage.locks;
	pthread_mutex_unlock(&t->lock);
	return locked;
}

/* ---- what there is ---- */

static void add_pool(const struct quire_tmem_pool *pool, struct quire_tmem_stat *s)
{
	const struct pool_counts *c = &pool->counts;

	s->n_pages += pool->n_pages;
	s->n_puts += c->n_puts;
	s->n_put_refused += c->n_put_refused;
	s->n_gets += c->n_gets;
	s->n_get_hits += c->n_get_hits;
	s->n_flushed += c->n_flushed;
	s->n_evicted += c->n_evicted;
	s->n_damaged += c->n_damaged;
}

void quire_tmem_stat(struct quire_tmem *t, struct quire_tmem_stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (tmem_is_of_parent(t))
		return;
	pthread_mutex_lock(&t->lock);
	uint64_t n_away = t->spill == NULL ? 0 : t->spill->n_live, spilled = t->spill == NULL ? 0 : t->spill->live_bytes;
	struct remote_counts remote = t->remote == NULL ? (struct remote_counts){0} : t->remote->counts;
	uint64_t held = budget_kind_used(t->budget, BUDGET_TMEM);
	uint64_t heads = t->n_contents * sizeof(struct slot_head) + t->tail_bytes + n_away * sizeof(struct away) +
	                 remote.n_stubs * sizeof(struct stub);
	uint64_t holes = t->storage.resident_bytes - t->storage.live_bytes;
	struct quire_tmem_stat s = {
		.n_same = t->n_same,
		.n_shared = t->n_share_refs,
		.n_raw = t->n_raw,
		.page_bytes = t->page_bytes,
		.same_saved_bytes = t->same_bytes,
		.dedup_saved_bytes = t->shared_bytes,
		.compress_saved_bytes = t->unpacked_bytes - t->packed_bytes - t->repacked_bytes - spilled - remote.stub_bytes,
		.recompress_saved_bytes = t->repacked_bytes,
		.content_bytes = t->packed_bytes,
		.head_bytes = heads,
		.rounding_bytes = t->slot_bytes - heads - t->packed_bytes,
		.hole_bytes = holes,
		.index_bytes = held - t->slot_bytes - holes,
		.held_bytes = held,
		.n_moved = t->n_moved,
		.n_repacked = t->recompressor.n_repacked,
		.budget_bytes = budget_limit(t->budget),
		.n_spilled = n_away,
		.spilled_bytes = spilled,
		.n_spill_reads = t->spill == NULL ? 0 : t->spill->n_reads,
		.n_spill_errors = t->spill == NULL ? 0 : t->spill->n_errors,
		.spill_segment_bytes = t->spill == NULL ? 0 : t->spill->n_taken * t->spill->backing.segment_bytes,
		.n_remote = remote.n_stubs,
		.remote_bytes = remote.stub_bytes,
		.n_remote_sent = remote.n_sent,
		.n_remote_hits = remote.n_hits,
		.n_remote_misses = remote.n_misses,
		.n_remote_errors = remote.n_errors,
	};
	for (unsigned i = 1; i < t->n_pools; i++)
		if (t->pools[i] != NULL)
			add_pool(t->pools[i], &s);
	pthread_mutex_unlock(&t->lock);
	*ret = s;
}
