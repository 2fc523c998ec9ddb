/* caps_test.c - what a client may have: pools, handles, bytes; and what it may ask for. */
#include "serve_env.h"

#include <errno.h>
#include <stdlib.h>

static struct env e;

static int create(struct quire_tmem_client *c, const struct quire_tmem_pool_options *o, struct quire_tmem_remote **ret)
{
	struct quire_tmem_pool_options sized = *o;

	sized.size = sizeof(sized);
	return quire_tmem_remote_create(c, &sized, ret, NULL);
}

static uint64_t held(struct quire_tmem_remote *pool)
{
	struct quire_tmem_pool_stat s;

	assert_int_equal(quire_tmem_remote_stat(pool, &s), 0);
	return s.held_bytes;
}

static uint64_t client_held(struct quire_tmem_client *c)
{
	struct quire_tmem_client_stat s;

	assert_int_equal(quire_tmem_client_stat(c, &s), 0);
	return s.held_bytes;
}

static int put_noise(struct quire_tmem_remote *pool, uint32_t index)
{
	struct quire_tmem_key key = env_key(1, index);
	uint8_t page[PAGE];

	env_noise(page, PAGE, index);
	return quire_tmem_remote_put(pool, &key, page);
}

/* Puts n pages, beginning with that one: how many were accepted. */
static unsigned fill(struct quire_tmem_remote *pool, uint32_t first, unsigned n)
{
	unsigned n_good = 0;

	for (unsigned i = 0; i < n; i++) {
		int rc = put_noise(pool, first + i);
		n_good += rc == 0;
		assert_true(rc == 0 || rc == -ENOSPC);
	}
	return n_good;
}

static void pools_and_handles_are_limited(void **state)
{
	struct quire_tmem_service_options so = {.n_pools = 2, .n_handles = 3};
	struct quire_tmem_pool_options shared = {.kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SHARED, .uuid = {9}, .cap_bytes = MIB};
	struct quire_tmem_remote *pools[4];

	env_start(&e, &so);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	assert_int_equal(create(c, &shared, &pools[0]), 0);
	pools[1] = env_pool(c, QUIRE_TMEM_PERSISTENT);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = QUIRE_TMEM_EPHEMERAL}, &pools[2]), -ENOSPC);
	assert_int_equal(quire_tmem_remote_open(c, shared.uuid, &pools[2]), 0);
	assert_int_equal(quire_tmem_remote_open(c, shared.uuid, &pools[3]), -ENOSPC);
	/* What was destroyed makes room, and its number finds nothing. */
	quire_tmem_remote_destroy(pools[1]);
	pools[1] = env_pool(c, QUIRE_TMEM_PERSISTENT);
	assert_int_equal(env_put(pools[1], 1, 1), 0);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

static void a_persistent_pool_is_refused_at_the_cap(void **state)
{
	struct quire_tmem_service_options so = {.client_bytes = MIB};

	env_start(&e, &so);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	unsigned n = fill(pool, 0, 400);
	assert_true(n > 200 && n < 256);
	assert_true(held(pool) <= MIB);
	/* Another client has a cap of its own. */
	struct quire_tmem_client *other = env_connect(&e, NULL);
	assert_int_equal(put_noise(env_pool(other, QUIRE_TMEM_PERSISTENT), 1), 0);
	quire_tmem_disconnect(other);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

static void pools_of_a_client_are_capped_together(void **state)
{
	struct quire_tmem_service_options so = {.client_bytes = MIB};

	env_start(&e, &so);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *a = env_pool(c, QUIRE_TMEM_PERSISTENT), *b = env_pool(c, QUIRE_TMEM_PERSISTENT);
	unsigned n = 0;
	for (unsigned i = 0; i < 40; i++) {
		n += fill(a, 10 * i, 10);
		n += fill(b, 10 * i, 10);
		assert_true(client_held(c) <= MIB);
	}
	assert_true(n > 180 && n < 256);
	/* What goes in one is there for the other. */
	quire_tmem_remote_destroy(a);
	assert_true(fill(b, 1000, 50) == 50);
	assert_true(client_held(c) <= MIB);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

static void a_batch_can_t_pass_the_cap_either(void **state)
{
	enum { N = 64 };
	struct quire_tmem_service_options so = {.client_bytes = MIB};
	static uint8_t pages[N][PAGE];
	struct quire_tmem_remote_request r[N];

	env_start(&e, &so);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pools[2] = {env_pool(c, QUIRE_TMEM_PERSISTENT), env_pool(c, QUIRE_TMEM_PERSISTENT)};
	unsigned n_good = 0;
	for (unsigned turn = 0; turn < 8; turn++) {
		for (unsigned i = 0; i < N; i++) {
			uint32_t index = turn * N + i;
			env_noise(pages[i], PAGE, index);
			r[i] = (struct quire_tmem_remote_request){
				.pool = pools[i / 7 % 2], .key = env_key(1, index), .verb = QUIRE_TMEM_PUT, .page = pages[i]};
		}
		assert_int_equal(quire_tmem_remote_batch(c, r, N), 0);
		for (unsigned i = 0; i < N; i++)
			n_good += r[i].result == 0;
		assert_true(client_held(c) <= MIB);
	}
	assert_true(n_good > 180 && n_good < 256);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

static void an_ephemeral_pool_gives_way_to_others(void **state)
{
	struct quire_tmem_service_options so = {.client_bytes = MIB};

	env_start(&e, &so);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *a = env_pool(c, QUIRE_TMEM_EPHEMERAL);
	assert_int_equal(fill(a, 0, 400), 400);
	assert_true(held(a) > MIB * 3 / 4);
	struct quire_tmem_remote *b = env_pool(c, QUIRE_TMEM_EPHEMERAL), *p = env_pool(c, QUIRE_TMEM_PERSISTENT);
	/* To another ephemeral one down to an even share, */
	assert_int_equal(fill(b, 0, 200), 200);
	assert_true(held(b) > MIB / 4);
	assert_true(held(a) > MIB / 4);
	assert_true(client_held(c) <= MIB);
	/* to a persistent one with all it has. */
	assert_true(fill(p, 0, 400) > 180);
	assert_true(client_held(c) <= MIB);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

static void a_shared_pool_counts_by_its_cap(void **state)
{
	struct quire_tmem_service_options so = {.client_bytes = MIB};
	struct quire_tmem_pool_options o = {
		.kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_SHARED, .uuid = {1}, .cap_bytes = 2 * MIB};
	struct quire_tmem_remote *a, *b;

	env_start(&e, &so);
	struct quire_tmem_client *c = env_connect(&e, NULL), *d = env_connect(&e, NULL);
	assert_int_equal(create(c, &o, &a), -ENOSPC);
	o.cap_bytes = MIB / 2;
	assert_int_equal(create(c, &o, &a), 0);
	assert_int_equal(client_held(c), MIB / 2);
	struct quire_tmem_remote *private = env_pool(c, QUIRE_TMEM_PERSISTENT);
	unsigned n = fill(private, 0, 200);
	assert_true(n > 90 && n < 128);
	/* For each who has it. */
	assert_true(fill(env_pool(d, QUIRE_TMEM_PERSISTENT), 0, 200) > 180);
	assert_int_equal(quire_tmem_remote_open(d, o.uuid, &b), -ENOSPC);
	quire_tmem_disconnect(c);
	quire_tmem_disconnect(d);
	env_stop(&e);
}

static void what_is_not_allowed_is_refused(void **state)
{
	struct quire_tmem_remote *pool;

	env_start(&e, NULL);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = QUIRE_TMEM_EPHEMERAL, .weight = 101}, &pool), -EPERM);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = QUIRE_TMEM_EPHEMERAL, .domain = 256}, &pool), -EINVAL);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = QUIRE_TMEM_EPHEMERAL, .domain = 1,
	                                                             .flags = QUIRE_TMEM_SHARED, .uuid = {1}}, &pool), -EINVAL);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = 7}, &pool), -EINVAL);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = QUIRE_TMEM_EPHEMERAL, .page_bytes = 4097}, &pool), -EINVAL);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_REMOTE}, &pool), -EPERM);
	assert_int_equal(create(c, &(struct quire_tmem_pool_options){.kind = QUIRE_TMEM_EPHEMERAL, .flags = 128}, &pool), -EINVAL);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

static void a_domain_is_one_client_s(void **state)
{
	struct quire_tmem_pool_options o = {.kind = QUIRE_TMEM_PERSISTENT, .domain = 5};
	struct quire_tmem_remote *pools[3];
	struct quire_tmem_stat stat;

	env_start(&e, NULL);
	struct quire_tmem_client *c = env_connect(&e, NULL), *d = env_connect(&e, NULL);
	assert_int_equal(create(c, &o, &pools[0]), 0);
	assert_int_equal(create(c, &o, &pools[1]), 0);
	assert_int_equal(create(d, &o, &pools[2]), 0);
	assert_int_equal(put_noise(pools[0], 1), 0);
	assert_int_equal(put_noise(pools[2], 1), 0);
	quire_tmem_stat(e.tmem, &stat);
	assert_int_equal(stat.dedup_saved_bytes, 0);
	assert_int_equal(put_noise(pools[1], 1), 0);
	quire_tmem_stat(e.tmem, &stat);
	assert_int_equal(stat.dedup_saved_bytes, PAGE);
	quire_tmem_disconnect(c);
	quire_tmem_disconnect(d);
	env_stop(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pools_and_handles_are_limited),
		cmocka_unit_test(a_persistent_pool_is_refused_at_the_cap),
		cmocka_unit_test(pools_of_a_client_are_capped_together),
		cmocka_unit_test(a_batch_can_t_pass_the_cap_either),
		cmocka_unit_test(an_ephemeral_pool_gives_way_to_others),
		cmocka_unit_test(a_shared_pool_counts_by_its_cap),
		cmocka_unit_test(what_is_not_allowed_is_refused),
		cmocka_unit_test(a_domain_is_one_client_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
