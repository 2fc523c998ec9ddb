/* ycsb_rocksdb.c - RocksDB: loaded in order of keys, compacted to one level, nothing compressed.
 *
 * Variants: "direct": O_DIRECT, and a block cache that takes what memory there is; "buffered": the kernel's page cache
 * holds it. Blocks of 2 KiB: of 1, 2 and 4 KiB, aligned or not, and of a cache of rows instead of blocks, these gave the
 * most. Bloom filters for all levels but the last, where they could not help a key that is there. Reads go into
 * pinned slices, so that nothing is copied that need not be. Checksums are verified when a block is read, as in Quire.
 */
#include "ycsb.h"

#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 2048u
#define ASIDE_BYTES (UINT64_C(20) << 20) /* of the memory: the program, reads under way, */
#define ASIDE_PER_RECORD 24u             /* the index, */
#define ASIDE_SHARE 16u                  /* and a sixteenth for what the cache's entries take besides */
#define SMALL_CACHE_BYTES (UINT64_C(8) << 20)
#define FILL_THREADS 32u

static rocksdb_t *db;
static rocksdb_readoptions_t *read_options;

static int refused(const char *what, char *error)
{
	ycsb_failed(what, error);
	free(error);
	return -1;
}

static rocksdb_options_t *make_options(uint64_t cache_bytes)
{
	rocksdb_options_t *o = rocksdb_options_create();
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

	rocksdb_block_based_options_set_block_size(table, BLOCK_BYTES);
	rocksdb_block_based_options_set_block_cache(table, rocksdb_cache_create_lru(cache_bytes));
	rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
	rocksdb_options_set_block_based_table_factory(o, table);
	rocksdb_options_set_optimize_filters_for_hits(o, 1);
	rocksdb_options_set_compression(o, rocksdb_no_compression);
	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_max_open_files(o, -1);
	rocksdb_options_set_info_log_level(o, 3);
	return o;
}

/* ---- filled ---- */

static void put_all(const struct ycsb *y, const struct ycsb_record *records, char **error)
{
	rocksdb_writeoptions_t *w = rocksdb_writeoptions_create();
	rocksdb_flushoptions_t *f = rocksdb_flushoptions_create();
	char key[YCSB_KEY_BYTES], value[YCSB_VALUE_BYTES];

	rocksdb_writeoptions_disable_WAL(w, 1);
	for (uint64_t i = 0; i < y->n_records && *error == NULL; i++) {
		ycsb_key(records[i].hash, key);
		ycsb_value(records[i].number, value);
		rocksdb_put(db, w, key, sizeof(key), value, sizeof(value), error);
	}
	rocksdb_flushoptions_set_wait(f, 1);
	if (*error == NULL)
		rocksdb_flush(db, f, error);
	if (*error == NULL)
		rocksdb_compact_range(db, NULL, 0, NULL, 0);
	rocksdb_flushoptions_destroy(f);
	rocksdb_writeoptions_destroy(w);
}

int ycsb_fill(struct ycsb *y)
{
	struct ycsb_record *records = ycsb_sorted(y->n_records);
	rocksdb_options_t *o = make_options(SMALL_CACHE_BYTES);
	char *error = NULL;

	if (records == NULL)
		return ycsb_failed("filling", "no memory");
	db = rocksdb_open(o, y->path, &error);
	if (error != NULL)
		return refused(y->path, error);
	put_all(y, records, &error);
	rocksdb_close(db);
	rocksdb_options_destroy(o);
	free(records);
	return error == NULL ? 0 : refused("filling", error);
}

/* ---- read ---- */

static int open_own(struct ycsb *y, void **ret_own)
{
	*ret_own = NULL;
	return 0;
}

static void close_own(void *own)
{
}

static int read_record(void *own, const char *key, uint64_t number, bool *ret_right)
{
	char *error = NULL;
	size_t len = 0;
	rocksdb_pinnableslice_t *slice = rocksdb_get_pinned(db, read_options, key, YCSB_KEY_BYTES, &error);

	if (error != NULL)
		return refused("get", error);
	const char *value = slice != NULL ? rocksdb_pinnableslice_value(slice, &len) : NULL;
	*ret_right = value != NULL && ycsb_right(number, value, len);
	rocksdb_pinnableslice_destroy(slice);
	return 0;
}

static rocksdb_options_t *options_of(const struct ycsb *y)
{
	const bool direct = strcmp(y->variant, "buffered") != 0;
	const uint64_t aside = ASIDE_BYTES + y->memory_bytes / ASIDE_SHARE + y->n_records * ASIDE_PER_RECORD;
	rocksdb_options_t *o = make_options(direct ? y->memory_bytes - aside : SMALL_CACHE_BYTES);

	rocksdb_options_set_use_direct_reads(o, direct);
	rocksdb_options_set_advise_random_on_open(o, 1);
	return o;
}

int ycsb_read(struct ycsb *y)
{
	static const struct ycsb_reader reader = {
		.open = open_own, .close = close_own, .read = read_record, .n_fill_threads = FILL_THREADS,
	};
	char *error = NULL;

	db = rocksdb_open_for_read_only(options_of(y), y->path, 0, &error);
	if (error != NULL)
		return refused(y->path, error);
	read_options = rocksdb_readoptions_create();
	int rc = ycsb_run(y, &reader);
	rocksdb_close(db);
	return rc;
}
