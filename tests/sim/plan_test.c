/* plan_test.c - what is left out of a history is left out, and all else is as it was. */
#include "plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SEEDS 500u

static struct plan whole, part;

static void make(uint64_t seed, unsigned faults)
{
	const struct plan_less none = {0}, less = {.faults = faults};

	plan_make(&whole, seed, &none);
	plan_make(&part, seed, &less);
}

/* Of a life that is another only by its end and its faults. */
static void verify_rest_is_same(unsigned life)
{
	struct plan_life a = whole.lives[life], b = part.lives[life];

	assert_int_equal(a.cut_class, b.cut_class);
	assert_int_equal(a.cut_after, b.cut_after);
	assert_int_equal(a.cut_choice, b.cut_choice);
	assert_int_equal(a.rate, b.rate);
	assert_int_equal(a.random, b.random);
}

static void test_ends_are_left_out_with_their_faults(void **state)
{
	unsigned n_cuts = 0, n_deaths = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		make(seed, 1u << FAULT_CUT | 1u << FAULT_DEATH);
		assert_int_equal(part.n_lives, whole.n_lives);
		for (unsigned i = 0; i < part.n_lives; i++) {
			n_cuts += whole.lives[i].end == END_CUT || whole.lives[i].end == END_CUT_IDLE;
			n_deaths += whole.lives[i].end == END_DEATH;
			assert_int_equal(part.lives[i].end, END_CLOSE);
			verify_rest_is_same(i);
		}
	}
	assert_true(n_cuts > 0 && n_deaths > 0);
	(void)state;
}

static void test_other_ends_stay(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		make(seed, 1u << FAULT_DEATH);
		for (unsigned i = 0; i < part.n_lives; i++) {
			bool was_cut = whole.lives[i].end == END_CUT || whole.lives[i].end == END_CUT_IDLE;
			assert_true(part.lives[i].end != END_DEATH);
			assert_true(!was_cut || part.lives[i].end != END_CLOSE);
			verify_rest_is_same(i);
		}
	}
	(void)state;
}

/* Operations keep their numbers: those of a history of whose faults some are left out include all that it had. */
static void test_operations_stay(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		unsigned at = 0;
		make(seed, 1u << FAULT_CUT | 1u << FAULT_DEATH);
		for (unsigned i = 0; i < part.n_ops && at < whole.n_ops; i++)
			at += memcmp(&part.ops[i], &whole.ops[at], sizeof(whole.ops[at])) == 0;
		assert_int_equal(at, whole.n_ops);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_are_left_out_with_their_faults),
		cmocka_unit_test(test_other_ends_stay),
		cmocka_unit_test(test_operations_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
