/* The budget: its least, its changes, what it includes, and that all of it comes back. */
#include "../support/maps.h"

#include <fcntl.h>

static void least(void **state)
{
	struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = QUIRE_BUDGET_MIN_BYTES - 1};
	struct quire_cache *c = NULL;
	struct quire_error err = {0};

	assert_int_equal(quire_cache_open(&o, &c, &err), -EINVAL);
	assert_null(c);
	assert_int_equal(err.code, -EINVAL);
	o.budget_bytes = QUIRE_BUDGET_MIN_BYTES;
	assert_int_equal(quire_cache_open(&o, &c, &err), 0);
	assert_int_equal(quire_cache_close(c), 0);
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES - 1), -EINVAL);
	assert_int_equal(quire_cache_set_budget(cache, 0), -EINVAL);
	assert_int_equal(cache_stat().budget, CACHE_BUDGET);
}

static void options(void **state)
{
	struct quire_cache_options o = {.size = 0};
	struct quire_cache *c = NULL;

	assert_int_equal(quire_cache_open(&o, &c, NULL), -EINVAL);
	o.size = sizeof(o) + 8;
	assert_int_equal(quire_cache_open(&o, &c, NULL), -EINVAL);
	assert_int_equal(quire_cache_open(NULL, NULL, NULL), -EINVAL);
	assert_null(c);
	assert_int_equal(quire_cache_open(NULL, &c, NULL), 0);
	assert_int_equal(quire_cache_close(c), 0);
	assert_int_equal(quire_cache_close(NULL), 0);
}

static void check_sum(void)
{
	struct quire_cache_stat s = cache_stat();

	assert_int_equal(s.used, s.frames + s.page_tables + s.tables + s.buffers + s.other + s.probation + s.tmem);
	assert_true(s.used <= s.budget);
	assert_true(s.pinned <= s.frames);
}

static struct quire_map *fill_up(void)
{
	file_sparse("big", 2 * CACHE_BUDGET);
	struct quire_map *m = map_name("big");

	for (uint64_t at = 0; at < 2 * CACHE_BUDGET; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	return m;
}

static void includes_everything(void **state)
{
	struct quire_map *m = fill_up();
	struct quire_cache_stat s = cache_stat();

	check_sum();
	assert_true(s.frames >= CACHE_BUDGET / 2);
	assert_true(s.buffers > 0);
	assert_true(s.tables > 0);
	assert_true(s.page_tables > 0);
	assert_true(s.other > 0);
	assert_int_equal(s.frames, map_stat(m).resident);
	assert_true(s.n_evictions > 0);
	map_end(m);
}

static void shrinks_before_it_returns(void **state)
{
	struct quire_map *m = fill_up();

	assert_int_equal(quire_cache_set_budget(cache, 20 * MIB), 0);
	assert_int_equal(cache_stat().budget, 20 * MIB);
	check_sum();
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	check_sum();
	for (uint64_t at = 0; at < CACHE_BUDGET; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB / 4), 0);
	check_sum();
	map_end(m);
}

static void grows(void **state)
{
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	struct quire_map *m = fill_up();
	uint64_t before = cache_stat().frames;

	assert_int_equal(quire_cache_set_budget(cache, 4 * CACHE_BUDGET), 0);
	for (uint64_t at = 0; at < 2 * CACHE_BUDGET; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	assert_true(cache_stat().frames > before);
	assert_int_equal(cache_stat().frames, 2 * CACHE_BUDGET);
	map_end(m);
}

static void follows_the_machine(void **state)
{
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_AUTO), 0);
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_AUTO), 0);
	assert_true(cache_stat().budget >= QUIRE_BUDGET_MIN_BYTES);
	assert_int_equal(quire_cache_set_budget(cache, 20 * MIB), 0);
	assert_int_equal(cache_stat().budget, 20 * MIB);
	cache_anew(&(struct quire_cache_options){.budget_bytes = QUIRE_BUDGET_AUTO});
	assert_true(cache_stat().budget >= QUIRE_BUDGET_MIN_BYTES);
}

/* Whatever a map did, its end gives everything back. */
static void comes_back(void **state)
{
	uint64_t used = 0;

	file_sparse("big", 64 * GIB);
	for (unsigned round = 0; round < 3; round++) {
		struct quire_map *m = map_name("big");

		for (uint64_t at = 0; at < 4 * GIB; at += 2 * MIB + page_size())
			assert_int_equal(want(m, item_ptr(m, 0) + at, 1), 0);
		assert_int_equal(pin(m, item_ptr(m, 0) + GIB, 100), 0);
		assert_int_equal(unpin(m, item_ptr(m, 0) + GIB, 100), 0);
		assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
		quire_map_purge(m, item_ptr(m, 0), GIB);
		map_end(m);
		struct quire_cache_stat s = cache_stat();
		assert_int_equal(s.frames + s.pinned + s.n_maps, 0);
		/* The policy's queues keep their least size, upper page tables stay where they were
		 * needed, a loop keeps its buffers: all that the second time finds. */
		if (round > 0)
			assert_true(s.used <= used + 256 * KIB);
		used = s.used;
	}
}

static void page_tables_are_charged_and_given_back(void **state)
{
	struct quire_capabilities caps;

	quire_capabilities(&caps);
	file_sparse("big", 64 * GIB);
	struct quire_map *m = map_name("big");
	uint64_t none = cache_stat().page_tables;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(want(m, item_ptr(m, 0) + i * 16 * MIB, 1), 0);
	uint64_t some = cache_stat().page_tables;
	assert_true(some >= none + 100 * page_size());
	assert_int_equal(quire_map_purge(m, quire_map_base(m), quire_map_bytes(m)), 100);
	if (caps.page_tables_reclaimed)
		assert_true(cache_stat().page_tables <= some - 100 * page_size());
	map_end(m);
	assert_true(cache_stat().page_tables <= some - 100 * page_size());
}

/* Loops that come and go take their buffers, and bring them back. */
static void no_op(void *arg)
{
	struct quire_map *m = arg;
	struct iovec v = io(item_ptr(m, 0), 1);

	quire_map_want(m, &v, 1, 0, NULL);
}

static void buffers_of_loops(void **state)
{
	file_sparse("big", GIB);
	struct quire_map *m = map_name("big");
	uint64_t before = cache_stat().buffers;
	struct quire_loop *loops[4];

	for (unsigned round = 0; round < 3; round++) {
		quire_map_purge(m, item_ptr(m, 0), MIB);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(quire_loop_create(NULL, &loops[i], NULL), 0);
			quire_map_purge(m, item_ptr(m, 0), MIB);
			assert_int_equal(quire_co_spawn(loops[i], no_op, m), 0);
			assert_int_equal(quire_loop_run(loops[i]), 0);
		}
		assert_true(cache_stat().buffers > before);
		check_sum();
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(quire_loop_destroy(loops[i]), 0);
		assert_int_equal(cache_stat().buffers, before);
	}
	map_end(m);
}

/* Their buffers leave room for pages. */
static void buffers_of_many_loops(void **state)
{
	struct quire_loop_options o = {.size = sizeof(o), .depth = 4};
	struct quire_loop *loops[64];

	assert_int_equal(quire_cache_set_budget(cache, 2 * CACHE_BUDGET), 0); /* what a loop has of its own is charged in any case */
	file_sparse("big", GIB);
	struct quire_map *m = map_name("big");
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(quire_loop_create(&o, &loops[i], NULL), 0);
		quire_map_purge(m, item_ptr(m, 0), MIB);
		assert_int_equal(quire_co_spawn(loops[i], no_op, m), 0);
		assert_int_equal(quire_loop_run(loops[i]), 0);
	}
	assert_true(cache_stat().buffers <= 2 * CACHE_BUDGET / 4 + 64 * pages(33));
	check_sum();
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(quire_loop_destroy(loops[i]), 0);
	map_end(m);
}

/* A loop outlives the cache that it has read for. */
static void cache_closed_before_its_loop(void **state)
{
	struct quire_loop *loop;

	file_sparse("big", GIB);
	struct quire_map *m = map_name("big");
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	assert_int_equal(quire_co_spawn(loop, no_op, m), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	map_end(m);
	cache_anew(&(struct quire_cache_options){.signal_faults = true});
	m = map_name("big");
	assert_int_equal(quire_co_spawn(loop, no_op, m), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	map_end(m);
	assert_int_equal(quire_loop_destroy(loop), 0);
}

static void swappable_bytes_are_reported(void **state)
{
	struct quire_capabilities caps;
	FILE *f = fopen("/proc/swaps", "re");
	int lines = 0, c;

	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		lines += c == '\n';
	fclose(f);
	quire_capabilities(&caps);
	struct quire_map *m = fill_up();
	if (lines <= 1 || caps.memory_locked)
		assert_int_equal(cache_stat().swappable, 0);
	else
		assert_true(cache_stat().swappable > 0);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_AUTO(least),
		ON_AUTO(options),
		ON_CHECKED(includes_everything),
		ON_CHECKED(shrinks_before_it_returns),
		ON_CHECKED(grows),
		ON_AUTO(follows_the_machine),
		ON_CHECKED(comes_back),
		ON_CHECKED(page_tables_are_charged_and_given_back),
		ON_CHECKED(buffers_of_loops),
		ON_SERVICE(buffers_of_many_loops),
		ON_CHECKED(cache_closed_before_its_loop),
		ON_CHECKED(swappable_bytes_are_reported),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
