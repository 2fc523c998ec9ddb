/* log_sqlite.c - records of 64 threads in a table of SQLite: journal_mode=WAL, synchronous=FULL, so a commit is one fdatasync
 * of its write-ahead log. It has one writer at a time and no group commit, so the threads hand their records to one that
 * commits all he finds at once, and then wakes them.
 *
 * Variants, any of them together:
 *   worn    the WAL was written to its full length before, so it is overwritten, and grows no more
 *   batches not 64 threads, but one that commits 64 records at a time
 *   gather  whoever commits lets others run first, as long as more records come in by that
 */
#include "log_writers.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WARM_SECONDS 0.1
#define WORN_BYTES (200 << 20) /* for each second */
#define SPARE_SECONDS 0.15

struct peer {
	sqlite3 *db;
	sqlite3_stmt *insert, *begin, *commit;
	bool gather;
	pthread_mutex_t lock;
	pthread_cond_t more;
	const void *waiting[LOG_WRITERS]; /* borrowed: until their batch is done */
	unsigned n_waiting;
	bool idle, stop;
	uint32_t batch;                   /* that `waiting` will be */
	_Atomic uint32_t done;            /* the last that is durable; a futex */
	_Atomic int error;
	uint64_t n_batches;
};

static int refused(sqlite3 *db, const char *what)
{
	fprintf(stderr, "bench-log-sqlite: %s: %s\n", what, sqlite3_errmsg(db));
	return -1;
}

static int run(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : refused(db, sql);
}

/* ---- the threads ---- */

static int append(void *arg, const void *record)
{
	struct peer *p = arg;

	pthread_mutex_lock(&p->lock);
	uint32_t mine = p->batch;
	p->waiting[p->n_waiting++] = record;
	bool wake = p->idle;
	p->idle = false;
	pthread_mutex_unlock(&p->lock);
	if (wake)
		pthread_cond_signal(&p->more);
	for (;;) {
		uint32_t done = atomic_load(&p->done);
		if ((int32_t)(done - mine) >= 0)
			return atomic_load(&p->error);
		syscall(SYS_futex, &p->done, FUTEX_WAIT_PRIVATE, done, NULL, NULL, 0);
	}
}

/* ---- who commits ---- */

static int step(struct peer *p, sqlite3_stmt *statement)
{
	int rc = sqlite3_step(statement);

	sqlite3_reset(statement);
	return rc == SQLITE_DONE ? 0 : refused(p->db, "step");
}

static int commit(struct peer *p, const void *const *records, unsigned n)
{
	int rc = step(p, p->begin);

	for (unsigned i = 0; i < n && rc == 0; i++) {
		sqlite3_bind_blob(p->insert, 1, records[i], LOG_WRITER_BYTES, SQLITE_STATIC);
		rc = step(p, p->insert);
	}
	return rc == 0 ? step(p, p->commit) : rc;
}

static int commit_batch(void *arg, const void *record)
{
	struct peer *p = arg;
	const void *records[LOG_WRITERS];

	for (unsigned i = 0; i < LOG_WRITERS; i++)
		records[i] = record;
	p->n_batches++;
	return commit(p, records, LOG_WRITERS);
}

/* Lock held; released meanwhile. */
static void let_others_in(struct peer *p)
{
	for (unsigned before = 0; before != p->n_waiting && p->n_waiting < LOG_WRITERS;) {
		before = p->n_waiting;
		pthread_mutex_unlock(&p->lock);
		sched_yield();
		pthread_mutex_lock(&p->lock);
	}
}

static void *commit_batches(void *arg)
{
	struct peer *p = arg;
	const void *records[LOG_WRITERS];

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (p->n_waiting == 0 && !p->stop) {
			p->idle = true;
			pthread_cond_wait(&p->more, &p->lock);
		}
		if (p->n_waiting == 0)
			break;
		if (p->gather)
			let_others_in(p);
		unsigned n = p->n_waiting;
		uint32_t batch = p->batch++;
		memcpy(records, p->waiting, n * sizeof(records[0]));
		p->n_waiting = 0;
		pthread_mutex_unlock(&p->lock);
		if (commit(p, records, n) != 0)
			atomic_store(&p->error, -1);
		p->n_batches++;
		atomic_store(&p->done, batch);
		syscall(SYS_futex, &p->done, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the database ---- */

static int prepare(struct peer *p, const char *sql, sqlite3_stmt **ret)
{
	return sqlite3_prepare_v2(p->db, sql, -1, ret, NULL) == SQLITE_OK ? 0 : refused(p->db, sql);
}

/* A WAL of full length, all of it in the database: the next commit begins at its front. */
static int wear_in(struct peer *p, double seconds)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "CREATE TABLE worn(data BLOB); INSERT INTO worn VALUES(zeroblob(%.0f));"
	         "PRAGMA wal_checkpoint(RESTART)", (seconds + SPARE_SECONDS) * WORN_BYTES);
	return run(p->db, sql);
}

static int open_database(struct peer *p, const char *path, const char *variant, double seconds)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	if (sqlite3_open_v2(path, &p->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		return refused(p->db, path);
	int rc = run(p->db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
	                    "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-262144;"
	                    "CREATE TABLE log(lsn INTEGER PRIMARY KEY, record BLOB)");
	if (rc == 0 && strstr(variant, "worn") != NULL)
		rc = wear_in(p, seconds);
	if (rc == 0)
		rc = prepare(p, "INSERT INTO log(record) VALUES(?)", &p->insert);
	if (rc == 0)
		rc = prepare(p, "BEGIN", &p->begin);
	return rc == 0 ? prepare(p, "COMMIT", &p->commit) : rc;
}

/* What was acknowledged is in the table, and each batch had its sync. */
static int examine(struct peer *p, const struct log_window *w)
{
	sqlite3_stmt *count;

	if (prepare(p, "SELECT count(*) FROM log", &count) != 0 || sqlite3_step(count) != SQLITE_ROW)
		return refused(p->db, "count");
	uint64_t n = (uint64_t)sqlite3_column_int64(count, 0);
	sqlite3_finalize(count);
	if (n == w->all && log_syncs() >= p->n_batches)
		return 0;
	fprintf(stderr, "bench-log-sqlite: %llu records acknowledged, %llu there; %llu commits, %llu syncs\n",
	        (unsigned long long)w->all, (unsigned long long)n, (unsigned long long)p->n_batches,
	        (unsigned long long)log_syncs());
	return -1;
}

int main(int argc, char **argv)
{
	struct peer p = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .batch = 1 };
	pthread_t committer;

	if (argc != 4) {
		fprintf(stderr, "usage: bench-log-sqlite FILE SECONDS VARIANT\n");
		return 2;
	}
	struct log_window w = { .warm_seconds = WARM_SECONDS, .seconds = strtod(argv[2], NULL) };
	const bool batches = strstr(argv[3], "batches") != NULL;
	p.gather = strstr(argv[3], "gather") != NULL;
	if (open_database(&p, argv[1], argv[3], w.seconds) != 0 || pthread_create(&committer, NULL, commit_batches, &p) != 0)
		return 1;
	int rc = log_writers_run(&w, LOG_WRITERS, batches, batches ? commit_batch : append, &p);
	pthread_mutex_lock(&p.lock);
	p.stop = true;
	pthread_mutex_unlock(&p.lock);
	pthread_cond_signal(&p.more);
	pthread_join(committer, NULL);
	if (rc == 0)
		rc = examine(&p, &w);
	if (rc == 0)
		log_window_print(&w);
	sqlite3_finalize(p.insert);
	sqlite3_finalize(p.begin);
	sqlite3_finalize(p.commit);
	sqlite3_close(p.db);
	return rc != 0;
}
