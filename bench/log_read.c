/* log_read.c - sealed segments from end to end by a cursor, all of it in the cache: each record is copied away. The peer is
 * memcpy of the same records, as far apart, out of plain memory; in pages as small as the cache's, and in huge ones if it
 * gets them.
 *
 * The first pass fills the cache: there each page is read from the disk, and verified.
 */
#include "log.h"
#include "coroutine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct pass {
	struct quire_log_cursor *cursor;
	const struct log_bench *b;
	uint64_t first_lsn, end_lsn;
	uint8_t *to;
	int64_t passed_ns;
	int error;
};

/* As if it were looked at. */
#define AT_ONCE 64u

static inline void use(const void *bytes)
{
	__asm__ volatile("" : : "r"(bytes) : "memory");
}

static void cursor_pass(void *arg)
{
	struct pass *p = arg;
	struct quire_log_record r[AT_ONCE];
	uint64_t lsn = p->first_lsn;

	p->error = quire_log_seek(p->cursor, p->first_lsn);
	int64_t start = log_now_ns();
	while (lsn < p->end_lsn && p->error == 0) {
		uint64_t left = p->end_lsn - lsn;
		int64_t n = quire_log_next_many(p->cursor, r, left < AT_ONCE ? (unsigned)left : AT_ONCE, NULL);
		if (n <= 0)
			p->error = n < 0 ? (int)n : -EIO;
		for (int64_t i = 0; i < n; i++, lsn++) {
			if (r[i].lsn != lsn || r[i].len_bytes != p->b->record_bytes)
				p->error = -EIO;
			memcpy(p->to, r[i].data, p->b->record_bytes);
			use(p->to);
		}
	}
	p->passed_ns = log_now_ns() - start;
}

static double cursor_speed(struct pass *p, bool coroutine)
{
	int rc = 0;

	if (coroutine)
		rc = run_in_coroutine(cursor_pass, p);
	else
		cursor_pass(p);
	p->error = rc < 0 ? rc : p->error;
	return (double)((p->end_lsn - p->first_lsn) * p->b->record_bytes) * 1e3 / (double)p->passed_ns;
}

static double memcpy_speed(const struct pass *p, const uint8_t *from)
{
	const uint64_t stride = log_frame_bytes(p->b->record_bytes), n = p->end_lsn - p->first_lsn;
	const uint32_t len = p->b->record_bytes;
	int64_t start = log_now_ns();

	for (uint64_t i = 0; i < n; i++) {
		memcpy(p->to, from + i * stride + LOG_FRAME_BYTES, len);
		use(p->to);
	}
	return (double)(n * len) * 1e3 / (double)(log_now_ns() - start);
}

static uint8_t *plain_memory(const struct pass *p, int advice)
{
	size_t bytes = (p->end_lsn - p->first_lsn) * log_frame_bytes(p->b->record_bytes);
	uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	(void)madvise(memory, bytes, advice);
	memset(memory, 7, bytes);
	return memory;
}

static int run_rounds(struct pass *p)
{
	const uint8_t *small = plain_memory(p, MADV_NOHUGEPAGE), *huge = plain_memory(p, MADV_HUGEPAGE);

	if (small == NULL || huge == NULL)
		return failed("plain memory", -ENOMEM);
	printf("{\"first_MB_per_s\": %.1f, \"rounds\": [", cursor_speed(p, false));
	for (unsigned i = 0; i < p->b->rounds && p->error == 0; i++) {
		printf("%s{\"memcpy\": %.1f, ", i == 0 ? "" : ",\n", memcpy_speed(p, small));
		printf("\"cursor\": %.1f, ", cursor_speed(p, false));
		printf("\"memcpy_again\": %.1f, ", memcpy_speed(p, small));
		printf("\"coroutine\": %.1f, ", cursor_speed(p, true));
		printf("\"memcpy_huge\": %.1f}", memcpy_speed(p, huge));
	}
	printf("]}\n");
	return p->error < 0 ? failed("reading", p->error) : 0;
}

/* All records that are in sealed segments. */
static int find_sealed(struct open_log *l, struct pass *p)
{
	unsigned n = quire_log_segments(l->log, NULL, 0);
	struct quire_log_segment *segments = calloc(n, sizeof(*segments));

	if (segments == NULL)
		return -ENOMEM;
	n = quire_log_segments(l->log, segments, n);
	p->first_lsn = segments[0].first_lsn;
	for (unsigned i = 0; i < n; i++)
		if (segments[i].sealed)
			p->end_lsn = segments[i].end_lsn;
	free(segments);
	return p->end_lsn > p->first_lsn ? 0 : failed("sealed segments: none", -ENODATA);
}

int log_bench_read(const struct log_bench *b)
{
	struct pass p = { .b = b };
	struct open_log l;
	int rc = log_make(b, &l);

	if (rc < 0)
		return rc;
	p.to = malloc(b->record_bytes);
	rc = p.to == NULL ? failed("starting", -ENOMEM) : log_put(&l, b->bytes, b->record_bytes);
	if (rc == 0)
		rc = log_wait_sealed(&l);
	if (rc == 0)
		rc = find_sealed(&l, &p);
	if (rc == 0) {
		rc = quire_log_cursor_open(l.log, QUIRE_LOG_DURABLE, &p.cursor);
		if (rc < 0)
			failed("cursor", rc);
	}
	if (rc == 0)
		rc = run_rounds(&p);
	quire_log_cursor_close(p.cursor);
	int shut = log_shut(&l);
	free(p.to);
	return rc < 0 ? rc : shut;
}
