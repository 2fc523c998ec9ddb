/* The space allocator against a model: a map of units, each free or of one allocation. */
#include "../support/files.h"

#include "../../src/cache/space.h"

#include <errno.h>
#include <stdlib.h>

#define N_UNITS 2000

static struct space space;
static unsigned char taken[N_UNITS];

static int make_space(void **state)
{
	for (unsigned i = 0; i < N_UNITS; i++)
		taken[i] = 0;
	return space_init(&space, N_UNITS);
}

static int drop_space(void **state)
{
	space_fini(&space);
	return 0;
}

/* The list is what the model says is free: sorted, never adjacent, complete. */
static void check(void)
{
	uint64_t at = 0;

	assert_true(space.capacity > space.n_taken + 1);
	for (size_t i = 0; i < space.n_free; i++) {
		const struct space_extent *e = &space.free[i];

		assert_true(e->n > 0 && e->first + e->n <= N_UNITS);
		assert_true(i == 0 || e->first > at);
		for (; at < e->first; at++)
			assert_int_equal(taken[at], 1);
		for (; at < e->first + e->n; at++)
			assert_int_equal(taken[at], 0);
	}
	for (; at < N_UNITS; at++)
		assert_int_equal(taken[at], 1);
}

static int get(uint64_t n, uint64_t *ret_first)
{
	int rc = space_get(&space, n, ret_first);

	if (rc == 0) {
		for (uint64_t i = *ret_first; i < *ret_first + n; i++) {
			assert_int_equal(taken[i], 0);
			taken[i] = 1;
		}
	}
	return rc;
}

static void put(uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++)
		taken[i] = 0;
	space_put(&space, first, n);
}

static uint64_t longest_free(void)
{
	uint64_t best = 0, run = 0;

	for (unsigned i = 0; i < N_UNITS; i++) {
		run = taken[i] ? 0 : run + 1;
		best = run > best ? run : best;
	}
	return best;
}

static void all_of_it(void **state)
{
	uint64_t first;

	assert_int_equal(get(N_UNITS, &first), 0);
	assert_int_equal(first, 0);
	check();
	assert_int_equal(get(1, &first), -ENOMEM);
	put(0, N_UNITS);
	check();
	assert_int_equal(get(N_UNITS, &first), 0);
}

static void lowest_that_fits(void **state)
{
	uint64_t a, b, c, d;

	assert_int_equal(get(10, &a), 0);
	assert_int_equal(get(20, &b), 0);
	assert_int_equal(get(30, &c), 0);
	put(a, 10);
	put(c, 30);
	assert_int_equal(get(15, &d), 0);
	assert_int_equal(d, 30);
	assert_int_equal(get(10, &d), 0);
	assert_int_equal(d, 0);
	check();
}

static void neighbours_merge_in_any_order(void **state)
{
	static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
	                                      {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	for (unsigned o = 0; o < 6; o++) {
		uint64_t first[3], fence;

		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(get(5, &first[i]), 0);
		assert_int_equal(get(1, &fence), 0);
		for (unsigned i = 0; i < 3; i++) {
			put(first[orders[o][i]], 5);
			check();
		}
		put(fence, 1);
		check();
		assert_int_equal(space.n_free, 1);
	}
}

static void single_units_and_a_comb(void **state)
{
	uint64_t first;

	for (unsigned i = 0; i < N_UNITS; i++)
		assert_int_equal(get(1, &first), 0);
	for (unsigned i = 0; i < N_UNITS; i += 2) /* the most extents there can be */
		put(i, 1);
	check();
	assert_int_equal(space.n_free, N_UNITS / 2);
	assert_int_equal(get(2, &first), -ENOMEM);
	for (unsigned i = 1; i < N_UNITS; i += 2)
		put(i, 1);
	check();
	assert_int_equal(space.n_free, 1);
}

static void random_model(void **state)
{
	struct { uint64_t first, n; } live[500];
	unsigned n_live = 0;

	srandom(42);
	for (unsigned step = 0; step < 20000; step++) {
		if (n_live < 500 && random() % 100 < 52) {
			uint64_t n = (uint64_t)(1 + random() % (random() % 50 == 0 ? 400 : 12)), first;
			uint64_t longest = longest_free();
			int rc = get(n, &first);

			assert_int_equal(rc, longest >= n ? 0 : -ENOMEM);
			if (rc == 0) {
				live[n_live].first = first;
				live[n_live++].n = n;
			}
		} else if (n_live > 0) {
			unsigned i = (unsigned)random() % n_live;

			put(live[i].first, live[i].n);
			live[i] = live[--n_live];
		}
		if (step % 16 == 0)
			check();
	}
	while (n_live > 0) {
		n_live--;
		put(live[n_live].first, live[n_live].n);
	}
	check();
	assert_int_equal(space.n_free, 1);
}

#define WITH_SPACE(test) cmocka_unit_test_setup_teardown(test, make_space, drop_space)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SPACE(all_of_it),
		WITH_SPACE(lowest_that_fits),
		WITH_SPACE(neighbours_merge_in_any_order),
		WITH_SPACE(single_units_and_a_comb),
		WITH_SPACE(random_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
