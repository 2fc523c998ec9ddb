/* What can be mapped: files whole and in part, none, many, empty, sparse, beyond the arena. */
#include "../support/maps.h"

#include <fcntl.h>
#include <time.h>

static void whole_file(void **state)
{
	file_write("f", 1, pages(5) + 123);
	struct quire_map *m = map_name("f");

	assert_int_equal(quire_map_n_items(m), 1);
	assert_int_equal(quire_map_bytes(m), pages(6));
	assert_int_equal(item_len(m, 0), pages(5) + 123);
	assert_ptr_equal(item_ptr(m, 0), quire_map_base(m));
	assert_int_equal(quire_map_fault(m), fault);
	assert_int_equal((size_t)1 << quire_map_page_shift(m), page_size());
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(5) + 123);
	map_end(m);
}

static void zeroes_behind_the_end(void **state)
{
	for (size_t len = 1; len <= pages(1); len = len * 3 + 7) {
		file_write("f", 1, len);
		struct quire_map *m = map_name("f");
		const char *p = item_ptr(m, 0);

		assert_int_equal(pin(m, p, pages(1)), 0);
		assert_bytes(p, 1, 0, len);
		assert_true(bytes_are_zero(p + len, pages(1) - len));
		assert_int_equal(unpin(m, p, pages(1)), 0);
		map_end(m);
	}
}

static void zeroes_behind_the_end_of_a_part(void **state)
{
	file_write("f", 1, pages(4));
	struct quire_map *m = map_item_of((struct quire_item){
		.path = file_path("f"), .offset = pages(1), .len_bytes = pages(1) + 100});
	const char *p = item_ptr(m, 0);

	assert_int_equal(pin(m, p, pages(2)), 0);
	assert_bytes(p, 1, pages(1), pages(1) + 100);
	if (fault != QUIRE_FAULT_KERNEL) /* which has no smaller unit than the page */
		assert_true(bytes_are_zero(p + pages(1) + 100, pages(1) - 100));
	assert_int_equal(unpin(m, p, pages(2)), 0);
	map_end(m);
}

static void part_of_a_file(void **state)
{
	file_write("f", 1, pages(10) + 5);
	const struct quire_item items[] = {
		{.path = file_path("f"), .offset = pages(3), .len_bytes = pages(2)},
		{.path = file_path("f"), .offset = pages(9)},
		{.path = file_path("f"), .offset = pages(10), .len_bytes = 5},
		{.path = file_path("f"), .len_bytes = 1},
	};
	struct quire_map *m = map_items(items, 4);

	assert_int_equal(item_len(m, 1), pages(1) + 5);
	assert_int_equal(quire_map_bytes(m), pages(2 + 2 + 1 + 1));
	read_and_compare(m, item_ptr(m, 0), 1, pages(3), pages(2));
	read_and_compare(m, item_ptr(m, 1), 1, pages(9), pages(1) + 5);
	read_and_compare(m, item_ptr(m, 2), 1, pages(10), 5);
	read_and_compare(m, item_ptr(m, 3), 1, 0, 1);
	map_end(m);
}

static void part_that_is_nothing(void **state)
{
	file_write("f", 1, pages(2));
	struct quire_map *m =
		map_item_of((struct quire_item){.path = file_path("f"), .offset = pages(2)});

	assert_int_equal(item_len(m, 0), 0);
	assert_int_equal(quire_map_bytes(m), 0);
	map_end(m);
}

static void items_in_order_with_empty_ones_between(void **state)
{
	static const size_t lengths[] = {0, 10, 0, 0, 5000, 0, 70000, 0};
	struct quire_item items[8] = {{0}};
	char name[8][8];

	for (unsigned i = 0; i < 8; i++) {
		snprintf(name[i], sizeof(name[i]), "f%u", i);
		file_write(name[i], i, lengths[i]);
		items[i].path = strdup(file_path(name[i]));
	}
	struct quire_map *m = map_items(items, 8);
	const char *next = quire_map_base(m);
	for (unsigned i = 0; i < 8; i++) {
		assert_ptr_equal(item_ptr(m, i), next);
		assert_int_equal(item_len(m, i), lengths[i]);
		read_and_compare(m, next, i, 0, lengths[i]);
		next += (lengths[i] + page_size() - 1) / page_size() * page_size();
		free((char *)(uintptr_t)items[i].path);
	}
	assert_int_equal(next - (const char *)quire_map_base(m), quire_map_bytes(m));
	assert_int_equal(map_stat(m).mapped, 10 + 5000 + 70000);
	map_end(m);
}

static void no_items(void **state)
{
	struct quire_map *m = map_items(NULL, 0);
	const void *p;
	size_t len;
	struct quire_op op;
	struct quire_map_stat s = map_stat(m);

	assert_int_equal(quire_map_n_items(m), 0);
	assert_int_equal(quire_map_bytes(m), 0);
	assert_int_equal(quire_map_item(m, 0, &p, &len), -EINVAL);
	assert_int_equal(quire_map_item_state(m, 0), -EINVAL);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), -EINVAL);
	assert_int_equal(quire_map_want(m, NULL, 0, 0, NULL), 0);
	assert_int_equal(want(m, "x", 1), -EFAULT);
	assert_int_equal(s.mapped + s.resident + s.n_items, 0);
	quire_op_init(&op);
	assert_int_equal(quire_map_destroy(m, &op), 0);
	assert_int_equal(quire_await(&op), 0);
}

static void empty_file(void **state)
{
	file_write("f", 1, 0);
	struct quire_map *m = map_name("f");

	assert_int_equal(item_len(m, 0), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_PINNED), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_WARM), 0);
	assert_int_equal(quire_map_item_state(m, 0), 0);
	map_end(m);
}

static void the_same_file_many_times(void **state)
{
	file_write("f", 1, pages(2));
	struct quire_item items[50];

	for (unsigned i = 0; i < 50; i++)
		items[i] = (struct quire_item){.path = file_path("f")};
	struct quire_map *m = map_items(items, 50);
	for (unsigned i = 0; i < 50; i++) {
		assert_ptr_equal(item_ptr(m, i), (const char *)quire_map_base(m) + i * pages(2));
		read_and_compare(m, item_ptr(m, i), 1, 0, pages(2));
	}
	map_end(m);
}

static void by_descriptor(void **state)
{
	file_write("f", 1, pages(3));
	int fd = file_fd("f");
	struct quire_map *m = map_item_of((struct quire_item){.fd = fd, .offset = pages(1)});

	close(fd);
	unlink(file_path("f"));
	read_and_compare(m, item_ptr(m, 0), 1, pages(1), pages(2));
	map_end(m);
}

static void relative_path_survives_chdir(void **state)
{
	int before = open(".", O_PATH | O_DIRECTORY);

	file_write("relative", 1, pages(2));
	assert_true(before >= 0);
	assert_int_equal(chdir(file_path("")), 0);
	struct quire_map *m = map_item_of((struct quire_item){.path = "relative"});
	assert_int_equal(chdir("/"), 0);
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(2));
	map_end(m);
	assert_int_equal(fchdir(before), 0);
	close(before);
}

static void a_thousand_files_of_a_page(void **state)
{
	enum { N = 1000 };
	static struct quire_item items[N];
	char name[16];

	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		file_write(name, i, pages(1));
		items[i] = (struct quire_item){.path = strdup(file_path(name))};
	}
	cache_anew(&(struct quire_cache_options){.max_open_files = 20, .signal_faults = true});
	struct quire_map *m = map_items(items, N);
	for (unsigned i = 0; i < N; i++)
		read_and_compare(m, item_ptr(m, (i * 7) % N), (i * 7) % N, 0, pages(1));
	assert_true(cache_stat().n_open_files <= 20);
	if (fault != QUIRE_FAULT_KERNEL)
		assert_true(cache_stat().n_vmas <= 16);
	map_end(m);
	for (unsigned i = 0; i < N; i++) {
		unlink(items[i].path);
		free((char *)(uintptr_t)items[i].path);
	}
}

/* Of all threads: however busy the machine is. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void ten_tebibytes(void **state)
{
	const uint64_t at[] = {0, 5 * TIB + 12345, 10 * TIB - 4096, 7 * MIB, 9 * TIB};

	file_sparse("big", 10 * TIB);
	for (unsigned i = 0; i < 5; i++)
		file_append("big", 1, at[i], 4096);
	struct quire_map *m;
	struct quire_error err;
	const struct quire_item item = {.path = file_path("big")};
	int rc = map_try(&item, 1, &m, &err);
	if (rc == -ENOMEM && SANITIZED)
		skip_because("a sanitizer leaves no room for such an arena");
	m = rc == 0 ? m : map_name("big");

	uint64_t before = cpu_ns();
	for (unsigned i = 0; i < 5; i++)
		read_and_compare(m, item_ptr(m, 0) + at[i], 1, at[i], 4096);
	const char *hole = item_ptr(m, 0) + 3 * TIB;
	assert_int_equal(pin(m, hole, pages(1)), 0);
	assert_true(bytes_are_zero(hole, pages(1)));
	assert_int_equal(unpin(m, hole, pages(1)), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	press();
	quire_map_purge(m, quire_map_base(m), quire_map_bytes(m));
	map_end(m);
	print_message("%.1f ms of CPU\n", (double)(cpu_ns() - before) / 1e6);
	/* Nothing may look at each of two and a half thousand million words. On an emulated processor faults take as long as that. */
	assert_true(getenv("QUIRE_SLOW_CPU") != NULL || cpu_ns() - before < (SANITIZED ? 30 : 8) * UINT64_C(1000000000));
	unlink(file_path("big"));
}

static void larger_than_the_arena(void **state)
{
	struct quire_map *small = NULL, *m = NULL;
	struct quire_error err = {0};

	file_write("f", 1, pages(3));
	file_sparse("big", 3 * GIB);
	const struct quire_item big = {.path = file_path("big")};
	cache_anew(&(struct quire_cache_options){.reserve_bytes = 2 * GIB, .signal_faults = true});
	small = map_name("f");
	uint64_t used = cache_stat().used;
	assert_int_equal(map_try(&big, 1, &m, &err), -ENOMEM);
	assert_null(m);
	assert_int_equal(err.code, -ENOMEM);
	assert_true(strlen(err.text) > 5);
	assert_int_equal(cache_stat().used, used);
	assert_int_equal(cache_stat().n_maps, 1);
	read_and_compare(small, item_ptr(small, 0), 1, 0, pages(3));
	map_end(small);
}

static void a_hundred_thousand_items(void **state)
{
	const unsigned n = getenv("QUIRE_TEST_LONG") != NULL ? 1000000 : SANITIZED ? 20000 : 100000;
	struct quire_item *items = calloc(n, sizeof(*items));
	uint64_t before = now_ns();

	cache_anew(&(struct quire_cache_options){.budget_bytes = 2 * GIB});
	file_write("tiny", 1, 100);
	for (unsigned i = 0; i < n; i++)
		items[i] = (struct quire_item){.path = file_path("tiny"), .len_bytes = 1 + i % 100};
	const char *path = items[0].path;
	for (unsigned i = 0; i < n; i++)
		items[i].path = path;
	struct quire_map *m = map_items(items, n);
	free(items);
	print_message("%.1f us an item\n", (double)(now_ns() - before) / 1e3 / n);
	assert_int_equal(quire_map_n_items(m), n);
	for (unsigned i = 0; i < n; i += 9973)
		read_and_compare(m, item_ptr(m, i), 1, 0, item_len(m, i));
	assert_int_equal(item_len(m, n - 1), 1 + (n - 1) % 100);
	map_end(m);
}

static void map_of_another_arena_space_again_and_again(void **state)
{
	file_sparse("half", GIB);
	cache_anew(&(struct quire_cache_options){.reserve_bytes = 2 * GIB, .signal_faults = true});
	uint64_t used = 0;
	for (unsigned i = 0; i < 20; i++) {
		struct quire_map *m = map_name("half");
		for (uint64_t at = 0; at < GIB; at += 100 * MIB)
			assert_int_equal(want(m, item_ptr(m, 0) + at, 1), 0);
		map_end(m);
		/* What a loop keeps for itself, and upper page tables, are charged the first time. */
		if (i == 0)
			used = cache_stat().used;
		assert_int_equal(cache_stat().used, used);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(whole_file),
		ON_EACH(zeroes_behind_the_end),
		ON_EACH(zeroes_behind_the_end_of_a_part),
		ON_EACH(part_of_a_file),
		ON_EACH(part_that_is_nothing),
		ON_EACH(items_in_order_with_empty_ones_between),
		ON_EACH(no_items),
		ON_EACH(empty_file),
		ON_EACH(the_same_file_many_times),
		ON_EACH(by_descriptor),
		ON_EACH(relative_path_survives_chdir),
		ON_EACH(a_thousand_files_of_a_page),
		ON_EACH(ten_tebibytes),
		ON_CHECKED(larger_than_the_arena),
		ON_CHECKED(map_of_another_arena_space_again_and_again),
		ON_PINNED(a_hundred_thousand_items),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
