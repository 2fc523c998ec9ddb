/* append.c - records go in, watermarks up.
 *
 * A record's time is taken before its place, so that its checksum covers it: two appends that are under way together may
 * have times in the order of their calls and places in another. Marks therefore say what the latest time was before
 * them, and whoever looks for a time misses none. Records that are appended together have one time.
 *
 * The shortest way is what a call costs, so it does what can't be left out: no look at the process by a system call (a page that
 * a fork wipes says it), none at all where nothing is written to the medium; and a call is counted, for a close
 * that comes too early, where it may wait.
 */
#include "log_internal.h"

#include "../base/canary.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define FEW_PARTS 16u

/* Now, and never less than what was given out before. */
uint64_t log_stamp(struct quire_log *log)
{
	struct timespec ts;
	uint64_t last = atomic_load_explicit(&log->last_time, memory_order_relaxed);

	clock_gettime(CLOCK_REALTIME, &ts);
	uint64_t now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	while (last < now && !atomic_compare_exchange_weak(&log->last_time, &last, now))
		;
	return last < now ? now : last;
}

/* The parts with the record's own before them. */
static int append_parts(struct quire_log *log, log_append_fn fn, const struct iovec *iov, unsigned n, uint64_t *ret_lsn)
{
	struct log_record_le head = {.time_ns = htole64(log_stamp(log))};
	struct iovec few[FEW_PARTS + 1], *parts = few;
	uint64_t len_bytes = 0;

	if (log->read_only)
		return -EROFS;
	for (unsigned i = 0; i < n; i++) {
		if (iov[i].iov_len > quire_log_max_record(log) - len_bytes)
			return -EMSGSIZE;
		len_bytes += iov[i].iov_len;
	}
	if (n > FEW_PARTS) {
		parts = reallocarray(NULL, n + 1, sizeof(parts[0]));
		if (parts == NULL)
			return -ENOMEM;
	}
	parts[0] = (struct iovec){&head, sizeof(head)};
	for (unsigned i = 0; i < n; i++)
		parts[i + 1] = iov[i];
	int rc = fn(log->journal, FORMAT_LOG_RECORD, parts, n + 1, ret_lsn);
	if (parts != few)
		free(parts);
	return rc;
}

int quire_log_append_nowait(struct quire_log *log, const struct iovec *iov, unsigned n, uint64_t *ret_lsn)
{
	uint64_t lsn;

	int rc = append_parts(log, journal_append_now, iov, n, &lsn);
	if (rc == -EAGAIN) {
		atomic_fetch_add(&log->n_calls, 1);
		rc = append_parts(log, journal_append, iov, n, &lsn);
		log_leave(log);
	}
	if (rc == 0 && ret_lsn != NULL)
		*ret_lsn = lsn;
	return rc;
}

int64_t quire_log_append_many(struct quire_log *log, const struct iovec *records, unsigned n, uint64_t *ret_first,
                              uint64_t *ret_last)
{
	uint64_t first, last;

	if (log_is_of_parent(log))
		return -ECHILD;
	atomic_fetch_add(&log->n_calls, 1);
	struct log_record_le time = {.time_ns = htole64(log_stamp(log))};
	struct iovec head = {&time, sizeof(time)};
	int64_t rc = journal_append_many(log->journal, FORMAT_LOG_RECORD, &head, records, n, &first, &last);
	if (rc > 0 && ret_first != NULL)
		*ret_first = first;
	if (rc > 0 && ret_last != NULL)
		*ret_last = last;
	log_leave(log);
	return rc;
}

/* ---- until it is durable ---- */

static int64_t run_append(struct log_call *c)
{
	return append_parts(c->log, journal_append_durably, c->in, (unsigned)c->n, c->out);
}

int log_append_go_on(const struct log_call *call, int rc, uint64_t lsn, struct quire_op *op)
{
	if (rc < 0)
		return rc == -EAGAIN ? (int)log_call_start(call, op) : rc;
	if (call->out != NULL)
		*(uint64_t *)call->out = lsn;
	return journal_sync(call->log->journal, lsn, op);
}

int quire_log_append(struct quire_log *log, const struct iovec *iov, unsigned n, uint64_t *ret_lsn,
                     struct quire_op *op)
{
	struct log_call call = {.run = run_append, .log = log, .in = iov, .out = ret_lsn, .n = n};
	uint64_t lsn;

	if (log_is_of_parent(log))
		return -ECHILD;
	if (op == NULL)
		return (int)log_call_start(&call, NULL);
	if (!op_is_idle(op))
		return -EBUSY;
	/* What can be taken in at once needs no coroutine. */
	atomic_fetch_add(&log->n_calls, 1);
	int rc = append_parts(log, journal_append_now, iov, n, &lsn);
	rc = log_append_go_on(&call, rc, lsn, op);
	log_leave(log);
	return rc;
}

int quire_log_sync(struct quire_log *log, uint64_t lsn, struct quire_op *op)
{
	if (log_is_of_parent(log))
		return -ECHILD;
	atomic_fetch_add(&log->n_calls, 1);
	int rc = journal_sync(log->journal, lsn, op);
	log_leave(log);
	return rc;
}

size_t quire_log_max_record(const struct quire_log *log)
{
	return journal_max_payload(log->journal) - sizeof(struct log_record_le);
}

/* ---- watermarks ---- */

uint64_t quire_log_visible(const struct quire_log *log)
{
	return journal_n_visible(log->journal);
}

uint64_t quire_log_durable(const struct quire_log *log)
{
	return CANARY(durable_told_when_visible) ? journal_n_visible(log->journal) : journal_n_durable(log->journal);
}

uint64_t quire_log_first(const struct quire_log *log)
{
	return atomic_load(&log->first_lsn);
}

int quire_log_error(const struct quire_log *log)
{
	return journal_error(log->journal);
}

int quire_log_wait(struct quire_log *log, enum quire_log_mark mark, uint64_t lsn, struct quire_op *op)
{
	uint64_t now = mark == QUIRE_LOG_DURABLE ? quire_log_durable(log) : quire_log_visible(log);

	if (log_is_of_parent(log))
		return -ECHILD;
	if ((mark != QUIRE_LOG_VISIBLE && mark != QUIRE_LOG_DURABLE) || (log->read_only && lsn >= now))
		return -EINVAL;
	atomic_fetch_add(&log->n_calls, 1);
	int rc = wait_for(&log->waits, mark == QUIRE_LOG_DURABLE ? WAIT_DURABLE : WAIT_VISIBLE, lsn, op);
	log_leave(log);
	return rc;
}
