/* cache.c - opening and closing, the budget's knob, the figures. */
#include "core.h"

#include "../base/fail.h"
#include "../base/feature.h"
#include "../base/memory_limit.h"
#include "anon_back.h"
#include "chance.h"
#include "evict.h"
#include "fault.h"
#include "filler.h"
#include "memory.h"
#include "probation.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEFAULT_RESERVE_BYTES (UINT64_C(16) << 40)
#define AUTO_PERIOD_NS UINT64_C(500000000)

/* ---- calls on the service loop ---- */

struct service_call {
	struct loop_task task;
	void (*fn)(void *arg);
	void *arg;
	sem_t done;
};

static void service_call_run(struct loop_task *task)
{
	struct service_call *call = (struct service_call *)task;

	call->fn(call->arg);
	sem_post(&call->done);
}

void cache_call_on_service(struct quire_cache *c, void (*fn)(void *arg), void *arg)
{
	struct service_call call = {.fn = fn, .arg = arg};

	loop_task_init(&call.task, service_call_run);
	sem_init(&call.done, 0, 0);
	loop_post(c->service, &call.task);
	while (sem_wait(&call.done) < 0)
		;
	sem_destroy(&call.done);
}

/* ---- a budget that follows the machine ---- */

static void cache_follow(struct quire_cache *c)
{
	struct memory_limit m;

	uint64_t before = budget_limit(&c->budget);

	if (memory_limit_read("", &m) < 0)
		return; /* a limit that can't be seen now is not gone: at the next tick */
	budget_set_limit(&c->budget,
	                 memory_limit_auto_budget(&m, budget_limit(&c->budget), budget_used(&c->budget),
	                                          QUIRE_BUDGET_MIN_BYTES));
	chance_rebudget(c, before);
	evict_to_budget(c);
	fillers_feed(c); /* there may be more of it now */
}

static void auto_tick(struct loop_timer *timer)
{
	struct quire_cache *c =
		(struct quire_cache *)((char *)timer - offsetof(struct quire_cache, auto_timer));

	if (!atomic_load(&c->auto_budget))
		return;
	cache_follow(c);
	loop_timer_arm(c->service, timer, loop_now_ns() + AUTO_PERIOD_NS);
}

static void auto_begin(void *arg)
{
	struct quire_cache *c = arg;

	loop_timer_disarm(c->service, &c->auto_timer);
	loop_timer_arm(c->service, &c->auto_timer, loop_now_ns() + AUTO_PERIOD_NS);
}

static void auto_end(void *arg)
{
	struct quire_cache *c = arg;

	loop_timer_disarm(c->service, &c->auto_timer);
}

/* ---- life ---- */

static int shards_create(struct quire_cache *c)
{
	for (struct shard *s = c->shards; s < c->shards + N_SHARDS; s++) {
		int rc = policy_create(&s->policy);

		if (rc < 0)
			return rc;
		pthread_mutex_init(&s->lock, NULL);
	}
	return 0;
}

static void shards_destroy(struct quire_cache *c)
{
	for (struct shard *s = c->shards; s < c->shards + N_SHARDS; s++) {
		if (s->policy == NULL)
			continue;
		policy_destroy(s->policy);
		pthread_mutex_destroy(&s->lock);
	}
}

static unsigned default_open_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return 1024;
	return limit.rlim_cur / 4 < 16 ? 16 : (unsigned)(limit.rlim_cur / 4);
}

/* All that may fail, in an order in which a half-made cache can be torn down. */
static int cache_build(struct quire_cache *c, const struct quire_cache_options *o,
                       struct quire_error *err)
{
	struct filler *bare;
	int rc = shards_create(c);

	if (rc < 0)
		return quire_fail(err, rc, "cache");
	rc = media_pool_create(o->max_open_files ? o->max_open_files : default_open_files(),
	                       o->buffered_io, &c->pool);
	if (rc < 0)
		return quire_fail(err, rc, "descriptor cache");
	rc = filler_create_bare(c, &bare);
	if (rc < 0)
		return quire_fail(err, rc, "cache");
	if (!o->no_probation)
		c->probation = probation_create(c);
	if (!o->no_second_chance)
		rc = chance_create(c, &c->chance, err);
	if (rc < 0)
		return quire_fail(err, rc, "second chance");
	rc = service_get(&c->service, err);
	if (rc < 0)
		return rc;
	if (o->signal_faults) {
		rc = sync_fills_create(c);
		if (rc < 0)
			return quire_fail(err, rc, "fault buffers");
		rc = fault_signal_attach(c, err);
	}
	return rc;
}

void cache_ref(struct quire_cache *c)
{
	atomic_fetch_add(&c->refs, 1);
}

void cache_unref(struct quire_cache *c)
{
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < atomic_load(&c->n_fillers); i++)
		filler_free(atomic_load(&c->fillers[i]));
	pthread_mutex_destroy(&c->knob_lock);
	pthread_mutex_destroy(&c->arenas_lock);
	pthread_rwlock_destroy(&c->ranges_lock);
	pthread_mutex_destroy(&c->fillers_lock);
	pthread_mutex_destroy(&c->cold_lock);
	process_mark_fini(&c->process);
	free(c->ranges);
	free(c->cold);
	free(c);
}

/* What the handle alone keeps; fillers that are left end with their loops. */
static void cache_tear_down(struct quire_cache *c)
{
	if (c->signal_faults)
		fault_signal_detach(c);
	if (c->service != NULL) {
		for (int i = 0; i < N_ARENA_KINDS; i++)
			fault_service_stop(c->fault_services[i]);
		cache_call_on_service(c, auto_end, c);
		service_put();
	}
	for (int i = 0; i < N_ARENA_KINDS; i++)
		arena_destroy(atomic_exchange(&c->arenas[i], NULL));
	sync_fills_destroy(c);
	anon_back_destroy(atomic_load(&c->anon_back));
	probation_destroy(c->probation);
	quire_tmem_destroy(atomic_load(&c->tmem));
	chance_destroy(c->chance);
	if (c->pool != NULL)
		media_pool_destroy(c->pool);
	shards_destroy(c);
	cache_unref(c);
}

static int initial_budget(const struct quire_cache_options *o, uint64_t *ret_bytes)
{
	struct memory_limit m;

	*ret_bytes = o->budget_bytes;
	if (o->budget_bytes != 0 && o->budget_bytes != QUIRE_BUDGET_AUTO)
		return 0;
	int rc = memory_limit_read("", &m);
	if (rc == 0)
		*ret_bytes = memory_limit_auto_budget(&m, 0, 0, QUIRE_BUDGET_MIN_BYTES);
	return rc;
}

int quire_cache_open(const struct quire_cache_options *opts, struct quire_cache **ret_cache,
                     struct quire_error *err)
{
	struct quire_cache_options o = {0};

	if (ret_cache == NULL)
		return quire_fail(err, -EINVAL, "cache");
	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(o))
			return quire_fail(err, -EINVAL, "cache options of %zu bytes", opts->size);
		memcpy(&o, opts, opts->size);
	}
	if (o.budget_bytes != 0 && o.budget_bytes < QUIRE_BUDGET_MIN_BYTES)
		return quire_fail(err, -EINVAL, "a budget of %llu bytes, under the least of %u",
		                  (unsigned long long)o.budget_bytes, QUIRE_BUDGET_MIN_BYTES);

	uint64_t budget_bytes;
	int rc = feature_settle();
	if (rc < 0)
		return quire_fail(err, rc, "cache: what the kernel can do");
	rc = initial_budget(&o, &budget_bytes);
	if (rc < 0)
		return quire_fail(err, rc, "cache: how much memory there is");
	struct quire_cache *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return quire_fail(err, -ENOMEM, "cache");
	process_mark_init(&c->process);
	c->page_shift = (unsigned)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));
	c->reserve_bytes = o.reserve_bytes ? o.reserve_bytes : DEFAULT_RESERVE_BYTES;
	c->signal_faults = o.signal_faults;
	c->auto_timer.run = auto_tick;
	atomic_init(&c->refs, 1);
	pthread_mutex_init(&c->knob_lock, NULL);
	pthread_mutex_init(&c->arenas_lock, NULL);
	pthread_rwlock_init(&c->ranges_lock, NULL);
	pthread_mutex_init(&c->fillers_lock, NULL);
	pthread_mutex_init(&c->cold_lock, NULL);
	budget_init(&c->budget, budget_bytes);
	c->budget.reclaim = memory_reclaim;
	c->budget.reclaim_arg = c;

	rc = cache_build(c, &o, err);
	if (rc < 0) {
		cache_tear_down(c);
		return rc;
	}
	if (o.budget_bytes == 0 || o.budget_bytes == QUIRE_BUDGET_AUTO) {
		atomic_store(&c->auto_budget, true);
		cache_call_on_service(c, auto_begin, c);
	}
	*ret_cache = c;
	return 0;
}

int quire_cache_close(struct quire_cache *c)
{
	if (c == NULL)
		return 0;
	if (cache_is_of_parent(c))
		return -ECHILD;
	if (atomic_load(&c->n_maps) > 0 || atomic_load(&c->n_stores) > 0)
		return -EBUSY;
	atomic_store(&c->auto_budget, false);
	cache_tear_down(c);
	return 0;
}

static void cache_follow_again(struct quire_cache *c)
{
	atomic_store(&c->auto_budget, true);
	cache_call_on_service(c, auto_begin, c);
}

/* knob_lock is held. */
static int cache_fix_budget(struct quire_cache *c, uint64_t bytes)
{
	uint64_t before = budget_limit(&c->budget);
	bool was_auto = atomic_exchange(&c->auto_budget, false);

	budget_set_limit(&c->budget, bytes);
	if (atomic_load(&c->pinned_bytes) <= evict_pin_limit(c))
		return 0;
	budget_set_limit(&c->budget, before);
	if (was_auto)
		cache_follow_again(c);
	return -ENOMEM;
}

int quire_cache_set_budget(struct quire_cache *c, uint64_t bytes)
{
	uint64_t before;
	int rc = 0;

	if (cache_is_of_parent(c))
		return -ECHILD;
	if (bytes < QUIRE_BUDGET_MIN_BYTES)
		return -EINVAL;
	pthread_mutex_lock(&c->knob_lock);
	before = budget_limit(&c->budget);
	if (bytes != QUIRE_BUDGET_AUTO)
		rc = cache_fix_budget(c, bytes);
	else if (!atomic_load(&c->auto_budget))
		cache_follow_again(c);
	pthread_mutex_unlock(&c->knob_lock);
	if (rc == 0 && bytes != QUIRE_BUDGET_AUTO) {
		chance_rebudget(c, before);
		evict_to_budget(c);
		fillers_feed(c);
	}
	return rc;
}

/* ---- figures ---- */

/* VMAs of [start, end), by /proc/self/maps. */
static uint64_t count_vmas(uint64_t start, uint64_t end)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long long low, high;
	uint64_t n = 0;
	char line[512];

	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "%llx-%llx", &low, &high) == 2 && low < end && high > start)
			n++;
	fclose(f);
	return n;
}

static void stat_arenas(struct quire_cache *c, struct quire_cache_stat *s)
{
	struct quire_tmem *t = atomic_load(&c->tmem);
	bool locked = true;

	for (int i = 0; i < N_ARENA_KINDS; i++) {
		struct arena *a = atomic_load(&c->arenas[i]);

		if (a == NULL)
			continue;
		locked &= a->locked;
		s->n_vmas += count_vmas((uintptr_t)a->base, (uintptr_t)a->base + a->bytes);
	}
	if (!arena_swap_is_on())
		return;
	s->swappable = locked ? 0 : s->frames;
	if (t != NULL && !tmem_is_locked(t))
		s->swappable += s->tmem;
}

int quire_cache_stat(struct quire_cache *c, struct quire_cache_stat *ret_stat)
{
	struct quire_cache_stat s = {
		.budget = budget_limit(&c->budget),
		.used = budget_used(&c->budget),
		.frames = budget_kind_used(&c->budget, BUDGET_FRAMES),
		.page_tables = budget_kind_used(&c->budget, BUDGET_PAGE_TABLES),
		.tables = budget_kind_used(&c->budget, BUDGET_TABLES),
		.buffers = budget_kind_used(&c->budget, BUDGET_BUFFERS),
		.other = budget_kind_used(&c->budget, BUDGET_OTHER),
		.pinned = atomic_load(&c->pinned_bytes),
		.n_maps = atomic_load(&c->n_maps),
		.n_fills = atomic_load(&c->counters.n_fills),
		.n_faults = atomic_load(&c->counters.n_faults),
		.n_evictions = atomic_load(&c->counters.n_evictions),
		.n_duplicate = atomic_load(&c->counters.n_duplicate),
		.n_errors = atomic_load(&c->counters.n_errors),
		.n_open_files = media_pool_n_open(c->pool),
		.probation = budget_kind_used(&c->budget, BUDGET_PROBATION),
		.tmem = budget_kind_used(&c->budget, BUDGET_TMEM),
		.n_probation_hits = atomic_load(&c->counters.n_probation_hits),
	};

	stat_arenas(c, &s);
	chance_stat(c, &s);
	*ret_stat = s;
	return 0;
}
