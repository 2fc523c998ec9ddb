/* Copies of pages that have left: their share of the budget, and that statistics add up. */
#include "aside.h"
#include "../support/random.h"

/* Of what is never asked for again, few copies are made. */
static void a_scan_gets_less_and_less(void **state)
{
	/* Where compressed copies serve, the others may go altogether. */
	begin_with((struct quire_cache_options){.no_second_chance = true});
	assert_true(cache_stat().probation > BUDGET / 16 / 2);
	for (unsigned i = 0; i < 4; i++)
		for (uint64_t at = 0; at < BIG; at += 64 * KIB) {
			load(big, item_ptr(big, 0) + at);
			assert_int_equal(want(big, item_ptr(big, 0) + at, 64 * KIB), 0);
		}
	assert_in_range(cache_stat().probation, 1, BUDGET / 16 / 8);
	assert_true(probation_check(cache->probation));
	map_end(big);
}

static void the_budget_includes_copies(void **state)
{
	begin();
	struct quire_cache_stat s = cache_stat();

	assert_int_equal(s.used, s.frames + s.page_tables + s.tables + s.buffers + s.other + s.probation + s.tmem);
	assert_true(s.used <= s.budget);
	assert_in_range(s.probation, 1, BUDGET / 16);
	assert_in_range(map_stat(big).probation, page_size(), s.probation);
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
	assert_in_range(cache_stat().probation, 0, QUIRE_BUDGET_MIN_BYTES / 16);
	assert_true(probation_check(cache->probation));
	map_end(big);
}

static void pins_take_what_copies_have(void **state)
{
	begin();
	struct quire_map *m = map_sparse("pinned", BUDGET);
	uint64_t n = 0;

	while (pin(m, item_ptr(m, 0) + pages(n), 1) == 0)
		n++;
	assert_true(n * page_size() > BUDGET / 2);
	assert_int_equal(cache_stat().pinned, n * page_size());
	assert_true(cache_stat().used <= BUDGET);
	assert_int_equal(unpin(m, item_ptr(m, 0), n * page_size()), 0);
	end(m);
}

static void copies_go_with_their_map(void **state)
{
	begin();
	struct quire_map *few = map_few((struct quire_item){0});
	read_and_push_out(few);
	find_aside(few);
	end(few);
	/* No copy is left: all that was theirs is free for others to take. */
	struct quire_map *m = map_sparse("hot", BUDGET);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), 0);
	for (uint64_t at = 0; at < BUDGET; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	assert_int_equal(cache_stat().probation, 0);
	map_end(m);
}

/* Every page that was asked for is counted once, by how it came; every page that came is there or has left. */
static void statistics_add_up(void **state)
{
	uint64_t n_wanted, n_faulted = 0, random = 1;

	begin();
	n_wanted = BIG / page_size();
	n_faulted = BIG / MIB;
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t drawn = random_next(&random);
		/* Mostly of a few, which thus come back. */
		uint64_t page = (drawn >> 33) % (i % 4 == 0 ? BIG / page_size() : BUDGET / page_size() * 5 / 4);
		const char *p = item_ptr(big, 0) + pages(page);

		if (drawn >> 62 == 0) {
			n_wanted++;
			assert_int_equal(want(big, p, 1), 0);
		} else {
			n_faulted += !quire_map_resident(big, p, 1);
			load(big, p);
		}
	}
	struct quire_map_stat s = map_stat(big);
	/* The kernel may tell the service of a fault more than once. */
	assert_in_range(s.n_faults, n_faulted, fault == QUIRE_FAULT_SIGNAL ? n_faulted : UINT64_MAX);
	assert_int_equal(s.n_errors, 0);
	assert_true(s.n_probation_hits > 0);
	assert_int_equal(s.n_hits + s.n_fills + s.n_probation_hits + s.n_second_chance_hits, n_wanted + n_faulted);
	assert_int_equal((s.n_fills + s.n_probation_hits + s.n_second_chance_hits - s.n_evictions) * page_size(), s.resident);
	assert_int_equal(s.unverified, s.resident);
	assert_int_equal(s.resident, cache_stat().frames);
	assert_int_equal(cache_stat().n_fills, s.n_fills);
	assert_int_equal(cache_stat().n_faults, s.n_faults);
	assert_int_equal(cache_stat().n_evictions, s.n_evictions);
	assert_int_equal(cache_stat().n_probation_hits, s.n_probation_hits);
	assert_true(probation_check(cache->probation));
	map_end(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_SIGNAL(a_scan_gets_less_and_less),
		ON_SIGNAL(the_budget_includes_copies),
		ON_SIGNAL(pins_take_what_copies_have),
		ON_SIGNAL(copies_go_with_their_map),
		ON_SIGNAL(statistics_add_up),
		ON_SERVICE(statistics_add_up),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
