/* keys_test.c - records with keys: the newest is found, through every door and after every reopening, sealed or not; what is
 * refused, trimmed, charged. */
#include "keys_env.h"

#include "../../src/log/log_internal.h"

#include <errno.h>
#include <string.h>

/* ---- what is there ---- */

static void few(struct env *env, void *arg)
{
	static const size_t lengths[] = {10, 0, 20, 300};
	struct quire_log_cursor *c;
	struct quire_log_record r;
	char key[64];

	open_keyed(env, false);
	append_keyed(env, 3, 10, true);
	append_keyed(env, 4, 0, true);
	append_keyed(env, NONE, 20, true);
	append_keyed(env, 3, 300, true);
	expect_all(env, 6);
	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	for (uint64_t lsn = 0; lsn < 4; lsn++) {
		assert_int_equal(quire_log_seek(c, lsn), 0);
		assert_int_equal(quire_log_next(c, &r, NULL), 1);
		assert_int_equal(r.len_bytes, lengths[lsn]);
		if (lsn == 2) {
			assert_null(r.key);
			assert_int_equal(r.key_bytes, 0);
		} else {
			assert_int_equal(r.key_bytes, make_key(key_no[lsn], key));
			assert_memory_equal(r.key, key, r.key_bytes);
		}
		for (size_t i = 0; i < r.len_bytes; i++)
			assert_int_equal(((const uint8_t *)r.data)[i], lsn);
		assert_int_equal((uintptr_t)r.data % 8, 0);
	}
	quire_log_cursor_close(c);
	reopen(env, false);
	expect_all(env, 6);
	reopen(env, true);
	expect_all(env, 6);
	assert_int_equal(env_close(env), 0);
}

static void test_the_newest_record_with_a_key_is_found(void **state)
{
	env_run(&e, few, NULL);
}

static void refused(struct env *env, void *arg)
{
	static uint8_t key[QUIRE_LOG_KEY_MAX + 1], bytes[SEGMENT];
	uint64_t lsn;

	open_keyed(env, false);
	struct iovec iov = {bytes, 1};
	assert_int_equal(quire_log_append_key(env->log, key, 0, &iov, 1, &lsn, NULL), -EINVAL);
	assert_int_equal(quire_log_append_key_nowait(env->log, key, sizeof(key), &iov, 1, &lsn), -EINVAL);
	assert_int_equal(quire_log_find_key(env->log, QUIRE_LOG_VISIBLE, key, 0, &lsn, NULL), -EINVAL);
	assert_int_equal(quire_log_find_key(env->log, QUIRE_LOG_VISIBLE, key, sizeof(key), &lsn, NULL), -EINVAL);
	assert_int_equal(quire_log_find_key(env->log, (enum quire_log_mark)2, key, 1, &lsn, NULL), -EINVAL);
	/* Of the longest record the key, its length and the gap behind it are missing. */
	iov.iov_len = quire_log_max_record(env->log) - QUIRE_LOG_KEY_MAX - 8;
	assert_int_equal(quire_log_append_key(env->log, key, QUIRE_LOG_KEY_MAX, &iov, 1, &lsn, NULL), 0);
	iov.iov_len++;
	assert_int_equal(quire_log_append_key(env->log, key, QUIRE_LOG_KEY_MAX, &iov, 1, &lsn, NULL), -EMSGSIZE);
	assert_int_equal(quire_log_append_key_nowait(env->log, key, 6, &(struct iovec){bytes, SIZE_MAX}, 1, &lsn), -EMSGSIZE);
	assert_int_equal(quire_log_find_key(env->log, QUIRE_LOG_DURABLE, key, QUIRE_LOG_KEY_MAX, &lsn, NULL), 0);
	assert_int_equal(lsn, 0);
	reopen(env, true);
	assert_int_equal(quire_log_append_key_nowait(env->log, key, 1, &iov, 1, &lsn), -EROFS);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(quire_log_append_key(env->log, key, 1, NULL, 0, &lsn, NULL), -ENOTSUP);
	assert_int_equal(quire_log_append_key_nowait(env->log, key, 1, NULL, 0, &lsn), -ENOTSUP);
	assert_int_equal(quire_log_find_key(env->log, QUIRE_LOG_VISIBLE, key, 1, &lsn, NULL), -ENOTSUP);
	assert_int_equal(env_close(env), 0);
}

static void test_what_is_refused(void **state)
{
	env_run(&e, refused, NULL);
}

static void watermarks(struct env *env, void *arg)
{
	open_keyed(env, false);
	append_keyed(env, 1, 5, true);
	for (unsigned i = 0; i < 300; i++) {
		append_keyed(env, i % 7, 5, i % 50 == 30);
		if (i % 10 == 0)
			expect_all(env, 8);
	}
	assert_true(quire_log_durable(env->log) < n_appended);
	expect_all(env, 8);
	assert_int_equal(quire_log_sync(env->log, n_appended - 1, NULL), 0);
	assert_int_equal(quire_log_durable(env->log), n_appended);
	expect_all(env, 8);
	assert_int_equal(env_close(env), 0);
}

static void test_visible_or_durable(void **state)
{
	env_run(&e, watermarks, NULL);
}

struct asked {
	struct quire_op op;
	uint64_t lsn;
	char key[64];
};

static void with_ops(struct env *env, void *arg)
{
	static struct asked asked[64];
	struct quire_op op;
	uint64_t lsn = UINT64_MAX;

	open_keyed(env, false);
	for (unsigned i = 0; i < 600; i++)
		append_keyed(env, i % 60, 600, i % 100 == 0);
	quire_op_init(&op);
	assert_int_equal(quire_log_append_key(env->log, "op", 2, &(struct iovec){"x", 1}, 1, &lsn, &op), 0);
	for (unsigned i = 0; i < 64; i++) {
		size_t n = make_key(i, asked[i].key);
		quire_op_init(&asked[i].op);
		assert_int_equal(quire_log_find_key(env->log, QUIRE_LOG_VISIBLE, asked[i].key, n, &asked[i].lsn, &asked[i].op), 0);
	}
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(quire_await(&asked[i].op), i < 60 ? 0 : -ENOENT);
		if (i < 60)
			assert_int_equal(asked[i].lsn, newest(i, 0, 600));
	}
	assert_int_equal(quire_await(&op), 0);
	assert_int_equal(lsn, 600);
	assert_int_equal(quire_log_find_key(env->log, QUIRE_LOG_DURABLE, "op", 2, &lsn, NULL), 0);
	assert_int_equal(lsn, 600);
	assert_int_equal(env_close(env), 0);
}

static void test_operations(void **state)
{
	env_run(&e, with_ops, NULL);
}

/* ---- sealed, trimmed ---- */

static void sealed(struct env *env, void *arg)
{
	open_keyed(env, false);
	fill_keyed(env, 2000, 400, 600);
	expect_all(env, 420);
	reopen(env, false);
	assert_true(stat_of(env).n_sealed >= 8);
	assert_true(stat_of(env).n_recovered < 600);
	expect_all(env, 420);
	fill_keyed(env, 500, 100, 600);
	expect_all(env, 420);
	reopen(env, true);
	uint64_t n_keys = 0;
	for (uint32_t no = 0; no < 400; no++)
		n_keys += newest(no, 0, n_appended) >= 0;
	assert_int_equal(stat_of(env).n_keys, n_keys);
	expect_all(env, 420);
	reopen(env, false);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_keys_of_sealed_segments(void **state)
{
	env_run(&e, sealed, NULL);
}

static void trimmed(struct env *env, void *arg)
{
	open_keyed(env, false);
	fill_keyed(env, 1500, 3000, 600);
	uint64_t n_keys = stat_of(env).n_keys;
	assert_true(quire_log_trim(env->log, n_appended - 100) > 2);
	assert_true(quire_log_first(env->log) > 500);
	expect_all(env, 3000);
	assert_true(stat_of(env).n_keys < n_keys / 2);
	reopen(env, false);
	expect_all(env, 3000);
	fill_keyed(env, 500, 3000, 600);
	expect_all(env, 3000);
	assert_int_equal(env_close(env), 0);
}

static void test_trimmed_records_are_not_found(void **state)
{
	env_run(&e, trimmed, NULL);
}

/* ---- hashes that collide ---- */

static void collisions(struct env *env, void *arg)
{
	open_keyed(env, false);
	env->log->keys->hash_mask = 3;
	fill_keyed(env, 600, 40, 600);
	assert_true(stat_of(env).n_sealed >= 1);
	expect_all(env, 50);
	assert_int_equal(stat_of(env).n_keys, 4);
	for (unsigned i = 0; i < 20; i++)
		append_keyed(env, 3 + i % 5, 10, i == 10);
	expect_all(env, 50);
	assert_true(quire_log_trim(env->log, n_appended) > 0);
	expect_all(env, 50);
	assert_int_equal(env_close(env), 0);
}

static void test_keys_of_one_hash(void **state)
{
	env_run(&e, collisions, NULL);
}

/* ---- memory ---- */

static void charged(struct env *env, void *arg)
{
	assert_int_equal(env_open_store(env, false), 0);
	uint64_t before = budget_kind_used(&env->cache->budget, BUDGET_TABLES);
	assert_int_equal(quire_log_open(store_public(env->store), KEYED, NULL, &env->log, &env->err), 0);
	for (uint32_t i = 0; i < 8000; i++)
		append_keyed(env, i, 3, false);
	expect_newest(env, 7999, QUIRE_LOG_VISIBLE, 7999);
	struct quire_log_stat s = stat_of(env);
	assert_int_equal(s.n_keys, 8000);
	assert_true(s.keys_bytes >= 8000 * 16 && s.memory_bytes > s.keys_bytes);
	assert_true(budget_kind_used(&env->cache->budget, BUDGET_TABLES) >= before + s.keys_bytes);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_close(env), 0);
	assert_true(budget_kind_used(&env->cache->budget, BUDGET_TABLES) <= before);
}

static void test_memory_is_charged_and_given_back(void **state)
{
	env_run(&e, charged, NULL);
}

static int count_progress(void *arg, uint64_t done, uint64_t all)
{
	uint64_t *last = arg;

	assert_true(done > *last);
	assert_true(done <= all);
	*last = done;
	return 0;
}

static void progress(struct env *env, void *arg)
{
	uint64_t last = 0;
	struct quire_log_open_options o = {.size = sizeof(o), .progress = count_progress, .arg = &last};

	open_keyed(env, false);
	for (uint32_t i = 0; i < 19000; i++)
		append_keyed(env, i, 60, false);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(quire_log_open(store_public(env->store), KEYED, &o, &env->log, &env->err), 0);
	assert_true(last > 1 << 20);
	assert_int_equal(env_close(env), 0);
}

static void test_progress_of_opening_counts_keys(void **state)
{
	env_run(&e, progress, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_newest_record_with_a_key_is_found),
		TEST(what_is_refused),
		TEST(visible_or_durable),
		TEST(operations),
		TEST(keys_of_sealed_segments),
		TEST(trimmed_records_are_not_found),
		TEST(keys_of_one_hash),
		TEST(memory_is_charged_and_given_back),
		TEST(progress_of_opening_counts_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
