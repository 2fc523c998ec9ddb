/* log.h - what the parts of bench-log share. Each part prints one JSON object; bench/lib/log.py has peers and parts take turns.
 */
#ifndef BENCH_LOG_H
#define BENCH_LOG_H

#include "clock.h"
#include "fail.h"

#include <quire/quire.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_RECORD_BYTES 512u
#define LOG_FRAME_BYTES 40u /* of a record on the medium, before what was appended; the whole is a multiple of 8 */

static inline uint64_t log_frame_bytes(uint32_t record_bytes)
{
	return (record_bytes + LOG_FRAME_BYTES + 7u) / 8 * 8;
}

struct log_bench {
	const char *dir;   /* borrowed; of the store, which is made there, or is there */
	const char *kind;  /* which way, where a part knows several; "" */
	bool pmem;         /* the log is in the class pmem: a mapped file, durable=process */
	unsigned rounds;
	double seconds;    /* of a turn */
	uint64_t n;        /* records of a turn, or of the log */
	uint64_t bytes;    /* of records in the log */
	uint64_t tail_bytes;    /* of these, in the last segment */
	uint32_t segment_bytes; /* 0: the default */
	uint32_t record_bytes;
};

/* All return 0, or a negative errno after one line on stderr. */
int log_bench_latency(const struct log_bench *b);
int log_bench_group(const struct log_bench *b);
int log_bench_sync(const struct log_bench *b);   /* the peer: write and fdatasync */
int log_bench_pmem(const struct log_bench *b);
int log_bench_nowait(const struct log_bench *b);
int log_bench_read(const struct log_bench *b);
int log_bench_follow(const struct log_bench *b);
int log_bench_fill(const struct log_bench *b);
int log_bench_open(const struct log_bench *b);

/* ---- for all ---- */

struct open_log {
	struct quire_cache *cache;
	struct quire_store *store;
	struct quire_log *log;
};
/* A store in b->dir, which is empty or not there, and a log in it. */
int log_make(const struct log_bench *b, struct open_log *ret);
int log_open_store(const struct log_bench *b, struct open_log *ret); /* log: NULL */
int log_open_log(struct open_log *l);
int log_shut(struct open_log *l); /* everything durable */

/* Appends records that are durable when it returns, until that many bytes are in the log. */
int log_put(struct open_log *l, uint64_t bytes, uint32_t record_bytes);
/* Until all but the last segment are sealed. */
int log_wait_sealed(struct open_log *l);
/* A new log's first segment is not zeroed ahead as all that follow it are: to where the second begins. */
int log_leave_first_segment(struct open_log *l);

/* ---- times ---- */

struct samples {
	int64_t *ns; /* owned */
	size_t n, capacity;
};
void samples_add(struct samples *s, int64_t ns); /* beyond what memory there is: not at all */
double samples_us(struct samples *s, double share); /* sorts */
void samples_reset(struct samples *s);
void samples_free(struct samples *s);

/* Signed: of two threads' times either may be the later one. */
static inline int64_t log_now_ns(void)
{
	return (int64_t)now_ns();
}

#endif
