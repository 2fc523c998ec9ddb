/* ycsb.h - a contest of point reads as YCSB makes them: what every contender does, and what it has from ycsb*.c.
 *
 * Record k of n has the key "user" and the 19 digits of a hash of k (23 bytes), and a value of ten fields of 100 bytes,
 * whose first word is k and whose last is the sum of all others: every read adds up the value where it lies. Keys are asked
 * for by one of YCSB's distributions. Contenders are programs of their own, since each links a library of its own:
 *
 *   bench-ycsb-NAME --path P --records N fill
 *   bench-ycsb-NAME --path P --records N --memory BYTES --width W [--variant V] [--requests zipfian|latest|uniform]
 *                   [--fill-seconds S] [--seconds S] [--rate R --rate-seconds S] read
 *
 * A read run has up to three phases, each with all workers: the memory is filled, not counted; then each reads one record
 * after the other for a given time (closed); then, if there is a rate, requests arrive at that rate whether others
 * are answered or not (open), and each one's latency counts from the moment at which it was to arrive. Whatever is unanswered
 * when as much time again has passed counts with its age then. One line of JSON on stdout.
 */
#ifndef BENCH_YCSB_H
#define BENCH_YCSB_H

#include "clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define YCSB_KEY_BYTES 23u
#define YCSB_KEY_PREFIX_BYTES 4u /* "user" */
#define YCSB_VALUE_BYTES 1000u
#define YCSB_MAX_WIDTH 256u

enum ycsb_requests { YCSB_ZIPFIAN, YCSB_LATEST, YCSB_UNIFORM };

struct ycsb {
	const char *path, *variant; /* borrowed; variant: a contender's own word, or "" */
	uint64_t n_records, memory_bytes;
	enum ycsb_requests requests;
	double fill_seconds; /* at most */
	double seconds, rate, rate_seconds;
	unsigned width; /* threads */
};

/* The contender's. Return 0, or not, after one line on stderr. */
int ycsb_fill(struct ycsb *y);
int ycsb_read(struct ycsb *y);

int ycsb_failed(const char *what, const char *why);

/* ---- records: ycsb_records.c ---- */

struct ycsb_record {
	uint64_t hash, number; /* hash: what its key says */
};

/* All records, by ascending key; the caller frees them. NULL: no memory. */
struct ycsb_record *ycsb_sorted(uint64_t n_records);

void ycsb_key(uint64_t hash, char *ret_key);
void ycsb_value(uint64_t number, void *ret_value);
bool ycsb_right(uint64_t number, const void *value, size_t len_bytes);

void ycsb_requests_prepare(const struct ycsb *y);                     /* once, before threads start */
struct ycsb_record ycsb_request(const struct ycsb *y, uint64_t *state); /* state: of the worker, not 0 */

/* ---- running: ycsb_run.c ---- */

struct ycsb_worker; /* a thread of the contest, and what it has counted */

struct ycsb_reader {
	int (*open)(struct ycsb *y, void **ret_own); /* in the worker's thread */
	void (*close)(void *own);
	/* Runs one phase: calls next until it is false. NULL: by read. */
	int (*run)(struct ycsb_worker *w, void *own);
	/* Reads one record. */
	int (*read)(void *own, const char *key, uint64_t number, bool *ret_right);
	uint64_t (*n_misses)(void); /* reads from the disk until now; NULL: not known */
	unsigned n_fill_threads;    /* that many fill the memory, if more than the width */
};

/* Runs all phases and prints the line of JSON. */
int ycsb_run(struct ycsb *y, const struct ycsb_reader *reader);

bool ycsb_is_open(const struct ycsb_worker *w);

/* One request more? It is due at *ret_due_ns, or at once if that is 0. */
bool ycsb_next(struct ycsb_worker *w, struct ycsb_record *ret_record, int64_t *ret_due_ns);
void ycsb_done(struct ycsb_worker *w, int64_t due_ns, bool right);
static inline int64_t ycsb_now_ns(void)
{
	return (int64_t)now_ns();
}
uint64_t ycsb_major_faults(void); /* of this process: misses of what lives by mmap */

#endif
