/* log_open.c - fill: a log of so many bytes of records, of which so many are in its last segment, not sealed. Says how many
 * records it has.
 * open: how long quire_log_open takes, again and again, the store being open.
 */
#include "log.h"

#include <errno.h>
#include <stdio.h>

/* Until records go into a new segment. */
static int end_segment(struct open_log *l, const struct log_bench *b)
{
	const unsigned n = quire_log_segments(l->log, NULL, 0);
	int rc = 0;

	while (rc == 0 && quire_log_segments(l->log, NULL, 0) == n)
		rc = log_put(l, UINT64_C(1) << 20, b->record_bytes);
	return rc;
}

int log_bench_fill(const struct log_bench *b)
{
	struct open_log l;
	int rc = log_make(b, &l);

	if (rc < 0)
		return rc;
	if (b->bytes > b->tail_bytes) {
		rc = log_put(&l, b->bytes - b->tail_bytes, b->record_bytes);
		if (rc == 0)
			rc = end_segment(&l, b);
	}
	if (rc == 0)
		rc = log_wait_sealed(&l);
	if (rc == 0)
		rc = log_put(&l, b->tail_bytes, b->record_bytes);
	if (rc == 0)
		printf("{\"n_records\": %llu}\n", (unsigned long long)quire_log_durable(l.log));
	int shut = log_shut(&l);
	return rc < 0 ? rc : shut;
}

static int open_once(struct open_log *l, const struct log_bench *b, bool last)
{
	struct quire_log_stat stat;
	int64_t start = log_now_ns();
	int rc = log_open_log(l);
	double seconds = (double)(log_now_ns() - start) / 1e9;

	if (rc < 0)
		return rc;
	rc = quire_log_stat(l->log, &stat);
	if (rc == 0)
		printf("{\"seconds\": %.6f, \"n_recovered\": %llu, \"n_segments\": %llu, \"n_records\": %llu, "
		       "\"scanned_bytes\": %llu}%s\n",
		       seconds, (unsigned long long)stat.n_recovered, (unsigned long long)stat.info.n_segments,
		       (unsigned long long)(stat.durable - stat.first_lsn),
		       (unsigned long long)(stat.n_recovered * log_frame_bytes(b->record_bytes)), last ? "" : ",");
	int closed = quire_log_close(l->log);
	l->log = NULL;
	return rc < 0 ? rc : closed;
}

int log_bench_open(const struct log_bench *b)
{
	struct open_log l;
	int rc = log_open_store(b, &l);

	if (rc < 0)
		return rc;
	printf("{\"rounds\": [");
	for (unsigned i = 0; i < b->rounds && rc == 0; i++)
		rc = open_once(&l, b, i + 1 == b->rounds);
	printf("]}\n");
	if (rc < 0)
		failed("opening", rc);
	int shut = log_shut(&l);
	return rc < 0 ? rc : shut;
}
