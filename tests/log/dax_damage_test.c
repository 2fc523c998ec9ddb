/* dax_damage_test.c - segments read where they lie: damage, on the medium and below what is in RAM; and who holds one that is
 * removed. */
#include "dax_env.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- damage ---- */

/* Reads every sealed record, alone and in order; counts those that were refused. No other error, no wrong byte. */
static unsigned count_bad(struct env *env, uint64_t end, uint64_t page_at)
{
	struct quire_log_cursor *c = cursor(env);
	struct quire_log_record r;
	struct quire_error err;
	unsigned n_bad = 0;

	for (uint64_t lsn = 0; lsn < end; lsn++) {
		assert_int_equal(quire_log_seek(c, lsn), 0);
		int64_t rc = quire_log_next(c, &r, NULL);
		if (rc == 1) {
			assert_true(record_is(SALT, &r));
			assert_int_equal(quire_log_cursor_error(c, &err), -ENODATA);
			continue;
		}
		assert_int_equal(rc, -EBADMSG);
		char place[64];
		snprintf(place, sizeof(place), " of class capacity at %llu: ", (unsigned long long)page_at);
		assert_int_equal(quire_log_cursor_error(c, &err), 0);
		assert_int_equal(err.code, -EBADMSG);
		if (page_at != UINT64_MAX && strstr(err.text, place) == NULL)
			fail_msg("%s lacks %s", err.text, place);
		n_bad++;
	}
	quire_log_cursor_close(c);
	return n_bad;
}

static void read_until_bad(struct env *env)
{
	struct quire_log_cursor *c = cursor(env);
	struct quire_log_record r;
	int64_t rc;

	while ((rc = quire_log_next(c, &r, NULL)) == 1)
		assert_true(record_is(SALT, &r));
	assert_int_equal(rc, -EBADMSG);
	quire_log_cursor_close(c);
}

static void damaged(struct env *env, void *arg)
{
	open_opts.no_direct = arg != NULL;
	assert_int_equal(env_open(env), 0);
	uint64_t end = end_of_sealed(env), at = first_at + 5 * PAGE + 70;
	change_byte(at);
	read_until_bad(env);
	unsigned n = count_bad(env, end, 5 * PAGE);
	/* Those that touch the page, and those that a walk from the mark before has to pass it for. */
	assert_true(n > 0 && n < 24);
	assert_int_equal(stat_of(env).n_direct_reads > 0, arg == NULL);
	assert_int_equal(count_bad(env, end, 5 * PAGE), n);
	change_byte(at);
	assert_int_equal(count_bad(env, end, 0), 0);
	/* Of the checksums: everything that they are of. */
	uint64_t sums_at = first_at + SEGMENT + 12;
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	change_byte(sums_at);
	struct quire_log_segment s;
	assert_true(quire_log_segments(env->log, &s, 1) > 1);
	assert_int_equal(count_bad(env, s.end_lsn, UINT64_MAX), s.end_lsn);
	change_byte(sums_at);
	assert_int_equal(env_read_all(env, SALT), (int64_t)n_records);
	assert_int_equal(env_close(env), 0);
}

static void test_damage_is_an_error_with_a_place(void **state)
{
	env_run(&e, damaged, NULL);
}

static void test_damage_is_the_same_through_the_cache(void **state)
{
	env_run(&e, damaged, &e);
}

static void damaged_below_ram(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	for (unsigned i = 0; i < 3; i++)
		read_some(env, 0, 10);
	struct quire_log_stat s = stat_of(env);
	change_byte(first_at + PAGE + 100);
	read_some(env, 0, 10); /* what is in RAM was verified */
	assert_int_equal(stat_of(env).n_direct_reads, s.n_direct_reads);
	assert_int_equal(env_close(env), 0);
}

static void test_what_is_in_ram_outlives_its_medium(void **state)
{
	env_run(&e, damaged_below_ram, NULL);
}

static void rotting(struct env *env, void *arg)
{
	struct sim_faults faults = {.bit_rot = UINT32_MAX / 4};
	struct quire_log_record r;
	uint64_t state = 5;
	unsigned n_bad = 0;

	assert_int_equal(env_open(env), 0);
	uint64_t end = end_of_sealed(env);
	sim_set_faults(env->sim, &faults);
	struct quire_log_cursor *c = cursor(env);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(quire_log_seek(c, random_next(&state) % end), 0);
		int64_t rc = quire_log_next(c, &r, NULL);
		assert_true(rc == 1 ? record_is(SALT, &r) : rc == -EBADMSG);
		n_bad += rc < 0;
	}
	assert_true(n_bad > 0);
	quire_log_cursor_close(c);
	sim_set_faults(env->sim, NULL);
	assert_int_equal(env_close(env), 0);
}

static void test_bits_that_flip_while_reading(void **state)
{
	env_run(&e, rotting, NULL);
}

static void not_to_be_had(struct env *env, void *arg)
{
	struct sim_faults faults = {.eio_read = UINT32_MAX};
	struct quire_log_record r;
	struct quire_error err;

	assert_int_equal(env_open(env), 0);
	struct quire_log_cursor *c = cursor(env);
	sim_set_faults(env->sim, &faults);
	assert_int_equal(quire_log_next(c, &r, NULL), -EIO);
	assert_int_equal(quire_log_cursor_error(c, &err), 0);
	assert_int_equal(err.code, -EIO);
	sim_set_faults(env->sim, NULL);
	assert_int_equal(quire_log_next(c, &r, NULL), 1);
	assert_true(record_is(SALT, &r));
	quire_log_cursor_close(c);
	assert_int_equal(env_close(env), 0);
}

static void test_what_can_not_be_mapped_is_read(void **state)
{
	env_run(&e, not_to_be_had, NULL);
}

/* ---- who holds a segment ---- */

static uint64_t pending_bytes(struct env *env)
{
	struct store_stat s;

	store_settle(env->store);
	store_stat(env->store, &s);
	return s.classes[0].pending_bytes;
}

static void held(struct env *env, void *arg)
{
	struct quire_log_segment s[2];
	struct quire_log_record r, other;

	open_opts.no_direct = arg != NULL;
	assert_int_equal(env_open(env), 0);
	struct quire_log_cursor *c = cursor(env);
	assert_true(quire_log_segments(env->log, s, 2) > 4);
	assert_int_equal(quire_log_seek(c, 3), 0);
	assert_int_equal(quire_log_next(c, &r, NULL), 1);
	assert_int_equal(pending_bytes(env), 0);

	/* Retention does not wait for who reads. */
	assert_int_equal(quire_log_trim(env->log, s[1].end_lsn), 2);
	assert_int_equal(quire_log_first(env->log), s[1].end_lsn);
	assert_int_equal(stat_of(env).first_lsn, s[1].end_lsn);
	/* Release does: of the segment that is held, not of the other. */
	uint64_t extent = (uint64_t)format_log_extent_units(SEGMENT) * FORMAT_UNIT_BYTES;
	assert_int_equal(pending_bytes(env), extent);

	/* Others may write where space is free: not there. */
	for (unsigned i = 0; i < 400; i++, n_records++)
		assert_int_equal(env_append(env, SALT, n_records, false), 0);
	assert_int_equal(quire_log_sync(env->log, n_records - 1, NULL), 0);
	assert_true(record_is(SALT, &r));
	assert_int_equal(quire_log_next(c, &other, NULL), -ESTALE);
	assert_true(record_is(SALT, &r)); /* it has not moved */
	assert_int_equal(pending_bytes(env), extent);

	/* It moves on. */
	assert_int_equal(quire_log_seek(c, quire_log_first(env->log)), 0);
	assert_int_equal(quire_log_next(c, &other, NULL), 1);
	assert_true(record_is(SALT, &other));
	assert_int_equal(quire_log_retain(env->log), 0);
	assert_int_equal(quire_log_trim(env->log, 0), 0); /* frees what is dead */
	assert_int_equal(pending_bytes(env), 0);
	quire_log_cursor_close(c);
	assert_int_equal(env_read_all(env, SALT), (int64_t)(n_records - s[1].end_lsn));
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_reader_delays_release_not_retention(void **state)
{
	env_run(&e, held, NULL);
}

static void test_the_same_in_ram(void **state)
{
	env_run(&e, held, &e);
}

/* Given a directory: in a file there, mapped. */
int main(int argc, char **argv)
{
	const struct CMUnitTest on_sim[] = {
		ON_SIM(test_damage_is_an_error_with_a_place),
		ON_SIM(test_damage_is_the_same_through_the_cache),
		ON_SIM(test_what_is_in_ram_outlives_its_medium),
		ON_SIM(test_bits_that_flip_while_reading),
		ON_SIM(test_what_can_not_be_mapped_is_read),
		ON_SIM(test_a_reader_delays_release_not_retention),
		ON_SIM(test_the_same_in_ram),
	};
	const struct CMUnitTest in_file[] = {
		IN_FILE(test_damage_is_an_error_with_a_place),
		IN_FILE(test_damage_is_the_same_through_the_cache),
		IN_FILE(test_what_is_in_ram_outlives_its_medium),
		IN_FILE(test_a_reader_delays_release_not_retention),
	};

	if (argc == 1)
		return cmocka_run_group_tests(on_sim, NULL, NULL);
	return can_map_in(argv[1]) ? cmocka_run_group_tests(in_file, NULL, NULL) : 77;
}
