/* Which size of pages an item gets: as it asks, by its length, or what can be had. */
#include "../support/maps.h"

static const size_t sizes[] = {QUIRE_PAGE_4K, QUIRE_PAGE_16K, QUIRE_PAGE_64K};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Bytes of a page of that size as it is had: never less than the system's. */
static size_t had(size_t bytes)
{
	return bytes > page_size() && fault != QUIRE_FAULT_KERNEL ? bytes : page_size();
}

static struct quire_map *map_with(const char *name, size_t page_bytes)
{
	return map_item_of((struct quire_item){.path = file_path(name), .page_bytes = page_bytes});
}

static void size_as_asked(void **state)
{
	file_write("f", 1, 200000);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_with("f", sizes[i]);

		assert_int_equal(quire_map_item_page_bytes(m, 0), had(sizes[i]));
		assert_int_equal(quire_map_item_page_bytes(m, 1), 0); /* no such item */
		map_end(m);
	}
}

static void other_sizes_are_refused(void **state)
{
	const size_t bad[] = {1, 4095, 4097, 8192, 32768, 131072, MIB, 4 * MIB, SIZE_MAX};

	file_write("f", 1, 200000);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct quire_item items[] = {
			{.path = file_path("f")},
			{.path = file_path("f"), .page_bytes = bad[i]},
		};
		struct quire_error err = {0};
		struct quire_map *m;
		int rc = map_try(items, 2, &m, &err);

		if (rc == -ENOTSUP)
			skip_because("no userfaultfd");
		assert_int_equal(rc, -EINVAL);
		assert_non_null(strstr(err.text, "item 1"));
	}
}

/* Past the support's maps, which choose a size of their own. */
static size_t size_by_default(const struct quire_item *item)
{
	struct quire_map_options o = {.size = sizeof(o), .fault = fault};
	struct quire_map *m;
	int rc = quire_map_create(cache, item, 1, &o, &m, NULL);

	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	assert_int_equal(rc, 0);
	size_t bytes = quire_map_item_page_bytes(m, 0);
	map_end(m);
	return bytes;
}

static void small_items_come_whole_by_default(void **state)
{
	const struct {
		uint64_t len;
		size_t bytes;
	} cases[] = {
		{0, QUIRE_PAGE_4K},      {1, QUIRE_PAGE_4K},      {4096, QUIRE_PAGE_4K},  {4097, QUIRE_PAGE_16K},
		{16384, QUIRE_PAGE_16K}, {16385, QUIRE_PAGE_64K}, {65536, QUIRE_PAGE_64K}, {65537, QUIRE_PAGE_4K},
		{3 * MIB, QUIRE_PAGE_4K},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		file_sparse("f", cases[i].len);
		assert_int_equal(size_by_default(&(struct quire_item){.path = file_path("f")}), had(cases[i].bytes));
	}
	/* Of a part of a file, the part counts. */
	assert_int_equal(size_by_default(&(struct quire_item){.path = file_path("f"), .len_bytes = 65536}),
	                 had(QUIRE_PAGE_64K));
}

/* Its last page changes when it grows, and what is around it should not leave for that. */
static void growing_items_have_the_systems_page(void **state)
{
	file_write("f", 1, 65536);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_item_of((struct quire_item){
			.path = file_path("f"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = MIB, .page_bytes = sizes[i]});

		assert_int_equal(quire_map_item_page_bytes(m, 0), page_size());
		map_end(m);
	}
}

/* ---- 2 MiB ---- */

#define HUGE ((uint64_t)QUIRE_PAGE_2M)
#define LEN (3 * HUGE + 5000)
#define LEAST_BUDGET (8 * HUGE)

static bool can_have_huge(void)
{
	struct quire_capabilities caps;

	assert_int_equal(quire_capabilities(&caps), 0);
	return caps.move && (fault == QUIRE_FAULT_SERVICE || fault == QUIRE_FAULT_SIGNAL);
}

static size_t size_of(struct quire_item item)
{
	item.page_bytes = QUIRE_PAGE_2M;
	struct quire_map *m = map_item_of(item);
	size_t bytes = quire_map_item_page_bytes(m, 0);

	map_end(m);
	return bytes;
}

static int copy(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	memcpy(page, raw, len_bytes);
	return 0;
}

static void falls_back_where_it_cannot_be(void **state)
{
	file_sparse("f", LEN);
	const size_t best = can_have_huge() ? QUIRE_PAGE_2M : QUIRE_PAGE_64K;
	const struct quire_item item = {.path = file_path("f")};
	struct quire_item part = item, hooked = item, grows = item;

	assert_int_equal(size_of(item), best);
	part.len_bytes = HUGE;
	assert_int_equal(size_of(part), best);
	part.len_bytes = HUGE - 1;
	assert_int_equal(size_of(part), QUIRE_PAGE_64K);
	hooked.fill = copy;
	assert_int_equal(size_of(hooked), QUIRE_PAGE_64K);
	grows.flags = QUIRE_ITEM_APPEND;
	assert_int_equal(size_of(grows), page_size());
	assert_int_equal(quire_cache_set_budget(cache, LEAST_BUDGET), 0);
	assert_int_equal(size_of(item), best);
	assert_int_equal(quire_cache_set_budget(cache, LEAST_BUDGET - page_size()), 0);
	assert_int_equal(size_of(item), QUIRE_PAGE_64K);
}

static void the_kernel_maps_its_own(void **state)
{
	file_sparse("f", LEN);
	assert_int_equal(size_of((struct quire_item){.path = file_path("f")}), page_size());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(size_as_asked),
		ON_EACH(other_sizes_are_refused),
		ON_EACH(small_items_come_whole_by_default),
		ON_EACH(growing_items_have_the_systems_page),
		ON_CHECKED(falls_back_where_it_cannot_be),
		ON_KERNEL(the_kernel_maps_its_own),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
