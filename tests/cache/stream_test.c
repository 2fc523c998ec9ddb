/* Readers in order find the next pages under way; nobody else has anything read for him. */
#include "reader.h"
#include "../support/random.h"
#include "../support/stalled.h"

#include <sched.h>

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
		const char *at = p + random_next(&seed) % n_pages * page_size();

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
		const uint64_t at = random_next(&seed) % (4 * GIB - pages(64)) & ~(page_size() - 1);
		const uint64_t len = pages(1 + random_next(&seed) % 64);

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
			read_pages(m, p + GIB + random_next(&seed) % GIB, 0, 1);
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
			read_pages(m, item_ptr(m, 0) + random_next(&seed) % (4 * GIB / page_size()) * page_size(), 0, 1);
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
		/* None had to come twice; but who reads ahead may come late, where the reader fills by himself. */
		uint64_t n = 24 * MIB / page_size(), most = fault == QUIRE_FAULT_SIGNAL ? n + n / 10 : n;
		assert_in_range(map_stat(m).n_fills, n, most);
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
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
