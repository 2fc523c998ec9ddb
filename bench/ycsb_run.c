/* ycsb_run.c - the phases of a read run: threads that go through them side by side, and what they count.
 *
 * Between phases all threads meet at a barrier, where the main thread sets up the next. Only it reads what
 * workers counted, and only there. A worker that fails goes on to every barrier, but does nothing more.
 * In the open phase request i is due at start + i / rate; who is free takes the next number, and sleeps until it is
 * due, or is late already.
 */
#include "ycsb.h"
#include "latency.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define NS_PER_S 1000000000
#define FILLS 3       /* accesses that fill the memory, in pages that it has: half of them are misses, or more */
#define CLOCK_EVERY 8 /* requests */

enum phase { FILL, CLOSED, OPEN, OVER };

struct contest {
	struct ycsb *y;
	const struct ycsb_reader *reader;
	pthread_barrier_t barrier;
	unsigned n_threads;
	enum phase phase;
	int64_t start_ns, end_ns, give_up_ns;
	uint64_t n_due; /* open: requests that arrive */
	_Atomic uint64_t n_taken;
	atomic_bool failed;
};

struct ycsb_worker {
	struct contest *contest;
	pthread_t thread;
	unsigned index;
	uint64_t rng, left, n_reads, n_wrong, n_clock;
	struct latency latency;
} __attribute__((aligned(128)));

uint64_t ycsb_major_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_majflt;
}

/* ---- a worker's requests ---- */

static bool time_is_up(struct ycsb_worker *w)
{
	return w->n_clock++ % CLOCK_EVERY == 0 && ycsb_now_ns() >= w->contest->end_ns;
}

static int64_t due_ns(const struct contest *c, uint64_t number)
{
	return c->start_ns + (int64_t)((double)number / c->y->rate * NS_PER_S);
}

static bool take_number(struct contest *c, int64_t *ret_due_ns)
{
	uint64_t number = atomic_fetch_add(&c->n_taken, 1);

	if (number < c->n_due && ycsb_now_ns() < c->give_up_ns) {
		*ret_due_ns = due_ns(c, number);
		return true;
	}
	atomic_fetch_sub(&c->n_taken, 1);
	return false;
}

bool ycsb_is_open(const struct ycsb_worker *w)
{
	return w->contest->phase == OPEN;
}

bool ycsb_next(struct ycsb_worker *w, struct ycsb_record *ret_record, int64_t *ret_due_ns)
{
	struct contest *c = w->contest;
	bool more = !c->failed;

	*ret_due_ns = 0;
	if (c->phase == OPEN)
		more = more && take_number(c, ret_due_ns);
	else if (c->phase == FILL)
		more = more && w->left > 0 && !time_is_up(w);
	else
		more = more && !time_is_up(w);
	if (more)
		*ret_record = ycsb_request(c->y, &w->rng);
	return more;
}

void ycsb_done(struct ycsb_worker *w, int64_t due, bool right)
{
	w->n_reads++;
	w->n_wrong += !right;
	w->left -= w->left > 0;
	if (due != 0)
		latency_add(&w->latency, (uint64_t)(ycsb_now_ns() - due));
}

/* ---- threads ---- */

static void sleep_until(int64_t when_ns)
{
	const struct timespec t = { .tv_sec = when_ns / NS_PER_S, .tv_nsec = when_ns % NS_PER_S };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
}

static int run_by_read(struct ycsb_worker *w, void *own)
{
	const struct ycsb_reader *reader = w->contest->reader;
	char key[YCSB_KEY_BYTES];
	struct ycsb_record record;
	int64_t due;

	while (ycsb_next(w, &record, &due)) {
		bool right = false;
		if (due > ycsb_now_ns())
			sleep_until(due);
		ycsb_key(record.hash, key);
		if (reader->read(own, key, record.number, &right) != 0)
			return -1;
		ycsb_done(w, due, right);
	}
	return 0;
}

static void *worker_main(void *arg)
{
	struct ycsb_worker *w = arg;
	struct contest *c = w->contest;
	void *own = NULL;
	bool opened = c->reader->open(c->y, &own) == 0;

	if (!opened)
		c->failed = true;
	for (;;) {
		pthread_barrier_wait(&c->barrier); /* a phase begins */
		if (c->phase == OVER)
			break;
		if (!c->failed && (c->phase == FILL || w->index < c->y->width) &&
		    (c->reader->run != NULL ? c->reader->run(w, own) : run_by_read(w, own)) != 0)
			c->failed = true;
		pthread_barrier_wait(&c->barrier); /* it ended */
	}
	if (opened)
		c->reader->close(own);
	return NULL;
}

/* ---- phases, by the main thread ---- */

struct outcome {
	uint64_t n_reads, n_wrong, n_misses;
	double seconds, cpu_seconds;
	struct latency latency;
};

static uint64_t misses(const struct contest *c)
{
	return c->reader->n_misses != NULL ? c->reader->n_misses() : 0;
}

static void run_phase(struct contest *c, struct ycsb_worker *workers, enum phase phase, double seconds,
                      struct outcome *ret)
{
	const uint64_t n_fill = c->y->memory_bytes / 4096 * FILLS;

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < c->n_threads; i++) {
		workers[i].left = n_fill / c->n_threads;
		workers[i].n_reads = workers[i].n_wrong = 0;
	}
	c->phase = phase;
	c->n_taken = 0;
	c->n_due = (uint64_t)(seconds * c->y->rate);
	c->start_ns = ycsb_now_ns();
	c->end_ns = c->start_ns + (int64_t)(seconds * NS_PER_S);
	c->give_up_ns = c->end_ns + (int64_t)(seconds * NS_PER_S);
	double cpu = cpu_seconds();
	uint64_t n_misses = misses(c);
	pthread_barrier_wait(&c->barrier);
	pthread_barrier_wait(&c->barrier);
	ret->seconds = (double)(ycsb_now_ns() - c->start_ns) / NS_PER_S;
	ret->cpu_seconds = cpu_seconds() - cpu;
	ret->n_misses = misses(c) - n_misses;
	for (unsigned i = 0; i < c->n_threads; i++) {
		ret->n_reads += workers[i].n_reads;
		ret->n_wrong += workers[i].n_wrong;
		latency_merge(&ret->latency, &workers[i].latency);
	}
	if (phase == OPEN)
		for (uint64_t i = c->n_taken; i < c->n_due; i++) /* never answered */
			latency_add(&ret->latency, (uint64_t)(c->give_up_ns - due_ns(c, i)));
}

static void print(const struct contest *c, const struct outcome *closed, const struct outcome *open, uint64_t n_wrong)
{
	const struct latency *l = &open->latency;

	printf("{\"reads\": %llu, \"misses\": %llu, \"wrong\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f",
	       (unsigned long long)closed->n_reads, (unsigned long long)closed->n_misses, (unsigned long long)n_wrong,
	       closed->seconds, closed->cpu_seconds);
	if (c->y->rate > 0)
		printf(", \"offered\": %llu, \"answered\": %llu, \"open_cpu_seconds\": %.6f, \"p50_ns\": %llu, \"p99_ns\": %llu, "
		       "\"p999_ns\": %llu, \"p9999_ns\": %llu, \"max_ns\": %llu",
		       (unsigned long long)c->n_due, (unsigned long long)open->n_reads, open->cpu_seconds,
		       (unsigned long long)latency_quantile(l, 0.5), (unsigned long long)latency_quantile(l, 0.99),
		       (unsigned long long)latency_quantile(l, 0.999), (unsigned long long)latency_quantile(l, 0.9999),
		       (unsigned long long)l->max_ns);
	printf("}\n");
}

static void run_phases(struct contest *c, struct ycsb_worker *workers)
{
	static struct outcome fill, closed, open;

	run_phase(c, workers, FILL, c->y->fill_seconds, &fill);
	run_phase(c, workers, CLOSED, c->y->seconds, &closed);
	if (c->y->rate > 0)
		run_phase(c, workers, OPEN, c->y->rate_seconds, &open);
	c->phase = OVER;
	pthread_barrier_wait(&c->barrier);
	if (!c->failed)
		print(c, &closed, &open, fill.n_wrong + closed.n_wrong + open.n_wrong);
}

int ycsb_run(struct ycsb *y, const struct ycsb_reader *reader)
{
	struct contest c = { .y = y, .reader = reader };
	struct ycsb_worker *workers;

	c.n_threads = y->width > reader->n_fill_threads ? y->width : reader->n_fill_threads;
	workers = aligned_alloc(128, sizeof(*workers) * c.n_threads);
	if (workers == NULL || pthread_barrier_init(&c.barrier, NULL, c.n_threads + 1) != 0)
		return ycsb_failed("starting", "no memory");
	memset(workers, 0, sizeof(*workers) * c.n_threads);
	ycsb_requests_prepare(y);
	for (unsigned i = 0; i < c.n_threads; i++) {
		workers[i].contest = &c;
		workers[i].index = i;
		workers[i].rng = 0x9e3779b97f4a7c15u * (i + 1);
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
			abort(); /* the others wait for it */
	}
	run_phases(&c, workers);
	for (unsigned i = 0; i < c.n_threads; i++)
		pthread_join(workers[i].thread, NULL);
	pthread_barrier_destroy(&c.barrier);
	free(workers);
	return c.failed ? ycsb_failed("reading", "a thread failed") : 0;
}
