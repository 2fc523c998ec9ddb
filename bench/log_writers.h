/* log_writers.h - 64 writers, each with the next record as soon as the last one is durable; how many come of it in a window of
 * time. And how often the process has made a file durable: nobody may have acknowledged more than that allows.
 */
#ifndef BENCH_LOG_WRITERS_H
#define BENCH_LOG_WRITERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_WRITERS 64u
#define LOG_WRITER_BYTES 512u

struct log_window {
	double warm_seconds, seconds; /* the first of them don't count */
	unsigned n_each;              /* records that a call makes durable */
	_Atomic bool stop;
	_Atomic int error;            /* a writer's first; he has said why */
	struct {
		_Atomic uint64_t n;       /* durable */
		char apart[56];
	} writers[LOG_WRITERS];
	/* results: of the window, but for `all` */
	double per_second, cpu_us;
	uint64_t all, n_syncs;
};

/* Durable when it returns, n_each times: 0, or it has said why. record: LOG_WRITER_BYTES. */
typedef int (*log_append_fn)(void *log, const void *record);

/* A window with n threads, each a writer of one record a time; if `batches`, one thread with LOG_WRITERS records a time: what
 * a program does that has them all in one place. 0 or -1. */
int log_writers_run(struct log_window *w, unsigned n, bool batches, log_append_fn append, void *log);

/* The parts of it, for who has no threads. */
void log_writer_fill(void *record, unsigned writer);
void log_writer_stamp(void *record, uint64_t number);
static inline void log_writer_done(struct log_window *w, unsigned writer)
{
	atomic_fetch_add_explicit(&w->writers[writer].n, w->n_each, memory_order_relaxed);
}
void log_window_watch(struct log_window *w); /* sleeps as long as it takes, then says stop */
void log_window_end(struct log_window *w);   /* nobody writes any more */
void log_window_print(const struct log_window *w);

/* Calls of fsync and fdatasync by this process and its libraries so far. */
uint64_t log_syncs(void);

#endif
