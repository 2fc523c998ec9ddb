/* keys_list_test.c - the lists of keys behind footers: what they have, that did not fit, that are damaged, alone or with the records
 * that could stand in for them. */
#include "keys_env.h"

#include "../../src/store/logs.h"

#include <errno.h>
#include <stdlib.h>

/* The footer of the i-th segment, and where its list is. */
static struct store_log_footer footer_of(struct env *env, unsigned i, uint64_t *ret_segment, uint64_t *ret_list)
{
	struct store_log_segment segments[64];
	struct store_log_footer f;
	struct store_log_info info;
	struct store_log *space;

	assert_int_equal(store_log_find(env->store, KEYED, &info), 0);
	assert_int_equal(store_log_open(env->store, info.id, &space), 0);
	assert_true(store_log_segments(space, segments, 64) > i);
	assert_int_equal(store_log_sealed(space, segments[i].id, &f), 0);
	store_log_close(space);
	free(f.marks);
	f.marks = NULL;
	*ret_segment = segments[i].offset;
	*ret_list = segments[i].offset + (uint64_t)format_log_extent_units(SEGMENT) * FORMAT_UNIT_BYTES;
	return f;
}

static void overfull(struct env *env, void *arg)
{
	uint64_t segment, list;

	open_keyed(env, false);
	for (uint32_t i = 0; i < 3000; i++)
		append_keyed(env, i, 3, false);
	expect_all(env, 3010);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(footer_of(env, 0, &segment, &list).n_keys, FORMAT_LOG_KEYS_UNLISTED);
	assert_int_equal(env_close(env), 0);
	open_keyed(env, false);
	expect_all(env, 3010);
	reopen(env, true);
	expect_all(env, 3010);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_more_keys_than_a_list_has_room_for(void **state)
{
	env_run(&e, overfull, NULL);
}

static void flip(struct env *env, uint64_t offset)
{
	uint8_t byte;

	sim_peek(env->sim, offset, &byte, 1);
	byte ^= 4;
	sim_poke(env->sim, offset, &byte, 1);
}

static void same_key_again(struct env *env, void *arg)
{
	uint64_t segment, list;

	/* One key fills a list of one, and what is durable behind the segment needs none of it. */
	open_keyed(env, false);
	for (uint32_t i = 0; i < 600; i++)
		append_keyed(env, i % 100 == 0 ? 1 + i / 100 : 0, 400, true);
	assert_int_equal(env_close_log(env), 0);
	struct store_log_footer f = footer_of(env, 0, &segment, &list);
	assert_true(f.n_keys >= 1 && f.n_keys <= 3);
	assert_int_equal(env_close(env), 0);
	open_keyed(env, false);
	expect_all(env, 8);
	assert_int_equal(env_close(env), 0);
}

static void test_a_list_has_what_is_needed(void **state)
{
	env_run(&e, same_key_again, NULL);
}

static void overtaken(struct env *env, void *arg)
{
	uint64_t segment, list;

	/* The newest record with the key is found when the segment is sealed, and is lost with the power. */
	open_keyed(env, false);
	append_keyed(env, 7, 10, true);
	struct quire_log_segment s[2];
	while (quire_log_segments(env->log, s, 2) < 2)
		append_keyed(env, 1, 2000, false);
	assert_int_equal(quire_log_sync(env->log, n_appended - 1, NULL), 0);
	append_keyed(env, 7, 10, false);
	expect_newest(env, 7, QUIRE_LOG_VISIBLE, (int64_t)n_appended - 1);
	expect_newest(env, 7, QUIRE_LOG_DURABLE, 0);
	while (stat_of(env).n_seals == 0)
		assert_int_equal(quire_co_yield(), 0);
	assert_int_equal(quire_log_durable(env->log), n_appended - 1);
	sim_cut(env->sim, 0);
	assert_int_equal(env_close(env), -EIO);
	n_appended--;
	open_keyed(env, false);
	expect_all(env, 10);
	expect_newest(env, 7, QUIRE_LOG_VISIBLE, 0);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(footer_of(env, 0, &segment, &list).n_keys, 1); /* the other is found behind it */
	assert_int_equal(env_close(env), 0);
}

static void test_a_list_has_what_a_crash_may_bring_back(void **state)
{
	env_run(&e, overtaken, NULL);
}

static void damaged_list(struct env *env, void *arg)
{
	uint64_t segment, list;

	open_keyed(env, false);
	fill_keyed(env, 1000, 300, 600);
	assert_int_equal(env_close_log(env), 0);
	struct store_log_footer f = footer_of(env, 1, &segment, &list);
	assert_true(f.n_keys > 20 && f.n_keys < 300);
	assert_int_equal(env_check(env, true), 0);
	flip(env, list + f.n_keys * 12 - 1);
	assert_int_equal(env_check(env, false), 1);
	assert_int_equal(env_close(env), 0);
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
	flip(env, list + f.n_keys * 12 - 1);
	flip(env, list);
	open_keyed(env, false);
	expect_all(env, 310);
	assert_int_equal(env_close(env), 0);
}

static void test_a_damaged_list_is_read_around(void **state)
{
	env_run(&e, damaged_list, NULL);
}

static void damaged_both(struct env *env, void *arg)
{
	uint64_t segment, list, first;

	open_keyed(env, false);
	fill_keyed(env, 1500, 1000, 600);
	assert_int_equal(env_close_log(env), 0);
	struct store_log_footer f = footer_of(env, 2, &segment, &list);
	flip(env, list);
	flip(env, segment + SEGMENT / 2 + 5);
	assert_int_equal(env_close(env), 0);
	open_keyed(env, false);
	first = quire_log_first(env->log);
	for (uint32_t no = 0; no < 1010; no++) {
		int64_t want = newest(no, first, n_appended);
		expect_newest(env, no, QUIRE_LOG_VISIBLE, want >= (int64_t)f.end_no ? want : -EBADMSG);
	}
	/* Without that segment all is known again. */
	assert_int_equal(quire_log_trim(env->log, f.end_no), 3);
	expect_all(env, 1010);
	assert_int_equal(env_close(env), 0);
}

static void test_list_and_records_damaged(void **state)
{
	env_run(&e, damaged_both, NULL);
}

static void damaged_footer(struct env *env, void *arg)
{
	uint64_t segment, list;

	open_keyed(env, false);
	fill_keyed(env, 1500, 1000, 600);
	assert_int_equal(env_close_log(env), 0);
	uint32_t n_keys = footer_of(env, 1, &segment, &list).n_keys;
	flip(env, list - FORMAT_UNIT_BYTES + 70);
	assert_int_equal(env_close(env), 0);
	open_keyed(env, true);
	expect_all(env, 1010);
	reopen(env, false);
	expect_all(env, 1010);
	assert_int_equal(env_close_log(env), 0);
	assert_true(footer_of(env, 1, &segment, &list).n_keys >= n_keys);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
	open_keyed(env, false);
	expect_all(env, 1010);
	assert_int_equal(env_close(env), 0);
}

static void test_a_mended_footer_has_a_list(void **state)
{
	env_run(&e, damaged_footer, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(more_keys_than_a_list_has_room_for),
		TEST(a_list_has_what_is_needed),
		TEST(a_list_has_what_a_crash_may_bring_back),
		TEST(a_damaged_list_is_read_around),
		TEST(list_and_records_damaged),
		TEST(a_mended_footer_has_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
