/* reads_test.c - a log of sealed segments, with keys, whose process died: opened, read, asked for keys and appended to, as each read of the medium
 * fails in its turn, or all from one on. Who asks is told, what is given out is right, and in the next life everything is there. Then the same where a
 * record of what was not sealed is damaged. */
#include "keys_env.h"
#include "../support/failing_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READS (1u << DEVICE_READ)
#define N_KEYS 40u
#define N_RECORDS 700u
#define N_FAILURES 80u

static struct sim *left;      /* by the process that died */
static struct failing failing;
static uint64_t damaged_lsn;  /* UINT64_MAX: none */
static uint64_t n_refused, n_unread;

static int open_in_front(struct env *env, struct device **ret)
{
	int rc = sim_open(env->sim, env->loop, ret);

	if (rc == 0)
		failing_put(&failing, ret);
	return rc;
}

/* ---- what is left ---- */

static void die(struct env *env, void *arg)
{
	(void)arg;
	open_keyed(env, false);
	fill_keyed(env, N_RECORDS, N_KEYS, 2000);
	append_keyed(env, 1, 600, true);
	append_keyed(env, 2, 600, true);
	append_keyed(env, 3, 600, true);
	assert_true(stat_of(env).n_seals > 5);
	assert_int_equal(sim_clone(env->sim, 1, &left), 0);
	assert_int_equal(env_close(env), 0);
}

/* A byte of the record before the last, where 600 of its bytes lie one after the other. */
static void damage_one(uint64_t n_units)
{
	static uint8_t bytes[4096], want[500];
	uint64_t lsn = n_appended - 2;

	memset(want, (int)(lsn % 251), sizeof(want));
	for (uint64_t u = n_units; u > 0; u--) {
		sim_peek(left, (u - 1) * sizeof(bytes), bytes, sizeof(bytes));
		uint8_t *at = memmem(bytes, sizeof(bytes), want, sizeof(want));
		if (at == NULL)
			continue;
		*at ^= 1;
		sim_poke(left, (u - 1) * sizeof(bytes), bytes, sizeof(bytes));
		damaged_lsn = lsn;
		return;
	}
	fail();
}

/* ---- a life in which reads fail ---- */

static bool is_right(const struct quire_log_record *r)
{
	char key[64];
	bool has_key = key_no[r->lsn] != NONE;
	bool right = r->lsn < n_appended && r->key_bytes == (has_key ? make_key(key_no[r->lsn], key) : 0);

	right = right && (!has_key || memcmp(r->key, key, r->key_bytes) == 0);
	for (uint32_t i = 0; right && i < r->len_bytes; i++)
		right = ((const uint8_t *)r->data)[i] == r->lsn % 251;
	return right;
}

/* How many could not be read. */
static unsigned read_records(struct env *env)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t lsn = 0;
	unsigned n = 0;

	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	while (lsn < n_appended) {
		assert_int_equal(quire_log_seek(c, lsn), 0);
		int64_t rc = quire_log_next(c, &r, NULL);
		if (rc == 1)
			assert_true(r.lsn == lsn && is_right(&r));
		else
			assert_true(rc == -EIO || (rc == -EBADMSG && lsn == damaged_lsn));
		n += rc == -EIO;
		lsn++;
	}
	quire_log_cursor_close(c);
	return n;
}

static unsigned look_for_keys(struct env *env)
{
	unsigned n = 0;

	for (uint32_t no = 0; no < N_KEYS; no++) {
		int64_t want = newest(no, 0, n_appended);
		uint64_t lsn;
		int rc = find_keyed(env, no, QUIRE_LOG_VISIBLE, &lsn);
		bool may_be_lost = damaged_lsn != UINT64_MAX && rc == -EBADMSG;
		assert_true(rc == -EIO || may_be_lost || (rc == 0 ? (int64_t)lsn == want : rc == want));
		n += rc == -EIO;
	}
	return n;
}

static void note_unread(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	(void)id;
	(void)class_no;
	(void)offset;
	assert_true(text[0] != '\0' && (error == -EIO || damaged_lsn != UINT64_MAX));
	*(unsigned *)arg += error == -EIO;
}

static unsigned find_unread(struct env *env)
{
	unsigned n = 0;
	struct store_check check = {.found = note_unread, .arg = &n};
	int64_t rc = store_check(env->store, &check);

	assert_true(rc >= n || rc == -EIO);
	return n + (rc < 0);
}

static void live(struct env *env, void *arg)
{
	int rc = env_open_store(env, false);

	(void)arg;
	if (rc == 0) {
		rc = quire_log_open(store_public(env->store), KEYED, NULL, &env->log, &env->err);
		if (rc < 0)
			(void)env_close(env);
	}
	if (rc < 0) {
		if (rc != -EIO || env->err.text[0] == '\0')
			fail_msg("%d, %s", rc, env->err.text);
		n_refused++;
		return;
	}
	n_unread += read_records(env);
	n_unread += look_for_keys(env);
	n_unread += find_unread(env);
	append_keyed(env, 5, 100, true);
	assert_int_equal(env_close(env), 0);
}

/* The next life: everything. */
static void look(struct env *env, void *arg)
{
	(void)arg;
	open_keyed(env, false);
	assert_int_equal(quire_log_visible(env->log), n_appended);
	assert_int_equal(read_records(env), 0);
	assert_int_equal(look_for_keys(env), 0);
	if (damaged_lsn == UINT64_MAX)
		expect_all(env, N_KEYS);
	assert_int_equal(env_check(env, damaged_lsn == UINT64_MAX), damaged_lsn != UINT64_MAX);
	assert_int_equal(env_close(env), 0);
}

/* arg: how many records were left. */
static uint64_t one_life(void *arg, uint64_t n, bool lasting)
{
	uint64_t n_told = n_refused + n_unread;

	n_appended = *(const uint64_t *)arg;
	assert_int_equal(sim_clone(left, 1, &e.sim), 0);
	failing_begin(&failing, READS, n, lasting);
	env_run(&e, live, NULL);
	uint64_t n_ios = atomic_load(&failing.n_ios);
	assert_int_equal(failing_end(&failing), n != 0);
	/* What failed once may be read again; nothing else is told. */
	assert_true(n != 0 ? !lasting || n_refused + n_unread > n_told : n_refused + n_unread == n_told);
	env_run(&e, look, NULL);
	sim_destroy(e.sim);
	e.sim = NULL;
	return n_ios;
}

static void each_read_fails(void)
{
	uint64_t n_left = n_appended;

	e.open_device = open_in_front;
	n_refused = n_unread = 0;
	failing_each(&(struct failing_sweep){.play = one_life, .arg = &n_left, .n_quick = N_FAILURES});
	assert_true(n_refused > 0 && n_unread > 0);
	sim_destroy(left);
}

static void test_each_read_fails(void **state)
{
	(void)state;
	damaged_lsn = UINT64_MAX;
	env_run(&e, die, NULL);
	sim_destroy(e.sim);
	each_read_fails();
}

static void test_each_read_fails_of_what_is_damaged(void **state)
{
	(void)state;
	env_run(&e, die, NULL);
	sim_destroy(e.sim);
	damage_one(2000);
	each_read_fails();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_read_fails),
		TEST(each_read_fails_of_what_is_damaged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
