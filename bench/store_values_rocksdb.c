/* store_values_rocksdb.c - RocksDB with BlobDB: values in blob files, nothing compressed, all compacted before.
 *
 * Variants: "direct": O_DIRECT, and a blob cache that takes what memory there is; "buffered": the kernel's page cache
 * holds it; "direct-multi": as direct, 16 keys a MultiGet. Reads go without RocksDB's own readahead, into pinned slices,
 * so that nothing is copied that need not be. Checksums are verified, as everywhere.
 */
#include "store_values.h"

#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>

#define ASIDE_BYTES (UINT64_C(40) << 20) /* of the memory: the program, the index, reads under way */
#define BATCH 16u

static rocksdb_t *db;
static rocksdb_readoptions_t *read_options;
static rocksdb_column_family_handle_t *family;

static int refused(const char *what, char *error)
{
	values_failed(what, error);
	free(error);
	return -1;
}

static void key_of(uint64_t number, char *ret)
{
	for (unsigned i = 0; i < 8; i++)
		ret[i] = (char)(number >> (56 - 8 * i));
}

static rocksdb_options_t *make_options(void)
{
	rocksdb_options_t *o = rocksdb_options_create();

	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_enable_blob_files(o, 1);
	rocksdb_options_set_min_blob_size(o, 1024);
	rocksdb_options_set_blob_file_size(o, UINT64_C(256) << 20);
	rocksdb_options_set_blob_compression_type(o, rocksdb_no_compression);
	rocksdb_options_set_compression(o, rocksdb_no_compression);
	rocksdb_options_set_max_open_files(o, -1);
	rocksdb_options_set_info_log_level(o, 3);
	return o;
}

/* ---- filled ---- */

static int put_all(uint64_t n_values, char **error)
{
	static char value[VALUES_BYTES] __attribute__((aligned(8)));
	rocksdb_writeoptions_t *w = rocksdb_writeoptions_create();
	char key[8];

	rocksdb_writeoptions_disable_WAL(w, 1);
	for (uint64_t k = 0; k < n_values && *error == NULL; k++) {
		values_content(k, value);
		key_of(k, key);
		rocksdb_put(db, w, key, sizeof(key), value, VALUES_BYTES, error);
	}
	rocksdb_writeoptions_destroy(w);
	if (*error == NULL) {
		rocksdb_flushoptions_t *f = rocksdb_flushoptions_create();
		rocksdb_flushoptions_set_wait(f, 1);
		rocksdb_flush(db, f, error);
		rocksdb_flushoptions_destroy(f);
	}
	if (*error == NULL)
		rocksdb_compact_range(db, NULL, 0, NULL, 0);
	return *error == NULL ? 0 : -1;
}

int values_fill(struct values *v)
{
	rocksdb_options_t *o = make_options();
	char *error = NULL;

	rocksdb_destroy_db(o, v->path, &error);
	if (error != NULL)
		return refused(v->path, error);
	db = rocksdb_open(o, v->path, &error);
	if (error != NULL)
		return refused(v->path, error);
	int rc = put_all(v->n_values, &error);
	rocksdb_close(db);
	rocksdb_options_destroy(o);
	return rc == 0 ? 0 : refused("filling", error);
}

/* ---- read ---- */

static int open_own(struct values *v, void **ret_own)
{
	*ret_own = NULL;
	return 0;
}

static void close_own(void *own)
{
}

static int check(uint64_t key, rocksdb_pinnableslice_t *slice, char *error, unsigned *n_wrong)
{
	size_t len = 0;

	if (error != NULL)
		return refused("get", error);
	const char *value = slice != NULL ? rocksdb_pinnableslice_value(slice, &len) : NULL;
	*n_wrong += !values_right(key, value, len);
	rocksdb_pinnableslice_destroy(slice);
	return 0;
}

static int read_one(void *own, const uint64_t *keys, unsigned n, unsigned *n_wrong)
{
	char key[8], *error = NULL;

	key_of(keys[0], key);
	rocksdb_pinnableslice_t *slice = rocksdb_get_pinned(db, read_options, key, sizeof(key), &error);
	return check(keys[0], slice, error, n_wrong);
}

static int read_many(void *own, const uint64_t *keys, unsigned n, unsigned *n_wrong)
{
	rocksdb_pinnableslice_t *slices[BATCH] = { NULL };
	char bytes[BATCH][8], *errors[BATCH] = { NULL };
	const char *pointers[BATCH] = { NULL };
	size_t lens[BATCH] = { 0 };
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		key_of(keys[i], bytes[i]);
		pointers[i] = bytes[i];
		lens[i] = sizeof(bytes[i]);
	}
	rocksdb_batched_multi_get_cf(db, read_options, family, n, pointers, lens, slices, errors, false);
	for (unsigned i = 0; i < n; i++)
		rc |= check(keys[i], slices[i], errors[i], n_wrong);
	return rc;
}

static int open_for_reading(struct values *v, bool direct)
{
	rocksdb_options_t *o = make_options();
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
	char *error = NULL;

	rocksdb_block_based_options_set_block_cache(table, rocksdb_cache_create_lru(4u << 20));
	rocksdb_options_set_block_based_table_factory(o, table);
	rocksdb_options_set_use_direct_reads(o, direct);
	rocksdb_options_set_advise_random_on_open(o, 1);
	if (direct)
		rocksdb_options_set_blob_cache(o, rocksdb_cache_create_lru(v->memory_bytes - ASIDE_BYTES));
	const rocksdb_options_t *of_family = o;
	db = rocksdb_open_for_read_only_column_families(o, v->path, 1, (const char *const[]){ "default" }, &of_family,
	                                                &family, 0, &error);
	if (error != NULL)
		return refused(v->path, error);
	read_options = rocksdb_readoptions_create();
	return 0;
}

int values_read(struct values *v)
{
	const bool many = strcmp(v->variant, "direct-multi") == 0;
	const struct values_reader reader = { open_own, many ? read_many : read_one, close_own, many ? BATCH : 1 };

	if (open_for_reading(v, strncmp(v->variant, "direct", 6) == 0) != 0)
		return -1;
	int rc = values_by_threads(v, &reader);
	rocksdb_column_family_handle_destroy(family);
	rocksdb_close(db);
	return rc;
}
