/* log_group.c - durable records of 64 writers at once: threads, or coroutines of one loop, or (batches) one thread that has
 * 64 at a time; and the peer that has neither group commit nor company: one writer with write(2)
 * and fdatasync(2) for each record.
 *
 * Kinds of the peer: "grow": the file is appended to; "ahead": it was written before, so that no sync has to
 * make a new size durable.
 */
#include "log.h"
#include "log_writers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARM_SECONDS 0.1
#define AHEAD_BYTES (UINT64_C(64) << 20)

/* ---- threads ---- */

static int append_durably(void *log, const void *record)
{
	struct iovec iov = { (void *)(uintptr_t)record, LOG_WRITER_BYTES };
	int rc = quire_log_append(log, &iov, 1, NULL, NULL);

	return rc < 0 ? failed("append", rc) : 0;
}

static int append_batch(void *log, const void *record)
{
	struct iovec records[LOG_WRITERS];
	uint64_t last;

	for (unsigned i = 0; i < LOG_WRITERS; i++)
		records[i] = (struct iovec){ (void *)(uintptr_t)record, LOG_WRITER_BYTES };
	int64_t rc = quire_log_append_many(log, records, LOG_WRITERS, NULL, &last);
	if (rc >= 0)
		rc = rc == LOG_WRITERS ? quire_log_sync(log, last, NULL) : -EIO;
	return rc < 0 ? failed("append", (int)rc) : 0;
}

/* ---- coroutines ---- */

struct herd {
	struct log_window *window;
	struct quire_log *log;
	struct quire_loop *loop;
	unsigned n_started;
	int error;
};

static void write_records(void *arg)
{
	struct herd *h = arg;
	unsigned number = h->n_started++;
	uint64_t record[LOG_WRITER_BYTES / sizeof(uint64_t)];

	log_writer_fill(record, number);
	uint64_t n = 0;
	do {
		log_writer_stamp(record, n++);
		if (append_durably(h->log, record) < 0) {
			atomic_store(&h->window->error, -1);
			break;
		}
		log_writer_done(h->window, number);
	} while (!atomic_load_explicit(&h->window->stop, memory_order_relaxed));
}

static void *run_herd(void *arg)
{
	struct herd *h = arg;

	for (unsigned i = 0; i < LOG_WRITERS && h->error == 0; i++)
		h->error = quire_co_spawn(h->loop, write_records, h);
	if (h->error == 0)
		h->error = quire_loop_run(h->loop);
	return NULL;
}

static int run_coroutines(struct log_window *w, struct quire_log *log)
{
	struct herd h = { .window = w, .log = log };
	pthread_t thread;

	w->n_each = 1;
	int rc = quire_loop_create(NULL, &h.loop, NULL);

	if (rc < 0)
		return failed("loop", rc);
	rc = -pthread_create(&thread, NULL, run_herd, &h);
	if (rc == 0) {
		log_window_watch(w);
		pthread_join(thread, NULL);
		rc = h.error;
	}
	log_window_end(w);
	quire_loop_destroy(h.loop);
	return rc < 0 ? failed("writers", rc) : atomic_load(&w->error);
}

/* ---- */

int log_bench_group(const struct log_bench *b)
{
	struct log_window w = { .warm_seconds = WARM_SECONDS, .seconds = b->seconds };
	struct open_log l;
	int rc = log_make(b, &l);

	if (rc < 0)
		return rc;
	rc = log_leave_first_segment(&l);
	uint64_t before = quire_log_durable(l.log);
	if (rc == 0 && strcmp(b->kind, "coroutines") == 0)
		rc = run_coroutines(&w, l.log);
	else if (rc == 0 && strcmp(b->kind, "batches") == 0)
		rc = log_writers_run(&w, 1, true, append_batch, l.log);
	else if (rc == 0)
		rc = log_writers_run(&w, LOG_WRITERS, false, append_durably, l.log);
	if (rc == 0 && quire_log_durable(l.log) - before != w.all) {
		fprintf(stderr, "bench-log: %llu records acknowledged, %llu durable\n", (unsigned long long)w.all,
		        (unsigned long long)(quire_log_durable(l.log) - before));
		rc = -EIO;
	}
	int shut = log_shut(&l);
	if (rc == 0 && shut == 0)
		log_window_print(&w);
	return rc < 0 ? rc : shut;
}

/* ---- the peer ---- */

static int write_and_sync(void *arg, const void *record)
{
	const int *fd = arg;

	if (write(*fd, record, LOG_WRITER_BYTES) != LOG_WRITER_BYTES || fdatasync(*fd) != 0)
		return failed("writing", errno != 0 ? -errno : -EIO);
	return 0;
}

static int write_ahead(int fd)
{
	static char zeros[1u << 20];

	for (uint64_t at = 0; at < AHEAD_BYTES; at += sizeof(zeros))
		if (write(fd, zeros, sizeof(zeros)) != (ssize_t)sizeof(zeros))
			return errno != 0 ? -errno : -EIO;
	return fsync(fd) == 0 && lseek(fd, 0, SEEK_SET) == 0 ? 0 : -errno;
}

int log_bench_sync(const struct log_bench *b)
{
	struct log_window w = { .warm_seconds = WARM_SECONDS, .seconds = b->seconds };
	char path[4200];

	snprintf(path, sizeof(path), "%s.synced", b->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(path, -errno);
	unlink(path);
	int rc = strcmp(b->kind, "ahead") == 0 ? write_ahead(fd) : 0;
	if (rc < 0)
		failed("writing ahead", rc);
	else
		rc = log_writers_run(&w, 1, false, write_and_sync, &fd);
	if (rc == 0)
		log_window_print(&w);
	close(fd);
	return rc;
}
