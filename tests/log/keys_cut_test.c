/* keys_cut_test.c - histories of a log with keys, cut at random events of the device: after each opening, and now and then between,
 * every key is looked for and found where a model says, visible and durable. */
#include "log_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEYED "keyed"
#define N_UNITS 700u
#define MAX 20000u
#define NONE UINT32_MAX

static struct env e;
static struct sim *initial;

static struct model {
	uint32_t keys[MAX];  /* of each record; NONE: it has none */
	uint64_t n;          /* taken in, or perhaps */
	uint64_t n_durable;  /* promised */
	uint64_t first, first_asked; /* trimmed for sure; perhaps */
	uint32_t n_keys;
	uint32_t max_len;
	uint64_t n_cuts, n_lost, n_found;
} m;

static void format(struct env *env, void *arg)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT, .keys = true};

	assert_int_equal(env_format(env), 0);
	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(quire_log_create(store_public(env->store), KEYED, &o, &env->err), 0);
	assert_int_equal(env_close(env), 0);
}

static int open_keyed(struct env *env)
{
	int rc = env_open_store(env, false);

	if (rc == 0) {
		rc = quire_log_open(store_public(env->store), KEYED, NULL, &env->log, &env->err);
		if (rc < 0)
			(void)env_close(env);
	}
	return rc;
}

/* False: the power is gone. */
static bool goes_on(int64_t rc)
{
	if (rc != -EIO && rc != -ENOSPC && rc < 0)
		fail_msg("%lld", (long long)rc);
	return rc != -EIO;
}

static size_t make_key(uint32_t no, char key[32])
{
	return (size_t)snprintf(key, 32, "%u-key%.*s", no, (int)(no % 11), "0123456789");
}

/* ---- looking ---- */

static int64_t newest(uint32_t no, uint64_t end)
{
	while (end > m.first)
		if (m.keys[--end] == no)
			return (int64_t)end;
	return -ENOENT;
}

static bool look_for(struct env *env, uint32_t no, enum quire_log_mark mark)
{
	uint64_t end = mark == QUIRE_LOG_DURABLE ? quire_log_durable(env->log) : quire_log_visible(env->log);
	uint64_t lsn = UINT64_MAX;
	char key[32];
	int rc = quire_log_find_key(env->log, mark, key, make_key(no, key), &lsn, NULL);
	int64_t want = newest(no, end);

	if (rc == -EIO && sim_is_cut(env->sim))
		return false;
	if (rc < 0 ? rc != want : (int64_t)lsn != want)
		fail_msg("key %u below %llu: %d, record %lld, not %lld", no, (unsigned long long)end, rc, (long long)lsn,
		         (long long)want);
	m.n_found += rc == 0;
	return true;
}

static void verify(struct env *env)
{
	for (uint32_t no = 0; no <= m.n_keys; no++)
		if (!look_for(env, no, QUIRE_LOG_VISIBLE) || !look_for(env, no, QUIRE_LOG_DURABLE))
			return;
}

static void settle(struct env *env)
{
	uint64_t n = quire_log_visible(env->log), first = quire_log_first(env->log);

	if (n < m.n_durable || n > m.n || first < m.first || first > m.first_asked)
		fail_msg("%llu to %llu: promised %llu, taken %llu", (unsigned long long)first, (unsigned long long)n,
		         (unsigned long long)m.n_durable, (unsigned long long)m.n);
	m.n_lost += m.n - n;
	m.n = m.n_durable = n;
	m.first = m.first_asked = first;
}

/* ---- histories ---- */

static int append(struct env *env, uint64_t r, bool durable)
{
	static const uint8_t bytes[4096];
	struct iovec iov = {(void *)(uintptr_t)bytes, (size_t)((r >> 32) % m.max_len)};
	uint32_t no = r % 9 == 0 ? NONE : (uint32_t)(r >> 8) % m.n_keys;
	uint64_t lsn = m.n, got = UINT64_MAX;
	char key[32];
	size_t n = no == NONE ? 0 : make_key(no, key);
	int rc;

	assert_true(lsn < MAX);
	m.keys[m.n++] = no;
	if (durable)
		rc = no == NONE ? quire_log_append(env->log, &iov, 1, &got, NULL)
		                : quire_log_append_key(env->log, key, n, &iov, 1, &got, NULL);
	else
		rc = no == NONE ? quire_log_append_nowait(env->log, &iov, 1, &got)
		                : quire_log_append_key_nowait(env->log, key, n, &iov, 1, &got);
	if (rc == 0)
		assert_int_equal(got, lsn);
	if (rc == 0 && durable)
		m.n_durable = lsn + 1;
	if (rc == -ENOSPC)
		m.n--;
	return rc;
}

static int trim(struct env *env, uint64_t lsn)
{
	if (lsn > m.first_asked)
		m.first_asked = lsn;
	int64_t rc = quire_log_trim(env->log, lsn);
	if (rc >= 0)
		m.first = m.first_asked = quire_log_first(env->log);
	return rc < 0 ? (int)rc : 0;
}

static bool random_step(struct env *env, uint64_t *random)
{
	uint64_t r = random_next(random) % 100, n = m.n;

	if (r < 15)
		return goes_on(append(env, random_next(random), true));
	if (r < 86) {
		for (uint64_t i = 0; i <= (r - 15) / 4; i++)
			if (!goes_on(append(env, random_next(random), false)))
				return false;
		return true;
	}
	if (r < 91) {
		int rc = n == 0 ? 0 : quire_log_sync(env->log, n - 1, NULL);
		if (rc == 0)
			m.n_durable = n;
		return goes_on(rc);
	}
	if (r < 94)
		return goes_on(trim(env, m.first + random_next(random) % (m.n - m.first + 1)));
	for (uint64_t i = 0; i < 5; i++)
		if (!look_for(env, (uint32_t)(random_next(random) % m.n_keys), i % 2 ? QUIRE_LOG_VISIBLE : QUIRE_LOG_DURABLE))
			return false;
	return true;
}

static void round_of(struct env *env, void *arg)
{
	uint64_t *random = arg;
	int rc = open_keyed(env);

	if (rc == -EIO)
		return; /* a cut while it was opened */
	if (rc < 0)
		fail_msg("open: %d, %s", rc, env->err.text);
	settle(env);
	verify(env);
	unsigned n = (unsigned)(random_next(random) % 80);
	while (n > 0 && random_step(env, random))
		n--;
	if (n == 0)
		verify(env);
	uint64_t before = quire_log_visible(env->log);
	if (env_close(env) == 0)
		m.n_durable = before;
}

static void look(struct env *env, void *arg)
{
	assert_int_equal(open_keyed(env), 0);
	settle(env);
	verify(env);
	assert_int_equal(env_close_log(env), 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void one_history(uint64_t seed)
{
	uint64_t random = seed;
	struct sim_faults faults = {.max_delay_turns = (unsigned)(random_next(&random) % 6),
	                            .tear_4k = random_next(&random) % 3 == 0,
	                            .ordered = random_next(&random) % 3 == 0,
	                            .cut_ends_io = true};
	static const uint32_t n_keys[] = {5, 60, 2000}, lengths[] = {20, 300, 2000};
	uint64_t n_found = m.n_found;

	e.seed = seed;
	assert_int_equal(sim_clone(initial, seed, &e.sim), 0);
	sim_set_faults(e.sim, &faults);
	memset(&m, 0, sizeof(m));
	m.n_found = n_found;
	/* Some overwrite few keys, some have more of them than a list has room for. */
	m.n_keys = n_keys[random_next(&random) % 3];
	m.max_len = lengths[random_next(&random) % 3];
	for (unsigned i = 0; i < 5; i++) {
		bool cut = random_next(&random) % 5 != 0; /* some rounds end in peace */
		sim_cut_at(e.sim, cut ? sim_n_events(e.sim) + random_next(&random) % 150 : UINT64_MAX, random_next(&random));
		env_run(&e, round_of, &random);
		if (!sim_is_cut(e.sim) && cut && random_next(&random) % 2 == 0)
			sim_cut(e.sim, random_next(&random));
		m.n_cuts += sim_is_cut(e.sim);
	}
	sim_cut_at(e.sim, UINT64_MAX, 0);
	env_run(&e, look, NULL);
	sim_destroy(e.sim);
	e.sim = NULL;
}

static void test_random_histories(void **state)
{
	uint64_t seed = random_seed(), n = random_count(25, 5000), n_cuts = 0, n_lost = 0;
	time_t began = time(NULL);

	for (uint64_t i = 0; i < n; i++) {
		if (getenv("QUIRE_TEST_VERBOSE") != NULL)
			print_message("seed %llu\n", (unsigned long long)(seed + i));
		one_history(seed + i);
		n_cuts += m.n_cuts;
		n_lost += m.n_lost;
	}
	print_message("%llu histories from seed %llu, %llu cuts, %llu records lost that were not promised, %llu found, %lld s\n",
	              (unsigned long long)n, (unsigned long long)seed, (unsigned long long)n_cuts,
	              (unsigned long long)n_lost, (unsigned long long)m.n_found, (long long)(time(NULL) - began));
	assert_true(n_cuts > 0 && m.n_found > 0);
}

static int begin(void **state)
{
	static const struct sim_faults faults = {.max_delay_turns = 3, .cut_ends_io = true};

	env_init(&e, 5, 0, NULL);
	assert_int_equal(sim_create(N_UNITS * FORMAT_UNIT_BYTES, 1, &faults, &e.sim), 0);
	env_run(&e, format, NULL);
	initial = e.sim;
	e.sim = NULL;
	return 0;
}

static int end(void **state)
{
	sim_destroy(initial);
	env_fini(&e);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_histories),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
