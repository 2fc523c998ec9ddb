/* keys_env.c - see keys_env.h. */
#include "keys_env.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct env e;
uint32_t key_no[KEYS_MAX_RECORDS];
uint64_t n_appended;

void open_keyed(struct env *env, bool read_only)
{
	assert_int_equal(env_open_store(env, read_only), 0);
	assert_int_equal(quire_log_open(store_public(env->store), KEYED, NULL, &env->log, &env->err), 0);
}

void reopen(struct env *env, bool read_only)
{
	assert_int_equal(env_close(env), 0);
	open_keyed(env, read_only);
}

static void format(struct env *env, void *arg)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT, .keys = true};
	struct quire_log_info info;

	assert_int_equal(env_format(env), 0);
	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(quire_log_create(store_public(env->store), KEYED, &o, &env->err), 0);
	assert_int_equal(quire_log_find(store_public(env->store), KEYED, &info), 0);
	assert_true(info.keys);
	assert_int_equal(quire_log_find(store_public(env->store), NAME, &info), 0);
	assert_false(info.keys);
	assert_int_equal(env_close(env), 0);
}

int keys_set_up(void **state)
{
	return keys_set_up_with(NULL);
}

int keys_set_up_with(struct sim *other)
{
	n_appended = 0;
	env_init(&e, 5, 2000, NULL);
	e.other = other;
	env_run(&e, format, NULL);
	return 0;
}

int keys_tear_down(void **state)
{
	env_fini(&e);
	return 0;
}

/* ---- keys, and records that have them ---- */

size_t make_key(uint32_t no, char key[64])
{
	return (size_t)snprintf(key, 64, "%u%.*s", no, (int)(no % 37), "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop");
}

void append_keyed(struct env *env, uint32_t no, size_t len_bytes, bool durable)
{
	static uint8_t bytes[4096];
	struct iovec iov[2] = {{bytes, len_bytes / 2}, {bytes + len_bytes / 2, len_bytes - len_bytes / 2}};
	char key[64];
	size_t key_bytes = make_key(no, key);
	uint64_t lsn = UINT64_MAX;
	int rc;

	memset(bytes, (int)(n_appended % 251), len_bytes);
	if (no == NONE)
		rc = durable ? quire_log_append(env->log, iov, 2, &lsn, NULL) : quire_log_append_nowait(env->log, iov, 2, &lsn);
	else
		rc = durable ? quire_log_append_key(env->log, key, key_bytes, iov, 2, &lsn, NULL)
		             : quire_log_append_key_nowait(env->log, key, key_bytes, iov, 2, &lsn);
	assert_int_equal(rc, 0);
	assert_int_equal(lsn, n_appended);
	key_no[n_appended++] = no;
}

int find_keyed(struct env *env, uint32_t no, enum quire_log_mark mark, uint64_t *ret_lsn)
{
	char key[64];

	return quire_log_find_key(env->log, mark, key, make_key(no, key), ret_lsn, NULL);
}

int64_t newest(uint32_t no, uint64_t first, uint64_t end)
{
	while (end > first)
		if (key_no[--end] == no)
			return (int64_t)end;
	return -ENOENT;
}

void expect_newest(struct env *env, uint32_t no, enum quire_log_mark mark, int64_t want)
{
	uint64_t lsn = UINT64_MAX;
	int rc = find_keyed(env, no, mark, &lsn);

	if (rc < 0 ? rc != want : (int64_t)lsn != want)
		fail_msg("key %u: %d, record %lld, not %lld", no, rc, (long long)lsn, (long long)want);
}

void expect_all(struct env *env, uint32_t n_keys)
{
	uint64_t first = quire_log_first(env->log);

	assert_int_equal(quire_log_visible(env->log), n_appended);
	for (uint32_t no = 0; no < n_keys; no++) {
		expect_newest(env, no, QUIRE_LOG_VISIBLE, newest(no, first, n_appended));
		expect_newest(env, no, QUIRE_LOG_DURABLE, newest(no, first, quire_log_durable(env->log)));
	}
}

void fill_keyed(struct env *env, uint64_t n, uint32_t n_keys, size_t len_bytes)
{
	uint64_t state = 9;

	while (n-- > 0) {
		uint64_t r = random_next(&state);
		append_keyed(env, r % 10 == 0 ? NONE : (uint32_t)(r >> 8) % n_keys, (size_t)((r >> 40) % len_bytes), false);
	}
}

struct quire_log_stat stat_of(struct env *env)
{
	struct quire_log_stat s;

	assert_int_equal(quire_log_stat(env->log, &s), 0);
	assert_int_equal(s.upkeep_error, 0);
	return s;
}
