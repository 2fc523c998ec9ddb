/* What the ghost remembers, for how long, and for how much memory. */
#include "../../src/base/ghost.h"
#include "cmocka_env.h"

static void knows_what_left_lately_once(void **state)
{
	struct ghost ghost = {0};
	ghost_resize(&ghost, 1000);
	ghost_add(&ghost, 5);
	assert_true(ghost_take(&ghost, 5));
	assert_false(ghost_take(&ghost, 5));
	assert_false(ghost_take(&ghost, 6));
	ghost_fini(&ghost);
}

static void added_twice_is_known_once(void **state)
{
	struct ghost ghost = {0};
	ghost_resize(&ghost, 1000);
	ghost_add(&ghost, 5);
	ghost_add(&ghost, 5);
	assert_true(ghost_take(&ghost, 5));
	assert_false(ghost_take(&ghost, 5));
	ghost_fini(&ghost);
}

static void forgets_the_oldest_and_keeps_most_of_the_newest(void **state)
{
	enum { N = 10000 };
	struct ghost ghost = {0};
	unsigned n_new = 0, n_old = 0;
	ghost_resize(&ghost, N);
	for (uint64_t page = 0; page < 10 * N; page++)
		ghost_add(&ghost, page);
	for (uint64_t page = 0; page < N; page++)
		n_old += ghost_take(&ghost, page);
	for (uint64_t page = 10 * N - N / 2; page < 10 * N; page++)
		n_new += ghost_take(&ghost, page);
	assert_true(n_old < N / 100);
	assert_true(n_new > N / 2 * 9 / 10);
	ghost_fini(&ghost);
}

static void strangers_are_hardly_ever_known(void **state)
{
	enum { N = 100000 };
	struct ghost ghost = {0};
	unsigned n_wrong = 0;
	ghost_resize(&ghost, N);
	for (uint64_t page = 0; page < N; page++)
		ghost_add(&ghost, page);
	for (uint64_t page = N; page < 11 * N; page++)
		n_wrong += ghost_take(&ghost, page);
	assert_true(n_wrong <= 3);
	ghost_fini(&ghost);
}

static void costs_four_bytes_a_page(void **state)
{
	struct ghost ghost = {0};
	ghost_resize(&ghost, 80000);
	assert_int_equal(ghost_bytes(&ghost), 320000);
	ghost_fini(&ghost);
	assert_int_equal(ghost_bytes(&ghost), 0);
}

static void small_changes_of_size_keep_it(void **state)
{
	struct ghost ghost = {0};
	ghost_resize(&ghost, 1000);
	ghost_add(&ghost, 5);
	ghost_resize(&ghost, 1100);
	ghost_resize(&ghost, 900);
	assert_true(ghost_take(&ghost, 5));
	ghost_resize(&ghost, 0);
	assert_int_equal(ghost_bytes(&ghost), 0);
	ghost_fini(&ghost);
}

static void without_memory_it_knows_nothing(void **state)
{
	struct ghost ghost = {0};
	ghost_add(&ghost, 5);
	assert_false(ghost_take(&ghost, 5));
	ghost_fini(&ghost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_what_left_lately_once),
		cmocka_unit_test(added_twice_is_known_once),
		cmocka_unit_test(forgets_the_oldest_and_keeps_most_of_the_newest),
		cmocka_unit_test(strangers_are_hardly_ever_known),
		cmocka_unit_test(costs_four_bytes_a_page),
		cmocka_unit_test(small_changes_of_size_keep_it),
		cmocka_unit_test(without_memory_it_knows_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
