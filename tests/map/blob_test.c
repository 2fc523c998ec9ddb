/* Blobs beside files in one map: shared, deleted while they are mapped. */
#include "blobs.h"

static uint64_t free_bytes(enum quire_class cls)
{
	struct quire_store_stat st;

	assert_int_equal(quire_store_stat(store, &st), 0);
	return st.classes[cls].free_bytes;
}

/* ---- what is there ---- */

static void files_and_blobs_of_alternating_classes(void **state)
{
	enum { N = 12 };
	const uint64_t lens[N] = {1, 4095, 4096, 4097, 70000, 0, 12288, 100, 1 * MIB + 17, 5, 8192, 300000};
	struct quire_item items[N] = {0};

	store_begin();
	for (unsigned i = 0; i < N; i++) {
		char name[16];
		if (i % 3 == 2) {
			snprintf(name, sizeof(name), "f%u", i);
			file_write(name, i, lens[i]);
			items[i].path = file_path(name);
		} else {
			items[i].store = store;
			items[i].blob = blob_put((enum quire_class)(i % 3), i, lens[i]);
		}
	}
	struct quire_map *m = map_items(items, N);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < N; i++) {
			const char *p = item_ptr(m, i);
			size_t behind = pages((lens[i] + page_size() - 1) / page_size()) - lens[i];
			assert_int_equal(item_len(m, i), lens[i]);
			read_and_compare(m, p, i, 0, lens[i]);
			/* Past the end of the item: zeroes, up to the end of its page. */
			assert_int_equal(pin(m, p, lens[i] + behind), 0);
			assert_true(bytes_are_zero(p + lens[i], behind));
			assert_int_equal(unpin(m, p, lens[i] + behind), 0);
			assert_int_equal(quire_map_item_state(m, i), i % 3 == 2 ? 0 : QUIRE_ITEM_VERIFIED);
		}
		press();
	}
	assert_true(map_stat(m).n_evictions > 0);
	map_end(m);
	store_end();
}

static void more_than_one_group_of_checksums(void **state)
{
	const uint64_t len = 9 * MIB + 4096 * 3 + 5;

	store_begin();
	struct quire_map *m = map_blob(blob_put(QUIRE_CLASS_CAPACITY, 3, len));
	read_and_compare(m, item_ptr(m, 0), 3, 0, len);
	quire_map_purge(m, quire_map_base(m), quire_map_bytes(m));
	assert_int_equal(map_stat(m).resident, 0);
	for (uint64_t at = 4 * MIB - 4 * 4096; at < 4 * MIB + 4 * 4096; at += 4096) /* where groups meet */
		read_and_compare(m, item_ptr(m, 0) + at, 3, at, 4096);
	assert_int_equal(map_stat(m).unverified, 0);
	map_end(m);
	store_end();
}

static void a_part_of_a_blob(void **state)
{
	const uint64_t len = pages(20) + 5;
	struct quire_map *m;
	struct quire_error err;

	store_begin();
	uint64_t id = blob_put(QUIRE_CLASS_STAGING, 4, len);
	m = map_item_of((struct quire_item){.store = store, .blob = id, .offset = pages(3), .len_bytes = pages(2) + 7});
	read_and_compare(m, item_ptr(m, 0), 4, pages(3), pages(2) + 7);
	assert_int_equal(pin(m, item_ptr(m, 0), pages(3)), 0);
	assert_true(bytes_are_zero(item_ptr(m, 0) + pages(2) + 7, page_size() - 7));
	assert_int_equal(unpin(m, item_ptr(m, 0), pages(3)), 0);
	map_end(m);
	m = map_item_of((struct quire_item){.store = store, .blob = id, .offset = pages(20)});
	read_and_compare(m, item_ptr(m, 0), 4, pages(20), 5);
	map_end(m);
	const struct quire_item bad[] = {
		{.store = store, .blob = id, .offset = 1},
		{.store = store, .blob = id, .offset = pages(21)},
		{.store = store, .blob = id, .offset = pages(20), .len_bytes = 6},
		{.store = store, .blob = id, .len_bytes = UINT64_MAX},
	};
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(map_try(&bad[i], 1, &m, &err), -EINVAL);
	store_end();
}

static void raw_loads(void **state)
{
	const uint64_t len = 3 * MIB;

	store_begin();
	struct quire_map *m = map_blob(blob_put(QUIRE_CLASS_CAPACITY, 5, len));
	assert_bytes(item_ptr(m, 0), 5, 0, len);
	assert_int_equal(map_stat(m).unverified, 0);
	map_end(m);
	store_end();
}

/* ---- shared, and deleted ---- */

static void two_maps_of_one_blob(void **state)
{
	store_begin();
	uint64_t id = blob_put(QUIRE_CLASS_CAPACITY, 6, 200000);
	struct quire_map *one = map_blob(id), *two = map_blob(id);
	struct quire_blob_props props;

	read_and_compare(one, item_ptr(one, 0), 6, 0, 200000);
	assert_int_equal(map_stat(two).resident, 0);
	read_and_compare(two, item_ptr(two, 0), 6, 0, 200000);
	assert_int_equal(quire_blob_props(store, id, &props), 0);
	assert_int_equal(props.n_users, 2);
	map_end(one);
	read_and_compare(two, item_ptr(two, 0), 6, 0, 200000);
	assert_int_equal(quire_store_close(store), -EBUSY);
	map_end(two);
	store_end();
}

static void deleted_while_mapped(void **state)
{
	const uint64_t len = 8 * MIB;

	store_begin();
	uint64_t before = free_bytes(QUIRE_CLASS_STAGING), id = blob_put(QUIRE_CLASS_STAGING, 7, len);
	struct quire_map *one = map_blob(id), *two = map_blob(id), *none;
	struct quire_store_stat st;
	struct quire_error err;

	read_and_compare(one, item_ptr(one, 0), 7, 0, MIB);
	assert_int_equal(quire_blob_delete(store, &id, 1, NULL), 0);
	assert_int_equal(map_try(&(struct quire_item){.store = store, .blob = id}, 1, &none, &err), -ESTALE);
	assert_int_equal(quire_store_stat(store, &st), 0);
	assert_true(st.classes[QUIRE_CLASS_STAGING].pending_bytes >= len);
	map_end(one);
	/* What is written now goes elsewhere. */
	uint64_t other = blob_put(QUIRE_CLASS_STAGING, 8, len);
	quire_map_purge(two, quire_map_base(two), quire_map_bytes(two));
	read_and_compare(two, item_ptr(two, 0), 7, 0, len);
	map_end(two);
	assert_int_equal(quire_blob_delete(store, &other, 1, NULL), 0);
	assert_int_equal(quire_store_stat(store, &st), 0);
	assert_int_equal(st.classes[QUIRE_CLASS_STAGING].pending_bytes, 0);
	/* All of it can be had again: an allocation waits for space on its way back. */
	struct quire_blob_hints hints = {
		.size = sizeof(hints), .cls = QUIRE_CLASS_STAGING, .expected_bytes = before - before / 64};
	assert_int_equal(quire_blob_alloc(store, &hints, &id), 0);
	store_end();
}

static void advice_by_item(void **state)
{
	struct quire_item items[3];

	store_begin();
	for (unsigned i = 0; i < 3; i++)
		items[i] = (struct quire_item){.store = store, .blob = blob_put((enum quire_class)(i % 2), i, MIB)};
	struct quire_map *m = map_items(items, 3);
	assert_int_equal(quire_map_advise(m, 1, QUIRE_ADVISE_PINNED), 0);
	assert_int_equal(map_stat(m).pinned, MIB);
	press();
	assert_true(quire_map_resident(m, item_ptr(m, 1), MIB));
	assert_int_equal(quire_map_advise(m, 1, QUIRE_ADVISE_COLD), 0);
	assert_int_equal(map_stat(m).pinned, 0);
	assert_int_equal(want(m, item_ptr(m, 0), MIB), 0);
	assert_int_equal(quire_map_purge(m, item_ptr(m, 0), MIB), MIB / page_size());
	assert_false(quire_map_resident(m, item_ptr(m, 0), 1));
	map_end(m);
	store_end();
}


/* By default never the kernel's, whatever there is. */
static void by_default(void **state)
{
	store_begin();
	struct quire_map *m = map_blob(blob_put(QUIRE_CLASS_CAPACITY, 2, 50000));

	assert_true(quire_map_fault(m) == QUIRE_FAULT_SERVICE || quire_map_fault(m) == QUIRE_FAULT_PINNED);
	read_and_compare(m, item_ptr(m, 0), 2, 0, 50000);
	map_end(m);
	store_end();
}

static void pages_of_the_size_that_the_blob_wishes(void **state)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .page_shift = 16};
	struct quire_map_options o = {.size = sizeof(o), .fault = fault};
	struct quire_map *m;
	uint64_t id;

	store_begin();
	assert_int_equal(quire_blob_alloc(store, &hints, &id), 0);
	assert_int_equal(quire_blob_commit(store, &id, 1, NULL), 0);
	struct quire_item item = {.store = store, .blob = id};
	for (item.page_bytes = 0; item.page_bytes <= QUIRE_PAGE_4K; item.page_bytes += QUIRE_PAGE_4K) {
		assert_int_equal(quire_map_create(cache, &item, 1, &o, &m, NULL), 0);
		assert_int_equal(quire_map_item_page_bytes(m, 0), item.page_bytes == 0 ? QUIRE_PAGE_64K : page_size());
		map_end(m);
	}
	store_end();
}

static void beside_a_writer(void **state)
{
	struct quire_store *reader;

	store_begin();
	uint64_t id = blob_put(QUIRE_CLASS_CAPACITY, 2, 50000);
	assert_int_equal(quire_store_open(cache, dir, QUIRE_STORE_READ_ONLY, &reader, NULL), 0);
	struct quire_map *m = map_item_of((struct quire_item){.store = reader, .blob = id});
	read_and_compare(m, item_ptr(m, 0), 2, 0, 50000);
	assert_int_equal(quire_store_close(reader), -EBUSY);
	map_end(m);
	assert_int_equal(quire_store_close(reader), 0);
	store_end();
}

/* ---- warm restart ---- */

static struct quire_map *warm_blob(uint64_t id)
{
	struct quire_map_options o = {.size = sizeof(o), .fault = fault, .warm_path = file_path("hot")};
	const struct quire_item item = {.store = store, .blob = id};
	struct quire_map *m = NULL;
	struct quire_map_warm_stat s;

	assert_int_equal(quire_map_create(cache, &item, 1, &o, &m, NULL), 0);
	do
		assert_int_equal(quire_map_warm_stat(m, &s), 0);
	while (s.replaying);
	return m;
}

static void warm_list_knows_a_blob_by_its_id(void **state)
{
	store_begin();
	uint64_t id = blob_put(QUIRE_CLASS_CAPACITY, 1, pages(20)), other = blob_put(QUIRE_CLASS_CAPACITY, 2, pages(20));
	struct quire_map *m = warm_blob(id);

	assert_int_equal(want(m, item_ptr(m, 0) + pages(7), pages(3)), 0);
	map_end(m);
	m = warm_blob(id);
	assert_true(quire_map_resident(m, item_ptr(m, 0) + pages(7), pages(3)));
	assert_bytes(item_ptr(m, 0) + pages(7), 1, pages(7), pages(3));
	map_end(m);
	m = warm_blob(other);
	assert_int_equal(map_stat(m).resident, 0);
	map_end(m);
	store_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(warm_list_knows_a_blob_by_its_id),
		ON_CHECKED(files_and_blobs_of_alternating_classes),
		ON_CHECKED(more_than_one_group_of_checksums),
		ON_CHECKED(a_part_of_a_blob),
		ON_FAULTING(raw_loads),
		ON_CHECKED(two_maps_of_one_blob),
		ON_CHECKED(deleted_while_mapped),
		ON_CHECKED(advice_by_item),
		ON_AUTO(by_default),
		ON_CHECKED(pages_of_the_size_that_the_blob_wishes),
		ON_CHECKED(beside_a_writer),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
