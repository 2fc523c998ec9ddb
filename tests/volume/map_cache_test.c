/* The cache of the map's pages, and that of data: shared, capped, dropped. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/volume/map_cache.h"

#include <string.h>
#include <unistd.h>

static void all_of_a_budget_share_a_cache(void **state)
{
	struct budget one, other;
	struct map_cache *a, *b, *c, *d;

	(void)state;
	budget_init(&one, 8u << 20);
	budget_init(&other, 8u << 20);
	assert_int_equal(map_cache_share(MAP_CACHE_PAGES, 1u << 20, &one, &a), 0);
	assert_int_equal(map_cache_share_bytes(a), 1u << 20);
	assert_int_equal(map_cache_share(MAP_CACHE_PAGES, 4u << 20, &one, &b), 0);
	assert_int_equal(map_cache_share(MAP_CACHE_DATA, 1u << 20, &one, &c), 0);
	assert_int_equal(map_cache_share(MAP_CACHE_PAGES, 1u << 20, &other, &d), 0);
	assert_true(a == b && a != c && a != d);
	assert_int_equal(map_cache_share_bytes(a), 1u << 19);
	map_cache_unshare(a);
	assert_int_equal(map_cache_share_bytes(b), 1u << 20);
	map_cache_unshare(b);
	map_cache_unshare(c);
	map_cache_unshare(d);
	assert_true(budget_used(&one) == 0 && budget_used(&other) == 0);
}

static void data_gives_way_when_the_budget_shrinks(void **state)
{
	uint8_t block[MAP_BLOCK_BYTES] = {0};
	struct budget budget;
	struct map_cache *c;
	unsigned n = 0;

	(void)state;
	budget_init(&budget, 8u << 20);
	assert_int_equal(map_cache_share(MAP_CACHE_DATA, 2u << 20, &budget, &c), 0);
	for (uint64_t place = 16; place < 1016; place++) {
		memcpy(block, &place, sizeof(place));
		map_cache_copy_in(c, 1, place, block);
	}
	assert_true(budget_used(&budget) > (2u << 20) - (256u << 10) && budget_used(&budget) <= 2u << 20);
	assert_false(map_cache_copy_out(c, 2, 1015, block)); /* another's */
	budget_set_limit(&budget, 1u << 20);
	for (uint64_t place = 2000; place < 2200; place++) {
		memcpy(block, &place, sizeof(place));
		map_cache_copy_in(c, 1, place, block);
	}
	if (sysconf(_SC_PAGESIZE) == MAP_BLOCK_BYTES)
		assert_true(budget_used(&budget) <= 512u << 10);
	for (uint64_t place = 2000, found; place < 2200; place++)
		if (map_cache_copy_out(c, 1, place, block)) {
			memcpy(&found, block, sizeof(found));
			assert_int_equal(found, place);
			n++;
		}
	assert_true(n > 50);
	map_cache_drop(c);
	assert_false(map_cache_copy_out(c, 1, 2199, block));
	map_cache_unshare(c);
	assert_int_equal(budget_used(&budget), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_a_budget_share_a_cache),
		cmocka_unit_test(data_gives_way_when_the_budget_shrinks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
