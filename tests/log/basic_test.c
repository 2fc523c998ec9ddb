/* basic_test.c - a log on a quiet device: what is appended comes back, through every door, and after every reopening. */
#include "log_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SALT 77

static struct env e;

static void format(struct env *env, void *arg)
{
	assert_int_equal(env_format(env), 0);
}

static int set_up(void **state)
{
	record_max_len = 2000;
	env_init(&e, 5, 2000, NULL);
	env_run(&e, format, NULL);
	return 0;
}

static int tear_down(void **state)
{
	env_fini(&e);
	return 0;
}

static void append_to(struct env *env, uint64_t n, bool durable)
{
	for (uint64_t lsn = quire_log_visible(env->log); lsn < n; lsn++)
		assert_int_equal(env_append(env, SALT, lsn, durable), 0);
}

/* ---- appending and reading ---- */

static void few(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	assert_int_equal(env_read_all(env, SALT), 0);
	append_to(env, 10, true);
	assert_int_equal(quire_log_durable(env->log), 10);
	assert_int_equal(quire_log_visible(env->log), 10);
	assert_int_equal(env_read_all(env, SALT), 10);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(env_read_all(env, SALT), 10);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_few_records_come_back_after_reopening(void **state)
{
	env_run(&e, few, NULL);
}

static void many(struct env *env, void *arg)
{
	struct quire_log_stat s;

	assert_int_equal(env_open(env), 0);
	append_to(env, 500, false);
	assert_int_equal(env_read_all(env, SALT), 500);
	assert_int_equal(quire_log_sync(env->log, 499, NULL), 0);
	assert_int_equal(quire_log_durable(env->log), 500);
	assert_int_equal(env_read_all(env, SALT), 500);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(env_read_all(env, SALT), 500);
	assert_int_equal(quire_log_stat(env->log, &s), 0);
	assert_true(s.n_sealed >= 5);
	assert_true(s.n_recovered < 200);
	assert_int_equal(s.upkeep_error, 0);
	append_to(env, 700, false);
	assert_int_equal(env_read_all(env, SALT), 700);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_segments_are_sealed_and_read_through_the_cache(void **state)
{
	env_run(&e, many, NULL);
}

static void sizes(struct env *env, void *arg)
{
	assert_int_equal(env_open(env), 0);
	size_t max = quire_log_max_record(env->log);
	uint8_t *buf = calloc(1, max + 1);
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t lsn;
	assert_true(max > SEGMENT - 4400 && max < SEGMENT);
	for (unsigned i = 0; i < 6; i++) {
		buf[0] = (uint8_t)i;
		assert_int_equal(quire_log_append(env->log, &(struct iovec){buf, max}, 1, &lsn, NULL), 0);
		assert_int_equal(quire_log_append(env->log, NULL, 0, &lsn, NULL), 0);
	}
	assert_int_equal(quire_log_append(env->log, &(struct iovec){buf, max + 1}, 1, &lsn, NULL), -EMSGSIZE);
	assert_int_equal(quire_log_append_nowait(env->log, (struct iovec[]){{buf, 1}, {buf, SIZE_MAX}}, 2, &lsn),
	                 -EMSGSIZE);
	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_DURABLE, &c), 0);
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(quire_log_next(c, &r, NULL), 1);
		assert_int_equal(r.lsn, i);
		assert_int_equal(r.len_bytes, i % 2 == 0 ? max : 0);
		if (i % 2 == 0)
			assert_int_equal(*(const uint8_t *)r.data, i / 2);
	}
	assert_int_equal(quire_log_next(c, &r, NULL), 0);
	quire_log_cursor_close(c);
	free(buf);
	assert_int_equal(env_close(env), 0);
}

static void test_records_of_no_byte_and_of_a_whole_segment(void **state)
{
	env_run(&e, sizes, NULL);
}

static void batch(struct env *env, void *arg)
{
	struct iovec records[100];
	uint64_t first = 7, last = 7;
	uint8_t *bytes[100];

	assert_int_equal(env_open(env), 0);
	for (unsigned i = 0; i < 100; i++) {
		bytes[i] = malloc(record_len(SALT, i) + 1);
		record_fill(SALT, i, bytes[i]);
		records[i] = (struct iovec){bytes[i], record_len(SALT, i)};
	}
	assert_int_equal(quire_log_append_many(env->log, records, 100, &first, &last), 100);
	assert_int_equal(first, 0);
	assert_int_equal(last, 99);
	assert_int_equal(env_read_all(env, SALT), 100);
	for (unsigned i = 0; i < 100; i++)
		free(bytes[i]);
	assert_int_equal(env_close(env), 0);
}

static void test_a_batch_is_taken_in_order(void **state)
{
	env_run(&e, batch, NULL);
}

/* ---- seeking ---- */

static void seek(struct env *env, void *arg)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t times[600], state = 3;

	assert_int_equal(env_open(env), 0);
	append_to(env, 600, false);
	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	for (unsigned i = 0; i < 600; i++) {
		assert_int_equal(quire_log_next(c, &r, NULL), 1);
		times[i] = r.time_ns;
	}
	for (unsigned i = 0; i < 300; i++) {
		uint64_t lsn = random_next(&state) % 600;
		assert_int_equal(quire_log_seek(c, lsn), 0);
		assert_int_equal(i % 2 ? quire_log_prev(c, &r, NULL) : quire_log_next(c, &r, NULL), i % 2 && lsn == 0 ? 0 : 1);
		if (i % 2 == 0 || lsn > 0) {
			assert_int_equal(r.lsn, i % 2 ? lsn - 1 : lsn);
			assert_true(record_is(SALT, &r));
		}
		assert_int_equal(quire_log_seek_time(c, times[lsn]), 0);
		uint64_t at = quire_log_cursor_lsn(c);
		assert_true(at <= lsn && times[at] >= times[lsn] && (at == 0 || times[at - 1] < times[lsn]));
	}
	assert_int_equal(quire_log_seek_time(c, 0), 0);
	assert_int_equal(quire_log_cursor_lsn(c), 0);
	assert_int_equal(quire_log_seek_time(c, UINT64_MAX), 0);
	assert_int_equal(quire_log_cursor_lsn(c), 600);
	assert_int_equal(quire_log_seek(c, UINT64_MAX), 0);
	assert_int_equal(quire_log_cursor_lsn(c), 600);
	assert_int_equal(quire_log_seek(c, 601), -EINVAL);
	quire_log_cursor_close(c);
	assert_int_equal(env_close(env), 0);
}

static void test_cursors_seek_by_number_and_time(void **state)
{
	env_run(&e, seek, NULL);
}

/* ---- trimming ---- */

static void trim(struct env *env, void *arg)
{
	struct quire_log_cursor *c, *in;
	struct quire_log_record r;
	struct quire_log_segment segments[64];

	assert_int_equal(env_open(env), 0);
	append_to(env, 600, true);
	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &in), 0);
	assert_int_equal(quire_log_next(in, &r, NULL), 1);
	unsigned n = quire_log_segments(env->log, segments, 64);
	assert_true(n > 5 && segments[3].sealed);
	assert_int_equal(quire_log_trim(env->log, segments[3].end_lsn - 1), 3);
	assert_int_equal(quire_log_first(env->log), segments[3].first_lsn);
	assert_true(record_is(SALT, &r)); /* pinned still */
	assert_int_equal(quire_log_next(in, &r, NULL), -ESTALE);
	assert_int_equal(quire_log_next(c, &r, NULL), -ESTALE);
	assert_int_equal(quire_log_prev(c, &r, NULL), -ESTALE);
	assert_int_equal(quire_log_seek(c, 0), -ESTALE);
	assert_int_equal(quire_log_seek(c, quire_log_first(env->log)), 0);
	assert_int_equal(quire_log_next(c, &r, NULL), 1);
	assert_true(record_is(SALT, &r));
	quire_log_cursor_close(c);
	quire_log_cursor_close(in);
	uint64_t left = 600 - segments[3].first_lsn;
	assert_int_equal(env_read_all(env, SALT), left);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(quire_log_first(env->log), segments[3].first_lsn);
	assert_int_equal(env_read_all(env, SALT), left);
	store_settle(env->store);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_what_is_trimmed_is_gone_and_its_space_free(void **state)
{
	env_run(&e, trim, NULL);
}

static void retain(struct env *env, void *arg)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT, .retain_bytes = 3 * SEGMENT};
	struct quire_log *log;
	struct quire_log_stat s;
	uint8_t buf[4000] = {0};
	uint64_t lsn;

	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(quire_log_create(store_public(env->store), "ring", &o, NULL), 0);
	assert_int_equal(quire_log_open(store_public(env->store), "ring", NULL, &log, NULL), 0);
	/* More than the device has room for. */
	for (unsigned i = 0; i < 4000; i++)
		assert_int_equal(quire_log_append(log, &(struct iovec){buf, sizeof(buf)}, 1, &lsn, NULL), 0);
	assert_int_equal(lsn, 3999);
	assert_int_equal(quire_log_stat(log, &s), 0);
	assert_true(s.n_sealed >= 2 && s.info.n_segments <= 8);
	assert_true(s.first_lsn > 3800 && s.visible == 4000);
	assert_int_equal(quire_log_close(log), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_retention_lets_a_log_go_on_for_ever(void **state)
{
	env_run(&e, retain, NULL);
}

static void full(struct env *env, void *arg)
{
	uint8_t buf[4000] = {0};
	int rc = 0;

	assert_int_equal(env_open(env), 0);
	uint64_t n = 0, lsn;
	while ((rc = quire_log_append_nowait(env->log, &(struct iovec){buf, sizeof(buf)}, 1, &lsn)) == 0)
		n++;
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(quire_log_visible(env->log), n);
	assert_int_equal(quire_log_sync(env->log, n - 1, NULL), 0);
	assert_true(quire_log_trim(env->log, n / 2) > 0);
	assert_int_equal(quire_log_append(env->log, &(struct iovec){buf, sizeof(buf)}, 1, &lsn, NULL), 0);
	assert_int_equal(lsn, n);
	assert_int_equal(env_close(env), 0);
}

static void test_a_full_device_is_an_error_until_there_is_space(void **state)
{
	env_run(&e, full, NULL);
}

/* ---- several, names, states ---- */

static void names(struct env *env, void *arg)
{
	static const char *const bad[] = {"", ".", "..", ".x", "-x", "a/b", "a b", "a\n", "\xc3\xa4",
	                                  "0123456789012345678901234567890123456789012345678901234567890123"};
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT};
	struct quire_log_info info;
	struct quire_log *log = NULL;
	struct quire_error err;
	unsigned n = 0;

	assert_int_equal(env_open(env), 0);
	struct quire_store *s = store_public(env->store);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(quire_log_create(s, bad[i], &o, &err), -EINVAL);
	assert_int_equal(quire_log_create(s, NAME, &o, &err), -EEXIST);
	assert_int_equal(quire_log_create(s, "A.b_c-9", &o, NULL), 0);
	for (uint64_t after = 0; quire_log_ls(s, after, &info) == 1; after = info.id)
		n++;
	assert_int_equal(n, 2);
	assert_string_equal(info.name, "A.b_c-9");
	assert_int_equal(quire_log_open(s, "none", NULL, &log, NULL), -ENOENT);
	assert_int_equal(quire_log_open(s, NAME, NULL, &log, NULL), -EBUSY);
	assert_int_equal(quire_log_rm(s, NAME, NULL), -EBUSY);
	assert_int_equal(store_close(env->store), -EBUSY);
	assert_int_equal(quire_log_rm(s, "A.b_c-9", NULL), 0);
	assert_int_equal(quire_log_rm(s, "A.b_c-9", NULL), -ENOENT);
	o.segment_bytes = 3 * SEGMENT;
	assert_int_equal(quire_log_create(s, "x", &o, &err), -EINVAL);
	o.segment_bytes = SEGMENT;
	o.cls = QUIRE_CLASS_PMEM;
	assert_int_equal(quire_log_create(s, "x", &o, &err), -ENOENT);
	store_settle(env->store);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_names_are_checked_and_logs_listed(void **state)
{
	env_run(&e, names, NULL);
}

static void removed(struct env *env, void *arg)
{
	struct store_stat before, after;

	assert_int_equal(env_open_store(env, false), 0);
	store_stat(env->store, &before);
	struct quire_store *s = store_public(env->store);
	assert_int_equal(quire_log_open(s, NAME, NULL, &env->log, NULL), 0);
	append_to(env, 600, false);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(quire_log_rm(s, NAME, NULL), 0);
	store_settle(env->store);
	store_stat(env->store, &after);
	/* Its first segment is free as well. */
	assert_true(after.classes[0].used_bytes < before.classes[0].used_bytes);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(quire_log_open(store_public(env->store), NAME, NULL, &env->log, NULL), -ENOENT);
	assert_int_equal(env_close(env), 0);
}

static void test_a_removed_log_gives_all_its_space_back(void **state)
{
	env_run(&e, removed, NULL);
}

static void read_only(struct env *env, void *arg)
{
	uint64_t lsn;

	assert_int_equal(env_open(env), 0);
	append_to(env, 300, true);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(quire_log_open(store_public(env->store), NAME, NULL, &env->log, NULL), 0);
	assert_int_equal(env_read_all(env, SALT), 300);
	assert_int_equal(quire_log_append(env->log, NULL, 0, &lsn, NULL), -EROFS);
	assert_int_equal(quire_log_trim(env->log, 100), -EROFS);
	assert_int_equal(quire_log_wait(env->log, QUIRE_LOG_VISIBLE, 300, NULL), -EINVAL);
	assert_int_equal(env_close(env), 0);
}

static void test_a_log_opened_read_only(void **state)
{
	env_run(&e, read_only, NULL);
}

/* ---- following ---- */

static void follower(void *arg)
{
	uint64_t *seen = arg;
	struct quire_log_cursor *c;
	struct quire_log_record r;

	assert_int_equal(quire_log_cursor_open(e.log, QUIRE_LOG_DURABLE, &c), 0);
	while (*seen < 200) {
		int64_t rc = quire_log_next(c, &r, NULL);
		if (rc == 0)
			rc = quire_log_wait(e.log, QUIRE_LOG_DURABLE, quire_log_cursor_lsn(c), NULL) == 0;
		else if (rc == 1 && record_is(SALT, &r) && r.lsn == *seen)
			++*seen;
		assert_int_equal(rc, 1);
	}
	quire_log_cursor_close(c);
}

static void followed(struct env *env, void *arg)
{
	uint64_t seen[50] = {0};
	struct quire_op op;

	assert_int_equal(env_open(env), 0);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(quire_co_spawn(env->loop, follower, &seen[i]), 0);
	append_to(env, 200, true);
	for (unsigned i = 0; i < 50; i++)
		while (seen[i] < 200)
			assert_int_equal(quire_co_yield(), 0);
	assert_int_equal(quire_co_yield(), 0);
	quire_op_init(&op);
	assert_int_equal(quire_log_wait(env->log, QUIRE_LOG_VISIBLE, 200, &op), 0);
	assert_int_equal(quire_log_close(env->log), -EBUSY);
	assert_int_equal(quire_op_cancel(&op), 0);
	assert_int_equal(quire_await(&op), -ECANCELED);
	quire_op_init(&op);
	assert_int_equal(quire_log_wait(env->log, QUIRE_LOG_VISIBLE, 200, &op), 0);
	append_to(env, 201, false);
	assert_int_equal(quire_await(&op), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_many_cursors_follow_what_is_durable(void **state)
{
	env_run(&e, followed, NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_few_records_come_back_after_reopening),
		T(test_segments_are_sealed_and_read_through_the_cache),
		T(test_records_of_no_byte_and_of_a_whole_segment),
		T(test_a_batch_is_taken_in_order),
		T(test_cursors_seek_by_number_and_time),
		T(test_what_is_trimmed_is_gone_and_its_space_free),
		T(test_retention_lets_a_log_go_on_for_ever),
		T(test_a_full_device_is_an_error_until_there_is_space),
		T(test_names_are_checked_and_logs_listed),
		T(test_a_removed_log_gives_all_its_space_back),
		T(test_a_log_opened_read_only),
		T(test_many_cursors_follow_what_is_durable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
