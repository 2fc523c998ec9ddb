/* Memory is refused: each single time in a fixed sequence of calls, and at random. Nothing but refusals may come of it. And what
 * is charged is what the kernel counts. */
#include "failing.h"
#include "pools.h"
#include "with_pages.h"
#include "fake_remote.h"
#include "model.h"
#include "sums.h"
#include "../../src/tmem/tmem.h"
#include "../../src/tmem/tmem_internal.h"
#include "../support/random.h"
#include "../support/sanitized.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define KINDS 3u
#define PAGES 60u

static void add_up(struct quire_tmem *t)
{
	struct quire_tmem_stat s = sums_stat(t);

	assert_true(s.held_bytes <= s.budget_bytes + 65536);
}

/* ---- one by one ---- */

struct sequence {
	struct budget budget;
	struct quire_tmem *tmem;
	struct quire_tmem_pool *pools[KINDS]; /* NULL: refused */
	uint32_t contents[KINDS][PAGES];      /* accepted; 0: not there */
	uint8_t pages[PAGES][4096];
};

static struct quire_tmem_key key_of(uint32_t i)
{
	/* Most in one object, some in spans of their own. */
	return (struct quire_tmem_key){.object = {i % 4 == 3 ? i : 1, 2, 3}, .index = i % 8 == 0 ? i << 16 : i};
}

static void accepted(struct sequence *s, unsigned pool, uint32_t i, uint32_t content, int64_t rc)
{
	s->contents[pool][i] = rc == 0 ? content : 0;
	assert_true(rc == 0 || rc == -ENOSPC);
}

static void put(struct sequence *s, unsigned pool, uint32_t i, uint32_t content)
{
	struct quire_tmem_key key = key_of(i);

	model_fill(content, s->pages[0], 4096);
	accepted(s, pool, i, content, quire_tmem_put(s->pools[pool], &key, s->pages[0]));
}

static void put_batch(struct sequence *s, unsigned pool, uint32_t first_content)
{
	struct quire_tmem_request r[PAGES];

	for (uint32_t i = 0; i < PAGES; i++) {
		model_fill(first_content + i, s->pages[i], 4096);
		r[i] = (struct quire_tmem_request){.pool = s->pools[pool], .key = key_of(i), .verb = QUIRE_TMEM_PUT, .page = s->pages[i]};
	}
	assert_int_equal(quire_tmem_batch(s->tmem, r, PAGES, NULL), 0);
	for (uint32_t i = 0; i < PAGES; i++)
		accepted(s, pool, i, first_content + i, r[i].result);
}

/* What was accepted is there; of an ephemeral pool, it or nothing. */
static void get_all(struct sequence *s, unsigned pool, enum quire_tmem_get how)
{
	uint8_t page[4096], expected[4096];

	for (uint32_t i = 0; i < PAGES; i++) {
		struct quire_tmem_key key = key_of(i);
		uint32_t content = s->contents[pool][i];
		int rc = quire_tmem_get(s->pools[pool], &key, page, how);
		if (rc == -ENOENT) {
			assert_true(pool == 0 || content == 0);
			continue;
		}
		assert_int_equal(rc, 0);
		model_fill(content, expected, sizeof(expected));
		assert_memory_equal(page, expected, sizeof(page));
		if (how == QUIRE_TMEM_GET_TAKE)
			s->contents[pool][i] = 0;
	}
}

static void use_pool(struct sequence *s, unsigned pool)
{
	for (uint32_t i = 0; i < PAGES; i++)
		put(s, pool, i, 1000 + i * 7 + (pool == 2)); /* others than 0, but for the last pool: words */
	get_all(s, pool, QUIRE_TMEM_GET_KEEP);
	put_batch(s, pool, 11);
	get_all(s, pool, QUIRE_TMEM_GET_KEEP);
	for (uint32_t i = 0; i < PAGES; i++)
		put(s, pool, i, 11 + i / 2); /* each twice */
	get_all(s, pool, QUIRE_TMEM_GET_TAKE);
	put_batch(s, pool, 500);
	uint64_t object[3] = {1, 2, 3};
	assert_true(quire_tmem_flush_object(s->pools[pool], object) >= 0);
	for (uint32_t i = 0; i < PAGES; i++)
		if (i % 4 != 3)
			s->contents[pool][i] = 0;
	get_all(s, pool, QUIRE_TMEM_GET_KEEP);
}

static void go_through(void)
{
	static const enum quire_tmem_kind kinds[KINDS] = {QUIRE_TMEM_EPHEMERAL, QUIRE_TMEM_PERSISTENT, QUIRE_TMEM_PERSISTENT};
	struct sequence *s = malloc(sizeof(*s));

	assert_non_null(s);
	memset(s, 0, sizeof(*s));
	budget_init(&s->budget, 4 * MIB);
	int rc = tmem_create(&s->budget, 1, &s->tmem, NULL);
	assert_true(rc == 0 || rc == -ENOMEM);
	for (unsigned k = 0; k < KINDS && rc == 0; k++) {
		struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = kinds[k], .domain = k > 0 ? 5 : 0};
		int made = quire_tmem_pool_create(s->tmem, &o, &s->pools[k], NULL);
		assert_true(made == 0 || made == -ENOMEM);
		if (made == 0)
			use_pool(s, k);
	}
	uint64_t refused = failing_n_refused();
	failing_off();
	if (rc == 0)
		add_up(s->tmem);
	for (unsigned k = 0; k < KINDS; k++)
		quire_tmem_pool_destroy(s->pools[k]);
	quire_tmem_destroy(s->tmem);
	assert_int_equal(budget_used(&s->budget), 0);
	assert_int_equal(failing_mapped_bytes(), 0);
	assert_true(refused <= 1);
	free(s);
}

static void each_single_refusal_is_no_more_than_that(void **state)
{
	uint64_t step = getenv("QUIRE_TEST_LONG") != NULL ? 1 : 4, first = 1 + random_beginning() % step, n = 0;

	do {
		failing_nth(first + step * n++);
		go_through();
	} while (failing_n_refused() > 0);
	printf("%llu refusals, from number %llu on, %llu apart\n", (unsigned long long)n - 1, (unsigned long long)first,
	       (unsigned long long)step);
	assert_true(n * step > 100);
}

/* ---- at random ---- */

static uint64_t seed_of_run(void)
{
	uint64_t seed = random_seed();

	printf("seed %llu\n", (unsigned long long)seed);
	return seed;
}

static uint64_t n_calls_of_run(uint64_t usual)
{
	const char *count = getenv("QUIRE_TEST_COUNT");

	if (count != NULL)
		return strtoull(count, NULL, 0);
	return getenv("QUIRE_TEST_LONG") != NULL ? 2000000 : usual;
}

/* The thread by which batches with an op complete is there for good, and not what is tested here. */
static int start_service(void **state)
{
	struct quire_tmem *t = make(MIB);
	struct quire_op op;

	quire_op_init(&op);
	int rc = quire_tmem_batch(t, NULL, 0, &op);
	if (rc == 0)
		rc = (int)quire_await(&op);
	quire_tmem_destroy(t);
	return rc;
}

static void random_calls_that_are_refused_memory_agree_with_the_model(void **state)
{
	uint64_t seed = seed_of_run(), n_calls = n_calls_of_run(8000), done = 0;

	while (done < n_calls) {
		uint64_t most = with_pages(MIB + seed % (7 * MIB), BEGUN_PAGES);
		struct quire_tmem *t = make(most);
		struct model *m = model_create(t, seed++);
		m->most_budget = most;
		m->failing = true;
		for (unsigned i = 0; i < 4000; i++) {
			if (i % 1000 == 0)
				failing_often(2u << model_random(m, 10));
			model_step(m);
			if (i % 2000 == 0) {
				failing_off();
				add_up(t);
			}
		}
		failing_off();
		model_compare(m);
		add_up(t);
		done += m->n_steps;
		model_destroy(m);
		quire_tmem_destroy(t);
		assert_int_equal(failing_mapped_bytes(), 0);
	}
	printf("%llu calls\n", (unsigned long long)done);
}

#define N_THREADS 4u

static void *run_model(void *arg)
{
	struct model *m = arg;
	uint64_t n_calls = n_calls_of_run(8000) / N_THREADS;

	for (uint64_t i = 0; m->n_steps < n_calls; i++) {
		if (i % 1000 == 0)
			failing_often(i % 4000 == 0 ? 0 : 2u << model_random(m, 10));
		model_step(m);
	}
	return NULL;
}

static void run_threads(struct quire_tmem *t, bool remotes)
{
	uint64_t seed = seed_of_run(), n_steps = 0;
	struct model *models[N_THREADS];
	pthread_t threads[N_THREADS];

	for (unsigned i = 0; i < N_THREADS; i++) {
		models[i] = model_create(t, seed * N_THREADS + i);
		models[i]->failing = true;
		models[i]->most_budget = budget_limit(t->budget);
		models[i]->remotes = remotes;
		for (unsigned k = 0; remotes && k < MODEL_POOLS; k++)
			model_make_pool(models[i], k);
	}
	for (unsigned i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_model, models[i]), 0);
	for (unsigned i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	failing_off();
	if (remotes)
		fake_remote_settle(t);
	add_up(t);
	for (unsigned i = 0; i < N_THREADS; i++) {
		model_compare(models[i]);
		n_steps += models[i]->n_steps;
		model_destroy(models[i]);
	}
	printf("%llu calls\n", (unsigned long long)n_steps);
}

static void threads_that_are_refused_memory_agree_with_their_models(void **state)
{
	struct quire_tmem *t = make(with_pages(4 * MIB, N_THREADS * BEGUN_PAGES));

	run_threads(t, false);
	quire_tmem_destroy(t);
	assert_int_equal(failing_mapped_bytes(), 0);
}

/* Which loses, delays, damages and confuses values besides. */
static void the_same_with_a_remote_tier(void **state)
{
	struct fake_remote *f = malloc(sizeof(*f));
	struct quire_tmem *t = make(with_pages(4 * MIB, N_THREADS * BEGUN_PAGES));
	struct quire_tmem_stat s;

	fake_remote_init(f);
	f->bad_one_in = 4;
	f->late_one_in = 200;
	f->late_us = 100;
	assert_int_equal(fake_remote_set(f, t, 128u << 10), 0);
	run_threads(t, true);
	quire_tmem_stat(t, &s);
	printf("%llu sent, %llu hits, %llu misses\n", (unsigned long long)s.n_remote_sent, (unsigned long long)s.n_remote_hits,
	       (unsigned long long)s.n_remote_misses);
	quire_tmem_destroy(t);
	assert_int_equal(failing_mapped_bytes(), 0);
	fake_remote_fini(f);
	free(f);
}

/* ---- what the kernel counts ---- */

static uint64_t anonymous_bytes(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	unsigned long long kib = 0;
	char line[256];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Anonymous: %llu kB", &kib) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kib << 10;
}

/* malloc's own, the stack, page tables that the kernel doesn't count there: nothing that grows with what is held. */
#define SLACK_BYTES (128u << 10)

static void the_kernel_counts_no_more_than_is_charged(void **state)
{
	static const enum quire_tmem_kind kinds[] = {QUIRE_TMEM_EPHEMERAL, QUIRE_TMEM_PERSISTENT};
	static uint8_t page[4096];

	if (anonymous_bytes() == 0 || SANITIZED || getenv("QUIRE_EMULATED") != NULL) {
		printf("no smaps_rollup, or a sanitizer's or an emulator's memory in it\n");
		skip();
	}
	for (unsigned k = 0; k < 2; k++) {
		uint64_t before = anonymous_bytes(), budget = 6 * MIB;
		struct quire_tmem *t = make(budget);
		struct quire_tmem_pool *pool = NULL;
		struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = kinds[k]};
		struct quire_tmem_stat s;
		assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
		for (uint32_t i = 0; i < 5000; i++) {
			struct quire_tmem_key key = {.object = {i / 100}, .index = i % 100};
			model_fill(100001 + i * 7, page, sizeof(page));
			(void)quire_tmem_put(pool, &key, page);
			/* Holes, too. */
			if (i % 3 == 0)
				(void)quire_tmem_flush(pool, &(struct quire_tmem_key){.object = {i / 200}, .index = i % 97});
		}
		uint64_t grown = anonymous_bytes() - before;
		quire_tmem_stat(t, &s);
		printf("charged %llu KiB, counted %llu KiB\n", (unsigned long long)s.held_bytes >> 10, (unsigned long long)grown >> 10);
		assert_true(s.held_bytes <= budget && s.held_bytes > budget / 10 * 9);
		assert_true(grown <= budget + SLACK_BYTES && grown <= s.held_bytes + SLACK_BYTES);
		quire_tmem_pool_destroy(pool);
		quire_tmem_stat(t, &s);
		assert_true(s.held_bytes <= with_pages(MIB / 4, 2 * POOL_PAGES));
		assert_true(anonymous_bytes() <= before + s.held_bytes + SLACK_BYTES);
		quire_tmem_destroy(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_counts_no_more_than_is_charged),
		cmocka_unit_test(each_single_refusal_is_no_more_than_that),
		cmocka_unit_test(random_calls_that_are_refused_memory_agree_with_the_model),
		cmocka_unit_test(threads_that_are_refused_memory_agree_with_their_models),
		cmocka_unit_test(the_same_with_a_remote_tier),
	};
	return cmocka_run_group_tests_name("tmem-failure", tests, start_service, NULL);
}
