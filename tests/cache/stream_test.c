/* Readers in order find the next pages under way, within bounds; nobody else has anything read for him. */
#include "../support/maps.h"
#include "../support/stalled.h"

#include <pthread.h>
#include <sched.h>

#define LEN (8 * MIB)
#define WINDOW (CACHE_BUDGET / 64) /* what may be ahead of a reader, of the budget of these tests */

static bool loads(void)
{
	return fault != QUIRE_FAULT_PINNED;
}

/* One byte of each page, by loads or by wants. */
static void read_pages(struct quire_map *m, const char *p, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += page_size()) {
		if (loads())
			*(const volatile char *)(p + at);
		else
			assert_int_equal(want(m, p + at, 1), 0);
	}
}

/* Until no fill is under way. */
static void settle(struct quire_map *m)
{
	while (cache_stat().frames != map_stat(m).resident)
		sched_yield();
}

/* So much was read ahead. Who reads what he misses by himself can be faster than the thread that reads ahead:
 * then it is some. */
static void assert_ahead(struct quire_map *m, uint64_t n_pages)
{
	while (fault == QUIRE_FAULT_SIGNAL && map_stat(m).n_ahead == 0)
		sched_yield();
	settle(m);
	if (fault != QUIRE_FAULT_SIGNAL)
		assert_true(map_stat(m).n_ahead >= n_pages);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717u;
}

/* ---- random work ---- */

static void random_accesses_have_nothing_read_ahead(void **state)
{
	const uint64_t n_pages = 4 * GIB / page_size();
	uint64_t seed = 1;

	file_sparse("f", n_pages * page_size());
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);
	uint64_t n_misses = 0;
	for (unsigned i = 0; i < 4000; i++) {
		const char *at = p + next_random(&seed) % n_pages * page_size();

		n_misses += !quire_map_resident(m, at, 1);
		read_pages(m, at, 0, 1);
	}
	settle(m);
	assert_int_equal(map_stat(m).n_ahead, 0);
	assert_int_equal(map_stat(m).n_fills, n_misses);
	map_end(m);
}

static void random_records_have_nothing_read_ahead(void **state)
{
	uint64_t seed = 1;

	file_sparse("f", 4 * GIB);
	struct quire_map *m = map_name("f");
	for (unsigned i = 0; i < 500; i++) {
		const uint64_t at = next_random(&seed) % (4 * GIB - pages(64)) & ~(page_size() - 1);
		const uint64_t len = pages(1 + next_random(&seed) % 64);

		assert_int_equal(want(m, item_ptr(m, 0) + at, len), 0);
	}
	settle(m);
	assert_int_equal(map_stat(m).n_ahead, 0);
	map_end(m);
}

static void two_in_a_row_start_nothing_and_three_little(void **state)
{
	file_sparse("f", LEN);
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);

	for (uint64_t at = pages(100); at + pages(100) < LEN; at += pages(100))
		read_pages(m, p, at, at + pages(2));
	settle(m);
	assert_int_equal(map_stat(m).n_ahead, 0);
	read_pages(m, p, 0, pages(3));
	while (map_stat(m).n_ahead == 0)
		sched_yield();
	settle(m);
	assert_in_range(map_stat(m).n_ahead, 1, 32 * KIB / page_size());
	map_end(m);
}

/* ---- readers in order ---- */

static void a_reader_in_order_finds_his_pages(void **state)
{
	file_write("f", 1, LEN);
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);

	for (uint64_t at = 0; at < LEN; at += 16 * KIB) {
		if (!loads())
			assert_int_equal(pin(m, p + at, 16 * KIB), 0);
		assert_bytes(p + at, 1, at, 16 * KIB);
		if (!loads())
			assert_int_equal(unpin(m, p + at, 16 * KIB), 0);
	}
	assert_ahead(m, LEN / page_size() * 9 / 10);
	assert_int_equal(map_stat(m).n_fills, LEN / page_size());
	map_end(m);
}

static void small_wants_in_order_are_seen_by_their_hits(void **state)
{
	file_write("f", 1, LEN);
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);

	for (uint64_t i = 0; i < 64; i++)
		assert_int_equal(want(m, p + pages(i), 1), 0);
	settle(m);
	/* Of wants that all find their page there, some start more. */
	uint64_t before = map_stat(m).resident, at = pages(64);
	while (quire_map_resident(m, p + at, 1)) {
		assert_int_equal(want(m, p + at, 1), 0);
		at += page_size();
		if (map_stat(m).resident > before + pages(8))
			break;
		settle(m);
	}
	while (map_stat(m).resident == before) /* by the service's thread, which may be late */
		sched_yield();
	map_end(m);
}

static void a_reader_is_known_among_random_accesses(void **state)
{
	uint64_t seed = 7;

	file_sparse("f", 4 * GIB);
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);
	for (uint64_t i = 0; i < 1024; i++) {
		read_pages(m, p, pages(i), pages(i + 1));
		for (unsigned k = 0; k < 4; k++)
			read_pages(m, p + GIB + next_random(&seed) % GIB, 0, 1);
	}
	assert_ahead(m, 900);
	map_end(m);
}

static void several_readers_at_once(void **state)
{
	file_sparse("f", 64 * MIB);
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);

	for (uint64_t i = 0; i < 128; i++)
		for (uint64_t reader = 0; reader < 6; reader++)
			read_pages(m, p + reader * 10 * MIB, pages(i), pages(i + 1));
	assert_ahead(m, 6 * 8 + 1); /* of each one more than a first window */
	map_end(m);
}

/* ---- pages of other sizes ---- */

static const size_t sizes[] = {QUIRE_PAGE_16K, QUIRE_PAGE_64K, QUIRE_PAGE_2M};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static struct quire_map *map_of_size(const char *name, size_t page_bytes)
{
	return map_item_of((struct quire_item){.path = file_path(name), .page_bytes = page_bytes});
}

static void units_in_order_are_seen_too(void **state)
{
	const uint64_t len = 20 * MIB + 5000;

	file_write("f", 1, len);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_of_size("f", sizes[i]);

		read_pages(m, item_ptr(m, 0), 0, len);
		assert_ahead(m, 4 * MIB / page_size());
		assert_int_equal(map_stat(m).n_fills, len / page_size() + 1);
		read_and_compare(m, item_ptr(m, 0), 1, 0, len);
		map_end(m);
	}
}

static void units_at_random_come_alone(void **state)
{
	uint64_t seed = 1;

	file_sparse("f", 4 * GIB);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_of_size("f", sizes[i]);
		const unsigned n = sizes[i] == QUIRE_PAGE_2M ? 12 : 200;

		for (unsigned k = 0; k < n; k++)
			read_pages(m, item_ptr(m, 0) + next_random(&seed) % (4 * GIB / page_size()) * page_size(), 0, 1);
		settle(m);
		assert_int_equal(map_stat(m).n_ahead, 0);
		map_end(m);
	}
}

static void a_sequential_item_keeps_the_unit_of_its_reader(void **state)
{
	file_sparse("f", 24 * MIB);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_of_size("f", sizes[i]);

		assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_SEQUENTIAL), 0);
		read_pages(m, item_ptr(m, 0), 0, 24 * MIB);
		settle(m);
		assert_int_equal(map_stat(m).n_fills, 24 * MIB / page_size()); /* none had to come twice */
		assert_true(map_stat(m).resident <= 5 * QUIRE_PAGE_2M);
		map_end(m);
	}
}

/* On a loop that starts them and then stands. */
static uint64_t under_way_of(struct quire_map *m, uint64_t want_bytes, unsigned n)
{
	struct quire_op ops[8];
	struct iovec ranges[8];
	struct stalled s = {.map = m, .ops = ops, .ranges = ranges, .n = n};

	for (unsigned i = 0; i < n; i++) {
		quire_op_init(&ops[i]);
		ranges[i] = io(item_ptr(m, 0) + i * want_bytes, want_bytes);
	}
	stalled_start(&s, QUIRE_ENGINE_URING);
	uint64_t bytes = cache_stat().frames - map_stat(m).resident;
	stalled_end(&s);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(quire_await(&ops[i]), 0);
	return bytes;
}

static void of_the_largest_units_several_are_under_way(void **state)
{
	file_sparse("f", 32 * MIB);
	struct quire_map *m = map_of_size("f", QUIRE_PAGE_2M);
	bool whole = quire_map_item_page_bytes(m, 0) == QUIRE_PAGE_2M;

	uint64_t bytes = under_way_of(m, 16 * MIB, 1);
	map_end(m);
	if (!whole)
		skip_because("no pages of 2 MiB here");
	assert_true(bytes >= 3 * QUIRE_PAGE_2M);
}

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
		ON_CHECKED(random_accesses_have_nothing_read_ahead),
		ON_CHECKED(random_records_have_nothing_read_ahead),
		ON_CHECKED(two_in_a_row_start_nothing_and_three_little),
		ON_CHECKED(a_reader_in_order_finds_his_pages),
		ON_CHECKED(small_wants_in_order_are_seen_by_their_hits),
		ON_CHECKED(a_reader_is_known_among_random_accesses),
		ON_CHECKED(several_readers_at_once),
		ON_CHECKED(units_in_order_are_seen_too),
		ON_CHECKED(units_at_random_come_alone),
		ON_CHECKED(a_sequential_item_keeps_the_unit_of_its_reader),
		ON_FAULTING(of_the_largest_units_several_are_under_way),
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
