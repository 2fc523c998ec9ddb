/* Pools whose evicted pages go to a remote tier, at random against the model: the tier loses, delays, damages and confuses values. */
#include "fake_remote.h"
#include "model.h"
#include "pools.h"
#include "sums.h"
#include "with_pages.h"
#include "../../src/tmem/remote_tier.h"
#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)
#define QUEUE (128u << 10)

static void check(struct quire_tmem *t)
{
	struct quire_tmem_stat s = sums_stat(t);

	assert_non_null(t->remote);
	assert_true(s.held_bytes <= s.budget_bytes);
}

static unsigned steps(void)
{
	return getenv("QUIRE_TEST_LONG") != NULL ? 2000000 : getenv("QUIRE_SANITIZED") != NULL ? 12000 : 20000;
}

static struct fake_remote *make_remote(struct quire_tmem *t, uint64_t random, unsigned bad_one_in)
{
	struct fake_remote *f = malloc(sizeof(*f));

	assert_non_null(f);
	fake_remote_init(f);
	f->random = random;
	f->bad_one_in = bad_one_in;
	f->late_one_in = bad_one_in == 0 ? 0 : 200;
	f->late_us = 100;
	assert_int_equal(fake_remote_set(f, t, QUEUE), 0);
	return f;
}

static void end_remote(struct fake_remote *f)
{
	fake_remote_fini(f);
	free(f);
}

/* Whatever the model has set, pages are evicted. */
static void squeeze(struct model *m)
{
	for (unsigned i = 0; i < 3; i++)
		(void)quire_tmem_pool_set_cap(m->pools[i], with_pages(24 * 1024 + 16 * (uint64_t)m->options[i].page_bytes, POOL_PAGES));
}

static void random_calls(unsigned bad_one_in)
{
	struct model m = {.random = random_seed(), .remotes = true, .keeps_pools = true};
	struct quire_tmem_stat s;

	printf("seed %llu\n", (unsigned long long)m.random);
	m.page = malloc(2 << 20);
	m.tmem = make(with_pages(2 * MIB + MIB / 2, BEGUN_PAGES));
	struct fake_remote *f = make_remote(m.tmem, m.random, bad_one_in);
	for (unsigned i = 0; i < MODEL_POOLS; i++)
		do
			model_make_pool(&m, i);
		while (i < 3 && ((m.options[i].flags & (QUIRE_TMEM_REMOTE | QUIRE_TMEM_COLD)) != QUIRE_TMEM_REMOTE || m.options[i].cap_bytes != 0));
	while (m.n_steps < steps()) {
		model_step(&m);
		/* However busy the machine, something is sent. */
		if (m.n_steps % 32 == 0)
			fake_remote_settle(m.tmem);
		if (m.n_steps % 256 == 0) {
			check(m.tmem);
			squeeze(&m);
		}
	}
	quire_tmem_stat(m.tmem, &s);
	print_message("evicted %u, sent %u, hits %u, misses %u, errors %u, of them wrong %u\n", (unsigned)s.n_evicted, (unsigned)s.n_remote_sent, (unsigned)s.n_remote_hits,
	              (unsigned)s.n_remote_misses, (unsigned)s.n_remote_errors, f->n_wrong);
	assert_true(s.n_remote_hits > 0 && s.n_remote_sent > 0);
	assert_true(bad_one_in == 0 ? s.n_remote_errors == 0 : s.n_remote_errors > 0);
	model_compare(&m);
	quire_tmem_destroy(m.tmem);
	end_remote(f);
	free(m.page);
}

static void random_calls_agree_with_the_model(void **state)
{
	random_calls(0);
	(void)state;
}

static void random_calls_agree_with_a_tier_that_lies(void **state)
{
	random_calls(3);
	(void)state;
}

static void threads_agree_with_their_models(void **state)
{
	struct quire_tmem *t = make(with_pages(5 * MIB, 4 * BEGUN_PAGES));
	uint64_t seed = random_seed();
	struct fake_remote *f = make_remote(t, seed, 4);

	printf("seed %llu\n", (unsigned long long)seed);
	model_run_threads(&(struct model){.random = seed, .remotes = true, .tmem = t}, steps() / 4);
	fake_remote_settle(t);
	check(t);
	quire_tmem_destroy(t);
	end_remote(f);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_calls_agree_with_the_model),
		cmocka_unit_test(random_calls_agree_with_a_tier_that_lies),
		cmocka_unit_test(threads_agree_with_their_models),
	};
	return cmocka_run_group_tests_name("tmem-remote-random", tests, NULL, NULL);
}
