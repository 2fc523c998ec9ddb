/* destage_test.c - sealed segments move to another class and back, by request and by a rule; who holds them meanwhile reads on.
 * What fails: destage_faults_test.c. Cuts in the middle: destage_cut_test.c. */
#include "destage_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- there and back ---- */

static void there_and_back(struct env *env, void *arg)
{
	struct quire_log_segment s[32];
	uint64_t elsewhere;

	open_with(env, 600);
	uint64_t before = extents_in_use(env, CAPACITY), n = n_sealed(env, &elsewhere);
	assert_true(n > 5 && elsewhere == 0);
	unsigned n_segments = quire_log_segments(env->log, s, 32);
	uint64_t old_id = s[0].id;
	assert_int_equal(env_destage(env, s[2].end_lsn, STAGING), 3);
	assert_int_equal(env_destage(env, s[2].end_lsn, STAGING), 0);
	assert_int_equal(env_read_all(env, SALT), 600);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), n - 3);
	assert_int_equal(quire_log_segments(env->log, s, 32), n_segments);
	for (unsigned i = 0; i < n_segments; i++)
		assert_int_equal(s[i].cls, s[i].sealed ? STAGING : CAPACITY);
	assert_true(s[0].id > old_id);
	assert_int_equal(n_sealed(env, &elsewhere), n);
	assert_int_equal(elsewhere, n);
	assert_int_equal(extents_in_use(env, STAGING), n);
	assert_in_range(extents_in_use(env, CAPACITY), before - n, before - n + 2);
	append_to(env, 800);
	assert_int_equal(env_read_all(env, SALT), 800);
	reopen(env);
	assert_int_equal(env_read_all(env, SALT), 800);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(store_compact(env->store), 0);
	reopen(env);
	assert_int_equal(env_read_all(env, SALT), 800);
	assert_int_equal(env_destage(env, UINT64_MAX, CAPACITY), n);
	assert_int_equal(extents_in_use(env, STAGING), 0);
	reopen(env);
	assert_int_equal(env_read_all(env, SALT), 800);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_segments_move_there_and_back(void **state)
{
	env_run(&e, there_and_back, NULL);
}

static void trimmed_and_removed(struct env *env, void *arg)
{
	struct quire_log_segment s[32];

	open_with(env, 600);
	(void)quire_log_segments(env->log, s, 32);
	assert_int_equal(env_destage(env, s[4].end_lsn, STAGING), 5);
	assert_int_equal(quire_log_trim(env->log, s[2].end_lsn), 3);
	assert_int_equal(extents_in_use(env, STAGING), 2);
	assert_int_equal(env_read_all(env, SALT), 600 - s[2].end_lsn);
	reopen(env);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_check(env, true), 0); /* footers in either class */
	assert_int_equal(quire_log_rm(store_public(env->store), NAME, NULL), 0);
	assert_int_equal(extents_in_use(env, STAGING), 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_moved_segments_are_trimmed_and_removed_like_others(void **state)
{
	env_run(&e, trimmed_and_removed, NULL);
}

static void refused(struct env *env, void *arg)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT, .destage = true};
	struct quire_log_info info;

	open_with(env, 300);
	struct quire_store *s = store_public(env->store);
	assert_int_equal(env_destage(env, UINT64_MAX, QUIRE_CLASS_PMEM), -ENOENT);
	assert_true(strlen(env->err.text) > 0);
	assert_int_equal(env_destage(env, UINT64_MAX, QUIRE_N_CLASSES), -EINVAL);
	assert_int_equal(quire_log_create(s, "x", &o, NULL), -EINVAL); /* to its own class */
	o.destage_to = QUIRE_CLASS_PMEM;
	assert_int_equal(quire_log_create(s, "x", &o, NULL), -ENOENT);
	o.destage_to = STAGING;
	o.destage_keep_bytes = 5 * SEGMENT + 1;
	assert_int_equal(quire_log_create(s, "x", &o, NULL), 0);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open_store(env, true), 0);
	s = store_public(env->store);
	assert_int_equal(quire_log_find(s, "x", &info), 0);
	assert_true(info.destage && info.destage_to == STAGING && info.destage_keep_bytes == 6 * SEGMENT);
	assert_int_equal(quire_log_open(s, NAME, NULL, &env->log, NULL), 0);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), -EROFS);
	assert_int_equal(env_close(env), 0);
}

static void test_what_can_not_be_is_refused(void **state)
{
	env_run(&e, refused, NULL);
}

/* ---- who holds it ---- */

static void held_by_cursor(struct env *env, void *arg)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t elsewhere;

	open_with(env, 600);
	uint64_t n = n_sealed(env, &elsewhere), before = extents_in_use(env, CAPACITY);
	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(quire_log_next(c, &r, NULL), 1);
	assert_int_equal(env_destage(env, UINT64_MAX, STAGING), n);
	assert_true(record_is(SALT, &r)); /* pinned still */
	assert_in_range(extents_in_use(env, CAPACITY), before - n + 1, before - n + 3);
	assert_int_equal(class_of(env, CAPACITY).pending_bytes, EXTENT_UNITS * FORMAT_UNIT_BYTES);
	/* What is free is used for something else. */
	append_to(env, 1200);
	assert_true(record_is(SALT, &r));
	for (uint64_t lsn = 3; lsn < 600; lsn++) {
		assert_int_equal(quire_log_next(c, &r, NULL), 1);
		assert_int_equal(r.lsn, lsn);
		assert_true(record_is(SALT, &r));
	}
	while (quire_log_stat(env->log, &(struct quire_log_stat){0}) == 0 && class_of(env, CAPACITY).pending_bytes != 0)
		assert_int_equal(quire_co_yield(), 0);
	quire_log_cursor_close(c);
	assert_int_equal(env_read_all(env, SALT), 1200);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_cursor_reads_on_in_the_old_segment_then_in_new_ones(void **state)
{
	env_run(&e, held_by_cursor, NULL);
}

static void held_by_id(struct env *env, void *arg)
{
	struct quire_log_segment s[32], now[32];
	struct object *old, *o;
	uint8_t *a = aligned_alloc(4096, SEGMENT), *b = aligned_alloc(4096, SEGMENT);

	open_with(env, 600);
	assert_true(quire_log_segments(env->log, s, 32) > 3);
	assert_int_equal(object_get(env->store, s[0].id, &old), 0);
	assert_true(env_destage(env, UINT64_MAX, STAGING) > 0);
	assert_true(quire_log_segments(env->log, now, 32) > 3);
	append_to(env, 1200);
	assert_int_equal(object_class(old), CAPACITY);
	assert_int_equal(object_read_wait(old, 0, 60000, a, NULL), 0);
	assert_int_equal(object_get(env->store, s[1].id, &o), -ESTALE);
	assert_int_equal(object_get(env->store, now[0].id, &o), 0);
	assert_int_equal(object_class(o), STAGING);
	assert_int_equal(object_bytes(o), object_bytes(old));
	assert_int_equal(object_read_wait(o, 0, 60000, b, NULL), 0);
	assert_memory_equal(a, b, 60000);
	object_put(o);
	object_put(old);
	free(a);
	free(b);
	assert_int_equal(class_of(env, CAPACITY).pending_bytes, 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_an_old_id_serves_who_holds_it_and_nobody_else(void **state)
{
	env_run(&e, held_by_id, NULL);
}

struct trimmer {
	uint64_t lsn;
	int64_t n;
};

static void trim_meanwhile(void *arg)
{
	struct trimmer *t = arg;

	t->n = quire_log_trim(e.log, t->lsn);
}

static void trimmed_meanwhile(struct env *env, void *arg)
{
	struct sim_faults slow = {.max_delay_turns = 20};
	struct quire_log_segment s[32];

	open_with(env, 600);
	sim_set_faults(env->sim, &slow);
	sim_set_faults(env->other, &slow);
	unsigned n = quire_log_segments(env->log, s, 32) - 2;
	for (unsigned i = 0; i < n; i++) {
		struct trimmer t = {.lsn = s[i].end_lsn, .n = INT64_MIN};
		assert_int_equal(quire_co_spawn(env->loop, trim_meanwhile, &t), 0);
		int64_t moved = env_destage(env, s[i + 1].end_lsn, STAGING);
		assert_true(moved >= 0);
		while (t.n == INT64_MIN)
			assert_int_equal(quire_co_yield(), 0);
		assert_int_equal(t.n, 1);
		assert_int_equal(env_read_all(env, SALT), 600 - s[i].end_lsn);
	}
	assert_int_equal(extents_in_use(env, STAGING), 1);
	assert_int_equal(env_check(env, true), 0);
	reopen(env);
	assert_int_equal(env_read_all(env, SALT), 600 - s[n - 1].end_lsn);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_segment_is_trimmed_while_it_moves(void **state)
{
	env_run(&e, trimmed_meanwhile, NULL);
}

/* ---- by the rule ---- */

static void rule(struct env *env, void *arg)
{
	struct quire_log_stat s;

	assert_int_equal(env_open(env), 0);
	append_to(env, 600);
	wait_until_moved(env);
	assert_int_equal(quire_log_stat(env->log, &s), 0);
	assert_true(s.info.n_destaged >= 4 && s.upkeep_error == 0);
	assert_int_equal(env_read_all(env, SALT), 600);
	reopen(env);
	/* One more was sealed. */
	wait_until_moved(env);
	append_to(env, 1200);
	reopen(env);
	assert_int_equal(env_read_all(env, SALT), 1200);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_rule_moves_all_but_the_newest_in_the_background(void **state)
{
	env_run(&e, rule, NULL);
}

static void larger(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	/* Some 80 segments; the log's class has room for 34. */
	append_to(env, 6000);
	assert_int_equal(env_read_all(env, SALT), quire_log_visible(env->log));
	assert_int_equal(env_close(env), 0);
}

static void test_a_rule_makes_room_for_appends(void **state)
{
	sim_destroy(e.other);
	e.other = NULL;
	sim_destroy(e.sim);
	assert_int_equal(sim_create(700 * FORMAT_UNIT_BYTES, 5, NULL, &e.sim), 0);
	assert_int_equal(sim_create(8000 * FORMAT_UNIT_BYTES, 6, NULL, &e.other), 0);
	env_run(&e, format, NULL);
	env_run(&e, larger, NULL);
}

/* A segment of four pieces is on its way, each of them long; meanwhile others fill up. */
static void slow(struct env *env, void *arg)
{
	struct sim_faults none = {0}, slow = {.max_delay_turns = 50000};
	uint32_t max = record_max_len;
	struct quire_log_stat s = {.n_seals = 0};

	record_max_len = 60000;
	sim_set_faults(env->other, &slow);
	assert_int_equal(env_open(env), 0);
	while (s.n_seals < 4) {
		assert_int_equal(env_append(env, SALT, quire_log_visible(env->log), true), 0);
		assert_int_equal(quire_log_stat(env->log, &s), 0);
	}
	assert_int_equal(s.info.n_destaged, 0);
	assert_int_equal(s.upkeep_error, 0);
	sim_set_faults(env->other, &none);
	uint64_t n = quire_log_visible(env->log);
	assert_int_equal(env_close(env), 0); /* which waits for one piece, not for all */
	assert_int_equal(env_open(env), 0);
	do {
		assert_int_equal(quire_co_yield(), 0);
		assert_int_equal(quire_log_stat(env->log, &s), 0);
	} while (s.info.n_destaged < s.n_sealed);
	assert_int_equal(env_read_all(env, SALT), n);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
	record_max_len = max;
}

static const struct quire_log_options large = {
	.size = sizeof(large), .segment_bytes = 64 * SEGMENT, .destage = true, .destage_to = STAGING,
};

static int set_up_large(void **state)
{
	return set_up_with(&large, 20000);
}

static void test_seals_go_on_while_a_segment_moves(void **state)
{
	env_run(&e, slow, NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define T_WITH(name, before) cmocka_unit_test_setup_teardown(name, before, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_segments_move_there_and_back),
		T(test_moved_segments_are_trimmed_and_removed_like_others),
		T(test_what_can_not_be_is_refused),
		T(test_a_cursor_reads_on_in_the_old_segment_then_in_new_ones),
		T(test_an_old_id_serves_who_holds_it_and_nobody_else),
		T(test_a_segment_is_trimmed_while_it_moves),
		T_WITH(test_a_rule_moves_all_but_the_newest_in_the_background, set_up_rule),
		T_WITH(test_a_rule_makes_room_for_appends, set_up_rule),
		T_WITH(test_seals_go_on_while_a_segment_moves, set_up_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
