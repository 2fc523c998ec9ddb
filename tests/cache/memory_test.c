/* Pools of pages on a cache's budget: one limit for both. */
#include "../support/maps.h"

#include <quire/tmem.h>

#define BUDGET (8 * MIB)

static struct quire_tmem *tmem_of_cache(void)
{
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_cache_tmem(cache, &t, NULL), 0);
	return t;
}

static struct quire_tmem_pool *pool_on(struct quire_tmem *t, enum quire_tmem_kind kind)
{
	const struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = kind};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

/* Pages that nothing makes smaller; how many were accepted. */
static unsigned put_noise(struct quire_tmem_pool *pool, unsigned n)
{
	uint64_t page[512], x = 88172645463325252u;
	unsigned n_put = 0;

	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 512; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			page[k] = x;
		}
		const struct quire_tmem_key key = {{1}, i};
		n_put += quire_tmem_put(pool, &key, page) == 0;
	}
	return n_put;
}

static void is_the_same_each_time(void **state)
{
	assert_ptr_equal(tmem_of_cache(), tmem_of_cache());
}

static void what_pools_hold_is_the_caches(void **state)
{
	struct quire_tmem_pool *pool = pool_on(tmem_of_cache(), QUIRE_TMEM_EPHEMERAL);
	uint64_t before = cache_stat().used;

	assert_int_equal(put_noise(pool, 100), 100);
	assert_true(cache_stat().tmem >= 100 * 4096);
	assert_true(cache_stat().used >= before + 100 * 4096);
	quire_tmem_pool_destroy(pool);
}

static void its_owner_sets_the_budget(void **state)
{
	assert_int_equal(quire_tmem_set_budget(tmem_of_cache(), BUDGET, NULL), -EINVAL);
}

static void frames_make_ephemeral_pages_leave(void **state)
{
	cache_anew(&(struct quire_cache_options){.size = sizeof(struct quire_cache_options), .budget_bytes = BUDGET});
	struct quire_tmem_pool *pool = pool_on(tmem_of_cache(), QUIRE_TMEM_EPHEMERAL);
	assert_true(put_noise(pool, 4096) >= 1024);
	assert_true(cache_stat().used <= BUDGET);
	file_write("f", 1, 4 * MIB);
	struct quire_map *m = map_name("f");
	for (unsigned i = 0; i < 4 * MIB; i += 4096)
		assert_int_equal(want(m, item_ptr(m, 0) + i, 1), 0);
	assert_true(cache_stat().used <= BUDGET);
	map_end(m);
	quire_tmem_pool_destroy(pool);
}

static void a_smaller_budget_takes_from_both(void **state)
{
	struct quire_tmem_pool *pool = pool_on(tmem_of_cache(), QUIRE_TMEM_EPHEMERAL);

	assert_int_equal(put_noise(pool, 4096), 4096);
	assert_int_equal(quire_cache_set_budget(cache, BUDGET), 0);
	assert_true(cache_stat().used <= BUDGET);
	quire_tmem_pool_destroy(pool);
}

/* ---- who gets how much ---- */

/* Maps have all of the memory. */
static struct quire_map *fill_with_frames(void)
{
	cache_anew(&(struct quire_cache_options){.size = sizeof(struct quire_cache_options), .budget_bytes = 2 * BUDGET});
	file_sparse("frames", 3 * BUDGET);
	struct quire_map *m = map_name("frames");
	for (uint64_t at = 0; at < 3 * BUDGET; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	assert_true(cache_stat().frames > BUDGET);
	return m;
}

static void persistent_pages_make_frames_leave(void **state)
{
	struct quire_map *m = fill_with_frames();
	struct quire_tmem_pool *pool = pool_on(tmem_of_cache(), QUIRE_TMEM_PERSISTENT);
	unsigned n = put_noise(pool, 8192);

	assert_true(n * 4096 > 2 * BUDGET / 8 * 5);
	assert_true(cache_stat().used <= 2 * BUDGET);
	/* Maps go on all the same. */
	assert_true(cache_stat().frames >= 2 * BUDGET / 16);
	for (uint64_t at = 0; at < 3 * BUDGET; at += 64 * KIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, 1), 0);
	assert_true(cache_stat().used <= 2 * BUDGET);
	map_end(m);
	quire_tmem_pool_destroy(pool);
}

/* Half of it each, at equal weights. */
static void an_ephemeral_pool_gets_its_part_of_a_full_cache(void **state)
{
	struct quire_map *m = fill_with_frames();
	struct quire_tmem_pool *pool = pool_on(tmem_of_cache(), QUIRE_TMEM_EPHEMERAL);

	put_noise(pool, 8192);
	assert_in_range(cache_stat().tmem, BUDGET / 10 * 9, BUDGET / 10 * 12);
	assert_true(cache_stat().used <= 2 * BUDGET);
	map_end(m);
	quire_tmem_pool_destroy(pool);
}

static void a_pool_keeps_its_part_of_a_busy_cache(void **state)
{
	cache_anew(&(struct quire_cache_options){.size = sizeof(struct quire_cache_options), .budget_bytes = 2 * BUDGET});
	struct quire_tmem_pool *pool = pool_on(tmem_of_cache(), QUIRE_TMEM_EPHEMERAL);
	put_noise(pool, 8192);
	assert_true(cache_stat().tmem > BUDGET / 10 * 15);
	file_sparse("frames", 3 * BUDGET);
	struct quire_map *m = map_name("frames");
	for (unsigned i = 0; i < 2; i++)
		for (uint64_t at = 0; at < 3 * BUDGET; at += MIB)
			assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	assert_in_range(cache_stat().tmem, BUDGET / 10 * 8, BUDGET / 10 * 12);
	assert_true(cache_stat().frames > BUDGET / 10 * 6);
	map_end(m);
	quire_tmem_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_SERVICE(is_the_same_each_time), ON_SERVICE(what_pools_hold_is_the_caches), ON_SERVICE(its_owner_sets_the_budget),
		ON_SERVICE(frames_make_ephemeral_pages_leave), ON_SERVICE(a_smaller_budget_takes_from_both),
		ON_SERVICE(persistent_pages_make_frames_leave), ON_SERVICE(an_ephemeral_pool_gets_its_part_of_a_full_cache),
		ON_SERVICE(a_pool_keeps_its_part_of_a_busy_cache),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
