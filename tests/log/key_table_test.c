/* key_table_test.c - the table of hashes against an array, also where all hashes crowd in one place; what leaves it, and what
 * memory it takes. */
#include "log_env.h"

#include "../../src/log/key_table.h"

#include <stdlib.h>

#define N 4096u

static struct key_table t;
static uint64_t newest[N]; /* lsn + 1; 0: none */

static int set_up(void **state)
{
	assert_int_equal(t.n, 0);
	for (unsigned i = 0; i < N; i++)
		newest[i] = 0;
	return 0;
}

static int tear_down(void **state)
{
	key_table_fini(&t);
	assert_int_equal(t.slots_bytes, 0);
	return 0;
}

static void put(uint64_t hash, unsigned i, uint64_t lsn, uint64_t first)
{
	uint64_t old;

	assert_int_equal(key_table_put(&t, hash, lsn, first, &old), 0);
	if (newest[i] > first || old != KEY_TABLE_NONE)
		assert_true(old == newest[i] - 1);
	if (lsn + 1 > newest[i])
		newest[i] = lsn + 1;
}

static void verify(uint64_t (*hash_of)(unsigned i), uint64_t first)
{
	assert_true(key_table_check(&t));
	for (unsigned i = 0; i < N; i++) {
		uint64_t lsn = key_table_get(&t, hash_of(i));
		if (newest[i] > first)
			assert_true(lsn == newest[i] - 1);
		else
			assert_true(lsn == KEY_TABLE_NONE || lsn < first);
	}
}

static void fill_and_purge(uint64_t (*hash_of)(unsigned i))
{
	uint64_t state = random_seed(), first = 0;

	for (uint64_t lsn = 0; lsn < 6 * N; lsn++) {
		unsigned i = (unsigned)(random_next(&state) % N);
		put(hash_of(i), i, random_next(&state) % 8 == 0 && lsn > first + 5 ? lsn - 5 : lsn, first);
		if (lsn % 2048 != 2047)
			continue;
		first = lsn - N;
		if (lsn < N)
			first = 0;
		verify(hash_of, first);
		if (lsn % 4096 != 4095)
			continue;
		for (unsigned k = 0; k < KEY_TABLE_SHARDS; k++)
			(void)key_table_purge(&t, k, first);
		verify(hash_of, first);
		uint64_t n = 0;
		for (unsigned k = 0; k < N; k++)
			n += newest[k] > first;
		assert_int_equal(t.n, n);
	}
	for (unsigned k = 0; k < KEY_TABLE_SHARDS; k++)
		(void)key_table_purge(&t, k, 10 * N);
	assert_int_equal(t.n, 0);
	assert_int_equal(t.slots_bytes, 0);
}

static uint64_t spread(unsigned i)
{
	uint64_t state = i;

	return random_next(&state);
}

static uint64_t crowded(unsigned i)
{
	return i % 2 == 0 ? i : UINT64_MAX - i; /* at the start of the first, the end of the last */
}

static void test_spread_hashes(void **state)
{
	fill_and_purge(spread);
}

static void test_hashes_that_crowd(void **state)
{
	fill_and_purge(crowded);
}

static void test_bytes_a_key(void **state)
{
	uint64_t old, n = 300000;

	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(key_table_put(&t, spread((unsigned)i), i, 0, &old), 0);
	assert_int_equal(t.n, n);
	assert_true(t.slots_bytes <= n * 25);
	assert_true(t.slots_bytes >= n * 20);
}

static void test_growing_drops_what_is_of_no_use(void **state)
{
	uint64_t old, state_ = 3, most = 0;

	for (uint64_t lsn = 0; lsn < 200000; lsn++) {
		assert_int_equal(key_table_put(&t, random_next(&state_), lsn, lsn > 20000 ? lsn - 20000 : 0, &old), 0);
		most = t.slots_bytes > most ? t.slots_bytes : most;
	}
	assert_true(most < 20000 * 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_spread_hashes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hashes_that_crowd, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bytes_a_key, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_growing_drops_what_is_of_no_use, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
