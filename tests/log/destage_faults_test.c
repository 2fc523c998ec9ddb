/* destage_faults_test.c - segments that can't move: no space, damage, a device that fails; and damage to what has moved. */
#include "destage_env.h"

#include "../../src/store/logs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- no space ---- */

static void full(struct env *env, void *arg)
{
	uint64_t elsewhere;

	open_with(env, 1000);
	uint64_t n = n_sealed(env, &elsewhere), room = class_of(env, STAGING).free_bytes / FORMAT_UNIT_BYTES / EXTENT_UNITS;
	assert_true(room >= 2 && room < n);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), -ENOSPC);
	assert_true(strlen(env->err.text) > 0);
	n_sealed(env, &elsewhere);
	assert_int_equal(elsewhere, room);
	assert_int_equal(env_read_all(env, SALT), 1000);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_full_class_takes_what_it_can(void **state)
{
	env_run(&e, full, NULL);
}

static void full_by_rule(struct env *env, void *arg)
{
	struct quire_log_stat s;

	assert_int_equal(env_open(env), 0);
	append_to(env, 1000); /* go on */
	do {
		assert_int_equal(quire_co_yield(), 0);
		assert_int_equal(quire_log_stat(env->log, &s), 0);
	} while (s.upkeep_error == 0);
	assert_int_equal(s.upkeep_error, -ENOSPC);
	assert_true(s.n_sealed > s.info.n_destaged + 2);
	uint64_t first = quire_log_first(env->log);
	assert_int_equal(env_read_all(env, SALT), 1000 - first);
	/* The oldest are there: space for others. Some segments later all is well. */
	assert_true(quire_log_trim(env->log, 900) > 0);
	append_to(env, 1200);
	wait_until_moved(env);
	assert_int_equal(quire_log_stat(env->log, &s), 0);
	assert_int_equal(s.upkeep_error, 0);
	assert_true(s.info.n_destaged > 0);
	assert_int_equal(env_read_all(env, SALT), 1200 - quire_log_first(env->log));
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_full_class_is_tried_again_and_appends_go_on(void **state)
{
	env_run(&e, full_by_rule, NULL);
}

/* ---- damage ---- */

/* Where segment i of the log is. */
static struct store_log_segment place_of(struct env *env, unsigned i)
{
	struct store_log_segment all[32];
	struct store_log_info info;
	struct store_log *space;

	assert_int_equal(store_log_find(env->store, NAME, &info), 0);
	assert_int_equal(store_log_open(env->store, info.id, &space), 0);
	assert_true(store_log_segments(space, all, 32) > i);
	store_log_close(space);
	return all[i];
}

static void flip(struct sim *sim, uint64_t at)
{
	uint8_t byte;

	sim_peek(sim, at, &byte, 1);
	byte ^= 4;
	sim_poke(sim, at, &byte, 1);
}

static void damaged(struct env *env, void *arg)
{
	uint32_t at = *(uint32_t *)arg;
	char id[32];
	uint64_t elsewhere;

	open_with(env, 600);
	assert_int_equal(env_close_log(env), 0);
	struct store_log_segment seg = place_of(env, 1);
	assert_int_equal(quire_log_open(store_public(env->store), NAME, NULL, &env->log, NULL), 0);
	uint64_t n = n_sealed(env, &elsewhere);
	flip(env->sim, seg.offset + at);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), -EBADMSG);
	snprintf(id, sizeof(id), "segment %llu,", (unsigned long long)seg.id);
	assert_non_null(strstr(env->err.text, id));
	n_sealed(env, &elsewhere);
	assert_int_equal(elsewhere, n - 1);
	flip(env->sim, seg.offset + at);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), 1);
	assert_int_equal(env_read_all(env, SALT), 600);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_damaged_segment_stays_and_is_named(void **state)
{
	/* A record; the checksums; a mark; the footer. */
	uint32_t places[] = {20000, SEGMENT + 40, SEGMENT + 4096 + 20, SEGMENT + 2 * 4096 + 70};

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (i > 0) {
			tear_down(state);
			set_up(state);
		}
		env_run(&e, damaged, &places[i]);
	}
}

static void damaged_by_rule(struct env *env, void *arg)
{
	struct quire_log_stat s;

	assert_int_equal(env_open(env), 0);
	append_to(env, 90);
	reopen(env);
	assert_int_equal(env_close_log(env), 0);
	struct store_log_segment seg = place_of(env, 0);
	assert_int_equal(seg.class_no, CAPACITY);
	flip(env->sim, seg.offset + 20000);
	assert_int_equal(quire_log_open(store_public(env->store), NAME, NULL, &env->log, NULL), 0);
	append_to(env, 600);
	do {
		assert_int_equal(quire_co_yield(), 0);
		assert_int_equal(quire_log_stat(env->log, &s), 0);
	} while (s.n_sealed - s.info.n_destaged > 3);
	/* That one and the newest two. */
	assert_true(s.info.n_destaged > 2);
	assert_int_equal(s.upkeep_error, -EBADMSG);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(place_of(env, 0).id, seg.id);
	assert_int_equal(env_close(env), 0);
}

static void test_a_rule_goes_by_a_damaged_segment(void **state)
{
	env_run(&e, damaged_by_rule, NULL);
}

static void mended(struct env *env, void *arg)
{
	open_with(env, 600);
	assert_true(env_destage(env, UINT64_MAX, STAGING) > 3);
	assert_int_equal(env_close_log(env), 0);
	struct store_log_segment first = place_of(env, 0), last = place_of(env, 4);
	unsigned n = 0;
	while (place_of(env, n).class_no == STAGING)
		last = place_of(env, n++);
	assert_int_equal(env_close(env), 0);
	/* Footers of moved ones, the last before the tail among them: made again from the records, or not written. */
	flip(env->other, first.offset + SEGMENT + 2 * 4096 + 60);
	flip(env->other, last.offset + SEGMENT + 2 * 4096 + 60);
	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(quire_log_open(store_public(env->store), NAME, NULL, &env->log, NULL), 0);
	assert_int_equal(quire_log_visible(env->log), 600);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(env_read_all(env, SALT), 600);
	assert_int_equal(env_check(env, true), 0);
	reopen(env);
	assert_int_equal(env_read_all(env, SALT), 600);
	assert_int_equal(env_close(env), 0);
	/* And a record: nothing is left to make it from. */
	flip(env->other, last.offset + SEGMENT + 2 * 4096 + 60);
	flip(env->other, last.offset + 20000);
	assert_int_equal(env_open(env), -EBADMSG);
	assert_true(strlen(env->err.text) > 0);
	assert_int_equal(env_open_store(env, true), 0);
	assert_true(env_check(env, false) > 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_damaged_footer_of_a_moved_segment_is_made_again(void **state)
{
	env_run(&e, mended, NULL);
}

/* ---- failing ---- */

/* A device that has failed to flush once is not believed again; the log goes on where it is. */
static void flush_fails(struct env *env, void *arg)
{
	struct sim_faults broken = {.eio_flush = UINT32_MAX}, none = {0};
	uint64_t elsewhere;

	open_with(env, 600);
	sim_set_faults(env->other, &broken);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), -EIO);
	sim_set_faults(env->other, &none);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), -EIO);
	n_sealed(env, &elsewhere);
	assert_int_equal(elsewhere, 0);
	append_to(env, 700);
	reopen(env);
	assert_true(env_destage(env, UINT64_MAX, STAGING) > 3);
	assert_int_equal(env_read_all(env, SALT), 700);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_after_a_failed_flush_nothing_moves(void **state)
{
	env_run(&e, flush_fails, NULL);
}

static void failing(struct env *env, void *arg)
{
	struct sim_faults broken = {.eio_write = UINT32_MAX}, none = {0};
	uint64_t elsewhere;

	open_with(env, 600);
	sim_set_faults(env->other, &broken);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), -EIO);
	n_sealed(env, &elsewhere);
	assert_int_equal(elsewhere, 0);
	assert_int_equal(extents_in_use(env, STAGING), 0);
	append_to(env, 700);
	sim_set_faults(env->other, &none);
	assert_true(env_destage(env, UINT64_MAX, STAGING) > 3);
	assert_int_equal(env_read_all(env, SALT), 700);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_failing_device_changes_nothing(void **state)
{
	env_run(&e, failing, NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define T_WITH(name, before) cmocka_unit_test_setup_teardown(name, before, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T_WITH(test_a_full_class_takes_what_it_can, set_up_small),
		T_WITH(test_a_full_class_is_tried_again_and_appends_go_on, set_up_small_rule),
		T(test_a_damaged_segment_stays_and_is_named),
		T_WITH(test_a_rule_goes_by_a_damaged_segment, set_up_rule),
		T(test_a_damaged_footer_of_a_moved_segment_is_made_again),
		T(test_after_a_failed_flush_nothing_moves),
		T(test_a_failing_device_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
