/* What the ghost remembers, for how long, and for how much memory. */
#include "../../src/base/ghost.h"
#include "cmocka_env.h"

#include <unistd.h>

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

static unsigned take_all(struct ghost *ghost, uint64_t from, uint64_t to)
{
	unsigned n = 0;
	for (uint64_t page = from; page < to; page++)
		n += ghost_take(ghost, page);
	assert_true(ghost_check(ghost));
	return n;
}

/* To a 32nd, but for the few that were in crowded buckets. */
static void forgets_in_the_order_of_entry(void **state)
{
	enum { N = 10000 };
	struct ghost ghost = {0};
	ghost_resize(&ghost, N);
	for (uint64_t page = 0; page < 10 * N; page++)
		ghost_add(&ghost, page);
	assert_true(ghost_check(&ghost));
	assert_true(take_all(&ghost, 0, 9 * N - N / 20) <= 1); /* taken for another */
	assert_true(take_all(&ghost, 9 * N, 10 * N) > N * 98 / 100);
	ghost_fini(&ghost);
}

/* Nine of ten are taken while they are new: the others are remembered ten times as long, or
 * as long as there are epochs: four times. */
static void what_was_taken_makes_room_for_older_ones(void **state)
{
	enum { N = 10000, ALL = 20 * N };
	struct ghost ghost = {0};
	ghost_resize(&ghost, N);
	for (uint64_t page = 0; page < ALL; page++) {
		ghost_add(&ghost, page);
		if (page % 10 != 0)
			assert_true(ghost_take(&ghost, page));
	}
	assert_true(take_all(&ghost, ALL - 3 * N, ALL) > 3 * N / 10 * 98 / 100);
	assert_true(take_all(&ghost, 0, ALL - 4 * N - N / 10) <= 1);
	ghost_fini(&ghost);
}

static void invariants_hold_whatever_is_done(void **state)
{
	struct ghost ghost = {0};
	uint64_t random = 1;
	for (unsigned i = 0; i < 200000; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		uint64_t page = random >> 40 & 8191;
		if (random >> 60 < 9)
			ghost_add(&ghost, page);
		else
			ghost_take(&ghost, page);
		if (i % 100 == 0)
			assert_true(ghost_check(&ghost));
		if (i % 1000 == 0)
			ghost_resize(&ghost, random >> 33 & 2047);
	}
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

static void costs_six_bytes_a_page_in_whole_pages(void **state)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	struct ghost ghost = {0};
	ghost_resize(&ghost, 80000);
	assert_int_equal(ghost_bytes(&ghost), (480000 + page_bytes - 1) / page_bytes * page_bytes);
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
		cmocka_unit_test(forgets_in_the_order_of_entry),
		cmocka_unit_test(what_was_taken_makes_room_for_older_ones),
		cmocka_unit_test(invariants_hold_whatever_is_done),
		cmocka_unit_test(strangers_are_hardly_ever_known),
		cmocka_unit_test(costs_six_bytes_a_page_in_whole_pages),
		cmocka_unit_test(small_changes_of_size_keep_it),
		cmocka_unit_test(without_memory_it_knows_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
