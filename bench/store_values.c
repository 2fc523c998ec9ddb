/* store_values.c - see store_values.h: the program around a contender. */
#include "store_values.h"
#include "clock.h"
#include "random.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_WIDTH 256u

int values_failed(const char *what, const char *why)
{
	fprintf(stderr, "bench-values: %s: %s\n", what, why);
	return -1;
}

/* ---- keys and contents ---- */

uint64_t values_random(const struct values *v, uint64_t *state)
{
	return random_below(state, v->n_values);
}

void values_content(uint64_t key, void *ret_value)
{
	uint64_t *words = ret_value, state = (key + 1) * 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < VALUES_BYTES / sizeof(*words); i++)
		words[i] = random_next(&state);
	words[0] = key;
	words[VALUES_BYTES / sizeof(*words) - 1] = ~key;
}

/* ---- counting ---- */

struct values_meter {
	struct values *v;
	_Atomic uint64_t n_reads, n_wrong;
	uint64_t n_fill;
	double fill_end; /* it ends then at the latest: a contender may be very slow */
	_Atomic bool counting, over;
	pthread_mutex_t lock; /* of what follows */
	uint64_t n_before;
	double start, cpu_start;
};

struct values_meter *values_meter_start(struct values *v)
{
	static struct values_meter m = { .lock = PTHREAD_MUTEX_INITIALIZER };

	m.v = v;
	/* One value in four fits: some meet one again. */
	m.n_fill = v->memory_bytes / VALUES_BYTES * 6 / 5;
	m.fill_end = now_seconds() + 3 * v->seconds;
	return &m;
}

static void begin_or_end(struct values_meter *m)
{
	pthread_mutex_lock(&m->lock);
	if (!m->counting) {
		m->n_before = m->n_reads;
		m->cpu_start = cpu_seconds();
		m->start = now_seconds();
		m->counting = true;
	} else if (!m->over && now_seconds() - m->start >= m->v->seconds) {
		m->v->measured_seconds = now_seconds() - m->start;
		m->v->cpu_seconds = cpu_seconds() - m->cpu_start;
		m->v->n_reads = m->n_reads - m->n_before;
		m->over = true;
	}
	pthread_mutex_unlock(&m->lock);
}

bool values_meter_count(struct values_meter *m, unsigned n_reads, unsigned n_wrong)
{
	uint64_t before = atomic_fetch_add(&m->n_reads, n_reads);

	if (n_wrong != 0)
		atomic_fetch_add(&m->n_wrong, n_wrong);
	bool often = before / 16 != (before + n_reads) / 16;
	if (before >= m->n_fill ? !m->counting || often : often && now_seconds() >= m->fill_end)
		begin_or_end(m);
	return !m->over;
}

void values_meter_end(struct values_meter *m)
{
	m->v->n_wrong = m->n_wrong;
}

/* ---- threads ---- */

struct crew {
	struct values *v;
	const struct values_reader *reader;
	struct values_meter *meter;
	_Atomic bool failed;
	_Atomic unsigned n_started;
};

static void *work(void *arg)
{
	struct crew *crew = arg;
	uint64_t keys[VALUES_MAX_AT_ONCE], state = 77 + atomic_fetch_add(&crew->n_started, 1) * 1000003u;
	unsigned n = crew->reader->n_at_once, n_wrong = 0;
	void *own;

	if (crew->reader->open(crew->v, &own) != 0) {
		crew->failed = true;
		return NULL;
	}
	do {
		for (unsigned i = 0; i < n; i++)
			keys[i] = values_random(crew->v, &state);
		n_wrong = 0;
		if (crew->reader->read(own, keys, n, &n_wrong) != 0)
			crew->failed = true;
	} while (values_meter_count(crew->meter, n, n_wrong) && !crew->failed);
	crew->reader->close(own);
	return NULL;
}

int values_by_threads(struct values *v, const struct values_reader *reader)
{
	struct crew crew = { .v = v, .reader = reader, .meter = values_meter_start(v) };
	pthread_t threads[MAX_WIDTH];
	unsigned n = 0;

	while (n < v->width && pthread_create(&threads[n], NULL, work, &crew) == 0)
		n++;
	crew.failed |= n < v->width;
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	values_meter_end(crew.meter);
	return crew.failed ? values_failed("reading", "a thread failed") : 0;
}

/* ---- the program ---- */

static int usage(void)
{
	fprintf(stderr, "usage: bench-values-NAME --path P --values N [--memory BYTES --seconds S --width W "
	                "--variant V] fill|read\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "path", required_argument, NULL, 'p' },    { "values", required_argument, NULL, 'n' },
		{ "memory", required_argument, NULL, 'm' },  { "seconds", required_argument, NULL, 's' },
		{ "width", required_argument, NULL, 'w' },   { "variant", required_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	struct values v = { .variant = "", .seconds = 1, .width = 1 };
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'p')
			v.path = optarg;
		else if (option == 'n')
			v.n_values = strtoull(optarg, NULL, 10);
		else if (option == 'm')
			v.memory_bytes = strtoull(optarg, NULL, 10);
		else if (option == 's')
			v.seconds = strtod(optarg, NULL);
		else if (option == 'w')
			v.width = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'v')
			v.variant = optarg;
		else
			return usage();
	}
	if (v.path == NULL || v.n_values == 0 || v.width == 0 || v.width > MAX_WIDTH || optind + 1 != argc)
		return usage();
	if (strcmp(argv[optind], "fill") == 0)
		return values_fill(&v) == 0 ? 0 : 1;
	if (strcmp(argv[optind], "read") != 0 || v.memory_bytes < (64u << 20))
		return usage();
	if (values_read(&v) != 0)
		return 1;
	printf("{\"reads\": %llu, \"wrong\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	       (unsigned long long)v.n_reads, (unsigned long long)v.n_wrong, v.measured_seconds, v.cpu_seconds);
	return 0;
}
