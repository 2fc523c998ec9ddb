/* log_follow.c - how long after a record is durable a cursor in another thread has it.
 *
 * The moment at which it is durable is that at which the appender's call returns: in a coroutine, whose loop's own ring
 * wrote it, as near to that as a program can be. Appends are a little apart, so that the follower waits for each. Less than
 * nothing counts as it is: then he had it before.
 *
 * Kinds: "wait": the follower waits in quire_log_wait; "poll": he looks at the watermark without end, and takes a
 * processor for that. With "thread" before (as in "thread wait"), the appender is a thread without a loop.
 */
#include "log.h"
#include "coroutine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APART_NS 200000

struct chase {
	const struct log_bench *b;
	struct quire_log *log;
	uint64_t first; /* lsn */
	_Atomic bool ends;
	int64_t *durable, *seen; /* of each record: when */
	int appender_error, follower_error;
};

static void append_all(void *arg)
{
	struct chase *c = arg;
	uint8_t record[LOG_RECORD_BYTES] = { 0 };
	struct iovec iov = { record, sizeof(record) };

	for (uint64_t i = 0; i < c->b->n && c->appender_error == 0; i++) {
		c->appender_error = quire_log_append(c->log, &iov, 1, NULL, NULL);
		c->durable[i] = log_now_ns();
		if (c->appender_error == 0)
			c->appender_error = (int)quire_sleep_ns(APART_NS, NULL);
	}
	if (c->appender_error < 0)
		atomic_store(&c->ends, true);
}

static int wait_for(struct chase *c, uint64_t lsn, bool poll)
{
	if (!poll)
		return quire_log_wait(c->log, QUIRE_LOG_DURABLE, lsn, NULL);
	while (quire_log_durable(c->log) <= lsn && !atomic_load(&c->ends))
		;
	return atomic_load(&c->ends) ? -ECANCELED : 0;
}

static int follow(struct chase *c, struct quire_log_cursor *cursor, bool poll)
{
	struct quire_log_record r;
	int64_t rc = quire_log_seek(cursor, c->first);

	for (uint64_t i = 0; i < c->b->n && rc >= 0; i++) {
		while ((rc = quire_log_next(cursor, &r, NULL)) == 0) {
			rc = wait_for(c, c->first + i, poll);
			if (rc < 0)
				break;
		}
		c->seen[i] = log_now_ns();
		if (rc > 0 && r.lsn != c->first + i)
			rc = -EIO;
	}
	return rc < 0 ? (int)rc : 0;
}

static void *follower(void *arg)
{
	struct chase *c = arg;
	struct quire_log_cursor *cursor;

	c->follower_error = quire_log_cursor_open(c->log, QUIRE_LOG_DURABLE, &cursor);
	if (c->follower_error == 0) {
		c->follower_error = follow(c, cursor, strstr(c->b->kind, "poll") != NULL);
		quire_log_cursor_close(cursor);
	}
	return NULL;
}

static int run(struct chase *c)
{
	pthread_t thread;
	int rc = -pthread_create(&thread, NULL, follower, c);

	if (rc < 0)
		return failed("follower", rc);
	if (strstr(c->b->kind, "thread") != NULL)
		append_all(c);
	else
		rc = run_in_coroutine(append_all, c);
	pthread_join(thread, NULL);
	if (rc == 0 && c->appender_error < 0)
		rc = failed("append", c->appender_error);
	if (rc == 0 && c->follower_error < 0)
		rc = failed("follow", c->follower_error);
	return rc;
}

static void report(const struct chase *c)
{
	struct samples delays = { 0 };
	size_t n_before = 0;

	for (uint64_t i = 0; i < c->b->n; i++) {
		samples_add(&delays, c->seen[i] - c->durable[i]);
		n_before += c->seen[i] < c->durable[i];
	}
	printf("{\"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, \"before\": %.4f}\n", samples_us(&delays, 0.5),
	       samples_us(&delays, 0.99), samples_us(&delays, 1), (double)n_before / (double)c->b->n);
	samples_free(&delays);
}

int log_bench_follow(const struct log_bench *b)
{
	struct chase c = {
		.b = b, .durable = calloc(b->n + 1, sizeof(int64_t)), .seen = calloc(b->n + 1, sizeof(int64_t)) };
	struct open_log l;
	int rc = c.durable == NULL || c.seen == NULL || b->n == 0 ? failed("starting", -EINVAL) : log_make(b, &l);

	if (rc == 0) {
		c.log = l.log;
		rc = log_leave_first_segment(&l);
		c.first = quire_log_durable(l.log);
		if (rc == 0)
			rc = run(&c);
		if (rc == 0)
			report(&c);
		int shut = log_shut(&l);
		rc = rc < 0 ? rc : shut;
	}
	free(c.durable);
	free(c.seen);
	return rc;
}
