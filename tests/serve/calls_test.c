/* calls_test.c - each call on a pool of a service does what it does on a pool at home. */
#include "serve_env.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static struct env e;

static int start(void **state)
{
	env_start(&e, NULL);
	return 0;
}

static int stop(void **state)
{
	env_stop(&e);
	return 0;
}

static void a_private_ephemeral_get_takes_the_page(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_EPHEMERAL);

	assert_int_equal(env_get(pool, 1, 11), -ENOENT);
	assert_int_equal(env_put(pool, 1, 11), 0);
	assert_int_equal(env_get(pool, 1, 11), 1);
	assert_int_equal(env_get(pool, 1, 11), -ENOENT);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

static void a_persistent_get_leaves_it_unless_told_to_take(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	struct quire_tmem_key key = env_key(1, 1);
	uint8_t page[PAGE];

	assert_int_equal(env_put(pool, 1, 11), 0);
	assert_int_equal(env_get(pool, 1, 11), 1);
	assert_int_equal(quire_tmem_remote_get(pool, &key, page, QUIRE_TMEM_GET_TAKE), 0);
	assert_int_equal(env_get(pool, 1, 11), -ENOENT);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

static void flushes_tell_how_many(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	struct quire_tmem_key key = env_key(1, 7);

	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(env_put(pool, i, i), 0);
	assert_int_equal(quire_tmem_remote_flush(pool, &key), 1);
	assert_int_equal(quire_tmem_remote_flush(pool, &key), 0);
	assert_int_equal(quire_tmem_remote_flush_object(pool, key.object), 19);
	assert_int_equal(env_get(pool, 1, 1), -ENOENT);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

static void statistics_are_the_pool_s(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	struct quire_tmem_pool_stat s;
	struct quire_tmem_client_stat cs;

	assert_int_equal(env_put(pool, 1, 11), 0);
	assert_int_equal(env_get(pool, 1, 11), 1);
	assert_int_equal(env_get(pool, 2, 11), -ENOENT);
	assert_int_equal(quire_tmem_remote_stat(pool, &s), 0);
	assert_int_equal(s.n_pages, 1);
	assert_int_equal(s.n_puts, 1);
	assert_int_equal(s.n_gets, 2);
	assert_int_equal(s.n_get_hits, 1);
	assert_int_equal(s.page_bytes, PAGE);
	assert_int_equal(s.kind, QUIRE_TMEM_PERSISTENT);
	assert_int_equal(quire_tmem_client_stat(c, &cs), 0);
	assert_int_equal(cs.held_bytes, s.held_bytes);
	assert_int_equal(cs.cap_bytes, 16 * MIB);
	assert_int_equal(cs.n_pools, 1);
	assert_int_equal(cs.n_handles, 1);
	quire_tmem_remote_destroy(pool);
	assert_int_equal(quire_tmem_client_stat(c, &cs), 0);
	assert_int_equal(cs.n_pools, 0);
	assert_int_equal(cs.held_bytes, 0);
	quire_tmem_disconnect(c);
}

static void statistics_are_the_service_s(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	struct quire_tmem_service_stat service, service_here;
	struct quire_tmem_stat tmem, tmem_here;

	env_await_clients(&e, 1); /* those before are gone, soon */
	assert_int_equal(env_put(pool, 1, 11), 0);
	assert_int_equal(quire_tmem_remote_service_stat(c, &tmem, &service), 0);
	quire_tmem_stat(e.tmem, &tmem_here);
	assert_memory_equal(&tmem, &tmem_here, sizeof(tmem));
	service_here = env_stat(&e);
	service_here.n_sleeps = service.n_sleeps; /* it may have slept since */
	assert_memory_equal(&service, &service_here, sizeof(service));
	assert_int_equal(service.n_clients, 1);
	assert_true(service.n_messages >= 3);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

static void a_frozen_pool_refuses_puts(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);

	assert_int_equal(quire_tmem_remote_freeze(pool, true), 0);
	assert_int_equal(env_put(pool, 1, 11), -EROFS);
	assert_int_equal(quire_tmem_remote_freeze(pool, false), 0);
	assert_int_equal(env_put(pool, 1, 11), 0);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

static struct quire_tmem_remote_request request(struct quire_tmem_remote *pool, enum quire_tmem_verb verb, uint32_t index, uint8_t *page)
{
	return (struct quire_tmem_remote_request){.pool = pool, .key = env_key(1, index), .verb = verb, .page = page, .result = -1};
}

static void a_batch_is_one_message_with_results_in_order(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_EPHEMERAL);
	static uint8_t pages[6][PAGE];
	struct quire_tmem_remote_request r[] = {
		request(pool, QUIRE_TMEM_PUT, 1, pages[0]), request(pool, QUIRE_TMEM_PUT, 1, pages[1]),
		request(pool, QUIRE_TMEM_GET, 1, pages[2]), request(pool, QUIRE_TMEM_GET, 1, pages[3]),
		request(pool, QUIRE_TMEM_PUT, 2, pages[4]), request(pool, QUIRE_TMEM_FLUSH, 2, NULL),
		request(pool, QUIRE_TMEM_FLUSH_OBJECT, 0, NULL),
	};

	env_fill(pages[0], PAGE, 1);
	env_fill(pages[1], PAGE, 2);
	uint64_t before = env_stat(&e).n_messages;
	assert_int_equal(quire_tmem_remote_batch(c, r, 7), 0);
	assert_int_equal(env_stat(&e).n_messages, before + 1);
	const int64_t expected[] = {0, 0, 0, -ENOENT, 0, 1, 0};
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(r[i].result, expected[i]);
	assert_memory_equal(pages[2], pages[1], PAGE);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

static void a_long_batch_is_several_messages(void **state)
{
	enum { N = 300 };
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	struct quire_tmem_remote_request r[N];
	uint8_t (*pages)[PAGE] = calloc(2 * N, PAGE);

	assert_non_null(pages);
	for (uint32_t i = 0; i < N; i++) {
		env_fill(pages[i], PAGE, i);
		r[i] = request(pool, QUIRE_TMEM_PUT, i, pages[i]);
	}
	assert_int_equal(quire_tmem_remote_batch(c, r, N), 0);
	for (uint32_t i = 0; i < N; i++) {
		assert_int_equal(r[i].result, 0);
		r[i] = request(pool, QUIRE_TMEM_GET, N - 1 - i, pages[N + i]);
	}
	assert_int_equal(quire_tmem_remote_batch(c, r, N), 0);
	for (uint32_t i = 0; i < N; i++) {
		assert_int_equal(r[i].result, 0);
		assert_memory_equal(pages[N + i], pages[N - 1 - i], PAGE);
	}
	free(pages);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

static void a_batch_of_what_is_none_does_nothing(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL), *other = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	static uint8_t page[PAGE];
	struct quire_tmem_remote_request r[2] = {
		request(pool, QUIRE_TMEM_PUT, 1, page), request(pool, (enum quire_tmem_verb)9, 1, page)};

	assert_int_equal(quire_tmem_remote_batch(c, r, 2), -EINVAL);
	assert_int_equal(quire_tmem_remote_batch(other, r, 1), -EINVAL);
	assert_int_equal(env_get(pool, 1, 0), -ENOENT);
	assert_int_equal(quire_tmem_remote_batch(c, r, 0), 0);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
	quire_tmem_disconnect(other);
}

static void pages_are_as_long_as_a_slot_at_most(void **state)
{
	struct quire_tmem_client_options co = {.size = sizeof(co), .n_slots = 1, .slot_bytes = 2 * MIB};
	struct quire_tmem_client *small = env_connect(&e, NULL), *c = env_connect(&e, &co);
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = 2 * MIB};
	struct quire_tmem_remote *pool;
	struct quire_tmem_key key = env_key(1, 1);
	uint8_t *pages = malloc(4 * MIB);

	assert_non_null(pages);
	assert_int_equal(quire_tmem_remote_create(small, &o, &pool, NULL), -E2BIG);
	assert_int_equal(quire_tmem_remote_create(c, &o, &pool, NULL), 0);
	env_fill(pages, 2 * MIB, 5);
	assert_int_equal(quire_tmem_remote_put(pool, &key, pages), 0);
	assert_int_equal(quire_tmem_remote_get(pool, &key, pages + 2 * MIB, QUIRE_TMEM_GET_USUAL), 0);
	assert_memory_equal(pages, pages + 2 * MIB, 2 * MIB);
	free(pages);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
	quire_tmem_disconnect(small);
}

static void clients_share_a_pool_by_its_uuid(void **state)
{
	struct quire_tmem_client *a = env_connect(&e, NULL), *b = env_connect(&e, NULL);
	struct quire_tmem_pool_options o = {
		.size = sizeof(o), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SHARED, .uuid = {1, 2, 3}};
	struct quire_tmem_remote *of_a, *of_b;

	assert_int_equal(quire_tmem_remote_open(b, o.uuid, &of_b), -ENOENT);
	assert_int_equal(quire_tmem_remote_create(a, &o, &of_a, NULL), 0);
	assert_int_equal(quire_tmem_remote_create(b, &o, &of_b, NULL), -EEXIST);
	assert_int_equal(quire_tmem_remote_open(b, o.uuid, &of_b), 0);
	assert_int_equal(env_put(of_a, 1, 11), 0);
	assert_int_equal(env_get(of_b, 1, 11), 1);
	assert_int_equal(env_get(of_b, 1, 11), 1);
	assert_int_equal(quire_tmem_remote_freeze(of_b, true), -EPERM);
	/* It stays while somebody has it. */
	quire_tmem_remote_destroy(of_a);
	quire_tmem_disconnect(a);
	env_await_clients(&e, 1);
	assert_int_equal(env_get(of_b, 1, 11), 1);
	quire_tmem_remote_destroy(of_b);
	assert_int_equal(quire_tmem_remote_open(b, o.uuid, &of_b), -ENOENT);
	quire_tmem_disconnect(b);
}

static void what_a_client_had_goes_with_it(void **state)
{
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT), *other = env_pool(c, QUIRE_TMEM_EPHEMERAL);

	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(env_put(pool, i, i), 0);
		assert_int_equal(env_put(other, i, i), 0);
	}
	env_await_pages(&e, 200);
	quire_tmem_disconnect(c);
	env_await_clients(&e, 0);
	env_await_pages(&e, 0);
}

/* ---- many threads ---- */

#define THREADS 12u

struct caller {
	pthread_t thread;
	struct quire_tmem_remote *pool;
	uint32_t first;
	_Atomic unsigned n_bad;
};

static void *call(void *arg)
{
	struct caller *caller = arg;

	for (uint32_t i = 0; i < 60; i++) {
		uint32_t index = caller->first + i;
		caller->n_bad += env_put(caller->pool, index, index) != 0;
		caller->n_bad += env_get(caller->pool, index, index) != 1;
		caller->n_bad += env_get(caller->pool, index, index) != -ENOENT;
	}
	return NULL;
}

static void more_threads_than_slots_take_turns(void **state)
{
	struct quire_tmem_client_options co = {.size = sizeof(co), .n_slots = 4};
	struct quire_tmem_client *c = env_connect(&e, &co);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_EPHEMERAL);
	struct caller callers[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		callers[i] = (struct caller){.pool = pool, .first = 1000 * i};
		assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(callers[i].n_bad, 0);
	}
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
}

/* ---- at random, beside a pool at home ---- */

struct both {
	struct quire_tmem *tmem;
	struct quire_tmem_pool *local;
	struct quire_tmem_client *client;
	struct quire_tmem_remote *remote;
};

enum { RANDOM_BATCH = 40 };

static void compare_batch(struct both *b, uint64_t *random, uint8_t (*pages)[PAGE])
{
	struct quire_tmem_request l[RANDOM_BATCH];
	struct quire_tmem_remote_request r[RANDOM_BATCH];
	unsigned n = 1 + (unsigned)random_below(random, RANDOM_BATCH);

	for (unsigned i = 0; i < n; i++) {
		enum quire_tmem_verb verb = (enum quire_tmem_verb)(1 + random_below(random, random_below(random, 10) == 0 ? 4 : 3));
		struct quire_tmem_key key = env_key(random_below(random, 3), (uint32_t)random_below(random, 12));
		enum quire_tmem_get how = (enum quire_tmem_get)random_below(random, 3);
		env_fill(pages[i], PAGE, verb == QUIRE_TMEM_PUT ? random_below(random, 50) : 0);
		memcpy(pages[RANDOM_BATCH + i], pages[i], PAGE);
		l[i] = (struct quire_tmem_request){.pool = b->local, .key = key, .verb = verb, .how = how, .page = pages[i]};
		r[i] = (struct quire_tmem_remote_request){
			.pool = b->remote, .key = key, .verb = verb, .how = how, .page = pages[RANDOM_BATCH + i]};
	}
	assert_int_equal(quire_tmem_batch(b->tmem, l, n, NULL), 0);
	assert_int_equal(quire_tmem_remote_batch(b->client, r, n), 0);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(l[i].result, r[i].result);
		assert_memory_equal(pages[i], pages[RANDOM_BATCH + i], PAGE);
	}
}

static void random_batches_do_what_they_do_at_home(void **state)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 16 * MIB, .n_threads = 1};
	struct quire_tmem_pool_options po = {.size = sizeof(po)};
	uint64_t random = env_seed();
	uint8_t (*pages)[PAGE] = calloc(2 * RANDOM_BATCH, PAGE);
	struct both b;

	assert_non_null(pages);
	assert_int_equal(quire_tmem_create(&o, &b.tmem, NULL), 0);
	b.client = env_connect(&e, NULL);
	for (po.kind = QUIRE_TMEM_EPHEMERAL; po.kind <= QUIRE_TMEM_PERSISTENT; po.kind++) {
		assert_int_equal(quire_tmem_pool_create(b.tmem, &po, &b.local, NULL), 0);
		assert_int_equal(quire_tmem_remote_create(b.client, &po, &b.remote, NULL), 0);
		for (unsigned i = 0; i < (env_is_quick() ? 100u : 20000u); i++)
			compare_batch(&b, &random, pages);
		quire_tmem_remote_destroy(b.remote);
	}
	quire_tmem_disconnect(b.client);
	quire_tmem_destroy(b.tmem);
	free(pages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_private_ephemeral_get_takes_the_page),
		cmocka_unit_test(a_persistent_get_leaves_it_unless_told_to_take),
		cmocka_unit_test(flushes_tell_how_many),
		cmocka_unit_test(statistics_are_the_pool_s),
		cmocka_unit_test(statistics_are_the_service_s),
		cmocka_unit_test(a_frozen_pool_refuses_puts),
		cmocka_unit_test(a_batch_is_one_message_with_results_in_order),
		cmocka_unit_test(a_long_batch_is_several_messages),
		cmocka_unit_test(a_batch_of_what_is_none_does_nothing),
		cmocka_unit_test(pages_are_as_long_as_a_slot_at_most),
		cmocka_unit_test(clients_share_a_pool_by_its_uuid),
		cmocka_unit_test(what_a_client_had_goes_with_it),
		cmocka_unit_test(more_threads_than_slots_take_turns),
		cmocka_unit_test(random_batches_do_what_they_do_at_home),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
