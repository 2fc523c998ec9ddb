/* log_rocksdb.c - RocksDB's write-ahead log, sync=true: 64 threads whose writes it makes one of by its own group commit.
 *
 * Only its log counts here: nothing is compacted, the memtable has room for all, nothing is flushed while time is taken.
 * Variants, any of them together:
 *   logdata   the records are in the log alone, no key is put anywhere (PutLogData); else they are values of rising keys
 *   recycled  the log's file is one that was written before, as recycle_log_file_num has it in the long run (it is obeyed
 *             with a wal_recovery_mode that knows old records in it for what they are)
 *   batches   not 64 threads, but one that writes batches of 64
 *   pipelined, noyield   its options enable_pipelined_write, and enable_write_thread_adaptive_yield=0
 */
#include "log_writers.h"

#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WARM_SECONDS 0.1
#define SKIP_ANY_CORRUPTED_RECORDS 3 /* WALRecoveryMode */
#define MEMTABLE_BYTES (UINT64_C(2) << 30)
#define RECYCLED_BYTES (UINT64_C(200) << 20) /* of the file, for each second */
#define SPARE_SECONDS 0.15

struct peer {
	rocksdb_t *db;
	rocksdb_writeoptions_t *synced;
	bool logdata;
	_Atomic uint64_t next;
};

static int refused(const char *what, char *error)
{
	fprintf(stderr, "bench-log-rocksdb: %s: %s\n", what, error);
	free(error);
	return -1;
}

static void key_of(uint64_t number, char *ret)
{
	for (unsigned i = 0; i < 8; i++)
		ret[i] = (char)(number >> (56 - 8 * i));
}

static int append(void *arg, const void *record)
{
	struct peer *p = arg;
	char key[8], *error = NULL;

	if (p->logdata) {
		rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
		rocksdb_writebatch_put_log_data(batch, record, LOG_WRITER_BYTES);
		rocksdb_write(p->db, p->synced, batch, &error);
		rocksdb_writebatch_destroy(batch);
	} else {
		key_of(atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed), key);
		rocksdb_put(p->db, p->synced, key, sizeof(key), record, LOG_WRITER_BYTES, &error);
	}
	return error == NULL ? 0 : refused("write", error);
}

static int append_batch(void *arg, const void *record)
{
	struct peer *p = arg;
	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
	char key[8], *error = NULL;

	for (unsigned i = 0; i < LOG_WRITERS; i++) {
		key_of(atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed), key);
		if (p->logdata)
			rocksdb_writebatch_put_log_data(batch, record, LOG_WRITER_BYTES);
		else
			rocksdb_writebatch_put(batch, key, sizeof(key), record, LOG_WRITER_BYTES);
	}
	rocksdb_write(p->db, p->synced, batch, &error);
	rocksdb_writebatch_destroy(batch);
	return error == NULL ? 0 : refused("write", error);
}

static rocksdb_options_t *make_options(const char *variant)
{
	rocksdb_options_t *o = rocksdb_options_create();

	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_write_buffer_size(o, MEMTABLE_BYTES);
	rocksdb_options_set_db_write_buffer_size(o, 2 * MEMTABLE_BYTES);
	rocksdb_options_set_max_write_buffer_number(o, 4);
	rocksdb_options_set_disable_auto_compactions(o, 1);
	rocksdb_options_set_compression(o, rocksdb_no_compression);
	rocksdb_options_set_use_fsync(o, 0);
	rocksdb_options_set_info_log_level(o, 3);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	if (strstr(variant, "recycled") != NULL) {
		rocksdb_options_set_recycle_log_file_num(o, 4);
		rocksdb_options_set_wal_recovery_mode(o, SKIP_ANY_CORRUPTED_RECORDS);
	}
	if (strstr(variant, "pipelined") != NULL)
		rocksdb_options_set_enable_pipelined_write(o, 1);
	if (strstr(variant, "noyield") != NULL)
		rocksdb_options_set_enable_write_thread_adaptive_yield(o, 0);
	return o;
}

/* Twice: the second log's file is made before the first one's is of no use any more. */
static int wear_in(struct peer *p, double seconds)
{
	static char value[65536];
	rocksdb_writeoptions_t *w = rocksdb_writeoptions_create();
	rocksdb_flushoptions_t *f = rocksdb_flushoptions_create();
	char *error = NULL, key[8];

	rocksdb_flushoptions_set_wait(f, 1);
	for (unsigned flush = 0; flush < 2 && error == NULL; flush++) {
		uint64_t bytes = flush == 0 ? (uint64_t)((seconds + SPARE_SECONDS) * (double)RECYCLED_BYTES) : sizeof(value);
		for (uint64_t done = 0; done < bytes && error == NULL; done += sizeof(value)) {
			key_of(UINT64_MAX - done, key);
			rocksdb_put(p->db, w, key, sizeof(key), value, sizeof(value), &error);
		}
		if (error == NULL)
			rocksdb_flush(p->db, f, &error);
	}
	rocksdb_flushoptions_destroy(f);
	rocksdb_writeoptions_destroy(w);
	return error == NULL ? 0 : refused("wearing in", error);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: bench-log-rocksdb DIR SECONDS VARIANT\n");
		return 2;
	}
	struct log_window w = { .warm_seconds = WARM_SECONDS, .seconds = strtod(argv[2], NULL) };
	struct peer p = { .synced = rocksdb_writeoptions_create(), .logdata = strstr(argv[3], "logdata") != NULL };
	const bool batches = strstr(argv[3], "batches") != NULL;
	char *error = NULL;

	rocksdb_options_t *options = make_options(argv[3]);
	p.db = rocksdb_open(options, argv[1], &error);
	rocksdb_options_destroy(options);
	if (error != NULL)
		return refused(argv[1], error) != 0;
	rocksdb_writeoptions_set_sync(p.synced, 1);
	int rc = strstr(argv[3], "recycled") != NULL ? wear_in(&p, w.seconds) : 0;
	if (rc == 0)
		rc = log_writers_run(&w, LOG_WRITERS, batches, batches ? append_batch : append, &p);
	if (rc == 0)
		log_window_print(&w);
	rocksdb_close(p.db);
	rocksdb_writeoptions_destroy(p.synced);
	return rc != 0;
}
