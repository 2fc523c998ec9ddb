/* Pools of clients that spill: within a cap of each, and holding nobody up but those who do so themselves. */
#include "serve_env.h"
#include "../tmem/fake_backing.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#define CLIENT_BYTES MIB
#define SPILL_BYTES (4 * MIB)
#define SHARE (SPILL_BYTES / 4)
#define SEGMENT (256u << 10)

static struct env env;
static struct fake_backing backing;

static int setup(void **state)
{
	struct quire_tmem_service_options o = {.n_threads = 1, .client_bytes = CLIENT_BYTES, .spill_bytes = SPILL_BYTES};

	env_start(&env, &o);
	fake_backing_init(&backing, 40, SEGMENT);
	assert_int_equal(fake_backing_set(&backing, env.tmem, PAGE), 0);
	return 0;
}

static int teardown(void **state)
{
	env_stop(&env);
	fake_backing_fini(&backing);
	return 0;
}

static int make_pool(struct quire_tmem_client *c, uint32_t flags, struct quire_tmem_remote **ret)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = flags};

	memset(o.uuid, (flags & QUIRE_TMEM_SHARED) != 0, sizeof(o.uuid));
	return quire_tmem_remote_create(c, &o, ret, NULL);
}

static int put_noise(struct quire_tmem_remote *pool, uint32_t index)
{
	struct quire_tmem_key key = env_key(1, index);
	uint8_t page[PAGE];

	env_noise(page, sizeof(page), index);
	return quire_tmem_remote_put(pool, &key, page);
}

static int get_noise(struct quire_tmem_remote *pool, uint32_t index)
{
	struct quire_tmem_key key = env_key(1, index);
	uint8_t page[PAGE], expected[PAGE];
	int rc = quire_tmem_remote_get(pool, &key, page, QUIRE_TMEM_GET_USUAL);

	env_noise(expected, sizeof(expected), index);
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

static struct quire_tmem_stat stat_of(void)
{
	struct quire_tmem_stat s;

	quire_tmem_stat(env.tmem, &s);
	return s;
}

static void a_client_has_what_its_two_caps_allow(void **state)
{
	struct quire_tmem_client *c = env_connect(&env, NULL);
	struct quire_tmem_remote *pool = NULL;
	uint32_t n = 0;
	int rc;

	assert_int_equal(make_pool(c, QUIRE_TMEM_SPILL, &pool), 0);
	while ((rc = put_noise(pool, n)) == 0)
		n++;
	assert_int_equal(rc, -ENOSPC);
	assert_true(stat_of().spilled_bytes >= SHARE && stat_of().spilled_bytes <= SHARE + (64u << 10));
	assert_true(n > (SHARE + CLIENT_BYTES / 4 * 3) / PAGE);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(get_noise(pool, i), 1);
	quire_tmem_disconnect(c);
	env_await_clients(&env, 0);
	assert_int_equal(stat_of().n_spilled, 0);
}

static void four_pools_of_a_client_spill_and_no_shared_one(void **state)
{
	struct quire_tmem_client *c = env_connect(&env, NULL);
	struct quire_tmem_remote *pools[5];

	assert_int_equal(make_pool(c, QUIRE_TMEM_SPILL | QUIRE_TMEM_SHARED, &pools[0]), -EPERM);
	assert_int_equal(make_pool(c, QUIRE_TMEM_REMOTE, &pools[0]), -EPERM);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(make_pool(c, QUIRE_TMEM_SPILL, &pools[i]), 0);
	assert_int_equal(make_pool(c, QUIRE_TMEM_SPILL, &pools[4]), -ENOSPC);
	assert_int_equal(make_pool(c, 0, &pools[4]), 0);
	quire_tmem_remote_destroy(pools[0]);
	assert_int_equal(make_pool(c, QUIRE_TMEM_SPILL, &pools[0]), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(env_put(pools[i], 1, i), 0);
	quire_tmem_disconnect(c);
}

struct slow {
	struct quire_tmem_remote *pool;
	sem_t reads, may_end;
	int result;
};

static void hold(void *arg)
{
	struct slow *s = arg;

	sem_post(&s->reads);
	sem_wait(&s->may_end);
}

static void *get_slowly(void *arg)
{
	struct slow *s = arg;

	s->result = get_noise(s->pool, 0);
	return NULL;
}

static void others_do_not_wait_for_its_reads(void **state)
{
	struct quire_tmem_client *c = env_connect(&env, NULL), *other = env_connect(&env, NULL);
	struct quire_tmem_remote *pool = env_pool(other, QUIRE_TMEM_PERSISTENT);
	struct slow s = {0};
	pthread_t thread;

	assert_int_equal(make_pool(c, QUIRE_TMEM_SPILL, &s.pool), 0);
	for (uint32_t i = 0; i < 2 * CLIENT_BYTES / PAGE && put_noise(s.pool, i) == 0; i++)
		;
	assert_true(stat_of().n_spilled > 0);
	sem_init(&s.reads, 0, 0);
	sem_init(&s.may_end, 0, 0);
	pthread_mutex_lock(&backing.lock);
	backing.hook_arg = &s;
	backing.hook = hold;
	pthread_mutex_unlock(&backing.lock);
	assert_int_equal(pthread_create(&thread, NULL, get_slowly, &s), 0);
	sem_wait(&s.reads);
	assert_int_equal(env_put(pool, 1, 11), 0);
	assert_int_equal(env_get(pool, 1, 11), 1);
	sem_post(&s.may_end);
	pthread_join(thread, NULL);
	assert_int_equal(s.result, 1);
	quire_tmem_disconnect(c);
	quire_tmem_disconnect(other);
	sem_destroy(&s.reads);
	sem_destroy(&s.may_end);
}

#define SPILLING(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SPILLING(a_client_has_what_its_two_caps_allow), SPILLING(four_pools_of_a_client_spill_and_no_shared_one),
		SPILLING(others_do_not_wait_for_its_reads),
	};

	return cmocka_run_group_tests_name("serve-spill", tests, NULL, NULL);
}
