/* Readahead keeps its bounds, does as it is told, and ends with what it reads for. */
#include "reader.h"
#include "../support/stalled.h"

#include <pthread.h>
#include <sched.h>

/* ---- bounds ---- */

static void no_more_than_a_window_is_ahead(void **state)
{
	file_sparse("f", 32 * MIB);
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);

	for (uint64_t at = 0; at < 16 * MIB; at += pages(16)) {
		read_pages(m, p, at, at + pages(16));
		assert_false(quire_map_resident(m, p + at + pages(16) + WINDOW, 1));
	}
	settle(m);
	assert_true(map_stat(m).resident <= 16 * MIB + WINDOW);
	map_end(m);
}

static void nothing_is_read_behind_an_items_end(void **state)
{
	file_sparse("a", MIB + 1);
	file_sparse("b", MIB);
	const struct quire_item items[] = {{.path = file_path("a")}, {.path = file_path("b")}};
	struct quire_map *m = map_items(items, 2);

	read_pages(m, item_ptr(m, 0), 0, MIB + 1);
	settle(m);
	assert_int_equal(map_stat(m).resident, MIB + page_size());
	map_end(m);
}

static void the_least_budget_is_kept(void **state)
{
	cache_anew(&(struct quire_cache_options){.size = sizeof(struct quire_cache_options),
	                                         .budget_bytes = QUIRE_BUDGET_MIN_BYTES,
	                                         .signal_faults = true});
	file_sparse("f", 32 * MIB);
	struct quire_map *m = map_name("f");

	for (uint64_t at = 0; at < 32 * MIB; at += MIB) {
		read_pages(m, item_ptr(m, 0), at, at + MIB);
		assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
	}
	assert_ahead(m, 1);
	map_end(m);
}

/* ---- what else is in the cache ---- */

static struct quire_map *hot_map(uint64_t bytes)
{
	file_sparse("hot", bytes);
	struct quire_map *m = map_name("hot");

	for (unsigned use = 0; use < 3; use++)
		assert_int_equal(want(m, item_ptr(m, 0), bytes), 0);
	return m;
}

static void the_hot_set_stays(void **state)
{
	struct quire_map *hot = hot_map(CACHE_BUDGET / 2);

	file_sparse("scan", 4 * CACHE_BUDGET);
	struct quire_map *m = map_name("scan");
	read_pages(m, item_ptr(m, 0), 0, 4 * CACHE_BUDGET);
	assert_true(map_stat(hot).resident >= CACHE_BUDGET / 2 / 10 * 9);
	map_end(m);
	map_end(hot);
}

static void a_sequential_item_leaves_behind_its_reader(void **state)
{
	struct quire_map *hot = hot_map(CACHE_BUDGET * 3 / 4);

	file_sparse("scan", 2 * CACHE_BUDGET);
	struct quire_map *m = map_name("scan");
	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_SEQUENTIAL), 0);
	for (uint64_t at = 0; at < 2 * CACHE_BUDGET; at += MIB) {
		read_pages(m, item_ptr(m, 0), at, at + MIB);
		/* Who fills by himself what he misses may be far ahead of who takes away what is behind him: that comes after him. */
		while (fault == QUIRE_FAULT_SIGNAL && map_stat(m).resident > 4 * MIB)
			sched_yield();
		assert_true(map_stat(m).resident <= 4 * MIB);
	}
	assert_int_equal(map_stat(hot).resident, CACHE_BUDGET * 3 / 4);
	map_end(m);
	map_end(hot);
}

/* ---- what is said ---- */

static void a_random_item_has_nothing_read_ahead(void **state)
{
	file_sparse("f", LEN);
	struct quire_map *m = map_name("f");

	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_RANDOM), 0);
	read_pages(m, item_ptr(m, 0), 0, pages(256));
	assert_int_equal(map_stat(m).n_ahead, 0);
	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_DETECT), 0);
	read_pages(m, item_ptr(m, 0), pages(256), pages(512));
	assert_ahead(m, 1);
	map_end(m);
}

static void a_sequential_item_begins_at_once(void **state)
{
	file_sparse("f", LEN);
	struct quire_map *m = map_name("f");

	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_SEQUENTIAL), 0);
	read_pages(m, item_ptr(m, 0), 0, 1);
	while (map_stat(m).n_ahead == 0)
		sched_yield();
	settle(m);
	assert_true(map_stat(m).resident > page_size());
	map_end(m);
}

static void what_is_said_wrongly_is_refused(void **state)
{
	file_sparse("f", MIB);
	struct quire_map *m = map_name("f");

	assert_int_equal(quire_map_stream(m, 1, QUIRE_STREAM_RANDOM), -EINVAL);
	assert_int_equal(quire_map_stream(m, 0, (enum quire_stream)3), -EINVAL);
	assert_int_equal(quire_map_stream(m, 0, (enum quire_stream)-1), -EINVAL);
	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_SEQUENTIAL), 0);
	map_end(m);
}

/* ---- ends and edges ---- */

static void a_map_ends_with_readahead_under_way(void **state)
{
	file_sparse("f", LEN);
	for (unsigned round = 0; round < 40; round++) {
		struct quire_map *m = map_name("f");

		read_pages(m, item_ptr(m, 0), 0, pages(3 + round * 4));
		map_end(m); /* teardown sees that nothing was left */
	}
}

static void a_map_ends_while_the_loop_that_reads_ahead_stands(void **state)
{
	struct quire_op ops[8], destroy;
	struct iovec ranges[8];

	file_sparse("f", LEN);
	for (unsigned engine = 0; engine < 2; engine++) {
		struct quire_map *m = map_name("f");
		struct stalled s = {.map = m, .ops = ops, .ranges = ranges, .n = 8};

		for (unsigned i = 0; i < 8; i++) {
			quire_op_init(&ops[i]);
			ranges[i] = io(item_ptr(m, 0) + pages(4 * i), pages(4));
		}
		stalled_start(&s, both_engines[engine]);
		assert_true(map_stat(m).n_ahead > 0);
		quire_op_init(&destroy);
		assert_int_equal(quire_map_destroy(m, &destroy), 0);
		stalled_end(&s);
		assert_int_equal(quire_await(&destroy), 0);
	}
}

static void a_growing_item_is_read_to_its_end_and_on(void **state)
{
	const uint64_t first = pages(300) + 100, more = pages(200) + 5;

	file_write("f", 1, first);
	struct quire_map *m = map_item_of((struct quire_item){
		.path = file_path("f"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = LEN});
	const char *p = item_ptr(m, 0);
	size_t len;

	read_pages(m, p, 0, first);
	settle(m);
	assert_int_equal(map_stat(m).resident, pages(301));
	file_append("f", 1, first, more);
	assert_int_equal(quire_map_extend(m, 0, &len), 0);
	assert_int_equal(len, first + more);
	read_pages(m, p, pages(300), first + more);
	settle(m);
	assert_int_equal(map_stat(m).resident, pages(501));
	read_and_compare(m, p, 1, 0, first + more);
	map_end(m);
}

struct reading {
	pthread_t thread;
	struct quire_map *map;
	uint64_t from, to;
	bool right;
};

static void *read_part(void *arg)
{
	struct reading *r = arg;
	const char *p = quire_map_base(r->map);

	r->right = true;
	for (uint64_t at = r->from; at < r->to; at += page_size()) {
		if (!loads())
			r->right &= want(r->map, p + at, 1) == 0;
		else
			r->right &= bytes_are(p + at, 1, at, 64);
	}
	return NULL;
}

static void threads_that_read_the_same_and_other_parts(void **state)
{
	struct reading readings[6];

	file_write("f", 1, LEN);
	struct quire_map *m = map_name("f");
	for (unsigned i = 0; i < 6; i++) {
		readings[i] = (struct reading){.map = m, .from = i % 3 * LEN / 3 & ~(page_size() - 1), .to = LEN};
		assert_int_equal(pthread_create(&readings[i].thread, NULL, read_part, &readings[i]), 0);
	}
	for (unsigned i = 0; i < 6; i++)
		pthread_join(readings[i].thread, NULL);
	for (unsigned i = 0; i < 6; i++)
		assert_true(readings[i].right);
	settle(m);
	assert_int_equal(map_stat(m).resident, LEN);
	map_end(m);
}

static void modes_change_while_it_is_read(void **state)
{
	struct reading readings[3];

	file_write("f", 1, LEN);
	struct quire_map *m = map_name("f");
	for (unsigned i = 0; i < 3; i++) {
		readings[i] = (struct reading){.map = m, .from = 0, .to = LEN};
		assert_int_equal(pthread_create(&readings[i].thread, NULL, read_part, &readings[i]), 0);
	}
	for (unsigned i = 0; map_stat(m).n_fills < LEN / page_size() / 2; i++)
		assert_int_equal(quire_map_stream(m, 0, (enum quire_stream)(i % 2)), 0);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(readings[i].thread, NULL);
		assert_true(readings[i].right);
	}
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(no_more_than_a_window_is_ahead),
		ON_CHECKED(nothing_is_read_behind_an_items_end),
		ON_CHECKED(the_least_budget_is_kept),
		ON_SERVICE(the_hot_set_stays),
		ON_CHECKED(a_sequential_item_leaves_behind_its_reader),
		ON_CHECKED(a_random_item_has_nothing_read_ahead),
		ON_CHECKED(a_sequential_item_begins_at_once),
		ON_EACH(what_is_said_wrongly_is_refused),
		ON_CHECKED(a_map_ends_with_readahead_under_way),
		ON_CHECKED(a_map_ends_while_the_loop_that_reads_ahead_stands),
		ON_CHECKED(a_growing_item_is_read_to_its_end_and_on),
		ON_CHECKED(threads_that_read_the_same_and_other_parts),
		ON_CHECKED(modes_change_while_it_is_read),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
