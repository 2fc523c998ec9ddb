/* log_writers.c - see log_writers.h. fsync and fdatasync are defined here, and so are those that the peers' libraries
 * call: they count, and do what the C library's do. */
#include "log_writers.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "random.h"

static _Atomic uint64_t n_syncs;

#define SEEN_BY_LIBRARIES __attribute__((visibility("default")))

SEEN_BY_LIBRARIES int fsync(int fd)
{
	atomic_fetch_add_explicit(&n_syncs, 1, memory_order_relaxed);
	return (int)syscall(SYS_fsync, fd);
}

SEEN_BY_LIBRARIES int fdatasync(int fd)
{
	atomic_fetch_add_explicit(&n_syncs, 1, memory_order_relaxed);
	return (int)syscall(SYS_fdatasync, fd);
}

uint64_t log_syncs(void)
{
	return atomic_load_explicit(&n_syncs, memory_order_relaxed);
}

/* ---- records ---- */

void log_writer_fill(void *record, unsigned writer)
{
	uint64_t seed = writer + 1;

	for (size_t i = 0; i < LOG_WRITER_BYTES; i += sizeof(uint64_t)) {
		uint64_t word = random_next(&seed);
		memcpy((char *)record + i, &word, sizeof(word));
	}
}

void log_writer_stamp(void *record, uint64_t number)
{
	memcpy(record, &number, sizeof(number));
}

/* ---- the window ---- */

static void sleep_seconds(double seconds)
{
	const struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&t, NULL);
}

static uint64_t sum(const struct log_window *w)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < LOG_WRITERS; i++)
		n += atomic_load_explicit(&w->writers[i].n, memory_order_relaxed);
	return n;
}

void log_window_watch(struct log_window *w)
{
	sleep_seconds(w->warm_seconds);
	double start = now_seconds(), cpu = cpu_seconds();
	uint64_t n = sum(w), syncs = log_syncs();
	sleep_seconds(w->seconds);
	n = sum(w) - n;
	w->per_second = (double)n / (now_seconds() - start);
	w->cpu_us = (cpu_seconds() - cpu) * 1e6 / (double)(n != 0 ? n : 1);
	w->n_syncs = log_syncs() - syncs;
	atomic_store(&w->stop, true);
}

void log_window_end(struct log_window *w)
{
	w->all = sum(w);
}

void log_window_print(const struct log_window *w)
{
	printf("{\"per_second\": %.1f, \"cpu_us\": %.3f, \"syncs\": %llu, \"syncs_per_second\": %.1f, \"records\": %llu}\n",
	       w->per_second, w->cpu_us, (unsigned long long)log_syncs(), (double)w->n_syncs / w->seconds,
	       (unsigned long long)w->all);
}

/* ---- threads ---- */

struct writer {
	struct log_window *window;
	log_append_fn append;
	void *log;
	unsigned number;
	pthread_t thread;
};

static void *write_records(void *arg)
{
	struct writer *me = arg;
	uint64_t record[LOG_WRITER_BYTES / sizeof(uint64_t)];

	log_writer_fill(record, me->number);
	uint64_t n = 0;
	do {
		log_writer_stamp(record, n++);
		if (me->append(me->log, record) != 0) {
			atomic_store(&me->window->error, -1);
			break;
		}
		log_writer_done(me->window, me->number);
	} while (!atomic_load_explicit(&me->window->stop, memory_order_relaxed));
	return NULL;
}

int log_writers_run(struct log_window *w, unsigned n, bool batches, log_append_fn append, void *log)
{
	struct writer writers[LOG_WRITERS];
	unsigned n_started = 0;

	w->n_each = batches ? LOG_WRITERS : 1;
	n = batches ? 1 : n;
	for (; n_started < n; n_started++) {
		struct writer *me = &writers[n_started];
		*me = (struct writer){ .window = w, .append = append, .log = log, .number = n_started };
		if (pthread_create(&me->thread, NULL, write_records, me) != 0)
			break;
	}
	if (n_started == n)
		log_window_watch(w);
	atomic_store(&w->stop, true);
	for (unsigned i = 0; i < n_started; i++)
		pthread_join(writers[i].thread, NULL);
	log_window_end(w);
	return n_started == n ? atomic_load(&w->error) : -1;
}
