/* map.c - a map's life, and what can be asked about it.
 *
 * A map is a range of an arena and the items in it, files and blobs; the cache does the rest. It is destroyed
 * in three steps: no new operation; when the last has ended, its pages leave, a few
 * milliseconds' worth at a time so that a loop stays responsive; then files and memory.
 */
#include <quire/map.h>

#include "../base/fail.h"
#include "../base/feature.h"
#include "map_internal.h"
#include "warm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DESTROY_STEP_PAGES 16384

static_assert(WANT_PIN == QUIRE_WANT_PIN, "one flag, two names");
static_assert((int)STREAM_SEQUENTIAL == (int)QUIRE_STREAM_SEQUENTIAL && (int)STREAM_RANDOM == (int)QUIRE_STREAM_RANDOM,
              "one mode, two names");

/* blobs: there are some, which the kernel can't map, since their pages are to be verified. */
static int map_choose_fault(const struct quire_cache *c, enum quire_fault asked, bool blobs,
                            enum quire_fault *ret_fault, struct quire_error *err)
{
	bool uffd = feature_have(FEATURE_USERFAULTFD);

	if (asked == QUIRE_FAULT_AUTO)
		asked = uffd ? QUIRE_FAULT_SERVICE : blobs ? QUIRE_FAULT_PINNED : QUIRE_FAULT_KERNEL;
	if (asked < QUIRE_FAULT_AUTO || asked > QUIRE_FAULT_PINNED)
		return quire_fail(err, -EINVAL, "fault service %d", (int)asked);
	if ((asked == QUIRE_FAULT_SERVICE || asked == QUIRE_FAULT_SIGNAL) && !uffd)
		return quire_fail(err, -ENOTSUP, "userfaultfd");
	if (asked == QUIRE_FAULT_SIGNAL && !c->signal_faults)
		return quire_fail(err, -EINVAL, "the cache was opened without signal_faults");
	*ret_fault = asked;
	return 0;
}

static enum arena_kind map_arena_kind(const struct quire_map *m)
{
	if (m->fault == QUIRE_FAULT_SERVICE)
		return m->moves ? ARENA_SERVICE_MOVE : ARENA_SERVICE;
	if (m->fault == QUIRE_FAULT_SIGNAL)
		return m->moves ? ARENA_SIGNAL_MOVE : ARENA_SIGNAL;
	return ARENA_PINNED;
}

static void map_free(struct quire_map *m)
{
	struct quire_cache *c = m->cache;

	warm_destroy(m->warm);
	if (m->range != NULL)
		range_free(m->range);
	if (m->fault == QUIRE_FAULT_KERNEL)
		kernel_map_destroy(m);
	map_items_close(m);
	budget_uncharge(&c->budget, BUDGET_OTHER, m->charged_bytes);
	pthread_mutex_destroy(&m->lock);
	free(m);
	atomic_fetch_sub(&c->n_maps, 1);
}

/* Roughly what an item costs beside its struct: the file's, with its path. */
#define FILE_BYTES 256

static int map_build(struct quire_map *m, const struct quire_item *items, size_t n,
                     struct quire_error *err)
{
	int rc = map_items_open(m, items, n, err);

	if (rc < 0)
		return rc;
	m->charged_bytes = sizeof(*m) + n * (sizeof(struct item) + FILE_BYTES);
	budget_charge(&m->cache->budget, BUDGET_OTHER, m->charged_bytes);
	evict_to_budget(m->cache);
	if (!evict_can_fit(m->cache))
		return quire_fail(err, -ENOMEM, "%zu items do not fit the budget", n);
	if (m->n_pages == 0)
		return 0;
	if (m->fault == QUIRE_FAULT_KERNEL)
		return kernel_map_create(m, items, err);
	rc = range_create(m->cache, map_arena_kind(m), m->n_pages, &map_range_ops, m, &m->range,
	                  err);
	if (rc == 0)
		m->base = arena_address(m->range->arena, m->range->first_page);
	return rc;
}

int quire_map_create(struct quire_cache *c, const struct quire_item *items, size_t n_items,
                     const struct quire_map_options *opts, struct quire_map **ret_map,
                     struct quire_error *err)
{
	struct quire_map_options o = {0};

	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(o))
			return quire_fail(err, -EINVAL, "map options of %zu bytes", opts->size);
		memcpy(&o, opts, opts->size);
	}
	if (cache_is_of_parent(c))
		return quire_fail(err, -ECHILD, "cache");

	struct quire_map *m = calloc(1, sizeof(*m));
	if (m == NULL)
		return quire_fail(err, -ENOMEM, "map");
	m->cache = c;
	pthread_mutex_init(&m->lock, NULL);
	atomic_fetch_add(&c->n_maps, 1);
	bool blobs = false;
	for (size_t i = 0; items != NULL && i < n_items && !blobs; i++)
		blobs = items[i].store != NULL;
	int rc = map_choose_fault(c, o.fault, blobs, &m->fault, err);
	if (rc == 0)
		rc = map_build(m, items, n_items, err);
	if (rc == 0 && o.warm_path != NULL)
		rc = warm_create(m, &o, &m->warm, err);
	if (rc < 0) {
		map_free(m);
		return rc;
	}
	*ret_map = m;
	return 0;
}

/* ---- destroy ---- */

static void map_destroy_step(struct loop_task *task)
{
	struct quire_map *m = (struct quire_map *)((char *)task - offsetof(struct quire_map, idle));
	struct quire_op *op = m->destroy_op;

	if (m->range != NULL && m->destroy_page < m->n_pages) {
		uint64_t n = m->n_pages - m->destroy_page;

		if (n > DESTROY_STEP_PAGES)
			n = DESTROY_STEP_PAGES;
		evict_range(m->range, m->range->first_page + m->destroy_page, n);
		m->destroy_page += n;
		loop_task_init(&m->idle, map_destroy_step);
		loop_defer(op_home(op), &m->idle);
		return;
	}
	map_free(m);
	op_complete(op, 0);
}

static void map_destroy_wait(struct loop_task *task)
{
	struct quire_map *m = (struct quire_map *)((char *)task - offsetof(struct quire_map, idle));

	loop_task_init(&m->idle, map_destroy_step);
	gate_when_idle(m->range != NULL ? &m->range->gate : &m->gate, op_home(m->destroy_op), &m->idle);
}

static void map_destroy_start(struct quire_op *op)
{
	struct quire_map *m = *(struct quire_map **)op_driver_data(op);

	m->destroy_op = op;
	loop_task_init(&m->idle, map_destroy_wait);
	if (m->warm != NULL)
		warm_end(m->warm, op_home(op), &m->idle); /* while its pages are there to be listed */
	else
		map_destroy_wait(&m->idle);
}

int quire_map_destroy(struct quire_map *m, struct quire_op *op)
{
	static const struct op_driver driver = {.start = map_destroy_start};
	struct quire_op local;

	if (m == NULL) {
		if (op != NULL)
			op_complete_now(op, 0);
		return 0;
	}
	if (cache_is_of_parent(m->cache))
		return -ECHILD;
	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	if (op == NULL && quire_loop_self() != NULL && !quire_in_coroutine())
		return -EDEADLK;
	if (m->range != NULL) {
		int rc = range_kill(m->range);

		if (rc < 0)
			return rc;
	} else {
		gate_close(&m->gate);
	}
	struct quire_op *run = op != NULL ? op : &local;
	if (op == NULL)
		quire_op_init(&local);
	*(struct quire_map **)op_driver_data(run) = m;
	if (op == NULL)
		return (int)op_run_and_wait(run, &driver, m->cache->service);
	return op_start(run, &driver, m->cache->service);
}

/* ---- what it is ---- */

const void *quire_map_base(const struct quire_map *m)
{
	return m->base;
}

size_t quire_map_bytes(const struct quire_map *m)
{
	return (size_t)(m->n_pages << m->cache->page_shift);
}

size_t quire_map_n_items(const struct quire_map *m)
{
	return m->n_items;
}

enum quire_fault quire_map_fault(const struct quire_map *m)
{
	return m->fault;
}

unsigned quire_map_page_shift(const struct quire_map *m)
{
	return m->cache->page_shift;
}

const uint32_t *quire_map_residency(const struct quire_map *m)
{
	return m->range == NULL ? NULL : (const uint32_t *)range_word(m->range, m->range->first_page);
}

int quire_map_stat(struct quire_map *m, struct quire_map_stat *ret_stat)
{
	struct quire_map_stat s = {.n_items = m->n_items};
	unsigned shift = m->cache->page_shift;

	for (size_t i = 0; i < m->n_items; i++)
		s.mapped += atomic_load(&m->items[i].len_bytes);
	if (m->range != NULL) {
		s.resident = atomic_load(&m->range->n_resident) << shift;
		s.pinned = atomic_load(&m->range->n_pinned) << shift;
		s.unverified = atomic_load(&m->range->n_unverified) << shift;
		s.n_hits = stripes_sum(&m->range->n_hits);
		s.n_faults = atomic_load(&m->range->n_faults);
		s.n_fills = atomic_load(&m->range->n_fills);
		s.n_evictions = atomic_load(&m->range->n_evictions);
		s.n_errors = atomic_load(&m->range->n_errors);
		s.n_ahead = atomic_load(&m->range->n_ahead);
		s.probation = atomic_load(&m->range->n_probation) << shift;
		s.n_second_chance_hits = atomic_load(&m->range->n_chance_hits);
		s.n_probation_hits = atomic_load(&m->range->n_probation_hits);
	} else if (m->n_pages > 0) {
		s.resident = s.unverified = kernel_map_resident(m, m->base, quire_map_bytes(m)) << shift;
	}
	*ret_stat = s;
	return 0;
}
