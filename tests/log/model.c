/* model.c - see model.h. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *m, uint64_t salt)
{
	memset(m, 0, sizeof(*m));
	m->salt = salt;
}

int model_append(struct model *m, struct env *e, bool durable)
{
	uint64_t lsn = m->n;

	assert_true(lsn < MODEL_MAX);
	m->salts[m->n++] = m->salt;
	int rc = env_append(e, m->salt, lsn, durable);
	if (rc == 0 && durable)
		m->n_durable = lsn + 1;
	else if (rc == -ENOSPC)
		m->n--; /* nothing was taken */
	return rc;
}

int model_batch(struct model *m, struct env *e, unsigned n)
{
	struct iovec records[16] = {{NULL, 0}};
	uint64_t first = m->n, got_first = 0, got_last = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t len = record_len(m->salt, first + i);
		records[i] = (struct iovec){malloc(len + 1), len};
		record_fill(m->salt, first + i, records[i].iov_base);
		m->salts[m->n++] = m->salt;
	}
	int64_t rc = quire_log_append_many(e->log, records, n, &got_first, &got_last);
	for (unsigned i = 0; i < n; i++)
		free(records[i].iov_base);
	if (rc > 0) {
		assert_int_equal(got_first, first);
		assert_int_equal(got_last, first + (uint64_t)rc - 1);
	}
	if (rc == (int64_t)n)
		return 0;
	if (rc > 0)
		rc = quire_log_error(e->log) < 0 ? quire_log_error(e->log) : -ENOSPC;
	if (rc == -ENOSPC)
		m->n = quire_log_visible(e->log);
	return (int)rc;
}

int model_sync(struct model *m, struct env *e)
{
	uint64_t n = m->n;
	int rc = n == 0 ? 0 : quire_log_sync(e->log, n - 1, NULL);

	if (rc == 0) {
		m->n_durable = n;
		assert_int_equal(quire_log_durable(e->log), n);
	}
	return rc;
}

int model_trim(struct model *m, struct env *e, uint64_t lsn)
{
	if (lsn > m->first_asked)
		m->first_asked = lsn;
	int64_t rc = quire_log_trim(e->log, lsn);
	if (rc >= 0) {
		m->first = m->first_asked = quire_log_first(e->log);
		assert_true(m->first <= lsn || rc == 0);
	}
	return rc < 0 ? (int)rc : 0;
}

void model_settle(struct model *m, struct env *e)
{
	uint64_t n = quire_log_visible(e->log), first = quire_log_first(e->log);

	if (n < m->n_durable || n > m->n || first < m->first || first > m->first_asked)
		fail_msg("%llu to %llu: promised %llu, taken %llu, trimmed %llu or %llu", (unsigned long long)first,
		         (unsigned long long)n, (unsigned long long)m->n_durable, (unsigned long long)m->n,
		         (unsigned long long)m->first, (unsigned long long)m->first_asked);
	assert_int_equal(quire_log_durable(e->log), n);
	m->n_lost += m->n - n;
	m->n = m->n_durable = n;
	m->first = m->first_asked = first;
	m->salt++;
	m->n_reopened++;
}

static void expect(const struct model *m, const struct quire_log_record *r, uint64_t lsn)
{
	assert_int_equal(r->lsn, lsn);
	if (lsn >= sizeof(m->salts) / sizeof(m->salts[0]) || !record_is(m->salts[lsn], r))
		fail_msg("record %llu is not what was appended", (unsigned long long)lsn);
}

/* One step of a reader; false: the power is gone. */
static bool read_one(const struct model *m, struct env *e, struct quire_log_cursor *c, bool back, uint64_t lsn)
{
	struct quire_log_record r;
	int64_t rc = back ? quire_log_prev(c, &r, NULL) : quire_log_next(c, &r, NULL);

	if (rc == -EIO && env_is_cut(e))
		return false;
	if (rc != (lsn >= m->first && lsn < m->n))
		fail_msg("reading %s record %llu of %llu to %llu: %lld", back ? "back" : "on", (unsigned long long)lsn,
		         (unsigned long long)m->first, (unsigned long long)m->n, (long long)rc);
	if (rc == 1)
		expect(m, &r, lsn);
	return true;
}

static void verify_with(const struct model *m, struct env *e, struct quire_log_cursor *c)
{
	uint64_t lsn, state = m->n;

	for (lsn = m->first; lsn <= m->n; lsn++)
		if (!read_one(m, e, c, false, lsn))
			return;
	for (lsn = m->n; lsn-- > m->first;)
		if (!read_one(m, e, c, true, lsn))
			return;
	if (!read_one(m, e, c, true, UINT64_MAX))
		return;
	for (unsigned i = 0; i < 4 && m->n > m->first; i++) {
		lsn = m->first + random_next(&state) % (m->n - m->first);
		assert_int_equal(quire_log_seek(c, lsn), 0);
		if (!read_one(m, e, c, false, lsn))
			return;
	}
}

void model_verify(struct model *m, struct env *e)
{
	struct quire_log_cursor *c;

	assert_int_equal(quire_log_visible(e->log), m->n);
	assert_int_equal(quire_log_cursor_open(e->log, QUIRE_LOG_VISIBLE, &c), 0);
	verify_with(m, e, c);
	quire_log_cursor_close(c);
}
