/* find_key.c - a key is looked for: where the index says, at the record itself. */
#include "log_internal.h"

#include <errno.h>
#include <string.h>

static bool has_key(const struct quire_log_record *r, const void *key, size_t key_bytes)
{
	return r->key_bytes == key_bytes && memcmp(r->key, key, key_bytes) == 0;
}

/* The newest record with that key, at lsn or before. May wait. */
static int find_from(struct quire_log_cursor *c, uint64_t lsn, const struct log_call *call)
{
	struct quire_log_record r;
	int64_t rc = quire_log_seek(c, lsn);

	if (rc == 0)
		rc = quire_log_next(c, &r, NULL);
	if (rc == 1 && !has_key(&r, call->key, call->key_bytes)) {
		while ((rc = quire_log_prev(c, &r, NULL)) == 1 && !has_key(&r, call->key, call->key_bytes))
			;
		if (rc == 0 || rc == -ESTALE)
			return -ENOENT;
	}
	if (rc == 1)
		*(uint64_t *)call->out = r.lsn;
	return rc == 1 ? 0 : (int)rc;
}

static int64_t run_find(struct log_call *call)
{
	struct quire_log *log = call->log;
	struct quire_log_cursor *c = NULL;
	uint64_t lsn;
	int rc;

	do {
		rc = log_keys_look_up(log, (enum quire_log_mark)call->n, call->key, call->key_bytes, &lsn);
		if (rc == 0 && c == NULL)
			rc = quire_log_cursor_open(log, QUIRE_LOG_VISIBLE, &c);
		if (rc == 0)
			rc = find_from(c, lsn, call);
		/* Trimmed meanwhile: there may be a newer one. */
	} while (rc == -ESTALE && lsn < atomic_load(&log->first_lsn));
	quire_log_cursor_close(c);
	return rc;
}

int quire_log_find_key(struct quire_log *log, enum quire_log_mark mark, const void *key, size_t key_bytes,
                       uint64_t *ret_lsn, struct quire_op *op)
{
	struct log_call call = {.run = run_find, .log = log, .key = key, .key_bytes = key_bytes, .out = ret_lsn, .n = mark};
	int rc = log_is_of_parent(log) ? -ECHILD : log_key_is_possible(log, key_bytes);

	if (rc == 0 && mark != QUIRE_LOG_VISIBLE && mark != QUIRE_LOG_DURABLE)
		rc = -EINVAL;
	return rc < 0 ? rc : (int)log_call_start(&call, op);
}
