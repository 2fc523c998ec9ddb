/* wild_test.c - clients that follow no rule, beside one that does, which must not notice. What they do are the files of the corpus,
 * then these mutated at random: for a second; with QUIRE_TEST_LONG for a minute.
 * (wild_fuzz.c has libFuzzer choose.) */
#include "keep_env.h"
#include "wild.h"

#include <errno.h>
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MOST 4096u
#define INPUTS_MOST 512u
#define WILD_THREADS 2u
#define GOOD_PAGES 64u

static struct input {
	uint8_t bytes[INPUT_MOST];
	size_t n;
} corpus[INPUTS_MOST];
static unsigned n_corpus;

/* ---- the one that follows the rules ---- */

static struct good {
	pthread_t thread;
	_Atomic bool stop;
	uint64_t n_calls, n_bad, longest_ms;
} good;

static void *behave(void *arg)
{
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);

	for (uint32_t i = 0; i == 0 || !atomic_load(&good.stop); i++) {
		uint64_t begin = env_now_ms();
		bool bad = env_put(pool, i % GOOD_PAGES, i) != 0 || env_get(pool, i % GOOD_PAGES, i) != 1;
		if (i >= GOOD_PAGES)
			bad |= env_get(pool, (i + 1) % GOOD_PAGES, i + 1 - GOOD_PAGES) != 1;
		uint64_t took = env_now_ms() - begin;
		good.n_bad += bad;
		good.n_calls += 3;
		good.longest_ms = took > good.longest_ms ? took : good.longest_ms;
	}
	quire_tmem_disconnect(c);
	return NULL;
}

static void begin(struct quire_tmem_service_options *o)
{
	keep_make();
	keep_up_with(o);
	memset(&good, 0, sizeof(good));
	assert_int_equal(pthread_create(&good.thread, NULL, behave, NULL), 0);
}

static void end(void)
{
	/* Nothing of the wild ones is left. */
	env_await_clients(&keep_env, 1);
	atomic_store(&good.stop, true);
	pthread_join(good.thread, NULL);
	env_await_clients(&keep_env, 0);
	struct quire_tmem_service_stat s = env_stat(&keep_env);
	print_message("%llu wild clients, %llu dropped, %llu requests, %llu saves, %llu not; %llu calls beside, %llu ms at most\n",
	              (unsigned long long)s.n_connected - 1, (unsigned long long)s.n_dropped, (unsigned long long)s.n_requests,
	              (unsigned long long)s.n_saved, (unsigned long long)s.n_save_errors, (unsigned long long)good.n_calls, (unsigned long long)good.longest_ms);
	keep_down();
	keep_unmake();
	assert_int_equal(good.n_bad, 0);
	assert_true(good.longest_ms < 5000);
}

/* ---- inputs ---- */

static void read_corpus(void)
{
	const char *dir = getenv("QUIRE_TEST_CORPUS");
	DIR *d = dir != NULL ? opendir(dir) : NULL;

	for (struct dirent *entry; d != NULL && n_corpus < INPUTS_MOST && (entry = readdir(d)) != NULL;) {
		char path[512];
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		FILE *f = entry->d_name[0] != '.' ? fopen(path, "r") : NULL;
		if (f == NULL)
			continue;
		corpus[n_corpus].n = fread(corpus[n_corpus].bytes, 1, INPUT_MOST, f);
		n_corpus += corpus[n_corpus].n > 0;
		fclose(f);
	}
	if (d != NULL)
		closedir(d);
}

/* One of the corpus, or two of them, with bytes changed; or noise. */
static void make_input(uint64_t *random, struct input *in)
{
	in->n = 0;
	for (unsigned i = 0; n_corpus > 0 && i < 1 + random_below(random, 3); i++) {
		const struct input *of = &corpus[random_below(random, n_corpus)];
		size_t n = random_below(random, of->n) + 1;
		n = n > INPUT_MOST - in->n ? INPUT_MOST - in->n : n;
		memcpy(in->bytes + in->n, of->bytes, n);
		in->n += n;
	}
	if (in->n == 0 || random_below(random, 10) == 0) {
		in->n = 1 + random_below(random, 1000);
		for (size_t i = 0; i < in->n; i++)
			in->bytes[i] = (uint8_t)random_below(random, 256);
	}
	for (uint64_t i = random_below(random, 20); i > 0; i--)
		in->bytes[random_below(random, in->n)] = (uint8_t)random_below(random, 256);
}

static void what_the_corpus_does_harms_nobody(void **state)
{
	if (n_corpus == 0) {
		print_message("QUIRE_TEST_CORPUS names no directory with a corpus\n");
		skip();
	}
	struct quire_tmem_service_options o = {.size = sizeof(o)};
	begin(&o);
	for (unsigned i = 0; i < n_corpus; i++)
		wild_run(keep_env.path, corpus[i].bytes, corpus[i].n);
	end();
}

/* ---- at random ---- */

struct runner {
	pthread_t thread;
	uint64_t random, end_ms;
};

static void *run(void *arg)
{
	struct runner *r = arg;
	struct input *in = malloc(sizeof(*in));

	while (in != NULL && env_now_ms() < r->end_ms) {
		make_input(&r->random, in);
		wild_run(keep_env.path, in->bytes, in->n);
	}
	free(in);
	return NULL;
}

static uint64_t run_ms(void)
{
	return env_is_quick() ? 1000 : 60000;
}

static void what_comes_to_mind_harms_nobody(void **state)
{
	struct quire_tmem_service_options o = {.client_bytes = MIB, .n_threads = 2, .n_clients = 8};
	uint64_t seed = env_seed();
	struct runner runners[WILD_THREADS];

	begin(&o);
	for (unsigned i = 0; i < WILD_THREADS; i++) {
		runners[i] = (struct runner){.random = seed + i, .end_ms = env_now_ms() + run_ms()};
		assert_int_equal(pthread_create(&runners[i].thread, NULL, run, &runners[i]), 0);
	}
	for (unsigned i = 0; i < WILD_THREADS; i++)
		pthread_join(runners[i].thread, NULL);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_corpus_does_harms_nobody),
		cmocka_unit_test(what_comes_to_mind_harms_nobody),
	};

	read_corpus();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
