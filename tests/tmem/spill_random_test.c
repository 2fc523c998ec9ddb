/* Pools that spill, at random against the model, with a backing that fails, and with threads. */
#include "fake_backing.h"
#include "model.h"
#include "pools.h"
#include "sums.h"
#include "with_pages.h"
#include "../../src/tmem/spill.h"
#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)
#define SEGMENT (256u << 10)

static void check(struct quire_tmem *t)
{
	struct quire_tmem_stat s = sums_stat(t);

	assert_non_null(t->spill);
	assert_true(s.held_bytes <= s.budget_bytes);
}

static void random_calls(unsigned n_steps, unsigned fail_one_in)
{
	struct model m = {.random = random_seed(), .spills = true, .io_fails = fail_one_in != 0};
	struct fake_backing f;

	printf("seed %llu\n", (unsigned long long)m.random);
	m.page = malloc(2 << 20);
	m.tmem = make(with_pages(MIB + 3 * MIB / 4, BEGUN_PAGES));
	fake_backing_init(&f, 40, SEGMENT);
	f.fail_one_in = fail_one_in;
	f.random = m.random;
	assert_int_equal(fake_backing_set(&f, m.tmem, 16384), 0);
	for (unsigned i = 0; i < MODEL_POOLS; i++)
		do
			model_make_pool(&m, i);
		while (i == 0 && ((m.options[0].flags & QUIRE_TMEM_SPILL) == 0 || m.options[0].cap_bytes == 0));
	/* Which pools there are, and how small, is chance: with some seeds it takes longer until one has to spill. */
	while (m.n_steps < n_steps || (f.n_writes == 0 && m.n_steps < 20 * n_steps)) {
		model_step(&m);
		if (m.n_steps % 256 == 0)
			check(m.tmem);
	}
	f.fail_one_in = 0;
	m.io_fails = false;
	model_compare(&m);
	assert_true(f.n_writes > 0);
	quire_tmem_destroy(m.tmem);
	fake_backing_fini(&f);
	free(m.page);
}

static unsigned steps(void)
{
	return getenv("QUIRE_TEST_LONG") != NULL ? 2000000 : getenv("QUIRE_SANITIZED") != NULL ? 12000 : 30000;
}

static void random_calls_agree_with_the_model(void **state)
{
	random_calls(steps(), 0);
	(void)state;
}

static void random_calls_agree_though_io_fails(void **state)
{
	random_calls(steps(), 5);
	(void)state;
}

static void threads_agree_with_their_models(void **state)
{
	struct quire_tmem *t = make(with_pages(3 * MIB, 4 * BEGUN_PAGES));
	struct fake_backing f;
	uint64_t seed = random_seed();

	printf("seed %llu\n", (unsigned long long)seed);
	fake_backing_init(&f, 160, SEGMENT);
	assert_int_equal(fake_backing_set(&f, t, 16384), 0);
	model_run_threads(&(struct model){.random = seed, .spills = true, .tmem = t}, steps() / 4);
	check(t);
	quire_tmem_destroy(t);
	fake_backing_fini(&f);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_calls_agree_with_the_model),
		cmocka_unit_test(random_calls_agree_though_io_fails),
		cmocka_unit_test(threads_agree_with_their_models),
	};
	return cmocka_run_group_tests_name("tmem-spill-random", tests, NULL, NULL);
}
