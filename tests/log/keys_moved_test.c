/* keys_moved_test.c - the lists of keys of segments that have moved to another class: they moved along; damaged ones, and keys that no
 * list had room for, are found by the records there. */
#include "keys_env.h"

#include <errno.h>
#include <stdlib.h>

static int set_up(void **state)
{
	struct sim *other;

	assert_int_equal(sim_create(4000 * FORMAT_UNIT_BYTES, 6, NULL, &other), 0);
	return keys_set_up_with(other);
}

static void move_all(struct env *env)
{
	struct quire_log_stat s = stat_of(env);

	assert_true(s.n_sealed > 3);
	assert_true(env_destage(env, UINT64_MAX, QUIRE_CLASS_STAGING) >= (int64_t)s.n_sealed);
}

static void moved(struct env *env, void *arg)
{
	open_keyed(env, false);
	fill_keyed(env, 1500, 300, 600);
	move_all(env);
	expect_all(env, 310);
	fill_keyed(env, 300, 300, 600);
	reopen(env, false);
	assert_true(stat_of(env).n_recovered < 500);
	expect_all(env, 310);
	reopen(env, true);
	expect_all(env, 310);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_lists_move_along(void **state)
{
	env_run(&e, moved, NULL);
}

static void overfull(struct env *env, void *arg)
{
	open_keyed(env, false);
	for (uint32_t i = 0; i < 6000; i++)
		append_keyed(env, i, 3, false);
	assert_int_equal(quire_log_sync(env->log, n_appended - 1, NULL), 0);
	reopen(env, false);
	move_all(env);
	reopen(env, false);
	expect_all(env, 6010);
	assert_int_equal(env_close(env), 0);
}

static void test_records_are_read_where_they_are(void **state)
{
	env_run(&e, overfull, NULL);
}

static void damaged(struct env *env, void *arg)
{
	uint8_t page[FORMAT_UNIT_BYTES];

	open_keyed(env, false);
	fill_keyed(env, 1500, 300, 600);
	reopen(env, false);
	move_all(env);
	assert_int_equal(env_close(env), 0);
	/* The first copy is the first extent of its class. */
	uint64_t at = (FORMAT_RESERVED_UNITS + (uint64_t)format_log_extent_units(SEGMENT)) * FORMAT_UNIT_BYTES;
	sim_peek(env->other, at - FORMAT_UNIT_BYTES, page, sizeof(page));
	assert_memory_equal(page, FORMAT_LOG_FOOTER_MAGIC, 8);
	sim_peek(env->other, at, page, sizeof(page));
	page[5] ^= 1;
	sim_poke(env->other, at, page, sizeof(page));
	open_keyed(env, true);
	expect_all(env, 310);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_check(env, false), 1);
	assert_int_equal(env_close(env), 0);
	/* Who may write makes it again. */
	open_keyed(env, false);
	expect_all(env, 310);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_damaged_list_is_read_around_there_too(void **state)
{
	env_run(&e, damaged, NULL);
}

#define MOVED(name) cmocka_unit_test_setup_teardown(name, set_up, keys_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MOVED(test_lists_move_along),
		MOVED(test_records_are_read_where_they_are),
		MOVED(test_a_damaged_list_is_read_around_there_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
