/* log_env.c - stores with a log, and times: for the parts of bench-log. */
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "bench"
#define PMEM_BYTES (UINT64_C(16) << 30) /* sparse */
#define BUDGET_BYTES (UINT64_C(3) << 30)
#define BATCH 64u

static int said(int rc, const struct quire_error *err)
{
	if (rc < 0)
		fprintf(stderr, "bench-log: %s\n", err->text);
	return rc;
}

/* ---- stores ---- */

int log_open_store(const struct log_bench *b, struct open_log *ret)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = BUDGET_BYTES };
	struct quire_error err = { 0 };

	*ret = (struct open_log){ 0 };
	int rc = quire_cache_open(&opts, &ret->cache, &err);
	if (rc == 0) {
		rc = quire_store_open(ret->cache, b->dir, 0, &ret->store, &err);
		if (rc < 0)
			quire_cache_close(ret->cache);
	}
	return said(rc, &err);
}

int log_open_log(struct open_log *l)
{
	struct quire_error err = { 0 };

	return said(quire_log_open(l->store, NAME, NULL, &l->log, &err), &err);
}

int log_shut(struct open_log *l)
{
	int rc = quire_log_close(l->log);

	if (rc < 0)
		failed("closing the log", rc);
	int closed = quire_store_close(l->store);
	if (closed < 0)
		failed("closing the store", closed);
	quire_cache_close(l->cache);
	return rc < 0 ? rc : closed;
}

int log_make(const struct log_bench *b, struct open_log *ret)
{
	const struct quire_class_options pmem = {
		.size = sizeof(pmem), .bytes = PMEM_BYTES, .durable = QUIRE_DURABLE_PROCESS };
	const struct quire_log_options opts = {
		.size = sizeof(opts),
		.cls = b->pmem ? QUIRE_CLASS_PMEM : QUIRE_CLASS_CAPACITY,
		.segment_bytes = b->segment_bytes,
	};
	struct quire_error err = { 0 };

	int rc = said(quire_store_create(b->dir, NULL, &err), &err);
	if (rc == 0)
		rc = log_open_store(b, ret);
	if (rc < 0)
		return rc;
	if (b->pmem)
		rc = quire_store_class_add_with(ret->store, QUIRE_CLASS_PMEM, &pmem, &err);
	if (rc == 0)
		rc = quire_log_create(ret->store, NAME, &opts, &err);
	if (said(rc, &err) == 0)
		rc = log_open_log(ret);
	if (rc < 0)
		log_shut(ret);
	return rc;
}

int log_put(struct open_log *l, uint64_t bytes, uint32_t record_bytes)
{
	void *record = calloc(1, record_bytes + 1);
	struct iovec records[BATCH];
	uint64_t last = 0;
	int64_t rc = record == NULL ? -ENOMEM : 0;

	for (unsigned i = 0; i < BATCH; i++)
		records[i] = (struct iovec){ record, record_bytes };
	for (uint64_t done = 0; done < bytes && rc >= 0; done += (uint64_t)rc * record_bytes) {
		uint64_t left = (bytes - done + record_bytes - 1) / record_bytes;
		rc = quire_log_append_many(l->log, records, left < BATCH ? (unsigned)left : BATCH, NULL, &last);
	}
	if (rc >= 0)
		rc = quire_log_sync(l->log, last, NULL);
	free(record);
	return rc < 0 ? failed("filling", (int)rc) : 0;
}

int log_wait_sealed(struct open_log *l)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	struct quire_log_stat stat;

	for (unsigned tries = 0; tries < 60000; tries++) {
		int rc = quire_log_stat(l->log, &stat);
		if (rc == 0)
			rc = stat.upkeep_error;
		if (rc < 0)
			return failed("sealing", rc);
		unsigned n = quire_log_segments(l->log, NULL, 0);
		if (stat.n_sealed + 1 >= n)
			return 0;
		nanosleep(&moment, NULL);
	}
	return failed("sealing", -ETIMEDOUT);
}

int log_leave_first_segment(struct open_log *l)
{
	struct quire_log_stat stat;
	int rc = quire_log_stat(l->log, &stat);

	if (rc == 0)
		rc = log_put(l, stat.info.segment_bytes, 4096);
	return rc == 0 ? log_wait_sealed(l) : rc;
}

/* ---- times ---- */

void samples_add(struct samples *s, int64_t ns)
{
	if (s->n == s->capacity) {
		size_t capacity = s->capacity == 0 ? 4096 : s->capacity * 2;
		int64_t *more = reallocarray(s->ns, capacity, sizeof(*more));
		if (more == NULL)
			return;
		s->ns = more;
		s->capacity = capacity;
	}
	s->ns[s->n++] = ns;
}

static int compare(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

double samples_us(struct samples *s, double share)
{
	if (s->n == 0)
		return 0;
	qsort(s->ns, s->n, sizeof(s->ns[0]), compare);
	return (double)s->ns[(size_t)(share * (double)(s->n - 1))] / 1e3;
}

void samples_reset(struct samples *s)
{
	s->n = 0;
}

void samples_free(struct samples *s)
{
	free(s->ns);
}
