/* map_miss_quire.c - Quire on one thread: by want with callbacks, and by raw loads alone.
 *
 * Walkers, `depth` of them, go from random page to random page. By want, a walker that meets a
 * cold page wants it and goes on in the completion's callback; pinned maps want every page,
 * as nothing else may be touched there. By raw loads, a walker is a coroutine that knows
 * nothing of hot and cold.
 */
#include "map_miss.h"

#include <quire/quire.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* What the cgroup counts and the cache does not: this program, and the kernel's odds and ends. */
#define ASIDE_BYTES (8u << 20)

struct walker {
	struct quire_run *q;
	struct quire_op op;
	struct iovec range;
	uint64_t page;
};

struct quire_run {
	struct run *run;
	struct quire_cache *cache;
	struct quire_store *store; /* NULL: a plain file */
	struct quire_map *map;
	struct quire_loop *loop;
	const unsigned char *base;
	unsigned want_flags;
	uint64_t rng, n_seen, n_fills_start;
	double start, cpu_start;
	bool counting, stop;
	int error;
};

static uint64_t n_fills(struct quire_run *q)
{
	struct quire_cache_stat stat = { 0 };

	quire_cache_stat(q->cache, &stat);
	return stat.n_fills;
}

static void begin_counting(struct quire_run *q)
{
	q->counting = true;
	q->run->n_accesses = 0;
	q->n_fills_start = n_fills(q);
	q->cpu_start = cpu_seconds();
	q->start = now_seconds();
}

static void end_counting(struct quire_run *q)
{
	q->stop = true;
	q->run->measured_seconds = now_seconds() - q->start;
	q->run->cpu_seconds = cpu_seconds() - q->cpu_start;
	q->run->n_misses = n_fills(q) - q->n_fills_start;
}

/* Looks at the clock now and then. */
static void touch(struct quire_run *q, uint64_t page)
{
	q->run->n_wrong += !run_page_right(q->run, q->base + page * q->run->page_bytes, page);
	q->run->n_accesses++;
	q->n_seen++;
	if (q->stop)
		return;
	if (!q->counting && q->n_seen >= run_fill_accesses(q->run))
		begin_counting(q);
	else if (q->counting && q->n_seen % 64 == 0 && now_seconds() - q->start >= q->run->seconds)
		end_counting(q);
}

static void fail(struct quire_run *q, int rc)
{
	if (q->error == 0)
		q->error = rc;
	q->stop = true;
}

/* ---- by want ---- */

static void wanted(struct quire_op *op, void *arg);

static void walk(struct walker *w)
{
	struct quire_run *q = w->q;

	do {
		w->page = run_random_page(q->run, &q->rng);
		w->range.iov_base = (void *)(uintptr_t)(q->base + w->page * q->run->page_bytes);
		if ((q->want_flags & QUIRE_WANT_PIN) || !quire_map_resident(q->map, w->range.iov_base, 1))
			break;
		touch(q, w->page);
	} while (!q->stop);
	if (q->stop)
		return;
	quire_op_init_callback(&w->op, q->loop, wanted, w);
	int rc = quire_map_want(q->map, &w->range, 1, q->want_flags, &w->op);
	if (rc < 0)
		fail(q, rc);
}

static void wanted(struct quire_op *op, void *arg)
{
	struct walker *w = arg;

	if (op->result < 0) {
		fail(w->q, (int)op->result);
		return;
	}
	touch(w->q, w->page);
	if (w->q->want_flags & QUIRE_WANT_PIN)
		quire_map_unwant(w->q->map, &w->range, 1);
	if (!w->q->stop)
		walk(w);
}

static int start_walkers(struct quire_run *q, struct walker *walkers)
{
	for (unsigned i = 0; i < q->run->depth; i++) {
		walkers[i].q = q;
		walkers[i].range.iov_len = q->run->page_bytes;
		walk(&walkers[i]);
	}
	return q->error;
}

/* ---- by raw loads ---- */

static void read_on(void *arg)
{
	struct quire_run *q = arg;

	while (!q->stop)
		touch(q, run_random_page(q->run, &q->rng));
}

static int start_readers(struct quire_run *q)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < q->run->depth; i++)
		rc = quire_co_spawn(q->loop, read_on, q);
	return rc;
}

/* ---- setting up ---- */

/* A directory is a store: its first blob has the pages. */
static int open_store(struct quire_run *q, struct quire_item *item, struct quire_error *err)
{
	struct stat st;

	if (stat(q->run->path, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	int rc = quire_store_open(q->cache, q->run->path, QUIRE_STORE_READ_ONLY, &q->store, err);
	if (rc < 0)
		return rc;
	item->path = NULL;
	item->store = q->store;
	return quire_blob_list(q->store, 0, &item->blob, 1) == 1 ? 0 : -ENOENT;
}

static int open_all(struct quire_run *q, enum quire_fault fault, struct quire_error *err)
{
	const bool raw = fault == QUIRE_FAULT_SIGNAL;
	const struct quire_cache_options cache_opts = {
		.size = sizeof(cache_opts),
		.budget_bytes = q->run->memory_bytes - ASIDE_BYTES,
		.signal_faults = raw,
	};
	const struct quire_map_options map_opts = { .size = sizeof(map_opts), .fault = fault };
	const struct quire_loop_options loop_opts = {
		.size = sizeof(loop_opts),
		.depth = q->run->depth,
		.n_threads = 64, /* where threads do the reading */
		.suspend_faults = raw,
	};
	struct quire_item item = { .path = q->run->path, .len_bytes = q->run->n_pages * q->run->page_bytes };
	int rc = quire_cache_open(&cache_opts, &q->cache, err);

	if (rc == 0)
		rc = open_store(q, &item, err);
	if (rc == 0)
		rc = quire_map_create(q->cache, &item, 1, &map_opts, &q->map, err);
	if (rc == 0)
		rc = quire_loop_create(&loop_opts, &q->loop, err);
	if (rc == 0)
		q->base = quire_map_base(q->map);
	return rc;
}

static int quire_run(struct run *r, enum quire_fault fault, unsigned want_flags)
{
	struct quire_run q = { .run = r, .want_flags = want_flags, .rng = 1 };
	struct walker *walkers = calloc(r->depth, sizeof(*walkers));
	struct quire_error err = { 0 };

	if (walkers == NULL)
		return failed("starting", -ENOMEM);
	int rc = open_all(&q, fault, &err);
	if (rc < 0) {
		fprintf(stderr, "bench-map-miss: %s\n", err.text);
		return rc;
	}
	rc = fault == QUIRE_FAULT_SIGNAL ? start_readers(&q) : start_walkers(&q, walkers);
	if (rc == 0)
		rc = quire_loop_run(q.loop);
	if (rc == 0)
		rc = q.error;
	if (rc < 0)
		return failed("reading", rc);
	quire_loop_destroy(q.loop);
	quire_map_destroy(q.map, NULL);
	quire_store_close(q.store);
	quire_cache_close(q.cache);
	free(walkers);
	return 0;
}

int run_quire_want(struct run *r)
{
	return quire_run(r, QUIRE_FAULT_SERVICE, 0);
}

int run_quire_suspend(struct run *r)
{
	return quire_run(r, QUIRE_FAULT_SIGNAL, 0);
}

int run_quire_kernel(struct run *r)
{
	return quire_run(r, QUIRE_FAULT_KERNEL, 0);
}

int run_quire_pinned(struct run *r)
{
	return quire_run(r, QUIRE_FAULT_PINNED, QUIRE_WANT_PIN);
}
