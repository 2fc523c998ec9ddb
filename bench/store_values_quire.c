/* store_values_quire.c - Quire: every value a blob. One thread, `width` coroutines.
 *
 * Variants: "" has all blobs in one map, wants a value and looks at it in place; "read" copies nothing either but keeps
 * nothing: each coroutine reads blobs into memory of its own.
 */
#include "store_values.h"

#include <quire/quire.h>

#include <stdio.h>
#include <stdlib.h>

#define BATCH 1024u
#define CAPACITY_BYTES (UINT64_C(8) << 30) /* sparse */
#define ASIDE_BYTES (UINT64_C(10) << 20)   /* of the memory: the program, and what the kernel counts besides */

struct contest {
	struct values *v;
	struct values_meter *meter;
	struct quire_cache *cache;
	struct quire_store *store;
	struct quire_map *map;
	struct quire_loop *loop;
	uint64_t *ids; /* owned; of each value */
	unsigned n_started;
	int error;
};

static int refused(const char *what, int rc, const struct quire_error *err)
{
	return values_failed(what, err != NULL && err->code != 0 ? err->text : strerror(-rc));
}

static int open_store(struct contest *c, uint64_t budget_bytes)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = budget_bytes };
	struct quire_error err = { 0 };
	int rc = quire_cache_open(&opts, &c->cache, &err);

	if (rc == 0)
		rc = quire_store_open(c->cache, c->v->path, 0, &c->store, &err);
	return rc < 0 ? refused(c->v->path, rc, &err) : 0;
}

/* ---- filled ---- */

static int put_batch(struct contest *c, uint64_t first, unsigned n)
{
	static char value[VALUES_BYTES] __attribute__((aligned(4096)));
	const struct quire_blob_hints hints = { .size = sizeof(hints), .expected_bytes = VALUES_BYTES };
	struct iovec iov = { value, sizeof(value) };

	for (unsigned i = 0; i < n; i++) {
		values_content(first + i, value);
		int rc = quire_blob_alloc(c->store, &hints, &c->ids[i]);
		if (rc == 0)
			rc = quire_blob_write(c->store, c->ids[i], &iov, 1, NULL);
		if (rc < 0)
			return rc;
	}
	return quire_blob_commit(c->store, c->ids, n, NULL);
}

int values_fill(struct values *v)
{
	const struct quire_store_options opts = { .size = sizeof(opts), .capacity_bytes = CAPACITY_BYTES };
	struct contest c = { .v = v, .ids = calloc(BATCH, sizeof(*c.ids)) };
	struct quire_error err = { 0 };

	if (c.ids == NULL)
		return values_failed("filling", "no memory");
	int rc = quire_store_create(v->path, &opts, &err);
	if (rc < 0)
		return refused(v->path, rc, &err);
	if (open_store(&c, UINT64_C(256) << 20) != 0)
		return -1;
	for (uint64_t i = 0; i < v->n_values && rc == 0; i += BATCH)
		rc = put_batch(&c, i, v->n_values - i < BATCH ? (unsigned)(v->n_values - i) : BATCH);
	quire_store_close(c.store);
	quire_cache_close(c.cache);
	free(c.ids);
	return rc < 0 ? refused("filling", rc, NULL) : 0;
}

/* ---- read ---- */

/* 0, or a negative errno. */
static int look(struct contest *c, uint64_t key, bool *ret_right)
{
	struct iovec range;

	quire_map_item(c->map, key, (const void **)&range.iov_base, &range.iov_len);
	if (!quire_map_resident(c->map, range.iov_base, range.iov_len)) {
		int rc = quire_map_want(c->map, &range, 1, 0, NULL);
		if (rc < 0)
			return rc;
	}
	*ret_right = values_right(key, range.iov_base, range.iov_len);
	return 0;
}

static int read_copy(struct contest *c, uint64_t key, void *buf, bool *ret_right)
{
	struct iovec iov = { buf, VALUES_BYTES };
	int64_t n = quire_blob_read(c->store, c->ids[key], 0, &iov, 1, NULL);

	if (n < 0)
		return (int)n;
	*ret_right = values_right(key, buf, (size_t)n);
	return 0;
}

static void walk(void *arg)
{
	struct contest *c = arg;
	void *buf = c->map == NULL ? aligned_alloc(4096, VALUES_BYTES) : NULL;
	uint64_t state = 77 + c->n_started++ * 1000003u;
	bool right = false;
	int rc;

	do {
		uint64_t key = values_random(c->v, &state);
		rc = c->map != NULL ? look(c, key, &right) : read_copy(c, key, buf, &right);
		if (rc < 0)
			c->error = rc;
	} while (values_meter_count(c->meter, 1, !right) && c->error == 0);
	free(buf);
}

static int find_blobs(struct contest *c)
{
	uint64_t after = 0;

	c->ids = calloc(c->v->n_values, sizeof(*c->ids));
	for (uint64_t i = 0; c->ids != NULL && i < c->v->n_values; after = c->ids[i - 1]) {
		uint64_t left = c->v->n_values - i;
		int n = quire_blob_list(c->store, after, c->ids + i, left < BATCH ? (unsigned)left : BATCH);
		if (n <= 0)
			return values_failed(c->v->path, "too few values");
		i += (uint64_t)n;
	}
	return c->ids != NULL ? 0 : values_failed("starting", "no memory");
}

static int map_blobs(struct contest *c)
{
	struct quire_item *items = calloc(c->v->n_values, sizeof(*items));
	struct quire_error err = { 0 };

	if (items == NULL)
		return values_failed("starting", "no memory");
	for (uint64_t i = 0; i < c->v->n_values; i++) {
		items[i].store = c->store;
		items[i].blob = c->ids[i];
	}
	int rc = quire_map_create(c->cache, items, c->v->n_values, NULL, &c->map, &err);
	free(items);
	return rc < 0 ? refused("map", rc, &err) : 0;
}

static int run_walkers(struct contest *c)
{
	int rc = quire_loop_create(NULL, &c->loop, NULL);

	c->meter = values_meter_start(c->v);
	for (unsigned i = 0; i < c->v->width && rc == 0; i++)
		rc = quire_co_spawn(c->loop, walk, c);
	if (rc == 0)
		rc = quire_loop_run(c->loop);
	values_meter_end(c->meter);
	if (rc == 0)
		rc = c->error;
	quire_loop_destroy(c->loop);
	return rc < 0 ? refused("reading", rc, NULL) : 0;
}

int values_read(struct values *v)
{
	struct contest c = { .v = v };

	if (open_store(&c, v->memory_bytes - ASIDE_BYTES) != 0 || find_blobs(&c) != 0)
		return -1;
	if (strcmp(v->variant, "read") != 0 && map_blobs(&c) != 0)
		return -1;
	int rc = run_walkers(&c);
	if (c.map != NULL)
		quire_map_destroy(c.map, NULL);
	quire_store_close(c.store);
	quire_cache_close(c.cache);
	free(c.ids);
	return rc;
}
