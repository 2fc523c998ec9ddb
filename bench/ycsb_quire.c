/* ycsb_quire.c - the same tables as blobs of a store, under one Quire map ("config 2").
 *
 * `width` threads, a loop each, with COROUTINES on each that go from record to record. A block is wanted, which
 * tells the cache of hits too; where its word says that it is there, that ends without leaving the coroutine.
 */
#include "ycsb_table.h"

#include <quire/quire.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COROUTINES 128u
#define ASIDE_BYTES (UINT64_C(8) << 20) /* of the memory: the program, and what the kernel counts besides */

static struct quire_cache *cache;
static struct quire_store *store;
static struct quire_map *map;
static struct table_index table_index;
static const char **tables; /* owned; where each is in the map */

static int refused(const char *what, int rc, const struct quire_error *err)
{
	return ycsb_failed(what, err->code != 0 ? err->text : strerror(-rc));
}

static int open_store(const struct ycsb *y, uint64_t budget_bytes, unsigned flags)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = budget_bytes };
	struct quire_error err = { 0 };
	char path[4200];

	snprintf(path, sizeof(path), "%s/store", y->path);
	int rc = quire_cache_open(&opts, &cache, &err);
	if (rc == 0)
		rc = quire_store_open(cache, path, flags, &store, &err);
	return rc < 0 ? refused(path, rc, &err) : 0;
}

static void close_all(void)
{
	quire_store_close(store);
	quire_cache_close(cache);
	table_index_free(&table_index);
	free(tables);
}

/* ---- filled ---- */

static int put_table(void *arg, unsigned table, const void *bytes, size_t len_bytes)
{
	const struct quire_blob_hints hints = {
		.size = sizeof(hints), .expected_bytes = len_bytes,
		.page_shift = 12, /* records are looked up, not scanned */
	};
	struct iovec iov = { (void *)(uintptr_t)bytes, len_bytes };
	struct quire_error err = { 0 };
	uint64_t id;
	int rc = quire_blob_alloc(store, &hints, &id);

	if (rc == 0)
		rc = quire_blob_write(store, id, &iov, 1, NULL);
	if (rc == 0)
		rc = quire_blob_commit(store, &id, 1, NULL);
	return rc < 0 ? refused("writing a table", rc, &err) : 0;
}

int ycsb_fill(struct ycsb *y)
{
	struct quire_error err = { 0 };
	char path[4200];

	if (mkdir(y->path, 0755) < 0 && errno != EEXIST)
		return ycsb_failed(y->path, strerror(errno));
	snprintf(path, sizeof(path), "%s/store", y->path);
	int rc = quire_store_create(path, NULL, &err);
	if (rc < 0)
		return refused(path, rc, &err);
	rc = open_store(y, UINT64_C(256) << 20, 0);
	if (rc == 0)
		rc = table_make_all(y, put_table, NULL);
	close_all();
	return rc == 0 ? table_index_write(y) : rc;
}

/* ---- read ---- */

struct reader;

struct request {
	struct reader *reader;
	struct ycsb_record record;
	int64_t due;
	struct request *next; /* that is idle */
};

struct reader {
	struct ycsb_worker *worker;
	struct quire_loop *loop;
	struct request requests[COROUTINES], *idle;
	int rc;
};

static int open_own(struct ycsb *y, void **ret_own)
{
	struct reader *r = calloc(1, sizeof(*r));
	struct quire_error err = { 0 };
	int rc = r != NULL ? quire_loop_create(NULL, &r->loop, &err) : -ENOMEM;

	if (rc < 0) {
		free(r);
		return refused("loop", rc, &err);
	}
	for (unsigned i = 0; i < COROUTINES; i++) {
		r->requests[i].next = r->idle;
		r->idle = &r->requests[i];
	}
	*ret_own = r;
	return 0;
}

static void close_own(void *own)
{
	struct reader *r = own;

	quire_loop_destroy(r->loop);
	free(r);
}

static int read_record(const struct ycsb_record *record, bool *ret_right)
{
	char key[YCSB_KEY_BYTES];

	ycsb_key(record->hash, key);
	uint64_t block = table_index_find(&table_index, key);
	const char *bytes = tables[block / TABLE_BLOCKS] + block % TABLE_BLOCKS * TABLE_BLOCK_BYTES;
	struct iovec range = { (void *)(uintptr_t)bytes, TABLE_BLOCK_BYTES };
	int rc = quire_map_want(map, &range, 1, 0, NULL);
	if (rc < 0)
		return rc;
	const void *value = table_block_find(bytes, key);
	*ret_right = value != NULL && ycsb_right(record->number, value, YCSB_VALUE_BYTES);
	return 0;
}

static void read_and_count(struct reader *r, const struct ycsb_record *record, int64_t due)
{
	bool right = false;
	int rc = read_record(record, &right);

	if (rc < 0)
		r->rc = rc;
	ycsb_done(r->worker, due, right);
}

/* Closed: one of COROUTINES. */
static void read_on(void *arg)
{
	struct reader *r = arg;
	struct ycsb_record record;
	int64_t due;

	while (r->rc == 0 && ycsb_next(r->worker, &record, &due))
		read_and_count(r, &record, due);
}

static void serve(void *arg)
{
	struct request *request = arg;
	struct reader *r = request->reader;

	read_and_count(r, &request->record, request->due);
	request->next = r->idle;
	r->idle = request;
}

/* Open: one coroutine waits for the next request, as it would for a socket, and gives it to another. So a loop that is held
 * up holds up no requests but those that it has. */
static void dispatch(void *arg)
{
	struct reader *r = arg;
	struct ycsb_record record;
	int64_t due;

	while (r->rc == 0 && ycsb_next(r->worker, &record, &due)) {
		int64_t early = due - ycsb_now_ns();
		if (early > 0)
			quire_sleep_ns((uint64_t)early, NULL);
		else if (r->idle == NULL)
			quire_co_yield();
		struct request *request = r->idle;
		if (request == NULL) {
			read_and_count(r, &record, due);
			continue;
		}
		r->idle = request->next;
		*request = (struct request){ .reader = r, .record = record, .due = due };
		r->rc = quire_co_spawn(r->loop, serve, request);
	}
}

static int run(struct ycsb_worker *w, void *own)
{
	const struct quire_error none = { 0 };
	struct reader *r = own;
	const bool open = ycsb_is_open(w);
	int rc = 0;

	r->worker = w;
	for (unsigned i = 0; i < (open ? 1 : COROUTINES) && rc == 0; i++)
		rc = quire_co_spawn(r->loop, open ? dispatch : read_on, r);
	if (rc == 0)
		rc = quire_loop_run(r->loop);
	if (rc == 0)
		rc = r->rc;
	return rc < 0 ? refused("reading", rc, &none) : 0;
}

static uint64_t count_fills(void)
{
	struct quire_cache_stat stat = { 0 };

	quire_cache_stat(cache, &stat);
	return stat.n_fills;
}

static int map_tables(void)
{
	struct quire_item *items = calloc(table_index.n_tables, sizeof(*items));
	uint64_t *ids = calloc(table_index.n_tables, sizeof(*ids));
	struct quire_error err = { 0 };
	int rc = items != NULL && ids != NULL && tables != NULL ? 0 : -ENOMEM;

	if (rc == 0 && quire_blob_list(store, 0, ids, table_index.n_tables) != (int)table_index.n_tables)
		rc = -ENOENT;
	for (unsigned i = 0; i < table_index.n_tables && rc == 0; i++)
		items[i] = (struct quire_item){ .store = store, .blob = ids[i] };
	if (rc == 0)
		rc = quire_map_create(cache, items, table_index.n_tables, NULL, &map, &err);
	for (unsigned i = 0; i < table_index.n_tables && rc == 0; i++) {
		size_t len;
		rc = quire_map_item(map, i, (const void **)&tables[i], &len);
	}
	free(items);
	free(ids);
	return rc < 0 ? refused("map", rc, &err) : 0;
}

int ycsb_read(struct ycsb *y)
{
	static const struct ycsb_reader reader = { .open = open_own, .close = close_own, .run = run, .n_misses = count_fills };
	int rc = table_index_read(y, &table_index);

	if (rc != 0)
		return rc;
	tables = calloc(table_index.n_tables, sizeof(*tables));
	/* The index is the program's, as everyone's: the cache has what is left. */
	uint64_t index_bytes = table_index.n_blocks * (sizeof(uint64_t) + TABLE_REST_BYTES);
	rc = open_store(y, y->memory_bytes - ASIDE_BYTES - index_bytes, QUIRE_STORE_READ_ONLY);
	if (rc == 0)
		rc = map_tables();
	if (rc == 0)
		rc = ycsb_run(y, &reader);
	if (map != NULL)
		quire_map_destroy(map, NULL);
	close_all();
	return rc;
}
