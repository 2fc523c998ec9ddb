/* dax_test.c - sealed segments read where they lie: what is read once, and what is read again. */
#include "dax_env.h"

#include <stdlib.h>
#include <string.h>

/* ---- what is read once ---- */

static void once(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	uint64_t end = end_of_sealed(env), before = n_fills(env);
	read_some(env, 0, n_records);
	struct quire_log_stat s = stat_of(env);
	assert_int_equal(s.n_direct_reads, end);
	assert_int_equal(s.n_ram_reads, 0);
	assert_int_equal(s.n_promoted, 0);
	assert_int_equal(n_fills(env), before);
	assert_int_equal(env_close(env), 0);
}

static void test_what_is_read_once_is_read_where_it_lies(void **state)
{
	env_run(&e, once, NULL);
}

static void through_cache(struct env *env, void *arg)
{
	open_opts.no_direct = true;
	assert_int_equal(env_open(env), 0);
	uint64_t end = end_of_sealed(env), before = n_fills(env);
	read_some(env, 0, n_records);
	struct quire_log_stat s = stat_of(env);
	assert_int_equal(s.n_direct_reads, 0);
	assert_int_equal(s.n_ram_reads, end);
	assert_true(n_fills(env) > before);
	assert_int_equal(env_close(env), 0);
}

static void test_no_direct_goes_through_the_cache(void **state)
{
	env_run(&e, through_cache, NULL);
}

static void read_only(struct env *env, void *arg)
{
	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(quire_log_open(store_public(env->store), NAME, NULL, &env->log, &env->err), 0);
	assert_int_equal(env_read_all(env, SALT), (int64_t)n_records);
	assert_int_equal(stat_of(env).n_direct_reads, 0);
	assert_int_equal(env_close(env), 0);
}

static void test_beside_a_writer_only_copies_are_read(void **state)
{
	env_run(&e, read_only, NULL);
}

static void both_ways(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(env_read_all(env, SALT), (int64_t)n_records);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_forward_and_backward_again_and_again(void **state)
{
	env_run(&e, both_ways, NULL);
}

static void large(struct env *env, void *arg)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;

	assert_int_equal(env_open(env), 0);
	size_t max = quire_log_max_record(env->log);
	uint8_t *buf = malloc(max);
	uint64_t first = n_records;
	for (unsigned i = 0; i < 4; i++) {
		memset(buf, (int)(i + 1), max);
		assert_int_equal(quire_log_append_nowait(env->log, &(struct iovec){buf, max}, 1, NULL), 0);
	}
	assert_int_equal(quire_log_sync(env->log, first + 3, NULL), 0);
	settle(env);
	for (unsigned pass = 0; pass < 4; pass++) {
		c = cursor(env);
		assert_int_equal(quire_log_seek(c, first), 0);
		for (unsigned i = 0; i < 4; i++) {
			memset(buf, (int)(i + 1), max);
			assert_int_equal(quire_log_next(c, &r, NULL), 1);
			assert_int_equal(r.len_bytes, max);
			assert_memory_equal(r.data, buf, max);
		}
		quire_log_cursor_close(c);
	}
	assert_true(stat_of(env).n_promoted > 0);
	free(buf);
	assert_int_equal(env_close(env), 0);
}

static void test_records_of_a_whole_segment(void **state)
{
	env_run(&e, large, NULL);
}

/* ---- what is read again ---- */

static void again(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	uint64_t lsn = end_of_sealed(env) / 2;
	read_some(env, lsn, 1);
	assert_int_equal(stat_of(env).n_direct_reads, 1);
	assert_int_equal(stat_of(env).n_promoted, 0);
	read_some(env, lsn, 1); /* known: promoted on the way */
	struct quire_log_stat s = stat_of(env);
	assert_true(s.n_promoted >= 1);
	for (unsigned i = 0; i < 10; i++)
		read_some(env, lsn, 1);
	assert_int_equal(stat_of(env).n_ram_reads, s.n_ram_reads + 10);
	assert_int_equal(stat_of(env).n_direct_reads, s.n_direct_reads);
	assert_int_equal(stat_of(env).n_promoted, s.n_promoted);
	assert_int_equal(env_close(env), 0);
}

static void test_what_is_read_again_comes_from_ram(void **state)
{
	env_run(&e, again, NULL);
}

static void scan(struct env *env, void *arg)
{
	struct quire_log_stat s, then;

	assert_int_equal(env_open(env), 0);
	uint64_t end = end_of_sealed(env), hot = end / 3;
	for (unsigned i = 0; i < 4; i++)
		read_some(env, hot, 10);
	s = stat_of(env);
	assert_true(s.n_promoted > 0);
	uint64_t fills = n_fills(env);
	read_some(env, hot + 20, end - hot - 20);
	then = stat_of(env);
	assert_int_equal(then.n_promoted, s.n_promoted);
	assert_int_equal(n_fills(env), fills);
	assert_true(then.n_direct_reads > s.n_direct_reads);
	read_some(env, hot, 10);
	s = stat_of(env);
	assert_int_equal(s.n_ram_reads, then.n_ram_reads + 10);
	assert_int_equal(s.n_direct_reads, then.n_direct_reads);
	assert_int_equal(env_close(env), 0);
}

static void test_a_scan_leaves_what_is_hot_in_ram(void **state)
{
	env_run(&e, scan, NULL);
}

/* Segments come to where others were, on the medium and in the arena: they are not taken for those. */
static void anew(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t first = quire_log_first(env->log), end = end_of_sealed(env);
		read_some(env, first, end - first);
		assert_true(quire_log_trim(env->log, end) > 0);
		for (unsigned k = 0; k < 400; k++, n_records++)
			assert_int_equal(env_append(env, SALT, n_records, false), 0);
		assert_int_equal(quire_log_sync(env->log, n_records - 1, NULL), 0);
		settle(env);
	}
	struct quire_log_stat s = stat_of(env);
	assert_true(s.n_direct_reads > 800);
	assert_int_equal(s.n_promoted, 0);
	assert_int_equal(env_close(env), 0);
}

static void test_what_takes_anothers_place_is_not_known(void **state)
{
	env_run(&e, anew, NULL);
}

/* A window that goes over pages in RAM and others, record by record, each in one piece. */
static void mixed(struct env *env, void *arg)
{
	uint64_t state = 9;

	assert_int_equal(env_open(env), 0);
	uint64_t end = end_of_sealed(env);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t lsn = random_next(&state) % (end - 8);
		read_some(env, lsn, 1 + random_next(&state) % 7);
	}
	struct quire_log_stat s = stat_of(env);
	assert_true(s.n_direct_reads > 0 && s.n_ram_reads > 0);
	assert_int_equal(env_read_all(env, SALT), (int64_t)n_records);
	assert_int_equal(env_close(env), 0);
}

static void test_partly_in_ram(void **state)
{
	env_run(&e, mixed, NULL);
}

/* ---- a disk ---- */

static void on_a_disk(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	for (unsigned i = 0; i < 2; i++)
		read_some(env, 0, n_records);
	struct quire_log_stat s = stat_of(env);
	assert_int_equal(s.n_direct_reads, 0);
	assert_int_equal(s.n_promoted, 0);
	assert_true(s.n_ram_reads > 0);
	assert_int_equal(env_close(env), 0);
}

static void test_without_a_mapping_nothing_is_direct(void **state)
{
	unsigned n = 400;

	env_init(&e, 4, N_UNITS, NULL);
	env_run(&e, build, &n);
	env_run(&e, on_a_disk, NULL);
	env_fini(&e);
}

/* Given a directory: in a file there, mapped. */
int main(int argc, char **argv)
{
	const struct CMUnitTest on_sim[] = {
		ON_SIM(test_what_is_read_once_is_read_where_it_lies),
		ON_SIM(test_no_direct_goes_through_the_cache),
		ON_SIM(test_beside_a_writer_only_copies_are_read),
		ON_SIM(test_forward_and_backward_again_and_again),
		ON_SIM(test_records_of_a_whole_segment),
		ON_SIM(test_what_is_read_again_comes_from_ram),
		ON_SIM(test_a_scan_leaves_what_is_hot_in_ram),
		ON_SIM(test_what_takes_anothers_place_is_not_known),
		ON_SIM(test_partly_in_ram),
		cmocka_unit_test(test_without_a_mapping_nothing_is_direct),
	};
	const struct CMUnitTest in_file[] = {
		IN_FILE(test_what_is_read_once_is_read_where_it_lies),
		IN_FILE(test_no_direct_goes_through_the_cache),
		IN_FILE(test_forward_and_backward_again_and_again),
		IN_FILE(test_records_of_a_whole_segment),
		IN_FILE(test_what_is_read_again_comes_from_ram),
		IN_FILE(test_a_scan_leaves_what_is_hot_in_ram),
		IN_FILE(test_what_takes_anothers_place_is_not_known),
		IN_FILE(test_partly_in_ram),
	};

	if (argc == 1)
		return cmocka_run_group_tests(on_sim, NULL, NULL);
	return can_map_in(argv[1]) ? cmocka_run_group_tests(in_file, NULL, NULL) : 77;
}
