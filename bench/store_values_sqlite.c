/* store_values_sqlite.c - SQLite: one table of blobs by rowid, read by the incremental blob interface.
 *
 * Each thread has a connection of its own, to a database that is said to be immutable, so none takes a lock. Variants:
 * "" reads with pread into a small page cache, and the kernel's page cache holds the rest of the memory;
 * "mmap" maps the whole file. The size of a page is that of the file: see fill's variant.
 */
#include "store_values.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct own {
	sqlite3 *db;
	sqlite3_blob *blob; /* NULL until the first read */
	char buf[VALUES_BYTES];
};

static int refused(sqlite3 *db, const char *what)
{
	return values_failed(what, sqlite3_errmsg(db));
}

static int run(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : refused(db, sql);
}

/* ---- filled ---- */

static int insert_all(sqlite3 *db, uint64_t n_values)
{
	static char value[VALUES_BYTES] __attribute__((aligned(8)));
	sqlite3_stmt *insert;

	if (sqlite3_prepare_v2(db, "INSERT INTO t(k, v) VALUES(?, ?)", -1, &insert, NULL) != SQLITE_OK)
		return refused(db, "insert");
	for (uint64_t k = 0; k < n_values; k++) {
		values_content(k, value);
		sqlite3_bind_int64(insert, 1, (sqlite3_int64)k);
		sqlite3_bind_blob(insert, 2, value, VALUES_BYTES, SQLITE_STATIC);
		if (sqlite3_step(insert) != SQLITE_DONE) {
			sqlite3_finalize(insert);
			return refused(db, "insert");
		}
		sqlite3_reset(insert);
	}
	sqlite3_finalize(insert);
	return 0;
}

int values_fill(struct values *v)
{
	char page_size[64];
	sqlite3 *db;

	unlink(v->path);
	snprintf(page_size, sizeof(page_size), "PRAGMA page_size=%s", v->variant[0] != '\0' ? v->variant : "65536");
	int rc = sqlite3_open(v->path, &db) == SQLITE_OK ? 0 : refused(db, v->path);
	if (rc == 0)
		rc = run(db, page_size);
	if (rc == 0)
		rc = run(db, "PRAGMA journal_mode=OFF; PRAGMA synchronous=FULL; PRAGMA locking_mode=EXCLUSIVE; BEGIN;"
		             "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)");
	if (rc == 0)
		rc = insert_all(db, v->n_values);
	if (rc == 0)
		rc = run(db, "COMMIT");
	sqlite3_close(db);
	return rc;
}

/* ---- read ---- */

static int open_own(struct values *v, void **ret_own)
{
	struct own *own = calloc(1, sizeof(*own));
	char uri[4200];

	if (own == NULL)
		return values_failed("starting", "no memory");
	snprintf(uri, sizeof(uri), "file:%s?immutable=1", v->path);
	int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
	int rc = sqlite3_open_v2(uri, &own->db, flags, NULL) == SQLITE_OK ? 0 : refused(own->db, v->path);
	if (rc == 0)
		rc = run(own->db, strcmp(v->variant, "mmap") == 0 ? "PRAGMA mmap_size=4294967296"
		                                                  : "PRAGMA mmap_size=0; PRAGMA cache_size=-1024");
	if (rc != 0) {
		sqlite3_close(own->db);
		free(own);
		return rc;
	}
	*ret_own = own;
	return 0;
}

static int read_some(void *arg, const uint64_t *keys, unsigned n, unsigned *n_wrong)
{
	struct own *own = arg;

	for (unsigned i = 0; i < n; i++) {
		sqlite3_int64 row = (sqlite3_int64)keys[i];
		int rc = own->blob != NULL ? sqlite3_blob_reopen(own->blob, row)
		                           : sqlite3_blob_open(own->db, "main", "t", "v", row, 0, &own->blob);
		if (rc == SQLITE_OK)
			rc = sqlite3_blob_read(own->blob, own->buf, VALUES_BYTES, 0);
		if (rc != SQLITE_OK)
			return refused(own->db, "read");
		*n_wrong += !values_right(keys[i], own->buf, (size_t)sqlite3_blob_bytes(own->blob));
	}
	return 0;
}

static void close_own(void *arg)
{
	struct own *own = arg;

	sqlite3_blob_close(own->blob);
	sqlite3_close(own->db);
	free(own);
}

int values_read(struct values *v)
{
	static const struct values_reader reader = { open_own, read_some, close_own, 1 };

	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	return values_by_threads(v, &reader);
}
