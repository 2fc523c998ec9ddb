/* Pools: the promises of quire/tmem.h, one by one, then all at random against a model. */
#include "model.h"
#include "pools.h"
#include "sums.h"
#include "with_pages.h"
#include "../../src/tmem/tmem_internal.h"
#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static struct quire_tmem_pool *make_pool(struct quire_tmem *t, enum quire_tmem_kind kind, uint32_t flags)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = kind, .flags = flags, .uuid = {flags & 1}};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

static struct quire_tmem_key key_of(uint64_t object, uint32_t index)
{
	return (struct quire_tmem_key){.object = {object, 2, 3}, .index = index};
}

static int put(struct quire_tmem_pool *pool, uint32_t index, uint32_t content)
{
	uint8_t page[4096];
	struct quire_tmem_key k = key_of(1, index);

	model_fill(content, page, sizeof(page));
	return quire_tmem_put(pool, &k, page);
}

/* 1: the page is that content; or what get says. */
static int get(struct quire_tmem_pool *pool, uint32_t index, uint32_t content, enum quire_tmem_get how)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = key_of(1, index);
	int rc = quire_tmem_get(pool, &k, page, how);

	model_fill(content, expected, sizeof(expected));
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

static void a_private_ephemeral_get_takes_the_page(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_EPHEMERAL, 0);

	assert_int_equal(put(pool, 1, 11), 0);
	assert_int_equal(get(pool, 1, 11, QUIRE_TMEM_GET_KEEP), 1);
	assert_int_equal(get(pool, 1, 11, QUIRE_TMEM_GET_USUAL), 1);
	assert_int_equal(get(pool, 1, 11, QUIRE_TMEM_GET_USUAL), -ENOENT);
	quire_tmem_destroy(t);
}

static void a_persistent_or_shared_get_leaves_it(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *pools[2] = {make_pool(t, QUIRE_TMEM_PERSISTENT, 0),
	                                    make_pool(t, QUIRE_TMEM_EPHEMERAL, QUIRE_TMEM_SHARED)};

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(put(pools[i], 1, 11), 0);
		assert_int_equal(get(pools[i], 1, 11, QUIRE_TMEM_GET_USUAL), 1);
		assert_int_equal(get(pools[i], 1, 11, QUIRE_TMEM_GET_TAKE), 1);
		assert_int_equal(get(pools[i], 1, 11, QUIRE_TMEM_GET_USUAL), -ENOENT);
	}
	quire_tmem_destroy(t);
}

static void put_put_get_gives_the_second_or_nothing(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_PERSISTENT, QUIRE_TMEM_REFUSE_INCOMPRESSIBLE);

	assert_int_equal(put(pool, 1, 11), 0);
	assert_int_equal(put(pool, 1, 12), 0);
	assert_int_equal(get(pool, 1, 12, QUIRE_TMEM_GET_USUAL), 1);
	/* 15 is noise: refused, and the old one is flushed. */
	assert_int_equal(put(pool, 1, 15), -E2BIG);
	assert_int_equal(get(pool, 1, 12, QUIRE_TMEM_GET_USUAL), -ENOENT);
	assert_int_equal(put(pool, 1, 13), 0);
	quire_tmem_pool_freeze(pool, true);
	assert_int_equal(put(pool, 1, 14), -EROFS);
	assert_int_equal(get(pool, 1, 13, QUIRE_TMEM_GET_USUAL), -ENOENT);
	quire_tmem_destroy(t);
}

static void what_persistent_pools_hold_stays_whatever_comes(void **state)
{
	uint64_t budget = with_pages(2 * MIB, BEGUN_PAGES);
	struct quire_tmem *t = make(budget);
	struct quire_tmem_pool *kept = make_pool(t, QUIRE_TMEM_PERSISTENT, 0), *other = make_pool(t, QUIRE_TMEM_EPHEMERAL, 0);
	uint32_t n = 0;
	uint64_t least = 0;
	struct quire_tmem_stat s;

	while (put(kept, n, 100001 + n * 7) == 0)
		n++;
	assert_true(n > 300);
	for (uint32_t i = 0; i < 2000; i++)
		(void)put(other, i, 5000001 + i * 7);
	assert_int_equal(quire_tmem_set_budget(t, budget / 2, &least), -EBUSY);
	assert_true(least > budget / 2 && least <= budget);
	quire_tmem_stat(t, &s);
	assert_true(s.held_bytes <= budget);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(get(kept, i, 100001 + i * 7, QUIRE_TMEM_GET_USUAL), 1);
	quire_tmem_destroy(t);
}

static void ephemeral_pages_leave_for_others_and_by_weight(void **state)
{
	struct quire_tmem *t = make(4 * MIB);
	struct quire_tmem_pool *light = make_pool(t, QUIRE_TMEM_EPHEMERAL, 0), *heavy = make_pool(t, QUIRE_TMEM_EPHEMERAL, 0);
	struct quire_tmem_pool_stat a, b;

	assert_int_equal(quire_tmem_pool_set_weight(heavy, 300), 0);
	for (uint32_t i = 0; i < 6000; i++) {
		assert_int_equal(put(light, i, 100001 + i * 7), 0);
		assert_int_equal(put(heavy, i, 5000001 + i * 7), 0);
	}
	quire_tmem_pool_stat(light, &a);
	quire_tmem_pool_stat(heavy, &b);
	assert_true(a.n_evicted > 0 && b.n_evicted > 0);
	assert_true(b.held_bytes > 2 * a.held_bytes && b.held_bytes < 4 * a.held_bytes);
	quire_tmem_destroy(t);
}

static void of_pages_that_nobody_uses_small_ones_stay_longer(void **state)
{
	struct quire_tmem *t = make(2 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_EPHEMERAL, QUIRE_TMEM_SHARED);
	unsigned n_small = 0, n_large = 0;

	/* In turns: 512 bytes of noise, and 4 KiB. */
	for (uint32_t i = 0; i < 4000; i++)
		assert_int_equal(put(pool, i, i % 2 == 0 ? 1000001 + i * 35 : 1000000 + i * 35), 0);
	for (uint32_t i = 0; i < 4000; i++)
		if (get(pool, i, i % 2 == 0 ? 1000001 + i * 35 : 1000000 + i * 35, QUIRE_TMEM_GET_KEEP) == 1)
			*(i % 2 == 0 ? &n_small : &n_large) += 1;
	printf("%u small, %u large\n", n_small, n_large);
	assert_true(n_large > 50 && n_small > 2 * n_large);
	quire_tmem_destroy(t);
}

static void a_cap_holds(void **state)
{
	struct quire_tmem *t = make(16 * MIB);
	struct quire_tmem_pool *pools[2] = {make_pool(t, QUIRE_TMEM_EPHEMERAL, 0), make_pool(t, QUIRE_TMEM_PERSISTENT, 0)};
	struct quire_tmem_pool_stat s;

	for (unsigned k = 0; k < 2; k++) {
		unsigned n_refused = 0;
		assert_int_equal(quire_tmem_pool_set_cap(pools[k], MIB), 0);
		for (uint32_t i = 0; i < 3000; i++)
			n_refused += put(pools[k], i, 100001 + i * 7) != 0;
		quire_tmem_pool_stat(pools[k], &s);
		assert_true(s.held_bytes <= MIB + 8192 && s.held_bytes > MIB / 2);
		assert_int_equal(s.n_put_refused, n_refused);
		assert_true(k == 0 ? n_refused == 0 && s.n_evicted > 0 : n_refused > 1000);
	}
	assert_int_equal(quire_tmem_pool_set_cap(pools[1], MIB / 4), -EBUSY);
	assert_int_equal(quire_tmem_pool_set_cap(pools[0], MIB / 4), 0);
	quire_tmem_destroy(t);
}

/* Where persistent pages have all memory: pools are charged like pages. */
static void so_many_pools_are_not_to_be_had(void **state)
{
	const struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_EPHEMERAL};
	struct quire_tmem *t = make(MIB);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_PERSISTENT, 0), *others[64];
	struct quire_tmem_stat s;
	unsigned n = 0;

	for (uint32_t i = 0; put(pool, i, 5 * i + 5) == 0; i++)
		;
	while (n < 64 && quire_tmem_pool_create(t, &o, &others[n], NULL) == 0)
		n++;
	assert_true(n < 64);
	assert_int_equal(quire_tmem_pool_create(t, &o, &others[0], NULL), -ENOMEM);
	quire_tmem_stat(t, &s);
	assert_true(s.held_bytes <= s.budget_bytes);
	quire_tmem_destroy(t);
}

static void equal_pages_are_kept_once(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *a = make_pool(t, QUIRE_TMEM_PERSISTENT, 0), *b = make_pool(t, QUIRE_TMEM_PERSISTENT, 0);
	struct quire_tmem_stat s;

	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(put(a, i, 11), 0);
	quire_tmem_stat(t, &s);
	assert_int_equal(s.n_shared, 100);
	assert_int_equal(s.dedup_saved_bytes, 99 * 4096);
	/* Another pool's is another domain. */
	assert_int_equal(put(b, 1, 11), 0);
	quire_tmem_stat(t, &s);
	assert_int_equal(s.dedup_saved_bytes, 99 * 4096);
	for (uint32_t i = 0; i < 99; i++)
		assert_int_equal(get(a, i, 11, QUIRE_TMEM_GET_TAKE), 1);
	assert_int_equal(get(a, 99, 11, QUIRE_TMEM_GET_USUAL), 1);
	quire_tmem_pool_destroy(a);
	quire_tmem_stat(t, &s);
	assert_int_equal(s.n_pages, 1);
	quire_tmem_destroy(t);
}

static void shared_contents_outlive_the_pool_that_brought_them(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .domain = 5};
	struct quire_tmem_pool *a, *b;
	struct quire_tmem_stat s;

	assert_int_equal(quire_tmem_pool_create(t, &o, &a, NULL), 0);
	assert_int_equal(quire_tmem_pool_create(t, &o, &b, NULL), 0);
	assert_int_equal(put(a, 1, 11), 0);
	assert_int_equal(put(b, 1, 11), 0);
	quire_tmem_pool_destroy(a);
	assert_int_equal(get(b, 1, 11, QUIRE_TMEM_GET_USUAL), 1);
	assert_int_equal(put(b, 2, 11), 0);
	quire_tmem_stat(t, &s);
	assert_int_equal(s.dedup_saved_bytes, 4096);
	quire_tmem_pool_destroy(b);
	quire_tmem_stat(t, &s);
	assert_int_equal(s.n_pages + s.content_bytes, 0);
	quire_tmem_destroy(t);
}

static void damage_is_a_miss_or_an_error_never_wrong_bytes(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *e = make_pool(t, QUIRE_TMEM_EPHEMERAL, QUIRE_TMEM_SHARED), *p = make_pool(t, QUIRE_TMEM_PERSISTENT, 0);
	struct quire_tmem_pool_stat s;

	for (unsigned i = 0; i < 2; i++) {
		struct quire_tmem_pool *pool = i == 0 ? e : p;
		struct quire_tmem_key k = key_of(1, 1);
		assert_int_equal(put(pool, 1, 11), 0);
		struct where at = tmem_page_find(pool, &k);
		struct slot_head *h = storage_at(&t->storage, at.value);
		((uint8_t *)(h + 1))[slot_len(h) / 2] ^= 4;
	}
	assert_int_equal(get(e, 1, 11, QUIRE_TMEM_GET_USUAL), -ENOENT);
	quire_tmem_pool_stat(e, &s);
	assert_int_equal(s.n_pages, 0);
	assert_int_equal(get(p, 1, 11, QUIRE_TMEM_GET_USUAL), -EBADMSG);
	assert_int_equal(get(p, 1, 11, QUIRE_TMEM_GET_TAKE), -EBADMSG);
	assert_int_equal(get(p, 1, 11, QUIRE_TMEM_GET_USUAL), -EBADMSG);
	/* An equal page is not made to share the damage. */
	assert_int_equal(put(p, 2, 11), 0);
	assert_int_equal(get(p, 2, 11, QUIRE_TMEM_GET_USUAL), 1);
	quire_tmem_pool_stat(p, &s);
	assert_int_equal(s.n_damaged, 3);
	quire_tmem_destroy(t);
}

static void objects_are_flushed_whole(void **state)
{
	struct quire_tmem *t = make(64 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_PERSISTENT, 0);
	uint8_t page[4096];

	model_fill(7, page, sizeof(page)); /* a word */
	for (uint32_t i = 0; i < 200000; i++) {
		struct quire_tmem_key k = key_of(1 + i % 2, i * 7919);
		assert_int_equal(quire_tmem_put(pool, &k, page), 0);
	}
	struct quire_tmem_key k = key_of(1, 0);
	assert_int_equal(quire_tmem_flush_object(pool, k.object), 100000);
	assert_int_equal(quire_tmem_flush_object(pool, k.object), 0);
	assert_int_equal(get(pool, 0, 7, QUIRE_TMEM_GET_USUAL), -ENOENT);
	k = key_of(2, 7919);
	assert_int_equal(quire_tmem_flush(pool, &k), 1);
	assert_int_equal(quire_tmem_flush(pool, &k), 0);
	assert_int_equal(quire_tmem_flush_object(pool, k.object), 99999);
	quire_tmem_destroy(t);
}

static void what_is_not_of_the_form_is_refused(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *pool = NULL;
	struct quire_error err;
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 4096};
	struct quire_tmem_pool_options wrong[] = {
		{.kind = (enum quire_tmem_kind)3},
		{.kind = QUIRE_TMEM_EPHEMERAL, .page_bytes = 2048},
		{.kind = QUIRE_TMEM_EPHEMERAL, .page_bytes = 12288},
		{.kind = QUIRE_TMEM_EPHEMERAL, .page_bytes = 4u << 20},
		{.kind = QUIRE_TMEM_EPHEMERAL, .flags = 128},
		{.kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_REMOTE},
		{.kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_REMOTE, .page_bytes = 128 << 10},
		{.kind = QUIRE_TMEM_EPHEMERAL, .weight = 2000000},
		{.kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SHARED},
		{.kind = QUIRE_TMEM_EPHEMERAL, .uuid = {1}},
	};
	struct quire_tmem *none = NULL;

	assert_int_equal(quire_tmem_create(&o, &none, &err), -EINVAL);
	assert_int_equal(quire_tmem_create(NULL, &none, &err), -EINVAL);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		wrong[i].size = sizeof(wrong[i]);
		assert_int_equal(quire_tmem_pool_create(t, &wrong[i], &pool, &err), -EINVAL);
		assert_null(strchr(err.text, '\n'));
		assert_int_not_equal(err.text[0], 0);
	}
	uint8_t uuid[16] = {9};
	assert_int_equal(quire_tmem_pool_open(t, uuid, &pool), -ENOENT);
	pool = make_pool(t, QUIRE_TMEM_EPHEMERAL, QUIRE_TMEM_SHARED);
	struct quire_tmem_pool_options again = {.size = sizeof(again), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SHARED, .uuid = {1}};
	struct quire_tmem_pool *second = NULL;
	assert_int_equal(quire_tmem_pool_create(t, &again, &second, &err), -EEXIST);
	assert_int_equal(quire_tmem_pool_open(t, again.uuid, &second), 0);
	assert_ptr_equal(second, pool);
	assert_int_equal(put(pool, 1, 11), 0);
	quire_tmem_pool_destroy(second);
	assert_int_equal(get(pool, 1, 11, QUIRE_TMEM_GET_USUAL), 1);
	struct quire_tmem_request r = {.pool = pool, .verb = (enum quire_tmem_verb)9};
	assert_int_equal(quire_tmem_batch(t, &r, 1, NULL), -EINVAL);
	quire_tmem_destroy(t);
}

static void a_batch_completes_through_its_op(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_PERSISTENT, 0);
	static uint8_t pages[64][4096];
	struct quire_tmem_request r[64];
	struct quire_op op;

	for (unsigned i = 0; i < 64; i++) {
		model_fill(1000 + i, pages[i], 4096);
		r[i] = (struct quire_tmem_request){.pool = pool, .key = key_of(1, i), .verb = QUIRE_TMEM_PUT, .page = pages[i]};
	}
	quire_op_init(&op);
	assert_int_equal(quire_tmem_batch(t, r, 64, &op), 0);
	assert_int_equal(quire_await(&op), 0);
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(r[i].result, 0);
		assert_int_equal(get(pool, i, 1000 + i, QUIRE_TMEM_GET_USUAL), 1);
	}
	quire_tmem_destroy(t);
}

/* ---- at random ---- */

static void add_up(struct quire_tmem *t)
{
	struct quire_tmem_stat s = sums_stat(t);

	assert_true(s.held_bytes <= s.budget_bytes + 65536);
}

static uint64_t seed_of_run(void)
{
	uint64_t seed = random_seed();

	printf("seed %llu\n", (unsigned long long)seed);
	return seed;
}

static uint64_t n_calls_of_run(uint64_t usual)
{
	return getenv("QUIRE_TEST_LONG") != NULL ? 2500000 : usual;
}

static void random_calls_agree_with_the_model(void **state)
{
	uint64_t seed = seed_of_run(), n_calls = n_calls_of_run(30000), done = 0, n_repacked = 0;
	struct quire_tmem_stat s;

	while (done < n_calls) {
		/* Every other one has room for recompression. */
		uint64_t least = seed % 2 == 0 ? MIB : 4 * MIB;
		struct quire_tmem *t = make(with_pages(least + seed * 977 * 4096 % (4 * MIB), BEGUN_PAGES));
		struct model *m = model_create(t, seed++);
		for (unsigned i = 0; i < 15000; i++) {
			model_step(m);
			if (i % 2500 == 0)
				add_up(t);
		}
		model_compare(m);
		add_up(t);
		done += m->n_steps;
		quire_tmem_stat(t, &s);
		n_repacked += s.n_repacked;
		model_destroy(m);
		quire_tmem_destroy(t);
	}
	printf("%llu calls, %llu pages recompressed\n", (unsigned long long)done, (unsigned long long)n_repacked);
	assert_true(n_repacked > 0);
}

#define N_THREADS 4u

static void *run_model(void *arg)
{
	struct model *m = arg;
	uint64_t n_calls = n_calls_of_run(24000) / N_THREADS;

	while (m->n_steps < n_calls)
		model_step(m);
	model_compare(m);
	return NULL;
}

static void threads_agree_with_their_models(void **state)
{
	uint64_t seed = seed_of_run();
	struct quire_tmem *t = make(with_pages(3 * MIB, N_THREADS * BEGUN_PAGES));
	struct model *models[N_THREADS];
	pthread_t threads[N_THREADS];

	for (unsigned i = 0; i < N_THREADS; i++)
		models[i] = model_create(t, seed * N_THREADS + i);
	for (unsigned i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_model, models[i]), 0);
	for (unsigned i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	add_up(t);
	for (unsigned i = 0; i < N_THREADS; i++)
		model_destroy(models[i]);
	quire_tmem_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_private_ephemeral_get_takes_the_page),
		cmocka_unit_test(a_persistent_or_shared_get_leaves_it),
		cmocka_unit_test(put_put_get_gives_the_second_or_nothing),
		cmocka_unit_test(what_persistent_pools_hold_stays_whatever_comes),
		cmocka_unit_test(ephemeral_pages_leave_for_others_and_by_weight),
		cmocka_unit_test(of_pages_that_nobody_uses_small_ones_stay_longer),
		cmocka_unit_test(a_cap_holds),
		cmocka_unit_test(so_many_pools_are_not_to_be_had),
		cmocka_unit_test(equal_pages_are_kept_once),
		cmocka_unit_test(shared_contents_outlive_the_pool_that_brought_them),
		cmocka_unit_test(damage_is_a_miss_or_an_error_never_wrong_bytes),
		cmocka_unit_test(objects_are_flushed_whole),
		cmocka_unit_test(what_is_not_of_the_form_is_refused),
		cmocka_unit_test(a_batch_completes_through_its_op),
		cmocka_unit_test(random_calls_agree_with_the_model),
		cmocka_unit_test(threads_agree_with_their_models),
	};
	return cmocka_run_group_tests_name("tmem-pool", tests, NULL, NULL);
}
