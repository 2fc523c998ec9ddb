/* append_key.c - records with keys go in: as append.c, with the key before the bytes. */
#include "log_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FEW_PARTS 16u
#define HEAD_MAX_BYTES ((FORMAT_LOG_KEY_AT + QUIRE_LOG_KEY_MAX + 7) & ~7u)

struct keyed {
	const void *key;
	size_t key_bytes;
	const struct iovec *iov;
	unsigned n;
};

int log_key_is_possible(const struct quire_log *log, size_t key_bytes)
{
	if (log->keys == NULL)
		return -ENOTSUP;
	return key_bytes == 0 || key_bytes > QUIRE_LOG_KEY_MAX ? -EINVAL : 0;
}

/* What stands before the bytes; returns how much. */
static uint32_t put_head(struct quire_log *log, const struct keyed *r, uint8_t head[HEAD_MAX_BYTES])
{
	struct log_record_le le = {.time_ns = htole64(log_stamp(log))};
	uint16_t key_bytes = htole16((uint16_t)r->key_bytes);
	uint32_t n = format_log_keyed_head_bytes((uint32_t)r->key_bytes), used = FORMAT_LOG_KEY_AT + (uint32_t)r->key_bytes;

	memcpy(head, &le, sizeof(le));
	memcpy(head + sizeof(le), &key_bytes, sizeof(key_bytes));
	memcpy(head + FORMAT_LOG_KEY_AT, r->key, r->key_bytes);
	memset(head + used, 0, n - used);
	return n;
}

static int append_parts(struct quire_log *log, log_append_fn fn, const struct keyed *r, uint64_t *ret_lsn)
{
	struct iovec few[FEW_PARTS + 1], *parts = few;
	uint64_t left = journal_max_payload(log->journal) - format_log_keyed_head_bytes((uint32_t)r->key_bytes);
	uint8_t head[HEAD_MAX_BYTES];

	if (log->read_only)
		return -EROFS;
	for (unsigned i = 0; i < r->n; i++) {
		if (r->iov[i].iov_len > left)
			return -EMSGSIZE;
		left -= r->iov[i].iov_len;
	}
	if (r->n > FEW_PARTS && (parts = reallocarray(NULL, r->n + 1, sizeof(parts[0]))) == NULL)
		return -ENOMEM;
	parts[0] = (struct iovec){head, put_head(log, r, head)};
	for (unsigned i = 0; i < r->n; i++)
		parts[i + 1] = r->iov[i];
	int rc = fn(log->journal, FORMAT_LOG_KEYED_RECORD, parts, r->n + 1, ret_lsn);
	if (parts != few)
		free(parts);
	return rc;
}

int quire_log_append_key_nowait(struct quire_log *log, const void *key, size_t key_bytes, const struct iovec *iov,
                                unsigned n, uint64_t *ret_lsn)
{
	struct keyed r = {key, key_bytes, iov, n};
	uint64_t lsn;
	int rc = log_key_is_possible(log, key_bytes);

	if (rc < 0)
		return rc;
	atomic_fetch_add(&log->n_calls, 1);
	rc = append_parts(log, journal_append, &r, &lsn);
	if (rc == 0 && ret_lsn != NULL)
		*ret_lsn = lsn;
	log_leave(log);
	return rc;
}

static int64_t run_append(struct log_call *c)
{
	struct keyed r = {c->key, c->key_bytes, c->in, (unsigned)c->n};

	return append_parts(c->log, journal_append_durably, &r, c->out);
}

int quire_log_append_key(struct quire_log *log, const void *key, size_t key_bytes, const struct iovec *iov, unsigned n,
                         uint64_t *ret_lsn, struct quire_op *op)
{
	struct log_call call = {
		.run = run_append, .log = log, .in = iov, .out = ret_lsn, .n = n, .key = key, .key_bytes = key_bytes};
	struct keyed r = {key, key_bytes, iov, n};
	uint64_t lsn;
	int rc = log_key_is_possible(log, key_bytes);

	if (rc < 0)
		return rc;
	if (log_is_of_parent(log))
		return -ECHILD;
	if (op == NULL)
		return (int)log_call_start(&call, NULL);
	if (!op_is_idle(op))
		return -EBUSY;
	/* What can be taken in at once needs no coroutine. */
	atomic_fetch_add(&log->n_calls, 1);
	rc = append_parts(log, journal_append_now, &r, &lsn);
	rc = log_append_go_on(&call, rc, lsn, op);
	log_leave(log);
	return rc;
}
