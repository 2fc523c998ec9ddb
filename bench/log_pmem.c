/* log_pmem.c - durable records in the class pmem, one writer; time is taken of 64 in a row, as one is as short as a look at the clock.
 * And records that nobody waits for, one by one and 64 a call, which at the end are made durable together.
 *
 * Kinds of pmem: "thread", "coroutine", each record waited for; "group": 64 are taken in, then made durable by one sync.
 * Kinds of nowait: "one", "many".
 */
#include "log.h"
#include "coroutine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64u

struct turn {
	struct quire_log *log;
	const struct log_bench *b;
	uint8_t *record;
	uint64_t last;
	struct samples samples; /* of BATCH each */
	int64_t passed_ns;
	int error;
};

static int append_row(struct turn *t)
{
	struct iovec iov = { t->record, t->b->record_bytes };
	int rc = 0;

	for (unsigned i = 0; i < BATCH && rc == 0; i++)
		rc = quire_log_append(t->log, &iov, 1, NULL, NULL);
	return rc;
}

static int append_group(struct turn *t)
{
	struct iovec iov = { t->record, t->b->record_bytes };
	int rc = 0;

	for (unsigned i = 0; i < BATCH && rc == 0; i++)
		rc = quire_log_append_nowait(t->log, &iov, 1, &t->last);
	return rc < 0 ? rc : quire_log_sync(t->log, t->last, NULL);
}

static void durable_turn(void *arg)
{
	struct turn *t = arg;
	bool group = strcmp(t->b->kind, "group") == 0;
	int64_t start = log_now_ns(), before = start;

	for (uint64_t i = 0; i < t->b->n && t->error == 0; i += BATCH) {
		t->error = group ? append_group(t) : append_row(t);
		int64_t now = log_now_ns();
		samples_add(&t->samples, (now - before) / BATCH);
		before = now;
	}
	t->passed_ns = before - start;
}

static int begin(const struct log_bench *b, struct open_log *l, struct turn *t)
{
	*t = (struct turn){ .b = b, .record = calloc(1, b->record_bytes + 1) };
	if (t->record == NULL)
		return failed("starting", -ENOMEM);
	memset(t->record, 0x5a, b->record_bytes);
	int rc = log_make(b, l);
	if (rc < 0) {
		free(t->record);
		return rc;
	}
	t->log = l->log;
	return log_leave_first_segment(l);
}

static int end(struct open_log *l, struct turn *t, int rc)
{
	int shut = log_shut(l);

	samples_free(&t->samples);
	free(t->record);
	return rc < 0 ? rc : shut;
}

int log_bench_pmem(const struct log_bench *b)
{
	struct open_log l = { 0 };
	struct turn t;
	int rc = begin(b, &l, &t);

	if (l.log == NULL)
		return rc;
	if (rc == 0 && strcmp(b->kind, "thread") != 0)
		rc = run_in_coroutine(durable_turn, &t);
	else if (rc == 0)
		durable_turn(&t);
	if (rc == 0 && t.error < 0)
		rc = failed("append", t.error);
	if (rc == 0)
		printf("{\"per_second\": %.1f, \"p50_us\": %.4f, \"p99_us\": %.4f}\n", (double)b->n * 1e9 / (double)t.passed_ns,
		       samples_us(&t.samples, 0.5), samples_us(&t.samples, 0.99));
	return end(&l, &t, rc);
}

/* ---- that nobody waits for ---- */

static int64_t append_some(struct turn *t, bool many)
{
	struct iovec records[BATCH];

	for (unsigned i = 0; i < BATCH; i++)
		records[i] = (struct iovec){ t->record, t->b->record_bytes };
	if (many)
		return quire_log_append_many(t->log, records, BATCH, NULL, &t->last);
	for (unsigned i = 0; i < BATCH; i++) {
		int rc = quire_log_append_nowait(t->log, &records[i], 1, &t->last);
		if (rc < 0)
			return rc;
	}
	return BATCH;
}

int log_bench_nowait(const struct log_bench *b)
{
	struct open_log l = { 0 };
	struct turn t;
	int rc = begin(b, &l, &t);

	if (l.log == NULL)
		return rc;
	bool many = strcmp(b->kind, "many") == 0;
	double cpu = cpu_seconds();
	int64_t start = log_now_ns(), n = rc;
	for (uint64_t done = 0; done < b->n && n >= 0; done += (uint64_t)n)
		n = append_some(&t, many);
	int64_t taken_in = log_now_ns();
	rc = n < 0 ? (int)n : quire_log_sync(l.log, t.last, NULL);
	int64_t durable = log_now_ns();
	cpu = cpu_seconds() - cpu;
	if (rc < 0)
		failed("append", rc);
	else
		printf("{\"per_second\": %.1f, \"taken_in_per_second\": %.1f, \"cpu_ns\": %.2f}\n",
		       (double)b->n * 1e9 / (double)(durable - start), (double)b->n * 1e9 / (double)(taken_in - start),
		       cpu * 1e9 / (double)b->n);
	return end(&l, &t, rc);
}
