/* Warm restart of items with larger pages than the system's: a unit is listed by its most used page, and comes back whole. */
#include "../../src/map/warm_list.h"
#include "../support/maps.h"

#include <fcntl.h>
#include <sched.h>

#define LIST "hot"
#define FILE_BYTES (6 * MIB)
#define AT (2 * MIB + 5000) /* somewhere in a unit, whatever its size */

static const size_t sizes[] = {QUIRE_PAGE_16K, QUIRE_PAGE_64K, QUIRE_PAGE_2M};

static struct quire_map *warm_map(size_t page_bytes, unsigned share)
{
	struct quire_map_options o = {
		.size = sizeof(o), .fault = fault, .warm_path = file_path(LIST), .warm_share = share};
	const struct quire_item item = {.path = file_path("f"), .page_bytes = page_bytes};
	struct quire_map *m = NULL;
	struct quire_error err = {0};
	int rc = quire_map_create(cache, &item, 1, &o, &m, &err);

	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	if (rc < 0)
		fail_msg("%s", err.text);
	return m;
}

static struct quire_map_warm_stat warmed(struct quire_map *m)
{
	struct quire_map_warm_stat s;

	do {
		sched_yield();
		assert_int_equal(quire_map_warm_stat(m, &s), 0);
	} while (s.replaying);
	return s;
}

/* A list of the unit around AT, one page of which was wanted so often. Returns its bytes. */
static size_t leave_list(size_t page_bytes, int n_wants)
{
	unlink(file_path(LIST));
	struct quire_map *m = warm_map(page_bytes, 0);
	size_t unit = quire_map_item_page_bytes(m, 0); /* 2 MiB may not be had */

	warmed(m);
	for (int i = 0; i < n_wants; i++)
		assert_int_equal(want(m, item_ptr(m, 0) + AT, 1), 0);
	assert_int_equal(map_stat(m).resident, unit);
	map_end(m);
	return unit;
}

static void assert_unit_is_there(struct quire_map *m, size_t unit)
{
	uint64_t first = AT / unit * unit;
	const char *p = item_ptr(m, 0) + first;

	assert_int_equal(map_stat(m).resident, unit);
	assert_true(quire_map_resident(m, p, unit));
	assert_bytes(p, 1, first, unit);
}

static void comes_back_whole(void **state)
{
	file_write("f", 1, FILE_BYTES);
	for (unsigned i = 0; i < 3; i++) {
		size_t unit = leave_list(sizes[i], 1);
		struct quire_map *m = warm_map(sizes[i], 0);
		struct quire_map_warm_stat s = warmed(m);

		assert_int_equal(s.n_listed, unit / page_size());
		assert_int_equal(s.n_replayed, s.n_listed);
		assert_int_equal(s.n_stale, 0);
		assert_unit_is_there(m, unit);
		map_end(m);
	}
}

static void listed_by_its_most_used_page(void **state)
{
	struct warm_list *l = malloc(sizeof(*l));
	struct warm_identity id;
	struct warm_run run;
	struct quire_error err = {0};

	file_write("f", 1, FILE_BYTES);
	for (unsigned i = 0; i < 3; i++) {
		size_t unit = leave_list(sizes[i], 3);
		int dir = open(file_path("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		assert_int_equal(warm_list_open(l, dir, LIST, &err), 0);
		assert_int_equal(warm_list_get_item(l, &id), 1);
		assert_int_equal(warm_list_get_run(l, &run), 1);
		assert_int_equal(run.first, AT / unit * unit >> WARM_UNIT_SHIFT);
		assert_int_equal(run.n, unit >> WARM_UNIT_SHIFT);
		assert_true(run.uses >= 2);
		assert_int_equal(warm_list_get_run(l, &run), 0);
		warm_list_close(l);
		close(dir);
	}
	free(l);
}

static void listed_by_pages_comes_whole(void **state)
{
	file_write("f", 1, FILE_BYTES);
	for (unsigned i = 0; i < 3; i++) {
		leave_list(QUIRE_PAGE_4K, 1);
		struct quire_map *m = warm_map(sizes[i], 0);

		assert_int_equal(warmed(m).n_replayed, 1);
		assert_unit_is_there(m, quire_map_item_page_bytes(m, 0));
		map_end(m);
	}
}

static void listed_whole_comes_by_pages(void **state)
{
	file_write("f", 1, FILE_BYTES);
	for (unsigned i = 0; i < 3; i++) {
		size_t unit = leave_list(sizes[i], 1);
		struct quire_map *m = warm_map(QUIRE_PAGE_4K, 0);

		assert_int_equal(warmed(m).n_replayed, unit / page_size());
		assert_unit_is_there(m, unit);
		map_end(m);
	}
}

static void share_of_less_than_a_unit(void **state)
{
	file_write("f", 1, FILE_BYTES);
	for (unsigned i = 0; i < 3; i++) {
		size_t unit = leave_list(sizes[i], 1);
		struct quire_map *m = warm_map(sizes[i], 1);

		assert_int_equal(warmed(m).n_replayed, unit / page_size());
		map_end(m);
	}
}

static void leaves_memory_free(void **state)
{
	const uint64_t budget = 32 * MIB;
	const struct quire_cache_options opts = {.budget_bytes = budget, .signal_faults = true};

	file_sparse("f", budget);
	for (unsigned i = 0; i < 3; i++) {
		unlink(file_path(LIST));
		cache_anew(&opts);
		struct quire_map *m = warm_map(sizes[i], 0);
		warmed(m);
		assert_int_equal(want(m, item_ptr(m, 0), budget), 0);
		map_end(m);

		cache_anew(&opts);
		uint64_t free_before = budget - cache_stat().used;
		m = warm_map(sizes[i], 0);
		assert_true(warmed(m).n_replayed * page_size() > budget / 2);
		assert_int_equal(cache_stat().n_evictions, 0);
		assert_true(budget - cache_stat().used > free_before / 20);
		map_end(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(comes_back_whole),
		ON_SERVICE(listed_by_its_most_used_page),
		ON_CHECKED(listed_by_pages_comes_whole),
		ON_SERVICE(listed_whole_comes_by_pages),
		ON_SERVICE(share_of_less_than_a_unit),
		ON_CHECKED(leaves_memory_free),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
