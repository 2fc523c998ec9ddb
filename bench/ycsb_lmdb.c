/* ycsb_lmdb.c - LMDB: one database, loaded in order of keys, so its leaves are as full as they get.
 *
 * Settings: MDB_NORDAHEAD (without it the kernel reads ahead for nothing), MDB_NOTLS and MDB_NOLOCK (no writer is there), values
 * looked at in the map, each thread's read transaction renewed every RENEW_EVERY reads.
 */
#include "ycsb.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAP_BYTES ((size_t)64 << 30) /* address space; the file grows as needed */
#define RENEW_EVERY 64u
#define COMMIT_EVERY 100000u
#define FILL_THREADS 64u

static MDB_env *env;
static MDB_dbi dbi;

struct own {
	MDB_txn *txn;
	unsigned n_reads;
};

static int refused(const char *what, int rc)
{
	return ycsb_failed(what, mdb_strerror(rc));
}

static int open_env(const struct ycsb *y, unsigned flags)
{
	MDB_txn *txn;
	int rc = mdb_env_create(&env);

	if (rc == 0)
		rc = mdb_env_set_mapsize(env, MAP_BYTES);
	if (rc == 0)
		rc = mdb_env_open(env, y->path, flags, 0644);
	if (rc == 0)
		rc = mdb_txn_begin(env, NULL, flags & MDB_RDONLY, &txn);
	if (rc == 0) {
		rc = mdb_dbi_open(txn, NULL, 0, &dbi);
		int committed = mdb_txn_commit(txn);
		rc = rc != 0 ? rc : committed;
	}
	return rc == 0 ? 0 : refused(y->path, rc);
}

/* ---- filled ---- */

static int put_some(const struct ycsb_record *records, uint64_t n)
{
	char key_bytes[YCSB_KEY_BYTES], value_bytes[YCSB_VALUE_BYTES];
	MDB_val key = { sizeof(key_bytes), key_bytes }, value = { sizeof(value_bytes), value_bytes };
	MDB_txn *txn;
	int rc = mdb_txn_begin(env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	for (uint64_t i = 0; i < n && rc == 0; i++) {
		ycsb_key(records[i].hash, key_bytes);
		ycsb_value(records[i].number, value_bytes);
		rc = mdb_put(txn, dbi, &key, &value, MDB_APPEND);
	}
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

int ycsb_fill(struct ycsb *y)
{
	struct ycsb_record *records = ycsb_sorted(y->n_records);

	if (records == NULL)
		return ycsb_failed("filling", "no memory");
	if (mkdir(y->path, 0755) < 0 && errno != EEXIST)
		return ycsb_failed(y->path, strerror(errno));
	int rc = open_env(y, MDB_NOSYNC);
	if (rc != 0)
		return rc;
	for (uint64_t i = 0; i < y->n_records && rc == 0; i += COMMIT_EVERY) {
		uint64_t left = y->n_records - i;
		rc = put_some(records + i, left < COMMIT_EVERY ? left : COMMIT_EVERY);
	}
	if (rc == 0)
		rc = mdb_env_sync(env, 1);
	mdb_env_close(env);
	free(records);
	return rc == 0 ? 0 : refused("filling", rc);
}

/* ---- read ---- */

static int open_own(struct ycsb *y, void **ret_own)
{
	struct own *own = calloc(1, sizeof(*own));
	int rc = own != NULL ? mdb_txn_begin(env, NULL, MDB_RDONLY, &own->txn) : ENOMEM;

	if (rc != 0) {
		free(own);
		return refused("transaction", rc);
	}
	*ret_own = own;
	return 0;
}

static void close_own(void *arg)
{
	struct own *own = arg;

	mdb_txn_abort(own->txn);
	free(own);
}

static int read_record(void *arg, const char *key, uint64_t number, bool *ret_right)
{
	MDB_val k = { YCSB_KEY_BYTES, (void *)(uintptr_t)key }, value;
	struct own *own = arg;

	if (++own->n_reads % RENEW_EVERY == 0) {
		mdb_txn_reset(own->txn);
		int rc = mdb_txn_renew(own->txn);
		if (rc != 0)
			return refused("renew", rc);
	}
	int rc = mdb_get(own->txn, dbi, &k, &value);
	if (rc != 0)
		return refused("get", rc);
	*ret_right = ycsb_right(number, value.mv_data, value.mv_size);
	return 0;
}

int ycsb_read(struct ycsb *y)
{
	static const struct ycsb_reader reader = {
		.open = open_own, .close = close_own, .read = read_record, .n_misses = ycsb_major_faults,
		.n_fill_threads = FILL_THREADS,
	};
	int rc = open_env(y, MDB_RDONLY | MDB_NORDAHEAD | MDB_NOTLS | MDB_NOLOCK);

	if (rc == 0)
		rc = ycsb_run(y, &reader);
	mdb_env_close(env);
	return rc;
}
